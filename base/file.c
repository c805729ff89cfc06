/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

static int read_file(const char *path, char *text, size_t text_bytes)
{
	size_t used = 0;
	ssize_t got = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (used + 1 < text_bytes) {
		got = read(fd, text + used, text_bytes - 1 - used);
		if (got <= 0)
			break;
		used += (size_t)got;
	}
	if (got < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	close(fd);
	text[used] = '\0';
	return (int)used;
}

int peal__file_read(const char *path, char *text, size_t text_bytes)
{
	int saved_errno = errno;
	int result = read_file(path, text, text_bytes);

	errno = saved_errno;
	return result;
}

/*
 * The path of our group within a hierarchy, from a line of /proc/self/cgroup:
 * "4:cpu,cpuacct:/group" (older) or "0::/group" (unified).
 */
static const char *group_in_line(char *line, const char *controller)
{
	char *names = strchr(line, ':');
	char *group = names == NULL ? NULL : strchr(names + 1, ':');
	char *save = NULL;

	if (group == NULL)
		return NULL;
	*group++ = '\0';
	names++;
	if (*controller == '\0')
		return *names == '\0' ? group : NULL;
	for (char *name = strtok_r(names, ",", &save); name != NULL;
	     name = strtok_r(NULL, ",", &save))
		if (strcmp(name, controller) == 0)
			return group;
	return NULL;
}

static int find_group(const char *controller, const char *root, char *directory,
                      size_t directory_bytes, size_t *ret_root_bytes)
{
	char text[4096], *save = NULL;
	struct stat status;

	if (peal__file_read("/proc/self/cgroup", text, sizeof(text)) <= 0)
		return -ENOENT;
	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		const char *group = group_in_line(line, controller);
		int bytes;

		if (group == NULL)
			continue;
		bytes = snprintf(directory, directory_bytes, "%s%s", root,
		                 strcmp(group, "/") == 0 ? "" : group);
		if (bytes < 0 || (size_t)bytes >= directory_bytes)
			return -ENOENT;
		/* In a container the path may be one of the host's. */
		if (stat(directory, &status) != 0)
			directory[strlen(root)] = '\0';
		if (stat(directory, &status) != 0)
			return -ENOENT;
		*ret_root_bytes = strlen(root);
		return 0;
	}
	return -ENOENT;
}

int peal__file_cgroup_directory(const char *controller, char *directory,
                                size_t directory_bytes, size_t *ret_root_bytes)
{
	struct statfs status;
	char root[64];

	snprintf(root, sizeof(root), CGROUP_ROOT "/%s", controller);
	if (find_group(controller, root, directory, directory_bytes,
	               ret_root_bytes) == 0)
		return 0;
	/* Where both hierarchies are mounted, the unified one is beside the
	 * others; in a unified one that name would be somebody's group. */
	if (statfs(CGROUP_ROOT, &status) == 0 &&
	    status.f_type != CGROUP2_SUPER_MAGIC &&
	    find_group("", CGROUP_ROOT "/unified", directory, directory_bytes,
	               ret_root_bytes) == 0)
		return 0;
	return find_group("", CGROUP_ROOT, directory, directory_bytes,
	                  ret_root_bytes);
}
