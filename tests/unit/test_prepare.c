/* SPDX-License-Identifier: MIT */
/*
 * What comes between the last look of a prepare and its arming, or just after
 * that, is not slept through. Needs -Dhooks=true: by chance it never comes.
 */
#include "tests/unit/mpsc_fixture.h"

#include "base/hooks.h"

static struct peal_consumer *consumer;
static struct peal_producer *producer;

/* What happens at a place, once. */
static struct {
	const char *place;
	void (*happen)(void);
	int count;
} event;

static void pass(const char *place)
{
	void (*happen)(void) = event.happen;

	if (happen == NULL || strcmp(place, event.place) != 0)
		return;
	event.happen = NULL; /* it passes hooks of its own */
	event.count++;
	happen();
}

static void at(const char *place, void (*happen)(void))
{
	event.place = place;
	event.count = 0;
	event.happen = happen;
}

static int begin_in_loop(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();

	if (begin(state) != 0)
		return -1;
	options.wait_mode = others.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	producer = attach_dispatching(consumer, &others);
	await_attached(consumer, 1);
	while (peal_consumer_prepare(consumer) == 1)
		;
	peal_consumer_dispatch(consumer);
	peal__hook = pass;
	return 0;
}

static int end_in_loop(void **state)
{
	peal__hook = NULL;
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
	return end(state);
}

#define IN_LOOP(test) \
	cmocka_unit_test_setup_teardown(test, begin_in_loop, end_in_loop)

static const char *const consumers_places[] = {"consumer prepares: about to",
                                               "consumer prepares: armed"};
static const char *const producers_places[] = {"producer prepares: about to",
                                               "producer prepares: armed"};

/* Prepare says that there is work, or what it polls says so. */
static bool consumer_would_notice(void)
{
	return peal_consumer_prepare(consumer) == 1 ||
	       is_readable(peal_consumer_fd(consumer), 0);
}

static void publish(void)
{
	event.count += send_text(producer, "hello") == 0;
}

static void message_that_comes_during_prepare_is_not_slept_through(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(consumers_places); i++)
		for (int round = 0; round < 3; round++) {
			at(consumers_places[i], publish);
			assert_true(consumer_would_notice());
			assert_int_equal(event.count, 2);
			peal_consumer_dispatch(consumer);
			expect(consumer, "hello");
		}
}

static void notify(void)
{
	peal_consumer_notify(consumer);
}

static void notify_that_comes_during_prepare_is_not_slept_through(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(consumers_places); i++)
		for (int round = 0; round < 3; round++) {
			at(consumers_places[i], notify);
			assert_true(consumer_would_notice());
			assert_int_equal(event.count, 1);
			peal_consumer_dispatch(consumer);
			peal_consumer_wait(consumer, 0);
		}
}

static void release(void)
{
	struct peal_message message;

	if (peal_consumer_peek(consumer, &message) != 0)
		return;
	peal_consumer_release(consumer, &message);
	/* It was the only one, so the consumer settles and rings. */
	peal_consumer_prepare(consumer);
	peal_consumer_dispatch(consumer);
	event.count++;
}

static void room_that_comes_during_prepare_is_not_slept_through(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(producers_places); i++)
		for (int round = 0; round < 3; round++) {
			assert_int_equal(fill(producer, 3000), 1);
			at(producers_places[i], release);
			assert_true(peal_producer_prepare(producer, 3000) ==
			                    1 ||
			            is_readable(peal_producer_fd(producer), 0));
			assert_int_equal(event.count, 2);
			assert_int_equal(peal_producer_dispatch(producer), 0);
			assert_int_equal(fill(producer, 3000), 1);
			assert_int_equal(drain(consumer), 1);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_LOOP(message_that_comes_during_prepare_is_not_slept_through),
		IN_LOOP(notify_that_comes_during_prepare_is_not_slept_through),
		IN_LOOP(room_that_comes_during_prepare_is_not_slept_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
