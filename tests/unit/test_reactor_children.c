/* SPDX-License-Identifier: MIT */
/*
 * Children that a handler or a post makes, and which come back from it to a
 * reactor that is their parent's. Raw clients are static: a fork looks at the one
 * that a test which has failed leaves behind.
 */
#include "tests/unit/reactor_fixture.h"

#include <sys/prctl.h>
#include <sys/wait.h>

static struct {
	bool is_here;   /* this is one */
	uint32_t count; /* of those that have ended */
	int status;
} child;

/* By exit(), which the sanitizers look at, and their leaks are the parent's. */
static void end_quietly(void)
{
	_exit(child.is_here ? 0 : 1);
}

static pid_t fork_once(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	child.is_here = pid == 0;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* cmocka would go on with the next test. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		atexit(end_quietly);
	}
	return pid;
}

/* In the parent; the child goes on. */
static void await_child(pid_t pid)
{
	if (pid == 0)
		return;
	waitpid(pid, &child.status, 0);
	__atomic_fetch_add(&child.count, 1, __ATOMIC_RELEASE);
}

/* It replies @before or after the fork, in the child too. */
static void come_back_in_a_child(struct peal_request *request, bool before)
{
	pid_t pid;

	if (before)
		peal_reply(request, NULL, 0);
	pid = fork_once();
	if (!before)
		peal_reply(request, NULL, 0);
	await_child(pid);
}

static void reply_and_come_back(struct peal_request *request, void *arg)
{
	(void)arg;
	come_back_in_a_child(request, true);
}

static void come_back_and_reply(struct peal_request *request, void *arg)
{
	(void)arg;
	come_back_in_a_child(request, false);
}

/* It claims the ring, and leaves the claim to its parent. */
static void come_back_with_a_claim(struct peal_request *request, void *arg)
{
	void *place;

	(void)arg;
	if (peal_reply_claim(request, 4, &place) < 0)
		return;
	come_back_in_a_child(request, false);
}

static void post_comes_back(void *arg)
{
	(void)arg;
	await_child(fork_once());
}

/* As run_until(), but a child ends here. */
static void run_and_end_the_child(void)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	int error;

	child.count = 0;
	child.status = -1;
	while (child.count == 0 && peal__clock_ns() < end_ns) {
		error = peal_reactor_run_once(served.reactor, MS);
		if (!child.is_here)
			continue;
		if (error != -ESTALE ||
		    peal_reactor_run(served.reactor) != -ESTALE)
			_exit(1);
		/* Here nothing runs any more that is to be gone back to. */
		_exit(peal_reactor_close(served.reactor) == 0 ? 0 : 2);
	}
	assert_int_equal(child.count, 1);
	assert_int_equal(child.status, 0);
}

static void child_that_comes_back_from_a_handler_is_told(void **state)
{
	void (*const handlers[])(struct peal_request *, void *) = {
		reply_and_come_back,
		come_back_and_reply,
		come_back_with_a_claim,
	};
	struct peal_reactor_options options = usual_options();
	static struct raw_client raw;

	(void)state;
	options.inline_mode = PEAL_INLINE_ALWAYS;
	options.in_flight_per_client_max = 1;
	for (uint32_t i = 0; i < 2 * CHECK_COUNT(handlers); i++) {
		/* With workers what runs here is measured. */
		options.worker_count = i % 2;
		options.on_request = handlers[i / 2];
		open_reactor_for(&raw, &options);
		/* As if handlers had been long: who is alone is looked at. */
		served.reactor->mean_ticks = INT64_MAX;
		for (uint64_t id = 1; id <= 2; id++) {
			assert_int_equal(raw_ask(&raw, id, "e"), 0);
			run_and_end_the_child();
			hear(&raw, PEAL__FRAME_ANSWER, id, 0, "");
		}
		leave_and_close(&raw);
	}
}

static void ignore_answer(int error, const struct peal_message *answer,
                          void *arg)
{
	(void)error;
	(void)answer;
	(void)arg;
}

static void child_that_comes_back_from_a_post_is_told(void **state)
{
	static struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	/* There is something to look at in what follows posts, the lane. */
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "?",
	                                   1, PEAL_FOREVER, ignore_answer,
	                                   NULL),
	                 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	assert_int_equal(
		peal_reactor_post(served.reactor, post_comes_back, NULL), 0);
	assert_int_equal(raw_ask(&raw, 2, "e"), 0);
	run_and_end_the_child();
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	run();
	/* Also in the pass that completes a stop. */
	assert_int_equal(
		peal_reactor_post(served.reactor, post_comes_back, NULL), 0);
	assert_int_equal(peal_reactor_stop(served.reactor, PATIENCE_NS), 0);
	run_and_end_the_child();
	raw_close(&raw, true);
	close_reactor();
}

static uint32_t may_fork;

static void reply_and_fork_later(struct peal_request *request, void *arg)
{
	(void)arg;
	peal_reply(request, NULL, 0);
	while (__atomic_load_n(&may_fork, __ATOMIC_ACQUIRE) == 0)
		sleep_ns(MS);
	await_child(fork_once());
}

/* Its thread was the only one, and it ends. That its handler has ended is waited
 * for, and would be rung for: the client has as much in flight as it may. */
static void child_that_comes_back_from_a_worker_ends(void **state)
{
	struct peal_reactor_options options = usual_options();
	static struct raw_client raw;

	(void)state;
	options.worker_count = 2;
	options.inline_mode = PEAL_INLINE_NEVER;
	options.in_flight_per_client_max = 1;
	options.on_request = reply_and_fork_later;
	open_reactor_for(&raw, &options);
	child.count = may_fork = 0;
	child.status = -1;
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	while (peal_reactor_run_once(served.reactor, MS) != -ETIMEDOUT ||
	       served.reactor->stats.answered_count == 0)
		;
	__atomic_store_n(&may_fork, 1, __ATOMIC_RELEASE);
	run_until(&child.count, 1);
	assert_int_equal(child.status, 0);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	leave_and_close(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(child_that_comes_back_from_a_handler_is_told),
		TEST(child_that_comes_back_from_a_post_is_told),
		TEST(child_that_comes_back_from_a_worker_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
