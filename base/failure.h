/* SPDX-License-Identifier: MIT */
/*
 * Filling a struct peal_failure: one sentence that tells the person what to do.
 *
 * Callers: any thread; @failure may be NULL.
 */
#ifndef PEAL_BASE_FAILURE_H
#define PEAL_BASE_FAILURE_H

#include "peal/base.h"

/* Store @code and the sentence, cut to what fits; returns @code. */
int peal__fail(struct peal_failure *failure, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Copy an options struct of the caller's, which begins with its own size, over
 * the defaults at @known. A caller built against an older header leaves the
 * newer fields at their defaults; one built against a newer header is refused
 * when it sets a field that this library has not got.
 *
 * 0 or -EINVAL with a sentence.
 */
int peal__options_take(void *known, size_t known_bytes, const void *given,
                       struct peal_failure *failure);

#endif
