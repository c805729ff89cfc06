/* SPDX-License-Identifier: MIT */
#include "shm/headroom.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "base/file.h"

/* The same facts under the names of the two versions of the controller. */
struct names {
	const char *limit, *used, *swap_limit, *swap_used;
	const char
		*kernel; /* a file; the newer version has it in memory.stat */
	const char *reclaimable[3]; /* lines of memory.stat */
};

static const struct names newer = {
	"memory.max",
	"memory.current",
	"memory.swap.max",
	"memory.swap.current",
	NULL,
	{"inactive_file ", "active_file ", "slab_reclaimable "},
};

/*
 * The older version does not say which of the kernel's memory it could take
 * back, so all of it counts. Its swap limit is one of memory and swap together
 * and is left out.
 */
static const struct names older = {
	"memory.limit_in_bytes",
	"memory.usage_in_bytes",
	NULL,
	NULL,
	"memory.kmem.usage_in_bytes",
	{"total_inactive_file ", "total_active_file ", NULL},
};

static uint64_t add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t subtract(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* "max" and whatever else is no number is @otherwise. */
static uint64_t to_number(const char *text, uint64_t otherwise)
{
	if (*text < '0' || *text > '9')
		return otherwise;
	return strtoull(text, NULL, 10);
}

static uint64_t read_number(const char *directory, const char *file,
                            uint64_t otherwise)
{
	char path[PATH_MAX], text[32];
	int bytes;

	if (file == NULL)
		return otherwise;
	bytes = snprintf(path, sizeof(path), "%s/%s", directory, file);
	if (bytes < 0 || (size_t)bytes >= sizeof(path) ||
	    peal__file_read(path, text, sizeof(text)) <= 0)
		return otherwise;
	return to_number(text, otherwise);
}

/* The number behind @key, which begins a line of @text; 0 without one. */
static uint64_t find_number(const char *text, const char *key)
{
	size_t key_bytes = strlen(key);

	while (text != NULL && strncmp(text, key, key_bytes) != 0) {
		text = strchr(text, '\n');
		if (text != NULL)
			text++;
	}
	if (text == NULL)
		return 0;
	text += key_bytes;
	return to_number(text + strspn(text, " "), 0);
}

static uint64_t swap_free_bytes(const char *directory,
                                const struct names *names)
{
	uint64_t machine, group;
	char text[4096];

	if (peal__file_read("/proc/meminfo", text, sizeof(text)) <= 0)
		return 0;
	machine = find_number(text, "SwapFree:") * 1024;
	group = subtract(read_number(directory, names->swap_limit, UINT64_MAX),
	                 read_number(directory, names->swap_used, 0));
	return machine < group ? machine : group;
}

static uint64_t reclaimable_bytes(const char *directory,
                                  const struct names *names)
{
	uint64_t sum = read_number(directory, names->kernel, 0);
	char path[PATH_MAX], text[8192];
	int bytes = snprintf(path, sizeof(path), "%s/memory.stat", directory);

	if (bytes < 0 || (size_t)bytes >= sizeof(path) ||
	    peal__file_read(path, text, sizeof(text)) <= 0)
		return sum;
	/* Shared memory is on the lists of anonymous pages, not on these. */
	for (size_t i = 0; i < 3 && names->reclaimable[i] != NULL; i++)
		sum = add(sum, find_number(text, names->reclaimable[i]));
	return sum;
}

static int check_group(const char *directory, uint64_t bytes,
                       struct peal_failure *failure)
{
	const struct names *names = &newer;
	uint64_t limit = read_number(directory, names->limit, UINT64_MAX);
	uint64_t used, room;

	if (limit == UINT64_MAX) {
		names = &older;
		limit = read_number(directory, names->limit, UINT64_MAX);
	}
	if (limit == UINT64_MAX)
		return 0;
	used = read_number(directory, names->used, 0);
	if (bytes <= subtract(limit, used))
		return 0;
	used = subtract(used, reclaimable_bytes(directory, names));
	room = add(subtract(limit, used), swap_free_bytes(directory, names));
	if (bytes <= room)
		return 0;
	return peal__fail(failure, -ENOMEM,
	                  "options.bytes is %" PRIu64 ", but only %" PRIu64
	                  " of %" PRIu64 " bytes are free in cgroup %s",
	                  bytes, room, limit, directory);
}

int peal__headroom_check(uint64_t bytes, struct peal_failure *failure)
{
	char directory[PATH_MAX];
	size_t root_bytes;

	if (peal__file_cgroup_directory("memory", directory, sizeof(directory),
	                                &root_bytes) != 0)
		return 0;
	for (;;) {
		int error = check_group(directory, bytes, failure);
		char *slash = strrchr(directory, '/');

		if (error != 0)
			return error;
		if (slash == NULL || (size_t)(slash - directory) < root_bytes)
			return 0;
		*slash = '\0';
	}
}
