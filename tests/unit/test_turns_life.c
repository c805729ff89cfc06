/* SPDX-License-Identifier: MIT */
/* Turns: who comes and goes meanwhile, and what becomes of those who sleep. */
#include "tests/unit/turns_fixture.h"

#include <sched.h>

/* who leaves -------------------------------------------------------------- */

static void leave_but(uint32_t one)
{
	for (uint32_t i = 0; i < CROWD; i++)
		if (i != one)
			leave(&crowd.raws[i]);
}

/* After a stop: the clients are still there. */
static void close_before_them(void)
{
	close_reactor();
	for (uint32_t i = 0; i < CROWD; i++)
		raw_close(&crowd.raws[i], false);
}

static void those_who_ask_no_more_are_free(void **state)
{
	(void)state;
	open_turns();
	begin_turns();
	turns()->wake_ticks = turns()->pause_ticks = 0;
	pass_often(20);
	turns()->leave_ticks = 0;
	end_window();
	pass_once();
	assert_int_equal(turns()->holder_count + turns()->waiting_count, 0);
	for (uint32_t i = 0; i < CROWD; i++) {
		assert_int_equal(yield_of(&crowd.raws[i]), 0);
		assert_int_equal(hear_all(i), 1);
		ask(i, 1);
		pass_once();
		assert_int_equal(hear_all(i), 1);
	}
	close_turns(CROWD);
}

/* It was left parked for ever. */
static void last_one_is_freed_when_the_others_close(void **state)
{
	for (uint32_t last = 0; last < CROWD; last++) {
		open_turns();
		begin_turns();
		leave_but(last);
		assert_int_equal(peer_of(&crowd.raws[last])->part.turn,
		                 PEAL__TURN_FREE);
		assert_int_equal(yield_of(&crowd.raws[last]), 0);
		pass_once();
		assert_int_equal(hear_all(last), 1);
		ask(last, 3);
		pass_once();
		assert_int_equal(hear_all(last), 3);
		leave(&crowd.raws[last]);
		close_reactor();
	}
	(void)state;
}

static void turn_of_a_holder_that_closes_is_passed_on(void **state)
{
	uint32_t holder, next;

	(void)state;
	open_turns();
	holder = begin_turns();
	leave(&crowd.raws[holder]);
	pass_once();
	assert_int_equal(turns()->holder_count, 1);
	assert_int_equal(turns()->waiting_count, 1);
	next = holder == 0 ? 1 : 0;
	if (peer_of(&crowd.raws[next])->part.turn != PEAL__TURN_HOLDING)
		next = CROWD - holder - next;
	assert_int_equal(hear_all(next), 1);
	leave_but(holder);
	close_reactor();
}

static void one_that_closes_while_it_waits_is_waited_for_no_more(void **state)
{
	uint32_t holder, closing;

	(void)state;
	open_turns();
	holder = begin_turns();
	closing = (holder + 1) % CROWD;
	leave(&crowd.raws[closing]);
	assert_int_equal(turns()->waiting_count, 1);
	assert_ptr_equal(turns()->first, turns()->last);
	turns()->wake_ticks = 0;
	pass_often(5);
	assert_int_equal(hear_all(CROWD - holder - closing), 1);
	/* Its slot is somebody else's, who is free. */
	connect_raw(&crowd.raws[closing], 0);
	crowd.asked[closing] = crowd.heard[closing] = 0;
	ask(closing, 1);
	pass_once();
	assert_int_equal(hear_all(closing), 1);
	close_turns(CROWD);
}

static void stop_frees_all(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	hear_all(holder);
	assert_int_equal(peal_reactor_stop(served.reactor, PATIENCE_NS), 0);
	pass_once();
	assert_int_equal(turns()->holder_count + turns()->waiting_count, 0);
	assert_false(peal__turns_are_possible(served.reactor));
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	for (uint32_t i = 0; i < CROWD; i++)
		assert_int_equal(yield_of(&crowd.raws[i]), 0);
	close_before_them();
}

static void requests_of_those_who_waited_are_refused_in_a_drain(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	hear_all(holder);
	assert_int_equal(raw_ask(&crowd.raws[holder], 1000, "k"), 0);
	pass_once();
	assert_int_equal(served.kept_count, 1);
	assert_int_equal(peal_reactor_stop(served.reactor, PATIENCE_NS), 0);
	run();
	for (uint32_t i = 0; i < CROWD; i++)
		if (i != holder)
			hear(&crowd.raws[i], PEAL__FRAME_FAILED, crowd.asked[i],
			     -ESHUTDOWN, "");
	assert_int_equal(peal_reply(served.kept[0], "last", 4), 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	hear(&crowd.raws[holder], PEAL__FRAME_ANSWER, 1000, 0, "last");
	close_before_them();
}

/* the server's own processor ---------------------------------------------- */

static cpu_set_t all_cpus;

/* Pinned where it is, and all clients say that they are there as well. */
static bool stay_with_all_clients(uint32_t count)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	CPU_ZERO(&one);
	CPU_SET((size_t)(cpu < 0 ? 0 : cpu), &one);
	if (cpu < 0 || sched_getaffinity(0, sizeof(all_cpus), &all_cpus) != 0 ||
	    sched_setaffinity(0, sizeof(one), &one) != 0)
		return false;
	for (uint32_t i = 0; i < count; i++)
		__atomic_store_n(&crowd.raws[i].connection.segment->word.cpu,
		                 cpu, __ATOMIC_RELAXED);
	return peal__cpu_current() == cpu;
}

/* The turn of the next one has begun, and that of the one before not ended. */
static void begin_overlap(uint32_t count)
{
	if (!stay_with_all_clients(count)) {
		close_turns(count);
		CHECK_SKIP("this process may not be pinned");
	}
	turns()->wake_ticks = 0;
	pass_once();
	turns()->wake_ticks = crowd.for_ever;
}

static void move_on(void)
{
	sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

/* It is woken there before the turn of the one ends that it follows. */
static void turns_overlap_for_one_beside_the_server(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	hear_all(holder);
	begin_overlap(CROWD);
	assert_ptr_equal(turns()->leaving, peer_of(&crowd.raws[holder]));
	assert_int_equal(turns()->holder_count, 2);
	assert_int_equal(yield_of(&crowd.raws[holder]), 0);
	pass_once();
	assert_null(turns()->leaving);
	assert_int_equal(turns()->holder_count, 1);
	assert_int_equal(yield_of(&crowd.raws[holder]), 1);
	move_on();
	close_turns(CROWD);
}

static void one_that_closes_while_it_leaves_is_forgotten(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	begin_overlap(CROWD);
	assert_ptr_equal(turns()->leaving, peer_of(&crowd.raws[holder]));
	assert_int_equal(
		peal_reactor_disconnect(served.reactor,
	                                crowd.raws[holder].connection.self),
		0);
	run_until(&served.closed_count, 1);
	assert_null(turns()->leaving);
	assert_int_equal(turns()->holder_count, 1);
	assert_int_equal(turns()->waiting_count, 1);
	move_on();
	leave_but(holder);
	raw_close(&crowd.raws[holder], false);
	close_reactor();
}

/* There was nobody left to wait, so nobody ended the turn of the one. */
static void turns_that_overlap_end_though_nobody_else_waits(void **state)
{
	struct peal_reactor_options options = usual_options();
	uint32_t holder;

	(void)state;
	open_turns_with(&options, 2);
	holder = begin_turns_of(2);
	hear_all(holder);
	begin_overlap(2);
	assert_int_equal(turns()->holder_count, 2);
	pass_once();
	move_on();
	assert_int_equal(turns()->holder_count, 1);
	assert_int_equal(turns()->waiting_count, 1);
	assert_int_equal(yield_of(&crowd.raws[holder]), 1);
	assert_int_not_equal(holder_among(2), holder);
	close_turns(2);
}

/* sleeping ---------------------------------------------------------------- */

static void server_does_not_sleep_while_a_waiting_one_has_asked(void **state)
{
	uint64_t start_ns;

	(void)state;
	open_turns();
	begin_turns();
	assert_true(peal__reactor_has_work(served.reactor));
	start_ns = now_ns();
	assert_int_equal(peal_reactor_run_once(served.reactor, PATIENCE_NS), 0);
	turns()->wake_ticks = turns()->pause_ticks = 0;
	while (peal__reactor_has_work(served.reactor))
		assert_int_equal(
			peal_reactor_run_once(served.reactor, PATIENCE_NS), 0);
	assert_true(now_ns() - start_ns < PATIENCE_NS);
	/* Everybody has been served: it may sleep. */
	pass_often(5);
	for (uint32_t i = 0; i < CROWD; i++)
		assert_int_equal(hear_all(i), 1);
	assert_false(peal__reactor_has_work(served.reactor));
	assert_int_equal(peal_reactor_run_once(served.reactor, 10 * MS),
	                 -ETIMEDOUT);
	/* And who asks then wakes it, parked or not. */
	for (uint32_t i = 0; i < CROWD; i++) {
		ask(i, 1);
		assert_true(
			peal__reactor_has_work(served.reactor) ||
			peal_ring_has_data(&peer_of(&crowd.raws[i])->slot->rx));
		pass_often(5);
		assert_int_equal(hear_all(i), 1);
	}
	close_turns(CROWD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(those_who_ask_no_more_are_free),
		TEST(last_one_is_freed_when_the_others_close),
		TEST(turn_of_a_holder_that_closes_is_passed_on),
		TEST(one_that_closes_while_it_waits_is_waited_for_no_more),
		TEST(stop_frees_all),
		TEST(requests_of_those_who_waited_are_refused_in_a_drain),
		TEST(turns_overlap_for_one_beside_the_server),
		TEST(one_that_closes_while_it_leaves_is_forgotten),
		TEST(turns_that_overlap_end_though_nobody_else_waits),
		TEST(server_does_not_sleep_while_a_waiting_one_has_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
