/* SPDX-License-Identifier: MIT */
/*
 * Messages one way, as fast as they go, through a producer and a consumer.
 *
 *	first   claim, copy in from a private buffer, publish every @batch
 *	second  peek, copy out to a private buffer, release; wait when empty
 *
 * The last message is a shorter one.
 */
#include <stdlib.h>

#include "link.h"

#define BUFFER_BYTES ((size_t)128 << 10)

struct writer {
	struct peal_producer *producer;
	uint8_t *source;
	size_t payload_bytes;
	uint32_t batch;
	uint32_t held_count;
};

/* One more; published when the batch is full, or when the ring is. */
static inline int stream_put(struct writer *writer, size_t bytes)
{
	uint64_t patience = writer->held_count == 0 ? BENCH_PATIENCE_NS : 0;
	void *data;
	int result;

	result = peal_producer_claim(writer->producer, bytes, patience, &data);
	if (result == -EAGAIN && writer->held_count != 0) {
		result = peal_producer_publish(writer->producer);
		if (result < 0)
			return result;
		writer->held_count = 0;
		result = peal_producer_claim(writer->producer, bytes,
		                             BENCH_PATIENCE_NS, &data);
	}
	if (result < 0)
		return result;
	bench_touch(writer->source);
	bench_copy(data, writer->source, bytes);
	if (++writer->held_count < writer->batch)
		return 0;
	writer->held_count = 0;
	return peal_producer_publish(writer->producer);
}

static int stream_for(struct writer *writer, double seconds)
{
	uint64_t end_ns = bench_now_ns() + (uint64_t)(seconds * 1e9);
	uint32_t per_look = writer->payload_bytes > 4096 ? 1 : 256;
	int result;

	do {
		for (uint32_t i = 0; i < per_look; i++) {
			result = stream_put(writer, writer->payload_bytes);
			if (result < 0)
				return result;
		}
	} while (bench_now_ns() < end_ns);
	writer->batch = 1;
	return stream_put(writer, 1);
}

static int stream_first(struct bench_side *side)
{
	struct writer writer = {
		.source = aligned_alloc(4096, BUFFER_BYTES),
		.payload_bytes = side->work->payload_bytes,
		.batch = side->work->batch,
	};
	struct peal_producer *idle;
	int result = 0;

	if (writer.source == NULL)
		return bench_fail(side, -ENOMEM, "one way");
	memset(writer.source, 1, BUFFER_BYTES);
	bench_meet(side);
	for (uint32_t i = 0; i < side->work->idle_count && result == 0; i++)
		result = bench_producer_attach(side, "sink", 1 << 16, &idle);
	if (result == 0)
		result = bench_producer_attach(
			side, "sink", side->work->ring_bytes, &writer.producer);
	if (result < 0)
		return result;
	result = stream_for(&writer, side->setting->seconds);
	if (result < 0)
		return bench_fail(side, result, "one way");
	bench_meet(side);
	peal_producer_detach(writer.producer);
	return 0;
}

struct reader {
	struct peal_consumer *consumer;
	uint8_t *target;
	size_t payload_bytes;
	struct bench_meter meter;
};

/* Read what there is. 1 after the last message of all. */
static inline int stream_drain(struct reader *reader)
{
	struct peal_message message;
	int result;

	while ((result = peal_consumer_peek(reader->consumer, &message)) == 0) {
		if (message.data_bytes != reader->payload_bytes)
			return 1;
		bench_copy(reader->target, message.data, reader->payload_bytes);
		bench_touch(reader->target);
		peal_consumer_release(reader->consumer, &message);
		bench_meter_add(&reader->meter);
	}
	return result == -EAGAIN ? 0 : result;
}

static int stream_read(struct bench_side *side, struct reader *reader)
{
	struct peal_consumer_stats stats;
	int result;

	do {
		result =
			peal_consumer_wait(reader->consumer, BENCH_PATIENCE_NS);
	} while (result == 0 && !peal_consumer_has_data(reader->consumer));
	bench_meter_start(side, &reader->meter);
	while (result == 0 && (result = stream_drain(reader)) == 0)
		result =
			peal_consumer_wait(reader->consumer, BENCH_PATIENCE_NS);
	if (result < 0)
		return bench_fail(side, result, "one way");
	bench_meter_result(side, &reader->meter);
	result = peal_consumer_stats(reader->consumer, &stats);
	if (result < 0)
		return bench_fail(side, result, "one way");
	side->shared->aside =
		(double)stats.sleep_count * 1000 / (double)reader->meter.total;
	return 0;
}

static int stream_second(struct bench_side *side)
{
	struct reader reader = {
		.target = aligned_alloc(4096, BUFFER_BYTES),
		.payload_bytes = side->work->payload_bytes,
	};
	int result;

	if (reader.target == NULL)
		return bench_fail(side, -ENOMEM, "one way");
	memset(reader.target, 1, BUFFER_BYTES);
	result = bench_consumer_open(side, "sink", &reader.consumer);
	if (result < 0)
		return result;
	bench_meet(side);
	result = stream_read(side, &reader);
	if (result < 0)
		return result;
	bench_meet(side);
	peal_consumer_close(reader.consumer);
	return 0;
}

int bench_stream(const struct bench_setting *setting,
                 const struct bench_work *work, struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, stream_first, stream_second,
	                  ret_result);
}
