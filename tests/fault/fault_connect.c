/* SPDX-License-Identifier: MIT */
/*
 * Attaching and connecting, leaving, and coming back, while calls of the client
 * fail, and then while calls of the server do.
 *
 *	the test's thread                    server
 *	  attach, use, detach  <-- ring -->    a thread that serves, and in futex
 *	  connect, call, close                 mode the one of admission
 *	  FAULT_MINE                         FAULT_OTHERS
 *
 * Whoever could not come in was told why, and comes in the next time.
 *
 *	./test_fault_connect [--full]
 */
#include "tests/fault/door.h"

/* Until the server has let go of it, too. */
static int wait_for_farewell(void)
{
	uint64_t end_ns = scene_now_ns() + PATIENCE_NS;

	while (scene_count_entries("/proc/self/fd") > fds_before)
		if (scene_now_ns() > end_ns)
			return WALK_DID_NOT_END;
	errno = WALK_ERRNO;
	return 0;
}

static int see_producer_off(struct peal_failure *failure)
{
	return detach(failure) + wait_for_farewell();
}

static int see_client_off(struct peal_failure *failure)
{
	return close_client(failure) + wait_for_farewell();
}

/* coming back -------------------------------------------------------------- */

/* The server goes and another one comes, and the client has been told. */
static int prepare_lost(void)
{
	struct peal_message answer;
	int error;

	if (prepare_connected() != 0)
		return -1;
	stop_reactor();
	if (start_reactor(PEAL_WAIT_FUTEX) != 0)
		return walk_say("no other server");
	error = peal_client_call(client, "x", 1, PATIENCE_NS, &answer);
	return error == -ESHUTDOWN ? 0 : walk_say("the loss was %d", error);
}

static int run_reconnect(struct peal_failure *failure)
{
	struct peal_message answer;

	(void)failure;
	return peal_client_call(client, "x", 1, PATIENCE_NS, &answer);
}

/* Whatever it came to: the handle works again, and learns of the next loss. */
static int call_until_it_works(int result)
{
	struct peal_message answer;
	int error = result, tries = 0;

	for (; error != 0 && tries < 10; tries++)
		error = peal_client_call(client, "x", 1, PATIENCE_NS, &answer);
	if (error != 0)
		walk_say("it never came back: %d", error);
	stop_reactor();
	if (start_reactor(PEAL_WAIT_FUTEX) != 0)
		return walk_say("no other server");
	/* In fd mode asleep, and without anything to ask: the socket tells
	 * it. */
	error = wait_mode == PEAL_WAIT_FD
	                ? peal_client_recv(client, 2 * SCENE_S, &answer)
	                : peal_client_call(client, "x", 1, 0, &answer);
	if (error != -ESHUTDOWN)
		walk_say("the next loss was %d", error);
	close_client(NULL);
	return walk_word[0] == '\0' ? 0 : -1;
}

/* walking ------------------------------------------------------------------ */

/* What the server told it, in its own words, or that it hung up. */
static const struct walk_exception turned_away[] = {
	{NULL, 0, -ECONNRESET},
	{NULL, 0, -ENOMEM},
	{"accept4", EMFILE, -ETIMEDOUT}, /* from then on */
	{NULL, 0, 0},
};

/* What is not known of the server is not believed. */
static const struct walk_exception disbelieved[] = {
	{"getsockopt", ENOMEM, -EPROTO},
	{"lstat64", ENOMEM, -ECONNREFUSED},
	{NULL, 0, 0},
};

static const struct operation operations[] = {
	{"producer_attach", FAULT_MINE, true, false, disbelieved, NULL, attach,
         send_and_detach, NULL},
	{"client_connect", FAULT_MINE, true, false, disbelieved, NULL,
         connect_client, call_and_close, NULL},
	{"client_connect_again", FAULT_MINE, false, false, disbelieved,
         prepare_lost, run_reconnect, call_until_it_works, NULL},
	{"admission_of_a_producer", FAULT_OTHERS, true, false, turned_away,
         NULL, attach, send_and_detach, NULL},
	{"admission_of_a_client", FAULT_OTHERS, true, false, turned_away, NULL,
         connect_client, call_and_close, NULL},
	{"producer_detach", FAULT_MINE, false, true, NULL, prepare_attached,
         detach, NULL, NULL},
	{"client_close", FAULT_MINE, false, true, NULL, prepare_connected,
         close_client, NULL, NULL},
	{"farewell_of_a_producer", FAULT_OTHERS, false, true, NULL,
         prepare_attached, see_producer_off, NULL, NULL},
	{"farewell_of_a_client", FAULT_OTHERS, false, true, NULL,
         prepare_connected, see_client_off, NULL, NULL},
};

/* How the server is, and whether the kernel is an old one. */
#define OLD_KERNEL 1
#define LOCKED 2

struct way {
	int operation;
	uint32_t server_mode, mode;
	const char *strikes;
	uint32_t flags;
};

static void walk_way(void **state)
{
	const struct way *way = *state;
	const struct operation *operation = &operations[way->operation];
	static struct operation own;
	const void *walked = &own;

	own = operations[way->operation];
	own.strikes = way->strikes;
	wait_mode = way->mode;
	fault_has_no_peerpidfd = (way->flags & OLD_KERNEL) != 0;
	server.memory_flags = way->flags & LOCKED ? PEAL_MEMORY_LOCK : 0;
	if (strstr(operation->name, "client") != NULL)
		assert_int_equal(start_reactor(way->server_mode), 0);
	else
		start_consumer(way->server_mode);
	every_place_that_fails_is_told_and_leaves_nothing((void **)&walked);
}

#define FUTEX PEAL_WAIT_FUTEX
#define FD PEAL_WAIT_FD
#define WAY(name, index, server_mode, mode, ...)              \
	{                                                     \
		name, walk_way, NULL, stop_all, &(struct way) \
		{                                             \
			index, server_mode, mode, __VA_ARGS__ \
		}                                             \
	}

/* What has to fail at least once. */
#define REACH \
	"socket lstat64 stat connect getrandom sendmsg recvmsg getsockopt "
#define COME REACH "fstat64 fstatfs64 mmap madvise all(ENOMEM) all(EMFILE) "
#define ADMIT                                                           \
	"accept4 getsockopt epoll_ctl recvmsg memfd_create "            \
	"ftruncate64 fallocate64 fcntl(F_ADD_SEALS) fstat64 fstatfs64 " \
	"mmap madvise getrandom sendmsg all(ENOMEM) all(EMFILE) "

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WAY("producer_attach", 0, FUTEX, FUTEX, COME "calloc strdup",
	            0),
		WAY("producer_attach_in_fd_mode", 0, FUTEX, FD,
	            COME "calloc strdup", 0),
		WAY("client_connect", 1, FUTEX, FUTEX, COME "calloc strdup", 0),
		WAY("client_connect_in_fd_mode", 1, FUTEX, FD,
	            COME "calloc strdup eventfd epoll_create1 epoll_ctl", 0),
		WAY("client_connect_again", 2, FUTEX, FUTEX, COME, 0),
		WAY("client_connect_again_in_fd_mode", 2, FUTEX, FD,
	            COME "epoll_ctl", 0),
		WAY("admission_of_a_producer", 3, FUTEX, FUTEX,
	            ADMIT "getsockopt(SO_PEERPIDFD)", 0),
		WAY("admission_of_a_producer_in_fd_mode", 3, FD, FUTEX,
	            ADMIT "getsockopt(SO_PEERPIDFD)", 0),
		WAY("admission_of_a_client", 4, FUTEX, FUTEX,
	            ADMIT "getsockopt(SO_PEERPIDFD)", 0),
		WAY("admission_of_a_client_in_fd_mode", 4, FD, FD,
	            ADMIT "getsockopt(SO_PEERPIDFD)", 0),
		WAY("admission_on_an_old_kernel", 3, FUTEX, FUTEX,
	            ADMIT "pidfd_open", OLD_KERNEL),
		WAY("admission_with_locked_memory", 3, FUTEX, FUTEX,
	            ADMIT "mlock", LOCKED),
		WAY("producer_detach", 5, FUTEX, FUTEX, "sendmsg", 0),
		WAY("client_close_in_fd_mode", 6, FUTEX, FD, "sendmsg", 0),
		WAY("farewell_of_a_producer", 7, FUTEX, FUTEX,
	            "recvmsg epoll_wait write", 0),
		WAY("farewell_of_a_client_in_fd_mode", 8, FD, FD,
	            "recvmsg epoll_wait", 0),
	};

	fault_is_full = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
