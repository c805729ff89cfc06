/* SPDX-License-Identifier: MIT */
/*
 * A consumer killed at every instruction of what its own thread does: its
 * producers learn of it, and the next one takes the name over. See
 * tests/death/senders.h for who lives on.
 *
 *	./test_kill_consumer_at_steps [--full]   a sample, or every boundary
 */
#include "tests/death/sample.h"
#include "tests/death/senders.h"

static uint64_t kill_max = 15; /* of each operation */
static uint64_t *kill_ns;

/* what the victim does ------------------------------------------------------ */

static int take_up_to(struct peal_consumer *consumer, uint32_t count)
{
	struct peal_message message;
	uint32_t sender;

	while (count-- > 0 && peal_consumer_peek(consumer, &message) == 0) {
		if (take(&message, &sender) != 0)
			return -1;
		peal_consumer_release(consumer, &message);
	}
	return 0;
}

/* A consumer that has all senders at its rings, and has heard FILLS. */
static struct peal_consumer *open_and_hear(void)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_consumer_stats stats = {0};
	uint64_t end_ns = scene_now_ns() + WATCH_NS;

	while (consumer != NULL && scene_now_ns() < end_ns) {
		if (peal_consumer_stats(consumer, &stats) == 0 &&
		    stats.attached_count > SENDER_COUNT)
			return consumer;
		peal_consumer_wait(consumer, SCENE_MS);
		if (take_up_to(consumer, PEEKS_MAX) < 0)
			return NULL;
	}
	fault("the senders do not come");
	return NULL;
}

static int begin(void)
{
	return steps_begin() == 0 ? 0 : fault("not traced");
}

static int open_the_name(void *arg)
{
	struct peal_consumer *consumer;

	(void)arg;
	if (begin() != 0)
		return 1;
	consumer = open_consumer();
	steps_end();
	return consumer == NULL ? 2 : peal_consumer_close(consumer);
}

/* Peek, release, tell and settle, and ring FILLS, which sleeps for room. */
static int take_from_a_full_ring(void *arg)
{
	struct peal_consumer *consumer = open_and_hear();

	(void)arg;
	if (consumer == NULL)
		return 1;
	scene_put(&board->hush, HUSH_ALL);
	scene_sleep_ns(2 * SCENE_MS); /* its ring is full by then */
	if (begin() != 0 || take_up_to(consumer, PEEKS_MAX) != 0)
		return 2;
	peal_consumer_wait(consumer, 0);
	steps_end();
	return peal_consumer_close(consumer);
}

/* Arm, sleep until a producer rings, and disarm. */
static int sleep_until_rung(void *arg)
{
	struct peal_consumer *consumer = open_and_hear();

	(void)arg;
	if (consumer == NULL)
		return 1;
	scene_put(&board->hush, HUSH_ALL);
	while (peal_consumer_wait(consumer, 2 * SCENE_MS) == 0)
		if (take_up_to(consumer, UINT32_MAX) != 0)
			return 2;
	if (begin() != 0 || peal_consumer_wait(consumer, PEAL_FOREVER) != 0)
		return 3;
	steps_end();
	return peal_consumer_close(consumer);
}

static int close_the_name(void *arg)
{
	struct peal_consumer *consumer = open_and_hear();

	(void)arg;
	if (consumer == NULL || begin() != 0)
		return 1;
	peal_consumer_close(consumer);
	steps_end();
	return 0;
}

/* the parent ---------------------------------------------------------------- */

struct operation {
	const char *name;
	int (*live)(void *arg);
	void (*unblock)(void);
};

static void ring_it(void)
{
	scene_put(&board->hush, HUSH_ALL_BUT_SLOW);
}

static bool run_to(const void *of, uint64_t target, struct steps *steps)
{
	const struct operation *operation = of;
	char what[200];
	bool was_killed;
	pid_t victim;

	scene_put(kill_ns, 0);
	steps->kill_ns = kill_ns;
	victim = scene_start(operation->live, NULL);
	was_killed = steps_run(victim, victim, target, steps);
	scene_put(&board->hush, HUSH_NOBODY);
	snprintf(what, sizeof(what), "%s, killed %s", operation->name,
	         steps_describe(steps));
	judge_life(scene_wait(victim, WATCH_NS), what);
	return was_killed;
}

static void kill_in_mode(uint32_t mode)
{
	static const struct operation operations[] = {
		{"open", open_the_name, NULL},
		{"peek, release, tell, settle", take_from_a_full_ring, NULL},
		{"arm, sleep, disarm", sleep_until_rung, ring_it},
		{"close", close_the_name, NULL},
	};
	static struct steps steps;

	memset(board, 0, sizeof(*board));
	board->kill_ns = kill_ns;
	wait_mode = mode;
	for (uintptr_t i = 0; i < SENDER_COUNT; i++)
		scene_start(send_for_ever, (void *)i);
	scene_start(visit_for_ever, NULL);
	for (size_t i = 0; i < CHECK_COUNT(operations); i++) {
		steps.unblock = operations[i].unblock;
		steps_try_some(operations[i].name, &operations[i], run_to,
		               &steps, kill_max, 50);
	}
	scene_put(&board->over, 1);
	print_message("told of %llu deaths and %llu closes, at most %.1f ms "
	              "after the kill\n",
	              (unsigned long long)board->told_count,
	              (unsigned long long)board->shut_down_count,
	              (double)board->told_max_ns / 1e6);
	assert_true(board->told_count > 0);
	scene_kill_all();
}

static void killed_at_any_instruction_in_futex_mode(void **state)
{
	(void)state;
	kill_in_mode(PEAL_WAIT_FUTEX);
}

static void killed_at_any_instruction_in_fd_mode(void **state)
{
	(void)state;
	kill_in_mode(PEAL_WAIT_FD);
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	kill_ns = scene_board(sizeof(*kill_ns));
	return board != NULL && kill_ns != NULL ? scene_group_setup(state) : -1;
}

#define TEST(name) cmocka_unit_test_teardown(name, scene_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(killed_at_any_instruction_in_futex_mode),
		TEST(killed_at_any_instruction_in_fd_mode),
	};
	const char *refusal = steps_refusal();

	if (refusal != NULL) {
		printf("skipped: %s\n", refusal);
		return 77;
	}
	if (scene_is_full(argc, argv))
		kill_max = STEPS_NEVER;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
