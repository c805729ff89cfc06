/* SPDX-License-Identifier: MIT */
/*
 * Counts words by their first letter. A message is a line of text, and an empty
 * one says that its producer has no more; the result goes to stdout.
 *
 *	./words_consumer words 1 & sleep 1; ./words_producer words < some_text
 */
#include <ctype.h>
#include <inttypes.h>
#include <peal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t messages, bytes, words[256];

/* Once a second, when it is called often enough. */
static void show_progress(void)
{
	static uint64_t shown_messages;
	static double shown;
	struct timespec clock;
	double now, before = shown;

	clock_gettime(CLOCK_MONOTONIC, &clock);
	now = (double)clock.tv_sec + (double)clock.tv_nsec / 1e9;
	if (now - before < 1)
		return;
	shown = now;
	if (before > 0)
		fprintf(stderr, "%12" PRIu64 " messages, %.1f M/s\n", messages,
		        (double)(messages - shown_messages) / 1e6 /
		                (now - before));
	shown_messages = messages;
}

static void count(const struct peal_message *message)
{
	const unsigned char *text = message->data;
	bool in_word = false;

	if (++messages % 65536 == 0)
		show_progress();
	bytes += message->data_bytes;
	for (size_t i = 0; i < message->data_bytes; i++) {
		if (!in_word && !isspace(text[i]))
			words[isalpha(text[i]) ? tolower(text[i]) : '*']++;
		in_word = !isspace(text[i]);
	}
}

int main(int argc, char **argv)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_failure failure = {.text = "wants NAME PRODUCERS"};
	struct peal_consumer *consumer;
	struct peal_message message;
	int left = argc == 3 ? atoi(argv[2]) : 0;

	options.name = argv[1];
	options.ret_failure = &failure;
	if (left <= 0 || peal_consumer_open(&options, &consumer) < 0) {
		fprintf(stderr, "words_consumer: %s\n", failure.text);
		return 1;
	}
	while (left > 0 && peal_consumer_wait(consumer, 10000000000) == 0)
		while (peal_consumer_peek(consumer, &message) == 0) {
			left -= message.data_bytes == 0;
			if (message.data_bytes > 0)
				count(&message);
			peal_consumer_release(consumer, &message);
		}
	peal_consumer_close(consumer);
	printf("%" PRIu64 " messages\n%" PRIu64 " bytes\n", messages, bytes);
	for (int i = 0; i < 256; i++)
		if (words[i] > 0)
			printf("%" PRIu64 " %c\n", words[i], i);
	return left > 0; /* nobody sent anything for ten seconds */
}
