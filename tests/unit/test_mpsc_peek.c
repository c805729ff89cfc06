/* SPDX-License-Identifier: MIT */
/* What a consumer sees of its producers, and of those that have gone. */
#include "tests/unit/mpsc_fixture.h"

/* turns ------------------------------------------------------------------ */

static void messages_of_one_producer_arrive_in_its_order(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	uint32_t next = 0;

	(void)state;
	for (uint32_t sent = 0; sent < 2000;) {
		while (peal_producer_send(producer, &sent, sizeof(sent), 0) ==
		       0)
			sent++;
		for (int i = 0; i < 70 && next < sent; i++) {
			struct peal_message message = next_message(consumer);
			uint32_t value;

			memcpy(&value, message.data, sizeof(value));
			assert_int_equal(value, next++);
			peal_consumer_release(consumer, &message);
		}
		peal_consumer_wait(consumer, 0);
	}
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void producers_take_turns_of_the_budget(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer *producers[3];
	struct peal_consumer *consumer;
	uint32_t before = UINT32_MAX;
	int in_turn = 0;

	(void)state;
	options.turn_budget = 5;
	consumer = open_with(&options);
	for (int i = 0; i < 3; i++) {
		producers[i] = attach();
		for (int k = 0; k < 20; k++)
			assert_int_equal(send_text(producers[i], "x"), 0);
	}
	await_attached(consumer, 3);
	for (int i = 0; i < 60; i++) {
		struct peal_message message = next_message(consumer);

		in_turn = message.peer.slot_index == before ? in_turn + 1 : 1;
		before = message.peer.slot_index;
		assert_true(in_turn <= 5);
		assert_true(i % 5 == 0 || in_turn > 1);
		peal_consumer_release(consumer, &message);
	}
	expect_nothing(consumer);
	for (int i = 0; i < 3; i++)
		peal_producer_detach(producers[i]);
	peal_consumer_close(consumer);
}

/* A loop that peeks only when it is told to would never know of the ring. */
static void has_data_tells_of_a_producer_that_is_new(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	uint64_t end_ns = now_ns() + PATIENCE_NS;
	struct peal_message message;

	(void)state;
	assert_int_equal(send_text(producer, "first"), 0);
	do {
		while (!peal_consumer_has_data(consumer))
			assert_true(now_ns() < end_ns);
	} while (peal_consumer_peek(consumer, &message) != 0);
	assert_text(&message, "first");
	peal_consumer_release(consumer, &message);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void has_data_changes_nothing_however_often(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer *producers[2];
	struct peal_consumer *consumer;
	char text[2] = "a";

	(void)state;
	options.turn_budget = 2;
	consumer = open_with(&options);
	assert_false(peal_consumer_has_data(consumer));
	for (int i = 0; i < 2; i++)
		producers[i] = attach();
	await_attached(consumer, 2);
	expect_nothing(consumer);
	for (int i = 0; i < 8; i++) {
		text[0] = (char)('a' + i);
		assert_int_equal(send_text(producers[i % 2], text), 0);
	}
	/* Two of each, whoever begins, as without looking in between. */
	for (int i = 0; i < 8; i++) {
		struct peal_message message;

		for (int k = 0; k < 200; k++)
			assert_true(peal_consumer_has_data(consumer));
		assert_int_equal(peal_consumer_peek(consumer, &message), 0);
		text[0] = ((const char *)message.data)[0];
		assert_int_equal((text[0] - 'a') / 2, i / 4 * 2 + i % 2);
		peal_consumer_release(consumer, &message);
	}
	for (int k = 0; k < 200; k++)
		assert_false(peal_consumer_has_data(consumer));
	for (int i = 0; i < 2; i++)
		peal_producer_detach(producers[i]);
	peal_consumer_close(consumer);
}

/* holding ---------------------------------------------------------------- */

static void messages_that_are_held_keep_their_bytes(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	struct peal_message held[3];

	(void)state;
	assert_int_equal(send_text(producer, "first"), 0);
	assert_int_equal(send_text(producer, "second"), 0);
	assert_int_equal(send_text(producer, "third"), 0);
	for (int i = 0; i < 3; i++)
		held[i] = next_message(consumer);
	fill(producer, 100);
	peal_consumer_release(consumer, &held[0]);
	peal_consumer_wait(consumer, 0);
	fill(producer, 0);
	assert_text(&held[1], "second");
	assert_text(&held[2], "third");
	/* The last one gives the others back as well. */
	peal_consumer_release(consumer, &held[2]);
	peal_consumer_release(consumer, &held[1]);
	peal_consumer_release(consumer, &held[0]);
	drain(consumer);
	assert_int_equal(fill(producer, 0), PEAL_RING_MIN_BYTES / 16 - 1);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* who -------------------------------------------------------------------- */

static void peer_is_who_has_attached(void **state)
{
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer;
	struct peal_peer_info info;
	struct peal_peer peer;

	(void)state;
	others.ring_bytes = 8192;
	producer = attach_with(&others);
	peer = sent_by(producer).self;
	assert_int_not_equal(peer.generation, 0);
	await_attached(consumer, 1);
	assert_int_equal(peal_consumer_peer_info(consumer, peer, &info), 0);
	assert_int_equal(info.pid, getpid());
	assert_int_equal(info.uid, geteuid());
	assert_int_equal(info.gid, getegid());
	assert_int_equal(info.ring_bytes, 8192);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void assert_stale(struct peal_consumer *consumer, struct peal_peer peer)
{
	struct peal_peer_info info, untouched;

	memset(&info, 0x5a, sizeof(info));
	untouched = info;
	assert_int_equal(peal_consumer_peer_info(consumer, peer, &info),
	                 -ESTALE);
	assert_memory_equal(&info, &untouched, sizeof(info));
}

static void peer_that_has_gone_is_estale(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	struct peal_peer peer = sent_by(producer).self;

	(void)state;
	assert_stale(consumer, (struct peal_peer){0, 0});
	assert_stale(consumer, (struct peal_peer){UINT32_MAX, 1});
	assert_stale(consumer, (struct peal_peer){8, peer.generation});
	peal_producer_detach(producer);
	await_attached(consumer, 1);
	await_gone(consumer, 1);
	assert_stale(consumer, peer);
	/* Its place is another one's now. */
	producer = attach();
	await_attached(consumer, 2);
	assert_stale(consumer, peer);
	assert_int_equal(sent_by(producer).self.slot_index, peer.slot_index);
	assert_int_not_equal(sent_by(producer).self.generation,
	                     peer.generation);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void
release_of_a_message_of_an_ended_connection_is_left_alone(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_message old, held[4], stale;
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	uint64_t count;

	(void)state;
	options.producer_max = 1; /* so that both have the same slot */
	consumer = open_with(&options);
	producer = attach();
	assert_int_equal(send_text(producer, "old"), 0);
	old = next_message(consumer);
	peal_consumer_release(consumer, &old);
	peal_producer_detach(producer);
	await_gone(consumer, 1);
	producer = attach();
	for (int i = 0; i < 4; i++)
		assert_int_equal(send_text(producer, "new"), 0);
	for (int i = 0; i < 4; i++)
		held[i] = next_message(consumer);
	fill(producer, 0);
	/* What the old message's end would mean in the new ring is chance;
	 * this is the worst that it can be. */
	stale = held[3];
	stale.peer.generation = old.peer.generation;
	peal_consumer_release(consumer, &old);
	peal_consumer_release(consumer, &stale);
	stale.peer = (struct peal_peer){0, 0};
	peal_consumer_release(consumer, &stale);
	stale.peer = (struct peal_peer){UINT32_MAX, held[3].peer.generation};
	peal_consumer_release(consumer, &stale);
	peal_consumer_wait(consumer, 0);
	assert_int_equal(fill(producer, 0), 0);
	for (int i = 0; i < 4; i++)
		assert_text(&held[i], "new");
	peal_consumer_release(consumer, &held[3]);
	peal_consumer_wait(consumer, 0);
	count = fill(producer, 0);
	assert_int_equal(count, 4 * 32 / 16);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* bytes that make no sense ------------------------------------------------ */

/* The header of a claim lies in the producer's own memory, just before it. */
static void ring_that_makes_no_sense_is_closed_and_nobody_else(void **state)
{
	static const uint32_t words[] = {1, 15, 5000, 0x40000074, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(words); i++) {
		struct peal_consumer *consumer = open_consumer();
		struct peal_producer *liar = attach(), *honest = attach();
		struct peal_peer peer = sent_by(liar).self;
		struct peal_message message;
		int error;

		assert_int_equal(send_text(liar, "good"), 0);
		spoil(liar, words[i]);
		assert_int_equal(send_text(honest, "hello"), 0);
		await_attached(consumer, 2);
		/* What it published before is delivered, in either order. */
		for (int k = 0; k < 2; k++) {
			message = next_message(consumer);
			assert_text(&message,
			            message.peer.slot_index == peer.slot_index
			                    ? "good"
			                    : "hello");
			peal_consumer_release(consumer, &message);
		}
		expect_nothing(consumer);
		assert_stale(consumer, peer);
		await_gone(consumer, 1);
		assert_int_equal(stats_of(consumer).evicted_count, 1);
		assert_int_equal(stats_of(consumer).message_count, 2);
		assert_int_equal(send_text(honest, "still here"), 0);
		expect(consumer, "still here");
		/* The liar learns that it is out when its ring, which nobody
		 * empties any more, is full; not at once, since a full ring is
		 * no reason for a system call each time. */
		do
			error = send_text(liar, "more");
		while (error == 0 || error == -EAGAIN);
		assert_int_equal(error, -EPROTO);
		assert_int_equal(send_text(liar, "more"), -EPROTO);
		peal_producer_detach(liar);
		peal_producer_detach(honest);
		peal_consumer_close(consumer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(messages_of_one_producer_arrive_in_its_order),
		TEST(producers_take_turns_of_the_budget),
		TEST(has_data_tells_of_a_producer_that_is_new),
		TEST(has_data_changes_nothing_however_often),
		TEST(messages_that_are_held_keep_their_bytes),
		TEST(peer_is_who_has_attached),
		TEST(peer_that_has_gone_is_estale),
		TEST(release_of_a_message_of_an_ended_connection_is_left_alone),
		TEST(ring_that_makes_no_sense_is_closed_and_nobody_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
