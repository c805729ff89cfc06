/* SPDX-License-Identifier: MIT */
/*
 * What the layers above need of a region beyond peal/shm.h.
 *
 *	hold -> memfd -> watch -> let -> allocate, seal    no child has a copy
 *
 * Callers: any thread.
 *
 * Death: of whoever created it: its memory goes with the last descriptor and
 *	the last mapping of it.
 *
 * Source: memfd_create(2), statfs(2).
 */
#ifndef PEAL_SHM_REGION_H
#define PEAL_SHM_REGION_H

#include "base/fork.h"
#include "peal/shm.h"

/* As peal_shm_create(), and @ret_fd, which comes as -1, is watched from the
 * first moment: to allocate a large region takes long enough for a fork. */
int peal__region_create(const struct peal_shm_options *options,
                        struct peal__fork_fd *ret_fd,
                        struct peal_shm_mapping *ret_mapping);

/* An empty memfd that is close-on-exec and no program; or -errno. */
int peal__region_memfd(const char *name, unsigned int flags);

/* The bytes of the pages that a region is made of, whatever its creator says: a
 * hole in huge ones is a SIGBUS for whoever touches it. 0 or -errno. */
int peal__region_page_bytes(int fd, uint64_t *ret_page_bytes);

#endif
