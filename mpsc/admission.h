/* SPDX-License-Identifier: MIT */
/*
 * Who gets a slot, and when it is free again.
 *
 *	accept --> HELLO --> WELCOME --> READY --> live --> hang-up --> reaped
 *	   |  1 s     |      1 s      |                |
 *	   +-----> refused, with a sentence            +-- pidfd, socket: the
 *	                                                   first one wins
 *
 * A user who comes too often, or was sent away for nonsense just now, waits
 * between accept and HELLO for as long as pace.h says.
 *
 * Only this layer accepts connections and listens for deaths. In futex mode it
 * is a small thread asleep in epoll; in fd mode the caller's own thread, when
 * it dispatches.
 *
 * Callers: open and close by the consumer's thread. run by the thread above or,
 *	in fd mode, the consumer's. poke from the consumer's thread.
 *
 * Ordering: slots are handed over by their state, see server.h.
 *
 * Progress: no call blocks on a client. Each event does bounded work. Who has
 *	spoken in time is not late, however late we come to hear it.
 *
 * Death: a client that dies at any point gives its seat, its slot and its
 *	memory back.
 *
 * Errors: what goes wrong with one client is told to it and counted.
 */
#ifndef PEAL_MPSC_ADMISSION_H
#define PEAL_MPSC_ADMISSION_H

#include <stdbool.h>

#include "mpsc/server.h"

/*
 * Listen, for a consumer whose slots and regions are there. The descriptors of
 * @region_fds are taken over on success. In futex mode the thread starts.
 * 0 or -errno with a sentence.
 */
int peal__admission_open(struct peal_consumer *consumer,
                         const struct peal_consumer_options *options,
                         const int region_fds[PEAL__REGION_COUNT]);

/*
 * Turn everybody away, end the thread, free the name. In a forked child only
 * memory is freed.
 */
void peal__admission_close(struct peal_consumer *consumer, bool forked);

/* Slots are DONE: reap them. */
void peal__admission_poke(struct peal__admission *admission);

/* The epoll descriptor, for a loop outside. */
int peal__admission_fd(const struct peal__admission *admission);

/*
 * Wait up to @timeout_ms (-1: for ever) for events and handle what there is.
 * Returns how many there were.
 */
int peal__admission_run(struct peal__admission *admission, int timeout_ms);

/* Counters of the door, read by the consumer's thread. */
void peal__admission_stats(const struct peal__admission *admission,
                           struct peal_consumer_stats *stats);

#endif
