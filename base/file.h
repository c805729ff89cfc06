/* SPDX-License-Identifier: MIT */
/*
 * Small text files of the kernel: one value in /proc or a cgroup.
 *
 * Callers: any thread.
 *
 * Errors: -errno; a file that does not fit is cut, never an error. errno itself
 *	is left alone by peal__file_read(): options are checked with it, ahead of
 *	where their callers save it.
 */
#ifndef PEAL_BASE_FILE_H
#define PEAL_BASE_FILE_H

#include <stddef.h>

/* Read @path into @text, terminated. Returns the bytes read or -errno. */
int peal__file_read(const char *path, char *text, size_t text_bytes);

/*
 * The directory of this process's cgroup for @controller ("cpu", "memory"),
 * of the older hierarchy where it is mounted there, else of the unified one,
 * also where that is mounted beside the older ones.
 * @ret_root_bytes is the length of the mount point within it. 0 or -ENOENT.
 */
int peal__file_cgroup_directory(const char *controller, char *directory,
                                size_t directory_bytes, size_t *ret_root_bytes);

#endif
