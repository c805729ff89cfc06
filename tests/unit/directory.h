/* SPDX-License-Identifier: MIT */
/*
 * A private directory for the names of a test, chosen by $PEAL_RUNTIME_DIR and
 * removed with all that is in it.
 */
#ifndef PEAL_TESTS_UNIT_DIRECTORY_H
#define PEAL_TESTS_UNIT_DIRECTORY_H

#include "tests/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>

/* A user that is not ours. Nothing of it is kept outside our directory. */
#define DIRECTORY_UID 12345

struct directory {
	char path[32];
};

/* For a setup function: 0, or -1. */
static inline int directory_open(struct directory *directory)
{
	strcpy(directory->path, "/tmp/peal-test-XXXXXX");
	if (mkdtemp(directory->path) == NULL)
		return -1;
	return setenv("PEAL_RUNTIME_DIR", directory->path, 1);
}

static inline int directory_remove_one(const char *path,
                                       const struct stat *status, int kind,
                                       struct FTW *place)
{
	(void)status;
	(void)kind;
	(void)place;
	return remove(path);
}

static inline int directory_close(struct directory *directory)
{
	return nftw(directory->path, directory_remove_one, 8,
	            FTW_DEPTH | FTW_PHYS);
}

/* How many names are in it; each is told, for whoever wonders. */
static inline int directory_count(const struct directory *directory)
{
	DIR *opened = opendir(directory->path);
	struct dirent *entry;
	int count = 0;

	while (opened != NULL && (entry = readdir(opened)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0)
			count++;
	if (opened != NULL)
		closedir(opened);
	return count;
}

/* These two assert. */
static inline void directory_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static inline void directory_copy(const char *from, const char *to)
{
	int from_fd = open(from, O_RDONLY | O_CLOEXEC);
	int to_fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	ssize_t got;

	assert_true(from_fd >= 0 && to_fd >= 0);
	do
		got = sendfile(to_fd, from_fd, NULL, 1 << 24);
	while (got > 0);
	assert_int_equal(got, 0);
	close(from_fd);
	close(to_fd);
}

/* In a child: be a user with few rights. Who is none of root's stays as is. */
static inline bool directory_become_user(void)
{
	if (geteuid() != 0)
		return true;
	return setgroups(0, NULL) == 0 && setgid(DIRECTORY_UID) == 0 &&
	       setuid(DIRECTORY_UID) == 0;
}

#endif
