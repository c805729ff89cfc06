/* SPDX-License-Identifier: MIT */
/*
 * Bugs that reviewers found, each named after what it did.
 */
#include "tests/unit/mpsc_fixture.h"

#include <pthread.h>
#include <string.h>

#include "peal/observer.h"

#define SHORT_NS UINT64_C(300000000)

static void evicted_ring_keeps_the_views_that_are_held(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	struct peal_message held, none;

	(void)state;
	assert_int_equal(send_text(producer, "good"), 0);
	spoil(producer, 5);
	held = next_message(consumer);
	assert_int_equal(peal_consumer_peek(consumer, &none), -EAGAIN);
	/* Time enough for the door to take away what it may. */
	peal_consumer_wait(consumer, SHORT_NS);
	assert_text(&held, "good");
	/* Its producer was told already, and is counted once. */
	assert_int_equal(stats_of(consumer).evicted_count, 1);
	peal_consumer_release(consumer, &held);
	peal_consumer_wait(consumer, SHORT_NS);
	assert_int_equal(stats_of(consumer).evicted_count, 1);
	assert_int_equal(stats_of(consumer).message_count, 1);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

struct waiter {
	struct peal_producer *producer;
	uint32_t is_done;
	int error;
};

static void *claim_all(void *argument)
{
	struct waiter *waiter = argument;
	void *data;

	waiter->error = peal_producer_claim(
		waiter->producer, peal_producer_message_max(waiter->producer),
		PATIENCE_NS, &data);
	__atomic_store_n(&waiter->is_done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void little_that_is_released_out_of_turn_is_told(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *first = attach(), *second = attach();
	struct waiter waiter = {.producer = first};
	struct peal_message held[2], none;
	pthread_t thread;

	(void)state;
	await_attached(consumer, 2);
	assert_int_equal(send_text(first, "one"), 0);
	held[0] = next_message(consumer);
	assert_int_equal(send_text(second, "two"), 0);
	held[1] = next_message(consumer); /* the turn has moved on */
	peal_consumer_release(consumer, &held[0]);
	peal_consumer_release(consumer, &held[1]);
	/* Nothing more will come of the first before it has all of its ring. */
	assert_int_equal(pthread_create(&thread, NULL, claim_all, &waiter), 0);
	while (!__atomic_load_n(&waiter.is_done, __ATOMIC_ACQUIRE)) {
		peal_consumer_wait(consumer, 1000000);
		peal_consumer_peek(consumer, &none);
	}
	pthread_join(thread, NULL);
	assert_int_equal(waiter.error, 0);
	peal_producer_detach(first);
	peal_producer_detach(second);
	peal_consumer_close(consumer);
}

/* Keep the ring full of small messages. */
static void fill_up(struct peal_producer *producer)
{
	while (send_text(producer, "x") == 0)
		;
}

static void one_peek_for_each_wait_starves_nobody(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producers[3];
	uint32_t served[3] = {0};
	struct peal_message message;

	(void)state;
	for (int i = 0; i < 3; i++)
		producers[i] = attach();
	await_attached(consumer, 3);
	for (int i = 0; i < 3; i++)
		fill_up(producers[i]);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(peal_consumer_wait(consumer, PATIENCE_NS), 0);
		if (peal_consumer_peek(consumer, &message) != 0)
			continue;
		for (int k = 0; k < 3; k++)
			served[k] += message.peer.slot_index ==
			             sent_by(producers[k]).self.slot_index;
		peal_consumer_release(consumer, &message);
		for (int k = 0; k < 3; k++)
			fill_up(producers[k]);
	}
	for (int i = 0; i < 3; i++) {
		assert_true(served[i] > 150);
		peal_producer_detach(producers[i]);
	}
	peal_consumer_close(consumer);
}

struct flood {
	struct peal_producer *producer;
	uint32_t stop;
};

/* Until told to stop: the ring never runs empty for long. */
static void *flood(void *argument)
{
	struct flood *flood = argument;

	while (!__atomic_load_n(&flood->stop, __ATOMIC_ACQUIRE))
		if (peal_producer_send(flood->producer, "x", 1, 1000000) == 0)
			continue;
	return NULL;
}

static void *attach_beside(void *argument)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer **producer = argument;

	return peal_producer_attach(&options, PATIENCE_NS, producer) == 0
	               ? argument
	               : NULL;
}

static void door_is_looked_at_though_the_rings_never_run_empty(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer *producer, *second = NULL;
	struct flood given = {.stop = 0};
	struct peal_consumer *consumer;
	struct peal_message message;
	pthread_t thread, attacher;
	uint64_t end_ns = now_ns() + PATIENCE_NS;
	void *result;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	assert_int_equal(
		pthread_create(&attacher, NULL, attach_beside, &producer), 0);
	while (stats_of(consumer).attached_count == 0)
		peal_consumer_wait(consumer, 1000000);
	pthread_join(attacher, &result);
	assert_non_null(result);
	given.producer = producer;
	assert_int_equal(pthread_create(&thread, NULL, flood, &given), 0);
	assert_int_equal(
		pthread_create(&attacher, NULL, attach_beside, &second), 0);
	/* No wait and no dispatch: there is always something to peek. */
	while (stats_of(consumer).attached_count == 1 && now_ns() < end_ns)
		if (peal_consumer_peek(consumer, &message) == 0)
			peal_consumer_release(consumer, &message);
	assert_int_equal(stats_of(consumer).attached_count, 2);
	__atomic_store_n(&given.stop, 1, __ATOMIC_RELEASE);
	pthread_join(attacher, &result);
	pthread_join(thread, NULL);
	assert_non_null(result);
	peal_producer_detach(producer);
	peal_producer_detach(second);
	peal_consumer_close(consumer);
}

static void observers_leave_room_for_those_who_work(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_observer *observers[16];
	struct peal_failure failure;
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	int count;

	(void)state;
	options.producer_max = 1;
	consumer = open_with(&options);
	for (count = 0; count < 16; count++)
		assert_int_equal(peal_observer_open(options.name, PATIENCE_NS,
		                                    &failure,
		                                    &observers[count]),
		                 0);
	producer = attach();
	await_attached(consumer, 1);
	peal_producer_detach(producer);
	while (count > 0)
		peal_observer_close(observers[--count]);
	peal_consumer_close(consumer);
}

/* Those who only stand there must not hide the server from its own user. */
static void observer_that_is_turned_away_looks_past_the_others(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	struct peal_observer *observers[9], *last;
	struct peal_server_info info;

	(void)state;
	for (int i = 0; i < 9; i++)
		assert_int_equal(peal_observer_open("words", PATIENCE_NS,
		                                    &own.failure,
		                                    &observers[i]),
		                 0);
	last = observers[8];
	await_attached(consumer, 1);
	assert_int_equal(peal_observer_refresh(last, PATIENCE_NS), -EBUSY);
	assert_int_equal(peal_observer_server(last, &info), 0);
	assert_int_equal(info.state, PEAL_SERVER_ALIVE);
	assert_int_equal(info.attached_count, 1);
	for (int i = 0; i < 8; i++)
		peal_observer_close(observers[i]);
	/* There is room again as soon as the server has seen it. */
	while (peal_observer_refresh(last, PATIENCE_NS) == -EBUSY)
		sched_yield();
	assert_int_equal(peal_observer_refresh(last, PATIENCE_NS), 0);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
	assert_int_equal(peal_observer_server(last, &info), 0);
	assert_int_equal(info.state, PEAL_SERVER_CLOSED);
	peal_observer_close(last);
}

/* An observer in another thread, of a server that dispatches on this one. */
struct looking {
	struct peal_observer *observer;
	int result;
	uint32_t done;
};

static void *look(void *argument)
{
	struct looking *looking = argument;

	looking->result =
		looking->observer == NULL
			? peal_observer_open("words", PATIENCE_NS, NULL,
	                                     &looking->observer)
			: peal_observer_refresh(looking->observer, PATIENCE_NS);
	flag_set(&looking->done);
	return NULL;
}

static int look_dispatching(struct peal_consumer *consumer,
                            struct peal_observer **observer)
{
	struct looking looking = {.observer = *observer};
	struct later later;

	later_start(&later, 0, look, &looking);
	while (!flag_is_set(&looking.done)) {
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
		sched_yield();
	}
	later_join(&later);
	*observer = looking.observer;
	return looking.result;
}

/* It stood before a server that did not answer, and was told later that eight
 * look already: for ever after the server seemed to have died, and to be
 * silent. */
static void observer_that_is_turned_away_late_comes_back(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_observer *observers[8] = {NULL}, *last;
	struct peal_consumer *consumer;
	struct peal_server_info info;
	int error;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	for (int i = 0; i < 8; i++)
		assert_int_equal(look_dispatching(consumer, &observers[i]), 0);
	/* Nobody dispatches. */
	assert_int_equal(peal_observer_open("words", 10 * MS, NULL, &last), 0);
	assert_int_equal(peal_observer_server(last, &info), 0);
	assert_int_equal(info.state, PEAL_SERVER_SILENT);
	/* It is told, and hung up on. */
	for (int i = 0; i < 3; i++)
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(look_dispatching(consumer, &last), -EBUSY);
		assert_int_equal(peal_observer_server(last, &info), 0);
		assert_int_equal(info.state, PEAL_SERVER_ALIVE);
	}
	for (int i = 0; i < 8; i++)
		peal_observer_close(observers[i]);
	while ((error = look_dispatching(consumer, &last)) == -EBUSY)
		;
	assert_int_equal(error, 0);
	peal_observer_close(last);
	peal_consumer_close(consumer);
}

static void *close_it(void *consumer)
{
	peal_consumer_close(consumer);
	return NULL;
}

/* What such a batch returns is a count, and the loss would be told by nobody. */
static void loss_in_the_middle_of_a_batch_is_told_by_the_next_call(void **state)
{
	enum { COUNT = 100 };
	static char data[300];
	struct peal_producer_options options = producer_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_part messages[COUNT];
	struct peal_producer *producer;
	struct later later;
	int count;

	(void)state;
	for (int i = 0; i < COUNT; i++)
		messages[i] = (struct peal_part){data, sizeof(data)};
	options.reconnect = 1;
	producer = attach_with(&options);
	await_attached(consumer, 1);
	later_start(&later, 50 * MS, close_it, consumer);
	count = peal_producer_send_batch(producer, messages, COUNT,
	                                 PEAL_FOREVER);
	assert_in_range(count, 1, COUNT - 1);
	later_join(&later);
	consumer = open_consumer();
	assert_int_equal(send_text(producer, "lost"), -ESHUTDOWN);
	assert_int_equal(send_text(producer, "found"), 0);
	expect(consumer, "found");
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(evicted_ring_keeps_the_views_that_are_held),
		TEST(little_that_is_released_out_of_turn_is_told),
		TEST(one_peek_for_each_wait_starves_nobody),
		TEST(door_is_looked_at_though_the_rings_never_run_empty),
		TEST(observers_leave_room_for_those_who_work),
		TEST(observer_that_is_turned_away_looks_past_the_others),
		TEST(observer_that_is_turned_away_late_comes_back),
		TEST(loss_in_the_middle_of_a_batch_is_told_by_the_next_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
