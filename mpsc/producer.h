/* SPDX-License-Identifier: MIT */
/*
 * The inside of a producer.
 *
 *	producer.c  attach, detach, the loss of the server
 *	send.c      claims and publishes, beyond their inline halves
 *	room.c      waiting for room in a full ring
 *
 * Callers: the one thread that owns the handle.
 *
 * Errors: as in peal/mpsc.h.
 */
#ifndef PEAL_MPSC_PRODUCER_H
#define PEAL_MPSC_PRODUCER_H

#include "base/fork.h"
#include "doorbell/spin.h"
#include "mpsc/attach.h"
#include "peal/mpsc.h"

struct peal_producer {
	struct peal__producer_hot hot;
	struct peal_producer_stats stats; /* but for what hot counts */
	uint32_t fork_generation;
	uint64_t looked_ticks;    /* when the server was last looked at */
	uint64_t looked_released; /* how far it had released then */
	uint64_t look_ticks;      /* how long that holds */
	int32_t cpu;
	int lost;      /* why there is no connection any more; 0: there is */
	int last_word; /* the code of the server's ERROR; 0: none came */

	/* waiting for room */
	struct peal_sleeper sleeper;
	struct peal__spin spin;

	struct peal__connection connection;
	struct peal__wish wish;               /* the name is ours */
	struct peal_producer_options options; /* without a name */
	bool told;                            /* of the loss */

	/* A client's: who waits for room also hears of answers, since the
	 * server may wait until they are read. Or NULL. */
	const struct peal_ring_rx *answers;
};

_Static_assert(offsetof(struct peal_producer, hot) == 0,
               "the inline halves find it there");

static inline bool
peal__producer_was_forked(const struct peal_producer *producer)
{
	return PEAL_UNLIKELY(producer->fork_generation !=
	                     peal__fork_generation());
}

/* Why a producer is broken: -ESTALE or why it is lost; 0: it is not. */
static inline int peal__producer_error(const struct peal_producer *producer)
{
	return peal__producer_was_forked(producer) ? -ESTALE : producer->lost;
}

/*
 * Is the server there? 0, or -ECONNRESET (it died), -ESHUTDOWN (it closed),
 * -EPROTO (it sent us away). One system call, as long as it is. The caller who
 * passes the error on is the one who tells.
 */
int peal__producer_look(struct peal_producer *producer);

/* Take what lies on the socket: wake bytes, and the server's last word. */
void peal__producer_hear(struct peal_producer *producer);

/*
 * Is it time for that? Answered without a system call, since a full ring comes
 * often: it is when the server is marked as gone, or has released nothing for
 * long.
 */
bool peal__producer_look_is_due(struct peal_producer *producer);

/*
 * What every call that writes begins with: notices that the server has gone,
 * tells it once, and attaches again after that when it is to. 0 or -errno.
 */
int peal__producer_check(struct peal_producer *producer, uint64_t timeout_ns);

/*
 * As peal_producer_attach(), with options that were checked; @wish names the
 * server, and is copied.
 */
int peal__producer_open(const struct peal_producer_options *known,
                        const struct peal__wish *wish, uint64_t timeout_ns,
                        struct peal_producer **ret_producer);

/* After a loss: attach again. 0 or -errno. */
int peal__producer_attach_again(struct peal_producer *producer,
                                uint64_t timeout_ns);

/*
 * Wait until a frame for @bytes fits. 0, -ETIMEDOUT, -EAGAIN (answers are
 * waiting), or the loss of the server, told.
 */
int peal__producer_wait_for_room(struct peal_producer *producer, size_t bytes,
                                 uint64_t timeout_ns);

#endif
