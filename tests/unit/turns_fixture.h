/* SPDX-License-Identifier: MIT */
/*
 * Three raw clients and a reactor where one at a time may hold a turn. Time
 * passes when the test says so: every length is for ever until a test makes it
 * nothing.
 *
 *	open_turns()    nobody has asked for anything
 *	begin_turns()   all three have asked much; one holds, and two wait; which
 *	                one it is
 */
#ifndef PEAL_TESTS_UNIT_TURNS_FIXTURE_H
#define PEAL_TESTS_UNIT_TURNS_FIXTURE_H

#include "tests/unit/reactor_fixture.h"

#include "base/cpu.h"
#include "reactor/turns.h"

#define MUCH 8
#define CROWD 3

static struct {
	struct raw_client raws[CROWD];
	uint64_t asked[CROWD], heard[CROWD]; /* also the ids */
	uint64_t for_ever; /* ticks that no test lives to see the end of */
} crowd;

static inline struct peal__turns *turns(void)
{
	return &served.reactor->turns;
}

static inline struct peal__peer *peer_of(const struct raw_client *raw)
{
	return &served.reactor->peers[raw->connection.self.slot_index];
}

static inline uint32_t yield_of(const struct raw_client *raw)
{
	return __atomic_load_n(&raw->connection.segment->answers.yield,
	                       __ATOMIC_RELAXED);
}

static inline void stop_time(void)
{
	crowd.for_ever = peal__ns_to_ticks(3600 * SECOND);
	turns()->holder_max = 1;
	turns()->window_length_ticks = crowd.for_ever;
	turns()->turn_length_ticks = crowd.for_ever;
	turns()->pause_ticks = crowd.for_ever;
	turns()->long_pause_ticks = crowd.for_ever;
	turns()->wake_ticks = crowd.for_ever;
	turns()->leave_ticks = crowd.for_ever;
	/* As if the last answer had just gone. */
	served.reactor->touched_ticks = peal__cpu_ticks();
	turns()->window_ticks = served.reactor->touched_ticks;
}

static inline void open_turns_with(const struct peal_reactor_options *options,
                                   uint32_t count)
{
	memset(&crowd, 0, sizeof(crowd));
	open_reactor(options);
	stop_time();
	for (uint32_t i = 0; i < count; i++)
		connect_raw(&crowd.raws[i], 0);
}

static inline void open_turns(void)
{
	struct peal_reactor_options options = usual_options();

	open_turns_with(&options, CROWD);
}

static inline void ask(uint32_t i, uint32_t count)
{
	while (count-- > 0)
		assert_int_equal(raw_ask(&crowd.raws[i], ++crowd.asked[i], "e"),
		                 0);
}

/* As many answers as there are: all in order. How many there were. */
static inline uint32_t hear_all(uint32_t i)
{
	uint32_t count = 0;

	while (peal_ring_has_data(&crowd.raws[i].responses)) {
		hear(&crowd.raws[i], PEAL__FRAME_ANSWER, ++crowd.heard[i], 0,
		     "e");
		count++;
	}
	return count;
}

/* One pass. */
static inline void pass_once(void)
{
	peal_reactor_run_once(served.reactor, 0);
}

static inline void pass_often(int count)
{
	while (count-- > 0)
		pass_once();
}

/* The next pass begins a window. */
static inline void end_window(void)
{
	turns()->window_ticks = peal__cpu_ticks() - 2 * crowd.for_ever;
}

static inline void ask_much(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		ask(i, MUCH);
		pass_once();
		pass_once();
		assert_int_equal(hear_all(i), MUCH);
	}
}

/* The one who holds, among the first @count. */
static inline uint32_t holder_among(uint32_t count)
{
	uint32_t found = CROWD;

	for (uint32_t i = 0; i < count; i++) {
		if (peer_of(&crowd.raws[i])->part.turn != PEAL__TURN_HOLDING)
			continue;
		assert_int_equal(found, CROWD);
		found = i;
	}
	assert_int_not_equal(found, CROWD);
	return found;
}

static inline uint32_t begin_turns_of(uint32_t count)
{
	end_window();
	pass_once(); /* what was asked before is of another window */
	ask_much(count);
	for (uint32_t i = 0; i < count; i++)
		ask(i, 1);
	end_window();
	pass_once(); /* takes what the one has asked who holds */
	pass_once(); /* sees that it has asked */
	assert_int_equal(turns()->holder_count, 1);
	assert_int_equal(turns()->waiting_count, count - 1);
	return holder_among(count);
}

static inline uint32_t begin_turns(void)
{
	return begin_turns_of(CROWD);
}

static inline void close_turns(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		leave(&crowd.raws[i]);
	close_reactor();
}

/* All wait for their answers, and ask again when they have them; nobody is
 * left out. */
static inline void serve_all(int round_count, int pass_count)
{
	uint64_t least;

	for (int round = 0; round < round_count; round++) {
		pass_often(pass_count);
		assert_true(turns()->holder_count <= 1);
		for (uint32_t i = 0; i < CROWD; i++) {
			hear_all(i);
			if (crowd.heard[i] == crowd.asked[i])
				ask(i, 1);
		}
	}
	least = crowd.heard[0];
	for (uint32_t i = 1; i < CROWD; i++)
		if (crowd.heard[i] < least)
			least = crowd.heard[i];
	assert_true(least > MUCH + (uint64_t)round_count / 20);
	/* Once they ask no more, what they have asked is answered. */
	for (int round = 0; round < 100; round++) {
		pass_once();
		for (uint32_t i = 0; i < CROWD; i++)
			hear_all(i);
	}
	for (uint32_t i = 0; i < CROWD; i++)
		assert_int_equal(crowd.heard[i], crowd.asked[i]);
}

#endif
