/* SPDX-License-Identifier: MIT */
/*
 * The bare copy: how fast bytes get from a private buffer of one process into
 * a private buffer of another one, through a ring in shared memory.
 *
 *	source --copy--> ring --copy--> target
 *
 *	control page   | tail (producer) | head (consumer) | stop |
 *
 * Two queues that do no more than they must. Each side keeps its view of the
 * other's cursor in private memory, and publishes with a plain store: a sleeper
 * could not be woken, so no fence is paid for.
 *	by tail	  Lamport's: the tail is published every @batch messages
 *	by word	  FastForward's: the first word of the frame says that it is
 *		  there; only for frames with a header, one at a time
 */
#include <errno.h>
#include <stdlib.h>

#include "limits.h"

struct cursors {
	_Alignas(128) uint64_t tail;
	_Alignas(128) uint64_t head;
	_Alignas(128) uint64_t stop;
};

struct flow {
	struct cursors *cursors;
	uint8_t *data;
	uint64_t capacity;
	uint64_t frame_bytes;
	uint64_t header_bytes;
	size_t payload_bytes;
	uint8_t *private_buffer;
	uint64_t tail, head; /* own and last seen */
	uint64_t count;
	struct bench_meter *meter;
	bool by_word;
};

static int flow_start(struct bench_side *side, struct flow *flow)
{
	const struct bench_work *work = side->work;
	struct bench_region region;
	int result = bench_region_map(side->fd, work->ring_bytes, &region);

	if (result < 0)
		return bench_fail(side, result, "copy");
	*flow = (struct flow){
		.cursors = (void *)region.control,
		.data = region.data,
		.capacity = work->ring_bytes,
		.header_bytes = work->header_bytes,
		.payload_bytes = work->payload_bytes,
		.frame_bytes = work->header_bytes + work->payload_bytes,
		.by_word = work->by_word,
		.private_buffer = aligned_alloc(4096, 2 * 65536),
	};
	if (flow->private_buffer == NULL)
		return bench_fail(side, -ENOMEM, "copy");
	memset(flow->private_buffer, 1, 2 * 65536);
	bench_meet(side);
	return 0;
}

static inline uint32_t *flow_word(const struct flow *flow, uint64_t position)
{
	return (uint32_t *)(void *)(flow->data +
	                            (position & (flow->capacity - 1)));
}

static inline void flow_put(struct flow *flow)
{
	uint32_t *word = flow_word(flow, flow->tail);
	uint8_t *frame = (void *)word;
	uint32_t length = (uint32_t)flow->frame_bytes, kind = 0;
	uint64_t id = 0;

	bench_touch(flow->private_buffer);
	flow->tail += flow->frame_bytes;
	if (flow->header_bytes != 0) {
		memcpy(frame + 4, &kind, sizeof(kind));
		memcpy(frame + 8, &id, sizeof(id));
		frame += flow->header_bytes;
	}
	bench_copy(frame, flow->private_buffer, flow->payload_bytes);
	if (flow->by_word)
		__atomic_store_n(flow_word(flow, flow->tail), 0,
		                 __ATOMIC_RELAXED);
	if (flow->header_bytes != 0)
		__atomic_store_n(word, length, __ATOMIC_RELEASE);
}

static inline void flow_get(struct flow *flow)
{
	uint8_t *frame = (void *)flow_word(flow, flow->head);

	if (flow->header_bytes != 0) {
		uint64_t header[2];

		memcpy(header, frame, sizeof(header));
		__asm__ volatile("" ::"r"(header[0]), "r"(header[1]));
		frame += flow->header_bytes;
	}
	bench_copy(flow->private_buffer, frame, flow->payload_bytes);
	bench_touch(flow->private_buffer);
	flow->head += flow->frame_bytes;
	flow->count++;
	bench_meter_add(flow->meter);
}

/* Is there another one? */
static inline bool flow_look(struct flow *flow)
{
	if (flow->by_word)
		return __atomic_load_n(flow_word(flow, flow->head),
		                       __ATOMIC_ACQUIRE) != 0;
	flow->tail = __atomic_load_n(&flow->cursors->tail, __ATOMIC_ACQUIRE);
	return flow->tail != flow->head;
}

static inline void flow_publish(struct flow *flow)
{
	if (!flow->by_word)
		__atomic_store_n(&flow->cursors->tail, flow->tail,
		                 __ATOMIC_RELEASE);
}

static inline bool flow_is_full(const struct flow *flow)
{
	/* A zeroed word follows the frame, as in peal's. */
	return flow->tail + flow->frame_bytes + 8 - flow->head > flow->capacity;
}

static int copy_first(struct bench_side *side)
{
	uint64_t duration_ns = (uint64_t)(side->setting->seconds * 1e9);
	uint32_t batch = side->work->batch, held = 0;
	uint64_t start_ns;
	struct flow flow;
	int result = flow_start(side, &flow);

	if (result < 0)
		return result;
	start_ns = bench_now_ns();
	for (uint32_t i = 0;; i++) {
		if ((i & 255) == 0 || flow.payload_bytes > 4096)
			if (bench_now_ns() - start_ns > duration_ns)
				break;
		if (flow_is_full(&flow)) {
			flow_publish(&flow);
			held = 0;
			while (flow_is_full(&flow)) {
				bench_poll(side->work->poll);
				flow.head = __atomic_load_n(&flow.cursors->head,
				                            __ATOMIC_ACQUIRE);
			}
		}
		flow_put(&flow);
		if (++held == batch) {
			flow_publish(&flow);
			held = 0;
		}
	}
	flow_publish(&flow);
	__atomic_store_n(&flow.cursors->stop, 1, __ATOMIC_RELEASE);
	return 0;
}

/* Everything that is there. */
static inline void flow_drain(struct flow *flow, uint64_t give_back_bytes)
{
	uint64_t given = flow->head;

	while (flow->by_word ? flow_look(flow) : flow->head != flow->tail) {
		flow_get(flow);
		if (flow->head - given >= give_back_bytes) {
			__atomic_store_n(&flow->cursors->head, flow->head,
			                 __ATOMIC_RELEASE);
			given = flow->head;
		}
	}
	__atomic_store_n(&flow->cursors->head, flow->head, __ATOMIC_RELEASE);
}

/*
 * A consumer that looks again at once after having drained several takes the
 * line away from the producer in the middle of its work; so it waits as long
 * as peal's does.
 */
static inline void let_it_fill(uint64_t drained_count)
{
	if (drained_count < 2)
		return;
	for (uint64_t i = 0; i < (drained_count < 64 ? drained_count : 64); i++)
		bench_pause();
}

static int copy_second(struct bench_side *side)
{
	struct bench_meter meter;
	uint64_t drained = 0;
	struct flow flow;
	int result = flow_start(side, &flow);

	if (result < 0)
		return result;
	flow.meter = &meter;
	while (!flow_look(&flow))
		bench_poll(side->work->poll);
	bench_meter_start(side, &meter);
	for (;;) {
		if (!flow_look(&flow)) {
			if (__atomic_load_n(&flow.cursors->stop,
			                    __ATOMIC_ACQUIRE) &&
			    !flow_look(&flow))
				break;
			let_it_fill(drained);
			drained = 0;
			bench_poll(side->work->poll);
			continue;
		}
		drained = flow.count;
		flow_drain(&flow, flow.capacity / 8);
		drained = flow.count - drained;
	}
	bench_meter_result(side, &meter);
	return 0;
}

int bench_limit_copy(const struct bench_setting *setting,
                     const struct bench_work *work,
                     struct bench_result *ret_result)
{
	return bench_over_region(setting, work, work->ring_bytes, copy_first,
	                         copy_second, ret_result);
}

/* Whichever of the two queues is faster here. */
int bench_limit_copy_best(const struct bench_setting *setting,
                          const struct bench_work *work,
                          struct bench_result *ret_result)
{
	struct bench_work other = *work;
	struct bench_result result;
	int error;

	other.by_word = true;
	error = bench_limit_copy(setting, &other, &result);
	if (error == 0)
		error = bench_limit_copy(setting, work, ret_result);
	if (error == 0 && result.value > ret_result->value)
		*ret_result = result;
	return error;
}
