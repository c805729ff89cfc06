/* SPDX-License-Identifier: MIT */
/*
 * What tests share in which producers die, one after the other:
 *
 *	consumer   never spins and has no net: a lost wake stays lost
 *	other      sends one message when it is asked to
 *	victim     a new process each time; what it published arrives, the other
 *	           one can still wake the consumer, and the slot is free again,
 *	           with everything that the consumer had for it
 */
#ifndef PEAL_TESTS_DEATH_WORDS_H
#define PEAL_TESTS_DEATH_WORDS_H

#include "tests/slots.h"

#define NAME "words"
#define OTHER_SENDER 0
#define SLOT_MAX 8
#define WATCH_NS (30 * SCENE_S)

struct board {
	uint64_t is_open, is_attached, stop;
	uint64_t life; /* of victims; their sender number */
	uint64_t attempted, published, received;
	uint64_t asked, pings; /* of the other */
	uint64_t alone;        /* pings after which only the other was left */
	uint64_t use_count;    /* of slots */
	uint64_t hold;         /* the consumer takes nothing for now */
	struct scene_held held;
	char fault[200];
};

static struct board *board;
static uint32_t wait_mode; /* of everybody in this part */

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* the consumer's process ------------------------------------------------- */

static int take(const struct peal_message *message)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp))
		return fault("a torn message");
	if (stamp.sender == OTHER_SENDER) {
		scene_add(&board->pings, 1);
		return 0;
	}
	if (stamp.sender != board->life ||
	    stamp.sequence != board->received + 1)
		return fault("life %u: message %llu follows %llu", stamp.sender,
		             (unsigned long long)stamp.sequence,
		             (unsigned long long)board->received);
	scene_put(&board->received, stamp.sequence);
	/* So slow that its ring is full now and then. */
	if (stamp.sequence > 10)
		scene_sleep_ns(20 * SCENE_US);
	return 0;
}

static int drain(struct peal_consumer *consumer)
{
	struct peal_message message;

	while (peal_consumer_peek(consumer, &message) == 0) {
		if (take(&message) != 0)
			return -1;
		peal_consumer_release(consumer, &message);
	}
	return 0;
}

/* The slot is free, and nothing is held that was not held before; or why not. */
static bool is_alone(struct peal_consumer *consumer, char why[SCENE_WHY_BYTES])
{
	uint32_t free_count = slots_free_count(consumer);

	snprintf(why, SCENE_WHY_BYTES, "%u of %u slots are free", free_count,
	         SLOT_MAX - 1);
	if (free_count != SLOT_MAX - 1)
		return false;
	board->use_count = slots_use_count(consumer);
	/* The first one to go leaves what was set up once. */
	return scene_holds_the_same(&board->held, why);
}

static int consume_all(struct peal_consumer *consumer)
{
	uint64_t pings = 0;
	char why[SCENE_WHY_BYTES];
	bool alone;

	while (scene_get(&board->stop) == 0) {
		/* No limit: who does not wake us leaves us asleep. */
		if (peal_consumer_wait(consumer, PEAL_FOREVER) < 0)
			return fault("wait");
		if (scene_get(&board->hold) != 0)
			scene_sleep_ns(50 * SCENE_US);
		else if (drain(consumer) < 0)
			return 1;
		if (pings == board->pings)
			continue;
		pings = board->pings;
		/* Once is enough: what a dead one left in the backlog may be
		 * accepted only now. */
		alone = is_alone(consumer, why);
		for (int i = 0; i < 1000 && !alone; i++) {
			if (peal_consumer_wait(consumer, 2 * SCENE_MS) == 0 &&
			    drain(consumer) < 0)
				return 1;
			alone = is_alone(consumer, why);
		}
		if (!alone)
			return fault("not everything was freed: %s", why);
		scene_put(&board->alone, pings);
	}
	return 0;
}

static int consume(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;

	(void)arg;
	options.name = NAME;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.producer_max = SLOT_MAX;
	if (peal_consumer_open(&options, &consumer) < 0)
		return fault("open");
	scene_put(&board->is_open, 1);
	if (consume_all(consumer) != 0)
		return 1;
	return peal_consumer_close(consumer);
}

/* producers' processes --------------------------------------------------- */

static struct peal_producer *attach(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;

	options.name = NAME;
	options.ring_bytes = 4096;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	if (peal_producer_attach(&options, WATCH_NS, &producer) == 0)
		return producer;
	fault("attach");
	return NULL;
}

static int ping_when_asked(void *arg)
{
	uint8_t data[sizeof(struct scene_stamp)];
	struct peal_producer *producer = attach();

	(void)arg;
	if (producer == NULL)
		return 1;
	scene_put(&board->is_attached, 1);
	for (uint64_t i = 1; scene_reach(&board->asked, i, 1000 * SCENE_S);
	     i++) {
		scene_stamp_write(data, sizeof(data), OTHER_SENDER, i);
		if (peal_producer_send(producer, data, sizeof(data), 0) < 0)
			return fault("ping");
	}
	return 1;
}

static int send_some(struct peal_producer *producer, uint64_t count,
                     size_t bytes)
{
	uint64_t first = board->published + 1;
	void *data;

	for (uint64_t i = 0; i < count; i++) {
		if (peal_producer_claim(producer, bytes,
		                        i == 0 ? PEAL_FOREVER : 0, &data) < 0)
			return fault("claim");
		scene_stamp_write(data, bytes, (uint32_t)board->life,
		                  first + i);
	}
	scene_put(&board->attempted, first + count - 1);
	if (peal_producer_publish(producer) < 0)
		return fault("publish");
	scene_put(&board->published, first + count - 1);
	return 0;
}

/* the parent ------------------------------------------------------------- */

static int open_board(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

static void start_stage(uint32_t mode)
{
	memset(board, 0, sizeof(*board));
	wait_mode = mode;
	scene_start(consume, NULL);
	if (!scene_reach(&board->is_open, 1, WATCH_NS))
		fault("the consumer is not open");
	scene_start(ping_when_asked, NULL);
	if (!scene_reach(&board->is_attached, 1, WATCH_NS))
		fault("the other one does not attach");
}

static inline void end_stage(void)
{
	scene_begin_again();
	assert_string_equal(board->fault, "");
}

static void begin_life(void)
{
	board->attempted = board->published = board->received = 0;
	scene_add(&board->life, 1);
}

/* After it, and its death if it came to that: did all go on as it must? */
static void examine_life(int status)
{
	if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
		fault("the victim ended with %d", status);
	/* Whoever watches for deaths rings for the dead. */
	if (!scene_reach_unless(board->fault, &board->received,
	                        board->published, WATCH_NS))
		fault("%llu of %llu messages arrived",
		      (unsigned long long)board->received,
		      (unsigned long long)board->published);
	scene_add(&board->asked, 1);
	if (!scene_reach_unless(board->fault, &board->pings, board->asked,
	                        WATCH_NS))
		fault("nobody can wake the consumer any more");
	else if (!scene_reach_unless(board->fault, &board->alone, board->asked,
	                             WATCH_NS))
		fault("the slot was not freed");
	if (board->received != board->published &&
	    board->received != board->attempted)
		fault("%llu messages arrived, %llu were published, %llu "
		      "perhaps",
		      (unsigned long long)board->received,
		      (unsigned long long)board->published,
		      (unsigned long long)board->attempted);
}

static inline void judge_life(int status, const char *what)
{
	examine_life(status);
	if (board->fault[0] != '\0')
		fail_msg("%s: %s", what, board->fault);
}

/* Of a share of those that are stepped: with a board of its own. */
static inline void begin_share(uint32_t mode)
{
	board = scene_board(sizeof(*board));
	if (board == NULL)
		abort();
	start_stage(mode);
}

static inline const char *found_fault(void)
{
	return board->fault;
}

#endif
