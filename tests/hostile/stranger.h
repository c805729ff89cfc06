/* SPDX-License-Identifier: MIT */
/*
 * The attacker as another user: this very process, between the setup and the
 * teardown of a test, so that the test may assert as ever. The server and the
 * neighbour stay who they are.
 *
 *	STRANGERS_TEST(name)    a test NAME_as_another_user
 *	stranger_run(...)       such a group, or one test that is skipped
 */
#ifndef PEAL_TESTS_HOSTILE_STRANGER_H
#define PEAL_TESTS_HOSTILE_STRANGER_H

#include "tests/hostile/stage_reactor.h"

static bool stranger_is_me;

/* To come back takes no more than the saved ids. */
static inline bool stranger_begin(void)
{
	stranger_is_me =
		setresgid(STAGE_STRANGER_UID, STAGE_STRANGER_UID, 0) == 0 &&
		setresuid(STAGE_STRANGER_UID, STAGE_STRANGER_UID, 0) == 0;
	/* Its own /proc/self/fd is not closed to it for that. */
	prctl(PR_SET_DUMPABLE, 1);
	return stranger_is_me;
}

static inline bool stranger_end(void)
{
	stranger_is_me = false;
	return setresuid(0, 0, 0) == 0 && setresgid(0, 0, 0) == 0;
}

static inline int stranger_setup(void **state)
{
	int error = stage_setup(state);

	return error == 0 && stranger_begin() ? 0 : -1;
}

static inline int stranger_teardown(void **state)
{
	if (!stranger_end())
		return -1;
	return stage_teardown(state);
}

static inline void attacks_of_another_user(void **state)
{
	(void)state;
	CHECK_SKIP("only root can become somebody else");
}

static inline bool stranger_can(void)
{
	bool can;

	if (geteuid() != 0)
		return false;
	can = stranger_begin();
	return stranger_end() && can;
}

static inline int stranger_skip(void)
{
	const struct CMUnitTest skipped[] = {
		cmocka_unit_test(attacks_of_another_user),
	};

	return cmocka_run_group_tests(skipped, NULL, NULL);
}

#define STRANGERS_TEST(test)                                    \
	{                                                       \
#test "_as_another_user", test, stranger_setup, \
			stranger_teardown, NULL                 \
	}

#define stranger_run(tests)                                                \
	(stranger_can() ? cmocka_run_group_tests(tests, stage_group_setup, \
	                                         scene_group_teardown)     \
	                : stranger_skip())

#endif
