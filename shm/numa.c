/* SPDX-License-Identifier: MIT */
#include "shm/numa.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>

#include "base/failure.h"

#define NODE_MAX 1024
#define WORD_BITS (8 * sizeof(unsigned long))

static int place(void *address, size_t bytes, int node,
                 struct peal_failure *failure)
{
	unsigned long nodes[NODE_MAX / WORD_BITS] = {0};
	int error;

	if (node < 0 || node >= NODE_MAX)
		return peal__fail(failure, -EINVAL,
		                  "options.numa_node is %d; nodes are 0 to %d",
		                  node, NODE_MAX - 1);
	if (numa_available() < 0) {
		/* All memory is as near as memory can be. */
		if (node == 0)
			return 0;
		return peal__fail(failure, -EINVAL,
		                  "options.numa_node is %d, but this machine "
		                  "does not let us place memory on nodes",
		                  node);
	}
	if (!numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned int)node))
		return peal__fail(failure, -EINVAL,
		                  "options.numa_node is %d, a node that this "
		                  "machine has not got or this process may not "
		                  "use (the last one is %d)",
		                  node, numa_max_node());
	/*
	 * libnuma's own calls for this print and may exit, so the system call
	 * is made here. Preferred, not bound: when a bound node is full, the
	 * kernel kills somebody instead of going to the next one.
	 */
	nodes[(size_t)node / WORD_BITS] = 1UL << ((size_t)node % WORD_BITS);
	if (mbind(address, bytes, MPOL_PREFERRED, nodes, NODE_MAX + 1, 0) == 0)
		return 0;
	error = errno;
	return peal__fail(failure, -error,
	                  "options.numa_node is %d, but mbind said: %s", node,
	                  peal_strerror(error));
}

int peal__numa_place(void *address, size_t bytes, int node,
                     struct peal_failure *failure)
{
	int saved_errno = errno;
	int result = place(address, bytes, node, failure);

	errno = saved_errno;
	return result;
}
