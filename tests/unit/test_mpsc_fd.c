/* SPDX-License-Identifier: MIT */
/* Both sides inside an event loop of somebody else's: prepare, poll, dispatch. */
#include "tests/unit/mpsc_fixture.h"

#include <sys/time.h>

#include "tests/unit/sanitizer.h"

#define MESSAGES (SLOW ? 3000 : 20000)
#define PATIENCE_MS 30000

static struct peal_consumer *consumer;
static int fd;

static int begin_with_fd(void **state)
{
	struct peal_consumer_options options = consumer_options();

	if (begin(state) != 0)
		return -1;
	options.wait_mode = PEAL_WAIT_FD;
	options.spin_mode = PEAL_SPIN_NEVER;
	consumer = open_with(&options);
	fd = peal_consumer_fd(consumer);
	assert_true(fd >= 0);
	return 0;
}

static int end_with_fd(void **state)
{
	assert_int_equal(peal_consumer_close(consumer), 0);
	return end(state);
}

#define WITH_FD(test) \
	cmocka_unit_test_setup_teardown(test, begin_with_fd, end_with_fd)

static struct peal_producer *attach_here(void)
{
	struct peal_producer_options options = producer_options();

	options.spin_mode = PEAL_SPIN_NEVER;
	return attach_dispatching(consumer, &options);
}

/* Dispatch until there is nothing left to do: armed, and may block. */
static void arm(void)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	for (;;) {
		while (is_readable(fd, 0))
			assert_int_equal(peal_consumer_dispatch(consumer), 0);
		if (peal_consumer_prepare(consumer) == 0 && !is_readable(fd, 0))
			return;
		assert_true(now_ns() < end_ns);
	}
}

/* One turn of the loop: 0, or what it was that took too long. */
static int turn(int timeout_ms)
{
	int prepared = peal_consumer_prepare(consumer);

	if (prepared < 0 || prepared > 1)
		return 1;
	if (prepared == 0 && !is_readable(fd, timeout_ms))
		return 2;
	return peal_consumer_dispatch(consumer) == 0 ? 0 : 3;
}

static void expect_in_loop(const char *text)
{
	struct peal_message message;

	while (peal_consumer_peek(consumer, &message) != 0)
		assert_int_equal(turn(PATIENCE_MS), 0);
	assert_text(&message, text);
	peal_consumer_release(consumer, &message);
}

/* the consumer ------------------------------------------------------------ */

static void futex_mode_has_no_descriptor(void **state)
{
	struct peal_consumer *other;
	struct peal_producer *producer;

	(void)state;
	peal_consumer_close(consumer);
	other = open_consumer();
	producer = attach();
	assert_int_equal(peal_consumer_fd(other), -EINVAL);
	assert_int_equal(peal_consumer_prepare(other), -EINVAL);
	assert_int_equal(peal_consumer_dispatch(other), -EINVAL);
	assert_int_equal(peal_producer_fd(producer), -EINVAL);
	assert_int_equal(peal_producer_prepare(producer, 1), -EINVAL);
	assert_int_equal(peal_producer_dispatch(producer), -EINVAL);
	peal_producer_detach(producer);
	peal_consumer_close(other);
	consumer = open_consumer();
}

static void one_who_attaches_makes_the_descriptor_readable(void **state)
{
	struct peal_producer_options options = producer_options();
	struct attaching attaching = {.options = &options};

	struct later later;

	(void)state;
	arm();
	later_start(&later, 0, attaching_run, &attaching);
	/* It dispatches only what the descriptor announces. */
	while (!flag_is_set(&attaching.done)) {
		int result = turn(10);

		assert_true(result == 0 || result == 2);
	}
	later_join(&later);
	assert_int_equal(attaching.result, 0);
	assert_int_equal(send_text(attaching.producer, "hello"), 0);
	expect_in_loop("hello");
	peal_producer_detach(attaching.producer);
}

static void
message_makes_the_descriptor_of_one_who_sleeps_readable(void **state)
{
	struct peal_producer *producer = attach_here();

	(void)state;
	for (int i = 0; i < 10; i++) {
		arm();
		assert_int_equal(send_text(producer, "hello"), 0);
		assert_int_equal(send_text(producer, "again"), 0);
		assert_true(is_readable(fd, PATIENCE_MS));
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
		expect(consumer, "hello");
		expect(consumer, "again");
	}
	peal_producer_detach(producer);
}

static void prepare_with_work_says_so_and_does_not_arm(void **state)
{
	struct peal_producer *producer = attach_here();

	(void)state;
	arm();
	peal_consumer_dispatch(consumer);
	assert_int_equal(send_text(producer, "one"), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(peal_consumer_prepare(consumer), 1);
	/* It was awake, so nobody had to ring. */
	assert_int_equal(send_text(producer, "two"), 0);
	assert_false(is_readable(fd, 0));
	expect(consumer, "one");
	assert_int_equal(peal_consumer_prepare(consumer), 1);
	expect(consumer, "two");
	assert_int_equal(peal_consumer_prepare(consumer), 0);
	peal_consumer_dispatch(consumer);
	peal_producer_detach(producer);
}

static void *notify(void *unused)
{
	(void)unused;
	peal_consumer_notify(consumer);
	return NULL;
}

static void notify_makes_the_descriptor_readable(void **state)
{
	struct later later;

	(void)state;
	arm();
	later_start(&later, 10 * MS, notify, NULL);
	assert_true(is_readable(fd, PATIENCE_MS));
	later_join(&later);
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	assert_false(is_readable(fd, 0));
	/* Before prepare: that says that there is work. */
	peal_consumer_notify(consumer);
	assert_int_equal(peal_consumer_prepare(consumer), 1);
	assert_int_equal(peal_consumer_prepare(consumer), 0);
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
}

static void wait_does_the_work_of_dispatch_as_well(void **state)
{
	struct peal_producer_options options = producer_options();
	struct attaching attaching = {.options = &options};
	uint64_t start_ns = now_ns();
	struct later later;

	(void)state;
	assert_int_equal(peal_consumer_wait(consumer, 0), -ETIMEDOUT);
	assert_int_equal(peal_consumer_wait(consumer, 30 * MS), -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 30 * MS);
	later_start(&later, 0, attaching_run, &attaching);
	while (!flag_is_set(&attaching.done))
		peal_consumer_wait(consumer, 10 * MS);
	later_join(&later);
	assert_int_equal(attaching.result, 0);
	assert_int_equal(send_text(attaching.producer, "hello"), 0);
	expect(consumer, "hello");
	peal_producer_detach(attaching.producer);
	await_gone(consumer, 1);
	assert_int_equal(stats_of(consumer).detached_count, 1);
	peal_consumer_notify(consumer);
	assert_int_equal(peal_consumer_wait(consumer, PEAL_FOREVER), 0);
	later_start(&later, 10 * MS, notify, NULL);
	assert_int_equal(peal_consumer_wait(consumer, PEAL_FOREVER), 0);
	later_join(&later);
}

static void errno_is_left_alone(void **state)
{
	struct peal_producer *producer = attach_here();

	(void)state;
	errno = OUR_ERRNO;
	peal_consumer_prepare(consumer);
	peal_consumer_dispatch(consumer);
	peal_consumer_wait(consumer, 0);
	peal_consumer_wait(consumer, MS);
	assert_int_equal(errno, OUR_ERRNO);
	peal_producer_detach(producer);
}

static void death_of_a_producer_makes_the_descriptor_readable(void **state)
{
	struct peal_producer *producer = attach_here();

	(void)state;
	arm();
	peal_producer_detach(producer);
	while (stats_of(consumer).detached_count == 0)
		assert_int_equal(turn(PATIENCE_MS), 0);
}

/* a producer waits for room ------------------------------------------------ */

static struct peal_producer *attach_with_fd(uint64_t *ret_count)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;

	options.wait_mode = PEAL_WAIT_FD;
	options.spin_mode = PEAL_SPIN_NEVER;
	producer = attach_dispatching(consumer, &options);
	*ret_count = fill(producer, 1000);
	return producer;
}

static void room_makes_the_producers_descriptor_readable(void **state)
{
	uint64_t count;
	struct peal_producer *producer = attach_with_fd(&count);
	int producer_fd = peal_producer_fd(producer);
	struct peal_message message;
	void *data;

	(void)state;
	assert_true(producer_fd >= 0);
	assert_int_equal(peal_producer_prepare(producer, 4065), -EMSGSIZE);
	assert_int_equal(peal_producer_prepare(producer, 10), 1);
	/* It asks for three of them: the first two are not worth a ring. */
	assert_int_equal(peal_producer_prepare(producer, 3600), 0);
	await_attached(consumer, 1);
	for (uint64_t i = 0; i < count; i++) {
		assert_int_equal(peal_consumer_peek(consumer, &message), 0);
		peal_consumer_release(consumer, &message);
		peal_consumer_wait(consumer, 0);
		peal_consumer_prepare(consumer);
		peal_consumer_dispatch(consumer);
		assert_int_equal(is_readable(producer_fd, 0), i >= 2);
		if (i == 1)
			assert_int_equal(peal_producer_claim(producer, 3600, 0,
			                                     &data),
			                 -EAGAIN);
	}
	assert_true(is_readable(producer_fd, PATIENCE_MS));
	assert_int_equal(peal_producer_dispatch(producer), 0);
	assert_false(is_readable(producer_fd, 0));
	assert_int_equal(peal_producer_prepare(producer, 3600), 1);
	assert_int_equal(peal_producer_claim(producer, 3600, 0, &data), 0);
	assert_int_equal(peal_producer_abort(producer), 0);
	peal_producer_detach(producer);
}

static void close_makes_the_producers_descriptor_readable(void **state)
{
	uint64_t count;
	struct peal_producer *producer = attach_with_fd(&count);
	int producer_fd = peal_producer_fd(producer);

	(void)state;
	assert_int_equal(peal_producer_prepare(producer, 1000), 0);
	assert_false(is_readable(producer_fd, 0));
	peal_consumer_close(consumer);
	assert_true(is_readable(producer_fd, PATIENCE_MS));
	assert_int_equal(peal_producer_dispatch(producer), -ESHUTDOWN);
	assert_int_equal(peal_producer_dispatch(producer), -ESHUTDOWN);
	assert_int_equal(peal_producer_fd(producer), -ESHUTDOWN);
	assert_int_equal(peal_producer_prepare(producer, 1000), -ESHUTDOWN);
	assert_int_equal(send_text(producer, "x"), -ESHUTDOWN);
	peal_producer_detach(producer);
	consumer = open_consumer();
}

/* A loop that goes round on prepare alone would never rest. */
static void loop_that_has_lost_its_consumer_is_not_told_to_go_on(void **state)
{
	struct peal_producer_options options = producer_options();
	struct peal_consumer *other = open_consumer();
	struct peal_producer *producer;
	int ours;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.reconnect = 1;
	producer = attach_with(&options);
	ours = peal_producer_fd(producer);
	await_attached(other, 1);
	peal_consumer_close(other);
	assert_true(is_readable(ours, PATIENCE_MS));
	assert_int_equal(peal_producer_dispatch(producer), -ESHUTDOWN);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(peal_producer_prepare(producer, 1),
		                 -ESHUTDOWN);
		assert_int_equal(peal_producer_fd(producer), -ESHUTDOWN);
		/* What the loop's timer would try. */
		assert_int_equal(send_text(producer, "x"), -ECONNREFUSED);
	}
	other = open_consumer();
	assert_int_equal(send_text(producer, "again"), 0);
	assert_int_equal(peal_producer_prepare(producer, 1), 1);
	assert_true(peal_producer_fd(producer) >= 0);
	expect(other, "again");
	peal_producer_detach(producer);
	peal_consumer_close(other);
}

/* both in their loops ------------------------------------------------------ */

static void *send_in_loop(void *argument)
{
	struct peal_producer *producer = argument;
	char data[200] = "";

	for (int i = 0; i < MESSAGES;) {
		size_t bytes = 1 + (size_t)i % sizeof(data);
		int error;

		memcpy(data, &i, bytes < sizeof(i) ? bytes : sizeof(i));
		error = peal_producer_send(producer, data, bytes, 0);
		if (error == 0) {
			i++;
			continue;
		}
		if (error != -EAGAIN)
			return (void *)1;
		error = peal_producer_prepare(producer, bytes);
		if (error == 0 &&
		    !is_readable(peal_producer_fd(producer), PATIENCE_MS))
			return (void *)2;
		if (error < 0 || peal_producer_dispatch(producer) != 0)
			return (void *)3;
	}
	return NULL;
}

static void loops_pass_many_messages_and_lose_no_wake(void **state)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;
	struct later later;
	int next = 0;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	producer = attach_dispatching(consumer, &options);
	later_start(&later, 0, send_in_loop, producer);
	while (next < MESSAGES) {
		struct peal_message message;
		char data[200] = "";

		if (peal_consumer_peek(consumer, &message) != 0) {
			assert_int_equal(turn(PATIENCE_MS), 0);
			continue;
		}
		assert_int_equal(message.data_bytes,
		                 1 + (size_t)next % sizeof(data));
		memcpy(data, &next,
		       message.data_bytes < sizeof(next) ? message.data_bytes
		                                         : sizeof(next));
		assert_memory_equal(message.data, data,
		                    message.data_bytes < sizeof(next)
		                            ? message.data_bytes
		                            : sizeof(next));
		peal_consumer_release(consumer, &message);
		next++;
	}
	assert_null(later_join(&later));
	peal_producer_detach(producer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FD(futex_mode_has_no_descriptor),
		WITH_FD(one_who_attaches_makes_the_descriptor_readable),
		WITH_FD(message_makes_the_descriptor_of_one_who_sleeps_readable),
		WITH_FD(prepare_with_work_says_so_and_does_not_arm),
		WITH_FD(notify_makes_the_descriptor_readable),
		WITH_FD(wait_does_the_work_of_dispatch_as_well),
		WITH_FD(errno_is_left_alone),
		WITH_FD(death_of_a_producer_makes_the_descriptor_readable),
		WITH_FD(room_makes_the_producers_descriptor_readable),
		WITH_FD(close_makes_the_producers_descriptor_readable),
		TEST(loop_that_has_lost_its_consumer_is_not_told_to_go_on),
		WITH_FD(loops_pass_many_messages_and_lose_no_wake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
