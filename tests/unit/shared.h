/* SPDX-License-Identifier: MIT */
/* Memory that a test shares with the children that it forks. */
#ifndef PEAL_TESTS_UNIT_SHARED_H
#define PEAL_TESTS_UNIT_SHARED_H

#include "tests/check.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)

/* Zeroed. Asserts: for the thread that runs the test. */
static inline void *shared_open(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static inline void sleep_ns(uint64_t ns)
{
	struct timespec time = {(time_t)(ns / SECOND), (long)(ns % SECOND)};

	while (nanosleep(&time, &time) != 0)
		;
}

/* Flags between threads and processes: set once, waited for. */
static inline void flag_set(uint32_t *flag)
{
	__atomic_store_n(flag, 1, __ATOMIC_RELEASE);
}

static inline bool flag_is_set(const uint32_t *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE) != 0;
}

/* Half a minute is for ever: something has gone wrong by then. */
static inline bool flag_wait(const uint32_t *flag)
{
	uint64_t end_ns = now_ns() + 30 * SECOND;

	while (!flag_is_set(flag)) {
		if (now_ns() > end_ns)
			return false;
		sched_yield();
	}
	return true;
}

#endif
