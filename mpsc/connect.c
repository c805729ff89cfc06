/* SPDX-License-Identifier: MIT */
#include "mpsc/connect.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "mpsc/name.h"
#include "shm/pass.h"

#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif

#define NOBODY \
	"no server has the name '%.64s'%s; 'shmctl list' shows those there are"
#define BACKLOG_RETRY_NS (2 * PEAL__NS_PER_MS)

/* Connect to one path; a full backlog is tried again until the deadline. */
static int connect_path(int fd, const char *path, uint64_t deadline_ns)
{
	const struct timespec retry = {.tv_nsec = BACKLOG_RETRY_NS};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, path);
	for (;;) {
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) ==
		    0)
			return 0;
		/* A UNIX socket does not finish a connect in the background:
		 * -EAGAIN says that the backlog was full, and no more. */
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (peal__clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
		nanosleep(&retry, NULL);
	}
}

/* Nobody is there; and in which directories, if there is room to say it: who
 * looks in another one than the server finds nobody. */
static int refuse_name(const char *name, struct peal_failure *failure)
{
	char where[PEAL__NAME_DIRECTORY_MAX * (PEAL__PATH_BYTES + 4)] = "";
	char path[PEAL__PATH_BYTES], next[PEAL__PATH_BYTES] = "";
	size_t used = 0;
	bool more = peal__name_directory(0, path) == 0;

	for (unsigned int i = 0; more; i++) {
		more = peal__name_directory(i + 1, next) == 0;
		used += (size_t)snprintf(where + used, sizeof(where) - used,
		                         "%s%s",
		                         i == 0 ? " in "
		                         : more ? ", "
		                                : " or ",
		                         path);
		strcpy(path, next);
	}
	if (sizeof(NOBODY) + strlen(name) + used > sizeof(failure->text))
		where[0] = '\0';
	return peal__fail(failure, -ECONNREFUSED, NOBODY, name, where);
}

static int refuse(int error, const char *name, struct peal_failure *failure)
{
	switch (error) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -ENOTDIR:
		if (strchr(name, '/') != NULL)
			return peal__fail(failure, -ECONNREFUSED,
			                  "no server listens at '%.108s'",
			                  name);
		return refuse_name(name, failure);
	case -EACCES:
	case -EPERM:
		return peal__fail(failure, -EACCES,
		                  "this user may not reach the server '%.60s': "
		                  "see its socket_mode and its directory",
		                  name);
	case -EPROTOTYPE:
		return peal__fail(failure, -EPROTO,
		                  "the socket '%.60s' is not one of peal's",
		                  name);
	case -ETIMEDOUT:
		return peal__fail(failure, -ETIMEDOUT,
		                  "the server '%.60s' did not accept in time",
		                  name);
	default:
		return peal__fail(failure, error, "cannot reach '%.60s': %s",
		                  name, strerrordesc_np(-error));
	}
}

/* A child that had a copy would keep the server from seeing us hang up. */
static int open_socket(struct peal__fork_fd *ret_socket)
{
	int error = 0;

	peal__fork_hold();
	ret_socket->fd = socket(
		AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ret_socket->fd < 0)
		error = -errno;
	else
		error = peal__fork_watch_held(ret_socket);
	if (error < 0 && ret_socket->fd >= 0) {
		close(ret_socket->fd);
		ret_socket->fd = -1;
	}
	peal__fork_let();
	return error;
}

int peal__connect(const char *name, uint64_t deadline_ns,
                  struct peal_failure *failure,
                  struct peal__fork_fd *ret_socket)
{
	struct peal_failure first = {0}, told = {0};
	char path[PEAL__PATH_BYTES];
	int error = open_socket(ret_socket), reached;

	if (error < 0)
		return peal__fail(failure, error, "no socket to be had: %s",
		                  strerrordesc_np(-error));
	error = -ENOENT;
	for (unsigned int i = 0;; i++) {
		told.code = 0;
		reached = peal__name_for_client(name, i, path, &told);
		if (reached == -ENOENT)
			break;
		if (reached == -EINVAL) {
			first = told;
			break;
		}
		if (reached == 0)
			reached =
				connect_path(ret_socket->fd, path, deadline_ns);
		if (reached == 0)
			return 0;
		/* What is worth telling is the first place that exists. */
		if (error == -ENOENT) {
			error = reached;
			first = told;
		}
	}
	peal__fork_forget(ret_socket, true);
	/* Told only now, since a place after this one might have done. */
	if (first.code < 0)
		return peal__fail(failure, first.code, "%s", first.text);
	return refuse(error, name, failure);
}

bool peal__has_hung_up(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};
	int saved_errno = errno;
	int count = poll(&poll_fd, 1, 0);

	errno = saved_errno; /* a signal ends even a poll that does not wait */
	return count > 0 &&
	       (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

int peal__pidfd_of_peer(int fd, int32_t pid)
{
	int pidfd = -1;
	socklen_t bytes = sizeof(pidfd);

	/* The first form is right even when the pid means nothing here. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &bytes) == 0)
		return pidfd;
	/* Before Linux 6.5 the pid has to do. Any other error tells that there
	 * is no room for a descriptor, or that the peer is dead and reaped. */
	return errno == ENOPROTOOPT && pid > 0
	               ? (int)syscall(SYS_pidfd_open, pid, 0)
	               : -1;
}

/* One packet that is no wake byte; its bytes, or -errno. */
static int receive(int fd, union peal__packet *packet, uint64_t deadline_ns,
                   int *fds, size_t *fd_count)
{
	size_t fd_max = fd_count == NULL ? 0 : *fd_count;

	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		int got;

		if (fd_count != NULL)
			*fd_count = fd_max;
		got = peal__pass_receive(fd, packet, sizeof(*packet), fds,
		                         fd_count);
		if (got != 1 && got != -EAGAIN)
			return got;
		/* Descriptors that came with a wake byte are not for us, and a
		 * flood of wake bytes is no reason to stay. */
		while (fd_count != NULL && got == 1 && *fd_count > 0)
			close(fds[--*fd_count]);
		if (peal__clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
		if (got == 1)
			continue;
		if (poll(&poll_fd, 1, peal__deadline_to_poll_ms(deadline_ns)) <
		            0 &&
		    errno != EINTR)
			return -errno;
	}
}

int peal__exchange(int fd, union peal__packet *packet, size_t bytes,
                   uint64_t deadline_ns, int *fds, size_t *fd_count,
                   struct peal_failure *failure)
{
	int got = bytes > 0 ? peal__pass_send(fd, packet, bytes, NULL, 0) : 0;
	int type;

	/* A server that turned us away may have closed before we spoke; its
	 * sentence is still there to be read. */
	if (got < 0 && got != -ECONNRESET)
		return peal__fail(failure, got, "cannot talk to the server: %s",
		                  strerrordesc_np(-got));
	got = receive(fd, packet, deadline_ns, fds, fd_count);
	if (got == -ETIMEDOUT)
		return peal__fail(failure, got,
		                  "the server does not answer in time: it is "
		                  "stopped, does not dispatch, or the timeout "
		                  "is too short");
	if (got < 0)
		return peal__fail(failure, got,
		                  got == -ECONNRESET
		                          ? "the server closed the "
		                            "connection: %s"
		                          : "cannot hear the server: %s",
		                  strerrordesc_np(-got));
	type = peal__wire_check(packet, (size_t)got);
	if (type != PEAL__WIRE_ERROR && type > 0)
		return type;
	if (fd_count != NULL)
		while (*fd_count > 0)
			close(fds[--*fd_count]);
	if (type == PEAL__WIRE_ERROR)
		return peal__fail(failure, packet->error.code, "%s",
		                  packet->error.text);
	return peal__fail(failure, type,
	                  type == -EPROTONOSUPPORT
	                          ? "the server speaks another major version "
	                            "of the protocol"
	                          : "the server's answer makes no sense");
}
