/* SPDX-License-Identifier: MIT */
/*
 * Two clients of a server in this very process, without the door: a slot is
 * made live by hand, and its memory is the same for every input.
 *
 *	seat 0   hostile: the input writes whatever it likes into its segment,
 *	         and each word there may change as soon as it was read
 *	seat 1   honest: what it says arrives as it was said, whatever the other
 *	         one does
 *
 * The server has the segment mapped as it always has; the fuzzer writes through
 * a second mapping. A slot that is DONE was let go of: to read its segment from
 * then on is what a crash would be in earnest.
 *
 * Callers: one thread, which is the consumer's, and in fd mode admission's.
 */
#ifndef PEAL_TESTS_FUZZ_SEATS_H
#define PEAL_TESTS_FUZZ_SEATS_H

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mpsc/layout.h"
#include "mpsc/segment.h"
#include "mpsc/server.h"
#include "tests/fuzz/fuzz.h"

#define SEAT_COUNT 2
#define SEAT_RING_BYTES PEAL_RING_MIN_BYTES

enum { SEAT_HOSTILE, SEAT_HONEST };

struct seat {
	struct peal__slot *slot;
	struct peal_shm_mapping mapping; /* the fuzzer's own */
	struct peal__segment *segment;
	struct fuzz_range *range;
	int sockets[2]; /* the server's end first */
	struct peal_ring_tx requests, lane;
	struct peal_ring_rx responses;
	bool has_left;
};

static struct seat seats[SEAT_COUNT];

/* Once: the memory of a slot. */
static inline void seat_make(struct seat *seat, struct peal__slot *slot,
                             bool is_client)
{
	uint64_t bytes = is_client ? SEAT_RING_BYTES : 0;
	struct peal__fork_fd segment = {.fd = -1};

	slot->shape.rings[PEAL__RING_REQUEST].bytes = SEAT_RING_BYTES;
	slot->shape.rings[PEAL__RING_RESPONSE].bytes = bytes;
	slot->shape.rings[PEAL__RING_LANE].bytes = bytes;
	seat->slot = slot;
	FUZZ_MUST(peal__segment_open(slot, 0, -1, &segment, NULL) == 0 &&
	                  peal__segment_map(segment.fd, &slot->shape,
	                                    PEAL_SHM_MAP_WRITE,
	                                    &seat->mapping) == 0 &&
	                  socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0,
	                             seat->sockets) == 0,
	          "no memory for a segment");
	peal__fork_forget(&segment, true);
	seat->segment = seat->mapping.address;
}

static inline uint8_t *seat_ring(const struct seat *seat,
                                 enum peal__segment_ring ring)
{
	return peal__segment_data(seat->segment, &seat->slot->shape, ring);
}

static inline void seat_wipe(struct seat *seat, uint64_t start)
{
	struct peal__segment_shape *shape = &seat->slot->shape;

	memset(seat->segment, 0, sizeof(*seat->segment));
	seat->segment->magic = PEAL__SEGMENT_MAGIC;
	seat->segment->version = PEAL__LAYOUT_VERSION;
	seat->segment->word.cpu = -1;
	for (int i = 0; i < PEAL__RING_COUNT; i++) {
		enum peal__segment_ring ring = (enum peal__segment_ring)i;

		if (shape->rings[i].bytes == 0)
			continue;
		memset(seat_ring(seat, ring), 0, shape->rings[i].bytes);
		shape->rings[i].start = start;
		*peal__segment_released(seat->segment, ring) = start;
	}
	seat->segment->word.position = start;
}

static inline void seat_take_rings(struct seat *seat)
{
	const struct peal__segment_shape *shape = &seat->slot->shape;
	struct peal_ring_tx *writers[] = {&seat->requests, &seat->lane};
	static const enum peal__segment_ring rings[] = {PEAL__RING_REQUEST,
	                                                PEAL__RING_LANE};

	for (size_t i = 0; i < FUZZ_COUNT(rings); i++)
		if (shape->rings[rings[i]].bytes > 0)
			peal_ring_tx_init(writers[i], seat_ring(seat, rings[i]),
			                  shape->rings[rings[i]].bytes,
			                  shape->rings[rings[i]].start,
			                  peal__segment_released(seat->segment,
			                                         rings[i]));
	if (shape->rings[PEAL__RING_RESPONSE].bytes > 0)
		peal_ring_rx_init(&seat->responses,
		                  seat_ring(seat, PEAL__RING_RESPONSE),
		                  shape->rings[PEAL__RING_RESPONSE].bytes,
		                  shape->rings[PEAL__RING_RESPONSE].start,
		                  &seat->segment->response_released);
}

/* As go_live() of seat.c: the consumer finds it in its next pass. */
static inline void seat_enter(struct peal_consumer *consumer, struct seat *seat,
                              uint64_t start, uint32_t uid, uint64_t flags)
{
	struct peal__slot *slot = seat->slot;

	seat_wipe(seat, start);
	seat_take_rings(seat);
	seat->has_left = false;
	slot->info.uid = uid;
	slot->is_trusted = uid == geteuid();
	slot->flags = flags;
	slot->socket_fd = seat->sockets[0];
	slot->said_bye = false;
	slot->evict_error = 0;
	seat->range = fuzz_watch(slot->segment, seat->segment,
	                         slot->mapping.bytes,
	                         seat == &seats[SEAT_HOSTILE]);
	slot->state = PEAL__SLOT_LIVE;
	consumer->changes++;
}

/* As peal__seat_gone(). */
static inline void seat_leave(struct peal_consumer *consumer, struct seat *seat)
{
	if (seat->has_left)
		return;
	seat->has_left = true;
	if (seat->slot->state == PEAL__SLOT_LIVE)
		seat->slot->state = PEAL__SLOT_HUNG_UP;
	consumer->changes++;
}

/* Whoever has been let go of is not looked at again. */
static inline void seats_check(void)
{
	for (int i = 0; i < SEAT_COUNT; i++)
		if (seats[i].slot->state == PEAL__SLOT_DONE)
			seats[i].range->forbidden =
				"it reads a segment that it has let go of";
}

/* As reaping does; wake bytes of this input are not for the next one. */
static inline void seat_free(struct seat *seat)
{
	char byte[16];

	FUZZ_MUST(seat->slot->state == PEAL__SLOT_DONE,
	          "a slot is not given back");
	seat->slot->state = PEAL__SLOT_FREE;
	if (++seat->slot->peer.generation == 0)
		seat->slot->peer.generation = 1;
	for (int i = 0; i < 2; i++)
		while (recv(seat->sockets[i], byte, sizeof(byte),
		            MSG_DONTWAIT) > 0)
			;
}

/* what the hostile one does -------------------------------------------------- */

/* A word of its header that somebody reads, or any other. */
static inline void hostile_write_header(void)
{
	struct peal__segment *segment = seats[SEAT_HOSTILE].segment;
	static const uint16_t words[] = {
		offsetof(struct peal__segment, space.arm),
		offsetof(struct peal__segment, space.want),
		offsetof(struct peal__segment, answers.arm),
		offsetof(struct peal__segment, answers.want),
		offsetof(struct peal__segment, request_released),
		offsetof(struct peal__segment, lane_released),
		offsetof(struct peal__segment, response_want),
		offsetof(struct peal__segment, response_released),
		offsetof(struct peal__segment, word.position),
		offsetof(struct peal__segment, word.full_count),
		offsetof(struct peal__segment, word.cpu),
		offsetof(struct peal__segment, space.seq),
	};
	uint32_t which = fuzz_choice(FUZZ_COUNT(words) + 4);
	uint64_t value;
	size_t at;

	if (which < FUZZ_COUNT(words))
		at = words[which];
	else
		at = 8 * (fuzz_byte() % (sizeof(*segment) / 8));
	memcpy(&value, (uint8_t *)segment + at, sizeof(value));
	value = fuzz_other(value, fuzz_byte);
	memcpy((uint8_t *)segment + at, &value, sizeof(value));
}

/* The header of a frame near the place where its ring is read. */
static inline void hostile_write_ring(enum peal__segment_ring ring,
                                      const struct peal_ring_tx *tx)
{
	static const int8_t places[] = {0, 4, 8, -16, -12, 16, 32, -32};
	uint8_t *data = seat_ring(&seats[SEAT_HOSTILE], ring);
	uint64_t position =
		tx->first +
		(uint64_t)(int64_t)places[fuzz_choice(FUZZ_COUNT(places))];
	uint8_t *place = data + (position & (tx->capacity_bytes - 1));
	uint32_t word;

	memcpy(&word, place, sizeof(word));
	word = (uint32_t)fuzz_other(word, fuzz_byte);
	memcpy(place, &word, sizeof(word));
}

/* A frame that is one, with bytes of the script in it. */
static inline int hostile_say(struct peal_ring_tx *tx, uint32_t kind,
                              uint64_t id, size_t bytes)
{
	void *data;
	int error = peal_ring_claim(tx, bytes, kind, id, &data);

	if (error < 0)
		return error;
	memset(data, 0x5a, bytes);
	fuzz_bytes(data, bytes < 12 ? bytes : 12);
	peal_ring_publish(tx);
	return 0;
}

#endif
