/* SPDX-License-Identifier: MIT */
/*
 * peal as a stranger uses it: consumers and producers of two processes that
 * find each other by names in the benchmark's own directory.
 */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include <peal/client.h>
#include <peal/mpsc.h>
#include <peal/reactor.h>

#include "limits.h"

/* Longer than anything here takes unless it is lost. */
#define BENCH_PATIENCE_NS UINT64_C(10000000000)

/* The path that @name stands for. */
void bench_full_name(const struct bench_side *side, const char *name,
                     char *path, size_t path_bytes);
/* Say why peal refused; returns @error. */
int bench_refused(struct bench_side *side, int error,
                  const struct peal_failure *failure, const char *what);

/* Both take their spin mode from the side's work; 0 or -errno, said. */
int bench_consumer_open(struct bench_side *side, const char *name,
                        struct peal_consumer **ret_consumer);
int bench_producer_attach(struct bench_side *side, const char *name,
                          uint64_t ring_bytes,
                          struct peal_producer **ret_producer);

int bench_client_connect(struct bench_side *side, uint64_t ring_bytes,
                         struct peal_client **ret_client);
/* A whole second side: it answers every request with its own bytes. The first
 * one ends it with the last thing that it asks. */
bench_side_fn bench_server_second;
int bench_server_stop(struct bench_side *side, struct peal_client *client);

/* The next message, waited for as the consumer was told to wait. */
static inline int bench_receive(struct peal_consumer *consumer,
                                struct peal_message *ret_message)
{
	int result;

	while ((result = peal_consumer_peek(consumer, ret_message)) ==
	       -EAGAIN) {
		result = peal_consumer_wait(consumer, BENCH_PATIENCE_NS);
		if (result < 0)
			return result;
	}
	return result;
}

/* Write @bytes from @source where they will be read, and publish. */
static inline int bench_send(struct peal_producer *producer, const void *source,
                             size_t bytes)
{
	void *data;
	int result;

	result = peal_producer_claim(producer, bytes, BENCH_PATIENCE_NS, &data);
	if (result < 0)
		return result;
	bench_touch(source);
	bench_copy(data, source, bytes);
	return peal_producer_publish(producer);
}

/* Nanoseconds of a round trip; aside: sleeps of one side in it. */
bench_measure_fn bench_talk;
bench_measure_fn bench_rings_talk; /* bare rings, no bell */

/* Messages in a second; aside: sleeps of the consumer in a thousand. */
bench_measure_fn bench_stream;
bench_measure_fn bench_rings_stream; /* bare rings, no bell */

/* Nanoseconds of a call; calls in a second with @batch in flight. */
bench_measure_fn bench_call;
bench_measure_fn bench_call_deep;
/* Calls in a second of @crowd_count clients; aside: the least of one client's
 * among the most of one's. */
bench_measure_fn bench_crowd;

/* Nanoseconds of claim, write and publish; of peek, read and release. */
bench_measure_fn bench_put_alone;
bench_measure_fn bench_put_streaming;
bench_measure_fn bench_take_alone;

#endif
