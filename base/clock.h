/* SPDX-License-Identifier: MIT */
/*
 * Time: CLOCK_MONOTONIC for deadlines, and its rate against the processor's
 * own counter for spinning.
 *
 * Callers: any thread. The first peal__ns_to_ticks() of a process measures the
 *	counter for 50 us; call it when something is opened.
 *
 * Units: nanoseconds in a uint64_t, good for 584 years. A deadline is an
 *	absolute time; UINT64_MAX is never.
 */
#ifndef PEAL_BASE_CLOCK_H
#define PEAL_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define PEAL__NEVER UINT64_MAX
#define PEAL__NS_PER_S UINT64_C(1000000000)
#define PEAL__NS_PER_MS UINT64_C(1000000)
#define PEAL__NS_PER_US UINT64_C(1000)

static inline uint64_t peal__clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * PEAL__NS_PER_S + (uint64_t)now.tv_nsec;
}

/* A relative timeout as a deadline; saturates, so that no sum wraps. */
static inline uint64_t peal__deadline_after(uint64_t timeout_ns)
{
	uint64_t now_ns = peal__clock_ns();

	return timeout_ns > PEAL__NEVER - now_ns ? PEAL__NEVER
	                                         : now_ns + timeout_ns;
}

/* What is left until a deadline: 1 at least, for a wait that ends at once. */
static inline uint64_t peal__deadline_left(uint64_t deadline_ns)
{
	uint64_t now_ns;

	if (deadline_ns == PEAL__NEVER)
		return PEAL__NEVER;
	now_ns = peal__clock_ns();
	return deadline_ns > now_ns ? deadline_ns - now_ns : 1;
}

/* A deadline as what poll(2) and epoll_wait(2) take: rounded up, -1 never. */
int peal__deadline_to_poll_ms(uint64_t deadline_ns);

/* How many ticks of peal__cpu_ticks() fit into @ns; saturates. */
uint64_t peal__ns_to_ticks(uint64_t ns);

#endif
