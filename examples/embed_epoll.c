/* SPDX-License-Identifier: MIT */
/*
 * A server inside an epoll loop that is there already, beside a timer and a
 * socket of the program's own: who calls "echo" gets an echo, who connects to
 * the socket is told how many calls and ticks there were. It ends at SIGTERM or
 * Ctrl-C, and the library starts no thread.
 *
 *	cc embed_epoll.c $(pkg-config --cflags --libs peal) -o embed_epoll
 *	./embed_epoll ./status & sleep 1; ./echo_client "hello, world"; nc -U ./status
 */
#include <limits.h>
#include <peal/reactor.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

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
		fprintf(stderr, "embed_epoll: %s\n", failure.text);
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

static void tell(int listen_fd)
{
	int fd = accept(listen_fd, NULL, NULL);

	dprintf(fd, "%lu calls, %lu ticks\n", call_count, tick_count);
	close(fd);
}

static int watch(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return fd < 0 ? -1 : epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* How long epoll_wait() may sleep: not at all while there is work. Rounded up,
 * since a sleep that ends too soon makes a loop that spins. */
static int sleep_ms(struct peal_reactor *reactor)
{
	uint64_t timeout_ns;

	if (peal_reactor_prepare(reactor, &timeout_ns) != 0)
		return 0;
	timeout_ns = timeout_ns / 1000000 + 1;
	return timeout_ns < INT_MAX ? (int)timeout_ns : INT_MAX;
}

int main(int argc, char **argv)
{
	const struct itimerspec often = {{0, 100000000}, {0, 100000000}};
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	int listen_fd = argc == 2 ? listen_at(argv[1]) : -1;
	struct peal_reactor *reactor;
	struct epoll_event event;
	uint64_t expirations;

	if (argc != 2)
		fprintf(stderr, "usage: embed_epoll SOCKET\n");
	timerfd_settime(timer_fd, 0, &often, NULL);
	if (listen_fd < 0)
		return 1;
	if (open_reactor(&reactor) < 0) {
		unlink(argv[1]);
		return 1;
	}
	if (watch(epoll_fd, timer_fd) < 0 || watch(epoll_fd, listen_fd) < 0 ||
	    watch(epoll_fd, peal_reactor_fd(reactor)) < 0)
		return 1;
	do {
		if (epoll_wait(epoll_fd, &event, 1, sleep_ms(reactor)) < 1)
			continue;
		if (event.data.fd == timer_fd &&
		    read(timer_fd, &expirations, sizeof(expirations)) > 0)
			tick_count += expirations;
		if (event.data.fd == listen_fd)
			tell(listen_fd);
		/* After every wait, whatever it was that ended it. */
	} while (peal_reactor_dispatch(reactor) == 0);
	unlink(argv[1]);
	return peal_reactor_close(reactor);
}
