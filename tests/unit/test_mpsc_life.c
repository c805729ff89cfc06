/* SPDX-License-Identifier: MIT */
/* The end of a connection, from either side, and what comes after it. */
#include "tests/unit/mpsc_fixture.h"

/* the producer goes ------------------------------------------------------- */

static void
what_was_published_is_delivered_after_the_producer_has_gone(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	uint64_t count;

	(void)state;
	assert_int_equal(send_text(producer, "first"), 0);
	count = fill(producer, 0);
	peal_producer_detach(producer);
	await_attached(consumer, 1);
	expect(consumer, "first");
	for (uint64_t i = 0; i < count; i++)
		expect(consumer, "");
	expect_nothing(consumer);
	await_gone(consumer, 1);
	assert_int_equal(stats_of(consumer).detached_count, 1);
	assert_int_equal(stats_of(consumer).died_count, 0);
	assert_int_equal(stats_of(consumer).message_count, count + 1);
	peal_consumer_close(consumer);
}

static void what_was_only_claimed_never_existed(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	void *data;

	(void)state;
	assert_int_equal(send_text(producer, "published"), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(peal_producer_claim(producer, 7, 0, &data), 0);
		memcpy(data, "claimed", 7);
	}
	peal_producer_detach(producer);
	await_attached(consumer, 1);
	expect(consumer, "published");
	await_gone(consumer, 1);
	expect_nothing(consumer);
	assert_int_equal(stats_of(consumer).message_count, 1);
	peal_consumer_close(consumer);
}

static void views_of_a_producer_that_has_gone_stay_valid(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach(), *other;
	struct peal_message first, second;

	(void)state;
	assert_int_equal(send_text(producer, "one"), 0);
	assert_int_equal(send_text(producer, "two"), 0);
	first = next_message(consumer);
	second = next_message(consumer);
	peal_producer_detach(producer);
	await_gone(consumer, 1);
	/* Another one comes and goes meanwhile, in another place. */
	other = attach();
	assert_int_equal(send_text(other, "other"), 0);
	expect(consumer, "other");
	assert_text(&first, "one");
	assert_text(&second, "two");
	peal_consumer_release(consumer, &first);
	peal_consumer_wait(consumer, 0);
	assert_text(&second, "two");
	peal_consumer_release(consumer, &second);
	peal_producer_detach(other);
	await_gone(consumer, 2);
	peal_consumer_close(consumer);
}

static void slot_is_used_again_with_another_generation(void **state)
{
	struct peal_consumer_options options = consumer_options();
	uint32_t generations[5];
	struct peal_consumer *consumer;

	(void)state;
	options.producer_max = 1;
	consumer = open_with(&options);
	for (uint64_t i = 0; i < CHECK_COUNT(generations); i++) {
		struct peal_producer *producer = attach();
		struct peal_peer self = sent_by(producer).self;

		assert_int_equal(self.slot_index, 0);
		assert_int_not_equal(self.generation, 0);
		generations[i] = self.generation;
		for (uint64_t k = 0; k < i; k++)
			assert_int_not_equal(generations[k], generations[i]);
		assert_int_equal(send_text(producer, "hello"), 0);
		expect(consumer, "hello");
		peal_producer_detach(producer);
		await_gone(consumer, i + 1);
	}
	assert_int_equal(stats_of(consumer).attached_count, 5);
	assert_int_equal(stats_of(consumer).message_count, 5);
	peal_consumer_close(consumer);
}

/* A consumer that polls and never waits must get the slots back as well. */
static void consumer_that_only_peeks_lets_producers_come_and_go(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	uint64_t end_ns = now_ns() + PATIENCE_NS;
	struct peal_consumer *consumer;

	(void)state;
	options.producer_max = 1;
	consumer = open_with(&options);
	for (int i = 0; i < 5; i++) {
		struct peal_producer *producer = NULL;
		struct peal_message message;

		while (peal_producer_attach(&others, PATIENCE_NS, &producer) ==
		       -EBUSY) {
			assert_true(now_ns() < end_ns);
			assert_int_equal(peal_consumer_peek(consumer, &message),
			                 -EAGAIN);
		}
		assert_non_null(producer);
		assert_int_equal(send_text(producer, "hello"), 0);
		while (peal_consumer_peek(consumer, &message) != 0)
			assert_true(now_ns() < end_ns);
		peal_consumer_release(consumer, &message);
		peal_producer_detach(producer);
	}
	peal_consumer_close(consumer);
}

/* the consumer goes -------------------------------------------------------- */

static void close_frees_the_name_and_leaves_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct peal_consumer *consumer = open_consumer();
		struct peal_producer *producer = attach();

		assert_int_equal(directory_count(&own.directory), 2);
		assert_int_equal(peal_consumer_close(consumer), 0);
		assert_int_equal(directory_count(&own.directory), 0);
		assert_int_equal(peal_producer_detach(producer), 0);
	}
}

static void producer_of_a_closed_consumer_gets_eshutdown(void **state)
{
	struct peal_part part = {"x", 1};
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	void *data = &part;

	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		struct peal_consumer_options options = consumer_options();
		struct peal_producer_options others = producer_options();

		options.wait_mode = mode;
		consumer = open_with(&options);
		producer = mode == PEAL_WAIT_FD
		                   ? attach_dispatching(consumer, &others)
		                   : attach();
		assert_int_equal(send_text(producer, "lost"), 0);
		peal_consumer_close(consumer);
		errno = OUR_ERRNO;
		assert_int_equal(peal_producer_claim(producer, 1, 0, &data),
		                 -ESHUTDOWN);
		assert_ptr_equal(data, &part);
		assert_int_equal(peal_producer_claim(producer, 1, PEAL_FOREVER,
		                                     &data),
		                 -ESHUTDOWN);
		assert_int_equal(send_text(producer, "x"), -ESHUTDOWN);
		assert_int_equal(peal_producer_sendv(producer, &part, 1, 0),
		                 -ESHUTDOWN);
		assert_int_equal(peal_producer_send_batch(producer, &part, 1,
		                                          0),
		                 -ESHUTDOWN);
		assert_int_equal(peal_producer_publish(producer), -ESHUTDOWN);
		assert_int_equal(peal_producer_trim(producer, 0), -ESHUTDOWN);
		assert_int_equal(peal_producer_abort(producer), -ESHUTDOWN);
		assert_int_equal(errno, OUR_ERRNO);
		assert_int_equal(sent_by(producer).lost_bytes, 32);
		peal_producer_detach(producer);
	}
}

static void claims_in_hand_are_void_when_the_consumer_closes(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	void *data, *second;

	(void)state;
	assert_int_equal(peal_producer_claim(producer, 100, 0, &data), 0);
	peal_consumer_close(consumer);
	/* The memory is still there for who is writing just now. */
	memset(data, 'x', 100);
	assert_int_equal(peal_producer_claim(producer, 100, 0, &second),
	                 -ESHUTDOWN);
	memset(data, 'y', 100);
	assert_int_equal(peal_producer_publish(producer), -ESHUTDOWN);
	assert_int_equal(sent_by(producer).message_count, 0);
	assert_int_equal(sent_by(producer).lost_bytes, 0);
	peal_producer_detach(producer);
}

static void *close_it(void *consumer)
{
	return (void *)(intptr_t)peal_consumer_close(consumer);
}

static void producer_that_waits_learns_that_the_consumer_closes(void **state)
{
	static const uint32_t modes[] = {PEAL_WAIT_FUTEX, PEAL_WAIT_FD};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(modes); i++) {
		struct peal_producer_options others = producer_options();
		struct peal_consumer *consumer = open_consumer();
		struct peal_producer *producer;
		struct later later;
		void *data;

		others.wait_mode = modes[i];
		producer = attach_with(&others);
		fill(producer, 100);
		later_start(&later, 20 * MS, close_it, consumer);
		assert_int_equal(peal_producer_claim(producer, 100, PATIENCE_NS,
		                                     &data),
		                 -ESHUTDOWN);
		assert_null(later_join(&later));
		peal_producer_detach(producer);
	}
}

static void only_what_was_not_released_is_counted_as_lost(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	void *data;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(send_text(producer, "0123456789"), 0);
	for (int i = 0; i < 7; i++)
		expect(consumer, "0123456789");
	peal_consumer_wait(consumer, 0);
	peal_consumer_close(consumer);
	assert_int_equal(peal_producer_claim(producer, 1, 0, &data),
	                 -ESHUTDOWN);
	assert_int_equal(sent_by(producer).lost_bytes, 3 * 32);
	peal_producer_detach(producer);
}

/* again -------------------------------------------------------------------- */

static void
reconnect_tells_the_loss_once_and_attaches_with_the_next_call(void **state)
{
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer;
	struct peal_peer before;

	(void)state;
	others.reconnect = 1;
	others.ring_bytes = 8192;
	producer = attach_with(&others);
	before = sent_by(producer).self;
	for (int i = 1; i <= 3; i++) {
		peal_consumer_close(consumer);
		assert_int_equal(send_text(producer, "lost"), -ESHUTDOWN);
		/* Nobody there yet: that is told each time, and tried again. */
		assert_int_equal(send_text(producer, "lost"), -ECONNREFUSED);
		assert_int_equal(send_text(producer, "lost"), -ECONNREFUSED);
		assert_int_equal(peal_producer_publish(producer), -ESHUTDOWN);
		consumer = open_consumer();
		assert_int_equal(send_text(producer, "new"), 0);
		expect(consumer, "new");
		expect_nothing(consumer);
		assert_int_equal(sent_by(producer).reconnect_count, i);
		assert_int_equal(peal_producer_message_max(producer),
		                 8192 - 32);
		assert_int_not_equal(sent_by(producer).self.generation,
		                     before.generation);
	}
	/* What went through is counted over all connections. */
	assert_int_equal(sent_by(producer).message_count, 3);
	assert_int_equal(sent_by(producer).payload_bytes, 9);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* A server that is stopped, say: it has the name, and does not answer. */
static void
reconnect_has_the_time_of_the_call_and_a_little_at_least(void **state)
{
	static const uint64_t times_ns[][2] = {
		{0, 100 * MS},
		{10 * MS, 100 * MS},
		{300 * MS, 300 * MS},
	};
	struct peal_producer_options others = producer_options();
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer;

	(void)state;
	others.reconnect = 1;
	producer = attach_with(&others);
	peal_consumer_close(consumer);
	assert_int_equal(send_text(producer, "lost"), -ESHUTDOWN);
	/* Nobody dispatches. */
	options.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	for (size_t i = 0; i < CHECK_COUNT(times_ns); i++) {
		uint64_t start_ns = now_ns();

		assert_int_equal(peal_producer_send(producer, "new", 3,
		                                    times_ns[i][0]),
		                 -ETIMEDOUT);
		assert_true(now_ns() - start_ns >= times_ns[i][1]);
	}
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void without_reconnect_the_loss_is_told_for_ever(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();

	(void)state;
	peal_consumer_close(consumer);
	consumer = open_consumer();
	for (int i = 0; i < 5; i++)
		assert_int_equal(send_text(producer, "lost"), -ESHUTDOWN);
	assert_int_equal(stats_of(consumer).attached_count, 0);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void producer_that_reconnects_wakes_the_new_consumer(void **state)
{
	struct peal_producer_options others = producer_options();
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	struct peal_producer *producer;

	(void)state;
	/* The old bell's arming must not be taken for the new one's. */
	options.spin_mode = PEAL_SPIN_NEVER;
	others.reconnect = 1;
	consumer = open_with(&options);
	producer = attach_with(&others);
	assert_int_equal(send_text(producer, "old"), 0);
	expect(consumer, "old");
	peal_consumer_close(consumer);
	assert_int_equal(send_text(producer, "lost"), -ESHUTDOWN);
	consumer = open_with(&options);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(send_text(producer, "new"), 0);
		expect(consumer, "new");
	}
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_published_is_delivered_after_the_producer_has_gone),
		TEST(what_was_only_claimed_never_existed),
		TEST(views_of_a_producer_that_has_gone_stay_valid),
		TEST(slot_is_used_again_with_another_generation),
		TEST(consumer_that_only_peeks_lets_producers_come_and_go),
		TEST(close_frees_the_name_and_leaves_nothing),
		TEST(producer_of_a_closed_consumer_gets_eshutdown),
		TEST(claims_in_hand_are_void_when_the_consumer_closes),
		TEST(producer_that_waits_learns_that_the_consumer_closes),
		TEST(only_what_was_not_released_is_counted_as_lost),
		TEST(reconnect_tells_the_loss_once_and_attaches_with_the_next_call),
		TEST(reconnect_has_the_time_of_the_call_and_a_little_at_least),
		TEST(without_reconnect_the_loss_is_told_for_ever),
		TEST(producer_that_reconnects_wakes_the_new_consumer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
