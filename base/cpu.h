/* SPDX-License-Identifier: MIT */
/*
 * What a spinning loop asks of the processor: a pause, and a time stamp that
 * costs less than a clock call.
 *
 * Callers: any thread.
 *
 * Units: stamps are in ticks of a counter that never stops and runs at one
 *	rate; peal__ns_to_ticks() converts. Two stamps may be compared by their
 *	difference only.
 *
 * Source: Intel SDM vol. 3B 18.17 (invariant TSC); Arm ARM D12 (CNTVCT_EL0).
 */
#ifndef PEAL_BASE_CPU_H
#define PEAL_BASE_CPU_H

#include <stdint.h>

#include "base/clock.h"

static inline void peal__cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

static inline void peal__cpu_pause_for(uint32_t count)
{
	while (count-- > 0)
		peal__cpu_pause();
}

static inline uint64_t peal__cpu_ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t ticks;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#else
	return peal__clock_ns();
#endif
}

/*
 * The number of the processor this thread runs on, by one load where the C
 * library has registered a restartable sequence; a guess that may be stale at
 * once. -1 when it is not known.
 */
int peal__cpu_current(void);

/*
 * Move this thread off processor @cpu, to another one that it may use; what it
 * may use is afterwards as before, and counts as set: it does not grow with a
 * cpuset any more. The kernel chooses. 0, or -EINVAL (it may use
 * no other one), or what sched_setaffinity(2) says. errno stays.
 */
int peal__cpu_leave(int cpu);

/* Processors that run now, whether or not this process may use them: a peer
 * may, and a process pinned to one of them is no reason not to spin. */
int peal__cpu_online_count(void);

/*
 * Processor time the cgroup of this process may use, in thousandths of one
 * processor (1500 is one and a half); UINT32_MAX without a quota.
 */
uint32_t peal__cpu_quota_millis(void);

#endif
