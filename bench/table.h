/* SPDX-License-Identifier: MIT */
/*
 * Runs measurements beside their limits and prints the ratios.
 *
 *	for each run
 *	  for each row
 *	    ping-pong of one line          where are the processors now?
 *	    peal, limit, limit ...
 *	    ping-pong of one line          still there? else again
 *
 * The host of a virtual machine moves its processors: the same two are "near"
 * (one line there and back in a tenth of a microsecond) in this minute, "far"
 * in the next, and now and then threads of one core. A ratio is therefore taken
 * within one run only, and each of the three has its own lines in the table.
 */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include "limits.h"

/* A round trip of one line below this is one of siblings, of near ones. */
#define BENCH_SIBLINGS_NS 70
#define BENCH_NEAR_NS 250

enum bench_unit {
	BENCH_NS,       /* lower is better */
	BENCH_MESSAGES, /* in a second; higher is better */
	BENCH_BYTES,    /* of payload in a second; higher is better */
};

/* A limit to be compared with, and how close peal is to come to it. */
struct bench_limit {
	const char *what;
	bench_measure_fn *measure;
	struct bench_work work;
	double bar_near; /* of the ratio; 0: there is none */
	double bar_far;
};

#define BENCH_LIMITS_MAX 3

struct bench_row {
	const char *what;
	bench_measure_fn *measure;
	struct bench_work work;
	enum bench_unit unit;
	bool needs_two_cpus;
	/* In the row's unit; 0: none. Reached elsewhere, on another machine. */
	double goal_near;
	double goal_far;
	struct bench_limit limits[BENCH_LIMITS_MAX];
};

struct bench_section {
	const char *name;
	const char *what;
	const struct bench_row *rows;
	size_t row_count;
};

extern const struct bench_section bench_sections[];
extern const size_t bench_section_count;

/* 0, or -errno when something could not be measured. */
int bench_section_run(const struct bench_section *section,
                      const struct bench_setting *setting);

/* Around all sections: what machine this is, and the brackets of JSON. */
void bench_table_begin(const struct bench_setting *setting);
void bench_table_end(const struct bench_setting *setting);

#endif
