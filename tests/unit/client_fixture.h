/* SPDX-License-Identifier: MIT */
/*
 * A server for clients that does what the request says, on a thread of its own
 * or in a child that can be killed.
 *
 *	"echo ..."   answers with the same bytes
 *	"empty"      with none; "status": with status 7
 *	"fail"       fails with -EBUSY
 *	"keep"       does not answer before "let go", which answers it second
 *	"push N"     sends N pushes "news", then answers
 *	"call"       calls the client, and answers what its handler answered
 *	"error"      likewise, with the status of a FAILED
 *	"flood"      sends pushes until the ring is full, and sleeps until there
 *	             is room; then answers
 *	"junk N"     sends a frame of kind N with an id of nobody's; "zero N": 0
 *	"close"      ends the server's thread
 *
 * Callers: the thread never asserts. One client.
 */
#ifndef PEAL_TESTS_UNIT_CLIENT_FIXTURE_H
#define PEAL_TESTS_UNIT_CLIENT_FIXTURE_H

#include "tests/unit/mpsc_fixture.h"

#include "mpsc/server.h"
#include "peal/client.h"
#include "reactor/frame.h"

struct server {
	struct peal__owner owner;
	struct peal_consumer *consumer;
	pthread_t thread;
	uint32_t stop;
	struct peal__slot *slot;
	struct peal_ring_tx tx;
	struct peal_ringer bell;
	struct peal_ring_rx lane;
	uint64_t kept_id;
	uint64_t call_id;
	uint64_t calling_id; /* the request that "call" is to answer */
	bool is_error_wanted;
	uint64_t deadline_ns; /* of the last request, absolute; 0: none */
	uint32_t request_count;
	uint32_t is_deaf; /* takes no requests */
	uint32_t is_lane_deaf;
	uint64_t want; /* it waits for the client to release so far; or 0 */
};

static inline bool server_has_work(void *object)
{
	struct server *server = object;

	if (server->slot == NULL)
		return false;
	if (server->want != 0)
		return (int64_t)(__atomic_load_n(server->tx.released_word,
		                                 __ATOMIC_SEQ_CST) -
		                 server->want) >= 0;
	return !flag_is_set(&server->is_lane_deaf) &&
	       peal_ring_has_data(&server->lane);
}

static inline void server_settle(void *object)
{
	(void)object;
}

static inline void server_opened(void *object, struct peal__slot *slot)
{
	struct server *server = object;
	struct peal__segment *segment = slot->segment;

	__atomic_store_n(&server->slot, slot, __ATOMIC_RELEASE);
	peal_ring_tx_init(&server->tx,
	                  peal__segment_data(segment, &slot->shape,
	                                     PEAL__RING_RESPONSE),
	                  slot->shape.rings[PEAL__RING_RESPONSE].bytes,
	                  slot->shape.rings[PEAL__RING_RESPONSE].start,
	                  &segment->response_released);
	peal_ring_rx_init(&server->lane,
	                  peal__segment_data(segment, &slot->shape,
	                                     PEAL__RING_LANE),
	                  slot->shape.rings[PEAL__RING_LANE].bytes,
	                  slot->shape.rings[PEAL__RING_LANE].start,
	                  &segment->lane_released);
	server->bell = (struct peal_ringer){.arm = &segment->answers.arm,
	                                    .seq = &segment->answers.seq,
	                                    .is_clients = 1,
	                                    .fd = slot->socket_fd};
	__atomic_store_n(&segment->response_want,
	                 server->tx.tail + (UINT64_C(1) << 62),
	                 __ATOMIC_RELAXED);
}

static inline void server_closed(void *object, struct peal__slot *slot,
                                 int reason)
{
	struct server *server = object;

	(void)slot;
	(void)reason;
	server->slot = NULL;
}

/* Returns false when the ring is full. */
static inline bool server_send(struct server *server, uint32_t type,
                               uint64_t id, const int64_t *extension,
                               const void *data, size_t bytes)
{
	void *to;

	if (server->slot == NULL)
		return true;
	if (peal__frame_claim(&server->tx, (enum peal__frame)type, id,
	                      (const uint64_t *)extension, bytes, &to) != 0)
		return false;
	if (bytes > 0)
		memcpy(to, data, bytes);
	peal_ring_publish(&server->tx);
	peal_doorbell_ring(&server->bell);
	return true;
}

static inline void server_answer(struct server *server, uint64_t id,
                                 const void *data, size_t bytes)
{
	server_send(server, PEAL__FRAME_ANSWER, id, NULL, data, bytes);
}

/* As the reactor parks a client, and looks before it sleeps. */
static inline void server_flood(struct server *server, uint64_t id)
{
	static const char news[100] = "news";
	struct peal__segment *segment = server->slot->segment;

	while (server_send(server, PEAL__FRAME_PUSH, 0, NULL, news,
	                   sizeof(news)))
		continue;
	server->want = server->tx.tail + 4000 - server->tx.capacity_bytes;
	__atomic_store_n(&segment->response_want, server->want,
	                 __ATOMIC_SEQ_CST);
	while (!flag_is_set(&server->stop) && !server_has_work(server))
		peal_consumer_wait(server->consumer, SECOND);
	server->want = 0;
	__atomic_store_n(&segment->response_want,
	                 server->tx.tail + (UINT64_C(1) << 62),
	                 __ATOMIC_RELAXED);
	server_answer(server, id, "flooded", 7);
}

static inline bool server_is(const struct peal_message *message,
                             const char *text, long *ret_number)
{
	char copy[64] = "";
	size_t bytes = strlen(text);

	if (message->data_bytes < bytes ||
	    memcmp(message->data, text, bytes) != 0)
		return false;
	memcpy(copy, (const char *)message->data + bytes,
	       message->data_bytes - bytes < 63 ? message->data_bytes - bytes
	                                        : 63);
	*ret_number = atol(copy);
	return true;
}

static inline void server_serve(struct server *server,
                                const struct peal_message *message)
{
	const int64_t busy = -EBUSY, seven = 7;
	uint64_t id = message->id;
	long number;

	if (server_is(message, "echo", &number)) {
		server_answer(server, id, message->data, message->data_bytes);
	} else if (server_is(message, "empty", &number)) {
		server_answer(server, id, NULL, 0);
	} else if (server_is(message, "status", &number)) {
		server_send(server, PEAL__FRAME_ANSWER, id, &seven, "x", 1);
	} else if (server_is(message, "fail", &number)) {
		server_send(server, PEAL__FRAME_FAILED, id, &busy, NULL, 0);
	} else if (server_is(message, "keep", &number)) {
		server->kept_id = id;
	} else if (server_is(message, "let go", &number)) {
		server_answer(server, id, "first", 5);
		server_answer(server, server->kept_id, "kept", 4);
	} else if (server_is(message, "push", &number)) {
		while (number-- > 0)
			server_send(server, PEAL__FRAME_PUSH, 0, NULL, "news",
			            4);
		server_answer(server, id, "pushed", 6);
	} else if (server_is(message, "call", &number) ||
	           server_is(message, "error", &number)) {
		server->calling_id = id;
		server->is_error_wanted = *(const char *)message->data == 'e';
		server_send(server, PEAL__FRAME_CALL, ++server->call_id, NULL,
		            "who are you?", 12);
	} else if (server_is(message, "flood", &number)) {
		server_flood(server, id);
	} else if (server_is(message, "junk", &number)) {
		server_send(server, (uint32_t)number, 12345, NULL, "junk", 4);
	} else if (server_is(message, "zero", &number)) {
		server_send(server, (uint32_t)number, 0, NULL, "junk", 4);
	} else if (server_is(message, "close", &number)) {
		flag_set(&server->stop);
	}
}

static inline void server_take_lane(struct server *server)
{
	struct peal_message message;
	struct peal__frame_parts parts;

	while (server->slot != NULL && !flag_is_set(&server->is_lane_deaf) &&
	       peal_ring_peek(&server->lane, &message) == 0) {
		struct peal_message whole = message;
		char text[32];
		int length;

		if (peal__frame_take(&message, &parts) != 0)
			continue;
		if (server->calling_id == 0) {
			/* nobody wants it */
		} else if (server->is_error_wanted) {
			length = snprintf(text, sizeof(text), "%d",
			                  (int)parts.extension);
			server_answer(server, server->calling_id, text,
			              (size_t)length);
		} else {
			server_answer(server, server->calling_id, message.data,
			              message.data_bytes);
		}
		peal_ring_release(&server->lane, &whole);
		peal_ring_settle(&server->lane);
	}
}

static inline void *server_main(void *argument)
{
	struct server *server = argument;
	struct peal__frame_parts parts;
	struct peal_message message;

	while (!flag_is_set(&server->stop)) {
		peal_consumer_wait(server->consumer, 20 * MS);
		server_take_lane(server);
		while (!flag_is_set(&server->is_deaf) &&
		       peal_consumer_peek(server->consumer, &message) == 0) {
			struct peal_message whole = message;

			if (peal__frame_take(&message, &parts) == 0) {
				__atomic_store_n(&server->deadline_ns,
				                 parts.extension,
				                 __ATOMIC_RELAXED);
				server_serve(server, &message);
			}
			peal_consumer_release(server->consumer, &whole);
			__atomic_add_fetch(&server->request_count, 1,
			                   __ATOMIC_RELEASE);
		}
	}
	return NULL;
}

/* Without a thread, for children. 0 or -errno. */
static inline int server_open(struct server *server)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = "words";
	options.producer_max = options.producer_per_uid_max = 8;
	options.ring_default_bytes = PEAL_RING_MIN_BYTES;
	*server = (struct server){.owner = {
					  .role = PEAL__ROLE_CLIENT,
					  .object = server,
					  .has_work = server_has_work,
					  .settle = server_settle,
					  .opened = server_opened,
					  .closed = server_closed,
					  .stop_fd = -1,
				  }};
	return peal__consumer_open(&options, &server->owner, &server->consumer);
}

static inline void server_start(struct server *server)
{
	assert_int_equal(server_open(server), 0);
	assert_int_equal(
		pthread_create(&server->thread, NULL, server_main, server), 0);
}

static inline void server_stop(struct server *server)
{
	flag_set(&server->stop);
	peal_consumer_notify(server->consumer);
	assert_int_equal(pthread_join(server->thread, NULL), 0);
	assert_int_equal(peal_consumer_close(server->consumer), 0);
}

/* A child that serves until it is killed. */
static inline pid_t server_fork(void)
{
	uint32_t *is_open = shared_open(sizeof(*is_open));
	struct server *server;
	pid_t pid = fork();

	if (pid == 0) {
		server = calloc(1, sizeof(*server));
		if (server_open(server) != 0)
			_exit(1);
		flag_set(is_open);
		server_main(server);
		_exit(0);
	}
	assert_true(flag_wait(is_open));
	munmap(is_open, sizeof(*is_open));
	return pid;
}

static inline void server_kill(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A name that a killed server left is taken over, and goes. */
static inline void server_sweep(void)
{
	struct server server;

	assert_int_equal(server_open(&server), 0);
	peal_consumer_close(server.consumer);
}

/* clients ------------------------------------------------------------------ */

static inline struct peal_client_options client_options(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;

	options.name = "words";
	options.ret_failure = &own.failure;
	return options;
}

static inline struct peal_client *
client_with(const struct peal_client_options *options)
{
	struct peal_client *client = NULL;
	int error = peal_client_connect(options, PATIENCE_NS, &client);

	if (error != 0)
		print_message("connect: %s\n", own.failure.text);
	assert_int_equal(error, 0);
	return client;
}

static inline struct peal_client *client_open(void)
{
	struct peal_client_options options = client_options();

	return client_with(&options);
}

static inline int call_text(struct peal_client *client, const char *text,
                            uint64_t timeout_ns,
                            struct peal_message *ret_answer)
{
	return peal_client_call(client, text, strlen(text), timeout_ns,
	                        ret_answer);
}

/* Call, and the answer is this. */
static inline void expect_answer(struct peal_client *client, const char *text,
                                 const char *answer_text)
{
	struct peal_message answer;

	assert_int_equal(call_text(client, text, PATIENCE_NS, &answer), 0);
	assert_text(&answer, answer_text);
}

static inline uint64_t send_request(struct peal_client *client,
                                    const char *text)
{
	uint64_t id = 0;

	assert_int_equal(peal_client_send(client, text, strlen(text),
	                                  PEAL_FOREVER, PATIENCE_NS, &id),
	                 0);
	assert_int_not_equal(id, 0);
	return id;
}

static inline struct peal_client_stats client_stats(struct peal_client *client)
{
	struct peal_client_stats stats;

	assert_int_equal(peal_client_stats(client, &stats), 0);
	return stats;
}

#endif
