/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shmctl.h"

#define TIMEOUT_DEFAULT_NS (500 * NS_PER_MS)
#define TIMEOUT_MAX_MS 60000
#define INTERVAL_MIN_S 0.01
#define INTERVAL_MAX_S 86400.0

struct command {
	const char *name;
	bool takes_name;
	bool repeats;
	int (*run)(const struct request *request);
	const char *summary;
	const char *help;
};

static const struct command commands[] = {
	{
		.name = "list",
		.run = list_run,
		.summary = "the servers that can be found by a name",
		.help = "Usage: shmctl list [OPTION]...\n"
			"\n"
			"List the servers that this user's programs can find, "
			"those that have died and\n"
			"left a socket behind included.\n"
			"\n"
			"  --json          one JSON document instead of a "
			"table\n"
			"  --timeout MS    how long to wait for each server's "
			"answer; 500\n"
			"  --help          this text\n",
	},
	{
		.name = "stat",
		.takes_name = true,
		.repeats = true,
		.run = stat_run,
		.summary = "one server and each of its clients",
		.help = "Usage: shmctl stat [OPTION]... NAME\n"
			"\n"
			"Show the server NAME (a name, or the path of its "
			"socket) and each of its slots.\n"
			"It works as well when the server is stuck or stopped, "
			"for its own user and root.\n"
			"\n"
			"  --json          one JSON document a look, each on "
			"a line of its own\n"
			"  --interval S    look again every S seconds\n"
			"  --count N       end after N looks; needs --interval\n"
			"  --timeout MS    how long to wait for an answer; "
			"500\n"
			"  --help          this text\n"
			"\n"
			"Columns that begin with ~ are the client's own word: "
			"how full its ring is, how\n"
			"many messages found no room, how long it waited for "
			"room. See shmctl(1).\n",
	},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *file)
{
	fputs("Usage: shmctl COMMAND [OPTION]...\n"
	      "\n"
	      "Look at peal's servers from outside.\n"
	      "\n",
	      file);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(file, "  %s%-6s  %s\n", commands[i].name,
		        commands[i].takes_name ? " NAME" : "",
		        commands[i].summary);
	fputs("\n"
	      "  --help     this text; 'shmctl COMMAND --help' tells more\n"
	      "  --version  the version of the library in use\n"
	      "\n"
	      "Exit code: 0 fine; 1 no such server, or it cannot be looked "
	      "at; 2 misused.\n",
	      file);
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* The number in an option, or false, said on stderr. */
static bool take_number(const char *option, const char *text, double min,
                        double max, double *ret_number)
{
	char *end;
	double number = strtod(text, &end);

	/* Written so that what is no number at all fails as well. */
	if (end != text && *end == '\0' && number >= min && number <= max) {
		*ret_number = number;
		return true;
	}
	print_error("%s takes a number from %g to %g, not '%s'", option, min,
	            max, text);
	return false;
}

enum { OPTION_JSON = 1, OPTION_TIMEOUT, OPTION_INTERVAL, OPTION_COUNT };

static const struct option option_words[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	{"timeout", required_argument, NULL, OPTION_TIMEOUT},
	{"help", no_argument, NULL, 'h'},
	{"interval", required_argument, NULL, OPTION_INTERVAL},
	{"count", required_argument, NULL, OPTION_COUNT},
	{NULL, 0, NULL, 0},
};

/* One option into @request; false when it was misused. */
static bool take_option(const struct command *command, int option,
                        struct request *request)
{
	double number;

	switch (option) {
	case OPTION_JSON:
		request->json = true;
		return true;
	case OPTION_TIMEOUT:
		if (!take_number("--timeout", optarg, 0, TIMEOUT_MAX_MS,
		                 &number))
			return false;
		request->timeout_ns = (uint64_t)(number * (double)NS_PER_MS);
		return true;
	case OPTION_INTERVAL:
	case OPTION_COUNT:
		if (!command->repeats) {
			print_error("'%s' looks once only", command->name);
			return false;
		}
		if (option == OPTION_INTERVAL) {
			if (!take_number("--interval", optarg, INTERVAL_MIN_S,
			                 INTERVAL_MAX_S, &number))
				return false;
			request->interval_ns =
				(uint64_t)(number * (double)NS_PER_S);
		} else {
			if (!take_number("--count", optarg, 1, 1e15, &number))
				return false;
			request->look_count = (uint64_t)number;
		}
		return true;
	default:
		return false; /* getopt has said why */
	}
}

static int misused(const struct command *command)
{
	fprintf(stderr, "Try 'shmctl%s%s --help'.\n",
	        command == NULL ? "" : " ",
	        command == NULL ? "" : command->name);
	return SHMCTL_MISUSED;
}

/* What a program that reads us must not take for all there is. */
static int finish(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	print_error("the output could not be written: %s", strerror(errno));
	return SHMCTL_FAILED;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	struct request request = {.timeout_ns = TIMEOUT_DEFAULT_NS};
	static char called[] = "shmctl";
	int option;

	argv[0] = called; /* getopt's sentences begin with it */
	while ((option = getopt_long(argc, argv, "h", option_words, NULL)) !=
	       -1) {
		if (option == 'h') {
			fputs(command->help, stdout);
			return finish(SHMCTL_FINE);
		}
		if (!take_option(command, option, &request))
			return misused(command);
	}
	if (request.look_count > 0 && request.interval_ns == 0) {
		print_error("--count needs --interval");
		return misused(command);
	}
	if (command->takes_name && optind < argc)
		request.name = argv[optind++];
	if (command->takes_name && request.name == NULL) {
		print_error("'%s' needs the name of a server", command->name);
		return misused(command);
	}
	if (optind < argc) {
		print_error("'%s' is one argument too many", argv[optind]);
		return misused(command);
	}
	return finish(command->run(&request));
}

int main(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		print_usage(stderr);
		return SHMCTL_MISUSED;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_usage(stdout);
		return finish(SHMCTL_FINE);
	}
	if (strcmp(argv[1], "--version") == 0) {
		print_line("shmctl (peal) %s", peal_version());
		return finish(SHMCTL_FINE);
	}
	command = find_command(argv[1]);
	if (command == NULL) {
		print_error("there is no command '%s'", argv[1]);
		return misused(NULL);
	}
	return run_command(command, argc - 1, argv + 1);
}
