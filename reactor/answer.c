/* SPDX-License-Identifier: MIT */
/*
 * Answers back into the rings:
 *
 *	reactor's thread, it is its turn, there is room --> the ring itself
 *	else: copied into the request's own buffer
 *	        other thread --> completion --> reactor's thread
 *	        not its turn --> the stash, at its sequence
 *	        no room      --> the queue of its client
 */
#include <errno.h>
#include <string.h>

#include "reactor/reactor.h"

static struct peal__running *running_of(const struct peal_request *request)
{
	return (struct peal__running *)(uintptr_t)request;
}

/* A forked child has neither the ring nor the bell. */
static bool is_in_child(const struct peal__running *running)
{
	return running->reactor->consumer->hot.is_broken;
}

static struct peal__running **stash_at(const struct peal__peer *peer,
                                       uint64_t sequence)
{
	return &peer->stash[sequence & (peer->reactor->stash_count - 1)];
}

static void send(struct peal__running *running)
{
	if (peal__peer_send(running->client, &running->outgoing))
		peal__running_settle(running, true);
}

/* One answer of an ordered client has gone: its successors may be there. */
static void advance(struct peal__peer *peer)
{
	for (peer->next_answer++; peer->stashed_count > 0;
	     peer->next_answer++) {
		struct peal__running **place =
			stash_at(peer, peer->next_answer);
		struct peal__running *running = *place;

		if (running == NULL || !peer->is_open)
			return;
		*place = NULL;
		peer->stashed_count--;
		send(running);
	}
}

static bool is_its_turn(const struct peal__running *running)
{
	return !running->client->is_ordered ||
	       running->sequence == running->client->next_answer;
}

void peal__answer(struct peal__running *running)
{
	struct peal__peer *peer = running->client;

	if (peer->is_open && running->request.is_one_way) {
		peal__running_settle(running, true);
	} else if (!peer->is_open || peal__peer_is_going(peer)) {
		peal__running_settle(running, false);
	} else if (!is_its_turn(running)) {
		*stash_at(peer, running->sequence) = running;
		peer->stashed_count++;
	} else {
		send(running);
		if (peer->is_ordered)
			advance(peer);
	}
}

void peal__answer_drop_all(struct peal__peer *peer)
{
	if (!peer->is_ordered)
		return;
	for (uint32_t i = 0; i < peer->reactor->stash_count; i++) {
		struct peal__running *running = peer->stash[i];

		peer->stash[i] = NULL;
		if (running != NULL)
			peal__running_settle(running, false);
	}
	peer->stashed_count = 0;
}

static void on_answered(struct peal__completion *completion, void *object)
{
	(void)object;
	peal__answer((struct peal__running *)((char *)completion -
	                                      offsetof(struct peal__running,
	                                               answered)));
}

/* The answer is in @running->outgoing, and its bytes will stay. */
static int hand_over(struct peal__running *running)
{
	struct peal_reactor *reactor = running->reactor;

	running->is_answered = true;
	if (peal__reactor_is_mine(reactor)) {
		peal__answer(running);
		return 0;
	}
	running->answered.run = on_answered;
	peal__reactor_tell(reactor, &running->answered, false);
	return 0;
}

/* May it go at once, past every buffer? */
static bool is_direct(const struct peal__running *running)
{
	return peal__reactor_is_mine(running->reactor) &&
	       peal__peer_is_there(running->client) &&
	       !running->request.is_one_way && is_its_turn(running);
}

static void published(struct peal__running *running)
{
	struct peal__peer *peer = running->client;

	running->is_answered = true;
	peal__peer_publish(peer, PEAL__FRAME_ANSWER);
	peal__running_settle(running, true);
	if (peer->is_ordered)
		advance(peer);
}

void peal__answer_give_up(struct peal__running *running)
{
	struct peal__peer *peer = running->client;

	if (peer->claimer != running)
		return;
	peer->claimer = NULL;
	/* It is the newest claim: nobody else claims beside it. */
	if (peer->is_open && peal_ring_abort(&peer->tx) == 0)
		peal__peer_flush(peer);
}

/* A reply takes the place of a claim. A part of the ring is given back here by
 * the reactor's thread alone: elsewhere it waits for the handler's return. */
static void replace_claim(struct peal__running *running)
{
	bool had_ring_claim = running->has_ring_claim;

	running->has_claim = running->has_ring_claim = false;
	if (had_ring_claim && peal__reactor_is_mine(running->reactor))
		peal__answer_give_up(running);
}

/* Is the part of the ring that it claimed still there, for this thread? Its
 * handler, which may have handed the request to another one, has not returned. */
static bool has_ring(const struct peal__running *running)
{
	return peal__reactor_is_mine(running->reactor) &&
	       running->client->claimer == running;
}

static bool fits(const struct peal__running *running, size_t bytes)
{
	return bytes <= peal__peer_message_max(running->client);
}

static int send_answer(struct peal_request *request, int error, int32_t status,
                       const void *data, size_t bytes)
{
	struct peal__running *running = running_of(request);
	uint64_t extension = (uint64_t)(int64_t)(error != 0 ? error : status);
	bool is_extended = extension != 0;
	enum peal__frame type = error != 0 ? PEAL__FRAME_FAILED
	                                   : PEAL__FRAME_ANSWER;
	void *place;

	if (PEAL_UNLIKELY(is_in_child(running)))
		return -ESTALE;
	if (running->is_answered)
		return -EINVAL;
	if (!fits(running, bytes))
		return -EMSGSIZE;
	if (running->has_ring_claim) {
		/* What was written there may be the answer, and the next claim
		 * takes its place. */
		if (peal__buffer_put(&request->out, data, bytes) < 0)
			return -ENOMEM;
		data = request->out.data;
		replace_claim(running);
	}
	running->outgoing.type = type;
	if (is_direct(running) &&
	    peal__peer_claim(running->client, type, request->id,
	                     is_extended ? &extension : NULL, bytes,
	                     &place) == 0) {
		if (bytes > 0)
			memcpy(place, data, bytes);
		published(running);
		return 0;
	}
	if (peal__buffer_put(&request->out, data, bytes) < 0)
		return -ENOMEM;
	running->outgoing = (struct peal__outgoing){
		.type = type,
		.is_extended = is_extended,
		.extension = extension,
		.id = request->id,
		.data = request->out.data,
		.data_bytes = bytes,
		.running = running,
	};
	return hand_over(running);
}

static int claim_answer(struct peal_request *request, size_t bytes,
                        void **ret_data)
{
	struct peal__running *running = running_of(request);
	int error;

	if (PEAL_UNLIKELY(is_in_child(running)))
		return -ESTALE;
	if (running->is_answered)
		return -EINVAL;
	if (!fits(running, bytes))
		return -EMSGSIZE;
	if (PEAL_UNLIKELY(running->has_claim))
		replace_claim(running);
	/* The ring only while the handler runs: others want it too. */
	if (is_direct(running) && running->is_inline &&
	    peal__peer_claim(running->client, PEAL__FRAME_ANSWER, request->id,
	                     NULL, bytes, ret_data) == 0) {
		running->has_ring_claim = true;
		running->client->claimer = running;
	} else {
		error = peal__buffer_reserve(&request->out, bytes);
		if (error < 0)
			return error;
		*ret_data = request->out.data;
	}
	running->has_claim = true;
	running->claimed_bytes = bytes;
	return 0;
}

static int publish_answer(struct peal_request *request, size_t bytes)
{
	struct peal__running *running = running_of(request);
	struct peal__peer *peer = running->client;

	if (PEAL_UNLIKELY(is_in_child(running)))
		return -ESTALE;
	if (running->is_answered || !running->has_claim ||
	    bytes > running->claimed_bytes ||
	    (running->has_ring_claim && !has_ring(running)))
		return -EINVAL;
	running->has_claim = false;
	running->outgoing = (struct peal__outgoing){
		.type = PEAL__FRAME_ANSWER,
		.id = request->id,
		.data = request->out.data,
		.data_bytes = bytes,
		.running = running,
	};
	if (!running->has_ring_claim)
		return hand_over(running);
	running->has_ring_claim = false;
	peer->claimer = NULL;
	if (bytes < running->claimed_bytes)
		peal_ring_trim(&peer->tx, bytes);
	published(running);
	/* What others sent meanwhile waited for us. */
	if (peer->first != NULL)
		peal__peer_flush(peer);
	return 0;
}

static int retain(struct peal_request *request)
{
	if (PEAL_UNLIKELY(is_in_child(running_of(request))))
		return -ESTALE;
	if (request->data == request->in.data)
		return 0;
	return peal__request_copy_in(request);
}

bool peal__answer_is_unwanted(const struct peal_request *request)
{
	const struct peal__running *running = running_of(request);
	const struct peal__peer *peer = running->client;

	if (is_in_child(running))
		return true;
	/* What was told is told, whoever has gone. The segment stays mapped as
	 * long as the request is in flight. */
	return !request->is_one_way &&
	       (!peal__read_once(&peer->is_open) ||
	        peal__read_once(
			&peer->slot->segment->cancelled[request->id %
	                                                PEAL__CANCEL_COUNT]) ==
	                request->id);
}

static bool is_cancelled(const struct peal_request *request)
{
	const struct peal__running *running = running_of(request);

	/* Who has gone is so before the reactor, which may run this very
	 * handler, knows. The slot is its client's as long as the request is in
	 * flight. */
	return peal__answer_is_unwanted(request) ||
	       (!request->is_one_way &&
	        peal__read_once(&running->client->slot->state) !=
	                PEAL__SLOT_LIVE);
}

/* The record of its client stays, and its ring, as long as it is in flight. */
static size_t message_max(const struct peal_request *request)
{
	return peal__peer_message_max(running_of(request)->client);
}

const struct peal__request_ops peal__answer_ops = {
	.send = send_answer,
	.claim = claim_answer,
	.publish = publish_answer,
	.retain = retain,
	.is_cancelled = is_cancelled,
	.message_max = message_max,
};
