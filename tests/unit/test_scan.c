/* SPDX-License-Identifier: MIT */
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

#include "mpsc/server.h"
#include "tests/unit/dice.h"

#define SLOTS 64
#define PASSES_TO_GROW_COLD 64
#define COLD_SHARE 8

/* Rings of which only the first commit word matters. */
static _Alignas(64) uint8_t rings[SLOTS][64];
static struct peal__slot slots[SLOTS];
static struct peal__scan scan;

static int open_scan(void **state)
{
	(void)state;
	memset(rings, 0, sizeof(rings));
	memset(slots, 0, sizeof(slots));
	for (uint32_t i = 0; i < SLOTS; i++) {
		slots[i].peer.slot_index = i;
		slots[i].rx.data = rings[i];
		slots[i].rx.capacity_bytes = 64;
	}
	return peal__scan_open(&scan, SLOTS);
}

static int close_scan(void **state)
{
	(void)state;
	peal__scan_close(&scan);
	return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_scan, close_scan)

static void set_message(uint32_t slot_index, uint32_t there)
{
	memcpy(rings[slot_index], &there, sizeof(there));
}

static void add(uint32_t first, uint32_t count)
{
	for (uint32_t i = first; i < first + count; i++)
		peal__scan_add(&scan, &slots[i]);
}

/* Whose turn it is; -1 when nothing was found. */
static int next(void)
{
	uint32_t slot_index = peal__scan_next(&scan);

	return slot_index == UINT32_MAX ? -1 : (int)slot_index;
}

/* Let all but the slots with a message grow cold; these are left empty. */
static void grow_cold(uint32_t busy)
{
	set_message(busy, 1);
	for (int i = 0; i < 4 * PASSES_TO_GROW_COLD; i++)
		next();
	set_message(busy, 0);
}

/* whose turn ------------------------------------------------------------- */

static void scan_of_nothing_finds_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(next(), -1);
		assert_false(peal__scan_poll(&scan));
		assert_false(peal__scan_has_data(&scan, UINT32_MAX));
	}
	add(0, 5);
	for (int i = 0; i < 10 * PASSES_TO_GROW_COLD; i++) {
		assert_int_equal(next(), -1);
		assert_false(peal__scan_poll(&scan));
	}
	assert_false(peal__scan_has_data(&scan, UINT32_MAX));
}

static void new_ring_is_hot(void **state)
{
	(void)state;
	add(0, 3);
	assert_int_equal(scan.hot_count, 3);
	grow_cold(1);
	assert_int_equal(scan.hot_count, 1);
	add(3, 1);
	assert_int_equal(scan.hot_count, 2);
	assert_int_equal(scan.entries[1].slot_index, 3);
}

static void busy_rings_take_turns(void **state)
{
	int turns[6] = {0}, order[6];

	(void)state;
	add(0, 6);
	for (uint32_t i = 0; i < 6; i++)
		set_message(i, 1);
	for (int i = 0; i < 6; i++)
		order[i] = next();
	for (int i = 0; i < 600; i++) {
		int slot_index = next();

		assert_int_equal(slot_index, order[i % 6]);
		turns[slot_index]++;
	}
	for (int i = 0; i < 6; i++)
		assert_int_equal(turns[i], 100);
}

static void ring_without_a_message_loses_no_turn_of_the_others(void **state)
{
	int turns[4] = {0};

	(void)state;
	add(0, 4);
	set_message(1, 1);
	set_message(3, 1);
	for (int i = 0; i < 40; i++)
		turns[next()]++;
	assert_int_equal(turns[1], 20);
	assert_int_equal(turns[3], 20);
	/* One that speaks up is heard within one round. */
	set_message(0, 1);
	assert_true(next() == 0 || next() == 0 || next() == 0);
}

/* hot and cold ----------------------------------------------------------- */

static void idle_ring_grows_cold_and_a_message_makes_it_hot(void **state)
{
	(void)state;
	add(0, 3);
	set_message(0, 1);
	for (int i = 0; i < PASSES_TO_GROW_COLD - 1; i++)
		assert_int_equal(next(), 0);
	assert_int_equal(scan.hot_count, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(next(), 0);
	assert_int_equal(scan.hot_count, 1);
	set_message(2, 1);
	assert_true(next() == 2 || next() == 2);
	assert_int_equal(scan.hot_count, 2);
	/* And stays so for as many passes again. */
	set_message(2, 0);
	for (int i = 0; i < PASSES_TO_GROW_COLD - 1; i++)
		next();
	assert_int_equal(scan.hot_count, 2);
}

static void only_ring_never_grows_cold(void **state)
{
	(void)state;
	add(5, 1);
	for (int i = 0; i < 4 * PASSES_TO_GROW_COLD; i++)
		assert_int_equal(next(), -1);
	assert_int_equal(scan.hot_count, 1);
	set_message(5, 1);
	assert_int_equal(next(), 5);
}

/* All of them have their first message found while one is busy all the time:
 * eight of them are looked at in each pass. */
static void busy_ring_does_not_starve_the_cold_ones(void **state)
{
	const uint32_t passes = (SLOTS - 1 + COLD_SHARE - 1) / COLD_SHARE;

	(void)state;
	for (uint32_t cold = 1; cold < SLOTS; cold++) {
		bool found = false;

		close_scan(state);
		open_scan(state);
		add(0, SLOTS);
		grow_cold(0);
		assert_int_equal(scan.hot_count, 1);
		set_message(0, 1);
		set_message(cold, 1);
		/* Each pass gives the busy one a turn, and one to what it
		 * finds. */
		for (uint32_t i = 0; i < passes + 1 && !found; i++)
			found = next() == (int)cold;
		assert_true(found);
	}
}

static void many_cold_rings_that_wake_up_are_all_served(void **state)
{
	int turns[SLOTS] = {0};

	(void)state;
	add(0, SLOTS);
	grow_cold(0);
	for (uint32_t i = 0; i < SLOTS; i++)
		set_message(i, 1);
	/* Each turn of theirs comes after a pass over the hot ones, which
	 * become more and more. */
	for (int i = 0; i < SLOTS * SLOTS; i++)
		turns[next()]++;
	for (int i = 0; i < SLOTS; i++)
		assert_true(turns[i] > 0);
	assert_int_equal(scan.hot_count, SLOTS);
}

static void quiet_pass_looks_at_a_share_of_the_cold_ones(void **state)
{
	uint32_t looked, cold_count;

	(void)state;
	add(0, SLOTS);
	grow_cold(0);
	cold_count = scan.count - scan.hot_count;
	/* At the beginning of a pass, whose end is where the cold ones are. */
	scan.hot_next = 0;
	scan.cold_next = 0;
	assert_int_equal(next(), -1);
	looked = scan.cold_next;
	assert_int_equal(looked, COLD_SHARE);
	/* The pass that has looked at all of them begins again. */
	for (uint32_t i = COLD_SHARE; i < cold_count; i += COLD_SHARE)
		assert_int_equal(next(), -1);
	assert_true(scan.cold_next <= cold_count);
}

/* looking without taking ------------------------------------------------- */

static void poll_looks_at_the_hot_ones_and_one_cold_one(void **state)
{
	(void)state;
	add(0, 20);
	grow_cold(0);
	scan.cold_next = 0;
	for (uint32_t i = 1; i < 19; i++) {
		assert_false(peal__scan_poll(&scan));
		assert_int_equal(scan.cold_next, i);
	}
	set_message(0, 1);
	assert_true(peal__scan_poll(&scan));
	assert_int_equal(scan.cold_next, 18);
}

static void poll_leaves_its_place_at_what_it_has_found(void **state)
{
	uint32_t found;

	(void)state;
	add(0, 20);
	grow_cold(0);
	scan.cold_next = 0;
	found = scan.entries[scan.hot_count + 11].slot_index;
	set_message(found, 1);
	for (int i = 0; i < 11; i++)
		assert_false(peal__scan_poll(&scan));
	for (int i = 0; i < 5; i++)
		assert_true(peal__scan_poll(&scan));
	assert_int_equal(scan.cold_next, 11);
	/* Whoever comes to take it finds it at once. */
	assert_int_equal(next(), found);
}

static void poll_moves_its_place_among_the_cold_and_nothing_else(void **state)
{
	static struct peal__scan_entry entries[SLOTS];
	struct peal__scan before;

	(void)state;
	add(0, 20);
	grow_cold(3);
	before = scan;
	memcpy(entries, scan.entries, sizeof(entries));
	for (int i = 0; i < 100; i++)
		peal__scan_poll(&scan);
	before.cold_next = scan.cold_next;
	assert_memory_equal(&scan, &before, sizeof(scan));
	assert_memory_equal(scan.entries, entries, sizeof(entries));
}

static void has_data_finds_every_ring_and_changes_nothing(void **state)
{
	static struct peal__scan_entry entries[SLOTS];
	struct peal__scan before;

	(void)state;
	add(0, SLOTS);
	grow_cold(7);
	before = scan;
	memcpy(entries, scan.entries, sizeof(entries));
	for (uint32_t i = 0; i < SLOTS; i++) {
		set_message(i, 1);
		assert_true(peal__scan_has_data(&scan, UINT32_MAX));
		set_message(i, 0);
		assert_false(peal__scan_has_data(&scan, UINT32_MAX));
	}
	assert_memory_equal(&scan, &before, sizeof(scan));
	assert_memory_equal(scan.entries, entries, sizeof(entries));
}

/* coming and going ------------------------------------------------------- */

/* The next message of a ring is elsewhere once one was peeked. */
static void scan_looks_where_the_next_message_will_be(void **state)
{
	(void)state;
	add(0, 4);
	set_message(2, 1);
	slots[2].rx.head = 32;
	peal__scan_moved(&scan, &slots[2]);
	assert_false(peal__scan_has_data(&scan, UINT32_MAX));
	assert_int_equal(next(), -1);
	rings[2][32] = 1;
	assert_true(peal__scan_has_data(&scan, UINT32_MAX));
	assert_int_equal(next(), 2);
	/* And at its beginning again, when it has come round. */
	rings[2][32] = 0;
	slots[2].rx.head = 128;
	peal__scan_moved(&scan, &slots[2]);
	assert_int_equal(next(), 2);
}

/* Each slot that was added has one entry, with its own word. */
static void assert_right(const bool *in)
{
	bool seen[SLOTS] = {false};
	uint32_t count = 0;

	for (uint32_t i = 0; i < SLOTS; i++)
		count += in[i];
	assert_int_equal(scan.count, count);
	assert_true(scan.hot_count <= scan.count);
	for (uint32_t i = 0; i < scan.count; i++) {
		uint32_t slot_index = scan.entries[i].slot_index;

		assert_true(slot_index < SLOTS);
		assert_true(in[slot_index]);
		assert_false(seen[slot_index]);
		seen[slot_index] = true;
		assert_ptr_equal(scan.entries[i].commit, rings[slot_index]);
		assert_int_equal(scan.places[slot_index], i);
	}
}

/* What has a message is found within so many looks, wherever it stands. */
static void assert_found(uint32_t slot_index)
{
	bool found = false;

	for (int i = 0; i < 2 * SLOTS && !found; i++)
		found = next() == (int)slot_index;
	assert_true(found);
}

static void entries_are_right_whoever_comes_and_goes(void **state)
{
	struct dice dice = dice_with(dice_seed());
	bool in[SLOTS] = {false};

	(void)state;
	for (int round = 0; round < 50000; round++) {
		uint32_t i = (uint32_t)dice_below(&dice, SLOTS);

		switch (dice_below(&dice, 8)) {
		case 0:
			if (!in[i])
				peal__scan_add(&scan, &slots[i]);
			in[i] = true;
			break;
		case 1:
			if (in[i])
				peal__scan_remove(&scan, i);
			in[i] = false;
			break;
		case 2:
			set_message(i, dice_below(&dice, 3) == 0);
			break;
		case 3:
			peal__scan_poll(&scan);
			break;
		default:
			next();
		}
		assert_right(in);
		if (round % 64 == 0 && in[i]) {
			memset(rings, 0, sizeof(rings));
			set_message(i, 1);
			assert_found(i);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(scan_of_nothing_finds_nothing),
		TEST(new_ring_is_hot),
		TEST(busy_rings_take_turns),
		TEST(ring_without_a_message_loses_no_turn_of_the_others),
		TEST(idle_ring_grows_cold_and_a_message_makes_it_hot),
		TEST(only_ring_never_grows_cold),
		TEST(busy_ring_does_not_starve_the_cold_ones),
		TEST(many_cold_rings_that_wake_up_are_all_served),
		TEST(quiet_pass_looks_at_a_share_of_the_cold_ones),
		TEST(poll_looks_at_the_hot_ones_and_one_cold_one),
		TEST(poll_leaves_its_place_at_what_it_has_found),
		TEST(poll_moves_its_place_among_the_cold_and_nothing_else),
		TEST(has_data_finds_every_ring_and_changes_nothing),
		TEST(scan_looks_where_the_next_message_will_be),
		TEST(entries_are_right_whoever_comes_and_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
