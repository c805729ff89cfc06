/* SPDX-License-Identifier: MIT */
/*
 * What the server says unasked: pushes, and calls of its own, which the client
 * answers on its lane.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "reactor/reactor.h"

#define ANSWERS_AT_ONCE 64

/* A call that is not answered yet; in the list of its peer. */
struct peal__call {
	struct peal__call *next;
	uint64_t id;
	uint64_t deadline_ns;
	peal_answer_fn *on_answer;
	void *arg;
};

/* A copy of @data behind the node, to be freed when it was sent. */
static struct peal__outgoing *copy_of(const void *data, size_t bytes)
{
	struct peal__outgoing *outgoing =
		peal__malloc(sizeof(*outgoing) + bytes);

	if (outgoing == NULL)
		return NULL;
	*outgoing = (struct peal__outgoing){
		.data = outgoing + 1,
		.data_bytes = bytes,
	};
	if (bytes > 0)
		memcpy(outgoing + 1, data, bytes);
	return outgoing;
}

/* At once if it can, else queued, up to the cap. */
static int send_now_or_later(struct peal__peer *peer, enum peal__frame type,
                             uint64_t id, const uint64_t *extension,
                             const void *data, size_t bytes)
{
	struct peal__outgoing *outgoing;
	void *place;

	if (bytes > peal__peer_message_max(peer))
		return -EMSGSIZE;
	if (peal__peer_claim(peer, type, id, extension, bytes, &place) == 0) {
		if (bytes > 0)
			memcpy(place, data, bytes);
		peal__peer_publish(peer, type);
		return 0;
	}
	if (peer->queued_bytes + bytes >
	    peer->reactor->options.queued_max_bytes)
		return -EAGAIN;
	outgoing = copy_of(data, bytes);
	if (outgoing == NULL)
		return -ENOMEM;
	outgoing->type = type;
	outgoing->id = id;
	outgoing->is_extended = extension != NULL;
	outgoing->extension = extension != NULL ? *extension : 0;
	if (peal__peer_send(peer, outgoing))
		free(outgoing);
	return 0;
}

static int check(const struct peal_reactor *reactor, struct peal_peer id,
                 struct peal__peer **ret_peer)
{
	if (reactor->consumer->hot.is_broken)
		return -ESTALE;
	if (!peal__reactor_is_mine(reactor))
		return -EINVAL;
	*ret_peer = peal__peer_find(reactor, id);
	return *ret_peer == NULL ? -ESTALE : 0;
}

size_t peal_reactor_message_max(const struct peal_reactor *reactor,
                                struct peal_peer id)
{
	struct peal__peer *peer;

	return check(reactor, id, &peer) < 0 ? 0 : peal__peer_message_max(peer);
}

int peal_reactor_push(struct peal_reactor *reactor, struct peal_peer id,
                      const void *data, size_t bytes)
{
	struct peal__peer *peer;
	int error = check(reactor, id, &peer);

	if (error == 0)
		error = send_now_or_later(peer, PEAL__FRAME_PUSH, 0, NULL, data,
		                          bytes);
	if (error == 0)
		reactor->stats.pushed_count++;
	return error;
}

int peal_reactor_push_all(struct peal_reactor *reactor, const void *data,
                          size_t bytes)
{
	int count = 0;

	if (reactor->consumer->hot.is_broken)
		return -ESTALE;
	if (!peal__reactor_is_mine(reactor))
		return -EINVAL;
	for (uint32_t i = 0, left = reactor->open_count;
	     left > 0 && i < reactor->options.client_max; i++) {
		struct peal__peer *peer = &reactor->peers[i];

		if (!peer->is_open)
			continue;
		left--;
		if (peal__peer_is_there(peer) &&
		    send_now_or_later(peer, PEAL__FRAME_PUSH, 0, NULL, data,
		                      bytes) == 0)
			count++;
	}
	reactor->stats.pushed_count += (uint64_t)count;
	return count;
}

int peal_reactor_call(struct peal_reactor *reactor, struct peal_peer id,
                      const void *data, size_t bytes, uint64_t timeout_ns,
                      peal_answer_fn *on_answer, void *arg)
{
	uint64_t deadline_ns = peal__deadline_after(timeout_ns);
	struct peal__call *call;
	struct peal__peer *peer;
	int error = on_answer == NULL ? -EINVAL : check(reactor, id, &peer);

	if (error < 0)
		return error;
	call = peal__malloc(sizeof(*call));
	if (call == NULL)
		return -ENOMEM;
	if (++reactor->call_id == 0)
		reactor->call_id = 1;
	*call = (struct peal__call){
		.next = peer->calls,
		.id = reactor->call_id,
		.deadline_ns = deadline_ns,
		.on_answer = on_answer,
		.arg = arg,
	};
	error = send_now_or_later(
		peer, PEAL__FRAME_CALL, call->id,
		deadline_ns == PEAL__NEVER ? NULL : &deadline_ns, data, bytes);
	if (error < 0) {
		free(call);
		return error;
	}
	if (peer->owed_count++ == 0)
		reactor->calling_count++;
	peer->calls = call;
	if (deadline_ns < reactor->calls_due_ns)
		reactor->calls_due_ns = deadline_ns;
	reactor->stats.called_count++;
	return 0;
}

/* Out of the list of its peer. */
static struct peal__call *unlink_call(struct peal__call **place)
{
	struct peal__call *call = *place;

	*place = call->next;
	return call;
}

static void finish(struct peal__call *call, int error,
                   const struct peal_message *answer)
{
	call->on_answer(error, answer, call->arg);
	free(call);
}

static struct peal__call **find_call(struct peal__peer *peer, uint64_t id)
{
	struct peal__call **place = &peer->calls;

	while (*place != NULL && (*place)->id != id)
		place = &(*place)->next;
	return place;
}

/* Into memory that its client cannot write while somebody looks at it. 0, or
 * -ENOMEM. */
static int copy_answer(struct peal__peer *peer, struct peal_message *answer)
{
	struct peal_reactor *reactor = peer->reactor;
	int error;

	if (peer->is_trusted && !reactor->options.copy_requests)
		return 0;
	error = peal__buffer_reserve(&reactor->answer, answer->data_bytes);
	if (error < 0)
		return error;
	if (answer->data_bytes > 0)
		memcpy(reactor->answer.data, answer->data, answer->data_bytes);
	answer->data = reactor->answer.data;
	return 0;
}

/* One that was owed has come, in time or not. */
static void count_down(struct peal__peer *peer)
{
	struct peal_reactor *reactor = peer->reactor;

	if (--peer->owed_count == 0)
		reactor->calling_count--;
	if (reactor->options.idle_timeout_ns != 0)
		peer->active_ns = peal__clock_ns();
}

/* One answer off the lane. 0, -EAGAIN, or -EPROTO. */
static int take_answer(struct peal__peer *peer)
{
	struct peal_message message;
	struct peal__frame_parts parts;
	struct peal__call **place;
	int error = -EAGAIN, failed = 0;

	/* More than was asked for is not looked at. */
	if (peer->owed_count > 0)
		error = peal_ring_peek(&peer->lane, &message);
	if (error < 0)
		return error;
	if (peal__frame_take(&message, &parts) < 0 || message.id == 0)
		return -EPROTO;
	if (parts.type == PEAL__FRAME_FAILED) {
		failed = (int)(int64_t)parts.extension;
		if (!peal__is_errno(failed))
			return -EPROTO;
	} else if (parts.type != PEAL__FRAME_ANSWER) {
		return -EPROTO;
	}
	count_down(peer);
	place = find_call(peer, message.id);
	if (*place != NULL) { /* else it came too late */
		if (failed == 0)
			failed = copy_answer(peer, &message);
		message.kind = 0;
		message.status = (int32_t)(int64_t)parts.extension;
		message.peer = peer->id;
		finish(unlink_call(place), failed,
		       failed != 0 ? NULL : &message);
	}
	peal_ring_release(&peer->lane, &message);
	return 0;
}

void peal__call_end_all(struct peal__peer *peer, int reason)
{
	bool is_honest = reason == 0 || reason == -ECONNRESET;
	int error = reason == -EPROTO ? -EPROTO : -ECONNRESET;

	/* What it had answered before it went is an answer. No more than is
	 * owed, so that whoever still maps the lane keeps us for no longer;
	 * what is called meanwhile is refused: the peer is not open. */
	while (is_honest && peer->calls != NULL && take_answer(peer) == 0) {
	}
	if (peer->owed_count > 0)
		peer->reactor->calling_count--;
	peer->owed_count = 0;
	while (peer->calls != NULL)
		finish(unlink_call(&peer->calls), error, NULL);
}

static void take_answers(struct peal__peer *peer)
{
	int error = 0;

	for (int i = 0; i < ANSWERS_AT_ONCE && error == 0 && peer->is_open; i++)
		error = take_answer(peer);
	if (!peer->is_open)
		return;
	if (peer->lane.released != peer->lane.told)
		/* Whoever waits for room on the lane has what it waits for: the
		 * rings below are for it as well, wherever it sleeps. */
		peal_ring_settle(&peer->lane);
	peal_doorbell_ring(&peer->bell);
	peal__drain_wake(peer->slot);
	if (error == -EPROTO)
		peal__peer_doom(peer, error);
}

void peal__call_take_answers(struct peal_reactor *reactor)
{
	uint32_t left = reactor->calling_count;

	for (uint32_t i = 0; left > 0 && i < reactor->options.client_max; i++) {
		struct peal__peer *peer = &reactor->peers[i];

		if (!peer->is_open || peer->owed_count == 0)
			continue;
		left--;
		if (peal_ring_has_data(&peer->lane))
			take_answers(peer);
	}
}

bool peal__call_has_answers(const struct peal_reactor *reactor)
{
	uint32_t left = reactor->calling_count;

	for (uint32_t i = 0; left > 0 && i < reactor->options.client_max; i++) {
		const struct peal__peer *peer = &reactor->peers[i];

		if (!peer->is_open || peer->owed_count == 0)
			continue;
		left--;
		if (peal_ring_has_data(&peer->lane))
			return true;
	}
	return false;
}

/* Too late: those of one peer; returns the first deadline that is left. */
static uint64_t expire_some(struct peal__peer *peer, uint64_t now_ns,
                            uint64_t due_ns)
{
	struct peal__call **place = &peer->calls;

	while (*place != NULL) {
		if ((*place)->deadline_ns <= now_ns) {
			finish(unlink_call(place), -ETIMEDOUT, NULL);
			/* It may have called again, or changed the list. */
			place = &peer->calls;
			continue;
		}
		if ((*place)->deadline_ns < due_ns)
			due_ns = (*place)->deadline_ns;
		place = &(*place)->next;
	}
	return due_ns;
}

void peal__call_expire(struct peal_reactor *reactor, uint64_t now_ns)
{
	uint64_t due_ns = PEAL__NEVER;

	if (now_ns < reactor->calls_due_ns)
		return;
	reactor->calls_due_ns = PEAL__NEVER;
	for (uint32_t i = 0; i < reactor->options.client_max; i++)
		if (reactor->peers[i].is_open)
			due_ns =
				expire_some(&reactor->peers[i], now_ns, due_ns);
	if (due_ns < reactor->calls_due_ns)
		reactor->calls_due_ns = due_ns;
}
