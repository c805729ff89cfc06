/* SPDX-License-Identifier: MIT */
#include "base/cpu.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/rseq.h>
#include <unistd.h>

#include "base/file.h"

#define PATH_BYTES 512
#define CPU_MAX 8192 /* the most that Linux is built for */

int peal__cpu_current(void)
{
#if defined(RSEQ_SIG) && defined(__GNUC__) && __GNUC__ >= 11
	const struct rseq *rseq;
	int cpu;

	if (__rseq_size == 0)
		return sched_getcpu();
	rseq = (const struct rseq *)((const char *)__builtin_thread_pointer() +
	                             __rseq_offset);
	/* Relaxed: the kernel stores it for this very thread. */
	cpu = (int)__atomic_load_n(&rseq->cpu_id, __ATOMIC_RELAXED);
	return cpu < 0 ? -1 : cpu; /* -2: this thread could not register */
#else
	return sched_getcpu();
#endif
}

int peal__cpu_leave(int cpu)
{
	const size_t bytes = CPU_ALLOC_SIZE(CPU_MAX);
	cpu_set_t all[CPU_ALLOC_SIZE(CPU_MAX) / sizeof(cpu_set_t)];
	cpu_set_t others[CPU_ALLOC_SIZE(CPU_MAX) / sizeof(cpu_set_t)];
	int saved_errno = errno, error = 0;

	CPU_ZERO_S(bytes, all);
	if (sched_getaffinity(0, bytes, all) != 0)
		error = -errno;
	memcpy(others, all, bytes);
	CPU_CLR_S((size_t)cpu, bytes, others);
	if (error == 0 && CPU_COUNT_S(bytes, others) == 0)
		error = -EINVAL;
	/* It returns when the thread has moved. */
	if (error == 0 && (sched_setaffinity(0, bytes, others) != 0 ||
	                   sched_setaffinity(0, bytes, all) != 0))
		error = -errno;
	errno = saved_errno;
	return error;
}

int peal__cpu_online_count(void)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);

	return count > 0 ? (int)count : 1;
}

/* The quota of one cgroup directory in thousandths, or UINT32_MAX. */
static uint32_t quota_of(const char *directory)
{
	char path[PATH_BYTES + 32], text[64];
	long long quota_us, period_us = 0;

	snprintf(path, sizeof(path), "%s/cpu.max", directory);
	if (peal__file_read(path, text, sizeof(text)) > 0) {
		if (sscanf(text, "%lld %lld", &quota_us, &period_us) != 2)
			return UINT32_MAX; /* "max 100000" */
	} else {
		snprintf(path, sizeof(path), "%s/cpu.cfs_quota_us", directory);
		if (peal__file_read(path, text, sizeof(text)) <= 0)
			return UINT32_MAX;
		quota_us = strtoll(text, NULL, 10);
		snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", directory);
		if (peal__file_read(path, text, sizeof(text)) > 0)
			period_us = strtoll(text, NULL, 10);
	}
	if (quota_us <= 0 || period_us <= 0 || quota_us / period_us > 1000000)
		return UINT32_MAX;
	return (uint32_t)(quota_us * 1000 / period_us);
}

uint32_t peal__cpu_quota_millis(void)
{
	char directory[PATH_BYTES];
	uint32_t least = UINT32_MAX;
	size_t root_bytes;
	char *slash;

	/* A quota may stand at any level above our own group. */
	if (peal__file_cgroup_directory("cpu", directory, sizeof(directory),
	                                &root_bytes) < 0)
		return UINT32_MAX;
	for (;;) {
		uint32_t quota = quota_of(directory);

		if (quota < least)
			least = quota;
		slash = strrchr(directory, '/');
		if (slash == NULL || (size_t)(slash - directory) < root_bytes)
			return least;
		*slash = '\0';
	}
}
