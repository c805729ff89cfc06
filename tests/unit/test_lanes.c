/* SPDX-License-Identifier: MIT */
/* Lost wakes between threads; tests/stress/stress_doorbell.c has processes. */
#include "tests/unit/lanes.h"

#include <pthread.h>

#include "tests/unit/sanitizer.h"

#define PLAYED (SLOW ? 10000 : 110000) /* each is two messages */
#define STREAMED (SLOW ? 30000 : 200000)

struct side {
	struct lanes *lanes;
	int (*run)(struct lanes *lanes, uint32_t index);
	uint32_t index;
	int status;
	pthread_t thread;
};

/* Sides that have ended early with a number. */
struct sides {
	struct side side[1 + LANE_MAX];
	uint32_t count;
};

static void *run_side(void *argument)
{
	struct side *side = argument;
	int status = side->run(side->lanes, side->index);

	__atomic_store_n(&side->status, status, __ATOMIC_RELEASE);
	return NULL;
}

static bool has_failed(void *argument)
{
	struct sides *sides = argument;

	for (uint32_t i = 0; i < sides->count; i++)
		if (__atomic_load_n(&sides->side[i].status, __ATOMIC_ACQUIRE) >
		    LANE_STOPPED)
			return true;
	return false;
}

static void start(struct sides *sides, struct lanes *lanes,
                  int (*run)(struct lanes *, uint32_t), uint32_t index)
{
	struct side *side = &sides->side[sides->count++];

	*side = (struct side){lanes, run, index, 0, 0};
	assert_int_equal(pthread_create(&side->thread, NULL, run_side, side),
	                 0);
}

/* The watch is over: everybody ends, and all were content. */
static void join(struct sides *sides, struct lanes *lanes, bool watched)
{
	for (uint32_t i = 0; i < sides->count; i++)
		pthread_join(sides->side[i].thread, NULL);
	lanes_close(lanes);
	for (uint32_t i = 0; i < sides->count; i++)
		assert_in_range(sides->side[i].status, 0, LANE_STOPPED);
	assert_true(watched);
}

static int consume(struct lanes *lanes, uint32_t unused)
{
	(void)unused;
	return lane_consume(lanes);
}

static void threads_that_play_ping_pong_lose_no_wake(void **state)
{
	struct sides sides = {.count = 0};
	struct lanes lanes;
	bool watched;

	(void)state;
	lanes_open(&lanes, 2, PLAYED);
	start(&sides, &lanes, lane_play, 0);
	start(&sides, &lanes, lane_play, 1);
	watched = lanes_watch(&lanes, UINT64_C(2) * PLAYED, has_failed, &sides);
	join(&sides, &lanes, watched);
}

static void stream(uint32_t lane_count)
{
	uint64_t each = STREAMED / lane_count;
	struct sides sides = {.count = 0};
	struct lanes lanes;
	bool watched;

	lanes_open(&lanes, lane_count, each);
	start(&sides, &lanes, consume, 0);
	for (uint32_t i = 0; i < lane_count; i++)
		start(&sides, &lanes, lane_produce, i);
	watched = lanes_watch(&lanes, each * lane_count, has_failed, &sides);
	join(&sides, &lanes, watched);
}

static void thread_that_streams_to_another_loses_no_wake(void **state)
{
	(void)state;
	stream(1);
}

static void threads_that_ring_one_bell_lose_no_wake(void **state)
{
	(void)state;
	stream(LANE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_that_play_ping_pong_lose_no_wake),
		cmocka_unit_test(thread_that_streams_to_another_loses_no_wake),
		cmocka_unit_test(threads_that_ring_one_bell_lose_no_wake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
