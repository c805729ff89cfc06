/* SPDX-License-Identifier: MIT */
/*
 * Memory in calls that may come to an error without touching errno, which
 * malloc(3) sets when there is none.
 *
 * Callers: any thread; free(3) gives it back.
 *
 * Errors: NULL; errno is left alone.
 */
#ifndef PEAL_BASE_MEMORY_H
#define PEAL_BASE_MEMORY_H

#include <errno.h>
#include <stdlib.h>

static inline void *peal__malloc(size_t bytes)
{
	int saved_errno = errno;
	void *memory = malloc(bytes);

	errno = saved_errno;
	return memory;
}

static inline void *peal__calloc(size_t count, size_t bytes)
{
	int saved_errno = errno;
	void *memory = calloc(count, bytes);

	errno = saved_errno;
	return memory;
}

#endif
