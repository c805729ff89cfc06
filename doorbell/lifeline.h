/* SPDX-License-Identifier: MIT */
/*
 * A shared word that the kernel itself marks when a thread dies.
 *
 *	holder                               anybody who maps the word
 *	  peal__lifeline_hold(): word = tid    one load: is the mark set?
 *	  ... kill -9 ...
 *	  the kernel: word |= mark
 *
 * It is what lets a producer that never waits notice, by a load from a line it
 * reads anyway, that its server has gone.
 *
 * Callers: hold and drop by the holding thread, which must be one of our own:
 *	it gives up its C library's robust mutexes for this.
 *
 * Death: the mark. Also when the holder calls execve(2).
 *
 * Source: set_robust_list(2), Documentation/locking/robust-futex-ABI.
 */
#ifndef PEAL_DOORBELL_LIFELINE_H
#define PEAL_DOORBELL_LIFELINE_H

#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>

#include "peal/base.h"

/* The robust list of one thread, with one entry; lives as long as the hold. */
struct peal__lifeline {
	struct robust_list_head head;
	struct robust_list entry;
	uint32_t *word;
};

/* Tie @word to the calling thread. 0 or -errno. */
int peal__lifeline_hold(struct peal__lifeline *lifeline, uint32_t *word);

/* Let go without leaving a mark; the word becomes 0. */
void peal__lifeline_drop(struct peal__lifeline *lifeline);

/* Has the holder died? 0, nobody ever held it, is false. */
static inline bool peal__lifeline_is_cut(const uint32_t *word)
{
	/* Relaxed: it is a hint that the caller confirms on its socket. */
	return (peal__load(word, __ATOMIC_RELAXED) & FUTEX_OWNER_DIED) != 0;
}

#endif
