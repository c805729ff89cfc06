/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing a server, with every call that could fail having failed:
 * a name that could not be had is free again, and the next open has it.
 *
 *	./test_fault_open [--full]   also each file of /sys that is read, ...
 */
#include "tests/fault/walk.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cpu.h"
#include "peal/client.h"

#define NAME "opened"
#define SLOTS 4
#define RING_BYTES 4096 /* to zero more of it takes long */
#define PATIENCE_NS (20 * SCENE_S)

static struct peal_consumer *consumer;
static struct peal_reactor *reactor;
static int listen_fd = -1;

/* using -------------------------------------------------------------------- */

static void *produce_one(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	int *result = arg;

	options.name = listen_fd >= 0 ? "./listener" : NAME;
	*result = peal_producer_attach(&options, PATIENCE_NS, &producer);
	if (*result < 0)
		return NULL;
	*result = peal_producer_send(producer, "x", 1, PATIENCE_NS);
	peal_producer_detach(producer);
	return NULL;
}

static int take_one(void)
{
	uint64_t end_ns = scene_now_ns() + PATIENCE_NS;
	struct peal_message message;
	pthread_t thread;
	int sent;

	if (pthread_create(&thread, NULL, produce_one, &sent) != 0)
		return walk_say("no thread");
	while (peal_consumer_peek(consumer, &message) != 0 &&
	       scene_now_ns() < end_ns)
		peal_consumer_wait(consumer, 100 * SCENE_MS);
	peal_consumer_release(consumer, &message);
	/* In fd mode the door is opened by nobody else. */
	while (pthread_tryjoin_np(thread, NULL) != 0)
		peal_consumer_wait(consumer, SCENE_MS);
	return sent == 0 ? 0 : walk_say("the producer: %d", sent);
}

static void *call_one(void *arg)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_message answer;
	struct peal_client *client;
	int *result = arg;

	options.name = NAME;
	*result = peal_client_connect(&options, PATIENCE_NS, &client);
	if (*result < 0)
		return NULL;
	*result = peal_client_call(client, "x", 1, PATIENCE_NS, &answer);
	peal_client_close(client);
	return NULL;
}

static int answer_one(void)
{
	pthread_t thread;
	int called;

	if (pthread_create(&thread, NULL, call_one, &called) != 0)
		return walk_say("no thread");
	while (pthread_tryjoin_np(thread, NULL) != 0)
		peal_reactor_run_once(reactor, SCENE_MS);
	return called == 0 ? 0 : walk_say("the client: %d", called);
}

/*
 * A lock that could not be taken stays: it may be somebody else's by now, and
 * without its name it would protect nothing. What could not be removed stays as
 * well. The next open has it.
 */
static bool could_not_remove(void)
{
	return walk_fault.name != NULL &&
	       strcmp(walk_fault.name, "unlink") == 0;
}

static bool may_leave_lock(void)
{
	return walk_fault.name != NULL &&
	       (strcmp(walk_fault.name, "fcntl(F_OFD_SETLK)") == 0 ||
	        strcmp(walk_fault.name, "fstat64") == 0 ||
	        strcmp(walk_fault.name, "lstat64") == 0);
}

/* Where it cannot be told whose they are, both stay. */
static bool may_leave_both(void)
{
	return walk_fault.name != NULL &&
	       (strcmp(walk_fault.name, "fstat64") == 0 ||
	        strcmp(walk_fault.name, "lstat64") == 0 ||
	        fault_has(&walk_fault, ENOMEM));
}

static int look_at_names(void)
{
	const char *names = scene_names();

	return names[0] == '\0' || could_not_remove() ||
	                       (may_leave_lock() &&
	                        strcmp(names, NAME ".lock ") == 0) ||
	                       (may_leave_both() &&
	                        strcmp(names, NAME " " NAME ".lock ") == 0)
	               ? 0
	               : walk_say("there is still %s", names);
}

static int close_consumer(int result)
{
	int error = 0;

	if (result == 0) {
		error = take_one();
		if (peal_consumer_close(consumer) != 0)
			error = walk_say("it could not be closed");
	} else if (consumer != NULL) {
		error = walk_say("it was handed out");
	}
	consumer = NULL;
	return error == 0 ? look_at_names() : error;
}

/* A worker that has answered may not be back yet. */
static int close_patiently(void)
{
	int error;

	while ((error = peal_reactor_close(reactor)) == -EBUSY)
		sched_yield();
	return error;
}

static int close_reactor(int result)
{
	int error = 0;

	if (result == 0) {
		error = answer_one();
		if (close_patiently() != 0)
			error = walk_say("it could not be closed");
	} else if (reactor != NULL) {
		error = walk_say("it was handed out");
	}
	reactor = NULL;
	return error == 0 ? look_at_names() : error;
}

/* opening ------------------------------------------------------------------ */

static int open_consumer(struct peal_failure *failure)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = NAME;
	options.producer_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.ret_failure = failure;
	return peal_consumer_open(&options, &consumer);
}

static int open_consumer_with_fd(struct peal_failure *failure)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = NAME;
	options.producer_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.wait_mode = PEAL_WAIT_FD;
	options.ret_failure = failure;
	return peal_consumer_open(&options, &consumer);
}

static int open_consumer_with_all_there_is(struct peal_failure *failure)
{
	static const uint32_t ids[] = {1, 2, 3};
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = NAME;
	options.producer_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.ret_failure = failure;
	options.numa_node = 0;
	options.allow_uid = options.allow_gid = ids;
	options.allow_uid_count = options.allow_gid_count = CHECK_COUNT(ids);
	options.memory_flags = PEAL_MEMORY_PREFAULT;
	return peal_consumer_open(&options, &consumer);
}

static int open_consumer_on_listener(struct peal_failure *failure)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = NAME;
	options.producer_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.listen_fd = listen_fd;
	options.ret_failure = failure;
	return peal_consumer_open(&options, &consumer);
}

static int make_listener(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(address.sun_path, "./listener");
	listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (listen_fd < 0 || chdir(scene_directory) != 0 ||
	    bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return walk_say("no listener");
	return listen(listen_fd, 1);
}

static int close_listener(int result)
{
	close(listen_fd);
	unlink("./listener");
	result = close_consumer(result);
	listen_fd = -1;
	return result;
}

/* It is used before its listener is closed. */
static int use_and_close_listener(int result)
{
	int error = result == 0 ? take_one() : 0;

	if (result == 0)
		peal_consumer_close(consumer);
	consumer = NULL;
	return close_listener(-1) != 0 ? -1 : error;
}

static void echo(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
}

static int open_reactor(struct peal_failure *failure)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;

	options.name = NAME;
	options.client_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.on_request = echo;
	options.worker_count = 2;
	options.ret_failure = failure;
	return peal_reactor_open(&options, &reactor);
}

static int open_reactor_with_fd(struct peal_failure *failure)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;

	options.name = NAME;
	options.client_max = SLOTS;
	options.ring_default_bytes = RING_BYTES;
	options.on_request = echo;
	options.wait_mode = PEAL_WAIT_FD;
	options.worker_count = 2;
	options.ret_failure = failure;
	return peal_reactor_open(&options, &reactor);
}

/* closing ------------------------------------------------------------------ */

static struct peal_producer *producer;
static struct peal_client *client;

static int prepare_consumer(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_failure failure;

	options.name = NAME;
	options.ret_failure = &failure;
	if (open_consumer(&failure) < 0 ||
	    peal_producer_attach(&options, PATIENCE_NS, &producer) < 0 ||
	    peal_producer_send(producer, "x", 1, 0) < 0)
		return walk_say("%s", failure.text);
	return 0;
}

static int run_consumer_close(struct peal_failure *failure)
{
	(void)failure;
	return peal_consumer_close(consumer);
}

/* Who was attached is told the truth. */
static int look_at_producer(int result)
{
	int error = peal_producer_send(producer, "x", 1, 0);

	(void)result;
	consumer = NULL;
	peal_producer_detach(producer);
	if (error != -ESHUTDOWN)
		return walk_say("the producer got %d", error);
	return look_at_names();
}

static int prepare_reactor(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_failure failure;

	options.name = NAME;
	options.ret_failure = &failure;
	if (open_reactor(&failure) < 0 ||
	    peal_client_connect(&options, PATIENCE_NS, &client) < 0 ||
	    peal_client_send(client, "x", 1, PEAL_FOREVER, 0, NULL) < 0)
		return walk_say("%s", failure.text);
	while (peal_reactor_run_once(reactor, 10 * SCENE_MS) != 0)
		;
	return 0;
}

static int run_reactor_close(struct peal_failure *failure)
{
	(void)failure;
	return close_patiently();
}

/* Its request ended once: with the answer, or failed. */
static int look_at_client(int result)
{
	struct peal_message answer;
	int first = peal_client_recv(client, PATIENCE_NS, &answer);
	int second = peal_client_recv(client, PATIENCE_NS, &answer);

	(void)result;
	reactor = NULL;
	peal_client_close(client);
	if (first != 0 || second != -ESHUTDOWN)
		return walk_say("the client got %d, %d", first, second);
	return look_at_names();
}

/* stepping aside ----------------------------------------------------------- */

static cpu_set_t all_cpus;

static int leave_processor(struct peal_failure *failure)
{
	(void)failure;
	return peal__cpu_leave(sched_getcpu());
}

static int take_all_processors(int result)
{
	(void)result;
	return sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

/* What cannot be asked is none of what is wanted. */
static const struct walk_exception no_listener[] = {
	{"getsockopt", ENOMEM, -EINVAL},
	{NULL, 0, 0},
};

/* What has to fail at least once. */
#define REGIONS                                                              \
	"aligned_alloc calloc memfd_create ftruncate64 fallocate64 fstat64 " \
	"fstatfs64 mmap madvise fcntl(F_ADD_SEALS) open "
#define NAMES                                                                 \
	"mkdir lstat64 stat fcntl(F_OFD_SETLK) socket bind setsockopt chmod " \
	"listen rename "
#define DOOR "epoll_create1 eventfd timerfd_create epoll_ctl "
#define THREAD "pthread_create "
#define ALL "all(ENOMEM) all(EMFILE) "

/* libnuma asks this too before it places anything. */
static bool has_nodes(void)
{
	return syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0) == 0;
}

int main(int argc, char **argv)
{
	static char with_all[400] = REGIONS NAMES DOOR THREAD ALL;
	static const struct operation operations[] = {
		{"consumer_open", FAULT_MINE, true, false, NULL, NULL,
	         open_consumer, close_consumer, REGIONS NAMES DOOR THREAD ALL},
		{"consumer_open_in_fd_mode", FAULT_MINE, true, false, NULL,
	         NULL, open_consumer_with_fd, close_consumer,
	         REGIONS NAMES DOOR ALL},
		{"consumer_open_with_all", FAULT_MINE, true, false, NULL, NULL,
	         open_consumer_with_all_there_is, close_consumer, with_all},
		{"consumer_open_on_listener", FAULT_MINE, true, false,
	         no_listener, make_listener, open_consumer_on_listener,
	         use_and_close_listener,
	         REGIONS DOOR THREAD ALL
	         "getsockopt fcntl(F_DUPFD_CLOEXEC) listen"},
		{"reactor_open", FAULT_MINE, true, false, NULL, NULL,
	         open_reactor, close_reactor, REGIONS NAMES DOOR THREAD ALL},
		{"reactor_open_in_fd_mode", FAULT_MINE, true, false, NULL, NULL,
	         open_reactor_with_fd, close_reactor,
	         REGIONS NAMES DOOR THREAD ALL},
		{"consumer_close", FAULT_MINE, false, true, NULL,
	         prepare_consumer, run_consumer_close, look_at_producer,
	         "write sendmsg fstat64 lstat64 unlink all(ENOMEM)"},
		{"reactor_close", FAULT_MINE, false, true, NULL,
	         prepare_reactor, run_reactor_close, look_at_client,
	         "write sendmsg fstat64 lstat64 unlink all(ENOMEM)"},
		{"step_aside", FAULT_MINE, false, false, NULL, NULL,
	         leave_processor, take_all_processors,
	         "sched_getaffinity sched_setaffinity"},
	};
	struct CMUnitTest tests[] = {
		WALK(&operations[0]), WALK(&operations[1]),
		WALK(&operations[2]), WALK(&operations[3]),
		WALK(&operations[4]), WALK(&operations[5]),
		WALK(&operations[6]), WALK(&operations[7]),
		WALK(&operations[8]),
	};

	if (has_nodes())
		strcat(with_all, "mbind ");
	else
		print_message("fault: no nodes here, so mbind() is not "
		              "called\n");
	sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
	if (CPU_COUNT(&all_cpus) < 2) {
		print_message("fault: one processor cannot be left, so "
		              "nothing fails of that\n");
		tests[CHECK_COUNT(tests) - 1] = tests[0];
	}
	fault_is_full = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
