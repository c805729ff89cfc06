/* SPDX-License-Identifier: MIT */
/*
 * The smallest server: it answers every call with what was asked, until Ctrl-C.
 *
 *	cc echo_server.c $(pkg-config --cflags --libs peal) -o echo_server
 *	./echo_server & sleep 1; ./echo_client "hello, world"
 */
#include <peal/reactor.h>
#include <stdio.h>

static void echo(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
	(void)arg;
}

int main(void)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_failure failure;
	struct peal_reactor *reactor;

	options.name = "echo";
	options.on_request = echo;
	options.ret_failure = &failure;
	if (peal_reactor_open(&options, &reactor) == 0)
		return peal_reactor_run(reactor);
	fprintf(stderr, "echo_server: %s\n", failure.text);
	return 1;
}
