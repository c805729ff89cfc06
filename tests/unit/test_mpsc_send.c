/* SPDX-License-Identifier: MIT */
/* What a producer can do with its ring, and what it is told. */
#include "tests/unit/mpsc_fixture.h"

#define LARGEST (PEAL_RING_MIN_BYTES - 32)

static struct peal_consumer *consumer;
static struct peal_producer *producer;

static int begin_with_both(void **state)
{
	if (begin(state) != 0)
		return -1;
	consumer = open_consumer();
	producer = attach();
	await_attached(consumer, 1);
	return 0;
}

static int end_with_both(void **state)
{
	assert_int_equal(peal_producer_detach(producer), 0);
	assert_int_equal(peal_consumer_close(consumer), 0);
	return end(state);
}

#define WITH_BOTH(test) \
	cmocka_unit_test_setup_teardown(test, begin_with_both, end_with_both)

/* one message ------------------------------------------------------------ */

static void message_arrives_as_it_was_sent(void **state)
{
	struct peal_message message;

	(void)state;
	errno = OUR_ERRNO;
	assert_int_equal(send_text(producer, "hello"), 0);
	assert_int_equal(errno, OUR_ERRNO);
	message = next_message(consumer);
	assert_text(&message, "hello");
	assert_int_equal((uintptr_t)message.data % 16, 0);
	assert_int_equal(message.id, 0);
	assert_int_equal(message.kind, 0);
	assert_int_equal(message.status, 0);
	peal_consumer_release(consumer, &message);
	expect_nothing(consumer);
}

static void message_of_no_bytes_arrives(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++) {
		assert_int_equal(
			peal_producer_send(producer, NULL, 0, PATIENCE_NS), 0);
		expect(consumer, "");
	}
	expect_nothing(consumer);
}

static void largest_message_arrives_and_a_larger_one_is_emsgsize(void **state)
{
	static char sent[LARGEST + 1];

	(void)state;
	memset(sent, 'x', sizeof(sent));
	assert_int_equal(peal_producer_message_max(producer), LARGEST);
	for (int i = 0; i < 10; i++) {
		struct peal_message message;
		void *data = &message;

		sent[0] = sent[LARGEST - 1] = (char)('a' + i);
		assert_int_equal(peal_producer_send(producer, sent, LARGEST,
		                                    PATIENCE_NS),
		                 0);
		message = next_message(consumer);
		assert_int_equal(message.data_bytes, LARGEST);
		assert_memory_equal(message.data, sent, LARGEST);
		peal_consumer_release(consumer, &message);
		/* At once, since no wait can make room for it. */
		assert_int_equal(peal_producer_send(producer, sent, LARGEST + 1,
		                                    PEAL_FOREVER),
		                 -EMSGSIZE);
		assert_int_equal(peal_producer_claim(producer, SIZE_MAX,
		                                     PEAL_FOREVER, &data),
		                 -EMSGSIZE);
		assert_ptr_equal(data, &message);
	}
	expect_nothing(consumer);
}

static void parts_are_gathered_in_order(void **state)
{
	const struct peal_part parts[] = {
		{"one ", 4}, {NULL, 0}, {"two ", 4}, {"x", 0}, {"three", 5},
	};
	const struct peal_part huge[] = {{"a", SIZE_MAX - 1}, {"b", 2}};

	(void)state;
	assert_int_equal(peal_producer_sendv(producer, parts, 5, 0), 0);
	expect(consumer, "one two three");
	assert_int_equal(peal_producer_sendv(producer, NULL, 0, 0), 0);
	expect(consumer, "");
	/* The sum of the lengths wraps. */
	assert_int_equal(peal_producer_sendv(producer, huge, 2, 0), -EMSGSIZE);
	assert_int_equal(peal_producer_sendv(producer, huge, 1, 0), -EMSGSIZE);
	expect_nothing(consumer);
}

/* claims ----------------------------------------------------------------- */

static char *claim_text(const char *text)
{
	void *data = NULL;

	assert_int_equal(peal_producer_claim(producer, strlen(text), 0, &data),
	                 0);
	assert_int_equal((uintptr_t)data % 16, 0);
	memcpy(data, text, strlen(text));
	return data;
}

static void claims_arrive_when_they_are_published_and_all_at_once(void **state)
{
	(void)state;
	claim_text("one");
	claim_text("two");
	claim_text("three");
	expect_nothing(consumer);
	assert_int_equal(peal_producer_publish(producer), 3);
	expect(consumer, "one");
	expect(consumer, "two");
	expect(consumer, "three");
	assert_int_equal(peal_producer_publish(producer), -EINVAL);
}

static void newest_claim_can_be_trimmed(void **state)
{
	(void)state;
	claim_text("one and more");
	assert_int_equal(peal_producer_trim(producer, 3), 0);
	assert_int_equal(peal_producer_trim(producer, 4), -EINVAL);
	claim_text("two and more");
	assert_int_equal(peal_producer_trim(producer, 13), -EINVAL);
	assert_int_equal(peal_producer_trim(producer, 0), 0);
	assert_int_equal(peal_producer_publish(producer), 2);
	assert_int_equal(peal_producer_trim(producer, 0), -EINVAL);
	expect(consumer, "one");
	expect(consumer, "");
	assert_int_equal(sent_by(producer).payload_bytes, 3);
}

static void newest_claim_can_be_given_up_once(void **state)
{
	(void)state;
	assert_int_equal(peal_producer_abort(producer), -EINVAL);
	claim_text("one");
	claim_text("two");
	assert_int_equal(peal_producer_abort(producer), 0);
	assert_int_equal(peal_producer_abort(producer), -EINVAL);
	assert_int_equal(peal_producer_trim(producer, 0), -EINVAL);
	claim_text("three");
	assert_int_equal(peal_producer_publish(producer), 2);
	assert_int_equal(peal_producer_abort(producer), -EINVAL);
	expect(consumer, "one");
	expect(consumer, "three");
	claim_text("four");
	assert_int_equal(peal_producer_abort(producer), 0);
	assert_int_equal(peal_producer_publish(producer), -EINVAL);
	expect_nothing(consumer);
	assert_int_equal(sent_by(producer).message_count, 2);
	assert_int_equal(sent_by(producer).payload_bytes, 8);
}

static void message_that_is_sent_publishes_the_claims_before_it(void **state)
{
	(void)state;
	claim_text("one");
	assert_int_equal(send_text(producer, "two"), 0);
	expect(consumer, "one");
	expect(consumer, "two");
	claim_text("three");
	assert_int_equal(peal_producer_sendv(producer, NULL, 0, 0), 0);
	expect(consumer, "three");
	expect(consumer, "");
}

/* a full ring ------------------------------------------------------------ */

static void full_ring_is_eagain_without_a_timeout(void **state)
{
	uint64_t count = fill(producer, 100), received;
	void *data = &count;

	(void)state;
	assert_true(count > 20);
	errno = OUR_ERRNO;
	assert_int_equal(peal_producer_claim(producer, 100, 0, &data), -EAGAIN);
	assert_int_equal(errno, OUR_ERRNO);
	assert_ptr_equal(data, &count);
	received = drain(consumer);
	assert_int_equal(received, count);
	assert_int_equal(peal_producer_claim(producer, 100, 0, &data), 0);
	assert_int_equal(peal_producer_abort(producer), 0);
}

static void full_ring_is_etimedout_at_the_timeout(void **state)
{
	uint64_t start_ns;
	void *data;

	(void)state;
	fill(producer, 100);
	start_ns = now_ns();
	assert_int_equal(peal_producer_claim(producer, 100, 80 * MS, &data),
	                 -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 80 * MS);
	assert_true(now_ns() - start_ns < PATIENCE_NS);
	assert_true(sent_by(producer).blocked_ns >= 80 * MS);
	start_ns = now_ns();
	assert_int_equal(peal_producer_send(producer, "x", 100, 1), -ETIMEDOUT);
	assert_true(now_ns() - start_ns < PATIENCE_NS);
}

/* It would wait for room that only its own publish can make. */
static void claim_with_claims_in_hand_never_waits(void **state)
{
	void *data;
	int count = 0;

	(void)state;
	while (peal_producer_claim(producer, 500, 0, &data) == 0)
		count++;
	assert_true(count > 1);
	assert_int_equal(peal_producer_claim(producer, 500, PEAL_FOREVER,
	                                     &data),
	                 -EAGAIN);
	assert_int_equal(peal_producer_send(producer, "x", 1000, PEAL_FOREVER),
	                 -EAGAIN);
	assert_int_equal(peal_producer_publish(producer), count);
	assert_int_equal(drain(consumer), count);
	assert_int_equal(sent_by(producer).full_count, 3);
}

static void *take_all(void *argument)
{
	struct peal_consumer *other = argument;
	uint64_t end_ns = now_ns() + PATIENCE_NS, count = 0;
	struct peal_message message;
	bool last = false;

	while (!last && now_ns() < end_ns) {
		if (peal_consumer_peek(other, &message) != 0) {
			peal_consumer_wait(other, 10 * MS);
			continue;
		}
		last = message.data_bytes == 0;
		count++;
		peal_consumer_release(other, &message);
	}
	return (void *)(uintptr_t)count;
}

static void claim_waits_until_the_consumer_has_made_room(void **state)
{
	uint64_t count = fill(producer, 1000);
	struct later later;
	void *data;

	(void)state;
	later_start(&later, 20 * MS, take_all, consumer);
	assert_int_equal(
		peal_producer_claim(producer, 4000, PATIENCE_NS, &data), 0);
	assert_int_equal(peal_producer_abort(producer), 0);
	assert_int_equal(peal_producer_send(producer, "", 0, PATIENCE_NS), 0);
	assert_int_equal((uintptr_t)later_join(&later), count + 1);
	assert_true(sent_by(producer).blocked_ns > 0);
}

/* batches ---------------------------------------------------------------- */

static void batch_that_fits_arrives_at_once(void **state)
{
	const struct peal_part messages[] = {
		{"one", 3}, {NULL, 0}, {"three", 5}};

	(void)state;
	assert_int_equal(peal_producer_send_batch(producer, messages, 3, 0), 3);
	expect(consumer, "one");
	expect(consumer, "");
	expect(consumer, "three");
	assert_int_equal(peal_producer_send_batch(producer, messages, 0, 0), 0);
	expect_nothing(consumer);
	assert_int_equal(sent_by(producer).message_count, 3);
}

static void batch_that_does_not_fit_tells_how_many_did(void **state)
{
	static const char data[400];
	struct peal_part messages[40];
	int count;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(messages); i++)
		messages[i] = (struct peal_part){data, sizeof(data)};
	count = peal_producer_send_batch(producer, messages, 40, 0);
	assert_in_range(count, 8, 10);
	assert_int_equal(peal_producer_send_batch(producer, messages, 40, 0),
	                 -EAGAIN);
	assert_int_equal(peal_producer_send_batch(producer, messages, 40,
	                                          30 * MS),
	                 -ETIMEDOUT);
	assert_int_equal(sent_by(producer).message_count, count);
	assert_int_equal(drain(consumer), count);
}

static void batch_stops_at_a_message_that_is_too_large(void **state)
{
	static const char data[LARGEST + 1];
	const struct peal_part messages[] = {
		{"one", 3}, {data, sizeof(data)}, {"three", 5}};

	(void)state;
	assert_int_equal(peal_producer_send_batch(producer, messages, 3,
	                                          PATIENCE_NS),
	                 1);
	expect(consumer, "one");
	expect_nothing(consumer);
	assert_int_equal(peal_producer_send_batch(producer, messages + 1, 2,
	                                          PATIENCE_NS),
	                 -EMSGSIZE);
	expect_nothing(consumer);
}

static void batch_larger_than_the_ring_arrives_in_parts(void **state)
{
	enum { COUNT = 500 };
	static struct peal_part messages[COUNT + 1];
	static char data[300];
	struct later later;

	(void)state;
	for (int i = 0; i < COUNT; i++)
		messages[i] = (struct peal_part){data, sizeof(data)};
	messages[COUNT].data_bytes = 0;
	later_start(&later, 0, take_all, consumer);
	assert_int_equal(peal_producer_send_batch(producer, messages, COUNT + 1,
	                                          PATIENCE_NS),
	                 COUNT + 1);
	assert_int_equal((uintptr_t)later_join(&later), COUNT + 1);
	assert_int_equal(sent_by(producer).message_count, COUNT + 1);
	assert_int_equal(sent_by(producer).payload_bytes, COUNT * sizeof(data));
	/* All of it was sent. */
	assert_int_equal(sent_by(producer).full_count, 0);
}

static void batch_publishes_the_claims_before_it(void **state)
{
	const struct peal_part messages[] = {{"two", 3}};

	(void)state;
	claim_text("one");
	assert_int_equal(peal_producer_send_batch(producer, messages, 1, 0), 1);
	expect(consumer, "one");
	expect(consumer, "two");
	assert_int_equal(sent_by(producer).message_count, 2);
}

static void batch_of_more_than_can_be_told_is_einval(void **state)
{
	(void)state;
	assert_int_equal(peal_producer_send_batch(producer, NULL,
	                                          (size_t)INT32_MAX + 1, 0),
	                 -EINVAL);
}

/* numbers ---------------------------------------------------------------- */

static void both_sides_count_the_same(void **state)
{
	struct peal_producer_stats sent;
	struct peal_consumer_stats stats;

	(void)state;
	for (int i = 0; i < 100; i++) {
		assert_int_equal(send_text(producer, "1234567"), 0);
		expect(consumer, "1234567");
	}
	fill(producer, 100);
	sent = sent_by(producer);
	assert_int_equal(drain(consumer), sent.message_count - 100);
	stats = stats_of(consumer);
	assert_int_equal(stats.message_count, sent.message_count);
	assert_int_equal(stats.payload_bytes, sent.payload_bytes);
	assert_int_equal(sent.payload_bytes,
	                 700 + (sent.message_count - 100) * 100);
	assert_int_equal(sent.full_count, 1);
	assert_int_equal(sent.reconnect_count, 0);
	assert_int_equal(sent.lost_bytes, 0);
	assert_int_equal(stats.attached_count, 1);
	assert_int_equal(stats.detached_count + stats.died_count +
	                         stats.evicted_count + stats.refused_count +
	                         stats.dropped_bytes,
	                 0);
	/* The consumer has another view of who it was, and it is the same. */
	assert_int_equal(send_text(producer, "who"), 0);
	{
		struct peal_message message = next_message(consumer);

		assert_int_equal(message.peer.slot_index, sent.self.slot_index);
		assert_int_equal(message.peer.generation, sent.self.generation);
		peal_consumer_release(consumer, &message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_BOTH(message_arrives_as_it_was_sent),
		WITH_BOTH(message_of_no_bytes_arrives),
		WITH_BOTH(largest_message_arrives_and_a_larger_one_is_emsgsize),
		WITH_BOTH(parts_are_gathered_in_order),
		WITH_BOTH(
			claims_arrive_when_they_are_published_and_all_at_once),
		WITH_BOTH(newest_claim_can_be_trimmed),
		WITH_BOTH(newest_claim_can_be_given_up_once),
		WITH_BOTH(message_that_is_sent_publishes_the_claims_before_it),
		WITH_BOTH(full_ring_is_eagain_without_a_timeout),
		WITH_BOTH(full_ring_is_etimedout_at_the_timeout),
		WITH_BOTH(claim_with_claims_in_hand_never_waits),
		WITH_BOTH(claim_waits_until_the_consumer_has_made_room),
		WITH_BOTH(batch_that_fits_arrives_at_once),
		WITH_BOTH(batch_that_does_not_fit_tells_how_many_did),
		WITH_BOTH(batch_stops_at_a_message_that_is_too_large),
		WITH_BOTH(batch_larger_than_the_ring_arrives_in_parts),
		WITH_BOTH(batch_publishes_the_claims_before_it),
		WITH_BOTH(batch_of_more_than_can_be_told_is_einval),
		WITH_BOTH(both_sides_count_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
