/* SPDX-License-Identifier: MIT */
/*
 * What does not wait until all handlers have run for whose requests there are: a
 * stop, a client that is sent away, posts; and what a stop does not wait for.
 */
#include "tests/unit/reactor_fixture.h"

#define REQUESTS 50

static struct {
	void (*first)(struct peal_request *request); /* does this as well */
	uint32_t handled_count;
	uint64_t handler_ns;
	uint32_t posted_count, handled_before; /* the post */
} prompt;

static void serve_promptly(struct peal_request *request, void *arg)
{
	(void)arg;
	if (++prompt.handled_count == 1)
		prompt.first(request);
	sleep_ns(prompt.handler_ns);
	peal_reply(request, NULL, 0);
}

static void ask_much_of(struct raw_client *raw,
                        void (*first)(struct peal_request *),
                        uint64_t handler_ns)
{
	struct peal_reactor_options options = usual_options();

	memset(&prompt, 0, sizeof(prompt));
	prompt.first = first;
	prompt.handler_ns = handler_ns;
	options.on_request = serve_promptly;
	open_reactor_for(raw, &options);
	for (uint64_t i = 1; i <= REQUESTS; i++)
		assert_int_equal(raw_ask(raw, i, "q"), 0);
}

/* stop ---------------------------------------------------------------------- */

static void stop(struct peal_request *request)
{
	(void)request;
	peal_reactor_stop(served.reactor, PEAL_FOREVER);
}

static void no_handler_begins_after_a_stop(void **state)
{
	struct raw_client raw;

	(void)state;
	ask_much_of(&raw, stop, 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	assert_int_equal(prompt.handled_count, 1);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	raw_close(&raw, true);
	served.closed_count++;
	while (peal_reactor_close(served.reactor) == -EBUSY)
		sleep_ns(MS);
}

/* sent away ----------------------------------------------------------------- */

static void send_it_away(struct peal_request *request)
{
	assert_int_equal(peal_reactor_disconnect(served.reactor,
	                                         peal_request_peer(request)),
	                 0);
}

static void no_handler_begins_for_one_that_was_sent_away(void **state)
{
	struct raw_client raw;

	(void)state;
	ask_much_of(&raw, send_it_away, 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(prompt.handled_count, 1);
	raw_close(&raw, false);
	close_reactor();
}

/* posts --------------------------------------------------------------------- */

static void note_post(void *arg)
{
	(void)arg;
	prompt.posted_count++;
	prompt.handled_before = prompt.handled_count;
}

static void post_something(struct peal_request *request)
{
	(void)request;
	assert_int_equal(peal_reactor_post(served.reactor, note_post, NULL), 0);
}

static void post_waits_for_a_few_long_handlers_only(void **state)
{
	struct raw_client raw;

	(void)state;
	ask_much_of(&raw, post_something, MS);
	run_until(&prompt.posted_count, 1);
	assert_true(prompt.handled_before < 10);
	run_until(&prompt.handled_count, REQUESTS);
	leave_and_close(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_handler_begins_after_a_stop),
		TEST(no_handler_begins_for_one_that_was_sent_away),
		TEST(post_waits_for_a_few_long_handlers_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
