/* SPDX-License-Identifier: MIT */
/*
 * Every byte that two processes share, but for the frames in the rings, which
 * peal/ring.h draws. It is a file format: the same for 32- and 64-bit programs,
 * versioned, and drawn in docs/layout.md.
 *
 *	arm page     the server writes, all its producers read
 *	bell page    trusted producers and the server write: the futex word
 *	segment      one producer and the server
 *	             [ header page ][ request ring ][ response ring ][ lane ]
 *	status       the server writes, observers read
 *	             [ server ][ slot 0 ][ slot 1 ] ...
 *
 * The sizes below are the least ones: where pages are larger than 4 KiB, so are
 * the regions, the header of a segment and the smallest ring. Offsets stay.
 *
 * A line (64 bytes) has one writer, or is written only when somebody sleeps.
 *
 * Callers: mpsc only.
 */
#ifndef PEAL_MPSC_LAYOUT_H
#define PEAL_MPSC_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define PEAL__LAYOUT_VERSION 1
/* Of the status region: a later one appends to the server's part and to the slots,
 * whose sizes the region tells. */
#define PEAL__STATUS_MINOR 1
#define PEAL__LINE 64

#define PEAL__ARM_MAGIC UINT64_C(0x31304d5241414550)     /* "PEAARM01" */
#define PEAL__SEGMENT_MAGIC UINT64_C(0x3130474553414550) /* "PEASEG01" */
#define PEAL__STATUS_MAGIC UINT64_C(0x3130545341414550)  /* "PEAAST01" */

#define PEAL__ARM_BYTES 4096
#define PEAL__BELL_BYTES 4096
#define PEAL__SEGMENT_HEADER_BYTES 4096
#define PEAL__CANCEL_COUNT 256

/* clang-format off */
#define PEAL__AT(type, field, offset) \
	_Static_assert(offsetof(struct type, field) == (offset), "format")
/* clang-format on */

/* Read-only for everybody but the server: sealed with FUTURE_WRITE. */
struct peal__arm_page {
	_Alignas(8) uint64_t magic;
	uint32_t version;
	uint32_t reserved0;

	/* 64: what every publish loads */
	_Alignas(PEAL__LINE) uint64_t arm;
	uint32_t lifeline; /* marked by the kernel when the server dies */
	uint32_t reserved1;

	/* 128: where the consumer ran last; -1: unknown */
	_Alignas(PEAL__LINE) int32_t cpu;
};
PEAL__AT(peal__arm_page, version, 8);
PEAL__AT(peal__arm_page, arm, 64);
PEAL__AT(peal__arm_page, lifeline, 72);
PEAL__AT(peal__arm_page, cpu, 128);

/* The futex word of the consumer; never handed to another uid. */
struct peal__bell_page {
	_Alignas(PEAL__LINE) uint32_t seq;
};
PEAL__AT(peal__bell_page, seq, 0);

/* A bell the client sleeps at: its line, and the line of those who ring. */
struct peal__client_bell {
	_Alignas(PEAL__LINE) uint64_t arm;
	_Alignas(8) uint64_t want; /* position that is worth a ring */
	_Alignas(PEAL__LINE) uint32_t seq;
	uint32_t yield; /* not 0: it is to sleep rather than to spin */
};
PEAL__AT(peal__client_bell, want, 8);
PEAL__AT(peal__client_bell, seq, 64);
PEAL__AT(peal__client_bell, yield, 68);

/* What the client says of itself: for eyes only, nobody acts on it. */
struct peal__client_word {
	_Alignas(PEAL__LINE) uint64_t position; /* published up to here */
	_Alignas(8) uint64_t full_count;
	_Alignas(8) uint64_t blocked_ns;
	int32_t cpu; /* where it ran last; -1: unknown */
};
PEAL__AT(peal__client_word, full_count, 8);
PEAL__AT(peal__client_word, blocked_ns, 16);
PEAL__AT(peal__client_word, cpu, 24);

struct peal__segment {
	/* 0: written before the client maps it, for people and for checking */
	_Alignas(8) uint64_t magic;
	uint32_t version;
	uint32_t slot_index;
	uint32_t generation;
	uint32_t reserved0;

	/* 64, 128: rung by the consumer when it releases */
	_Alignas(PEAL__LINE) struct peal__client_bell space;
	/* 192, 256: rung by the reactor when it answers */
	_Alignas(PEAL__LINE) struct peal__client_bell answers;
	/* 320: written by the server: how far it has released of the request
	 * ring and of the lane, and the position of the response ring that it
	 * waits for (see reactor/peer.h) */
	_Alignas(PEAL__LINE) uint64_t request_released;
	_Alignas(8) uint64_t lane_released;
	_Alignas(8) uint64_t response_want;
	/* 384: response ring: how far the client has released */
	_Alignas(PEAL__LINE) uint64_t response_released;
	/* 448 */
	_Alignas(PEAL__LINE) struct peal__client_word word;
	/* 512: ids of requests that nobody wants answered, each at its number
	 * modulo the count */
	_Alignas(PEAL__LINE) uint64_t cancelled[PEAL__CANCEL_COUNT];
};
PEAL__AT(peal__segment, version, 8);
PEAL__AT(peal__segment, slot_index, 12);
PEAL__AT(peal__segment, generation, 16);
PEAL__AT(peal__segment, space, 64);
PEAL__AT(peal__segment, answers, 192);
PEAL__AT(peal__segment, request_released, 320);
PEAL__AT(peal__segment, lane_released, 328);
PEAL__AT(peal__segment, response_want, 336);
PEAL__AT(peal__segment, response_released, 384);
PEAL__AT(peal__segment, word, 448);
PEAL__AT(peal__segment, cancelled, 512);
_Static_assert(sizeof(struct peal__segment) <= PEAL__SEGMENT_HEADER_BYTES,
               "the header is one page");

enum { PEAL__STATUS_OPEN = 1, PEAL__STATUS_CLOSED = 2 };

struct peal__status_server {
	/* 0: written once, at open */
	_Alignas(8) uint64_t magic;
	uint32_t version;
	uint32_t slot_max;
	uint32_t slot_bytes;
	int32_t pid; /* as the server sees itself */
	uint32_t uid;
	uint32_t state;                 /* PEAL__STATUS_OPEN, ... */
	_Alignas(8) uint64_t opened_ns; /* CLOCK_MONOTONIC, all of them */
	char name[72];
	uint32_t minor;
	uint32_t role;         /* PEAL__ROLE_CLIENT: it is a reactor */
	uint32_t server_bytes; /* of this struct: there the slots begin */

	/* 128: written by admission */
	_Alignas(PEAL__LINE) uint64_t looked_ns;
	_Alignas(8) uint64_t attached_count;
	_Alignas(8) uint64_t detached_count;
	_Alignas(8) uint64_t died_count;
	_Alignas(8) uint64_t evicted_count;
	_Alignas(8) uint64_t refused_count;
	uint32_t client_count;

	/* 192: written by the consumer; of connections that have ended */
	_Alignas(PEAL__LINE) uint64_t past_message_count;
	_Alignas(8) uint64_t past_payload_bytes;
	_Alignas(8) uint64_t dropped_bytes;
	_Alignas(8) uint64_t sleep_count;

	/* 256: written by a reactor's thread in its pauses */
	_Alignas(PEAL__LINE) uint64_t shown_ns; /* 0: never yet */
	_Alignas(8) uint64_t answered_count;
	_Alignas(8) uint64_t failed_count;
	_Alignas(8) uint64_t dropped_count;
	_Alignas(8) uint64_t mean_handler_ns; /* 0: not measured */
	uint32_t worker_count;
	uint32_t busy_count;    /* of these, or about to be */
	uint32_t running_count; /* requests */
	uint32_t is_paused;     /* as many as may be */
};
PEAL__AT(peal__status_server, slot_max, 12);
PEAL__AT(peal__status_server, state, 28);
PEAL__AT(peal__status_server, opened_ns, 32);
PEAL__AT(peal__status_server, name, 40);
PEAL__AT(peal__status_server, minor, 112);
PEAL__AT(peal__status_server, role, 116);
PEAL__AT(peal__status_server, server_bytes, 120);
PEAL__AT(peal__status_server, looked_ns, 128);
PEAL__AT(peal__status_server, client_count, 176);
PEAL__AT(peal__status_server, past_message_count, 192);
PEAL__AT(peal__status_server, shown_ns, 256);
PEAL__AT(peal__status_server, mean_handler_ns, 288);
PEAL__AT(peal__status_server, worker_count, 296);
PEAL__AT(peal__status_server, is_paused, 308);
_Static_assert(sizeof(struct peal__status_server) == 320, "format");

enum {
	PEAL__STATUS_SLOT_FREE,
	PEAL__STATUS_SLOT_LIVE,
	PEAL__STATUS_SLOT_DRAINING,
};

struct peal__status_slot {
	/* 0: written by admission */
	_Alignas(PEAL__LINE) uint32_t state; /* PEAL__STATUS_SLOT_FREE, ... */
	uint32_t generation;
	int32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint32_t reserved0;
	_Alignas(8) uint64_t ring_bytes;
	_Alignas(8) uint64_t attached_ns;

	/* 64: written by the consumer, once a turn */
	_Alignas(PEAL__LINE) uint64_t message_count;
	_Alignas(8) uint64_t payload_bytes;
	_Alignas(8) uint64_t active_ns; /* when a message was last found */

	/* 128: the client's words, copied in by admission when asked */
	_Alignas(PEAL__LINE) uint64_t client_fill_bytes;
	_Alignas(8) uint64_t client_full_count;
	_Alignas(8) uint64_t client_blocked_ns;

	/* 192: written by a reactor's thread in its pauses */
	_Alignas(PEAL__LINE) uint64_t oldest_ns; /* taken, and open; 0: none */
	_Alignas(8) uint64_t queued_bytes;
	uint32_t running_count; /* requests */
	uint32_t queued_count;  /* answers, pushes and calls */
	uint32_t parked;        /* PEAL_PARKED_CAP | ... */
	uint32_t turn;          /* PEAL_TURN_FREE, ... */
};
PEAL__AT(peal__status_slot, ring_bytes, 24);
PEAL__AT(peal__status_slot, attached_ns, 32);
PEAL__AT(peal__status_slot, message_count, 64);
PEAL__AT(peal__status_slot, active_ns, 80);
PEAL__AT(peal__status_slot, client_fill_bytes, 128);
PEAL__AT(peal__status_slot, oldest_ns, 192);
PEAL__AT(peal__status_slot, running_count, 208);
PEAL__AT(peal__status_slot, parked, 216);
PEAL__AT(peal__status_slot, turn, 220);
_Static_assert(sizeof(struct peal__status_slot) == 256, "format");

static inline size_t peal__status_bytes(uint32_t slot_max)
{
	return sizeof(struct peal__status_server) +
	       (size_t)slot_max * sizeof(struct peal__status_slot);
}

#endif
