/* SPDX-License-Identifier: MIT */
/*
 * Rings and bells put together by hand, as a consumer and its producers do it,
 * to look for lost wakes: nobody spins, no sleep is bounded, both the lack of
 * messages and the lack of room are slept through, and each side is delayed at
 * random so that every step of one meets every step of the other.
 *
 *	producer --ring--> consumer          many lanes, one bell for messages,
 *	    ^---- space ------+              one bell for room in each lane
 *
 *	A --lane 0--> B, B --lane 1--> A     ping-pong: a bell each
 *
 * Whoever runs it looks at arena->received: a sleeper that was not woken stays
 * asleep, and the number stands still.
 */
#ifndef PEAL_TESTS_UNIT_LANES_H
#define PEAL_TESTS_UNIT_LANES_H

#include <string.h>

#include "doorbell/spin.h"
#include "peal/ring.h"
#include "peal/shm.h"
#include "tests/unit/dice.h"
#include "tests/unit/shared.h"

#define LANE_BYTES PEAL_RING_MIN_BYTES
#define LANE_MAX 3
#define LANE_STOPPED 1 /* what a side returns that was told to give up */
#define LANE_ENOUGH_NS (12 * SECOND) /* a busy machine need not do them all */
#define LANE_STALL_NS (10 * SECOND)  /* for ever, also on a busy machine */

struct bell {
	_Alignas(64) uint64_t arm;
	_Alignas(64) uint32_t seq;
};

/* The header page of the region. */
struct arena {
	struct bell bells[2]; /* of the consumer; or of B and A */
	struct bell space[LANE_MAX];
	struct {
		_Alignas(64) uint64_t released;
	} lanes[LANE_MAX];
	_Alignas(64) uint64_t received;
	uint32_t stopped;
};
_Static_assert(sizeof(struct arena) <= 4096, "it is one page");

struct lanes {
	struct peal_shm_mapping mapping;
	struct arena *arena;
	uint8_t *data[LANE_MAX];
	uint64_t seed, message_count; /* of each lane */
	uint32_t lane_count;
};

/* Asserts: for the thread that runs the test. */
static inline void lanes_open(struct lanes *lanes, uint32_t lane_count,
                              uint64_t message_count)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	uint64_t page_bytes = peal_shm_page_bytes(0);
	struct peal_shm_span spans[1 + LANE_MAX] = {{0, page_bytes, 1}};
	uint8_t *data;
	int fd = -1;

	*lanes = (struct lanes){.lane_count = lane_count,
	                        .message_count = message_count,
	                        .seed = dice_seed()};
	for (uint32_t i = 0; i < lane_count; i++)
		spans[1 + i] = (struct peal_shm_span){
			page_bytes + i * LANE_BYTES, LANE_BYTES, 2};
	options.bytes = page_bytes + lane_count * LANE_BYTES;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), 0);
	assert_int_equal(peal_shm_map(fd, spans, 1 + lane_count,
	                              PEAL_SHM_MAP_WRITE, &lanes->mapping),
	                 0);
	close(fd);
	lanes->arena = lanes->mapping.address;
	data = (uint8_t *)lanes->mapping.address + page_bytes;
	for (uint32_t i = 0; i < lane_count; i++)
		lanes->data[i] = data + 2 * i * LANE_BYTES;
}

static inline void lanes_close(struct lanes *lanes)
{
	peal_shm_unmap(&lanes->mapping);
}

static inline bool lanes_are_stopped(const struct lanes *lanes)
{
	return flag_is_set(&lanes->arena->stopped);
}

/* Wake everybody who sleeps, and tell them to give up. */
static inline void lanes_stop(struct lanes *lanes)
{
	struct arena *arena = lanes->arena;

	flag_set(&arena->stopped);
	for (int i = 0; i < 2; i++)
		peal_doorbell_notify(&arena->bells[i].arm, &arena->bells[i].seq,
		                     -1);
	for (int i = 0; i < LANE_MAX; i++)
		peal_doorbell_notify(&arena->space[i].arm, &arena->space[i].seq,
		                     -1);
}

/*
 * Watch until all @wanted messages have been received, or for so long that it
 * was enough. False when nothing moves any more or @has_failed says so. But in
 * the first case everybody is stopped, which is LANE_STOPPED.
 */
static inline bool lanes_watch(struct lanes *lanes, uint64_t wanted,
                               bool (*has_failed)(void *arg), void *arg)
{
	uint64_t before = 0, start_ns = now_ns(), since_ns = start_ns;

	for (;;) {
		/* Relaxed: it is a number to look at. */
		uint64_t received = __atomic_load_n(&lanes->arena->received,
		                                    __ATOMIC_RELAXED);

		if (received >= wanted)
			return true;
		if (received != before)
			since_ns = now_ns();
		before = received;
		if (now_ns() - start_ns > LANE_ENOUGH_NS &&
		    now_ns() - since_ns < SECOND) {
			print_message("enough: %llu of %llu messages\n",
			              (unsigned long long)received,
			              (unsigned long long)wanted);
			lanes_stop(lanes);
			return true;
		}
		if (now_ns() - since_ns > LANE_STALL_NS || has_failed(arg)) {
			print_message("a lost wake? %llu of %llu messages\n",
			              (unsigned long long)received,
			              (unsigned long long)wanted);
			lanes_stop(lanes);
			return false;
		}
		sleep_ns(5 * MS);
	}
}

/* one side --------------------------------------------------------------- */

/* What a side waits for: a message in any of its rings, or room in one. */
struct lane_wait {
	struct peal_sleeper sleeper;
	struct peal__spin spin;
	struct peal_ring_rx *rx;
	uint32_t rx_count;
	struct peal_ring_tx *tx;
	uint64_t want_bytes;
};

static inline bool lane_has_work(void *object)
{
	const struct lane_wait *wait = object;

	for (uint32_t i = 0; i < wait->rx_count; i++)
		if (peal_ring_has_data(&wait->rx[i]))
			return true;
	return wait->tx != NULL &&
	       __atomic_load_n(wait->tx->released_word, __ATOMIC_SEQ_CST) +
	                       wait->tx->capacity_bytes - wait->tx->tail >=
	               wait->want_bytes + PEAL_RING_SPARE_BYTES;
}

static inline void lane_wait_open(struct lane_wait *wait, struct bell *bell)
{
	*wait = (struct lane_wait){0};
	peal_doorbell_init(&wait->sleeper, &bell->arm, &bell->seq,
	                   PEAL_DOORBELL_FUTEX);
	peal__spin_init(&wait->spin, PEAL__SPIN_NEVER, 0);
}

/* After a look at the bell and a pass that found nothing. */
static inline void lane_sleep(struct lane_wait *wait)
{
	const struct peal__spin_look look = {
		.soon = lane_has_work, .final = lane_has_work, .object = wait};
	struct peal__spin_limit limit = {PEAL_FOREVER, 0, PEAL__NEVER, false};

	peal__spin_wait(&wait->spin, &wait->sleeper, &look, &limit);
}

static inline struct peal_ringer lane_ringer(struct bell *bell)
{
	return (struct peal_ringer){
		.arm = &bell->arm, .seq = &bell->seq, .fd = -1};
}

/* So that the steps of both sides meet in every order. */
static inline void lane_dawdle(struct dice *dice)
{
	uint64_t pauses = 0;

	switch (dice_below(dice, 32)) {
	case 0:
		sched_yield();
		break;
	case 1:
	case 2:
		pauses = dice_below(dice, 1000);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		pauses = dice_below(dice, 60);
		break;
	}
	while (pauses-- > 0)
		peal__cpu_pause();
}

static inline size_t lane_message_bytes(struct dice *dice)
{
	return 8 + (size_t)dice_below(dice, 120);
}

/* One producer: 0, LANE_STOPPED, or a number that says what went wrong. */
static inline int lane_produce(struct lanes *lanes, uint32_t lane)
{
	struct arena *arena = lanes->arena;
	struct dice sizes = dice_with(lanes->seed + lane);
	struct dice delays = dice_with(lanes->seed + 100 + lane);
	struct peal_ringer bell = lane_ringer(&arena->bells[0]);
	struct lane_wait wait;
	struct peal_ring_tx tx;

	peal_ring_tx_init(&tx, lanes->data[lane], LANE_BYTES, 0,
	                  &arena->lanes[lane].released);
	lane_wait_open(&wait, &arena->space[lane]);
	wait.tx = &tx;
	for (uint64_t id = 0; id < lanes->message_count; id++) {
		size_t bytes = lane_message_bytes(&sizes);
		void *data;

		wait.want_bytes = peal_ring_frame_bytes(bytes);
		for (;;) {
			peal_doorbell_look(&wait.sleeper);
			if (peal_ring_claim(&tx, bytes, lane, id, &data) == 0)
				break;
			if (lanes_are_stopped(lanes))
				return LANE_STOPPED;
			lane_sleep(&wait);
		}
		memcpy(data, &id, sizeof(id));
		lane_dawdle(&delays);
		peal_ring_publish(&tx);
		peal_doorbell_ring(&bell);
	}
	return 0;
}

/* The next message of one lane is what it should be; give it back. */
static inline int lane_take(struct peal_ring_rx *rx, uint32_t lane, uint64_t id,
                            struct dice *sizes)
{
	struct peal_message message;
	uint64_t written;

	if (peal_ring_peek(rx, &message) != 0)
		return 2;
	if (message.id != id || message.kind != lane ||
	    message.data_bytes != lane_message_bytes(sizes))
		return 3;
	memcpy(&written, message.data, sizeof(written));
	if (written != id)
		return 4;
	peal_ring_release(rx, &message);
	return 0;
}

/* The one consumer of all lanes. */
static inline int lane_consume(struct lanes *lanes)
{
	struct arena *arena = lanes->arena;
	uint64_t left = lanes->lane_count * lanes->message_count;
	struct dice delays = dice_with(lanes->seed + 200);
	struct peal_ring_rx rx[LANE_MAX];
	struct peal_ringer space[LANE_MAX];
	struct dice sizes[LANE_MAX];
	uint64_t ids[LANE_MAX] = {0};
	struct lane_wait wait;

	for (uint32_t i = 0; i < lanes->lane_count; i++) {
		peal_ring_rx_init(&rx[i], lanes->data[i], LANE_BYTES, 0,
		                  &arena->lanes[i].released);
		space[i] = lane_ringer(&arena->space[i]);
		sizes[i] = dice_with(lanes->seed + i);
	}
	lane_wait_open(&wait, &arena->bells[0]);
	wait.rx = rx;
	wait.rx_count = lanes->lane_count;
	while (left > 0) {
		bool found = false;

		peal_doorbell_look(&wait.sleeper);
		for (uint32_t i = 0; i < lanes->lane_count; i++) {
			int error;

			if (!peal_ring_has_data(&rx[i]))
				continue;
			found = true;
			error = lane_take(&rx[i], i, ids[i]++, &sizes[i]);
			if (error != 0)
				return error;
			lane_dawdle(&delays);
			peal_ring_settle(&rx[i]);
			peal_doorbell_ring(&space[i]);
			left--;
			__atomic_add_fetch(&arena->received, 1,
			                   __ATOMIC_RELAXED);
		}
		if (lanes_are_stopped(lanes))
			return LANE_STOPPED;
		if (!found)
			lane_sleep(&wait);
	}
	return 0;
}

/* Wait for the next message of the other player. */
static inline int lane_catch(struct lanes *lanes, struct lane_wait *wait,
                             uint32_t lane, uint64_t id)
{
	struct dice sizes = dice_with(lanes->seed + id);
	int error;

	for (;;) {
		peal_doorbell_look(&wait->sleeper);
		if (peal_ring_has_data(wait->rx))
			break;
		if (lanes_are_stopped(lanes))
			return LANE_STOPPED;
		lane_sleep(wait);
	}
	error = lane_take(wait->rx, lane, id, &sizes);
	peal_ring_tell(wait->rx);
	__atomic_add_fetch(&lanes->arena->received, 1, __ATOMIC_RELAXED);
	return error;
}

/* Ping-pong: side 0 begins on lane 0 and is answered on lane 1. */
static inline int lane_play(struct lanes *lanes, uint32_t side)
{
	struct arena *arena = lanes->arena;
	struct dice delays = dice_with(lanes->seed + 300 + side);
	struct peal_ringer bell = lane_ringer(&arena->bells[side]);
	struct peal_ring_tx tx;
	struct peal_ring_rx rx;
	struct lane_wait wait;
	int error = 0;

	peal_ring_tx_init(&tx, lanes->data[side], LANE_BYTES, 0,
	                  &arena->lanes[side].released);
	peal_ring_rx_init(&rx, lanes->data[!side], LANE_BYTES, 0,
	                  &arena->lanes[!side].released);
	lane_wait_open(&wait, &arena->bells[!side]);
	wait.rx = &rx;
	wait.rx_count = 1;
	for (uint64_t id = 0; id < lanes->message_count && error == 0; id++) {
		struct dice sizes = dice_with(lanes->seed + id);
		void *data;

		if (side == 1)
			error = lane_catch(lanes, &wait, 0, id);
		if (error != 0)
			break;
		/* One message is under way, so there is always room. */
		if (peal_ring_claim(&tx, lane_message_bytes(&sizes), side, id,
		                    &data) != 0)
			return 5;
		memcpy(data, &id, sizeof(id));
		lane_dawdle(&delays);
		peal_ring_publish(&tx);
		peal_doorbell_ring(&bell);
		if (side == 0)
			error = lane_catch(lanes, &wait, 1, id);
	}
	return error;
}

#endif
