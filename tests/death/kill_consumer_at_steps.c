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

#define KILL_MAX 15 /* of each operation */

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

static int open_the_name(void *arg)
{
	struct peal_consumer *consumer;

	(void)arg;
	if (steps_begin() != 0)
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
	if (steps_begin() != 0 || take_up_to(consumer, PEEKS_MAX) != 0)
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
	if (steps_begin() != 0 ||
	    peal_consumer_wait(consumer, PEAL_FOREVER) != 0)
		return 3;
	steps_end();
	return peal_consumer_close(consumer);
}

static int close_the_name(void *arg)
{
	struct peal_consumer *consumer = open_and_hear();

	(void)arg;
	if (consumer == NULL || steps_begin() != 0)
		return 1;
	peal_consumer_close(consumer);
	steps_end();
	return 0;
}

/* the parent ---------------------------------------------------------------- */

static void ring_it(void)
{
	scene_put(&board->hush, HUSH_ALL_BUT_SLOW);
}

static bool run_to(const struct steps_operation *operation, uint64_t target,
                   struct steps *steps)
{
	bool was_killed;
	pid_t victim;

	scene_put(&board->told.kill_ns, 0);
	steps->kill_ns = &board->told.kill_ns;
	victim = scene_start(operation->live, operation->arg);
	was_killed = steps_run(victim, victim, target, steps);
	scene_put(&board->hush, HUSH_NOBODY);
	examine_life(scene_wait(victim, WATCH_NS));
	return was_killed;
}

static void killed_at_any_instruction(void **state)
{
	static const struct steps_operation operations[] = {
		{.name = "open", .live = open_the_name},
		{.name = "peek, release, tell, settle",
	         .live = take_from_a_full_ring},
		{.name = "arm, sleep, disarm",
	         .live = sleep_until_rung,
	         .unblock = ring_it},
		{.name = "close", .live = close_the_name},
	};
	static const struct steps_stage stage = {
		.operations = operations,
		.count = CHECK_COUNT(operations),
		.begin = begin_share,
		.live = run_to,
		.end = end_share,
		.what_is_wrong = found_fault,
	};

	steps_try_all(&stage, scene_mode(state));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TESTS_OF_MODES(killed_at_any_instruction),
	};

	if (!steps_prepare(KILL_MAX, argc, argv))
		return 77;
	return cmocka_run_group_tests(tests, open_board,
	                              scene_group_teardown) != 0;
}
