/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <peal/base.h>

#include "table.h"

static void print_help(FILE *file)
{
	fputs("usage: peal_bench [options] SECTION...\n"
	      "Measures peal beside what the machine allows, and prints "
	      "ratios.\n\nsections:\n",
	      file);
	for (size_t i = 0; i < bench_section_count; i++)
		fprintf(file, "  %-12s %s\n", bench_sections[i].name,
		        bench_sections[i].what);
	fputs("  all          every one of them\n\n"
	      "options:\n"
	      "  --runs N       runs of everything, interleaved (10)\n"
	      "  --seconds S    time of one measurement (0.2)\n"
	      "  --cpus A,B     the processors of the two processes (the first "
	      "two)\n"
	      "  --json         one JSON object instead of tables\n"
	      "  --help         this text\n\n"
	      "The exit code says whether everything could be measured, never "
	      "how fast it was.\n"
	      "Run it on a quiet machine, and only one at a time.\n",
	      file);
}

static int wrong_use(const char *what, const char *value)
{
	fprintf(stderr, "peal_bench: %s: %s\n", what, value);
	return -EINVAL;
}

static int parse_cpus(const char *text, struct bench_setting *setting)
{
	int cpus[1024], count, a, b, found = 0;
	char rest;

	if (sscanf(text, "%d,%d%c", &a, &b, &rest) != 2)
		return wrong_use("--cpus wants two numbers, like 0,1", text);
	count = bench_usable_cpus(cpus, 1024);
	for (int i = 0; i < count; i++)
		found |= (cpus[i] == a ? 1 : 0) | (cpus[i] == b ? 2 : 0);
	if (found != 3)
		return wrong_use("not both are processors that this process "
		                 "may use",
		                 text);
	setting->cpu[0] = a;
	setting->cpu[1] = b;
	return 0;
}

static int parse_option(int option, struct bench_setting *setting)
{
	char *end;
	double number;

	switch (option) {
	case 'j':
		setting->json = true;
		return 0;
	case 'c':
		return parse_cpus(optarg, setting);
	case 'r':
		number = strtod(optarg, &end);
		if (*end != '\0' || !(number >= 1 && number <= BENCH_RUNS_MAX))
			return wrong_use("--runs wants 1 to 1000", optarg);
		setting->run_count = (unsigned)number;
		return 0;
	case 's':
		number = strtod(optarg, &end);
		if (*end != '\0' || !(number >= 0.001 && number <= 60))
			return wrong_use("--seconds wants 0.001 to 60", optarg);
		setting->seconds = number;
		return 0;
	default:
		return -EINVAL;
	}
}

/* 0, 1 when the work is done already, or -EINVAL. */
static int parse_options(int argc, char **argv, struct bench_setting *setting)
{
	static const struct option options[] = {
		{"runs", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 's'},
		{"cpus", required_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option, result;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'h') {
			print_help(stdout);
			return 1;
		}
		result = parse_option(option, setting);
		if (result < 0)
			return result;
	}
	return 0;
}

static bool is_wanted(const char *section, char **names, int name_count)
{
	for (int i = 0; i < name_count; i++)
		if (strcmp(names[i], section) == 0 ||
		    strcmp(names[i], "all") == 0)
			return true;
	return false;
}

static int check_names(char **names, int name_count)
{
	for (int i = 0; i < name_count; i++) {
		bool is_known = strcmp(names[i], "all") == 0;

		for (size_t k = 0; k < bench_section_count; k++)
			is_known |= strcmp(names[i], bench_sections[k].name) ==
			            0;
		if (!is_known)
			return wrong_use("no such section", names[i]);
	}
	return 0;
}

/* A directory of our own for the names; whatever it holds goes with it. */
static int make_directory(struct bench_setting *setting)
{
	const char *base = getenv("TMPDIR");
	int length = snprintf(setting->directory, sizeof(setting->directory),
	                      "%s/peal-bench-XXXXXX",
	                      base != NULL && base[0] == '/' ? base : "/tmp");

	/* A socket's path is short; so is ours. */
	if (length >= (int)sizeof(setting->directory))
		snprintf(setting->directory, sizeof(setting->directory),
		         "/tmp/peal-bench-XXXXXX");
	return mkdtemp(setting->directory) == NULL ? -errno : 0;
}

static void remove_directory(const struct bench_setting *setting)
{
	DIR *directory = opendir(setting->directory);
	const struct dirent *entry;

	while (directory != NULL && (entry = readdir(directory)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory != NULL)
		closedir(directory);
	rmdir(setting->directory);
}

/* Hundreds of producers in one process need a few descriptors each. */
static void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int run(const struct bench_setting *setting, char **names,
               int name_count)
{
	int first_error = 0;

	bench_table_begin(setting);
	for (size_t i = 0; i < bench_section_count; i++) {
		int result;

		if (!is_wanted(bench_sections[i].name, names, name_count))
			continue;
		result = bench_section_run(&bench_sections[i], setting);
		if (first_error == 0)
			first_error = result;
	}
	bench_table_end(setting);
	return first_error;
}

int main(int argc, char **argv)
{
	struct bench_setting setting = {.run_count = 10, .seconds = 0.2};
	int cpus[2] = {0, 0};
	int count = bench_usable_cpus(cpus, 2);
	int result;

	setting.cpu[0] = cpus[0];
	setting.cpu[1] = cpus[count > 1 ? 1 : 0];
	result = parse_options(argc, argv, &setting);
	if (result != 0)
		return result < 0 ? 2 : 0;
	if (optind == argc) {
		print_help(stderr);
		return 2;
	}
	if (check_names(argv + optind, argc - optind) < 0)
		return 2;
	allow_many_descriptors();
	result = make_directory(&setting);
	if (result < 0) {
		fprintf(stderr, "peal_bench: no directory for sockets: %s\n",
		        peal_strerror(result));
		return 1;
	}
	result = run(&setting, argv + optind, argc - optind);
	remove_directory(&setting);
	return result < 0 ? 1 : 0;
}
