/* SPDX-License-Identifier: MIT */
/*
 * A small pool of threads that run what they are given, oldest first.
 *
 *	reactor --submit--> [ work ][ work ] --> worker, worker, worker
 *	                                         one looks out, the others sleep
 *
 * A worker without work spins for a moment, if no other does, and then sleeps:
 * work that comes one piece after another is taken without a system call. It
 * does so where a processor is left for it beside the reactor and the other
 * workers, and as long as it has paid lately.
 *
 * Callers: submit by the reactor's thread. Work runs on the workers, with all
 *	signals blocked.
 *
 * Progress: submit takes a lock that is never held for longer than it takes to
 *	link one piece.
 *
 * Death: a child that a piece of work makes ends with that piece, by exit(0).
 *
 * Errors: -EAGAIN, -ENOMEM when a thread cannot be started.
 */
#ifndef PEAL_REACTOR_WORKERS_H
#define PEAL_REACTOR_WORKERS_H

#include <stdint.h>

struct peal__workers;

/* Embedded in what is to be run. */
struct peal__work {
	struct peal__work *next;
	void (*run)(struct peal__work *work);
};

int peal__workers_open(uint32_t count, struct peal__workers **ret_workers);

/* Ends the threads when nothing is left to run; waits for them. */
void peal__workers_close(struct peal__workers *workers);

/* How many pieces are being run, or will be next; about. */
uint32_t peal__workers_busy(const struct peal__workers *workers);

void peal__workers_submit(struct peal__workers *workers,
                          struct peal__work *work);

#endif
