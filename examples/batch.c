/* SPDX-License-Identifier: MIT */
/*
 * Claims messages in the ring, writes them in place and publishes sixteen at
 * once: nothing is copied, and the other side sees all of them or none. The
 * child produces, the parent consumes.
 *
 *	cc batch.c $(pkg-config --cflags --libs peal) -o batch && ./batch
 */
#include <peal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)
#define BATCH_COUNT 16
#define NUMBER_COUNT (100000 * BATCH_COUNT)

static int produce(struct peal_producer *producer)
{
	int number = 0, error = 0;
	void *data;

	while (error >= 0 && number < NUMBER_COUNT) {
		error = peal_producer_claim(producer, sizeof(number), SECOND_NS,
		                            &data);
		if (error == 0)
			*(int *)data = number++;
		/* A ring full of claims has room when they are published. */
		if (error == -EAGAIN ||
		    (error == 0 && number % BATCH_COUNT == 0))
			error = peal_producer_publish(producer);
	}
	peal_producer_detach(producer);
	return error;
}

static int run_child(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	int error;

	options.name = "batch";
	options.wait_for_server = 1; /* until the parent has opened the name */
	error = peal_producer_attach(&options, SECOND_NS, &producer);
	if (error == 0)
		error = produce(producer);
	if (error < 0)
		fprintf(stderr, "batch: %s\n", peal_strerror(error));
	return error < 0;
}

int main(void)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer = NULL;
	struct peal_failure failure;
	struct peal_message message;
	int count = 0;

	/* Fork first: a handle that is open by then is no use to the child. */
	if (fork() == 0)
		return run_child();
	options.name = "batch";
	options.ret_failure = &failure;
	if (peal_consumer_open(&options, &consumer) < 0)
		fprintf(stderr, "batch: %s\n", failure.text);
	while (consumer != NULL && count < NUMBER_COUNT &&
	       peal_consumer_wait(consumer, SECOND_NS) == 0)
		while (peal_consumer_peek(consumer, &message) == 0) {
			count += *(const int *)message.data == count;
			peal_consumer_release(consumer, &message);
		}
	peal_consumer_close(consumer);
	wait(NULL);
	printf("%d of %d numbers came, each in its turn\n", count,
	       NUMBER_COUNT);
	return count < NUMBER_COUNT;
}
