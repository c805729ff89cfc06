/* SPDX-License-Identifier: MIT */
/*
 * What claim, write and publish cost the producer while the consumer is awake;
 * and what peek, read and release cost a consumer that finds messages there.
 *
 *	alone      producer and consumer are of one thread: a block is published
 *	           and timed, then read back, so every line is in our own cache
 *	streaming  the consumer is on the other processor and reads each message
 *	           as soon as it is there; a block begins when the last one has
 *	           been read, so the producer never waits for room
 */
#include "link.h"

struct put {
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	struct bench_shared *shared;
	size_t payload_bytes;
	uint64_t count;
	uint8_t source[256];
};

static int put_one(void *context)
{
	struct put *put = context;

	put->count++;
	return bench_send(put->producer, put->source, put->payload_bytes);
}

static int take_one(void *context)
{
	struct put *put = context;
	struct peal_message message;
	int result = bench_receive(put->consumer, &message);

	if (result < 0)
		return result;
	bench_copy(put->source, message.data, put->payload_bytes);
	bench_touch(put->source);
	peal_consumer_release(put->consumer, &message);
	return 0;
}

static int block_of(int (*step)(void *), void *context)
{
	int result = 0;

	for (uint32_t i = 0; i < BENCH_BLOCK && result >= 0; i++)
		result = step(context);
	return result;
}

static int take_block(void *context)
{
	return block_of(take_one, context);
}

static int put_block(void *context)
{
	return block_of(put_one, context);
}

static int alone(struct bench_side *side, bool is_take)
{
	struct put put = {.payload_bytes = side->work->payload_bytes};
	int result = bench_consumer_open(side, "sink", &put.consumer);

	if (result == 0)
		result = bench_producer_attach(side, "sink", 0, &put.producer);
	if (result < 0)
		return result;
	if (is_take)
		result = put_block(&put);
	if (result >= 0)
		result = is_take ? bench_loop(side, take_one, put_block, &put)
		                 : bench_loop(side, put_one, take_block, &put);
	if (result < 0)
		return bench_fail(side, result, "publish");
	peal_producer_detach(put.producer);
	peal_consumer_close(put.consumer);
	return 0;
}

static int put_alone(struct bench_side *side)
{
	return alone(side, false);
}

static int take_alone(struct bench_side *side)
{
	return alone(side, true);
}

static int wait_until_read(void *context)
{
	const struct put *put = context;

	while (__atomic_load_n(&put->shared->progress, __ATOMIC_ACQUIRE) !=
	       put->count)
		bench_pause();
	return 0;
}

static int streaming_first(struct bench_side *side)
{
	struct put put = {
		.payload_bytes = side->work->payload_bytes,
		.shared = side->shared,
	};
	int result;

	bench_meet(side);
	result = bench_producer_attach(side, "sink", 0, &put.producer);
	if (result < 0)
		return result;
	result = bench_loop(side, put_one, wait_until_read, &put);
	if (result >= 0)
		result = bench_send(put.producer, put.source, 1);
	if (result < 0)
		return bench_fail(side, result, "publish");
	bench_meet(side);
	peal_producer_detach(put.producer);
	return 0;
}

/* Read everything, and say how far we are whenever there is no more. */
static int read_all(struct bench_side *side, struct peal_consumer *consumer)
{
	size_t payload_bytes = side->work->payload_bytes;
	struct peal_message message;
	uint8_t target[256];
	uint64_t count = 0;
	int result;

	for (;;) {
		result = peal_consumer_peek(consumer, &message);
		if (result == -EAGAIN) {
			__atomic_store_n(&side->shared->progress, count,
			                 __ATOMIC_RELEASE);
			result =
				peal_consumer_wait(consumer, BENCH_PATIENCE_NS);
			if (result < 0)
				return result;
			continue;
		}
		if (result < 0 || message.data_bytes != payload_bytes)
			return result;
		bench_copy(target, message.data, payload_bytes);
		bench_touch(target);
		peal_consumer_release(consumer, &message);
		count++;
	}
}

static int streaming_second(struct bench_side *side)
{
	struct peal_consumer *consumer;
	int result = bench_consumer_open(side, "sink", &consumer);

	if (result < 0)
		return result;
	bench_meet(side);
	result = read_all(side, consumer);
	if (result < 0)
		return bench_fail(side, result, "publish");
	bench_meet(side);
	peal_consumer_close(consumer);
	return 0;
}

int bench_put_alone(const struct bench_setting *setting,
                    const struct bench_work *work,
                    struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, put_alone, NULL, ret_result);
}

int bench_take_alone(const struct bench_setting *setting,
                     const struct bench_work *work,
                     struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, take_alone, NULL, ret_result);
}

int bench_put_streaming(const struct bench_setting *setting,
                        const struct bench_work *work,
                        struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, streaming_first, streaming_second,
	                  ret_result);
}
