/* SPDX-License-Identifier: MIT */
/*
 * What clients once got wrong in event loops and in callbacks: each test is
 * named after it.
 */
#include "tests/unit/full_lane.h"

#include "peal/client.h"
#include "reactor/client.h"

#define TURNS_MAX 100 /* more would be a loop that does not rest */

static struct {
	struct peal_client *client;
	struct peal_request *kept;
	char last[4]; /* of the last answer */
} found;

static int begin_found(void **state)
{
	memset(&found, 0, sizeof(found));
	answer_count = 0;
	return begin(state);
}

#define FOUND(test) cmocka_unit_test_setup_teardown(test, begin_found, end)

static struct peal_client_options loop_options(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;

	options.name = "served";
	options.wait_mode = PEAL_WAIT_FD;
	options.request_ring_bytes = 4096;
	return options;
}

static void open_client(const struct peal_client_options *options)
{
	assert_int_equal(
		peal_client_connect(options, PATIENCE_NS, &found.client), 0);
	run_until(&served.opened_count, 1);
}

/* Who calls whom, and what it answers. */
static void open_both(void (*opened)(struct peal_reactor *, struct peal_peer,
                                     void *),
                      void (*serve_it)(struct peal_request *, void *))
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = loop_options();

	options.on_opened = opened;
	open_reactor(&options);
	wish.on_request = serve_it;
	open_client(&wish);
}

static void close_both(void)
{
	peal_client_close(found.client);
	run_until(&served.closed_count, 1);
	close_reactor();
}

/* wakes --------------------------------------------------------------------- */

static void *wake_soon(void *client)
{
	sleep_ns(50 * MS);
	peal_client_wake(client);
	return NULL;
}

static int send_one(uint64_t timeout_ns)
{
	return peal_client_send(found.client, "e", 1, PEAL_FOREVER, timeout_ns,
	                        NULL);
}

static void wake_of_a_send_leaves_nothing_to_poll_for(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = loop_options();
	pthread_t thread;

	(void)state;
	open_reactor(&options);
	open_client(&wish);
	while (send_one(0) == 0)
		continue;
	assert_int_equal(pthread_create(&thread, NULL, wake_soon, found.client),
	                 0);
	assert_int_equal(send_one(PATIENCE_NS), -ECANCELED);
	pthread_join(thread, NULL);
	assert_int_equal(send_one(50 * MS), -ETIMEDOUT);
	assert_false(is_readable(peal_client_fd(found.client), 0));
	close_both();
}

/* The wake was written before somebody else noticed the loss. */
static void loss_leaves_no_wake_to_poll_for(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = loop_options();
	struct peal_message message;

	(void)state;
	open_reactor(&options);
	open_client(&wish);
	assert_int_equal(peal_client_prepare(found.client), 0);
	peal_client_wake(found.client);
	assert_int_equal(peal_reactor_close(served.reactor), 0);
	assert_int_equal(send_one(0), -ESHUTDOWN);
	assert_true(is_readable(peal_client_fd(found.client), 0));
	assert_int_equal(peal_client_dispatch(found.client), -ESHUTDOWN);
	assert_int_equal(peal_client_recv(found.client, 0, &message),
	                 -ESHUTDOWN);
	assert_int_equal(peal_client_prepare(found.client), 0);
	assert_false(is_readable(peal_client_fd(found.client), 0));
	peal_client_close(found.client);
}

/* the lane ------------------------------------------------------------------ */

/* Turns of a loop, until it may rest; the last one is not counted. */
static uint32_t turn_until_rest(void)
{
	struct peal_message message;
	uint32_t count = 0;

	while (count < TURNS_MAX && peal_client_prepare(found.client) == 1) {
		assert_int_equal(peal_client_dispatch(found.client), 0);
		while (peal_client_recv(found.client, 0, &message) == 0)
			continue;
		count++;
	}
	return count;
}

/* What the server does between two looks of the loop is rung for. */
static void full_lane_lets_a_loop_rest_until_it_is_read(void **state)
{
	(void)state;
	open_both(call_often, answer_at_length);
	assert_true(turn_until_rest() < TURNS_MAX);
	assert_non_null(found.client->unsent);
	assert_int_equal(answer_count, 0);
	while (answer_count < CALLS) {
		assert_false(is_readable(peal_client_fd(found.client), 0));
		run();
		if (answer_count == CALLS)
			break;
		assert_true(is_readable(peal_client_fd(found.client), 0));
		assert_int_equal(peal_client_dispatch(found.client), 0);
		assert_true(turn_until_rest() < TURNS_MAX);
	}
	assert_null(found.client->unsent);
	close_both();
}

/* answers ------------------------------------------------------------------- */

static void keep_it(struct peal_request *request, void *arg)
{
	(void)arg;
	found.kept = request;
}

static void call_once(struct peal_reactor *reactor, struct peal_peer peer,
                      void *arg)
{
	on_opened(reactor, peer, arg);
	(void)!peal_reactor_call(reactor, peer, "q", 1, PEAL_FOREVER, on_answer,
	                         NULL);
}

static void child_of_a_client_cannot_answer_its_server(void **state)
{
	static const char text[LONG_BYTES];

	(void)state;
	open_both(call_once, keep_it);
	turn_until_rest();
	assert_non_null(found.kept);
	assert_int_equal(check_in_child(try_everything, found.kept), 0);
	assert_int_equal(peal_reply(found.kept, text, sizeof(text)), 0);
	run_until(&answer_count, 1);
	close_both();
}

static void keep_end(int error, const struct peal_message *answer, void *arg)
{
	on_answer(error, answer, arg);
	if (error == 0)
		memcpy(found.last,
		       (const char *)answer->data + answer->data_bytes - 4, 4);
}

static void call_and_keep_end(struct peal_reactor *reactor,
                              struct peal_peer peer, void *arg)
{
	on_opened(reactor, peer, arg);
	for (int i = 0; i < CALLS; i++)
		(void)!peal_reactor_call(reactor, peer, "q", 1, PEAL_FOREVER,
		                         keep_end, NULL);
}

/* What is claimed and what has to wait are in the same memory. */
static void answer_from_within_a_claim(struct peal_request *request, void *arg)
{
	char *place;

	(void)arg;
	if (peal_reply_claim(request, 1100, (void **)&place) != 0)
		return;
	memset(place, '-', 1100);
	memcpy(place + 8, "head", 4);
	memcpy(place + 1004, "tail", 4);
	peal_reply(request, place + 8, LONG_BYTES);
}

static void answer_that_lies_in_its_own_claim_waits_for_the_lane(void **state)
{
	(void)state;
	open_both(call_and_keep_end, answer_from_within_a_claim);
	turn_until_rest();
	assert_non_null(found.client->unsent);
	for (int i = 0; i < CALLS && answer_count < CALLS; i++) {
		run();
		turn_until_rest();
	}
	assert_int_equal(answer_count, CALLS);
	assert_memory_equal(found.last, "tail", 4);
	close_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FOUND(wake_of_a_send_leaves_nothing_to_poll_for),
		FOUND(loss_leaves_no_wake_to_poll_for),
		FOUND(full_lane_lets_a_loop_rest_until_it_is_read),
		FOUND(child_of_a_client_cannot_answer_its_server),
		FOUND(answer_that_lies_in_its_own_claim_waits_for_the_lane),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
