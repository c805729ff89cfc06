/* SPDX-License-Identifier: MIT */
/*
 * A wake is told whatever comes from the moment on in which its client gets up.
 * Pushes: it ends the wait that it was meant for. An answer: the next one. Needs
 * -Dhooks=true: by chance they never come then.
 */
#include "tests/unit/reactor_fixture.h"

#include "base/hooks.h"
#include "peal/client.h"

#define PUSHES 100

static struct {
	struct peal_client *client;
	uint32_t woken_count, push_count;
	bool is_answered; /* and not sent a push */
	bool calls;       /* when it was sent one */
	int call_error;
} scene;

static void push(void)
{
	assert_int_equal(
		peal_reactor_push(served.reactor, served.opened, "news", 4), 0);
	run();
}

/* Once, in a client's sleep: it is woken, and sent something before it looks. */
static void disturb(const char *place)
{
	if (strcmp(place, "sleep: looked again") == 0 &&
	    scene.woken_count == 0) {
		scene.woken_count++;
		peal_client_wake(scene.client);
	} else if (strcmp(place, "sleep: over") == 0 &&
	           scene.woken_count == 1) {
		scene.woken_count++;
		if (scene.is_answered)
			run();
		else
			push();
	}
}

/* After each one there is another. */
static void on_push(const struct peal_message *message, void *arg)
{
	(void)message;
	(void)arg;
	scene.push_count++;
	if (scene.calls)
		scene.call_error = peal_client_call(scene.client, "c", 1,
		                                    PATIENCE_NS, NULL);
	else if (scene.push_count < PUSHES)
		push();
}

static void connect_one(bool is_answered)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;

	memset(&scene, 0, sizeof(scene));
	scene.is_answered = is_answered;
	open_reactor(&options);
	wish.name = "served";
	wish.on_push = on_push;
	assert_int_equal(peal_client_connect(&wish, PATIENCE_NS, &scene.client),
	                 0);
	run_until(&served.opened_count, 1);
	peal__hook = disturb;
}

static void leave_it(void)
{
	peal__hook = NULL;
	assert_int_equal(scene.woken_count, 2);
	assert_int_equal(scene.push_count, scene.is_answered ? 0 : 1);
	peal_client_close(scene.client);
	run_until(&served.closed_count, 1);
	close_reactor();
}

static void recv_is_woken_though_a_push_comes(void **state)
{
	struct peal_message message;

	(void)state;
	connect_one(false);
	assert_int_equal(peal_client_recv(scene.client, PATIENCE_NS, &message),
	                 -ECANCELED);
	leave_it();
}

static void wake_that_a_call_in_a_callback_has_told_is_over(void **state)
{
	struct peal_message message;

	(void)state;
	connect_one(false);
	scene.calls = true;
	assert_int_equal(peal_client_recv(scene.client, 20 * MS, &message),
	                 -ETIMEDOUT);
	assert_int_equal(scene.call_error, -ECANCELED);
	leave_it();
}

static void call_is_woken_though_a_push_comes(void **state)
{
	struct peal_message message;

	(void)state;
	connect_one(false);
	assert_int_equal(peal_client_call(scene.client, "d", 1, PATIENCE_NS,
	                                  &message),
	                 -ECANCELED);
	leave_it();
}

static void recv_has_its_answer_and_the_next_one_is_woken(void **state)
{
	struct peal_message message;

	(void)state;
	connect_one(true);
	assert_int_equal(peal_client_send(scene.client, "e", 1, PEAL_FOREVER, 0,
	                                  NULL),
	                 0);
	assert_int_equal(peal_client_recv(scene.client, PATIENCE_NS, &message),
	                 0);
	assert_int_equal(peal_client_recv(scene.client, PATIENCE_NS, &message),
	                 -ECANCELED);
	assert_int_equal(peal_client_recv(scene.client, 0, &message), -EAGAIN);
	leave_it();
}

static void call_has_its_answer_and_the_next_one_is_woken(void **state)
{
	struct peal_message message;

	(void)state;
	connect_one(true);
	assert_int_equal(peal_client_call(scene.client, "e", 1, PATIENCE_NS,
	                                  &message),
	                 0);
	assert_int_equal(peal_client_call(scene.client, "e", 1, PATIENCE_NS,
	                                  &message),
	                 -ECANCELED);
	leave_it();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			recv_is_woken_though_a_push_comes, begin, end),
		cmocka_unit_test_setup_teardown(
			wake_that_a_call_in_a_callback_has_told_is_over, begin,
			end),
		cmocka_unit_test_setup_teardown(
			call_is_woken_though_a_push_comes, begin, end),
		cmocka_unit_test_setup_teardown(
			recv_has_its_answer_and_the_next_one_is_woken, begin,
			end),
		cmocka_unit_test_setup_teardown(
			call_has_its_answer_and_the_next_one_is_woken, begin,
			end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
