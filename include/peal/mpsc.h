/* SPDX-License-Identifier: MIT */
/*
 * Many producers, one consumer: a name, a ring for each producer, one bell.
 *
 *	producer --ring--+
 *	producer --ring--+--> consumer      one bell: whoever publishes to a
 *	producer --ring--+    round robin   consumer that sleeps wakes it
 *
 *	peal_consumer_open("words")             peal_producer_attach("words")
 *	  wait -> peek -> release -> ...          claim -> write -> publish
 *	                                          or send, which copies
 *
 * No producer ever waits for another one, and none sees another one's memory.
 *
 * Callers: a handle belongs to one thread at a time; peal_consumer_notify()
 *	may be called by any thread and in signal handlers. Handles opened
 *	before a fork() are -ESTALE in the child: daemonise first.
 *
 * Ordering: what a producer wrote before it published is seen by who peeks the
 *	message. Messages of one producer arrive in its order; between
 *	producers there is none.
 *
 * Progress: no system call while both sides are awake. Blocking calls end at
 *	their timeout, or when the peer dies; a stopped producer stalls nobody.
 *
 * Death: of a producer: what it published is delivered, what it only claimed
 *	never existed, its slot is free again with a new generation. Of the
 *	consumer: producers get -ECONNRESET, within 100 ms where they wait;
 *	what it had not released is lost and counted by the producer.
 *
 * Errors: see peal_strerror(). -ESTALE in a forked child, from every call.
 *
 * Units: bytes and nanoseconds.
 */
#ifndef PEAL_MPSC_H
#define PEAL_MPSC_H

#include <peal/base.h>
#include <peal/doorbell.h>
#include <peal/ring.h>

PEAL_BEGIN_DECLS

enum { PEAL_WAIT_FUTEX, PEAL_WAIT_FD };
enum { PEAL_SPIN_ADAPTIVE, PEAL_SPIN_ALWAYS, PEAL_SPIN_NEVER };

/* For peal_consumer_options.memory_flags: how rings are allocated. */
enum {
	PEAL_MEMORY_HUGE = 1 << 0, /* 2 MiB pages; the server's own uid only */
	PEAL_MEMORY_PREFAULT = 1 << 1,
	PEAL_MEMORY_LOCK = 1 << 2,
};

#define PEAL_RING_DEFAULT_BYTES (UINT64_C(256) << 10)

struct peal_consumer;
struct peal_producer;

/* consumer --------------------------------------------------------------- */

struct peal_consumer_options {
	size_t size; /* of this struct: PEAL_CONSUMER_OPTIONS_INIT sets it */

	/*
	 * What producers attach to. A plain name (letters, digits, ".", "_",
	 * "-"; at most 64 bytes) stands in the first that applies of
	 * $PEAL_RUNTIME_DIR, /run/peal (root), $XDG_RUNTIME_DIR/peal and
	 * /tmp/peal-UID; one with a slash is a path as it is.
	 */
	const char *name;

	uint32_t wait_mode;    /* PEAL_WAIT_FUTEX or PEAL_WAIT_FD */
	uint32_t spin_mode;    /* PEAL_SPIN_ADAPTIVE, ... */
	uint64_t spin_ns;      /* budget, at most 50,000; 20,000 */
	uint32_t producer_max; /* slots, 1 to 4,096; 256 */
	/* Slots of one user, and 8 connections more that observe or are still
	 * at the door; 0: producer_max. */
	uint32_t producer_per_uid_max;
	uint32_t turn_budget; /* messages a turn, 1 to 65,536; 64 */

	/* What a producer may ask for, and what one gets that does not ask. */
	uint64_t ring_min_bytes;          /* 4 KiB; less than a page is one */
	uint64_t ring_default_bytes;      /* 256 KiB */
	uint64_t ring_max_bytes;          /* 16 MiB; at most 1 GiB */
	uint64_t segment_total_max_bytes; /* of all rings; 4 GiB */

	uint32_t memory_flags; /* PEAL_MEMORY_HUGE | ... */
	int numa_node;         /* -1: any; of no effect on huge pages */

	/* Who may attach besides root and our own user, who opened or whom we
	 * have become for good. The socket's mode must let them connect too:
	 * 0600, the default, or 0666, so that the lists decide. One user may
	 * do so attach_rate_max times a second, 1 to 1,000,000; 0: no limit. */
	uint32_t socket_mode;
	uint32_t attach_rate_max;
	const uint32_t *allow_uid;
	size_t allow_uid_count;
	const uint32_t *allow_gid;
	size_t allow_gid_count;

	/*
	 * A listening SOCK_SEQPACKET socket (systemd's, with Accept=no) to use,
	 * or -1. It stays the caller's and open, and @name is then a label
	 * only. Whoever has the socket finds it changed: O_NONBLOCK is set, as
	 * by NonBlocking=yes, SO_PASSCRED and its like are off, as only bytes
	 * are to come, and listen(2) makes us the process that clients see.
	 */
	int listen_fd;

	struct peal_failure *ret_failure; /* or NULL */
};
/* clang-format off */
#define PEAL_CONSUMER_OPTIONS_INIT                                             \
	{ sizeof(struct peal_consumer_options), NULL, PEAL_WAIT_FUTEX,         \
	  PEAL_SPIN_ADAPTIVE, UINT64_C(20000), 256, 0, 64,                     \
	  PEAL_RING_MIN_BYTES, PEAL_RING_DEFAULT_BYTES, UINT64_C(16) << 20,    \
	  UINT64_C(4) << 30, 0, -1, 0600, 0, NULL, 0, NULL, 0, -1, NULL }
/* clang-format on */

/*
 * Open @options->name and let producers attach. In futex mode admission is a
 * small thread of the library's own, which sleeps; in fd mode there is no
 * thread and peal_consumer_dispatch() does its work.
 *
 * 0, or -EINVAL (an option is nonsense; ret_failure names it), -EADDRINUSE (a
 * living server has the name), -EEXIST (what is there is no socket, or listens
 * as another kind), -EACCES, -ENOENT (the directory), -ENOMEM, -ENOSPC, -EMFILE,
 * -EAGAIN (no thread); from a lock or socket what the kernel says of it.
 */
PEAL_API PEAL_MUST_CHECK int
peal_consumer_open(const struct peal_consumer_options *options,
                   struct peal_consumer **ret_consumer);

/*
 * Wait until there may be a message to peek, or somebody called notify. Spins
 * for the budget, then sleeps; in fd mode it sleeps in epoll and does the work
 * of dispatch as well. May return early.
 *
 * 0, or -ETIMEDOUT.
 */
PEAL_API int peal_consumer_wait(struct peal_consumer *consumer,
                                uint64_t timeout_ns);

/*
 * The next message, in place, of whichever producer's turn it is. Several may
 * be held; each keeps its ring's space until it is released. The bytes are in
 * memory that the producer can still write: copy first what must not change
 * under a check.
 *
 * 0, or -EAGAIN (nothing now; producers that have been idle for long may need
 * a peal_consumer_wait() to be looked at).
 */
PEAL_API int peal_consumer_peek(struct peal_consumer *consumer,
                                struct peal_message *ret_message);

/*
 * Give the space of @message, and of all before it from the same producer,
 * back. The producer sees it at the latest when this consumer peeks at another
 * one or waits. A message of a connection that has ended is left alone.
 */
PEAL_API void peal_consumer_release(struct peal_consumer *consumer,
                                    const struct peal_message *message);

/*
 * Is there something to peek? Only loads: no cursor, spin state or turn changes.
 * Once true also when a producer has come or gone. False in a forked child.
 */
PEAL_API bool peal_consumer_has_data(const struct peal_consumer *consumer);

/*
 * End a peal_consumer_wait() that is under way, or the next one, unless prepare,
 * which is 1 then, or dispatch came first and took the notice. Many calls may
 * become one wake. Any thread; async-signal-safe.
 */
PEAL_API void peal_consumer_notify(struct peal_consumer *consumer);

/*
 * Inside an event loop of the caller's own, in fd mode. The descriptor polls
 * readable when peal_consumer_dispatch() has something to do; it stays ours.
 * The order in the loop is: prepare; when it returns 0 block in the loop;
 * dispatch; peek all there is.
 *
 * fd: the descriptor, or -EINVAL (futex mode).
 * prepare: 1, there is work, do not block; 0, armed, you may block; -EINVAL.
 * dispatch: 0; disarms, admits, notices deaths. -EINVAL in futex mode.
 */
PEAL_API int peal_consumer_fd(const struct peal_consumer *consumer);
PEAL_API int peal_consumer_prepare(struct peal_consumer *consumer);
PEAL_API int peal_consumer_dispatch(struct peal_consumer *consumer);

/* Who is behind @peer. 0, or -ESTALE (that connection has ended), -EINVAL. */
struct peal_peer_info {
	int32_t pid; /* in our pid namespace; 0: not visible from here */
	uint32_t uid;
	uint32_t gid;
	uint64_t ring_bytes;
};
PEAL_API int peal_consumer_peer_info(const struct peal_consumer *consumer,
                                     struct peal_peer peer,
                                     struct peal_peer_info *ret_info);

/* What happened so far; every loss has its counter. 0, -EINVAL, -ESTALE. */
struct peal_consumer_stats {
	uint64_t message_count;
	uint64_t payload_bytes;
	uint64_t attached_count; /* connections that became producers */
	uint64_t detached_count; /* that said good-bye */
	uint64_t died_count;     /* that hung up or died */
	uint64_t evicted_count;  /* sent away: what they wrote made no sense */
	uint64_t refused_count;  /* turned away at the door */
	uint64_t dropped_bytes;  /* in the rings of the evicted, unread */
	uint64_t sleep_count;    /* times peal_consumer_wait() slept */
};
PEAL__BEGIN_SAME_NAME
PEAL_API int peal_consumer_stats(const struct peal_consumer *consumer,
                                 struct peal_consumer_stats *ret_stats);
PEAL__END_SAME_NAME

/*
 * Close: the name is free, every producer gets -ESHUTDOWN, messages not peeked
 * are lost. NULL is fine. In a forked child it only frees memory. 0.
 */
PEAL_API int peal_consumer_close(struct peal_consumer *consumer);

/* producer --------------------------------------------------------------- */

struct peal_producer_options {
	size_t size;         /* of this struct: PEAL_PRODUCER_OPTIONS_INIT */
	const char *name;    /* as the consumer's; also tried in /run/peal */
	uint64_t ring_bytes; /* a power of two; 0: what the server gives */
	uint32_t wait_mode;  /* PEAL_WAIT_FUTEX or PEAL_WAIT_FD */
	uint32_t spin_mode;  /* PEAL_SPIN_ADAPTIVE, ... */
	uint64_t spin_ns;    /* budget, at most 50,000; 50,000 */
	uint32_t reconnect;  /* 1: the call after -ECONNRESET attaches again */
	uint32_t wait_for_server; /* 1: attaching waits until it is there */
	struct peal_failure *ret_failure; /* or NULL */
};
/* clang-format off */
#define PEAL_PRODUCER_OPTIONS_INIT                                             \
	{ sizeof(struct peal_producer_options), NULL, 0, PEAL_WAIT_FUTEX,      \
	  PEAL_SPIN_ADAPTIVE, UINT64_C(50000), 0, 0, NULL }
/* clang-format on */

/*
 * Attach to the consumer of that name; the ring is mapped when it returns.
 * @timeout_ns is for the consumer's answer: when nobody has the name that is
 * -ECONNREFUSED at once. With wait_for_server it is for its coming up as well:
 * the name is looked for again every 20 ms or sooner, also when a server died or
 * closed while it was about to answer, and what the last look came to is
 * returned when the time is over. Attaching again after a loss waits for no
 * server, but for its answer: up to the timeout of the call, and 100 ms at least.
 *
 * 0, or -EINVAL, -ECONNREFUSED (no server has this name), -EACCES (not
 * allowed), -EBUSY (a cap is reached), -EMSGSIZE (ring_bytes is not within the
 * server's ring_min_bytes and ring_max_bytes), -EPROTONOSUPPORT (another major
 * version), -EPROTO, -ECONNRESET (it died), -ESHUTDOWN, -ETIMEDOUT, -ENOMEM,
 * -EMFILE, or what the server met when it made the ring: -ENOSPC, -EFBIG,
 * -EPERM, -EAGAIN; ret_failure says it in a sentence.
 */
PEAL_API PEAL_MUST_CHECK int
peal_producer_attach(const struct peal_producer_options *options,
                     uint64_t timeout_ns, struct peal_producer **ret_producer);

/*
 * Reserve room for a message of @bytes, 0 to peal_producer_message_max(), and
 * point @ret_data at it, 16-byte aligned. Several claims may be held; while
 * any is, a full ring is -EAGAIN at once, since waiting for room would be
 * waiting for ourselves.
 *
 * 0, or -EAGAIN (full and timeout_ns is 0), -ETIMEDOUT, -EMSGSIZE (more than
 * peal_producer_message_max()), -ECONNRESET (the consumer has died; claims are
 * void), -ESHUTDOWN (it has closed), -EPROTO (it has sent us away: what this
 * process wrote into the ring, or said on the socket, made no sense).
 */
PEAL_API PEAL_MUST_CHECK int peal_producer_claim(struct peal_producer *producer,
                                                 size_t bytes,
                                                 uint64_t timeout_ns,
                                                 void **ret_data);

/* Shorten the newest claim. 0, or -EINVAL (longer than claimed, no claim). */
PEAL_API int peal_producer_trim(struct peal_producer *producer, size_t bytes);

/*
 * Publish every claim since the last publish, all at once, and wake the
 * consumer if it sleeps. Returns how many, -EINVAL when nothing was claimed.
 */
PEAL_API int peal_producer_publish(struct peal_producer *producer);

/*
 * Give up the newest claim; the ones before it stay. Only the newest, and once
 * until the next claim. 0, or -EINVAL (there is none to give up).
 */
PEAL_API int peal_producer_abort(struct peal_producer *producer);

/* Part of one message that is gathered. @data may be NULL when it is empty. */
struct peal_part {
	const void *data;
	size_t data_bytes;
};

/*
 * Copy a message into the ring and publish it, together with claims that are
 * held. send: one piece. sendv: gathered from @part_count parts, in order.
 * send_batch: @message_count messages, published at once when all fit, else in
 * parts as room comes back, until the timeout, which is for all of them;
 * returns how many were published.
 *
 * 0 (or that count), or the errors of peal_producer_claim(), which send_batch
 * returns when nothing was published. A smaller count tells that the message of
 * that number met one, also that it is too large for the ring (-EMSGSIZE, more
 * than peal_producer_message_max()): those before it were published all the
 * same, and the next call, with what is left, tells which.
 */
PEAL_API PEAL_MUST_CHECK int peal_producer_send(struct peal_producer *producer,
                                                const void *data, size_t bytes,
                                                uint64_t timeout_ns);
PEAL_API PEAL_MUST_CHECK int peal_producer_sendv(struct peal_producer *producer,
                                                 const struct peal_part *parts,
                                                 size_t part_count,
                                                 uint64_t timeout_ns);
PEAL_API PEAL_MUST_CHECK int
peal_producer_send_batch(struct peal_producer *producer,
                         const struct peal_part *messages, size_t message_count,
                         uint64_t timeout_ns);

/* The largest message this connection can carry, in bytes. */
PEAL_API size_t peal_producer_message_max(const struct peal_producer *producer);

/*
 * Wait for room inside an event loop, in fd mode. The descriptor polls readable
 * when room for @bytes came back, or the consumer died; it stays ours.
 *
 * fd: the descriptor, or -EINVAL (futex mode).
 * prepare: 1, there is room (or an error to be had from claim), do not block;
 * 0, armed, you may block, but publish first: with claims held the room may be
 * their own; -EMSGSIZE (more than peal_producer_message_max()), -EINVAL;
 * -ECONNRESET, -ESHUTDOWN, -EPROTO when the consumer is lost and this was told.
 * dispatch: disarms and takes the wake bytes. 0, or -ECONNRESET, -ESHUTDOWN,
 * -EPROTO.
 *
 * While the consumer is lost there is no descriptor and nothing to wait for.
 * With reconnect it is the next claim that attaches, or is -ECONNREFUSED: make
 * it when a timer of the loop says so, and after it ask for the descriptor
 * again, which is another one.
 */
PEAL_API int peal_producer_fd(const struct peal_producer *producer);
PEAL_API int peal_producer_prepare(struct peal_producer *producer,
                                   size_t bytes);
PEAL_API int peal_producer_dispatch(struct peal_producer *producer);

/* What happened so far. 0, -EINVAL, -ESTALE. */
struct peal_producer_stats {
	uint64_t message_count; /* published */
	uint64_t payload_bytes; /* published */
	uint64_t full_count;    /* -EAGAIN and -ETIMEDOUT: not sent */
	uint64_t blocked_ns;    /* spent waiting for room */
	uint64_t reconnect_count;
	uint64_t lost_bytes; /* of frames that a dead consumer never released */
	struct peal_peer self; /* how the consumer names us */
};
PEAL__BEGIN_SAME_NAME
PEAL_API int peal_producer_stats(const struct peal_producer *producer,
                                 struct peal_producer_stats *ret_stats);
PEAL__END_SAME_NAME

/*
 * Say good-bye; what was published is still delivered, unpublished claims are
 * given up. NULL is fine. 0.
 */
PEAL_API int peal_producer_detach(struct peal_producer *producer);

/* the inline halves ------------------------------------------------------- */

/*
 * Claim and publish have inline halves, which the names above reach in C and
 * C++; the functions of the same names do the same, for other languages. What
 * the halves work on is the beginning of every producer, and nobody else's
 * business: it may change with the number in the library's soname.
 */
struct peal__producer_hot {
	struct peal_ring_tx tx;
	struct peal_ringer bell;
	const uint32_t *lifeline; /* shared; marked when the server dies */
	uint64_t *position_word;  /* shared; for shmctl's eyes only */
	uint64_t claimed_bytes;   /* payload of all claims not given up */
	uint64_t payload_bytes;   /* published */
	uint64_t message_count;   /* published */
	uint32_t is_broken;       /* lost, or in a forked child */
};

#define PEAL__LIFELINE_CUT UINT32_C(0x40000000) /* FUTEX_OWNER_DIED */
#define PEAL__MESSAGES_PER_SHOW 64

PEAL_API int peal__producer_claim_slowly(struct peal_producer *producer,
                                         size_t bytes, uint32_t kind,
                                         uint64_t id, uint64_t timeout_ns,
                                         void **ret_data);
PEAL_API int peal__producer_publish_slowly(struct peal_producer *producer);
PEAL_API void peal__producer_show(struct peal_producer *producer);

static inline PEAL_MUST_CHECK int
peal__producer_claim(struct peal_producer *producer, size_t bytes,
                     uint32_t kind, uint64_t id, uint64_t timeout_ns,
                     void **ret_data)
{
	struct peal__producer_hot *hot = (struct peal__producer_hot *)producer;

	/* Held is neither 0 nor marked: one comparison tells both. Relaxed: it
	 * is a hint, which the slow half makes sure of. */
	if (PEAL_LIKELY(!hot->is_broken &&
	                peal__load(hot->lifeline, __ATOMIC_RELAXED) - 1 <
	                        PEAL__LIFELINE_CUT - 1 &&
	                peal_ring_claim(&hot->tx, bytes, kind, id, ret_data) ==
	                        0)) {
		hot->claimed_bytes += bytes;
		return 0;
	}
	return peal__producer_claim_slowly(producer, bytes, kind, id,
	                                   timeout_ns, ret_data);
}

static inline int peal__producer_publish(struct peal_producer *producer)
{
	struct peal__producer_hot *hot = (struct peal__producer_hot *)producer;
	uint32_t count;

	if (PEAL_UNLIKELY(hot->is_broken || hot->tx.claim_count == 0))
		return peal__producer_publish_slowly(producer);
	count = peal_ring_publish(&hot->tx);
	peal_doorbell_ring(&hot->bell);
	/* Relaxed: for eyes only, on a line that nobody waits for. */
	__atomic_store_n(hot->position_word, hot->tx.tail, __ATOMIC_RELAXED);
	hot->payload_bytes = hot->claimed_bytes;
	hot->message_count += count;
	if (PEAL_UNLIKELY(hot->message_count % PEAL__MESSAGES_PER_SHOW < count))
		peal__producer_show(producer);
	return (int)count;
}

/*
 * Peek and release likewise: while it is one producer's turn, a message costs
 * what the ring costs.
 */
struct peal__consumer_hot {
	struct peal_ring_rx *rx; /* of whose turn it is */
	struct peal_peer peer;   /* likewise; {0, 0}: nobody's */
	uint32_t turn_left;      /* messages; 0: nobody's turn */
	uint32_t is_broken;      /* in a forked child */
	uint64_t tell_bytes;     /* released and not told: time to look at it */
	uint64_t payload_bytes;  /* in this turn */
};

PEAL_API int peal__consumer_peek_slowly(struct peal_consumer *consumer,
                                        struct peal_message *ret_message);
PEAL_API void peal__consumer_release_slowly(struct peal_consumer *consumer,
                                            const struct peal_message *message);

static inline int peal__consumer_peek(struct peal_consumer *consumer,
                                      struct peal_message *ret_message)
{
	struct peal__consumer_hot *hot = (struct peal__consumer_hot *)consumer;

	if (PEAL_LIKELY(hot->turn_left != 0 && !hot->is_broken &&
	                peal_ring_peek(hot->rx, ret_message) == 0)) {
		hot->turn_left--;
		hot->payload_bytes += ret_message->data_bytes;
		ret_message->peer = hot->peer;
		return 0;
	}
	return peal__consumer_peek_slowly(consumer, ret_message);
}

static inline void peal__consumer_release(struct peal_consumer *consumer,
                                          const struct peal_message *message)
{
	struct peal__consumer_hot *hot = (struct peal__consumer_hot *)consumer;
	struct peal_ring_rx *rx = hot->rx;

	/* A message of another turn, or of a connection that has ended, has
	 * another generation or slot than the one whose ring this is. */
	if (PEAL_LIKELY(message->peer.slot_index == hot->peer.slot_index &&
	                message->peer.generation == hot->peer.generation)) {
		peal_ring_release(rx, message);
		if (PEAL_LIKELY(rx->released - rx->told < hot->tell_bytes))
			return;
	}
	peal__consumer_release_slowly(consumer, message);
}

#define peal_consumer_peek(consumer, ret_message) \
	peal__consumer_peek(consumer, ret_message)
#define peal_consumer_release(consumer, message) \
	peal__consumer_release(consumer, message)
#define peal_producer_claim(producer, bytes, timeout_ns, ret_data) \
	peal__producer_claim(producer, bytes, 0, 0, timeout_ns, ret_data)
#define peal_producer_publish(producer) peal__producer_publish(producer)

PEAL_END_DECLS

#endif
