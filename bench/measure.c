/* SPDX-License-Identifier: MIT */
#include "measure.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

double bench_tick_ns(void)
{
	static double tick_ns;
	uint64_t ns, ticks, end;

	if (tick_ns > 0)
		return tick_ns;
	ns = bench_now_ns();
	ticks = bench_ticks();
	do {
		end = bench_now_ns();
	} while (end - ns < 20000000);
	tick_ns = (double)(end - ns) / (double)(bench_ticks() - ticks);
	return tick_ns;
}

void bench_busy(void)
{
	uint64_t ticks = (uint64_t)(BENCH_BUSY_NS / bench_tick_ns());
	uint64_t begin = bench_ticks();

	while (bench_ticks() - begin < ticks)
		bench_pause();
}

int bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) != 0 ? -errno : 0;
}

int bench_unpin(const struct bench_setting *setting)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)setting->cpu[0], &set);
	CPU_SET((size_t)setting->cpu[1], &set);
	return sched_setaffinity(0, sizeof(set), &set) != 0 ? -errno : 0;
}

int bench_usable_cpus(int *ret_cpus, int cpu_max)
{
	cpu_set_t set;
	int count = 0;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return -errno;
	for (int cpu = 0; cpu < CPU_SETSIZE && count < cpu_max; cpu++)
		if (CPU_ISSET((size_t)cpu, &set))
			ret_cpus[count++] = cpu;
	return count;
}

static size_t rank(size_t count, double percent)
{
	size_t index = (size_t)((double)count * percent / 100);

	return index < count ? index : count - 1;
}

static int compare_double(const void *left, const void *right)
{
	double a = *(const double *)left;
	double b = *(const double *)right;

	return (a > b) - (a < b);
}

double bench_percentile(double *values, size_t count, double percent)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), compare_double);
	return values[rank(count, percent)];
}

static int compare_u32(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left;
	uint32_t b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

uint32_t bench_percentile_u32(uint32_t *values, size_t count, double percent)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), compare_u32);
	return values[rank(count, percent)];
}
