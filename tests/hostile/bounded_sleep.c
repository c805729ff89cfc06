/* SPDX-License-Identifier: MIT */
/*
 * What the bounded sleep is for. A client of our own user shares the word on
 * which the server sleeps: it can move the sleeper to a word of its own, where no
 * ring finds it, or take a ring back. Then a server that waits for ever, as here,
 * sleeps through what came until the net ends its sleep, and so each time.
 *
 *	./test_bounded_sleep [--full]     1.2 s for each attack, or 10
 *
 * Whatever the rest of the build has, this program is linked with a consumer that
 * has the net: see tests/meson.build.
 */
#include "tests/hostile/attack.h"
#include "tests/hostile/futex.h"

#include <linux/falloc.h>

#ifdef PEAL_NO_BOUNDED_SLEEP
#error "without the net there is nothing to be seen here"
#endif

#define NET_NS SCENE_S         /* SLEEP_MAX_NS in mpsc/wait.c */
#define SLACK_NS (2 * SCENE_S) /* of a busy machine */

/* In, and where the server sleeps. Or the line that was wrong. */
static int come_to_the_bell(struct raw *raw)
{
	if (raw_enter(raw) != 0)
		return ATTACK_WRONG;
	return raw->bell_page == NULL || raw->fd_count != 3 ? ATTACK_WRONG : 0;
}

/* Was the neighbour kept waiting by what only the net ends? */
static bool has_hurt(void)
{
	return scene_get(&stage_board->longest_ns) > NET_NS / 2;
}

/* Waits there as well, so that a wake that goes to one alone goes astray. */
static int move_sleepers(void)
{
	static uint32_t mine;
	uint64_t start_ns, now_ns;
	struct waits waits;
	pthread_t thread;
	struct raw raw;
	uint32_t *seq;

	if (come_to_the_bell(&raw) != 0)
		return ATTACK_WRONG;
	seq = &raw.bell_page->seq;
	start_ns = now_ns = scene_now_ns();
	waits = (struct waits){seq, start_ns + attack_ns};
	if (pthread_create(&thread, NULL, wait_on_word, &waits) != 0)
		return ATTACK_WRONG;
	while (now_ns < start_ns + attack_ns || !has_hurt()) {
		if (now_ns > start_ns + attack_ns + STAGE_PATIENCE_NS / 2)
			return ATTACK_WRONG;
		do_futex(seq, FUTEX_REQUEUE, 0, INT_MAX, &mine, 0);
		do_futex(seq, FUTEX_CMP_REQUEUE, 0, INT_MAX, &mine,
		         __atomic_load_n(seq, __ATOMIC_RELAXED));
		now_ns = scene_now_ns();
	}
	pthread_join(thread, NULL);
	raw_close(&raw);
	return 0;
}

/* As if nobody had rung: the word is what it was, or its page is gone. */
static int take_rings_back(void)
{
	uint64_t end_ns;
	struct raw raw;
	uint32_t seen;

	if (come_to_the_bell(&raw) != 0)
		return ATTACK_WRONG;
	end_ns = scene_now_ns() + attack_ns / 2;
	while (scene_now_ns() < end_ns) {
		if (fallocate(raw.fds[2],
		              FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		              PEAL__BELL_BYTES) != 0)
			return ATTACK_WRONG;
		seen = __atomic_load_n(&raw.bell_page->seq, __ATOMIC_RELAXED);
		for (int i = 0; i < 1000; i++)
			__atomic_store_n(&raw.bell_page->seq, seen,
			                 __ATOMIC_RELAXED);
		seen++;
		if (pwrite(raw.fds[2], &seen, sizeof(seen), 0) !=
		    (ssize_t)sizeof(seen))
			return ATTACK_WRONG;
	}
	raw_close(&raw);
	return 0;
}

static void attack_the_bell(int (*run)(void))
{
	struct attack attack = {OWN, run};

	scene_put(&stage_board->longest_ns, 0);
	assert_int_equal(scene_wait(scene_start(run_attack, &attack),
	                            attack_ns + STAGE_PATIENCE_NS),
	                 0);
	assert_true(stage_is_well());
	print_message("  bell: the neighbour waited %.1f ms at most\n",
	              (double)stage_board->longest_ns / 1e6);
	/* One sleep, or two: a message waits for room through the first one
	 * and lies in the ring through the next. */
	assert_in_range(stage_board->longest_ns, 1, 2 * NET_NS + SLACK_NS);
}

static void server_whose_sleep_is_moved_away_wakes_in_its_bound(void **state)
{
	(void)state;
	attack_the_bell(move_sleepers);
}

static void server_whose_bell_is_taken_back_wakes_in_its_bound(void **state)
{
	(void)state;
	attack_the_bell(take_rings_back);
}

#define TEST(name)                                                   \
	cmocka_unit_test_setup_teardown(name, attack_setup_for_ever, \
	                                attack_teardown_for_ever)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(server_whose_sleep_is_moved_away_wakes_in_its_bound),
		TEST(server_whose_bell_is_taken_back_wakes_in_its_bound),
	};
	int failed = 0;

	attack_ns = scene_is_full(argc, argv) ? 10 * SCENE_S : 1200 * SCENE_MS;
	/* In fd mode nobody sleeps at the word. */
	stage_wait_mode = PEAL_WAIT_FUTEX;
	stage_spin_mode = PEAL_SPIN_NEVER;
	stage_be_reactor();
	failed += cmocka_run_group_tests(tests, stage_group_setup,
	                                 scene_group_teardown);
	stage_be_consumer();
	failed += cmocka_run_group_tests(tests, stage_group_setup,
	                                 scene_group_teardown);
	return failed != 0;
}
