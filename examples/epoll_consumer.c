/* SPDX-License-Identifier: MIT */
/*
 * A consumer inside an event loop that is there already, beside a timer: what
 * hello_producer sends is printed, until an empty message comes. The library
 * starts no thread for this.
 *
 *	cc epoll_consumer.c $(pkg-config --cflags --libs peal) -o epoll_consumer
 *	./epoll_consumer & sleep 1; ./hello_producer "hello, world"
 */
#include <peal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int watch(int epoll_fd, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	return fd < 0 ? -1 : epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* All there is; false when the empty message was among it. */
static bool print_messages(struct peal_consumer *consumer)
{
	struct peal_message message = {.data_bytes = 1};

	while (message.data_bytes > 0 &&
	       peal_consumer_peek(consumer, &message) == 0) {
		if (message.data_bytes > 0)
			printf("%.*s\n", (int)message.data_bytes,
			       (const char *)message.data);
		peal_consumer_release(consumer, &message);
	}
	return message.data_bytes > 0;
}

int main(void)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	const struct itimerspec often = {{0, 100000000}, {0, 100000000}};
	struct peal_failure failure;
	struct peal_consumer *consumer;
	unsigned long tick_count = 0;
	uint64_t expirations;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	options.name = "hello";
	options.wait_mode = PEAL_WAIT_FD;
	options.ret_failure = &failure;
	if (peal_consumer_open(&options, &consumer) < 0) {
		fprintf(stderr, "epoll_consumer: %s\n", failure.text);
		return 1;
	}
	timerfd_settime(timer_fd, 0, &often, NULL);
	if (watch(epoll_fd, timer_fd) < 0 ||
	    watch(epoll_fd, peal_consumer_fd(consumer)) < 0)
		return 1;
	do {
		struct epoll_event event;
		/* With work at hand do not sleep, only look at the others. */
		int wait_ms = peal_consumer_prepare(consumer) == 0 ? -1 : 0;
		int count = epoll_wait(epoll_fd, &event, 1, wait_ms);

		/* After every wait, whatever it was that ended it. */
		peal_consumer_dispatch(consumer);
		if (count == 1 && event.data.fd == timer_fd &&
		    read(timer_fd, &expirations, sizeof(expirations)) > 0)
			tick_count += expirations;
	} while (print_messages(consumer));
	fprintf(stderr, "the timer ticked %lu times meanwhile\n", tick_count);
	return peal_consumer_close(consumer);
}
