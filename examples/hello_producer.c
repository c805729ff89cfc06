/* SPDX-License-Identifier: MIT */
/*
 * The smallest producer: sends each of its arguments as a message, and an empty
 * one, which ends hello_consumer.
 *
 *	cc hello_producer.c $(pkg-config --cflags --libs peal) -o hello_producer
 */
#include <peal.h>
#include <stdio.h>
#include <string.h>

#define SECOND_NS UINT64_C(1000000000)

int main(int argc, char **argv)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_failure failure;
	struct peal_producer *producer;
	int error;

	options.name = "hello";
	options.ret_failure = &failure;
	if (peal_producer_attach(&options, SECOND_NS, &producer) < 0) {
		fprintf(stderr, "hello_producer: %s\n", failure.text);
		return 1;
	}
	for (int i = 1; i <= argc; i++) {
		const char *text = i < argc ? argv[i] : "";

		error = peal_producer_send(producer, text, strlen(text),
		                           SECOND_NS);
		if (error < 0) {
			fprintf(stderr, "hello_producer: %s\n",
			        peal_strerror(error));
			return 1;
		}
	}
	return peal_producer_detach(producer);
}
