/* SPDX-License-Identifier: MIT */
/*
 * A server inside an io_uring loop, beside a timer and a socket of the
 * program's own: who calls "echo" gets an echo, who connects to the socket is
 * told how many calls and ticks there were, until SIGTERM or Ctrl-C. No thread is
 * started.
 *
 *	cc embed_io_uring.c $(pkg-config --cflags --libs peal liburing) \
 *		-o embed_io_uring
 *	./embed_io_uring ./status & sleep 1; ./echo_client "hello"; nc -U ./status
 */
#include <liburing.h>
#include <peal/reactor.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { TICK, BELL, GUEST, KIND_COUNT }; /* for user_data */

static unsigned long call_count, tick_count;

static void echo(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	call_count++;
	if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
}

static int open_reactor(struct peal_reactor **ret_reactor)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_failure failure;
	sigset_t signals;
	int error;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	options.name = "echo";
	options.on_request = echo;
	options.wait_mode = PEAL_WAIT_FD;
	options.stop_signals_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	options.ret_failure = &failure;
	error = peal_reactor_open(&options, ret_reactor);
	if (error < 0)
		fprintf(stderr, "embed_io_uring: %s\n", failure.text);
	return error;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    listen(fd, 16) == 0)
		return fd;
	perror(path);
	return -1;
}

/* Once; so each completion asks for the next one of its kind. */
static void ask_for(struct io_uring *ring, uint64_t kind, int fd)
{
	static struct __kernel_timespec often = {0, 100000000};
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (kind == TICK)
		io_uring_prep_timeout(sqe, &often, 0, 0);
	else if (kind == BELL)
		io_uring_prep_poll_add(sqe, fd, POLLIN);
	else
		io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data64(sqe, kind);
}

/* Submit, and sleep for a completion unless there is work; for as long as the
 * reactor's own timers allow. */
static void wait_in_ring(struct io_uring *ring, struct peal_reactor *reactor)
{
	struct __kernel_timespec bound;
	struct io_uring_cqe *cqe;
	uint64_t timeout_ns;

	if (peal_reactor_prepare(reactor, &timeout_ns) != 0)
		timeout_ns = 0;
	bound.tv_sec = (long long)(timeout_ns / 1000000000);
	bound.tv_nsec = (long long)(timeout_ns % 1000000000);
	io_uring_submit_and_wait_timeout(ring, &cqe, 1, &bound, NULL);
}

static void tell(int fd)
{
	dprintf(fd, "%lu calls, %lu ticks\n", call_count, tick_count);
	close(fd);
}

int main(int argc, char **argv)
{
	struct peal_reactor *reactor = NULL;
	int fds[KIND_COUNT] = {-1, -1, argc == 2 ? listen_at(argv[1]) : -1};
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int error;

	if (argc != 2)
		fprintf(stderr, "usage: embed_io_uring SOCKET\n");
	if (fds[GUEST] < 0)
		return 1;
	error = open_reactor(&reactor);
	if (error == 0 && (error = io_uring_queue_init(8, &ring, 0)) < 0)
		fprintf(stderr, "embed_io_uring: %s\n", strerror(-error));
	if (error < 0) {
		unlink(argv[1]);
		return 1;
	}
	fds[BELL] = peal_reactor_fd(reactor);
	for (uint64_t kind = 0; kind < KIND_COUNT; kind++)
		ask_for(&ring, kind, fds[kind]);
	do {
		wait_in_ring(&ring, reactor);
		while (io_uring_peek_cqe(&ring, &cqe) == 0) {
			uint64_t kind = cqe->user_data;

			tick_count += kind == TICK;
			if (kind == GUEST && cqe->res >= 0)
				tell(cqe->res);
			io_uring_cqe_seen(&ring, cqe);
			ask_for(&ring, kind, fds[kind]);
		}
	} while (peal_reactor_dispatch(reactor) == 0);
	io_uring_queue_exit(&ring);
	unlink(argv[1]);
	return peal_reactor_close(reactor);
}
