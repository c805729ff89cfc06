/* SPDX-License-Identifier: MIT */
/*
 * The door of a server: whom it lets in, and what it does for those who only
 * stand there. It takes somebody who speaks the protocol by hand.
 */
#include "tests/unit/by_hand.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "mpsc/attach.h"
#include "mpsc/connect.h"
#include "mpsc/segment.h"
#include "peal/ring.h"

#define STRANGE_UID 4321

/* users ------------------------------------------------------------------- */

/* With mounts of its own, where the overflow uid is another one. */
static bool become_strange(void)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/uid", own.directory.path);
	directory_write(path, "4321\n");
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(path, "/proc/sys/kernel/overflowuid", NULL, MS_BIND,
	             NULL) == 0;
}

static int attach_as(void *argument)
{
	const uint32_t *uid = argument;
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;
	int error;

	if (setgid(*uid) != 0 || setuid(*uid) != 0)
		return 3;
	error = peal_producer_attach(&options, PATIENCE_NS, &producer);
	if (error == -EACCES)
		return strstr(own.failure.text, "user 4321 may be anybody") !=
		                       NULL
		               ? 1
		               : 2;
	return error == 0 ? 0 : 4;
}

static int serve_strangely(void *unused)
{
	static const uint32_t allowed[] = {65534, STRANGE_UID};
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	uint32_t uids[] = {STRANGE_UID, 65534};
	int strange, usual;

	(void)unused;
	if (!become_strange())
		return CHECK_NOT_HERE;
	options.socket_mode = 0666;
	options.allow_uid = allowed;
	options.allow_uid_count = 2;
	if (peal_consumer_open(&options, &consumer) != -EINVAL)
		return 11;
	options.allow_uid_count = 1;
	if (peal_consumer_open(&options, &consumer) != 0)
		return 10;
	strange = check_in_child(attach_as, &uids[0]);
	usual = check_in_child(attach_as, &uids[1]);
	peal_consumer_close(consumer);
	return strange != 1 ? 20 + strange : usual != 0 ? 30 + usual : 0;
}

static void overflow_user_is_refused_whatever_its_number_is(void **state)
{
	char path[200];
	int status;

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be several users");
	assert_int_equal(chmod(own.directory.path, 0755), 0);
	status = check_in_child(serve_strangely, NULL);
	snprintf(path, sizeof(path), "%s/uid", own.directory.path);
	unlink(path);
	if (status == CHECK_NOT_HERE)
		CHECK_SKIP("mounts of its own are not to be had here");
	assert_int_equal(status, 0);
}

/* Silent for a second each, they would take every seat there is. */
static void user_at_its_cap_is_turned_away_at_accept(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_producer *producer, *second;
	struct peal_consumer *consumer;
	union peal__packet packet;
	int silent[9];

	(void)state;
	options.producer_per_uid_max = 2;
	consumer = open_with(&options);
	producer = attach();
	/* Room for one producer more, and eight who look. */
	for (size_t i = 0; i < CHECK_COUNT(silent); i++)
		silent[i] = hand_connect();
	for (int i = 0; i < 20; i++) {
		int fd = hand_connect(), type;

		assert_true(is_readable(fd, 500));
		type = hand_receive(fd, &packet);
		assert_int_equal(type, PEAL__WIRE_ERROR);
		assert_int_equal(packet.error.code, -EBUSY);
		close(fd);
	}
	close(silent[0]);
	/* A place is free as soon as it is seen to be. */
	while (peal_producer_attach(&others, PATIENCE_NS, &second) != 0)
		sched_yield();
	peal_producer_detach(second);
	for (size_t i = 1; i < CHECK_COUNT(silent); i++)
		close(silent[i]);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* a server that comes late ------------------------------------------------ */

#define LATE_NS (1200 * MS) /* beyond the second that a handshake has */
#define EVENTS_AT_ONCE 64   /* as in admission.c */

static void hand_hello(int fd)
{
	union peal__packet packet = {
		.hello = {.abi = PEAL__WIRE_ABI, .role = PEAL__ROLE_PRODUCER}};

	hand_send(fd, &packet, PEAL__WIRE_HELLO);
}

/* Every packet was there in time; only the server was busy elsewhere. */
static void loop_that_comes_late_admits_who_has_spoken(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	union peal__packet packet;
	int fd;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	fd = hand_connect();
	hand_hello(fd);
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	sleep_ns(LATE_NS);
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	assert_int_equal(hand_receive(fd, &packet), PEAL__WIRE_WELCOME);
	hand_send(fd, &packet, PEAL__WIRE_READY);
	sleep_ns(LATE_NS);
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	assert_int_equal(stats_of(consumer).attached_count, 1);
	assert_int_equal(stats_of(consumer).refused_count, 0);
	close(fd);
	peal_consumer_close(consumer);
}

static int serve_and_sleep(uint32_t *is_open)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;

	alarm(60);
	if (peal_consumer_open(&options, &consumer) != 0)
		return 1;
	flag_set(is_open);
	for (;;)
		pause();
}

/* A sleep in epoll that a stop and a continue cut short has no events. */
static void stopped_server_admits_who_was_ready_meanwhile(void **state)
{
	uint32_t *is_open = shared_open(sizeof(*is_open));
	union peal__packet packet;
	int fd, type;
	pid_t pid;

	(void)state;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(serve_and_sleep(is_open));
	assert_true(flag_wait(is_open));
	fd = hand_connect();
	hand_hello(fd);
	assert_true(is_readable(fd, 10000));
	assert_int_equal(hand_receive(fd, &packet), PEAL__WIRE_WELCOME);
	sleep_ns(100 * MS); /* it is to sleep in epoll again */
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	hand_send(fd, &packet, PEAL__WIRE_READY);
	sleep_ns(LATE_NS);
	kill(pid, SIGCONT);
	type = is_readable(fd, 300) ? hand_receive(fd, &packet) : 0;
	close(fd);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	peal_consumer_close(open_consumer()); /* it takes the names away */
	munmap(is_open, sizeof(*is_open));
	assert_int_equal(type, 0);
}

/* More than are heard at once, so that the last ones are overdue by then. */
static void ready_one_is_in_time_also_behind_many(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	union peal__packet packet;
	int fds[EVENTS_AT_ONCE + 16];

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.producer_max = CHECK_COUNT(fds);
	consumer = open_with(&options);
	for (size_t i = 0; i < CHECK_COUNT(fds); i++) {
		fds[i] = hand_connect();
		hand_hello(fds[i]);
	}
	while (is_readable(peal_consumer_fd(consumer), 0))
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	for (size_t i = 0; i < CHECK_COUNT(fds); i++) {
		assert_int_equal(hand_receive(fds[i], &packet),
		                 PEAL__WIRE_WELCOME);
		hand_send(fds[i], &packet, PEAL__WIRE_READY);
	}
	sleep_ns(LATE_NS);
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	assert_int_equal(stats_of(consumer).attached_count, CHECK_COUNT(fds));
	for (size_t i = 0; i < CHECK_COUNT(fds); i++)
		close(fds[i]);
	peal_consumer_close(consumer);
}

/* The timer is one of as many events as are taken at once. */
static void silent_one_is_late_also_among_many_who_speak(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	union peal__packet packet;
	int fds[EVENTS_AT_ONCE];

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.producer_max = EVENTS_AT_ONCE;
	consumer = open_with(&options);
	for (int i = 0; i < EVENTS_AT_ONCE; i++)
		fds[i] = hand_connect();
	while (is_readable(peal_consumer_fd(consumer), 0))
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	for (int i = 1; i < EVENTS_AT_ONCE; i++)
		hand_hello(fds[i]);
	sleep_ns(LATE_NS);
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	for (int i = 1; i < EVENTS_AT_ONCE; i++)
		assert_int_equal(hand_receive(fds[i], &packet),
		                 PEAL__WIRE_WELCOME);
	assert_int_equal(hand_receive(fds[0], &packet), PEAL__WIRE_ERROR);
	assert_int_equal(packet.error.code, -ETIMEDOUT);
	for (int i = 0; i < EVENTS_AT_ONCE; i++)
		close(fds[i]);
	peal_consumer_close(consumer);
}

/* observers --------------------------------------------------------------- */

static void questions_that_come_together_get_one_answer(void **state)
{
	struct peal_consumer_options options = consumer_options();
	union peal__packet packet = {
		.hello = {.abi = PEAL__WIRE_ABI, .role = PEAL__ROLE_OBSERVER}};
	struct peal_consumer *consumer;
	int fd;

	(void)state;
	/* It reads when it dispatches, so what comes together is ours. */
	options.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	fd = hand_connect();
	hand_send(fd, &packet, PEAL__WIRE_HELLO);
	while (hand_receive(fd, &packet) != PEAL__WIRE_WELCOME)
		peal_consumer_dispatch(consumer);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 10; i++)
			hand_send(fd, &packet, PEAL__WIRE_STATUS);
		peal_consumer_dispatch(consumer);
		assert_int_equal(hand_receive(fd, &packet), PEAL__WIRE_STATUS);
		assert_int_equal(hand_receive(fd, &packet), -EAGAIN);
	}
	close(fd);
	peal_consumer_close(consumer);
}

/* those who leave --------------------------------------------------------- */

/* What the parent, the child and the grandchild have seen of each other. */
struct family {
	uint32_t has_published, may_speak, has_spoken, may_go;
};

/* Attach, publish, and leave a child behind that has a copy of the socket. */
static int be_a_parent(struct family *family)
{
	static const struct peal__wish wish = {"words", PEAL__ROLE_PRODUCER,
	                                       PEAL_RING_MIN_BYTES, 0, 0};
	struct peal__connection connection;
	struct peal_ring_tx tx;
	void *data;
	int copy;

	alarm(60);
	if (peal__attach(&wish, PEAL_FOREVER, NULL, &connection) != 0)
		return 1;
	peal_ring_tx_init(&tx,
	                  peal__segment_data(connection.segment,
	                                     &connection.shape,
	                                     PEAL__RING_REQUEST),
	                  connection.shape.rings[PEAL__RING_REQUEST].bytes,
	                  connection.shape.rings[PEAL__RING_REQUEST].start,
	                  &connection.segment->request_released);
	if (peal_ring_claim(&tx, 4, 0, 0, &data) != 0)
		return 2;
	memcpy(data, "last", 4);
	peal_ring_publish(&tx);
	/* The connection's own closes itself in a forked child. */
	copy = dup(connection.socket.fd);
	if (fork() == 0) {
		alarm(60);
		if (flag_wait(&family->may_speak) &&
		    send(copy, "??", 2, MSG_NOSIGNAL) == 2)
			flag_set(&family->has_spoken);
		flag_wait(&family->may_go);
		_exit(0);
	}
	flag_set(&family->has_published);
	for (;;)
		pause();
}

/* Both are told to the server at once, first the death. */
static void word_of_a_child_left_behind_frees_nothing(void **state)
{
	struct family *family = shared_open(sizeof(*family));
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	struct peal_message message;
	int mapping_count;
	pid_t pid;

	(void)state;
	/* It hears of deaths when it dispatches, so when is ours to say. */
	options.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(be_a_parent(family));
	while (!flag_is_set(&family->has_published))
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	message = next_message(consumer);
	mapping_count = count_mappings();
	/* Nothing of before is to come ahead of the death. */
	while (is_readable(peal_consumer_fd(consumer), 0))
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	flag_set(&family->may_speak);
	assert_true(flag_wait(&family->has_spoken));
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	assert_int_equal(stats_of(consumer).died_count, 1);
	/* Somebody holds a view. */
	assert_int_equal(count_mappings(), mapping_count);
	assert_text(&message, "last");
	peal_consumer_release(consumer, &message);
	expect_nothing(consumer);
	while (is_readable(peal_consumer_fd(consumer), 0))
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	assert_true(count_mappings() < mapping_count);
	flag_set(&family->may_go);
	peal_consumer_close(consumer);
	munmap(family, sizeof(*family));
}

/* A signal would make poll(2) fail now and then; no descriptors at all do so
 * every time. */
static void errno_stays_when_a_look_at_the_server_fails(void **state)
{
	struct rlimit before, none;
	int pair[2], found_errno;
	bool has_gone;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	errno = OUR_ERRNO;
	has_gone = peal__has_hung_up(pair[0]);
	found_errno = errno;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_false(has_gone);
	assert_int_equal(found_errno, OUR_ERRNO);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(overflow_user_is_refused_whatever_its_number_is),
		TEST(user_at_its_cap_is_turned_away_at_accept),
		TEST(loop_that_comes_late_admits_who_has_spoken),
		TEST(stopped_server_admits_who_was_ready_meanwhile),
		TEST(ready_one_is_in_time_also_behind_many),
		TEST(silent_one_is_late_also_among_many_who_speak),
		TEST(questions_that_come_together_get_one_answer),
		TEST(word_of_a_child_left_behind_frees_nothing),
		TEST(errno_stays_when_a_look_at_the_server_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
