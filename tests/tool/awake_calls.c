/* SPDX-License-Identifier: MIT */
/*
 * A reactor and a client that are awake all the time, for no_syscalls.py to
 * count what they ask of the kernel; what they ask of malloc they count
 * themselves.
 *
 *	awake_calls call COUNT     one call after the other
 *	awake_calls deep COUNT     sixteen requests in flight
 *
 * Between two marks, writes to a descriptor that there cannot be, the client
 * does nothing but ask and the server nothing but answer. Ends with 0 when
 * neither has allocated anything in between.
 */
#include <peal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "awake-calls"
#define SECOND_NS UINT64_C(1000000000)
#define WARM_UP_COUNT 1600
#define DEPTH 16
#define PEACE_US 200000

/* malloc, counted ---------------------------------------------------------- */

#define IS_SANITIZED 0
#if defined(__SANITIZE_ADDRESS__)
#undef IS_SANITIZED
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef IS_SANITIZED
#define IS_SANITIZED 1
#endif
#endif

static uint64_t allocation_count;

#if !IS_SANITIZED
/* glibc's own, under the names that it keeps for this. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);

__attribute__((visibility("default"))) void *malloc(size_t bytes)
{
	__atomic_fetch_add(&allocation_count, 1, __ATOMIC_RELAXED);
	return __libc_malloc(bytes);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes)
{
	__atomic_fetch_add(&allocation_count, 1, __ATOMIC_RELAXED);
	return __libc_calloc(count, bytes);
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t bytes)
{
	__atomic_fetch_add(&allocation_count, 1, __ATOMIC_RELAXED);
	return __libc_realloc(memory, bytes);
}
#endif

/* both sides --------------------------------------------------------------- */

static struct board {
	uint32_t is_open;
	uint32_t ready_count; /* who has warmed up */
	uint32_t done_count;  /* who has come to the end */
} * board;

static uint64_t request_count;
static int is_deep;

static void die(const char *what, int error)
{
	fprintf(stderr, "awake_calls: %s: %s\n", what, peal_strerror(error));
	exit(1);
}

/* Nothing but loads, until all of @count have been here. */
static void meet(uint32_t *word, uint32_t count)
{
	__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(word, __ATOMIC_SEQ_CST) < count)
		;
}

static void mark(const char *text)
{
	if (write(-1, text, strlen(text)) >= 0)
		die("a write to nowhere succeeded", 0);
}

static uint64_t begin(void)
{
	/* What coming in has left to do is done meanwhile. */
	usleep(PEACE_US);
	meet(&board->ready_count, 2);
	mark("peal: begin");
	meet(&board->ready_count, 4);
	return __atomic_load_n(&allocation_count, __ATOMIC_RELAXED);
}

/* How many allocations there were since begin(). */
static uint64_t finish(uint64_t before)
{
	uint64_t count =
		__atomic_load_n(&allocation_count, __ATOMIC_RELAXED) - before;

	meet(&board->done_count, 2);
	mark("peal: end");
	meet(&board->done_count, 4);
	return count;
}

/* server ------------------------------------------------------------------- */

static uint64_t handled_count;

static void serve(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	handled_count++;
	if (peal_reply(request, data, bytes) < 0)
		die("reply", -EINVAL);
}

static void serve_until(struct peal_reactor *reactor, uint64_t count)
{
	while (handled_count < count)
		if (peal_reactor_run_once(reactor, 10 * SECOND_NS) < 0)
			die("run", -ETIMEDOUT);
}

static uint64_t run_server(void)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_reactor *reactor;
	uint64_t before, count;
	int error;

	options.name = NAME;
	options.on_request = serve;
	options.spin_mode = PEAL_SPIN_ALWAYS;
	error = peal_reactor_open(&options, &reactor);
	if (error < 0)
		die("open", error);
	__atomic_store_n(&board->is_open, 1, __ATOMIC_SEQ_CST);
	serve_until(reactor, WARM_UP_COUNT);
	before = begin();
	serve_until(reactor, WARM_UP_COUNT + request_count);
	count = finish(before);
	peal_reactor_close(reactor);
	return count;
}

/* client ------------------------------------------------------------------- */

static void check(const struct peal_message *answer, uint64_t number)
{
	if (answer->kind != PEAL_ANSWERED ||
	    answer->data_bytes != sizeof(number) ||
	    memcmp(answer->data, &number, sizeof(number)) != 0)
		die("another answer came", 0);
}

static void call(struct peal_client *client, uint64_t number)
{
	struct peal_message answer;
	int error = peal_client_call(client, &number, sizeof(number),
	                             10 * SECOND_NS, &answer);

	if (error < 0)
		die("call", error);
	check(&answer, number);
}

static void call_deep(struct peal_client *client, uint64_t first)
{
	struct peal_message answer;
	int error;

	for (uint64_t i = first; i < first + DEPTH; i++) {
		error = peal_client_send(client, &i, sizeof(i), PEAL_FOREVER,
		                         10 * SECOND_NS, NULL);
		if (error < 0)
			die("send", error);
	}
	for (uint64_t i = first; i < first + DEPTH; i++) {
		error = peal_client_recv(client, 10 * SECOND_NS, &answer);
		if (error < 0)
			die("recv", error);
		check(&answer, i);
	}
}

static void ask(struct peal_client *client, uint64_t first, uint64_t count)
{
	if (is_deep)
		for (uint64_t i = first; i < first + count; i += DEPTH)
			call_deep(client, i);
	else
		for (uint64_t i = first; i < first + count; i++)
			call(client, i);
}

static uint64_t run_client(void)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;
	uint64_t before, count;
	int error;

	while (!__atomic_load_n(&board->is_open, __ATOMIC_SEQ_CST))
		usleep(1000);
	options.name = NAME;
	options.spin_mode = PEAL_SPIN_ALWAYS;
	error = peal_client_connect(&options, 10 * SECOND_NS, &client);
	if (error < 0)
		die("connect", error);
	ask(client, 0, WARM_UP_COUNT);
	before = begin();
	ask(client, WARM_UP_COUNT, request_count);
	count = finish(before);
	peal_client_close(client);
	return count;
}

static int tell(const char *who, uint64_t count)
{
	if (count != 0)
		fprintf(stderr,
		        "awake_calls: the %s has allocated %llu times\n", who,
		        (unsigned long long)count);
	return count != 0;
}

int main(int argc, char **argv)
{
	int status = 1, result;
	pid_t pid;

	if (argc != 3) {
		fprintf(stderr, "usage: awake_calls call|deep COUNT\n");
		return 2;
	}
	is_deep = strcmp(argv[1], "deep") == 0;
	request_count = strtoull(argv[2], NULL, 10) / DEPTH * DEPTH;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return 1;
	pid = fork();
	if (pid == 0)
		return tell("client", run_client());
	result = tell("server", run_server());
	if (waitpid(pid, &status, 0) != pid)
		return 1;
	return status != 0 || result != 0;
}
