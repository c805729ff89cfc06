/* SPDX-License-Identifier: MIT */
#include "mpsc/producer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/failure.h"
#include "base/read.h"
#include "doorbell/lifeline.h"
#include "mpsc/connect.h"
#include "mpsc/options.h"
#include "mpsc/wire.h"
#include "shm/pass.h"

/* How often a server that has no lifeline is looked at. */
#define LOOK_NS (10 * PEAL__NS_PER_MS)
#define HELD_LOOKS 8 /* one that has one is looked at so much less often */
#define HEAR_MAX 256 /* packets at once; a socket holds a few */
/* How long a server that is not there is left alone: at first, and at most. */
#define FIRST_PAUSE_NS 1250000
#define LONGEST_PAUSE_NS 20000000
/* Attaching again may take so long, whatever the timeout of the call. */
#define RECONNECT_NS (100 * PEAL__NS_PER_MS)

/* Point everything at a new connection. */
static void take_connection(struct peal_producer *producer)
{
	const struct peal__connection *connection = &producer->connection;
	struct peal__segment *segment = connection->segment;

	peal_ring_tx_init(&producer->hot.tx,
	                  peal__segment_data(segment, &connection->shape,
	                                     PEAL__RING_REQUEST),
	                  connection->shape.rings[PEAL__RING_REQUEST].bytes,
	                  connection->shape.rings[PEAL__RING_REQUEST].start,
	                  &segment->request_released);
	/* A new bell: what was rung at the old one counts for nothing. */
	producer->hot.bell = (struct peal_ringer){
		.arm = &connection->arm_page->arm,
		.seq = connection->bell_page == NULL
	                       ? NULL
	                       : &connection->bell_page->seq,
		.fd = connection->socket.fd,
	};
	producer->hot.lifeline = &connection->arm_page->lifeline;
	producer->hot.position_word = &segment->word.position;
	producer->hot.claimed_bytes = producer->hot.payload_bytes;
	producer->looked_ticks = peal__cpu_ticks();
	producer->cpu = -1;
	producer->lost = 0;
	producer->connection.socket.broken = &producer->hot.is_broken;
	producer->hot.is_broken = 0;
	producer->told = false;
	producer->last_word = 0;
	producer->stats.self = connection->self;
	peal_doorbell_init(&producer->sleeper, &segment->space.arm,
	                   &segment->space.seq,
	                   producer->options.wait_mode == PEAL_WAIT_FD
	                           ? PEAL_DOORBELL_FD
	                           : PEAL_DOORBELL_FUTEX);
}

int peal_producer_attach(const struct peal_producer_options *options,
                         uint64_t timeout_ns,
                         struct peal_producer **ret_producer)
{
	struct peal_producer_options known = PEAL_PRODUCER_OPTIONS_INIT;
	int error = peal__producer_options_check(options, &known);
	const struct peal__wish wish = {
		.name = known.name,
		.role = PEAL__ROLE_PRODUCER,
		.request_ring_bytes = known.ring_bytes,
	};

	if (error < 0)
		return error;
	if (ret_producer == NULL)
		return peal__fail(known.ret_failure, -EINVAL,
		                  "ret_producer is NULL");
	return peal__producer_open(&known, &wish, timeout_ns, ret_producer);
}

/* Nobody has the name, or whoever had it has just gone. */
static bool is_absence(int error)
{
	return error == -ECONNREFUSED || error == -ECONNRESET ||
	       error == -ESHUTDOWN;
}

/* For the first time: until the server is there, if that is wanted. A look costs
 * a few system calls, so that looking again is as good as being told. */
static int attach_at_first(struct peal_producer *producer,
                           const struct peal_producer_options *known,
                           uint64_t timeout_ns)
{
	uint64_t deadline_ns = peal__deadline_after(timeout_ns);
	struct timespec pause = {.tv_nsec = FIRST_PAUSE_NS};
	struct peal_failure told = {0};
	int error;

	for (;;) {
		error = peal__attach(&producer->wish, deadline_ns, &told,
		                     &producer->connection);
		if (error == 0)
			return 0;
		if (!known->wait_for_server || !is_absence(error) ||
		    peal__clock_ns() >= deadline_ns)
			return peal__fail(known->ret_failure, error, "%s",
			                  told.text);
		if (peal__deadline_left(deadline_ns) < (uint64_t)pause.tv_nsec)
			pause.tv_nsec = (long)peal__deadline_left(deadline_ns);
		nanosleep(&pause, NULL); /* a signal ends it, and no more */
		if (pause.tv_nsec < LONGEST_PAUSE_NS)
			pause.tv_nsec *= 2;
	}
}

int peal__producer_open(const struct peal_producer_options *known,
                        const struct peal__wish *wish, uint64_t timeout_ns,
                        struct peal_producer **ret_producer)
{
	int saved_errno = errno, error;
	struct peal_producer *producer = calloc(1, sizeof(*producer));

	if (producer != NULL)
		producer->wish = *wish;
	if (producer == NULL ||
	    (producer->wish.name = strdup(wish->name)) == NULL) {
		free(producer);
		errno = saved_errno;
		return peal__fail(known->ret_failure, -ENOMEM,
		                  "not enough memory");
	}
	producer->options = *known;
	producer->options.name = NULL;
	producer->options.ret_failure = NULL;
	producer->fork_generation = peal__fork_generation();
	producer->look_ticks = peal__ns_to_ticks(LOOK_NS);
	peal__spin_init(&producer->spin, (enum peal__spin_mode)known->spin_mode,
	                known->spin_ns);
	error = attach_at_first(producer, known, timeout_ns);
	errno = saved_errno;
	if (error < 0) {
		free((void *)(uintptr_t)producer->wish.name);
		free(producer);
		return error;
	}
	take_connection(producer);
	*ret_producer = producer;
	return 0;
}

int peal_producer_detach(struct peal_producer *producer)
{
	int saved_errno = errno;
	bool forked;

	if (producer == NULL)
		return 0;
	forked = peal__producer_was_forked(producer);
	peal__connection_close(&producer->connection, producer->lost == 0,
	                       forked);
	free((void *)(uintptr_t)producer->wish.name);
	free(producer);
	errno = saved_errno;
	return 0;
}

/* The connection is over: claims are void, and what nobody released is lost. */
int peal__producer_lose(struct peal_producer *producer, int error)
{
	producer->lost = error;
	producer->hot.is_broken = 1;
	/* What it had released since we last looked is not lost. */
	peal__ring_make_room(&producer->hot.tx, 0);
	producer->stats.lost_bytes +=
		producer->hot.tx.first - producer->hot.tx.released;
	return error;
}

static bool has_closed(const struct peal_producer *producer)
{
	/* B10: pairs with B9 in peal_consumer_close(). */
	uint64_t arm = peal__load(producer->hot.bell.arm, __ATOMIC_ACQUIRE);

	return (arm & PEAL_DOORBELL_MODE_MASK) == PEAL_DOORBELL_CLOSED;
}

void peal__producer_hear(struct peal_producer *producer)
{
	union peal__packet packet;
	int got;

	/* A server that goes on and on is not listened to for ever; what is
	 * left ends the next sleep. */
	for (int left = HEAR_MAX;
	     left > 0 &&
	     (got = peal__pass_receive(producer->connection.socket.fd, &packet,
	                               sizeof(packet), NULL, NULL)) >= 0;
	     left--)
		if (peal__wire_check(&packet, (size_t)got) == PEAL__WIRE_ERROR)
			producer->last_word = packet.error.code;
}

/* A server that hung up has either died, or told us before why we had to go. */
static int why_it_hung_up(struct peal_producer *producer)
{
	peal__producer_hear(producer);
	switch (producer->last_word) {
	case -EPROTO:
	case -ESHUTDOWN:
		return producer->last_word;
	default:
		/* Other codes could be taken for what a call came to. */
		return -ECONNRESET;
	}
}

int peal__producer_look(struct peal_producer *producer)
{
	bool has_gone;

	if (producer->lost != 0)
		return producer->lost;
	producer->looked_ticks = peal__cpu_ticks();
	has_gone = peal__lifeline_is_cut(producer->hot.lifeline) ||
	           peal__has_hung_up(producer->connection.socket.fd);
	/* In this order: a server that closes says so before it hangs up. */
	if (has_closed(producer))
		return peal__producer_lose(producer, -ESHUTDOWN);
	return has_gone
	               ? peal__producer_lose(producer, why_it_hung_up(producer))
	               : 0;
}

bool peal__producer_look_is_due(struct peal_producer *producer)
{
	uint64_t now_ticks = peal__cpu_ticks();

	if (peal__lifeline_is_cut(producer->hot.lifeline) ||
	    has_closed(producer))
		return true;
	/* Who releases is alive, and has not sent us away. */
	if (producer->looked_released != producer->hot.tx.released) {
		producer->looked_released = producer->hot.tx.released;
		producer->looked_ticks = now_ticks;
	}
	/* Its death marks the lifeline, if it has one; then only being sent away
	 * is left to be asked for. */
	return now_ticks - producer->looked_ticks >=
	       (peal__read_once(producer->hot.lifeline) != 0
	                ? HELD_LOOKS * producer->look_ticks
	                : producer->look_ticks);
}

int peal__producer_attach_again(struct peal_producer *producer,
                                uint64_t timeout_ns)
{
	int saved_errno = errno, error;

	peal__connection_close(&producer->connection, false, false);
	if (timeout_ns < RECONNECT_NS)
		timeout_ns = RECONNECT_NS;
	error = peal__attach(&producer->wish, peal__deadline_after(timeout_ns),
	                     NULL, &producer->connection);
	errno = saved_errno;
	if (error < 0)
		return error;
	take_connection(producer);
	producer->stats.reconnect_count++;
	return 0;
}

void peal__producer_leave(struct peal_producer *producer)
{
	peal__producer_lose(producer, -ECONNRESET);
	producer->told = true;
	producer->stats.reconnect_count--;
	peal__connection_close(&producer->connection, true, false);
}

/* After a loss the first call tells it; with reconnect the next one mends it. */
static int mend(struct peal_producer *producer, uint64_t timeout_ns)
{
	if (producer->options.reconnect && producer->told)
		return peal__producer_attach_again(producer, timeout_ns);
	producer->told = true;
	return producer->lost;
}

int peal__producer_check(struct peal_producer *producer, uint64_t timeout_ns)
{
	uint32_t lifeline;
	int error;

	if (peal__producer_was_forked(producer))
		return -ESTALE;
	if (producer->lost != 0)
		return mend(producer, timeout_ns);
	lifeline = peal__read_once(producer->hot.lifeline);
	if (lifeline != 0 && (lifeline & PEAL__LIFELINE_CUT) == 0)
		return 0;
	/* It has no lifeline in fd mode, nor after it has closed. */
	if (lifeline == 0 && !has_closed(producer) &&
	    peal__cpu_ticks() - producer->looked_ticks < producer->look_ticks)
		return 0;
	error = peal__producer_look(producer);
	if (error < 0)
		producer->told = true;
	return error;
}

int peal_producer_stats(const struct peal_producer *producer,
                        struct peal_producer_stats *ret_stats)
{
	if (ret_stats == NULL)
		return -EINVAL;
	if (peal__producer_was_forked(producer))
		return -ESTALE;
	*ret_stats = producer->stats;
	ret_stats->message_count = producer->hot.message_count;
	ret_stats->payload_bytes = producer->hot.payload_bytes;
	return 0;
}
