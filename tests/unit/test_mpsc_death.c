/* SPDX-License-Identifier: MIT */
/*
 * kill -9, as a user of the library meets it. Where exactly each side may be
 * killed is for the tests with hooks in tests/death.
 */
#include "tests/unit/mpsc_fixture.h"

#define LEARNT_NS (100 * MS) /* what a producer that waits is promised */
#define TRIES 10             /* this machine may be busy with something else */

/* What the server in the other process is to do, and how far it has come. */
struct board {
	uint32_t open;      /* it can be attached to */
	uint32_t is_seated; /* the parent's producer is one of its own */
	uint32_t drains;    /* it takes what comes, or it does nothing */
	uint32_t wait_mode;
	uint64_t killed_ns; /* when the parent has killed it */
};

static struct board *board;

static int serve(void *unused)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	struct peal_consumer_stats stats;
	struct peal_message message;

	(void)unused;
	alarm(60); /* also when the parent has died */
	options.wait_mode = board->wait_mode;
	options.ret_failure = NULL;
	if (peal_consumer_open(&options, &consumer) != 0)
		return 1;
	flag_set(&board->open);
	for (;;) {
		peal_consumer_wait(consumer, 10 * MS);
		peal_consumer_stats(consumer, &stats);
		if (stats.attached_count > 0)
			flag_set(&board->is_seated);
		while (board->drains &&
		       peal_consumer_peek(consumer, &message) == 0)
			peal_consumer_release(consumer, &message);
	}
}

/* A server in another process, and a producer of it in this one. */
static pid_t start(uint32_t server_mode, bool drains,
                   const struct peal_producer_options *options,
                   struct peal_producer **ret_producer)
{
	pid_t pid;

	if (board == NULL)
		board = shared_open(sizeof(*board));
	memset(board, 0, sizeof(*board));
	board->wait_mode = server_mode;
	board->drains = drains;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(serve(NULL));
	assert_true(pid > 0);
	assert_true(flag_wait(&board->open));
	*ret_producer = attach_with(options);
	assert_true(flag_wait(&board->is_seated));
	return pid;
}

static void kill_now(pid_t pid)
{
	board->killed_ns = now_ns();
	kill(pid, SIGKILL);
}

static void *kill_server(void *argument)
{
	kill_now(*(pid_t *)argument);
	return NULL;
}

static void bury(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	/* What the dead leave behind is two files. */
	assert_int_equal(directory_count(&own.directory), 2);
	assert_int_equal(directory_close(&own.directory), 0);
	assert_int_equal(directory_open(&own.directory), 0);
}

/* Did it learn of the death in time? @learn returns the error of the call. */
static bool learns(uint32_t server_mode, uint32_t producer_mode, bool drains,
                   int (*learn)(struct peal_producer *producer, pid_t *pid))
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;
	uint64_t learnt_ns;
	pid_t pid;

	options.wait_mode = producer_mode;
	pid = start(server_mode, drains, &options, &producer);
	assert_int_equal(learn(producer, &pid), -ECONNRESET);
	learnt_ns = now_ns() - board->killed_ns;
	/* And again: it is told to whoever asks. */
	assert_int_equal(send_text(producer, "x"), -ECONNRESET);
	assert_int_equal(peal_producer_publish(producer), -ECONNRESET);
	assert_int_equal(peal_producer_detach(producer), 0);
	bury(pid);
	return learnt_ns <= LEARNT_NS;
}

/* The promise is kept, but for a machine that did not let us run. */
static void assert_learns(bool drains,
                          int (*learn)(struct peal_producer *, pid_t *))
{
	for (uint32_t server = PEAL_WAIT_FUTEX; server <= PEAL_WAIT_FD;
	     server++)
		for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD;
		     mode++) {
			bool in_time = false;

			for (int i = 0; i < TRIES && !in_time; i++)
				in_time = learns(server, mode, drains, learn);
			assert_true(in_time);
		}
}

static int wait_in_claim(struct peal_producer *producer, pid_t *pid)
{
	struct later later;
	void *data;
	int error;

	fill(producer, 100);
	later_start(&later, 5 * MS, kill_server, pid);
	error = peal_producer_claim(producer, 100, PATIENCE_NS, &data);
	later_join(&later);
	return error;
}

static void producer_that_waits_for_room_learns_of_the_death(void **state)
{
	(void)state;
	assert_learns(false, wait_in_claim);
}

/* One message every 5 ms never fills the ring, so it never waits. */
static int send_slowly(struct peal_producer *producer, pid_t *pid)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;
	int error;

	for (int i = 0; i < 4; i++) {
		error = send_text(producer, "slow");
		if (error != 0)
			return error;
		sleep_ns(5 * MS);
	}
	kill_now(*pid);
	do {
		sleep_ns(5 * MS);
		error = send_text(producer, "slow");
	} while (error == 0 && now_ns() < end_ns);
	return error;
}

static void producer_that_sends_slowly_learns_of_the_death(void **state)
{
	(void)state;
	assert_learns(true, send_slowly);
}

static int fill_up_without_waiting(struct peal_producer *producer, pid_t *pid)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;
	int error;

	fill(producer, 100);
	kill_now(*pid);
	do
		error = send_text(producer, "more");
	while ((error == -EAGAIN || error == 0) && now_ns() < end_ns);
	return error;
}

static void producer_of_a_full_ring_that_never_waits_learns_of_it(void **state)
{
	(void)state;
	assert_learns(false, fill_up_without_waiting);
}

static int poll_for_room(struct peal_producer *producer, pid_t *pid)
{
	int fd = peal_producer_fd(producer), error;

	fill(producer, 100);
	if (peal_producer_prepare(producer, 100) != 0)
		return 1;
	kill_now(*pid);
	if (!is_readable(fd, 30000))
		return 2;
	error = peal_producer_dispatch(producer);
	if (peal_producer_prepare(producer, 100) != error)
		return 3;
	return error;
}

static void descriptor_of_a_producer_tells_the_death(void **state)
{
	bool in_time = false;

	(void)state;
	for (int i = 0; i < TRIES && !in_time; i++)
		in_time = learns(PEAL_WAIT_FUTEX, PEAL_WAIT_FD, false,
		                 poll_for_room);
	assert_true(in_time);
}

static void death_during_attach_is_an_error(void **state)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;
	pid_t pid = start(PEAL_WAIT_FUTEX, true, &options, &producer);

	(void)state;
	kill_now(pid);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	/* Its socket is still there, but nobody behind it. */
	assert_int_equal(directory_count(&own.directory), 2);
	{
		struct peal_producer *second = NULL;

		assert_int_equal(peal_producer_attach(&options, PATIENCE_NS,
		                                      &second),
		                 -ECONNREFUSED);
		assert_null(second);
	}
	peal_producer_detach(producer);
	assert_int_equal(directory_close(&own.directory), 0);
	assert_int_equal(directory_open(&own.directory), 0);
}

static void name_of_the_dead_is_taken_over_and_producers_reconnect(void **state)
{
	struct peal_producer_options options = producer_options();
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	pid_t pid;

	(void)state;
	options.reconnect = 1;
	pid = start(PEAL_WAIT_FUTEX, false, &options, &producer);
	assert_int_equal(send_text(producer, "lost"), 0);
	kill_now(pid);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(send_text(producer, "lost"), -ECONNRESET);
	consumer = open_consumer();
	assert_int_equal(send_text(producer, "new"), 0);
	expect(consumer, "new");
	expect_nothing(consumer);
	assert_int_equal(sent_by(producer).reconnect_count, 1);
	assert_int_equal(sent_by(producer).lost_bytes, 32);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* a producer dies ---------------------------------------------------------- */

static int publish_and_claim(void *unused)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;
	void *data;

	(void)unused;
	alarm(60);
	options.ret_failure = NULL;
	if (peal_producer_attach(&options, PATIENCE_NS, &producer) != 0)
		return 1;
	for (int i = 0; i < 3; i++)
		if (peal_producer_send(producer, "published", 9, 0) != 0)
			return 2;
	if (peal_producer_claim(producer, 7, 0, &data) != 0)
		return 3;
	memcpy(data, "claimed", 7);
	flag_set(&board->open);
	sleep(60);
	return 4;
}

static void what_a_killed_producer_published_is_delivered(void **state)
{
	(void)state;
	if (board == NULL)
		board = shared_open(sizeof(*board));
	for (int round = 0; round < 3; round++) {
		struct peal_consumer_options options = consumer_options();
		struct peal_consumer *consumer;
		struct peal_message message;
		int status;
		pid_t pid;

		memset(board, 0, sizeof(*board));
		options.producer_max = 1;
		consumer = open_with(&options);
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			_exit(publish_and_claim(NULL));
		assert_true(flag_wait(&board->open));
		/* It holds a view when the producer dies, or has seen nothing
		 * of it, or all. */
		if (round > 0)
			message = next_message(consumer);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (round > 1)
			await_gone(consumer, 1);
		if (round == 0)
			message = next_message(consumer);
		assert_text(&message, "published");
		peal_consumer_release(consumer, &message);
		expect(consumer, "published");
		expect(consumer, "published");
		expect_nothing(consumer);
		await_gone(consumer, 1);
		assert_int_equal(stats_of(consumer).died_count, 1);
		assert_int_equal(stats_of(consumer).detached_count, 0);
		/* Its slot is free again. */
		peal_producer_detach(attach());
		peal_consumer_close(consumer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(producer_that_waits_for_room_learns_of_the_death),
		TEST(producer_that_sends_slowly_learns_of_the_death),
		TEST(producer_of_a_full_ring_that_never_waits_learns_of_it),
		TEST(descriptor_of_a_producer_tells_the_death),
		TEST(death_during_attach_is_an_error),
		TEST(name_of_the_dead_is_taken_over_and_producers_reconnect),
		TEST(what_a_killed_producer_published_is_delivered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
