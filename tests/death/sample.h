/* SPDX-License-Identifier: MIT */
/*
 * Which boundaries of an operation are tried: with --full all of them, else a
 * sample that follows from PEAL_SEED, one of each of so many equal parts of the
 * operation, and as many of those of its system calls.
 *
 *	parent  steps_prepare()   how many boundaries, or all with --full
 *	        steps_try_all()   starts shares, and adds up
 *	share   a stage of its own: a directory, and those who live on. The first
 *	        share learns what boundaries there are; then each takes the next
 *	        one that nobody has tried, as long as there are any
 *	victim  everything up to the operation
 *	        steps_begin() ... steps_end()
 *
 * A life is mostly waiting, so that a few shares at once are that much quicker.
 *
 * Who finds less to be done than the one that was stepped ends before it comes
 * to its boundary: that boundary is tried again, by the next victims. How many
 * were never the end of anybody is told, and asserted to be few.
 */
#ifndef PEAL_TESTS_DEATH_SAMPLE_H
#define PEAL_TESTS_DEATH_SAMPLE_H

#include "tests/death/steps.h"

#define STEPS_SHARES 4
#define STEPS_ROUNDS 8       /* of boundaries that were not reached before */
#define STEPS_DRY_RUNS 3     /* with --full: the shortest counts */
#define STEPS_MISSED_MAX 25  /* percent of all, with --full */
#define STEPS_MISSED_SOME 50 /* percent of a sample */
#define STEPS_LOOK_NS (10 * SCENE_MS)

static uint64_t steps_kill_max; /* of each operation */

struct steps_operation {
	const char *name;
	int (*live)(void *arg); /* the victim */
	void *arg;
	bool everywhere;       /* see struct steps */
	void (*unblock)(void); /* likewise */
	uint32_t modes;        /* PEAL_WAIT_*, 1 << each; 0: in all of them */
};

/*
 * One life of the victim of @operation, killed at @target, and what it left
 * judged: a sentence that what_is_wrong() tells. False when it was not killed.
 */
typedef bool steps_live_fn(const struct steps_operation *operation,
                           uint64_t target, struct steps *steps);

/* What a program brings. None of it asserts: it runs in a share. */
struct steps_stage {
	const struct steps_operation *operations;
	size_t count;
	void (*begin)(uint32_t mode);
	steps_live_fn *live;
	void (*end)(void); /* tells, and finds fault with what it tells */
	const char *(*what_is_wrong)(void); /* "" */
};

/* Of all shares. */
struct steps_board {
	struct steps plan;
	uint64_t arrived_count; /* of shares, where they wait for each other */
	uint64_t has_failed;
	uint64_t tried_count;
	uint64_t next, target_count;
	uint32_t targets[STEPS_MAX];
	uint8_t has_killed[STEPS_MAX];
	char fault[500];
};

static struct steps_board *steps_board;
static const struct steps_stage *steps_stage;
static uint32_t steps_mode;

/* which ones ---------------------------------------------------------------- */

/* One of the @part-th of @parts equal parts of 0 to @count - 1. */
static inline uint64_t steps_pick(uint64_t *chance, uint64_t count,
                                  uint64_t part, uint64_t parts)
{
	uint64_t first = count * part / parts;
	uint64_t last = count * (part + 1) / parts;

	return first + scene_random(chance) % (last - first);
}

/* The @number-th of those of system calls. */
static inline uint64_t steps_find_call(const struct steps *steps,
                                       uint64_t number)
{
	uint64_t i = 0;

	for (uint64_t left = number + 1;; i++) {
		left -= steps->boundaries[i].kind != STEPS_AT_INSTRUCTION;
		if (left == 0)
			return i;
	}
}

static inline void steps_choose(struct steps_board *all, uint64_t most)
{
	const struct steps *steps = &all->plan;
	uint64_t calls = steps->call_count < most ? steps->call_count : most;
	uint64_t chance = scene_seed;

	all->target_count = 0;
	if (steps->count <= most) {
		for (uint32_t i = 1; i <= steps->count; i++)
			all->targets[all->target_count++] = i;
		return;
	}
	for (uint64_t i = 0; i < most; i++)
		all->targets[all->target_count++] =
			1 +
			(uint32_t)steps_pick(&chance, steps->count, i, most);
	for (uint64_t i = 0; i < calls; i++)
		all->targets[all->target_count++] =
			1 +
			(uint32_t)steps_find_call(
				steps, steps_pick(&chance, steps->call_count, i,
		                                  calls));
}

/* Those that were nobody's end yet. */
static inline void steps_choose_again(struct steps_board *all)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < all->target_count; i++)
		if (all->has_killed[all->targets[i] - 1] == 0)
			all->targets[count++] = all->targets[i];
	all->target_count = count;
	scene_put(&all->next, 0);
}

/* a share -------------------------------------------------------------------- */

static inline void __attribute__((format(printf, 1, 2)))
steps_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (scene_add(&steps_board->has_failed, 1) == 0)
		vsnprintf(steps_board->fault, sizeof(steps_board->fault),
		          format, arguments);
	va_end(arguments);
}

/* Wait for the other shares. False when one of them has failed. */
static inline bool steps_meet(void)
{
	uint64_t mine = scene_add(&steps_board->arrived_count, 1);
	uint64_t all = (mine / STEPS_SHARES + 1) * STEPS_SHARES;

	while (scene_get(&steps_board->arrived_count) < all &&
	       scene_get(&steps_board->has_failed) == 0)
		scene_sleep_ns(200 * SCENE_US);
	return scene_get(&steps_board->has_failed) == 0;
}

static inline bool steps_live(const struct steps_operation *operation,
                              uint64_t target, struct steps *steps)
{
	bool was_killed;

	was_killed = steps_stage->live(operation, target, steps);
	if (steps_stage->what_is_wrong()[0] != '\0')
		steps_fail("%s: %s", steps_describe(operation->name, steps),
		           steps_stage->what_is_wrong());
	return was_killed;
}

static inline int steps_compare_counts(const void *a, const void *b)
{
	uint64_t first = ((const uint64_t *)a)[0];
	uint64_t second = ((const uint64_t *)b)[0];

	return (first > second) - (first < second);
}

/*
 * What boundaries are there, and which are tried? Of some lives the
 * shortest: who is stepped is slow, and looks after more than others do.
 */
static inline bool steps_learn(const struct steps_operation *operation,
                               struct steps *steps)
{
	static struct steps runs[STEPS_DRY_RUNS];
	uint64_t order[STEPS_DRY_RUNS][2];

	int run_count = steps_kill_max == STEPS_NEVER ? STEPS_DRY_RUNS : 1;

	for (int i = 0; i < run_count; i++) {
		steps_live(operation, STEPS_NEVER, steps);
		if (steps->kind != STEPS_OVER)
			steps_fail("%s",
			           steps_describe(operation->name, steps));
		if (scene_get(&steps_board->has_failed) != 0)
			return false;
		runs[i] = *steps;
		order[i][0] = steps->count;
		order[i][1] = (uint64_t)i;
	}
	qsort(order, (size_t)run_count, sizeof(order[0]), steps_compare_counts);
	steps_board->plan = runs[order[0][1]];
	memset(steps_board->has_killed, 0, sizeof(steps_board->has_killed));
	steps_choose(steps_board, steps_kill_max);
	scene_put(&steps_board->next, 0);
	scene_put(&steps_board->tried_count, 0);
	return true;
}

static inline int steps_compare_rips(const void *a, const void *b)
{
	uintptr_t first = *(const uintptr_t *)a, second = *(const uintptr_t *)b;

	return (first > second) - (first < second);
}

/* How many instructions are there, loops apart, or only those of the dead? */
static inline uint64_t steps_count_instructions(const struct steps_board *all,
                                                bool of_the_dead)
{
	static uintptr_t rips[STEPS_MAX];
	uint64_t count = 0, different = 0;

	for (uint64_t i = 0; i < all->plan.count; i++)
		if (!of_the_dead || all->has_killed[i] != 0)
			rips[count++] = all->plan.boundaries[i].rip;
	qsort(rips, count, sizeof(rips[0]), steps_compare_rips);
	for (uint64_t i = 0; i < count; i++)
		different += i == 0 || rips[i] != rips[i - 1];
	return different;
}

static inline void steps_tell(const struct steps_operation *operation,
                              uint64_t chosen)
{
	struct steps_board *all = steps_board;
	bool are_all = chosen == all->plan.count;
	uint64_t there = steps_count_instructions(all, false);
	uint64_t missed = all->target_count; /* what is left of them */
	uint64_t spared = there - steps_count_instructions(all, true);

	print_message("steps: %s: %llu boundaries of %llu instructions, %u of "
	              "system calls; %llu tried, %llu of them never reached, "
	              "%llu lives",
	              operation->name, (unsigned long long)all->plan.count,
	              (unsigned long long)there, all->plan.call_count,
	              (unsigned long long)chosen, (unsigned long long)missed,
	              (unsigned long long)all->tried_count);
	if (are_all)
		print_message("; %llu instructions nobody died at",
		              (unsigned long long)spared);
	print_message("\n");
	if (missed * 100 >
	    chosen * (are_all ? STEPS_MISSED_MAX : STEPS_MISSED_SOME))
		steps_fail("%s: %llu of %llu boundaries were nobody's end",
		           operation->name, (unsigned long long)missed,
		           (unsigned long long)chosen);
	if (are_all && spared * 100 > there * STEPS_MISSED_MAX)
		steps_fail("%s: nobody died at %llu of %llu instructions",
		           operation->name, (unsigned long long)spared,
		           (unsigned long long)there);
}

static inline bool steps_do_share(const struct steps_operation *operation,
                                  bool is_first)
{
	static struct steps steps;
	struct steps_board *all = steps_board;
	uint64_t at, target, chosen;

	steps.everywhere = operation->everywhere;
	steps.unblock = operation->unblock;
	if ((is_first && !steps_learn(operation, &steps)) || !steps_meet())
		return false;
	steps.count = all->plan.count;
	memcpy(steps.boundaries, all->plan.boundaries,
	       sizeof(steps.boundaries));
	chosen = all->target_count;
	for (int i = 0; i < STEPS_ROUNDS && all->target_count != 0; i++) {
		while ((at = scene_add(&all->next, 1)) < all->target_count &&
		       scene_get(&all->has_failed) == 0) {
			target = all->targets[at];
			if (steps_live(operation, target, &steps))
				all->has_killed[target - 1] = 1;
			scene_add(&all->tried_count, 1);
		}
		if (!steps_meet())
			return false;
		if (is_first)
			steps_choose_again(all);
		if (!steps_meet())
			return false;
	}
	if (is_first)
		steps_tell(operation, chosen);
	return steps_meet();
}

static inline int steps_be_share(void *arg)
{
	bool is_first = (uintptr_t)arg == 0;
	bool is_fine = true;

	scene_child_count = 0; /* they are the parent's */
	if (scene_enter() != 0)
		return 1;
	steps_stage->begin(steps_mode);
	for (size_t i = 0; is_fine && i < steps_stage->count; i++)
		if (steps_stage->operations[i].modes == 0 ||
		    (steps_stage->operations[i].modes & 1U << steps_mode) != 0)
			is_fine = steps_do_share(&steps_stage->operations[i],
			                         is_first);
	if (is_fine)
		steps_stage->end();
	if (is_fine && steps_stage->what_is_wrong()[0] != '\0')
		steps_fail("at the end: %s", steps_stage->what_is_wrong());
	scene_kill_all();
	scene_leave();
	fflush(NULL);
	return scene_get(&steps_board->has_failed) != 0;
}

/* the parent ------------------------------------------------------------------ */

/* Every operation of this mode. */
static inline void steps_try_all(const struct steps_stage *stage, uint32_t mode)
{
	pid_t shares[STEPS_SHARES];
	int status, left = STEPS_SHARES;

	steps_board = scene_board(sizeof(*steps_board));
	assert_non_null(steps_board);
	steps_stage = stage;
	steps_mode = mode;
	for (uintptr_t i = 0; i < STEPS_SHARES; i++)
		shares[i] = scene_start(steps_be_share, (void *)i);
	/* The others wait for one that has crashed, until it is seen. */
	for (int i = 0; left > 0; i = (i + 1) % STEPS_SHARES) {
		if (shares[i] == 0)
			continue;
		status = scene_wait(shares[i], STEPS_LOOK_NS);
		if (status == SCENE_TIMED_OUT)
			continue;
		if (status != 0)
			steps_fail("a share ended with %d", status);
		shares[i] = 0;
		left--;
	}
	if (scene_get(&steps_board->has_failed) != 0)
		fail_msg("%s", steps_board->fault);
	munmap(steps_board, sizeof(*steps_board));
}

/* In main(): false says why, and the program ends with 77. */
static inline bool steps_prepare(uint64_t kill_max, int argc, char **argv)
{
	steps_kill_max = scene_is_full(argc, argv) ? STEPS_NEVER : kill_max;
	return steps_are_allowed();
}

#endif
