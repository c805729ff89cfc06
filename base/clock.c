/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <limits.h>
#include <pthread.h>

#include "base/cpu.h"

#define CALIBRATION_NS (50 * PEAL__NS_PER_US)
#define RATE_SHIFT 20

static pthread_once_t rate_once = PTHREAD_ONCE_INIT;
static uint64_t ticks_per_ns_fixed; /* ticks per ns << RATE_SHIFT */

/* Both clocks at one moment. */
struct moment {
	uint64_t ns, ticks;
};

/*
 * Read the clock between two stamps. The closest pair of a few tries: a thread
 * that is preempted between the two would measure its absence.
 */
static struct moment read_both(void)
{
	struct moment best = {0, 0};
	uint64_t best_gap = UINT64_MAX;

	for (int try = 0; try < 5; try++) {
		uint64_t before = peal__cpu_ticks();
		uint64_t ns = peal__clock_ns();
		uint64_t gap = peal__cpu_ticks() - before;

		if (gap < best_gap) {
			best_gap = gap;
			best = (struct moment){ns, before + gap / 2};
		}
	}
	return best;
}

static void measure_rate(void)
{
	struct moment start = read_both();
	struct moment end;

	do
		end = read_both();
	while (end.ns - start.ns < CALIBRATION_NS);
	ticks_per_ns_fixed =
		((end.ticks - start.ticks) << RATE_SHIFT) / (end.ns - start.ns);
}

uint64_t peal__ns_to_ticks(uint64_t ns)
{
	pthread_once(&rate_once, measure_rate);
	if (ns > UINT64_MAX >> 4)
		return UINT64_MAX;
	/* In two halves, so that no product wraps below 16 ticks per ns. */
	return (ns >> RATE_SHIFT) * ticks_per_ns_fixed +
	       ((ns & ((UINT64_C(1) << RATE_SHIFT) - 1)) * ticks_per_ns_fixed >>
	        RATE_SHIFT);
}

int peal__deadline_to_poll_ms(uint64_t deadline_ns)
{
	uint64_t now_ns, left_ns, left_ms;

	if (deadline_ns == PEAL__NEVER)
		return -1;
	now_ns = peal__clock_ns();
	if (deadline_ns <= now_ns)
		return 0;
	left_ns = deadline_ns - now_ns;
	left_ms = left_ns / PEAL__NS_PER_MS + (left_ns % PEAL__NS_PER_MS != 0);
	return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}
