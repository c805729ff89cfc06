/* SPDX-License-Identifier: MIT */
/*
 * The bugs that others of our kind had after their first release, each as a
 * test that is named after it. Those of one layer are tested there: the unfenced
 * flag in stress/store_buffers.c, the spin that ignores its bell in test_spin.c.
 */
#include "tests/unit/reactor_fixture.h"

#include <sched.h>
#include <sys/syscall.h>

#include "peal/client.h"

#define CLIENT_COUNT 6

static struct {
	uint64_t deadline_ns;
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

static struct peal_client *open_client(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client = NULL;

	options.name = "served";
	options.request_ring_bytes = options.response_ring_bytes = 4096;
	assert_int_equal(peal_client_connect(&options, PATIENCE_NS, &client),
	                 0);
	return client;
}

/* "Every client defaulted to slot 0 and stole others' answers." */
static void no_two_clients_have_slot_0(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client *clients[CLIENT_COUNT];
	uint64_t ids[CLIENT_COUNT];
	uint32_t seen = 0;

	(void)state;
	start(&options);
	for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
		struct peal_client_stats stats;

		clients[i] = open_client();
		assert_int_equal(peal_client_stats(clients[i], &stats), 0);
		assert_int_equal(seen >> stats.self.slot_index & 1, 0);
		seen |= UINT32_C(1) << stats.self.slot_index;
	}
	for (uint32_t i = 0; i < CLIENT_COUNT; i++) {
		char text[] = "e 0";

		text[2] = (char)('0' + i);
		assert_int_equal(peal_client_send(clients[i], text, 3,
		                                  PEAL_FOREVER, 0, &ids[i]),
		                 0);
	}
	for (uint32_t i = CLIENT_COUNT; i-- > 0;) {
		struct peal_message answer;

		assert_int_equal(
			peal_client_recv(clients[i], PATIENCE_NS, &answer), 0);
		assert_int_equal(answer.id, ids[i]);
		assert_int_equal(((const char *)answer.data)[2], '0' + i);
		assert_int_equal(peal_client_recv(clients[i], 0, &answer),
		                 -EAGAIN);
		assert_int_equal(peal_client_close(clients[i]), 0);
	}
	stop();
}

/* "A recycled slot received the answers of the client before it": it is not
 * recycled while there may be any, and nothing said to its old name arrives. */
static void recycled_slot_gets_no_answer_of_the_one_before(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	struct peal_peer before;

	(void)state;
	options.client_max = 1;
	open_reactor_for(&raw, &options);
	before = served.opened;
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	leave(&raw);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(raw_connect(&raw, "served", 4096, 0), -EBUSY);
		run();
	}
	assert_int_equal(peal_reply(served.kept[0], "stale", 5), 0);
	run();
	for (int i = 0; raw_connect(&raw, "served", 4096, 0) != 0; i++)
		assert_true(i < 1000);
	run_until(&served.opened_count, 2);
	assert_int_equal(served.opened.slot_index, before.slot_index);
	assert_int_equal(peal_reactor_push(served.reactor, before, "x", 1),
	                 -ESTALE);
	run();
	hear_nothing(&raw);
	leave(&raw);
	close_reactor();
}

/* "The server died of SIGPIPE": its client sleeps by its descriptor, and goes
 * before the answer. Two things keep the signal away: we ask for none, and
 * Linux raises none for a socket of packets; either would do. */
static int serve_one_that_goes(void *arg)
{
	struct peal_reactor_options options = usual_options();
	struct peal_reactor *reactor;
	struct raw_client raw;

	(void)arg;
	signal(SIGPIPE, SIG_DFL);
	served = (struct served){0};
	if (peal_reactor_open(&options, &reactor) != 0 ||
	    raw_connect(&raw, "served", 4096, 0) != 0)
		return 1;
	served.reactor = reactor;
	for (int i = 0; served.kept_count == 0 && i < 1000; i++) {
		if (i == 0 && raw_ask(&raw, 1, "k") != 0)
			return 2;
		peal_reactor_run_once(reactor, MS);
	}
	if (served.kept_count == 0)
		return 3;
	__atomic_store_n(&raw.connection.segment->answers.arm,
	                 UINT64_C(1) << 40 | PEAL_DOORBELL_FD,
	                 __ATOMIC_SEQ_CST);
	raw_close(&raw, false);
	if (peal_reply(served.kept[0], "late", 4) != 0)
		return 4;
	/* Before it has heard of the death: it rings first. */
	peal__peers_ring(reactor);
	peal_reactor_run_once(reactor, 0);
	return peal_reactor_close(reactor) == 0 ? 0 : 5;
}

static void server_does_not_die_of_sigpipe(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(serve_one_that_goes, NULL), 0);
}

static void *stop_later(void *arg)
{
	sleep_ns(30 * MS);
	peal_reactor_stop(arg, SECOND);
	return NULL;
}

/* "A shutdown wake without a sequence bump was lost": at any moment. */
static void stop_is_never_slept_through(void **state)
{
	(void)state;
	for (int i = 0; i < 60; i++) {
		struct peal_reactor_options options = usual_options();
		uint64_t start_ns;

		options.spin_mode = i % 2 ? PEAL_SPIN_NEVER
		                          : PEAL_SPIN_ADAPTIVE;
		options.wait_mode = i % 4 / 2 ? PEAL_WAIT_FD : PEAL_WAIT_FUTEX;
		start(&options);
		if (i % 3 == 0)
			sleep_ns((uint64_t)i * 50 * 1000);
		start_ns = now_ns();
		stop();
		assert_true(now_ns() - start_ns < 5 * SECOND);
	}
}

static void stop_ends_a_spin_that_never_sleeps(void **state)
{
	struct peal_reactor_options options = usual_options();
	pthread_t thread;
	uint64_t start_ns = now_ns();

	(void)state;
	options.spin_mode = PEAL_SPIN_ALWAYS;
	open_reactor(&options);
	assert_int_equal(
		pthread_create(&thread, NULL, stop_later, served.reactor), 0);
	assert_int_equal(peal_reactor_run(served.reactor), 0);
	assert_true(now_ns() - start_ns < 5 * SECOND);
	pthread_join(thread, NULL);
	close_reactor();
}

static void serve_slowly(struct peal_request *request, void *arg)
{
	(void)arg;
	__atomic_store_n(&scene.deadline_ns, peal_request_deadline_ns(request),
	                 __ATOMIC_RELAXED);
	sleep_ns(30 * MS);
	peal_reply(request, NULL, 0);
}

/* "A 32-bit nanosecond timeout wrapped at 4.29 s": this one to a millisecond. */
static void timeout_does_not_wrap_at_32_bits(void **state)
{
	const uint64_t long_ns = (UINT64_C(1) << 32) + MS;
	struct peal_reactor_options options = usual_options();
	struct peal_client *client;
	struct peal_message answer;

	(void)state;
	options.on_request = serve_slowly;
	start(&options);
	client = open_client();
	assert_int_equal(peal_client_call(client, "x", 1, long_ns, &answer), 0);
	assert_true(__atomic_load_n(&scene.deadline_ns, __ATOMIC_RELAXED) >
	            3 * SECOND);
	assert_int_equal(
		peal_client_send(client, "x", 1, long_ns, long_ns, NULL), 0);
	assert_int_equal(peal_client_recv(client, long_ns, &answer), 0);
	assert_int_equal(answer.kind, PEAL_ANSWERED);
	assert_true(__atomic_load_n(&scene.deadline_ns, __ATOMIC_RELAXED) >
	            3 * SECOND);
	assert_int_equal(peal_client_close(client), 0);
	stop();
}

/* "A zero-length answer was never sent and deadlocked the caller." */
static void zero_length_answer_ends_the_call(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client *client;
	struct peal_message answer;

	(void)state;
	start(&options);
	client = open_client();
	assert_int_equal(peal_client_call(client, "z", 1, 5 * SECOND, &answer),
	                 0);
	assert_int_equal(answer.data_bytes, 0);
	assert_int_equal(peal_client_call(client, NULL, 0, 5 * SECOND, &answer),
	                 0);
	assert_int_equal(answer.data_bytes, 0);
	assert_int_equal(peal_client_close(client), 0);
	stop();
}

/* "A corrupt length took the server down": the commit word is the client's. */
static void corrupt_length_ends_its_own_connection_only(void **state)
{
	static const uint32_t wrong[] = {1,        15,         4096,
	                                 8192,     1 << 20,    0x3fffffff,
	                                 1u << 30, 0x7fffffff, UINT32_MAX};
	struct peal_reactor_options options = usual_options();
	struct raw_client fine, raw;

	(void)state;
	open_reactor(&options);
	connect_raw(&fine, 0);
	for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
		uint32_t closed_count = served.closed_count;
		struct peal_frame *frame;
		void *place = NULL;

		connect_raw(&raw, 0);
		assert_int_equal(peal_ring_claim(&raw.requests, 16,
		                                 PEAL__FRAME_REQUEST, 1,
		                                 &place),
		                 0);
		frame = (struct peal_frame *)((char *)place - sizeof(*frame));
		__atomic_store_n(&frame->commit, wrong[i], __ATOMIC_RELEASE);
		peal_doorbell_ring(&raw.bell);
		run_until(&served.closed_count, closed_count + 1);
		assert_int_equal(served.closed_reason, -EPROTO);
		raw_close(&raw, false);
		ask_and_hear(&fine, 1, "e");
	}
	leave_and_close(&fine);
}

/* "A full response ring of one client blocked the server for 100 ms." */
static void full_response_ring_of_one_blocks_no_other(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_client *slow, *fine;
	struct peal_message answer;
	char text[900] = "e";
	uint64_t start_ns;

	(void)state;
	start(&options);
	slow = open_client();
	fine = open_client();
	for (int i = 0; i < 3; i++) {
		while (peal_client_send(slow, text, sizeof(text), PEAL_FOREVER,
		                        0, NULL) == 0)
			continue;
		sleep_ns(2 * MS);
	}
	start_ns = now_ns();
	for (int i = 0; i < 50; i++)
		assert_int_equal(peal_client_call(fine, "e", 1, PATIENCE_NS,
		                                  &answer),
		                 0);
	/* A hundredth of what fifty blocked ones would take. */
	assert_true(now_ns() - start_ns < SECOND);
	assert_int_equal(peal_client_close(fine), 0);
	assert_int_equal(peal_client_close(slow), 0);
	stop();
}

/* "A slot owned by a bare pid": two clients that are both pid 1 where they live,
 * and one that has the pid of one that was killed. */

struct numbered {
	uint32_t connected, go, answered;
	int32_t error;
	pid_t self, pid; /* where it lives, and here */
};

static struct numbered *numbered;

static int be_numbered(void *arg)
{
	struct numbered *it = arg;
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;
	struct peal_message answer;

	alarm(60);
	it->self = getpid();
	options.name = "served";
	it->error = peal_client_connect(&options, PATIENCE_NS, &client);
	flag_set(&it->connected);
	if (it->error != 0 || !flag_wait(&it->go))
		return 1;
	it->error = peal_client_call(client, "e", 1, PATIENCE_NS, &answer);
	flag_set(&it->answered);
	for (;;)
		pause();
}

struct clone3_arguments {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack,
		stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* A thread of the server's may hold the lock of malloc() just now, and only
 * fork() lets go of it in the child. So a child of fork() makes the one that is
 * wanted, as our child. */
static pid_t start_by_child(struct numbered *it,
                            struct clone3_arguments *arguments)
{
	pid_t middle, pid;

	arguments->flags |= CLONE_PARENT;
	fflush(NULL);
	middle = fork();
	if (middle == 0) {
		pid = (pid_t)syscall(SYS_clone3, arguments, sizeof(*arguments));
		if (pid == 0)
			_exit(be_numbered(it));
		it->pid = pid;
		_exit(0);
	}
	return waitpid(middle, NULL, 0) == middle ? it->pid : -1;
}

static pid_t start_in_namespace(struct numbered *it)
{
	struct clone3_arguments arguments = {.flags = CLONE_NEWPID};

	return start_by_child(it, &arguments);
}

static pid_t start_with_pid(struct numbered *it, pid_t wanted)
{
	struct clone3_arguments arguments = {
		.set_tid = (uint64_t)(uintptr_t)&wanted,
		.set_tid_size = 1,
	};

	return start_by_child(it, &arguments);
}

static void gone(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void pid_of_another_namespace_steals_no_slot(void **state)
{
	struct peal_reactor_options options = usual_options();
	pid_t pids[2];

	(void)state;
	numbered = shared_open(2 * sizeof(*numbered));
	open_reactor(&options);
	for (int i = 0; i < 2; i++) {
		fflush(NULL);
		pids[i] = start_in_namespace(&numbered[i]);
		if (pids[i] < 0) {
			while (i-- > 0)
				gone(pids[i]);
			close_reactor();
			CHECK_SKIP("no pid namespaces here");
		}
		run_until(&numbered[i].connected, 1);
		assert_int_equal(numbered[i].error, 0);
		assert_int_equal(numbered[i].self, 1);
		run_until(&served.opened_count, (uint32_t)i + 1);
	}
	gone(pids[0]);
	run_until(&served.closed_count, 1);
	assert_int_equal(served.closed_reason, -ECONNRESET);
	flag_set(&numbered[1].go);
	run_until(&numbered[1].answered, 1);
	assert_int_equal(numbered[1].error, 0);
	assert_int_equal(served.closed_count, 1);
	gone(pids[1]);
	run_until(&served.closed_count, 2);
	close_reactor();
}

static void pid_that_is_used_again_gets_a_slot_of_its_own(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_peer before;
	pid_t pid, again;

	(void)state;
	numbered = shared_open(2 * sizeof(*numbered));
	options.client_max = 1;
	open_reactor(&options);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(be_numbered(&numbered[0]));
	run_until(&numbered[0].connected, 1);
	run_until(&served.opened_count, 1);
	before = served.opened;
	gone(pid);
	run_until(&served.closed_count, 1);
	again = start_with_pid(&numbered[1], pid);
	if (again != pid) {
		close_reactor();
		CHECK_SKIP("a pid cannot be chosen here");
	}
	run_until(&numbered[1].connected, 1);
	assert_int_equal(numbered[1].error, 0);
	run_until(&served.opened_count, 2);
	assert_int_equal(served.opened.slot_index, before.slot_index);
	assert_int_not_equal(served.opened.generation, before.generation);
	assert_int_equal(peal_reactor_push(served.reactor, before, "x", 1),
	                 -ESTALE);
	flag_set(&numbered[1].go);
	run_until(&numbered[1].answered, 1);
	assert_int_equal(numbered[1].error, 0);
	gone(again);
	run_until(&served.closed_count, 2);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_two_clients_have_slot_0),
		TEST(recycled_slot_gets_no_answer_of_the_one_before),
		TEST(server_does_not_die_of_sigpipe),
		TEST(stop_is_never_slept_through),
		TEST(stop_ends_a_spin_that_never_sleeps),
		TEST(timeout_does_not_wrap_at_32_bits),
		TEST(zero_length_answer_ends_the_call),
		TEST(corrupt_length_ends_its_own_connection_only),
		TEST(full_response_ring_of_one_blocks_no_other),
		TEST(pid_of_another_namespace_steals_no_slot),
		TEST(pid_that_is_used_again_gets_a_slot_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
