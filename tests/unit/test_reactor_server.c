/* SPDX-License-Identifier: MIT */
/*
 * What a server does of its own accord: pushes, calls and posts; it sends clients
 * away, and it stops.
 */
#include "tests/unit/reactor_fixture.h"

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
	struct raw_client raw;

	(void)state;
	posted.count = 0;
	posted.order = 0;
	open_usual_for(&raw);
	for (uintptr_t i = 1; i <= 5; i++)
		assert_int_equal(
			peal_reactor_post(served.reactor, note, (void *)i), 0);
	run();
	assert_int_equal(posted.order, 12345);
	assert_int_equal(peal_reactor_post(served.reactor, again, NULL), 0);
	ask_and_hear(&raw, 1, "e");
	run();
	leave_and_close(&raw);
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
	open_reactor_for(&raw, &options);
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
	leave_and_close(&raw);
}

static void call_of_the_server_ends_with_its_client_or_its_time(void **state)
{
	struct raw_client raw;

	(void)state;
	answer_count = 0;
	open_usual_for(&raw);
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
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
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
	open_reactor_for(&raw, &options);
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
	open_reactor_for(&raw, &options);
	for (uint64_t i = 1; raw_ask(&raw, i, "e") == 0; i++)
		run();
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -ETIMEDOUT);
	raw_close(&raw, false);
	close_reactor();
}

static void stop_answers_what_runs_and_refuses_the_rest(void **state)
{
	struct raw_client raw, other;

	(void)state;
	open_usual_for(&raw);
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
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	assert_int_equal(peal_reactor_stop(served.reactor, PEAL__NS_PER_MS), 0);
	assert_int_equal(peal_reactor_run(served.reactor), -ETIMEDOUT);
	close_reactor();
	raw_close(&raw, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(push_comes_after_what_was_sent_before),
		TEST(posts_run_in_order_and_starve_nobody),
		TEST(call_of_the_server_is_answered_past_its_stalled_requests),
		TEST(call_of_the_server_ends_with_its_client_or_its_time),
		TEST(client_is_sent_away),
		TEST(silent_client_is_sent_away_when_asked),
		TEST(deaf_client_is_sent_away_when_asked),
		TEST(stop_answers_what_runs_and_refuses_the_rest),
		TEST(drain_ends_at_its_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
