/* SPDX-License-Identifier: MIT */
/*
 * A doorbell wakes one sleeper, and costs a sleeper that is awake nothing.
 *
 *	           written by the sleeper only     bumped by whoever rings
 *	           +-----------------------+       +----------------+
 *	shared     | arm  u64              |       | seq  u32       |
 *	           | 0 awake, else         |       | the futex word |
 *	           | epoch << 2 | mode     |       +----------------+
 *	           +-----------------------+
 *
 *	 ringer                               sleeper
 *	 ------                               -------
 *	 write the message                    look:  seen = seq
 *	 store what announces it (seq_cst)    do all the work there is
 *	 load arm (seq_cst)                   spin a while: work? seq moved?
 *	   0, or rung already: done           store arm (seq_cst)
 *	   else: seq++, FUTEX_WAKE            look again for work and at seq
 *	         (or one byte on a socket)    FUTEX_WAIT(seq, seen) | epoll_wait
 *	                                      store arm = 0
 *
 * Why no wake is lost. The announcing store and the load of arm on one side,
 * the store of arm and the second look on the other, are all sequentially
 * consistent: either the ringer sees the bell armed or the sleeper sees the
 * message. seq moves before FUTEX_WAKE and seen was taken before arming, so a
 * wait that begins after the bump returns at once, and one that began before
 * it is found by the wake. Only the sleeper clears arm: a ringer that is
 * killed between two of its steps silences nobody.
 *
 * Callers: one sleeper per bell, one thread at a time. Any number of ringers,
 *	each with a struct peal_ringer of its own (or under its own lock).
 *	peal_doorbell_notify() from any thread and from signal handlers.
 *
 * Ordering: the announcing store and peal_doorbell_ring(), which loads arm,
 *	are in one order that everybody agrees on; see PEAL__ANNOUNCE.
 *
 * Progress: ringing is wait-free and makes one system call per sleep of the
 *	sleeper at most. No step waits for another process.
 *
 * Death: a ringer killed before the bump, or between bump and wake, leaves the
 *	bell armed; every other ringer still rings it, and whoever watches for
 *	deaths rings for the dead. A sleeper killed while armed costs each
 *	ringer one vain wake.
 *
 * Wrap: epochs start at random and take 62 bits, so none comes twice. seq may
 *	wrap: it is compared for being different, and 2^32 rings would have to
 *	fall between two looks.
 *
 * Errors: none of these fails, but the wait, which may time out.
 *
 * Source: the store-buffering litmus test; eventcounts (D. Vyukov; ck_ec.h)
 *	without a waiter count that the dead could leave behind.
 */
#ifndef PEAL_DOORBELL_H
#define PEAL_DOORBELL_H

#include <peal/base.h>

PEAL_BEGIN_DECLS

/* How an armed sleeper is to be woken: the lowest two bits of arm. */
enum {
	PEAL_DOORBELL_FUTEX = 1,
	PEAL_DOORBELL_FD = 2,
	/* Nobody will ever sleep here again: its owner has closed. */
	PEAL_DOORBELL_CLOSED = 3,
};
#define PEAL_DOORBELL_MODE_MASK UINT64_C(3)

/* What is sent on a socket to wake: one byte, whose value says so. */
#define PEAL__DOORBELL_WAKE_BYTE 0x57

/*
 * The ringer's side: private memory, one for each bell, connection and
 * generation. Kept across a reconnect it would take the new sleeper's first
 * sleep for one that it has rung already.
 */
struct peal_ringer {
	const uint64_t *arm; /* shared; this side only loads */
	uint32_t *seq;       /* shared; NULL: always ring by @fd */
	uint64_t my_last;    /* the arming that I have rung */
	uint32_t is_clients; /* 1: the sleeper is not trusted; wake one alone */
	int fd;              /* control socket, or -1 */
};

/* The sleeper's side: private memory. */
struct peal_sleeper {
	uint64_t *arm; /* shared; only this side stores */
	uint32_t *seq; /* shared; both sides */
	uint64_t epoch;
	uint32_t seen;
	uint32_t mode; /* PEAL_DOORBELL_FUTEX or PEAL_DOORBELL_FD */
};

/* The slow half of peal_doorbell_ring(): the bell is armed with @arm. */
PEAL_API void peal__doorbell_ring_armed(struct peal_ringer *ringer,
                                        uint64_t arm);

/* After an announcement: the arming that is to be rung, or 0. */
static inline uint64_t peal__doorbell_armed(const struct peal_ringer *ringer)
{
	uint64_t arm;

	peal__announced();
	/* B1: pairs with B2 and B9: whoever we find asleep armed before our
	 * announcement, and whoever we do not find looks again after it. */
	arm = peal__load(ringer->arm, __ATOMIC_SEQ_CST);
	return arm != ringer->my_last ? arm : 0;
}

/*
 * Wake the sleeper if it sleeps and this ringer has not woken it from this
 * sleep yet. What is announced has been stored by peal_ring_publish() or
 * peal_ring_settle(), or with __ATOMIC_SEQ_CST, just before.
 */
static inline void peal_doorbell_ring(struct peal_ringer *ringer)
{
	uint64_t arm = peal__doorbell_armed(ringer);

	if (PEAL_UNLIKELY(arm != 0))
		peal__doorbell_ring_armed(ringer, arm);
}

/*
 * Make the sleeper look, whatever it is doing: a spin ends, a sleep ends, a
 * sleep about to begin does not. @event_fd is the sleeper's own eventfd in fd
 * mode, or -1. Async-signal-safe.
 */
PEAL_API void peal_doorbell_notify(const uint64_t *arm, uint32_t *seq,
                                   int event_fd);

/*
 * Get ready to sleep on a bell whose two words are mapped. The epoch starts
 * at a random value; @mode is PEAL_DOORBELL_FUTEX or PEAL_DOORBELL_FD.
 */
PEAL_API void peal_doorbell_init(struct peal_sleeper *sleeper, uint64_t *arm,
                                 uint32_t *seq, uint32_t mode);

/* Take note of the bell: first of all in every pass, before any work is done. */
static inline void peal_doorbell_look(struct peal_sleeper *sleeper)
{
	/* B3: pairs with B4 in peal__doorbell_ring_armed() and with B5 in
	 * peal_doorbell_notify() and with B8 in end_turn(): what was stored
	 * before a bump is seen after it. */
	sleeper->seen = peal__load(sleeper->seq, __ATOMIC_ACQUIRE);
}

/* Has somebody rung since the last look? */
static inline bool peal_doorbell_changed(const struct peal_sleeper *sleeper)
{
	/* B6: pairs with B4, B5 and B8; seq_cst because it is also half of the
	 * second look that follows B2. */
	return peal__load(sleeper->seq, __ATOMIC_SEQ_CST) != sleeper->seen;
}

/* From here on ringers ring. Look for work once more before sleeping. */
static inline void peal_doorbell_arm(struct peal_sleeper *sleeper)
{
	/* B2: pairs with B1 and B7: whoever misses this store has announced its
	 * work before it, where the second look finds it. */
	__atomic_store_n(sleeper->arm, ++sleeper->epoch << 2 | sleeper->mode,
	                 __ATOMIC_SEQ_CST);
}

/* Awake again; only the sleeper itself may say so. */
static inline void peal_doorbell_disarm(struct peal_sleeper *sleeper)
{
	/* Relaxed: a ringer that still sees the old value rings once in vain. */
	__atomic_store_n(sleeper->arm, 0, __ATOMIC_RELAXED);
}

/*
 * Sleep, armed and after the second look, until the bell changes or
 * @timeout_ns is over. Futex mode only. 0, or -ETIMEDOUT.
 */
PEAL_API int peal_doorbell_wait(const struct peal_sleeper *sleeper,
                                uint64_t timeout_ns);

PEAL_END_DECLS

#endif
