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

#endif
