/* SPDX-License-Identifier: MIT */
/* Who am I: the reactor's thread, one that runs its handlers, or neither. */
#include <errno.h>
#include <unistd.h>

#include "reactor/reactor.h"

/* One load instead of a call; a few bytes always find room, also for libraries
 * that are loaded late. */
#define PEAL__TLS __attribute__((tls_model("initial-exec")))

#define NO_NUMBER UINT64_MAX

/* This thread's number, when it has run a reactor. No other one ever has the
 * same: an address would be the next thread's as soon as this one has ended. */
static __thread uint64_t self PEAL__TLS = NO_NUMBER;

/* Whose pass this thread is in, the innermost; a handler may run another
 * reactor. */
static __thread struct peal_reactor *passing PEAL__TLS;

void peal__reactor_begin_pass(struct peal_reactor *reactor)
{
	reactor->is_in_pass = true;
	reactor->outer = passing;
	passing = reactor;
}

void peal__reactor_end_pass(struct peal_reactor *reactor)
{
	reactor->is_in_pass = false;
	passing = reactor->outer;
}

/* Whose handler runs on this thread, which is not the reactor's: the innermost */
static __thread struct peal__handling *handling PEAL__TLS;

void peal__reactor_begin_handler(struct peal__handling *mark,
                                 const struct peal_reactor *reactor)
{
	mark->reactor = reactor;
	mark->outer = handling;
	handling = mark;
}

void peal__reactor_end_handler(const struct peal__handling *mark)
{
	handling = mark->outer;
}

/* Does a handler of @reactor run here, that is not of this thread's pass? */
static bool is_handling(const struct peal_reactor *reactor)
{
	const struct peal__handling *mark = handling;

	while (mark != NULL && mark->reactor != reactor)
		mark = mark->outer;
	return mark != NULL;
}

bool peal__reactor_is_calling_us(const struct peal_reactor *reactor)
{
	return is_handling(reactor) || reactor->is_in_pass;
}

bool peal__reactor_is_below_us(const struct peal_reactor *reactor)
{
	const struct peal_reactor *below = passing;

	while (below != NULL && below != reactor)
		below = below->outer;
	return below != NULL || is_handling(reactor);
}

/* Is @client, which is of this process, one of this consumer's? Also when it has
 * not heard of it yet. Whoever is live stays until this thread lets it go. */
static bool has_seated(const struct peal_consumer *consumer,
                       struct peal_peer client)
{
	const struct peal__slot *slot;
	uint32_t state;

	if (client.slot_index >= consumer->slot_max)
		return false;
	slot = &consumer->slots[client.slot_index];
	/* S14: pairs with S13 in seat.c, which made the slot. */
	state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
	return (state == PEAL__SLOT_LIVE || state == PEAL__SLOT_HUNG_UP) &&
	       slot->peer.generation == client.generation &&
	       slot->info.pid == getpid();
}

int peal__reactor_may_wait(struct peal_peer client)
{
	for (struct peal_reactor *reactor = passing; reactor != NULL;
	     reactor = reactor->outer)
		if (has_seated(reactor->consumer, client))
			return -EDEADLK;
	return passing != NULL;
}

bool peal__reactor_is_mine(const struct peal_reactor *reactor)
{
	/* Relaxed: a thread finds its own number only if it has stored it. */
	return __atomic_load_n(&reactor->thread, __ATOMIC_RELAXED) == self;
}

static uint64_t my_number(void)
{
	static uint64_t last;

	if (self == NO_NUMBER)
		/* Relaxed: all that matters is that it is nobody else's. */
		self = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
	return self;
}

void peal__reactor_take_over(struct peal_reactor *reactor)
{
	if (!peal__reactor_is_mine(reactor))
		/* Relaxed: see peal__reactor_is_mine(). */
		__atomic_store_n(&reactor->thread, my_number(),
		                 __ATOMIC_RELAXED);
}

bool peal_reactor_is_current(const struct peal_reactor *reactor)
{
	return peal__reactor_is_mine(reactor);
}

int peal__reactor_enter(struct peal_reactor *reactor)
{
	if (reactor->consumer->hot.is_broken ||
	    peal__consumer_was_forked(reactor->consumer))
		return -ESTALE;
	/* It would wait for itself. */
	if (peal__reactor_is_calling_us(reactor))
		return -EDEADLK;
	peal__reactor_take_over(reactor);
	return 0;
}
