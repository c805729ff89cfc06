/* SPDX-License-Identifier: MIT */
/*
 * A request there and its answer back, through a reactor and its clients.
 *
 *	first   the client: calls, or keeps @batch requests in flight
 *	second  the server
 *
 * Any number of other clients may be connected that say nothing.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link.h"

struct caller {
	struct peal_client *client;
	size_t payload_bytes;
	uint32_t depth;
	uint32_t in_flight;
	bool sleeps;
	pid_t neighbour;
	uint8_t source[4096];
	uint8_t target[4096];
};

/* It works for a while, and as a client it asks each time. So seldom that the
 * calls it interrupts are fewer than one in a hundred. */
#define DEAF_BUSY_NS 20000
#define DEAF_PAUSE_US 980

static _Noreturn void be_beside(struct bench_side *side, pid_t parent)
{
	struct peal_client *client = NULL;
	uint8_t text[1024] = {0};
	uint64_t begin_ns, id;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent ||
	    (side->work->beside == BENCH_BESIDE_DEAF &&
	     bench_client_connect(side, 1 << 16, &client) < 0))
		_exit(1);
	for (;;) {
		begin_ns = bench_now_ns();
		while (bench_now_ns() - begin_ns < DEAF_BUSY_NS)
			continue;
		/* Mostly -EAGAIN. */
		if (client != NULL &&
		    peal_client_send(client, text, sizeof(text), PEAL_FOREVER,
		                     0, &id) == -ECONNRESET)
			_exit(0);
		usleep(DEAF_PAUSE_US);
	}
}

static int start_neighbour(struct bench_side *side, struct caller *caller)
{
	pid_t parent = getpid();

	if (side->work->beside == BENCH_BESIDE_NOBODY)
		return 0;
	caller->neighbour = fork();
	if (caller->neighbour == 0)
		be_beside(side, parent);
	return caller->neighbour > 0 ? 0
	                             : bench_fail(side, -errno, "no neighbour");
}

static void end_neighbour(const struct caller *caller)
{
	if (caller->neighbour <= 0)
		return;
	kill(caller->neighbour, SIGKILL);
	waitpid(caller->neighbour, NULL, 0);
}

static int call_open(struct bench_side *side, struct caller *caller)
{
	struct peal_client *idle;
	int result = 0;

	*caller = (struct caller){
		.payload_bytes = side->work->payload_bytes,
		.depth = side->work->batch,
		.sleeps = side->work->sleeps,
	};
	bench_meet(side);
	/* They are left to the end of this process. */
	for (uint32_t i = 0; i < side->work->idle_count && result == 0; i++)
		result = bench_client_connect(side, 1 << 16, &idle);
	if (result == 0)
		result = bench_client_connect(side, side->work->ring_bytes,
		                              &caller->client);
	return result < 0 ? result : start_neighbour(side, caller);
}

static int call_end(struct bench_side *side, struct caller *caller)
{
	int result;

	end_neighbour(caller);
	result = bench_server_stop(side, caller->client);
	if (result == 0)
		peal_client_close(caller->client);
	return result;
}

/* 0, or -errno; -EPROTO when the answer has another size. */
static inline int call_take(struct caller *caller,
                            const struct peal_message *answer)
{
	if (answer->data_bytes != caller->payload_bytes)
		return -EPROTO;
	bench_copy(caller->target, answer->data, caller->payload_bytes);
	bench_touch(caller->target);
	return 0;
}

static int call_once(void *context)
{
	struct caller *caller = context;
	struct peal_message answer;
	int result;

	if (caller->sleeps)
		bench_busy();
	bench_touch(caller->source);
	result = peal_client_call(caller->client, caller->source,
	                          caller->payload_bytes, PEAL_FOREVER, &answer);
	return result < 0 ? result : call_take(caller, &answer);
}

static int call_first(struct bench_side *side)
{
	struct caller caller;
	int result = call_open(side, &caller);

	if (result < 0)
		return result;
	result = bench_loop(side, call_once, NULL, &caller);
	if (result < 0)
		return bench_fail(side, result, "call");
	if (caller.sleeps)
		side->shared->value -= BENCH_BUSY_NS;
	return call_end(side, &caller);
}

/* One more answer, and as many requests as keep the depth. */
static inline int call_deep_step(struct caller *caller)
{
	struct peal_message answer;
	uint64_t id;
	int result;

	for (; caller->in_flight < caller->depth; caller->in_flight++) {
		bench_touch(caller->source);
		result = peal_client_send(caller->client, caller->source,
		                          caller->payload_bytes, PEAL_FOREVER,
		                          BENCH_PATIENCE_NS, &id);
		if (result < 0)
			return result;
	}
	result = peal_client_recv(caller->client, BENCH_PATIENCE_NS, &answer);
	if (result < 0)
		return result;
	caller->in_flight--;
	return call_take(caller, &answer);
}

static int call_deep_first(struct bench_side *side)
{
	uint64_t begin_ns, end_ns, now_ns, count = 0;
	struct caller caller;
	int result = call_open(side, &caller);

	if (result < 0)
		return result;
	begin_ns = bench_now_ns();
	end_ns = begin_ns + (uint64_t)(side->setting->seconds * 1e9);
	do {
		for (int i = 0; i < BENCH_BLOCK && result >= 0; i++, count++)
			result = call_deep_step(&caller);
		now_ns = bench_now_ns();
	} while (result >= 0 && now_ns < end_ns);
	side->shared->value = (double)count * 1e9 / (double)(now_ns - begin_ns);
	for (caller.depth = 0; result >= 0 && caller.in_flight > 0;)
		result = call_deep_step(&caller);
	if (result < 0)
		return bench_fail(side, result, "calls in flight");
	return call_end(side, &caller);
}

int bench_call(const struct bench_setting *setting,
               const struct bench_work *work, struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, call_first, bench_server_second,
	                  ret_result);
}

int bench_call_deep(const struct bench_setting *setting,
                    const struct bench_work *work,
                    struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, call_deep_first,
	                  bench_server_second, ret_result);
}
