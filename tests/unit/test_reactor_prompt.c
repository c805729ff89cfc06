/* SPDX-License-Identifier: MIT */
/*
 * What does not wait until all handlers have run for whose requests there are: a
 * stop, a client that is sent away, posts; and what a stop does not wait for.
 */
#include "tests/unit/reactor_fixture.h"

#define REQUESTS 50
#define MANY_POSTS 1000 /* more than have their turn in a pass */

static struct {
	void (*first)(struct peal_request *request); /* does this as well */
	uint32_t handled_count;
	uint64_t handler_ns;
	uint32_t posted_count;
	uint32_t handled_before; /* the post, or the farewell */
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

static uint32_t started_count, may_end;

static void serve_or_block(struct peal_request *request, void *arg)
{
	const char *data = peal_request_data(request, NULL);

	if (*data == 'k') {
		serve(request, arg);
		return;
	}
	__atomic_fetch_add(&started_count, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&may_end, __ATOMIC_ACQUIRE) == 0)
		sleep_ns(MS);
	peal_reply(request, NULL, 0);
}

static void stop_by_post(void *arg)
{
	(void)arg;
	stop(NULL);
}

/* Nothing has been taken in the pass that the post is of. */
static void no_handler_begins_after_a_post_that_stops(void **state)
{
	struct raw_client raw;

	(void)state;
	ask_much_of(&raw, stop, 0);
	assert_int_equal(peal_reactor_post(served.reactor, stop_by_post, NULL),
	                 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	assert_int_equal(prompt.handled_count, 0);
	hear(&raw, PEAL__FRAME_FAILED, 1, -ESHUTDOWN, "");
	raw_close(&raw, true);
	close_reactor();
}

/* They wait behind one that runs. */
static void no_worker_begins_after_a_stop(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	started_count = may_end = 0;
	options.on_request = serve_or_block;
	options.worker_count = 1;
	options.inline_mode = PEAL_INLINE_NEVER;
	open_reactor_for(&raw, &options);
	for (uint64_t i = 1; i <= 5; i++)
		assert_int_equal(raw_ask(&raw, i, "block"), 0);
	run_until(&served.reactor->in_flight, 5);
	await_word(&started_count, 1);
	assert_int_equal(peal_reactor_stop(served.reactor, PEAL_FOREVER), 0);
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	for (uint64_t i = 2; i <= 5; i++)
		hear(&raw, PEAL__FRAME_FAILED, i, -ESHUTDOWN, "");
	assert_int_equal(started_count, 1);
	raw_close(&raw, true);
	close_reactor();
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

static void send_away_by_post(void *arg)
{
	(void)arg;
	assert_int_equal(peal_reactor_disconnect(served.reactor, served.opened),
	                 0);
}

static void no_handler_begins_for_one_that_a_post_sends_away(void **state)
{
	struct peal_reactor_stats stats;
	struct raw_client raw;

	(void)state;
	ask_much_of(&raw, send_it_away, 0);
	assert_int_equal(
		peal_reactor_post(served.reactor, send_away_by_post, NULL), 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(prompt.handled_count, 0);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.unread_count, REQUESTS);
	raw_close(&raw, false);
	close_reactor();
}

static void turn_away(struct peal_reactor *reactor, struct peal_peer peer,
                      void *arg)
{
	on_opened(reactor, peer, arg);
	assert_int_equal(peal_reactor_disconnect(reactor, peer), 0);
}

/* Neither what it asks nor what it tells before it hears of it. */
static void no_handler_begins_for_one_that_on_opened_sends_away(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_opened = turn_away;
	open_reactor(&options);
	assert_int_equal(raw_connect(&raw, "served", 4096, 0), 0);
	assert_int_equal(raw_say(&raw, &raw.requests, PEAL__FRAME_ONE_WAY, 0,
	                         "z", 1),
	                 0);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -ECONNABORTED);
	assert_int_equal(served.handled_count, 0);
	raw_close(&raw, false);
	close_reactor();
}

static void ignore_answer(int error, const struct peal_message *answer,
                          void *arg)
{
	(void)error;
	(void)answer;
	(void)arg;
}

static void no_handler_begins_for_one_whose_answers_make_no_sense(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "?",
	                                   1, PEAL_FOREVER, ignore_answer,
	                                   NULL),
	                 0);
	assert_int_equal(
		raw_say(&raw, &raw.lane, PEAL__FRAME_REQUEST, 7, "a", 1), 0);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -EPROTO);
	assert_int_equal(served.handled_count, 0);
	raw_close(&raw, false);
	close_reactor();
}

static void note_farewell(struct peal_reactor *reactor, struct peal_peer peer,
                          int reason, void *arg)
{
	on_closed(reactor, peer, reason, arg);
	if (served.closed_count == 1)
		prompt.handled_before = prompt.handled_count;
}

static void one_that_is_sent_away_does_not_wait_for_the_others(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raws[2];

	(void)state;
	memset(&prompt, 0, sizeof(prompt));
	prompt.first = send_it_away;
	options.on_request = serve_promptly;
	options.on_closed = note_farewell;
	open_reactor(&options);
	for (uint32_t i = 0; i < 2; i++)
		connect_raw(&raws[i], 0);
	for (uint64_t id = 1; id <= REQUESTS; id++)
		for (uint32_t i = 0; i < 2; i++)
			assert_int_equal(raw_ask(&raws[i], id, "q"), 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(prompt.handled_before, 1);
	run_until(&prompt.handled_count, 1 + REQUESTS);
	for (uint32_t i = 0; i < 2; i++)
		raw_close(&raws[i], true);
	run_until(&served.closed_count, 2);
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
	served.reactor->take_ticks = peal__ns_to_ticks(MS);
	run_until(&prompt.posted_count, 1);
	assert_true(prompt.handled_before < 10);
	run_until(&prompt.handled_count, REQUESTS);
	leave_and_close(&raw);
}

/* what a stop does not wait for ---------------------------------------------- */

static void post_again(void *arg)
{
	prompt.posted_count++;
	(void)!peal_reactor_post(served.reactor, post_again, arg);
}

static void post_that_posts_again_does_not_hold_a_stop(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	memset(&prompt, 0, sizeof(prompt));
	open_reactor(&options);
	assert_int_equal(peal_reactor_post(served.reactor, post_again, NULL),
	                 0);
	assert_int_equal(peal_reactor_stop(served.reactor, PATIENCE_NS), 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	assert_true(prompt.posted_count > 0);
	close_reactor();
}

static void all_posts_that_were_made_before_have_run_after_a_stop(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	memset(&prompt, 0, sizeof(prompt));
	open_reactor(&options);
	for (uint32_t i = 0; i < MANY_POSTS; i++)
		assert_int_equal(
			peal_reactor_post(served.reactor, note_post, NULL), 0);
	assert_int_equal(peal_reactor_stop(served.reactor, 0), 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	assert_int_equal(prompt.posted_count, MANY_POSTS);
	close_reactor();
}

static void push_that_nobody_reads_does_not_hold_a_stop(void **state)
{
	static const char text[1000];
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	for (int i = 0; i < 10; i++)
		assert_int_equal(peal_reactor_push(served.reactor,
		                                   served.opened, text,
		                                   sizeof(text)),
		                 0);
	assert_int_equal(served.reactor->queued_count, 1);
	assert_int_equal(peal_reactor_stop(served.reactor, PATIENCE_NS), 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	raw_close(&raw, true);
	close_reactor();
}

/* close --------------------------------------------------------------------- */

/* The answer went into the ring of a sleeper, and nobody rang. */
static void close_that_is_too_early_rings_who_was_answered(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw, other;
	struct peal__client_bell *bell;
	uint32_t before;

	(void)state;
	started_count = may_end = 0;
	options.on_request = serve_or_block;
	options.worker_count = 1;
	options.inline_mode = PEAL_INLINE_NEVER;
	open_reactor_for(&raw, &options);
	connect_raw(&other, 0);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run_until(&served.kept_count, 1);
	assert_int_equal(raw_ask(&other, 1, "block"), 0);
	run_until(&started_count, 1);
	bell = &raw.connection.segment->answers;
	__atomic_store_n(&bell->arm, 1 << 2 | PEAL_DOORBELL_FUTEX,
	                 __ATOMIC_SEQ_CST);
	before = bell->seq;
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	assert_int_equal(peal_reactor_close(served.reactor), -EBUSY);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	assert_int_equal(bell->seq, before + 1);
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	raw_close(&raw, true);
	raw_close(&other, true);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_handler_begins_after_a_stop),
		TEST(no_handler_begins_after_a_post_that_stops),
		TEST(no_worker_begins_after_a_stop),
		TEST(no_handler_begins_for_one_that_was_sent_away),
		TEST(no_handler_begins_for_one_that_a_post_sends_away),
		TEST(no_handler_begins_for_one_that_on_opened_sends_away),
		TEST(no_handler_begins_for_one_whose_answers_make_no_sense),
		TEST(one_that_is_sent_away_does_not_wait_for_the_others),
		TEST(post_waits_for_a_few_long_handlers_only),
		TEST(post_that_posts_again_does_not_hold_a_stop),
		TEST(all_posts_that_were_made_before_have_run_after_a_stop),
		TEST(push_that_nobody_reads_does_not_hold_a_stop),
		TEST(close_that_is_too_early_rings_who_was_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
