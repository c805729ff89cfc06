/* SPDX-License-Identifier: MIT */
/*
 * The inside of a reactor.
 *
 *	open.c      options, open, close, counters
 *	run.c       the loop: run, run_once, prepare, dispatch, stop, post
 *	self.c      which thread is whose
 *	peer.c      a client's record: what is sent to it, and what waits
 *	take.c      a request out of its ring
 *	inline.c    does its handler run here?
 *	answer.c    answers back into the rings, in order
 *	call.c      pushes, and calls of the server's own
 *	show.c      what shmctl tells of it
 *	completions.c, workers.c
 *
 *	  pass:  look at the bell
 *	         completions --> answers, posts
 *	         lanes       --> answers to our calls
 *	         parked      --> queued answers that fit by now
 *	         rings       --> requests, a turn for each client
 *	         bells of those who were sent something
 *
 * Callers: fields are marked R (the reactor's thread), W (whoever has the open
 *	request), A (atomic, any thread).
 *
 * Ordering: a request is handed to a worker and back by their queues.
 *
 * Death: a client's record stays as long as the reactor does. Its memory is
 *	unmapped when the last of its requests has ended, see hold_count.
 */
#ifndef PEAL_REACTOR_REACTOR_H
#define PEAL_REACTOR_REACTOR_H

#include "base/clock.h"
#include "mpsc/server.h"
#include "reactor/completions.h"
#include "reactor/peer.h"
#include "reactor/request.h"
#include "reactor/show.h"
#include "reactor/workers.h"

/* How long answers of one turn wait for the bell of their client. */
#define PEAL__UNRUNG_NS (5 * PEAL__NS_PER_US)

enum {
	PEAL__ENDED = 1 << 0,   /* its handler has returned */
	PEAL__SETTLED = 1 << 1, /* its answer has gone, or nobody wants it */
};

/* A request in flight, on the server's side. */
struct peal__running {
	struct peal_request request; /* W; first: they are cast */
	struct peal__completion answered, ended;
	struct peal__work work;
	struct peal_reactor *reactor;
	struct peal__peer *client;
	uint32_t flags; /* A: PEAL__ENDED, PEAL__SETTLED */

	/* W, then R: the answer, until it is sent */
	struct peal__outgoing outgoing;
	bool is_answered;
	bool has_claim;
	bool has_ring_claim; /* of the ring, if its handler still runs */
	size_t claimed_bytes;

	/* R */
	uint64_t sequence; /* among those of an ordered client */
	bool is_settled;
	bool is_refused; /* it is not to run, but its failure has its turn */
	bool is_inline;  /* its handler runs on the reactor's thread, now */
	uint64_t handler_ticks; /* W; 0: not known */
	struct peal__running *next_free;
	struct peal__running *kept_next, *kept_previous; /* of one client */
	uint64_t taken_ticks;
	bool is_kept;
	bool is_free;
	struct peal__running *next_all;
};

struct peal_reactor {
	/* constant after open */
	struct peal_reactor_options options; /* without name, lists, failure */
	struct peal__owner owner;
	struct peal_consumer *consumer;
	struct peal__completions *completions;
	struct peal__workers *workers;
	struct peal__peer *peers; /* one for each slot */
	uint32_t stash_count;     /* of each ordered peer; a power of two */
	/* So many in flight, and nothing more is taken. Who rejects goes on:
	 * each client is parked when its refusals, which wait for their turn,
	 * are as many as its requests. */
	uint32_t full_count;
	uint64_t unrung_ticks;
	uint64_t short_ticks; /* what a handler may take that runs here */
	uint64_t brisk_ticks; /* so short that the clock would be dear */
	uint64_t tiny_ticks;  /* less than to hand it over */
	uint64_t spin_ticks;  /* how long the wait spins */
	uint64_t take_ticks;  /* for handlers, from the first look on */
	uint32_t cpu_count;
	bool can_dispatch; /* there are workers or an executor */

	/* A */
	uint64_t thread;  /* a number that only one ever has; 0: nobody */
	uint64_t stop_ns; /* the drain's bound + 1; 0: go on */

	/* R */
	struct peal_reactor_stats stats;
	struct peal__running *free_list, *all;
	uint32_t in_flight;
	uint32_t refused_count;   /* of these, not to run */
	uint32_t unsettled_count; /* of these, not answered yet */
	uint32_t open_count;      /* peers */
	uint32_t touched_count;
	uint32_t *touched; /* slot indexes of peers whose bell is due */
	uint64_t touched_ticks;
	uint64_t looked_ticks;  /* at the clock, between two handlers */
	bool is_brisk;          /* they have just been short */
	bool is_crowded;        /* handlers need all processors there are */
	uint32_t queued_count;  /* peers with a queue */
	uint32_t capped_count;  /* peers that have enough in flight */
	uint32_t orphan_count;  /* requests in flight of peers that have gone */
	uint32_t calling_count; /* peers that owe answers to our calls */
	uint32_t doomed_count;  /* peers to be sent away in the next pass */
	struct peal__buffer answer; /* to a call, where it must be copied */
	uint64_t call_id;
	uint64_t calls_due_ns; /* not later than the first of their deadlines */
	uint64_t timers_due_ns;
	uint64_t mean_ticks;    /* of handlers, moving */
	uint64_t settled_ticks; /* when the handler that runs here answered, */
	bool was_alone;         /* and nobody else had asked by then */
	uint32_t lone_count; /* handlers in a row without company, not tiny */
	struct peal__turns turns;
	bool is_in_pass;
	bool is_closing;            /* A: no more posts */
	struct peal_reactor *outer; /* whose handler runs our pass, or NULL */
	bool are_peers_shown;       /* as busy with something */
	bool is_draining;
	bool is_over;
	int over_result;
	uint64_t drain_until_ns;
};

/* A handler that runs elsewhere than in the reactor's pass, on the stack of its
 * thread; one may run within another. */
struct peal__handling {
	const struct peal_reactor *reactor;
	struct peal__handling *outer;
};

/* self.c */
/* From now on this is the reactor's thread. 0, -ESTALE; -EDEADLK in a handler
 * or a callback: it would wait for itself. */
int peal__reactor_enter(struct peal_reactor *reactor);
void peal__reactor_take_over(struct peal_reactor *reactor);
bool peal__reactor_is_mine(const struct peal_reactor *reactor);
/* Between the two this thread runs handlers or callbacks of @reactor, which may
 * neither run nor close it. */
void peal__reactor_begin_pass(struct peal_reactor *reactor);
void peal__reactor_end_pass(struct peal_reactor *reactor);
/* The same for a handler on a worker, or wherever an executor runs it. */
void peal__reactor_begin_handler(struct peal__handling *mark,
                                 const struct peal_reactor *reactor);
void peal__reactor_end_handler(const struct peal__handling *mark);
/* Are we in a handler or a callback of @reactor? Asked by its thread, or by one that
 * runs its handlers; and by who takes it for his own, whom the answer stops too. */
bool peal__reactor_is_calling_us(const struct peal_reactor *reactor);
/* The same of this thread alone, whoever runs the reactor: also in a forked child. */
bool peal__reactor_is_below_us(const struct peal_reactor *reactor);
/* May this thread wait for an answer to @client? 0; 1 in a callback or a handler
 * that another reactor runs on its own thread; -EDEADLK when @client's does. */
int peal__reactor_may_wait(struct peal_peer client);

/* Is this a child that a handler, a callback or a post made, which then returned?
 * Rings, bells and the status are its parent's, and not mapped here. */
static inline bool peal__reactor_is_childs(const struct peal_reactor *reactor)
{
	return PEAL_UNLIKELY(reactor->consumer->hot.is_broken);
}

/* run.c */
bool peal__reactor_has_stop(const struct peal_reactor *reactor);
void peal__reactor_ring(struct peal_reactor *reactor);
/* Push, and ring if need be. Any thread. */
void peal__reactor_tell(struct peal_reactor *reactor,
                        struct peal__completion *completion, bool can_wait);
/* All completions there are, half pushed ones too; for when new posts are refused. */
void peal__reactor_complete_all(struct peal_reactor *reactor);
/* The owner's part, see mpsc/server.h. */
bool peal__reactor_has_work(void *object);
void peal__reactor_settle(void *object);
void peal__reactor_signalled(void *object);

/* take.c: requests of the rings. */
void peal__take(struct peal_reactor *reactor);

/* Its answer was sent, or nobody wants it; the rest is its handler's end. */
void peal__running_settle(struct peal__running *running, bool was_sent);

/* answer.c: the answer in @running->outgoing goes on its way. R */
void peal__answer(struct peal__running *running);
/* Everything that waits for @peer has nobody to go to. */
void peal__answer_drop_all(struct peal__peer *peer);
/* The part of the ring that it claimed and did not use, if any. R */
void peal__answer_give_up(struct peal__running *running);
bool peal__answer_is_unwanted(const struct peal_request *request);
extern const struct peal__request_ops peal__answer_ops;

/* call.c */
void peal__call_take_answers(struct peal_reactor *reactor);
bool peal__call_has_answers(const struct peal_reactor *reactor);
void peal__call_expire(struct peal_reactor *reactor, uint64_t now_ns);
/* @peer has gone, for @reason: what it had answered counts, the rest fails. */
void peal__call_end_all(struct peal__peer *peer, int reason);

#endif
