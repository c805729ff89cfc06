/* SPDX-License-Identifier: MIT */
/*
 * A client of another user: calls, pushes and calls of the server reach it and
 * wake it, though it has no bell page of the server's. As root only, since it
 * takes two users.
 */
#include "tests/unit/reactor_fixture.h"

#include "peal/client.h"

#define ROUNDS 30

static const uint32_t allowed[] = {DIRECTORY_UID};

struct board {
	uint32_t wait_mode;
	uint32_t push_count, request_count;
	int line; /* where the child failed */
	int error;
};

static struct board *board;

static struct {
	uint32_t answer_count;
	int error;
	struct peal_request *request;
} called;

static int begin_isolated(void **state)
{
	if (begin(state) != 0)
		return -1;
	if (board == NULL)
		board = shared_open(sizeof(*board));
	memset(board, 0, sizeof(*board));
	memset(&called, 0, sizeof(called));
	/* The other user has to find the socket. */
	return chmod(own.directory.path, 0755);
}

#define ISOLATED(test) \
	cmocka_unit_test_setup_teardown(test, begin_isolated, end)

/* the client, in the child -------------------------------------------------- */

#define REQUIRE(condition)              \
	do {                            \
		board->line = __LINE__; \
		if (!(condition))       \
			return 1;       \
	} while (0)

static void count_push(const struct peal_message *push, void *arg)
{
	(void)arg;
	board->push_count += push->data_bytes == 4;
}

static void answer_call(struct peal_request *request, void *arg)
{
	(void)arg;
	board->request_count++;
	peal_reply(request, "theirs", 6);
}

static int count_bells(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int count = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		count += strstr(line, "memfd:peal-bell") != NULL;
	if (file != NULL)
		fclose(file);
	return count;
}

static int call_text(struct peal_client *client, const char *text,
                     const char *expected)
{
	struct peal_message answer;

	board->error = peal_client_call(client, text, strlen(text), PATIENCE_NS,
	                                &answer);
	return board->error == 0 && answer.data_bytes == strlen(expected) &&
	       memcmp(answer.data, expected, answer.data_bytes) == 0;
}

static int be_a_client(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;
	struct peal_message answer;
	char text[900] = "e";

	alarm(60);
	REQUIRE(directory_become_user());
	options.name = "served";
	options.wait_mode = board->wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.request_ring_bytes = options.response_ring_bytes = 4096;
	options.on_push = count_push;
	options.on_request = answer_call;
	options.ret_failure = &own.failure;
	board->error = peal_client_connect(&options, PATIENCE_NS, &client);
	REQUIRE(board->error == 0);
	REQUIRE(count_bells() == 0);
	for (int i = 0; i < ROUNDS; i++) {
		sleep_ns(MS); /* it sleeps, more often than not */
		REQUIRE(call_text(client, "e hello", "e hello"));
		REQUIRE(call_text(client, "push", "pushed"));
		REQUIRE(call_text(client, "call", "theirs"));
		REQUIRE(board->push_count == (uint32_t)i + 1);
		REQUIRE(board->request_count == (uint32_t)i + 1);
	}
	/* Both rings, until nobody can do anything. */
	for (int round = 0; round < 3; round++) {
		int count = 0;

		while ((board->error = peal_client_send(
				client, text, sizeof(text), PEAL_FOREVER,
				PATIENCE_NS, NULL)) == 0)
			count++;
		REQUIRE(board->error == -EAGAIN);
		for (; count > 0; count--) {
			board->error =
				peal_client_recv(client, PATIENCE_NS, &answer);
			REQUIRE(board->error == 0);
		}
	}
	REQUIRE(call_text(client, "e bye", "e bye"));
	return peal_client_close(client);
}

/* the server ---------------------------------------------------------------- */

static void hear_theirs(int error, const struct peal_message *answer, void *arg)
{
	(void)arg;
	called.error = error;
	if (error == 0)
		peal_reply(called.request, answer->data, answer->data_bytes);
	else
		peal_reply_error(called.request, error);
	called.answer_count++;
}

static void serve_them(struct peal_request *request, void *arg)
{
	const char *data = peal_request_data(request, NULL);
	struct peal_peer peer = peal_request_peer(request);

	if (data[0] == 'p') {
		if (peal_reactor_push(served.reactor, peer, "news", 4) == 0)
			peal_reply(request, "pushed", 6);
		else
			peal_request_drop(request);
	} else if (data[0] == 'c') {
		called.request = request;
		if (peal_reactor_call(served.reactor, peer, "?", 1, PATIENCE_NS,
		                      hear_theirs, NULL) != 0)
			peal_request_drop(request);
	} else {
		serve(request, arg);
	}
}

static void serve_another_user(uint32_t mode)
{
	struct peal_reactor_options options = usual_options();
	int status = -1;
	pid_t pid;

	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be two users");
	board->wait_mode = mode;
	options.on_request = serve_them;
	options.wait_mode = mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.socket_mode = 0666;
	options.allow_uid = allowed;
	options.allow_uid_count = 1;
	open_reactor(&options);
	assert_int_equal(count_bells(), 1);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(be_a_client());
	assert_true(pid > 0);
	while (waitpid(pid, &status, WNOHANG) == 0)
		peal_reactor_run_once(served.reactor, 20 * MS);
	if (status != 0)
		fail_msg("the client ended with %#x, line %d, error %d", status,
		         board->line, board->error);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, 0);
	assert_int_equal(called.answer_count, ROUNDS);
	assert_int_equal(called.error, 0);
	close_reactor();
}

static void client_of_another_user_calls_and_is_called(void **state)
{
	(void)state;
	serve_another_user(PEAL_WAIT_FUTEX);
}

static void client_of_another_user_calls_and_is_called_in_fd_mode(void **state)
{
	(void)state;
	serve_another_user(PEAL_WAIT_FD);
}

/* what they can still write ------------------------------------------------- */

static uint32_t in_ring_count, elsewhere_count;

/* Is it in memory that its client can write? */
static bool is_in_a_ring(const void *data)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long begin_at, end_at;
	char line[512];
	bool is = false;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (strstr(line, "memfd:peal-segment") != NULL &&
		    sscanf(line, "%lx-%lx", &begin_at, &end_at) == 2)
			is = is || ((uintptr_t)data >= begin_at &&
			            (uintptr_t)data < end_at);
	if (file != NULL)
		fclose(file);
	return is;
}

static void look_where_it_is(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	if (is_in_a_ring(data))
		in_ring_count++;
	else
		elsewhere_count++;
	peal_reply(request, data, bytes);
}

static int call_once(bool as_them)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;

	alarm(60);
	REQUIRE(!as_them || directory_become_user());
	options.name = "served";
	board->error = peal_client_connect(&options, PATIENCE_NS, &client);
	REQUIRE(board->error == 0);
	REQUIRE(call_text(client, "where am I?", "where am I?"));
	return peal_client_close(client);
}

/* The server itself is that other user when it hears of its client. */
static void serve_one(bool as_them)
{
	pid_t pid;
	int status = -1;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(call_once(as_them));
	assert_true(pid > 0);
	if (as_them)
		assert_int_equal(seteuid(DIRECTORY_UID), 0);
	while (waitpid(pid, &status, WNOHANG) == 0)
		peal_reactor_run_once(served.reactor, 20 * MS);
	assert_int_equal(seteuid(0), 0);
	if (status != 0)
		fail_msg("the client ended with %#x, line %d, error %d", status,
		         board->line, board->error);
}

/* It was asked a second time who is trusted, and by another rule than at the
 * door: who had been isolated could write below the handler. */
static void who_was_isolated_at_the_door_is_copied(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be two users");
	options.on_request = look_where_it_is;
	options.socket_mode = 0666;
	options.allow_uid = allowed;
	options.allow_uid_count = 1;
	in_ring_count = elsewhere_count = 0;
	open_reactor(&options);
	serve_one(true);
	assert_int_equal(in_ring_count, 0);
	assert_int_equal(elsewhere_count, 1);
	serve_one(false);
	assert_int_equal(in_ring_count, 1);
	assert_int_equal(elsewhere_count, 1);
	run_until(&served.closed_count, 2);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ISOLATED(client_of_another_user_calls_and_is_called),
		ISOLATED(client_of_another_user_calls_and_is_called_in_fd_mode),
		ISOLATED(who_was_isolated_at_the_door_is_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
