/* SPDX-License-Identifier: MIT */
#include "mpsc/segment.h"

#include "peal/ring.h"

#define PAGE_BYTES_MAX (UINT64_C(2) << 20)

uint64_t peal__segment_ring_bytes(const struct peal__segment_shape *shape)
{
	uint64_t bytes = 0;

	for (int i = 0; i < PEAL__RING_COUNT; i++)
		bytes += shape->rings[i].bytes;
	return bytes;
}

uint64_t peal__segment_bytes(const struct peal__segment_shape *shape)
{
	return shape->page_bytes + peal__segment_ring_bytes(shape);
}

static bool is_power_of_two(uint64_t value)
{
	return value != 0 && (value & (value - 1)) == 0;
}

bool peal__segment_is_sane(const struct peal__segment_shape *shape,
                           bool is_client)
{
	if (shape->page_bytes < PEAL__SEGMENT_HEADER_BYTES ||
	    shape->page_bytes > PAGE_BYTES_MAX ||
	    !is_power_of_two(shape->page_bytes))
		return false;
	for (int i = 0; i < PEAL__RING_COUNT; i++) {
		uint64_t bytes = shape->rings[i].bytes;
		uint64_t start = shape->rings[i].start;

		if (i != PEAL__RING_REQUEST && !is_client) {
			if (bytes != 0 || start != 0)
				return false;
			continue;
		}
		if (bytes < PEAL_RING_MIN_BYTES ||
		    bytes > PEAL_RING_MAX_BYTES || !is_power_of_two(bytes) ||
		    start >= bytes || start % PEAL__LINE != 0)
			return false;
	}
	return true;
}

int peal__segment_map(int fd, const struct peal__segment_shape *shape,
                      uint32_t flags, struct peal_shm_mapping *ret_mapping)
{
	struct peal_shm_span spans[1 + PEAL__RING_COUNT] = {
		{0, shape->page_bytes, 1},
	};
	uint64_t offset = shape->page_bytes;
	uint32_t count = 1;

	for (int i = 0; i < PEAL__RING_COUNT; i++) {
		uint64_t bytes = shape->rings[i].bytes;

		if (bytes == 0)
			continue;
		spans[count++] = (struct peal_shm_span){offset, bytes, 2};
		offset += bytes;
	}
	return peal_shm_map(fd, spans, count, flags, ret_mapping);
}

void *peal__segment_data(struct peal__segment *segment,
                         const struct peal__segment_shape *shape,
                         enum peal__segment_ring ring)
{
	uint8_t *data = (uint8_t *)segment + shape->page_bytes;

	for (int i = 0; i < (int)ring; i++)
		data += 2 * shape->rings[i].bytes;
	return data;
}

uint64_t *peal__segment_released(struct peal__segment *segment,
                                 enum peal__segment_ring ring)
{
	switch (ring) {
	case PEAL__RING_RESPONSE:
		return &segment->response_released;
	case PEAL__RING_LANE:
		return &segment->lane_released;
	default:
		return &segment->request_released;
	}
}
