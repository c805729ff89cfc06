/* SPDX-License-Identifier: MIT */
/*
 * What the tests of consumer and producer share: a private directory for the
 * names, handles that are opened in one line, and what must hold when a test
 * has ended: nothing left in the directory, no descriptor and no mapping more
 * than before.
 *
 * They link the library as a user does, and include what a user includes.
 */
#ifndef PEAL_TESTS_UNIT_MPSC_FIXTURE_H
#define PEAL_TESTS_UNIT_MPSC_FIXTURE_H

#include "tests/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "peal/mpsc.h"
#include "tests/unit/directory.h"
#include "tests/unit/shared.h"

#define OUR_ERRNO 4321

/* For ever, also on a busy machine; what takes longer has gone wrong. */
#define PATIENCE_NS (30 * SECOND)

struct fixture {
	struct directory directory;
	struct peal_failure failure; /* of the last call that has one */
	int fd_count, mapping_count;
};

static struct fixture own;

static inline int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* Regions of peal that are mapped here. */
static inline int count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int count = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		count += strstr(line, "memfd:peal") != NULL;
	if (file != NULL)
		fclose(file);
	return count;
}

static inline int begin(void **state)
{
	(void)state;
	/* A wait that never ends fails here, and not in the runner. */
	alarm(100);
	own.fd_count = count_fds();
	own.mapping_count = count_mappings();
	own.failure = (struct peal_failure){0, ""};
	return directory_open(&own.directory);
}

static inline int end(void **state)
{
	int names = directory_count(&own.directory);

	(void)state;
	alarm(0);
	if (directory_close(&own.directory) != 0)
		return -1;
	assert_int_equal(names, 0);
	assert_int_equal(count_mappings(), own.mapping_count);
	assert_int_equal(count_fds(), own.fd_count);
	return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, begin, end)

/* handles ---------------------------------------------------------------- */

/* Small enough that a test can fill everything. */
static inline struct peal_consumer_options consumer_options(void)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = "words";
	options.producer_max = 8;
	options.ring_default_bytes = PEAL_RING_MIN_BYTES;
	options.ret_failure = &own.failure;
	return options;
}

static inline struct peal_producer_options producer_options(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;

	options.name = "words";
	options.ret_failure = &own.failure;
	return options;
}

static inline struct peal_consumer *
open_with(const struct peal_consumer_options *options)
{
	struct peal_consumer *consumer = NULL;
	int error = peal_consumer_open(options, &consumer);

	if (error != 0)
		print_message("open: %s\n", own.failure.text);
	assert_int_equal(error, 0);
	return consumer;
}

static inline struct peal_consumer *open_consumer(void)
{
	struct peal_consumer_options options = consumer_options();

	return open_with(&options);
}

static inline struct peal_producer *
attach_with(const struct peal_producer_options *options)
{
	struct peal_producer *producer = NULL;
	int error = peal_producer_attach(options, PATIENCE_NS, &producer);

	if (error != 0)
		print_message("attach: %s\n", own.failure.text);
	assert_int_equal(error, 0);
	return producer;
}

static inline struct peal_producer *attach(void)
{
	struct peal_producer_options options = producer_options();

	return attach_with(&options);
}

static inline struct peal_consumer_stats
stats_of(struct peal_consumer *consumer)
{
	struct peal_consumer_stats stats;

	assert_int_equal(peal_consumer_stats(consumer, &stats), 0);
	return stats;
}

static inline struct peal_producer_stats sent_by(struct peal_producer *producer)
{
	struct peal_producer_stats stats;

	assert_int_equal(peal_producer_stats(producer, &stats), 0);
	return stats;
}

/* Producers whose READY the server has seen; the consumer takes notice. */
static inline void await_attached(struct peal_consumer *consumer,
                                  uint64_t count)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	while (stats_of(consumer).attached_count < count) {
		assert_true(now_ns() < end_ns);
		peal_consumer_wait(consumer, MS);
	}
	peal_consumer_wait(consumer, 0);
}

/* Producers that have gone, whose slots are free again. */
static inline void await_gone(struct peal_consumer *consumer, uint64_t count)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	for (;;) {
		struct peal_consumer_stats stats = stats_of(consumer);

		if (stats.detached_count + stats.died_count +
		            stats.evicted_count >=
		    count)
			break;
		assert_true(now_ns() < end_ns);
		peal_consumer_wait(consumer, MS);
	}
	peal_consumer_wait(consumer, 0);
}

/* A commit word that makes no sense: 5 is less than a header. */
static inline void spoil(struct peal_producer *producer, uint32_t word)
{
	void *data;

	assert_int_equal(peal_producer_claim(producer, 100, 0, &data), 0);
	memcpy((char *)data - PEAL_RING_HEADER_BYTES, &word, sizeof(word));
}

/* messages --------------------------------------------------------------- */

/* The next message, waited for; it stays unreleased. */
static inline struct peal_message next_message(struct peal_consumer *consumer)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;
	struct peal_message message = {0};

	while (peal_consumer_peek(consumer, &message) != 0) {
		if (now_ns() > end_ns)
			fail_msg("no message has come");
		peal_consumer_wait(consumer, SECOND);
	}
	return message;
}

static inline void assert_text(const struct peal_message *message,
                               const char *text)
{
	if (message->data_bytes != strlen(text) ||
	    memcmp(message->data, text, message->data_bytes) != 0)
		fail_msg("'%.*s' is not '%s'", (int)message->data_bytes,
		         (const char *)message->data, text);
}

static inline void expect(struct peal_consumer *consumer, const char *text)
{
	struct peal_message message = next_message(consumer);

	assert_text(&message, text);
	peal_consumer_release(consumer, &message);
}

/* Nothing comes, though it is looked for everywhere. */
static inline void expect_nothing(struct peal_consumer *consumer)
{
	struct peal_message message;

	peal_consumer_wait(consumer, 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(peal_consumer_peek(consumer, &message),
		                 -EAGAIN);
	/* Who comes or goes at this moment is a reason to look once more. */
	while (peal_consumer_has_data(consumer))
		assert_int_equal(peal_consumer_peek(consumer, &message),
		                 -EAGAIN);
}

static inline int send_text(struct peal_producer *producer, const char *text)
{
	return peal_producer_send(producer, text, strlen(text), 0);
}

/* Messages of @bytes until the ring is full: how many there were. */
static inline uint64_t fill(struct peal_producer *producer, size_t bytes)
{
	static const char data[PEAL_RING_MIN_BYTES];
	uint64_t count = 0;
	int error;

	assert_true(bytes <= sizeof(data));
	while ((error = peal_producer_send(producer, data, bytes, 0)) == 0)
		count++;
	assert_int_equal(error, -EAGAIN);
	return count;
}

/* Take and release everything there is: how many messages. */
static inline uint64_t drain(struct peal_consumer *consumer)
{
	struct peal_message message;
	uint64_t count = 0;

	peal_consumer_wait(consumer, 0);
	while (peal_consumer_peek(consumer, &message) == 0) {
		peal_consumer_release(consumer, &message);
		count++;
	}
	/* So that the producer sees it: this settles. */
	peal_consumer_wait(consumer, 0);
	return count;
}

/* other threads ---------------------------------------------------------- */

/* Something that another thread does a little later; it never asserts. */
struct later {
	uint64_t delay_ns;
	void *(*run)(void *argument);
	void *argument;
	pthread_t thread;
};

static inline void *later_main(void *argument)
{
	struct later *later = argument;

	sleep_ns(later->delay_ns);
	return later->run(later->argument);
}

static inline void later_start(struct later *later, uint64_t delay_ns,
                               void *(*run)(void *), void *argument)
{
	*later = (struct later){delay_ns, run, argument, 0};
	assert_int_equal(
		pthread_create(&later->thread, NULL, later_main, later), 0);
}

static inline void *later_join(struct later *later)
{
	void *result = NULL;

	assert_int_equal(pthread_join(later->thread, &result), 0);
	return result;
}

/* Attach to a server that admits on this very thread, when it dispatches. */
struct attaching {
	const struct peal_producer_options *options;
	struct peal_producer *producer;
	int result;
	uint32_t done;
};

static inline void *attaching_run(void *argument)
{
	struct attaching *attaching = argument;

	attaching->result = peal_producer_attach(
		attaching->options, PATIENCE_NS, &attaching->producer);
	flag_set(&attaching->done);
	return NULL;
}

static inline int
try_attach_dispatching(struct peal_consumer *consumer,
                       const struct peal_producer_options *options,
                       struct peal_producer **ret_producer)
{
	struct attaching attaching = {.options = options};
	struct later later;

	later_start(&later, 0, attaching_run, &attaching);
	while (!flag_is_set(&attaching.done)) {
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
		sched_yield();
	}
	later_join(&later);
	*ret_producer = attaching.producer;
	return attaching.result;
}

static inline struct peal_producer *
attach_dispatching(struct peal_consumer *consumer,
                   const struct peal_producer_options *options)
{
	struct peal_producer *producer = NULL;
	int error = try_attach_dispatching(consumer, options, &producer);

	if (error != 0)
		print_message("attach: %s\n", own.failure.text);
	assert_int_equal(error, 0);
	return producer;
}

/* Does the descriptor poll readable within so long? */
static inline bool is_readable(int fd, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	return poll(&poll_fd, 1, timeout_ms) == 1;
}

#endif
