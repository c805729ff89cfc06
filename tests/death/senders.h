/* SPDX-License-Identifier: MIT */
/*
 * What tests share in which consumers die, one after the other:
 *
 *	producers  one blocks in a tiny ring, one sends now and then: they are
 *	           told -ECONNRESET, or -ESHUTDOWN when it was closing, once,
 *	           and hold no more after it than before
 *	visitor    attaches, sends and detaches, again and again; every other
 *	           time its next message is nonsense, and it is sent away
 *	victim     a new process each time
 *	heir       opens the name after it: everybody is heard, nothing is left
 */
#ifndef PEAL_TESTS_DEATH_SENDERS_H
#define PEAL_TESTS_DEATH_SENDERS_H

#include "tests/death/heir.h"

#include "mpsc/producer.h"
#include "peal/mpsc.h"

#define NAME "words"
#define SENDER_COUNT 2
#define VISITOR SENDER_COUNT
#define SLOT_MAX 8
#define PEEKS_MAX 8 /* between two looks at the rest of the world */

enum { FILLS, SENDS_SLOWLY };
enum { HUSH_NOBODY, HUSH_ALL_BUT_SLOW, HUSH_ALL };

struct board {
	uint64_t round;           /* of the heir that is open, else 0 */
	uint64_t stop;            /* the heir: close */
	uint64_t over;            /* everybody: it is over */
	uint64_t hush;            /* producers: send nothing for now */
	uint64_t shut_down_count; /* told that a consumer closes */
	struct told told;         /* that one died */
	uint64_t sent[SENDER_COUNT];
	struct scene_held held[SENDER_COUNT];
	uint64_t heard[SENDER_COUNT + 1]; /* the last round it was heard in */
	char fault[200];
};

static struct board *board;
static uint32_t wait_mode; /* of everybody in this part */

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* producers' processes --------------------------------------------------- */

static void note_told(int error)
{
	/* An heir closes in peace. */
	if (error == -ESHUTDOWN)
		scene_add(&board->shut_down_count, 1);
	else if (!told_now(&board->told))
		fault("told of a death that did not happen");
}

/* Whoever has attached again holds what it held at first. */
static void check_held(uint32_t sender)
{
	char why[SCENE_WHY_BYTES];

	if (!scene_holds_the_same(&board->held[sender], why))
		fault("sender %u holds %s", sender, why);
}

static int send_for_ever(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	uint32_t sender = (uint32_t)(uintptr_t)arg;
	struct peal_producer *producer = NULL;
	uint64_t sequence = 0;
	bool is_connected = false;
	uint8_t data[400];
	int error;

	options.name = NAME;
	options.ring_bytes = 4096;
	options.reconnect = 1;
	options.wait_mode = wait_mode;
	while (scene_get(&board->over) == 0) {
		size_t bytes = sender == FILLS ? sizeof(data) : 40;

		/* Only who is connected may be quiet, or it would never be. */
		if (is_connected &&
		    scene_get(&board->hush) > (sender == SENDS_SLOWLY)) {
			scene_sleep_ns(SCENE_MS / 10);
			continue;
		}

		scene_stamp_write(data, bytes, sender, sequence + 1);
		error = producer == NULL
		                ? peal_producer_attach(&options, WATCH_NS,
		                                       &producer)
		                : peal_producer_send(producer, data, bytes,
		                                     WATCH_NS);
		if (error == -ETIMEDOUT)
			return fault("sender %u hung", sender);
		if (is_connected &&
		    (error == -ECONNRESET || error == -ESHUTDOWN))
			note_told(error);
		if (!is_connected && error == 0)
			check_held(sender);
		is_connected = error == 0;
		sequence += is_connected;
		scene_add(&board->sent[sender], is_connected);
		if (error < 0 || sender == SENDS_SLOWLY)
			scene_sleep_ns(SCENE_MS / 2);
	}
	return 0;
}

/* Longer than what can be unread. */
static void send_nonsense(struct peal_producer *producer)
{
	const struct peal_ring_tx *tx = &producer->hot.tx;

	__atomic_store_n(&peal__ring_frame(tx->data, tx->capacity_bytes,
	                                   tx->tail)
	                          ->commit,
	                 UINT32_MAX & ~UINT32_C(15), __ATOMIC_SEQ_CST);
}

/* So that the door has something to do as well. */
static int visit_for_ever(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	uint8_t data[sizeof(struct scene_stamp)];
	uint64_t visit_count = 0;

	(void)arg;
	options.name = NAME;
	while (scene_get(&board->over) == 0) {
		if (scene_get(&board->hush) == 0 &&
		    peal_producer_attach(&options, WATCH_NS, &producer) == 0) {
			scene_stamp_write(data, sizeof(data), VISITOR, 1);
			if (peal_producer_send(producer, data, sizeof(data),
			                       0) == 0) {
				if (visit_count++ % 2 != 0)
					send_nonsense(producer);
				scene_sleep_ns(SCENE_MS);
			}
			peal_producer_detach(producer);
		}
		scene_sleep_ns(SCENE_MS);
	}
	return 0;
}

/* consumers' processes --------------------------------------------------- */

static int take(const struct peal_message *message, uint32_t *ret_sender)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp) ||
	    stamp.sender > VISITOR)
		return fault("a torn message");
	*ret_sender = stamp.sender;
	return 0;
}

static struct peal_consumer *open_consumer(void)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_failure failure;

	options.name = NAME;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.producer_max = SLOT_MAX;
	options.ret_failure = &failure;
	if (peal_consumer_open(&options, &consumer) == 0)
		return consumer;
	fault("open: %s", failure.text);
	return NULL;
}

static int inherit(void *arg)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_message message;
	uint64_t round = (uintptr_t)arg;
	uint32_t sender = 0;

	if (consumer == NULL)
		return 1;
	while (scene_get(&board->stop) == 0) {
		peal_consumer_wait(consumer, SCENE_MS);
		for (int i = 0; i < PEEKS_MAX &&
		                peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			if (take(&message, &sender) != 0)
				return 1;
			scene_put(&board->heard[sender], round);
			peal_consumer_release(consumer, &message);
		}
	}
	return peal_consumer_close(consumer);
}

/* the parent ------------------------------------------------------------- */

static int open_board(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

static void start_senders(uint32_t mode)
{
	memset(board, 0, sizeof(*board));
	wait_mode = mode;
	for (uintptr_t i = 0; i < SENDER_COUNT; i++)
		scene_start(send_for_ever, (void *)i);
	scene_start(visit_for_ever, NULL);
}

/* Somebody was told of a death, and all but so many percent of them soon. */
static void end_senders(uint32_t percent)
{
	const char *why;

	scene_put(&board->over, 1);
	print_message("told of %llu closes\n",
	              (unsigned long long)board->shut_down_count);
	why = told_fault(&board->told, percent);
	if (why != NULL)
		fault("%s", why);
	scene_kill_all();
}

static inline void end_share(void)
{
	end_senders(LATE_PERCENT_OF_MANY);
}

/* The heir of whoever lived before: all are heard, and nothing is left. */
static void run_heir(uint64_t round)
{
	const char *why;
	pid_t heir;

	scene_put(&board->stop, 0);
	heir = scene_start(inherit, (void *)(uintptr_t)round);
	for (uint32_t i = 0; i <= VISITOR; i++)
		if (!scene_reach_unless(board->fault, &board->heard[i], round,
		                        WATCH_NS))
			fault("sender %u was not heard by the heir", i);
	scene_put(&board->stop, 1);
	why = heir_fault(heir);
	if (why != NULL)
		fault("%s", why);
}

/* After a victim that has ended so, and its heir: is all as it must be? */
static void examine_life(int status)
{
	static uint64_t round;

	if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
		fault("the victim ended with %d", status);
	for (const char *const *name =
	             (const char *const[]){"", NAME ".lock ",
	                                   NAME ".lock " NAME "~peal ",
	                                   NAME " " NAME ".lock ", NULL};
	     strcmp(scene_names(), *name) != 0;)
		if (*++name == NULL) {
			fault("left behind: %s", scene_names());
			break;
		}
	run_heir(++round);
	if (board->told.max_ns > FAR_ABOVE_NS)
		fault("told after %.0f ms", (double)board->told.max_ns / 1e6);
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
	start_senders(mode);
}

static inline const char *found_fault(void)
{
	return board->fault;
}

#endif
