/* SPDX-License-Identifier: MIT */
/*
 * A server for the tests of shmctl. It does what its standard input says, one
 * word a line, and answers each with "ok", the first one before any word:
 *
 *	tool_server NAME futex|fd
 *
 *	peek    take every message (it begins so)
 *	hold    serve its clients and take no message
 *	stuck   call nothing of the library any more
 *	close   close the server and end; so does the end of the input
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <peal.h>

#define TURN_NS UINT64_C(5000000)

enum manner { PEEK, HOLD, STUCK, CLOSE };

static void take_all(struct peal_consumer *consumer)
{
	struct peal_message message;

	while (peal_consumer_peek(consumer, &message) == 0)
		peal_consumer_release(consumer, &message);
}

static enum manner read_manner(enum manner manner)
{
	struct pollfd polled = {.fd = STDIN_FILENO, .events = POLLIN};
	char line[32];
	ssize_t got;

	if (poll(&polled, 1, manner == STUCK ? 1000 : 0) <= 0)
		return manner;
	got = read(STDIN_FILENO, line, sizeof(line) - 1);
	if (got <= 0)
		return CLOSE;
	line[got] = '\0';
	puts("ok");
	fflush(stdout);
	if (strcmp(line, "peek\n") == 0)
		return PEEK;
	if (strcmp(line, "hold\n") == 0)
		return HOLD;
	return strcmp(line, "stuck\n") == 0 ? STUCK : CLOSE;
}

int main(int argc, char **argv)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_failure failure = {0, ""};
	struct peal_consumer *consumer;
	enum manner manner = PEEK;

	if (argc != 3)
		return 2;
	options.name = argv[1];
	options.wait_mode = strcmp(argv[2], "fd") == 0 ? PEAL_WAIT_FD
	                                               : PEAL_WAIT_FUTEX;
	options.producer_max = 8;
	options.ret_failure = &failure;
	if (peal_consumer_open(&options, &consumer) < 0) {
		fprintf(stderr, "tool_server: %s\n", failure.text);
		return 1;
	}
	puts("ok");
	fflush(stdout);
	while (manner != CLOSE) {
		if (manner != STUCK)
			peal_consumer_wait(consumer, TURN_NS);
		if (manner == PEEK)
			take_all(consumer);
		manner = read_manner(manner);
	}
	peal_consumer_close(consumer);
	return 0;
}
