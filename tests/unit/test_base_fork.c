/* SPDX-License-Identifier: MIT */
/* What a forked child must not inherit. */
#include "tests/check.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fork.h"

static int open_something(void)
{
	return memfd_create("test", MFD_CLOEXEC);
}

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* What a child finds, of three descriptors of which two are watched. */
struct inheritance {
	struct peal__fork_fd watched[3];
	int fds[3];
	uint32_t generation;
	int open_in_child; /* bits */
};

static int look_at_inheritance(void *arg)
{
	struct inheritance *given = arg;
	int open_now = 0;

	for (int i = 0; i < 3; i++)
		open_now |= is_open(given->fds[i]) << i;
	if (open_now != given->open_in_child)
		return 100 + open_now;
	for (int i = 0; i < 3; i++)
		if (given->watched[i].fd !=
		    (open_now & 1 << i ? given->fds[i] : -1))
			return 2;
	if (peal__fork_generation() != given->generation + 1)
		return 3;
	/* The owner's clean-up in the child finds nothing left to do. */
	for (int i = 0; i < 3; i++)
		peal__fork_forget(&given->watched[i], true);
	return 0;
}

static void watch_three(struct inheritance *given)
{
	for (int i = 0; i < 3; i++) {
		given->fds[i] = open_something();
		assert_true(given->fds[i] >= 0);
		given->watched[i].fd = given->fds[i];
		assert_int_equal(peal__fork_watch(&given->watched[i]), 0);
	}
	given->generation = peal__fork_generation();
	given->open_in_child = 0;
}

static void forked_child_loses_what_is_watched(void **state)
{
	struct inheritance given = {0};

	(void)state;
	watch_three(&given);
	assert_int_equal(check_in_child(look_at_inheritance, &given), 0);
	for (int i = 0; i < 3; i++) {
		assert_true(is_open(given.fds[i]));
		assert_int_equal(given.watched[i].fd, given.fds[i]);
		peal__fork_forget(&given.watched[i], true);
		assert_false(is_open(given.fds[i]));
	}
	assert_int_equal(peal__fork_generation(), given.generation);
}

static void forked_child_keeps_what_was_forgotten(void **state)
{
	(void)state;
	/* The first, the middle and the last of the list. */
	for (int forgotten = 0; forgotten < 3; forgotten++) {
		struct inheritance given = {0};

		watch_three(&given);
		peal__fork_forget(&given.watched[forgotten], false);
		assert_true(is_open(given.fds[forgotten]));
		given.watched[forgotten].fd = given.fds[forgotten];
		given.open_in_child = 1 << forgotten;
		/* Its owner's fd field is not ours any more: do not forget. */
		given.watched[forgotten].previous = NULL;
		given.watched[forgotten].next = NULL;
		assert_int_equal(check_in_child(look_at_inheritance, &given),
		                 0);
		close(given.fds[forgotten]);
		for (int i = 0; i < 3; i++)
			if (i != forgotten)
				peal__fork_forget(&given.watched[i], true);
	}
}

static void forgetting_twice_closes_once(void **state)
{
	struct peal__fork_fd watched = {.fd = open_something()};
	int fd = watched.fd, reused;

	(void)state;
	assert_int_equal(peal__fork_watch(&watched), 0);
	peal__fork_forget(&watched, true);
	reused = open_something();
	assert_int_equal(reused, fd);
	peal__fork_forget(&watched, true);
	assert_true(is_open(reused));
	close(reused);
}

static void watching_no_descriptor_is_nothing(void **state)
{
	struct peal__fork_fd nothing = {.fd = -1};
	struct inheritance given = {0};

	(void)state;
	assert_int_equal(peal__fork_watch(&nothing), 0);
	peal__fork_forget(&nothing, true);
	memset(&nothing, 0xaa, sizeof(nothing)); /* it is gone from the list */
	watch_three(&given);
	assert_int_equal(check_in_child(look_at_inheritance, &given), 0);
	for (int i = 0; i < 3; i++)
		peal__fork_forget(&given.watched[i], true);
}

static void *watch_and_forget(void *arg)
{
	int *stop = arg;

	while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
		struct peal__fork_fd watched = {.fd = open_something()};

		if (peal__fork_watch(&watched) != 0)
			return arg;
		peal__fork_forget(&watched, true);
	}
	return NULL;
}

static int take_the_lock(void *arg)
{
	struct peal__fork_fd watched = {.fd = open_something()};

	(void)arg;
	if (peal__fork_watch(&watched) != 0)
		return 1;
	peal__fork_forget(&watched, true);
	return 0;
}

static void fork_beside_a_watching_thread_leaves_no_lock_held(void **state)
{
	pthread_t thread;
	void *result;
	int stop = 0, failures = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, watch_and_forget, &stop),
	                 0);
	for (int i = 0; i < 50; i++)
		failures += check_in_child(take_the_lock, NULL) != 0;
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(failures, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forked_child_loses_what_is_watched),
		cmocka_unit_test(forked_child_keeps_what_was_forgotten),
		cmocka_unit_test(forgetting_twice_closes_once),
		cmocka_unit_test(watching_no_descriptor_is_nothing),
		cmocka_unit_test(
			fork_beside_a_watching_thread_leaves_no_lock_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
