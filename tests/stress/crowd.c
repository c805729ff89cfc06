/* SPDX-License-Identifier: MIT */
/*
 * More clients than processors, all calling without pause: each has its answers,
 * in order, and nobody is left out. Those who hold a turn and those who wait
 * change places hundreds of times.
 *
 *	./test_crowd [--full]     1.5 seconds, or a minute
 */
#include "tests/scene.h"

#include <pthread.h>

#include "peal/client.h"

#define NAME "crowd"
#define MEMBERS 6
#define PATIENCE_NS (60 * SCENE_S)

static struct {
	struct peal_reactor *reactor;
	pthread_t thread;
	int result;
} server;

struct member {
	pthread_t thread;
	struct peal_client *client;
	uint64_t number; /* of the first call; all differ */
	uint64_t count;
	int error;
};

static struct member members[MEMBERS];
static uint32_t is_over;
static uint64_t duration_ns = 1500 * SCENE_MS;

static void answer_the_next(struct peal_request *request, void *arg)
{
	size_t bytes;
	uint64_t number;

	(void)arg;
	memcpy(&number, peal_request_data(request, &bytes), sizeof(number));
	number++;
	peal_reply(request, &number, sizeof(number));
}

static void *serve(void *arg)
{
	(void)arg;
	server.result = peal_reactor_run(server.reactor);
	return NULL;
}

static int call_once(struct member *member)
{
	struct peal_message answer;
	uint64_t number = member->number + member->count, next;
	int error = peal_client_call(member->client, &number, sizeof(number),
	                             PATIENCE_NS, &answer);

	if (error < 0)
		return error;
	if (answer.data_bytes != sizeof(next))
		return -EPROTO;
	memcpy(&next, answer.data, sizeof(next));
	return next == number + 1 ? 0 : -EILSEQ;
}

static void *call_on_and_on(void *arg)
{
	struct member *member = arg;

	/* Once at least, however late it is begun. */
	do {
		member->error = call_once(member);
		if (member->error < 0)
			break;
		member->count++;
	} while (scene_get(&is_over) == 0);
	return NULL;
}

static void start(uint32_t worker_count)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options asks = PEAL_CLIENT_OPTIONS_INIT;

	options.name = asks.name = NAME;
	options.on_request = answer_the_next;
	options.worker_count = worker_count;
	assert_int_equal(peal_reactor_open(&options, &server.reactor), 0);
	assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
	scene_put(&is_over, 0);
	for (uint64_t i = 0; i < MEMBERS; i++) {
		members[i] = (struct member){.number = i << 32};
		assert_int_equal(peal_client_connect(&asks, PATIENCE_NS,
		                                     &members[i].client),
		                 0);
	}
	for (uint32_t i = 0; i < MEMBERS; i++)
		assert_int_equal(pthread_create(&members[i].thread, NULL,
		                                call_on_and_on, &members[i]),
		                 0);
}

static void finish(void)
{
	struct peal_reactor_stats stats;
	uint64_t sum = 0, least = UINT64_MAX, most = 0;

	/* All have come to an end before the first one closes: who is left
	 * alone is served without turns. */
	scene_put(&is_over, 1);
	for (uint32_t i = 0; i < MEMBERS; i++)
		pthread_join(members[i].thread, NULL);
	for (uint32_t i = 0; i < MEMBERS; i++) {
		assert_int_equal(members[i].error, 0);
		assert_true(members[i].count > 0);
		assert_int_equal(peal_client_close(members[i].client), 0);
		sum += members[i].count;
		least = members[i].count < least ? members[i].count : least;
		most = members[i].count > most ? members[i].count : most;
	}
	peal_reactor_stop(server.reactor, PATIENCE_NS);
	pthread_join(server.thread, NULL);
	assert_int_equal(server.result, 0);
	assert_int_equal(peal_reactor_stats(server.reactor, &stats), 0);
	assert_int_equal(stats.received_count, sum);
	assert_int_equal(stats.answered_count, sum);
	assert_int_equal(peal_reactor_close(server.reactor), 0);
	print_message("crowd: %llu calls of %d clients, %llu to %llu each\n",
	              (unsigned long long)sum, MEMBERS,
	              (unsigned long long)least, (unsigned long long)most);
}

static void crowd_that_calls_without_pause_is_served(void **state)
{
	(void)state;
	start(0);
	scene_sleep_ns(duration_ns);
	finish();
}

static void crowd_is_served_beside_workers(void **state)
{
	(void)state;
	start(2);
	scene_sleep_ns(duration_ns / 2);
	finish();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crowd_that_calls_without_pause_is_served),
		cmocka_unit_test(crowd_is_served_beside_workers),
	};

	if (scene_is_full(argc, argv))
		duration_ns = 60 * SCENE_S;
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
