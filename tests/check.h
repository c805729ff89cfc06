/* SPDX-License-Identifier: MIT */
/*
 * What every unit test begins with: cmocka, and children that may not assert.
 *
 * cmocka leaves a failed test by longjmp(), so only the thread that runs the
 * test may assert. A forked child, like a second thread, returns a status:
 *
 *	static int child(void *arg)
 *	{
 *		return everything_is_fine(arg) ? 0 : __LINE__ % 256;
 *	}
 *	...
 *	assert_int_equal(check_in_child(child, arg), 0);
 *
 * With PEAL_CHECK=NAME in its environment a program runs that check only.
 */
#ifndef PEAL_TESTS_CHECK_H
#define PEAL_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHECK_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* So that tests/mutants asks those checks that have to notice. */
__attribute__((constructor)) static void check_only_one(void)
{
	const char *name = getenv("PEAL_CHECK");

	if (name != NULL)
		cmocka_set_test_filter(name);
}

/* A killed child is CHECK_KILLED_BY + the signal; one that never was is -1. */
#define CHECK_KILLED_BY 1000

/* Run @run in a forked child and wait for it: what it returned, 0 to 255. */
static inline int check_in_child(int (*run)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(run(arg));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status)
	                         : CHECK_KILLED_BY + WTERMSIG(status);
}

/* skip() with its reason: the runner does not accept a skip without one. */
#define CHECK_SKIP(reason)                                \
	do {                                              \
		print_message("skipped: %s\n", (reason)); \
		skip();                                   \
	} while (0)

/* A child that ends with CHECK_NOT_HERE cannot try it on this machine. */
#define CHECK_NOT_HERE 77

/* Skips the test then, and says why. Any other status but 0 fails it. */
static inline void check_passes_in_child(int (*run)(void *arg), void *arg,
                                         const char *why_not_here)
{
	int status = check_in_child(run, arg);

	if (status == CHECK_NOT_HERE)
		CHECK_SKIP(why_not_here);
	assert_int_equal(status, 0);
}

#endif
