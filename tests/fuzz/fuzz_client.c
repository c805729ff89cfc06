/* SPDX-License-Identifier: MIT */
/*
 * A client, over a server that lies: in its WELCOME, in the arm page, in the
 * response ring, in every word it may write, and on the socket.
 *
 * Whatever that server does: nothing outside of the ring is shown, every
 * request ends at most once, a lost connection ends all of them, and a callback
 * gets a copy that nobody changes.
 */
#include "tests/fuzz/hostile_reactor.h"

#include "mpsc/attach.h"
#include "peal/doorbell.h"

#define KEPT_MAX 4
#define STEP_MAX 150
#define WAIT_MAX 3 /* of those that sleep, in one input */
#define SHORT_NS 2000

static struct peal_request *kept[KEPT_MAX];
static uint32_t kept_count, wait_count, nesting;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int __real_peal__attach(const struct peal__wish *wish, uint64_t deadline_ns,
                        struct peal_failure *failure,
                        struct peal__connection *ret_connection);
int __wrap_peal__attach(const struct peal__wish *wish, uint64_t deadline_ns,
                        struct peal_failure *failure,
                        struct peal__connection *ret_connection);

/* What was mapped is what lies from now on. */
int __wrap_peal__attach(const struct peal__wish *wish, uint64_t deadline_ns,
                        struct peal_failure *failure,
                        struct peal__connection *ret_connection)
{
	int error;

	fuzz_watch_nothing();
	is_handshake = true;
	error = __real_peal__attach(wish, deadline_ns, failure, ret_connection);
	is_handshake = false;
	if (error < 0)
		return error;
	fuzz_watch(ret_connection->arm_page, arm_page,
	           mappings[ARM].bytes < ret_connection->arm_mapping.bytes
	                   ? mappings[ARM].bytes
	                   : ret_connection->arm_mapping.bytes,
	           true);
	if (ret_connection->segment_mapping.bytes == mappings[SEGMENT].bytes)
		fuzz_watch(ret_connection->segment, segment,
		           mappings[SEGMENT].bytes, true);
	return 0;
}

/* what the client's user does --------------------------------------------------- */

static void look_at(const struct peal_message *message)
{
	uintptr_t at = (uintptr_t)message->data - (uintptr_t)client->rx.data;

	FUZZ_MUST(message->data_bytes <= peal_ring_message_max(RING_BYTES),
	          "a message is longer than its ring");
	/* In place, or a copy, which is ASan's to watch. */
	FUZZ_MUST(at >= 2 * RING_BYTES ||
	                  at + message->data_bytes <= 2 * RING_BYTES,
	          "a message does not end with its ring");
	fuzz_look_at(message->data, message->data_bytes);
}

static void note_sent(uint64_t id)
{
	FUZZ_MUST(id != 0, "a request has no id");
	last_id = id;
	if (sent_count < SENT_MAX)
		sent[sent_count++] = id;
}

static void note_ended(const struct peal_message *answer)
{
	for (uint32_t i = 0; i < sent_count; i++)
		if (sent[i] == answer->id) {
			sent[i] = sent[--sent_count];
			return;
		}
	fuzz_broken("an answer to nothing that was asked");
}

static uint64_t some_timeout(void)
{
	return fuzz_choice(8) == 0 && wait_count++ < WAIT_MAX ? SHORT_NS : 0;
}

static void call(void)
{
	static const char text[200] = "text";
	struct peal_message message;
	int error;

	if (nesting > 2)
		return;
	nesting++;
	/* The server may guess which number comes next. */
	last_id = client->next_id;
	error = peal_client_call(client, text, fuzz_byte() % sizeof(text),
	                         some_timeout(), &message);
	nesting--;
	if (error == 0)
		look_at(&message);
	FUZZ_MUST(error <= 0, "a call returns what is no error");
}

static void send_one(void)
{
	static const char text[1000] = "text";
	size_t bytes = 4 * (size_t)(fuzz_byte() % 250);
	uint64_t id = 0;
	void *place;

	if (sent_count == SENT_MAX)
		return;
	if (fuzz_choice(4) > 0) {
		if (peal_client_send(client, text, bytes, PEAL_FOREVER,
		                     some_timeout(), &id) == 0)
			note_sent(id);
	} else if (peal_client_claim(client, bytes, 0, &place) == 0) {
		memset(place, 1, bytes);
		if (peal_client_publish(client, bytes / 2, SHORT_NS, &id) == 0)
			note_sent(id);
	}
}

/* 0, or why nothing came. */
static int receive(void)
{
	struct peal_message message;
	int error = peal_client_recv(client, some_timeout(), &message);

	if (error < 0)
		return error;
	note_ended(&message);
	if (message.kind == PEAL_ANSWERED)
		look_at(&message);
	else
		FUZZ_MUST(message.status < 0, "a failure without a reason");
	if (fuzz_choice(2) == 1)
		peal_client_release(client, &message);
	return 0;
}

static void answer(struct peal_request *request)
{
	static const char text[PEAL_RING_MIN_BYTES] = "text";
	int error;

	switch (fuzz_choice(4)) {
	case 0:
		error = peal_reply(request, text, 16 * (size_t)fuzz_byte());
		break;
	case 1:
		error = peal_reply_error(request, -EPERM);
		break;
	case 2:
		error = peal_reply_status(request, 7, text, fuzz_byte());
		break;
	default:
		error = -EINVAL;
		break;
	}
	if (error < 0)
		peal_request_drop(request);
}

/* A copy: the server may change the ring, and not this. */
static void on_push(const struct peal_message *push, void *arg)
{
	uint64_t sum = fuzz_look_at(push->data, push->data_bytes);

	(void)arg;
	memset(ring_data(PEAL__RING_RESPONSE), fuzz_byte() & 1 ? 0xff : 0,
	       RING_BYTES);
	FUZZ_MUST(sum == fuzz_look_at(push->data, push->data_bytes),
	          "a push changes while its callback looks at it");
	if (fuzz_choice(4) == 3)
		call();
}

static void on_request(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	fuzz_look_at(data, bytes);
	if (fuzz_choice(4) == 3)
		call();
	if (kept_count < KEPT_MAX && fuzz_choice(4) == 0 &&
	    peal_request_retain(request) == 0)
		kept[kept_count++] = request;
	else
		answer(request);
}

static void answer_kept(void)
{
	if (kept_count > 0)
		answer(kept[--kept_count]);
}

/* -------------------------------------------------------------------------------- */

static void turn_the_loop(void)
{
	if (client->options.wait_mode != PEAL_WAIT_FD)
		return;
	if (peal_client_prepare(client) == 0)
		peal_client_dispatch(client);
}

static void step(void)
{
	switch (fuzz_choice(12)) {
	case 0:
		call();
		break;
	case 1:
		send_one();
		break;
	case 2:
	case 3:
		receive();
		break;
	case 4:
	case 5:
		server_says();
		break;
	case 6:
		server_scribbles();
		break;
	case 7:
		server_talks();
		break;
	case 8:
		server_releases();
		break;
	case 9:
		answer_kept();
		turn_the_loop();
		break;
	case 10:
		peal_client_cancel(client, last_id);
		if (fuzz_choice(4) == 0)
			peal_client_wake(client);
		break;
	default:
		FUZZ_MUST(peal_client_tell(client, "text", 4, 0) <= 0,
		          "a message is neither sent nor refused");
		break;
	}
}

/* The server goes: whatever was asked and has not ended, ends now. */
static void finish(void)
{
	uint32_t limit = 3 * SENT_MAX + RING_BYTES / 16;

	hostile_hang_up();
	arm_page->lifeline = 0x40000000;
	while (kept_count > 0)
		answer_kept();
	while (sent_count > 0 && limit-- > 0)
		receive();
	FUZZ_MUST(sent_count == 0, "a request has not ended with its server");
}

static int connect_client(uint8_t how)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;

	options.name = "nobody";
	options.wait_mode = how & 1 ? PEAL_WAIT_FD : PEAL_WAIT_FUTEX;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.reconnect = how >> 1 & 1;
	options.request_ring_bytes = options.response_ring_bytes = RING_BYTES;
	options.on_push = how & 4 ? on_push : NULL;
	options.on_request = how & 8 ? on_request : NULL;
	return peal_client_connect(&options, PEAL_FOREVER, &client);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	server_make();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	fuzz_begin(data, bytes);
	fuzz_watch_nothing();
	sent_count = kept_count = wait_count = nesting = 0;
	client = NULL;
	if (connect_client(fuzz_byte()) < 0) {
		hostile_hang_up();
		return 0;
	}
	/* Sane, and not what we have: there is nothing to say in it. */
	if (client->producer->connection.segment_mapping.bytes ==
	    mappings[SEGMENT].bytes) {
		for (int i = 0; i < STEP_MAX && !fuzz_is_over(); i++)
			step();
		finish();
	}
	fuzz_watch_nothing();
	peal_client_close(client);
	hostile_hang_up();
	return 0;
}
