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
 * peer's word, but for the ordered loads of the ring and the doorbell, which
 * follow the same rule.
 *
 * Callers: any thread, with a word of a size that is loaded in one piece.
 *
 * Ordering: relaxed; what must be ordered has been acquired by the commit word
 *	before.
 */
#ifndef PEAL_BASE_READ_H
#define PEAL_BASE_READ_H

#define peal__read_once(pointer) __atomic_load_n((pointer), __ATOMIC_RELAXED)

/* Its counterpart for a word that a peer reads without waiting for it. */
#define peal__write_once(pointer, value) \
	__atomic_store_n((pointer), (value), __ATOMIC_RELAXED)

#endif
