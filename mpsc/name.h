/* SPDX-License-Identifier: MIT */
/*
 * From a name to a socket's path, and who may have it.
 *
 *	server:  "words" -> DIR/words        the socket
 *	                    DIR/words.lock   held with an OFD lock while it lives
 *	                    DIR/words~peal   the socket, until it listens
 *
 *	DIR is the first that applies of
 *	  $PEAL_RUNTIME_DIR     /run/peal (root)
 *	  $XDG_RUNTIME_DIR/peal /tmp/peal-UID (0700, owner checked)
 *
 *	client:  $PEAL_RUNTIME_DIR, its own of the above, then /run/peal
 *
 * A name with a slash is a path as it is. The environment is not looked at in
 * a program that runs with more rights than its user (secure_getenv).
 *
 * Callers: any thread.
 *
 * Death: the lock goes with its holder, whatever kills it; socket and lock file
 *	stay and the next server of this name takes them over, also a socket that
 *	has no name yet. A lock that is held is never overruled, and one that is
 *	free is never doubted if its file has a byte, which it gets when its
 *	first holder has found the name free. Where the file is missing or empty
 *	(its lock was removed, or who made it was killed) the socket is asked
 *	whether anybody listens.
 *
 * Errors: every refusal has a sentence that names the path.
 *
 * Source: fcntl(2), open file description locks.
 */
#ifndef PEAL_MPSC_NAME_H
#define PEAL_MPSC_NAME_H

#include <stddef.h>

#include "base/fork.h"
#include "peal/base.h"

/* What fits into a sockaddr_un, with its end. */
#define PEAL__PATH_BYTES 108
#define PEAL__NAME_MAX 64
#define PEAL__NAME_DIRECTORY_MAX 4

/* 0, or -EINVAL with a sentence: empty, too long, or a strange character. */
int peal__name_check(const char *name, struct peal_failure *failure);

/*
 * The path at which a server of this name listens; makes the directory when it
 * is missing. 0, -EINVAL (also: its directory, from the environment, is too
 * long for a socket's path), -EACCES (somebody else's directory), -errno.
 */
int peal__name_for_server(const char *name, char path[PEAL__PATH_BYTES],
                          struct peal_failure *failure);

/*
 * The @index-th path at which a client looks for it. 0, or -ENOENT when there
 * are no more, -EINVAL.
 */
int peal__name_for_client(const char *name, unsigned int index,
                          char path[PEAL__PATH_BYTES],
                          struct peal_failure *failure);

/* The @index-th directory a client looks into, by the same numbers; 0, -ENOENT,
 * or -EINVAL: it is too long to hold a socket. */
int peal__name_directory(unsigned int index, char path[PEAL__PATH_BYTES]);

/*
 * Take the name at @path: lock it, and remove the socket of a dead owner. The
 * lock is the descriptor, close-on-exec and watched: no forked child ever has
 * it. 0, or -EADDRINUSE, -EEXIST (what is there is no socket of ours), -errno,
 * and @ret_lock has none; a refusal leaves no file that was not there before.
 */
int peal__name_lock(const char *path, struct peal__fork_fd *ret_lock,
                    struct peal_failure *failure);

/* Where the socket of the server at @path is until it listens: nobody who sees
 * the one at @path is to be refused. */
void peal__name_unborn(const char *path, char unborn[PEAL__PATH_BYTES]);

/* Remove the lock file alone, while the lock is still held. */
void peal__name_unlink_lock(const char *path);

/* Remove socket and lock file, while the lock is still held. Both stay where our
 * lock is not there any more: they may be another server's by now because
 * somebody had removed ours, or a relative path may lead elsewhere. */
void peal__name_unlink(const char *path, int lock_fd);

#endif
