/* SPDX-License-Identifier: MIT */
#include "tests/unit/ring_fixture.h"

static struct ring ring;

static int open_ring(void **state)
{
	(void)state;
	ring_open(&ring, SMALL_RING, 0);
	return 0;
}

static int close_ring(void **state)
{
	(void)state;
	ring_close(&ring);
	return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_ring, close_ring)

/* one message ------------------------------------------------------------ */

static void published_message_is_peeked_as_it_was_written(void **state)
{
	struct peal_message message;

	(void)state;
	memset(&message, 0xee, sizeof(message));
	assert_int_equal(ring_send(&ring, 33, 7), 0);
	assert_true(peal_ring_has_data(&ring.rx));
	assert_true(ring_peeks(&ring, 33, 7, &message));
	assert_int_equal(message.status, 0);
	assert_int_equal((uintptr_t)message.data % 16, 0);
	assert_false(peal_ring_has_data(&ring.rx));
	assert_int_equal(peal_ring_peek(&ring.rx, &message), -EAGAIN);
}

static void claimed_room_is_aligned_whatever_came_before(void **state)
{
	void *data = NULL;

	(void)state;
	for (size_t bytes = 0; bytes < 70; bytes++) {
		assert_int_equal(peal_ring_claim(&ring.tx, bytes, 0, 0, &data),
		                 0);
		assert_int_equal((uintptr_t)data % 16, 0);
		assert_int_equal(peal_ring_publish(&ring.tx), 1);
		assert_int_equal(ring.tx.tail % 16, 0);
		ring_restart(&ring, ring.tx.tail & ~UINT64_C(63));
	}
}

static void message_of_no_bytes_is_a_message(void **state)
{
	(void)state;
	for (uint64_t id = 0; id < 3 * SMALL_RING / 16; id++) {
		assert_int_equal(ring_send(&ring, 0, id), 0);
		assert_true(ring_receives(&ring, 0, id));
	}
	assert_true(ring_is_empty(&ring));
}

static void largest_message_fits_at_every_start(void **state)
{
	size_t largest = peal_ring_message_max(SMALL_RING);

	(void)state;
	for (uint64_t start = 0; start < SMALL_RING; start += 64) {
		ring_restart(&ring, start);
		/* Twice: the second one lies where the first one lay. */
		for (uint64_t id = 1; id <= 2; id++) {
			assert_int_equal(ring_send(&ring, largest, id), 0);
			assert_int_equal(ring_claim(&ring, 0, 9), -EAGAIN);
			assert_true(ring_receives(&ring, largest, id));
		}
		assert_true(ring_is_empty(&ring));
	}
}

static void message_beyond_the_largest_is_emsgsize(void **state)
{
	size_t largest = peal_ring_message_max(SMALL_RING);
	struct peal_ring_tx before = ring.tx;
	void *data = &before;

	(void)state;
	/* Never, so not -EAGAIN, and the sum does not wrap. */
	assert_int_equal(peal_ring_claim(&ring.tx, largest + 1, 0, 0, &data),
	                 -EMSGSIZE);
	assert_int_equal(peal_ring_claim(&ring.tx, SIZE_MAX, 0, 0, &data),
	                 -EMSGSIZE);
	assert_int_equal(peal_ring_claim(&ring.tx, SIZE_MAX - 15, 0, 0, &data),
	                 -EMSGSIZE);
	assert_ptr_equal(data, &before);
	assert_memory_equal(&ring.tx, &before, sizeof(before));
}

static void message_across_the_end_is_in_one_piece(void **state)
{
	struct peal_message message;

	(void)state;
	ring_restart(&ring, SMALL_RING - 64);
	assert_int_equal(ring_send(&ring, 1000, 5), 0);
	assert_true(ring_peeks(&ring, 1000, 5, &message));
	assert_ptr_equal(message.data, ring.data + SMALL_RING - 64 + 16);
	/* It ends at the beginning of the ring, which is the same memory. */
	assert_memory_equal(ring.data + SMALL_RING, ring.data, 952);
}

/* a full ring ------------------------------------------------------------ */

/* Send messages of @bytes until the ring is full: how many there were. */
static uint64_t fill_up(size_t bytes, bool at_once)
{
	uint64_t count = 0;

	while (ring_claim(&ring, bytes, count) == 0) {
		count++;
		if (!at_once)
			peal_ring_publish(&ring.tx);
	}
	if (at_once)
		assert_int_equal(peal_ring_publish(&ring.tx), count);
	return count;
}

/*
 * The commit word after the newest frame is zeroed. Frames of 16, 32, ... 4096
 * bytes fill the ring exactly, and that word is then the oldest frame's own:
 * without the spare bytes all 64 of 64 messages were lost.
 */
static void frames_that_fill_the_ring_exactly_are_all_there(void **state)
{
	(void)state;
	for (int at_once = 0; at_once < 2; at_once++)
		for (size_t frame = 16; frame <= SMALL_RING; frame *= 2) {
			uint64_t count, left = SMALL_RING / frame;
			size_t bytes = frame - PEAL_RING_HEADER_BYTES;

			ring_restart(&ring, 1024);
			count = fill_up(bytes, at_once);
			assert_true(frame == SMALL_RING || count > 0);
			assert_in_range(count, left - 1, left);
			for (uint64_t id = 0; id < count; id++)
				assert_true(ring_receives(&ring, bytes, id));
			assert_true(ring_is_empty(&ring));
		}
}

static void full_ring_holds_all_but_one_header(void **state)
{
	uint64_t id = 0;

	(void)state;
	while (ring_send(&ring, 48, id) == 0)
		id++;
	assert_int_equal(id, SMALL_RING / 64 - 1);
	/* What is left of it takes frames that are small enough. */
	assert_int_equal(ring_send(&ring, 33, 100), -EAGAIN);
	assert_int_equal(ring_send(&ring, 32, 100), 0);
	assert_int_equal(ring_send(&ring, 0, 101), -EAGAIN);
	for (uint64_t i = 0; i < id; i++)
		assert_true(ring_receives(&ring, 48, i));
	assert_true(ring_receives(&ring, 32, 100));
	assert_true(ring_is_empty(&ring));
}

static void claim_on_full_ring_returns_eagain(void **state)
{
	struct peal_ring_tx before;
	void *data = &before;

	(void)state;
	fill_up(100, false);
	before = ring.tx;
	assert_int_equal(peal_ring_claim(&ring.tx, 100, 0, 0, &data), -EAGAIN);
	assert_ptr_equal(data, &before);
	assert_memory_equal(&ring.tx, &before, sizeof(before));
	assert_true(ring_receives(&ring, 100, 0));
	assert_int_equal(peal_ring_claim(&ring.tx, 100, 0, 0, &data), 0);
}

/* positions -------------------------------------------------------------- */

static void positions_wrap_without_anybody_noticing(void **state)
{
	struct peal_message message;

	(void)state;
	for (uint64_t before = 0; before <= 256; before += 64) {
		ring_restart(&ring, UINT64_MAX - 63 - before);
		for (uint64_t id = 0; id < 200; id++) {
			assert_int_equal(ring_send(&ring, id, id), 0);
			assert_true(ring_receives(&ring, id, id));
		}
		assert_true(ring.tx.tail < UINT64_C(1) << 20);
	}
	/* Held on both sides of the wrap, and corrupt beyond it. */
	ring_restart(&ring, NEAR_THE_END);
	fill_up(240, false);
	for (uint64_t id = 0; id < 15; id++)
		assert_true(ring_peeks(&ring, 240, id, &message));
	assert_int_equal(ring_claim(&ring, 240, 1), -EAGAIN);
	ring_release(&ring, message.peal__end);
	assert_int_equal(ring.rx.released, ring.tx.tail);
	ring_restart(&ring, NEAR_THE_END);
	*(uint32_t *)(ring.data + SMALL_RING - 128) = SMALL_RING;
	assert_int_equal(peal_ring_peek(&ring.rx, &message), -EPROTO);
}

static void full_ring_stays_full_across_the_wrap(void **state)
{
	(void)state;
	ring_restart(&ring, NEAR_THE_END);
	assert_int_equal(fill_up(48, true), 63);
	for (uint64_t id = 0; id < 63; id++) {
		assert_true(ring_receives(&ring, 48, id));
		/* Room for one came back, and no more. */
		assert_int_equal(ring_send(&ring, 48, 63 + id), 0);
		assert_int_equal(ring_send(&ring, 48, 0), -EAGAIN);
	}
}

/* release ---------------------------------------------------------------- */

static void release_of_the_last_one_frees_those_before_it(void **state)
{
	struct peal_message messages[3];

	(void)state;
	for (uint64_t id = 0; id < 3; id++)
		assert_int_equal(ring_send(&ring, 1000, id), 0);
	for (uint64_t id = 0; id < 3; id++)
		assert_true(ring_peeks(&ring, 1000, id, &messages[id]));
	assert_int_equal(ring_send(&ring, 4000, 9), -EAGAIN);
	ring_release(&ring, messages[2].peal__end);
	assert_int_equal(ring_send(&ring, 4000, 9), 0);
	assert_true(ring_receives(&ring, 4000, 9));
}

static void release_of_the_first_one_frees_it_alone(void **state)
{
	struct peal_message messages[3];

	(void)state;
	for (uint64_t id = 0; id < 3; id++)
		assert_int_equal(ring_send(&ring, 1200, id), 0);
	for (uint64_t id = 0; id < 3; id++)
		assert_true(ring_peeks(&ring, 1200, id, &messages[id]));
	ring_release(&ring, messages[0].peal__end);
	assert_int_equal(*ring.released_word, messages[0].peal__end);
	assert_int_equal(ring_send(&ring, 1800, 9), -EAGAIN);
	assert_int_equal(ring_send(&ring, 1200, 9), 0);
	/* The two that are held are as they were. */
	assert_true(ring_is_filled(messages[1].data, 1200, 1));
	assert_true(ring_is_filled(messages[2].data, 1200, 2));
	/* Back is no way to go. */
	ring_release(&ring, messages[2].peal__end);
	ring_release(&ring, messages[1].peal__end);
	assert_int_equal(*ring.released_word, messages[2].peal__end);
}

static void release_of_what_was_not_peeked_changes_nothing(void **state)
{
	struct peal_message message;
	struct peal_ring_rx before;

	(void)state;
	ring_restart(&ring, 640);
	assert_int_equal(ring_send(&ring, 48, 1), 0);
	assert_int_equal(ring_send(&ring, 48, 2), 0);
	assert_true(ring_peeks(&ring, 48, 1, &message));
	before = ring.rx;
	ring_forget(&ring, message.peal__end + 64);
	ring_forget(&ring, 640 - 16);
	ring_forget(&ring, 0);
	ring_forget(&ring, UINT64_MAX);
	ring_forget(&ring, 640 + SMALL_RING);
	assert_memory_equal(&ring.rx, &before, sizeof(before));
	peal_ring_release(&ring.rx, &message);
	assert_int_equal(ring.rx.released, 704);
}

static void writer_learns_of_a_release_when_it_is_told(void **state)
{
	struct peal_message message;

	(void)state;
	for (int settles = 0; settles < 2; settles++) {
		ring_restart(&ring, 0);
		fill_up(100, true);
		assert_true(ring_peeks(&ring, 100, 0, &message));
		peal_ring_release(&ring.rx, &message);
		assert_int_equal(*ring.released_word, 0);
		assert_int_equal(ring_claim(&ring, 100, 0), -EAGAIN);
		if (settles)
			peal_ring_settle(&ring.rx);
		else
			peal_ring_tell(&ring.rx);
		assert_int_equal(*ring.released_word, message.peal__end);
		assert_int_equal(ring.rx.told, message.peal__end);
		assert_int_equal(ring_claim(&ring, 100, 0), 0);
	}
}

static void has_data_changes_nothing(void **state)
{
	struct peal_ring_rx before = ring.rx;
	static uint8_t memory[SMALL_RING];

	(void)state;
	for (int round = 0; round < 2; round++) {
		memcpy(memory, ring.data, sizeof(memory));
		for (int i = 0; i < 100; i++)
			assert_int_equal(peal_ring_has_data(&ring.rx), round);
		assert_memory_equal(&ring.rx, &before, sizeof(before));
		assert_memory_equal(ring.data, memory, sizeof(memory));
		assert_int_equal(*ring.released_word, 0);
		assert_int_equal(ring_send(&ring, 3, 3), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(published_message_is_peeked_as_it_was_written),
		TEST(claimed_room_is_aligned_whatever_came_before),
		TEST(message_of_no_bytes_is_a_message),
		TEST(largest_message_fits_at_every_start),
		TEST(message_beyond_the_largest_is_emsgsize),
		TEST(message_across_the_end_is_in_one_piece),
		TEST(frames_that_fill_the_ring_exactly_are_all_there),
		TEST(full_ring_holds_all_but_one_header),
		TEST(claim_on_full_ring_returns_eagain),
		TEST(positions_wrap_without_anybody_noticing),
		TEST(full_ring_stays_full_across_the_wrap),
		TEST(release_of_the_last_one_frees_those_before_it),
		TEST(release_of_the_first_one_frees_it_alone),
		TEST(release_of_what_was_not_peeked_changes_nothing),
		TEST(writer_learns_of_a_release_when_it_is_told),
		TEST(has_data_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
