/* SPDX-License-Identifier: MIT */
/*
 * Two bare peal rings in memory that peal_shm mapped: what the format costs by
 * itself, without slots, bells, or anybody who could sleep.
 *
 *	+---------------------+------+------+-------+-------+
 *	| released words      | there| there| back  | back  |
 *	+---------------------+------+------+-------+-------+
 *	  a line for each ring  mapped twice  mapped twice
 */
#include <stdlib.h>
#include <unistd.h>

#include <peal/ring.h>
#include <peal/shm.h>

#include "link.h"

#define LAST_BYTES 1

struct rings {
	struct peal_ring_tx tx;
	struct peal_ring_rx rx;
	enum bench_poll poll;
	size_t payload_bytes;
	uint8_t *source;
	uint8_t *target;
};

static int rings_map(struct bench_side *side, struct rings *rings)
{
	uint64_t bytes = side->work->ring_bytes;
	uint64_t page_bytes = peal_shm_page_bytes(0);
	const struct peal_shm_span spans[] = {
		{.offset_bytes = 0, .bytes = page_bytes, .copies = 1},
		{.offset_bytes = page_bytes, .bytes = bytes, .copies = 2},
		{.offset_bytes = page_bytes + bytes,
	         .bytes = bytes,
	         .copies = 2},
	};
	struct peal_shm_mapping mapping;
	uint64_t *released[2];
	uint8_t *address, *data[2];
	int second = side->is_second;
	int result = peal_shm_map(side->fd, spans, 3,
	                          PEAL_SHM_MAP_WRITE | PEAL_SHM_MAP_PREFAULT,
	                          &mapping);

	if (result < 0)
		return bench_fail(side, result, "cannot map the rings");
	address = mapping.address;
	released[0] = (void *)(address + 128);
	released[1] = (void *)(address + 512);
	data[0] = address + page_bytes;
	data[1] = address + page_bytes + 2 * bytes;
	peal_ring_tx_init(&rings->tx, data[second], bytes, 0, released[second]);
	peal_ring_rx_init(&rings->rx, data[!second], bytes, 0,
	                  released[!second]);
	return 0;
}

static int rings_open(struct bench_side *side, struct rings *rings)
{
	size_t bytes = (side->work->payload_bytes + 4095) & ~(size_t)4095;
	int result = rings_map(side, rings);

	if (result < 0)
		return result;
	rings->poll = side->work->poll;
	rings->payload_bytes = side->work->payload_bytes;
	rings->source = aligned_alloc(4096, bytes);
	rings->target = aligned_alloc(4096, bytes);
	if (rings->source == NULL || rings->target == NULL)
		return bench_fail(side, -ENOMEM, "rings");
	memset(rings->source, 1, bytes);
	memset(rings->target, 1, bytes);
	bench_meet(side);
	return 0;
}

static inline int rings_send(struct rings *rings, size_t bytes)
{
	void *data;
	int result;

	while ((result = peal_ring_claim(&rings->tx, bytes, 1, 0, &data)) ==
	       -EAGAIN)
		bench_poll(rings->poll);
	if (result < 0)
		return result;
	bench_touch(rings->source);
	bench_copy(data, rings->source, bytes);
	peal_ring_publish(&rings->tx);
	return 0;
}

/* Copy a message out. 1 for the last one. */
static inline int rings_take(struct rings *rings,
                             const struct peal_message *message)
{
	if (message->data_bytes != rings->payload_bytes)
		return 1;
	bench_copy(rings->target, message->data, rings->payload_bytes);
	bench_touch(rings->target);
	peal_ring_release(&rings->rx, message);
	/* The writer need not be told of every single message. */
	if (rings->rx.released - rings->rx.told >= rings->rx.capacity_bytes / 8)
		peal_ring_tell(&rings->rx);
	return 0;
}

static inline int rings_receive(struct rings *rings)
{
	struct peal_message message;
	int result;

	while ((result = peal_ring_peek(&rings->rx, &message)) == -EAGAIN)
		bench_poll(rings->poll);
	return result < 0 ? result : rings_take(rings, &message);
}

static int rings_round(void *context)
{
	struct rings *rings = context;
	int result = rings_send(rings, rings->payload_bytes);

	return result < 0 ? result : rings_receive(rings);
}

static int talk_first(struct bench_side *side)
{
	struct rings rings;
	int result = rings_open(side, &rings);

	if (result < 0)
		return result;
	result = bench_loop(side, rings_round, NULL, &rings);
	if (result == 0)
		result = rings_send(&rings, LAST_BYTES);
	return result < 0 ? bench_fail(side, result, "rings") : 0;
}

static int talk_second(struct bench_side *side)
{
	struct rings rings;
	int result = rings_open(side, &rings);

	if (result < 0)
		return result;
	while ((result = rings_receive(&rings)) == 0) {
		result = rings_send(&rings, rings.payload_bytes);
		if (result < 0)
			break;
	}
	return result < 0 ? bench_fail(side, result, "rings") : 0;
}

static int stream_first(struct bench_side *side)
{
	uint64_t end_ns;
	struct rings rings;
	int result = rings_open(side, &rings);

	if (result < 0)
		return result;
	end_ns = bench_now_ns() + (uint64_t)(side->setting->seconds * 1e9);
	do {
		for (uint32_t i = 0; i < 256 && result == 0; i++)
			result = rings_send(&rings, rings.payload_bytes);
	} while (result == 0 && bench_now_ns() < end_ns);
	if (result == 0)
		result = rings_send(&rings, LAST_BYTES);
	return result < 0 ? bench_fail(side, result, "rings") : 0;
}

/* As peal's consumer: not to look again at once when several were there. */
static inline void let_it_fill(uint64_t drained_count)
{
	if (drained_count < 2)
		return;
	for (uint64_t i = 0; i < (drained_count < 64 ? drained_count : 64); i++)
		bench_pause();
}

static int stream_second(struct bench_side *side)
{
	struct peal_message message;
	struct bench_meter meter;
	struct rings rings;
	uint64_t drained = 0;
	int result = rings_open(side, &rings);

	if (result < 0)
		return result;
	while (!peal_ring_has_data(&rings.rx))
		bench_poll(rings.poll);
	bench_meter_start(side, &meter);
	for (;;) {
		result = peal_ring_peek(&rings.rx, &message);
		if (result == -EAGAIN) {
			peal_ring_tell(&rings.rx);
			let_it_fill(drained);
			drained = 0;
			bench_poll(rings.poll);
			continue;
		}
		if (result == 0)
			result = rings_take(&rings, &message);
		if (result != 0)
			break;
		bench_meter_add(&meter);
		drained++;
	}
	bench_meter_result(side, &meter);
	return result < 0 ? bench_fail(side, result, "rings") : 0;
}

static int over_rings(const struct bench_setting *setting,
                      const struct bench_work *work, bench_side_fn *first,
                      bench_side_fn *second, struct bench_result *ret_result)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	int fd, result;

	options.name = "bench";
	options.bytes = peal_shm_page_bytes(0) + 2 * work->ring_bytes;
	result = peal_shm_create(&options, &fd, NULL);
	if (result < 0)
		return result;
	result = bench_pair(setting, work, fd, first, second, ret_result);
	close(fd);
	return result;
}

int bench_rings_talk(const struct bench_setting *setting,
                     const struct bench_work *work,
                     struct bench_result *ret_result)
{
	return over_rings(setting, work, talk_first, talk_second, ret_result);
}

int bench_rings_stream(const struct bench_setting *setting,
                       const struct bench_work *work,
                       struct bench_result *ret_result)
{
	return over_rings(setting, work, stream_first, stream_second,
	                  ret_result);
}
