/* SPDX-License-Identifier: MIT */
/*
 * What is seen at the path of a server while it comes up, and who has it then.
 * Needs -Dhooks=true: by chance nobody looks, or forks, just then.
 */
#include "tests/unit/mpsc_fixture.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/hooks.h"

static struct {
	int passed_count;
	bool was_there;
	bool is_deadly;
} seen;

static void look(const char *place)
{
	struct stat status;
	char path[256];

	if (strcmp(place, "listen: bound") != 0)
		return;
	snprintf(path, sizeof(path), "%s/words", own.directory.path);
	seen.passed_count++;
	seen.was_there = lstat(path, &status) == 0;
	if (seen.is_deadly)
		kill(getpid(), SIGKILL);
}

static void die_before_listening(void)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		seen.is_deadly = true;
		_exit(peal_consumer_open(&options, &consumer) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void socket_that_is_seen_listens(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer;
	struct peal_producer *producer;

	(void)state;
	peal__hook = look;
	consumer = open_with(&options);
	peal__hook = NULL;
	assert_int_equal(seen.passed_count, 1);
	assert_false(seen.was_there);
	assert_int_equal(peal_producer_attach(&others, SECOND, &producer), 0);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void socket_that_never_listened_is_taken_over(void **state)
{
	struct peal_consumer_options options = consumer_options();

	(void)state;
	peal__hook = look;
	die_before_listening();
	peal__hook = NULL;
	assert_int_equal(directory_count(&own.directory), 2);
	/* What it left goes with the next one, see end(). */
	peal_consumer_close(open_with(&options));
}

/* a child that is forked meanwhile ----------------------------------------- */

/* Shared with the server, and with the child that it forks in the middle. */
struct forked {
	const char *place;
	uint32_t is_born, is_open, is_over;
	pid_t child;
};

static struct forked *forked;

static void fork_here(const char *place)
{
	pid_t pid;

	if (strcmp(place, forked->place) != 0 || forked->child != 0)
		return;
	pid = fork();
	if (pid == 0) {
		/* It lives on, and calls nothing. */
		flag_set(&forked->is_born);
		flag_wait(&forked->is_over);
		_exit(0);
	}
	forked->child = pid;
}

static int serve_until_killed(void *unused)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;

	(void)unused;
	peal__hook = fork_here;
	if (peal_consumer_open(&options, &consumer) != 0)
		return 1;
	flag_set(&forked->is_open);
	pause();
	return 2;
}

static void kill_server_with_a_child_of(const char *place)
{
	pid_t pid;
	int status;

	forked->place = place;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(serve_until_killed(NULL));
	assert_true(flag_wait(&forked->is_open));
	/* What closes its copies has run in it. */
	assert_true(flag_wait(&forked->is_born));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void child_of_any_moment_keeps_neither_name_nor_socket(void **state)
{
	static const char *const places[] = {
		"name: opened",
		"name: locked",
		"listen: bound",
		"admission: listens",
	};
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_producer *producer;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(places); i++) {
		forked = shared_open(sizeof(*forked));
		kill_server_with_a_child_of(places[i]);
		assert_int_not_equal(forked->child, 0);
		assert_int_equal(kill(forked->child, 0), 0);
		assert_int_equal(peal_producer_attach(&others, 0, &producer),
		                 -ECONNREFUSED);
		peal_consumer_close(open_with(&options));
		/* The child has it mapped until it has seen this. */
		flag_set(&forked->is_over);
		munmap(forked, sizeof(*forked));
	}
}

static int begin_to_look(void **state)
{
	memset(&seen, 0, sizeof(seen));
	return begin(state);
}

#define LOOK(test) cmocka_unit_test_setup_teardown(test, begin_to_look, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LOOK(socket_that_is_seen_listens),
		LOOK(socket_that_never_listened_is_taken_over),
		LOOK(child_of_any_moment_keeps_neither_name_nor_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
