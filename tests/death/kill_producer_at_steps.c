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

static uint64_t kill_max = 70; /* of each operation */

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

static int begin(void)
{
	return steps_begin() == 0 ? 0 : fault("not traced");
}

static int attach_and_send(void *arg)
{
	struct peal_producer *producer;

	(void)arg;
	if (begin() != 0)
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
	if (begin() != 0 || send_some(producer, (uintptr_t)arg, 40) != 0)
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
	if (begin() != 0 ||
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
	if (begin() != 0 || send_some(producer, 1, 400) != 0)
		return 3;
	steps_end();
	return peal_producer_detach(producer);
}

static int send_and_detach(void *arg)
{
	struct peal_producer *producer = attach();

	(void)arg;
	if (producer == NULL || send_some(producer, 2, 40) != 0 || begin() != 0)
		return 1;
	peal_producer_detach(producer);
	steps_end();
	return 0;
}

/* the parent ---------------------------------------------------------------- */

struct operation {
	const char *name;
	int (*live)(void *arg);
	uintptr_t arg;
	bool everywhere;
	void (*unblock)(void);
};

static void let_go(void)
{
	scene_put(&board->hold, 0);
}

/* One victim, killed at @target unless it is done before. */
static bool run_to(const void *of, uint64_t target, struct steps *steps)
{
	const struct operation *operation = of;
	uint64_t use_count = board->use_count;
	char what[200];
	bool was_killed;
	pid_t victim;

	begin_life();
	victim = scene_start(operation->live, (void *)operation->arg);
	was_killed = steps_run(victim, victim, target, steps);
	let_go();
	snprintf(what, sizeof(what), "%s, killed %s", operation->name,
	         steps_describe(steps));
	judge_life(scene_wait(victim, WATCH_NS), what);
	/* Killed early in attach it may never have had one. */
	if (operation->live != attach_and_send && use_count != 0 &&
	    board->use_count == use_count)
		fail_msg("%s: the slot has its old generation", what);
	return was_killed;
}

static void kill_in_mode(uint32_t mode)
{
	static const struct operation operations[] = {
		{"attach", attach_and_send, 0, false, NULL},
		{"publish and ring", publish, 1, true, NULL},
		{"publish three and ring", publish, 3, true, NULL},
		{"send", send_a_copy, 0, true, NULL},
		{"wait for room", wait_for_room, 0, false, let_go},
		{"detach", send_and_detach, 0, false, NULL},
	};
	static struct steps steps;

	start_stage(mode);
	for (size_t i = 0; i < CHECK_COUNT(operations); i++) {
		steps.everywhere = operations[i].everywhere;
		steps.unblock = operations[i].unblock;
		steps_try_some(operations[i].name, &operations[i], run_to,
		               &steps, kill_max, 50);
	}
	end_stage();
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
	return board != NULL ? scene_group_setup(state) : -1;
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
