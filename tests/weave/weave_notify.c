/* SPDX-License-Identifier: MIT */
/*
 * Who sleeps and is told by another thread, woven at every hook: a notify ends
 * every wait of a consumer, and a stop that of a reactor, whatever the order of
 * the steps. No ring shows what they are about: the bell alone has to tell it.
 *
 *	./test_weave_notify [--full]     some thousand schedules, or a million
 */
#include "tests/weave/weave.h"

#include "peal/reactor.h"

#define NAME "woven"

static bool is_full_run;

static struct stage {
	struct peal_consumer *consumer;
	struct peal_reactor *reactor;
	uint32_t count, asked;
	int result;
} stage;

static void weave_them(void (*first)(void *), void (*second)(void *),
                       void (*reset)(void *), const char *name,
                       uint64_t schedule_max)
{
	struct weave weave = {
		.runs = {first, second},
		.reset = reset,
		.object = &stage,
		.preemption_max = is_full_run ? 6 : 3,
		.schedule_max = is_full_run ? 50 * schedule_max : schedule_max,
		.seed = scene_seed,
	};

	weave_all(&weave, name,
	          is_full_run ? 10 * schedule_max : schedule_max / 4);
}

/* notify -------------------------------------------------------------------- */

static void notify_all(void *object)
{
	(void)object;
	for (uint32_t i = 0; i < stage.count; i++) {
		__atomic_fetch_add(&stage.asked, 1, __ATOMIC_RELAXED);
		weave_point("asked");
		peal_consumer_notify(stage.consumer);
		weave_point("notified");
	}
}

static void wait_for_all(void *object)
{
	(void)object;
	while (__atomic_load_n(&stage.asked, __ATOMIC_RELAXED) != stage.count) {
		weave_point("not all yet");
		if (peal_consumer_wait(stage.consumer, PEAL_FOREVER) != 0)
			abort();
	}
}

static void reset_notifies(void *object)
{
	(void)object;
	stage.asked = 0;
	/* What the last one of the schedule before has left. */
	peal_consumer_wait(stage.consumer, 0);
}

static void notify_ends_every_wait_of_a_consumer(void **state)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	(void)state;
	stage = (struct stage){.count = 2};
	options.name = NAME;
	options.spin_mode = PEAL_SPIN_NEVER;
	assert_int_equal(peal_consumer_open(&options, &stage.consumer), 0);
	weave_them(notify_all, wait_for_all, reset_notifies, "notify", 4000);
	peal_consumer_close(stage.consumer);
}

/* stop ---------------------------------------------------------------------- */

static void stop(void *object)
{
	(void)object;
	peal_reactor_stop(stage.reactor, SCENE_S);
	weave_point("stopped");
}

static void run_until_stopped(void *object)
{
	(void)object;
	stage.result = peal_reactor_run(stage.reactor);
}

static void leave_it(struct peal_request *request, void *arg)
{
	(void)request;
	(void)arg;
}

/* A reactor can be stopped once. */
static void reset_stop(void *object)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;

	(void)object;
	if (stage.result != 0 ||
	    (stage.reactor != NULL && peal_reactor_close(stage.reactor) != 0))
		abort();
	stage.reactor = NULL;
	options.name = NAME;
	options.on_request = leave_it;
	options.spin_mode = PEAL_SPIN_NEVER;
	if (peal_reactor_open(&options, &stage.reactor) != 0)
		abort();
}

static void stop_ends_every_wait_of_a_reactor(void **state)
{
	(void)state;
	stage = (struct stage){0};
	weave_them(stop, run_until_stopped, reset_stop, "stop", 400);
	assert_int_equal(stage.result, 0);
	assert_int_equal(peal_reactor_close(stage.reactor), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notify_ends_every_wait_of_a_consumer),
		cmocka_unit_test(stop_ends_every_wait_of_a_reactor),
	};

	is_full_run = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, weave_setup,
	                              scene_group_teardown) != 0;
}
