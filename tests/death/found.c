/* SPDX-License-Identifier: MIT */
/*
 * Bugs that the tests beside this one have found by chance, each made certain.
 */
#include "tests/scene.h"

#include "mpsc/attach.h"
#include "mpsc/server.h"
#include "peal/doorbell.h"

#define NAME "words"
#define MESSAGE_COUNT 2

static struct board {
	uint64_t is_open;
	uint64_t taken_count;
	uint64_t attached_count;
	uint64_t stop;
} * board;

/* Takes one message, waits through the death of its sender, takes another. */
static int take_messages(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_message message;

	(void)arg;
	options.name = NAME;
	options.spin_ns = 50 * SCENE_US;
	if (peal_consumer_open(&options, &consumer) < 0)
		return 2;
	scene_put(&board->is_open, 1);
	for (int i = 0; i < MESSAGE_COUNT; i++) {
		while (peal_consumer_peek(consumer, &message) != 0)
			if (peal_consumer_wait(consumer, 10 * SCENE_S) != 0)
				return 3;
		peal_consumer_release(consumer, &message);
		scene_add(&board->taken_count, 1);
	}
	return peal_consumer_close(consumer);
}

/* An empty message, and then a while of peace. */
static int send_once(bool stays)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;

	options.name = NAME;
	if (peal_producer_attach(&options, 10 * SCENE_S, &producer) < 0 ||
	    peal_producer_send(producer, "", 0, SCENE_S) < 0)
		return 1;
	scene_add(&board->attached_count, 1);
	scene_sleep_ns(50 * SCENE_MS);
	if (stays && !scene_reach(&board->stop, 1, 10 * SCENE_S))
		return 2;
	return peal_producer_detach(producer);
}

static int send_and_leave(void *arg)
{
	(void)arg;
	return send_once(false);
}

/* It looked where that one had run last, in memory that was unmapped. */
static void waiting_consumer_survives_the_producer_it_watched(void **state)
{
	pid_t consumer;

	(void)state;
	consumer = scene_start(take_messages, NULL);
	assert_true(scene_reach(&board->is_open, 1, 10 * SCENE_S));
	for (int i = 0; i < MESSAGE_COUNT; i++) {
		pid_t producer = scene_start(send_and_leave, NULL);

		assert_int_equal(scene_wait(producer, 10 * SCENE_S), 0);
		scene_sleep_ns(50 * SCENE_MS);
	}
	assert_int_equal(scene_wait(consumer, 10 * SCENE_S), 0);
	assert_int_equal(board->taken_count, MESSAGE_COUNT);
}

static int attach_again_and_again(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	int error;

	(void)arg;
	options.name = NAME;
	while (scene_get(&board->stop) == 0) {
		error = peal_producer_attach(&options, 10 * SCENE_S, &producer);
		if (error == 0) {
			scene_add(&board->attached_count, 1);
			peal_producer_detach(producer);
		} else if (error != -ECONNREFUSED && error != -ECONNRESET &&
		           error != -ESHUTDOWN) {
			return -error;
		}
	}
	return 0;
}

/* The first one of all was welcomed before there was anything to hand over. */
static void server_is_complete_when_it_can_be_reached(void **state)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	pid_t client;

	(void)state;
	options.name = NAME;
	client = scene_start(attach_again_and_again, NULL);
	for (uint64_t i = 0; i < 100; i++) {
		assert_int_equal(peal_consumer_open(&options, &consumer), 0);
		if (!scene_reach(&board->attached_count, i + 1, SCENE_S))
			break;
		peal_consumer_close(consumer);
	}
	scene_put(&board->stop, 1);
	assert_int_equal(scene_wait(client, 20 * SCENE_S), 0);
}

static int attach_and_send(void *arg)
{
	(void)arg;
	return send_once(true);
}

static struct peal_consumer *open_in_fd_mode(void)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer = NULL;

	memset(board, 0, sizeof(*board));
	options.name = NAME;
	options.wait_mode = PEAL_WAIT_FD;
	assert_int_equal(peal_consumer_open(&options, &consumer), 0);
	return consumer;
}

/* What it had sent already was not read before it was found to be late. */
static void handshake_is_not_late_because_the_server_was(void **state)
{
	struct peal_consumer *consumer = open_in_fd_mode();
	pid_t client = scene_start(attach_and_send, NULL);
	struct peal_consumer_stats stats;
	struct peal_message message;

	(void)state;
	/* Up to WELCOME, and not to READY. */
	while (scene_get(&board->attached_count) == 0) {
		peal_consumer_dispatch(consumer);
		scene_sleep_ns(20 * SCENE_MS);
	}
	scene_sleep_ns(1200 * SCENE_MS);
	for (int i = 0; i < 100 && peal_consumer_peek(consumer, &message) != 0;
	     i++)
		peal_consumer_wait(consumer, 10 * SCENE_MS);
	assert_int_equal(peal_consumer_stats(consumer, &stats), 0);
	assert_int_equal(stats.refused_count, 0);
	assert_int_equal(stats.message_count, 1);
	scene_put(&board->stop, 1);
	assert_int_equal(scene_wait(client, 10 * SCENE_S), 0);
	peal_consumer_close(consumer);
}

static int stream(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;

	(void)arg;
	options.name = NAME;
	if (peal_producer_attach(&options, 10 * SCENE_S, &producer) < 0)
		return 1;
	while (peal_producer_send(producer, "again", 5, PEAL_FOREVER) == 0)
		;
	return 0;
}

/* In fd mode the door was looked at in pauses only, and there was none. */
static void busy_consumer_in_fd_mode_still_admits(void **state)
{
	struct peal_consumer *consumer = open_in_fd_mode();
	/* At once, but on a machine that has other things to do. */
	uint64_t end_ns = scene_now_ns() + 30 * SCENE_S;
	struct peal_message message;
	bool is_heard = false;
	pid_t second = -1;

	(void)state;
	scene_start(stream, NULL);
	while (!is_heard && scene_now_ns() < end_ns) {
		/* Documented: prepare, dispatch, then peek all there is. */
		peal_consumer_wait(consumer, 10 * SCENE_MS);
		while (!is_heard && scene_now_ns() < end_ns &&
		       peal_consumer_peek(consumer, &message) == 0) {
			is_heard = message.data_bytes == 0;
			if (second < 0)
				second = scene_start(attach_and_send, NULL);
			peal_consumer_release(consumer, &message);
			/* So slow that there is always another one. */
			scene_sleep_ns(5 * SCENE_US);
		}
	}
	scene_put(&board->stop, 1);
	assert_true(is_heard);
	peal_consumer_close(consumer);
	assert_int_equal(scene_wait(second, 10 * SCENE_S), 0);
}

/* Take one, without a pause in which anything else could be done. */
static void take_one(struct peal_consumer *consumer)
{
	struct peal_message message;
	int error;

	do
		error = peal_consumer_peek(consumer, &message);
	while (error == -EAGAIN);
	assert_int_equal(error, 0);
	peal_consumer_release(consumer, &message);
}

static void exchange(struct peal_producer *producer,
                     struct peal_consumer *consumer)
{
	assert_int_equal(peal_producer_send(producer, "on", 2, SCENE_S), 0);
	take_one(consumer);
}

/*
 * The consumer tells what it released by a plain store and looks whether
 * anybody waits for it: it may miss, by a store buffer, who falls asleep just
 * then. It was made sure of in a pause only, and there was none.
 */
static void busy_consumer_rings_one_that_fell_asleep_meanwhile(void **state)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_producer_options other = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal__connection connection;
	struct peal_consumer *consumer;
	struct peal_producer *busy;
	struct peal_ring_tx tx;
	uint32_t before;
	void *data;

	(void)state;
	options.name = other.name = NAME;
	assert_int_equal(peal_consumer_open(&options, &consumer), 0);
	assert_int_equal(
		peal__attach(&(struct peal__wish){NAME, PEAL__ROLE_PRODUCER,
	                                          4096, 0, 0},
	                     scene_now_ns() + SCENE_S, NULL, &connection),
		0);
	assert_int_equal(peal_producer_attach(&other, SCENE_S, &busy), 0);
	peal_ring_tx_init(
		&tx,
		peal__segment_data(connection.segment, &connection.shape,
	                           PEAL__RING_REQUEST),
		4096, connection.shape.rings[PEAL__RING_REQUEST].start,
		&connection.segment->request_released);
	exchange(busy, consumer);
	peal_consumer_wait(consumer, SCENE_MS);
	/* Taken; and told when it is the other one's turn, not made sure of
	 * by chance just afterwards. */
	consumer->pass_count = 0;
	assert_int_equal(peal_ring_claim(&tx, 100, 0, 0, &data), 0);
	peal_ring_publish(&tx);
	take_one(consumer);
	exchange(busy, consumer);
	assert_int_equal(connection.segment->request_released, tx.tail);
	assert_true(consumer->unsettled_count > 0);
	/* What the consumer would see only now: asleep, and content. */
	before = connection.segment->space.seq;
	connection.segment->space.want = tx.tail;
	__atomic_store_n(&connection.segment->space.arm,
	                 77 << 2 | PEAL_DOORBELL_FUTEX, __ATOMIC_SEQ_CST);
	for (int i = 0; i < 1000; i++)
		exchange(busy, consumer);
	assert_int_not_equal(connection.segment->space.seq, before);
	peal__connection_close(&connection, true, false);
	peal_producer_detach(busy);
	peal_consumer_close(consumer);
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(waiting_consumer_survives_the_producer_it_watched),
		SCENE_TEST(server_is_complete_when_it_can_be_reached),
		SCENE_TEST(handshake_is_not_late_because_the_server_was),
		SCENE_TEST(busy_consumer_in_fd_mode_still_admits),
		SCENE_TEST(busy_consumer_rings_one_that_fell_asleep_meanwhile),
	};

	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
