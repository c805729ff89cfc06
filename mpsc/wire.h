/* SPDX-License-Identifier: MIT */
/*
 * What is said on the control socket, one packet each.
 *
 *	client                                server
 *	  HELLO  ------------------------------>
 *	         <------------------------------  WELCOME + descriptors
 *	                                          or ERROR, then the end
 *	  READY  ------------------------------>  now the slot is polled
 *	  ...    <--------- one byte ---------->  WAKE
 *	  BYE    ------------------------------>
 *	         <------------------------------  ERROR: closed, and why
 *
 *	observer: HELLO, WELCOME + the status region, then STATUS -> STATUS;
 *	          several that come together get one answer
 *
 * Descriptors with WELCOME, in this order: the arm page, the segment and, for
 * trusted clients, the bell page; for observers the status region alone.
 *
 * Callers: any thread; these functions look at private copies only.
 *
 * Errors: a packet that is not what was expected is -EPROTO; one of another
 *	major version is -EPROTONOSUPPORT, whatever else is in it.
 */
#ifndef PEAL_MPSC_WIRE_H
#define PEAL_MPSC_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "mpsc/layout.h"
#include "peal/base.h"

#define PEAL__WIRE_MAGIC UINT32_C(0x4c414550) /* "PEAL" */
#define PEAL__WIRE_MAJOR 1
#define PEAL__WIRE_MINOR 0

/* Things both sides must agree on that no version number tells: byte order
 * and the shapes of frames and segments. */
#define PEAL__WIRE_ABI UINT32_C(0x01100202)

enum peal__wire_type {
	PEAL__WIRE_HELLO = 1,
	PEAL__WIRE_WELCOME,
	PEAL__WIRE_READY,
	PEAL__WIRE_BYE,
	PEAL__WIRE_ERROR,
	PEAL__WIRE_STATUS,
};

enum peal__wire_role {
	PEAL__ROLE_CLIENT = 1,
	PEAL__ROLE_PRODUCER,
	PEAL__ROLE_OBSERVER,
};

/* Every packet but the wake byte begins like this. */
struct peal__wire_head {
	uint32_t magic;
	uint16_t major;
	uint16_t minor;
	uint32_t type;
	uint32_t bytes; /* of the whole packet */
};
_Static_assert(sizeof(struct peal__wire_head) == 16, "format");

/* Answers may come in any order. */
enum { PEAL__HELLO_UNORDERED = 1 << 0 };

struct peal__hello {
	struct peal__wire_head head;
	uint32_t abi;
	uint32_t role;
	uint64_t features;                        /* none yet */
	_Alignas(8) uint64_t nonce;               /* comes back in WELCOME */
	_Alignas(8) uint64_t request_ring_bytes;  /* 0: you choose */
	_Alignas(8) uint64_t response_ring_bytes; /* 0 for producers */
	_Alignas(8) uint64_t monotonic_ns;        /* the client's clock, now */
	_Alignas(8) uint64_t flags;               /* PEAL__HELLO_UNORDERED */
	_Alignas(8) uint64_t reserved[6];
};
PEAL__AT(peal__hello, role, 20);
PEAL__AT(peal__hello, nonce, 32);
PEAL__AT(peal__hello, flags, 64);
_Static_assert(sizeof(struct peal__hello) == 120, "format");

enum { PEAL__WELCOME_TRUSTED = 1 << 0 };

struct peal__welcome {
	struct peal__wire_head head;
	uint32_t slot_index;
	uint32_t generation;
	uint64_t features;
	_Alignas(8) uint64_t nonce;
	uint32_t flags;      /* PEAL__WELCOME_TRUSTED */
	uint32_t page_bytes; /* offset of the request ring in the segment */
	_Alignas(8) uint64_t request_ring_bytes;
	_Alignas(8) uint64_t response_ring_bytes;
	_Alignas(8) uint64_t request_start; /* first positions */
	_Alignas(8) uint64_t response_start;
	_Alignas(8) uint64_t status_bytes; /* observers */
	_Alignas(8) uint64_t lane_ring_bytes;
	_Alignas(8) uint64_t lane_start;
	_Alignas(8) uint64_t reserved[2];
};
PEAL__AT(peal__welcome, nonce, 32);
PEAL__AT(peal__welcome, request_ring_bytes, 48);
PEAL__AT(peal__welcome, status_bytes, 80);
PEAL__AT(peal__welcome, lane_start, 96);
_Static_assert(sizeof(struct peal__welcome) == 120, "format");

struct peal__wire_error {
	struct peal__wire_head head;
	int32_t code;   /* -errno */
	char text[156]; /* one sentence, terminated */
};
PEAL__AT(peal__wire_error, text, 20);
_Static_assert(sizeof(struct peal__wire_error) == 176, "format");

/* READY, BYE and STATUS are a head alone. */
union peal__packet {
	struct peal__wire_head head;
	struct peal__hello hello;
	struct peal__welcome welcome;
	struct peal__wire_error error;
	unsigned char bytes[256];
};

/* Fill the head of a packet of @type; returns the bytes to send. */
size_t peal__wire_seal(union peal__packet *packet, enum peal__wire_type type);

/* An ERROR packet with a sentence; returns the bytes to send. */
size_t peal__wire_error(union peal__packet *packet, int code, const char *text);

/*
 * Is what was received a whole packet of this version? Returns its type, or
 * -EPROTO, -EPROTONOSUPPORT. The text of an ERROR is made fit for a person here:
 * it ends, is not empty, and has no control characters.
 */
int peal__wire_check(union peal__packet *packet, size_t bytes);

#endif
