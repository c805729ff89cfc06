/* SPDX-License-Identifier: MIT */
/*
 * Waiting at a bell: spin as long as it has paid lately, then sleep.
 *
 *	          work, or the bell changed
 *	  +----------------------------------------> return
 *	  |                |                |
 *	spin --budget--> arm --nothing--> sleep --woken soon--> budget up
 *	  |  <-------------------------------+
 *	  +--8 fruitless spins--> budget 0
 *
 * A budget that has come back is lost again by its first fruitless spin, and
 * takes twice as many short sleeps to come back once more. Otherwise a waiter
 * whose waits are now and then short would mostly burn what others need.
 *
 * One function serves everyone who waits: the consumer for messages, the
 * producer for room. They differ in what they look at and how they sleep.
 *
 * Callers: the one sleeper of a bell.
 *
 * Ordering: looks are loads only; the second look is made of seq_cst loads.
 *
 * Progress: a spin ends at its budget, which is time and never iterations, at
 *	work, or when the bell changes. It polls gently: one time stamp between
 *	two looks, which is the clock of the budget as well.
 *
 * Units: budgets are nanoseconds outside and ticks inside.
 *
 * Source: adaptive as in KVM's halt_poll_ns.
 */
#ifndef PEAL_DOORBELL_SPIN_H
#define PEAL_DOORBELL_SPIN_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/hooks.h"
#include "base/read.h"
#include "peal/doorbell.h"

#define PEAL__SPIN_MAX_NS (50 * PEAL__NS_PER_US)
#define PEAL__SPIN_SETTLE_NS (1 * PEAL__NS_PER_US)

/* Same values as the public PEAL_SPIN_*. */
enum peal__spin_mode {
	PEAL__SPIN_ADAPTIVE,
	PEAL__SPIN_ALWAYS,
	PEAL__SPIN_NEVER,
};

struct peal__spin {
	enum peal__spin_mode mode;
	uint32_t fruitless_count;
	uint32_t soon_count;   /* sleeps without a budget that were too short */
	uint32_t soon_enough;  /* so many bring it back */
	uint64_t full_ticks;   /* the budget when spinning pays */
	uint64_t budget_ticks; /* the budget now */
	uint64_t soon_ticks;   /* a sleep shorter than this was one too many */
	uint64_t settle_ticks; /* the first part of a spin */
	uint64_t sleep_count;
};

/* How a waiter waits: what it looks at, and how it sleeps. */
struct peal__spin_look {
	/* Is there work? The first is cheap and polled; the second is complete
	 * and made of seq_cst loads. Neither takes any. */
	bool (*soon)(void *object);
	bool (*final)(void *object);
	/* What others should not wait longer for than PEAL__SPIN_SETTLE_NS,
	 * and never through a sleep; or NULL. */
	void (*settle)(void *object);
	/* Sleep, armed, until the deadline: 0 or -ETIMEDOUT. NULL: futex. */
	int (*sleep)(void *object, uint64_t deadline_ns);
	void *object;
	const int32_t *peer_cpu; /* shared word, or NULL: not known */
	bool is_calm;            /* others need the processor: sleep at once */
};

/* As peal_doorbell_wait(), with a deadline. */
int peal__doorbell_wait_until(const struct peal_sleeper *sleeper,
                              uint64_t deadline_ns);

void peal__spin_init(struct peal__spin *spin, enum peal__spin_mode mode,
                     uint64_t budget_ns);

/* The spin found nothing, or something; the sleep lasted so long. All of them
 * move the budget. */
void peal__spin_failed(struct peal__spin *spin);
void peal__spin_paid(struct peal__spin *spin);
void peal__spin_slept(struct peal__spin *spin, uint64_t slept_ticks);

/* Am I where the peer ran last? Then it cannot run while I spin. */
static inline bool peal__spin_is_vain(const struct peal__spin_look *look)
{
	int32_t peer;

	if (look->peer_cpu == NULL)
		return false;
	peer = peal__read_once(look->peer_cpu);
	return peer >= 0 && peer == peal__cpu_current();
}

/* What a wait, or a part of it, came to; else -ETIMEDOUT. */
enum {
	PEAL__SPIN_WOKEN = 0, /* the bell changed, or a sleep ended */
	PEAL__SPIN_WORK = 1,  /* there is something to do */
};

/* Looks at least once, whatever the limit. */
static inline __attribute__((always_inline)) int
peal__spin_until(const struct peal_sleeper *sleeper,
                 const struct peal__spin_look *look, uint64_t limit_ticks)
{
	uint64_t start = peal__cpu_ticks();

	do {
		if (look->soon(look->object))
			return PEAL__SPIN_WORK;
		if (peal_doorbell_changed(sleeper))
			return PEAL__SPIN_WOKEN;
	} while (peal__cpu_ticks() - start < limit_ticks);
	return -ETIMEDOUT;
}

/*
 * Spin, in two parts: the first is so short that nobody minds what is not
 * settled yet, and that the answer of an awake peer falls into it.
 */
static inline __attribute__((always_inline)) int
peal__spin_try(const struct peal__spin *spin,
               const struct peal_sleeper *sleeper,
               const struct peal__spin_look *look, bool is_calm)
{
	uint64_t limit_ticks = is_calm ? 0 : spin->budget_ticks;
	int result = peal__spin_until(sleeper, look,
	                              limit_ticks < spin->settle_ticks
	                                      ? limit_ticks
	                                      : spin->settle_ticks);
	if (result != -ETIMEDOUT || limit_ticks <= spin->settle_ticks)
		return result;
	if (look->settle != NULL)
		look->settle(look->object);
	return peal__spin_until(sleeper, look,
	                        limit_ticks - spin->settle_ticks);
}

/* Sleep, unless the second look finds something. */
static inline __attribute__((always_inline)) int
peal__spin_sleep(struct peal__spin *spin, struct peal_sleeper *sleeper,
                 const struct peal__spin_look *look, bool is_calm,
                 uint64_t deadline_ns)
{
	uint64_t asleep;
	int result = PEAL__SPIN_WOKEN;

	if (look->settle != NULL)
		look->settle(look->object);
	PEAL__HOOK("sleep: about to");
	peal_doorbell_arm(sleeper);
	PEAL__HOOK("sleep: armed");
	if (look->final(look->object)) {
		result = PEAL__SPIN_WORK;
	} else if (!peal_doorbell_changed(sleeper)) {
		PEAL__HOOK("sleep: looked again");
		spin->sleep_count++;
		asleep = peal__cpu_ticks();
		result = look->sleep != NULL
		                 ? look->sleep(look->object, deadline_ns)
		                 : peal__doorbell_wait_until(sleeper,
		                                             deadline_ns);
		PEAL__HOOK("sleep: over");
		if (result == PEAL__SPIN_WOKEN && !is_calm)
			peal__spin_slept(spin, peal__cpu_ticks() - asleep);
	}
	peal_doorbell_disarm(sleeper);
	return result;
}

/* How long a wait may last. The clock is read only when there was no work. */
struct peal__spin_limit {
	uint64_t timeout_ns;  /* PEAL_FOREVER: none */
	uint64_t deadline_ns; /* 0: not known yet */
	uint64_t net_ns;      /* longest single sleep; PEAL__NEVER: none */
	bool has_found;       /* work before, with this limit */
};

/* Is the time over? Settles the deadline, if that was not done before. */
static inline bool peal__spin_is_over(struct peal__spin_limit *limit,
                                      uint64_t now_ns)
{
	if (limit->deadline_ns == 0)
		limit->deadline_ns = limit->timeout_ns >= PEAL__NEVER - now_ns
		                             ? PEAL__NEVER
		                             : now_ns + limit->timeout_ns;
	return limit->deadline_ns <= now_ns;
}

/*
 * Wait for work, a change of the bell, or the limit; also returns
 * PEAL__SPIN_WOKEN after the longest single sleep. The caller has taken its
 * look at the bell before it looked for work, and calls again with the same
 * limit when there was none.
 */
static inline __attribute__((always_inline)) int
peal__spin_wait(struct peal__spin *spin, struct peal_sleeper *sleeper,
                const struct peal__spin_look *look,
                struct peal__spin_limit *limit)
{
	uint64_t now_ns, until_ns;
	/* Who does not spin learns nothing of what it would bring. */
	bool is_calm = spin->mode != PEAL__SPIN_ALWAYS &&
	               (look->is_calm || peal__spin_is_vain(look));
	int result = peal__spin_try(spin, sleeper, look, is_calm);

	if (result != -ETIMEDOUT && spin->fruitless_count != 0 && !is_calm)
		peal__spin_paid(spin);
	/* Who comes again did not get what was found: a peer can show work and
	 * take it back, and would hold us here past every deadline. */
	if (result == PEAL__SPIN_WORK && !limit->has_found) {
		limit->has_found = true;
		return result;
	}
	now_ns = peal__clock_ns();
	if (peal__spin_is_over(limit, now_ns))
		return -ETIMEDOUT;
	/* After the deadline: a bell that never rests must not hold us here. */
	if (result != -ETIMEDOUT)
		return result;
	if (spin->mode == PEAL__SPIN_ALWAYS)
		return PEAL__SPIN_WOKEN;
	if (spin->budget_ticks != 0 && !is_calm)
		peal__spin_failed(spin);
	until_ns = limit->net_ns >= PEAL__NEVER - now_ns
	                   ? PEAL__NEVER
	                   : now_ns + limit->net_ns;
	if (limit->deadline_ns < until_ns)
		return peal__spin_sleep(spin, sleeper, look, is_calm,
		                        limit->deadline_ns);
	result = peal__spin_sleep(spin, sleeper, look, is_calm, until_ns);
	return result == -ETIMEDOUT ? PEAL__SPIN_WOKEN : result;
}

#endif
