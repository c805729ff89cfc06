/* SPDX-License-Identifier: MIT */
/*
 * What failing calls have brought to light, each by itself.
 */
#include "tests/fault/door.h"

#include "peal/observer.h"

#define SOON_NS (10 * SCENE_S)

static void aim(enum fault_whose whose, const char *name, int error)
{
	const struct fault_aim aims[] = {{name, error, 1}, {NULL, 0, 0}};

	fault_arm_at(whose, aims);
}

static void assert_struck(const char *name)
{
	struct fault fault = fault_disarm();

	assert_non_null(fault.name);
	assert_string_equal(fault.name, name);
}

/* Out of descriptors its door rests; and there was no memory to open it again,
 * when nothing else would have made it look. */
static void door_that_could_not_be_opened_again_opens_later(void **state)
{
	static const struct fault_aim aims[] = {
		{"accept4", EMFILE, 1},
		{"epoll_ctl", ENOMEM, 1},
		{NULL, 0, 0},
	};
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	int error;

	(void)state;
	start_consumer(PEAL_WAIT_FUTEX);
	options.name = NAME;
	fault_arm_at(FAULT_OTHERS, aims);
	error = peal_producer_attach(&options, SOON_NS, &producer);
	assert_struck("epoll_ctl");
	assert_int_equal(error, 0);
	detach(NULL);
}

/* Whatever it is, it may be so for long, and the listener stays readable. */
static void accept_that_fails_is_tried_again_after_a_while(void **state)
{
	static const struct fault_aim aims[] = {
		{"accept4", EPERM, 1},
		{NULL, 0, 0},
	};
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	uint64_t start_ns;

	(void)state;
	start_consumer(PEAL_WAIT_FUTEX);
	options.name = NAME;
	fault_arm_at(FAULT_OTHERS, aims);
	start_ns = scene_now_ns();
	assert_int_equal(peal_producer_attach(&options, SOON_NS, &producer), 0);
	assert_struck("accept4");
	assert_true(scene_now_ns() - start_ns > 90 * SCENE_MS);
	detach(NULL);
}

/* As an event loop waits for it: at the descriptor alone. The answer may have
 * come before it has to wait at all. */
static int receive_in_loop(struct peal_message *answer, bool *ret_has_waited)
{
	struct pollfd ready = {.fd = peal_client_fd(client), .events = POLLIN};
	int error;

	*ret_has_waited = false;
	while ((error = peal_client_recv(client, 0, answer)) == -EAGAIN) {
		if (peal_client_prepare(client) == 0) {
			*ret_has_waited = true;
			if (poll(&ready, 1, (int)(SOON_NS / SCENE_MS)) != 1)
				return -ETIME;
		}
		peal_client_dispatch(client);
	}
	return error;
}

/* Nothing that came there would have been heard of in an event loop. */
static void client_that_cannot_watch_its_socket_has_not_come_back(void **state)
{
	struct peal_message answer;
	bool has_waited = false;

	(void)state;
	wait_mode = PEAL_WAIT_FD;
	assert_int_equal(start_reactor(PEAL_WAIT_FUTEX), 0);
	assert_int_equal(prepare_connected(), 0);
	stop_reactor();
	assert_int_equal(start_reactor(PEAL_WAIT_FUTEX), 0);
	assert_int_equal(peal_client_call(client, "x", 1, SOON_NS, &answer),
	                 -ESHUTDOWN);
	aim(FAULT_MINE, "epoll_ctl", ENOMEM);
	errno = WALK_ERRNO;
	assert_int_equal(peal_client_call(client, "x", 1, SOON_NS, &answer),
	                 -ENOMEM);
	assert_int_equal(errno, WALK_ERRNO);
	assert_struck("epoll_ctl");
	assert_int_equal(peal_client_call(client, "x", 1, SOON_NS, &answer), 0);
	for (int i = 0; !has_waited; i++) {
		assert_true(i < 1000);
		assert_int_equal(peal_client_send(client, "x", 1, PEAL_FOREVER,
		                                  0, NULL),
		                 0);
		assert_int_equal(receive_in_loop(&answer, &has_waited), 0);
	}
	close_client(NULL);
}

/* Who calls and waits announces nothing else. */
static void wake_that_could_not_be_sent_is_sent_again(void **state)
{
	struct peal_message answer;

	(void)state;
	wait_mode = PEAL_WAIT_FD;
	assert_int_equal(start_reactor(PEAL_WAIT_FD), 0);
	assert_int_equal(prepare_connected(), 0);
	for (int i = 0; i < 20; i++) {
		/* Time for it to fall asleep. */
		scene_sleep_ns(5 * SCENE_MS);
		aim(FAULT_MINE, "send", ENOBUFS);
		assert_int_equal(
			peal_client_call(client, "x", 1, SOON_NS, &answer), 0);
		if (fault_disarm().name != NULL)
			break;
		assert_true(i < 19);
	}
	close_client(NULL);
}

/* It was told that the server had closed the connection. */
static void client_without_memory_does_not_blame_the_server(void **state)
{
	struct peal_failure failure = {0};

	(void)state;
	start_consumer(PEAL_WAIT_FUTEX);
	aim(FAULT_MINE, "recvmsg", ENOMEM);
	assert_int_equal(attach(&failure), -ENOMEM);
	assert_struck("recvmsg");
	assert_string_equal(failure.text,
	                    "cannot hear the server: Cannot allocate memory");
}

/* It waited for the answer to a question that had never gone out, and was told
 * for ever that the server did not answer. */
static void observer_that_could_not_ask_is_owed_no_answer(void **state)
{
	struct peal_server_info info;
	struct peal_observer *observer;

	(void)state;
	start_consumer(PEAL_WAIT_FUTEX);
	assert_int_equal(peal_observer_open(NAME, SOON_NS, NULL, &observer), 0);
	aim(FAULT_MINE, "sendmsg", ENOMEM);
	assert_int_equal(peal_observer_refresh(observer, SOON_NS), -ENOMEM);
	assert_struck("sendmsg");
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_int_equal(info.state, PEAL_SERVER_ALIVE);
	assert_int_equal(peal_observer_refresh(observer, SOON_NS), 0);
	peal_observer_close(observer);
}

static void never(struct peal_request *request, void *arg)
{
	(void)arg;
	peal_request_drop(request);
}

static void nothing(void *arg)
{
	(void)arg;
}

static struct peal_peer peer;

static void remember(struct peal_reactor *reactor, struct peal_peer opened,
                     void *arg)
{
	(void)reactor;
	(void)arg;
	peer = opened;
}

static void errno_is_left_alone_by_an_open_without_memory(void **state)
{
	struct peal_consumer_options takes = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_reactor_options serves = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_reactor *reactor;

	(void)state;
	takes.name = serves.name = NAME;
	serves.on_request = never;
	errno = WALK_ERRNO;
	aim(FAULT_MINE, "aligned_alloc", ENOMEM);
	assert_int_equal(peal_consumer_open(&takes, &consumer), -ENOMEM);
	assert_struck("aligned_alloc");
	aim(FAULT_MINE, "calloc", ENOMEM);
	assert_int_equal(peal_reactor_open(&serves, &reactor), -ENOMEM);
	assert_struck("calloc");
	assert_int_equal(errno, WALK_ERRNO);
}

static void errno_is_left_alone_by_a_push_without_memory(void **state)
{
	struct peal_reactor_options serves = PEAL_REACTOR_OPTIONS_INIT;
	static const uint8_t data[1000];
	struct peal_reactor *reactor;
	int error = 0;

	(void)state;
	wait_mode = PEAL_WAIT_FUTEX;
	serves.name = NAME;
	serves.on_request = never;
	serves.on_opened = remember;
	serves.ring_default_bytes = RING_BYTES;
	assert_int_equal(peal_reactor_open(&serves, &reactor), 0);
	assert_int_equal(prepare_connected(), 0);
	for (peer.generation = 0; peer.generation == 0;)
		peal_reactor_run_once(reactor, SCENE_MS);
	errno = WALK_ERRNO;
	aim(FAULT_MINE, "malloc", ENOMEM);
	/* Until the ring is full. */
	for (int i = 0; i < 10 && error == 0; i++)
		error = peal_reactor_push(reactor, peer, data, sizeof(data));
	assert_int_equal(error, -ENOMEM);
	assert_struck("malloc");
	aim(FAULT_MINE, "malloc", ENOMEM);
	assert_int_equal(peal_reactor_post(reactor, nothing, NULL), -ENOMEM);
	assert_struck("malloc");
	assert_int_equal(errno, WALK_ERRNO);
	close_client(NULL);
	assert_int_equal(peal_reactor_close(reactor), 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, stop_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(door_that_could_not_be_opened_again_opens_later),
		TEST(accept_that_fails_is_tried_again_after_a_while),
		TEST(client_that_cannot_watch_its_socket_has_not_come_back),
		TEST(wake_that_could_not_be_sent_is_sent_again),
		TEST(client_without_memory_does_not_blame_the_server),
		TEST(observer_that_could_not_ask_is_owed_no_answer),
		TEST(errno_is_left_alone_by_an_open_without_memory),
		TEST(errno_is_left_alone_by_a_push_without_memory),
	};

	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
