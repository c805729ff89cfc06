/* SPDX-License-Identifier: MIT */
/*
 * Out of descriptors, as the kernel has it: a process that has none left, then
 * one more, and one more, comes to a server in the same process.
 */
#include "tests/fault/door.h"

#include <sys/resource.h>

static uint32_t spare_count;

static void spare(uint32_t count)
{
	struct rlimit limit;
	int lowest = dup(0);

	getrlimit(RLIMIT_NOFILE, &limit);
	if (lowest < 0)
		return;
	close(lowest);
	limit.rlim_cur = (rlim_t)lowest + count;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void spare_all(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Both sides of one process share the table: with each descriptor more the next
 * step of either fails. */
static void run_out_of_descriptors(int (*open)(struct peal_failure *failure),
                                   int (*undo)(int result))
{
	struct peal_failure failure;
	struct walk_held before, after;
	int result = -1, told_count = 0;

	/* What the server keeps for the next one is no leak. */
	failure = (struct peal_failure){0};
	assert_int_equal(undo(open(&failure)), 0);
	before = walk_held_at_rest();
	signal(SIGALRM, walk_hangs);
	for (spare_count = 0; result != 0; spare_count++) {
		assert_true(spare_count < 100);
		alarm(WALK_HANG_S);
		failure = (struct peal_failure){0};
		spare(spare_count);
		result = open(&failure);
		spare_all();
		if (result != 0 &&
		    ((result != -EMFILE && result != -ETIMEDOUT) ||
		     failure.code != result || failure.text[0] == '\0'))
			fail_msg("with %u descriptors it came to %d: '%s'",
			         spare_count, result, failure.text);
		told_count += result != 0;
		walk_word[0] = '\0';
		if (undo(result) != 0 || !walk_settle(&before, &after))
			fail_msg("with %u descriptors: %s; %d left",
			         spare_count, walk_word,
			         (int)(after.fds - before.fds));
	}
	alarm(0);
	print_message("fault: out of descriptors: %d times told, done with "
	              "%u\n",
	              told_count, spare_count - 1);
	assert_true(told_count > 0);
}

/* A server that has none lets people wait for its door. */
static int attach_in_vain(struct peal_failure *failure)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;

	options.name = NAME;
	options.ret_failure = failure;
	return peal_producer_attach(&options, 30 * SCENE_MS, &producer);
}

static int connect_in_vain(struct peal_failure *failure)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;

	options.name = NAME;
	options.wait_mode = PEAL_WAIT_FD;
	options.ret_failure = failure;
	return peal_client_connect(&options, 30 * SCENE_MS, &client);
}

static void who_is_out_of_descriptors_is_told_and_loses_none(void **state)
{
	(void)state;
	start_consumer(PEAL_WAIT_FUTEX);
	run_out_of_descriptors(attach_in_vain, send_and_detach);
	stop_consumer();
	assert_int_equal(start_reactor(PEAL_WAIT_FUTEX), 0);
	run_out_of_descriptors(connect_in_vain, call_and_close);
	stop_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(
			who_is_out_of_descriptors_is_told_and_loses_none,
			stop_all),
	};

	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
