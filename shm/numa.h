/* SPDX-License-Identifier: MIT */
/*
 * Placement on NUMA nodes: the only part of peal that knows libnuma.
 *
 * Callers: any thread, once per region, before its pages are allocated.
 */
#ifndef PEAL_SHM_NUMA_H
#define PEAL_SHM_NUMA_H

#include <stddef.h>

#include "peal/base.h"

/*
 * Let the pages of a shared mapping be allocated on @node, and elsewhere when
 * that is full. The policy stays with the file, not the mapping. 0, or -EINVAL
 * with a sentence when this machine has no such node (or no NUMA at all and
 * @node is not 0), or -errno of mbind(2) with a sentence.
 */
int peal__numa_place(void *address, size_t bytes, int node,
                     struct peal_failure *failure);

#endif
