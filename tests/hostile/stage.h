/* SPDX-License-Identifier: MIT */
/*
 * The stage of the hostile tests.
 *
 *	server     a consumer in a process of its own, or a reactor
 *	           (stage_reactor.h)
 *	neighbour  a well-behaved producer that streams all the time: whatever
 *	           the attacker does, its messages arrive, each one, intact; or
 *	           a client that calls all the time, and is answered
 *	attacker   this process, or a child: raw.h
 *
 * After each attack stage_is_well() must be true: the server lives, the
 * neighbour was heard, and what the attacker had was given back.
 */
#ifndef PEAL_TESTS_HOSTILE_STAGE_H
#define PEAL_TESTS_HOSTILE_STAGE_H

#include "tests/slots.h"

#include <sys/stat.h>

#include "mpsc/layout.h"
#include "mpsc/wire.h"

#define STAGE_NAME "target"
#define STAGE_SLOTS 8
#define STAGE_SEATS (STAGE_SLOTS + 16)
#define STAGE_NEIGHBOUR 7 /* its sender number */
#define STAGE_STRANGER_UID 12345
#define STAGE_WAIT_NS (20 * SCENE_MS)
#define STAGE_PATIENCE_NS (10 * SCENE_S)

#define STAGE_IN_FLIGHT 1024 /* more messages than a ring of 16 KiB holds */
#define STAGE_WINDOWS 4
#define STAGE_TIMES 256 /* times of the neighbour's calls: eight an octave */

struct stage_board {
	uint64_t is_open, stop, is_enough; /* for the neighbour */
	uint64_t window; /* of the times that are taken now; 0: of none */
	uint32_t times[STAGE_WINDOWS][STAGE_TIMES];
	/* The longest call of the neighbour, or the longest that a message of
	 * its was on the way. */
	uint64_t longest_ns;
	uint64_t published_ns[STAGE_IN_FLIGHT];
	uint64_t sent, received; /* the neighbour's */
	uint64_t other_count;    /* messages of the attacker */
	uint64_t passed_count;   /* descriptors that it could send along */
	uint64_t asked, answered;
	struct scene_held held;
	uint32_t free_count;
	struct peal_consumer_stats stats;
	char fault[200];
};

static struct stage_board *stage_board;
static uint32_t stage_wait_mode;
static uint64_t stage_wait_ns = STAGE_WAIT_NS; /* of a server, at once */
/* What the attacker is: PEAL__ROLE_CLIENT of a reactor, or a producer. */
static uint32_t stage_role = PEAL__ROLE_PRODUCER;
static pid_t stage_server, stage_neighbour;
static struct scene_held stage_held; /* when only the neighbour was there */

static inline int stage_fault(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (stage_board->fault[0] == '\0')
		vsnprintf(stage_board->fault, sizeof(stage_board->fault),
		          format, arguments);
	va_end(arguments);
	return 1;
}

/* server ----------------------------------------------------------------- */

/* 0; -1 for what is not the neighbour's; 1 when something is wrong. */
static inline int stage_hear(const void *data, size_t bytes)
{
	struct scene_stamp stamp = {0};
	bool is_intact = scene_stamp_read(data, bytes, &stamp);

	if (stamp.sender != STAGE_NEIGHBOUR || !is_intact) {
		/* The attacker's: anything goes. A stamp that is not intact
		 * leaves a hole in the neighbour's numbers if it was his. */
		stage_board->other_count++;
		return -1;
	}
	if (stamp.sequence != stage_board->received + 1)
		return stage_fault("the neighbour's message %llu follows %llu",
		                   (unsigned long long)stamp.sequence,
		                   (unsigned long long)stage_board->received);
	scene_put(&stage_board->received, stamp.sequence);
	return 0;
}

static inline void stage_answer(struct peal_consumer *consumer)
{
	uint64_t asked = scene_get(&stage_board->asked);

	if (asked == stage_board->answered)
		return;
	stage_board->free_count = slots_free_count(consumer);
	stage_board->held = scene_held();
	peal_consumer_stats(consumer, &stage_board->stats);
	scene_put(&stage_board->answered, asked);
}

static inline void stage_took(uint64_t took_ns)
{
	if (took_ns > scene_get(&stage_board->longest_ns))
		scene_put(&stage_board->longest_ns, took_ns);
}

/* What has been heard is let go: how long did that take? */
static inline void stage_let_go(struct peal_consumer *consumer,
                                struct peal_message *message,
                                bool is_neighbours)
{
	uint64_t number = stage_board->received % STAGE_IN_FLIGHT;

	peal_consumer_release(consumer, message);
	if (is_neighbours)
		stage_took(scene_now_ns() -
		           scene_get(&stage_board->published_ns[number]));
}

static inline int stage_serve(void *arg)
{
	static const uint32_t stranger = STAGE_STRANGER_UID;
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_message message;

	(void)arg;
	options.name = STAGE_NAME;
	options.wait_mode = stage_wait_mode;
	options.producer_max = STAGE_SLOTS;
	options.socket_mode = 0666;
	options.allow_uid = &stranger;
	options.allow_uid_count = 1;
	if (peal_consumer_open(&options, &consumer) < 0)
		return 2;
	scene_put(&stage_board->is_open, 1);
	while (scene_get(&stage_board->stop) == 0) {
		peal_consumer_wait(consumer, stage_wait_ns);
		for (int i = 0;
		     i < 1000 && peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			int heard =
				stage_hear(message.data, message.data_bytes);

			if (heard > 0)
				return 1;
			stage_let_go(consumer, &message, heard == 0);
		}
		stage_answer(consumer);
	}
	return peal_consumer_close(consumer);
}

static inline int stage_stream(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	uint8_t data[500];
	int error;

	(void)arg;
	options.name = STAGE_NAME;
	options.ring_bytes = 1 << 14;
	if (peal_producer_attach(&options, STAGE_PATIENCE_NS, &producer) < 0)
		return stage_fault("the neighbour cannot attach");
	for (uint64_t i = 1; scene_get(&stage_board->is_enough) == 0; i++) {
		size_t bytes = 24 + i * 37 % 400;

		scene_stamp_write(data, bytes, STAGE_NEIGHBOUR, i);
		scene_put(&stage_board->published_ns[i % STAGE_IN_FLIGHT],
		          scene_now_ns());
		error = peal_producer_send(producer, data, bytes,
		                           STAGE_PATIENCE_NS);
		if (error < 0)
			return stage_fault("the neighbour got %d", error);
		scene_put(&stage_board->sent, i);
		if (i % 16 == 0)
			scene_sleep_ns(20 * SCENE_US);
	}
	return peal_producer_detach(producer);
}

/* Who is started; stage_reactor.h has others. */
static int (*stage_server_main)(void *arg) = stage_serve;
static int (*stage_neighbour_main)(void *arg) = stage_stream;

/* What the server says of itself, now. */
static inline bool stage_ask(void)
{
	uint64_t question = scene_add(&stage_board->asked, 1) + 1;

	return scene_reach(&stage_board->answered, question, STAGE_PATIENCE_NS);
}

static inline int stage_setup(void **state)
{
	(void)state;
	memset(stage_board, 0, sizeof(*stage_board));
	stage_server = scene_start(stage_server_main, NULL);
	if (!scene_reach(&stage_board->is_open, 1, STAGE_PATIENCE_NS))
		return -1;
	stage_neighbour = scene_start(stage_neighbour_main, NULL);
	if (!scene_reach(&stage_board->received, 100, STAGE_PATIENCE_NS) ||
	    !stage_ask())
		return -1;
	stage_held = stage_board->held;
	return 0;
}

/* Does everybody else live as if there had been no attack? */
static inline bool stage_is_well(void)
{
	uint64_t end_ns = scene_now_ns() + STAGE_PATIENCE_NS;
	uint64_t least = scene_get(&stage_board->sent) + 100;

	if (!scene_reach_unless(stage_board->fault, &stage_board->received,
	                        least, STAGE_PATIENCE_NS))
		stage_fault("the neighbour is not heard");
	while (stage_board->fault[0] == '\0' && stage_ask() &&
	       scene_now_ns() < end_ns) {
		if (stage_board->free_count == STAGE_SLOTS - 1 &&
		    stage_board->held.fds == stage_held.fds &&
		    stage_board->held.maps == stage_held.maps &&
		    stage_board->held.threads == stage_held.threads)
			break;
		scene_sleep_ns(2 * SCENE_MS);
	}
	if (stage_board->free_count != STAGE_SLOTS - 1)
		stage_fault("%u slots are free", stage_board->free_count);
	if (stage_board->held.fds != stage_held.fds ||
	    stage_board->held.maps != stage_held.maps)
		stage_fault("%u descriptors, %u mappings; there were %u, %u",
		            stage_board->held.fds, stage_board->held.maps,
		            stage_held.fds, stage_held.maps);
	if (stage_board->fault[0] != '\0')
		print_message("%s\n", stage_board->fault);
	return stage_board->fault[0] == '\0';
}

static inline int stage_teardown(void **state)
{
	int neighbour, server;

	/* One after the other: a server that closes answers nobody. */
	scene_put(&stage_board->is_enough, 1);
	neighbour = scene_wait(stage_neighbour, STAGE_PATIENCE_NS);
	scene_put(&stage_board->stop, 1);
	server = scene_wait(stage_server, STAGE_PATIENCE_NS);
	if (neighbour != 0 || server != 0 || strcmp(scene_names(), "") != 0) {
		print_message("the stage did not end well: %s%s\n",
		              stage_board->fault, scene_names());
		scene_teardown(state);
		return -1;
	}
	return scene_teardown(state);
}

static inline int stage_group_setup(void **state)
{
	stage_board = scene_board(sizeof(*stage_board));
	if (stage_board == NULL || scene_group_setup(state) != 0)
		return -1;
	/* Strangers have to reach the socket. */
	return chmod(scene_directory, 0711);
}

#endif
