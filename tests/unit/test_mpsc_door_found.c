/* SPDX-License-Identifier: MIT */
/* What was wrong with the door, and what it costs whom. */
#include "tests/unit/mpsc_fixture.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/clock.h"
#include "mpsc/attach.h"
#include "mpsc/connect.h"
#include "mpsc/seat.h"
#include "shm/pass.h"

#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif

/* listeners --------------------------------------------------------------- */

/* A listener that was shut down has nobody, and stays readable for ever. */
static void listener_that_fails_is_left_alone_for_a_while(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	uint64_t end_ns;
	int count = 0;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/given",
	         own.directory.path);
	assert_int_equal(bind(options.listen_fd, (struct sockaddr *)&address,
	                      sizeof(address)),
	                 0);
	assert_int_equal(listen(options.listen_fd, 1), 0);
	consumer = open_with(&options);
	assert_int_equal(shutdown(options.listen_fd, SHUT_RD), 0);
	end_ns = now_ns() + 250 * MS;
	while (now_ns() < end_ns) {
		count += is_readable(peal_consumer_fd(consumer), 10);
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	}
	/* Twice in 100 ms: the listener, and the time that it is left alone. */
	assert_in_range(count, 1, 10);
	peal_consumer_close(consumer);
	close(options.listen_fd);
	unlink(address.sun_path);
}

#ifndef SO_PASSPIDFD /* Linux 6.5 */
#define SO_PASSPIDFD 76
#endif

/* As systemd makes it with PassCredentials=yes: with each packet came what its
 * reader had no room for, and everybody was turned away. */
static void listener_that_passes_credentials_lets_producers_in(void **state)
{
	static const int passed[] = {SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct attaching early = {.options = &others};
	struct peal_consumer *consumer;
	struct later later;
	const int yes = 1;

	(void)state;
	options.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/given",
	         own.directory.path);
	others.name = address.sun_path;
	assert_int_equal(bind(options.listen_fd, (struct sockaddr *)&address,
	                      sizeof(address)),
	                 0);
	assert_int_equal(listen(options.listen_fd, 8), 0);
	/* The last ones are younger than some kernels. */
	for (size_t i = 0; i < CHECK_COUNT(passed); i++)
		if (setsockopt(options.listen_fd, SOL_SOCKET, passed[i], &yes,
		               sizeof(yes)) != 0)
			assert_int_not_equal(passed[i], SO_PASSCRED);
	/* Who made systemd start us was there before us. */
	later_start(&later, 0, attaching_run, &early);
	assert_true(is_readable(options.listen_fd, 10000));
	consumer = open_with(&options);
	later_join(&later);
	assert_int_equal(early.result, 0);
	peal_producer_detach(attach_with(&others));
	peal_producer_detach(early.producer);
	peal_consumer_close(consumer);
	close(options.listen_fd);
	unlink(address.sun_path);
}

/* memory ------------------------------------------------------------------ */

/* Its own options have neither bytes nor a limit. */
static void what_the_server_cannot_make_is_told_as_the_servers(void **state)
{
	struct peal_producer_options options = producer_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer;
	struct rlimit before, small;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = PEAL_RING_MIN_BYTES;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(peal_producer_attach(&options, PATIENCE_NS, &producer),
	                 -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_non_null(strstr(own.failure.text,
	                       "the server could not make this producer's "
	                       "memory: "));
	peal_consumer_close(consumer);
}

/* users ------------------------------------------------------------------- */

#define CAP 9 /* of one user, where there is one slot */

static int connect_to(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/%s",
	         own.directory.path, name);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Was it told that there is no room? */
static bool is_busy(int fd)
{
	union peal__packet packet;
	int got = peal__pass_receive(fd, &packet, sizeof(packet), NULL, NULL);

	return got > 0 &&
	       peal__wire_check(&packet, (size_t)got) == PEAL__WIRE_ERROR &&
	       packet.error.code == -EBUSY;
}

/* With a cap of 0 there was none: one user had every seat, by saying nothing. */
static void silent_ones_of_one_user_do_not_have_all_seats(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	int fds[CAP + 3], busy_count = 0;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.producer_max = 1;
	consumer = open_with(&options);
	for (size_t i = 0; i < CHECK_COUNT(fds); i++)
		fds[i] = connect_to("words");
	assert_int_equal(peal_consumer_dispatch(consumer), 0);
	for (size_t i = 0; i < CHECK_COUNT(fds); i++) {
		busy_count += is_busy(fds[i]);
		close(fds[i]);
	}
	assert_int_equal(busy_count, CHECK_COUNT(fds) - CAP);
	peal_consumer_close(consumer);
}

/* A server that comes late finds those who gave up before the one who waits. */
static void ones_that_gave_up_are_not_counted(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	int fd;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.producer_max = 1;
	consumer = open_with(&options);
	for (int i = 0; i < CAP; i++)
		close(connect_to("words"));
	fd = connect_to("words");
	for (int i = 0; i < 3; i++)
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	assert_false(is_busy(fd));
	close(fd);
	peal_consumer_close(consumer);
}

#define REFUSED 3

/* Whose bell page does somebody get who attaches as DIRECTORY_UID? 0: nobody's;
 * 1: the server's; REFUSED; more: an error. */
static int attach_as_user(void *unused)
{
	static const struct peal__wish wish = {"words", PEAL__ROLE_PRODUCER,
	                                       PEAL_RING_MIN_BYTES, 0, 0};
	struct peal__connection connection;
	int error;

	(void)unused;
	/* A server that has become this user for good has children like it. */
	if (setresuid(0, 0, 0) == 0 && !directory_become_user())
		return 2;
	error = peal__attach(&wish, peal__deadline_after(PATIENCE_NS), NULL,
	                     &connection);
	if (error < 0)
		return error == -EACCES ? REFUSED : 4;
	return connection.bell_page != NULL;
}

/* As whom a server opens, and as whom it admits; the real one stays root. */
struct serving {
	uid_t opens, admits;
	bool is_listed;   /* the other user */
	bool is_for_good; /* it admits as nobody else any more */
};

static int serve_as(void *argument)
{
	static const uint32_t allowed[] = {DIRECTORY_UID};
	const struct serving *serving = argument;
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	int status;

	options.socket_mode = 0666;
	options.allow_uid = allowed;
	options.allow_uid_count = serving->is_listed;
	if (seteuid(serving->opens) != 0 ||
	    peal_consumer_open(&options, &consumer) != 0 || seteuid(0) != 0)
		return 10;
	if (serving->is_for_good ? setuid(serving->admits) != 0
	                         : seteuid(serving->admits) != 0)
		return 11;
	status = check_in_child(attach_as_user, NULL);
	if (!serving->is_for_good && seteuid(0) != 0)
		return 12;
	return peal_consumer_close(consumer) == 0 ? status : 13;
}

static int serve(uid_t opens, uid_t admits, bool is_listed, bool is_for_good)
{
	struct serving serving = {opens, admits, is_listed, is_for_good};

	return check_in_child(serve_as, &serving);
}

static void user_that_we_are_for_a_moment_is_isolated(void **state)
{
	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be several users");
	assert_int_equal(chmod(own.directory.path, 0777), 0);
	assert_int_equal(serve(0, DIRECTORY_UID, true, false), 0);
	assert_int_equal(serve(DIRECTORY_UID, 0, true, false), 0);
	assert_int_equal(serve(DIRECTORY_UID, DIRECTORY_UID, true, false), 1);
}

/* It was let in although no list has it. */
static void user_that_we_are_for_a_moment_is_not_let_in(void **state)
{
	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be several users");
	assert_int_equal(chmod(own.directory.path, 0777), 0);
	assert_int_equal(serve(0, DIRECTORY_UID, false, false), REFUSED);
	/* Who opened is our own user, whoever we are now. */
	assert_int_equal(serve(DIRECTORY_UID, 0, false, false), 0);
	/* And so is the only one that we still can be. */
	assert_int_equal(serve(0, DIRECTORY_UID, false, true), 0);
}

/* pids -------------------------------------------------------------------- */

/* A process that may share our descriptors, or have this pid. */
static pid_t start(uint64_t flags, pid_t wanted)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal,
			stack, stack_size, tls, set_tid, set_tid_size, cgroup;
	} arguments = {
		.flags = flags,
		.exit_signal = SIGCHLD,
		.set_tid = wanted != 0 ? (uint64_t)(uintptr_t)&wanted : 0,
		.set_tid_size = wanted != 0,
	};

	return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

/* Who connected has died, and its pid is a stranger's before the server comes to
 * look: what becomes of the stranger is nothing to it. */
static void pid_that_was_used_again_is_not_watched(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	struct peal__fork_fd socket;
	bool had_gone;
	pid_t pid, stranger;
	int status, fd;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	consumer = open_with(&options);
	pid = start(CLONE_FILES, 0);
	if (pid < 0) {
		peal_consumer_close(consumer);
		CHECK_SKIP("there is no clone3 here");
	}
	if (pid == 0)
		_exit(peal__connect("words", PEAL_FOREVER, NULL, &socket) == 0
		              ? socket.fd
		              : 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	fd = WEXITSTATUS(status); /* it is in the table of us both */
	assert_true(WIFEXITED(status) && fd > 2);
	stranger = start(0, pid);
	if (stranger == 0)
		for (;;)
			pause();
	if (stranger > 0) {
		assert_int_equal(stranger, pid);
		for (int i = 0; i < 3; i++)
			peal_consumer_dispatch(consumer);
		had_gone = peal__has_hung_up(fd);
		kill(stranger, SIGKILL);
		assert_int_equal(waitpid(stranger, NULL, 0), stranger);
		for (int i = 0; i < 3; i++)
			peal_consumer_dispatch(consumer);
		assert_int_equal(peal__has_hung_up(fd), had_gone);
	}
	close(fd);
	peal_consumer_close(consumer);
	if (stranger < 0)
		CHECK_SKIP("a pid cannot be chosen here");
}

/* A server in a namespace of pids, where who is outside has none. */
static int serve_until_one_dies(void)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer_stats stats = {0};
	struct peal_consumer *consumer;
	uint64_t end_ns = now_ns() + 10 * SECOND;

	options.wait_mode = PEAL_WAIT_FD;
	if (getpid() != 1 || peal_consumer_open(&options, &consumer) != 0)
		return 1;
	while (stats.died_count == 0 && now_ns() < end_ns) {
		peal_consumer_dispatch(consumer);
		if (peal_consumer_stats(consumer, &stats) != 0)
			return 2;
		sleep_ns(MS);
	}
	if (peal_consumer_close(consumer) != 0)
		return 3;
	return stats.died_count == 1 ? 0 : 4;
}

static bool kernel_has_peer_pidfds(void)
{
	int pair[2], fd = -1;
	socklen_t bytes = sizeof(fd);
	bool has;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0)
		return false;
	has = getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &bytes) == 0;
	close(pair[0]);
	close(pair[1]);
	if (has)
		close(fd);
	return has;
}

/* Its socket stays open: nothing but its death tells that it has died. */
static void peer_whose_pid_means_nothing_here_is_watched(void **state)
{
	static const struct peal__wish wish = {"words", PEAL__ROLE_PRODUCER,
	                                       PEAL_RING_MIN_BYTES, 0, 0};
	struct peal__connection connection;
	pid_t server, client;
	int status, fd;

	(void)state;
	if (!kernel_has_peer_pidfds())
		CHECK_SKIP("the kernel is older than SO_PEERPIDFD");
	server = start(CLONE_NEWPID, 0);
	if (server == 0)
		_exit(serve_until_one_dies());
	if (server < 0)
		CHECK_SKIP("no pid namespaces here");
	client = start(CLONE_FILES, 0);
	if (client == 0) {
		do
			status = peal__attach(&wish,
			                      peal__deadline_after(PATIENCE_NS),
			                      NULL, &connection);
		while (status == -ECONNREFUSED || status == -ENOENT);
		_exit(status == 0 ? connection.socket.fd : 0);
	}
	assert_int_equal(waitpid(client, &status, 0), client);
	fd = WEXITSTATUS(status);
	assert_true(WIFEXITED(status) && fd > 2);
	assert_int_equal(waitpid(server, &status, 0), server);
	close(fd);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_the_server_cannot_make_is_told_as_the_servers),
		TEST(user_that_we_are_for_a_moment_is_isolated),
		TEST(user_that_we_are_for_a_moment_is_not_let_in),
		TEST(silent_ones_of_one_user_do_not_have_all_seats),
		TEST(ones_that_gave_up_are_not_counted),
		TEST(listener_that_fails_is_left_alone_for_a_while),
		TEST(pid_that_was_used_again_is_not_watched),
		TEST(peer_whose_pid_means_nothing_here_is_watched),
		TEST(listener_that_passes_credentials_lets_producers_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
