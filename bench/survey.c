/* SPDX-License-Identifier: MIT */
#include "survey.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <peal/base.h>

/* How often a run is repeated that the host interrupted by a move. */
#define TRIES 3

size_t bench_limit_count(const struct bench_row *row)
{
	size_t count = 0;

	while (count < BENCH_LIMITS_MAX && row->limits[count].measure != NULL)
		count++;
	return count;
}

/* Where are the two processors? Fills @ret_ns, the round trip of a line. */
static int calibrate(const struct bench_setting *setting, double *ret_ns,
                     enum bench_place *ret_place)
{
	const struct bench_work work = {.poll = BENCH_POLL_GENTLE};
	struct bench_setting brief = *setting;
	struct bench_result result;
	int error;

	*ret_ns = 0;
	*ret_place = BENCH_NEAR;
	if (!bench_has_two_cpus(setting))
		return 0;
	brief.seconds = setting->seconds < 0.02 ? setting->seconds : 0.02;
	error = bench_limit_line(&brief, &work, &result);
	if (error < 0)
		return error;
	*ret_ns = result.value;
	*ret_place = result.value < BENCH_SIBLINGS_NS ? BENCH_SIBLINGS
	             : result.value < BENCH_NEAR_NS   ? BENCH_NEAR
	                                              : BENCH_FAR;
	return 0;
}

/* Values of one row in one run; [0] is peal's own. */
static int measure_once(const struct bench_row *row,
                        const struct bench_setting *setting,
                        struct bench_result *ret_results)
{
	size_t count = bench_limit_count(row);
	int error = row->measure(setting, &row->work, &ret_results[0]);

	for (size_t i = 0; i < count && error == 0; i++)
		error = row->limits[i].measure(setting, &row->limits[i].work,
		                               &ret_results[i + 1]);
	return error;
}

static void keep(struct bench_column *column, enum bench_place place,
                 size_t index, const struct bench_result *result, double own)
{
	column->values[place][index] = result->value;
	column->ratios[place][index] = result->value > 0 ? own / result->value
	                                                 : 0;
	column->aside_sum += result->aside;
}

/* One run of one row, between two looks at where the processors are. */
static int run_row(const struct bench_row *row,
                   const struct bench_setting *setting,
                   struct bench_survey *survey, struct bench_outcome *outcome)
{
	struct bench_result results[BENCH_LIMITS_MAX + 1];
	enum bench_place before = BENCH_NEAR, after = BENCH_FAR;
	double before_ns, after_ns = 0;
	size_t index;
	int error = 0;

	for (int i = 0; i < TRIES; i++) {
		error = calibrate(setting, &before_ns, &before);
		if (error == 0)
			error = measure_once(row, setting, results);
		if (error == 0)
			error = calibrate(setting, &after_ns, &after);
		if (error < 0)
			return error;
		if (before == after)
			break;
		survey->moved_count++;
	}
	survey->lines[after][survey->line_count[after]++] = after_ns;
	/* Moved each time: better no figure than a mixed one. */
	if (before != after)
		return 0;
	index = outcome->run_count[after]++;
	keep(&outcome->peal, after, index, &results[0], results[0].value);
	for (size_t i = 0; i < bench_limit_count(row); i++)
		keep(&outcome->limits[i], after, index, &results[i + 1],
		     results[0].value);
	return 0;
}

static void run_rows(const struct bench_section *section,
                     const struct bench_setting *setting,
                     struct bench_survey *survey)
{
	for (unsigned run = 0; run < setting->run_count; run++) {
		for (size_t i = 0; i < section->row_count; i++) {
			const struct bench_row *row = &section->rows[i];
			struct bench_outcome *outcome = &survey->outcomes[i];

			/* What has failed once would only fail again. */
			if (outcome->error < 0)
				continue;
			if (row->needs_two_cpus && !bench_has_two_cpus(setting))
				continue;
			outcome->error = run_row(row, setting, survey, outcome);
		}
	}
}

int bench_section_run(const struct bench_section *section,
                      const struct bench_setting *setting)
{
	size_t line_max = section->row_count * setting->run_count;
	struct bench_survey survey = {0};
	int error = 0;

	survey.outcomes = calloc(section->row_count, sizeof(*survey.outcomes));
	if (survey.outcomes == NULL)
		return -ENOMEM;
	for (int i = 0; i < BENCH_PLACE_COUNT; i++) {
		survey.lines[i] = calloc(line_max, sizeof(double));
		if (survey.lines[i] == NULL)
			error = -ENOMEM;
	}
	if (error == 0) {
		run_rows(section, setting, &survey);
		bench_print_section(section, setting, &survey);
		for (size_t i = 0; i < section->row_count && error == 0; i++)
			error = survey.outcomes[i].error;
	}
	for (int i = 0; i < BENCH_PLACE_COUNT; i++)
		free(survey.lines[i]);
	free(survey.outcomes);
	return error;
}
