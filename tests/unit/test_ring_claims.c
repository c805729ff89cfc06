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

/* batches ---------------------------------------------------------------- */

static void nothing_is_visible_before_publish(void **state)
{
	(void)state;
	for (uint64_t id = 0; id < 10; id++) {
		assert_int_equal(ring_claim(&ring, 20, id), 0);
		assert_true(ring_is_empty(&ring));
	}
	assert_int_equal(peal_ring_publish(&ring.tx), 10);
	for (uint64_t id = 0; id < 10; id++)
		assert_true(ring_receives(&ring, 20, id));
	assert_true(ring_is_empty(&ring));
}

static void word_of_the_first_frame_is_the_last_to_be_stored(void **state)
{
	const uint32_t *first = (const uint32_t *)ring.data;

	(void)state;
	assert_int_equal(ring_claim(&ring, 16, 0), 0);
	assert_int_equal(ring_claim(&ring, 16, 1), 0);
	assert_int_equal(ring_claim(&ring, 16, 2), 0);
	/* The second one can be trimmed no more; the first one waits. */
	assert_int_equal(first[0], 0);
	assert_int_equal(first[8], 32);
	assert_int_equal(first[16], 0);
	peal_ring_publish(&ring.tx);
	assert_int_equal(first[0], 32);
	assert_int_equal(first[16], 32);
	assert_int_equal(first[24], 0);
}

static void publish_of_nothing_is_nothing(void **state)
{
	struct peal_ring_tx before = ring.tx;

	(void)state;
	assert_int_equal(peal_ring_publish(&ring.tx), 0);
	assert_memory_equal(&ring.tx, &before, sizeof(before));
	ring_claim(&ring, 1, 1);
	assert_int_equal(peal_ring_publish(&ring.tx), 1);
	assert_int_equal(peal_ring_publish(&ring.tx), 0);
	assert_true(ring_receives(&ring, 1, 1));
	assert_true(ring_is_empty(&ring));
}

/* trim and abort --------------------------------------------------------- */

static void trim_gives_the_rest_back(void **state)
{
	size_t largest = peal_ring_message_max(SMALL_RING);

	(void)state;
	assert_int_equal(ring_claim(&ring, largest, 1), 0);
	assert_int_equal(peal_ring_trim(&ring.tx, 100), 0);
	assert_int_equal(ring_claim(&ring, 1000, 2), 0);
	assert_int_equal(peal_ring_trim(&ring.tx, 0), 0);
	assert_int_equal(ring_claim(&ring, 10, 3), 0);
	assert_int_equal(peal_ring_publish(&ring.tx), 3);
	assert_true(ring_receives(&ring, 100, 1));
	assert_true(ring_receives(&ring, 0, 2));
	assert_true(ring_receives(&ring, 10, 3));
	assert_true(ring_is_empty(&ring));
}

static void trim_to_the_same_length_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(ring_claim(&ring, 77, 1), 0);
	assert_int_equal(peal_ring_trim(&ring.tx, 77), 0);
	assert_int_equal(ring_claim(&ring, 78, 2), 0);
	assert_int_equal(peal_ring_trim(&ring.tx, 78), 0);
	assert_int_equal(peal_ring_publish(&ring.tx), 2);
	assert_true(ring_receives(&ring, 77, 1));
	assert_true(ring_receives(&ring, 78, 2));
}

static void trim_refuses_what_it_cannot_do(void **state)
{
	(void)state;
	assert_int_equal(peal_ring_trim(&ring.tx, 0), -EINVAL);
	assert_int_equal(ring_claim(&ring, 50, 1), 0);
	assert_int_equal(peal_ring_trim(&ring.tx, 51), -EINVAL);
	assert_int_equal(peal_ring_trim(&ring.tx, SIZE_MAX), -EINVAL);
	assert_int_equal(peal_ring_trim(&ring.tx, 30), 0);
	assert_int_equal(peal_ring_trim(&ring.tx, 31), -EINVAL);
	peal_ring_publish(&ring.tx);
	assert_int_equal(peal_ring_trim(&ring.tx, 0), -EINVAL);
	assert_true(ring_receives(&ring, 30, 1));
}

static void aborted_claim_never_was(void **state)
{
	struct peal_ring_tx before;

	(void)state;
	assert_int_equal(ring_send(&ring, 5, 1), 0);
	before = ring.tx;
	assert_int_equal(ring_claim(&ring, 500, 2), 0);
	assert_int_equal(peal_ring_abort(&ring.tx), 0);
	assert_int_equal(ring.tx.tail, before.tail);
	assert_int_equal(peal_ring_publish(&ring.tx), 0);
	assert_int_equal(ring_send(&ring, 6, 3), 0);
	assert_true(ring_receives(&ring, 5, 1));
	assert_true(ring_receives(&ring, 6, 3));
	assert_true(ring_is_empty(&ring));
}

static void abort_in_a_batch_leaves_the_others(void **state)
{
	(void)state;
	assert_int_equal(ring_claim(&ring, 40, 1), 0);
	assert_int_equal(ring_claim(&ring, 41, 2), 0);
	assert_int_equal(ring_claim(&ring, 42, 3), 0);
	assert_int_equal(peal_ring_abort(&ring.tx), 0);
	assert_int_equal(peal_ring_publish(&ring.tx), 2);
	assert_true(ring_receives(&ring, 40, 1));
	assert_true(ring_receives(&ring, 41, 2));
	assert_true(ring_is_empty(&ring));
}

static void claim_after_an_abort_takes_its_place(void **state)
{
	(void)state;
	for (uint64_t before = 0; before < 3; before++) {
		ring_restart(&ring, 0);
		for (uint64_t id = 0; id < before; id++)
			assert_int_equal(ring_claim(&ring, 9, id), 0);
		assert_int_equal(ring_claim(&ring, 900, 50), 0);
		assert_int_equal(peal_ring_abort(&ring.tx), 0);
		assert_int_equal(ring_claim(&ring, 70, before), 0);
		assert_int_equal(ring_claim(&ring, 71, before + 1), 0);
		assert_int_equal(peal_ring_publish(&ring.tx), before + 2);
		for (uint64_t id = 0; id < before; id++)
			assert_true(ring_receives(&ring, 9, id));
		assert_true(ring_receives(&ring, 70, before));
		assert_true(ring_receives(&ring, 71, before + 1));
		assert_true(ring_is_empty(&ring));
	}
}

static void abort_refuses_what_it_cannot_do(void **state)
{
	(void)state;
	assert_int_equal(peal_ring_abort(&ring.tx), -EINVAL);
	assert_int_equal(ring_claim(&ring, 40, 1), 0);
	assert_int_equal(ring_claim(&ring, 41, 2), 0);
	assert_int_equal(peal_ring_abort(&ring.tx), 0);
	/* The one before it is committed already, as far as it is concerned. */
	assert_int_equal(peal_ring_abort(&ring.tx), -EINVAL);
	assert_int_equal(peal_ring_trim(&ring.tx, 0), -EINVAL);
	assert_int_equal(peal_ring_publish(&ring.tx), 1);
	assert_int_equal(peal_ring_abort(&ring.tx), -EINVAL);
	assert_true(ring_receives(&ring, 40, 1));
	assert_true(ring_is_empty(&ring));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_visible_before_publish),
		TEST(word_of_the_first_frame_is_the_last_to_be_stored),
		TEST(publish_of_nothing_is_nothing),
		TEST(trim_gives_the_rest_back),
		TEST(trim_to_the_same_length_changes_nothing),
		TEST(trim_refuses_what_it_cannot_do),
		TEST(aborted_claim_never_was),
		TEST(abort_in_a_batch_leaves_the_others),
		TEST(claim_after_an_abort_takes_its_place),
		TEST(abort_refuses_what_it_cannot_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
