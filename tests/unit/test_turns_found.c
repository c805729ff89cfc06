/* SPDX-License-Identifier: MIT */
/* What turns were found to do wrong, each named after it. */
#include "tests/unit/turns_fixture.h"

/* As the library's own client: asleep, and armed so. */
static void arm(struct raw_client *raw, uint64_t epoch)
{
	__atomic_store_n(&raw->connection.segment->answers.arm,
	                 epoch == 0 ? 0 : epoch << 2 | PEAL_DOORBELL_FUTEX,
	                 __ATOMIC_SEQ_CST);
}

/* Awake and rung before, it was taken for asleep, and spun on. */
static void
one_that_has_slept_before_is_told_that_its_turn_is_over(void **state)
{
	const uint32_t *seq;
	uint32_t holder, before;

	(void)state;
	open_turns();
	holder = begin_turns();
	seq = &crowd.raws[holder].connection.segment->answers.seq;
	before = *seq;
	hear_all(holder);
	arm(&crowd.raws[holder], 1);
	ask(holder, 1);
	pass_once();
	pass_once();
	assert_int_equal(*seq, before + 1); /* woken by its answer */
	arm(&crowd.raws[holder], 0);
	turns()->pause_ticks = 0;
	pass_once();
	assert_int_not_equal(holder_among(CROWD), holder);
	assert_int_equal(*seq, before + 2);
	close_turns(CROWD);
}

static void
one_that_sleeps_is_not_woken_to_hear_that_its_turn_is_over(void **state)
{
	const uint32_t *seq;
	uint32_t holder, before;

	(void)state;
	open_turns();
	holder = begin_turns();
	seq = &crowd.raws[holder].connection.segment->answers.seq;
	hear_all(holder);
	before = *seq;
	arm(&crowd.raws[holder], 1);
	turns()->wake_ticks = 0;
	pass_once();
	assert_int_not_equal(holder_among(CROWD), holder);
	assert_int_equal(*seq, before);
	/* And its answer wakes it, in its next turn. */
	ask(holder, 1);
	for (int i = 0; i < 10 && *seq == before; i++)
		pass_once();
	assert_int_equal(*seq, before + 1);
	close_turns(CROWD);
}

/* Requests that may not be taken kept the server awake, and had turns. */
static void one_that_does_not_read_is_no_work(void **state)
{
	static char text[1000] = "e";
	struct peal_reactor_stats stats;
	uint64_t id = 1000;

	(void)state;
	memset(text + 1, 'x', sizeof(text) - 2);
	open_turns();
	begin_turns();
	turns()->wake_ticks = turns()->pause_ticks = 0;
	turns()->long_pause_ticks = turns()->turn_length_ticks = 0;
	for (int round = 0; round < 100; round++) {
		for (uint32_t i = 0; i < CROWD; i++)
			while (raw_ask(&crowd.raws[i], ++id, text) == 0)
				;
		pass_once();
	}
	assert_int_equal(served.reactor->queued_count, CROWD);
	for (uint32_t i = 0; i < CROWD; i++)
		assert_true(
			peal_ring_has_data(&peer_of(&crowd.raws[i])->slot->rx));
	assert_false(peal__reactor_has_work(served.reactor));
	assert_int_equal(peal_reactor_run_once(served.reactor, 10 * MS),
	                 -ETIMEDOUT);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_true(stats.parked_count >= CROWD);
	close_turns(CROWD);
}

static void nothing_is_work_at_the_cap_of_all(void **state)
{
	struct peal_reactor_options options = usual_options();
	uint32_t holder;

	(void)state;
	options.in_flight_max = 1;
	open_turns_with(&options, CROWD);
	holder = begin_turns();
	assert_true(peal__reactor_has_work(served.reactor));
	assert_int_equal(raw_ask(&crowd.raws[holder], 1000, "k"), 0);
	pass_once();
	assert_int_equal(served.kept_count, 1);
	assert_false(peal__reactor_has_work(served.reactor));
	assert_int_equal(peal_reactor_run_once(served.reactor, 10 * MS),
	                 -ETIMEDOUT);
	assert_int_equal(peal_reply(served.kept[0], "e", 1), 0);
	turns()->wake_ticks = turns()->pause_ticks = 0;
	pass_often(10);
	for (uint32_t i = 0; i < CROWD; i++)
		if (i != holder)
			assert_int_equal(hear_all(i), 1);
	close_turns(CROWD);
}

/* That its queue is full was not counted if it happened to wait. */
static void parking_is_counted_in_turns_as_ever(void **state)
{
	struct peal_reactor_stats stats;
	struct peal_peer waiting;
	static char news[3000];
	uint32_t holder;

	(void)state;
	open_turns();
	holder = begin_turns();
	waiting = crowd.raws[(holder + 1) % CROWD].connection.self;
	assert_int_equal(peal_reactor_push(served.reactor, waiting, news,
	                                   sizeof(news)),
	                 0);
	assert_int_equal(peal_reactor_push(served.reactor, waiting, news,
	                                   sizeof(news)),
	                 0);
	assert_int_equal(served.reactor->queued_count, 1);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.parked_count, 1);
	close_turns(CROWD);
}

/* What it asked in turns, or over a long time, was taken for one window's. */
static void one_that_was_freed_and_asks_little_stays_free(void **state)
{
	(void)state;
	open_turns();
	begin_turns();
	turns()->turn_length_ticks = 0;
	serve_all(300, 1);
	/* As if they had been silent for long. */
	for (uint32_t i = 0; i < CROWD; i++)
		peer_of(&crowd.raws[i])->part.asked_ticks =
			peal__cpu_ticks() - 2 * crowd.for_ever;
	end_window();
	pass_once();
	assert_int_equal(turns()->holder_count + turns()->waiting_count, 0);
	for (uint32_t i = 0; i < CROWD; i++) {
		hear_all(i);
		ask(i, 2);
	}
	pass_once();
	end_window();
	pass_once();
	assert_int_equal(turns()->holder_count + turns()->waiting_count, 0);
	close_turns(CROWD);
}

static void one_that_asks_much_in_a_long_time_asks_little(void **state)
{
	(void)state;
	open_turns();
	turns()->leave_ticks = 0;
	end_window();
	pass_once();
	for (uint32_t i = 0; i < CROWD; i++)
		ask(i, MUCH);
	pass_once();
	served.reactor->touched_ticks = peal__cpu_ticks();
	end_window();
	pass_once();
	assert_int_equal(turns()->holder_count + turns()->waiting_count, 0);
	close_turns(CROWD);
}

/* Waiting for a turn it was closed, and what it had told was dropped. */
static void one_that_has_gone_waits_for_no_turn(void **state)
{
	struct raw_client *gone = &crowd.raws[CROWD - 1];
	const struct peal__peer *peer;
	uint32_t told = 0;

	(void)state;
	open_turns();
	peer = peer_of(gone);
	end_window();
	pass_once();
	ask_much(CROWD - 1);
	while (raw_say(gone, &gone->requests, PEAL__FRAME_ONE_WAY, 0, "z", 1) ==
	       0)
		told++;
	assert_true(told > 3 * MUCH);
	raw_close(gone, true);
	await_word(&peer->slot->state, PEAL__SLOT_HUNG_UP);
	/* A few in each pass. */
	served.reactor->take_ticks = 0;
	while (peer->received_count < MUCH)
		pass_once();
	assert_true(peal__peer_is_going(peer));
	end_window();
	pass_once();
	assert_int_equal(turns()->holder_count + turns()->waiting_count,
	                 CROWD - 1);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.handled_count, (CROWD - 1) * MUCH + told);
	close_turns(CROWD - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_that_has_slept_before_is_told_that_its_turn_is_over),
		TEST(one_that_sleeps_is_not_woken_to_hear_that_its_turn_is_over),
		TEST(one_that_does_not_read_is_no_work),
		TEST(nothing_is_work_at_the_cap_of_all),
		TEST(parking_is_counted_in_turns_as_ever),
		TEST(one_that_was_freed_and_asks_little_stays_free),
		TEST(one_that_asks_much_in_a_long_time_asks_little),
		TEST(one_that_has_gone_waits_for_no_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
