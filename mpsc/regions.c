/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/random.h"
#include "base/read.h"
#include "mpsc/server.h"
#include "shm/region.h"

static int open_region(const char *kind, const char *label, uint64_t bytes,
                       uint32_t flags, int numa_node,
                       struct peal_shm_mapping *mapping, int *ret_fd,
                       struct peal_failure *failure)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	char name[128];

	snprintf(name, sizeof(name), "peal-%s:%.107s", kind, label);
	options.name = name;
	options.bytes = bytes;
	options.flags = flags;
	options.numa_node = numa_node;
	options.ret_failure = failure;
	return peal_shm_create(&options, ret_fd, mapping);
}

int peal__regions_open(struct peal_consumer *consumer, const char *label,
                       int numa_node, int ret_fds[PEAL__REGION_COUNT],
                       struct peal_failure *failure)
{
	const uint32_t read_only = PEAL_SHM_READ_ONLY_FOR_OTHERS;
	int error;

	for (int i = 0; i < PEAL__REGION_COUNT; i++)
		ret_fds[i] = -1;
	error = open_region("arm", label, PEAL__ARM_BYTES, read_only, numa_node,
	                    &consumer->arm_mapping, &ret_fds[PEAL__REGION_ARM],
	                    failure);
	if (error == 0)
		error = open_region("bell", label, PEAL__BELL_BYTES, 0,
		                    numa_node, &consumer->bell_mapping,
		                    &ret_fds[PEAL__REGION_BELL], failure);
	if (error == 0)
		error = open_region("status", label,
		                    peal__status_bytes(consumer->slot_max),
		                    read_only, numa_node,
		                    &consumer->status_mapping,
		                    &ret_fds[PEAL__REGION_STATUS], failure);
	if (error < 0) {
		for (int i = 0; i < PEAL__REGION_COUNT; i++)
			if (ret_fds[i] >= 0)
				close(ret_fds[i]);
		peal__regions_close(consumer);
		return error;
	}
	consumer->arm_page = consumer->arm_mapping.address;
	consumer->arm_page->magic = PEAL__ARM_MAGIC;
	consumer->arm_page->version = PEAL__LAYOUT_VERSION;
	consumer->cpu = consumer->arm_page->cpu = -1;
	consumer->bell_page = consumer->bell_mapping.address;
	consumer->bell_page->seq = (uint32_t)peal__random();
	consumer->status = consumer->status_mapping.address;
	*consumer->status = (struct peal__status_server){
		.magic = PEAL__STATUS_MAGIC,
		.version = PEAL__LAYOUT_VERSION,
		.slot_max = consumer->slot_max,
		.slot_bytes = sizeof(struct peal__status_slot),
		.minor = PEAL__STATUS_MINOR,
		.role = consumer->owner != NULL ? consumer->owner->role
	                                        : PEAL__ROLE_PRODUCER,
		.server_bytes = sizeof(struct peal__status_server),
		.pid = getpid(),
		.uid = geteuid(),
		.state = PEAL__STATUS_OPEN,
		.opened_ns = peal__clock_ns(),
	};
	snprintf(consumer->status->name, sizeof(consumer->status->name), "%s",
	         label);
	consumer->status_slots =
		(struct peal__status_slot *)(consumer->status + 1);
	return 0;
}

void peal__regions_close(struct peal_consumer *consumer)
{
	peal_shm_unmap(&consumer->arm_mapping);
	peal_shm_unmap(&consumer->bell_mapping);
	peal_shm_unmap(&consumer->status_mapping);
}

static uint32_t map_flags(uint32_t memory_flags)
{
	return PEAL_SHM_MAP_WRITE | PEAL_SHM_MAP_DONT_FORK |
	       (memory_flags & PEAL_MEMORY_PREFAULT ? PEAL_SHM_MAP_PREFAULT
	                                            : 0) |
	       (memory_flags & PEAL_MEMORY_LOCK ? PEAL_SHM_MAP_LOCK : 0);
}

int peal__segment_open(struct peal__slot *slot, uint32_t memory_flags,
                       int numa_node, struct peal__fork_fd *ret_fd,
                       struct peal_failure *failure)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal__segment_shape *shape = &slot->shape;
	int error;

	options.name = "peal-segment";
	options.flags = memory_flags & PEAL_MEMORY_HUGE ? PEAL_SHM_HUGE : 0;
	options.numa_node = numa_node;
	options.ret_failure = failure;
	shape->page_bytes = peal_shm_page_bytes(options.flags);
	if (shape->page_bytes < PEAL__SEGMENT_HEADER_BYTES)
		shape->page_bytes = PEAL__SEGMENT_HEADER_BYTES;
	options.bytes = peal__segment_bytes(shape);
	error = peal__region_create(&options, ret_fd, NULL);
	if (error < 0)
		return error;
	error = peal__segment_map(ret_fd->fd, shape, map_flags(memory_flags),
	                          &slot->mapping);
	if (error < 0) {
		peal__fork_forget(ret_fd, true);
		return peal__fail(
			failure, error,
			"the server cannot map rings of %llu bytes",
			(unsigned long long)peal__segment_ring_bytes(shape));
	}
	slot->segment = slot->mapping.address;
	*slot->segment = (struct peal__segment){
		.magic = PEAL__SEGMENT_MAGIC,
		.version = PEAL__LAYOUT_VERSION,
		.slot_index = slot->peer.slot_index,
		.generation = slot->peer.generation,
	};
	slot->segment->word.cpu = -1;
	/* Many rings that began at the same place of their pages would fight
	 * for one set of the cache whenever they are scanned. */
	for (int i = 0; i < PEAL__RING_COUNT; i++) {
		uint64_t bytes = shape->rings[i].bytes;

		shape->rings[i].start =
			bytes == 0 ? 0 : peal__random() % bytes & ~UINT64_C(63);
		*peal__segment_released(slot->segment,
		                        (enum peal__segment_ring)i) =
			shape->rings[i].start;
	}
	slot->segment->word.position = shape->rings[PEAL__RING_REQUEST].start;
	return 0;
}
