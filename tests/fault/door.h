/* SPDX-License-Identifier: MIT */
/*
 * A server in the background, and who comes to it: what is common to those that
 * let one call after the other fail and those that run out of descriptors.
 */
#ifndef PEAL_TESTS_FAULT_DOOR_H
#define PEAL_TESTS_FAULT_DOOR_H

#include "tests/fault/walk.h"

#include <pthread.h>

#include "peal/client.h"

#define NAME "door"
#define SLOTS 4
#define RING_BYTES 4096
#define PATIENCE_NS (20 * SCENE_S)

static struct {
	struct peal_consumer *consumer;
	struct peal_reactor *reactor;
	pthread_t thread;
	uint32_t stop;
	uint32_t taken_count;
	uint32_t memory_flags; /* of a consumer */
} server;

static struct peal_producer *producer;
static struct peal_client *client;

/* the server --------------------------------------------------------------- */

static inline void *consume(void *arg)
{
	struct peal_message message;

	while (scene_get(&server.stop) == 0) {
		peal_consumer_wait(server.consumer, PEAL_FOREVER);
		while (peal_consumer_peek(server.consumer, &message) == 0) {
			peal_consumer_release(server.consumer, &message);
			scene_add(&server.taken_count, 1);
		}
	}
	return arg;
}

static inline void echo(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
}

static inline void *serve(void *arg)
{
	peal_reactor_run(server.reactor);
	return arg;
}

static inline void start_consumer(uint32_t wait_mode)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = NAME;
	options.wait_mode = wait_mode;
	options.producer_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.memory_flags = server.memory_flags;
	server.stop = 0;
	assert_int_equal(peal_consumer_open(&options, &server.consumer), 0);
	assert_int_equal(pthread_create(&server.thread, NULL, consume, NULL),
	                 0);
}

static inline void stop_consumer(void)
{
	if (server.consumer == NULL)
		return;
	scene_put(&server.stop, 1);
	peal_consumer_notify(server.consumer);
	pthread_join(server.thread, NULL);
	peal_consumer_close(server.consumer);
	server.consumer = NULL;
}

static inline int start_reactor(uint32_t wait_mode)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	int error;

	options.name = NAME;
	options.on_request = echo;
	options.wait_mode = wait_mode;
	options.client_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.in_flight_per_client_max = 4;
	error = peal_reactor_open(&options, &server.reactor);
	if (error == 0)
		error = -pthread_create(&server.thread, NULL, serve, NULL);
	return error;
}

static inline void stop_reactor(void)
{
	if (server.reactor == NULL)
		return;
	peal_reactor_stop(server.reactor, PATIENCE_NS);
	pthread_join(server.thread, NULL);
	peal_reactor_close(server.reactor);
	server.reactor = NULL;
}

/* cmocka leaves a test that fails where it is. */
static inline int stop_all(void **state)
{
	(void)state;
	stop_consumer();
	stop_reactor();
	return 0;
}

/* coming and leaving ------------------------------------------------------- */

static uint32_t wait_mode; /* of whoever comes */

/* A server that is out of everything for so long opens its door to nobody. */
static inline uint64_t patience_ns(void)
{
	return walk.pass == FAULT_PASS_FROM_NOW_ON ? 300 * SCENE_MS
	                                           : PATIENCE_NS;
}

static inline int attach(struct peal_failure *failure)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;

	options.name = NAME;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.ret_failure = failure;
	return peal_producer_attach(&options, patience_ns(), &producer);
}

static inline int detach(struct peal_failure *failure)
{
	struct peal_producer *leaving = producer;

	(void)failure;
	producer = NULL;
	return peal_producer_detach(leaving);
}

/* A server that could not read what we said has hung up: we are told so, later
 * than by attach. */
static inline bool may_have_hung_up(void)
{
	/* In the last pass it is among all that fails from some place on. */
	return walk_fault.name != NULL &&
	       walk.operation->whose == FAULT_OTHERS &&
	       (walk.pass == FAULT_PASSES - 1 ||
	        strcmp(walk_fault.name, "recvmsg") == 0);
}

static inline int send_and_detach(int result)
{
	uint32_t taken = scene_get(&server.taken_count);
	uint64_t end_ns = scene_now_ns() + PATIENCE_NS;
	int error;

	if (result < 0)
		return producer == NULL ? 0 : walk_say("it was handed out");
	if (may_have_hung_up())
		return detach(NULL);
	error = peal_producer_send(producer, "x", 1, PATIENCE_NS);
	while (scene_get(&server.taken_count) == taken &&
	       scene_now_ns() < end_ns)
		scene_sleep_ns(20 * SCENE_US);
	if (error != 0 || scene_get(&server.taken_count) != taken + 1)
		walk_say("its message: %d", error);
	detach(NULL);
	return walk_word[0] == '\0' ? 0 : -1;
}

static uint32_t fds_before; /* it came */

static inline int connect_client(struct peal_failure *failure)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;

	options.name = NAME;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER; /* all sleeps are to end */
	options.reconnect = 1;
	options.ret_failure = failure;
	return peal_client_connect(&options, patience_ns(), &client);
}

static inline int close_client(struct peal_failure *failure)
{
	struct peal_client *leaving = client;

	(void)failure;
	client = NULL;
	return peal_client_close(leaving);
}

static inline int call_and_close(int result)
{
	struct peal_message answer;
	int error = 0;

	if (result < 0)
		return client == NULL ? 0 : walk_say("it was handed out");
	for (int i = 0; i < 2 && error == 0; i++) {
		error = peal_client_call(client, "x", 1, PATIENCE_NS, &answer);
		if (error == -ECONNRESET && may_have_hung_up())
			continue;
		if (error != 0 || answer.data_bytes != 1)
			error = walk_say("its call: %d", error);
	}
	close_client(NULL);
	return walk_word[0] == '\0' ? 0 : -1;
}

static uint32_t fds_before; /* it came */

/* On a busy machine the second of a handshake may be over too soon. */
static inline int prepare(int (*come)(struct peal_failure *failure))
{
	struct peal_failure failure;

	fds_before = scene_count_entries("/proc/self/fd");
	for (int tries = 0; tries < 3; tries++)
		if (come(&failure) == 0)
			return 0;
	return walk_say("%s", failure.text);
}

static inline int prepare_attached(void)
{
	return prepare(attach);
}

static inline int prepare_connected(void)
{
	return prepare(connect_client);
}

#endif
