/* SPDX-License-Identifier: MIT */
/*
 * Turns: who holds one, who waits, and what ends it.
 */
#include "tests/unit/turns_fixture.h"

#include <sched.h>

/* who holds, who waits ---------------------------------------------------- */

static void one_that_asks_much_holds_and_the_others_wait(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	for (uint32_t i = 0; i < CROWD; i++) {
		const struct peal__peer *peer = peer_of(&crowd.raws[i]);

		assert_int_equal(yield_of(&crowd.raws[i]), i != holder);
		assert_int_equal(peer->parked,
		                 i == holder ? 0 : PEAL__PARKED_TURN);
		assert_int_equal(peer->slot->parked, i != holder);
		assert_int_equal(hear_all(i), i == holder);
	}
	/* As long as its turn lasts, however much the others ask. */
	for (int round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < CROWD; i++)
			ask(i, 1);
		pass_once();
		assert_int_equal(holder_among(CROWD), holder);
		for (uint32_t i = 0; i < CROWD; i++)
			assert_int_equal(hear_all(i), i == holder);
	}
	close_turns(CROWD);
}

static void clients_that_ask_little_have_no_turns(void **state)
{
	(void)state;
	open_turns();
	end_window();
	pass_once();
	for (int window = 0; window < 20; window++) {
		for (uint32_t i = 0; i < CROWD; i++)
			ask(i, MUCH - 1);
		pass_once();
		end_window();
		pass_once();
		for (uint32_t i = 0; i < CROWD; i++) {
			assert_int_equal(hear_all(i), MUCH - 1);
			assert_int_equal(yield_of(&crowd.raws[i]), 0);
		}
	}
	assert_int_equal(turns()->holder_count + turns()->waiting_count, 0);
	close_turns(CROWD);
}

static void as_many_as_may_hold_have_no_turns(void **state)
{
	(void)state;
	open_turns();
	turns()->holder_max = 2;
	end_window();
	pass_once();
	ask_much(2); /* of three that are connected */
	end_window();
	pass_once();
	assert_int_equal(turns()->holder_count + turns()->waiting_count, 0);
	/* One more, and there are. */
	ask_much(CROWD);
	for (uint32_t i = 0; i < CROWD; i++)
		ask(i, 1);
	end_window();
	pass_once();
	pass_once();
	assert_int_equal(turns()->holder_count, 2);
	assert_int_equal(turns()->waiting_count, 1);
	close_turns(CROWD);
}

static void client_that_asks_little_is_served_at_once_in_turns(void **state)
{
	struct raw_client calm;

	(void)state;
	open_turns();
	connect_raw(&calm, 0);
	begin_turns();
	for (uint64_t id = 1; id <= 20; id++) {
		assert_int_equal(raw_ask(&calm, id, "e"), 0);
		pass_once();
		hear(&calm, PEAL__FRAME_ANSWER, id, 0, "e");
		assert_int_equal(yield_of(&calm), 0);
		if (id % 4 == 0)
			end_window();
	}
	assert_int_equal(peer_of(&calm)->part.turn, PEAL__TURN_FREE);
	assert_int_equal(turns()->waiting_count, CROWD - 1);
	leave(&calm);
	close_turns(CROWD);
}

static void server_that_never_spins_has_no_turns(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	options.spin_mode = PEAL_SPIN_NEVER;
	open_reactor(&options);
	assert_int_equal(turns()->holder_max, 0);
	assert_false(peal__turns_are_possible(served.reactor));
	close_reactor();
	options.spin_mode = PEAL_SPIN_ADAPTIVE;
	open_reactor(&options);
	assert_int_equal(turns()->holder_max, peal__cpu_online_count() - 1);
	close_reactor();
}

static void turns_are_not_counted_as_parking(void **state)
{
	struct peal_reactor_stats stats;

	(void)state;
	open_turns();
	begin_turns();
	turns()->turn_length_ticks = 0;
	for (int round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < CROWD; i++) {
			hear_all(i);
			ask(i, 1);
		}
		pass_once();
	}
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.parked_count, 0);
	close_turns(CROWD);
}

/* what ends a turn -------------------------------------------------------- */

static void turn_is_over_when_its_time_is(void **state)
{
	(void)state;
	open_turns();
	begin_turns();
	turns()->turn_length_ticks = 0;
	serve_all(300, 1);
	close_turns(CROWD);
}

static void turn_is_over_after_a_pause(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	pass_once();
	pass_once();
	assert_int_equal(holder_among(CROWD), holder);
	turns()->wake_ticks = turns()->pause_ticks = 0;
	pass_once();
	assert_int_not_equal(holder_among(CROWD), holder);
	assert_int_equal(yield_of(&crowd.raws[holder]), 1);
	assert_int_equal(yield_of(&crowd.raws[holder_among(CROWD)]), 0);
	turns()->long_pause_ticks = 0;
	for (uint32_t i = 0; i < CROWD; i++)
		hear_all(i);
	serve_all(300, 4);
	close_turns(CROWD);
}

/* The first answer of a turn has to wake its client. */
static void
turn_of_a_client_that_wakes_up_is_not_over_after_a_pause(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	turns()->pause_ticks = 0;
	pass_often(5);
	assert_int_equal(holder_among(CROWD), holder);
	ask(holder, 1);
	pass_once(); /* takes it */
	pass_once(); /* sees that it was the second */
	assert_int_equal(holder_among(CROWD), holder);
	pass_once();
	assert_int_not_equal(holder_among(CROWD), holder);
	close_turns(CROWD);
}

static void turn_of_one_that_has_asked_often_outlasts_a_pause(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	turns()->pause_ticks = 0;
	for (int i = 0; i < 30; i++) {
		ask(holder, 1);
		pass_once();
		hear_all(holder);
	}
	pass_often(5);
	assert_int_equal(holder_among(CROWD), holder);
	turns()->long_pause_ticks = 0;
	pass_once();
	assert_int_not_equal(holder_among(CROWD), holder);
	close_turns(CROWD);
}

static void turn_is_not_over_while_nobody_else_has_asked(void **state)
{
	uint32_t holder;

	(void)state;
	open_turns();
	begin_turns();
	turns()->turn_length_ticks = turns()->wake_ticks = 0;
	turns()->pause_ticks = turns()->long_pause_ticks = 0;
	pass_often(20);
	for (uint32_t i = 0; i < CROWD; i++)
		hear_all(i);
	for (uint32_t i = 0; i < CROWD; i++)
		assert_int_equal(crowd.heard[i], crowd.asked[i]);
	holder = holder_among(CROWD);
	for (int i = 0; i < 20; i++) {
		ask(holder, 1);
		pass_once();
		assert_int_equal(hear_all(holder), 1);
		assert_int_equal(holder_among(CROWD), holder);
	}
	close_turns(CROWD);
}

/* What it has just asked waits for its next turn. */
static void answer_is_for_the_next_turn_of_one_whose_turn_is_over(void **state)
{
	uint32_t first, second;

	(void)state;
	open_turns();
	first = begin_turns();
	hear_all(first);
	ask(first, 1);
	turns()->wake_ticks = 0;
	pass_once();
	turns()->wake_ticks = crowd.for_ever;
	second = holder_among(CROWD);
	assert_int_not_equal(first, second);
	assert_int_equal(hear_all(first), 0);
	assert_int_equal(hear_all(second), 1);
	turns()->wake_ticks = 0;
	pass_often(5);
	assert_int_equal(hear_all(first), 1);
	close_turns(CROWD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_that_asks_much_holds_and_the_others_wait),
		TEST(clients_that_ask_little_have_no_turns),
		TEST(as_many_as_may_hold_have_no_turns),
		TEST(client_that_asks_little_is_served_at_once_in_turns),
		TEST(server_that_never_spins_has_no_turns),
		TEST(turns_are_not_counted_as_parking),
		TEST(turn_is_over_when_its_time_is),
		TEST(turn_is_over_after_a_pause),
		TEST(turn_of_a_client_that_wakes_up_is_not_over_after_a_pause),
		TEST(turn_of_one_that_has_asked_often_outlasts_a_pause),
		TEST(turn_is_not_over_while_nobody_else_has_asked),
		TEST(answer_is_for_the_next_turn_of_one_whose_turn_is_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
