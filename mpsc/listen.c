/* SPDX-License-Identifier: MIT */
#include "mpsc/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/hooks.h"

/* Those who gave up waiting stay queued until they are accepted, so a server
 * that is stuck for a while needs a long queue. */
#define BACKLOG 4096

#ifndef SO_PASSPIDFD /* Linux 6.5 */
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS /* Linux 6.16 */
#define SO_PASSRIGHTS 83
#endif

/* A socket with unsent data and a linger time, sent as a descriptor and closed
 * by its sender, would block the reader for seconds; the kernel refuses it at
 * the sender where it knows how. Of credentials that come with each packet it
 * would tell us that we have left no room for them. */
void peal__listen_for_bytes(int fd)
{
	static const int options[] = {SO_PASSRIGHTS, SO_PASSCRED, SO_PASSSEC,
	                              SO_PASSPIDFD};
	const int no = 0;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(fd, SOL_SOCKET, options[i], &no, sizeof(no));
}

/* Bound, listening and with its mode before it has its name: whoever sees a
 * socket there can connect to it. */
static int bind_path(const char *path, uint32_t mode,
                     struct peal_failure *failure,
                     struct peal__fork_fd *ret_listener)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int error = 0, fd;

	/* A child that had it would let clients in whom nobody serves. */
	peal__fork_hold();
	ret_listener->fd = fd = socket(
		AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	error = fd < 0 ? -errno : 0;
	peal__fork_watch_held(ret_listener);
	peal__fork_let();
	if (error < 0)
		return peal__fail(failure, error, "no socket to be had: %s",
		                  strerrordesc_np(-error));
	peal__name_unborn(path, address.sun_path);
	/* Nobody may connect before listen(2), so the time between bind and
	 * chmod lets nobody in. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		error = -errno;
	PEAL__HOOK("listen: bound");
	peal__listen_for_bytes(fd);
	if (error == 0 &&
	    (chmod(address.sun_path, mode) != 0 || listen(fd, BACKLOG) != 0 ||
	     rename(address.sun_path, path) != 0)) {
		error = -errno;
		unlink(address.sun_path); /* ours, since bind made it */
	}
	if (error < 0) {
		peal__fork_forget(ret_listener, true);
		return peal__fail(failure, error, "cannot listen at %.90s: %s",
		                  path, strerrordesc_np(-error));
	}
	return 0;
}

static int take_listener(int given_fd, struct peal_failure *failure,
                         struct peal__fork_fd *ret_listener)
{
	int type = 0, listening = 0, fd, error;
	socklen_t bytes = sizeof(int);

	if (getsockopt(given_fd, SOL_SOCKET, SO_TYPE, &type, &bytes) != 0 ||
	    type != SOCK_SEQPACKET ||
	    getsockopt(given_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening,
	               &bytes) != 0 ||
	    !listening)
		return peal__fail(failure, -EINVAL,
		                  "options.listen_fd is not a listening "
		                  "SOCK_SEQPACKET socket");
	peal__fork_hold();
	ret_listener->fd = fd = fcntl(given_fd, F_DUPFD_CLOEXEC, 0);
	error = fd < 0 ? -errno : 0;
	peal__fork_watch_held(ret_listener);
	peal__fork_let();
	if (error < 0)
		return peal__fail(failure, error, "no descriptor to be had");
	/* A copy has no flag of its own, so this is the caller's as well; nor
	 * is there an accept(2) that does not block otherwise. To poll first is
	 * not enough where several processes have the socket. */
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	peal__listen_for_bytes(fd);
	/* Clients are told who listened: that is us now, and no longer the
	 * service manager that made the socket. */
	if (listen(fd, BACKLOG) != 0) {
		error = -errno;
		peal__fork_forget(ret_listener, true);
		return peal__fail(failure, error,
		                  "cannot listen on options.listen_fd: %s",
		                  strerrordesc_np(-error));
	}
	return 0;
}

int peal__listen(const struct peal_consumer_options *options,
                 char path[PEAL__PATH_BYTES],
                 struct peal__fork_fd *ret_listener,
                 struct peal__fork_fd *ret_lock)
{
	struct peal_failure *failure = options->ret_failure;
	int error;

	path[0] = '\0';
	if (options->listen_fd >= 0)
		return take_listener(options->listen_fd, failure, ret_listener);
	error = peal__name_for_server(options->name, path, failure);
	if (error == 0)
		error = peal__name_lock(path, ret_lock, failure);
	if (error < 0)
		return error;
	error = bind_path(path, options->socket_mode, failure, ret_listener);
	if (error < 0) {
		peal__name_unlink_lock(path);
		peal__fork_forget(ret_lock, true);
	}
	return error;
}
