/* SPDX-License-Identifier: MIT */
/* The server dies, or closes; we fork; and event loops, which hear of it. */
#include "tests/unit/client_fixture.h"

#include <dlfcn.h>
#include <sys/epoll.h>

#include "mpsc/producer.h"
#include "reactor/client.h"

#define IN_FLIGHT 20

static struct server server;

/* How often epoll_ctl(2) is to say that there are too many watches already. */
static uint32_t refusal_count;

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	static int (*real)(int, int, int, struct epoll_event *);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "epoll_ctl");
	if (operation == EPOLL_CTL_ADD && refusal_count > 0) {
		refusal_count--;
		errno = ENOSPC;
		return -1;
	}
	return real(epoll_fd, operation, fd, event);
}

/* Each of them comes once, in the order that they were sent in, failed with
 * @error, and then recv says it. */
static void expect_failures(struct peal_client *client, const uint64_t *ids,
                            size_t count, int error)
{
	struct peal_message answer;

	for (size_t i = 0; i < count; i++) {
		assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
		                 0);
		assert_int_equal(answer.kind, PEAL_FAILED);
		assert_int_equal(answer.status, error);
		assert_int_equal(answer.data_bytes, 0);
		assert_int_equal(answer.id, ids[i]);
	}
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), error);
	assert_int_equal(client_stats(client).in_flight_count, 0);
}

static void *kill_it(void *argument)
{
	const pid_t *pid = argument;

	kill(*pid, SIGKILL);
	return NULL;
}

static void death_of_the_server_fails_each_request_once(void **state)
{
	pid_t pid = server_fork();
	struct peal_client *client = client_open();
	struct peal_message answer;
	uint64_t ids[IN_FLIGHT], start_ns;
	struct later later;

	(void)state;
	for (size_t i = 0; i < IN_FLIGHT; i++)
		ids[i] = send_request(client, "keep");
	expect_answer(client, "echo", "echo");
	later_start(&later, 20 * MS, kill_it, &pid);
	start_ns = now_ns();
	assert_int_equal(call_text(client, "keep", PATIENCE_NS, &answer),
	                 -ECONNRESET);
	assert_true(now_ns() - start_ns < 5 * SECOND);
	later_join(&later);
	expect_failures(client, ids, IN_FLIGHT, -ECONNRESET);
	/* Without reconnect it stays so. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(call_text(client, "echo", SECOND, &answer),
		                 -ECONNRESET);
		assert_int_equal(peal_client_tell(client, "x", 1, 0),
		                 -ECONNRESET);
		assert_int_equal(peal_client_recv(client, 0, &answer),
		                 -ECONNRESET);
		assert_int_equal(peal_client_cancel(client, 5), -ECONNRESET);
	}
	peal_client_wake(client);
	peal_client_close(client);
	server_kill(pid);
	server_sweep();
}

static void answers_that_came_before_the_death_are_still_delivered(void **state)
{
	pid_t pid = server_fork();
	struct peal_client *client = client_open();
	struct peal_message answer;
	uint64_t ids[2];

	(void)state;
	ids[0] = send_request(client, "echo one");
	ids[1] = send_request(client, "keep");
	/* Until it has answered. */
	while (!peal_ring_has_data(&client->rx))
		sched_yield();
	server_kill(pid);
	assert_int_equal(peal_client_tell(client, "x", 1, 0), -ECONNRESET);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.id, ids[0]);
	assert_text(&answer, "echo one");
	expect_failures(client, ids + 1, 1, -ECONNRESET);
	peal_client_close(client);
	server_sweep();
}

static void server_that_closes_is_eshutdown(void **state)
{
	struct peal_client *client;
	struct peal_message answer;
	uint64_t ids[IN_FLIGHT];

	(void)state;
	server_start(&server);
	client = client_open();
	for (size_t i = 0; i < IN_FLIGHT; i++)
		ids[i] = send_request(client, "keep");
	expect_answer(client, "echo", "echo");
	server_stop(&server);
	expect_failures(client, ids, IN_FLIGHT, -ESHUTDOWN);
	assert_int_equal(call_text(client, "echo", SECOND, &answer),
	                 -ESHUTDOWN);
	peal_client_close(client);
}

static void reconnect_mends_what_the_call_before_told(void **state)
{
	struct peal_client_options options = client_options();
	struct peal_client *client;
	struct peal_message answer;
	uint64_t kept, id;
	int error;

	(void)state;
	options.reconnect = 1;
	server_start(&server);
	client = client_with(&options);
	for (int i = 0; i < 10; i++) {
		kept = send_request(client, "keep");
		expect_answer(client, "echo", "echo");
		server_stop(&server);
		assert_int_equal(call_text(client, "echo", SECOND, &answer),
		                 -ESHUTDOWN);
		assert_int_equal(call_text(client, "echo", SECOND, &answer),
		                 -ECONNREFUSED);
		assert_int_equal(peal_client_cancel(client, kept), -ECONNRESET);
		peal_client_wake(client);
		server_start(&server);
		assert_int_equal(call_text(client, "echo", SECOND, &answer),
		                 -ECANCELED);
		expect_answer(client, "echo", "echo");
		id = send_request(client, "echo new");
		/* The lost one comes once, beside the new one. */
		for (int j = 0; j < 2; j++) {
			assert_int_equal(peal_client_recv(client, PATIENCE_NS,
			                                  &answer),
			                 0);
			if (answer.kind == PEAL_FAILED) {
				assert_int_equal(answer.id, kept);
				assert_int_equal(answer.status, -ESHUTDOWN);
			} else {
				assert_int_equal(answer.id, id);
			}
		}
		assert_int_equal(client_stats(client).in_flight_count, 0);
	}
	assert_int_equal(client_stats(client).reconnect_count, 10);
	/* One that only receives is connected again as well. */
	server_stop(&server);
	assert_int_equal(peal_client_recv(client, SECOND, &answer), -ESHUTDOWN);
	server_start(&server);
	/* Its 100 ms may be over on a busy machine: then the next one has them. */
	while ((error = peal_client_recv(client, 0, &answer)) == -ETIMEDOUT)
		continue;
	assert_int_equal(error, -EAGAIN);
	expect_answer(client, "echo", "echo");
	peal_client_close(client);
	server_stop(&server);
}

/* In a loop nothing would tell of the answers of a connection that is not
 * watched: there is none rather. */
static void socket_that_cannot_be_watched_is_told_and_tried_again(void **state)
{
	struct peal_client_options options = client_options();
	pid_t pid = server_fork();
	struct peal_client *client;
	struct peal_message answer;
	struct pollfd polled = {.events = POLLIN};
	int fd_count;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.reconnect = 1;
	client = client_with(&options);
	expect_answer(client, "echo", "echo");
	server_kill(pid);
	assert_int_equal(call_text(client, "echo", PATIENCE_NS, &answer),
	                 -ECONNRESET);
	pid = server_fork();
	fd_count = count_fds();
	for (int i = 0; i < 3; i++) {
		refusal_count = 1;
		errno = OUR_ERRNO;
		assert_int_equal(call_text(client, "echo", PATIENCE_NS,
		                           &answer),
		                 -ENOSPC);
		assert_int_equal(errno, OUR_ERRNO);
		assert_int_equal(refusal_count, 0);
		assert_true(count_fds() <= fd_count);
	}
	send_request(client, "echo");
	polled.fd = peal_client_fd(client);
	if (peal_client_prepare(client) == 0)
		assert_int_equal(poll(&polled, 1, 30000), 1);
	assert_int_equal(peal_client_dispatch(client), 0);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_text(&answer, "echo");
	/* What it is told without having asked comes through it as well. */
	server_kill(pid);
	assert_int_equal(peal_client_prepare(client), 0);
	assert_int_equal(poll(&polled, 1, 30000), 1);
	assert_int_equal(peal_client_dispatch(client), -ECONNRESET);
	peal_client_close(client);
	server_sweep();
}

static uint32_t waker_ends;

static void *wake_for_long(void *argument)
{
	uint64_t count = 0;

	while (!flag_is_set(&waker_ends)) {
		peal_client_wake(argument);
		peal_client_cancel(argument, count++);
		sleep_ns(20000);
	}
	return NULL;
}

/* The segment goes while another thread is about to write there. */
static void wake_and_cancel_may_race_with_a_reconnect(void **state)
{
	struct peal_client_options options = client_options();
	struct peal_client *client;
	struct peal_message answer;
	struct later later;
	int count = 0;

	(void)state;
	options.reconnect = 1;
	server_start(&server);
	client = client_with(&options);
	waker_ends = 0;
	later_start(&later, 0, wake_for_long, client);
	for (int i = 0; i < 20; i++) {
		server_stop(&server);
		server_start(&server);
		while (call_text(client, "echo", SECOND, &answer) != 0)
			count++;
	}
	flag_set(&waker_ends);
	later_join(&later);
	while (peal_client_recv(client, 0, &answer) == 0)
		continue;
	assert_int_equal(client_stats(client).reconnect_count, 20);
	print_message("%d calls were ended\n", count);
	peal_client_close(client);
	server_stop(&server);
}

/* While it waits for room it finds an answer that makes no sense. */
static void
loss_that_a_call_finds_while_it_waits_for_room_is_told_once(void **state)
{
	struct peal_client_options options = client_options();
	struct peal_client *client;
	struct peal_message answer;

	(void)state;
	server_start(&server);
	options.reconnect = 1;
	client = client_with(&options);
	send_request(client, "junk 9");
	while (__atomic_load_n(&server.request_count, __ATOMIC_ACQUIRE) == 0)
		sleep_ns(MS);
	flag_set(&server.is_deaf);
	while (peal_client_send(client, "echo", 4, 0, 0, NULL) == 0)
		continue;
	assert_int_equal(call_text(client, "echo", SECOND, &answer), -EPROTO);
	__atomic_store_n(&server.is_deaf, 0, __ATOMIC_RELEASE);
	expect_answer(client, "echo", "echo");
	assert_int_equal(client_stats(client).reconnect_count, 1);
	while (peal_client_recv(client, 0, &answer) == 0)
		assert_int_equal(answer.status, -EPROTO);
	peal_client_close(client);
	server_stop(&server);
}

static int use_in_child(void *argument)
{
	struct peal_client *client = argument;
	struct peal_client_stats stats;
	struct peal_message answer;
	uint64_t id;
	void *data;

	peal_client_wake(client);
	if (call_text(client, "echo", SECOND, &answer) != -ESTALE ||
	    peal_client_send(client, "x", 1, 0, 0, &id) != -ESTALE ||
	    peal_client_tell(client, "x", 1, 0) != -ESTALE ||
	    peal_client_claim(client, 1, 0, &data) != -ESTALE ||
	    peal_client_publish(client, 1, 0, &id) != -ESTALE ||
	    peal_client_recv(client, SECOND, &answer) != -ESTALE ||
	    peal_client_cancel(client, 1) != -ESTALE ||
	    peal_client_stats(client, &stats) != -ESTALE ||
	    peal_client_fd(client) != -ESTALE ||
	    peal_client_prepare(client) != -ESTALE ||
	    peal_client_dispatch(client) != -ESTALE)
		return 1;
	return peal_client_close(client) == 0 ? 0 : 2;
}

static void forked_child_is_estale(void **state)
{
	struct peal_client_options options = client_options();
	struct peal_client *client;

	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		server_start(&server);
		options.wait_mode = mode;
		client = client_with(&options);
		send_request(client, "keep");
		expect_answer(client, "echo", "echo");
		assert_int_equal(check_in_child(use_in_child, client), 0);
		expect_answer(client, "echo", "echo");
		peal_client_close(client);
		server_stop(&server);
	}
}

static void *wake(void *argument)
{
	peal_client_wake(argument);
	return NULL;
}

static void fd_mode_blocks_in_the_loop_of_the_caller(void **state)
{
	struct peal_client_options options = client_options();
	struct peal_client *client;
	struct peal_message answer;
	struct later later;
	uint64_t id;
	int fd;

	(void)state;
	server_start(&server);
	client = client_open();
	assert_int_equal(peal_client_fd(client), -EINVAL);
	assert_int_equal(peal_client_prepare(client), -EINVAL);
	assert_int_equal(peal_client_dispatch(client), -EINVAL);
	peal_client_close(client);
	server_stop(&server);
	server_start(&server);
	options.wait_mode = PEAL_WAIT_FD;
	options.reconnect = 1;
	client = client_with(&options);
	fd = peal_client_fd(client);
	assert_true(fd >= 0);
	for (int i = 0; i < 100; i++) {
		expect_answer(client, "echo", "echo");
		id = send_request(client, "echo");
		while (peal_client_recv(client, 0, &answer) != 0) {
			if (peal_client_prepare(client) == 0)
				assert_true(is_readable(fd, 30000));
			assert_int_equal(peal_client_dispatch(client), 0);
		}
		assert_int_equal(answer.id, id);
	}
	assert_int_equal(peal_client_recv(client, 0, &answer), -EAGAIN);
	assert_int_equal(peal_client_dispatch(client), 0);
	assert_int_equal(peal_client_prepare(client), 0);
	assert_false(is_readable(fd, 5));
	later_start(&later, 10 * MS, wake, client);
	assert_true(is_readable(fd, 30000));
	later_join(&later);
	assert_int_equal(peal_client_dispatch(client), 0);
	assert_false(is_readable(fd, 0));
	assert_int_equal(peal_client_prepare(client), 0);
	later_start(&later, 10 * MS, wake, client);
	assert_int_equal(call_text(client, "keep", PATIENCE_NS, &answer),
	                 -ECANCELED);
	later_join(&later);
	id = send_request(client, "keep");
	server_stop(&server);
	assert_true(is_readable(fd, 30000));
	assert_int_equal(peal_client_dispatch(client), -ESHUTDOWN);
	assert_int_equal(peal_client_prepare(client), 1);
	expect_failures(client, &id, 1, -ESHUTDOWN);
	/* All has been told: the loop may sleep. */
	assert_int_equal(peal_client_prepare(client), 0);
	assert_false(is_readable(fd, 0));
	server_start(&server);
	expect_answer(client, "echo", "echo");
	assert_int_equal(peal_client_fd(client), fd);
	assert_int_equal(peal_client_prepare(client), 0);
	server_stop(&server);
	assert_true(is_readable(fd, 30000));
	peal_client_close(client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(death_of_the_server_fails_each_request_once),
		TEST(answers_that_came_before_the_death_are_still_delivered),
		TEST(server_that_closes_is_eshutdown),
		TEST(reconnect_mends_what_the_call_before_told),
		TEST(socket_that_cannot_be_watched_is_told_and_tried_again),
		TEST(wake_and_cancel_may_race_with_a_reconnect),
		TEST(loss_that_a_call_finds_while_it_waits_for_room_is_told_once),
		TEST(forked_child_is_estale),
		TEST(fd_mode_blocks_in_the_loop_of_the_caller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
