/* SPDX-License-Identifier: MIT */
/*
 * Turns: what keeps clients that call without pause from starving each other
 * when there are more of them than processors.
 *
 * Clients that spin for their answers need a processor each. Where they have
 * none they push each other off in the middle of a call, and the server answers
 * somebody who does not run. So only as many as there are processors beside the
 * server's hold a turn; the requests of the others stay in their rings, and
 * they sleep.
 *
 *	            asks much, and so do           its turn is over, and
 *	            others            +----------- somebody waits <---------+
 *	            |                 v                                     |
 *	free ------ + ---------> waiting --the first that has asked--> holding
 *	  ^                           |                                     |
 *	  +------asks no more, or few others do-----------------------------+
 *
 * Whose turn is over gets no answer to what it has just asked, and is told to
 * sleep rather than to spin; the answer, in its next turn, wakes it. Clients
 * that ask little are free: they are served at once, in turns or not.
 *
 * A sleeper is woken where it ran last. Where that is the server's own processor
 * it would share it, while the one of the turn that has ended is idle: such a
 * client is woken before the turn ends, so that the processor which is left
 * finds it waiting to run, and takes it over.
 *
 * Callers: the reactor's thread.
 *
 * Progress: a turn ends by time, whatever its holder does; a client that is to
 *	sleep and does not is waited for no longer than 2 microseconds.
 *
 * Death: a peer that closes leaves.
 *
 * Units: ticks; see base/cpu.h.
 */
#ifndef PEAL_REACTOR_TURNS_H
#define PEAL_REACTOR_TURNS_H

#include <stdbool.h>
#include <stdint.h>

struct peal_reactor;
struct peal__peer;

enum peal__turn {
	PEAL__TURN_FREE,
	PEAL__TURN_WAITING, /* parked */
	PEAL__TURN_HOLDING,
};

/* Of one peer. */
struct peal__turn_part {
	enum peal__turn turn;
	bool is_busy;            /* asks much; within one look */
	struct peal__peer *next; /* of those who wait, or of those who hold */
	uint64_t window_count;   /* its received_count when the window began */
	uint64_t window_ticks;   /* when that was */
	uint64_t seen_count;     /* its received_count at our last look */
	uint64_t start_ticks;    /* of its turn */
	uint64_t asked_ticks;    /* when that had changed last */
	uint32_t ask_count;      /* looks in this turn that found requests */
};

struct peal__turns {
	uint32_t holder_max; /* 0: there are no turns here */
	uint32_t holder_count, waiting_count;
	struct peal__peer *first_holder;
	struct peal__peer *leaving;      /* its turn ends in the next pass */
	struct peal__peer *first, *last; /* waiting, longest first */
	uint64_t window_ticks;           /* when it began */
	/* constant */
	uint64_t window_length_ticks, turn_length_ticks, pause_ticks,
		long_pause_ticks, wake_ticks, yield_ticks, leave_ticks;
};

void peal__turns_init(struct peal__turns *turns, bool is_wanted);

/* More clients are connected than could all spin. */
bool peal__turns_are_possible(const struct peal_reactor *reactor);

/* Once in a pass, before requests are taken, where turns are possible. */
void peal__turns_pass(struct peal_reactor *reactor);

/* Does somebody wait who has asked? */
bool peal__turns_has_waiting(const struct peal_reactor *reactor);

/* @peer has gone. */
void peal__turns_leave(struct peal__peer *peer);

/* All are free; for the drain. */
void peal__turns_end(struct peal_reactor *reactor);

#endif
