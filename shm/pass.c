/* SPDX-License-Identifier: MIT */
#include "shm/pass.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for one SCM_RIGHTS message, aligned as its header must be. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(PEAL__PASS_FD_MAX * sizeof(int))];
};

static int send_packet(int socket_fd, const void *data, size_t data_bytes,
                       const int *fds, size_t fd_count)
{
	struct iovec part = {(void *)(uintptr_t)data, data_bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	union control control;
	ssize_t sent;

	/* An empty packet would look like the end of the file. */
	if (data_bytes == 0 || fd_count > PEAL__PASS_FD_MAX)
		return -EINVAL;
	if (fd_count > 0) {
		memset(&control, 0, sizeof(control));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	do
		sent = sendmsg(socket_fd, &message,
		               MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return 0;
	return errno == EPIPE ? -ECONNRESET : -errno;
}

int peal__pass_send(int socket_fd, const void *data, size_t data_bytes,
                    const int *fds, size_t fd_count)
{
	int saved_errno = errno;
	int result = send_packet(socket_fd, data, data_bytes, fds, fd_count);

	errno = saved_errno;
	return result;
}

/*
 * A peer that died with packets of ours unread leaves one ECONNRESET, which
 * the kernel reports *before* the packets that the peer had sent us. So that
 * these are not lost, the reset only counts when it is the queue that says so.
 */
static ssize_t receive_message(int socket_fd, struct msghdr *message)
{
	int flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
	bool was_reset = false;
	ssize_t got;

	for (;;) {
		got = recvmsg(socket_fd, message, flags);
		if (got >= 0)
			return got;
		if (errno == ECONNRESET && !was_reset)
			was_reset = true;
		else if (errno != EINTR)
			return -errno;
	}
}

/* Every descriptor that the kernel has put into our table. */
static size_t take_fds(struct msghdr *message, int *fds)
{
	size_t count = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
	     header = CMSG_NXTHDR(message, header)) {
		size_t bytes = header->cmsg_len - CMSG_LEN(0);

		if (header->cmsg_level != SOL_SOCKET ||
		    header->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds + count, CMSG_DATA(header), bytes);
		count += bytes / sizeof(int);
	}
	return count;
}

/* What is wrong with a packet that came with @came of @wanted descriptors. */
static int judge(const struct msghdr *message, ssize_t got, size_t came,
                 size_t wanted)
{
	if (message->msg_flags & MSG_TRUNC)
		return -EPROTO;
	if (message->msg_flags & MSG_CTRUNC) {
		/* Room was left in the message, so none was in our table. */
		if (wanted > 0 && came < PEAL__PASS_FD_MAX)
			return -EMFILE;
		return -EPROTO;
	}
	if (came > wanted)
		return -EPROTO;
	return got == 0 ? -ECONNRESET : 0;
}

static int receive_packet(int socket_fd, void *data, size_t data_bytes,
                          int *fds, size_t *fd_count)
{
	size_t wanted = fd_count != NULL ? *fd_count : 0, came = 0;
	struct iovec part = {data, data_bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	int came_fds[PEAL__PASS_FD_MAX], error;
	union control control;
	ssize_t got;

	if (data_bytes == 0 || wanted > PEAL__PASS_FD_MAX)
		return -EINVAL;
	/* Without this room the kernel itself drops every descriptor. */
	if (wanted > 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	got = receive_message(socket_fd, &message);
	if (got < 0)
		return (int)got;
	if (wanted > 0)
		came = take_fds(&message, came_fds);
	error = judge(&message, got, came, wanted);
	if (error != 0) {
		for (size_t i = 0; i < came; i++)
			close(came_fds[i]);
		return error;
	}
	if (came > 0)
		memcpy(fds, came_fds, came * sizeof(int));
	if (fd_count != NULL)
		*fd_count = came;
	return (int)got;
}

int peal__pass_receive(int socket_fd, void *data, size_t data_bytes, int *fds,
                       size_t *fd_count)
{
	int saved_errno = errno;
	int result = receive_packet(socket_fd, data, data_bytes, fds, fd_count);

	errno = saved_errno;
	return result;
}
