/* SPDX-License-Identifier: MIT */
/*
 * SIGTERM of a server that watches a signalfd: what runs is answered, what
 * comes later is refused, and then it ends, as soon as it can and not later
 * than the bound.
 *
 *	parent   starts a server and clients, sends SIGTERM
 *	server   peal_reactor_run(), and exits with what became of it
 *	clients  pipeline, and take notes: what was asked, and how it ended
 *
 * Handlers take notes as well: a request whose handler was run has to be
 * answered, and one whose handler was not has to fail with -ESHUTDOWN.
 *
 *	./test_stop_server [--full]     3 runs under load, or 100
 */
#include "tests/scene.h"

#include <pthread.h>
#include <sys/signalfd.h>

#include "peal/client.h"

#define CLIENT_COUNT 4
#define SEQUENCE_MAX (1 << 16)
#define DEPTH 16
#define NAME "stops"
#define DRAIN_NS (5 * SCENE_S)
#define TIMED_OUT 3

enum { RUN_BEGUN = 1, RUN_TWICE = 2, ANSWERED = 4, FAILED = 8, ASKED = 16 };

struct board {
	uint64_t is_open, handler_count, stop_clients, stopped_ns, connected;
	uint64_t answered_count, refused_count;
	uint64_t drain_ns, handler_ns;
	uint32_t worker_count, wait_mode, keeps;
	char fault[200];
	uint8_t notes[CLIENT_COUNT][SEQUENCE_MAX];
};

static struct board *board;
static int run_count = 3;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

static uint8_t *note_of(const struct scene_stamp *stamp)
{
	return &board->notes[stamp->sender % CLIENT_COUNT]
	                    [stamp->sequence % SEQUENCE_MAX];
}

/* server ----------------------------------------------------------------- */

static void *answer_later(void *arg)
{
	struct peal_request *request = arg;

	scene_sleep_ns(board->handler_ns);
	peal_reply(request, peal_request_data(request, NULL),
	           sizeof(struct scene_stamp));
	return NULL;
}

static void serve(struct peal_request *request, void *arg)
{
	struct scene_stamp stamp;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);
	pthread_t thread;

	(void)arg;
	if (!scene_stamp_read(data, bytes, &stamp)) {
		fault("a torn request");
		peal_request_drop(request);
		return;
	}
	if (__atomic_fetch_add(note_of(&stamp), RUN_BEGUN, __ATOMIC_RELAXED) &
	    RUN_BEGUN)
		fault("a request was run twice");
	scene_add(&board->handler_count, 1);
	if (!board->keeps) {
		if (board->handler_ns != 0)
			scene_sleep_ns(board->handler_ns);
		peal_reply(request, data, bytes);
	} else if (peal_request_retain(request) < 0) {
		fault("retain failed");
	} else if (board->handler_ns != 0) { /* else nobody answers it */
		pthread_create(&thread, NULL, answer_later, request);
		pthread_detach(thread);
	}
}

static int serve_until_stopped(void *arg)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_reactor *reactor;
	sigset_t signals;
	int result;

	(void)arg;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	options.stop_signals_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	options.name = NAME;
	options.on_request = serve;
	options.worker_count = board->worker_count;
	options.wait_mode = board->wait_mode;
	options.drain_ns = board->drain_ns;
	if (options.stop_signals_fd < 0 ||
	    peal_reactor_open(&options, &reactor) < 0)
		return 1;
	scene_put(&board->is_open, 1);
	result = peal_reactor_run(reactor);
	scene_put(&board->stopped_ns, scene_now_ns());
	/* A handler may be about to return. */
	while (peal_reactor_close(reactor) == -EBUSY)
		scene_sleep_ns(100 * SCENE_US);
	return result == 0 ? 0 : result == -ETIMEDOUT ? TIMED_OUT : 2;
}

/* clients ---------------------------------------------------------------- */

struct asker {
	struct peal_client *client;
	uint32_t number;
	uint64_t sequence, in_flight;
	uint64_t ids[SEQUENCE_MAX];
	uint64_t next_answer;
};

static int send_one(struct asker *asker)
{
	uint8_t data[sizeof(struct scene_stamp)];
	uint64_t sequence = asker->sequence + 1;
	int error;

	scene_stamp_write(data, sizeof(data), asker->number, sequence);
	error = peal_client_send(asker->client, data, sizeof(data),
	                         PEAL_FOREVER, SCENE_S,
	                         &asker->ids[sequence % SEQUENCE_MAX]);
	if (error < 0)
		return error;
	asker->sequence = sequence;
	asker->in_flight++;
	__atomic_fetch_or(&board->notes[asker->number][sequence], ASKED,
	                  __ATOMIC_RELAXED);
	return 0;
}

/* Answers come in order; what was lost comes in any. */
static int take_one(struct asker *asker)
{
	struct peal_message answer;
	struct scene_stamp stamp;
	int error = peal_client_recv(asker->client, 20 * SCENE_S, &answer);
	uint64_t sequence;
	uint8_t before;

	if (error < 0)
		return error;
	for (sequence = 1; sequence <= asker->sequence; sequence++)
		if (asker->ids[sequence] == answer.id)
			break;
	if (sequence > asker->sequence)
		return fault("an answer to nothing");
	if (answer.kind == PEAL_ANSWERED &&
	    (!scene_stamp_read(answer.data, answer.data_bytes, &stamp) ||
	     stamp.sender != asker->number || stamp.sequence != sequence))
		return fault("another one's answer");
	if (answer.kind == PEAL_FAILED && answer.status != -ESHUTDOWN)
		return fault("failed with %d", (int)answer.status);
	before = __atomic_fetch_or(&board->notes[asker->number][sequence],
	                           answer.kind == PEAL_ANSWERED ? ANSWERED
	                                                        : FAILED,
	                           __ATOMIC_RELAXED);
	if (before & (ANSWERED | FAILED))
		return fault("a request ended twice");
	asker->in_flight--;
	scene_add(answer.kind == PEAL_ANSWERED ? &board->answered_count
	                                       : &board->refused_count,
	          1);
	return 0;
}

static int ask_many(void *arg)
{
	static struct asker asker;
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	int error;

	asker.number = (uint32_t)(uintptr_t)arg;
	options.name = NAME;
	if (peal_client_connect(&options, 10 * SCENE_S, &asker.client) < 0)
		return 1;
	scene_add(&board->connected, 1);
	for (;;) {
		error = 0;
		while (error == 0 && asker.in_flight < DEPTH &&
		       asker.sequence < SEQUENCE_MAX - 2)
			error = send_one(&asker);
		if (asker.sequence == SEQUENCE_MAX - 2)
			return fault("too many requests");
		if (error == -1)
			return 2;
		error = take_one(&asker);
		if (error == -1)
			return 2;
		if (error < 0)
			break;
	}
	if (error != -ESHUTDOWN)
		return fault("the loss was %d", error);
	if (asker.in_flight != 0)
		return fault("%llu requests have not ended",
		             (unsigned long long)asker.in_flight);
	return peal_client_close(asker.client);
}

/* One request; or none, and only the end is awaited. */
static int ask_once(void *arg)
{
	static struct asker asker;
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;

	options.name = NAME;
	if (peal_client_connect(&options, 10 * SCENE_S, &asker.client) < 0)
		return 1;
	scene_add(&board->connected, 1);
	if (arg != NULL && (send_one(&asker) < 0 || take_one(&asker) < 0))
		return 2;
	return take_one(&asker) == -ESHUTDOWN ? 0 : 3;
}

/* parent ----------------------------------------------------------------- */

static pid_t start(void)
{
	pid_t server = scene_start(serve_until_stopped, NULL);

	assert_true(scene_reach(&board->is_open, 1, 10 * SCENE_S));
	return server;
}

static void new_board(void)
{
	board = scene_board(sizeof(*board));
	assert_non_null(board);
	board->drain_ns = DRAIN_NS;
}

/* It ended by itself, and not before @least_ns nor after @most_ns. */
static void ends(pid_t server, int status, uint64_t start_ns, uint64_t least_ns,
                 uint64_t most_ns)
{
	uint64_t took_ns;
	int result = scene_wait(server, 30 * SCENE_S);

	assert_string_equal(board->fault, "");
	assert_int_equal(result, status);
	took_ns = board->stopped_ns - start_ns;
	print_message("stop_server: %.1f ms after SIGTERM\n",
	              (double)took_ns / 1e6);
	assert_in_range(took_ns, least_ns, most_ns);
}

static void stop_under_load(void)
{
	pid_t server, clients[CLIENT_COUNT];
	uint64_t start_ns, handled_count = 0, ended_count = 0;

	server = start();
	for (uintptr_t i = 0; i < CLIENT_COUNT; i++)
		clients[i] = scene_start(ask_many, (void *)i);
	assert_true(scene_reach(&board->connected, CLIENT_COUNT, 10 * SCENE_S));
	assert_true(scene_reach(&board->handler_count, 200, 20 * SCENE_S));
	start_ns = scene_now_ns();
	kill(server, SIGTERM);
	ends(server, 0, start_ns, 0, SCENE_S);
	for (int i = 0; i < CLIENT_COUNT; i++)
		assert_int_equal(scene_wait(clients[i], 10 * SCENE_S), 0);
	assert_string_equal(board->fault, "");
	for (int i = 0; i < CLIENT_COUNT; i++)
		for (int j = 0; j < SEQUENCE_MAX; j++) {
			uint8_t note = board->notes[i][j];

			handled_count += note & RUN_BEGUN;
			ended_count += (note & (ANSWERED | FAILED)) != 0;
			if ((note & RUN_BEGUN) != 0 && (note & ANSWERED) == 0)
				fail_msg("request %d of client %d was run and "
				         "not answered",
				         j, i);
			if ((note & ASKED) != 0 &&
			    (note & (ANSWERED | FAILED)) == 0)
				fail_msg("request %d of client %d has not "
				         "ended",
				         j, i);
		}
	assert_int_equal(handled_count, board->handler_count);
	print_message("stop_server: %llu answered, %llu refused\n",
	              (unsigned long long)board->answered_count,
	              (unsigned long long)board->refused_count);
	assert_int_equal(ended_count,
	                 board->answered_count + board->refused_count);
}

static void sigterm_under_load_answers_all_that_was_begun(void **state)
{
	(void)state;
	for (int i = 0; i < run_count; i++) {
		new_board();
		board->worker_count = i % 3 == 0 ? 0 : 4;
		board->wait_mode = i % 3 == 1 ? PEAL_WAIT_FD : PEAL_WAIT_FUTEX;
		board->handler_ns = (uint64_t)(i % 3) * 100 * SCENE_US;
		stop_under_load();
		munmap(board, sizeof(*board));
	}
}

static void sigterm_wakes_a_server_that_sleeps(void **state)
{
	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		pid_t server, client;
		uint64_t start_ns;

		new_board();
		board->wait_mode = mode;
		server = start();
		client = scene_start(ask_once, NULL);
		assert_true(scene_reach(&board->connected, 1, 10 * SCENE_S));
		scene_sleep_ns(100 * SCENE_MS);
		start_ns = scene_now_ns();
		kill(server, SIGTERM);
		ends(server, 0, start_ns, 0, 500 * SCENE_MS);
		assert_int_equal(scene_wait(client, 10 * SCENE_S), 0);
	}
}

static void stop_in_a_handler(int signals, bool keeps)
{
	pid_t server, client;
	uint64_t start_ns;

	new_board();
	board->handler_ns = 300 * SCENE_MS;
	board->keeps = keeps;
	server = start();
	client = scene_start(ask_once, board);
	assert_true(scene_reach(&board->handler_count, 1, 10 * SCENE_S));
	start_ns = scene_now_ns();
	for (int i = 0; i < signals; i++) {
		kill(server, SIGTERM);
		scene_sleep_ns(20 * SCENE_MS);
	}
	ends(server, 0, start_ns, 200 * SCENE_MS, SCENE_S);
	assert_int_equal(scene_wait(client, 10 * SCENE_S), 0);
	assert_int_equal(board->answered_count, 1);
}

static void sigterm_lets_a_handler_end(void **state)
{
	(void)state;
	stop_in_a_handler(1, false);
}

static void sigterm_twice_is_sigterm_once(void **state)
{
	(void)state;
	stop_in_a_handler(2, false);
}

/* Nothing rings when the last answer has gone, and nothing may wait for it. */
static void drain_ends_with_the_last_answer(void **state)
{
	(void)state;
	stop_in_a_handler(1, true);
}

static void drain_ends_at_its_bound(void **state)
{
	pid_t server, client;
	uint64_t start_ns;

	(void)state;
	new_board();
	board->drain_ns = 300 * SCENE_MS;
	board->keeps = true;
	server = start();
	client = scene_start(ask_once, board);
	assert_true(scene_reach(&board->handler_count, 1, 10 * SCENE_S));
	start_ns = scene_now_ns();
	kill(server, SIGTERM);
	ends(server, TIMED_OUT, start_ns, 290 * SCENE_MS, SCENE_S);
	assert_int_equal(scene_wait(client, 10 * SCENE_S), 0);
	assert_int_equal(board->refused_count, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(sigterm_under_load_answers_all_that_was_begun),
		SCENE_TEST(sigterm_wakes_a_server_that_sleeps),
		SCENE_TEST(sigterm_lets_a_handler_end),
		SCENE_TEST(sigterm_twice_is_sigterm_once),
		SCENE_TEST(drain_ends_with_the_last_answer),
		SCENE_TEST(drain_ends_at_its_bound),
	};

	if (scene_is_full(argc, argv))
		run_count = 100;
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
