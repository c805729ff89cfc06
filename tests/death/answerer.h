/* SPDX-License-Identifier: MIT */
/*
 * What tests share in which clients die, one after the other:
 *
 *	server   sleeps without a net, answers on a worker and on its own
 *	         thread; after each death nothing runs, nothing is held, the slot
 *	         is free, and every request is accounted for
 *	other    calls once when it is asked to
 *	victim   a new process each time; a request that runs while it dies is
 *	         cancelled
 */
#ifndef PEAL_TESTS_DEATH_ANSWERER_H
#define PEAL_TESTS_DEATH_ANSWERER_H

#include "tests/slots.h"

#include "peal/client.h"
#include "reactor/reactor.h"

#define NAME "calls"
#define OTHER 0 /* its sender number; a victim's is its life */
#define SLOT_MAX 8
#define MESSAGE_BYTES 100
#define WATCH_NS (30 * SCENE_S)

struct board {
	uint64_t is_open, is_connected, stop;
	uint64_t life;
	uint64_t attempted, begun_count; /* requests; it says how many */
	uint64_t cancelled_count;
	uint64_t hold;      /* the victim's requests are not answered for now */
	uint64_t send_away; /* after the answer; then it is 0 again */
	uint64_t asked, answered, alone; /* of the other */
	uint64_t use_count;              /* of slots */
	struct scene_held held;
	struct peal_reactor_stats stats;
	char fault[200];
};

static struct board *board;
static uint32_t wait_mode; /* of the clients in this part */

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* the server's process ---------------------------------------------------- */

/* While the answer is held back its client may die: then it is told so. */
static void hold_back(struct peal_request *request)
{
	uint64_t end_ns = scene_now_ns() + WATCH_NS;

	while (scene_get(&board->hold) != 0 &&
	       !peal_request_cancelled(request) && scene_now_ns() < end_ns)
		scene_sleep_ns(50 * SCENE_US);
	if (peal_request_cancelled(request))
		scene_add(&board->cancelled_count, 1);
	else if (scene_now_ns() >= end_ns)
		fault("a request of a dead client is not cancelled");
}

struct leaving {
	struct peal_reactor *reactor;
	struct peal_peer peer;
};

static void disconnect(void *arg)
{
	struct leaving *leaving = arg;

	peal_reactor_disconnect(leaving->reactor, leaving->peer);
	free(leaving);
}

/* On the reactor's thread, when the answer has gone. */
static void send_away(struct peal_reactor *reactor, struct peal_peer peer)
{
	struct leaving *leaving = malloc(sizeof(*leaving));

	if (leaving == NULL) {
		fault("no memory");
		return;
	}
	*leaving = (struct leaving){reactor, peer};
	if (peal_reactor_post(reactor, disconnect, leaving) < 0)
		fault("post");
}

static struct peal_reactor *server; /* of its process */

/* What is asked last may be asked again: the answer to one that is sent away is
 * lost with its connection. */
static bool is_next(uint64_t sequence)
{
	uint64_t attempted = scene_get(&board->attempted);
	uint64_t begun = scene_get(&board->begun_count);

	/* Both may be running at the same time. */
	do {
		if (sequence == attempted && sequence == begun)
			return true;
		if (sequence != begun + 1 || sequence > attempted)
			return false;
	} while (!__atomic_compare_exchange_n(&board->begun_count, &begun,
	                                      sequence, false, __ATOMIC_ACQ_REL,
	                                      __ATOMIC_ACQUIRE));
	return true;
}

static void serve(struct peal_request *request, void *arg)
{
	struct peal_peer peer = peal_request_peer(request);
	bool is_victims = false, is_to_go;
	struct scene_stamp stamp;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	if (!scene_stamp_read(data, bytes, &stamp)) {
		fault("a torn request");
	} else if (stamp.sender != OTHER) {
		is_victims = true;
		if (stamp.sender != scene_get(&board->life) ||
		    !is_next(stamp.sequence))
			fault("request %llu of life %u",
			      (unsigned long long)stamp.sequence, stamp.sender);
		hold_back(request);
	}
	/* Before the reply: what is asked for after it is of the next request. */
	is_to_go = is_victims && __atomic_exchange_n(&board->send_away, 0,
	                                             __ATOMIC_ACQ_REL) != 0;
	peal_reply(request, data, bytes);
	if (is_to_go)
		send_away(server, peer);
}

/* Is the other one left alone, and everything of the dead one gone? Or why not. */
static bool is_alone(struct peal_reactor *reactor, char why[SCENE_WHY_BYTES])
{
	const struct peal_consumer *consumer = reactor->consumer;
	struct peal_reactor_stats *stats = &board->stats;
	uint32_t free_count = slots_free_count(consumer);

	if (peal_reactor_stats(reactor, stats) < 0)
		return false;
	snprintf(why, SCENE_WHY_BYTES,
	         "%u of %u slots are free, %llu requests run", free_count,
	         SLOT_MAX - 1, (unsigned long long)stats->running_count);
	if (free_count != SLOT_MAX - 1 || stats->running_count != 0)
		return false;
	if (stats->received_count !=
	    stats->answered_count + stats->failed_count + stats->dropped_count)
		fault("a request is not accounted for");
	board->use_count = slots_use_count(consumer);
	return scene_holds_the_same(&board->held, why);
}

static int serve_all(void *arg)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_reactor *reactor;
	uint64_t answered = 0;
	char why[SCENE_WHY_BYTES];
	bool alone;

	(void)arg;
	options.name = NAME;
	options.on_request = serve;
	options.worker_count = 1;
	options.inline_mode = PEAL_INLINE_NEVER;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.client_max = SLOT_MAX;
	options.ring_default_bytes = PEAL_RING_MIN_BYTES;
	if (peal_reactor_open(&options, &reactor) < 0)
		return fault("open");
	server = reactor;
	scene_put(&board->is_open, 1);
	while (scene_get(&board->stop) == 0) {
		/* No limit: who does not wake us leaves us asleep. */
		peal_reactor_run_once(reactor, PEAL_FOREVER);
		if (answered == scene_get(&board->answered))
			continue;
		answered = scene_get(&board->answered);
		/* Once is enough, as in words.h. */
		alone = is_alone(reactor, why);
		for (int i = 0; i < 2000 && !alone; i++) {
			peal_reactor_run_once(reactor, SCENE_MS);
			alone = is_alone(reactor, why);
		}
		if (!alone)
			fault("not everything was freed: %s", why);
		scene_put(&board->alone, answered);
	}
	return 0;
}

/* clients' processes ------------------------------------------------------ */

static struct peal_client *connect_client(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;
	int error;

	options.name = NAME;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.reconnect = 1;
	error = peal_client_connect(&options, WATCH_NS, &client);
	if (error == 0)
		return client;
	fault("connect: %d", error);
	return NULL;
}

static int check_answer(const struct peal_message *answer, uint32_t sender,
                        uint64_t sequence)
{
	struct scene_stamp stamp;

	return scene_stamp_read(answer->data, answer->data_bytes, &stamp) &&
	                       stamp.sender == sender &&
	                       stamp.sequence == sequence
	               ? 0
	               : fault("not the answer to %llu",
	                       (unsigned long long)sequence);
}

static int call(struct peal_client *client, uint32_t sender, uint64_t sequence)
{
	uint8_t data[MESSAGE_BYTES];
	struct peal_message answer;
	int error;

	scene_stamp_write(data, sizeof(data), sender, sequence);
	error = peal_client_call(client, data, sizeof(data), WATCH_NS, &answer);
	return error < 0 ? fault("call: %d", error)
	                 : check_answer(&answer, sender, sequence);
}

/* Each time twice: the second one finds the server with nothing else to do. */
static int call_when_asked(void *arg)
{
	struct peal_client *client = connect_client();

	(void)arg;
	if (client == NULL)
		return 1;
	scene_put(&board->is_connected, 1);
	for (uint64_t i = 1; scene_reach(&board->asked, i, 1000 * SCENE_S);
	     i++) {
		if (call(client, OTHER, 2 * i) != 0)
			return 1;
		scene_put(&board->answered, i);
		if (call(client, OTHER, 2 * i + 1) != 0)
			return 1;
	}
	return 1;
}

/* the parent -------------------------------------------------------------- */

static int open_board(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

static void start_stage(uint32_t mode)
{
	memset(board, 0, sizeof(*board));
	wait_mode = mode;
	scene_start(serve_all, NULL);
	if (!scene_reach(&board->is_open, 1, WATCH_NS))
		fault("the server is not open");
	scene_start(call_when_asked, NULL);
	if (!scene_reach(&board->is_connected, 1, WATCH_NS))
		fault("the other client does not connect");
}

static inline void end_stage(void)
{
	scene_begin_again();
	assert_string_equal(board->fault, "");
}

static void begin_life(void)
{
	board->begun_count = board->attempted = 0;
	scene_put(&board->hold, 1);
	scene_add(&board->life, 1);
}

/* After a victim that has ended so: is all as it must be? */
static void examine_life(int status)
{
	if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
		fault("the victim ended with %d", status);
	scene_add(&board->asked, 1);
	if (!scene_reach_unless(board->fault, &board->answered, board->asked,
	                        WATCH_NS))
		fault("the other client is not answered any more");
	else if (!scene_reach_unless(board->fault, &board->alone, board->asked,
	                             WATCH_NS))
		fault("the server does not get up");
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
