/* SPDX-License-Identifier: MIT */
#include "tests/unit/reactor_fixture.h"

#include "peal/client.h"

static void request_is_answered_with_its_id(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 77, "e hello"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 77, 0, "e hello");
	leave(&raw);
	close_reactor();
}

static void zero_length_answer_is_sent(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "z"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	leave(&raw);
	close_reactor();
}

static void status_is_not_a_failure(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "s"), 0);
	assert_int_equal(raw_ask(&raw, 2, "f"), 0);
	assert_int_equal(raw_ask(&raw, 3, "d"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 7, "s");
	hear(&raw, PEAL__FRAME_FAILED, 2, -EPERM, "");
	hear(&raw, PEAL__FRAME_FAILED, 3, -EIO, "");
	leave(&raw);
	close_reactor();
}

static void answer_in_place_is_as_long_as_it_became(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	for (uint64_t i = 1; i < 300; i++) {
		assert_int_equal(raw_ask(&raw, i, "p in place"), 0);
		run();
		hear(&raw, PEAL__FRAME_ANSWER, i, 0, "p in place");
	}
	leave(&raw);
	close_reactor();
}

static void ordered_answers_come_in_the_order_of_requests(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 10, "k1"), 0);
	assert_int_equal(raw_ask(&raw, 11, "k2"), 0);
	assert_int_equal(raw_ask(&raw, 12, "e3"), 0);
	assert_int_equal(raw_ask(&raw, 13, "f"), 0);
	run();
	hear_nothing(&raw);
	assert_int_equal(peal_reply(served.kept[1], "two", 3), 0);
	run();
	hear_nothing(&raw);
	assert_int_equal(peal_reply(served.kept[0], "one", 3), 0);
	hear(&raw, PEAL__FRAME_ANSWER, 10, 0, "one");
	hear(&raw, PEAL__FRAME_ANSWER, 11, 0, "two");
	hear(&raw, PEAL__FRAME_ANSWER, 12, 0, "e3");
	hear(&raw, PEAL__FRAME_FAILED, 13, -EPERM, "");
	leave(&raw);
	close_reactor();
}

static void unordered_answers_come_as_they_are_ready(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, PEAL__HELLO_UNORDERED);
	assert_int_equal(raw_ask(&raw, 10, "k1"), 0);
	assert_int_equal(raw_ask(&raw, 11, "e2"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 11, 0, "e2");
	assert_int_equal(peal_reply(served.kept[0], "k1", 2), 0);
	hear(&raw, PEAL__FRAME_ANSWER, 10, 0, "k1");
	leave(&raw);
	close_reactor();
}

static void *reply_elsewhere(void *arg)
{
	peal_reply(arg, "late", 4);
	return NULL;
}

static void answer_comes_from_any_thread(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	pthread_t thread;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	assert_int_equal(pthread_create(&thread, NULL, reply_elsewhere,
	                                served.kept[0]),
	                 0);
	pthread_join(thread, NULL);
	hear_nothing(&raw);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "late");
	leave(&raw);
	close_reactor();
}

static void stall_leaves_requests_in_the_ring(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.in_flight_per_client_max = 2;
	open_reactor(&options);
	connect_raw(&raw, 0);
	for (uint64_t i = 1; i <= 4; i++)
		assert_int_equal(raw_ask(&raw, i, "k"), 0);
	run();
	assert_int_equal(served.kept_count, 2);
	assert_false(peal__reactor_has_work(served.reactor));
	assert_int_equal(peal_reactor_run_once(served.reactor, 1), -ETIMEDOUT);
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	run();
	assert_int_equal(served.kept_count, 3);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(peal_reply(served.kept[i], "", 0), 0);
		run();
	}
	for (uint64_t i = 1; i <= 4; i++)
		hear(&raw, PEAL__FRAME_ANSWER, i, 0, "");
	leave(&raw);
	close_reactor();
}

static void reject_fails_what_is_too_much_in_order(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.in_flight_per_client_max = 2;
	options.at_cap = PEAL_AT_CAP_REJECT;
	open_reactor(&options);
	connect_raw(&raw, 0);
	for (uint64_t i = 1; i <= 6; i++)
		assert_int_equal(raw_ask(&raw, i, "k"), 0);
	run();
	assert_int_equal(served.kept_count, 2);
	hear_nothing(&raw);
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	assert_int_equal(peal_reply(served.kept[1], "", 0), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	hear(&raw, PEAL__FRAME_ANSWER, 2, 0, "");
	hear(&raw, PEAL__FRAME_FAILED, 3, -EBUSY, "");
	hear(&raw, PEAL__FRAME_FAILED, 4, -EBUSY, "");
	assert_int_equal(served.kept_count, 4);
	assert_int_equal(peal_reply(served.kept[2], "", 0), 0);
	assert_int_equal(peal_reply(served.kept[3], "", 0), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 5, 0, "");
	hear(&raw, PEAL__FRAME_ANSWER, 6, 0, "");
	leave(&raw);
	close_reactor();
}

static void total_cap_stops_all_and_lets_go_again(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client a, b;

	(void)state;
	options.in_flight_max = 1;
	open_reactor(&options);
	connect_raw(&a, 0);
	connect_raw(&b, 0);
	assert_int_equal(raw_ask(&a, 1, "k"), 0);
	run();
	assert_int_equal(raw_ask(&b, 2, "e"), 0);
	assert_int_equal(peal_reactor_run_once(served.reactor, 1), -ETIMEDOUT);
	hear_nothing(&b);
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	run();
	hear(&a, PEAL__FRAME_ANSWER, 1, 0, "");
	hear(&b, PEAL__FRAME_ANSWER, 2, 0, "e");
	leave(&a);
	leave(&b);
	close_reactor();
}

static void full_response_ring_parks_its_client_alone(void **state)
{
	struct peal_reactor_options options = usual_options();
	static char text[1000] = "e";
	struct peal_message message;
	struct peal__frame_parts parts;
	struct raw_client slow, fine;
	uint64_t asked = 0;

	(void)state;
	memset(text + 1, 'x', sizeof(text) - 2);
	open_reactor(&options);
	connect_raw(&slow, 0);
	connect_raw(&fine, 0);
	while (raw_ask(&slow, asked + 1, text) == 0) {
		asked++;
		run();
	}
	assert_true(asked > 5);
	/* Its ring of 4 KiB is full, and one more answer waits. */
	assert_true(served.handled_count <= 5);
	assert_false(peal__reactor_has_work(served.reactor));
	for (uint64_t i = 1; i < 20; i++) {
		assert_int_equal(raw_ask(&fine, i, "e fine"), 0);
		run();
		hear(&fine, PEAL__FRAME_ANSWER, i, 0, "e fine");
	}
	for (uint64_t i = 1; i <= asked; i++) {
		assert_int_equal(raw_hear(&slow, &message, &parts), 0);
		assert_int_equal(message.id, i);
		assert_int_equal(message.data_bytes, sizeof(text) - 1);
		run();
	}
	leave(&slow);
	leave(&fine);
	close_reactor();
}

static void push_comes_after_what_was_sent_before(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	struct peal_peer stale;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run();
	assert_int_equal(
		peal_reactor_push(served.reactor, served.opened, "news", 4), 0);
	assert_int_equal(peal_reactor_push_all(served.reactor, "all", 3), 1);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "e");
	hear(&raw, PEAL__FRAME_PUSH, 0, 0, "news");
	hear(&raw, PEAL__FRAME_PUSH, 0, 0, "all");
	stale = served.opened;
	leave(&raw);
	assert_int_equal(peal_reactor_push(served.reactor, stale, "x", 1),
	                 -ESTALE);
	connect_raw(&raw, 0);
	assert_int_equal(peal_reactor_push(served.reactor, stale, "x", 1),
	                 -ESTALE);
	hear_nothing(&raw);
	leave(&raw);
	close_reactor();
}

static void push_beyond_the_cap_of_bytes_is_refused(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	struct peal_message message;
	struct peal__frame_parts parts;
	static const char text[512] = "news";
	int sent = 0, error;

	(void)state;
	options.queued_max_bytes = 2048;
	open_reactor(&options);
	connect_raw(&raw, 0);
	while ((error = peal_reactor_push(served.reactor, served.opened, text,
	                                  sizeof(text))) == 0)
		sent++;
	assert_int_equal(error, -EAGAIN);
	assert_true(sent > 8);
	for (; sent > 0; sent--) {
		assert_int_equal(raw_hear(&raw, &message, &parts), 0);
		run();
	}
	hear_nothing(&raw);
	leave(&raw);
	close_reactor();
}

static void expired_and_cancelled_requests_are_not_run(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	uint64_t long_ago = 1;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_say(&raw, &raw.requests,
	                         PEAL__FRAME_REQUEST | PEAL__FRAME_EXTENDED, 5,
	                         &long_ago, sizeof(long_ago)),
	                 0);
	raw.connection.segment->cancelled[6] = 6;
	assert_int_equal(raw_ask(&raw, 6, "e"), 0);
	assert_int_equal(raw_say(&raw, &raw.requests, PEAL__FRAME_ONE_WAY, 0,
	                         "e", 1),
	                 0);
	run();
	hear(&raw, PEAL__FRAME_FAILED, 5, -ETIMEDOUT, "");
	hear(&raw, PEAL__FRAME_FAILED, 6, -ECANCELED, "");
	hear_nothing(&raw);
	assert_int_equal(served.handled_count, 1);
	leave(&raw);
	close_reactor();
}

static void kept_request_learns_that_it_is_cancelled(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 300, "k1"), 0);
	assert_int_equal(raw_ask(&raw, 301, "k2"), 0);
	run();
	assert_false(peal_request_cancelled(served.kept[0]));
	raw.connection.segment->cancelled[300 % PEAL__CANCEL_COUNT] = 300;
	assert_true(peal_request_cancelled(served.kept[0]));
	assert_false(peal_request_cancelled(served.kept[1]));
	leave(&raw);
	assert_true(peal_request_cancelled(served.kept[1]));
	assert_int_equal(peal_reply(served.kept[1], "x", 1), 0);
	peal_request_drop(served.kept[0]);
	close_reactor();
}

static void recycled_slot_never_gets_the_answers_of_before(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	struct peal_reactor_stats stats;

	(void)state;
	options.client_max = 1;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	leave(&raw);
	/* Its slot is held until its request has ended. */
	assert_int_equal(raw_connect(&raw, "served", 4096, 0), -EBUSY);
	assert_int_equal(peal_reply(served.kept[0], "stale", 5), 0);
	run();
	for (int i = 0; raw_connect(&raw, "served", 4096, 0) != 0; i++)
		assert_true(i < 1000);
	run_until(&served.opened_count, 2);
	hear_nothing(&raw);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "e");
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.dropped_count, 1);
	leave(&raw);
	close_reactor();
}

static void nonsense_ends_its_own_connection_only(void **state)
{
	static const struct {
		uint32_t kind;
		uint64_t id;
		size_t bytes;
	} wrong[] = {
		{0, 1, 4},
		{PEAL__FRAME_ANSWER, 1, 4},
		{PEAL__FRAME_REQUEST, 0, 4},
		{PEAL__FRAME_ONE_WAY, 1, 4},
		{PEAL__FRAME_REQUEST | PEAL__FRAME_EXTENDED, 1, 7},
		{PEAL__FRAME_REQUEST | 1 << 9, 1, 8},
		{UINT32_MAX, 1, 8},
	};
	struct peal_reactor_options options = usual_options();
	struct raw_client fine, raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&fine, 0);
	for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
		uint32_t closed_count = served.closed_count;

		connect_raw(&raw, 0);
		assert_int_equal(raw_say(&raw, &raw.requests, wrong[i].kind,
		                         wrong[i].id, "12345678",
		                         wrong[i].bytes),
		                 0);
		run_until(&served.closed_count, closed_count + 1);
		assert_int_equal(served.closed_reason, -EPROTO);
		raw_close(&raw, false);
		assert_int_equal(raw_ask(&fine, 1, "e"), 0);
		run();
		hear(&fine, PEAL__FRAME_ANSWER, 1, 0, "e");
	}
	assert_int_equal(served.handled_count, CHECK_COUNT(wrong));
	leave(&fine);
	close_reactor();
}

static void stop_answers_what_runs_and_refuses_the_rest(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw, other;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	assert_int_equal(peal_reactor_stop(served.reactor, PATIENCE_NS), 0);
	run();
	assert_int_equal(raw_ask(&raw, 2, "e"), 0);
	run();
	assert_int_equal(raw_connect(&other, "served", 4096, 0), -ESHUTDOWN);
	assert_int_equal(peal_reply(served.kept[0], "last", 4), 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "last");
	hear(&raw, PEAL__FRAME_FAILED, 2, -ESHUTDOWN, "");
	assert_int_equal(peal_reactor_run_once(served.reactor, 0), -ESHUTDOWN);
	close_reactor();
	raw_close(&raw, false);
}

static void drain_ends_at_its_bound(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	assert_int_equal(peal_reactor_stop(served.reactor, PEAL__NS_PER_MS), 0);
	assert_int_equal(peal_reactor_run(served.reactor), -ETIMEDOUT);
	close_reactor();
	raw_close(&raw, false);
}

static struct {
	uint32_t count;
	uint64_t order;
} posted;

static void note(void *arg)
{
	posted.count++;
	posted.order = posted.order * 10 + (uintptr_t)arg;
}

static void again(void *arg)
{
	posted.count++;
	assert_true(peal_reactor_is_current(served.reactor));
	if (!served.handled_count)
		assert_int_equal(peal_reactor_post(served.reactor, again, arg),
		                 0);
}

static void posts_run_in_order_and_starve_nobody(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	posted.count = 0;
	posted.order = 0;
	open_reactor(&options);
	connect_raw(&raw, 0);
	for (uintptr_t i = 1; i <= 5; i++)
		assert_int_equal(
			peal_reactor_post(served.reactor, note, (void *)i), 0);
	run();
	assert_int_equal(posted.order, 12345);
	assert_int_equal(peal_reactor_post(served.reactor, again, NULL), 0);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "e");
	run();
	leave(&raw);
	close_reactor();
}

static int answer_error;
static uint32_t answer_count;
static char answer_text[32];

static void on_answer(int error, const struct peal_message *answer, void *arg)
{
	(void)arg;
	answer_count++;
	answer_error = error;
	if (answer != NULL)
		snprintf(answer_text, sizeof(answer_text), "%.*s",
		         (int)answer->data_bytes, (const char *)answer->data);
}

static void
call_of_the_server_is_answered_past_its_stalled_requests(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_message message = {0};
	struct peal__frame_parts parts;
	struct raw_client raw;

	(void)state;
	answer_count = 0;
	options.in_flight_per_client_max = 1;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	assert_int_equal(raw_ask(&raw, 2, "e"), 0);
	run();
	assert_int_equal(peal_reactor_call(served.reactor, served.opened,
	                                   "ping", 4, PEAL_FOREVER, on_answer,
	                                   NULL),
	                 0);
	assert_int_equal(raw_hear(&raw, &message, &parts), 0);
	assert_int_equal(parts.type, PEAL__FRAME_CALL);
	assert_int_equal(raw_say(&raw, &raw.lane, PEAL__FRAME_ANSWER,
	                         message.id, "pong", 4),
	                 0);
	run();
	assert_int_equal(answer_count, 1);
	assert_int_equal(answer_error, 0);
	assert_string_equal(answer_text, "pong");
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	run();
	leave(&raw);
	close_reactor();
}

static void call_of_the_server_ends_with_its_client_or_its_time(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	answer_count = 0;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "a",
	                                   1, PEAL__NS_PER_MS, on_answer, NULL),
	                 0);
	run_until(&answer_count, 1);
	assert_int_equal(answer_error, -ETIMEDOUT);
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "b",
	                                   1, PEAL_FOREVER, on_answer, NULL),
	                 0);
	leave(&raw);
	assert_int_equal(answer_count, 2);
	assert_int_equal(answer_error, -ECONNRESET);
	close_reactor();
}

static void client_is_sent_away(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(peal_reactor_disconnect(served.reactor, served.opened),
	                 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -ECONNABORTED);
	assert_int_equal(peal_reactor_disconnect(served.reactor, served.opened),
	                 -ESTALE);
	raw_close(&raw, false);
	close_reactor();
}

static void silent_client_is_sent_away_when_asked(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.idle_timeout_ns = 20 * PEAL__NS_PER_MS;
	open_reactor(&options);
	connect_raw(&raw, 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -ETIMEDOUT);
	raw_close(&raw, false);
	close_reactor();
}

static void deaf_client_is_sent_away_when_asked(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.stall_timeout_ns = 20 * PEAL__NS_PER_MS;
	open_reactor(&options);
	connect_raw(&raw, 0);
	for (uint64_t i = 1; raw_ask(&raw, i, "e") == 0; i++)
		run();
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -ETIMEDOUT);
	raw_close(&raw, false);
	close_reactor();
}

static int nested_result;

static void serve_by_asking(struct peal_request *request, void *arg)
{
	struct peal_message answer;

	nested_result = peal_client_call(*(struct peal_client **)arg, "e", 1,
	                                 PEAL_FOREVER, &answer);
	peal_reply(request, NULL, 0);
}

static void handler_that_calls_its_own_server_is_told(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options client = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *nested;
	struct raw_client raw;

	(void)state;
	options.on_request = serve_by_asking;
	options.on_opened = NULL;
	options.on_closed = NULL;
	options.arg = &nested;
	open_reactor(&options);
	client.name = "served";
	assert_int_equal(peal_client_connect(&client, PATIENCE_NS, &nested), 0);
	assert_int_equal(raw_connect(&raw, "served", 4096, 0), 0);
	nested_result = 0;
	assert_int_equal(raw_ask(&raw, 1, "x"), 0);
	while (nested_result == 0)
		peal_reactor_run_once(served.reactor, PEAL__NS_PER_MS);
	assert_int_equal(nested_result, -EDEADLK);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	raw_close(&raw, true);
	peal_client_close(nested);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(request_is_answered_with_its_id),
		TEST(zero_length_answer_is_sent),
		TEST(status_is_not_a_failure),
		TEST(answer_in_place_is_as_long_as_it_became),
		TEST(ordered_answers_come_in_the_order_of_requests),
		TEST(unordered_answers_come_as_they_are_ready),
		TEST(answer_comes_from_any_thread),
		TEST(stall_leaves_requests_in_the_ring),
		TEST(reject_fails_what_is_too_much_in_order),
		TEST(total_cap_stops_all_and_lets_go_again),
		TEST(full_response_ring_parks_its_client_alone),
		TEST(push_comes_after_what_was_sent_before),
		TEST(push_beyond_the_cap_of_bytes_is_refused),
		TEST(expired_and_cancelled_requests_are_not_run),
		TEST(kept_request_learns_that_it_is_cancelled),
		TEST(recycled_slot_never_gets_the_answers_of_before),
		TEST(nonsense_ends_its_own_connection_only),
		TEST(stop_answers_what_runs_and_refuses_the_rest),
		TEST(drain_ends_at_its_bound),
		TEST(posts_run_in_order_and_starve_nobody),
		TEST(call_of_the_server_is_answered_past_its_stalled_requests),
		TEST(call_of_the_server_ends_with_its_client_or_its_time),
		TEST(handler_that_calls_its_own_server_is_told),
		TEST(client_is_sent_away),
		TEST(silent_client_is_sent_away_when_asked),
		TEST(deaf_client_is_sent_away_when_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
