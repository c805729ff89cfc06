/* SPDX-License-Identifier: MIT */
/*
 * The stage with a reactor: the neighbour calls, and gets its own bytes back;
 * the attacker is a client, is answered, pushed to and called.
 *
 *	stage_be_reactor()    before the group's setup
 *
 * The neighbour takes the time of each call, in the window that the attacker
 * has opened: stage_p99_ns() afterwards.
 */
#ifndef PEAL_TESTS_HOSTILE_STAGE_REACTOR_H
#define PEAL_TESTS_HOSTILE_STAGE_REACTOR_H

#include "tests/hostile/raw.h"

#include "peal/client.h"
#include "peal/reactor.h"
#include "reactor/frame.h"
#include "reactor/reactor.h"

static struct peal_reactor *stage_reactor;
static uint32_t stage_spin_mode = PEAL_SPIN_ADAPTIVE;
static uint32_t stage_rate_max; /* of connecting */

static inline void
stage_forget_answer(int error, const struct peal_message *answer, void *arg)
{
	(void)error;
	(void)answer;
	(void)arg;
}

/* The attacker's: every way of sending has its turn. */
static inline void stage_serve_other(struct peal_request *request)
{
	static uint64_t count;
	struct peal_peer peer = peal_request_peer(request);
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	count++;
	/* At its caps both are refused, and nobody minds. */
	if (count % 4 == 1)
		(void)!peal_reactor_push(stage_reactor, peer, "news", 4);
	if (count % 8 == 2)
		(void)!peal_reactor_call(stage_reactor, peer, "who?", 4,
		                         SCENE_MS, stage_forget_answer, NULL);
	if (count % 16 == 3)
		peal_reply_error(request, -EPERM);
	else if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
}

static inline void stage_serve_request(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);
	int heard = stage_hear(data, bytes);

	(void)arg;
	if (heard < 0)
		stage_serve_other(request);
	else if (peal_reply(request, data, bytes) < 0)
		stage_fault("the neighbour cannot be answered");
}

static inline int stage_serve_reactor(void *arg)
{
	static const uint32_t stranger = STAGE_STRANGER_UID;
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;

	(void)arg;
	options.name = STAGE_NAME;
	options.on_request = stage_serve_request;
	options.wait_mode = stage_wait_mode;
	options.spin_mode = stage_spin_mode;
	options.client_max = STAGE_SLOTS;
	options.connect_rate_max = stage_rate_max;
	options.socket_mode = 0666;
	options.allow_uid = &stranger;
	options.allow_uid_count = 1;
	if (peal_reactor_open(&options, &stage_reactor) < 0)
		return 2;
	scene_put(&stage_board->is_open, 1);
	while (scene_get(&stage_board->stop) == 0) {
		peal_reactor_run_once(stage_reactor, stage_wait_ns);
		stage_answer(stage_reactor->consumer);
	}
	return peal_reactor_close(stage_reactor);
}

static inline void stage_take_time(uint64_t took_ns)
{
	uint64_t window = scene_get(&stage_board->window);
	uint32_t octave, place;

	stage_took(took_ns);
	if (window == 0 || took_ns < 8)
		return;
	octave = 63 - (uint32_t)__builtin_clzll(took_ns);
	place = octave * 4 + (uint32_t)(took_ns >> (octave - 2) & 3);
	stage_board->times[window][place % STAGE_TIMES]++;
}

static inline int stage_call(void *arg)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;
	struct peal_message answer;
	uint8_t data[500];
	uint64_t start_ns;
	int error;

	(void)arg;
	options.name = STAGE_NAME;
	options.request_ring_bytes = options.response_ring_bytes = 1 << 14;
	if (peal_client_connect(&options, STAGE_PATIENCE_NS, &client) < 0)
		return stage_fault("the neighbour cannot connect");
	for (uint64_t i = 1; scene_get(&stage_board->is_enough) == 0; i++) {
		size_t bytes = 24 + i * 37 % 400;

		scene_stamp_write(data, bytes, STAGE_NEIGHBOUR, i);
		start_ns = scene_now_ns();
		error = peal_client_call(client, data, bytes, STAGE_PATIENCE_NS,
		                         &answer);
		stage_take_time(scene_now_ns() - start_ns);
		if (error < 0)
			return stage_fault("the neighbour got %d", error);
		if (answer.data_bytes != bytes ||
		    memcmp(answer.data, data, bytes) != 0)
			return stage_fault("the neighbour got other bytes");
		scene_put(&stage_board->sent, i);
		if (i % 4 == 0)
			scene_sleep_ns(200 * SCENE_US);
	}
	return peal_client_close(client);
}

static inline void stage_be_reactor(void)
{
	stage_role = PEAL__ROLE_CLIENT;
	stage_server_main = stage_serve_reactor;
	stage_neighbour_main = stage_call;
}

static inline void stage_be_consumer(void)
{
	stage_role = PEAL__ROLE_PRODUCER;
	stage_server_main = stage_serve;
	stage_neighbour_main = stage_stream;
}

/* 99 of 100 calls of this window took no longer; 0: there were none. */
static inline uint64_t stage_p99_ns(uint32_t window)
{
	const uint32_t *times = stage_board->times[window];
	uint64_t sum = 0, so_far = 0;

	for (uint32_t i = 0; i < STAGE_TIMES; i++)
		sum += times[i];
	for (uint32_t i = 8; i < STAGE_TIMES; i++) {
		so_far += times[i];
		if (sum > 0 && so_far * 100 >= sum * 99)
			return (uint64_t)(4 + i % 4) << (i / 4 - 2);
	}
	return 0;
}

#endif
