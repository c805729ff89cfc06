/* SPDX-License-Identifier: MIT */
/*
 * A client, over a server that lies: in its WELCOME, in the arm page, in the
 * response ring, in every word it may write, and on the socket.
 *
 * Whatever that server does: nothing outside of the ring is shown, every
 * request ends at most once, a lost connection ends all of them, and a callback
 * gets a copy that nobody changes.
 */
#include "tests/fuzz/hostile_server.h"

#include <sys/eventfd.h>

#include "mpsc/attach.h"
#include "peal/client.h"
#include "peal/doorbell.h"
#include "peal/shm.h"
#include "reactor/client.h"
#include "reactor/frame.h"

#define RING_BYTES PEAL_RING_MIN_BYTES
#define SENT_MAX 32
#define KEPT_MAX 4
#define STEP_MAX 150
#define WAIT_MAX 3 /* of those that sleep, in one input */
#define SHORT_NS 2000

enum { ARM, SEGMENT, BELL, REGION_COUNT };

static int fds[REGION_COUNT];
static struct peal_shm_mapping mappings[REGION_COUNT];
static struct peal__segment_shape shape;
static struct peal__segment *segment;
static struct peal__arm_page *arm_page;

static struct peal_client *client;
static struct peal_ring_tx answers;
static uint64_t sent[SENT_MAX]; /* ids that have not ended */
static uint32_t sent_count;
static uint64_t last_id; /* as the server would know it */
static struct peal_request *kept[KEPT_MAX];
static uint32_t kept_count, wait_count, nesting;
static bool is_handshake;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int __real_peal__attach(const struct peal__wish *wish, uint64_t deadline_ns,
                        struct peal_failure *failure,
                        struct peal__connection *ret_connection);
int __wrap_peal__attach(const struct peal__wish *wish, uint64_t deadline_ns,
                        struct peal_failure *failure,
                        struct peal__connection *ret_connection);

/* the server's memory --------------------------------------------------------- */

static int make_region(int which, const char *name, uint64_t bytes)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_span span = {0, bytes, 1};

	options.name = name;
	options.bytes = bytes;
	return peal_shm_create(&options, &fds[which], NULL) == 0 &&
	       peal_shm_map(fds[which], &span, 1, PEAL_SHM_MAP_WRITE,
	                    &mappings[which]) == 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	shape.page_bytes = PEAL__SEGMENT_HEADER_BYTES;
	for (int i = 0; i < PEAL__RING_COUNT; i++)
		shape.rings[i].bytes = RING_BYTES;
	FUZZ_MUST(make_region(ARM, "arm", PEAL__ARM_BYTES) &&
	                  make_region(BELL, "bell", PEAL__BELL_BYTES) &&
	                  make_region(SEGMENT, "segment",
	                              peal__segment_bytes(&shape)),
	          "no memory");
	arm_page = mappings[ARM].address;
	/* With the rings twice, as the library has it: the same offsets. */
	peal_shm_unmap(&mappings[SEGMENT]);
	FUZZ_MUST(peal__segment_map(fds[SEGMENT], &shape, PEAL_SHM_MAP_WRITE,
	                            &mappings[SEGMENT]) == 0,
	          "no memory");
	segment = mappings[SEGMENT].address;
	return 0;
}

static uint8_t *ring_data(enum peal__segment_ring ring)
{
	return peal__segment_data(segment, &shape, ring);
}

/* As an honest server would have made it. */
static void wipe(uint64_t start)
{
	memset(segment, 0, shape.page_bytes);
	memset(arm_page, 0, PEAL__ARM_BYTES);
	segment->magic = PEAL__SEGMENT_MAGIC;
	segment->version = PEAL__LAYOUT_VERSION;
	arm_page->magic = PEAL__ARM_MAGIC;
	arm_page->version = PEAL__LAYOUT_VERSION;
	arm_page->cpu = -1;
	arm_page->lifeline = 4711;
	for (int i = 0; i < PEAL__RING_COUNT; i++) {
		enum peal__segment_ring ring = (enum peal__segment_ring)i;

		shape.rings[i].start = start;
		memset(ring_data(ring), 0, RING_BYTES);
		*peal__segment_released(segment, ring) = start;
	}
	segment->response_want = start + (UINT64_C(1) << 62);
	peal_ring_tx_init(&answers, ring_data(PEAL__RING_RESPONSE), RING_BYTES,
	                  start, &segment->response_released);
}

/* the handshake --------------------------------------------------------------- */

static void hostile_heard(const union peal__packet *packet, size_t bytes)
{
	union peal__packet answer = {.bytes = {0}};
	struct peal__welcome *welcome = &answer.welcome;
	size_t answer_bytes, fd_count = 3;
	uint8_t how;
	int given[REGION_COUNT] = {fds[ARM], fds[SEGMENT], fds[BELL]};

	if (!is_handshake || bytes < sizeof(packet->hello) ||
	    packet->head.type != PEAL__WIRE_HELLO)
		return;
	how = fuzz_byte();
	wipe(64 * (uint64_t)(how % 64));
	*welcome = (struct peal__welcome){
		.slot_index = 1,
		.generation = 7,
		.nonce = packet->hello.nonce,
		.flags = how & 0x40 ? 0 : PEAL__WELCOME_TRUSTED,
		.page_bytes = (uint32_t)shape.page_bytes,
		.request_ring_bytes = RING_BYTES,
		.response_ring_bytes = RING_BYTES,
		.lane_ring_bytes = RING_BYTES,
		.request_start = shape.rings[0].start,
		.response_start = shape.rings[0].start,
		.lane_start = shape.rings[0].start,
	};
	answer_bytes = peal__wire_seal(&answer, PEAL__WIRE_WELCOME);
	if (how & 0x40)
		fd_count = 2;
	if (how & 0x80) {
		answer_bytes = hostile_spoil(&answer, answer_bytes);
		fd_count = fuzz_choice(4);
		given[fuzz_choice(REGION_COUNT)] =
			fds[fuzz_choice(REGION_COUNT)];
		segment->magic ^= fuzz_choice(8) == 7;
	}
	hostile_say_last(&answer, answer_bytes, given, fd_count);
}

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
	FUZZ_MUST(message->data_bytes <=
	                  peal_ring_message_max(PEAL_RING_MAX_BYTES),
	          "a message is longer than any ring");
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

/* what the server does ---------------------------------------------------------- */

static void server_says(void)
{
	static const uint32_t kinds[] = {
		PEAL__FRAME_ANSWER,
		PEAL__FRAME_ANSWER | PEAL__FRAME_EXTENDED,
		PEAL__FRAME_FAILED | PEAL__FRAME_EXTENDED,
		PEAL__FRAME_PUSH,
		PEAL__FRAME_CALL,
		PEAL__FRAME_CALL | PEAL__FRAME_EXTENDED,
	};
	uint8_t which = fuzz_byte();
	uint32_t kind = which < 0xf0 ? kinds[which % FUZZ_COUNT(kinds)] : which;
	uint32_t type = kind & PEAL__FRAME_TYPE_MASK;
	size_t bytes = 4 * (size_t)fuzz_byte();
	int64_t extension = fuzz_choice(2) == 0
	                            ? -(int64_t)fuzz_byte()
	                            : (int64_t)fuzz_other(0, fuzz_byte);
	uint64_t id;
	void *data;

	if (type == PEAL__FRAME_PUSH)
		id = 0;
	else if (type == PEAL__FRAME_CALL)
		id = 1 + fuzz_choice(4);
	else if (sent_count > 0 && fuzz_choice(4) > 0)
		id = sent[fuzz_choice(sent_count)];
	else
		id = last_id + fuzz_choice(3);
	if (type == PEAL__FRAME_FAILED)
		bytes = 8;
	if (peal_ring_claim(&answers, bytes, kind, id, &data) < 0)
		return;
	memset(data, 0x77, bytes);
	memcpy(data, &extension, bytes < 8 ? bytes : 8);
	peal_ring_publish(&answers);
}

static void server_scribbles(void)
{
	static const uint16_t words[] = {
		offsetof(struct peal__segment, request_released),
		offsetof(struct peal__segment, lane_released),
		offsetof(struct peal__segment, response_want),
		offsetof(struct peal__segment, response_released),
		offsetof(struct peal__segment, answers.yield),
		offsetof(struct peal__segment, answers.seq),
		offsetof(struct peal__segment, answers.arm),
		offsetof(struct peal__segment, space.want),
		offsetof(struct peal__segment, space.arm),
	};
	static const uint16_t arms[] = {
		offsetof(struct peal__arm_page, arm),
		offsetof(struct peal__arm_page, lifeline),
		offsetof(struct peal__arm_page, cpu),
	};
	uint32_t which = fuzz_choice(16);
	uint8_t *at;
	uint64_t value;

	if (which < FUZZ_COUNT(words))
		at = (uint8_t *)segment + words[which];
	else if (which < FUZZ_COUNT(words) + FUZZ_COUNT(arms))
		at = (uint8_t *)arm_page + arms[which - FUZZ_COUNT(words)];
	else
		/* The header of the frame that is read next, or of others. */
		at = ring_data(PEAL__RING_RESPONSE) +
		     ((client->rx.head + 4 * (uint64_t)fuzz_choice(6)) &
		      (RING_BYTES - 1));
	memcpy(&value, at, sizeof(value));
	value = fuzz_other(value, fuzz_byte);
	memcpy(at, &value,
	       which < FUZZ_COUNT(words) ? sizeof(value) : sizeof(uint32_t));
}

static void server_talks(void)
{
	union peal__packet packet = {.bytes = {0}};
	static const enum peal__wire_type types[] = {
		PEAL__WIRE_ERROR, PEAL__WIRE_WELCOME, PEAL__WIRE_STATUS};
	uint32_t which = fuzz_choice(5);
	size_t bytes;

	if (hostile_socket < 0)
		return;
	if (which == 3) {
		hostile_hang_up();
		return;
	}
	if (which == 4) {
		__real_peal__pass_send(hostile_socket, "W", 1, NULL, 0);
		return;
	}
	packet.error.code = -(int)fuzz_byte();
	bytes = peal__wire_seal(&packet, types[which]);
	bytes = hostile_spoil(&packet, bytes);
	__real_peal__pass_send(hostile_socket, &packet, bytes, fds,
	                       fuzz_choice(3) == 2 ? 2 : 0);
}

/* It is as honest as can be for a moment: all requests are taken. */
static void server_releases(void)
{
	segment->request_released = client->producer->hot.tx.first;
	segment->lane_released = client->lane.first;
	answers.released = answers.first;
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
