/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the shm layer share: a region, what can be touched without
 * dying of it, and what this process holds.
 */
#ifndef PEAL_TESTS_UNIT_REGION_H
#define PEAL_TESTS_UNIT_REGION_H

#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "peal/shm.h"

#define PAGE ((uint64_t)sysconf(_SC_PAGESIZE))

/* The value that errno must still have after each call. */
#define OUR_ERRNO 4321

static inline int make(uint64_t bytes, uint32_t flags,
                       struct peal_shm_mapping *ret_mapping)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_failure failure = {0, ""};
	int fd = -1, error;

	options.bytes = bytes;
	options.flags = flags;
	options.ret_failure = &failure;
	error = peal_shm_create(&options, &fd, ret_mapping);
	if (error != 0)
		print_message("create: %s\n", failure.text);
	assert_int_equal(error, 0);
	return fd;
}

static inline struct peal_shm_mapping map_whole(int fd, uint64_t bytes,
                                                uint32_t flags)
{
	struct peal_shm_span span = {0, bytes, 1};
	struct peal_shm_mapping mapping = {NULL, 0};

	assert_int_equal(peal_shm_map(fd, &span, 1, flags, &mapping), 0);
	assert_non_null(mapping.address);
	assert_int_equal(mapping.bytes, bytes);
	return mapping;
}

/* Can the kernel read, or write, a byte there? It says EFAULT, not SIGSEGV. */
static inline bool is_readable(const void *address)
{
	int ends[2];
	bool yes;

	if (pipe(ends) != 0)
		return false;
	yes = write(ends[1], address, 1) == 1;
	close(ends[0]);
	close(ends[1]);
	return yes;
}

static inline bool is_writable(void *address)
{
	int ends[2];
	bool yes;

	if (pipe(ends) != 0)
		return false;
	yes = write(ends[1], "w", 1) == 1 && read(ends[0], address, 1) == 1;
	close(ends[0]);
	close(ends[1]);
	return yes;
}

/* What a process holds, counted without allocating anything. */
struct held {
	int fds, maps;
};

static inline struct held count_held(void)
{
	static char maps_text[1 << 20];
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	struct held held = {0, 0};
	ssize_t got;

	while ((got = read(fd, maps_text, sizeof(maps_text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			held.maps += maps_text[i] == '\n';
	close(fd);
	for (fd = 0; fd < 1024; fd++)
		held.fds += fcntl(fd, F_GETFD) >= 0;
	return held;
}

static inline bool is_same(struct held a, struct held b)
{
	return a.fds == b.fds && a.maps == b.maps;
}

static inline uint64_t free_huge_pages(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t pages = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "HugePages_Free:", 15) == 0)
			pages = strtoull(line + 15, NULL, 10);
	if (file != NULL)
		fclose(file);
	return pages;
}

#endif
