/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the ring share: a ring in memory of its own, mapped as in
 * a segment, with both of its ends.
 *
 *	[ header page: the released word ][ ring ][ the same ring again ]
 */
#ifndef PEAL_TESTS_UNIT_RING_FIXTURE_H
#define PEAL_TESTS_UNIT_RING_FIXTURE_H

#include "tests/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "peal/ring.h"
#include "peal/shm.h"

#define SMALL_RING PEAL_RING_MIN_BYTES

/* A start whose positions wrap during the first few frames. */
#define NEAR_THE_END (UINT64_MAX - 127)

struct ring {
	struct peal_shm_mapping mapping;
	uint8_t *data;
	uint64_t capacity_bytes;
	uint64_t *released_word;
	struct peal_ring_tx tx;
	struct peal_ring_rx rx;
};

/* Both ends begin at @start, as if so many bytes had gone through before. */
static inline void ring_restart(struct ring *ring, uint64_t start)
{
	memset(ring->data, 0, ring->capacity_bytes);
	*ring->released_word = start;
	peal_ring_tx_init(&ring->tx, ring->data, ring->capacity_bytes, start,
	                  ring->released_word);
	peal_ring_rx_init(&ring->rx, ring->data, ring->capacity_bytes, start,
	                  ring->released_word);
}

/* Asserts: for the thread that runs the test. Forked children share it. */
static inline void ring_open(struct ring *ring, uint64_t capacity_bytes,
                             uint64_t start)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	uint64_t page_bytes = peal_shm_page_bytes(0);
	struct peal_shm_span spans[] = {
		{0, page_bytes, 1},
		{page_bytes, capacity_bytes, 2},
	};
	int fd = -1;

	options.bytes = page_bytes + capacity_bytes;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), 0);
	assert_int_equal(peal_shm_map(fd, spans, 2, PEAL_SHM_MAP_WRITE,
	                              &ring->mapping),
	                 0);
	close(fd);
	ring->capacity_bytes = capacity_bytes;
	ring->released_word = ring->mapping.address;
	ring->data = (uint8_t *)ring->mapping.address + page_bytes;
	ring_restart(ring, start);
}

static inline void ring_close(struct ring *ring)
{
	peal_shm_unmap(&ring->mapping);
}

/* The byte at @offset of the message of this @id: no two look alike. */
static inline uint8_t ring_byte(uint64_t id, size_t offset)
{
	return (uint8_t)(id * 31 + offset * 7 + (offset >> 8));
}

static inline void ring_fill(void *data, size_t bytes, uint64_t id)
{
	for (size_t i = 0; i < bytes; i++)
		((uint8_t *)data)[i] = ring_byte(id, i);
}

static inline bool ring_is_filled(const void *data, size_t bytes, uint64_t id)
{
	for (size_t i = 0; i < bytes; i++)
		if (((const uint8_t *)data)[i] != ring_byte(id, i))
			return false;
	return true;
}

/* Claim and fill; 0 or the error of the claim. */
static inline int ring_claim(struct ring *ring, size_t bytes, uint64_t id)
{
	void *data = NULL;
	int error = peal_ring_claim(&ring->tx, bytes, (uint32_t)id, id, &data);

	if (error == 0)
		ring_fill(data, bytes, id);
	return error;
}

/* The same, and publish it. */
static inline int ring_send(struct ring *ring, size_t bytes, uint64_t id)
{
	int error = ring_claim(ring, bytes, id);

	if (error == 0)
		peal_ring_publish(&ring->tx);
	return error;
}

/* Is the next message this one? It stays unreleased. */
static inline bool ring_peeks(struct ring *ring, size_t bytes, uint64_t id,
                              struct peal_message *ret_message)
{
	*ret_message = (struct peal_message){0};
	return peal_ring_peek(&ring->rx, ret_message) == 0 &&
	       ret_message->id == id && ret_message->kind == (uint32_t)id &&
	       ret_message->data_bytes == bytes &&
	       ring_is_filled(ret_message->data, bytes, id);
}

static inline bool ring_is_empty(const struct ring *ring)
{
	return !peal_ring_has_data(&ring->rx);
}

/* Release what ends there, if something does. */
static inline void ring_forget(struct ring *ring, uint64_t end)
{
	struct peal_message message = {.peal__end = end};

	peal_ring_release(&ring->rx, &message);
}

/* Likewise, and let the writer have it back. */
static inline void ring_release(struct ring *ring, uint64_t end)
{
	ring_forget(ring, end);
	peal_ring_tell(&ring->rx);
}

/* The next one is this one; and give it back. */
static inline bool ring_receives(struct ring *ring, size_t bytes, uint64_t id)
{
	struct peal_message message;

	if (!ring_peeks(ring, bytes, id, &message))
		return false;
	ring_release(ring, message.peal__end);
	return true;
}

#endif
