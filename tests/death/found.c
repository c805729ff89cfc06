/* SPDX-License-Identifier: MIT */
/*
 * Bugs that the tests beside this one have found by chance, each made certain.
 */
#include "tests/scene.h"

#define NAME "words"
#define MESSAGE_COUNT 2

static struct board {
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
	for (int i = 0; i < MESSAGE_COUNT; i++) {
		while (peal_consumer_peek(consumer, &message) != 0)
			if (peal_consumer_wait(consumer, 10 * SCENE_S) != 0)
				return 3;
		peal_consumer_release(consumer, &message);
		scene_add(&board->taken_count, 1);
	}
	return peal_consumer_close(consumer);
}

static int send_and_leave(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;

	(void)arg;
	options.name = NAME;
	if (peal_producer_attach(&options, 10 * SCENE_S, &producer) < 0 ||
	    peal_producer_send(producer, "", 0, SCENE_S) < 0)
		return 1;
	scene_sleep_ns(50 * SCENE_MS);
	return peal_producer_detach(producer);
}

/* It looked where that one had run last, in memory that was unmapped. */
static void waiting_consumer_survives_the_producer_it_watched(void **state)
{
	pid_t consumer;

	(void)state;
	consumer = scene_start(take_messages, NULL);
	scene_sleep_ns(50 * SCENE_MS);
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

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(
			waiting_consumer_survives_the_producer_it_watched,
			scene_teardown),
		cmocka_unit_test_teardown(
			server_is_complete_when_it_can_be_reached,
			scene_teardown),
	};

	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
