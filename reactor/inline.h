/* SPDX-License-Identifier: MIT */
/*
 * Does a handler run here, on the reactor's thread, or elsewhere? From what
 * handlers took lately, and from who waited for them:
 *
 *	peal__inline_is_best()      before: here?
 *	peal__inline_settled()      one that runs here has answered
 *	peal__inline_returned()     and returns
 *	peal__inline_learn()        what one took, wherever it ran
 *
 * Here, when handing it over would cost more than it takes; or when nobody would
 * wait for it: nothing else is in flight or has come, and handlers have lately
 * been short, or for a good while no request has come beside another one.
 *
 * Callers: the reactor's thread.
 *
 * Units: ticks of peal__cpu_ticks().
 */
#ifndef PEAL_REACTOR_INLINE_H
#define PEAL_REACTOR_INLINE_H

#include <stdbool.h>
#include <stdint.h>

struct peal_reactor;
struct peal__running;

bool peal__inline_is_best(const struct peal__running *running);

/* Its client may ask again before its handler returns: this is not company. */
void peal__inline_settled(const struct peal__running *running);

void peal__inline_returned(const struct peal__running *running,
                           uint64_t start_ticks);

void peal__inline_learn(struct peal_reactor *reactor, uint64_t ticks);

#endif
