/* SPDX-License-Identifier: MIT */
#include "tests/check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include "doorbell/lifeline.h"
#include "tests/unit/shared.h"

/* Shared with the children: the word, and how far the child has come. */
struct shared {
	uint32_t word;
	uint32_t held, go;
	int32_t holder;
};

static struct shared *shared;

static struct peal__lifeline lifeline;

static int open_word(void **state)
{
	(void)state;
	if (shared == NULL)
		shared = shared_open(4096);
	memset(shared, 0, sizeof(*shared));
	return 0;
}

#define TEST(test) cmocka_unit_test_setup(test, open_word)

static void word_that_nobody_held_is_not_cut(void **state)
{
	(void)state;
	assert_false(peal__lifeline_is_cut(&shared->word));
	/* A holder that lives, and one that somebody waits for. */
	shared->word = 4711;
	assert_false(peal__lifeline_is_cut(&shared->word));
	shared->word = 4711 | FUTEX_WAITERS;
	assert_false(peal__lifeline_is_cut(&shared->word));
	shared->word = FUTEX_OWNER_DIED;
	assert_true(peal__lifeline_is_cut(&shared->word));
}

/* In a child of its own: it costs the thread its robust mutexes. */
static int hold_and_drop(void *unused)
{
	int status = 0;

	(void)unused;
	errno = 4321;
	if (peal__lifeline_hold(&lifeline, &shared->word) != 0)
		return 1;
	if (shared->word != (uint32_t)syscall(SYS_gettid))
		status = 2;
	if (peal__lifeline_is_cut(&shared->word))
		status = 3;
	peal__lifeline_drop(&lifeline);
	if (shared->word != 0)
		status = 4;
	/* And again: a server may be opened more than once. */
	if (peal__lifeline_hold(&lifeline, &shared->word) != 0)
		status = 5;
	peal__lifeline_drop(&lifeline);
	return errno == 4321 ? status : 6;
}

static void lifeline_that_was_dropped_is_not_cut(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(hold_and_drop, NULL), 0);
	assert_int_equal(shared->word, 0);
	assert_false(peal__lifeline_is_cut(&shared->word));
}

static int hold_and_sleep(void *unused)
{
	(void)unused;
	if (peal__lifeline_hold(&lifeline, &shared->word) != 0)
		return 1;
	flag_set(&shared->held);
	sleep(60);
	return 2;
}

static void lifeline_of_a_killed_process_is_cut(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(hold_and_sleep(NULL));
	assert_true(flag_wait(&shared->held));
	assert_int_equal(shared->word, pid);
	assert_false(peal__lifeline_is_cut(&shared->word));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(peal__lifeline_is_cut(&shared->word));
}

static int hold_and_end(void *unused)
{
	(void)unused;
	return peal__lifeline_hold(&lifeline, &shared->word);
}

static void lifeline_of_a_process_that_ends_is_cut(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(hold_and_end, NULL), 0);
	assert_true(peal__lifeline_is_cut(&shared->word));
}

static int hold_and_execute(void *unused)
{
	(void)unused;
	if (peal__lifeline_hold(&lifeline, &shared->word) != 0)
		return 1;
	execl("/bin/sh", "sh", "-c", "exit 42", (char *)NULL);
	return 2;
}

static void lifeline_of_one_who_executes_another_program_is_cut(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(hold_and_execute, NULL), 42);
	assert_true(peal__lifeline_is_cut(&shared->word));
}

static void *hold_in_thread(void *unused)
{
	(void)unused;
	return (void *)(intptr_t)peal__lifeline_hold(&lifeline, &shared->word);
}

/* The process lives on; only the thread that held the line has ended. */
static int outlive_the_thread(void *unused)
{
	pthread_t thread;
	void *result;

	(void)unused;
	if (pthread_create(&thread, NULL, hold_in_thread, NULL) != 0)
		return 1;
	pthread_join(thread, &result);
	if (result != NULL)
		return 2;
	/* join returns when the kernel has cleared the thread's id, which is
	 * after it has walked the thread's robust list. */
	return peal__lifeline_is_cut(&shared->word) ? 0 : 3;
}

static void lifeline_of_a_thread_that_ends_is_cut(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(outlive_the_thread, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(word_that_nobody_held_is_not_cut),
		TEST(lifeline_that_was_dropped_is_not_cut),
		TEST(lifeline_of_a_killed_process_is_cut),
		TEST(lifeline_of_a_process_that_ends_is_cut),
		TEST(lifeline_of_one_who_executes_another_program_is_cut),
		TEST(lifeline_of_a_thread_that_ends_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
