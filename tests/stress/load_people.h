/* SPDX-License-Identifier: MIT */
/*
 * Those who load the server: producers that send, and clients that call, send
 * without waiting, and answer the server. They wait for as long as it takes.
 */
#ifndef PEAL_TESTS_STRESS_LOAD_PEOPLE_H
#define PEAL_TESTS_STRESS_LOAD_PEOPLE_H

#include "tests/stress/load.h"

#define DEPTH 16
#define LATE_MAX 10000
#define IN_TIME_NS (300 * SCENE_MS)
#define ATTACH_NS (60 * SCENE_S)

static struct {
	uint32_t place, life;
	uint64_t chance, sequence;
	uint64_t pushed; /* the last push that came */
	struct peal_client *client;
} self;

static bool is_over(void)
{
	return scene_get(&board->people_stop) != 0;
}

static void has_done_something(void)
{
	scene_add(&board->progress[self.place], 1);
}

/* Nobody else wakes the server then, and neither does who waits for it. */
static bool is_alone(void)
{
	return scene_get(&board->alone) == self.place + 1;
}

static void pause_a_while(void)
{
	uint64_t dice = scene_random(&self.chance);

	if (dice % 16 == 0)
		scene_sleep_ns((dice >> 8) % (300 * SCENE_US));
	else if (dice % 4 == 0)
		for (uint64_t i = (dice >> 8) % 5000; i > 0; i--)
			__asm__ volatile("" ::: "memory");
}

static uint64_t some_spin_ns(void)
{
	static const uint64_t budgets[] = {0, 2 * SCENE_US, 50 * SCENE_US};

	return budgets[scene_random(&self.chance) % CHECK_COUNT(budgets)];
}

/*
 * A handshake has one second, and who is stopped or has no processor for so
 * long is sent away, perhaps just after it has got READY out: it comes again
 * until it was clearly in time.
 */
static bool was_late(int error, uint64_t start_ns)
{
	if (error == 0 ? scene_now_ns() - start_ns < IN_TIME_NS
	               : error != -ETIMEDOUT && error != -ECONNRESET)
		return false;
	has_done_something();
	return scene_add(&board->late_count, 1) < LATE_MAX;
}

/* producers ---------------------------------------------------------------- */

/* Or its next message would wake whom this one did not. */
static void wait_until_taken(void)
{
	while (is_alone() && !is_over() &&
	       scene_get(&board->received[self.life]) !=
	               (uint32_t)self.sequence)
		scene_sleep_ns(20 * SCENE_US);
}

static int produce(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_failure failure = {0};
	struct peal_producer *producer = NULL;
	uint8_t data[BYTES_MAX];
	uint64_t start_ns;
	int error;

	options.name = PRODUCERS;
	options.ring_bytes = UINT64_C(4096) << scene_random(&self.chance) % 4;
	options.wait_mode = (uint32_t)scene_random(&self.chance) % 2;
	options.spin_ns = some_spin_ns();
	options.ret_failure = &failure;
	do {
		peal_producer_detach(producer);
		producer = NULL;
		start_ns = scene_now_ns();
		error = peal_producer_attach(&options, ATTACH_NS, &producer);
	} while (was_late(error, start_ns));
	if (error < 0)
		return fault("attach: %s", failure.text);
	while (!is_over()) {
		size_t most = peal_producer_message_max(producer);
		size_t bytes = load_bytes(scene_random(&self.chance),
		                          most < BYTES_MAX ? most : BYTES_MAX);

		scene_stamp_write(data, bytes, self.life, self.sequence + 1);
		error = peal_producer_send(producer, data, bytes, PEAL_FOREVER);
		if (error < 0)
			return fault("send: %d", error);
		scene_put(&board->sent[self.life], (uint32_t)++self.sequence);
		wait_until_taken();
		has_done_something();
		pause_a_while();
	}
	return peal_producer_detach(producer);
}

/* clients ------------------------------------------------------------------ */

static void take_push(const struct peal_message *push, void *arg)
{
	struct scene_stamp stamp;

	(void)arg;
	if (!scene_stamp_read(push->data, push->data_bytes, &stamp) ||
	    stamp.sender != SERVER_SENDER)
		fault("a torn push");
	else if (stamp.sequence != ++self.pushed)
		fault("push %llu came where %llu was to come",
		      (unsigned long long)stamp.sequence,
		      (unsigned long long)self.pushed);
	scene_add(&board->push_count, 1);
}

static void answer_server(struct peal_request *request, void *arg)
{
	struct scene_stamp stamp;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	if (!scene_stamp_read(data, bytes, &stamp))
		fault("a torn call of the server");
	/* Before, because who is killed has replied first. */
	scene_add(&board->upcall_answered_count, 1);
	if (peal_reply(request, data, bytes) < 0) {
		fault("reply to the server");
		peal_request_drop(request);
	}
}

static size_t make_request(uint8_t *data)
{
	size_t most = peal_client_message_max(self.client);
	size_t bytes = load_bytes(scene_random(&self.chance),
	                          most < BYTES_MAX ? most : BYTES_MAX);

	scene_stamp_write(data, bytes, self.life, ++self.sequence);
	scene_put(&board->sent[self.life], (uint32_t)self.sequence);
	return bytes;
}

static int look_at_answer(const struct peal_message *answer, uint64_t sequence)
{
	struct scene_stamp stamp;

	if (answer->kind != PEAL_ANSWERED)
		return fault("request %llu failed: %d",
		             (unsigned long long)sequence, answer->status);
	if (!scene_stamp_read(answer->data, answer->data_bytes, &stamp) ||
	    stamp.sender != self.life || stamp.sequence != sequence ||
	    stamp.bytes != load_answer_bytes(&stamp))
		return fault("life %u: request %llu has a wrong answer",
		             self.life, (unsigned long long)sequence);
	has_done_something();
	return 0;
}

static int call_once(uint8_t *data)
{
	struct peal_message answer;
	size_t bytes = make_request(data);
	int error = peal_client_call(self.client, data, bytes, PEAL_FOREVER,
	                             &answer);

	return error < 0 ? fault("call: %d", error)
	                 : look_at_answer(&answer, self.sequence);
}

/* One answer of a pipeline, whose requests are told apart by their ids. */
static int receive_one(uint64_t *ids, const uint64_t *sequences, int count)
{
	struct peal_message answer;
	int error = peal_client_recv(self.client, PEAL_FOREVER, &answer);

	if (error < 0)
		return fault("recv: %d", error);
	for (int i = 0; i < count; i++) {
		if (ids[i] != answer.id)
			continue;
		ids[i] = 0;
		return look_at_answer(&answer, sequences[i]);
	}
	return fault("an answer to nothing");
}

static int send_several(uint8_t *data)
{
	uint64_t ids[DEPTH], sequences[DEPTH];
	int sent = 0, received = 0, error;
	int count = 1 + (int)(scene_random(&self.chance) % DEPTH);

	while (sent < count) {
		size_t bytes = make_request(data);

		while ((error = peal_client_send(self.client, data, bytes,
		                                 PEAL_FOREVER, PEAL_FOREVER,
		                                 &ids[sent])) == -EAGAIN) {
			/* Something waits to be read; perhaps a push alone. */
			struct peal_message answer;

			if (received == sent) {
				error = peal_client_recv(self.client, 0,
				                         &answer);
				if (error != -EAGAIN)
					return fault("recv: %d", error);
			} else if (receive_one(ids, sequences, sent) != 0) {
				return -1;
			} else {
				received++;
			}
		}
		if (error < 0)
			return fault("send: %d", error);
		sequences[sent++] = self.sequence;
	}
	for (; received < sent; received++)
		if (receive_one(ids, sequences, sent) != 0)
			return -1;
	return 0;
}

/* The last pushes are under way, perhaps; each that was taken has to come. */
static int say_farewell(uint8_t *data)
{
	struct peal_message answer;
	struct scene_stamp stamp;
	int error;

	scene_stamp_write(data, STAMP_BYTES, self.life, FAREWELL);
	error = peal_client_call(self.client, data, STAMP_BYTES, PEAL_FOREVER,
	                         &answer);
	if (error < 0 || answer.kind != PEAL_ANSWERED ||
	    !scene_stamp_read(answer.data, answer.data_bytes, &stamp))
		return fault("farewell: %d", error);
	while (self.pushed < stamp.sequence && board->fault[0] == '\0') {
		error = peal_client_recv(self.client, SCENE_S, &answer);
		if (error != -EAGAIN && error != -ETIMEDOUT)
			return fault("recv at the end: %d", error);
	}
	scene_add(&board->farewell_count, 1);
	return 0;
}

static int ask(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_failure failure = {0};
	uint8_t data[BYTES_MAX];
	uint64_t start_ns;
	int error;

	options.name = CLIENTS;
	options.request_ring_bytes = UINT64_C(4096)
	                             << scene_random(&self.chance) % 4;
	options.response_ring_bytes = UINT64_C(4096)
	                              << scene_random(&self.chance) % 4;
	options.order = (uint32_t)scene_random(&self.chance) % 2;
	options.wait_mode = (uint32_t)scene_random(&self.chance) % 2;
	options.spin_ns = some_spin_ns();
	options.on_push = take_push;
	options.on_request = answer_server;
	options.ret_failure = &failure;
	do {
		peal_client_close(self.client);
		self.client = NULL;
		start_ns = scene_now_ns();
		error = peal_client_connect(&options, ATTACH_NS, &self.client);
	} while (was_late(error, start_ns));
	if (error < 0)
		return fault("connect: %s", failure.text);
	while (error == 0 && !is_over()) {
		error = scene_random(&self.chance) % 3 == 0 && !is_alone()
		                ? send_several(data)
		                : call_once(data);
		pause_a_while();
	}
	if (error == 0)
		error = say_farewell(data);
	peal_client_close(self.client);
	return error;
}

/* The place is where somebody lives; there will be others after this one. */
static int live(void *arg)
{
	int error;

	self.place = (uint32_t)(uintptr_t)arg % PEOPLE;
	self.life = (uint32_t)((uintptr_t)arg / PEOPLE);
	self.chance = scene_mix(scene_seed + self.life);
	error = board->is_producer[self.life] ? produce() : ask();
	if (error == 0)
		scene_put(&board->is_complete[self.life], 1);
	return error == 0 ? 0 : 1;
}

#endif
