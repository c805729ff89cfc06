/* SPDX-License-Identifier: MIT */
/*
 * kill -9 of a client, at any moment, with requests running.
 *
 *	parent   starts clients, kills one at random, starts another
 *	clients  call, pipeline up to 16 requests, tell, or send without ever
 *	         reading; there are as many as slots, so that each newcomer gets
 *	         the slot of one that was killed
 *	server   answers here, on workers, or later from a thread that keeps
 *
 * An answer says whose request it answers, the life and the number, and a
 * client compares that with what it has asked: an answer that reached the slot
 * after its client had gone cannot look right.
 *
 *	./test_kill_client [--full]     50 kills in each of three ways, or 334
 */
#include "tests/slots.h"

#include <malloc.h>
#include <pthread.h>

#include "peal/client.h"
#include "reactor/reactor.h"

#define CLIENT_COUNT 4
#define LIFE_MAX 8192
#define KEPT_MAX 4096
#define DEPTH 16
#define NAME "calls"

/* What a request asks for; in stamp.sequence % HOW_COUNT. */
enum { HOW_AT_ONCE, HOW_SLOWLY, HOW_LATER, HOW_IN_PLACE, HOW_COUNT };

struct way {
	uint32_t worker_count, wait_mode;
};

struct board {
	uint64_t is_open, is_ready, stop;
	uint64_t answer_count, connect_count;
	uint64_t opened_count, closed_count;
	char fault[200];
	struct peal_reactor_stats stats;
	struct scene_held before, after;
	uint32_t free_count;
};

static struct board *board;
static int kill_count = 50;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* client ----------------------------------------------------------------- */

struct asker {
	struct peal_client *client;
	uint32_t life;
	uint64_t sequence;
	uint64_t chance;
};

static size_t write_request(struct asker *asker, uint8_t *data, size_t max)
{
	uint64_t chance = scene_random(&asker->chance);
	size_t bytes = sizeof(struct scene_stamp) + (chance >> 8) % 200;

	if (chance % 16 == 0)
		bytes = sizeof(struct scene_stamp) + (chance >> 8) % 900;
	if (bytes > max)
		bytes = max;
	scene_stamp_write(data, bytes, asker->life, ++asker->sequence);
	return bytes;
}

static int check_answer(const struct asker *asker,
                        const struct peal_message *answer, uint64_t sequence)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(answer->data, answer->data_bytes, &stamp))
		return fault("life %u: a torn answer of %zu bytes", asker->life,
		             answer->data_bytes);
	if (stamp.sender != asker->life || stamp.sequence != sequence)
		return fault("life %u got the answer to %llu of life %u "
		             "instead of that to %llu",
		             asker->life, (unsigned long long)stamp.sequence,
		             stamp.sender, (unsigned long long)sequence);
	scene_add(&board->answer_count, 1);
	return 0;
}

static int call_once(struct asker *asker)
{
	uint8_t data[1024];
	size_t bytes = write_request(asker, data, sizeof(data));
	struct peal_message answer;
	int error = peal_client_call(asker->client, data, bytes, 20 * SCENE_S,
	                             &answer);

	return error < 0 ? fault("life %u: call: %d", asker->life, error)
	                 : check_answer(asker, &answer, asker->sequence);
}

static int call_many(struct asker *asker)
{
	uint64_t ids[DEPTH], count, first = asker->sequence + 1;
	struct peal_message answer;
	uint8_t data[200];
	int error;

	for (count = 0; count < DEPTH; count++) {
		size_t bytes = write_request(asker, data, sizeof(data));

		error = peal_client_send(asker->client, data, bytes,
		                         PEAL_FOREVER, 20 * SCENE_S,
		                         &ids[count]);
		if (error == -EAGAIN)
			break;
		if (error < 0)
			return fault("life %u: send: %d", asker->life, error);
	}
	for (uint64_t i = 0; i < count; i++) {
		error = peal_client_recv(asker->client, 20 * SCENE_S, &answer);
		if (error < 0)
			return fault("life %u: recv: %d", asker->life, error);
		if (answer.id != ids[i])
			return fault("life %u: out of order", asker->life);
		if (answer.kind != PEAL_ANSWERED)
			return fault("life %u: failed with %d", asker->life,
			             (int)answer.status);
		if (check_answer(asker, &answer, first + i) < 0)
			return -1;
	}
	return 0;
}

static int tell(struct asker *asker)
{
	uint8_t data[64];
	size_t bytes = write_request(asker, data, sizeof(data));
	int error = peal_client_tell(asker->client, data, bytes, SCENE_MS);

	return error == -ETIMEDOUT || error == -EAGAIN ? 0 : error;
}

/* Fill both rings, and wait for death without reading a single answer. */
static void stop_reading(struct asker *asker)
{
	uint8_t data[1024];

	for (;;) {
		size_t bytes = write_request(asker, data, sizeof(data));

		if (peal_client_send(asker->client, data, bytes, PEAL_FOREVER,
		                     100 * SCENE_MS, NULL) < 0)
			scene_sleep_ns(SCENE_MS);
	}
}

static int connect_somehow(struct asker *asker)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	uint64_t end_ns = scene_now_ns() + 20 * SCENE_S;
	struct peal_failure failure;
	int error;

	options.name = NAME;
	options.ret_failure = &failure;
	options.request_ring_bytes = 4096;
	options.response_ring_bytes = 4096;
	options.spin_mode = (uint32_t)scene_random(&asker->chance) % 3;
	options.wait_mode = (uint32_t)scene_random(&asker->chance) % 2;
	/* A slot is held until the last handler of the one before has ended. */
	while ((error = peal_client_connect(&options, 10 * SCENE_S,
	                                    &asker->client)) == -EBUSY &&
	       scene_now_ns() < end_ns)
		scene_sleep_ns(100 * SCENE_US);
	if (error < 0)
		return fault("connect: %d, %s", error, failure.text);
	scene_add(&board->connect_count, 1);
	return 0;
}

static int ask(void *arg)
{
	struct asker asker = {.life = (uint32_t)(uintptr_t)arg};
	uint64_t turns = UINT64_MAX;

	asker.chance = scene_seed + asker.life;
	if (asker.life == 0 || scene_random(&asker.chance) % 4 == 0)
		turns = 10 + scene_random(&asker.chance) % 100;
	if (connect_somehow(&asker) < 0)
		return 1;
	for (; turns > 0; turns--) {
		uint64_t chance = scene_random(&asker.chance);
		int error = 0;

		if (chance % 8 == 0)
			error = tell(&asker);
		else if (chance % 64 == 1 && turns > 200)
			stop_reading(&asker);
		else
			error = chance % 2 ? call_once(&asker)
			                   : call_many(&asker);
		if (error < 0)
			return 1;
	}
	return peal_client_close(asker.client) == 0 ? 0 : 30;
}

/* server ----------------------------------------------------------------- */

static struct {
	pthread_mutex_t lock;
	pthread_t thread;
	struct peal_request *requests[KEPT_MAX];
	uint32_t count;
	uint32_t is_closing;
	uint64_t chance;
} keeper = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void answer(struct peal_request *request)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	if (peal_reply(request, data, bytes) < 0)
		fault("a reply was refused");
}

static void *keep(void *arg)
{
	(void)arg;
	for (;;) {
		struct peal_request *request = NULL;

		pthread_mutex_lock(&keeper.lock);
		if (keeper.count > 0) {
			uint32_t at = (uint32_t)scene_random(&keeper.chance) %
			              keeper.count;

			request = keeper.requests[at];
			keeper.requests[at] = keeper.requests[--keeper.count];
		}
		pthread_mutex_unlock(&keeper.lock);
		if (request != NULL)
			answer(request);
		else if (scene_get(&keeper.is_closing))
			return NULL;
		else
			scene_sleep_ns(200 * SCENE_US);
	}
}

static void serve(struct peal_request *request, void *arg)
{
	struct scene_stamp stamp;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);
	void *place;

	(void)arg;
	if (!scene_stamp_read(data, bytes, &stamp)) {
		fault("a torn request");
		peal_request_drop(request);
		return;
	}
	switch (stamp.sequence % HOW_COUNT) {
	case HOW_AT_ONCE:
		answer(request);
		break;
	case HOW_SLOWLY:
		scene_sleep_ns(50 * SCENE_US);
		answer(request);
		break;
	case HOW_LATER:
		if (peal_request_retain(request) < 0)
			fault("retain failed");
		pthread_mutex_lock(&keeper.lock);
		keeper.requests[keeper.count++] = request;
		pthread_mutex_unlock(&keeper.lock);
		break;
	case HOW_IN_PLACE:
		if (peal_reply_claim(request, bytes + 50, &place) < 0) {
			fault("a claim was refused");
			break;
		}
		memcpy(place, data, bytes);
		scene_sleep_ns(20 * SCENE_US);
		if (peal_reply_publish(request, bytes) < 0)
			fault("publish was refused");
		break;
	}
}

static void opened(struct peal_reactor *reactor, struct peal_peer peer,
                   void *arg)
{
	(void)reactor;
	(void)peer;
	(void)arg;
	board->opened_count++;
}

/* Takes its time: what was freed too early is in other hands meanwhile. */
static void closed(struct peal_reactor *reactor, struct peal_peer peer,
                   int reason, void *arg)
{
	(void)reactor;
	(void)peer;
	(void)arg;
	if (reason != 0 && reason != -ECONNRESET)
		fault("a client was closed for %d", reason);
	scene_put(&board->closed_count, board->closed_count + 1);
	if (board->closed_count % 4 == 0)
		scene_sleep_ns(2 * SCENE_MS);
}

static bool is_empty(struct peal_reactor *reactor)
{
	const struct peal_consumer *consumer = reactor->consumer;

	board->free_count = slots_free_count(consumer);
	return peal_reactor_stats(reactor, &board->stats) == 0 &&
	       board->stats.running_count == 0 &&
	       board->opened_count == board->closed_count &&
	       board->free_count == consumer->slot_max;
}

static void serve_until_empty(struct peal_reactor *reactor)
{
	uint64_t end_ns = scene_now_ns() + 10 * SCENE_S;

	do
		peal_reactor_run_once(reactor, 5 * SCENE_MS);
	while (!is_empty(reactor) && scene_now_ns() < end_ns);
}

static int serve_all(void *arg)
{
	const struct way *way = arg;
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_reactor *reactor;
	const void *heap;

	/* A thread's arena, or a first heap, would look like a leak. */
	mallopt(M_ARENA_MAX, 1);
	heap = sbrk(1 << 20);
	if (heap == (void *)-1)
		return 4;
	options.name = NAME;
	options.on_request = serve;
	options.on_opened = opened;
	options.on_closed = closed;
	options.client_max = CLIENT_COUNT;
	options.worker_count = way->worker_count;
	options.wait_mode = way->wait_mode;
	options.in_flight_per_client_max = 32;
	keeper.chance = scene_seed;
	if (pthread_create(&keeper.thread, NULL, keep, NULL) != 0 ||
	    peal_reactor_open(&options, &reactor) < 0)
		return 2;
	scene_put(&board->is_open, 1);
	/* The first life leaves by itself: what was set up once is there. */
	while (scene_get(&board->closed_count) == 0)
		peal_reactor_run_once(reactor, 5 * SCENE_MS);
	serve_until_empty(reactor);
	board->before = scene_held();
	scene_put(&board->is_ready, 1);
	while (!scene_get(&board->stop))
		peal_reactor_run_once(reactor, 5 * SCENE_MS);
	serve_until_empty(reactor);
	board->after = scene_held();
	scene_put(&keeper.is_closing, 1);
	pthread_join(keeper.thread, NULL);
	return peal_reactor_close(reactor) == 0 ? 0 : 3;
}

/* parent ----------------------------------------------------------------- */

struct sums {
	uint32_t lives;
	int killed, left;
};

static int kill_them(struct sums *sums)
{
	uint64_t chance = scene_seed, next = 1;
	pid_t pids[CLIENT_COUNT];

	for (int i = 0; i < CLIENT_COUNT; i++)
		pids[i] = scene_start(ask, (void *)(uintptr_t)next++);
	while (sums->killed < kill_count && next < LIFE_MAX) {
		int i = (int)(scene_random(&chance) % CLIENT_COUNT), status;

		scene_sleep_ns(scene_random(&chance) % (6 * SCENE_MS));
		status = scene_kill(pids[i]);
		if (board->fault[0] != '\0')
			return -1;
		sums->killed += status == CHECK_KILLED_BY + SIGKILL;
		sums->left += status == 0;
		if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
			return fault("client ended with %d", status);
		pids[i] = scene_start(ask, (void *)(uintptr_t)next++);
	}
	for (int i = 0; i < CLIENT_COUNT; i++)
		scene_kill(pids[i]);
	sums->lives = (uint32_t)next;
	return 0;
}

static void judge(const struct sums *sums)
{
	const struct peal_reactor_stats *stats = &board->stats;

	print_message(
		"kill_client: %d kills, %d left by themselves, %llu "
		"connections, %llu answers checked; received %llu = answered "
		"%llu + failed %llu + dropped %llu + running %llu; inline "
		"%llu, parked %llu, unread %llu\n",
		sums->killed, sums->left,
		(unsigned long long)board->connect_count,
		(unsigned long long)board->answer_count,
		(unsigned long long)stats->received_count,
		(unsigned long long)stats->answered_count,
		(unsigned long long)stats->failed_count,
		(unsigned long long)stats->dropped_count,
		(unsigned long long)stats->running_count,
		(unsigned long long)stats->inline_count,
		(unsigned long long)stats->parked_count,
		(unsigned long long)stats->unread_count);
	assert_int_equal(stats->running_count, 0);
	assert_int_equal(stats->received_count, stats->answered_count +
	                                                stats->failed_count +
	                                                stats->dropped_count);
	assert_int_equal(stats->failed_count, 0);
	assert_int_equal(board->opened_count, board->closed_count);
	assert_int_equal(board->free_count, CLIENT_COUNT);
	assert_int_equal(board->after.fds, board->before.fds);
	assert_int_equal(board->after.maps, board->before.maps);
	assert_int_equal(board->after.threads, board->before.threads);
	assert_string_equal(scene_names(), "");
}

static void kill_clients(uint32_t worker_count, uint32_t wait_mode)
{
	struct way way = {worker_count, wait_mode};
	struct sums sums = {0};
	pid_t server;
	int result;

	board = scene_board(sizeof(*board));
	assert_non_null(board);
	server = scene_start(serve_all, &way);
	assert_true(scene_reach(&board->is_open, 1, 10 * SCENE_S));
	assert_int_equal(scene_wait(scene_start(ask, NULL), 20 * SCENE_S), 0);
	assert_true(scene_reach(&board->is_ready, 1, 20 * SCENE_S));
	result = kill_them(&sums);
	scene_put(&board->stop, 1);
	if (result == 0)
		result = scene_wait(server, 30 * SCENE_S);
	assert_string_equal(board->fault, "");
	assert_int_equal(result, 0);
	judge(&sums);
}

static void killed_clients_of_handlers_on_the_reactor(void **state)
{
	(void)state;
	kill_clients(0, PEAL_WAIT_FUTEX);
}

static void killed_clients_of_handlers_on_workers(void **state)
{
	(void)state;
	kill_clients(3, PEAL_WAIT_FUTEX);
}

static void killed_clients_of_a_server_in_fd_mode(void **state)
{
	(void)state;
	kill_clients(2, PEAL_WAIT_FD);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(killed_clients_of_handlers_on_the_reactor),
		SCENE_TEST(killed_clients_of_handlers_on_workers),
		SCENE_TEST(killed_clients_of_a_server_in_fd_mode),
	};

	if (scene_is_full(argc, argv))
		kill_count = 334;
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
