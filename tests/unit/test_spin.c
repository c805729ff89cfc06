/* SPDX-License-Identifier: MIT */
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
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

static bool look_soon(void *object)
{
	(void)object;
	own.soon_count++;
	return own.soon_count == own.work_at_look;
}

static bool look_final(void *object)
{
	(void)object;
	own.final_count++;
	own.was_armed_at_final = arm != 0;
	seq += own.bump_in_final;
	return own.final_finds;
}

static void settle(void *object)
{
	(void)object;
	own.settle_count++;
	own.was_armed_at_settle |= arm != 0;
	seq += own.bump_in_settle;
}

static int sleep_briefly(void *object, uint64_t deadline_ns)
{
	(void)object;
	(void)deadline_ns;
	own.sleep_count++;
	own.was_armed_at_sleep = arm != 0;
	return own.sleep_result;
}

static struct peal__spin_look look;

static int open_spin(void **state)
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
static void set_budget(uint64_t budget_ns)
{
	spin.full_ticks = spin.budget_ticks = peal__ns_to_ticks(budget_ns);
	spin.soon_ticks = peal__ns_to_ticks(budget_ns + 50000);
}

static int wait_for(uint64_t timeout_ns, uint64_t net_ns)
{
	struct peal__spin_limit limit = {timeout_ns, 0, net_ns, false};

	return peal__spin_wait(&spin, &sleeper, &look, &limit);
}

/* what ends a spin ------------------------------------------------------- */

static void work_ends_a_spin(void **state)
{
	uint64_t start_ns = now_ns();

	(void)state;
	set_budget(ENDLESS_NS);
	own.work_at_look = 1000;
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WORK);
	assert_int_equal(own.soon_count, 1000);
	assert_int_equal(own.sleep_count, 0);
	assert_true(now_ns() - start_ns < SOON_NS);
}

static void work_that_is_there_needs_one_look(void **state)
{
	(void)state;
	own.work_at_look = 1;
	assert_int_equal(wait_for(0, 0), PEAL__SPIN_WORK);
	assert_int_equal(own.soon_count, 1);
	assert_int_equal(own.final_count, 0);
	assert_int_equal(own.settle_count, 0);
}

/* A spin that only looked for work burnt its whole budget before it heard. */
static void changed_bell_ends_a_spin_at_once(void **state)
{
	uint64_t start_ns = now_ns();

	(void)state;
	set_budget(ENDLESS_NS);
	seq++;
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WOKEN);
	assert_int_equal(own.soon_count, 1);
	assert_int_equal(own.sleep_count, 0);
	assert_true(now_ns() - start_ns < SOON_NS);
}

static void *notify_later(void *unused)
{
	(void)unused;
	sleep_ns(10 * MS);
	peal_doorbell_notify(&arm, &seq, -1);
	return NULL;
}

static void notify_of_another_thread_ends_a_spin(void **state)
{
	uint64_t start_ns = now_ns();
	pthread_t thread;

	(void)state;
	set_budget(ENDLESS_NS);
	look.settle = NULL;
	assert_int_equal(pthread_create(&thread, NULL, notify_later, NULL), 0);
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WOKEN);
	pthread_join(thread, NULL);
	assert_int_equal(own.sleep_count, 0);
	assert_true(now_ns() - start_ns < SOON_NS);
}

static void budget_is_time(void **state)
{
	uint64_t start_ns, spent_ns;

	(void)state;
	set_budget(5 * MS);
	own.sleep_result = -ETIMEDOUT;
	start_ns = now_ns();
	assert_int_equal(wait_for(PEAL_FOREVER, 1), PEAL__SPIN_WOKEN);
	spent_ns = now_ns() - start_ns;
	assert_int_equal(own.sleep_count, 1);
	assert_true(spent_ns > 4 * MS); /* the two clocks differ a little */
	assert_true(spent_ns < SOON_NS);
}

static void what_was_put_off_is_done_early_in_a_spin(void **state)
{
	(void)state;
	set_budget(ENDLESS_NS);
	own.bump_in_settle = true;
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WOKEN);
	assert_int_equal(own.settle_count, 1);
	assert_int_equal(own.sleep_count, 0);
}

/* sleeping --------------------------------------------------------------- */

static void sleeper_is_armed_for_the_second_look_and_awake_after(void **state)
{
	(void)state;
	set_budget(0);
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WOKEN);
	assert_int_equal(own.soon_count, 1);
	assert_int_equal(own.final_count, 1);
	assert_int_equal(own.settle_count, 1);
	assert_int_equal(own.sleep_count, 1);
	assert_int_equal(spin.sleep_count, 1);
	assert_false(own.was_armed_at_settle);
	assert_true(own.was_armed_at_final);
	assert_true(own.was_armed_at_sleep);
	assert_int_equal(arm, 0);
}

static void second_look_that_finds_work_prevents_the_sleep(void **state)
{
	(void)state;
	set_budget(0);
	own.final_finds = true;
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WORK);
	assert_int_equal(own.sleep_count, 0);
	assert_int_equal(spin.sleep_count, 0);
	assert_int_equal(arm, 0);
}

static void bell_that_changes_before_the_sleep_prevents_it(void **state)
{
	(void)state;
	set_budget(0);
	own.bump_in_final = true;
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WOKEN);
	assert_int_equal(own.sleep_count, 0);
	assert_int_equal(arm, 0);
	/* Or before it was armed, when nobody could see that we would sleep. */
	open_spin(state);
	set_budget(0);
	own.bump_in_settle = true;
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WOKEN);
	assert_int_equal(own.sleep_count, 0);
	/* What rang before the last look is no news. */
	peal_doorbell_look(&sleeper);
	own.bump_in_settle = false;
	assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER), PEAL__SPIN_WOKEN);
	assert_int_equal(own.sleep_count, 1);
}

static void sleep_without_a_function_is_on_the_futex(void **state)
{
	uint64_t start_ns = now_ns();

	(void)state;
	set_budget(0);
	look.sleep = NULL;
	assert_int_equal(wait_for(20 * MS, PEAL__NEVER), -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 20 * MS);
	assert_true(now_ns() - start_ns < SOON_NS);
	assert_int_equal(spin.sleep_count, 1);
	assert_int_equal(arm, 0);
}

/* limits ----------------------------------------------------------------- */

static void timeout_of_nothing_looks_and_never_sleeps(void **state)
{
	(void)state;
	set_budget(0);
	assert_int_equal(wait_for(0, PEAL__NEVER), -ETIMEDOUT);
	assert_int_equal(own.soon_count, 1);
	assert_int_equal(own.sleep_count, 0);
}

static void longest_single_sleep_is_no_timeout(void **state)
{
	uint64_t start_ns = now_ns();

	(void)state;
	set_budget(0);
	look.sleep = NULL;
	assert_int_equal(wait_for(PEAL_FOREVER, 10 * MS), PEAL__SPIN_WOKEN);
	assert_int_equal(wait_for(ENDLESS_NS, 10 * MS), PEAL__SPIN_WOKEN);
	assert_int_equal(wait_for(PEAL_FOREVER - 1, 10 * MS), PEAL__SPIN_WOKEN);
	assert_true(now_ns() - start_ns >= 30 * MS);
	assert_true(now_ns() - start_ns < SOON_NS);
}

static void deadline_is_kept_over_many_waits(void **state)
{
	struct peal__spin_limit limit = {50 * MS, 0, 5 * MS, false};
	uint64_t start_ns = now_ns();
	int result;

	(void)state;
	set_budget(0);
	look.sleep = NULL;
	do
		result = peal__spin_wait(&spin, &sleeper, &look, &limit);
	while (result == PEAL__SPIN_WOKEN);
	assert_int_equal(result, -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 50 * MS);
	assert_true(now_ns() - start_ns < SOON_NS);
	assert_true(spin.sleep_count > 1);
}

/* the budget ------------------------------------------------------------- */

/* A peer can show work and take it back as often as it likes. */
static void work_that_is_taken_back_does_not_outlast_the_deadline(void **state)
{
	struct peal__spin_limit limit = {30 * MS, 0, PEAL__NEVER, false};
	uint64_t start_ns = now_ns();
	int result;

	(void)state;
	do {
		own.work_at_look = own.soon_count + 1;
		result = peal__spin_wait(&spin, &sleeper, &look, &limit);
		assert_true(now_ns() - start_ns < SOON_NS);
	} while (result == PEAL__SPIN_WORK);
	assert_int_equal(result, -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 30 * MS);
	assert_int_equal(own.sleep_count, 0);
}

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

/* modes ------------------------------------------------------------------ */

static void spin_never_looks_once_and_sleeps(void **state)
{
	(void)state;
	peal__spin_init(&spin, PEAL__SPIN_NEVER, 50000);
	for (int i = 1; i <= 20; i++) {
		assert_int_equal(wait_for(PEAL_FOREVER, PEAL__NEVER),
		                 PEAL__SPIN_WOKEN);
		assert_int_equal(own.soon_count, i);
		assert_int_equal(own.sleep_count, i);
	}
}

static void spin_always_never_sleeps_but_obeys_the_timeout(void **state)
{
	struct peal__spin_limit limit = {30 * MS, 0, PEAL__NEVER, false};
	uint64_t start_ns = now_ns();
	int result;

	(void)state;
	peal__spin_init(&spin, PEAL__SPIN_ALWAYS, 0);
	do {
		result = peal__spin_wait(&spin, &sleeper, &look, &limit);
		assert_int_equal(arm, 0);
	} while (result == PEAL__SPIN_WOKEN);
	assert_int_equal(result, -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 30 * MS);
	assert_true(now_ns() - start_ns < SOON_NS);
	assert_int_equal(own.sleep_count, 0);
	assert_int_equal(own.final_count, 0);
	assert_int_equal(spin.sleep_count, 0);
	assert_int_not_equal(spin.budget_ticks, 0);
	/* What was put off is not put off for ever. */
	assert_true(own.settle_count > 0);
}

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
		return 77;
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
	int status = check_in_child(spin_where_the_peer_is, NULL);

	(void)state;
	if (status == 77)
		CHECK_SKIP("this process may not be pinned");
	assert_int_equal(status, 0);
}

/* The peer may run on another one, so a pinned process spins like others. */
static int spin_pinned(void *unused)
{
	uint64_t free_ticks = spin.full_ticks;

	(void)unused;
	if (stay_on_one_cpu() < 0)
		return 77;
	peal__spin_init(&spin, PEAL__SPIN_ADAPTIVE, 50000);
	return spin.full_ticks == free_ticks ? 0 : 1;
}

static void pinned_process_spins_as_others_do(void **state)
{
	int status = check_in_child(spin_pinned, NULL);

	(void)state;
	if (status == 77)
		CHECK_SKIP("this process may not be pinned");
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(work_ends_a_spin),
		TEST(work_that_is_there_needs_one_look),
		TEST(changed_bell_ends_a_spin_at_once),
		TEST(notify_of_another_thread_ends_a_spin),
		TEST(budget_is_time),
		TEST(what_was_put_off_is_done_early_in_a_spin),
		TEST(sleeper_is_armed_for_the_second_look_and_awake_after),
		TEST(second_look_that_finds_work_prevents_the_sleep),
		TEST(bell_that_changes_before_the_sleep_prevents_it),
		TEST(sleep_without_a_function_is_on_the_futex),
		TEST(timeout_of_nothing_looks_and_never_sleeps),
		TEST(longest_single_sleep_is_no_timeout),
		TEST(deadline_is_kept_over_many_waits),
		TEST(work_that_is_taken_back_does_not_outlast_the_deadline),
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
		TEST(spin_never_looks_once_and_sleeps),
		TEST(spin_always_never_sleeps_but_obeys_the_timeout),
		TEST(wait_on_the_cpu_of_the_peer_does_not_spin),
		TEST(pinned_process_spins_as_others_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
