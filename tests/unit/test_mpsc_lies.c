/* SPDX-License-Identifier: MIT */
/*
 * What one side does when the words of the other one cannot be, or were
 * something else a moment ago.
 */
#include "tests/unit/mpsc_fixture.h"

#include <sys/socket.h>

#include "mpsc/producer.h"
#include "mpsc/server.h"

#define WAIT_NS (200 * MS)

static void await_state(struct peal_consumer *consumer, uint32_t state,
                        bool with_waits)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	while (__atomic_load_n(&consumer->slots[0].state, __ATOMIC_ACQUIRE) !=
	       state) {
		if (now_ns() > end_ns)
			fail_msg("the slot is in state %u",
			         consumer->slots[0].state);
		if (with_waits)
			peal_consumer_wait(consumer, MS);
		else
			sleep_ns(MS);
	}
}

/* Whoever hangs up may have its ring mapped still, here or in a child. */
static void message_that_is_taken_back_does_not_keep_its_slot(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	struct peal_ring_tx *tx = &producer->hot.tx;
	struct peal_message message;
	uint64_t start;

	(void)state;
	await_state(consumer, PEAL__SLOT_LIVE, true);
	start = tx->first;
	assert_int_equal(send_text(producer, "now you see me"), 0);
	shutdown(producer->connection.socket.fd, SHUT_RDWR);
	await_state(consumer, PEAL__SLOT_HUNG_UP, false);
	/* It sees the message, and has not taken it. */
	assert_int_equal(peal_consumer_wait(consumer, 0), 0);
	__atomic_store_n(
		&peal__ring_frame(tx->data, tx->capacity_bytes, start)->commit,
		0, __ATOMIC_SEQ_CST);
	assert_int_equal(peal_consumer_peek(consumer, &message), -EAGAIN);
	await_state(consumer, PEAL__SLOT_FREE, true);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* A position beyond what was published is no room, and nothing to look at
 * again and again. */
static void room_that_cannot_be_does_not_keep_a_producer_awake(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	uint64_t start_ns;
	uint32_t sleep_count;

	(void)state;
	await_state(consumer, PEAL__SLOT_LIVE, true);
	fill(producer, 100);
	__atomic_store_n(&consumer->slots[0].segment->request_released,
	                 producer->hot.tx.first + 4096, __ATOMIC_SEQ_CST);
	start_ns = now_ns();
	sleep_count = (uint32_t)producer->spin.sleep_count;
	assert_int_equal(peal_producer_send(producer, own.failure.text, 100,
	                                    WAIT_NS),
	                 -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= WAIT_NS);
	/* It saw nothing to do, and slept. */
	assert_int_not_equal((uint32_t)producer->spin.sleep_count, sleep_count);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* A server that makes room and goes, unnoticed by the last look before a sleep. */
static struct {
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	bool is_settled;
} leaving;

static void about_to_sleep(void *object)
{
	(void)object;
	leaving.is_settled = true;
}

static int last_look(void *object)
{
	struct peal_producer *producer = leaving.producer;

	(void)object;
	if (leaving.is_settled && leaving.consumer != NULL) {
		__atomic_store_n(
			&producer->connection.segment->request_released,
			producer->hot.tx.first, __ATOMIC_SEQ_CST);
		peal_consumer_close(leaving.consumer);
		leaving.consumer = NULL;
	}
	return 0;
}

/* Once it was room: the claim came to nothing and said that it had come to
 * something, and who wrote there wrote anywhere. */
static void room_of_a_server_that_has_gone_is_none(void **state)
{
	static const struct peal__producer_owner owner = {
		.interrupt = last_look,
		.settle = about_to_sleep,
		.wake_fd = -1,
	};
	struct peal_producer_options options = producer_options();
	void *data = NULL;
	int error;

	(void)state;
	options.spin_mode = PEAL_SPIN_NEVER;
	leaving.consumer = open_consumer();
	leaving.producer = attach_with(&options);
	leaving.is_settled = false;
	fill(leaving.producer, 100);
	leaving.producer->owner = &owner;
	error = peal_producer_claim(leaving.producer, 100, PATIENCE_NS, &data);
#ifdef PEAL_NO_BOUNDED_SLEEP
	assert_int_equal(error, -ESHUTDOWN);
#else
	/* The net ends the sleep before the server is looked at. */
	assert_int_equal(error, leaving.producer->lost);
#endif
	assert_null(leaving.consumer);
	assert_int_equal(data == NULL, error != 0);
	peal_producer_detach(leaving.producer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(message_that_is_taken_back_does_not_keep_its_slot),
		TEST(room_that_cannot_be_does_not_keep_a_producer_awake),
		TEST(room_of_a_server_that_has_gone_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
