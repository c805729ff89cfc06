/* SPDX-License-Identifier: MIT */
/*
 * What the reactor was found to do wrong, each named after it.
 */
#include "tests/unit/reactor_fixture.h"

static struct {
	struct peal_peer first, second;
	uint32_t closed_count;
	struct raw_client *newcomer;
	int newcomer_error;
} found;

static void close_the_other_as_well(struct peal_reactor *reactor,
                                    struct peal_peer peer, int reason,
                                    void *arg)
{
	on_closed(reactor, peer, reason, arg);
	if (peer.slot_index == found.second.slot_index)
		peal_reactor_disconnect(reactor, found.first);
}

static void callback_sends_away_a_client_that_was_passed(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client first, second;

	(void)state;
	options.client_max = 2;
	options.on_closed = close_the_other_as_well;
	open_reactor(&options);
	connect_raw(&first, 0);
	found.first = served.opened;
	connect_raw(&second, 0);
	found.second = served.opened;
	if (found.first.slot_index > found.second.slot_index) {
		struct peal_peer swapped = found.first;

		found.first = found.second;
		found.second = swapped;
	}
	assert_int_equal(peal_reactor_disconnect(served.reactor, found.second),
	                 0);
	run_until(&served.closed_count, 2);
	raw_close(&first, false);
	raw_close(&second, false);
	close_reactor();
}

/* In on_closed, while the slot of the dead one is not free. */
static void let_a_newcomer_try(struct peal_reactor *reactor,
                               struct peal_peer peer, int reason, void *arg)
{
	on_closed(reactor, peer, reason, arg);
	if (served.closed_count == 1)
		found.newcomer_error =
			raw_connect(found.newcomer, "served", 4096, 0);
}

static void slot_of_a_parked_client_that_died_is_let_go_once(void **state)
{
	struct peal_reactor_options options = usual_options();
	static char text[1000] = "e";
	struct raw_client slow, next;
	uint64_t asked = 0;

	(void)state;
	memset(text + 1, 'x', sizeof(text) - 2);
	options.client_max = 1;
	options.on_closed = let_a_newcomer_try;
	open_reactor_for(&slow, &options);
	while (raw_ask(&slow, asked + 1, text) == 0) {
		asked++;
		run();
	}
	found.newcomer = &next;
	found.newcomer_error = 0;
	raw_close(&slow, false);
	run_until(&served.closed_count, 1);
	assert_int_equal(found.newcomer_error, -EBUSY);
	for (int i = 0; raw_connect(&next, "served", 4096, 0) != 0; i++)
		assert_true(i < 1000);
	run_until(&served.opened_count, 2);
	ask_and_hear(&next, 1, "e");
	leave_and_close(&next);
}

static void stop_is_complete_with_the_last_answer(void **state)
{
	struct raw_client raw;
	uint64_t start_ns;

	(void)state;
	open_usual_for(&raw);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	assert_int_equal(peal_reactor_stop(served.reactor, PATIENCE_NS), 0);
	run();
	start_ns = now_ns();
	assert_int_equal(peal_reply(served.kept[0], "last", 4), 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	assert_true(now_ns() - start_ns < SECOND);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "last");
	close_reactor();
	raw_close(&raw, false);
}

static void client_that_reads_slowly_is_not_one_that_does_not_read(void **state)
{
	struct peal_reactor_options options = usual_options();
	static const char text[1000] = "news";
	struct peal_message message;
	struct peal__frame_parts parts;
	struct raw_client raw;

	(void)state;
	options.stall_timeout_ns = 500 * MS;
	open_reactor_for(&raw, &options);
	for (int i = 0; i < 100; i++)
		assert_int_equal(peal_reactor_push(served.reactor,
		                                   served.opened, text,
		                                   sizeof(text)),
		                 0);
	for (int i = 0; i < 30; i++) {
		assert_int_equal(raw_hear(&raw, &message, &parts), 0);
		peal_reactor_run_once(served.reactor, 10 * MS);
		sleep_ns(20 * MS);
		peal_reactor_run_once(served.reactor, 0);
	}
	assert_int_equal(served.closed_count, 0);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -ETIMEDOUT);
	raw_close(&raw, false);
	close_reactor();
}

static void clock_of_the_stalled_stands_while_nothing_is_queued(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	uint32_t woken_count = 0;
	uint64_t end_ns;

	(void)state;
	options.stall_timeout_ns = MS;
	open_reactor_for(&raw, &options);
	for (end_ns = now_ns() + 200 * MS; now_ns() < end_ns; woken_count++)
		peal_reactor_run_once(served.reactor, 50 * MS);
	assert_true(woken_count < 20);
	assert_int_equal(served.closed_count, 0);
	leave_and_close(&raw);
}

/* Of every two the first one finds no room, and the second one would. */
static void what_fits_does_not_overtake_what_waits_for_room(void **state)
{
	struct peal_message message = {0};
	struct peal__frame_parts parts;
	unsigned char text[1000] = "";
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	for (int i = 0; i < 100; i++) {
		text[0] = (unsigned char)i;
		assert_int_equal(
			peal_reactor_push(served.reactor, served.opened, text,
		                          i % 2 == 0 ? sizeof(text) : 1),
			0);
	}
	for (int i = 0; i < 100; i++) {
		assert_int_equal(raw_hear(&raw, &message, &parts), 0);
		assert_int_equal(*(const unsigned char *)message.data, i);
		run();
	}
	leave_and_close(&raw);
}

static void turn_that_served_something_did_not_time_out(void **state)
{
	struct raw_client raw;

	(void)state;
	open_usual_for(&raw);
	run();
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	assert_int_equal(peal_reactor_run_once(served.reactor, PATIENCE_NS), 0);
	assert_int_equal(peal_reactor_run_once(served.reactor, 0), -ETIMEDOUT);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "e");
	leave_and_close(&raw);
}

static void send_away(struct peal_reactor *reactor, struct peal_peer peer,
                      void *arg)
{
	on_opened(reactor, peer, arg);
	peal_reactor_disconnect(reactor, peer);
}

static uint32_t expired_count;

static void expire(int error, const struct peal_message *answer, void *arg)
{
	(void)answer;
	(void)arg;
	expired_count += error == -ETIMEDOUT;
}

static void call_at_once(struct peal_reactor *reactor, struct peal_peer peer,
                         void *arg)
{
	on_opened(reactor, peer, arg);
	if (peal_reactor_call(reactor, peer, "?", 1, 20 * MS, expire, NULL) !=
	    0)
		expired_count = 100;
}

/* One wait that is much longer than what the callback asked for. */
static void open_in_a_wait(void (*opened)(struct peal_reactor *,
                                          struct peal_peer, void *),
                           const uint32_t *word)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	uint64_t start_ns;

	options.on_opened = opened;
	open_reactor(&options);
	assert_int_equal(raw_connect(&raw, "served", 4096, 0), 0);
	start_ns = now_ns();
	while (*word == 0)
		peal_reactor_run_once(served.reactor, 10 * SECOND);
	assert_true(now_ns() - start_ns < 5 * SECOND);
	assert_int_equal(*word, 1);
	raw_close(&raw, false);
	run_until(&served.closed_count, 1);
	close_reactor();
}

static void client_that_is_sent_away_as_it_comes_goes_at_once(void **state)
{
	(void)state;
	open_in_a_wait(send_away, &served.closed_count);
}

static void call_to_a_client_that_comes_expires_in_time(void **state)
{
	(void)state;
	expired_count = 0;
	open_in_a_wait(call_at_once, &expired_count);
}

static void
turn_that_a_timer_of_the_reactors_ended_did_not_time_out(void **state)
{
	struct raw_client raw;
	uint64_t start_ns;

	(void)state;
	expired_count = 0;
	open_usual_for(&raw);
	run();
	assert_int_equal(peal_reactor_call(served.reactor, served.opened, "?",
	                                   1, 50 * MS, expire, NULL),
	                 0);
	start_ns = now_ns();
	while (expired_count == 0)
		assert_int_equal(
			peal_reactor_run_once(served.reactor, PATIENCE_NS), 0);
	assert_true(now_ns() - start_ns < PATIENCE_NS);
	assert_int_equal(peal_reactor_run_once(served.reactor, MS), -ETIMEDOUT);
	leave_and_close(&raw);
}

static uint32_t named_count, named_by_others_count;

/* In place of the C library's, which opens /proc for another thread's name. */
int pthread_setname_np(pthread_t thread, const char *name)
{
	(void)name;
	__atomic_add_fetch(pthread_equal(thread, pthread_self())
	                           ? &named_count
	                           : &named_by_others_count,
	                   1, __ATOMIC_RELAXED);
	return 0;
}

/* The end of a process waited in the kernel for what had been looked up. */
static void threads_name_themselves_and_leave_proc_alone(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	named_count = named_by_others_count = 0;
	options.worker_count = 2;
	open_reactor(&options);
	await_word(&named_count, 3);
	close_reactor();
	assert_int_equal(named_count, 3);
	assert_int_equal(named_by_others_count, 0);
}

/* requests that wait for a thread ------------------------------------------- */

/* In the order in which an executor was given them, until the test runs them. */
static struct {
	void (*run)(void *work);
	void *works[4];
	uint32_t count;
} waiting;

static int let_wait(void (*run_it)(void *work), void *work, void *arg)
{
	(void)arg;
	waiting.run = run_it;
	waiting.works[waiting.count++] = work;
	return 0;
}

static void *run_waiting(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < waiting.count; i++)
		waiting.run(waiting.works[i]);
	return NULL;
}

static void run_waiting_on_a_thread(void)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run_waiting, NULL), 0);
	pthread_join(thread, NULL);
}

static struct peal_reactor_options waiting_options(void)
{
	struct peal_reactor_options options = usual_options();

	waiting.count = 0;
	options.executor = let_wait;
	options.inline_mode = PEAL_INLINE_NEVER;
	return options;
}

static void ask_within(struct raw_client *raw, uint64_t id, uint64_t timeout_ns)
{
	uint64_t deadline_ns = peal__deadline_after(timeout_ns);
	void *place = NULL;

	assert_int_equal(peal__frame_claim(&raw->requests, PEAL__FRAME_REQUEST,
	                                   id, &deadline_ns, 1, &place),
	                 0);
	memcpy(place, "e", 1);
	peal_ring_publish(&raw->requests);
	peal_doorbell_ring(&raw->bell);
}

static void request_that_waited_for_a_thread_too_long_is_not_begun(void **state)
{
	struct peal_reactor_options options = waiting_options();
	struct peal_reactor_stats stats;
	struct raw_client raw;

	(void)state;
	open_reactor_for(&raw, &options);
	ask_within(&raw, 1, PATIENCE_NS);
	ask_within(&raw, 2, 50 * MS);
	assert_int_equal(raw_ask(&raw, 3, "e"), 0);
	run_until(&waiting.count, 3);
	sleep_ns(60 * MS);
	/* Relaxed: the thread that looks at it begins later. */
	peal__write_once(&raw.connection.segment->cancelled[3], 3);
	run_waiting_on_a_thread();
	assert_int_equal(served.handled_count, 1);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "e");
	hear(&raw, PEAL__FRAME_FAILED, 2, -ETIMEDOUT, "");
	hear(&raw, PEAL__FRAME_FAILED, 3, -ECANCELED, "");
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.answered_count, 1);
	assert_int_equal(stats.failed_count, 2);
	assert_int_equal(stats.running_count, 0);
	leave_and_close(&raw);
}

static void request_of_one_that_went_meanwhile_is_not_begun(void **state)
{
	struct peal_reactor_options options = waiting_options();
	struct peal_reactor_stats stats;
	struct raw_client raw;

	(void)state;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run_until(&waiting.count, 1);
	raw_close(&raw, false);
	run_until(&served.closed_count, 1);
	run_waiting_on_a_thread();
	run();
	assert_int_equal(served.handled_count, 0);
	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.dropped_count, 1);
	assert_int_equal(stats.running_count, 0);
	close_reactor();
}

/* a slot that is left and taken in one turn ---------------------------------- */

static struct {
	struct raw_client guest;
	uint32_t touched_most; /* the places of one slot in the list */
	int error;
} visit;

/* Whoever comes hears something before its bell is rung. */
static void greet(struct peal_reactor *reactor, struct peal_peer peer,
                  void *arg)
{
	uint32_t count = 0;

	on_opened(reactor, peer, arg);
	if (peal_reactor_push(reactor, peer, "welcome", 7) < 0)
		visit.error = 1;
	for (uint32_t i = 0; i < reactor->touched_count; i++)
		count += reactor->touched[i] == peer.slot_index;
	if (count > visit.touched_most)
		visit.touched_most = count;
}

/* The consumer hears of it when it looks for the next request. */
static void await_changes(uint32_t before)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	while (__atomic_load_n(&served.reactor->consumer->changes,
	                       __ATOMIC_ACQUIRE) == before &&
	       now_ns() < end_ns)
		sched_yield();
}

static void come_or_go(struct peal_request *request, void *arg)
{
	const struct peal_consumer *consumer = served.reactor->consumer;
	uint32_t before = __atomic_load_n(&consumer->changes, __ATOMIC_ACQUIRE);

	serve(request, arg);
	switch (served.handled_count) {
	case 2:
	case 4:
		if (raw_connect(&visit.guest, "served", 4096, 0) != 0)
			visit.error = 2;
		await_changes(before);
		break;
	case 3:
		raw_close(&visit.guest, true);
		await_changes(before);
		break;
	}
	/* Bells are rung after a while, which is not to be over yet. */
	served.reactor->is_brisk = true;
}

static void slot_that_is_taken_again_is_listed_once(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	memset(&visit, 0, sizeof(visit));
	options.on_request = come_or_go;
	options.on_opened = greet;
	options.turn_budget = 1;
	/* So that the list has room for what must not be in it. */
	options.client_max = 8;
	open_reactor_for(&raw, &options);
	for (uint64_t id = 1; id <= 8; id++)
		assert_int_equal(raw_ask(&raw, id, "e"), 0);
	served.reactor->is_brisk = true;
	run();
	assert_int_equal(visit.error, 0);
	assert_int_equal(served.handled_count, 8);
	assert_int_equal(served.opened_count, 3);
	assert_int_equal(visit.touched_most, 1);
	leave(&visit.guest);
	leave(&raw);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(callback_sends_away_a_client_that_was_passed),
		TEST(slot_of_a_parked_client_that_died_is_let_go_once),
		TEST(stop_is_complete_with_the_last_answer),
		TEST(client_that_reads_slowly_is_not_one_that_does_not_read),
		TEST(clock_of_the_stalled_stands_while_nothing_is_queued),
		TEST(client_that_is_sent_away_as_it_comes_goes_at_once),
		TEST(call_to_a_client_that_comes_expires_in_time),
		TEST(what_fits_does_not_overtake_what_waits_for_room),
		TEST(turn_that_served_something_did_not_time_out),
		TEST(turn_that_a_timer_of_the_reactors_ended_did_not_time_out),
		TEST(threads_name_themselves_and_leave_proc_alone),
		TEST(request_that_waited_for_a_thread_too_long_is_not_begun),
		TEST(request_of_one_that_went_meanwhile_is_not_begun),
		TEST(slot_that_is_taken_again_is_listed_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
