/* SPDX-License-Identifier: MIT */
/* Waiting: who may spin, and for how long. */
#include "tests/unit/spin_fixture.h"

#include <sched.h>

/* the budget ---------------------------------------------------------------- */

static void budget_is_gone_after_eight_fruitless_spins(void **state)
{
	(void)state;
	set_budget(1000);
	own.sleep_result = -ETIMEDOUT; /* so that no short sleep restores it */
	for (int i = 0; i < 8; i++) {
		assert_int_not_equal(spin.budget_ticks, 0);
		assert_int_equal(wait_for(PEAL_FOREVER, 1), PEAL__SPIN_WOKEN);
	}
	assert_int_equal(spin.budget_ticks, 0);
	own.soon_count = 0;
	wait_for(PEAL_FOREVER, 1);
	assert_int_equal(own.soon_count, 1);
}

static void spin_that_pays_starts_the_count_again(void **state)
{
	(void)state;
	set_budget(1000);
	own.sleep_result = -ETIMEDOUT;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 7; i++)
			wait_for(PEAL_FOREVER, 1);
		own.work_at_look = own.soon_count + 1;
		assert_int_equal(wait_for(PEAL_FOREVER, 1), PEAL__SPIN_WORK);
		assert_int_not_equal(spin.budget_ticks, 0);
	}
}

static void short_sleep_brings_the_budget_back(void **state)
{
	(void)state;
	set_budget(20000);
	spin.budget_ticks = 0;
	spin.fruitless_count = 8;
	peal__spin_slept(&spin, spin.soon_ticks);
	assert_int_equal(spin.budget_ticks, 0);
	peal__spin_slept(&spin, spin.soon_ticks - 1);
	assert_int_equal(spin.budget_ticks, spin.full_ticks);
}

/* It was given eight spins more each time, and burnt them in vain. */
static void budget_that_came_back_is_lost_by_one_fruitless_spin(void **state)
{
	(void)state;
	set_budget(1000);
	spin.budget_ticks = 0;
	peal__spin_slept(&spin, spin.soon_ticks - 1);
	assert_int_not_equal(spin.budget_ticks, 0);
	own.sleep_result = -ETIMEDOUT;
	wait_for(PEAL_FOREVER, 1);
	assert_int_equal(spin.budget_ticks, 0);
}

static uint32_t count_sleeps_to_budget(void)
{
	uint32_t count = 0;

	while (spin.budget_ticks == 0) {
		/* Long ones are not counted, and spoil nothing. */
		peal__spin_slept(&spin, spin.soon_ticks);
		assert_int_equal(spin.budget_ticks, 0);
		peal__spin_slept(&spin, spin.soon_ticks - 1);
		count++;
	}
	return count;
}

static void budget_comes_back_more_slowly_each_time(void **state)
{
	static const uint32_t counts[] = {1, 2, 4, 8, 16, 16};

	(void)state;
	set_budget(1000);
	spin.budget_ticks = 0;
	own.sleep_result = -ETIMEDOUT;
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		assert_int_equal(count_sleeps_to_budget(), counts[i]);
		wait_for(PEAL_FOREVER, 1);
	}
	/* One that pays, and it is as at first. */
	count_sleeps_to_budget();
	own.work_at_look = own.soon_count + 1;
	assert_int_equal(wait_for(PEAL_FOREVER, 1), PEAL__SPIN_WORK);
	for (int i = 0; i < 7; i++)
		wait_for(PEAL_FOREVER, 1);
	assert_int_not_equal(spin.budget_ticks, 0);
	wait_for(PEAL_FOREVER, 1);
	assert_int_equal(count_sleeps_to_budget(), 2);
}

static void look_that_finds_work_without_a_budget_has_not_paid(void **state)
{
	(void)state;
	set_budget(1000);
	spin.budget_ticks = 0;
	spin.fruitless_count = 8;
	spin.soon_enough = 4;
	own.work_at_look = 1;
	assert_int_equal(wait_for(PEAL_FOREVER, 1), PEAL__SPIN_WORK);
	assert_int_equal(spin.budget_ticks, 0);
	assert_int_equal(spin.soon_enough, 4);
}

static void calm_waiter_sleeps_at_once_and_learns_nothing(void **state)
{
	(void)state;
	set_budget(ENDLESS_NS);
	look.is_calm = true;
	for (uint64_t i = 1; i <= 20; i++) {
		assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER),
		                 PEAL__SPIN_WOKEN);
		assert_int_equal(own.soon_count, i);
		assert_int_equal(own.sleep_count, i);
	}
	assert_int_equal(spin.budget_ticks, spin.full_ticks);
	/* Nor does a short sleep bring back what was lost. */
	spin.budget_ticks = 0;
	wait_for(PEAL_FOREVER, PEAL__NEVER);
	assert_int_equal(spin.budget_ticks, 0);
}

static void calm_is_not_for_who_always_spins(void **state)
{
	(void)state;
	peal__spin_init(&spin, PEAL__SPIN_ALWAYS, 0);
	look.is_calm = true;
	own.work_at_look = 100;
	while (wait_for(PEAL_FOREVER, PEAL__NEVER) != PEAL__SPIN_WORK) {
	}
	assert_int_equal(own.sleep_count, 0);
}

static void sleep_that_was_woken_soon_brings_the_budget_back(void **state)
{
	(void)state;
	set_budget(SOON_NS); /* soon is judged by it, on any machine */
	spin.budget_ticks = 0;
	own.sleep_result = -ETIMEDOUT;
	wait_for(PEAL_FOREVER, 1);
	assert_int_equal(spin.budget_ticks, 0);
	own.sleep_result = 0;
	wait_for(PEAL_FOREVER, 1);
	assert_int_equal(spin.budget_ticks, spin.full_ticks);
}

/* Each sleeps through the other one's wake and its own, on this machine or on one
 * that is slower: both would go on like that for ever. */
static void two_who_sleep_for_each_other_spin_again(void **state)
{
	const uint64_t budgets_ns[] = {20000,
	                               50000}; /* a server's, a client's */

	(void)state;
	if (peal__cpu_online_count() < 2)
		CHECK_SKIP("with one processor nobody spins");
	for (size_t i = 0; i < CHECK_COUNT(budgets_ns); i++) {
		int count = 0;

		peal__spin_init(&spin, PEAL__SPIN_ADAPTIVE, budgets_ns[i]);
		if (spin.full_ticks == 0)
			CHECK_SKIP("nobody spins here");
		spin.budget_ticks = 0;
		spin.soon_enough = 16;
		while (spin.budget_ticks == 0) {
			assert_true(count++ < 16);
			peal__spin_slept(&spin, peal__ns_to_ticks(200000));
		}
	}
}

static void budget_is_at_most_fifty_microseconds(void **state)
{
	(void)state;
	peal__spin_init(&spin, PEAL__SPIN_ADAPTIVE, SECOND);
	assert_true(spin.full_ticks <= peal__ns_to_ticks(50000));
	peal__spin_init(&spin, PEAL__SPIN_ADAPTIVE, 0);
	assert_int_equal(spin.full_ticks, 0);
}

/* processors ---------------------------------------------------------------- */

static int stay_on_one_cpu(void)
{
	cpu_set_t set;
	int cpu = sched_getcpu();

	CPU_ZERO(&set);
	CPU_SET((unsigned int)cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0 ? cpu : -1;
}

/* Where the peer ran last it cannot run while we spin. In a child, which may
 * be pinned. */
static int spin_where_the_peer_is(void *unused)
{
	int32_t peer_cpu = stay_on_one_cpu();
	uint64_t start_ns = now_ns();

	(void)unused;
	if (peer_cpu < 0)
		return CHECK_NOT_HERE;
	set_budget(ENDLESS_NS);
	look.peer_cpu = &peer_cpu;
	if (wait_for(PEAL_FOREVER, PEAL__NEVER) != PEAL__SPIN_WOKEN)
		return 1;
	if (own.sleep_count != 1 || now_ns() - start_ns > SOON_NS)
		return 2;
	/* Not for a moment: one look, and to sleep. */
	if (own.soon_count != 1 || own.settle_count != 1)
		return 6;
	/* Somewhere else, or asleep, it can. */
	own.sleep_count = 0;
	peer_cpu = -1;
	own.work_at_look = own.soon_count + 1000;
	if (wait_for(PEAL_FOREVER, PEAL__NEVER) != PEAL__SPIN_WORK)
		return 3;
	peer_cpu = 100000;
	own.work_at_look = own.soon_count + 1000;
	if (wait_for(PEAL_FOREVER, PEAL__NEVER) != PEAL__SPIN_WORK)
		return 4;
	return own.sleep_count == 0 ? 0 : 5;
}

static void wait_on_the_cpu_of_the_peer_does_not_spin(void **state)
{
	(void)state;
	check_passes_in_child(spin_where_the_peer_is, NULL,
	                      "this process may not be pinned");
}

/* The peer may run on another one, so a pinned process spins like others. */
static int spin_pinned(void *unused)
{
	uint64_t free_ticks = spin.full_ticks;

	(void)unused;
	if (stay_on_one_cpu() < 0)
		return CHECK_NOT_HERE;
	peal__spin_init(&spin, PEAL__SPIN_ADAPTIVE, 50000);
	return spin.full_ticks == free_ticks ? 0 : 1;
}

static void pinned_process_spins_as_others_do(void **state)
{
	(void)state;
	check_passes_in_child(spin_pinned, NULL,
	                      "this process may not be pinned");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(budget_is_gone_after_eight_fruitless_spins),
		TEST(spin_that_pays_starts_the_count_again),
		TEST(short_sleep_brings_the_budget_back),
		TEST(budget_that_came_back_is_lost_by_one_fruitless_spin),
		TEST(budget_comes_back_more_slowly_each_time),
		TEST(look_that_finds_work_without_a_budget_has_not_paid),
		TEST(calm_waiter_sleeps_at_once_and_learns_nothing),
		TEST(calm_is_not_for_who_always_spins),
		TEST(sleep_that_was_woken_soon_brings_the_budget_back),
		TEST(two_who_sleep_for_each_other_spin_again),
		TEST(budget_is_at_most_fifty_microseconds),
		TEST(wait_on_the_cpu_of_the_peer_does_not_spin),
		TEST(pinned_process_spins_as_others_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
