/* SPDX-License-Identifier: MIT */
/*
 * Sends each line of its standard input as a message, with its line break, and
 * an empty message at the end. Several of them may share one consumer.
 *
 *	./words_producer words < some_text
 */
#include <peal.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND_NS UINT64_C(1000000000)

int main(int argc, char **argv)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_failure failure;
	struct peal_producer *producer;
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	int error;

	options.name = argc == 2 ? argv[1] : "";
	options.ret_failure = &failure;
	error = peal_producer_attach(&options, 10 * SECOND_NS, &producer);
	if (error < 0) {
		fprintf(stderr, "words_producer: %s\n", failure.text);
		return 1;
	}
	do {
		length = getline(&line, &room, stdin);
		/* A full ring is waited for: the consumer sets the pace. */
		error = peal_producer_send(producer, line,
		                           length > 0 ? (size_t)length : 0,
		                           10 * SECOND_NS);
	} while (length > 0 && error == 0);
	free(line);
	peal_producer_detach(producer);
	if (error < 0)
		fprintf(stderr, "words_producer: %s\n", peal_strerror(error));
	return error < 0 || ferror(stdin);
}
