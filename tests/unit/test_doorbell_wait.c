/* SPDX-License-Identifier: MIT */
/* Waiting at a bell, and what ends it. */
#include "tests/unit/bell_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/time.h>

#include "base/clock.h"
#include "tests/unit/sanitizer.h"

/* notify ----------------------------------------------------------------- */

static void notify_moves_the_bell_of_one_who_is_awake(void **state)
{
	int event_fd = eventfd(0, EFD_NONBLOCK);
	uint64_t count;

	(void)state;
	peal_doorbell_notify(arm, seq, event_fd);
	assert_int_equal(*seq, 1001);
	assert_true(peal_doorbell_changed(&sleeper));
	/* It will look at seq before it sleeps: nothing else is needed. */
	assert_int_equal(read(event_fd, &count, sizeof(count)), -1);
	close(event_fd);
}

static void
notify_of_a_sleeper_in_epoll_makes_its_eventfd_readable(void **state)
{
	int event_fd = eventfd(0, EFD_NONBLOCK);
	uint64_t count = UINT64_MAX - 1;

	(void)state;
	peal_doorbell_init(&sleeper, arm, seq, PEAL_DOORBELL_FD);
	peal_doorbell_arm(&sleeper);
	/* One that is full is readable already. */
	assert_int_equal(write(event_fd, &count, sizeof(count)), 8);
	errno = OUR_ERRNO;
	peal_doorbell_notify(arm, seq, event_fd);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(read(event_fd, &count, sizeof(count)), 8);
	peal_doorbell_notify(arm, seq, event_fd);
	assert_int_equal(*seq, 1002);
	assert_int_equal(read(event_fd, &count, sizeof(count)), 8);
	assert_int_equal(count, 1);
	errno = OUR_ERRNO;
	peal_doorbell_notify(arm, seq, -1);
	assert_int_equal(*seq, 1003);
	assert_int_equal(errno, OUR_ERRNO);
	close(event_fd);
}

static void notify_in_signal(int number)
{
	(void)number;
	peal_doorbell_notify(arm, seq, -1);
}

static void notify_from_a_signal_handler_ends_the_wait(void **state)
{
	struct itimerval timer = {.it_value = {.tv_usec = 20000}};
	uint64_t start_ns = now_ns();

	(void)state;
	SKIP_WHERE_SIGNALS_WAIT();
	signal(SIGALRM, notify_in_signal);
	peal_doorbell_look(&sleeper);
	peal_doorbell_arm(&sleeper);
	setitimer(ITIMER_REAL, &timer, NULL);
	assert_int_equal(peal_doorbell_wait(&sleeper, 60 * SECOND), 0);
	assert_true(now_ns() - start_ns < 30 * SECOND);
	signal(SIGALRM, SIG_DFL);
}

/* waiting ---------------------------------------------------------------- */

static void wait_returns_at_once_when_the_bell_has_changed(void **state)
{
	(void)state;
	peal_doorbell_look(&sleeper);
	(*seq)++;
	assert_int_equal(peal_doorbell_wait(&sleeper, PEAL_FOREVER), 0);
	assert_int_equal(peal_doorbell_wait(&sleeper, 0), 0);
	assert_int_equal(errno, OUR_ERRNO);
}

static void wait_ends_at_its_timeout_and_not_before(void **state)
{
	uint64_t start_ns = now_ns();

	(void)state;
	peal_doorbell_look(&sleeper);
	assert_int_equal(peal_doorbell_wait(&sleeper, 30 * MS), -ETIMEDOUT);
	assert_true(now_ns() - start_ns >= 30 * MS);
	assert_true(now_ns() - start_ns < 20 * SECOND);
	assert_int_equal(peal_doorbell_wait(&sleeper, 0), -ETIMEDOUT);
	assert_int_equal(errno, OUR_ERRNO);
}

static void do_nothing(int number)
{
	(void)number;
}

static void signal_makes_a_wait_neither_shorter_nor_longer(void **state)
{
	const struct itimerval often = {{0, 5000}, {0, 5000}};
	const struct itimerval never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = do_nothing};
	uint64_t start_ns, end_ns;

	(void)state;
	sigaction(SIGALRM, &action, NULL); /* without SA_RESTART */
	peal_doorbell_look(&sleeper);
	start_ns = now_ns();
	setitimer(ITIMER_REAL, &often, NULL);
	assert_int_equal(peal_doorbell_wait(&sleeper, 100 * MS), -ETIMEDOUT);
	end_ns = now_ns();
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_DFL);
	assert_true(end_ns - start_ns >= 100 * MS);
	assert_true(end_ns - start_ns < 20 * SECOND);
	assert_int_equal(errno, OUR_ERRNO);
}

static int ring_in_child(void *unused)
{
	(void)unused;
	sleep_ns(20 * MS);
	peal_doorbell_ring(&ringer);
	return 0;
}

static void *ring_in_thread(void *unused)
{
	return (void *)(intptr_t)ring_in_child(unused);
}

static void ring_of_another_thread_ends_the_wait(void **state)
{
	pthread_t thread;

	(void)state;
	peal_doorbell_look(&sleeper);
	peal_doorbell_arm(&sleeper);
	assert_int_equal(pthread_create(&thread, NULL, ring_in_thread, NULL),
	                 0);
	assert_int_equal(peal_doorbell_wait(&sleeper, 60 * SECOND), 0);
	pthread_join(thread, NULL);
	assert_int_equal(*seq, 1001);
}

static void ring_of_another_process_ends_the_wait(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	peal_doorbell_look(&sleeper);
	peal_doorbell_arm(&sleeper);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(ring_in_child(NULL));
	assert_int_equal(peal_doorbell_wait(&sleeper, 60 * SECOND), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(*seq, 1001);
}

/* Taken for 32 bits, these are 0.7 s, 1 ns and 0.1 s. */
static void wait_beyond_32_bits_is_not_cut(void **state)
{
	static const uint64_t timeouts_ns[] = {
		5 * SECOND,
		(UINT64_C(1) << 32) + 1,
		(UINT64_C(1000) << 32) + 100 * MS,
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(timeouts_ns); i++) {
		uint64_t deadline_ns = peal__deadline_after(timeouts_ns[i]);
		pthread_t thread;

		assert_true(deadline_ns - now_ns() > timeouts_ns[i] - SECOND);
		peal_doorbell_look(&sleeper);
		peal_doorbell_arm(&sleeper);
		assert_int_equal(
			pthread_create(&thread, NULL, ring_in_thread, NULL), 0);
		assert_int_equal(
			peal__doorbell_wait_until(&sleeper, deadline_ns), 0);
		pthread_join(thread, NULL);
		peal_doorbell_disarm(&sleeper);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(notify_moves_the_bell_of_one_who_is_awake),
		TEST(notify_of_a_sleeper_in_epoll_makes_its_eventfd_readable),
		TEST(notify_from_a_signal_handler_ends_the_wait),
		TEST(wait_returns_at_once_when_the_bell_has_changed),
		TEST(wait_ends_at_its_timeout_and_not_before),
		TEST(signal_makes_a_wait_neither_shorter_nor_longer),
		TEST(ring_of_another_thread_ends_the_wait),
		TEST(ring_of_another_process_ends_the_wait),
		TEST(wait_beyond_32_bits_is_not_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
