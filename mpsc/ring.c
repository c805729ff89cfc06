/* SPDX-License-Identifier: MIT */
#include "peal/ring.h"

_Static_assert(sizeof(struct peal_frame) == PEAL_RING_HEADER_BYTES,
               "the header of a frame is a file format");
_Static_assert(offsetof(struct peal_frame, commit) == 0, "format");
_Static_assert(offsetof(struct peal_frame, kind) == 4, "format");
_Static_assert(offsetof(struct peal_frame, id) == 8, "format");

void peal_ring_tx_init(struct peal_ring_tx *tx, void *data,
                       uint64_t capacity_bytes, uint64_t start,
                       const uint64_t *released_word)
{
	*tx = (struct peal_ring_tx){
		.data = data,
		.capacity_bytes = capacity_bytes,
		.tail = start,
		.first = start,
		.last = start,
		.released = start,
		.released_word = released_word,
	};
}

void peal_ring_rx_init(struct peal_ring_rx *rx, const void *data,
                       uint64_t capacity_bytes, uint64_t start,
                       uint64_t *released_word)
{
	*rx = (struct peal_ring_rx){
		.data = data,
		.capacity_bytes = capacity_bytes,
		.head = start,
		.released = start,
		.told = start,
		.released_word = released_word,
	};
}

int peal_ring_trim(struct peal_ring_tx *tx, size_t bytes)
{
	uint32_t word;

	if (!tx->newest_is_open ||
	    bytes > tx->last_word - PEAL_RING_HEADER_BYTES)
		return -EINVAL;
	word = (uint32_t)(bytes + PEAL_RING_HEADER_BYTES);
	tx->last_word = word;
	if (tx->claim_count == 1)
		tx->first_word = word;
	tx->tail = tx->last + peal_ring_frame_bytes(bytes);
	return 0;
}

int peal_ring_abort(struct peal_ring_tx *tx)
{
	if (!tx->newest_is_open)
		return -EINVAL;
	tx->tail = tx->last;
	tx->claim_count--;
	tx->newest_is_open = 0;
	return 0;
}
