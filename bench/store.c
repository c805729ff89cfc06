/* SPDX-License-Identifier: MIT */
/*
 * What it costs the writer to put one message down. A message is 16 bytes of
 * header and the payload, in a ring as large as peal's; the word that announces
 * it is stored last, plainly or by an exchange, which is what a seq_cst store
 * is. Alone, everything stays in the writer's own cache; streaming, a reader on
 * the other processor takes each line away as soon as it is written.
 */
#include "limits.h"

struct put {
	struct bench_region region;
	uint64_t position;
	size_t payload_bytes;
	struct bench_shared *shared;
	uint8_t source[256];
};

static inline uint32_t *put_message(struct put *put)
{
	uint8_t *frame =
		put->region.data + (put->position & (put->region.bytes - 1));
	uint64_t frame_bytes = (put->payload_bytes + 31) & ~UINT64_C(15);
	uint32_t kind = 0;
	uint64_t id = 0;

	bench_touch(put->source);
	put->position += frame_bytes;
	memcpy(frame + 4, &kind, sizeof(kind));
	memcpy(frame + 8, &id, sizeof(id));
	bench_copy(frame + 16, put->source, put->payload_bytes);
	/* As peal: the place where the next frame will begin says "nothing". */
	__atomic_store_n(
		(uint32_t *)(void *)(put->region.data +
	                             (put->position & (put->region.bytes - 1))),
		0, __ATOMIC_RELAXED);
	return (uint32_t *)(void *)frame;
}

static int put_plainly(void *context)
{
	__atomic_store_n(put_message(context), 1, __ATOMIC_RELEASE);
	return 0;
}

static int put_by_exchange(void *context)
{
	__atomic_exchange_n(put_message(context), 1, __ATOMIC_SEQ_CST);
	return 0;
}

static int exchange(void *context)
{
	__atomic_exchange_n((uint32_t *)context, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static int put_start(struct bench_side *side, struct put *put)
{
	uint64_t bytes = side->work->ring_bytes;
	int result;

	*put = (struct put){.payload_bytes = side->work->payload_bytes,
	                    .shared = side->shared};
	result = bench_region_map(side->fd, bytes, &put->region);
	if (result < 0)
		return bench_fail(side, result, "put");
	return 0;
}

static int exchange_alone(struct bench_side *side)
{
	uint32_t word = 0;

	return bench_loop(side, exchange, NULL, &word);
}

static int plain_alone(struct bench_side *side)
{
	struct put put;
	int result = put_start(side, &put);

	return result < 0 ? result : bench_loop(side, put_plainly, NULL, &put);
}

static int by_exchange_alone(struct bench_side *side)
{
	struct put put;
	int result = put_start(side, &put);

	if (result < 0)
		return result;
	return bench_loop(side, put_by_exchange, NULL, &put);
}

/* Blocks are far smaller than the ring, so the writer never finds it full. */
static int wait_until_read(void *context)
{
	const struct put *put = context;

	while (__atomic_load_n(&put->shared->progress, __ATOMIC_ACQUIRE) !=
	       put->position)
		bench_pause();
	return 0;
}

static int streaming_first(struct bench_side *side)
{
	struct put put;
	int result = put_start(side, &put);

	if (result < 0)
		return result;
	bench_meet(side);
	result = bench_loop(side, put_plainly, wait_until_read, &put);
	__atomic_store_n(&side->shared->stop, 1, __ATOMIC_RELEASE);
	return result;
}

static int streaming_second(struct bench_side *side)
{
	uint64_t frame_bytes;
	struct put put;
	uint8_t target[256];
	int result = put_start(side, &put);

	if (result < 0)
		return result;
	frame_bytes = (put.payload_bytes + 31) & ~UINT64_C(15);
	bench_meet(side);
	while (!__atomic_load_n(&side->shared->stop, __ATOMIC_ACQUIRE)) {
		uint8_t *frame = put.region.data +
		                 (put.position & (put.region.bytes - 1));

		if (__atomic_load_n((uint32_t *)(void *)frame,
		                    __ATOMIC_ACQUIRE) == 0) {
			__atomic_store_n(&side->shared->progress, put.position,
			                 __ATOMIC_RELEASE);
			bench_poll(side->work->poll);
			continue;
		}
		bench_copy(target, frame + 16, put.payload_bytes);
		bench_touch(target);
		put.position += frame_bytes;
	}
	return 0;
}

int bench_limit_exchange(const struct bench_setting *setting,
                         const struct bench_work *work,
                         struct bench_result *ret_result)
{
	return bench_over_region(setting, work, work->ring_bytes,
	                         exchange_alone, NULL, ret_result);
}

int bench_limit_put(const struct bench_setting *setting,
                    const struct bench_work *work,
                    struct bench_result *ret_result)
{
	return bench_over_region(setting, work, work->ring_bytes, plain_alone,
	                         NULL, ret_result);
}

int bench_limit_put_exchange(const struct bench_setting *setting,
                             const struct bench_work *work,
                             struct bench_result *ret_result)
{
	return bench_over_region(setting, work, work->ring_bytes,
	                         by_exchange_alone, NULL, ret_result);
}

int bench_limit_put_streaming(const struct bench_setting *setting,
                              const struct bench_work *work,
                              struct bench_result *ret_result)
{
	return bench_over_region(setting, work, work->ring_bytes,
	                         streaming_first, streaming_second, ret_result);
}
