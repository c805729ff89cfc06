/* SPDX-License-Identifier: MIT */
/* Calls and answers, one thread of each side, nobody dies. */
#include "tests/unit/client_fixture.h"

#include <sched.h>

#include "reactor/client.h"

static struct server server;

static uint64_t last_deadline(void)
{
	return __atomic_load_n(&server.deadline_ns, __ATOMIC_RELAXED);
}

static void call_returns_the_answer_in_place(void **state)
{
	struct peal_client *client;
	struct peal_message answer;
	struct peal_client_stats stats;

	(void)state;
	server_start(&server);
	client = client_open();
	errno = OUR_ERRNO;
	for (int i = 0; i < 1000; i++) {
		expect_answer(client, "echo this", "echo this");
		assert_int_equal(
			call_text(client, "empty", PEAL_FOREVER, &answer), 0);
		assert_int_equal(answer.data_bytes, 0);
		assert_int_equal(answer.kind, PEAL_ANSWERED);
	}
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(call_text(client, "status", PEAL_FOREVER, &answer), 0);
	assert_int_equal(answer.status, 7);
	assert_text(&answer, "x");
	assert_int_equal(call_text(client, "fail", PEAL_FOREVER, &answer),
	                 -EBUSY);
	stats = client_stats(client);
	assert_int_equal(stats.sent_count, 2002);
	assert_int_equal(stats.answered_count, 2001);
	assert_int_equal(stats.failed_count, 1);
	assert_int_equal(stats.in_flight_count, 0);
	assert_int_equal(peal_client_close(client), 0);
	server_stop(&server);
}

static void pipelined_answers_come_by_recv_with_their_ids(void **state)
{
	struct peal_client_options options = client_options();
	struct peal_client *client;
	struct peal_message answer;
	uint64_t kept, later, failed;

	(void)state;
	server_start(&server);
	options.order = PEAL_UNORDERED;
	client = client_with(&options);
	kept = send_request(client, "keep");
	failed = send_request(client, "fail");
	later = send_request(client, "let go");
	assert_int_equal(client_stats(client).in_flight_count, 3);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.id, failed);
	assert_int_equal(answer.kind, PEAL_FAILED);
	assert_int_equal(answer.status, -EBUSY);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.id, later);
	assert_text(&answer, "first");
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.id, kept);
	assert_text(&answer, "kept");
	peal_client_release(client, &answer);
	assert_int_equal(peal_client_recv(client, 0, &answer), -EAGAIN);
	assert_int_equal(peal_client_recv(client, MS, &answer), -ETIMEDOUT);
	peal_client_close(client);
	server_stop(&server);
}

static void answers_that_a_call_meets_wait_for_recv(void **state)
{
	struct peal_client *client;
	struct peal_message answer;
	uint64_t ids[50];

	(void)state;
	server_start(&server);
	client = client_open();
	for (int i = 0; i < 50; i++)
		ids[i] = send_request(client, i % 2 ? "echo a" : "fail");
	expect_answer(client, "echo the call", "echo the call");
	for (int i = 0; i < 50; i++) {
		assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
		                 0);
		assert_int_equal(answer.id, ids[i]);
		assert_int_equal(answer.kind,
		                 i % 2 ? PEAL_ANSWERED : PEAL_FAILED);
	}
	peal_client_close(client);
	server_stop(&server);
}

static void
claim_writes_in_place_and_gives_up_what_is_not_published(void **state)
{
	struct peal_client *client;
	struct peal_message answer;
	uint64_t id, before, max;
	void *data;

	(void)state;
	server_start(&server);
	client = client_open();
	assert_int_equal(peal_client_publish(client, 0, PEAL_FOREVER, &id),
	                 -EINVAL);
	assert_int_equal(peal_client_claim(client, 100, SECOND, &data), 0);
	memset(data, 'x', 100);
	assert_int_equal(peal_client_claim(client, 100, SECOND, &data), 0);
	memcpy(data, "echo in place", 13);
	assert_int_equal(peal_client_publish(client, 101, PEAL_FOREVER, &id),
	                 -EINVAL);
	before = now_ns();
	assert_int_equal(peal_client_publish(client, 13, 7 * SECOND, &id), 0);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.id, id);
	assert_text(&answer, "echo in place");
	assert_true(last_deadline() >= before + 7 * SECOND);
	assert_true(last_deadline() < before + 17 * SECOND);
	assert_int_equal(peal_client_claim(client, 10, SECOND, &data), 0);
	expect_answer(client, "echo instead", "echo instead");
	assert_int_equal(peal_client_publish(client, 10, PEAL_FOREVER, &id),
	                 -EINVAL);
	max = peal_client_message_max(client);
	assert_int_equal(peal_client_claim(client, max + 1, 0, &data),
	                 -EMSGSIZE);
	assert_int_equal(peal_client_claim(client, max, SECOND, &data), 0);
	peal_client_close(client);
	server_stop(&server);
}

static void tell_is_one_way(void **state)
{
	struct peal_client *client;
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	(void)state;
	server_start(&server);
	client = client_open();
	for (int i = 0; i < 500; i++)
		assert_int_equal(peal_client_tell(client, "hello", 5, SECOND),
		                 0);
	while (__atomic_load_n(&server.request_count, __ATOMIC_ACQUIRE) < 500)
		assert_true(now_ns() < end_ns);
	assert_int_equal(client_stats(client).in_flight_count, 0);
	peal_client_close(client);
	server_stop(&server);
}

static void answer_that_comes_too_late_is_dropped_and_counted(void **state)
{
	struct peal_client *client;
	struct peal_message answer;

	(void)state;
	server_start(&server);
	client = client_open();
	assert_int_equal(call_text(client, "keep", 5 * MS, &answer),
	                 -ETIMEDOUT);
	expect_answer(client, "let go", "first");
	expect_answer(client, "echo", "echo");
	assert_int_equal(client_stats(client).late_count, 1);
	assert_int_equal(client_stats(client).in_flight_count, 0);
	peal_client_close(client);
	server_stop(&server);
}

static void long_timeouts_do_not_wrap(void **state)
{
	static const uint64_t timeouts[] = {5 * SECOND, 40000 * SECOND,
	                                    PEAL_FOREVER - 1, PEAL_FOREVER / 2,
	                                    PEAL_FOREVER};
	struct peal_client *client;
	struct peal_message answer;

	(void)state;
	server_start(&server);
	client = client_open();
	for (size_t i = 0; i < CHECK_COUNT(timeouts); i++) {
		uint64_t before = now_ns();

		assert_int_equal(
			call_text(client, "echo", timeouts[i], &answer), 0);
		if (timeouts[i] < PEAL_FOREVER / 4)
			assert_true(last_deadline() >= before + timeouts[i]);
		else
			assert_true(last_deadline() == 0 ||
			            last_deadline() > PEAL_FOREVER / 4);
	}
	peal_client_close(client);
	server_stop(&server);
}

static void *wake(void *argument)
{
	peal_client_wake(argument);
	return NULL;
}

static void wake_ends_a_call_a_recv_and_a_send(void **state)
{
	struct peal_client *client;
	struct peal_message answer;
	struct later later;
	uint64_t id;
	int error;

	(void)state;
	server_start(&server);
	client = client_open();
	later_start(&later, 20 * MS, wake, client);
	assert_int_equal(call_text(client, "keep", PATIENCE_NS, &answer),
	                 -ECANCELED);
	later_join(&later);
	later_start(&later, 20 * MS, wake, client);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
	                 -ECANCELED);
	later_join(&later);
	peal_client_wake(client);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
	                 -ECANCELED);
	expect_answer(client, "let go", "first");
	flag_set(&server.is_deaf);
	do
		error = peal_client_send(client, "keep", 4, PEAL_FOREVER, 0,
		                         &id);
	while (error == 0);
	later_start(&later, 20 * MS, wake, client);
	/* The answer to "keep" is in the way, or the server had begun to take
	 * one more when it became deaf. */
	while (error == -EAGAIN || error == 0) {
		error = peal_client_recv(client, 0, &answer);
		assert_true(error == 0 || error == -EAGAIN);
		error = peal_client_send(client, "keep", 4, PEAL_FOREVER,
		                         PATIENCE_NS, &id);
	}
	assert_int_equal(error, -ECANCELED);
	later_join(&later);
	peal_client_close(client);
	server_stop(&server);
}

static void full_ring_with_answers_waiting_is_eagain_at_once(void **state)
{
	struct peal_client *client;
	struct peal_message answer;
	uint64_t count = 0, got = 0, id, start_ns;
	int error;

	(void)state;
	server_start(&server);
	client = client_open();
	send_request(client, "echo");
	/* When it has been answered, and no more requests are taken: */
	while (__atomic_load_n(&server.request_count, __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	__atomic_store_n(&server.is_deaf, 1, __ATOMIC_RELEASE);
	do
		error = peal_client_send(client, "echo", 4, PEAL_FOREVER, 0,
		                         &id);
	while (error == 0 && ++count < 10000);
	assert_int_equal(error, -EAGAIN);
	start_ns = now_ns();
	assert_int_equal(peal_client_send(client, "echo", 4, PEAL_FOREVER,
	                                  PATIENCE_NS, &id),
	                 -EAGAIN);
	assert_true(now_ns() - start_ns < PATIENCE_NS / 2);
	__atomic_store_n(&server.is_deaf, 0, __ATOMIC_RELEASE);
	peal_consumer_notify(server.consumer);
	while (got < count + 1) {
		assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
		                 0);
		got++;
	}
	expect_answer(client, "echo", "echo");
	peal_client_close(client);
	server_stop(&server);
}

static void server_that_waits_for_room_is_rung(void **state)
{
	struct peal_client *client;

	(void)state;
	server_start(&server);
	client = client_open();
	for (int i = 0; i < 50; i++)
		expect_answer(client, "flood", "flooded");
	assert_true(client_stats(client).push_dropped_count > 50);
	peal_client_close(client);
	server_stop(&server);
}

static void cancel_leaves_the_id_in_the_segment(void **state)
{
	struct peal_client *client;
	const struct peal__slot *slot;
	struct peal_message answer;
	uint64_t id;

	(void)state;
	server_start(&server);
	client = client_open();
	id = send_request(client, "keep");
	expect_answer(client, "echo", "echo");
	assert_int_equal(peal_client_cancel(client, id), 0);
	slot = __atomic_load_n(&server.slot, __ATOMIC_ACQUIRE);
	assert_int_equal(slot->segment->cancelled[id % PEAL__CANCEL_COUNT], id);
	send_request(client, "let go");
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.id, id);
	peal_client_close(client);
	server_stop(&server);
}

static void *hear_again(void *unused)
{
	(void)unused;
	__atomic_store_n(&server.is_deaf, 0, __ATOMIC_RELEASE);
	peal_consumer_notify(server.consumer);
	return NULL;
}

static void run_on(const cpu_set_t *set)
{
	assert_int_equal(sched_setaffinity(0, sizeof(*set), set), 0);
}

static cpu_set_t only(const cpu_set_t *of, int which)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, of) && which-- == 0)
			CPU_SET(cpu, &set);
	return set;
}

/* Beside it we would sleep anyway. The set of before, to go back to. */
static cpu_set_t start_server_elsewhere(void)
{
	cpu_set_t before, set;

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	if (CPU_COUNT(&before) < 2)
		CHECK_SKIP("it needs two processors");
	set = only(&before, 0);
	run_on(&set);
	server_start(&server);
	set = only(&before, 1);
	run_on(&set);
	return before;
}

/* A call whose answer takes a while, told to yield. */
static void call_in_others_turns(struct peal_client *client)
{
	const struct peal__slot *slot;
	struct later later;

	expect_answer(client, "echo", "echo");
	slot = __atomic_load_n(&server.slot, __ATOMIC_ACQUIRE);
	__atomic_store_n(&slot->segment->answers.yield, 1, __ATOMIC_RELAXED);
	client->spin.sleep_count = 0;
	flag_set(&server.is_deaf);
	later_start(&later, 50 * MS, hear_again, NULL);
	expect_answer(client, "echo me", "echo me");
	later_join(&later);
	__atomic_store_n(&slot->segment->answers.yield, 0, __ATOMIC_RELAXED);
}

static void client_that_is_to_yield_sleeps_and_gets_its_answer(void **state)
{
	cpu_set_t before = start_server_elsewhere();
	struct peal_client *client;

	(void)state;
	client = client_open();
	/* It would never come to an end by itself. */
	client->spin.full_ticks = client->spin.budget_ticks =
		peal__ns_to_ticks(2 * PATIENCE_NS);
	call_in_others_turns(client);
	assert_true(client->spin.sleep_count > 0);
	peal_client_close(client);
	server_stop(&server);
	run_on(&before);
}

static void client_that_always_spins_does_not_yield(void **state)
{
	struct peal_client_options options = client_options();
	cpu_set_t before = start_server_elsewhere();
	struct peal_client *client;

	(void)state;
	options.spin_mode = PEAL_SPIN_ALWAYS;
	client = client_with(&options);
	call_in_others_turns(client);
	assert_int_equal(client->spin.sleep_count, 0);
	peal_client_close(client);
	server_stop(&server);
	run_on(&before);
}

static void nonsense_in_an_option_is_einval_and_named(void **state)
{
	static const struct {
		const char *field;
		size_t offset;
		uint64_t value;
		bool is_wide;
	} rows[] = {
#define WIDE(field, value) \
	{#field, offsetof(struct peal_client_options, field), value, true}
#define SHORT(field, value)                                                 \
	{                                                                   \
#field, offsetof(struct peal_client_options, field), value, \
			false                                               \
	}
		WIDE(request_ring_bytes, 100),
		WIDE(request_ring_bytes, 5000),
		WIDE(response_ring_bytes, UINT64_MAX),
		WIDE(response_ring_bytes, 4097),
		WIDE(spin_ns, 50001),
		SHORT(order, 2),
		SHORT(wait_mode, 2),
		SHORT(spin_mode, 3),
		SHORT(reconnect, 2),
	};
	struct peal_client *client = NULL;
	struct peal_client_options options = client_options();

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
		uint32_t value = (uint32_t)rows[i].value;

		options = client_options();
		if (rows[i].is_wide)
			memcpy((char *)&options + rows[i].offset,
			       &rows[i].value, 8);
		else
			memcpy((char *)&options + rows[i].offset, &value, 4);
		assert_int_equal(peal_client_connect(&options, 0, &client),
		                 -EINVAL);
		if (strstr(own.failure.text, rows[i].field) == NULL)
			fail_msg("%s: %s", rows[i].field, own.failure.text);
	}
	options = client_options();
	options.name = NULL;
	assert_int_equal(peal_client_connect(&options, 0, &client), -EINVAL);
	options = client_options();
	options.size = 3;
	assert_int_equal(peal_client_connect(&options, 0, &client), -EINVAL);
	options = client_options();
	assert_int_equal(peal_client_connect(&options, 0, NULL), -EINVAL);
	assert_int_equal(peal_client_connect(&options, 0, &client),
	                 -ECONNREFUSED);
	assert_int_equal(peal_client_close(NULL), 0);
	assert_null(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(call_returns_the_answer_in_place),
		TEST(pipelined_answers_come_by_recv_with_their_ids),
		TEST(answers_that_a_call_meets_wait_for_recv),
		TEST(claim_writes_in_place_and_gives_up_what_is_not_published),
		TEST(tell_is_one_way),
		TEST(answer_that_comes_too_late_is_dropped_and_counted),
		TEST(long_timeouts_do_not_wrap),
		TEST(wake_ends_a_call_a_recv_and_a_send),
		TEST(full_ring_with_answers_waiting_is_eagain_at_once),
		TEST(server_that_waits_for_room_is_rung),
		TEST(cancel_leaves_the_id_in_the_segment),
		TEST(client_that_is_to_yield_sleeps_and_gets_its_answer),
		TEST(client_that_always_spins_does_not_yield),
		TEST(nonsense_in_an_option_is_einval_and_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
