/* SPDX-License-Identifier: MIT */
/*
 * The smallest consumer: prints what producers send, until one sends nothing.
 *
 *	cc hello_consumer.c $(pkg-config --cflags --libs peal) -o hello_consumer
 *	./hello_consumer & sleep 1; ./hello_producer "hello, world"
 */
#include <peal.h>
#include <stdio.h>

int main(void)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_failure failure;
	struct peal_consumer *consumer;
	struct peal_message message = {.data_bytes = 1};

	options.name = "hello";
	options.ret_failure = &failure;
	if (peal_consumer_open(&options, &consumer) < 0) {
		fprintf(stderr, "hello_consumer: %s\n", failure.text);
		return 1;
	}
	while (message.data_bytes > 0) {
		peal_consumer_wait(consumer, PEAL_FOREVER);
		while (message.data_bytes > 0 &&
		       peal_consumer_peek(consumer, &message) == 0) {
			if (message.data_bytes > 0)
				printf("%.*s\n", (int)message.data_bytes,
				       (const char *)message.data);
			peal_consumer_release(consumer, &message);
		}
	}
	return peal_consumer_close(consumer);
}
