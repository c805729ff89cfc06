/* SPDX-License-Identifier: MIT */
#include "peal/doorbell.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hooks.h"
#include "base/random.h"
#include "doorbell/futex.h"
#include "doorbell/spin.h"

#define RING_TRIES 4

/*
 * One byte on the control socket. False if it has to be tried again.
 *
 * EAGAIN: bytes of ours are unread, so it polls readable already.
 * EPIPE, ECONNRESET: the sleeper has gone. Whoever watches the socket for that,
 *	admission or the producer, sees it hang up; there is nobody to wake.
 * Anything else (ENOMEM, ENOBUFS) says nothing of the sleeper. It is tried a
 *	few times, for there may be no other announcement; then this arming
 *	counts as not rung, and the next one rings it.
 */
static bool ring_socket(int fd)
{
	static const unsigned char wake = PEAL__DOORBELL_WAKE_BYTE;
	int saved_errno = errno;
	bool rung = fd < 0;

	for (int tries = 0; !rung && tries < RING_TRIES; tries++)
		rung = send(fd, &wake, sizeof(wake),
		            MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(wake) ||
		       errno == EAGAIN || errno == EPIPE || errno == ECONNRESET;
	errno = saved_errno;
	return rung;
}

void peal__doorbell_ring_armed(struct peal_ringer *ringer, uint64_t arm)
{
	uint64_t mode = arm & PEAL_DOORBELL_MODE_MASK;

	PEAL__HOOK("ring: armed");
	if (mode == PEAL_DOORBELL_FUTEX && ringer->seq != NULL) {
		/* B4: pairs with B3 and B6: whoever sees the bump sees what
		 * was announced before it. */
		__atomic_fetch_add(ringer->seq, 1, __ATOMIC_RELEASE);
		PEAL__HOOK("ring: bumped");
		peal__futex_wake(ringer->seq, ringer->is_clients ? 1 : INT_MAX);
	} else if (mode != PEAL_DOORBELL_CLOSED && !ring_socket(ringer->fd)) {
		return;
	}
	PEAL__HOOK("ring: woken");
	ringer->my_last = arm;
}

void peal_doorbell_notify(const uint64_t *arm, uint32_t *seq, int event_fd)
{
	static const uint64_t one = 1;
	int saved_errno = errno;
	uint64_t armed;

	/* B5: pairs with B3 and B6; seq_cst so that either the sleeper's second
	 * look sees the bump or we see it armed. */
	__atomic_fetch_add(seq, 1, __ATOMIC_SEQ_CST);
	PEAL__HOOK("notify: bumped");
	/* B7: pairs with B2, as B1 does, after B5. */
	armed = peal__load(arm, __ATOMIC_SEQ_CST);
	if (armed == 0)
		return;
	if ((armed & PEAL_DOORBELL_MODE_MASK) == PEAL_DOORBELL_FUTEX)
		peal__futex_wake(seq, INT_MAX);
	else if (event_fd >= 0 && write(event_fd, &one, sizeof(one)) < 0)
		errno = saved_errno; /* EAGAIN: it is readable already */
}

void peal_doorbell_init(struct peal_sleeper *sleeper, uint64_t *arm,
                        uint32_t *seq, uint32_t mode)
{
	sleeper->arm = arm;
	sleeper->seq = seq;
	/* 61 bits, so that counting up never reaches the mode bits' shift. */
	sleeper->epoch = peal__random() >> 3;
	sleeper->mode = mode;
	peal_doorbell_look(sleeper);
}

int peal__doorbell_wait_until(const struct peal_sleeper *sleeper,
                              uint64_t deadline_ns)
{
	return peal__futex_wait(sleeper->seq, sleeper->seen, deadline_ns);
}

int peal_doorbell_wait(const struct peal_sleeper *sleeper, uint64_t timeout_ns)
{
	return peal__doorbell_wait_until(sleeper,
	                                 peal__deadline_after(timeout_ns));
}
