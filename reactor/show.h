/* SPDX-License-Identifier: MIT */
/*
 * What shmctl tells of a reactor: its line of the status region, and one of each
 * client's.
 *
 *	taken --inline, answered at once--> (never shown)
 *	      --else--> kept ---------------> let go
 *	                 |  oldest first, for each client
 *	                 v
 *	pause: the lines are written, from what the reactor knows anyway
 *
 * Callers: the reactor's thread.
 *
 * Progress: nothing of it is on the way of a request that is answered inline. A
 *	request that is kept costs a time stamp and a place in a list; a pause,
 *	and a millisecond without one, nine stores, and where requests are open,
 *	answers queued or turns on, a walk through the clients.
 *
 * Death: what was true last stays readable. A handler that hangs on the
 *	reactor's thread is not shown: shown_ns tells since when nothing is.
 */
#ifndef PEAL_REACTOR_SHOW_H
#define PEAL_REACTOR_SHOW_H

struct peal_reactor;
struct peal__peer;
struct peal__running;

/* @running stays open beyond the moment in which it was taken. */
void peal__show_keep(struct peal__running *running);
/* It has ended; it may have been kept. */
void peal__show_let_go(struct peal__running *running);

/* Somebody came, or went: nothing is shown of it yet, or any more. */
void peal__show_nothing(const struct peal__peer *peer);

/* The owner's callback, see mpsc/server.h. */
void peal__show(void *object);

#endif
