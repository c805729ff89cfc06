/* SPDX-License-Identifier: MIT */
/*
 * The only caller of futex(2).
 *
 * Callers: any thread; waking is async-signal-safe.
 *
 * Ordering: none is relied on; the words are accessed by their owners.
 *
 * Errors: errno is left alone. A signal or a wake out of nowhere ends no wait.
 *
 * Source: futex(2); the words are shared between processes, so never
 *	FUTEX_PRIVATE_FLAG.
 */
#ifndef PEAL_DOORBELL_FUTEX_H
#define PEAL_DOORBELL_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

/* 32-bit programs have a second system call, for 64-bit times. */
#if defined(SYS_futex_time64) && defined(SYS_futex)
#define PEAL__SYS_FUTEX \
	(sizeof(time_t) > sizeof(long) ? SYS_futex_time64 : SYS_futex)
#elif defined(SYS_futex)
#define PEAL__SYS_FUTEX SYS_futex
#else
#define PEAL__SYS_FUTEX SYS_futex_time64
#endif

static inline void peal__futex_wake(uint32_t *word, int waiter_max)
{
	int saved_errno = errno;

	syscall(PEAL__SYS_FUTEX, word, FUTEX_WAKE, waiter_max, NULL, NULL, 0);
	errno = saved_errno;
}

/*
 * Sleep while *@word is @expected, until CLOCK_MONOTONIC is @deadline_ns.
 * 0 when it changed or somebody woke us, -ETIMEDOUT.
 */
static inline int peal__futex_wait(const uint32_t *word, uint32_t expected,
                                   uint64_t deadline_ns)
{
	int saved_errno = errno, result = 0;
	struct timespec deadline, *limit = NULL;

	if (deadline_ns != PEAL__NEVER) {
		deadline.tv_sec = (time_t)(deadline_ns / PEAL__NS_PER_S);
		deadline.tv_nsec = (long)(deadline_ns % PEAL__NS_PER_S);
		limit = &deadline;
	}
	/* The BITSET form is the one with an absolute deadline, so a signal
	 * does not make the wait longer. */
	while (syscall(PEAL__SYS_FUTEX, word, FUTEX_WAIT_BITSET, expected,
	               limit, NULL, FUTEX_BITSET_MATCH_ANY) != 0) {
		if (errno == EINTR)
			continue;
		if (errno == ETIMEDOUT)
			result = -ETIMEDOUT;
		break;
	}
	errno = saved_errno;
	return result;
}

#endif
