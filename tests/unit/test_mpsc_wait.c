/* SPDX-License-Identifier: MIT */
/* Sleeping and waking, between threads: nobody spins here. */
#include "tests/unit/mpsc_fixture.h"

#include <sys/time.h>

#include "tests/unit/sanitizer.h"

#define MESSAGES (SLOW ? 5000 : 30000)
#define PRODUCERS 3

static struct peal_consumer *consumer;

static int begin_asleep(void **state)
{
	struct peal_consumer_options options = consumer_options();

	if (begin(state) != 0)
		return -1;
	options.spin_mode = PEAL_SPIN_NEVER;
	consumer = open_with(&options);
	return 0;
}

static int end_asleep(void **state)
{
	assert_int_equal(peal_consumer_close(consumer), 0);
	return end(state);
}

#define ASLEEP(test) \
	cmocka_unit_test_setup_teardown(test, begin_asleep, end_asleep)

/* the consumer waits ------------------------------------------------------ */

static void wait_of_nothing_is_etimedout_at_once(void **state)
{
	(void)state;
	errno = OUR_ERRNO;
	for (int i = 0; i < 10; i++)
		assert_int_equal(peal_consumer_wait(consumer, 0), -ETIMEDOUT);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(stats_of(consumer).sleep_count, 0);
}

static void wait_ends_at_its_timeout_and_not_before(void **state)
{
	uint64_t start_ns = now_ns();

	(void)state;
	errno = OUR_ERRNO;
	assert_int_equal(peal_consumer_wait(consumer, 50 * MS), -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 50 * MS);
	assert_true(now_ns() - start_ns < PATIENCE_NS);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(stats_of(consumer).sleep_count, 1);
}

static void *send_hello(void *producer)
{
	return (void *)(intptr_t)send_text(producer, "hello");
}

static void message_ends_a_wait(void **state)
{
	struct peal_producer *producer = attach();

	(void)state;
	await_attached(consumer, 1);
	for (int i = 0; i < 10; i++) {
		uint64_t start_ns = now_ns();
		struct later later;

		later_start(&later, 5 * MS, send_hello, producer);
		/* Once it may return for nothing, or for the message. */
		while (peal_consumer_wait(consumer, 20 * SECOND) == 0 &&
		       !peal_consumer_has_data(consumer))
			;
		assert_true(now_ns() - start_ns < 15 * SECOND);
		assert_null(later_join(&later));
		expect(consumer, "hello");
	}
	peal_producer_detach(producer);
}

static void message_that_is_there_ends_a_wait_before_it_begins(void **state)
{
	struct peal_producer *producer = attach();
	uint64_t sleep_count;

	(void)state;
	await_attached(consumer, 1);
	assert_int_equal(send_text(producer, "hello"), 0);
	sleep_count = stats_of(consumer).sleep_count;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(peal_consumer_wait(consumer, PATIENCE_NS), 0);
		assert_int_equal(peal_consumer_wait(consumer, 0), 0);
	}
	assert_int_equal(stats_of(consumer).sleep_count, sleep_count);
	expect(consumer, "hello");
	peal_producer_detach(producer);
}

/* notify ------------------------------------------------------------------ */

static void *notify(void *unused)
{
	(void)unused;
	peal_consumer_notify(consumer);
	return NULL;
}

static void notify_ends_the_wait_that_is_under_way(void **state)
{
	static const uint32_t modes[] = {PEAL_SPIN_ADAPTIVE, PEAL_SPIN_ALWAYS,
	                                 PEAL_SPIN_NEVER};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(modes); i++) {
		struct peal_consumer_options options = consumer_options();
		uint64_t start_ns;
		struct later later;

		options.spin_mode = modes[i];
		peal_consumer_close(consumer);
		consumer = open_with(&options);
		start_ns = now_ns();
		later_start(&later, 10 * MS, notify, NULL);
		assert_int_equal(peal_consumer_wait(consumer, PEAL_FOREVER), 0);
		assert_true(now_ns() - start_ns < 20 * SECOND);
		later_join(&later);
		/* It was meant for that wait alone. */
		assert_int_equal(peal_consumer_wait(consumer, MS), -ETIMEDOUT);
	}
}

static void notify_ends_the_next_wait_and_many_may_be_one(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k <= i; k++)
			peal_consumer_notify(consumer);
		assert_int_equal(peal_consumer_wait(consumer, PEAL_FOREVER), 0);
		assert_int_equal(peal_consumer_wait(consumer, 0), -ETIMEDOUT);
		assert_int_equal(peal_consumer_wait(consumer, MS), -ETIMEDOUT);
	}
	peal_consumer_notify(consumer);
	assert_int_equal(peal_consumer_wait(consumer, 0), 0);
	assert_int_equal(peal_consumer_wait(consumer, 0), -ETIMEDOUT);
	assert_false(peal_consumer_has_data(consumer));
}

static void notify_in_signal(int number)
{
	(void)number;
	peal_consumer_notify(consumer);
}

static void notify_from_a_signal_handler_ends_a_wait(void **state)
{
	const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
	uint64_t start_ns = now_ns();

	(void)state;
	SKIP_WHERE_SIGNALS_WAIT();
	signal(SIGVTALRM, notify_in_signal);
	signal(SIGALRM, notify_in_signal);
	setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(peal_consumer_wait(consumer, PEAL_FOREVER), 0);
	assert_true(now_ns() - start_ns < 20 * SECOND);
	signal(SIGALRM, SIG_DFL);
	/* Before the wait, on this very thread. */
	raise(SIGVTALRM);
	assert_int_equal(peal_consumer_wait(consumer, PEAL_FOREVER), 0);
	signal(SIGVTALRM, SIG_DFL);
}

static void do_nothing(int number)
{
	(void)number;
}

static void signal_alone_ends_no_wait(void **state)
{
	const struct itimerval often = {{0, 5000}, {0, 5000}};
	const struct itimerval never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = do_nothing};
	struct peal_producer *producer = attach();
	uint64_t start_ns;
	void *data;

	(void)state;
	fill(producer, 100);
	await_attached(consumer, 1);
	drain(consumer);
	fill(producer, 100);
	sigaction(SIGALRM, &action, NULL); /* without SA_RESTART */
	setitimer(ITIMER_REAL, &often, NULL);
	start_ns = now_ns();
	assert_int_equal(peal_producer_claim(producer, 100, 60 * MS, &data),
	                 -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 60 * MS);
	drain(consumer);
	start_ns = now_ns();
	assert_int_equal(peal_consumer_wait(consumer, 60 * MS), -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 60 * MS);
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_DFL);
	peal_producer_detach(producer);
}

/* everybody waits --------------------------------------------------------- */

/* A producer of numbered messages of different sizes; 0, or what went wrong. */
static void *send_numbers(void *argument)
{
	struct peal_producer *producer = argument;
	uint64_t numbers[32] = {0};

	for (uint64_t i = 1; i <= MESSAGES; i++) {
		numbers[0] = i;
		numbers[i % 32] = i;
		if (peal_producer_send(producer, numbers,
		                       (i % 32 + 1) * sizeof(numbers[0]),
		                       PATIENCE_NS) != 0)
			return (void *)1;
	}
	return NULL;
}

static void receive_numbers(uint64_t *last)
{
	for (uint64_t left = PRODUCERS * MESSAGES; left > 0;) {
		struct peal_message message;
		uint64_t value, again;

		if (peal_consumer_peek(consumer, &message) != 0) {
			assert_int_equal(
				peal_consumer_wait(consumer, PATIENCE_NS), 0);
			continue;
		}
		memcpy(&value, message.data, sizeof(value));
		memcpy(&again,
		       (const char *)message.data + message.data_bytes - 8, 8);
		assert_int_equal(value, ++last[message.peer.slot_index]);
		assert_int_equal(again, value);
		assert_int_equal(message.data_bytes, (value % 32 + 1) * 8);
		peal_consumer_release(consumer, &message);
		left--;
	}
}

static void stream(uint32_t consumer_spin, uint32_t producer_spin)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_producer *producers[PRODUCERS];
	struct later laters[PRODUCERS];
	uint64_t last[8] = {0};

	peal_consumer_close(consumer);
	options.spin_mode = consumer_spin;
	consumer = open_with(&options);
	others.spin_mode = producer_spin;
	for (int i = 0; i < PRODUCERS; i++) {
		producers[i] = attach_with(&others);
		later_start(&laters[i], 0, send_numbers, producers[i]);
	}
	receive_numbers(last);
	for (int i = 0; i < PRODUCERS; i++) {
		assert_null(later_join(&laters[i]));
		assert_int_equal(last[i], MESSAGES);
		peal_producer_detach(producers[i]);
	}
	expect_nothing(consumer);
	assert_int_equal(stats_of(consumer).message_count,
	                 PRODUCERS * MESSAGES);
}

static void many_messages_of_sleepers_arrive_in_order(void **state)
{
	(void)state;
	stream(PEAL_SPIN_NEVER, PEAL_SPIN_NEVER);
}

static void many_messages_of_spinners_arrive_in_order(void **state)
{
	(void)state;
	stream(PEAL_SPIN_ADAPTIVE, PEAL_SPIN_ADAPTIVE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ASLEEP(wait_of_nothing_is_etimedout_at_once),
		ASLEEP(wait_ends_at_its_timeout_and_not_before),
		ASLEEP(message_ends_a_wait),
		ASLEEP(message_that_is_there_ends_a_wait_before_it_begins),
		ASLEEP(notify_ends_the_wait_that_is_under_way),
		ASLEEP(notify_ends_the_next_wait_and_many_may_be_one),
		ASLEEP(notify_from_a_signal_handler_ends_a_wait),
		ASLEEP(signal_alone_ends_no_wait),
		ASLEEP(many_messages_of_sleepers_arrive_in_order),
		ASLEEP(many_messages_of_spinners_arrive_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
