/* SPDX-License-Identifier: MIT */
/*
 * What other threads leave for the reactor: answers of workers, posts.
 *
 *	any thread --push--> [ node ][ node ][ node ] --pop--> the reactor
 *	           first one of those that cannot wait: ring its bell
 *
 * Callers: push from any thread, pop and has_any by the reactor's thread.
 *
 * Ordering: what was written before push is seen after pop. Nodes of one thread
 *	come out in the order they went in.
 *
 * Progress: push is wait-free. pop does not wait for a thread that was stopped
 *	in the middle of a push: it says "nothing now", while has_any() says that
 *	there is something, so nobody sleeps on it.
 *
 * Death: threads of one process die together.
 *
 * Source: liburcu's wait-free concurrent queue (M. Desnoyers, L. Jiangshan),
 *	only its non-blocking half: the blocking dequeue sleeps for 10 ms.
 */
#ifndef PEAL_REACTOR_COMPLETIONS_H
#define PEAL_REACTOR_COMPLETIONS_H

#include <stdbool.h>
#include <stdint.h>

struct peal__completions;

/* Embedded in what is handed over; in no queue twice. */
struct peal__completion {
	void *next; /* liburcu's */
	uint32_t is_written;
	void (*run)(struct peal__completion *completion, void *object);
};

struct peal__completions *peal__completions_open(void);
void peal__completions_close(struct peal__completions *completions);

/*
 * True: the reactor may sleep, ring it; nobody has since it was last about to.
 * What can wait until something else wakes the reactor says so, and is not rung
 * for unless the reactor awaits it.
 */
bool peal__completions_push(struct peal__completions *completions,
                            struct peal__completion *completion, bool can_wait);

/*
 * Before each sleep, and before the bell is armed for it: who pushes from now on
 * rings, with what could wait only if it is awaited. Not at the beginning of a
 * pass: a ring that comes late, when its node has been taken already, ends a
 * sleep and begins the next one without a pass.
 */
void peal__completions_rest(struct peal__completions *completions,
                            bool is_awaited);

/* The oldest, or NULL: nothing now. */
struct peal__completion *
peal__completions_pop(struct peal__completions *completions);

/*
 * Another thread that tells the reactor something is its guest until it has
 * rung, for what it tells may be the last thing that the reactor waits for: its
 * owner may close it then. Enter before you tell.
 */
void peal__completions_enter(struct peal__completions *completions);
void peal__completions_leave(struct peal__completions *completions);

/* Wait until nobody is a guest, which is soon. */
void peal__completions_see_off(struct peal__completions *completions);

/* Is there something, be it half pushed? Only loads. */
bool peal__completions_has_any(struct peal__completions *completions);

#endif
