/* SPDX-License-Identifier: MIT */
/*
 * What a frame between a client and a reactor means: its kind.
 *
 *	kind   bits 0..7   what it is (enum peal__frame)
 *	       bit  8      8 bytes stand before the payload: an extension
 *
 *	request ring   client -> server   REQUEST, ONE_WAY
 *	               extension: the deadline, u64, of CLOCK_MONOTONIC, which
 *	               is one for both but across time namespaces
 *	response ring  server -> client   ANSWER, FAILED, PUSH, CALL
 *	               extension: of ANSWER the status, i64; of CALL the
 *	               deadline. FAILED has always one: the -errno, i64, and no
 *	               payload
 *	lane           client -> server   ANSWER, FAILED, of the server's calls
 *
 * The lane is a small ring of its own: what answers the server's calls must not
 * wait behind requests that the server may not take yet.
 *
 *	id     of a request, anew for each; never 0. ANSWER and FAILED have the
 *	       id of what they answer; PUSH and ONE_WAY have 0. Both sides
 *	       number their own from a random value.
 *
 * A cancel is no frame, since nobody would read it in time: the client stores
 * the id in its segment, at cancelled[id % PEAL__CANCEL_COUNT].
 *
 * Callers: reactor only.
 *
 * Errors: any other kind, an id of 0 where there must be one, and an extension
 *	that does not fit are -EPROTO: the connection ends.
 */
#ifndef PEAL_REACTOR_FRAME_H
#define PEAL_REACTOR_FRAME_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/read.h"
#include "peal/ring.h"

enum peal__frame {
	PEAL__FRAME_REQUEST = 1,
	PEAL__FRAME_ONE_WAY,
	PEAL__FRAME_ANSWER,
	PEAL__FRAME_FAILED,
	PEAL__FRAME_PUSH,
	PEAL__FRAME_CALL,
};

#define PEAL__FRAME_TYPE_MASK UINT32_C(0xff)
#define PEAL__FRAME_EXTENDED (UINT32_C(1) << 8)
#define PEAL__FRAME_EXTENSION_BYTES 8

/* What was peeked, taken apart: @message then has the user's payload alone. */
struct peal__frame_parts {
	enum peal__frame type;
	bool is_extended;
	uint64_t extension; /* 0 without one */
};

/* 0, or -EPROTO: the kind is unknown, or shorter than its extension. */
static inline int peal__frame_take(struct peal_message *message,
                                   struct peal__frame_parts *ret_parts)
{
	uint32_t type = message->kind & PEAL__FRAME_TYPE_MASK;

	if (PEAL_UNLIKELY((message->kind & ~(PEAL__FRAME_TYPE_MASK |
	                                     PEAL__FRAME_EXTENDED)) != 0 ||
	                  type < PEAL__FRAME_REQUEST ||
	                  type > PEAL__FRAME_CALL))
		return -EPROTO;
	*ret_parts = (struct peal__frame_parts){.type = (enum peal__frame)type};
	if ((message->kind & PEAL__FRAME_EXTENDED) == 0)
		return 0;
	if (message->data_bytes < PEAL__FRAME_EXTENSION_BYTES)
		return -EPROTO;
	ret_parts->is_extended = true;
	ret_parts->extension = peal__read_once((const uint64_t *)message->data);
	message->data =
		(const uint8_t *)message->data + PEAL__FRAME_EXTENSION_BYTES;
	message->data_bytes -= PEAL__FRAME_EXTENSION_BYTES;
	return 0;
}

/*
 * Claim a frame of @type with @extension (or NULL) and room for @bytes; the
 * user's payload goes to *@ret_data, 8-byte aligned. As peal_ring_claim().
 */
static inline int peal__frame_claim(struct peal_ring_tx *tx,
                                    enum peal__frame type, uint64_t id,
                                    const uint64_t *extension, size_t bytes,
                                    void **ret_data)
{
	uint32_t kind = type;
	void *data;
	int error;

	if (extension == NULL)
		return peal_ring_claim(tx, bytes, kind, id, ret_data);
	if (PEAL_UNLIKELY(bytes > SIZE_MAX - PEAL__FRAME_EXTENSION_BYTES))
		return -EMSGSIZE;
	error = peal_ring_claim(tx, bytes + PEAL__FRAME_EXTENSION_BYTES,
	                        kind | PEAL__FRAME_EXTENDED, id, &data);
	if (error < 0)
		return error;
	memcpy(data, extension, PEAL__FRAME_EXTENSION_BYTES);
	*ret_data = (uint8_t *)data + PEAL__FRAME_EXTENSION_BYTES;
	return 0;
}

#define PEAL__ERRNO_MAX 4095 /* of the kernel's */

/* Is it what FAILED may carry, a -errno? */
static inline bool peal__is_errno(int64_t value)
{
	return value < 0 && value >= -PEAL__ERRNO_MAX;
}

#endif
