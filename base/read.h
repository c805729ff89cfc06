/* SPDX-License-Identifier: MIT */
/*
 * The one way to read what another process may write while we look at it.
 *
 *	value = peal__read_once(shared);   one load, into private memory
 *	if (!plausible(value)) refuse;     the check is of the copy
 *	use(value);                        and so is the use
 *
 * A second read of the same word may give something else: that is how checked
 * lengths become wild ones. So no other expression of this library loads a
 * peer's word. The ordered loads of the ring and the doorbell follow the same
 * rule, and peal__load() in peal/base.h is what both stand on: there a build
 * for fuzzing changes the word behind each reader's back.
 *
 * Callers: any thread, with a word of a size that is loaded in one piece.
 *
 * Ordering: relaxed; what must be ordered has been acquired by the commit word
 *	before.
 */
#ifndef PEAL_BASE_READ_H
#define PEAL_BASE_READ_H

#include "peal/base.h"

#define peal__read_once(pointer) peal__load((pointer), __ATOMIC_RELAXED)

/* Its counterpart for a word that a peer reads without waiting for it. */
#define peal__write_once(pointer, value) \
	__atomic_store_n((pointer), (value), __ATOMIC_RELAXED)

#endif
