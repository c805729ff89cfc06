/* SPDX-License-Identifier: MIT */
/*
 * The samples of one section, between measuring and printing them.
 */
#ifndef BENCH_SURVEY_H
#define BENCH_SURVEY_H

#include "table.h"

/*
 * Where the two processors are to each other, told by a ping-pong of one line.
 * Far has bars of its own; siblings, two threads of one core, share those of
 * near, but their figures must not be mixed.
 */
enum bench_place {
	BENCH_SIBLINGS,
	BENCH_NEAR,
	BENCH_FAR,
	BENCH_PLACE_COUNT,
};

/* The same numbers of one row: of peal, and of its limits. */
struct bench_column {
	double values[BENCH_PLACE_COUNT][BENCH_RUNS_MAX];
	double ratios[BENCH_PLACE_COUNT][BENCH_RUNS_MAX];
	double aside_sum;
};

struct bench_outcome {
	struct bench_column peal;
	struct bench_column limits[BENCH_LIMITS_MAX];
	size_t run_count[BENCH_PLACE_COUNT];
	int error;
};

/* Of a whole section. */
struct bench_survey {
	double *lines[BENCH_PLACE_COUNT]; /* row_count x run_count at most */
	size_t line_count[BENCH_PLACE_COUNT];
	size_t moved_count;
	struct bench_outcome *outcomes;
};

size_t bench_limit_count(const struct bench_row *row);

/* Sorts the samples, so the order of runs is lost. */
void bench_print_section(const struct bench_section *section,
                         const struct bench_setting *setting,
                         struct bench_survey *survey);

#endif
