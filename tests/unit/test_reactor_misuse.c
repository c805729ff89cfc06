/* SPDX-License-Identifier: MIT */
/*
 * What hurried users do to a reactor: each test is named after what it once got
 * wrong.
 */
#include "tests/unit/reactor_fixture.h"

#include <sys/wait.h>

#include "peal/client.h"

static struct {
	int closed_error, posted_error;
	uint32_t post_count;
	uint32_t child_count;
	int status; /* of the child */
	struct peal_client *client;
	int send_error, call_error;
} misuse;

static int begin_misuse(void **state)
{
	memset(&misuse, 0, sizeof(misuse));
	return begin(state);
}

#define MISUSE(test) cmocka_unit_test_setup_teardown(test, begin_misuse, end)

/* closing ------------------------------------------------------------------- */

static void close_it(struct peal_reactor *reactor, struct peal_peer peer,
                     int reason, void *arg)
{
	on_closed(reactor, peer, reason, arg);
	misuse.closed_error = peal_reactor_close(reactor);
}

static void close_by_post(void *arg)
{
	misuse.posted_error = peal_reactor_close(arg);
}

static void callbacks_of_close_cannot_close_once_more(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_closed = close_it;
	open_reactor_for(&raw, &options);
	assert_int_equal(peal_reactor_post(served.reactor, close_by_post,
	                                   served.reactor),
	                 0);
	close_reactor();
	assert_int_equal(misuse.closed_error, -EDEADLK);
	assert_int_equal(misuse.posted_error, -EDEADLK);
	raw_close(&raw, false);
}

static void post_again(void *arg)
{
	misuse.post_count++;
	misuse.posted_error = peal_reactor_post(arg, post_again, arg);
}

static void close_ends_posts_that_post_again(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	open_reactor(&options);
	assert_int_equal(peal_reactor_post(served.reactor, post_again,
	                                   served.reactor),
	                 0);
	run();
	assert_int_equal(misuse.posted_error, 0);
	alarm(10);
	close_reactor();
	assert_int_equal(misuse.posted_error, -ESHUTDOWN);
}

/* forks --------------------------------------------------------------------- */

static void answer_from_a_child(struct peal_request *request, void *arg)
{
	pid_t pid;

	(void)arg;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(try_everything(request));
	waitpid(pid, &misuse.status, 0);
	__atomic_fetch_add(&misuse.child_count, 1, __ATOMIC_RELEASE);
	peal_reply(request, "parent", 6);
}

static void child_of_a_handler_cannot_answer(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = answer_from_a_child;
	for (uint32_t workers = 0; workers < 2; workers++) {
		options.worker_count = workers;
		options.inline_mode = workers ? PEAL_INLINE_NEVER
		                              : PEAL_INLINE_ALWAYS;
		open_reactor(&options);
		connect_raw(&raw, 0);
		misuse.child_count = 0;
		misuse.status = -1;
		assert_int_equal(raw_ask(&raw, 1, "e"), 0);
		run_until(&misuse.child_count, 1);
		assert_int_equal(misuse.status, 0);
		for (int i = 0; i < 10; i++)
			peal_reactor_run_once(served.reactor, MS);
		hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "parent");
		leave(&raw);
		close_reactor();
	}
}

static void close_in_a_child(struct peal_request *request, void *arg)
{
	pid_t pid;

	(void)arg;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(-peal_reactor_close(served.reactor));
	waitpid(pid, &misuse.status, 0);
	peal_reply(request, NULL, 0);
	__atomic_fetch_add(&misuse.child_count, 1, __ATOMIC_RELEASE);
}

/* It would go back into what it has freed. */
static void child_of_a_handler_cannot_close(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = close_in_a_child;
	for (uint32_t workers = 0; workers < 2; workers++) {
		options.worker_count = workers;
		options.inline_mode = workers ? PEAL_INLINE_NEVER
		                              : PEAL_INLINE_ALWAYS;
		open_reactor_for(&raw, &options);
		misuse.child_count = 0;
		assert_int_equal(raw_ask(&raw, 1, "e"), 0);
		run_until(&misuse.child_count, 1);
		assert_true(WIFEXITED(misuse.status));
		assert_int_equal(WEXITSTATUS(misuse.status), EDEADLK);
		leave_and_close(&raw);
	}
}

/* closing ------------------------------------------------------------------- */

static void note_whose_thread(struct peal_reactor *reactor,
                              struct peal_peer peer, int reason, void *arg)
{
	on_closed(reactor, peer, reason, arg);
	misuse.status = peal_reactor_is_current(reactor);
}

static void who_closes_is_on_the_reactors_thread(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_closed = note_whose_thread;
	open_in_background(&options);
	assert_int_equal(raw_connect(&raw, "served", 4096, 0), 0);
	await_word(&served.opened_count, 1);
	assert_int_equal(peal_reactor_stop(served.reactor, 0), 0);
	join_background();
	misuse.status = -1;
	close_reactor();
	assert_int_equal(misuse.status, 1);
	raw_close(&raw, true);
}

/* executors ----------------------------------------------------------------- */

static int refuse_oddly(void (*run_it)(void *work), void *work, void *arg)
{
	(void)run_it;
	(void)work;
	(void)arg;
	return -70000;
}

static void executor_that_returns_no_errno_costs_one_answer(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.executor = refuse_oddly;
	options.inline_mode = PEAL_INLINE_NEVER;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run();
	hear(&raw, PEAL__FRAME_FAILED, 1, -EIO, "");
	leave_and_close(&raw);
}

/* threads ------------------------------------------------------------------- */

static void *run_for_a_moment(void *reactor)
{
	peal_reactor_run_once(reactor, 0);
	return NULL;
}

static void *ask_whether_it_is_current(void *reactor)
{
	return peal_reactor_is_current(reactor) ? reactor : NULL;
}

/* The second one gets the stack of the first, and all that lies in it. */
static void thread_in_the_place_of_an_ended_one_is_another(void **state)
{
	struct peal_reactor_options options = usual_options();
	pthread_t thread;
	void *result;

	(void)state;
	open_reactor(&options);
	assert_false(peal_reactor_is_current(served.reactor));
	assert_int_equal(pthread_create(&thread, NULL, run_for_a_moment,
	                                served.reactor),
	                 0);
	pthread_join(thread, NULL);
	assert_int_equal(pthread_create(&thread, NULL,
	                                ask_whether_it_is_current,
	                                served.reactor),
	                 0);
	pthread_join(thread, &result);
	assert_null(result);
	run();
	assert_true(peal_reactor_is_current(served.reactor));
	close_reactor();
}

static struct {
	uint32_t has_come, may_go_on;
	int prepared, dispatched, ran_once, closed;
	bool is_current;
} taking;

static void take_over(struct peal_request *request, void *arg)
{
	struct served *it = arg;

	__atomic_store_n(&taking.has_come, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&taking.may_go_on, __ATOMIC_ACQUIRE))
		sleep_ns(MS);
	taking.prepared = peal_reactor_prepare(it->reactor, NULL);
	taking.dispatched = peal_reactor_dispatch(it->reactor);
	taking.ran_once = peal_reactor_run_once(it->reactor, 0);
	taking.closed = peal_reactor_close(it->reactor);
	taking.is_current = peal_reactor_is_current(it->reactor);
	peal_reply(request, "done", 4);
	__atomic_fetch_add(&it->handled_count, 1, __ATOMIC_RELEASE);
}

static void handler_on_a_worker_cannot_run_its_reactor(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	memset(&taking, 0, sizeof(taking));
	options.on_request = take_over;
	options.worker_count = 1;
	options.inline_mode = PEAL_INLINE_NEVER;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "t"), 0);
	run_until(&taking.has_come, 1);
	/* Nobody is in the reactor now. */
	__atomic_store_n(&taking.may_go_on, 1, __ATOMIC_RELEASE);
	await_word(&served.handled_count, 1);
	assert_int_equal(taking.prepared, -EDEADLK);
	assert_int_equal(taking.dispatched, -EDEADLK);
	assert_int_equal(taking.ran_once, -EDEADLK);
	assert_int_equal(taking.closed, -EDEADLK);
	assert_false(taking.is_current);
	assert_true(peal_reactor_is_current(served.reactor));
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "done");
	leave_and_close(&raw);
}

/* clients ------------------------------------------------------------------- */

static void ask_oneself(struct peal_request *request, void *arg)
{
	struct peal_message answer;
	const char *data = peal_request_data(request, NULL);

	(void)arg;
	if (data != NULL && data[0] == 'n') {
		do
			misuse.send_error = peal_client_send(misuse.client, "e",
			                                     1, PEAL_FOREVER,
			                                     5 * SECOND, NULL);
		while (misuse.send_error == 0);
		misuse.call_error = peal_client_call(misuse.client, "e", 1,
		                                     5 * SECOND, &answer);
	}
	peal_reply(request, "done", 4);
}

static void full_ring_of_a_nested_client_is_a_deadlock_too(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	struct raw_client raw;

	(void)state;
	options.on_request = ask_oneself;
	open_in_background(&options);
	wish.name = "served";
	wish.request_ring_bytes = 4096;
	assert_int_equal(
		peal_client_connect(&wish, PATIENCE_NS, &misuse.client), 0);
	assert_int_equal(raw_connect(&raw, "served", 4096, 0), 0);
	await_word(&served.opened_count, 2);
	assert_int_equal(raw_ask(&raw, 1, "n"), 0);
	await_word(&served.handled_count, 0);
	while (!peal_ring_has_data(&raw.responses))
		sleep_ns(MS);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "done");
	raw_close(&raw, true);
	peal_reactor_stop(served.reactor, SECOND);
	join_background();
	peal_client_close(misuse.client);
	assert_int_equal(misuse.send_error, -EDEADLK);
	assert_int_equal(misuse.call_error, -EDEADLK);
	close_reactor();
}

/* The reactor has not heard of this client, and cannot before we return. */
static void connect_and_ask_oneself(struct peal_request *request, void *arg)
{
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;
	struct peal_message answer;
	int error;

	(void)arg;
	wish.name = "served";
	error = peal_client_connect(&wish, 5 * SECOND, &client);
	if (error == 0) {
		error = peal_client_call(client, "e", 1, PEAL_FOREVER, &answer);
		peal_client_close(client);
	}
	__atomic_store_n(&misuse.call_error, error, __ATOMIC_RELEASE);
	peal_reply(request, "done", 4);
}

static void call_by_a_connection_of_the_handlers_own_is_a_deadlock(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = connect_and_ask_oneself;
	open_in_background(&options);
	for (uint64_t id = 1; id <= 20; id++) {
		__atomic_store_n(&misuse.call_error, 0, __ATOMIC_RELEASE);
		assert_int_equal(raw_connect(&raw, "served", 4096, 0), 0);
		assert_int_equal(raw_ask(&raw, id, "n"), 0);
		while (!peal_ring_has_data(&raw.responses))
			sleep_ns(MS);
		hear(&raw, PEAL__FRAME_ANSWER, id, 0, "done");
		assert_int_equal(__atomic_load_n(&misuse.call_error,
		                                 __ATOMIC_ACQUIRE),
		                 -EDEADLK);
		raw_close(&raw, true);
	}
	peal_reactor_stop(served.reactor, SECOND);
	join_background();
	close_reactor();
}

static void larger_rings_are_found_by_the_message_they_were_for(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	static const char text[8000] = "e";
	struct peal_client *client;
	struct peal_message answer;

	(void)state;
	options.ring_default_bytes = options.ring_max_bytes = 4096;
	open_in_background(&options);
	wish.name = "served";
	wish.reconnect = 1;
	assert_int_equal(peal_client_connect(&wish, PATIENCE_NS, &client), 0);
	assert_int_equal(peal_client_call(client, text, sizeof(text), SECOND,
	                                  &answer),
	                 -EMSGSIZE);
	peal_reactor_stop(served.reactor, SECOND);
	join_background();
	close_reactor();
	options.ring_default_bytes = options.ring_max_bytes = 65536;
	open_in_background(&options);
	assert_int_equal(peal_client_call(client, "e", 1, SECOND, &answer),
	                 -ESHUTDOWN);
	assert_int_equal(peal_client_call(client, text, sizeof(text), SECOND,
	                                  &answer),
	                 0);
	assert_int_equal(answer.data_bytes, sizeof(text));
	assert_int_equal(peal_client_close(client), 0);
	await_word(&served.closed_count, 1);
	peal_reactor_stop(served.reactor, SECOND);
	join_background();
	close_reactor();
}

static int nested_result;

static void serve_by_asking(struct peal_request *request, void *arg)
{
	struct peal_message answer;

	nested_result = peal_client_call(*(struct peal_client **)arg, "e", 1,
	                                 PEAL_FOREVER, &answer);
	peal_reply(request, NULL, 0);
}

static void handler_that_calls_its_own_server_is_told(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options client = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *nested;
	struct raw_client raw;

	(void)state;
	options.on_request = serve_by_asking;
	options.on_opened = NULL;
	options.on_closed = NULL;
	options.arg = &nested;
	open_reactor(&options);
	client.name = "served";
	assert_int_equal(peal_client_connect(&client, PATIENCE_NS, &nested), 0);
	assert_int_equal(raw_connect(&raw, "served", 4096, 0), 0);
	nested_result = 0;
	assert_int_equal(raw_ask(&raw, 1, "x"), 0);
	while (nested_result == 0)
		peal_reactor_run_once(served.reactor, PEAL__NS_PER_MS);
	assert_int_equal(nested_result, -EDEADLK);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	raw_close(&raw, true);
	peal_client_close(nested);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MISUSE(callbacks_of_close_cannot_close_once_more),
		MISUSE(close_ends_posts_that_post_again),
		MISUSE(child_of_a_handler_cannot_answer),
		MISUSE(child_of_a_handler_cannot_close),
		MISUSE(who_closes_is_on_the_reactors_thread),
		MISUSE(executor_that_returns_no_errno_costs_one_answer),
		MISUSE(thread_in_the_place_of_an_ended_one_is_another),
		MISUSE(handler_on_a_worker_cannot_run_its_reactor),
		MISUSE(full_ring_of_a_nested_client_is_a_deadlock_too),
		MISUSE(call_by_a_connection_of_the_handlers_own_is_a_deadlock),
		MISUSE(larger_rings_are_found_by_the_message_they_were_for),
		TEST(handler_that_calls_its_own_server_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
