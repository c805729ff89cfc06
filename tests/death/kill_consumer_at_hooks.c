/* SPDX-License-Identifier: MIT */
/*
 * A consumer killed at every place of the library that has a name, on its own
 * thread and on that of admission, from before it has its name until it has
 * given it back.
 *
 *	producers  one blocks in a tiny ring, one sends now and then: they are
 *	           told -ECONNRESET, or -ESHUTDOWN when it was closing
 *	visitor    attaches, sends and detaches, again and again
 *	victim     opens, takes messages, closes; dies on the way
 *	heir       opens the name after it: everybody is heard, nothing is left
 *
 *	./test_kill_consumer_at_hooks [--full]   up to 2 passings, or 20
 */
#include "tests/death/places.h"
#include "tests/death/senders.h"

#define TAKEN_COUNT 80
#define VISIT_COUNT 2
#define PLACE_COUNT 16 /* that every life should pass */
#define DRY_RUN_MAX 20

static struct plan *plan;
static uint64_t passing_max = 2;

/* Until so many messages came and so many visitors went; then it closes. */
static int live(void *arg)
{
	uint32_t taken_count = 0, sender;
	struct peal_consumer_stats stats = {0};
	struct peal_consumer *consumer;
	struct peal_message message;

	(void)arg;
	places_watch(plan);
	consumer = open_consumer();
	if (consumer == NULL)
		return 1;
	while (taken_count < TAKEN_COUNT ||
	       stats.detached_count < VISIT_COUNT) {
		peal_consumer_wait(consumer, PEAL_FOREVER);
		for (int i = 0; i < PEEKS_MAX &&
		                peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			if (take(&message, &sender) != 0)
				return 1;
			/* So slow that a ring is full. */
			if (sender == FILLS)
				scene_sleep_ns(50 * SCENE_US);
			peal_consumer_release(consumer, &message);
			taken_count++;
		}
		peal_consumer_stats(consumer, &stats);
	}
	return peal_consumer_close(consumer);
}

/* the parent ------------------------------------------------------------- */

/* One victim, and its heir; returns how the victim ended. */
static int run_life(const char *what)
{
	int status = scene_wait(scene_start(live, NULL), 2 * WATCH_NS);

	judge_life(status, what);
	return status;
}

static int kill_at_place(const char *place, uint64_t last)
{
	char what[100];
	int kill_count = 0;

	if (last > passing_max)
		last = passing_max;
	for (uint64_t passing = 1; passing <= last; passing++) {
		snprintf(what, sizeof(what), "killed at '%s', %llu", place,
		         (unsigned long long)passing);
		places_plan(plan, place, passing);
		kill_count += run_life(what) != 0;
	}
	return kill_count;
}

static void kill_at_every_place(uint32_t mode)
{
	static struct plan dry;
	int kill_count = 0;

	memset(board, 0, sizeof(*board));
	board->kill_ns = &plan->kill_ns;
	wait_mode = mode;
	for (uintptr_t i = 0; i < SENDER_COUNT; i++)
		scene_start(send_for_ever, (void *)i);
	scene_start(visit_for_ever, NULL);
	memset(&dry, 0, sizeof(dry));
	/* On a busy machine one life may have no time to sleep. */
	for (int i = 0; i < DRY_RUN_MAX && dry.place_count < PLACE_COUNT; i++) {
		places_plan(plan, NULL, 0);
		assert_int_equal(run_life("a dry run"), 0);
		places_merge(&dry, plan);
	}
	for (uint32_t i = 0; i < dry.place_count; i++) {
		print_message("  %-28s passed %llu times\n", dry.places[i].name,
		              (unsigned long long)dry.places[i].passings);
		kill_count += kill_at_place(dry.places[i].name,
		                            dry.places[i].passings);
	}
	scene_put(&board->over, 1);
	print_message("kill_consumer_at_hooks: %u places, %d kills; told of "
	              "%llu deaths and %llu closes, at most %.1f ms after the "
	              "kill; every name inherited, nothing left\n",
	              dry.place_count, kill_count,
	              (unsigned long long)board->told_count,
	              (unsigned long long)board->shut_down_count,
	              (double)board->told_max_ns / 1e6);
	assert_true(dry.place_count >= PLACE_COUNT);
	assert_true(kill_count >= (int)dry.place_count);
	scene_kill_all();
}

static void killed_at_every_place_of_futex_mode(void **state)
{
	(void)state;
	kill_at_every_place(PEAL_WAIT_FUTEX);
}

static void killed_at_every_place_of_fd_mode(void **state)
{
	(void)state;
	kill_at_every_place(PEAL_WAIT_FD);
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
		TEST(killed_at_every_place_of_futex_mode),
		TEST(killed_at_every_place_of_fd_mode),
	};

	if (scene_is_full(argc, argv))
		passing_max = 20;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
