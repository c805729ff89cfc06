/* SPDX-License-Identifier: MIT */
/*
 * A producer killed at every instruction of what it does with a consumer, on
 * whose side everything has to go on: tests/death/words.h.
 *
 *	./test_kill_producer_at_steps [--full]   a sample, or every boundary
 */
#include "tests/death/sample.h"
#include "tests/death/words.h"

#include "mpsc/producer.h"

#define RING_MESSAGES 9 /* of 400 bytes fill a ring of 4 KiB */

#define KILL_MAX 70 /* of each operation */

/* what the victim does ------------------------------------------------------ */

/* When the consumer sleeps, so that it has to be rung. */
static void await_sleep(const struct peal_producer *producer)
{
	uint64_t end_ns = scene_now_ns() + WATCH_NS;

	while (scene_get(producer->hot.bell.arm) == 0) {
		if (scene_now_ns() > end_ns) {
			fault("the consumer does not sleep");
			return;
		}
		scene_sleep_ns(50 * SCENE_US);
	}
}

static int attach_and_send(void *arg)
{
	struct peal_producer *producer;

	(void)arg;
	if (steps_begin() != 0)
		return 1;
	producer = attach();
	steps_end();
	if (producer == NULL || send_some(producer, 1, 40) != 0)
		return 2;
	return peal_producer_detach(producer);
}

static int publish(void *arg)
{
	struct peal_producer *producer = attach();

	if (producer == NULL)
		return 1;
	await_sleep(producer);
	if (steps_begin() != 0 || send_some(producer, (uintptr_t)arg, 40) != 0)
		return 2;
	steps_end();
	return peal_producer_detach(producer);
}

static int send_a_copy(void *arg)
{
	struct peal_producer *producer = attach();
	uint8_t data[300];

	(void)arg;
	if (producer == NULL)
		return 1;
	await_sleep(producer);
	scene_stamp_write(data, sizeof(data), (uint32_t)board->life, 1);
	scene_put(&board->attempted, 1);
	if (steps_begin() != 0 ||
	    peal_producer_send(producer, data, sizeof(data), 0) != 0)
		return 2;
	steps_end();
	scene_put(&board->published, 1);
	return peal_producer_detach(producer);
}

/* The consumer holds back until we sleep at our own bell for room. */
static int wait_for_room(void *arg)
{
	struct peal_producer *producer = attach();

	(void)arg;
	if (producer == NULL)
		return 1;
	scene_put(&board->hold, 1);
	for (int i = 0; i < RING_MESSAGES; i++)
		if (send_some(producer, 1, 400) != 0)
			return 2;
	if (steps_begin() != 0 || send_some(producer, 1, 400) != 0)
		return 3;
	steps_end();
	return peal_producer_detach(producer);
}

static int send_and_detach(void *arg)
{
	struct peal_producer *producer = attach();

	(void)arg;
	if (producer == NULL || send_some(producer, 2, 40) != 0 ||
	    steps_begin() != 0)
		return 1;
	peal_producer_detach(producer);
	steps_end();
	return 0;
}

/* the parent ---------------------------------------------------------------- */

static void let_go(void)
{
	scene_put(&board->hold, 0);
}

/* One victim, killed at @target unless it is done before. */
static bool run_to(const struct steps_operation *operation, uint64_t target,
                   struct steps *steps)
{
	uint64_t use_count = board->use_count;
	bool was_killed;
	pid_t victim;

	begin_life();
	victim = scene_start(operation->live, operation->arg);
	was_killed = steps_run(victim, victim, target, steps);
	let_go();
	examine_life(scene_wait(victim, WATCH_NS));
	/* Killed early in attach it may never have had one. */
	if (operation->live != attach_and_send && use_count != 0 &&
	    board->use_count == use_count)
		fault("the slot has its old generation");
	return was_killed;
}

static void killed_at_any_instruction(void **state)
{
	static const struct steps_operation operations[] = {
		{.name = "attach", .live = attach_and_send},
		{.name = "publish and ring",
	         .live = publish,
	         .arg = (void *)1,
	         .everywhere = true},
		{.name = "publish three and ring",
	         .live = publish,
	         .arg = (void *)3,
	         .everywhere = true},
		{.name = "send", .live = send_a_copy, .everywhere = true},
		{.name = "wait for room",
	         .live = wait_for_room,
	         .unblock = let_go},
		{.name = "detach", .live = send_and_detach},
	};
	static const struct steps_stage stage = {
		.operations = operations,
		.count = CHECK_COUNT(operations),
		.begin = begin_share,
		.live = run_to,
		.end = let_go,
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
