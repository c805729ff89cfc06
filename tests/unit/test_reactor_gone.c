/* SPDX-License-Identifier: MIT */
/*
 * Clients that go or are sent away: what they said before counts, they are told
 * why, and their slot is another one's when the last of their requests has ended.
 */
#include "tests/unit/reactor_fixture.h"

#include "mpsc/connect.h"
#include "shm/pass.h"

static struct raw_client *gone_raw;

static struct {
	int errors[4];
	uint32_t count;
	char text[4];
} answers;

static void note_answer(int error, const struct peal_message *answer, void *arg)
{
	(void)arg;
	answers.errors[answers.count % 4] = error;
	answers.text[answers.count % 4] =
		answer == NULL ? '-' : *(const char *)answer->data;
	/* It has gone: nobody answers what it is called now. */
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "?",
	                                   1, PEAL_FOREVER, note_answer, NULL),
	                 -ESTALE);
	answers.count++;
}

/* It answers two of three calls and goes before the server looks. */
static void answer_and_go(bool say_bye)
{
	struct peal_message message = {0};
	struct peal__frame_parts parts;
	struct raw_client raw;

	memset(&answers, 0, sizeof(answers));
	open_usual_for(&raw);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			peal_reactor_call(served.reactor, served.opened, "?", 1,
		                          PEAL_FOREVER, note_answer, NULL),
			0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(raw_hear(&raw, &message, &parts), 0);
		assert_int_equal(raw_say(&raw, &raw.lane, PEAL__FRAME_ANSWER,
		                         message.id, i == 0 ? "a" : "b", 1),
		                 0);
	}
	raw_close(&raw, say_bye);
	/* Otherwise it might be looked at while it is still there. */
	await_word(&served.reactor->peers[served.opened.slot_index].slot->state,
	           PEAL__SLOT_HUNG_UP);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, say_bye ? 0 : -ECONNRESET);
	assert_int_equal(answers.count, 3);
	assert_memory_equal(answers.text, "ab-", 3);
	assert_int_equal(answers.errors[0], 0);
	assert_int_equal(answers.errors[1], 0);
	assert_int_equal(answers.errors[2], -ECONNRESET);
	assert_int_equal(served.reactor->calling_count, 0);
	close_reactor();
}

static void answer_of_one_that_then_went_is_not_lost(void **state)
{
	(void)state;
	answer_and_go(true);
	answer_and_go(false);
}

/* It was told why, and the socket hung up. */
static void await_eviction(struct raw_client *raw, int32_t why)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	int fd = raw->connection.socket.fd;
	union peal__packet packet;

	while (!peal__has_hung_up(fd) && peal__clock_ns() < end_ns)
		peal_reactor_run_once(served.reactor, MS);
	assert_true(peal__has_hung_up(fd));
	assert_true(peal__pass_receive(fd, &packet, sizeof(packet), NULL,
	                               NULL) > 0);
	assert_int_equal(packet.error.code, why);
	assert_true(peal__pass_receive(fd, &packet, sizeof(packet), NULL,
	                               NULL) < 0);
}

static void assert_counted_once(void)
{
	const struct peal__status_server *status =
		served.reactor->consumer->status;

	assert_int_equal(peal__read_once(&status->evicted_count), 1);
	assert_int_equal(peal__read_once(&status->died_count), 0);
	assert_int_equal(peal__read_once(&status->detached_count), 0);
	assert_int_equal(peal__read_once(&status->client_count), 0);
}

/* The slot is another one's when the request has ended, and not before. */
static void end_and_let_in(struct raw_client *gone)
{
	struct raw_client next;

	assert_counted_once();
	raw_close(gone, true);
	run();
	assert_int_equal(raw_connect(&next, "served", 4096, 0), -EBUSY);
	assert_int_equal(peal_reply(served.kept[0], "k", 1), 0);
	for (int i = 0; raw_connect(&next, "served", 4096, 0) != 0; i++) {
		assert_true(i < 1000);
		run();
		sleep_ns(MS);
	}
	run_until(&served.opened_count, 2);
	ask_and_hear(&next, 1, "e");
	leave_and_close(&next);
}

static void
client_that_is_sent_away_is_told_though_its_request_is_open(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.client_max = 1;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run_until(&served.kept_count, 1);
	assert_int_equal(peal_reactor_disconnect(served.reactor, served.opened),
	                 0);
	await_eviction(&raw, -ECONNABORTED);
	assert_int_equal(served.closed_reason, -ECONNABORTED);
	end_and_let_in(&raw);
}

static void talk_nonsense(bool on_socket)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	options.client_max = 1;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run_until(&served.kept_count, 1);
	if (on_socket)
		peal__pass_send(raw.connection.socket.fd, "what?", 5, NULL, 0);
	else
		raw_say(&raw, &raw.requests, PEAL__FRAME_ANSWER, 2, "e", 1);
	await_eviction(&raw, -EPROTO);
	end_and_let_in(&raw);
}

static void nonsense_is_told_at_once_though_a_request_is_open(void **state)
{
	(void)state;
	talk_nonsense(false);
	talk_nonsense(true);
}

/* A handler that goes on until nobody wants its answer any more. */
static void serve_until_cancelled(struct peal_request *request, void *arg)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	struct served *it = arg;

	raw_close(gone_raw, false);
	while (!peal_request_cancelled(request) && peal__clock_ns() < end_ns)
		sleep_ns(MS);
	it->handled_count = peal_request_cancelled(request) ? 1 : 2;
	peal_reply(request, NULL, 0);
}

static void
handler_on_the_reactors_thread_sees_that_its_client_died(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = serve_until_cancelled;
	gone_raw = &raw;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "q"), 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.handled_count, 1);
	close_reactor();
}

/* what was told ------------------------------------------------------------- */

static int tell(struct raw_client *raw, const char *text)
{
	return raw_say(raw, &raw->requests, PEAL__FRAME_ONE_WAY, 0, text,
	               strlen(text));
}

/* It goes before the reactor has looked. */
static void go_unseen(struct raw_client *raw, bool say_bye)
{
	raw_close(raw, say_bye);
	await_word(&served.reactor->peers[served.opened.slot_index].slot->state,
	           PEAL__SLOT_HUNG_UP);
}

static void what_was_told_is_handled_though_its_client_has_gone(void **state)
{
	struct peal_reactor_stats stats;
	struct raw_client raw;

	(void)state;
	for (int say_bye = 0; say_bye < 2; say_bye++) {
		open_usual_for(&raw);
		for (uint64_t i = 1; i <= 10; i++) {
			assert_int_equal(tell(&raw, "z"), 0);
			if (i % 3 == 0)
				assert_int_equal(raw_ask(&raw, i, "e"), 0);
		}
		go_unseen(&raw, say_bye);
		run_until(&served.closed_count, 1);
		assert_int_equal(served.closed_reason,
		                 say_bye ? 0 : -ECONNRESET);
		assert_int_equal(served.handled_count, 10);
		assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
		assert_int_equal(stats.unread_count, 3);
		assert_int_equal(stats.received_count, 10);
		close_reactor();
	}
}

/* on_closed may be what ends the requests that are kept. */
static void kept_requests_do_not_keep_it_from_being_closed(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	for (int is_total = 0; is_total < 2; is_total++) {
		options.in_flight_per_client_max = is_total ? 64 : 2;
		options.in_flight_max = is_total ? 2 : 64;
		open_reactor_for(&raw, &options);
		assert_int_equal(raw_ask(&raw, 1, "k"), 0);
		run_until(&served.kept_count, 1);
		for (int i = 0; i < 5; i++)
			assert_int_equal(tell(&raw, "k"), 0);
		go_unseen(&raw, true);
		run_until(&served.closed_count, 1);
		assert_int_equal(served.kept_count, 2);
		for (int i = 0; i < 2; i++)
			assert_int_equal(peal_reply(served.kept[i], "", 0), 0);
		run();
		close_reactor();
	}
}

#define TOLD 10

static struct {
	uint32_t handled_count;
	int push_error, push_all_count, call_error, disconnect_error;
	size_t message_max;
} told;

static char long_answer[1000];

/* Everything that would be sent to whom it has gone. */
static void send_to_who_told(struct peal_request *request, void *arg)
{
	struct peal_peer peer = peal_request_peer(request);

	(void)arg;
	told.handled_count++;
	told.push_error = peal_reactor_push(served.reactor, peer, long_answer,
	                                    sizeof(long_answer));
	told.push_all_count = peal_reactor_push_all(served.reactor, long_answer,
	                                            sizeof(long_answer));
	told.call_error = peal_reactor_call(served.reactor, peer, "?", 1,
	                                    PEAL_FOREVER, note_answer, NULL);
	told.disconnect_error = peal_reactor_disconnect(served.reactor, peer);
	told.message_max = peal_reactor_message_max(served.reactor, peer);
	peal_reply(request, NULL, 0);
}

/* Its ring filled up with them, and the rest of what it had told was dropped. */
static void one_that_has_gone_is_not_there_to_be_sent_anything(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_reactor_stats stats;
	struct raw_client raw;

	(void)state;
	memset(&told, 0, sizeof(told));
	options.on_request = send_to_who_told;
	open_reactor_for(&raw, &options);
	for (int i = 0; i < TOLD; i++)
		assert_int_equal(tell(&raw, "z"), 0);
	go_unseen(&raw, true);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, 0);
	assert_int_equal(told.handled_count, TOLD);
	assert_int_equal(told.push_error, -ESTALE);
	assert_int_equal(told.push_all_count, 0);
	assert_int_equal(told.call_error, -ESTALE);
	assert_int_equal(told.disconnect_error, -ESTALE);
	assert_int_equal(told.message_max, 0);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.pushed_count, 0);
	close_reactor();
}

/* 'k': keep it. What is told answers one of those, if there are any. */
static void serve_at_length(struct peal_request *request, void *arg)
{
	if (peal_request_is_one_way(request)) {
		told.handled_count++;
		if (served.kept_count > 0)
			peal_reply(served.kept[--served.kept_count],
			           long_answer, sizeof(long_answer));
		peal_reply(request, NULL, 0);
	} else if (*(const char *)peal_request_data(request, NULL) == 'k') {
		serve(request, arg);
	} else {
		peal_reply(request, long_answer, sizeof(long_answer));
	}
}

/* It asks for as many answers as @asked has letters, tells, and goes. */
static void ask_tell_and_go(const struct peal_reactor_options *options,
                            const char *asked, uint32_t parked)
{
	const struct peal__peer *peer;
	struct peal_reactor_stats stats;
	struct raw_client raw;

	memset(&told, 0, sizeof(told));
	open_reactor_for(&raw, options);
	peer = &served.reactor->peers[served.opened.slot_index];
	for (uint64_t i = 0; asked[i] != '\0'; i++)
		assert_int_equal(raw_say(&raw, &raw.requests,
		                         PEAL__FRAME_REQUEST, i + 1, asked + i,
		                         1),
		                 0);
	run();
	assert_int_equal(peer->parked, parked);
	for (int i = 0; i < TOLD; i++)
		assert_int_equal(tell(&raw, "z"), 0);
	go_unseen(&raw, true);
	run_until(&served.closed_count, 1);
	assert_int_equal(told.handled_count, TOLD);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.received_count + stats.unread_count,
	                 TOLD + strlen(asked));
	close_reactor();
}

static void what_was_told_behind_unread_answers_is_handled(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	options.on_request = serve_at_length;
	ask_tell_and_go(&options, "eeeeeeeeee", PEAL__PARKED_RESPONSE);
	/* The one that waits for room is as many as it may have in flight. */
	options.in_flight_per_client_max = 1;
	ask_tell_and_go(&options, "eeeeeeeeee",
	                PEAL__PARKED_RESPONSE | PEAL__PARKED_CAP);
}

/* Of the two that it may have in flight one is kept, and answered too late. */
static void what_was_told_behind_a_stashed_answer_is_handled(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	options.on_request = serve_at_length;
	options.in_flight_per_client_max = 2;
	ask_tell_and_go(&options, "ke", PEAL__PARKED_CAP);
}

/* Nobody reads them: they neither fill the ring nor count as answered. */
static void answers_to_one_that_has_gone_are_dropped_at_once(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_reactor_stats stats;
	struct raw_client raw;

	(void)state;
	memset(&told, 0, sizeof(told));
	options.on_request = serve_at_length;
	open_reactor_for(&raw, &options);
	for (uint64_t i = 1; i <= TOLD; i++)
		assert_int_equal(raw_ask(&raw, i, "k"), 0);
	run_until(&served.kept_count, TOLD);
	for (int i = 0; i < TOLD; i++)
		assert_int_equal(tell(&raw, "z"), 0);
	go_unseen(&raw, false);
	run_until(&served.closed_count, 1);
	assert_int_equal(told.handled_count, TOLD);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.dropped_count, TOLD);
	assert_int_equal(stats.answered_count, TOLD); /* what was told */
	close_reactor();
}

/* What goes by itself has dropped them before it is closed. */
static void answers_queued_for_one_that_is_sent_away_are_dropped(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_reactor_stats stats;
	struct raw_client raw;

	(void)state;
	options.on_request = serve_at_length;
	open_reactor_for(&raw, &options);
	for (uint64_t i = 1; i <= TOLD; i++)
		assert_int_equal(raw_ask(&raw, i, "e"), 0);
	run();
	assert_int_equal(served.reactor->queued_count, 1);
	assert_int_equal(peal_reactor_disconnect(served.reactor, served.opened),
	                 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.reactor->queued_count, 0);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.running_count, 0);
	assert_int_equal(stats.dropped_count, 1);
	raw_close(&raw, false);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answer_of_one_that_then_went_is_not_lost),
		TEST(client_that_is_sent_away_is_told_though_its_request_is_open),
		TEST(nonsense_is_told_at_once_though_a_request_is_open),
		TEST(handler_on_the_reactors_thread_sees_that_its_client_died),
		TEST(what_was_told_is_handled_though_its_client_has_gone),
		TEST(one_that_has_gone_is_not_there_to_be_sent_anything),
		TEST(what_was_told_behind_unread_answers_is_handled),
		TEST(what_was_told_behind_a_stashed_answer_is_handled),
		TEST(answers_to_one_that_has_gone_are_dropped_at_once),
		TEST(answers_queued_for_one_that_is_sent_away_are_dropped),
		TEST(kept_requests_do_not_keep_it_from_being_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
