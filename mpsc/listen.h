/* SPDX-License-Identifier: MIT */
/*
 * The listening socket of a name.
 *
 * Callers: the thread that opens or closes a server.
 *
 * Errors: each has a sentence.
 */
#ifndef PEAL_MPSC_LISTEN_H
#define PEAL_MPSC_LISTEN_H

#include "mpsc/name.h"
#include "peal/mpsc.h"

/*
 * Lock and bind options->name, or take options->listen_fd (a copy: the
 * caller's stays open); @path is empty in the second case and the lock -1.
 * 0 or -errno.
 */
int peal__listen(const struct peal_consumer_options *options,
                 char path[PEAL__PATH_BYTES], int *ret_listen_fd,
                 int *ret_lock_fd);

#endif
