/* SPDX-License-Identifier: MIT */
/*
 * The server of the load: a consumer and a reactor in one process, a thread
 * each. Neither has a timeout, so nothing but its bell wakes it.
 */
#ifndef PEAL_TESTS_STRESS_LOAD_SERVER_H
#define PEAL_TESTS_STRESS_LOAD_SERVER_H

#include "tests/stress/load.h"

#include <pthread.h>

static struct {
	struct peal_consumer *consumer;
	struct peal_reactor *reactor;
	uint32_t is_stopped;
	int stop_fd;
	struct {
		uint32_t generation, life, sequence;
	} writers[SLOTS];
	struct {
		struct peal_peer peer;
		uint64_t push_sequence;
		bool is_open;
	} peers[SLOTS];
	uint32_t last_peer;
	uint64_t chance, call_sequence;
} serving;

/* messages ----------------------------------------------------------------- */

static int take_message(const struct peal_message *message)
{
	uint32_t slot = message->peer.slot_index % SLOTS;
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp) ||
	    stamp.sender >= LIFE_MAX)
		return fault("a torn message");
	if (serving.writers[slot].generation != message->peer.generation) {
		serving.writers[slot].generation = message->peer.generation;
		serving.writers[slot].life = stamp.sender;
		serving.writers[slot].sequence = 0;
	}
	if (stamp.sender != serving.writers[slot].life ||
	    stamp.sequence != ++serving.writers[slot].sequence)
		return fault("life %u: message %llu where %u was to come",
		             stamp.sender, (unsigned long long)stamp.sequence,
		             serving.writers[slot].sequence);
	scene_add(&board->received[stamp.sender], 1);
	scene_add(&board->message_count, 1);
	return 0;
}

static void *consume(void *arg)
{
	struct peal_message message;

	while (scene_get(&serving.is_stopped) == 0) {
		peal_consumer_wait(serving.consumer, PEAL_FOREVER);
		while (peal_consumer_peek(serving.consumer, &message) == 0) {
			if (take_message(&message) != 0)
				return arg;
			peal_consumer_release(serving.consumer, &message);
		}
	}
	return arg;
}

/* pushes and calls of the server ------------------------------------------- */

static void opened(struct peal_reactor *reactor, struct peal_peer peer,
                   void *arg)
{
	uint32_t slot = peer.slot_index % SLOTS;

	(void)reactor;
	(void)arg;
	if (serving.peers[slot].is_open)
		fault("slot %u was opened twice", slot);
	serving.peers[slot].peer = peer;
	serving.peers[slot].push_sequence = 0;
	serving.peers[slot].is_open = true;
	scene_add(&board->peer_count, 1);
}

static void closed(struct peal_reactor *reactor, struct peal_peer peer,
                   int reason, void *arg)
{
	(void)reactor;
	(void)arg;
	if (reason != 0 && reason != -ECONNRESET && reason != -ESHUTDOWN)
		fault("a client went with %d", reason);
	serving.peers[peer.slot_index % SLOTS].is_open = false;
	__atomic_fetch_sub(&board->peer_count, 1, __ATOMIC_ACQ_REL);
}

static void take_answer(int error, const struct peal_message *answer, void *arg)
{
	uint64_t sequence = (uintptr_t)arg;
	struct scene_stamp stamp;

	scene_add(&board->upcall_ended_count, 1);
	if (error != 0) {
		scene_add(&board->upcall_failed_count, 1);
		if (error != -ECONNRESET)
			fault("a call of the server ended with %d", error);
	} else if (!scene_stamp_read(answer->data, answer->data_bytes,
	                             &stamp) ||
	           stamp.sender != SERVER_SENDER ||
	           stamp.sequence != sequence) {
		fault("call %llu of the server has a wrong answer",
		      (unsigned long long)sequence);
	}
}

static void push_to(uint32_t slot)
{
	uint8_t data[BYTES_MAX];
	size_t bytes = load_bytes(scene_random(&serving.chance), 1000);
	int error;

	scene_stamp_write(data, bytes, SERVER_SENDER,
	                  serving.peers[slot].push_sequence + 1);
	error = peal_reactor_push(serving.reactor, serving.peers[slot].peer,
	                          data, bytes);
	if (error == 0) {
		scene_add(&serving.peers[slot].push_sequence, 1);
		scene_add(&board->pushed_count, 1);
	} else if (error != -EAGAIN && error != -ESTALE) {
		fault("push: %d", error);
	}
}

static void call_to(uint32_t slot)
{
	uint8_t data[BYTES_MAX];
	size_t bytes = load_bytes(scene_random(&serving.chance), 1000);
	uint64_t sequence = ++serving.call_sequence;
	int error;

	scene_stamp_write(data, bytes, SERVER_SENDER, sequence);
	error = peal_reactor_call(serving.reactor, serving.peers[slot].peer,
	                          data, bytes, PEAL_FOREVER, take_answer,
	                          (void *)(uintptr_t)sequence);
	if (error == 0)
		scene_add(&board->upcall_count, 1);
	else if (error != -EAGAIN && error != -ESTALE)
		fault("a call of the server: %d", error);
}

/* On the reactor's thread: somebody else than who asked hears of it. */
static void speak_unasked(void *arg)
{
	uint64_t dice = scene_random(&serving.chance);

	(void)arg;
	for (int i = 0; i < SLOTS; i++) {
		uint32_t slot = serving.last_peer =
			(serving.last_peer + 1) % SLOTS;

		if (!serving.peers[slot].is_open)
			continue;
		if (dice % 2 == 0)
			push_to(slot);
		else
			call_to(slot);
		return;
	}
}

/* requests ----------------------------------------------------------------- */

/* Whoever leaves is told how much was pushed to it. */
static size_t answer_farewell(const struct peal_request *request,
                              const struct scene_stamp *asked, void *data)
{
	uint32_t slot = peal_request_peer(request).slot_index % SLOTS;

	scene_stamp_write(data, STAMP_BYTES, asked->sender,
	                  scene_get(&serving.peers[slot].push_sequence));
	return STAMP_BYTES;
}

static size_t answer_request(const struct scene_stamp *asked, void *data)
{
	size_t bytes = load_answer_bytes(asked);

	scene_add(&board->call_count, 1);
	scene_add(&board->received[asked->sender], 1);
	if (asked->sequence % 4 == 0 &&
	    peal_reactor_post(serving.reactor, speak_unasked, NULL) < 0)
		fault("post");
	if (asked->sequence % 64 == 0)
		scene_sleep_ns(30 * SCENE_US);
	scene_stamp_write(data, bytes, asked->sender, asked->sequence);
	return bytes;
}

static void answer(struct peal_request *request, void *arg)
{
	uint8_t data[BYTES_MAX];
	struct scene_stamp stamp;
	size_t bytes;
	const void *asked = peal_request_data(request, &bytes);

	(void)arg;
	if (!scene_stamp_read(asked, bytes, &stamp) ||
	    stamp.sender >= LIFE_MAX) {
		fault("a torn request");
		peal_request_drop(request);
		return;
	}
	bytes = stamp.sequence == FAREWELL
	                ? answer_farewell(request, &stamp, data)
	                : answer_request(&stamp, data);
	if (peal_reply(request, data, bytes) < 0) {
		fault("reply");
		peal_request_drop(request);
	}
}

/* The parent writes a byte. */
static void *wait_for_the_end(void *arg)
{
	char byte;

	while (read(serving.stop_fd, &byte, 1) < 0)
		;
	scene_put(&serving.is_stopped, 1);
	peal_consumer_notify(serving.consumer);
	peal_reactor_stop(serving.reactor, SCENE_S);
	return arg;
}

static int open_both(void)
{
	struct peal_consumer_options takes = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_reactor_options serves = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_failure failure = {0};

	takes.name = PRODUCERS;
	serves.name = CLIENTS;
	takes.producer_max = serves.client_max = SLOTS;
	takes.wait_mode = serves.wait_mode = way.wait_mode;
	takes.spin_ns = serves.spin_ns = way.spin_ns;
	takes.ring_default_bytes = serves.ring_default_bytes = 1 << 14;
	takes.ret_failure = serves.ret_failure = &failure;
	serves.worker_count = way.worker_count;
	serves.on_request = answer;
	serves.on_opened = opened;
	serves.on_closed = closed;
	if (peal_consumer_open(&takes, &serving.consumer) < 0 ||
	    peal_reactor_open(&serves, &serving.reactor) < 0)
		return fault("open: %s", failure.text);
	return 0;
}

static int serve(void *stop_fd)
{
	struct peal_reactor_stats stats;
	pthread_t consumer, ender;
	int result;

	serving.stop_fd = (int)(intptr_t)stop_fd;
	serving.chance = scene_seed;
	if (open_both() != 0 ||
	    pthread_create(&consumer, NULL, consume, NULL) != 0 ||
	    pthread_create(&ender, NULL, wait_for_the_end, NULL) != 0)
		return 1;
	scene_put(&board->is_open, 1);
	result = peal_reactor_run(serving.reactor);
	pthread_join(ender, NULL);
	pthread_join(consumer, NULL);
	if (result < 0)
		return fault("run: %d", result);
	peal_reactor_stats(serving.reactor, &stats);
	if (stats.running_count != 0 || stats.failed_count != 0)
		return fault("%llu requests have not ended, %llu failed",
		             (unsigned long long)stats.running_count,
		             (unsigned long long)stats.failed_count);
	peal_consumer_close(serving.consumer);
	return peal_reactor_close(serving.reactor);
}

#endif
