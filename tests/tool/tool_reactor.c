/* SPDX-License-Identifier: MIT */
/*
 * A reactor and a client of it, for the tests of shmctl. It does what its
 * standard input says, one word a line, and answers each with "ok", the first
 * one before any word:
 *
 *	tool_reactor NAME
 *
 *	keep    the client sends a request that stays open
 *	answer  every one of these is answered
 *	flood   the client sends requests and reads no answer
 *	close   everything is closed; so does the end of the input
 *
 * At most two requests of a client may be in flight.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <peal.h>

#define KEPT_MAX 16
#define FLOOD 100

static struct peal_request *kept[KEPT_MAX];
static int kept_count;

static void serve(struct peal_request *request, void *arg)
{
	static const char much[2000];
	const char *data = peal_request_data(request, NULL);

	(void)arg;
	if (data[0] == 'k' && kept_count < KEPT_MAX)
		kept[kept_count++] = request;
	else if (peal_reply(request, much, sizeof(much)) < 0)
		peal_request_drop(request);
}

static void answer_all(void *arg)
{
	(void)arg;
	while (kept_count > 0)
		if (peal_reply(kept[--kept_count], "x", 1) < 0)
			peal_request_drop(kept[kept_count]);
}

static void *run(void *reactor)
{
	peal_reactor_run(reactor);
	return NULL;
}

static int obey(const char *word, struct peal_reactor *reactor,
                struct peal_client *client)
{
	int error = 0;

	if (strcmp(word, "keep\n") == 0)
		return peal_client_send(client, "k", 1, PEAL_FOREVER,
		                        PEAL_FOREVER, NULL);
	if (strcmp(word, "answer\n") == 0)
		return peal_reactor_post(reactor, answer_all, NULL);
	if (strcmp(word, "flood\n") != 0)
		return -1;
	/* Until there is no room, or it is to read first. */
	for (int i = 0; i < FLOOD && error == 0; i++)
		error = peal_client_send(client, "f", 1, PEAL_FOREVER, 0, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_reactor *reactor;
	struct peal_client *client;
	pthread_t thread;
	char line[32];

	if (argc != 2)
		return 2;
	options.name = wish.name = argv[1];
	options.on_request = serve;
	options.worker_count = 2;
	options.inline_mode = PEAL_INLINE_ALWAYS;
	options.in_flight_per_client_max = 2;
	options.ring_default_bytes = 4096;
	if (peal_reactor_open(&options, &reactor) < 0 ||
	    pthread_create(&thread, NULL, run, reactor) != 0 ||
	    peal_client_connect(&wish, UINT64_C(10000000000), &client) < 0)
		return 1;
	do {
		puts("ok");
		fflush(stdout);
	} while (fgets(line, sizeof(line), stdin) != NULL &&
	         obey(line, reactor, client) == 0);
	peal_client_close(client);
	peal_reactor_stop(reactor, 0);
	pthread_join(thread, NULL);
	return peal_reactor_close(reactor);
}
