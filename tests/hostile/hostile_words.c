/* SPDX-License-Identifier: MIT */
/*
 * What a client may do to the words that it shares with its server, at any
 * time, whoever it is: write anything, and wait on each of them.
 *
 *	./test_hostile_words [--full]     0.1 s for each attack, or 3
 *
 * What the attack costs the neighbour is printed, beside what it costs when a
 * process that is not attached burns as much: a figure, and no verdict, since a
 * busy machine says anything.
 */
#include "tests/hostile/attack.h"
#include "tests/hostile/futex.h"

#define FUTEX_WORDS 8

static void segment_and_bell_may_hold_anything_at_any_time(void **state)
{
	(void)state;
	attack_as_everybody(scribble);
}

/* waiting on words ------------------------------------------------------------- */

/* Every word on which a futex of the server could be, as this client sees it. */
static size_t list_words(const struct raw *raw,
                         const uint32_t *words[FUTEX_WORDS])
{
	size_t count = 0;

	words[count++] = (const uint32_t *)(const void *)&raw->arm_page->arm;
	words[count++] = &raw->arm_page->lifeline;
	words[count++] = (const uint32_t *)(const void *)&raw->arm_page->cpu;
	words[count++] = &raw->segment->space.seq;
	words[count++] = &raw->segment->answers.seq;
	for (int i = 0; i < PEAL__RING_COUNT; i++)
		if (raw->shape.rings[i].bytes > 0)
			words[count++] =
				peal__segment_data(raw->segment, &raw->shape,
			                           (enum peal__segment_ring)i);
	return count;
}

/* Moves every sleeper that it can find to a word of its own, and tells nobody. */
static int requeue(const struct raw *raw, const uint32_t *const *words,
                   size_t count, uint64_t end_ns)
{
	static uint32_t mine;

	while (scene_now_ns() < end_ns) {
		for (size_t i = 0; i < count; i++) {
			uint32_t value =
				__atomic_load_n(words[i], __ATOMIC_RELAXED);

			do_futex(words[i], FUTEX_REQUEUE, 0, INT_MAX, &mine, 0);
			do_futex(words[i], FUTEX_CMP_REQUEUE, 0, INT_MAX, &mine,
			         value);
			do_futex(words[i], FUTEX_WAKE, INT_MAX, 0, NULL, 0);
		}
		/* To change a word of the arm page by a futex is to write. */
		if (do_futex(&mine, FUTEX_WAKE_OP, 1, 1, words[0],
		             FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 0)) !=
		            -1 ||
		    errno != EFAULT)
			return ATTACK_WRONG;
		raw_send(raw, "W", 1);
		scene_sleep_ns(SCENE_MS);
	}
	/* Our own waiters end by their time. */
	do_futex(&mine, FUTEX_WAKE, INT_MAX, 0, NULL, 0);
	return 0;
}

/*
 * But for the bell page of our own user: who has that shares the word on which
 * the server sleeps, and to move the sleeper is in the power of a user who
 * could kill it as well. The bounded sleep is what ends that: these tests are
 * built without, bounded_sleep.c with it.
 */
static int wait_everywhere(void)
{
	uint64_t end_ns = scene_now_ns() + attack_ns;
	const uint32_t *words[FUTEX_WORDS];
	struct waits waits[FUTEX_WORDS];
	pthread_t threads[FUTEX_WORDS];
	struct raw raw;
	size_t count;
	int wrong;

	if (raw_enter(&raw) != 0)
		return ATTACK_WRONG;
	/* No stranger has the page on which the server sleeps. */
	if (attack_who != OWN && (raw.bell_page != NULL || raw.fd_count != 2))
		return ATTACK_WRONG;
	count = list_words(&raw, words);
	for (size_t i = 0; i < count; i++) {
		waits[i] = (struct waits){words[i], end_ns};
		if (pthread_create(&threads[i], NULL, wait_on_word,
		                   &waits[i]) != 0)
			return ATTACK_WRONG;
	}
	for (int i = 0; i < 20; i++)
		raw_publish(&raw, 100);
	wrong = requeue(&raw, words, count, end_ns);
	for (size_t i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	raw_close(&raw);
	return wrong;
}

static void waits_on_every_page_take_nobodys_wake(void **state)
{
	(void)state;
	attack_as_everybody(wait_everywhere);
}

/* a figure ------------------------------------------------------------------------------ */

static int burn(void)
{
	uint64_t end_ns = scene_now_ns() + attack_ns;

	chance = scene_seed;
	while (scene_now_ns() < end_ns)
		scene_random(&chance);
	return 0;
}

static uint64_t p99_beside(int (*run)(void), uint32_t window)
{
	struct attack attack = {OWN, run};

	scene_put(&stage_board->window, window);
	assert_int_equal(scene_wait(scene_start(run_attack, &attack),
	                            STAGE_PATIENCE_NS),
	                 0);
	scene_put(&stage_board->window, 0);
	return stage_p99_ns(window);
}

/* Also where nobody spins, and so nobody has to wait for a turn. */
static int setup_calm(void **state)
{
	stage_spin_mode = PEAL_SPIN_NEVER;
	return stage_setup(state);
}

static int teardown_calm(void **state)
{
	stage_spin_mode = PEAL_SPIN_ADAPTIVE;
	return stage_teardown(state);
}

/* And where nobody comes again and again, for which all others pay. */
static int setup_paced(void **state)
{
	stage_rate_max = 20;
	return setup_calm(state);
}

static int teardown_paced(void **state)
{
	stage_rate_max = 0;
	return teardown_calm(state);
}

static void neighbour_is_served_beside_an_attack(void **state)
{
	uint64_t control_ns, attacked_ns;

	(void)state;
	if (stage_role != PEAL__ROLE_CLIENT) {
		/* Nobody waits for a producer's messages: there is no time. */
		attack_as_everybody(burn);
		return;
	}
	control_ns = p99_beside(burn, 1);
	attacked_ns = p99_beside(scribble, 2);
	assert_true(stage_is_well());
	print_message("  p99 of a neighbour's call%s%s: %.1f us beside an "
	              "attack, %.1f us beside a process that only burns: %.2f "
	              "x\n",
	              stage_spin_mode == PEAL_SPIN_NEVER ? ", without turns"
	                                                 : "",
	              stage_rate_max != 0 ? " and paced" : "",
	              (double)attacked_ns / 1e3, (double)control_ns / 1e3,
	              (double)attacked_ns /
	                      (double)(control_ns > 0 ? control_ns : 1));
	assert_true(control_ns > 0 && attacked_ns > 0);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(segment_and_bell_may_hold_anything_at_any_time),
		/* Or the next look would make good for a wake that was taken. */
		cmocka_unit_test_setup_teardown(
			waits_on_every_page_take_nobodys_wake,
			attack_setup_for_ever, attack_teardown_for_ever),
		TEST(neighbour_is_served_beside_an_attack),
		cmocka_unit_test_setup_teardown(
			neighbour_is_served_beside_an_attack, setup_calm,
			teardown_calm),
		cmocka_unit_test_setup_teardown(
			neighbour_is_served_beside_an_attack, setup_paced,
			teardown_paced),
	};
	size_t count = 2;
	int failed = 0;

	if (scene_is_full(argc, argv)) {
		attack_ns = 3 * SCENE_S;
		count = CHECK_COUNT(attack_stages);
	}
	for (size_t i = 0; i < count; i++) {
		attack_stages[i].be();
		stage_wait_mode = attack_stages[i].wait_mode;
		failed += cmocka_run_group_tests(tests, stage_group_setup,
		                                 scene_group_teardown);
	}
	return failed != 0;
}
