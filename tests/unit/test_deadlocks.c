/* SPDX-License-Identifier: MIT */
/*
 * Two sides that could wait for each other for ever, and waits that could burn
 * a processor: a reactor on a thread of its own, and the client a user has.
 */
#include "tests/unit/reactor_fixture.h"
#include "tests/unit/sanitizer.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <urcu/wfcqueue.h>

#include "peal/client.h"

#define REST_MS 200
#define REST_CPU_NS (1 * MS) /* all of it ours, and most of it none */
#define REST_SWITCHES 2      /* our own sleep, and the net once a second */
#define IDLE_CLIENTS (SLOW ? 100 : 500)
#define IDLE_FDS 5000
#define LONG_BYTES 900

static struct {
	uint32_t cancelled_count, begun_count;
	uint32_t answered_count;
	int answer_error;
	struct peal_request *kept;
	uint32_t client_request_count;
} scene;

static void start(const struct peal_reactor_options *options)
{
	memset(&scene, 0, sizeof(scene));
	open_in_background(options);
}

static void stop(void)
{
	peal_reactor_stop(served.reactor, SECOND);
	join_background();
	close_reactor();
}

static struct peal_client *connect_with(uint32_t order, uint32_t wait_mode)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client = NULL;

	options.name = "served";
	options.request_ring_bytes = options.response_ring_bytes = 4096;
	options.order = order;
	options.wait_mode = wait_mode;
	assert_int_equal(peal_client_connect(&options, PATIENCE_NS, &client),
	                 0);
	return client;
}

/* Requests with long answers until there is no room: how many. */
static uint64_t send_until_full(struct peal_client *client, uint64_t timeout_ns)
{
	char text[LONG_BYTES] = "e";
	uint64_t count = 0;
	int error;

	while ((error = peal_client_send(client, text, sizeof(text),
	                                 PEAL_FOREVER, timeout_ns, NULL)) == 0)
		count++;
	assert_int_equal(error, -EAGAIN);
	return count;
}

static void take_all(struct peal_client *client, uint64_t count)
{
	struct peal_message answer;

	for (; count > 0; count--) {
		assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
		                 0);
		assert_int_equal(answer.kind, PEAL_ANSWERED);
		assert_int_equal(answer.data_bytes, LONG_BYTES);
	}
	assert_int_equal(peal_client_recv(client, 0, &answer), -EAGAIN);
}

static void both_rings_full_and_all_is_answered(void **state)
{
	(void)state;
	for (uint32_t way = 0; way < 8; way++) {
		struct peal_reactor_options options = usual_options();
		struct peal_client *client;
		uint64_t count;

		options.wait_mode = way & 1;
		options.worker_count = way & 4 ? 2 : 0;
		start(&options);
		client = connect_with(way >> 1 & 1, way & 1);
		for (int round = 0; round < 10; round++) {
			/* As a fast sender fills them, and to the last byte. */
			count = send_until_full(client, PATIENCE_NS);
			for (int i = 0; i < 3; i++) {
				sleep_ns(MS);
				count += send_until_full(client, 0);
			}
			assert_true(count >= 4);
			take_all(client, count);
		}
		assert_int_equal(peal_client_close(client), 0);
		stop();
	}
}

/* It sleeps for room in its request ring, which comes when it has read. */
static void sleeper_for_room_hears_of_its_full_response_ring(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client *client;
	uint64_t start_ns, count;

	(void)state;
	start(&options);
	client = connect_with(PEAL_ORDERED, PEAL_WAIT_FUTEX);
	for (int i = 0; i < 20; i++) {
		start_ns = now_ns();
		count = send_until_full(client, PATIENCE_NS);
		assert_true(now_ns() - start_ns < 5 * SECOND);
		take_all(client, count);
	}
	assert_int_equal(peal_client_close(client), 0);
	stop();
}

struct used {
	uint64_t cpu_ns;
	uint64_t switches; /* how often somebody fell asleep */
};

static struct used used_by_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (struct used){
		.cpu_ns = (uint64_t)(usage.ru_utime.tv_sec +
	                             usage.ru_stime.tv_sec) *
	                          SECOND +
	                  (uint64_t)(usage.ru_utime.tv_usec +
	                             usage.ru_stime.tv_usec) *
	                          1000,
		.switches = (uint64_t)usage.ru_nvcsw,
	};
}

/* What the whole process uses while this thread sleeps: somebody who wakes but
 * once a time slice uses next to nothing, so wakes are counted too. */
static struct used used_at_rest(void)
{
	struct used before, after;

	sleep_ns(50 * MS);
	before = used_by_us();
	sleep_ns(REST_MS * MS);
	after = used_by_us();
	return (struct used){after.cpu_ns - before.cpu_ns,
	                     after.switches - before.switches};
}

/* Once out of a few times: on a busy machine what went before takes long. */
static void rests(const char *what)
{
	struct used used;
	int tries = 0;

	do
		used = used_at_rest();
	while ((used.cpu_ns > REST_CPU_NS || used.switches > REST_SWITCHES) &&
	       ++tries < 5);
	print_message("%s: %.2f ms of %d, %d sleeps, after %d tries\n", what,
	              (double)used.cpu_ns / 1e6, REST_MS, (int)used.switches,
	              tries);
	if (SLOW) {
		/* A sanitizer has a thread of its own. */
		assert_true(used.cpu_ns < 10 * REST_CPU_NS);
		return;
	}
	assert_true(used.cpu_ns <= REST_CPU_NS);
	assert_true(used.switches <= REST_SWITCHES);
}

/* It has heard of each of them, and answered each once. */
static void five_hundred_idle_clients_use_no_processor(void **state)
{
	static struct peal_client *clients[IDLE_CLIENTS];
	struct rlimit limit;
	struct peal_reactor_options options = usual_options();
	struct peal_message answer;

	(void)state;
	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < IDLE_FDS)
		CHECK_SKIP("this user may not have 5,000 descriptors");
	limit.rlim_cur = IDLE_FDS > limit.rlim_cur ? IDLE_FDS : limit.rlim_cur;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	options.client_max = IDLE_CLIENTS;
	start(&options);
	for (int i = 0; i < IDLE_CLIENTS; i++) {
		clients[i] = connect_with(PEAL_ORDERED, PEAL_WAIT_FUTEX);
		assert_int_equal(peal_client_call(clients[i], "e", 1,
		                                  PATIENCE_NS, &answer),
		                 0);
	}
	rests("idle clients");
	for (int i = 0; i < IDLE_CLIENTS; i++) {
		assert_int_equal(peal_client_call(clients[i], "e", 1,
		                                  PATIENCE_NS, &answer),
		                 0);
		assert_int_equal(peal_client_close(clients[i]), 0);
	}
	stop();
}

static void parked_clients_leave_an_idle_server_at_rest(void **state)
{
	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		struct peal_reactor_options options = usual_options();
		struct peal_client *idle, *full, *capped;
		uint64_t count;

		options.wait_mode = mode;
		options.in_flight_per_client_max = 8;
		start(&options);
		idle = connect_with(PEAL_ORDERED, mode);
		rests("idle");
		full = connect_with(PEAL_ORDERED, mode);
		count = send_until_full(full, 0);
		sleep_ns(10 * MS);
		count += send_until_full(full, 0);
		rests("does not read");
		capped = connect_with(PEAL_ORDERED, mode);
		for (int i = 0; i < 12; i++)
			assert_int_equal(peal_client_send(capped, "k", 1,
			                                  PEAL_FOREVER,
			                                  PATIENCE_NS, NULL),
			                 0);
		rests("at its cap");
		take_all(full, count);
		assert_int_equal(peal_client_close(full), 0);
		assert_int_equal(peal_client_close(idle), 0);
		assert_int_equal(peal_client_close(capped), 0);
		/* None of the four behind its cap is taken any more. */
		await_word(&served.closed_count, 3);
		for (uint32_t i = 1; i <= 8; i++)
			peal_request_drop(await_kept(i));
		stop();
	}
}

static void server_at_its_cap_and_in_its_drain_rests(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client *client;

	(void)state;
	options.in_flight_max = 4;
	start(&options);
	client = connect_with(PEAL_ORDERED, PEAL_WAIT_FUTEX);
	for (int i = 0; i < 6; i++)
		assert_int_equal(peal_client_send(client, "k", 1, PEAL_FOREVER,
		                                  PATIENCE_NS, NULL),
		                 0);
	rests("all are at the cap");
	peal_reactor_stop(served.reactor, PATIENCE_NS);
	rests("in its drain");
	for (uint32_t i = 1; i <= 4; i++)
		peal_reply(await_kept(i), "", 0);
	join_background();
	close_reactor();
	assert_int_equal(peal_client_close(client), 0);
}

/* The descriptor that stopped it stays readable: nobody may poll it any more. */
static void server_that_a_signal_has_stopped_rests_in_its_drain(void **state)
{
	const uint64_t one = 1;

	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		struct peal_reactor_options options = usual_options();
		struct peal_client *client;
		int fd = eventfd(0, EFD_CLOEXEC);

		options.wait_mode = mode;
		options.stop_signals_fd = fd;
		options.drain_ns = PATIENCE_NS;
		start(&options);
		client = connect_with(PEAL_ORDERED, mode);
		assert_int_equal(peal_client_send(client, "k", 1, PEAL_FOREVER,
		                                  PATIENCE_NS, NULL),
		                 0);
		/* Taken before the stop, or it would be refused. */
		await_kept(1);
		assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
		rests("in its drain, by a signal");
		peal_reply(await_kept(1), "", 0);
		join_background();
		close_reactor();
		assert_int_equal(peal_client_close(client), 0);
		close(fd);
	}
}

/* calls of the server ------------------------------------------------------ */

static void hear_answer(int error, const struct peal_message *answer, void *arg)
{
	(void)arg;
	scene.answer_error = error;
	if (error == 0 &&
	    (answer->data_bytes != 5 || memcmp(answer->data, "yes!!", 5) != 0))
		scene.answer_error = 1;
	__atomic_add_fetch(&scene.answered_count, 1, __ATOMIC_RELEASE);
	if (scene.kept != NULL)
		peal_reply(scene.kept, "called", 6);
	scene.kept = NULL;
}

static void call_back(struct peal_request *request, void *arg)
{
	const char *data = peal_request_data(request, NULL);

	__atomic_add_fetch(&scene.begun_count, 1, __ATOMIC_RELEASE);
	if (data[0] != 'c') {
		serve(request, arg);
		return;
	}
	scene.kept = request;
	/* By then its client sleeps. */
	sleep_ns(20 * MS);
	if (peal_reactor_call(served.reactor, peal_request_peer(request),
	                      "are you there?", 14, PATIENCE_NS, hear_answer,
	                      NULL) != 0)
		peal_reply_error(request, -EPIPE);
}

static void say_yes(struct peal_request *request, void *arg)
{
	(void)arg;
	scene.client_request_count++;
	peal_reply(request, "yes!!", 5);
}

static struct peal_client *connect_answering(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client = NULL;

	options.name = "served";
	options.request_ring_bytes = options.response_ring_bytes = 4096;
	options.on_request = say_yes;
	assert_int_equal(peal_client_connect(&options, PATIENCE_NS, &client),
	                 0);
	return client;
}

static void call_to_a_client_whose_requests_are_stalled(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_message answer;
	struct peal_client *client;
	char text[LONG_BYTES] = "e";
	uint64_t count = 1, start_ns;
	int error;

	(void)state;
	options.on_request = call_back;
	options.in_flight_per_client_max = 1;
	start(&options);
	client = connect_answering();
	assert_int_equal(peal_client_call(client, "c", 1, PATIENCE_NS, &answer),
	                 0);
	assert_text(&answer, "called");
	/* Its ring is full of requests that are not taken before the answer,
	 * and it sleeps for room: it is to hear of the call. */
	assert_int_equal(
		peal_client_send(client, "c", 1, PEAL_FOREVER, 0, NULL), 0);
	start_ns = now_ns();
	while ((error = peal_client_send(client, text, sizeof(text),
	                                 PEAL_FOREVER, PATIENCE_NS, NULL)) == 0)
		count++;
	assert_int_equal(error, -EAGAIN);
	assert_true(now_ns() - start_ns < 5 * SECOND);
	for (; count > 0; count--)
		assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
		                 0);
	assert_int_equal(scene.client_request_count, 2);
	assert_int_equal(peal_client_close(client), 0);
	stop();
	assert_int_equal(scene.answer_error, 0);
}

/* A sleep for room in one ring, and room in the other that ends it --------------- */

#define ENOUGH_CALLS 40 /* more answers of LONG_BYTES than the lane holds */

static struct {
	struct peal_request *kept;
	uint32_t heard_count, answer_count;
} lane;

static void let_go_when_all_are_answered(int error,
                                         const struct peal_message *answer,
                                         void *arg)
{
	(void)answer;
	(void)arg;
	assert_int_equal(error, 0);
	if (__atomic_add_fetch(&lane.answer_count, 1, __ATOMIC_RELEASE) ==
	    ENOUGH_CALLS)
		peal_reply(lane.kept, NULL, 0);
}

/* Until the client has put answers off, and sleeps for room for a request. */
static void be_busy(void *arg)
{
	(void)arg;
	while (__atomic_load_n(&lane.heard_count, __ATOMIC_ACQUIRE) <
	       ENOUGH_CALLS)
		usleep(100);
	usleep(50000);
}

static void keep_the_first_and_call(struct peal_request *request, void *arg)
{
	(void)arg;
	if (lane.kept != NULL) {
		peal_reply(request, NULL, 0);
		return;
	}
	lane.kept = request;
	for (int i = 0; i < ENOUGH_CALLS; i++)
		assert_int_equal(peal_reactor_call(served.reactor,
		                                   peal_request_peer(request),
		                                   "q", 1, PEAL_FOREVER,
		                                   let_go_when_all_are_answered,
		                                   NULL),
		                 0);
	assert_int_equal(peal_reactor_post(served.reactor, be_busy, NULL), 0);
}

static void answer_long(struct peal_request *request, void *arg)
{
	static const char text[LONG_BYTES];

	(void)arg;
	peal_reply(request, text, sizeof(text));
	__atomic_add_fetch(&lane.heard_count, 1, __ATOMIC_RELEASE);
}

/* Its requests have room when the first one ends, which waits for its answers,
 * which wait for room in the lane. */
static void sleeper_for_room_sends_what_it_owes(void **state)
{
	(void)state;
	for (uint32_t mode = 0; mode < 2; mode++) {
		struct peal_reactor_options options = usual_options();
		struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
		char text[LONG_BYTES] = "e";
		struct peal_message message;
		struct peal_client *client;

		memset(&lane, 0, sizeof(lane));
		options.on_request = keep_the_first_and_call;
		options.in_flight_per_client_max = 1;
		options.wait_mode = mode;
		start(&options);
		wish.name = "served";
		wish.request_ring_bytes = 4096;
		wish.on_request = answer_long;
		wish.wait_mode = mode;
		assert_int_equal(
			peal_client_connect(&wish, PATIENCE_NS, &client), 0);
		assert_int_equal(peal_client_send(client, "1", 1, PEAL_FOREVER,
		                                  0, NULL),
		                 0);
		while (lane.heard_count < ENOUGH_CALLS)
			(void)!peal_client_recv(client, MS, &message);
		/* What has come in between is taken first. */
		for (uint32_t sent = 1, taken = 0; taken < 21;) {
			int error = sent == 21 ? -EAGAIN
			                       : peal_client_send(client, text,
			                                          sizeof(text),
			                                          PEAL_FOREVER,
			                                          PATIENCE_NS,
			                                          NULL);

			sent += error == 0;
			if (error == 0)
				continue;
			assert_int_equal(error, -EAGAIN);
			assert_int_equal(peal_client_recv(client, PATIENCE_NS,
			                                  &message),
			                 0);
			taken++;
		}
		assert_int_equal(__atomic_load_n(&lane.answer_count,
		                                 __ATOMIC_ACQUIRE),
		                 ENOUGH_CALLS);
		assert_int_equal(peal_client_close(client), 0);
		stop();
	}
}

/* cancel ------------------------------------------------------------------- */

static void serve_until_cancelled(struct peal_request *request, void *arg)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	(void)arg;
	__atomic_add_fetch(&scene.begun_count, 1, __ATOMIC_RELEASE);
	while (!peal_request_cancelled(request) && now_ns() < end_ns)
		usleep(100);
	scene.cancelled_count += peal_request_cancelled(request);
	peal_reply_error(request, -ECANCELED);
}

struct cancelling {
	struct peal_client *client;
	uint64_t id;
	int result;
};

static void *cancel(void *arg)
{
	struct cancelling *it = arg;

	while (__atomic_load_n(&scene.begun_count, __ATOMIC_ACQUIRE) == 0)
		usleep(100);
	it->result = peal_client_cancel(it->client, it->id);
	return NULL;
}

static void running_handler_is_cancelled_from_another_thread(void **state)
{
	(void)state;
	for (uint32_t workers = 0; workers < 2; workers++) {
		struct peal_reactor_options options = usual_options();
		struct cancelling it = {0};
		struct peal_message answer;
		pthread_t thread;

		options.on_request = serve_until_cancelled;
		options.worker_count = workers;
		start(&options);
		it.client = connect_with(PEAL_ORDERED, PEAL_WAIT_FUTEX);
		assert_int_equal(peal_client_send(it.client, "x", 1,
		                                  PEAL_FOREVER, 0, &it.id),
		                 0);
		assert_int_equal(pthread_create(&thread, NULL, cancel, &it), 0);
		assert_int_equal(
			peal_client_recv(it.client, PATIENCE_NS, &answer), 0);
		pthread_join(thread, NULL);
		assert_int_equal(it.result, 0);
		assert_int_equal(answer.id, it.id);
		assert_int_equal(answer.kind, PEAL_FAILED);
		assert_int_equal(answer.status, -ECANCELED);
		assert_int_equal(peal_client_close(it.client), 0);
		stop();
		assert_int_equal(scene.cancelled_count, 1);
	}
}

/* a completion that is half linked ------------------------------------------ */

/* As reactor/completions.c has it, up to here. */
struct queue {
	_Alignas(64) struct __cds_wfcq_head head;
	_Alignas(64) struct cds_wfcq_tail tail;
};

static void count_one(struct peal__completion *completion, void *object)
{
	(void)completion;
	(void)object;
	scene.answered_count++;
}

static void half_linked_completion_keeps_nobody_waiting(void **state)
{
	struct peal__completion completion = {.run = count_one};
	struct cds_wfcq_node *node = (struct cds_wfcq_node *)&completion;
	struct cds_wfcq_node *before;
	struct raw_client raw;
	struct queue *queue;
	uint64_t start_ns;

	(void)state;
	memset(&scene, 0, sizeof(scene));
	open_usual_for(&raw);
	queue = (struct queue *)served.reactor->completions;
	/* What a push does, up to the place where its thread is stopped. */
	cds_wfcq_node_init(node);
	completion.is_written = 1;
	before = __atomic_exchange_n(&queue->tail.p, node, __ATOMIC_SEQ_CST);
	assert_true(peal__completions_has_any(served.reactor->completions));
	start_ns = now_ns();
	for (uint64_t i = 1; i <= 20; i++) {
		assert_int_equal(raw_ask(&raw, i, "e"), 0);
		assert_int_equal(
			peal_reactor_run_once(served.reactor, PATIENCE_NS), 0);
		hear(&raw, PEAL__FRAME_ANSWER, i, 0, "e");
		/* It is not slept on, though there is nothing else. */
		assert_int_equal(
			peal_reactor_run_once(served.reactor, PATIENCE_NS), 0);
	}
	assert_true(now_ns() - start_ns < 5 * SECOND);
	assert_int_equal(scene.answered_count, 0);
	__atomic_store_n(&before->next, node, __ATOMIC_SEQ_CST);
	run();
	assert_int_equal(scene.answered_count, 1);
	assert_int_equal(peal_reactor_run_once(served.reactor, 1), -ETIMEDOUT);
	leave_and_close(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(both_rings_full_and_all_is_answered),
		TEST(sleeper_for_room_hears_of_its_full_response_ring),
		TEST(parked_clients_leave_an_idle_server_at_rest),
		TEST(five_hundred_idle_clients_use_no_processor),
		TEST(server_at_its_cap_and_in_its_drain_rests),
		TEST(server_that_a_signal_has_stopped_rests_in_its_drain),
		TEST(call_to_a_client_whose_requests_are_stalled),
		TEST(sleeper_for_room_sends_what_it_owes),
		TEST(running_handler_is_cancelled_from_another_thread),
		TEST(half_linked_completion_keeps_nobody_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
