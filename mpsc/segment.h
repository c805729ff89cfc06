/* SPDX-License-Identifier: MIT */
/*
 * The rings of a segment: where they lie, and how they are mapped.
 *
 *	offset  0      page_bytes
 *	        [header][request ring][response ring][lane]      in the file
 *
 *	        [header][request][again][response][again][lane][again]  mapped
 *
 * A producer has the request ring alone; the other two have 0 bytes.
 *
 * Callers: any thread; both ends of a connection.
 *
 * Errors: a shape that a server tells is checked before anything is mapped.
 */
#ifndef PEAL_MPSC_SEGMENT_H
#define PEAL_MPSC_SEGMENT_H

#include <stdbool.h>

#include "mpsc/layout.h"
#include "peal/shm.h"

enum peal__segment_ring {
	PEAL__RING_REQUEST,
	PEAL__RING_RESPONSE,
	PEAL__RING_LANE,
	PEAL__RING_COUNT,
};

struct peal__segment_shape {
	uint64_t page_bytes; /* of the header */
	struct {
		uint64_t bytes; /* a power of two, or 0 */
		uint64_t start; /* first position, a multiple of 64 */
	} rings[PEAL__RING_COUNT];
};

/* Of the whole file. */
uint64_t peal__segment_bytes(const struct peal__segment_shape *shape);

/* Of its rings alone, which is what caps count. */
uint64_t peal__segment_ring_bytes(const struct peal__segment_shape *shape);

/* Can a server mean this? @is_client: there are three rings, else one. */
bool peal__segment_is_sane(const struct peal__segment_shape *shape,
                           bool is_client);

/* Map the file @fd; 0 or -errno. */
int peal__segment_map(int fd, const struct peal__segment_shape *shape,
                      uint32_t flags, struct peal_shm_mapping *ret_mapping);

/* Where the data of a ring begins, and the word its reader releases by. */
void *peal__segment_data(struct peal__segment *segment,
                         const struct peal__segment_shape *shape,
                         enum peal__segment_ring ring);
uint64_t *peal__segment_released(struct peal__segment *segment,
                                 enum peal__segment_ring ring);

#endif
