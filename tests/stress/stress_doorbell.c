/* SPDX-License-Identifier: MIT */
/*
 * Lost wakes between processes, which share nothing but the memory. ThreadSanitizer
 * sees one process only, so tests/unit/test_lanes.c does the same with threads.
 *
 *	./test_stress_doorbell    80,000 messages to and fro, 800,000 one way; with
 *	                          PEAL_FULL=1 ten times as many, or 12 s of each
 */
#include "tests/unit/lanes.h"

#include <signal.h>
#include <stdlib.h>

#include "tests/unit/sanitizer.h"

#define PLAYED (times * (SLOW ? 20000 : 40000)) /* each is two messages */
#define STREAMED (times * (SLOW ? 60000 : 400000))

static uint64_t times = 1;

struct sides {
	pid_t pid[1 + LANE_MAX];
	uint32_t count;
	int worst; /* of those that have ended */
};

/* Take note of children that have ended; @wait_for_all of them. */
static void reap(struct sides *sides, bool wait_for_all)
{
	for (uint32_t i = 0; i < sides->count; i++) {
		int status = 0;

		if (sides->pid[i] == 0 ||
		    waitpid(sides->pid[i], &status,
		            wait_for_all ? 0 : WNOHANG) != sides->pid[i])
			continue;
		sides->pid[i] = 0;
		status = WIFEXITED(status) ? WEXITSTATUS(status)
		                           : CHECK_KILLED_BY + WTERMSIG(status);
		if (status > sides->worst)
			sides->worst = status;
	}
}

static bool has_failed(void *argument)
{
	struct sides *sides = argument;

	reap(sides, false);
	return sides->worst > LANE_STOPPED;
}

static void start(struct sides *sides, struct lanes *lanes,
                  int (*run)(struct lanes *, uint32_t), uint32_t index)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(300); /* also when the parent has been killed */
		_exit(run(lanes, index));
	}
	assert_true(pid > 0);
	sides->pid[sides->count++] = pid;
}

static void join(struct sides *sides, struct lanes *lanes, bool watched)
{
	reap(sides, true);
	lanes_close(lanes);
	assert_in_range(sides->worst, 0, LANE_STOPPED);
	assert_true(watched);
}

static int consume(struct lanes *lanes, uint32_t unused)
{
	(void)unused;
	return lane_consume(lanes);
}

static void processes_that_play_ping_pong_lose_no_wake(void **state)
{
	struct sides sides = {.count = 0};
	struct lanes lanes;
	bool watched;

	(void)state;
	lanes_open(&lanes, 2, PLAYED);
	start(&sides, &lanes, lane_play, 0);
	start(&sides, &lanes, lane_play, 1);
	watched = lanes_watch(&lanes, 2 * PLAYED, has_failed, &sides);
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

static void process_that_streams_to_another_loses_no_wake(void **state)
{
	(void)state;
	stream(1);
}

static void processes_that_ring_one_bell_lose_no_wake(void **state)
{
	(void)state;
	stream(LANE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(processes_that_play_ping_pong_lose_no_wake),
		cmocka_unit_test(process_that_streams_to_another_loses_no_wake),
		cmocka_unit_test(processes_that_ring_one_bell_lose_no_wake),
	};

	if (getenv("PEAL_FULL") != NULL)
		times = 10;
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
