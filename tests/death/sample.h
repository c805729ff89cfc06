/* SPDX-License-Identifier: MIT */
/*
 * Which boundaries of an operation are tried: all of them, or a sample that
 * follows from PEAL_SEED, one of each of so many equal parts of the operation,
 * and as many of those of its system calls.
 *
 *	victim   everything up to the operation
 *	         steps_begin() ... steps_end()
 *	parent   steps_prepare()        how many boundaries, or all with --full
 *	         steps_try_all()        a victim for each
 */
#ifndef PEAL_TESTS_DEATH_SAMPLE_H
#define PEAL_TESTS_DEATH_SAMPLE_H

#include "tests/death/steps.h"

#define STEPS_ROUNDS 8 /* of samples, at most */

static uint64_t steps_kill_max; /* of each operation */

struct steps_sample {
	uint64_t parts, part;           /* one boundary of each, the next */
	uint64_t call_parts, call_part; /* then of those of system calls */
	uint64_t chance;
};

static inline struct steps_sample steps_choose(const struct steps *steps,
                                               uint64_t most)
{
	bool are_all = steps->count <= most;

	return (struct steps_sample){
		.parts = are_all ? steps->count : most,
		.call_parts = are_all                    ? 0
	                      : steps->call_count < most ? steps->call_count
	                                                 : most,
		.chance = scene_seed,
	};
}

/* One of the @part-th of @parts equal parts of 0 to @count - 1. */
static inline uint64_t steps_pick(struct steps_sample *sample, uint64_t count,
                                  uint64_t part, uint64_t parts)
{
	uint64_t first = count * part / parts;
	uint64_t last = count * (part + 1) / parts;

	return first + scene_random(&sample->chance) % (last - first);
}

/* The next boundary, or 0. */
static inline uint64_t steps_next(const struct steps *steps,
                                  struct steps_sample *sample)
{
	uint64_t left;

	if (sample->part < sample->parts)
		return 1 + steps_pick(sample, steps->count, sample->part++,
		                      sample->parts);
	if (sample->call_part == sample->call_parts)
		return 0;
	left = 1 + steps_pick(sample, steps->call_count, sample->call_part++,
	                      sample->call_parts);
	for (uint64_t i = 0; i < steps->count; i++) {
		left -= steps->boundaries[i].kind != STEPS_AT_INSTRUCTION;
		if (left == 0)
			return i + 1;
	}
	return 0;
}

struct steps_operation {
	const char *name;
	int (*live)(void *arg); /* the victim */
	void *arg;
	bool everywhere;       /* see struct steps */
	void (*unblock)(void); /* likewise */
};

/*
 * One life of the victim of @operation, killed at @target, and what it left
 * judged. False when it was not killed.
 */
typedef bool steps_live_fn(const struct steps_operation *operation,
                           uint64_t target, struct steps *steps);

/*
 * Learn what boundaries there are, and try some of them, beside those of system
 * calls, and again, as long as fewer than @least percent of these have come to a
 * kill: a victim that finds less to be done than the first one ends before.
 * Asserts that the kills are as many in the end.
 */
static inline void steps_try_some(const struct steps_operation *operation,
                                  steps_live_fn *live, struct steps *steps,
                                  uint64_t least)
{
	uint64_t target, tried = 0, kill_count = 0, wanted = 0;
	struct steps_sample sample;

	live(operation, STEPS_NEVER, steps);
	assert_int_equal(steps->kind, STEPS_OVER);
	sample = steps_choose(steps, steps_kill_max);
	for (int round = 0; round < STEPS_ROUNDS; round++) {
		while ((target = steps_next(steps, &sample)) != 0) {
			tried++;
			kill_count += live(operation, target, steps);
		}
		if (round == 0)
			wanted = (tried * least + 99) / 100;
		if (kill_count >= wanted)
			break;
		sample.part = sample.call_part = 0;
	}
	print_message("steps: %s: %llu boundaries, %llu of system calls; %llu "
	              "tried, %llu kills\n",
	              operation->name, (unsigned long long)steps->count,
	              (unsigned long long)steps->call_count,
	              (unsigned long long)tried,
	              (unsigned long long)kill_count);
	assert_true(kill_count >= wanted);
}

static inline void steps_try_all(const struct steps_operation *operations,
                                 size_t count, steps_live_fn *live,
                                 uint64_t least)
{
	static struct steps steps;

	for (size_t i = 0; i < count; i++) {
		steps.everywhere = operations[i].everywhere;
		steps.unblock = operations[i].unblock;
		steps_try_some(&operations[i], live, &steps, least);
	}
}

/* In main(): false says why, and the program ends with 77. */
static inline bool steps_prepare(uint64_t kill_max, int argc, char **argv)
{
	steps_kill_max = scene_is_full(argc, argv) ? STEPS_NEVER : kill_max;
	return steps_are_allowed();
}

#endif
