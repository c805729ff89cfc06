/* SPDX-License-Identifier: MIT */
/*
 * Are the options of a caller sense? One sentence names the field that is not.
 *
 * Callers: any thread.
 *
 * Errors: -EINVAL alone.
 */
#ifndef PEAL_MPSC_OPTIONS_H
#define PEAL_MPSC_OPTIONS_H

#include "peal/mpsc.h"

/* Copy @given over the defaults at @known and check every field. */
int peal__consumer_options_check(const struct peal_consumer_options *given,
                                 struct peal_consumer_options *known);
/* The second half of it. */
int peal__consumer_options_check_known(struct peal_consumer_options *known);
int peal__producer_options_check(const struct peal_producer_options *given,
                                 struct peal_producer_options *known);

#endif
