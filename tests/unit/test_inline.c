/* SPDX-License-Identifier: MIT */
/*
 * What is learnt of handlers, by which the next one runs here or on a worker.
 */
#include "tests/unit/reactor_fixture.h"

static uint32_t started_count;

static void ask_number(struct raw_client *raw, uint32_t number)
{
	assert_int_equal(raw_say(raw, &raw->requests, PEAL__FRAME_REQUEST,
	                         number + 1, &number, sizeof(number)),
	                 0);
}

static void serve_pushed_off(struct peal_request *request, void *arg)
{
	(void)arg;
	usleep(20000);
	peal_reply(request, NULL, 0);
}

/* One that was preempted sent hundreds of short ones to the workers. */
static void one_long_handler_does_not_make_all_long(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = serve_pushed_off;
	options.worker_count = 1;
	options.inline_mode = PEAL_INLINE_ALWAYS;
	open_reactor_for(&raw, &options);
	served.reactor->mean_ticks = 0;
	ask_number(&raw, 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	assert_true(served.reactor->mean_ticks > 0);
	assert_true(served.reactor->mean_ticks < served.reactor->tiny_ticks);
	leave_and_close(&raw);
}

static struct {
	struct raw_client raw;
	bool asks_first; /* before it is answered */
	bool lingers;
} eager;

/* Its client asks again while the handler still runs, twice. */
static void serve_the_eager(struct peal_request *request, void *arg)
{
	(void)arg;
	started_count++;
	if (!eager.asks_first)
		peal_reply(request, NULL, 0);
	if (started_count < 3)
		ask_number(&eager.raw, started_count);
	if (eager.lingers)
		usleep(100000);
	if (eager.asks_first)
		peal_reply(request, NULL, 0);
}

static uint32_t lone_count_of_three(bool asks_first, bool lingers,
                                    uint64_t tiny_ticks)
{
	struct peal_reactor_options options = usual_options();
	uint32_t lone_count;

	started_count = 0;
	eager.asks_first = asks_first;
	eager.lingers = lingers;
	options.on_request = serve_the_eager;
	options.worker_count = 1;
	options.inline_mode = PEAL_INLINE_ALWAYS;
	open_reactor_for(&eager.raw, &options);
	/* Who is pushed off its processor does not linger. */
	served.reactor->short_ticks = peal__ns_to_ticks(50 * MS);
	served.reactor->tiny_ticks = tiny_ticks;
	ask_number(&eager.raw, 0);
	run_until(&started_count, 3);
	lone_count = served.reactor->lone_count;
	leave_and_close(&eager.raw);
	return lone_count;
}

/* A client that spins sent each of its requests to a worker that way. */
static void who_asks_again_as_soon_as_answered_is_alone(void **state)
{
	(void)state;
	assert_int_equal(lone_count_of_three(false, false, 0), 3);
	assert_int_equal(lone_count_of_three(false, true, 0), 1);
	assert_int_equal(lone_count_of_three(true, false, 0), 1);
}

/* All of them run here, and whether they have company is not even looked at. */
static void tiny_handlers_are_no_sign_of_who_is_alone(void **state)
{
	(void)state;
	assert_int_equal(lone_count_of_three(false, false, UINT64_MAX), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_long_handler_does_not_make_all_long),
		TEST(who_asks_again_as_soon_as_answered_is_alone),
		TEST(tiny_handlers_are_no_sign_of_who_is_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
