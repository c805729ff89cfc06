/* SPDX-License-Identifier: MIT */
/*
 * Packets and descriptors over a UNIX SOCK_SEQPACKET socket.
 *
 *	bytes  [ one packet, whole or refused ]
 *	fds    [ 0 .. PEAL__PASS_FD_MAX descriptors ]  SCM_RIGHTS
 *
 * Callers: any thread.
 *
 * Progress: never blocks, whatever the socket's flags (MSG_DONTWAIT), and
 *	raises no SIGPIPE (MSG_NOSIGNAL). One exception is the kernel's: the
 *	last close of a passed descriptor may linger (a socket with SO_LINGER,
 *	a FUSE file), so a listener for strangers sets SO_PASSRIGHTS to 0.
 *
 * Death: what was sent before the peer died can be received, also when the
 *	peer left packets of ours unread.
 *
 * Errors: received descriptors are close-on-exec. A packet with more bytes or
 *	descriptors than expected is -EPROTO and every descriptor that came
 *	with it is closed, so a peer cannot fill our table. The packet is gone
 *	after every error but -EAGAIN: close the connection.
 */
#ifndef PEAL_SHM_PASS_H
#define PEAL_SHM_PASS_H

#include <stddef.h>

#define PEAL__PASS_FD_MAX 4

/*
 * Send one packet with @fd_count descriptors, which stay the caller's.
 * 0, or -EAGAIN (the peer's queue is full), -ECONNRESET (it has gone), -EINVAL
 * (no bytes, or more than PEAL__PASS_FD_MAX descriptors), -errno.
 */
int peal__pass_send(int socket_fd, const void *data, size_t data_bytes,
                    const int *fds, size_t fd_count);

/*
 * Receive one packet into @data and up to *@fd_count descriptors into @fds,
 * which are then the caller's; *@fd_count becomes their number. @fd_count NULL
 * expects none. Returns the packet's bytes, or -EAGAIN (none there),
 * -ECONNRESET (end of file or reset), -EPROTO, -EMFILE (no room in our table
 * for all that came), -EINVAL (no room for bytes), -errno.
 */
int peal__pass_receive(int socket_fd, void *data, size_t data_bytes, int *fds,
                       size_t *fd_count);

#endif
