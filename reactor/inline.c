/* SPDX-License-Identifier: MIT */
#include "reactor/inline.h"

#include "base/cpu.h"
#include "reactor/reactor.h"

#define LONE_ENOUGH 16
#define OUTLIER 4 /* times the mean: as much as one handler may say */

void peal__inline_learn(struct peal_reactor *reactor, uint64_t ticks)
{
	uint64_t mean = reactor->mean_ticks;
	uint64_t most =
		OUTLIER *
		(mean > reactor->tiny_ticks ? mean : reactor->tiny_ticks);

	/* One that was pushed off its processor says nothing of the others. */
	if (ticks > most)
		ticks = most;
	reactor->mean_ticks += ticks / 8 - mean / 8;
}

/* Has nobody asked, as far as one sees, beside @running? */
static bool is_alone(const struct peal__running *running)
{
	const struct peal_reactor *reactor = running->reactor;
	const struct peal__slot *slot = running->client->slot;

	return !peal_ring_has_data(&slot->rx) &&
	       !peal__scan_has_hot(&reactor->consumer->scan,
	                           running->request.peer.slot_index);
}

/* Does it matter who had company? Not where handlers are so short that all of
 * them run here. */
static bool learns_company(const struct peal_reactor *reactor)
{
	return reactor->can_dispatch &&
	       reactor->mean_ticks >= reactor->tiny_ticks;
}

void peal__inline_settled(const struct peal__running *running)
{
	struct peal_reactor *reactor = running->reactor;

	if (!learns_company(reactor))
		return;
	reactor->was_alone = is_alone(running);
	reactor->settled_ticks = peal__cpu_ticks();
}

/* Has nobody waited for the handler, which returns now? Who asks again as soon as
 * he is answered does not wait, if the handler then soon returns. */
static bool was_lone(const struct peal__running *running, uint64_t now)
{
	const struct peal_reactor *reactor = running->reactor;

	if (running->is_settled &&
	    now - reactor->settled_ticks < reactor->short_ticks)
		return reactor->was_alone;
	return is_alone(running);
}

void peal__inline_returned(const struct peal__running *running,
                           uint64_t start_ticks)
{
	struct peal_reactor *reactor = running->reactor;
	uint64_t now = peal__cpu_ticks();

	if (!learns_company(reactor) || !was_lone(running, now))
		reactor->lone_count = 0;
	peal__inline_learn(reactor, now - start_ticks);
}

bool peal__inline_is_best(const struct peal__running *running)
{
	const struct peal_reactor *reactor = running->reactor;

	if (!reactor->can_dispatch ||
	    reactor->options.inline_mode == PEAL_INLINE_ALWAYS)
		return true;
	if (reactor->options.inline_mode == PEAL_INLINE_NEVER)
		return false;
	if (reactor->mean_ticks < reactor->tiny_ticks)
		return true;
	return reactor->unsettled_count == 1 &&
	       (reactor->mean_ticks < reactor->short_ticks ||
	        reactor->lone_count >= LONE_ENOUGH) &&
	       is_alone(running) &&
	       !peal__completions_has_any(reactor->completions);
}
