/* SPDX-License-Identifier: MIT */
/*
 * Memory that grows to what was once needed and is used again: the bytes of a
 * request that outlive its ring, and of an answer that cannot go at once.
 *
 * Callers: one thread at a time for each buffer.
 *
 * Progress: no allocation once it is large enough. One that grew beyond
 *	PEAL__BUFFER_KEEP_BYTES is given back when it rests.
 *
 * Units: bytes.
 */
#ifndef PEAL_REACTOR_BUFFER_H
#define PEAL_REACTOR_BUFFER_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define PEAL__BUFFER_KEEP_BYTES ((size_t)64 << 10)

struct peal__buffer {
	uint8_t *data; /* 16-byte aligned */
	size_t capacity_bytes;
};

/* Room for @bytes; what was there is lost. 0 or -ENOMEM. */
static inline int peal__buffer_reserve(struct peal__buffer *buffer,
                                       size_t bytes)
{
	size_t capacity_bytes = 256;
	uint8_t *data;

	if (bytes <= buffer->capacity_bytes && buffer->data != NULL)
		return 0;
	while (capacity_bytes < bytes)
		if (__builtin_mul_overflow(capacity_bytes, 2, &capacity_bytes))
			return -ENOMEM;
	data = peal__malloc(capacity_bytes);
	if (data == NULL)
		return -ENOMEM;
	free(buffer->data);
	buffer->data = data;
	buffer->capacity_bytes = capacity_bytes;
	return 0;
}

/* Let it hold @data, which may lie in it. 0 or -ENOMEM. */
static inline int peal__buffer_put(struct peal__buffer *buffer,
                                   const void *data, size_t bytes)
{
	int error;

	if (bytes == 0)
		return 0;
	if ((uintptr_t)data - (uintptr_t)buffer->data <
	    buffer->capacity_bytes) {
		memmove(buffer->data, data, bytes);
		return 0;
	}
	error = peal__buffer_reserve(buffer, bytes);
	if (error == 0)
		memcpy(buffer->data, data, bytes);
	return error;
}

static inline void peal__buffer_free(struct peal__buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct peal__buffer){0};
}

/* It is not needed for now. */
static inline void peal__buffer_rest(struct peal__buffer *buffer)
{
	if (buffer->capacity_bytes > PEAL__BUFFER_KEEP_BYTES)
		peal__buffer_free(buffer);
}

#endif
