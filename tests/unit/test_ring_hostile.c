/* SPDX-License-Identifier: MIT */
/* A ring whose other side writes what it likes. */
#include "tests/unit/dice.h"
#include "tests/unit/ring_fixture.h"

static struct ring ring;

static int open_ring(void **state)
{
	(void)state;
	ring_open(&ring, SMALL_RING, 256);
	return 0;
}

static int close_ring(void **state)
{
	(void)state;
	ring_close(&ring);
	return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_ring, close_ring)

/* a writer that lies ----------------------------------------------------- */

static uint32_t *word_at(uint64_t position)
{
	return (uint32_t *)(ring.data + position % SMALL_RING);
}

/* The reader refuses, twice, and neither takes nor moves anything. */
static void assert_refused(uint32_t word)
{
	struct peal_message message, untouched;
	struct peal_ring_rx before = ring.rx;
	uint64_t released = *ring.released_word;

	memset(&message, 0xa5, sizeof(message));
	untouched = message;
	*word_at(ring.rx.head) = word;
	for (int i = 0; i < 2; i++) {
		assert_true(peal_ring_has_data(&ring.rx));
		if (peal_ring_peek(&ring.rx, &message) != -EPROTO)
			fail_msg("the word 0x%x was taken", word);
	}
	assert_memory_equal(&message, &untouched, sizeof(message));
	assert_memory_equal(&ring.rx, &before, sizeof(before));
	assert_int_equal(*ring.released_word, released);
	*word_at(ring.rx.head) = 0;
}

static void word_shorter_than_a_header_is_eproto(void **state)
{
	(void)state;
	for (uint32_t word = 1; word < PEAL_RING_HEADER_BYTES; word++)
		assert_refused(word);
}

static void word_with_a_reserved_bit_is_eproto(void **state)
{
	(void)state;
	for (int bit = 30; bit < 32; bit++)
		for (uint32_t word = 0; word <= SMALL_RING; word++)
			assert_refused(word | UINT32_C(1) << bit);
	assert_refused(PEAL_RING_LENGTH_MASK + 1);
	assert_refused(UINT32_MAX);
}

static void word_longer_than_the_ring_is_eproto(void **state)
{
	struct peal_message message;

	(void)state;
	/* With the spare bytes, the last 16 of a ring hold no frame. */
	for (uint32_t word = SMALL_RING - 15; word < 2 * SMALL_RING; word++)
		assert_refused(word);
	assert_refused(PEAL_RING_LENGTH_MASK);
	assert_refused(PEAL_RING_LENGTH_MASK - 15);
	*word_at(ring.rx.head) = SMALL_RING - 16;
	assert_int_equal(peal_ring_peek(&ring.rx, &message), 0);
	assert_int_equal(message.data_bytes, SMALL_RING - 32);
}

static void word_longer_than_what_can_be_unread_is_eproto(void **state)
{
	struct peal_message message;

	(void)state;
	assert_int_equal(ring_send(&ring, 1008, 1), 0);
	assert_int_equal(ring_send(&ring, 1008, 2), 0);
	assert_true(ring_peeks(&ring, 1008, 1, &message));
	assert_true(ring_peeks(&ring, 1008, 2, &message));
	/* Two frames of 1024 are held, and 8 bytes are always spare. */
	assert_refused(2048 - 15);
	assert_refused(2048);
	assert_refused(SMALL_RING - 16);
	/* Released but not told is not free yet: the writer does not know. */
	peal_ring_release(&ring.rx, &message);
	assert_refused(2048 - 15);
	peal_ring_tell(&ring.rx);
	*word_at(ring.rx.head) = 2048;
	assert_int_equal(peal_ring_peek(&ring.rx, &message), 0);
}

static void longest_word_that_can_be_right_is_taken(void **state)
{
	struct peal_message message;

	(void)state;
	assert_int_equal(ring_send(&ring, 1008, 1), 0);
	assert_true(ring_peeks(&ring, 1008, 1, &message));
	assert_refused(SMALL_RING - 1024 - 15);
	*word_at(ring.rx.head) = SMALL_RING - 1024 - 16;
	assert_int_equal(peal_ring_peek(&ring.rx, &message), 0);
	assert_int_equal(message.data_bytes, SMALL_RING - 1024 - 32);
}

/*
 * Whatever lies in the memory: a message is in the ring, and all that are held
 * are together no longer than the ring.
 */
static void reader_of_noise_stays_within_the_ring(void **state)
{
	struct dice dice = dice_with(dice_seed());
	uint64_t taken = 0, refused = 0;

	(void)state;
	for (int round = 0; round < 200000; round++) {
		struct peal_message message = {0};
		uint32_t word = (uint32_t)dice_roll(&dice);
		int result;

		/* Half of them are short enough to be taken now and then. */
		*word_at(ring.rx.head) = round % 2 ? word % 600 : word;
		result = peal_ring_peek(&ring.rx, &message);
		if (result == -EAGAIN)
			continue;
		refused += result == -EPROTO;
		if (result == -EPROTO) {
			ring_forget(&ring, ring.rx.head);
			peal_ring_tell(&ring.rx);
			continue;
		}
		taken++;
		assert_int_equal(result, 0);
		assert_true((const uint8_t *)message.data >= ring.data);
		assert_true((const uint8_t *)message.data +
		                    message.data_bytes <=
		            ring.data + 2 * SMALL_RING);
		assert_true(ring.rx.head - ring.rx.released <
		            SMALL_RING - PEAL_RING_SPARE_BYTES + 1);
		if (dice_below(&dice, 4) == 0)
			ring_release(&ring, message.peal__end);
	}
	assert_true(taken > 1000);
	assert_true(refused > 1000);
}

/* a reader that lies ----------------------------------------------------- */

/*
 * Fill the ring, the last message only claimed, and let the reader have read
 * @read of them. Returns how many are published and unread.
 */
static uint64_t fill(uint64_t start, uint64_t read)
{
	uint64_t count = 0;

	ring_restart(&ring, start);
	for (uint64_t id = 0; id < read; id++) {
		assert_int_equal(ring_send(&ring, 240, id), 0);
		assert_true(ring_receives(&ring, 240, id));
	}
	/* The writer has taken note of it all. */
	assert_int_equal(ring_send(&ring, 3840 - 16, 1000), 0);
	assert_true(ring_receives(&ring, 3840 - 16, 1000));
	while (count < 14 && ring_send(&ring, 240, 2000 + count) == 0)
		count++;
	assert_int_equal(ring_claim(&ring, 240, 3000), 0);
	return count;
}

/* The writer must not believe it: nothing may be written over. */
static void assert_not_believed(uint64_t lie)
{
	static uint8_t before[SMALL_RING];

	memcpy(before, ring.data, sizeof(before));
	*ring.released_word = lie;
	for (size_t bytes = 240; bytes < 4064; bytes += 191)
		if (ring_claim(&ring, bytes, 4000) != -EAGAIN)
			fail_msg("the position 0x%llx was believed",
			         (unsigned long long)lie);
	assert_memory_equal(ring.data, before, sizeof(before));
}

static void position_of_a_reader_that_goes_back_is_not_taken(void **state)
{
	static const uint64_t starts[] = {0, 256, NEAR_THE_END - 4096};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(starts); i++) {
		uint64_t truth;

		fill(starts[i], 3);
		truth = *ring.released_word;
		assert_int_equal(ring.tx.released, truth);
		assert_not_believed(truth);
		assert_not_believed(truth - 1);
		assert_not_believed(truth - 16);
		assert_not_believed(truth - SMALL_RING);
		assert_not_believed(truth - UINT64_C(0x100000000));
		assert_not_believed(truth + (UINT64_C(1) << 63));
	}
}

static void position_beyond_what_was_published_is_not_taken(void **state)
{
	static const uint64_t starts[] = {0, 256, NEAR_THE_END - 4096};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(starts); i++) {
		uint64_t count = fill(starts[i], 2);

		assert_int_equal(count, 14);
		/* Into the claim, which nobody can have read, and behind. */
		assert_not_believed(ring.tx.first + 1);
		assert_not_believed(ring.tx.first + 16);
		assert_not_believed(ring.tx.tail);
		assert_not_believed(ring.tx.tail + 1);
		assert_not_believed(ring.tx.tail + SMALL_RING);
		assert_not_believed(ring.tx.first + UINT64_C(0x100000000));
		assert_not_believed(UINT64_MAX - SMALL_RING + ring.tx.tail);
	}
}

static void reader_that_stops_lying_is_believed_again(void **state)
{
	struct peal_message message;

	(void)state;
	fill(256, 1);
	assert_not_believed(ring.tx.tail);
	peal_ring_publish(&ring.tx);
	for (uint64_t id = 2000; id < 2014; id++)
		assert_true(ring_peeks(&ring, 240, id, &message));
	assert_true(ring_peeks(&ring, 240, 3000, &message));
	ring_release(&ring, message.peal__end);
	assert_int_equal(ring_send(&ring, 4064, 1), 0);
	assert_true(ring_receives(&ring, 4064, 1));
}

/*
 * The reader stores anything at any time. What it has not honestly been given
 * stays as it was: claims never reach into the frames that are unread, unless
 * the reader itself has said that it has read them.
 */
static void random_lies_cost_the_liar_alone(void **state)
{
	struct dice dice = dice_with(dice_seed());
	uint64_t sent = 0;

	(void)state;
	for (int round = 0; round < 100000; round++) {
		uint64_t said = ring.tx.released, first = ring.tx.first;
		size_t bytes = (size_t)dice_below(&dice, 600);
		uint64_t lie = dice_roll(&dice);

		if (round % 2)
			lie = first + SMALL_RING - lie % (3 * SMALL_RING);
		*ring.released_word = lie;
		if (ring_claim(&ring, bytes, sent) == 0) {
			sent++;
			if (round % 3)
				peal_ring_publish(&ring.tx);
		}
		assert_true(ring.tx.released == said ||
		            (ring.tx.released == lie &&
		             lie - said <= first - said));
		assert_true(ring.tx.tail - ring.tx.released +
		                    PEAL_RING_SPARE_BYTES <=
		            SMALL_RING);
		if (ring.tx.claim_count > 8)
			peal_ring_publish(&ring.tx);
	}
	assert_true(sent > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(word_shorter_than_a_header_is_eproto),
		TEST(word_with_a_reserved_bit_is_eproto),
		TEST(word_longer_than_the_ring_is_eproto),
		TEST(word_longer_than_what_can_be_unread_is_eproto),
		TEST(longest_word_that_can_be_right_is_taken),
		TEST(reader_of_noise_stays_within_the_ring),
		TEST(position_of_a_reader_that_goes_back_is_not_taken),
		TEST(position_beyond_what_was_published_is_not_taken),
		TEST(reader_that_stops_lying_is_believed_again),
		TEST(random_lies_cost_the_liar_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
