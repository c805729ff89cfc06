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
 * caller's stays open); @path is empty in the second case, and there is no lock.
 * Both come as -1, and are watched when this returns. 0 or -errno.
 */
int peal__listen(const struct peal_consumer_options *options,
                 char path[PEAL__PATH_BYTES],
                 struct peal__fork_fd *ret_listener,
                 struct peal__fork_fd *ret_lock);

/*
 * Clients have nothing to send us but bytes: nothing else is to come with them.
 * A connection has it of its listener, unless that was somebody else's when it
 * was made.
 */
void peal__listen_for_bytes(int fd);

#endif
