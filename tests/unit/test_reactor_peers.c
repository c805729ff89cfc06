/* SPDX-License-Identifier: MIT */
/*
 * Clients that are slow, late or deceitful: nobody is sent away who should not
 * be, and nobody is kept awake. Each test is named after what was wrong once.
 */
#include "tests/unit/reactor_fixture.h"

#include "peal/client.h"
#include "reactor/client.h"

static struct {
	int answer_error;
	uint32_t answer_count;
	struct raw_client *raw;
	bool bytes_stayed;
	struct peal_request *calls[4];
	uint32_t call_count;
} seen;

static int begin_anew(void **state)
{
	memset(&seen, 0, sizeof(seen));
	return begin(state);
}

#define ANEW(test) cmocka_unit_test_setup_teardown(test, begin_anew, end)

/* timers -------------------------------------------------------------------- */

static void push_until_full(int error, const struct peal_message *answer,
                            void *arg)
{
	static const char text[500] = "news";

	(void)answer;
	(void)arg;
	seen.answer_error = error;
	seen.answer_count++;
	sleep_ns(MS);
	for (int i = 0; i < 20; i++)
		if (peal_reactor_push(served.reactor, served.opened, text,
		                      sizeof(text)) != 0)
			return;
}

static void client_that_was_parked_this_moment_has_not_stalled(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.stall_timeout_ns = 100 * SECOND;
	open_reactor_for(&raw, &options);
	run();
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "?",
	                                   1, MS, push_until_full, NULL),
	                 0);
	sleep_ns(2 * MS);
	/* Both are due in one pass. */
	served.reactor->timers_due_ns = 0;
	run();
	assert_int_equal(seen.answer_count, 1);
	assert_int_equal(served.reactor->queued_count, 1);
	run();
	assert_int_equal(served.closed_count, 0);
	leave_and_close(&raw);
}

static void client_whose_request_may_not_be_taken_is_not_idle(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client first, second;
	uint64_t end_ns;

	(void)state;
	options.idle_timeout_ns = 40 * MS;
	options.in_flight_max = 1;
	open_reactor(&options);
	connect_raw(&first, 0);
	connect_raw(&second, 0);
	assert_int_equal(raw_ask(&first, 1, "k"), 0);
	run();
	assert_int_equal(raw_ask(&second, 1, "e"), 0);
	end_ns = peal__deadline_after(200 * MS);
	while (peal__clock_ns() < end_ns)
		peal_reactor_run_once(served.reactor, MS);
	assert_int_equal(served.closed_count, 0);
	assert_int_equal(peal_reply(served.kept[0], "k", 1), 0);
	run();
	hear(&second, PEAL__FRAME_ANSWER, 1, 0, "e");
	leave(&first);
	leave(&second);
	close_reactor();
}

static void count_answer(int error, const struct peal_message *answer,
                         void *arg)
{
	(void)answer;
	(void)arg;
	seen.answer_error = error;
	seen.answer_count++;
}

static void client_that_answers_calls_is_not_idle(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_message message = {0};
	struct peal__frame_parts parts;
	struct raw_client raw;

	(void)state;
	options.idle_timeout_ns = 100 * MS;
	open_reactor_for(&raw, &options);
	for (uint32_t i = 1; i <= 20; i++) {
		assert_int_equal(
			peal_reactor_call(served.reactor, served.opened, "?", 1,
		                          PEAL_FOREVER, count_answer, NULL),
			0);
		assert_int_equal(raw_hear(&raw, &message, &parts), 0);
		assert_int_equal(raw_say(&raw, &raw.lane, PEAL__FRAME_ANSWER,
		                         message.id, "!", 1),
		                 0);
		run_until(&seen.answer_count, i);
		assert_int_equal(seen.answer_error, 0);
		sleep_ns(20 * MS);
	}
	assert_int_equal(served.closed_count, 0);
	leave_and_close(&raw);
}

/* waits --------------------------------------------------------------------- */

/* How often it wakes up when nobody does anything. */
static uint32_t count_passes(uint64_t length_ns)
{
	uint64_t end_ns = peal__deadline_after(length_ns);
	uint32_t count = 0;

	for (; peal__clock_ns() < end_ns; count++)
		peal_reactor_run_once(served.reactor,
		                      peal__deadline_left(end_ns));
	return count;
}

/* Two clients that ask so much that they have turns, one of them at a time. */
static void take_turns(struct raw_client raws[2])
{
	const struct peal__turns *turns = &served.reactor->turns;
	struct peal_message message;
	struct peal__frame_parts parts;

	served.reactor->turns.holder_max = 1;
	for (uint64_t id = 1; turns->holder_count + turns->waiting_count < 2;
	     id++) {
		assert_true(id < 10000);
		for (int i = 0; i < 32; i++)
			assert_int_equal(raw_ask(&raws[i % 2], id, "e"), 0);
		for (int i = 0; i < 32; i++) {
			while (!peal_ring_has_data(&raws[i % 2].responses))
				peal_reactor_run_once(served.reactor, 0);
			assert_int_equal(
				raw_hear(&raws[i % 2], &message, &parts), 0);
		}
	}
}

static void turn_that_cannot_be_used_keeps_nobody_awake(void **state)
{
	struct peal_reactor_options options = usual_options();
	static char text[900] = "e";
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	struct raw_client raws[2];

	(void)state;
	memset(text + 1, 'x', sizeof(text) - 2);
	open_reactor(&options);
	connect_raw(&raws[0], PEAL__HELLO_UNORDERED);
	connect_raw(&raws[1], PEAL__HELLO_UNORDERED);
	take_turns(raws);
	/* Neither reads what it is answered, each in its turn. */
	while (served.reactor->queued_count < 2 && peal__clock_ns() < end_ns) {
		raw_ask(&raws[0], 1000, text);
		raw_ask(&raws[1], 1000, text);
		peal_reactor_run_once(served.reactor, MS);
	}
	assert_int_equal(served.reactor->queued_count, 2);
	/* And both have asked for more. */
	for (int i = 0; i < 8; i++)
		raw_ask(&raws[i % 2], 1000, text);
	assert_true(count_passes(100 * MS) < 50);
	for (int i = 0; i < 2; i++)
		raw_close(&raws[i], false);
	run_until(&served.closed_count, 2);
	close_reactor();
}

static void turn_at_the_cap_for_all_keeps_nobody_awake(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raws[2];

	(void)state;
	options.in_flight_max = 1;
	open_reactor(&options);
	connect_raw(&raws[0], 0);
	connect_raw(&raws[1], 0);
	take_turns(raws);
	assert_int_equal(raw_ask(&raws[0], 1000, "k"), 0);
	run_until(&served.kept_count, 1);
	assert_int_equal(raw_ask(&raws[0], 1001, "e"), 0);
	assert_int_equal(raw_ask(&raws[1], 1000, "e"), 0);
	assert_true(count_passes(100 * MS) < 50);
	assert_int_equal(peal_reply(served.kept[0], "k", 1), 0);
	count_passes(50 * MS);
	hear(&raws[0], PEAL__FRAME_ANSWER, 1000, 0, "k");
	hear(&raws[0], PEAL__FRAME_ANSWER, 1001, 0, "e");
	hear(&raws[1], PEAL__FRAME_ANSWER, 1000, 0, "e");
	for (int i = 0; i < 2; i++)
		leave(&raws[i]);
	close_reactor();
}

static void keep_call(struct peal_request *request, void *arg)
{
	(void)arg;
	seen.calls[seen.call_count++ % 4] = request;
}

static void late_answers_do_not_fill_the_lane_for_ever(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	static const char text[9000] = "late";
	struct peal_message message;
	struct peal_client *client;

	(void)state;
	open_reactor(&options);
	wish.name = "served";
	wish.wait_mode = PEAL_WAIT_FD;
	wish.on_request = keep_call;
	assert_int_equal(peal_client_connect(&wish, PATIENCE_NS, &client), 0);
	run_until(&served.opened_count, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			peal_reactor_call(served.reactor, served.opened, "?", 1,
		                          100 * MS, count_answer, NULL),
			0);
	assert_int_equal(peal_client_recv(client, 0, &message), -EAGAIN);
	assert_int_equal(seen.call_count, 3);
	run_until(&seen.answer_count, 3);
	assert_int_equal(seen.answer_error, -ETIMEDOUT);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(peal_reply(seen.calls[i], text, sizeof(text)),
		                 0);
		run();
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(peal_client_recv(client, 0, &message),
		                 -EAGAIN);
		run();
	}
	/* The loop of a client may rest, and none of them waits any longer. */
	assert_int_equal(peal_client_prepare(client), 0);
	assert_null(client->unsent);
	assert_int_equal(peal_client_close(client), 0);
	run_until(&served.closed_count, 1);
	close_reactor();
}

/* memory -------------------------------------------------------------------- */

static void write_under_it(int error, const struct peal_message *answer,
                           void *arg)
{
	struct peal_ring_tx *lane = &seen.raw->lane;

	count_answer(error, answer, arg);
	memset(lane->data, 'x', lane->capacity_bytes);
	seen.bytes_stayed = answer != NULL && answer->data_bytes == 5 &&
	                    memcmp(answer->data, "right", 5) == 0;
}

static void answer_to_a_call_is_copied_where_requests_are(void **state)
{
	struct peal_reactor_options options = usual_options();
	const uint64_t seven = 7;
	struct peal_message message = {0};
	struct peal__frame_parts parts;
	struct raw_client raw;
	void *place = NULL;

	(void)state;
	options.copy_requests = 1;
	open_reactor_for(&raw, &options);
	seen.raw = &raw;
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "?",
	                                   1, PEAL_FOREVER, write_under_it,
	                                   NULL),
	                 0);
	assert_int_equal(raw_hear(&raw, &message, &parts), 0);
	assert_int_equal(peal__frame_claim(&raw.lane, PEAL__FRAME_ANSWER,
	                                   message.id, &seven, 5, &place),
	                 0);
	memcpy(place, "right", 5);
	peal_ring_publish(&raw.lane);
	run();
	assert_int_equal(seen.answer_count, 1);
	assert_int_equal(seen.answer_error, 0);
	assert_true(seen.bytes_stayed);
	raw_close(&raw, false);
	run_until(&served.closed_count, 1);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ANEW(client_that_was_parked_this_moment_has_not_stalled),
		ANEW(client_whose_request_may_not_be_taken_is_not_idle),
		ANEW(client_that_answers_calls_is_not_idle),
		ANEW(turn_that_cannot_be_used_keeps_nobody_awake),
		ANEW(turn_at_the_cap_for_all_keeps_nobody_awake),
		ANEW(late_answers_do_not_fill_the_lane_for_ever),
		ANEW(answer_to_a_call_is_copied_where_requests_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
