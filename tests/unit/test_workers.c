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
	leave_and_close(&raw);
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
	open_reactor_for(&raw, &options);
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

/* who needs the processors --------------------------------------------------- */

static bool is_told_to_yield(const struct raw_client *raw)
{
	return peal__read_once(&raw->connection.segment->answers.yield) != 0;
}

static void end_all(uint32_t count)
{
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	run_until(&ended_count, count);
}

/* They spun for what their spinning held up. */
static void nobody_spins_while_handlers_need_all_processors(void **state)
{
	struct peal_reactor_options options = usual_options();
	uint32_t cpu_count = (uint32_t)peal__cpu_online_count();
	struct raw_client raw;

	(void)state;
	started_count = ended_count = may_end = 0;
	options.on_request = serve_stuck;
	options.worker_count = cpu_count;
	options.inline_mode = PEAL_INLINE_NEVER;
	options.in_flight_max = options.in_flight_per_client_max =
		cpu_count + 2;
	open_reactor(&options);
	connect_raw(&raw, PEAL__HELLO_UNORDERED);
	peal_reactor_run_once(served.reactor, 0);
	assert_false(served.reactor->consumer->is_calm);
	assert_false(is_told_to_yield(&raw));
	for (uint32_t i = 0; i < cpu_count; i++)
		ask_number(&raw, i);
	run_until(&started_count, cpu_count);
	/* Another one finds all of them busy. */
	ask_number(&raw, cpu_count);
	run();
	assert_true(served.reactor->consumer->is_calm);
	assert_true(is_told_to_yield(&raw));
	end_all(cpu_count + 1);
	/* It is over with what runs on the reactor's own thread. */
	served.reactor->options.inline_mode = PEAL_INLINE_ALWAYS;
	ask_number(&raw, cpu_count + 1);
	run_until(&ended_count, cpu_count + 2);
	assert_false(is_told_to_yield(&raw));
	run();
	assert_false(served.reactor->consumer->is_calm);
	leave_and_close(&raw);
}

/* what is known of handlers -------------------------------------------------- */

static uint32_t replied_count;

static void serve_and_linger(struct peal_request *request, void *arg)
{
	(void)arg;
	__atomic_fetch_add(&started_count, 1, __ATOMIC_ACQ_REL);
	peal_reply(request, NULL, 0);
	__atomic_fetch_add(&replied_count, 1, __ATOMIC_ACQ_REL);
	while (!__atomic_load_n(&may_end, __ATOMIC_ACQUIRE))
		usleep(1000);
	__atomic_fetch_add(&ended_count, 1, __ATOMIC_ACQ_REL);
}

static struct peal_reactor_options lingering(uint32_t worker_count)
{
	struct peal_reactor_options options = usual_options();

	started_count = ended_count = may_end = replied_count = 0;
	options.on_request = serve_and_linger;
	options.worker_count = worker_count;
	options.inline_mode = PEAL_INLINE_NEVER;
	return options;
}

static void request_beside_one_that_is_answered_is_alone(void **state)
{
	struct peal_reactor_options options = lingering(2);
	struct raw_client raw;

	(void)state;
	open_reactor_for(&raw, &options);
	for (uint32_t i = 0; i < 2; i++) {
		ask_number(&raw, i);
		run_until(&replied_count, i + 1);
		run();
		hear(&raw, PEAL__FRAME_ANSWER, i + 1, 0, "");
	}
	assert_int_equal(served.reactor->in_flight, 2);
	assert_int_equal(served.reactor->unsettled_count, 0);
	assert_int_equal(served.reactor->lone_count, 2);
	leave(&raw);
	end_all(2);
	close_reactor();
}

/* who is rung ---------------------------------------------------------------- */

static void completions_ring_once_for_each_sleep(void **state)
{
	struct peal__completions *completions = peal__completions_open();
	struct peal__completion nodes[6] = {{0}};

	(void)state;
	assert_non_null(completions);
	assert_false(peal__completions_push(completions, &nodes[0], true));
	/* What could wait has not taken the ring of what cannot. */
	assert_true(peal__completions_push(completions, &nodes[1], false));
	assert_false(peal__completions_push(completions, &nodes[2], false));
	peal__completions_rest(completions, false);
	assert_true(peal__completions_push(completions, &nodes[3], false));
	peal__completions_rest(completions, true);
	assert_true(peal__completions_push(completions, &nodes[4], true));
	peal__completions_rest(completions, false);
	assert_false(peal__completions_push(completions, &nodes[5], true));
	for (int i = 0; i < 6; i++)
		assert_ptr_equal(peal__completions_pop(completions), &nodes[i]);
	assert_false(peal__completions_has_any(completions));
	peal__completions_close(completions);
}

static void count_post(void *arg)
{
	__atomic_fetch_add((uint32_t *)arg, 1, __ATOMIC_ACQ_REL);
}

/* Its node was taken before it rang: the reactor went back to sleep without a
 * pass, and took the next one who pushed for rung. */
static void ring_that_comes_late_silences_nobody(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal__completion late = {0};
	struct peal__completions *completions;
	uint32_t count = 0;

	(void)state;
	open_in_background(&options);
	completions = served.reactor->completions;
	assert_int_equal(peal_reactor_post(served.reactor, count_post, &count),
	                 0);
	await_word(&count, 1);
	for (uint32_t i = 2; i <= 5; i++) {
		usleep(20000); /* it sleeps, and takes nothing by itself */
		assert_true(peal__completions_push(completions, &late, false));
		assert_ptr_equal(peal__completions_pop(completions), &late);
		peal__reactor_ring(served.reactor);
		usleep(20000);
		assert_int_equal(peal_reactor_post(served.reactor, count_post,
		                                   &count),
		                 0);
		await_word(&count, i);
	}
	assert_int_equal(peal_reactor_stop(served.reactor, PEAL_FOREVER), 0);
	join_background();
	close_reactor();
}

static void handler_that_ends_wakes_who_waits_at_the_cap(void **state)
{
	struct peal_reactor_options options = lingering(1);
	struct raw_client raw;

	(void)state;
	options.in_flight_per_client_max = 1;
	open_reactor_for(&raw, &options);
	assert_int_equal(pthread_create(&background.thread, NULL,
	                                run_in_background, served.reactor),
	                 0);
	ask_number(&raw, 0);
	await_word(&replied_count, 1);
	ask_number(&raw, 1);
	usleep(50000); /* the reactor sleeps, most likely */
	assert_int_equal(__atomic_load_n(&started_count, __ATOMIC_ACQUIRE), 1);
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	await_word(&ended_count, 2);
	assert_int_equal(peal_reactor_stop(served.reactor, PEAL_FOREVER), 0);
	join_background();
	raw_close(&raw, true);
	close_reactor();
}

static void handler_that_ends_wakes_who_drains(void **state)
{
	struct peal_reactor_options options = lingering(1);
	struct raw_client raw;

	(void)state;
	open_reactor_for(&raw, &options);
	assert_int_equal(pthread_create(&background.thread, NULL,
	                                run_in_background, served.reactor),
	                 0);
	ask_number(&raw, 0);
	await_word(&replied_count, 1);
	assert_int_equal(peal_reactor_stop(served.reactor, PEAL_FOREVER), 0);
	usleep(50000);
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	join_background();
	raw_close(&raw, true);
	close_reactor();
}

/* A place for one client, which has gone while its handler ran. */
static void handler_that_ends_wakes_who_waits_for_its_place(void **state)
{
	struct peal_reactor_options options = lingering(1);
	struct raw_client raw, next;
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);

	(void)state;
	options.client_max = 1;
	open_reactor_for(&raw, &options);
	assert_int_equal(pthread_create(&background.thread, NULL,
	                                run_in_background, served.reactor),
	                 0);
	ask_number(&raw, 0);
	await_word(&replied_count, 1);
	raw_close(&raw, true);
	await_word(&served.closed_count, 1);
	usleep(50000);
	__atomic_store_n(&may_end, 1, __ATOMIC_RELEASE);
	while (raw_connect(&next, "served", 4096, 0) != 0) {
		assert_true(peal__clock_ns() < end_ns);
		usleep(1000);
	}
	assert_int_equal(peal_reactor_stop(served.reactor, PEAL_FOREVER), 0);
	join_background();
	raw_close(&next, true);
	close_reactor();
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
	open_reactor_for(&raw, &options);
	for (uint64_t i = 1; i <= 4; i++)
		assert_int_equal(raw_ask(&raw, i, "e"), 0);
	run();
	assert_int_equal(executed_count, 4);
	for (uint32_t i = 0; i < executed_count; i++)
		pthread_join(executed[i], NULL);
	run();
	for (uint64_t i = 1; i <= 4; i++)
		hear(&raw, PEAL__FRAME_ANSWER, i, 0, "e");
	leave_and_close(&raw);
}

static void executor_that_refuses_fails_the_request(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.executor = refuse;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run();
	hear(&raw, PEAL__FRAME_FAILED, 1, -ENOBUFS, "");
	leave_and_close(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reversed_answers_of_workers_come_in_order),
		TEST(reversed_answers_come_at_all_without_order),
		TEST(stuck_handler_keeps_the_reactor_open),
		TEST(nobody_spins_while_handlers_need_all_processors),
		TEST(request_beside_one_that_is_answered_is_alone),
		TEST(completions_ring_once_for_each_sleep),
		TEST(ring_that_comes_late_silences_nobody),
		TEST(handler_that_ends_wakes_who_waits_at_the_cap),
		TEST(handler_that_ends_wakes_who_drains),
		TEST(handler_that_ends_wakes_who_waits_for_its_place),
		TEST(executor_runs_handlers_where_the_user_wants),
		TEST(executor_that_refuses_fails_the_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
