/* SPDX-License-Identifier: MIT */
#include "mpsc/observer_proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "mpsc/connect.h"
#include "shm/region.h"

#define LINK_BEFORE "/memfd:" PEAL__STATUS_REGION
#define LINK_AFTER " (deleted)"
#define LINK_BYTES 320

/* How well the name of a region fits the name that is looked for. */
enum match { MATCH_NONE, MATCH_LAST_PART, MATCH_EXACT };

int peal__process_of_peer(int socket_fd, struct peal__process *ret_process)
{
	struct ucred peer;
	socklen_t bytes = sizeof(peer);

	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
		return -errno;
	ret_process->pidfd = peal__pidfd_of_peer(socket_fd, peer.pid);
	/* Nothing would tell whose number it is when it is used. */
	ret_process->pid = ret_process->pidfd < 0 ? 0 : peer.pid;
	ret_process->uid = peer.uid;
	return 0;
}

bool peal__process_has_gone(const struct peal__process *process)
{
	struct pollfd poll_fd = {.fd = process->pidfd, .events = POLLIN};

	return process->pidfd >= 0 && poll(&poll_fd, 1, 0) > 0;
}

bool peal__process_is_stopped(const struct peal__process *process)
{
	char path[64], text[512], *end;

	if (process->pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", process->pid);
	if (peal__file_read(path, text, sizeof(text)) <= 0)
		return false;
	/* "PID (NAME) STATE ...", and the name may be anything but too long. */
	end = strrchr(text, ')');
	if (end == NULL || end[1] != ' ')
		return false;
	return end[2] == 'T' || end[2] == 't';
}

static const char *last_part(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash == NULL ? name : slash + 1;
}

/* Is this descriptor a status region, and of which server? */
static enum match match_link(int directory_fd, const char *entry,
                             const char *name)
{
	const size_t before = strlen(LINK_BEFORE), after = strlen(LINK_AFTER);
	char link[LINK_BYTES];
	ssize_t bytes = readlinkat(directory_fd, entry, link, sizeof(link) - 1);

	if (bytes < (ssize_t)(before + after))
		return MATCH_NONE;
	link[bytes] = '\0';
	if (memcmp(link, LINK_BEFORE, before) != 0 ||
	    strcmp(link + bytes - after, LINK_AFTER) != 0)
		return MATCH_NONE;
	link[(size_t)bytes - after] = '\0';
	if (strcmp(link + before, name) == 0)
		return MATCH_EXACT;
	if (strcmp(last_part(link + before), last_part(name)) == 0)
		return MATCH_LAST_PART;
	return MATCH_NONE;
}

/*
 * Does @fd, opened with O_PATH, lie where memfds lie? Its name proves nothing:
 * a process in a mount namespace of its own can have a file of any name, on a
 * file system of its own that answers never. The kernel is asked for what it
 * knows already.
 */
static bool is_memfd(int fd)
{
	struct statx status;
	struct stat ours;
	int our_fd = peal__region_memfd("peal-compare", 0);
	bool same;

	if (our_fd < 0)
		return false;
	same = fstat(our_fd, &ours) == 0 &&
	       statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE,
	             &status) == 0 &&
	       S_ISREG(status.stx_mode) &&
	       makedev(status.stx_dev_major, status.stx_dev_minor) ==
	               ours.st_dev;
	close(our_fd);
	return same;
}

static int open_memfd(int directory_fd, const char *entry, int *ret_fd)
{
	char path[64];
	int fd, error = 0;
	int path_fd = openat(directory_fd, entry, O_PATH | O_CLOEXEC);

	if (path_fd < 0)
		return -errno;
	if (!is_memfd(path_fd)) {
		close(path_fd);
		return -ENOENT;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		error = -errno;
	else
		*ret_fd = fd;
	close(path_fd);
	return error;
}

/* The entry of @directory that fits best; 0 or -errno. */
static int find_entry(DIR *directory, const char *name, uint64_t deadline_ns,
                      char ret_entry[16])
{
	enum match best = MATCH_NONE;
	unsigned int best_count = 0, looked_count = 0;
	struct dirent *entry;

	while ((entry = readdir(directory)) != NULL) {
		enum match match =
			match_link(dirfd(directory), entry->d_name, name);

		/* Its table may have a million descriptors. */
		if (++looked_count % 1024 == 0 &&
		    peal__clock_ns() >= deadline_ns)
			return -ETIMEDOUT;
		if (match == MATCH_NONE || match < best)
			continue;
		best_count = match == best ? best_count + 1 : 1;
		if (match > best)
			snprintf(ret_entry, 16, "%.15s", entry->d_name);
		best = match;
	}
	if (best == MATCH_NONE)
		return -ENOENT;
	/* No two living servers have one name, but two may have one last
	 * part, and showing the wrong one is worse than showing none. */
	return best == MATCH_LAST_PART && best_count > 1 ? -ENOTUNIQ : 0;
}

static int open_status(const struct peal__process *process, const char *name,
                       uint64_t deadline_ns, int *ret_fd)
{
	char path[64], entry[16] = "";
	DIR *directory;
	int error, fd = -1;

	if (process->pid <= 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/%d/fd", process->pid);
	directory = opendir(path);
	if (directory == NULL)
		return errno == ENOENT ? -ECONNRESET : -errno;
	error = find_entry(directory, name, deadline_ns, entry);
	if (error == 0)
		error = open_memfd(dirfd(directory), entry, &fd);
	closedir(directory);
	if (error == 0 && peal__process_has_gone(process)) {
		close(fd);
		error = -ECONNRESET;
	}
	if (error == 0)
		*ret_fd = fd;
	return error == -EPERM ? -EACCES : error;
}

int peal__process_open_status(const struct peal__process *process,
                              const char *name, uint64_t deadline_ns,
                              int *ret_fd)
{
	int saved_errno = errno;
	int result = open_status(process, name, deadline_ns, ret_fd);

	errno = saved_errno;
	return result;
}
