/* SPDX-License-Identifier: MIT */
/*
 * Does the memory controller still leave room for a region?
 *
 *	/sys/fs/cgroup              limit: none
 *	  service.slice             limit 1 GiB,  used 300 MiB
 *	    server.service          limit 64 MiB, used  50 MiB   <- we run here
 *
 * Every group on the way up must have room. A group over its limit has the
 * kernel kill somebody while it allocates, so it is better to be refused.
 *
 * Callers: any thread, once per region, before its pages are allocated.
 *
 * Errors: this is best effort and errs towards letting a region through. What
 *	the kernel can take back (cached files, its own caches, swap) counts as
 *	free, and a file that is absent or makes no sense counts as no limit.
 *	Nothing is reserved: who asks at the same time may get the same room.
 *
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst and
 *	cgroup-v1/memory.rst.
 */
#ifndef PEAL_SHM_HEADROOM_H
#define PEAL_SHM_HEADROOM_H

#include <stdint.h>

#include "peal/base.h"

/* 0, or -ENOMEM with a sentence that names the group in the way. */
int peal__headroom_check(uint64_t bytes, struct peal_failure *failure);

#endif
