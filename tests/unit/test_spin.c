/* SPDX-License-Identifier: MIT */
/* Waiting: what ends a spin, and when a waiter sleeps. */
#include "tests/unit/spin_fixture.h"

#include <pthread.h>

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
		TEST(spin_never_looks_once_and_sleeps),
		TEST(spin_always_never_sleeps_but_obeys_the_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
