/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mpsc/name.h"
#include "peal/observer.h"

/* A socket that was found, and where. */
struct found {
	char name[PEAL__NAME_MAX + 1];
	char path[PEAL__PATH_BYTES];
	unsigned int directory_index;
	dev_t device;
	ino_t inode;
};

struct list {
	struct found *items;
	size_t count, room;
};

static int add(struct list *list, const struct found *item)
{
	struct found *items = list->items;
	size_t room = list->room;

	if (list->count == room) {
		room = room == 0 ? 16 : room * 2;
		items = realloc(items, room * sizeof(*items));
		if (items == NULL)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	items[list->count++] = *item;
	return 0;
}

/* Add @name if it is a socket that a producer could attach to by this name. */
static int consider(struct list *list, int directory_fd, unsigned int index,
                    const char *name)
{
	struct found item = {.directory_index = index};
	struct stat status;

	/* Lock files and everything else with a name that no server can have
	 * is refused here, and so is a directory that somebody else made. */
	if (peal__name_for_client(name, index, item.path, NULL) < 0)
		return 0;
	/* A list without it would say that there is no such server. */
	if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOMEM ? -ENOMEM : 0;
	if (!S_ISSOCK(status.st_mode))
		return 0;
	strcpy(item.name, name);
	item.device = status.st_dev;
	item.inode = status.st_ino;
	return add(list, &item);
}

static int walk(struct list *list, unsigned int index, const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int error = 0;

	/* A directory that is not there, or not ours to see, has nothing. */
	if (directory == NULL)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM
		               ? -errno
		               : 0;
	while (error == 0 && (entry = readdir(directory)) != NULL)
		error = consider(list, dirfd(directory), index, entry->d_name);
	closedir(directory);
	return error;
}

static int by_name(const void *a, const void *b)
{
	const struct found *one = a, *other = b;
	int order = strcmp(one->name, other->name);

	if (order != 0)
		return order;
	return one->directory_index < other->directory_index ? -1 : 1;
}

/* One directory may be meant by two places: $PEAL_RUNTIME_DIR=/run/peal. */
static bool is_duplicate(const struct list *list, size_t i)
{
	for (size_t j = i; j > 0; j--) {
		const struct found *before = &list->items[j - 1];

		if (strcmp(before->name, list->items[i].name) != 0)
			return false;
		if (before->device == list->items[i].device &&
		    before->inode == list->items[i].inode)
			return true;
	}
	return false;
}

static int each(struct list *list,
                int (*found)(const char *name, const char *path, void *arg),
                void *arg)
{
	char path[PEAL__PATH_BYTES];
	int error = 0, known;

	for (unsigned int i = 0; error == 0; i++) {
		known = peal__name_directory(i, path);
		if (known == -ENOENT)
			break;
		/* Where no socket can be there is nothing to find. */
		if (known == 0)
			error = walk(list, i, path);
	}
	if (error < 0)
		return error;
	if (list->count > 1)
		qsort(list->items, list->count, sizeof(*list->items), by_name);
	for (size_t i = 0; error == 0 && i < list->count; i++)
		if (!is_duplicate(list, i))
			error = found(list->items[i].name, list->items[i].path,
			              arg);
	return error;
}

int peal_observer_each(int (*found)(const char *name, const char *path,
                                    void *arg),
                       void *arg)
{
	int saved_errno = errno, error;
	struct list list = {0};

	if (found == NULL)
		return -EINVAL;
	error = each(&list, found, arg);
	free(list.items);
	errno = saved_errno;
	return error;
}
