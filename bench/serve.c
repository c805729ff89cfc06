/* SPDX-License-Identifier: MIT */
/*
 * A server whose handler copies the payload back, inline, and how clients find
 * it and end it.
 */
#include "link.h"

static void serve(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	/* A single byte is the last word. */
	if (bytes == 1)
		peal_reactor_stop(*(struct peal_reactor **)arg,
		                  BENCH_PATIENCE_NS);
	if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
}

int bench_server_second(struct bench_side *side)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_failure failure = {0};
	struct peal_reactor *reactor;
	char path[128];
	int result;

	if (side->work->is_loose && (result = bench_unpin(side->setting)) < 0)
		return bench_fail(side, result, "cannot leave the processor");
	bench_full_name(side, "calls", path, sizeof(path));
	options.name = path;
	options.on_request = serve;
	options.arg = &reactor;
	options.spin_mode = side->work->spin_mode;
	options.client_max = side->work->idle_count + 64;
	options.ret_failure = &failure;
	result = peal_reactor_open(&options, &reactor);
	if (result < 0)
		return bench_refused(side, result, &failure, "cannot open");
	bench_meet(side);
	result = peal_reactor_run(reactor);
	if (result < 0)
		return bench_fail(side, result, "serving");
	bench_meet(side);
	peal_reactor_close(reactor);
	return 0;
}

int bench_client_connect(struct bench_side *side, uint64_t ring_bytes,
                         struct peal_client **ret_client)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_failure failure = {0};
	char path[128];
	int result;

	bench_full_name(side, "calls", path, sizeof(path));
	options.name = path;
	options.request_ring_bytes = ring_bytes;
	options.response_ring_bytes = ring_bytes;
	options.spin_mode = side->work->spin_mode;
	options.step_aside = side->work->steps_aside;
	options.ret_failure = &failure;
	result = peal_client_connect(&options, BENCH_PATIENCE_NS, ret_client);
	if (result < 0)
		return bench_refused(side, result, &failure, "cannot connect");
	return 0;
}

int bench_server_stop(struct bench_side *side, struct peal_client *client)
{
	struct peal_message answer;
	int result =
		peal_client_call(client, "", 1, BENCH_PATIENCE_NS, &answer);

	if (result < 0)
		return bench_fail(side, result, "the last call");
	bench_meet(side);
	return 0;
}
