/* SPDX-License-Identifier: MIT */
/*
 * A producer and a consumer that are awake all the time, for no_syscalls.py to
 * count what they ask of the kernel.
 *
 *	awake stream COUNT   one sends as fast as it can; the ring is full often
 *	awake turns COUNT    one message there, one back
 *
 * Between two marks, writes to a descriptor that there cannot be, each of the
 * two processes does nothing but exchange messages.
 */
#include <peal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THERE "awake-there"
#define BACK "awake-back"
#define SECOND_NS UINT64_C(1000000000)
#define WARM_UP_COUNT 1000
#define PEACE_US 200000

static struct board {
	uint32_t open_count;  /* consumers that can be reached */
	uint32_t ready_count; /* who has warmed up */
	uint32_t done_count;  /* who has come to the end */
} * board;

static uint64_t message_count;
static int is_turns;

static void die(const char *what, int error)
{
	fprintf(stderr, "awake: %s: %s\n", what, peal_strerror(error));
	exit(1);
}

/* Nothing but loads, until all of @count have been here. */
static void meet(uint32_t *word, uint32_t count)
{
	__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(word, __ATOMIC_SEQ_CST) < count)
		;
}

static void mark(const char *text)
{
	if (write(-1, text, strlen(text)) >= 0)
		die("a write to nowhere succeeded", 0);
}

static struct peal_consumer *open_consumer(const char *name)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	int error;

	options.name = name;
	options.spin_mode = PEAL_SPIN_ALWAYS;
	error = peal_consumer_open(&options, &consumer);
	if (error < 0)
		die("open", error);
	return consumer;
}

static struct peal_producer *attach(const char *name)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	int error;

	options.name = name;
	options.spin_mode = PEAL_SPIN_ALWAYS;
	error = peal_producer_attach(&options, 10 * SECOND_NS, &producer);
	if (error < 0)
		die("attach", error);
	return producer;
}

static void send_one(struct peal_producer *producer, uint64_t number)
{
	int error = peal_producer_send(producer, &number, sizeof(number),
	                               10 * SECOND_NS);

	if (error < 0)
		die("send", error);
}

static void take_one(struct peal_consumer *consumer, uint64_t number)
{
	struct peal_message message;

	while (peal_consumer_peek(consumer, &message) != 0)
		if (peal_consumer_wait(consumer, 10 * SECOND_NS) < 0)
			die("wait", -ETIMEDOUT);
	if (message.data_bytes != sizeof(number) ||
	    memcmp(message.data, &number, sizeof(number)) != 0)
		die("another message came", 0);
	peal_consumer_release(consumer, &message);
}

static void exchange(struct peal_producer *producer,
                     struct peal_consumer *consumer, uint64_t first,
                     uint64_t last, int begins)
{
	for (uint64_t i = first; i < last; i++) {
		if (producer != NULL && begins)
			send_one(producer, i);
		if (consumer != NULL)
			take_one(consumer, i);
		if (producer != NULL && !begins)
			send_one(producer, i);
	}
}

/* One side, with its marks. */
static void run(struct peal_producer *producer, struct peal_consumer *consumer,
                int begins)
{
	exchange(producer, consumer, 0, WARM_UP_COUNT, begins);
	/* What coming in has left to do is done meanwhile. */
	usleep(PEACE_US);
	meet(&board->ready_count, 2);
	mark("peal: begin");
	/* Not before both have made theirs. */
	meet(&board->ready_count, 4);
	exchange(producer, consumer, WARM_UP_COUNT,
	         WARM_UP_COUNT + message_count, begins);
	meet(&board->done_count, 2);
	mark("peal: end");
	meet(&board->done_count, 4);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

int main(int argc, char **argv)
{
	int status = 1;
	pid_t pid;

	if (argc != 3) {
		fprintf(stderr, "usage: awake stream|turns COUNT\n");
		return 2;
	}
	is_turns = strcmp(argv[1], "turns") == 0;
	message_count = strtoull(argv[2], NULL, 10);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return 1;
	pid = fork();
	if (pid == 0) {
		struct peal_consumer *back = is_turns ? open_consumer(BACK)
		                                      : NULL;

		meet(&board->open_count, 2);
		run(attach(THERE), back, 1);
		return 0;
	}
	{
		struct peal_consumer *there = open_consumer(THERE);

		meet(&board->open_count, 2);
		run(is_turns ? attach(BACK) : NULL, there, 0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return 1;
	return status != 0;
}
