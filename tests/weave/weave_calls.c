/* SPDX-License-Identifier: MIT */
/*
 * A reactor and its client, woven at every hook: an answer, a push or a wake
 * ends the wait of whoever waits for it, whatever the order of the steps.
 *
 *	call    client: call, call      reactor: serve until both are answered
 *	reply   a thread: reply         reactor: asleep until that is to be sent
 *	push    client: asleep in recv  reactor: push, push
 *	wake    a thread: wake          client: asleep in recv
 *
 *	./test_weave_calls [--full]     some thousand schedules, or a million
 */
#include "tests/weave/weave.h"

#include "peal/client.h"

#define NAME "woven"
#define WATCH_NS (10 * SCENE_S)

static bool is_full_run;

static struct stage {
	struct peal_reactor *reactor;
	struct peal_client *client;
	struct peal_peer peer;
	struct peal_request *kept;
	bool keeps; /* requests are kept for another thread */
	uint32_t opened_count, served_count, pushed_count, count;
} stage;

/* A thread that is woven cannot assert. */
static void require(bool is_true)
{
	if (!is_true)
		abort();
}

/* the reactor -------------------------------------------------------------- */

static void serve(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	weave_point("in the handler");
	if (stage.keeps) {
		require(peal_request_retain(request) == 0);
		stage.kept = request;
		return;
	}
	require(peal_reply(request, data, bytes) == 0);
	stage.served_count++;
}

static void opened(struct peal_reactor *reactor, struct peal_peer peer,
                   void *arg)
{
	(void)reactor;
	(void)arg;
	stage.peer = peer;
	stage.opened_count++;
}

static uint64_t answered_count(void)
{
	struct peal_reactor_stats stats;

	require(peal_reactor_stats(stage.reactor, &stats) == 0);
	return stats.answered_count;
}

static void count_push(const struct peal_message *push, void *arg)
{
	(void)push;
	(void)arg;
	weave_point("in the callback");
	/* It ends the recv that we are in. */
	if (++stage.pushed_count == stage.count)
		peal_client_wake(stage.client);
}

static void open_stage(bool keeps)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options client = PEAL_CLIENT_OPTIONS_INIT;

	stage = (struct stage){.keeps = keeps};
	options.name = client.name = NAME;
	options.spin_mode = client.spin_mode = PEAL_SPIN_NEVER;
	options.on_request = serve;
	options.on_opened = opened;
	client.on_push = count_push;
	assert_int_equal(peal_reactor_open(&options, &stage.reactor), 0);
	assert_int_equal(peal_client_connect(&client, SCENE_S, &stage.client),
	                 0);
	while (stage.opened_count == 0)
		peal_reactor_run_once(stage.reactor, SCENE_MS);
}

static void close_stage(void)
{
	assert_int_equal(peal_client_close(stage.client), 0);
	assert_int_equal(peal_reactor_close(stage.reactor), 0);
}

static void weave_them(void (*first)(void *), void (*second)(void *),
                       void (*reset)(void *), const char *name)
{
	struct weave weave = {
		.runs = {first, second},
		.reset = reset,
		.object = &stage,
		.preemption_max = is_full_run ? 6 : 3,
		.schedule_max = is_full_run ? 100000 : 4000,
		.seed = scene_seed,
	};

	weave_all(&weave, name, is_full_run ? 100000 : 1000);
}

/* call ---------------------------------------------------------------------- */

static void call_twice(void *object)
{
	struct peal_message answer;

	(void)object;
	for (uint32_t i = 0; i < stage.count; i++) {
		require(peal_client_call(stage.client, &i, sizeof(i),
		                         PEAL_FOREVER, &answer) == 0);
		require(answer.data_bytes == sizeof(i) &&
		        memcmp(answer.data, &i, sizeof(i)) == 0);
		weave_point("answered");
	}
}

static void serve_until_answered(void *object)
{
	(void)object;
	while (stage.served_count < stage.count)
		peal_reactor_run_once(stage.reactor, PEAL_FOREVER);
	peal_reactor_run_once(stage.reactor, 0);
}

static void reset_calls(void *object)
{
	(void)object;
	stage.served_count = 0;
	stage.count = 2;
	peal_reactor_run_once(stage.reactor, 0);
}

static void answers_end_the_wait_of_a_call(void **state)
{
	(void)state;
	open_stage(false);
	weave_them(call_twice, serve_until_answered, reset_calls, "call");
	close_stage();
}

/* reply from another thread -------------------------------------------------- */

static void reply_late(void *object)
{
	(void)object;
	require(peal_reply(stage.kept, "late", 4) == 0);
	weave_point("replied");
}

static void run_until_sent(void *object)
{
	uint64_t before = stage.count;

	(void)object;
	while (answered_count() == before)
		peal_reactor_run_once(stage.reactor, PEAL_FOREVER);
	peal_reactor_run_once(stage.reactor, 0);
}

/* Take the answer of the schedule before, and ask once more. */
static void reset_replies(void *object)
{
	struct peal_message answer;

	(void)object;
	if (stage.kept != NULL)
		require(peal_client_recv(stage.client, 0, &answer) == 0 &&
		        answer.kind == PEAL_ANSWERED);
	stage.kept = NULL;
	stage.count = (uint32_t)answered_count();
	require(peal_client_send(stage.client, "ask", 3, PEAL_FOREVER, 0,
	                         NULL) == 0);
	while (stage.kept == NULL)
		peal_reactor_run_once(stage.reactor, 0);
}

static void reply_of_another_thread_wakes_the_reactor(void **state)
{
	(void)state;
	open_stage(true);
	weave_them(reply_late, run_until_sent, reset_replies, "reply");
	reset_replies(&stage);
	assert_int_equal(peal_reply(stage.kept, "", 0), 0);
	close_stage();
}

/* push ----------------------------------------------------------------------- */

static void push_twice(void *object)
{
	(void)object;
	for (uint32_t i = 0; i < stage.count; i++) {
		/* It is the reactor's thread that pushes. */
		peal_reactor_run_once(stage.reactor, 0);
		require(peal_reactor_push(stage.reactor, stage.peer, "push",
		                          4) == 0);
		weave_point("pushed");
	}
	peal_reactor_run_once(stage.reactor, 0);
}

static void recv_until_woken(void *object)
{
	struct peal_message answer;

	(void)object;
	require(peal_client_recv(stage.client, PEAL_FOREVER, &answer) ==
	        -ECANCELED);
	require(stage.pushed_count == stage.count);
}

static void reset_pushes(void *object)
{
	(void)object;
	stage.pushed_count = 0;
	stage.count = 2;
	peal_reactor_run_once(stage.reactor, 0);
}

static void pushes_are_heard_in_the_wait_of_a_recv(void **state)
{
	(void)state;
	open_stage(false);
	weave_them(push_twice, recv_until_woken, reset_pushes, "push");
	close_stage();
}

/* wake ----------------------------------------------------------------------- */

static void wake(void *object)
{
	(void)object;
	peal_client_wake(stage.client);
	weave_point("woken");
}

static void reset_wakes(void *object)
{
	(void)object;
	stage.pushed_count = stage.count = 0;
}

static void wake_of_another_thread_ends_the_wait_of_a_recv(void **state)
{
	(void)state;
	open_stage(false);
	weave_them(wake, recv_until_woken, reset_wakes, "wake");
	close_stage();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_end_the_wait_of_a_call),
		cmocka_unit_test(reply_of_another_thread_wakes_the_reactor),
		cmocka_unit_test(pushes_are_heard_in_the_wait_of_a_recv),
		cmocka_unit_test(
			wake_of_another_thread_ends_the_wait_of_a_recv),
	};

	is_full_run = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, weave_setup,
	                              scene_group_teardown) != 0;
}
