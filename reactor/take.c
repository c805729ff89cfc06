/* SPDX-License-Identifier: MIT */
/*
 * A request out of its ring:
 *
 *	peek --> make sense of it --> may it run? --no--> failed, in order
 *	                                   |
 *	                     now, here? ---+--- else
 *	                         |                |
 *	              handler, in place     copy, release, submit
 *	                         |                |
 *	                      release          handler, on a worker
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "base/hooks.h"
#include "base/memory.h"
#include "reactor/inline.h"
#include "reactor/reactor.h"

#define TAKE_MAX 256 /* requests before completions have their turn */
#define BRISK_LOOKS 4

/* the pool ------------------------------------------------------------------ */

/* One for the next request, so that taking it cannot fail. */
static bool has_free(struct peal_reactor *reactor)
{
	struct peal__running *running;

	if (reactor->free_list != NULL)
		return true;
	running = peal__calloc(1, sizeof(*running));
	if (running == NULL)
		return false; /* those in flight will come back */
	running->reactor = reactor;
	running->request.ops = &peal__answer_ops;
	running->next_all = reactor->all;
	running->is_free = true;
	reactor->all = running;
	reactor->free_list = running;
	return true;
}

static uint32_t peer_max(const struct peal_reactor *reactor)
{
	const struct peal_reactor_options *options = &reactor->options;

	return options->at_cap == PEAL_AT_CAP_REJECT
	               ? 2 * options->in_flight_per_client_max
	               : options->in_flight_per_client_max;
}

static void recycle(struct peal__running *running)
{
	struct peal_reactor *reactor = running->reactor;
	struct peal__peer *peer = running->client;

	if (running->handler_ticks != 0)
		peal__inline_learn(reactor, running->handler_ticks);
	peal__buffer_rest(&running->request.in);
	peal__buffer_rest(&running->request.out);
	running->next_free = reactor->free_list;
	running->is_free = true;
	reactor->free_list = running;
	reactor->in_flight--;
	reactor->orphan_count -= !peer->is_open;
	reactor->consumer->paused = reactor->in_flight >= reactor->full_count;
	if (PEAL_UNLIKELY(running->is_refused)) {
		reactor->refused_count--;
		peer->refused_count--;
	}
	if (--peer->in_flight < peer_max(reactor))
		peal__peer_unpark(peer, PEAL__PARKED_CAP);
	peer->slot->hold_count--;
	if (!peer->is_open && peer->slot->hold_count == 0)
		peal__drain_check(reactor->consumer, peer->slot);
}

/* One that was not answered at once. Apart, so that the way of those that were
 * stays short. */
__attribute__((noinline)) static void end_kept(struct peal__running *running)
{
	peal__show_let_go(running);
	recycle(running);
}

void peal__running_settle(struct peal__running *running, bool was_sent)
{
	struct peal_reactor_stats *stats = &running->reactor->stats;
	uint32_t before;

	running->reactor->unsettled_count--;
	if (!was_sent)
		stats->dropped_count++;
	else if (running->outgoing.type == PEAL__FRAME_FAILED)
		stats->failed_count++;
	else
		stats->answered_count++;
	running->is_settled = true;
	if (running->is_inline) {
		/* Its handler still runs, here. Its client may ask again before
		 * that returns: this is not beside it. */
		peal__inline_settled(running);
		return;
	}
	/* W1: pairs with W5 in run_work(): whoever comes second ends it. */
	before = __atomic_fetch_or(&running->flags, PEAL__SETTLED,
	                           __ATOMIC_ACQ_REL);
	if (before & PEAL__ENDED)
		end_kept(running);
}

/* where handlers run -------------------------------------------------------- */

static void on_ended(struct peal__completion *completion, void *object)
{
	struct peal__running *running =
		(struct peal__running *)((char *)completion -
	                                 offsetof(struct peal__running, ended));

	(void)object;
	end_kept(running);
}

static void fail(struct peal__running *running, int error)
{
	/* A failure needs no memory and always fits. */
	if (running->request.ops->send(&running->request, error, 0, NULL, 0) <
	    0)
		return;
}

/* 0, or why nobody wants it any more. Any thread. */
static int why_not(const struct peal_request *request)
{
	if (request->deadline_ns != PEAL__NEVER &&
	    request->deadline_ns <= peal__clock_ns())
		return -ETIMEDOUT;
	return peal__answer_is_unwanted(request) ? -ECANCELED : 0;
}

static void run_handler(struct peal__running *running)
{
	struct peal_reactor *reactor = running->reactor;
	uint64_t start = peal__cpu_ticks();
	struct peal__handling mark;

	peal__reactor_begin_handler(&mark, reactor);
	reactor->options.on_request(&running->request, reactor->options.arg);
	peal__reactor_end_handler(&mark);
	PEAL__HOOK("reactor: handler has returned");
	/* Relaxed: W5 orders it. A handler that keeps its request open shares
	 * it with whoever answers, who does not look at this. */
	peal__write_once(&running->handler_ticks, peal__cpu_ticks() - start);
}

static void run_work(struct peal__work *work)
{
	struct peal__running *running =
		(struct peal__running *)((char *)work -
	                                 offsetof(struct peal__running, work));
	struct peal_reactor *reactor = running->reactor;
	uint32_t before;
	int error;

	/* It may have waited for us for long. What is not run says nothing of
	 * how long handlers take. */
	error = peal__reactor_has_stop(reactor) ? -ESHUTDOWN
	                                        : why_not(&running->request);
	if (PEAL_UNLIKELY(error < 0))
		fail(running, error);
	else
		run_handler(running);
	if (peal__reactor_is_childs(reactor))
		return; /* it would ring its parent's bell */
	peal__completions_enter(reactor->completions);
	/* W5: pairs with W1 and W4. */
	before = __atomic_fetch_or(&running->flags, PEAL__ENDED,
	                           __ATOMIC_ACQ_REL);
	PEAL__HOOK("reactor: handler has ended");
	/* Else it is not ours any more. */
	if (before & PEAL__SETTLED) {
		running->ended.run = on_ended;
		peal__reactor_tell(reactor, &running->ended, true);
	}
	peal__completions_leave(reactor->completions);
}

static void run_executed(void *work)
{
	run_work(work);
}

/* Clients that spin take the processors of the handlers that they wait for,
 * until requests are so few again that half the processors would do. */
static void look_at_crowd(struct peal_reactor *reactor, struct peal__peer *peer,
                          bool is_inline)
{
	uint32_t busy = is_inline || reactor->workers == NULL
	                        ? 0
	                        : peal__workers_busy(reactor->workers);

	if (busy >= reactor->cpu_count)
		reactor->is_crowded = true;
	else if (busy < reactor->cpu_count / 2 || is_inline)
		reactor->is_crowded = false;
	peal__peer_yield(peer, PEAL__YIELD_CROWD, reactor->is_crowded);
}

static void run_inline(struct peal__running *running,
                       const struct peal_message *message)
{
	struct peal_reactor *reactor = running->reactor;
	struct peal_request *request = &running->request;
	bool is_measured = reactor->can_dispatch;
	uint64_t start = is_measured ? peal__cpu_ticks() : 0;

	if (is_measured)
		look_at_crowd(reactor, running->client, true);
	running->is_inline = true;
	reactor->stats.inline_count++;
	if ((!running->client->is_trusted || reactor->options.copy_requests) &&
	    peal__request_copy_in(request) < 0)
		fail(running, -ENOMEM);
	else
		reactor->options.on_request(request, reactor->options.arg);
	if (peal__reactor_is_childs(reactor))
		return;
	if (running->client->claimer == running)
		peal__answer_give_up(running);
	running->is_inline = false;
	peal_consumer_release(reactor->consumer, message);
	if (is_measured)
		peal__inline_returned(running, start);
	if (running->is_settled) {
		recycle(running);
		return;
	}
	peal__show_keep(running);
	/* It stays open, or its answer waits; its bytes in the ring are gone. */
	if (request->data != request->in.data) {
		request->data = NULL;
		request->data_bytes = 0;
	}
	/* Relaxed: this thread also settles it. */
	peal__write_once(&running->flags, PEAL__ENDED);
}

static void dispatch(struct peal__running *running,
                     const struct peal_message *message)
{
	struct peal_reactor *reactor = running->reactor;
	int error = peal__request_copy_in(&running->request);

	peal_consumer_release(reactor->consumer, message);
	peal__show_keep(running);
	if (error == 0 && reactor->workers != NULL) {
		running->work.run = run_work;
		peal__workers_submit(reactor->workers, &running->work);
		look_at_crowd(reactor, running->client, false);
		return;
	}
	if (error == 0)
		error = reactor->options.executor(run_executed, &running->work,
		                                  reactor->options.arg);
	if (error < 0) {
		/* What is no -errno would cost the client its connection. */
		if (!peal__is_errno(error))
			error = -EIO;
		running->flags = PEAL__ENDED;
		fail(running, error);
	}
}

/* taking -------------------------------------------------------------------- */

/* 0, or why it must not run. */
static int judge(const struct peal_reactor *reactor,
                 const struct peal__peer *peer,
                 const struct peal_request *request)
{
	const struct peal_reactor_options *options = &reactor->options;

	if (PEAL_UNLIKELY(peal__reactor_has_stop(reactor)))
		return -ESHUTDOWN;
	if (peer->in_flight - peer->refused_count >
	            options->in_flight_per_client_max ||
	    reactor->in_flight - reactor->refused_count >
	            options->in_flight_max)
		return -EBUSY;
	return why_not(request);
}

static void count_in(struct peal__running *running, struct peal__peer *peer)
{
	struct peal_reactor *reactor = running->reactor;

	reactor->stats.received_count++;
	peer->received_count++;
	peer->in_flight++;
	peer->slot->hold_count++;
	reactor->in_flight++;
	/* A worker that has answered may not be back yet when its client asks
	 * again: that is not beside another one. */
	if (++reactor->unsettled_count == 1)
		reactor->lone_count++;
	else
		reactor->lone_count = 0;
	reactor->consumer->paused = reactor->in_flight >= reactor->full_count;
}

static void fill(struct peal__running *running, struct peal__peer *peer,
                 const struct peal_message *message,
                 const struct peal__frame_parts *parts)
{
	struct peal_request *request = &running->request;

	request->data = message->data;
	request->data_bytes = message->data_bytes;
	request->id = message->id;
	request->peer = peer->id;
	request->deadline_ns = parts->is_extended ? parts->extension
	                                          : PEAL__NEVER;
	request->is_one_way = parts->type == PEAL__FRAME_ONE_WAY;
	running->client = peer;
	running->flags = 0;
	running->is_settled = false;
	running->is_answered = false;
	running->is_refused = false;
	running->has_claim = false;
	running->has_ring_claim = false;
	running->handler_ticks = 0;
	if (peer->is_ordered && !request->is_one_way)
		running->sequence = peer->next_sequence++;
}

static bool is_request(const struct peal_message *message,
                       const struct peal__frame_parts *parts)
{
	return (parts->type == PEAL__FRAME_REQUEST && message->id != 0) ||
	       (parts->type == PEAL__FRAME_ONE_WAY && message->id == 0);
}

/* Of one that has gone nobody waits for an answer, and one that is to be sent
 * away has nothing more to say. */
static bool is_passed_over(const struct peal__peer *peer,
                           const struct peal__frame_parts *parts)
{
	return peer->doom != 0 || (PEAL_UNLIKELY(peal__peer_is_going(peer)) &&
	                           parts->type != PEAL__FRAME_ONE_WAY);
}

static void take_one(struct peal_reactor *reactor, struct peal__peer *peer,
                     struct peal_message *message)
{
	struct peal__running *running = reactor->free_list;
	struct peal__frame_parts parts;
	int error;

	if (peal__frame_take(message, &parts) < 0 ||
	    !is_request(message, &parts)) {
		peal_consumer_release(reactor->consumer, message);
		peal__drain_retire(reactor->consumer, peer->slot, -EPROTO);
		return;
	}
	if (PEAL_UNLIKELY(is_passed_over(peer, &parts))) {
		reactor->stats.unread_count++;
		peal_consumer_release(reactor->consumer, message);
		return;
	}
	reactor->free_list = running->next_free;
	running->is_free = false;
	fill(running, peer, message, &parts);
	count_in(running, peer);
	error = judge(reactor, peer, &running->request);
	if (error < 0) {
		running->is_refused = true;
		reactor->refused_count++;
		peer->refused_count++;
		running->request.data = NULL;
		running->request.data_bytes = 0;
		running->flags = PEAL__ENDED;
		peal__show_keep(running);
		peal_consumer_release(reactor->consumer, message);
		fail(running, error);
	} else if (peal__inline_is_best(running)) {
		run_inline(running, message);
	} else {
		dispatch(running, message);
	}
	if (peer->is_open && peer->in_flight >= peer_max(reactor) &&
	    !peal__reactor_is_childs(reactor))
		peal__peer_park(peer, PEAL__PARKED_CAP);
}

/* Looking at the clock before each handler would be a tenth of a short one's
 * cost: as long as they are short, before every fourth. */
static bool look_at_ticks(struct peal_reactor *reactor, uint32_t count)
{
	uint64_t now, looks = reactor->is_brisk ? BRISK_LOOKS : 1;

	if (count % looks != 0)
		return false;
	now = peal__cpu_ticks();
	reactor->is_brisk = now - reactor->looked_ticks <
	                    looks * reactor->brisk_ticks;
	reactor->looked_ticks = now;
	return true;
}

static bool is_long_unrung(const struct peal_reactor *reactor)
{
	/* Who was touched since the last look was so a moment ago. */
	return (int64_t)(reactor->looked_ticks - reactor->touched_ticks) >
	       (int64_t)reactor->unrung_ticks;
}

void peal__take(struct peal_reactor *reactor)
{
	struct peal_consumer *consumer = reactor->consumer;
	const struct peal__peer *last = NULL;
	struct peal_message message;
	uint64_t end_ticks = 0;
	bool is_late = false;
	uint32_t count = 0;

	while (count < TAKE_MAX && !is_late && !consumer->paused &&
	       has_free(reactor) &&
	       peal_consumer_peek(consumer, &message) == 0) {
		struct peal__peer *peer =
			&reactor->peers[message.peer.slot_index];

		/* Long ones are not to keep the others of a pass waiting. Their
		 * time begins at the first look, as one before it would cost
		 * every pass, and what was peeked is taken: of those that take
		 * more than all of it three run, and six if they were brisk
		 * until now. */
		if (count > 0 && look_at_ticks(reactor, count)) {
			if (end_ticks == 0)
				end_ticks = reactor->looked_ticks +
				            reactor->take_ticks;
			is_late = reactor->looked_ticks >= end_ticks;
		}
		/* Nobody's wake waits for another one's turn, or for long. */
		if (reactor->touched_count > 0 &&
		    (peer != last || is_long_unrung(reactor)))
			peal__peers_ring(reactor);
		last = peer;
		take_one(reactor, peer, &message);
		count++;
		/* Who is to be sent away does not wait for the others. */
		if (PEAL_UNLIKELY(reactor->doomed_count > 0))
			break;
	}
	peal__peers_ring(reactor);
}
