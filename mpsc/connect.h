/* SPDX-License-Identifier: MIT */
/*
 * The client's half of admission: find the server, and exchange packets.
 *
 * Callers: any thread; nothing is kept between calls.
 *
 * Progress: bounded by the deadline; a server whose backlog is full or that
 *	does not answer is -ETIMEDOUT, never a hang.
 *
 * Death: of the server at any point is -ECONNRESET.
 *
 * Errors: each has a sentence in @failure, the server's own when it sent one.
 */
#ifndef PEAL_MPSC_CONNECT_H
#define PEAL_MPSC_CONNECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fork.h"
#include "mpsc/wire.h"
#include "peal/base.h"

/*
 * A connected SOCK_SEQPACKET socket, non-blocking, close-on-exec and watched, to
 * the server of this name. 0, or -ECONNREFUSED (none listens), -EACCES,
 * -ETIMEDOUT, -EINVAL, -EMFILE, and @ret_socket has none.
 */
int peal__connect(const char *name, uint64_t deadline_ns,
                  struct peal_failure *failure,
                  struct peal__fork_fd *ret_socket);

/*
 * Send a sealed packet of @bytes, unless that is 0 because it has been sent, and
 * wait for the answer, which replaces it; up to *@fd_count descriptors come
 * into @fds (see peal__pass_receive()). Wake bytes in between are passed over.
 * Returns the answer's type; an ERROR is returned as its code, with its
 * sentence.
 */
int peal__exchange(int fd, union peal__packet *packet, size_t bytes,
                   uint64_t deadline_ns, int *fds, size_t *fd_count,
                   struct peal_failure *failure);

/* Has the other end of this socket gone? One system call, no wait. */
bool peal__has_hung_up(int fd);

/*
 * Something that polls readable when the process at the other end has died, of
 * which SO_PEERCRED told @pid. -1: there is none, and then @pid may be another
 * process's by now.
 */
int peal__pidfd_of_peer(int fd, int32_t pid);

#endif
