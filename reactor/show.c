/* SPDX-License-Identifier: MIT */
#include "reactor/show.h"

#include "base/cpu.h"
#include "peal/observer.h"
#include "reactor/reactor.h"

_Static_assert((int)PEAL_PARKED_CAP == (int)PEAL__PARKED_CAP, "same");
_Static_assert((int)PEAL_PARKED_RESPONSE == (int)PEAL__PARKED_RESPONSE, "same");
_Static_assert((int)PEAL_PARKED_TURN == (int)PEAL__PARKED_TURN, "same");
_Static_assert((int)PEAL_TURN_FREE == (int)PEAL__TURN_FREE, "same");
_Static_assert((int)PEAL_TURN_WAITING == (int)PEAL__TURN_WAITING, "same");
_Static_assert((int)PEAL_TURN_HOLDING == (int)PEAL__TURN_HOLDING, "same");

void peal__show_keep(struct peal__running *running)
{
	struct peal__peer *peer = running->client;

	running->is_kept = true;
	running->taken_ticks = peal__cpu_ticks();
	running->kept_next = NULL;
	running->kept_previous = peer->kept_last;
	if (peer->kept_last != NULL)
		peer->kept_last->kept_next = running;
	else
		peer->kept_first = running;
	peer->kept_last = running;
}

void peal__show_let_go(struct peal__running *running)
{
	struct peal__peer *peer = running->client;

	if (!running->is_kept)
		return;
	running->is_kept = false;
	if (running->kept_previous != NULL)
		running->kept_previous->kept_next = running->kept_next;
	else
		peer->kept_first = running->kept_next;
	if (running->kept_next != NULL)
		running->kept_next->kept_previous = running->kept_previous;
	else
		peer->kept_last = running->kept_previous;
}

static struct peal__status_slot *row_of(const struct peal__peer *peer)
{
	return &peer->reactor->consumer->status_slots[peer->id.slot_index];
}

void peal__show_nothing(const struct peal__peer *peer)
{
	struct peal__status_slot *row = row_of(peer);

	peal__write_once(&row->oldest_ns, 0);
	peal__write_once(&row->queued_bytes, 0);
	peal__write_once(&row->running_count, 0);
	peal__write_once(&row->queued_count, 0);
	peal__write_once(&row->parked, 0);
	peal__write_once(&row->turn, PEAL_TURN_FREE);
}

/* Of a few minutes or years, to a nanosecond in a million. */
static uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)((double)ticks * (double)PEAL__NS_PER_S /
	                  (double)peal__ns_to_ticks(PEAL__NS_PER_S));
}

static void show_peer(const struct peal__peer *peer, uint64_t now_ns,
                      uint64_t now_ticks)
{
	struct peal__status_slot *row = row_of(peer);
	uint64_t oldest_ns = 0;

	if (peer->kept_first != NULL)
		oldest_ns = now_ns - ticks_to_ns(now_ticks -
		                                 peer->kept_first->taken_ticks);
	peal__write_once(&row->oldest_ns, oldest_ns);
	peal__write_once(&row->queued_bytes, peer->queued_bytes);
	peal__write_once(&row->running_count, peer->in_flight);
	peal__write_once(&row->queued_count, peer->queued_count);
	peal__write_once(&row->parked, peer->parked);
	peal__write_once(&row->turn, (uint32_t)peer->part.turn);
}

static void show_peers(const struct peal_reactor *reactor, uint64_t now_ns)
{
	uint64_t now_ticks = peal__cpu_ticks();

	for (uint32_t i = 0, left = reactor->open_count;
	     left > 0 && i < reactor->options.client_max; i++) {
		const struct peal__peer *peer = &reactor->peers[i];

		if (!peer->is_open)
			continue;
		left--;
		show_peer(peer, now_ns, now_ticks);
	}
}

void peal__show(void *object)
{
	struct peal_reactor *reactor = object;
	struct peal__status_server *line = reactor->consumer->status;
	const struct peal_reactor_stats *stats = &reactor->stats;
	uint64_t now_ns = peal__clock_ns();
	/* As it was before the first handler: nothing is known. */
	bool has_mean = reactor->mean_ticks != 2 * reactor->short_ticks;
	bool is_busy = reactor->in_flight > 0 || reactor->queued_count > 0 ||
	               reactor->turns.holder_count > 0 ||
	               reactor->turns.waiting_count > 0;

	peal__write_once(&line->shown_ns, now_ns);
	peal__write_once(&line->answered_count, stats->answered_count);
	peal__write_once(&line->failed_count, stats->failed_count);
	peal__write_once(&line->dropped_count, stats->dropped_count);
	peal__write_once(&line->mean_handler_ns,
	                 reactor->can_dispatch && has_mean
	                         ? ticks_to_ns(reactor->mean_ticks)
	                         : 0);
	peal__write_once(&line->worker_count, reactor->options.worker_count);
	peal__write_once(&line->busy_count,
	                 reactor->workers == NULL
	                         ? 0
	                         : peal__workers_busy(reactor->workers));
	peal__write_once(&line->running_count, reactor->in_flight);
	peal__write_once(&line->is_paused, reactor->consumer->paused);
	/* Once more when it is over: what was shown is true no longer. */
	if (is_busy || reactor->are_peers_shown)
		show_peers(reactor, now_ns);
	reactor->are_peers_shown = is_busy;
}
