/* SPDX-License-Identifier: MIT */
/*
 * What the tests of waiting share: one who waits, and whose looks, second looks
 * and sleeps find what the test says.
 */
#ifndef PEAL_TESTS_UNIT_SPIN_FIXTURE_H
#define PEAL_TESTS_UNIT_SPIN_FIXTURE_H

#include "tests/check.h"

#include <string.h>

#include "doorbell/spin.h"
#include "tests/unit/shared.h"

/* A budget that no test lives to see the end of, set by hand. */
#define ENDLESS_NS (60 * SECOND)
/* What is far from that, and still generous to a busy machine. */
#define SOON_NS (20 * SECOND)

static uint64_t arm;
static uint32_t seq;
static struct peal_sleeper sleeper;
static struct peal__spin spin;

/* What the waiter is asked, and what it answers. */
static struct {
	uint64_t work_at_look; /* work appears at this look; 0: never */
	bool final_finds;      /* only the second look finds it */
	bool bump_in_settle;   /* somebody rings before the bell is armed */
	bool bump_in_final;    /* somebody rings during the second look */
	uint64_t soon_count, final_count, settle_count, sleep_count;
	bool was_armed_at_final, was_armed_at_sleep, was_armed_at_settle;
	int sleep_result;
} own;

static inline bool look_soon(void *object)
{
	(void)object;
	own.soon_count++;
	return own.soon_count == own.work_at_look;
}

static inline bool look_final(void *object)
{
	(void)object;
	own.final_count++;
	own.was_armed_at_final = arm != 0;
	seq += own.bump_in_final;
	return own.final_finds;
}

static inline void settle(void *object)
{
	(void)object;
	own.settle_count++;
	own.was_armed_at_settle |= arm != 0;
	seq += own.bump_in_settle;
}

static inline int sleep_briefly(void *object, uint64_t deadline_ns)
{
	(void)object;
	(void)deadline_ns;
	own.sleep_count++;
	own.was_armed_at_sleep = arm != 0;
	return own.sleep_result;
}

static struct peal__spin_look look;

static inline int open_spin(void **state)
{
	(void)state;
	memset(&own, 0, sizeof(own));
	arm = 0;
	seq = 7;
	peal_doorbell_init(&sleeper, &arm, &seq, PEAL_DOORBELL_FUTEX);
	peal__spin_init(&spin, PEAL__SPIN_ADAPTIVE, 50000);
	look = (struct peal__spin_look){.soon = look_soon,
	                                .final = look_final,
	                                .settle = settle,
	                                .sleep = sleep_briefly};
	return 0;
}

#define TEST(test) cmocka_unit_test_setup(test, open_spin)

/* Whatever this machine is like. */
static inline void set_budget(uint64_t budget_ns)
{
	spin.full_ticks = spin.budget_ticks = peal__ns_to_ticks(budget_ns);
	spin.soon_ticks = peal__ns_to_ticks(budget_ns + 50000);
}

static inline int wait_for(uint64_t timeout_ns, uint64_t net_ns)
{
	struct peal__spin_limit limit = {timeout_ns, 0, net_ns, false};

	return peal__spin_wait(&spin, &sleeper, &look, &limit);
}

#endif
