/* SPDX-License-Identifier: MIT */
/*
 * A thread that tells the reactor the last thing it waits for, and is held up
 * before it has rung: the reactor goes on without the ring, and its owner
 * closes it. What the thread still touches has to be there.
 *
 *	other thread   store ------- held up for 50 ms ------> ring
 *	reactor             \--> run() returns, close() ....--> freed
 */
#include "tests/unit/reactor_fixture.h"

#include "base/hooks.h"

#define HELD_MS 50

static const char *held_at;
static uint32_t held_count;

static void hold(const char *place)
{
	if (held_at == NULL || strcmp(place, held_at) != 0 ||
	    peal_reactor_is_current(served.reactor))
		return;
	__atomic_fetch_add(&held_count, 1, __ATOMIC_RELAXED);
	sleep_ns(HELD_MS * MS);
}

static void *stop(void *arg)
{
	peal_reactor_stop(arg, SECOND);
	return NULL;
}

static void *reply(void *arg)
{
	peal_reply(arg, "late", 4);
	return NULL;
}

/* The bell is rung every millisecond, or nothing would be seen in time. */
static void run_until_over(void)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);

	while (peal_reactor_run_once(served.reactor, MS) != -ESHUTDOWN)
		assert_true(peal__clock_ns() < end_ns);
}

static void close_waits_for_who_stops_it(void **state)
{
	struct peal_reactor_options options = usual_options();
	pthread_t thread;

	(void)state;
	open_reactor(&options);
	peal_reactor_run_once(served.reactor, 0);
	held_at = "reactor: to be stopped";
	held_count = 0;
	assert_int_equal(pthread_create(&thread, NULL, stop, served.reactor),
	                 0);
	run_until_over();
	close_reactor();
	assert_int_equal(held_count, 1);
	pthread_join(thread, NULL);
}

static void close_waits_for_who_gives_the_last_answer(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	pthread_t thread;

	(void)state;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	held_at = "reactor: told";
	held_count = 0;
	peal_reactor_stop(served.reactor, PATIENCE_NS);
	assert_int_equal(pthread_create(&thread, NULL, reply, served.kept[0]),
	                 0);
	run_until_over();
	close_reactor();
	assert_int_equal(held_count, 1);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "late");
	raw_close(&raw, false);
	pthread_join(thread, NULL);
}

static pthread_t executing;

struct order {
	void (*run)(void *work);
	void *work;
};

static void *execute_one(void *arg)
{
	struct order order = *(struct order *)arg;

	free(arg);
	order.run(order.work);
	return NULL;
}

static int execute(void (*run_it)(void *work), void *work, void *arg)
{
	struct order *order = malloc(sizeof(*order));

	(void)arg;
	*order = (struct order){run_it, work};
	return -pthread_create(&executing, NULL, execute_one, order);
}

static void close_waits_for_the_last_step_of_a_handler(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.executor = execute;
	options.inline_mode = PEAL_INLINE_NEVER;
	open_reactor(&options);
	connect_raw(&raw, 0);
	held_at = "reactor: handler has ended";
	held_count = 0;
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run_until(&held_count, 1);
	while (peal_reactor_close(served.reactor) == -EBUSY)
		usleep(100);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "e");
	raw_close(&raw, false);
	pthread_join(executing, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(close_waits_for_who_stops_it),
		TEST(close_waits_for_who_gives_the_last_answer),
		TEST(close_waits_for_the_last_step_of_a_handler),
	};

#ifdef PEAL_HOOKS
	peal__hook = hold;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
