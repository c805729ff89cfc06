/* SPDX-License-Identifier: MIT */
/* A forked child owns no connection of its parent's. */
#include "tests/unit/mpsc_fixture.h"

static struct peal_consumer *consumer;
static struct peal_producer *producer;
static uint32_t wait_mode;

static void open_both(uint32_t mode)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();

	wait_mode = options.wait_mode = others.wait_mode = mode;
	consumer = open_with(&options);
	producer = mode == PEAL_WAIT_FD ? attach_dispatching(consumer, &others)
	                                : attach_with(&others);
	await_attached(consumer, 1);
}

static void close_both(void)
{
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* Both sides of the parent are as they were. */
static void assert_alive(void)
{
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send_text(producer, "alive"), 0);
		expect(consumer, "alive");
	}
	assert_int_equal(stats_of(consumer).died_count, 0);
	assert_int_equal(stats_of(consumer).detached_count, 0);
	assert_int_equal(directory_count(&own.directory), 2);
}

/* Every call in the child: 0, or the number of the one that was wrong. */
static int call_everything(void *unused)
{
	struct peal_part part = {"x", 1};
	struct peal_consumer_stats stats;
	struct peal_producer_stats sent;
	struct peal_peer_info info;
	struct peal_message message;
	void *data = &part;
	int errors[] = {
		peal_consumer_wait(consumer, PEAL_FOREVER),
		peal_consumer_wait(consumer, 0),
		peal_consumer_peek(consumer, &message),
		peal_consumer_fd(consumer),
		peal_consumer_prepare(consumer),
		peal_consumer_dispatch(consumer),
		peal_consumer_stats(consumer, &stats),
		peal_consumer_peer_info(consumer, (struct peal_peer){0, 1},
	                                &info),
		peal_producer_claim(producer, 1, 0, &data),
		peal_producer_claim(producer, 1, PEAL_FOREVER, &data),
		peal_producer_trim(producer, 0),
		peal_producer_publish(producer),
		peal_producer_abort(producer),
		peal_producer_send(producer, "x", 1, PEAL_FOREVER),
		peal_producer_sendv(producer, &part, 1, PEAL_FOREVER),
		peal_producer_send_batch(producer, &part, 1, PEAL_FOREVER),
		peal_producer_fd(producer),
		peal_producer_prepare(producer, 1),
		peal_producer_dispatch(producer),
		peal_producer_stats(producer, &sent),
	};

	(void)unused;
	for (size_t i = 0; i < CHECK_COUNT(errors); i++)
		if (errors[i] != -ESTALE)
			return 10 + (int)i;
	return data == &part ? 0 : 1;
}

/* These return nothing, and must do nothing. */
static int call_what_returns_nothing(void *held)
{
	peal_consumer_notify(consumer);
	peal_consumer_release(consumer, held);
	return peal_consumer_has_data(consumer) ? 1 : 0;
}

static int close_everything(void *unused)
{
	(void)unused;
	if (peal_producer_detach(producer) != 0)
		return 1;
	if (peal_consumer_close(consumer) != 0)
		return 2;
	return directory_count(&own.directory) == 2 ? 0 : 3;
}

static void every_call_in_a_forked_child_is_estale(void **state)
{
	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		open_both(mode);
		assert_int_equal(check_in_child(call_everything, NULL), 0);
		assert_alive();
		close_both();
	}
}

static void child_disturbs_neither_messages_nor_turns(void **state)
{
	struct peal_message held;
	void *data;

	(void)state;
	open_both(PEAL_WAIT_FUTEX);
	assert_int_equal(send_text(producer, "held"), 0);
	held = next_message(consumer);
	assert_int_equal(send_text(producer, "waiting"), 0);
	assert_int_equal(peal_producer_claim(producer, 7, 0, &data), 0);
	memcpy(data, "claimed", 7);
	assert_int_equal(check_in_child(call_everything, NULL), 0);
	assert_int_equal(check_in_child(call_what_returns_nothing, &held), 0);
	assert_int_equal(peal_consumer_wait(consumer, 0), 0);
	assert_text(&held, "held");
	peal_consumer_release(consumer, &held);
	expect(consumer, "waiting");
	assert_int_equal(peal_producer_publish(producer), 1);
	expect(consumer, "claimed");
	assert_alive();
	close_both();
}

static void child_that_closes_does_not_disturb_the_parent(void **state)
{
	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		struct peal_consumer_options options = consumer_options();
		struct peal_consumer *second;

		open_both(mode);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(check_in_child(close_everything, NULL),
			                 0);
			assert_alive();
		}
		/* The name is as taken as it was. */
		assert_int_equal(peal_consumer_open(&options, &second),
		                 -EADDRINUSE);
		close_both();
	}
}

/* A child that lives on keeps neither the name nor a connection alive. */
static uint32_t *flags;

static int live_on(void *unused)
{
	(void)unused;
	flag_set(&flags[0]);
	return flag_wait(&flags[1]) ? 0 : 1;
}

static void child_that_lives_on_keeps_nothing_alive(void **state)
{
	struct peal_consumer *second;
	int status;
	pid_t pid;

	(void)state;
	flags = shared_open(4096);
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		flags[0] = flags[1] = 0;
		open_both(mode);
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			_exit(live_on(NULL));
		assert_true(flag_wait(&flags[0]));
		peal_producer_detach(producer);
		/* The server sees the good-bye, though the child is there. */
		await_gone(consumer, 1);
		assert_int_equal(stats_of(consumer).detached_count, 1);
		peal_consumer_close(consumer);
		second = open_consumer();
		peal_consumer_close(second);
		flag_set(&flags[1]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	munmap(flags, 4096);
}

static int attach_anew(void *unused)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *mine = NULL;
	int error;

	(void)unused;
	options.ret_failure = NULL;
	if (peal_producer_attach(&options, PATIENCE_NS, &mine) != 0)
		return 1;
	error = peal_producer_send(mine, "of the child", 12, 0);
	peal_producer_detach(mine);
	return error == 0 ? 0 : 2;
}

static void child_may_attach_anew(void **state)
{
	(void)state;
	open_both(PEAL_WAIT_FUTEX);
	assert_int_equal(check_in_child(attach_anew, NULL), 0);
	expect(consumer, "of the child");
	await_gone(consumer, 1);
	assert_int_equal(stats_of(consumer).detached_count, 1);
	assert_int_equal(send_text(producer, "of the parent"), 0);
	expect(consumer, "of the parent");
	close_both();
}

/* The other way round: the handles are opened in the child, which forks. */
static int open_and_fork(void *unused)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();

	(void)unused;
	options.ret_failure = others.ret_failure = NULL;
	if (peal_consumer_open(&options, &consumer) != 0 ||
	    peal_producer_attach(&others, PATIENCE_NS, &producer) != 0)
		return 1;
	if (check_in_child(call_everything, NULL) != 0)
		return 2;
	if (check_in_child(close_everything, NULL) != 0)
		return 3;
	if (peal_producer_send(producer, "x", 1, 0) != 0)
		return 4;
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
	return 0;
}

static void grandchild_is_no_better_than_a_child(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(open_and_fork, NULL), 0);
}

/* Memory that a server gave away lives as long as anybody's descriptor of it. */
static int count_what_keeps_alive(void *unused)
{
	char path[64], target[256];
	int count = 0;

	(void)unused;
	for (int fd = 0; fd < 1024; fd++) {
		ssize_t bytes;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		bytes = readlink(path, target, sizeof(target) - 1);
		if (bytes < 0)
			continue;
		target[bytes] = '\0';
		count += strstr(target, "memfd:peal") != NULL ||
		         strstr(target, "pidfd") != NULL;
	}
	return count;
}

static void child_has_no_descriptor_of_regions_or_producers(void **state)
{
	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		open_both(mode);
		/* Three regions, and the producer's process. */
		assert_true(count_what_keeps_alive(NULL) >= 4);
		assert_int_equal(check_in_child(count_what_keeps_alive, NULL),
		                 0);
		assert_alive();
		close_both();
	}
}

/* Of descriptors that a child must never have: a lock, a socket. */
static int count_forbidden_fds(void *unused)
{
	char path[64], target[512];
	int count = 0;

	(void)unused;
	for (int fd = 0; fd < 256; fd++) {
		ssize_t bytes;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		bytes = readlink(path, target, sizeof(target) - 1);
		if (bytes < 0)
			continue;
		target[bytes] = '\0';
		count += strstr(target, "words.lock") != NULL ||
		         strstr(target, "socket:") != NULL;
	}
	return count;
}

static void *open_and_attach(void *arg)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_consumer *opened;
	struct peal_producer *attached;

	while (!flag_is_set(arg)) {
		if (peal_consumer_open(&options, &opened) != 0)
			return arg;
		if (peal_producer_attach(&others, PATIENCE_NS, &attached) != 0)
			return arg;
		peal_producer_detach(attached);
		peal_consumer_close(opened);
	}
	return NULL;
}

static void child_of_another_thread_never_has_a_lock_or_a_socket(void **state)
{
	int before = count_forbidden_fds(NULL), found = 0;
	uint32_t is_over = 0;
	pthread_t thread;
	void *result;

	(void)state;
	assert_int_equal(
		pthread_create(&thread, NULL, open_and_attach, &is_over), 0);
	for (int i = 0; i < 300; i++)
		found += check_in_child(count_forbidden_fds, NULL) != before;
	flag_set(&is_over);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	assert_int_equal(found, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_call_in_a_forked_child_is_estale),
		TEST(child_disturbs_neither_messages_nor_turns),
		TEST(child_that_closes_does_not_disturb_the_parent),
		TEST(child_that_lives_on_keeps_nothing_alive),
		TEST(child_has_no_descriptor_of_regions_or_producers),
		TEST(child_of_another_thread_never_has_a_lock_or_a_socket),
		TEST(child_may_attach_anew),
		TEST(grandchild_is_no_better_than_a_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
