/* SPDX-License-Identifier: MIT */
#include "kv.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments, *about;
} commands[] = {
	{"serve", serve_command, "[-n] [-w WORKERS] DIR NAME",
         "serve the forks in DIR; -n: do not wait for the disk"},
	{"get", client_command, "NAME [-f FORK] KEY", "print a value"},
	{"put", client_command, "NAME [-f FORK] KEY VALUE", "change it"},
	{"delete", client_command, "NAME [-f FORK] KEY", "forget it"},
	{"scan", client_command, "NAME [-f FORK] [PREFIX]",
         "print keys and values"},
	{"load", client_command, "NAME [FORK]",
         "put lines of KEY<tab>VALUE from stdin, all or none"},
	{"fork", client_command, "NAME NEW [FROM]", "branch off a fork"},
	{"forks", client_command, "NAME", "print their names"},
	{"session", client_command, "NAME [-f FORK]",
         "get, put, delete, scan, begin, commit, abort from stdin"},
	{"bench", bench_command, "[-m MS] [-s] [-w WORKERS] NAME",
         "compare peal with a socket and with no server; with -s a client "
         "that is alone spins"},
};

int usage(const char *command)
{
	const char *head = "usage:";

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (command != NULL && strcmp(commands[i].name, command) != 0)
			continue;
		fprintf(stderr, "%s kv %-7s %-28s %s\n", head, commands[i].name,
		        commands[i].arguments, commands[i].about);
		head = "      ";
	}
	return 2;
}

uint32_t parse_count(const char *text, uint32_t most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	return *text < '0' || *text > '9' || *end != '\0' || value > most
	               ? UINT32_MAX
	               : (uint32_t)value;
}

int main(int argc, char **argv)
{
	opterr = 0; /* usage() says it */
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (argc > 1 && strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	return usage(NULL);
}
