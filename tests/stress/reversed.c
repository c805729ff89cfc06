/* SPDX-License-Identifier: MIT */
/*
 * Sixteen requests in flight, whose handlers end in the reverse of their order
 * on eight workers, through the client that a user has; and long requests on
 * workers take as long as the longest, not as all of them.
 *
 *	./test_reversed [--full]     300 rounds in each of two ways, or 10,000
 */
#include "tests/scene.h"

#include <pthread.h>

#include "peal/client.h"

#define DEPTH 16
#define NAME "reversed"
#define LONG_NS (50 * SCENE_MS)
#define LONG_COUNT 4

static struct {
	struct peal_reactor *reactor;
	pthread_t thread;
	int result;
} server;

static int round_count = 300;

/* The last of a round ends first, and each as soon as its turn comes; as many
 * as there are workers run at once, so it is the last of these. */
static void serve_reversed(struct peal_request *request, void *arg)
{
	size_t bytes;
	const uint64_t *number = peal_request_data(request, &bytes);
	uint64_t place = *number % DEPTH, end_ns;
	uint64_t last = place < 8 ? 7 : DEPTH - 1;

	(void)arg;
	end_ns = scene_now_ns() + (last - place) * 15 * SCENE_US;
	while (scene_now_ns() < end_ns)
		;
	peal_reply(request, number, bytes);
}

static void serve_long(struct peal_request *request, void *arg)
{
	(void)arg;
	scene_sleep_ns(LONG_NS);
	peal_reply(request, NULL, 0);
}

static void *run(void *arg)
{
	(void)arg;
	server.result = peal_reactor_run(server.reactor);
	return NULL;
}

static struct peal_client *start(void (*serve)(struct peal_request *, void *),
                                 uint32_t worker_count, uint32_t order)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options asks = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client = NULL;

	options.name = asks.name = NAME;
	options.on_request = serve;
	options.worker_count = worker_count;
	options.inline_mode = PEAL_INLINE_NEVER;
	asks.order = order;
	assert_int_equal(peal_reactor_open(&options, &server.reactor), 0);
	assert_int_equal(pthread_create(&server.thread, NULL, run, NULL), 0);
	assert_int_equal(peal_client_connect(&asks, 10 * SCENE_S, &client), 0);
	return client;
}

static void stop(struct peal_client *client, uint64_t request_count)
{
	struct peal_reactor_stats stats;

	assert_int_equal(peal_client_close(client), 0);
	peal_reactor_stop(server.reactor, 10 * SCENE_S);
	pthread_join(server.thread, NULL);
	assert_int_equal(server.result, 0);
	assert_int_equal(peal_reactor_stats(server.reactor, &stats), 0);
	assert_int_equal(stats.received_count, request_count);
	assert_int_equal(stats.answered_count, request_count);
	assert_int_equal(peal_reactor_close(server.reactor), 0);
}

static uint64_t send_number(struct peal_client *client, uint64_t number)
{
	uint64_t id = 0;

	assert_int_equal(peal_client_send(client, &number, sizeof(number),
	                                  PEAL_FOREVER, 10 * SCENE_S, &id),
	                 0);
	return id;
}

/* How many answers overtook one that had been asked for before. */
static uint64_t run_round(struct peal_client *client, uint64_t first)
{
	uint64_t ids[DEPTH], seen = 0, overtook = 0, greatest = 0;
	struct peal_message answer;

	for (uint64_t i = 0; i < DEPTH; i++)
		ids[i] = send_number(client, first + i);
	for (uint64_t i = 0; i < DEPTH; i++) {
		uint64_t number;

		assert_int_equal(
			peal_client_recv(client, 20 * SCENE_S, &answer), 0);
		assert_int_equal(answer.kind, PEAL_ANSWERED);
		assert_int_equal(answer.data_bytes, sizeof(number));
		memcpy(&number, answer.data, sizeof(number));
		assert_in_range(number, first, first + DEPTH - 1);
		assert_int_equal(answer.id, ids[number - first]);
		assert_int_equal(seen >> (number - first) & 1, 0);
		seen |= UINT64_C(1) << (number - first);
		overtook += number < greatest;
		if (number > greatest)
			greatest = number;
	}
	assert_int_equal(seen, (UINT64_C(1) << DEPTH) - 1);
	return overtook;
}

static uint64_t reversed(uint32_t order)
{
	struct peal_client *client = start(serve_reversed, 8, order);
	uint64_t overtook = 0, start_ns = scene_now_ns();

	for (int i = 0; i < round_count; i++)
		overtook += run_round(client, (uint64_t)i * DEPTH);
	print_message("reversed: %d rounds of %d in %.1f s, %s: %llu answers "
	              "came after a later one's\n",
	              round_count, DEPTH,
	              (double)(scene_now_ns() - start_ns) / 1e9,
	              order == PEAL_ORDERED ? "ordered" : "unordered",
	              (unsigned long long)overtook);
	stop(client, (uint64_t)round_count * DEPTH);
	return overtook;
}

static void reversed_handlers_answer_in_order(void **state)
{
	(void)state;
	assert_int_equal(reversed(PEAL_ORDERED), 0);
}

static void reversed_handlers_answer_as_they_end_without_order(void **state)
{
	(void)state;
	assert_true(reversed(PEAL_UNORDERED) > 0);
}

static uint64_t time_of(struct peal_client *client, uint64_t count)
{
	uint64_t start_ns = scene_now_ns();
	struct peal_message answer;

	for (uint64_t i = 0; i < count; i++)
		send_number(client, i);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(
			peal_client_recv(client, 20 * SCENE_S, &answer), 0);
	return scene_now_ns() - start_ns;
}

static void long_requests_run_beside_each_other(void **state)
{
	struct peal_client *client;
	uint64_t one_ns, all_ns;

	(void)state;
	client = start(serve_long, LONG_COUNT, PEAL_ORDERED);
	one_ns = time_of(client, 1);
	all_ns = time_of(client, LONG_COUNT);
	print_message("reversed: one of %.0f ms took %.1f ms, %d of them on as "
	              "many workers %.1f ms\n",
	              (double)LONG_NS / 1e6, (double)one_ns / 1e6, LONG_COUNT,
	              (double)all_ns / 1e6);
	assert_true(all_ns * 2 < one_ns * 5);
	stop(client, 1 + LONG_COUNT);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reversed_handlers_answer_in_order),
		cmocka_unit_test(
			reversed_handlers_answer_as_they_end_without_order),
		cmocka_unit_test(long_requests_run_beside_each_other),
	};

	if (scene_is_full(argc, argv))
		round_count = 10000;
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
