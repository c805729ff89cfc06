/* SPDX-License-Identifier: MIT */
/*
 * A client as the reactor has it: where its answers go, and what waits.
 *
 *	answer --+--> response ring --> client
 *	push   --+        | full
 *	call   --+        v
 *	          [ queue ] --when it has room again--> response ring
 *
 * While anything is queued, everything new is queued behind it, and no more
 * requests of this client are taken: it is parked. What it is parked on is told
 * to it as a position in response_want, so that it rings when it has read so
 * far, and to the second look, so that we neither spin on work that may not be
 * taken nor sleep through the room that came back.
 *
 * Callers: the reactor's thread.
 *
 * Progress: nothing here waits.
 *
 * Death: of the client: the queue is dropped and counted.
 */
#ifndef PEAL_REACTOR_PEER_H
#define PEAL_REACTOR_PEER_H

#include "mpsc/server.h"
#include "reactor/frame.h"
#include "reactor/turns.h"

struct peal_reactor;
struct peal__running;
struct peal__call;

/* A frame on its way to a client. */
struct peal__outgoing {
	struct peal__outgoing *next;
	enum peal__frame type;
	bool is_extended;
	uint64_t extension;
	uint64_t id;
	const void *data;
	size_t data_bytes;
	struct peal__running *running; /* whose answer it is, or NULL: freed */
};

enum {
	PEAL__PARKED_CAP = 1 << 0,      /* it has enough in flight */
	PEAL__PARKED_RESPONSE = 1 << 1, /* it does not read its answers */
	PEAL__PARKED_TURN = 1 << 2,     /* it is not its turn */
};

/* Why a client is to sleep rather than to spin. */
enum {
	PEAL__YIELD_TURN = 1 << 0,  /* it is not its turn */
	PEAL__YIELD_CROWD = 1 << 1, /* handlers need all processors */
};

struct peal__peer {
	struct peal_reactor *reactor;
	struct peal__slot *slot;
	struct peal_peer id;
	uint32_t is_open; /* also looked at by workers */
	bool is_ordered;
	bool is_trusted;
	bool is_touched; /* sent something, not rung yet */
	bool is_called;  /* sent something that is no answer, not rung yet */
	uint32_t parked; /* PEAL__PARKED_... */
	uint32_t yield;  /* PEAL__YIELD_... */
	int doom;        /* why it is to be sent away; 0: it is not */

	struct peal_ring_tx tx; /* the response ring */
	struct peal_ringer bell;
	struct peal_ring_rx lane;
	struct peal__running *claimer; /* has a part of the ring in hand */

	struct peal__outgoing *first, *last; /* queued */
	size_t queued_bytes;
	uint32_t queued_count;
	uint32_t stashed_count; /* answers that wait for an earlier one's */
	uint64_t want; /* the position at which the first of them fits */

	uint32_t in_flight;
	uint32_t refused_count; /* of these; they wait for their turn */
	struct peal__running *kept_first, *kept_last; /* oldest first */
	uint64_t next_sequence;                       /* of the next request */
	uint64_t next_answer; /* sequence of what is sent next */
	struct peal__running **stash;
	struct peal__call *calls;
	uint64_t owed_count; /* answers to them that may still come, if late */

	uint64_t parked_ns; /* since when the response ring is full */
	uint64_t active_ns;
	uint64_t received_count, looked_count;
	struct peal__turn_part part;
};

/* Send @outgoing, or queue it; it is done with when this says so. */
bool peal__peer_send(struct peal__peer *peer, struct peal__outgoing *outgoing);

/* Room for @bytes in place: 0, or -EAGAIN (queue it), -EMSGSIZE. */
int peal__peer_claim(struct peal__peer *peer, enum peal__frame type,
                     uint64_t id, const uint64_t *extension, size_t bytes,
                     void **ret_data);
/* What was claimed, a @type, is published; it is rung at the end of the turn. */
void peal__peer_publish(struct peal__peer *peer, enum peal__frame type);

/* The largest payload that ever fits, beside an extension. */
size_t peal__peer_message_max(const struct peal__peer *peer);

/* Send what is queued and fits. */
void peal__peer_flush(struct peal__peer *peer);

/* Would that send anything? Only loads, seq_cst. */
bool peal__peer_can_flush(const struct peal__peer *peer);

/* Tell it to sleep rather than to spin, or no longer, for this reason. */
void peal__peer_yield(struct peal__peer *peer, uint32_t reason, bool is_on);

void peal__peer_park(struct peal__peer *peer, uint32_t reason);
void peal__peer_unpark(struct peal__peer *peer, uint32_t reason);

/* Ring everybody who was sent something. */
void peal__peers_ring(struct peal_reactor *reactor);

/* Send it away in the next pass. */
void peal__peer_doom(struct peal__peer *peer, int error);

/* Has its client gone, while what it left is still read? */
static inline bool peal__peer_is_going(const struct peal__peer *peer)
{
	return peer->slot->drain_end != UINT64_MAX;
}

/* Does anybody read what it is sent? R */
static inline bool peal__peer_is_there(const struct peal__peer *peer)
{
	return peer->is_open && PEAL_LIKELY(!peal__peer_is_going(peer));
}

/* Of those whose clients have gone: no more of what something stops us reading. */
void peal__peers_end_reading(struct peal_reactor *reactor);

/* The peer of that name if it is there, or NULL. One that is going is not. */
struct peal__peer *peal__peer_find(const struct peal_reactor *reactor,
                                   struct peal_peer id);

/* The owner's callbacks, see mpsc/server.h. */
void peal__peer_opened(void *object, struct peal__slot *slot);
bool peal__peer_reads_on(void *object, struct peal__slot *slot);
void peal__peer_closed(void *object, struct peal__slot *slot, int reason);

#endif
