/* SPDX-License-Identifier: MIT */
/*
 * Handlers on threads: the library's workers, and an executor of the user's.
 */
#include "tests/unit/reactor_fixture.h"

#define DEPTH 16

static uint32_t started_count, ended_count, may_end;

/* Answers of one burst are ready in the reverse of the order of requests. */
static void serve_reversed(struct peal_request *request, void *arg)
{
	size_t bytes;
	const uint32_t *number = peal_request_data(request, &bytes);
	uint32_t left = DEPTH - 1 - *number % DEPTH;

	(void)arg;
	for (uint64_t end = peal__clock_ns() + left * 20 * PEAL__NS_PER_US;
	     peal__clock_ns() < end;) {
	}
	peal_reply(request, number, bytes);
}

static void serve_stuck(struct peal_request *request, void *arg)
{
	(void)arg;
	__atomic_fetch_add(&started_count, 1, __ATOMIC_ACQ_REL);
	while (!__atomic_load_n(&may_end, __ATOMIC_ACQUIRE))
		usleep(1000);
	peal_reply(request, NULL, 0);
	__atomic_fetch_add(&ended_count, 1, __ATOMIC_ACQ_REL);
}

static void ask_number(struct raw_client *raw, uint32_t number)
{
	assert_int_equal(raw_say(raw, &raw->requests, PEAL__FRAME_REQUEST,
	                         number + 1, &number, sizeof(number)),
	                 0);
}

static void reversed(uint64_t flags, int rounds)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	bool is_ordered = flags == 0;

	options.on_request = serve_reversed;
	options.worker_count = 8;
	open_reactor(&options);
	connect_raw(&raw, flags);
	for (int round = 0; round < rounds; round++) {
		uint32_t seen = 0;

		for (uint32_t i = 0; i < DEPTH; i++)
			ask_number(&raw, (uint32_t)round * DEPTH + i);
		for (uint32_t i = 0; i < DEPTH; i++) {
			struct peal_message message = {0};
			struct peal__frame_parts parts;
			uint64_t end_ns = peal__deadline_after(PATIENCE_NS);

			while (!peal_ring_has_data(&raw.responses) &&
			       peal__clock_ns() < end_ns)
				peal_reactor_run_once(served.reactor,
				                      PEAL__NS_PER_MS);
			assert_int_equal(raw_hear(&raw, &message, &parts), 0);
			assert_int_equal(parts.type, PEAL__FRAME_ANSWER);
			if (is_ordered)
				assert_int_equal(message.id,
				                 (uint32_t)round * DEPTH + i +
				                         1);
			seen |= UINT32_C(1) << ((message.id - 1) % DEPTH);
		}
		assert_int_equal(seen, (UINT32_C(1) << DEPTH) - 1);
	}
	leave(&raw);
	close_reactor();
}

static void reversed_answers_of_workers_come_in_order(void **state)
{
	(void)state;
	reversed(0, 50);
}

static void reversed_answers_come_at_all_without_order(void **state)
{
	(void)state;
	reversed(PEAL__HELLO_UNORDERED, 50);
}

static void stuck_handler_keeps_the_reactor_open(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	started_count = ended_count = may_end = 0;
	options.on_request = serve_stuck;
	options.worker_count = 1;
	options.inline_mode = PEAL_INLINE_NEVER;
	open_reactor(&options);
	connect_raw(&raw, 0);
	ask_number(&raw, 0);
	run_until(&started_count, 1);
	assert_int_equal(peal_reactor_close(served.reactor), -EBUSY);
	leave(&raw);
	assert_int_equal(peal_reactor_close(served.reactor), -EBUSY);
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	run_until(&ended_count, 1);
	for (int i = 0; peal_reactor_close(served.reactor) == -EBUSY; i++) {
		assert_true(i < 10000);
		usleep(1000);
	}
}

static int refuse(void (*run_it)(void *work), void *work, void *arg)
{
	(void)run_it;
	(void)work;
	(void)arg;
	return -ENOBUFS;
}

static pthread_t executed[DEPTH];
static uint32_t executed_count;

struct order {
	void (*run)(void *work);
	void *work;
};

static void *execute_one(void *arg)
{
	struct order order = *(struct order *)arg;

	free(arg);
	order.run(order.work);
	return NULL;
}

static int execute(void (*run_it)(void *work), void *work, void *arg)
{
	struct order *order = malloc(sizeof(*order));

	(void)arg;
	*order = (struct order){run_it, work};
	return -pthread_create(&executed[executed_count++], NULL, execute_one,
	                       order);
}

static void executor_runs_handlers_where_the_user_wants(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	executed_count = 0;
	options.executor = execute;
	options.inline_mode = PEAL_INLINE_NEVER;
	open_reactor(&options);
	connect_raw(&raw, 0);
	for (uint64_t i = 1; i <= 4; i++)
		assert_int_equal(raw_ask(&raw, i, "e"), 0);
	run();
	assert_int_equal(executed_count, 4);
	for (uint32_t i = 0; i < executed_count; i++)
		pthread_join(executed[i], NULL);
	run();
	for (uint64_t i = 1; i <= 4; i++)
		hear(&raw, PEAL__FRAME_ANSWER, i, 0, "e");
	leave(&raw);
	close_reactor();
}

static void executor_that_refuses_fails_the_request(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.executor = refuse;
	open_reactor(&options);
	connect_raw(&raw, 0);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run();
	hear(&raw, PEAL__FRAME_FAILED, 1, -ENOBUFS, "");
	leave(&raw);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reversed_answers_of_workers_come_in_order),
		TEST(reversed_answers_come_at_all_without_order),
		TEST(stuck_handler_keeps_the_reactor_open),
		TEST(executor_runs_handlers_where_the_user_wants),
		TEST(executor_that_refuses_fails_the_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
