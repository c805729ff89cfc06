/* SPDX-License-Identifier: MIT */
/* Requests, and the answer that each of them gets. */
#include "tests/unit/reactor_fixture.h"

static void request_is_answered_with_its_id(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	ask_and_hear(&raw, 77, "e hello");
	leave_and_close(&raw);
}

static void zero_length_answer_is_sent(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	assert_int_equal(raw_ask(&raw, 1, "z"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	leave_and_close(&raw);
}

static void status_is_not_a_failure(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	assert_int_equal(raw_ask(&raw, 1, "s"), 0);
	assert_int_equal(raw_ask(&raw, 2, "f"), 0);
	assert_int_equal(raw_ask(&raw, 3, "d"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 7, "s");
	hear(&raw, PEAL__FRAME_FAILED, 2, -EPERM, "");
	hear(&raw, PEAL__FRAME_FAILED, 3, -EIO, "");
	leave_and_close(&raw);
}

static void answer_in_place_is_as_long_as_it_became(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	for (uint64_t i = 1; i < 300; i++) {
		ask_and_hear(&raw, i, "p in place");
	}
	leave_and_close(&raw);
}

static void ordered_answers_come_in_the_order_of_requests(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
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
	leave_and_close(&raw);
}

static void unordered_answers_come_as_they_are_ready(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, PEAL__HELLO_UNORDERED);
	assert_int_equal(raw_ask(&raw, 10, "k1"), 0);
	ask_and_hear(&raw, 11, "e2");
	assert_int_equal(peal_reply(served.kept[0], "k1", 2), 0);
	hear(&raw, PEAL__FRAME_ANSWER, 10, 0, "k1");
	leave_and_close(&raw);
}

static void *reply_elsewhere(void *arg)
{
	peal_reply(arg, "late", 4);
	return NULL;
}

static void answer_comes_from_any_thread(void **state)
{
	struct raw_client raw;
	pthread_t thread;

	(void)state;
	open_usual_for(&raw);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	assert_int_equal(pthread_create(&thread, NULL, reply_elsewhere,
	                                served.kept[0]),
	                 0);
	pthread_join(thread, NULL);
	hear_nothing(&raw);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "late");
	leave_and_close(&raw);
}

static void expired_and_cancelled_requests_are_not_run(void **state)
{
	struct raw_client raw;
	uint64_t long_ago = 1;

	(void)state;
	open_usual_for(&raw);
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
	leave_and_close(&raw);
}

static void kept_request_learns_that_it_is_cancelled(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
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
	open_reactor_for(&raw, &options);
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
	ask_and_hear(&raw, 1, "e");
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
		ask_and_hear(&fine, 1, "e");
	}
	assert_int_equal(served.handled_count, CHECK_COUNT(wrong));
	leave_and_close(&fine);
}

/* 'k' is kept; others say whether they have ended before they have begun. */
static void serve_looking_at_flags(struct peal_request *request, void *arg)
{
	const struct peal__running *running =
		(const struct peal__running *)request;

	if (*(const char *)peal_request_data(request, NULL) == 'k')
		serve(request, arg);
	else
		peal_reply_status(request, (int32_t)running->flags, NULL, 0);
}

/* Of one that was kept they said that its handler had returned. */
static void request_in_the_place_of_another_has_not_ended(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = serve_looking_at_flags;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run_until(&served.kept_count, 1);
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	assert_int_equal(raw_ask(&raw, 2, "flags"), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	hear(&raw, PEAL__FRAME_ANSWER, 2, 0, "");
	leave_and_close(&raw);
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
		TEST(expired_and_cancelled_requests_are_not_run),
		TEST(kept_request_learns_that_it_is_cancelled),
		TEST(recycled_slot_never_gets_the_answers_of_before),
		TEST(nonsense_ends_its_own_connection_only),
		TEST(request_in_the_place_of_another_has_not_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
