/* SPDX-License-Identifier: MIT */
#include "reactor/turns.h"

#include "base/cpu.h"
#include "reactor/reactor.h"

#define WINDOW_NS PEAL__NS_PER_MS
#define MUCH 8 /* requests in a window */
#define TURN_NS (200 * PEAL__NS_PER_US)
/* Without a request a turn is over, and later for whoever makes many. */
#define PAUSE_NS (3 * PEAL__NS_PER_US)
#define LONG_PAUSE_NS (30 * PEAL__NS_PER_US)
#define MANY 16
/* Its first answer has to wake it. */
#define WAKE_NS (60 * PEAL__NS_PER_US)
#define YIELD_NS (2 * PEAL__NS_PER_US)
#define LEAVE_NS (10 * PEAL__NS_PER_MS)

void peal__turns_init(struct peal__turns *turns, bool is_wanted)
{
	int cpu_count = peal__cpu_online_count();

	*turns = (struct peal__turns){
		.holder_max = is_wanted && cpu_count > 1
	                              ? (uint32_t)cpu_count - 1
	                              : 0,
		.window_length_ticks = peal__ns_to_ticks(WINDOW_NS),
		.turn_length_ticks = peal__ns_to_ticks(TURN_NS),
		.pause_ticks = peal__ns_to_ticks(PAUSE_NS),
		.long_pause_ticks = peal__ns_to_ticks(LONG_PAUSE_NS),
		.wake_ticks = peal__ns_to_ticks(WAKE_NS),
		.yield_ticks = peal__ns_to_ticks(YIELD_NS),
		.leave_ticks = peal__ns_to_ticks(LEAVE_NS),
	};
}

bool peal__turns_are_possible(const struct peal_reactor *reactor)
{
	return reactor->open_count > reactor->turns.holder_max &&
	       reactor->turns.holder_max > 0;
}

/* the lists ---------------------------------------------------------------- */

static void unlink_from(struct peal__peer **place,
                        const struct peal__peer *peer)
{
	while (*place != peer)
		place = &(*place)->part.next;
	*place = peer->part.next;
}

static void drop(struct peal__peer *peer)
{
	struct peal__turns *turns = &peer->reactor->turns;

	if (turns->leaving == peer)
		turns->leaving = NULL;
	if (peer->part.turn == PEAL__TURN_HOLDING) {
		unlink_from(&turns->first_holder, peer);
		turns->holder_count--;
	} else {
		unlink_from(&turns->first, peer);
		turns->waiting_count--;
		turns->last = turns->first;
		while (turns->last != NULL && turns->last->part.next != NULL)
			turns->last = turns->last->part.next;
	}
	peer->part.turn = PEAL__TURN_FREE;
	peer->part.next = NULL;
}

static void set_free(struct peal__peer *peer)
{
	bool was_waiting = peer->part.turn == PEAL__TURN_WAITING;

	drop(peer);
	if (!peer->is_open)
		return;
	/* What it asked until now was asked in turns. */
	peer->part.window_count = peer->received_count;
	peer->part.window_ticks = peal__cpu_ticks();
	peal__peer_yield(peer, PEAL__YIELD_TURN, false);
	if (was_waiting)
		peal__peer_unpark(peer, PEAL__PARKED_TURN);
}

void peal__turns_end(struct peal_reactor *reactor)
{
	struct peal__turns *turns = &reactor->turns;

	while (turns->first_holder != NULL)
		set_free(turns->first_holder);
	while (turns->first != NULL)
		set_free(turns->first);
}

/* Once there are processors enough, nobody waits. */
static void end_if_few(struct peal_reactor *reactor)
{
	const struct peal__turns *turns = &reactor->turns;

	if (turns->holder_count + turns->waiting_count <= turns->holder_max)
		peal__turns_end(reactor);
}

void peal__turns_leave(struct peal__peer *peer)
{
	if (peer->part.turn == PEAL__TURN_FREE)
		return;
	set_free(peer);
	end_if_few(peer->reactor);
}

/* turns -------------------------------------------------------------------- */

static void begin_to_wait(struct peal__peer *peer)
{
	struct peal__turns *turns = &peer->reactor->turns;

	peer->part.turn = PEAL__TURN_WAITING;
	peer->part.next = NULL;
	if (turns->first == NULL)
		turns->first = peer;
	else
		turns->last->part.next = peer;
	turns->last = peer;
	turns->waiting_count++;
	peal__peer_yield(peer, PEAL__YIELD_TURN, true);
	peal__peer_park(peer, PEAL__PARKED_TURN);
}

static bool sleeps(const struct peal__peer *peer)
{
	uint64_t arm = peal__read_once(peer->bell.arm);

	/* What we have rung is about to wake up. */
	return arm != 0 && arm != peer->bell.my_last;
}

/* Its turn is over. It looks at its bell while it spins for the answer that it
 * does not get, and goes to sleep. */
static void end_turn(struct peal__peer *peer)
{
	uint64_t start = peal__cpu_ticks();

	/* What it was answered is to be seen before it sleeps. */
	peal__peers_ring(peer->reactor);
	drop(peer);
	begin_to_wait(peer);
	if (!sleeps(peer))
		/* B8: pairs with B3 and B6: whoever sees the bump sees that
		 * it is to yield. Nobody sleeps here, so nobody is woken. */
		__atomic_fetch_add(peer->bell.seq, 1, __ATOMIC_RELEASE);
	while (!sleeps(peer) &&
	       peal__cpu_ticks() - start < peer->reactor->turns.yield_ticks)
		peal__cpu_pause();
}

static void begin_turn(struct peal__peer *peer, uint64_t now)
{
	struct peal__turns *turns = &peer->reactor->turns;

	drop(peer);
	peer->part.turn = PEAL__TURN_HOLDING;
	peer->part.next = turns->first_holder;
	peer->part.seen_count = peer->received_count;
	peer->part.start_ticks = peer->part.asked_ticks = now;
	peer->part.ask_count = 0;
	turns->first_holder = peer;
	turns->holder_count++;
	peal__peer_yield(peer, PEAL__YIELD_TURN, false);
	peal__peer_unpark(peer, PEAL__PARKED_TURN);
}

/* And could be served if it had a turn: who is parked for another reason as
 * well, or at the cap for all, has no use for one, and would keep us awake. */
static bool has_asked(const struct peal__peer *peer)
{
	return (peer->parked & ~(uint32_t)PEAL__PARKED_TURN) == 0 &&
	       !peer->reactor->consumer->paused &&
	       peal_ring_has_data(&peer->slot->rx);
}

static struct peal__peer *first_that_has_asked(const struct peal__turns *turns)
{
	struct peal__peer *peer = turns->first;

	while (peer != NULL && !has_asked(peer))
		peer = peer->part.next;
	return peer;
}

bool peal__turns_has_waiting(const struct peal_reactor *reactor)
{
	return !reactor->consumer->paused &&
	       first_that_has_asked(&reactor->turns) != NULL;
}

/* Look at what @peer, who holds a turn, has done: is it over? */
static bool is_over(struct peal__peer *peer, uint64_t now)
{
	const struct peal__turns *turns = &peer->reactor->turns;
	struct peal__turn_part *part = &peer->part;
	uint64_t pause_ticks = part->ask_count < 2 ? turns->wake_ticks
	                       : part->ask_count < MANY
	                               ? turns->pause_ticks
	                               : turns->long_pause_ticks;

	if (part->seen_count != peer->received_count) {
		part->seen_count = peer->received_count;
		part->asked_ticks = now;
		/* Its time begins when it has woken up. */
		if (++part->ask_count == 2)
			part->start_ticks = now;
		return now - part->start_ticks > turns->turn_length_ticks;
	}
	return now - part->asked_ticks > pause_ticks ||
	       now - part->start_ticks > turns->turn_length_ticks;
}

static struct peal__peer *holder_that_is_over(const struct peal__turns *turns,
                                              uint64_t now)
{
	struct peal__peer *found = NULL;

	/* All of them are looked at: that is how time passes for them. */
	for (struct peal__peer *peer = turns->first_holder; peer != NULL;
	     peer = peer->part.next)
		if (is_over(peer, now))
			found = peer;
	return found;
}

/* Would it be woken on the processor that we are on? Its word, a hint. */
static bool is_beside_us(const struct peal__peer *peer)
{
	int32_t cpu = peal__read_once(&peer->slot->segment->word.cpu);

	return cpu >= 0 && cpu == peal__cpu_current();
}

static void pass_turns_on(struct peal_reactor *reactor, uint64_t now)
{
	struct peal__turns *turns = &reactor->turns;
	struct peal__peer *over = holder_that_is_over(turns, now);
	struct peal__peer *next = first_that_has_asked(turns);

	if (turns->leaving != NULL) {
		end_turn(turns->leaving);
		return;
	}
	if (next == NULL ||
	    (turns->holder_count >= turns->holder_max && over == NULL))
		return;
	if (turns->holder_count >= turns->holder_max) {
		if (is_beside_us(next)) {
			turns->leaving = over;
		} else {
			end_turn(over);
			now = peal__cpu_ticks();
		}
	}
	begin_turn(next, now);
}

/* windows ------------------------------------------------------------------ */

/* Only rings that were active lately are looked at, so that it may be long ago
 * that this one was: what came in so long a time was not much. */
static bool asks_much(struct peal__peer *peer, uint64_t now)
{
	struct peal__turn_part *part = &peer->part;
	uint64_t count = peer->received_count - part->window_count;
	uint64_t elapsed = now - part->window_ticks;

	part->window_count = peer->received_count;
	part->window_ticks = now;
	return count >= MUCH && elapsed <= peer->reactor->turns.leave_ticks;
}

static struct peal__peer *hot_peer(const struct peal_reactor *reactor,
                                   uint32_t place)
{
	const struct peal__scan *scan = &reactor->consumer->scan;

	return &reactor->peers[scan->entries[place].slot_index];
}

/* Those who ask much join; the first of them hold. */
static void join(struct peal_reactor *reactor, uint64_t now)
{
	const struct peal__scan *scan = &reactor->consumer->scan;
	struct peal__turns *turns = &reactor->turns;
	uint32_t count = 0, place = 0;

	for (uint32_t i = 0; i < scan->hot_count; i++) {
		struct peal__peer *peer = hot_peer(reactor, i);

		/* One that has gone starves nobody, and nobody waits to hear
		 * that what it told has its turn. */
		peer->part.is_busy = peer->part.turn == PEAL__TURN_FREE &&
		                     !peal__peer_is_going(peer) &&
		                     asks_much(peer, now);
		count += peer->part.is_busy;
	}
	if (count + turns->holder_count + turns->waiting_count <=
	    turns->holder_max)
		return;
	while (place < scan->hot_count) {
		struct peal__peer *peer = hot_peer(reactor, place);

		/* Parking takes it out of the list, and puts another one in
		 * its place. */
		if (!peer->part.is_busy) {
			place++;
			continue;
		}
		peer->part.is_busy = false;
		peer->part.asked_ticks = now;
		begin_to_wait(peer);
	}
}

/* Those who ask no more are free again, and all when there are few. */
static void leave(struct peal_reactor *reactor, uint64_t now)
{
	struct peal__turns *turns = &reactor->turns;
	struct peal__peer *peer = turns->first;

	while (peer != NULL) {
		struct peal__peer *next = peer->part.next;

		if (has_asked(peer))
			peer->part.asked_ticks = now;
		else if (now - peer->part.asked_ticks > turns->leave_ticks)
			set_free(peer);
		peer = next;
	}
	peer = turns->first_holder;
	while (peer != NULL) {
		struct peal__peer *next = peer->part.next;

		if (now - peer->part.asked_ticks > turns->leave_ticks)
			set_free(peer);
		peer = next;
	}
	end_if_few(reactor);
}

void peal__turns_pass(struct peal_reactor *reactor)
{
	struct peal__turns *turns = &reactor->turns;
	bool are_on = turns->first != NULL || turns->leaving != NULL;
	/* What was read for the last answer will do while there are none. */
	uint64_t now = are_on ? peal__cpu_ticks() : reactor->touched_ticks;

	if (now - turns->window_ticks > turns->window_length_ticks) {
		turns->window_ticks = now;
		if (are_on)
			leave(reactor, now);
		join(reactor, now);
	}
	if (turns->first != NULL || turns->leaving != NULL)
		pass_turns_on(reactor, now);
}
