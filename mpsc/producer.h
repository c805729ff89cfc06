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

/*
 * Who stands on a producer and makes more of it: a client. A plain producer has
 * nobody.
 */
struct peal__producer_owner {
	void *object;
	/* What else ends a wait for room: 0, nothing; -EAGAIN, answers are
	 * there, for which the server may be waiting; -ECANCELED; -EDEADLK; 1,
	 * settle has something to do, and then it goes on. Only loads, which
	 * are seq_cst: it is part of the second look. */
	int (*interrupt)(void *object);
	/* What must be done before a sleep, and after each. */
	void (*settle)(void *object);
	int wake_fd; /* in fd mode it ends a sleep as well; or -1 */
};

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
	uint64_t want; /* the position that makes room enough */

	struct peal__connection connection;
	struct peal__wish wish;               /* the name is ours */
	struct peal_producer_options options; /* without a name */
	bool told;                            /* of the loss */

	const struct peal__producer_owner *owner; /* or NULL */
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

/* What it has just attached to is of no use to its owner: say good-bye, and be
 * where a failed attempt would have left us. */
void peal__producer_leave(struct peal_producer *producer);

/* The connection is over because of @error, which is returned. */
int peal__producer_lose(struct peal_producer *producer, int error);

/*
 * room.c. Sleep at one of the two bells of this connection, armed, until the
 * deadline: 0 or -ETIMEDOUT. The longest single sleep of whoever uses it is
 * PEAL__PRODUCER_NET_NS. Without the net it looks at the server alone: no wake
 * that was lost is made good.
 */
#ifdef PEAL_NO_BOUNDED_SLEEP
#define PEAL__PRODUCER_NET_NS PEAL__NEVER
#else
#define PEAL__PRODUCER_NET_NS (50 * PEAL__NS_PER_MS)
#endif
int peal__producer_sleep(struct peal_producer *producer,
                         const struct peal_sleeper *sleeper,
                         uint64_t deadline_ns);

/* After a wait that came to @result: has the server gone? */
bool peal__producer_has_lost(struct peal_producer *producer, int result);

/*
 * Wait until a frame for @bytes fits. 0, -ETIMEDOUT, what the owner was
 * interrupted with, or the loss of the server, told.
 */
int peal__producer_wait_for_room(struct peal_producer *producer, size_t bytes,
                                 uint64_t timeout_ns);

#endif
