/* SPDX-License-Identifier: MIT */
/*
 * Options of a reactor and of a client, checked before anything is opened.
 *
 * Callers: any thread.
 *
 * Errors: -EINVAL with a sentence that names the field.
 */
#ifndef PEAL_REACTOR_OPTIONS_H
#define PEAL_REACTOR_OPTIONS_H

#include "peal/reactor.h"

/* What the user gave, as far as this version knows it, and what of it is for
 * the consumer below. */
int peal__reactor_options_check(const struct peal_reactor_options *given,
                                struct peal_reactor_options *ret_known,
                                struct peal_consumer_options *ret_door);

#endif
