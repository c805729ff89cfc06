/* SPDX-License-Identifier: MIT */
/*
 * The smallest client: it calls the server once for each of its arguments and
 * prints the answers.
 *
 *	cc echo_client.c $(pkg-config --cflags --libs peal) -o echo_client
 */
#include <peal/client.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_failure failure = {0};
	struct peal_client *client = NULL;
	struct peal_message answer;
	int error;

	options.name = "echo";
	options.ret_failure = &failure;
	error = peal_client_connect(&options, PEAL_FOREVER, &client);
	for (int i = 1; error == 0 && i < argc; i++) {
		error = peal_client_call(client, argv[i], strlen(argv[i]),
		                         1000000000, &answer);
		if (error == 0)
			printf("%.*s\n", (int)answer.data_bytes,
			       (const char *)answer.data);
	}
	if (error < 0)
		fprintf(stderr, "echo_client: %s\n",
		        failure.code < 0 ? failure.text : peal_strerror(error));
	return peal_client_close(client) < 0 || error < 0;
}
