/* SPDX-License-Identifier: MIT */
/*
 * The subcommands of clients: one connection, one call after another.
 */
#include "kv.h"

#include <errno.h>
#include <getopt.h>
#include <peal/client.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For one call. A commit waits for a disk, and a write for another client's. */
#define PATIENCE_NS UINT64_C(30000000000)

struct session {
	struct peal_client *client;
	const char *fork;
	/* A sentence, when something failed. */
	char text[256];
};

/* 0 and the answer, or -1 and session->text. */
static int ask(struct session *session, struct kv_request *request,
               struct peal_message *ret_answer)
{
	size_t bytes;
	void *data;
	int error;

	if (strlen(session->fork) >= sizeof(request->fork)) {
		snprintf(session->text, sizeof(session->text),
		         "the name of a fork has at most %d bytes",
		         KV_FORK_NAME_MAX);
		return -1;
	}
	strcpy(request->fork, session->fork);
	bytes = kv_format(request, NULL, 0);
	data = malloc(bytes);
	error = -ENOMEM;
	if (data != NULL) {
		kv_format(request, data, bytes);
		error = peal_client_call(session->client, data, bytes,
		                         PATIENCE_NS, ret_answer);
		free(data);
	}
	if (error < 0)
		snprintf(session->text, sizeof(session->text), "%s",
		         peal_strerror(error));
	else if (ret_answer->status > KV_MORE)
		snprintf(session->text, sizeof(session->text), "%.*s",
		         (int)ret_answer->data_bytes,
		         (const char *)ret_answer->data);
	else
		return 0;
	return -1;
}

static int ask_key(struct session *session, enum kv_op op, const char *key,
                   struct peal_message *ret_answer)
{
	struct kv_request request = {
		.op = op,
		.key = (const uint8_t *)key,
		.key_bytes = strlen(key),
	};

	return ask(session, &request, ret_answer);
}

static int get(struct session *session, char **arguments)
{
	struct peal_message answer;

	if (ask_key(session, KV_GET, arguments[0], &answer) < 0)
		return -1;
	fwrite(answer.data, 1, answer.data_bytes, stdout);
	putchar('\n');
	return 0;
}

static int put(struct session *session, char **arguments)
{
	struct kv_request request = {
		.op = KV_PUT,
		.key = (const uint8_t *)arguments[0],
		.key_bytes = strlen(arguments[0]),
		.value = (const uint8_t *)arguments[1],
		.value_bytes = strlen(arguments[1]),
	};
	struct peal_message answer;

	return ask(session, &request, &answer);
}

static int delete (struct session *session, char **arguments)
{
	struct peal_message answer;

	return ask_key(session, KV_DELETE, arguments[0], &answer);
}

static int make_fork(struct session *session, char **arguments)
{
	const char *fork = session->fork;
	struct peal_message answer;
	int error;

	if (arguments[1] != NULL)
		session->fork = arguments[1];
	error = ask_key(session, KV_FORK, arguments[0], &answer);
	session->fork = fork;
	return error;
}

static int forks(struct session *session, char **arguments)
{
	struct peal_message answer;

	(void)arguments;
	if (ask_key(session, KV_FORKS, "", &answer) < 0)
		return -1;
	fwrite(answer.data, 1, answer.data_bytes, stdout);
	return 0;
}

static int begin(struct session *session, char **arguments)
{
	struct peal_message answer;

	(void)arguments;
	return ask_key(session, KV_BEGIN, "", &answer);
}

static int commit(struct session *session, char **arguments)
{
	struct peal_message answer;

	(void)arguments;
	return ask_key(session, KV_COMMIT, "", &answer);
}

static int abort_write(struct session *session, char **arguments)
{
	struct peal_message answer;

	(void)arguments;
	return ask_key(session, KV_ABORT, "", &answer);
}

/* Print the pairs, and remember the last key in @last; how many bytes it has,
 * or -1. */
static int print_pairs(struct session *session,
                       const struct peal_message *answer,
                       uint8_t last[KV_KEY_MAX])
{
	const uint8_t *data = answer->data;
	size_t bytes = answer->data_bytes;
	struct kv_view view = {.key_bytes = 0};
	bool is_good;

	while (kv_next_pair(&data, &bytes, &view, &is_good)) {
		fwrite(view.key, 1, view.key_bytes, stdout);
		putchar('\t');
		fwrite(view.value, 1, view.value_bytes, stdout);
		putchar('\n');
	}
	if (!is_good || view.key_bytes > KV_KEY_MAX) {
		snprintf(session->text, sizeof(session->text),
		         "the server's answer makes no sense");
		return -1;
	}
	if (view.key_bytes > 0)
		memcpy(last, view.key, view.key_bytes);
	return (int)view.key_bytes;
}

static int scan(struct session *session, char **arguments)
{
	const char *prefix = arguments[0] != NULL ? arguments[0] : "";
	uint8_t last[KV_KEY_MAX];
	struct kv_request request = {
		.op = KV_SCAN,
		.key = (const uint8_t *)prefix,
		.key_bytes = strlen(prefix),
		.value = last,
	};
	struct peal_message answer;
	int length;

	do {
		if (ask(session, &request, &answer) < 0)
			return -1;
		length = print_pairs(session, &answer, last);
		if (length < 0)
			return -1;
		request.value_bytes = (size_t)length;
	} while (answer.status == KV_MORE && length > 0);
	return 0;
}

/* A batch of pairs that grows until it is sent. */
struct batch {
	size_t used;
	uint8_t room[KV_PAIRS_MAX];
};

static int send_batch(struct session *session, struct batch *batch)
{
	struct kv_request request = {
		.op = KV_LOAD,
		.value = batch->room,
		.value_bytes = batch->used,
	};
	struct peal_message answer;

	batch->used = 0;
	return request.value_bytes == 0 ? 0 : ask(session, &request, &answer);
}

static int add_line(struct session *session, struct batch *batch, char *line,
                    size_t length)
{
	char *tab = memchr(line, '\t', length);
	struct kv_answer answer;
	struct kv_view view;

	if (tab == NULL) {
		snprintf(session->text, sizeof(session->text), "has no tab");
		return -1;
	}
	view.key = (uint8_t *)line;
	view.key_bytes = (size_t)(tab - line);
	view.value = (uint8_t *)tab + 1;
	view.value_bytes = length - view.key_bytes - 1;
	/* What the server would say, but here with the number of the line. */
	if (!kv_check_key(view.key_bytes, &answer) ||
	    !kv_check_value(view.value_bytes, &answer)) {
		snprintf(session->text, sizeof(session->text), "%s",
		         answer.text);
		return -1;
	}
	if (kv_add_pair(batch->room, &batch->used, &view))
		return 0;
	if (send_batch(session, batch) < 0)
		return -1;
	kv_add_pair(batch->room, &batch->used, &view);
	return 0;
}

static int load(struct session *session, char **arguments)
{
	static struct batch batch;
	unsigned long count = 0;
	char *line = NULL, text[sizeof(session->text)];
	size_t room = 0;
	ssize_t length;
	int error;

	if (arguments[0] != NULL)
		session->fork = arguments[0];
	error = begin(session, arguments);
	while (error == 0 && (length = getline(&line, &room, stdin)) > 0) {
		if (line[length - 1] == '\n')
			length--;
		count++;
		error = add_line(session, &batch, line, (size_t)length);
		if (error < 0) {
			strcpy(text, session->text);
			snprintf(session->text, sizeof(session->text),
			         "line %lu: %.200s", count, text);
		}
	}
	free(line);
	if (error == 0)
		error = send_batch(session, &batch);
	if (error == 0)
		error = commit(session, arguments);
	if (error == 0)
		printf("%lu pairs\n", count);
	return error;
}

static int talk(struct session *session, char **arguments);

/* What the subcommands are, and, but for the last two, the words of a
 * session. The last argument of a session's line is the rest of it. */
static const struct {
	const char *name;
	int (*run)(struct session *session, char **arguments);
	int argument_min, argument_max;
	bool says_ok;
	const char *arguments; /* in a session */
} words[] = {
	/* clang-format off */
	{"get", get, 1, 1, false, " KEY"},
	{"put", put, 2, 2, true, " KEY VALUE"},
	{"delete", delete, 1, 1, true, " KEY"},
	{"scan", scan, 0, 1, true, " [PREFIX]"},
	{"begin", begin, 0, 0, true, ""},
	{"commit", commit, 0, 0, true, ""},
	{"abort", abort_write, 0, 0, true, ""},
	{"forks", forks, 0, 0, true, ""},
	{"fork", make_fork, 1, 2, true, " NEW [FROM]"},
	{"load", load, 0, 1, false, NULL},
	{"session", talk, 0, 0, false, NULL},
	/* clang-format on */
};
#define WORD_COUNT (sizeof(words) / sizeof(words[0]))
#define SESSION_WORD_COUNT (WORD_COUNT - 2)

static size_t find_word(const char *name, size_t count)
{
	size_t i = 0;

	while (i < count && strcmp(words[i].name, name) != 0)
		i++;
	return i;
}

static int talk_line(struct session *session, char *line)
{
	char *rest = line, *name = strsep(&rest, " ");
	size_t i = find_word(name, SESSION_WORD_COUNT);
	char *arguments[3] = {NULL};
	int count = 0;

	for (; i < SESSION_WORD_COUNT && rest != NULL &&
	       count < words[i].argument_max;
	     count++) {
		bool is_last = count + 1 == words[i].argument_max;

		arguments[count] = strsep(&rest, is_last ? "" : " ");
	}
	if (i == SESSION_WORD_COUNT) {
		snprintf(session->text, sizeof(session->text),
		         "a session has no such word");
		return -1;
	}
	if (count < words[i].argument_min || rest != NULL) {
		snprintf(session->text, sizeof(session->text),
		         "this takes other words: %s%s", words[i].name,
		         words[i].arguments);
		return -1;
	}
	if (words[i].run(session, arguments) < 0)
		return -1;
	if (words[i].says_ok)
		puts("ok");
	return 0;
}

/* Each line is answered before the next one is read, also for who writes them
 * one at a time and waits. */
static int talk(struct session *session, char **arguments)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t length;

	(void)arguments;
	while ((length = getline(&line, &room, stdin)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = 0;
		if (talk_line(session, line) < 0)
			printf("error: %s\n", session->text);
		fflush(stdout);
	}
	free(line);
	return 0;
}

int client_command(int argc, char **argv)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct session session = {.fork = KV_MAIN};
	struct peal_failure failure;
	const char *command = argv[0];
	size_t i = find_word(command, WORD_COUNT);
	int option, count, error;

	if (argc < 2)
		return usage(command);
	options.name = argv[1];
	options.ret_failure = &failure;
	/* From the name on: getopt() takes it for the program's. */
	argc--, argv++;
	while ((option = getopt(argc, argv, "+f:")) != -1) {
		if (option != 'f')
			return usage(command);
		session.fork = optarg;
	}
	count = argc - optind;
	if (i == WORD_COUNT || count < words[i].argument_min ||
	    count > words[i].argument_max)
		return usage(command);
	if (peal_client_connect(&options, PATIENCE_NS, &session.client) < 0) {
		fprintf(stderr, "kv: %s\n", failure.text);
		return 1;
	}
	error = words[i].run(&session, argv + optind);
	if (error < 0)
		fprintf(stderr, "kv: %s\n", session.text);
	peal_client_close(session.client);
	return error < 0;
}
