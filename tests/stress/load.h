/* SPDX-License-Identifier: MIT */
/*
 * What the processes of the load have in common: one board, and lives.
 *
 * A life is one process, from its start until it ends by itself or is killed;
 * its number is the sender of its messages. What it has sent it notes after it
 * was published, so that of a killed one at least that has to arrive.
 */
#ifndef PEAL_TESTS_STRESS_LOAD_H
#define PEAL_TESTS_STRESS_LOAD_H

#include "tests/scene.h"

#include "peal/client.h"

#define PRODUCERS "load.words"
#define CLIENTS "load.calls"
#define PEOPLE 64
#define SLOTS 256
#define LIFE_MAX (1 << 20)
#define SERVER_SENDER UINT32_MAX
#define FAREWELL 0 /* the number of a request: how much was pushed to me? */
#define STAMP_BYTES sizeof(struct scene_stamp)
#define BYTES_MAX (1 << 14)

/* One way for the server to wait and to serve. */
struct way {
	const char *name;
	uint64_t spin_ns;
	uint32_t wait_mode;
	uint32_t worker_count;
};

struct board {
	uint64_t is_open, people_stop;
	uint64_t message_count, call_count; /* as they arrived at the end */
	uint64_t push_count, pushed_count;
	uint64_t upcall_count, upcall_ended_count, upcall_failed_count;
	uint64_t upcall_answered_count; /* as the clients have it */
	uint64_t farewell_count;        /* clients that had every push */
	uint64_t alone; /* 1 + the place of the only one that is not stopped */
	uint64_t peer_count; /* who are connected */
	uint64_t late_count; /* handshakes that took more than a second */
	uint64_t progress[PEOPLE];
	char fault[200];
	/* of each life */
	uint32_t sent[LIFE_MAX], received[LIFE_MAX];
	uint8_t is_producer[LIFE_MAX], is_complete[LIFE_MAX];
};

static struct board *board;
static struct way way;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* Mostly small, and now and then as large as it gets. */
static inline size_t load_bytes(uint64_t dice, size_t bytes_max)
{
	size_t most = dice % 32 == 0 ? bytes_max : dice % 4 == 0 ? 2000 : 200;

	if (most > bytes_max)
		most = bytes_max;
	return STAMP_BYTES + (size_t)(dice >> 8) % (most - STAMP_BYTES + 1);
}

/* What the answer to a request is like: anybody can tell by its number. */
static inline size_t load_answer_bytes(const struct scene_stamp *stamp)
{
	return load_bytes(scene_mix(stamp->sequence ^ stamp->sender), 1500);
}

#endif
