/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <sys/utsname.h>

#include <peal/base.h>

#include "survey.h"

struct spread {
	double median;
	double min;
	double max;
};

static struct spread spread_of(double *values, size_t count)
{
	/* Of an even number, what lies between the two in the middle. */
	double upper = bench_percentile(values, count, 50);
	double lower = count > 0 ? values[(count - 1) / 2] : 0;

	return (struct spread){
		.median = (lower + upper) / 2,
		.min = bench_percentile(values, count, 0),
		.max = bench_percentile(values, count, 100),
	};
}

/* Over all runs, wherever the processors were. */
static double mean_aside(const struct bench_outcome *outcome,
                         const struct bench_column *column)
{
	size_t count = 0;

	for (int i = 0; i < BENCH_PLACE_COUNT; i++)
		count += outcome->run_count[i];
	return count > 0 ? column->aside_sum / (double)count : 0;
}

static const char *place_name(const struct bench_setting *setting,
                              enum bench_place place)
{
	if (!bench_has_two_cpus(setting))
		return "one";
	return place == BENCH_FAR    ? "far"
	       : place == BENCH_NEAR ? "near"
	                             : "siblings";
}

static void format_value(double value, enum bench_unit unit, size_t bytes,
                         char *ret_text, size_t text_bytes)
{
	if (unit == BENCH_NS && value < 10000)
		snprintf(ret_text, text_bytes, "%.1f ns", value);
	else if (unit == BENCH_NS)
		snprintf(ret_text, text_bytes, "%.1f us", value / 1e3);
	else if (unit == BENCH_MESSAGES)
		snprintf(ret_text, text_bytes, "%.2f M/s", value / 1e6);
	else
		snprintf(ret_text, text_bytes, "%.2f GB/s",
		         value * (double)bytes / 1e9);
}

static const char *verdict(double ratio, double bar, enum bench_unit unit)
{
	if (bar <= 0)
		return "";
	return (unit == BENCH_NS ? ratio <= bar : ratio >= bar) ? "yes" : "NO";
}

static void print_goal(const struct bench_row *row, enum bench_place place,
                       const struct spread *own)
{
	double goal = place == BENCH_FAR ? row->goal_far : row->goal_near;
	char value[24], wanted[24];

	if (goal <= 0)
		return;
	format_value(own->median, row->unit, row->work.payload_bytes, value,
	             sizeof(value));
	format_value(goal, row->unit, row->work.payload_bytes, wanted,
	             sizeof(wanted));
	printf("    %-48s %12s  ", "asked for, as reached on another machine",
	       wanted);
	printf("%5.2f                %s\n", own->median / goal,
	       verdict(own->median / goal, 1, row->unit));
}

static void print_limit(const struct bench_row *row,
                        const struct bench_limit *limit, enum bench_place place,
                        struct bench_column *column, size_t count)
{
	struct spread values = spread_of(column->values[place], count);
	struct spread ratios = spread_of(column->ratios[place], count);
	double bar = place == BENCH_FAR ? limit->bar_far : limit->bar_near;
	char text[24], bar_text[16] = "";

	format_value(values.median, row->unit, row->work.payload_bytes, text,
	             sizeof(text));
	if (bar > 0)
		snprintf(bar_text, sizeof(bar_text), "%s %.2f",
		         row->unit == BENCH_NS ? "<=" : ">=", bar);
	printf("    %-48s %12s  %5.2f  %5.2f..%-6.2f %-8s %s\n", limit->what,
	       text, ratios.median, ratios.min, ratios.max, bar_text,
	       verdict(ratios.median, bar, row->unit));
}

static void print_row(const struct bench_setting *setting,
                      const struct bench_row *row,
                      struct bench_outcome *outcome, enum bench_place place)
{
	size_t count = outcome->run_count[place];
	size_t bytes = row->work.payload_bytes;
	char text[24], low[24], high[24];
	double aside = mean_aside(outcome, &outcome->peal);
	struct spread own;

	own = spread_of(outcome->peal.values[place], count);
	format_value(own.median, row->unit, bytes, text, sizeof(text));
	format_value(own.min, row->unit, bytes, low, sizeof(low));
	format_value(own.max, row->unit, bytes, high, sizeof(high));
	printf("  %-50s %12s  %s of %zu, %s .. %s", row->what, text,
	       place_name(setting, place), count, low, high);
	if (row->work.sleeps)
		printf("; %.2f sleeps each (limit %.2f)", aside,
		       mean_aside(outcome, &outcome->limits[0]));
	else if (row->work.crowd_count > 1)
		printf("; the least has %.2f of the most", aside);
	else if (aside >= 0.01 && row->unit != BENCH_NS)
		printf("; %.2f sleeps in 1000", aside);
	putchar('\n');
	for (size_t i = 0; i < bench_limit_count(row); i++)
		print_limit(row, &row->limits[i], place, &outcome->limits[i],
		            count);
	print_goal(row, place, &own);
}

static void print_json(const struct bench_setting *setting,
                       const struct bench_section *section,
                       const struct bench_row *row,
                       struct bench_outcome *outcome, enum bench_place place)
{
	size_t count = outcome->run_count[place];
	struct spread own = spread_of(outcome->peal.values[place], count);

	for (size_t i = 0; i < bench_limit_count(row); i++) {
		const struct bench_limit *limit = &row->limits[i];
		struct bench_column *column = &outcome->limits[i];
		struct spread bare = spread_of(column->values[place], count);
		struct spread ratio = spread_of(column->ratios[place], count);
		double bar = place == BENCH_FAR ? limit->bar_far
		                                : limit->bar_near;
		static bool is_later;

		printf("%s{\"section\":\"%s\",\"what\":\"%s\",\"limit\":\"%s\",",
		       is_later ? ",\n" : "\n", section->name, row->what,
		       limit->what);
		is_later = true;
		printf("\"place\":\"%s\",\"runs\":%zu,\"unit\":\"%s\",",
		       place_name(setting, place), count,
		       row->unit == BENCH_NS ? "ns" : "messages/s");
		printf("\"payload_bytes\":%zu,", row->work.payload_bytes);
		printf("\"value\":[%.3f,%.3f,%.3f],", own.min, own.median,
		       own.max);
		printf("\"limit_value\":[%.3f,%.3f,%.3f],", bare.min,
		       bare.median, bare.max);
		printf("\"ratio\":[%.4f,%.4f,%.4f],", ratio.min, ratio.median,
		       ratio.max);
		printf("\"bar\":%.2f,", bar);
		printf("\"sleeps\":%.3f}", mean_aside(outcome, &outcome->peal));
	}
}

/* Where the processors were while this section ran. */
static void print_places(const struct bench_setting *setting,
                         struct bench_survey *survey)
{
	for (enum bench_place i = BENCH_SIBLINGS; i < BENCH_PLACE_COUNT; i++) {
		size_t count = survey->line_count[i];
		struct spread line;

		if (count == 0 || !bench_has_two_cpus(setting))
			continue;
		line = spread_of(survey->lines[i], count);
		printf("  one line there and back, %-8s %*.1f ns  "
		       "%zu times, %.1f .. %.1f\n",
		       place_name(setting, i), 26, line.median, count, line.min,
		       line.max);
	}
	if (survey->moved_count != 0)
		printf("  the host moved a processor in %zu runs; they were "
		       "done again\n",
		       survey->moved_count);
	printf("    %-48s %12s  %5s  %-13s %-8s %s\n", "", "median", "ratio",
	       "min..max", "bar", "reached");
}

void bench_print_section(const struct bench_section *section,
                         const struct bench_setting *setting,
                         struct bench_survey *survey)
{
	if (!setting->json) {
		printf("\n%s: %s\n", section->name, section->what);
		print_places(setting, survey);
	}
	for (size_t i = 0; i < section->row_count; i++) {
		const struct bench_row *row = &section->rows[i];
		struct bench_outcome *outcome = &survey->outcomes[i];

		for (enum bench_place place = BENCH_SIBLINGS;
		     place < BENCH_PLACE_COUNT; place++) {
			if (outcome->run_count[place] == 0)
				continue;
			if (setting->json)
				print_json(setting, section, row, outcome,
				           place);
			else
				print_row(setting, row, outcome, place);
		}
		if (setting->json)
			continue;
		if (outcome->error < 0)
			printf("  %-50s %12s  why is on standard error\n",
			       row->what, "failed");
		else if (row->needs_two_cpus && !bench_has_two_cpus(setting))
			printf("  %-50s %12s  needs two processors\n",
			       row->what, "-");
	}
	fflush(stdout);
}

static const char *cpu_model(char *line, size_t bytes)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	const char *found = "unknown processor";

	while (file != NULL && fgets(line, (int)bytes, file) != NULL) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) != 0 || colon == NULL)
			continue;
		line[strcspn(line, "\n")] = '\0';
		found = colon + 2;
		break;
	}
	if (file != NULL)
		fclose(file);
	return found;
}

void bench_table_begin(const struct bench_setting *setting)
{
	struct utsname system;
	char line[256];

	uname(&system);
	if (setting->json) {
		printf("{\"peal\":\"%s\",\"processor\":\"%s\",", peal_version(),
		       cpu_model(line, sizeof(line)));
		printf("\"kernel\":\"%s\",\"cpus\":[%d,%d],\"runs\":%u,",
		       system.release, setting->cpu[0], setting->cpu[1],
		       setting->run_count);
		printf("\"seconds\":%g,\"rows\":[", setting->seconds);
		return;
	}
	printf("peal %s on %s, Linux %s\n", peal_version(),
	       cpu_model(line, sizeof(line)), system.release);
	if (!bench_has_two_cpus(setting))
		printf("Only one processor (%d): nobody can spin for anybody, "
		       "so only what makes sense on one is measured.\n",
		       setting->cpu[0]);
	else
		printf("processors %d and %d; medians of %u runs of %g s; a "
		       "ratio is taken within one run\n",
		       setting->cpu[0], setting->cpu[1], setting->run_count,
		       setting->seconds);
}

void bench_table_end(const struct bench_setting *setting)
{
	if (setting->json)
		puts("\n]}");
}
