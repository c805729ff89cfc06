/* SPDX-License-Identifier: MIT */
/*
 * A server killed at every place of the library that has a name, on whichever
 * of its threads passes it: tests/death/askers.h says what its clients see.
 *
 *	./test_kill_server_at_hooks [--full]   up to 2 passings, or 20
 */
#include "tests/death/askers.h"
#include "tests/death/places.h"

#define SERVED_COUNT 60 /* in one life */
/* Of admission and the name, of ring and sleep, and of the reactor: published,
 * to be stopped; with workers also pushed, told, returned, ended. */
#define PLACE_COUNT 16
#define PLACES_OF_WORKERS 4
#define DRY_RUN_MAX 10

static struct plan *plan;
static uint64_t passing_max = 2;
static uint32_t served_count; /* of the victim */

static void serve(struct peal_request *request, void *arg)
{
	echo(request, arg);
	__atomic_add_fetch(&served_count, 1, __ATOMIC_RELAXED);
}

/* Until so many were answered, with a push now and then; then it stops. */
static int live(void *arg)
{
	uint64_t end_ns = scene_now_ns() + WATCH_NS, push_count = 0;
	struct peal_reactor *reactor;
	uint8_t data[MESSAGE_BYTES];

	places_watch(plan);
	reactor = open_reactor(serve, (uint32_t)(uintptr_t)arg);
	if (reactor == NULL)
		return 1;
	while (__atomic_load_n(&served_count, __ATOMIC_RELAXED) <
	               SERVED_COUNT &&
	       scene_now_ns() < end_ns) {
		peal_reactor_run_once(reactor, SCENE_MS);
		scene_stamp_write(data, sizeof(data), PUSHER, ++push_count);
		if (peal_reactor_push_all(reactor, data, sizeof(data)) < 0)
			return fault("push");
	}
	peal_reactor_stop(reactor, SCENE_S);
	peal_reactor_run(reactor);
	return close_reactor(reactor);
}

/* the parent -------------------------------------------------------------- */

static int run_life(uint32_t worker_count, const char *what)
{
	int status =
		scene_wait(scene_start(live, (void *)(uintptr_t)worker_count),
	                   2 * WATCH_NS);

	judge_life(status, what);
	return status;
}

static int kill_at_place(uint32_t worker_count, const char *place,
                         uint64_t last)
{
	char what[100];
	int kill_count = 0;

	if (last > passing_max)
		last = passing_max;
	for (uint64_t passing = 1; passing <= last; passing++) {
		snprintf(what, sizeof(what), "killed at '%s', %llu", place,
		         (unsigned long long)passing);
		places_plan(plan, place, passing);
		kill_count += run_life(worker_count, what) != 0;
	}
	return kill_count;
}

static void kill_at_every_place(uint32_t worker_count)
{
	uint32_t wanted =
		PLACE_COUNT + (worker_count > 0 ? PLACES_OF_WORKERS : 0);
	static struct plan dry;
	int kill_count = 0;

	start_askers();
	board->killed = &plan->kill_ns;
	memset(&dry, 0, sizeof(dry));
	/* On a busy machine one life may have no time to sleep. */
	for (int i = 0; i < DRY_RUN_MAX && dry.place_count < wanted; i++) {
		places_plan(plan, NULL, 0);
		assert_int_equal(run_life(worker_count, "a dry run"), 0);
		places_merge(&dry, plan);
	}
	for (uint32_t i = 0; i < dry.place_count; i++) {
		print_message("  %-28s passed %llu times\n", dry.places[i].name,
		              (unsigned long long)dry.places[i].passings);
		kill_count += kill_at_place(worker_count, dry.places[i].name,
		                            dry.places[i].passings);
	}
	scene_put(&board->over, 1);
	print_message("kill_server_at_hooks: %u places, %d kills; %llu "
	              "requests were lost, once each, at most %.1f ms after "
	              "the kill\n",
	              dry.place_count, kill_count,
	              (unsigned long long)board->told_count,
	              (double)board->told_max_ns / 1e6);
	assert_true(dry.place_count >= wanted);
	assert_true(kill_count >= (int)dry.place_count);
	scene_kill_all();
}

static void killed_at_every_place_of_the_reactors_thread(void **state)
{
	(void)state;
	kill_at_every_place(0);
}

static void killed_at_every_place_with_workers(void **state)
{
	(void)state;
	kill_at_every_place(2);
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	plan = scene_board(sizeof(*plan));
	return board != NULL && plan != NULL ? scene_group_setup(state) : -1;
}

#define TEST(name) cmocka_unit_test_teardown(name, scene_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(killed_at_every_place_of_the_reactors_thread),
		TEST(killed_at_every_place_with_workers),
	};

	if (scene_is_full(argc, argv))
		passing_max = 20;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
