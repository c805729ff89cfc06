/* SPDX-License-Identifier: MIT */
/*
 * Two processes, each on its own processor, doing the two halves of one
 * measurement, and a third that waits for them and does nothing else.
 *
 *	parent --fork--> first   (measures, and says the result)
 *	       --fork--> second
 *
 * Neither inherits anything of peal: handles that were opened before a fork
 * are -ESTALE in the child, and a benchmark is a stranger like any other.
 *
 * Death: a side that fails or dies ends the other; so does the deadline. The
 *	parent's own death ends both.
 */
#ifndef BENCH_PAIR_H
#define BENCH_PAIR_H

#include <errno.h>

#include <peal/base.h>

#include "measure.h"

/* What the two sides share besides what they measure. */
struct bench_shared {
	_Alignas(128) uint32_t arrived_count;
	_Alignas(128) uint64_t stop;     /* written once, at the end */
	_Alignas(128) uint64_t progress; /* what the second side has read */
	_Alignas(128) double value;
	double aside; /* sleeps per message, where that is of interest */
	char error[160];
};

struct bench_side {
	const struct bench_setting *setting;
	const struct bench_work *work;
	struct bench_shared *shared;
	uint32_t meeting_count;
	int is_second;
	int fd; /* memory that both may map, or -1 */
};

typedef int bench_side_fn(struct bench_side *side);

struct bench_result {
	double value;
	double aside;
};

/*
 * Run both halves, or the first one alone where @second is NULL; @fd, or -1,
 * is inherited. 0 and *@ret_result, or -errno after one
 * line on standard error.
 */
int bench_pair(const struct bench_setting *setting,
               const struct bench_work *work, int fd, bench_side_fn *first,
               bench_side_fn *second, struct bench_result *ret_result);

/* Neither side goes on before both are here. */
void bench_meet(struct bench_side *side);

/* Remember why, in words, for the parent to print. */
void bench_say(struct bench_side *side, int error, const char *what);

/* The same, and return @error. */
static inline int bench_fail(struct bench_side *side, int error,
                             const char *what)
{
	bench_say(side, error, what);
	return error;
}

/*
 * Do @step over and over until the time is over, and set the result: the
 * nanoseconds of one. Whole blocks are timed, since a time stamp costs a tenth
 * of the fastest round trip; the median block is not touched by what the
 * scheduler does now and then. With a percentile every step is stamped.
 * Between two blocks @settle is called, untimed; it may be NULL.
 *
 * Always inlined, so that @step is not called through a pointer.
 */
#define BENCH_BLOCK 256
#define BENCH_SAMPLES_MAX (UINT32_C(1) << 20)

uint32_t *bench_samples(struct bench_side *side);
void bench_samples_result(struct bench_side *side, uint32_t *samples,
                          size_t count, uint32_t steps_per_sample);

/* Take what both sides spent in bench_busy() out of the result of a loop. */
static inline void bench_busy_subtract(struct bench_side *side)
{
	side->shared->value -= 2 * BENCH_BUSY_NS;
}

static inline __attribute__((always_inline)) int
bench_block(uint32_t step_count, int (*step)(void *), int (*settle)(void *),
            void *context, uint32_t *ret_ticks)
{
	uint64_t begin = bench_ticks();
	int result;

	for (uint32_t i = 0; i < step_count; i++) {
		result = step(context);
		if (PEAL_UNLIKELY(result < 0))
			return result;
	}
	*ret_ticks = (uint32_t)(bench_ticks() - begin);
	return settle != NULL ? settle(context) : 0;
}

static inline __attribute__((always_inline)) int
bench_loop(struct bench_side *side, int (*step)(void *), int (*settle)(void *),
           void *context)
{
	uint32_t per_sample = side->work->percentile != 0 ? 1 : BENCH_BLOCK;
	uint64_t duration_ns = (uint64_t)(side->setting->seconds * 1e9);
	uint32_t *samples = bench_samples(side);
	uint64_t start_ns = bench_now_ns();
	uint32_t count = 0;
	int result;

	if (samples == NULL)
		return -ENOMEM;
	/* The first quarter is for the caches and for the page tables. */
	while (bench_now_ns() - start_ns < duration_ns / 4) {
		result =
			bench_block(per_sample, step, settle, context, samples);
		if (result < 0)
			return result;
	}
	do {
		result = bench_block(per_sample, step, settle, context,
		                     &samples[count]);
		if (result < 0)
			return result;
	} while (++count < BENCH_SAMPLES_MAX &&
	         bench_now_ns() - start_ns < duration_ns);
	bench_samples_result(side, samples, count, per_sample);
	return 0;
}

/*
 * The rate of messages that a reader sees: that of its median millisecond. A
 * millisecond is long enough to hold everything that peal does, sleeping
 * included, and short enough to leave out what the scheduler does to us.
 *
 * Every message is counted; the clock is looked at once in a few, so that it
 * costs nothing.
 */
#define BENCH_SLICES_MAX 1000

struct bench_meter {
	uint64_t count; /* since the slice began */
	uint64_t total;
	uint64_t begin;
	uint64_t slice_ticks;
	uint32_t mask;
	uint32_t slice_count;
	double rates[BENCH_SLICES_MAX];
};

/* At the first message: what happens before it is attaching. */
void bench_meter_start(struct bench_side *side, struct bench_meter *meter);
void bench_meter_slice(struct bench_meter *meter);

static inline void bench_meter_add(struct bench_meter *meter)
{
	if ((++meter->count & meter->mask) == 0)
		bench_meter_slice(meter);
}

/* Sets the result: messages in a second. */
void bench_meter_result(struct bench_side *side, struct bench_meter *meter);

#endif
