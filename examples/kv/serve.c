/* SPDX-License-Identifier: MIT */
/*
 * The server: takes requests apart, asks the scheduler, and answers.
 */
#include "store.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DRAIN_NS UINT64_C(1000000000)
#define WORKER_MAX 1024

/* For answers that are put together; each thread answers one at a time. */
static _Thread_local uint8_t room[KV_PAIRS_MAX];

static void reply(struct peal_request *request, const struct kv_answer *answer)
{
	static const char text[] = "the answer is too large for your ring";

	if (peal_reply_status(request, (int32_t)answer->status, answer->data,
	                      answer->bytes) == 0)
		return;
	if (peal_reply_status(request, KV_FAILED, text, strlen(text)) < 0)
		peal_request_drop(request);
}

/* On a line's thread: a write, or a read that has to see one. */
static int run_in_line(struct peal_request *request, void *arg)
{
	struct kv_answer answer = {.room = room};
	struct kv_request asked;
	struct fork *fork = arg;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);
	int held;

	/* Taken apart anew, since this is a copy of what was looked at before:
	 * a client could have changed that meanwhile. */
	if (kv_parse(data, bytes, &asked, &answer)) {
		if (asked.op == KV_FORK)
			fork_copy(fork, &asked, &answer);
		else
			fork_write(fork, &asked, &answer);
	}
	held = fork->write != NULL ? LINE_HELD : LINE_FREE;
	reply(request, &answer);
	fork_end_read(fork);
	return held;
}

static void on_request(struct peal_request *request, void *arg)
{
	struct kv_answer answer = {.room = room};
	struct store *store = arg;
	struct kv_request asked;
	struct fork *fork;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	if (!kv_parse(data, bytes, &asked, &answer)) {
		reply(request, &answer);
		return;
	}
	fork = store_find(store, asked.fork, &answer);
	if (fork == NULL || asked.op == KV_FORKS) {
		if (fork != NULL)
			store_list(store, &answer);
		reply(request, &answer);
		return;
	}
	if (schedule(&fork->line, request,
	             asked.op == KV_GET || asked.op == KV_SCAN) ==
	    SCHEDULE_LATER)
		return;
	fork_read(fork, &asked, &answer);
	reply(request, &answer);
	fork_end_read(fork);
}

static void on_opened(struct peal_reactor *reactor, struct peal_peer peer,
                      void *arg)
{
	(void)reactor, (void)arg;
	schedule_client_opened(peer);
}

static void on_closed(struct peal_reactor *reactor, struct peal_peer peer,
                      int reason, void *arg)
{
	(void)reactor, (void)reason;
	schedule_client_closed(peer);
	store_forget_client(arg, peer);
}

static int serve(struct store *store, struct peal_reactor_options *options)
{
	struct peal_failure failure;
	struct peal_reactor *reactor;

	options->on_request = on_request;
	options->on_opened = on_opened;
	options->on_closed = on_closed;
	options->arg = store;
	options->client_max = SCHEDULE_CLIENT_MAX;
	options->drain_ns = DRAIN_NS;
	options->ret_failure = &failure;
	if (peal_reactor_open(options, &reactor) < 0) {
		fprintf(stderr, "kv: %s\n", failure.text);
		store_close_lines(store);
		return 1;
	}
	peal_reactor_run(reactor);
	/* What still waits in a line waits for a client that can no longer
	 * commit. Each is told, before close would drop them; which still calls
	 * on_closed(). */
	store_close_lines(store);
	while (peal_reactor_close(reactor) == -EBUSY)
		usleep(1000);
	return 0;
}

/* Before any thread is there, so that all of them have it blocked. */
static int take_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static uint32_t cpu_count(void)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);

	return count < 1 ? 1 : count > 64 ? 64 : (uint32_t)count;
}

int serve_command(int argc, char **argv)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct store_options store_options = {.run = run_in_line};
	struct store *store;
	int option, code;

	options.worker_count = cpu_count();
	while ((option = getopt(argc, argv, "+nw:")) != -1) {
		if (option == 'n')
			store_options.is_volatile = true;
		else if (option == 'w')
			options.worker_count = parse_count(optarg, WORKER_MAX);
		else
			return usage("serve");
	}
	if (argc - optind != 2 || options.worker_count > WORKER_MAX)
		return usage("serve");
	store_options.directory = argv[optind];
	options.name = argv[optind + 1];
	options.stop_signals_fd = take_signals();
	if (store_open(&store_options, &store) < 0)
		return 1;
	code = serve(store, &options);
	store_close(store);
	return code;
}
