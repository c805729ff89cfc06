/* SPDX-License-Identifier: MIT */
/*
 * A reactor inside the loop of its caller: prepare, poll, dispatch.
 */
#include "tests/unit/reactor_fixture.h"

#include <poll.h>

#include "peal/client.h"

#define CALLS 200

static struct {
	int order[8], errors[8];
	uint32_t count;
} ended;

static int begin_anew(void **state)
{
	memset(&ended, 0, sizeof(ended));
	return begin(state);
}

static void open_in_fd_mode(void)
{
	struct peal_reactor_options options = usual_options();

	options.wait_mode = PEAL_WAIT_FD;
	open_reactor(&options);
}

/* One turn of a user's loop; what dispatch returns. */
static int turn_of_the_loop(void)
{
	struct pollfd entry = {.fd = peal_reactor_fd(served.reactor),
	                       .events = POLLIN};
	uint64_t timeout_ns = 0;
	int result = peal_reactor_prepare(served.reactor, &timeout_ns);

	if (result < 0)
		return result;
	if (result == 0)
		poll(&entry, 1,
		     timeout_ns > PATIENCE_NS
		             ? (int)(PATIENCE_NS / MS)
		             : (int)((timeout_ns + MS - 1) / MS));
	return peal_reactor_dispatch(served.reactor);
}

/* It is the loop that lets clients in, so they come from another thread. */
struct coming {
	struct raw_client *raw;
	int error;
};

static void *come(void *arg)
{
	struct coming *coming = arg;

	coming->error = raw_connect(coming->raw, "served", 4096, 0);
	return NULL;
}

static void let_in(struct raw_client *raw)
{
	struct coming coming = {.raw = raw, .error = 1};
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, come, &coming), 0);
	while (served.opened_count == 0 && peal__clock_ns() < end_ns)
		peal_reactor_run_once(served.reactor, MS);
	pthread_join(thread, NULL);
	assert_int_equal(coming.error, 0);
	run();
}

/* calls --------------------------------------------------------------------- */

static void *call_often(void *arg)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;
	uint32_t *good = arg;

	options.name = "served";
	options.wait_mode = PEAL_WAIT_FD;
	if (peal_client_connect(&options, PATIENCE_NS, &client) != 0)
		return NULL;
	for (uint64_t i = 0; i < CALLS; i++) {
		struct peal_message answer;

		if (peal_client_call(client, "echo", 4, PATIENCE_NS, &answer) ==
		    0)
			++*good;
		/* So that the loop falls asleep now and then. */
		if (i % 16 == 0)
			sleep_ns(MS);
	}
	peal_client_close(client);
	return NULL;
}

static void requests_are_served_in_the_loop_of_the_caller(void **state)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	uint32_t good = 0;
	pthread_t thread;

	(void)state;
	open_in_fd_mode();
	assert_int_equal(pthread_create(&thread, NULL, call_often, &good), 0);
	while (served.closed_count == 0 && peal__clock_ns() < end_ns)
		assert_int_equal(turn_of_the_loop(), 0);
	pthread_join(thread, NULL);
	assert_int_equal(served.closed_count, 1);
	assert_int_equal(good, CALLS);
	close_reactor();
}

/* timers -------------------------------------------------------------------- */

static void note_end(int error, const struct peal_message *answer, void *arg)
{
	(void)answer;
	ended.errors[ended.count] = error;
	ended.order[ended.count++] = *(const int *)arg;
}

static void every_call_expires_in_the_loop_of_the_caller(void **state)
{
	static const int names[] = {0, 1, 2};
	static const uint64_t timeouts_ns[] = {90 * MS, 30 * MS, 60 * MS};
	struct raw_client raw;
	uint64_t left_ns = 0;

	(void)state;
	open_in_fd_mode();
	let_in(&raw);
	for (int i = 0; i < 3; i++)
		assert_int_equal(peal_reactor_call(served.reactor,
		                                   served.opened, "?", 1,
		                                   timeouts_ns[i], note_end,
		                                   (void *)&names[i]),
		                 0);
	/* The soonest one is what the loop may sleep for. */
	if (peal_reactor_prepare(served.reactor, &left_ns) == 0)
		assert_in_range(left_ns, 0, 30 * MS);
	for (int i = 0; i < 1000 && ended.count < 3; i++)
		assert_int_equal(turn_of_the_loop(), 0);
	assert_int_equal(ended.count, 3);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ended.errors[i], -ETIMEDOUT);
	while (peal_reactor_prepare(served.reactor, &left_ns) == 1)
		assert_int_equal(peal_reactor_dispatch(served.reactor), 0);
	assert_true(left_ns == PEAL_FOREVER);
	assert_int_equal(peal_reactor_dispatch(served.reactor), 0);
	leave_and_close(&raw);
}

static void timer_that_is_due_is_work(void **state)
{
	static const int name = 7;
	struct raw_client raw;
	uint64_t left_ns = 1;

	(void)state;
	open_in_fd_mode();
	let_in(&raw);
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "?",
	                                   1, 5 * MS, note_end, (void *)&name),
	                 0);
	sleep_ns(10 * MS);
	assert_int_equal(peal_reactor_prepare(served.reactor, &left_ns), 1);
	assert_true(left_ns == 0);
	assert_int_equal(peal_reactor_dispatch(served.reactor), 0);
	assert_int_equal(ended.count, 1);
	assert_int_equal(ended.order[0], 7);
	leave_and_close(&raw);
}

/* ends ---------------------------------------------------------------------- */

static void notify_makes_the_descriptor_readable(void **state)
{
	(void)state;
	open_in_fd_mode();
	while (peal_reactor_prepare(served.reactor, NULL) == 1)
		assert_int_equal(peal_reactor_dispatch(served.reactor), 0);
	assert_false(is_readable(peal_reactor_fd(served.reactor), 0));
	peal_reactor_notify(served.reactor);
	assert_true(is_readable(peal_reactor_fd(served.reactor), 1000));
	assert_int_equal(peal_reactor_dispatch(served.reactor), 0);
	close_reactor();
}

static void loop_learns_that_a_stop_is_complete(void **state)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	int result;

	(void)state;
	open_in_fd_mode();
	assert_int_equal(peal_reactor_stop(served.reactor, SECOND), 0);
	while ((result = turn_of_the_loop()) == 0 && peal__clock_ns() < end_ns)
		;
	assert_int_equal(result, -ESHUTDOWN);
	/* It does not have to be told at the first time. */
	assert_int_equal(peal_reactor_prepare(served.reactor, NULL), 1);
	assert_int_equal(peal_reactor_dispatch(served.reactor), -ESHUTDOWN);
	close_reactor();
}

static void futex_mode_has_no_descriptor(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	options.wait_mode = PEAL_WAIT_FUTEX;
	open_reactor(&options);
	assert_int_equal(peal_reactor_fd(served.reactor), -EINVAL);
	assert_int_equal(peal_reactor_prepare(served.reactor, NULL), -EINVAL);
	assert_int_equal(peal_reactor_dispatch(served.reactor), -EINVAL);
	close_reactor();
}

/* peers --------------------------------------------------------------------- */

static void peer_is_known_until_it_has_gone(void **state)
{
	struct peal_peer_info info = {0};
	struct peal_peer peer;
	struct raw_client raw;

	(void)state;
	open_in_fd_mode();
	let_in(&raw);
	peer = served.opened;
	assert_int_equal(peal_reactor_peer_info(served.reactor, peer, &info),
	                 0);
	assert_int_equal(info.pid, getpid());
	leave(&raw);
	info.pid = 0;
	assert_int_equal(peal_reactor_peer_info(served.reactor, peer, &info),
	                 -ESTALE);
	assert_int_equal(info.pid, 0);
	assert_int_equal(peal_reactor_disconnect(served.reactor, peer),
	                 -ESTALE);
	assert_int_equal(peal_reactor_push(served.reactor, peer, "x", 1),
	                 -ESTALE);
	assert_int_equal(peal_reactor_call(served.reactor, peer, "x", 1, MS,
	                                   note_end, NULL),
	                 -ESTALE);
	close_reactor();
}

#define ANEW(test) cmocka_unit_test_setup_teardown(test, begin_anew, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ANEW(requests_are_served_in_the_loop_of_the_caller),
		ANEW(every_call_expires_in_the_loop_of_the_caller),
		ANEW(timer_that_is_due_is_work),
		ANEW(notify_makes_the_descriptor_readable),
		ANEW(loop_learns_that_a_stop_is_complete),
		ANEW(futex_mode_has_no_descriptor),
		ANEW(peer_is_known_until_it_has_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
