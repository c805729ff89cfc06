/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that count: eventfd(2) and timerfd(2), opened non-blocking.
 *
 * Callers: any thread. Of several that clear one, one has what was counted.
 *
 * Errors: none; errno stays.
 */
#ifndef PEAL_BASE_EVENT_H
#define PEAL_BASE_EVENT_H

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

/* It is not readable any more, until it counts again. Nothing to do for -1. */
static inline void peal__event_clear(int fd)
{
	int saved_errno = errno;
	uint64_t count;

	if (fd >= 0 && read(fd, &count, sizeof(count)) < 0)
		errno = saved_errno; /* it was clear */
}

#endif
