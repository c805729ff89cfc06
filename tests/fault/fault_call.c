/* SPDX-License-Identifier: MIT */
/*
 * What goes on between a client and a server, with every call failing once:
 * requests and their answers, pushes, calls of the server, posts.
 *
 *	talks     one thread has both ends and does one step after the other, in
 *	          rings so small that much of it has to be kept in memory
 *	sleepers  two threads that sleep for each other after every message
 *
 * Whatever fails, each request, call and post ends once, and a push that was
 * taken arrives.
 *
 *	./test_fault_call [--full]
 */
#include "tests/fault/walk.h"

#include <pthread.h>

#include "peal/client.h"

#define NAME "talk"
#define RING_BYTES 4096
#define PUSH_BYTES 1000 /* a few of them fill a ring */
#define PUSHES 6
#define REQUESTS 3
#define ROUNDS 4
#define LOOKS_WITHOUT_MEMORY 100
#define PATIENCE_NS (20 * SCENE_S)

static struct peal_reactor *reactor;
static struct peal_client *client;
static struct peal_peer peer;
static uint32_t worker_count, wait_mode;

static struct {
	uint32_t sent_count, ended_count;      /* requests */
	uint32_t taken_count, arrived_count;   /* pushes */
	uint32_t called_count, returned_count; /* calls of the server */
	uint32_t posted_count, run_count;
	int error; /* the first that was told */
	uint32_t has_opened;
} talk;

/* talks -------------------------------------------------------------------- */

static int tell(int error)
{
	if (error < 0 && error != -EAGAIN && error != -ETIMEDOUT &&
	    talk.error == 0)
		talk.error = error;
	return error;
}

static void on_opened(struct peal_reactor *server, struct peal_peer opened,
                      void *arg)
{
	(void)server;
	(void)arg;
	peer = opened;
	talk.has_opened = 1;
}

/* Large, so that it does not fit where it was asked for. */
static void answer_at_length(struct peal_request *request, void *arg)
{
	static const uint8_t data[PUSH_BYTES];
	void *place;
	int error;

	(void)arg;
	error = peal_reply(request, data, sizeof(data));
	if (error == -ENOMEM)
		error = peal_reply_claim(request, 8, &place);
	else if (error == 0)
		return;
	/* The request is still ours. */
	if (error == 0) {
		memcpy(place, "in place", 8);
		error = peal_reply_publish(request, 8);
	}
	if (error < 0)
		peal_request_drop(request);
}

static void answer_call(struct peal_request *request, void *arg)
{
	(void)arg;
	if (peal_reply(request, "lane", 4) < 0)
		peal_request_drop(request);
}

static void take_push(const struct peal_message *push, void *arg)
{
	(void)arg;
	talk.arrived_count += push->data_bytes == PUSH_BYTES;
}

static void take_answer(int error, const struct peal_message *answer, void *arg)
{
	(void)arg;
	(void)answer;
	talk.returned_count++;
	tell(error);
}

static void count_post(void *arg)
{
	(void)arg;
	talk.run_count++;
}

static int prepare_talk(void)
{
	struct peal_reactor_options serves = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options asks = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_failure failure = {0};
	int error = -1;

	memset(&talk, 0, sizeof(talk));
	serves.name = asks.name = NAME;
	serves.ret_failure = asks.ret_failure = &failure;
	serves.on_request = answer_at_length;
	serves.on_opened = on_opened;
	serves.copy_requests = 1;
	serves.worker_count = worker_count;
	serves.inline_mode = worker_count > 0 ? PEAL_INLINE_NEVER
	                                      : PEAL_INLINE_AUTO;
	serves.client_max = 4;
	serves.ring_default_bytes = RING_BYTES;
	serves.spin_mode = asks.spin_mode = PEAL_SPIN_NEVER;
	asks.on_push = take_push;
	asks.on_request = answer_call;
	if (peal_reactor_open(&serves, &reactor) < 0)
		return walk_say("%s", failure.text);
	for (int tries = 0; tries < 3 && error != 0; tries++)
		error = peal_client_connect(&asks, PATIENCE_NS, &client);
	if (error != 0)
		return walk_say("%s", failure.text);
	while (!talk.has_opened)
		peal_reactor_run_once(reactor, SCENE_MS);
	return 0;
}

static void speak(void)
{
	static const uint8_t data[PUSH_BYTES];

	for (int i = 0; i < PUSHES; i++)
		talk.taken_count += tell(peal_reactor_push(reactor, peer, data,
		                                           sizeof(data))) == 0;
	talk.called_count +=
		tell(peal_reactor_call(reactor, peer, "ask", 3, PATIENCE_NS,
	                               take_answer, NULL)) == 0;
	talk.posted_count +=
		tell(peal_reactor_post(reactor, count_post, NULL)) == 0;
	for (int i = 0; i < REQUESTS; i++)
		talk.sent_count +=
			tell(peal_client_send(client, "please", 6, PEAL_FOREVER,
		                              0, NULL)) == 0;
}

static bool has_ended(void)
{
	return talk.ended_count == talk.sent_count &&
	       (talk.arrived_count == talk.taken_count ||
	        talk.error == -ECONNRESET) &&
	       talk.returned_count == talk.called_count &&
	       talk.run_count == talk.posted_count;
}

static int run_talk(struct peal_failure *failure)
{
	uint64_t end_ns = scene_now_ns() + PATIENCE_NS;
	struct peal_message answer;
	uint32_t looks = 0;

	(void)failure;
	speak();
	while (!has_ended()) {
		/* What could not be done for want of memory is done when it
		 * comes back. */
		if (walk.pass == FAULT_PASS_FROM_NOW_ON &&
		    ++looks == LOOKS_WITHOUT_MEMORY)
			fault_disarm();
		if (scene_now_ns() > end_ns)
			return WALK_DID_NOT_END;
		tell(peal_reactor_run_once(reactor, 0));
		if (tell(peal_client_recv(client, 0, &answer)) != 0)
			continue;
		talk.ended_count++;
		if (answer.kind == PEAL_FAILED)
			tell(answer.status);
	}
	return talk.error;
}

/* A server that could not hear its client has sent it away. */
static bool may_be_lost(void)
{
	return walk.operation->whose == FAULT_OTHERS &&
	       walk_fault.name != NULL &&
	       (strcmp(walk_fault.name, "recvmsg") == 0 ||
	        walk.pass == FAULT_PASS_FROM_NOW_ON);
}

static int end_talk(int result)
{
	struct peal_reactor_stats stats;

	(void)result;
	peal_client_close(client);
	peal_reactor_stats(reactor, &stats);
	if (!has_ended() ||
	    (stats.received_count != talk.sent_count && !may_be_lost()))
		walk_say("sent %u, ended %u; pushed %u, arrived %u; called "
		         "%u, returned %u; posted %u, run %u",
		         talk.sent_count, talk.ended_count, talk.taken_count,
		         talk.arrived_count, talk.called_count,
		         talk.returned_count, talk.posted_count,
		         talk.run_count);
	while (peal_reactor_close(reactor) == -EBUSY)
		;
	return walk_word[0] == '\0' ? 0 : -1;
}

/* sleepers ----------------------------------------------------------------- */

static pthread_t thread;

static void echo(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
}

static void *serve(void *arg)
{
	peal_reactor_run(reactor);
	return arg;
}

static int start_sleepers(void)
{
	struct peal_reactor_options serves = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options asks = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_message answer;
	int error;

	serves.name = asks.name = NAME;
	serves.on_request = echo;
	serves.worker_count = worker_count;
	serves.inline_mode = worker_count > 0 ? PEAL_INLINE_NEVER
	                                      : PEAL_INLINE_AUTO;
	serves.client_max = 4;
	serves.ring_default_bytes = RING_BYTES;
	serves.spin_mode = asks.spin_mode = PEAL_SPIN_NEVER;
	serves.wait_mode = asks.wait_mode = wait_mode;
	asks.reconnect = 1;
	error = peal_reactor_open(&serves, &reactor);
	if (error == 0)
		error = -pthread_create(&thread, NULL, serve, NULL);
	if (error == 0)
		error = peal_client_connect(&asks, PATIENCE_NS, &client);
	/* What is made once has been made, also for several at a time. */
	for (int i = 0; i < 8 && error == 0; i++)
		error = peal_client_send(client, "x", 1, PEAL_FOREVER,
		                         PATIENCE_NS, NULL);
	for (int i = 0; i < 8 && error == 0; i++)
		error = peal_client_recv(client, PATIENCE_NS, &answer);
	return error;
}

static int stop_sleepers(void **state)
{
	(void)state;
	peal_client_close(client);
	peal_reactor_stop(reactor, PATIENCE_NS);
	pthread_join(thread, NULL);
	peal_reactor_close(reactor);
	return 0;
}

static int run_calls(struct peal_failure *failure)
{
	struct peal_message answer;
	int error = 0;

	(void)failure;
	for (uint32_t i = 0; i < ROUNDS && error == 0; i++) {
		error = peal_client_call(client, &i, sizeof(i), PATIENCE_NS,
		                         &answer);
		if (error == 0 && (answer.data_bytes != sizeof(i) ||
		                   memcmp(answer.data, &i, sizeof(i)) != 0))
			error = WALK_DID_NOT_END;
	}
	return error;
}

/* Until it is connected again, if it was lost. */
static int call_again(int result)
{
	for (int tries = 0; result != 0 && tries < 10; tries++)
		result = run_calls(NULL);
	return result == 0 ? 0 : walk_say("it does not come back: %d", result);
}

/* room --------------------------------------------------------------------- */

static struct peal_consumer *consumer;
static struct peal_producer *producer;
static uint32_t is_over;
static uint64_t taken_count, sent_count;

static void *consume(void *arg)
{
	struct peal_message message;

	while (scene_get(&is_over) == 0) {
		peal_consumer_wait(consumer, PEAL_FOREVER);
		/* Later than it could, so that there is no room. */
		scene_sleep_ns(100 * SCENE_US);
		while (peal_consumer_peek(consumer, &message) == 0) {
			peal_consumer_release(consumer, &message);
			scene_add(&taken_count, 1);
		}
	}
	return arg;
}

static int start_producing(void)
{
	struct peal_consumer_options takes = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_producer_options sends = PEAL_PRODUCER_OPTIONS_INIT;
	int error;

	takes.name = sends.name = NAME;
	takes.producer_max = 4;
	takes.ring_default_bytes = RING_BYTES;
	takes.spin_mode = sends.spin_mode = PEAL_SPIN_NEVER;
	takes.wait_mode = sends.wait_mode = wait_mode;
	sends.reconnect = 1;
	is_over = 0;
	taken_count = sent_count = 0;
	error = peal_consumer_open(&takes, &consumer);
	if (error == 0)
		error = -pthread_create(&thread, NULL, consume, NULL);
	if (error == 0)
		error = peal_producer_attach(&sends, PATIENCE_NS, &producer);
	return error;
}

static int stop_producing(void **state)
{
	(void)state;
	peal_producer_detach(producer);
	scene_put(&is_over, 1);
	peal_consumer_notify(consumer);
	pthread_join(thread, NULL);
	peal_consumer_close(consumer);
	return 0;
}

static int run_sends(struct peal_failure *failure)
{
	static const uint8_t data[PUSH_BYTES];
	int error = 0;

	(void)failure;
	for (int i = 0; i < 5 * ROUNDS && error == 0; i++) {
		error = peal_producer_send(producer, data, sizeof(data),
		                           PATIENCE_NS);
		sent_count += error == 0;
	}
	return error;
}

/* Until nothing comes any more: of the lost nobody knows how many there are. */
static void count_anew(void)
{
	do {
		sent_count = scene_get(&taken_count);
		scene_sleep_ns(20 * SCENE_MS);
	} while (sent_count != scene_get(&taken_count));
}

static int see_them_taken(int result)
{
	if (may_be_lost()) {
		count_anew();
		result = -1;
		for (int tries = 0; result != 0 && tries < 10; tries++)
			result = run_sends(NULL);
		count_anew();
		return result;
	}
	return scene_reach(&taken_count, sent_count, PATIENCE_NS)
	               ? 0
	               : walk_say("%llu were sent, %llu taken",
	                          (unsigned long long)sent_count,
	                          (unsigned long long)taken_count);
}

/* walking ------------------------------------------------------------------ */

/* A call that the server has no memory for, or that its handler dropped. */
static const struct walk_exception ended[] = {
	{NULL, ENOMEM, -EIO},
	{NULL, ENOMEM, -ECONNRESET}, /* it could not hear its client */
	{NULL, 0, 0},
};

static const struct operation operations[] = {
	{"talk", FAULT_MINE, false, false, ended, prepare_talk, run_talk,
         end_talk, NULL},
	{"talk_with_workers", FAULT_OTHERS, false, false, ended, prepare_talk,
         run_talk, end_talk, NULL},
	{"call", FAULT_MINE, false, false, NULL, NULL, run_calls, call_again,
         NULL},
	{"call_and_its_server", FAULT_OTHERS, false, false, ended, NULL,
         run_calls, call_again, NULL},
	{"send_for_room", FAULT_MINE, false, false, NULL, NULL, run_sends,
         see_them_taken, NULL},
	{"send_and_its_consumer", FAULT_OTHERS, false, false, ended, NULL,
         run_sends, see_them_taken, NULL},
};

struct way {
	int operation;
	uint32_t worker_count, mode;
	const char *strikes; /* has to fail at least once */
};

static void walk_way(void **state)
{
	const struct way *way = *state;
	static struct operation own;
	const void *walked = &own;

	own = operations[way->operation];
	own.strikes = way->strikes;
	wait_mode = way->mode;
	worker_count = way->worker_count;
	if (way->operation >= 4)
		assert_int_equal(start_producing(), 0);
	else if (way->operation >= 2)
		assert_int_equal(start_sleepers(), 0);
	every_place_that_fails_is_told_and_leaves_nothing((void **)&walked);
}

#define FUTEX PEAL_WAIT_FUTEX
#define FD PEAL_WAIT_FD
#define WAY(name, index, workers, mode, teardown, strikes)    \
	{                                                     \
		name, walk_way, NULL, teardown, &(struct way) \
		{                                             \
			index, workers, mode, strikes         \
		}                                             \
	}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WAY("talk", 0, 0, FUTEX, NULL, "malloc calloc all(ENOMEM)"),
		WAY("talk_dispatched", 0, 2, FUTEX, NULL,
	            "malloc calloc all(ENOMEM)"),
		WAY("talk_with_workers", 1, 2, FUTEX, NULL,
	            "malloc all(ENOMEM)"),
		WAY("call", 2, 0, FUTEX, stop_sleepers, "futex(wake)"),
		WAY("call_in_fd_mode", 2, 0, FD, stop_sleepers, "poll send"),
		WAY("call_and_its_server", 3, 0, FUTEX, stop_sleepers,
	            "futex(wait) futex(wake)"),
		WAY("call_and_its_server_in_fd_mode", 3, 0, FD, stop_sleepers,
	            "epoll_wait send recvmsg"),
		WAY("call_and_its_workers", 3, 2, FUTEX, stop_sleepers,
	            "futex(wait) futex(wake)"),
		WAY("send_for_room", 4, 0, FUTEX, stop_producing,
	            "futex(wait) futex(wake)"),
		WAY("send_for_room_in_fd_mode", 4, 0, FD, stop_producing,
	            "poll send"),
		WAY("send_and_its_consumer", 5, 0, FUTEX, stop_producing,
	            "futex(wait) futex(wake)"),
		WAY("send_and_its_consumer_in_fd_mode", 5, 0, FD,
	            stop_producing, "epoll_wait send recvmsg"),
	};

	fault_is_full = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
