/* SPDX-License-Identifier: MIT */
/*
 * What the same reads cost over a UNIX socket: a thread for each connection,
 * which is the best that a socket server can do here: no poll, no queue.
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

struct connection {
	struct store *store;
	int fd;
};

static void *serve_connection(void *arg)
{
	struct connection connection = *(struct connection *)arg;
	uint8_t asked_bytes[1024];
	struct kv_request asked;
	ssize_t length;

	free(arg);
	while ((length = recv(connection.fd, asked_bytes, sizeof(asked_bytes),
	                      0)) > 0) {
		struct kv_answer answer = {.status = KV_OK};
		struct fork *fork = NULL;

		if (kv_parse(asked_bytes, (size_t)length, &asked, &answer))
			fork = store_find(connection.store, asked.fork,
			                  &answer);
		if (fork != NULL && asked.op == KV_GET)
			fork_read(fork, &asked, &answer);
		struct iovec parts[] = {{&answer.status, sizeof(answer.status)},
		                        {(void *)answer.data, answer.bytes}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

		if (sendmsg(connection.fd, &message, MSG_NOSIGNAL) < 0)
			break;
		if (fork != NULL)
			fork_end_read(fork);
	}
	close(connection.fd);
	return NULL;
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

int socket_serve(const char *directory, const char *path)
{
	struct store_options options = {.directory = directory};
	struct sockaddr_un address = address_of(path);
	int listen_fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	struct store *store;

	if (store_open(&options, &store) < 0 ||
	    bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listen_fd, 64) < 0)
		return 1;
	for (;;) {
		struct connection *connection = malloc(sizeof(*connection));
		pthread_t thread;

		if (connection == NULL)
			return 1;
		connection->store = store;
		connection->fd = accept(listen_fd, NULL, NULL);
		if (connection->fd < 0 ||
		    pthread_create(&thread, NULL, serve_connection,
		                   connection) != 0)
			return 1;
		pthread_detach(thread);
	}
}

static int open_socket(struct lane *lane)
{
	struct sockaddr_un address = address_of(lane->name);

	lane->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	return connect(lane->fd, (struct sockaddr *)&address, sizeof(address));
}

static int send_socket(struct lane *lane, const struct kv_request *request)
{
	uint8_t data[1024];
	size_t bytes = kv_format(request, data, sizeof(data));

	return send(lane->fd, data, bytes, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static int recv_socket(struct lane *lane)
{
	uint8_t data[1024];
	enum kv_status status;
	ssize_t length = recv(lane->fd, data, sizeof(data), 0);

	if (length != sizeof(status) + BENCH_VALUE_BYTES)
		return -1;
	memcpy(&status, data, sizeof(status));
	return status == KV_OK ? 0 : -1;
}

static void close_socket(struct lane *lane)
{
	close(lane->fd);
}

const struct way socket_way = {"socket", open_socket, send_socket, recv_socket,
                               close_socket};
