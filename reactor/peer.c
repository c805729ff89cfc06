/* SPDX-License-Identifier: MIT */
#include "reactor/peer.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hooks.h"
#include "base/memory.h"
#include "reactor/reactor.h"

/* No position is as far away as this: the client is not to ring for room. */
#define WANT_NOTHING (UINT64_C(1) << 62)

struct peal__peer *peal__peer_find(const struct peal_reactor *reactor,
                                   struct peal_peer id)
{
	struct peal__peer *peer;

	if (id.slot_index >= reactor->options.client_max)
		return NULL;
	peer = &reactor->peers[id.slot_index];
	return peal__peer_is_there(peer) && peer->id.generation == id.generation
	               ? peer
	               : NULL;
}

static void touch(struct peal__peer *peer)
{
	struct peal_reactor *reactor = peer->reactor;

	if (peer->is_touched)
		return;
	peer->is_touched = true;
	if (reactor->touched_count == 0)
		reactor->touched_ticks = peal__cpu_ticks();
	reactor->touched[reactor->touched_count++] = peer->id.slot_index;
}

void peal__peers_ring(struct peal_reactor *reactor)
{
	if (peal__reactor_is_childs(reactor))
		reactor->touched_count = 0;
	for (uint32_t i = 0; i < reactor->touched_count; i++) {
		struct peal__peer *peer = &reactor->peers[reactor->touched[i]];

		peer->is_touched = false;
		if (!peer->is_open)
			continue;
		peal_doorbell_ring(&peer->bell);
		/* It may sleep until there is room for a request, and we may
		 * take none before it has read this. */
		if (PEAL_UNLIKELY(peer->is_called))
			peal__drain_wake(peer->slot);
		peer->is_called = false;
	}
	reactor->touched_count = 0;
}

size_t peal__peer_message_max(const struct peal__peer *peer)
{
	return peal_ring_message_max(peer->tx.capacity_bytes) -
	       PEAL__FRAME_EXTENSION_BYTES;
}

int peal__peer_claim(struct peal__peer *peer, enum peal__frame type,
                     uint64_t id, const uint64_t *extension, size_t bytes,
                     void **ret_data)
{
	/* What is queued goes first, and what somebody has in hand would be
	 * published with it. */
	if (peer->first != NULL || peer->claimer != NULL)
		return -EAGAIN;
	return peal__frame_claim(&peer->tx, type, id, extension, bytes,
	                         ret_data);
}

void peal__peer_publish(struct peal__peer *peer, enum peal__frame type)
{
	peal_ring_publish(&peer->tx);
	peer->is_called |= type == PEAL__FRAME_CALL || type == PEAL__FRAME_PUSH;
	PEAL__HOOK("reactor: published");
	touch(peer);
}

static bool try_to_send(struct peal__peer *peer,
                        const struct peal__outgoing *outgoing)
{
	void *data;
	int error = peal__frame_claim(
		&peer->tx, outgoing->type, outgoing->id,
		outgoing->is_extended ? &outgoing->extension : NULL,
		outgoing->data_bytes, &data);

	if (error < 0)
		return false; /* -EAGAIN: what never fits was refused before */
	if (outgoing->data_bytes > 0)
		memcpy(data, outgoing->data, outgoing->data_bytes);
	peal__peer_publish(peer, outgoing->type);
	return true;
}

/* How far the client has to read before the head of the queue fits. */
static void want_room(struct peal__peer *peer)
{
	const struct peal__outgoing *outgoing = peer->first;
	uint64_t frame_bytes = peal_ring_frame_bytes(
		outgoing->data_bytes +
		(outgoing->is_extended ? PEAL__FRAME_EXTENSION_BYTES : 0));

	peer->want = peer->tx.tail + frame_bytes + PEAL_RING_SPARE_BYTES -
	             peer->tx.capacity_bytes;
	/* R10: pairs with R11. Arming our bell, B2, is what makes it count for
	 * who releases; who sleeps for room with a view in hand looks for it
	 * after arming his, and B1 may follow at once. */
	__atomic_store_n(&peer->slot->segment->response_want, peer->want,
	                 PEAL__ANNOUNCE);
}

bool peal__peer_send(struct peal__peer *peer, struct peal__outgoing *outgoing)
{
	if (peer->first == NULL && peer->claimer == NULL &&
	    try_to_send(peer, outgoing))
		return true;
	outgoing->next = NULL;
	peer->queued_bytes += outgoing->data_bytes + sizeof(*outgoing);
	peer->queued_count++;
	if (peer->first != NULL) {
		peer->last->next = outgoing;
		peer->last = outgoing;
		return false;
	}
	peer->first = peer->last = outgoing;
	peer->reactor->queued_count++;
	if (peer->claimer == NULL)
		want_room(peer);
	peal__peer_park(peer, PEAL__PARKED_RESPONSE);
	return false;
}

/* Sent, or nobody wants it: it is its owner's again. */
static void done_with(struct peal__outgoing *outgoing, bool was_sent)
{
	struct peal__running *running = outgoing->running;

	if (running == NULL)
		free(outgoing);
	else
		peal__running_settle(running, was_sent);
}

static struct peal__outgoing *pop(struct peal__peer *peer)
{
	struct peal__outgoing *outgoing = peer->first;

	peer->first = outgoing->next;
	peer->queued_bytes -= outgoing->data_bytes + sizeof(*outgoing);
	peer->queued_count--;
	if (peer->first == NULL)
		peer->reactor->queued_count--;
	return outgoing;
}

static void drop_queue(struct peal__peer *peer)
{
	while (peer->first != NULL)
		done_with(pop(peer), false);
}

/* It reads, if slowly, and something is still queued. */
static void go_on_waiting(struct peal__peer *peer, bool has_sent)
{
	if (peer->claimer == NULL)
		want_room(peer);
	if (!has_sent)
		return;
	if (peer->reactor->options.stall_timeout_ns != 0)
		peer->parked_ns = peal__clock_ns();
	/* As when it was parked: it may have read everything since, and sleep
	 * until there is room for a request. */
	peal__drain_wake(peer->slot);
}

void peal__peer_flush(struct peal__peer *peer)
{
	bool has_sent = false;

	while (peer->is_open && peer->claimer == NULL && peer->first != NULL &&
	       try_to_send(peer, peer->first)) {
		done_with(pop(peer), true);
		has_sent = true;
	}
	if (peer->first == NULL)
		peal__peer_unpark(peer, PEAL__PARKED_RESPONSE);
	else if (peer->is_open)
		go_on_waiting(peer, has_sent);
}

bool peal__peer_can_flush(const struct peal__peer *peer)
{
	uint64_t released;

	if (!peer->is_open || peer->first == NULL || peer->claimer != NULL)
		return false;
	/* R9: pairs with R2 and R6; seq_cst because it is the second look. A
	 * position that cannot be is not taken, as in peal__ring_make_room(),
	 * or a lie would keep us awake. */
	released = peal__load(peer->tx.released_word, __ATOMIC_SEQ_CST);
	return released - peer->tx.released <=
	               peer->tx.first - peer->tx.released &&
	       (int64_t)(released - peer->want) >= 0;
}

void peal__peer_yield(struct peal__peer *peer, uint32_t reason, bool is_on)
{
	uint32_t yield = is_on ? peer->yield | reason : peer->yield & ~reason;

	if (yield == peer->yield)
		return;
	peer->yield = yield;
	/* Relaxed: a hint. Whoever sleeps for it is woken by its answer. */
	peal__write_once(&peer->slot->segment->answers.yield, yield);
}

void peal__peer_park(struct peal__peer *peer, uint32_t reason)
{
	if (peer->parked & reason)
		return;
	if (peer->parked == 0)
		peal__drain_park(peer->reactor->consumer, peer->slot);
	if ((peer->parked & ~(uint32_t)PEAL__PARKED_TURN) == 0 &&
	    reason != PEAL__PARKED_TURN)
		peer->reactor->stats.parked_count++;
	peer->parked |= reason;
	peer->reactor->capped_count += reason == PEAL__PARKED_CAP;
	if (reason != PEAL__PARKED_RESPONSE)
		return;
	if (peer->reactor->options.stall_timeout_ns != 0)
		peer->parked_ns = peal__clock_ns();
	/* It may sleep until there is room for a request, which will not come
	 * before it has read: wake it, whatever it waits for. */
	peal__drain_wake(peer->slot);
}

void peal__peer_unpark(struct peal__peer *peer, uint32_t reason)
{
	if ((peer->parked & reason) == 0)
		return;
	peer->parked &= ~reason;
	peer->reactor->capped_count -= reason == PEAL__PARKED_CAP;
	if (reason == PEAL__PARKED_RESPONSE && peer->is_open)
		peal__write_once(&peer->slot->segment->response_want,
		                 peer->tx.tail + WANT_NOTHING);
	if (peer->parked == 0 && peer->is_open)
		peal__drain_unpark(peer->reactor->consumer, peer->slot);
}

void peal__peer_doom(struct peal__peer *peer, int error)
{
	if (peer->doom == 0)
		peer->reactor->doomed_count++;
	peer->doom = error;
}

static void init_rings(struct peal__peer *peer, struct peal__slot *slot)
{
	const struct peal__segment_shape *shape = &slot->shape;
	struct peal__segment *segment = slot->segment;

	peal_ring_tx_init(&peer->tx,
	                  peal__segment_data(segment, shape,
	                                     PEAL__RING_RESPONSE),
	                  shape->rings[PEAL__RING_RESPONSE].bytes,
	                  shape->rings[PEAL__RING_RESPONSE].start,
	                  peal__segment_released(segment, PEAL__RING_RESPONSE));
	peal_ring_rx_init(&peer->lane,
	                  peal__segment_data(segment, shape, PEAL__RING_LANE),
	                  shape->rings[PEAL__RING_LANE].bytes,
	                  shape->rings[PEAL__RING_LANE].start,
	                  peal__segment_released(segment, PEAL__RING_LANE));
	peer->bell = (struct peal_ringer){
		.arm = &segment->answers.arm,
		.seq = &segment->answers.seq,
		.is_clients = 1,
		.fd = slot->socket_fd,
	};
}

void peal__peer_opened(void *object, struct peal__slot *slot)
{
	struct peal_reactor *reactor = object;
	struct peal__peer *peer = &reactor->peers[slot->peer.slot_index];
	struct peal__running **stash = peer->stash;
	bool is_ordered = (slot->flags & PEAL__HELLO_UNORDERED) == 0;

	/* Kept for the next one in this slot. */
	if (is_ordered && stash == NULL)
		stash = peal__calloc(reactor->stash_count, sizeof(*stash));
	*peer = (struct peal__peer){
		.reactor = reactor,
		.slot = slot,
		.id = slot->peer,
		.is_ordered = is_ordered && stash != NULL,
		.is_trusted = slot->is_trusted,
		/* In the list of the touched its place is known by its slot. */
		.is_touched = peer->is_touched,
		.stash = stash,
		.active_ns = peal__clock_ns(),
	};
	init_rings(peer, slot);
	peal__show_nothing(peer);
	peal__write_once(&slot->segment->response_want,
	                 peer->tx.tail + WANT_NOTHING);
	/* Relaxed: workers only ask for peers whose requests they have. */
	peal__write_once(&peer->is_open, 1);
	reactor->open_count++;
	if (is_ordered && stash == NULL)
		peal__peer_doom(peer, -ENOMEM);
	if (reactor->options.on_opened != NULL)
		reactor->options.on_opened(reactor, peer->id,
		                           reactor->options.arg);
	/* Callbacks that run in a wait may have left something for a pass:
	 * somebody to be sent away, a deadline that comes before its end. */
	peal_consumer_notify(reactor->consumer);
}

/* Requests that a client which has gone had published, and nobody began. */
static uint64_t count_unread(const struct peal__slot *slot)
{
	struct peal_ring_rx rx = slot->rx;
	struct peal_message message;
	uint64_t count = 0;

	while (peal_ring_peek(&rx, &message) == 0)
		count++;
	return count;
}

/* Would it be waited for, who knows how long? Nobody is told of its end then. */
static bool is_held_up(const struct peal__peer *peer)
{
	return peer->parked != 0 || peer->reactor->consumer->paused;
}

bool peal__peer_reads_on(void *object, struct peal__slot *slot)
{
	struct peal_reactor *reactor = object;
	struct peal__peer *peer = &reactor->peers[slot->peer.slot_index];

	peal__turns_leave(peer);
	/* Nobody reads its answers, so that nothing waits for their room. */
	drop_queue(peer);
	peal__answer_drop_all(peer);
	peal__peer_unpark(peer, PEAL__PARKED_RESPONSE);
	return !is_held_up(peer) && !reactor->is_draining;
}

void peal__peers_end_reading(struct peal_reactor *reactor)
{
	struct peal_consumer *consumer = reactor->consumer;

	for (uint32_t i = 0;
	     consumer->draining_count > 0 && i < reactor->options.client_max;
	     i++) {
		struct peal__peer *peer = &reactor->peers[i];

		if (peer->is_open && peal__peer_is_going(peer) &&
		    is_held_up(peer))
			peal__drain_retire(consumer, peer->slot, 0);
	}
}

void peal__peer_closed(void *object, struct peal__slot *slot, int reason)
{
	struct peal_reactor *reactor = object;
	struct peal__peer *peer = &reactor->peers[slot->peer.slot_index];

	if (!peer->is_open)
		return;
	/* The last of its requests may end below: our caller is who then lets
	 * the slot go, once. */
	slot->hold_count++;
	reactor->orphan_count += peer->in_flight;
	peal__write_once(&peer->is_open, 0);
	reactor->open_count--;
	if (peer->doom != 0) {
		peer->doom = 0;
		reactor->doomed_count--;
	}
	reactor->stats.unread_count += count_unread(slot);
	drop_queue(peer);
	peer->reactor->capped_count -= (peer->parked & PEAL__PARKED_CAP) != 0;
	peer->parked = 0;
	peal__show_nothing(peer);
	peal__turns_leave(peer);
	peal__answer_drop_all(peer);
	peal__call_end_all(peer, reason);
	if (reactor->options.on_closed != NULL)
		reactor->options.on_closed(reactor, peer->id, reason,
		                           reactor->options.arg);
	peal_consumer_notify(reactor->consumer); /* likewise */
	slot->hold_count--;
}
