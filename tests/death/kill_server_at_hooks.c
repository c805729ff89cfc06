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
#define DRY_RUN_MAX 10

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

	places_watch();
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

static int run_life(void *arg, const char *what)
{
	int status = scene_wait(scene_start(live, arg), 2 * WATCH_NS);

	judge_life(status, what);
	return status;
}

static void kill_at_every_place(uint32_t worker_count, uint32_t who,
                                uint32_t mode)
{
	const char *why;

	places_open(&board->told.kill_ns);
	start_askers(mode);
	/* On a busy machine one life may have no time to sleep. */
	places_kill_at_each(run_life, (void *)(uintptr_t)worker_count, who,
	                    mode, DRY_RUN_MAX, passing_max);
	scene_put(&board->over, 1);
	why = told_fault(&board->told, LATE_PERCENT);
	if (why != NULL)
		fail_msg("%s", why);
	scene_kill_all();
}

static void killed_at_every_place_of_the_reactors_thread(void **state)
{
	kill_at_every_place(0, DIES_SERVER, scene_mode(state));
}

static void killed_at_every_place_with_workers(void **state)
{
	kill_at_every_place(2, DIES_SERVER_OF_WORKERS, scene_mode(state));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TESTS_OF_MODES(
			killed_at_every_place_of_the_reactors_thread),
		SCENE_TESTS_OF_MODES(killed_at_every_place_with_workers),
	};

	if (scene_is_full(argc, argv))
		passing_max = 20;
	return cmocka_run_group_tests(tests, open_board,
	                              scene_group_teardown) != 0;
}
