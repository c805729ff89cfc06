/* SPDX-License-Identifier: MIT */
/*
 * A reactor that lies to its one client: the memory that it gives away, what it
 * says in WELCOME, and what it does to the rings afterwards.
 *
 *	server_make()      once: the regions, the same for every input
 *	hostile_heard()    HELLO: the memory is wiped, and welcomes or nonsense go
 *	                   out, while is_handshake
 *	server_says()      a frame in the response ring, right or wrong
 *	server_scribbles() a word, anywhere
 *	server_talks()     a packet, or it hangs up
 *	server_releases()  for once as it should be
 *
 * It knows the ids that the client uses, as a server does.
 */
#ifndef PEAL_TESTS_FUZZ_HOSTILE_REACTOR_H
#define PEAL_TESTS_FUZZ_HOSTILE_REACTOR_H

#include "tests/fuzz/hostile_server.h"

#include "peal/client.h"
#include "peal/shm.h"
#include "reactor/client.h"
#include "reactor/frame.h"

#define RING_BYTES PEAL_RING_MIN_BYTES
#define SENT_MAX 32

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
static bool is_handshake;

/* the server's memory --------------------------------------------------------- */

static inline int make_region(int which, const char *name, uint64_t bytes)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_span span = {0, bytes, 1};

	options.name = name;
	options.bytes = bytes;
	return peal_shm_create(&options, &fds[which], NULL) == 0 &&
	       peal_shm_map(fds[which], &span, 1, PEAL_SHM_MAP_WRITE,
	                    &mappings[which]) == 0;
}

static inline void server_make(void)
{
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
}

static inline uint8_t *ring_data(enum peal__segment_ring ring)
{
	return peal__segment_data(segment, &shape, ring);
}

/* As an honest server would have made it. */
static inline void wipe(uint64_t start)
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

/* what the server does ---------------------------------------------------------- */

static inline void server_says(void)
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

static inline void server_scribbles(void)
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

static inline void server_talks(void)
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
static inline void server_releases(void)
{
	segment->request_released = client->producer->hot.tx.first;
	segment->lane_released = client->lane.first;
	answers.released = answers.first;
}

#endif
