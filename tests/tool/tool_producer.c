/* SPDX-License-Identifier: MIT */
/*
 * A producer for the tests of shmctl. It does what its standard input says, a
 * line at a time, and answers each with one line, the first before any:
 *
 *	tool_producer NAME RING_BYTES
 *
 *	send COUNT BYTES   that many messages, none waited for; "sent N full M"
 *	block MS           send until one has waited for so long
 *	detach             say good-bye and end; so does the end of the input
 *
 * What it sends is told from everything else by its bytes: see SECRET.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <peal.h>

#define SECRET "ThisIsWhatTheClientSaidInPrivate"
#define BYTES_MAX 65536

static char payload[BYTES_MAX];

static void fill_payload(void)
{
	for (size_t i = 0; i < BYTES_MAX; i++)
		payload[i] = SECRET[i % (sizeof(SECRET) - 1)];
}

static void send_some(struct peal_producer *producer, unsigned long count,
                      unsigned long bytes)
{
	unsigned long sent = 0, full = 0;

	if (bytes > BYTES_MAX)
		bytes = BYTES_MAX;
	for (unsigned long i = 0; i < count; i++) {
		if (peal_producer_send(producer, payload, bytes, 0) == 0)
			sent++;
		else
			full++;
	}
	printf("sent %lu full %lu\n", sent, full);
}

static void block(struct peal_producer *producer, unsigned long ms)
{
	const uint64_t timeout_ns = (uint64_t)ms * 1000000;

	while (peal_producer_send(producer, payload, 1000, timeout_ns) == 0)
		continue;
	puts("ok");
}

int main(int argc, char **argv)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_failure failure = {0, ""};
	struct peal_producer *producer;
	unsigned long count, bytes;
	char line[64];

	if (argc != 3)
		return 2;
	fill_payload();
	options.name = argv[1];
	options.ring_bytes = strtoull(argv[2], NULL, 10);
	options.ret_failure = &failure;
	if (peal_producer_attach(&options, UINT64_C(10000000000), &producer) <
	    0) {
		fprintf(stderr, "tool_producer: %s\n", failure.text);
		return 1;
	}
	puts("ok");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (sscanf(line, "send %lu %lu", &count, &bytes) == 2)
			send_some(producer, count, bytes);
		else if (sscanf(line, "block %lu", &count) == 1)
			block(producer, count);
		else
			break;
		fflush(stdout);
	}
	peal_producer_detach(producer);
	return 0;
}
