/* SPDX-License-Identifier: MIT */
/*
 * Regions of shared memory: sealed memfds that nobody can shrink, that were
 * allocated when they were made, and that vanish with their last user.
 *
 *	peal_shm_create()             peal_shm_map()
 *	  memfd (anonymous)             one reservation of addresses
 *	  +----------------+            +------+------+------+------+------+
 *	  | header | data  |  ------->  |header| data | data | more | more |
 *	  +----------------+            +------+------+------+------+------+
 *	  sealed: SHRINK GROW SEAL       copies = 1     copies = 2  ...
 *
 * A span that is mapped twice, back to back, makes every run of bytes of a
 * ring contiguous, whatever its position: the copy after the end *is* the
 * beginning.
 *
 * Callers: any thread. A mapping belongs to who made it; unmapping while
 *	another thread reads it is the caller's mistake.
 *
 * Progress: calls block only in the kernel's allocation of memory. Signals
 *	slow that down but do not end it: there is no -EINTR.
 *
 * Death: nothing is left. The kernel frees a region when the last descriptor
 *	and the last mapping are gone, and there is no name in any file system.
 *
 * Errors: a full tmpfs is -ENOSPC, a full hugetlb pool or a cgroup without
 *	head-room is -ENOMEM, both at create and never as a SIGBUS later. The
 *	head-room is looked at before, not reserved: two who ask at the same
 *	time may both get it.
 *
 *	What the seals do not forbid: who may write a region may also punch
 *	holes into it (fallocate(2)). Ordinary pages then read as zeroes and
 *	come back at the next touch, charged to who touches. Huge pages may
 *	raise SIGBUS: take none from somebody you do not trust.
 *
 * Units: bytes; every offset and size of a span is a multiple of the page
 *	size of the region (peal_shm_page_bytes()).
 *
 * Source: double mapping after "The Virtual Ring Buffer" (P. Howard, 1999)
 *	and Linux memfd_create(2), fcntl(2) F_ADD_SEALS.
 */
#ifndef PEAL_SHM_H
#define PEAL_SHM_H

#include <peal/base.h>

PEAL_BEGIN_DECLS

enum {
	/* 2 MiB pages. Only for regions that no hostile process maps: a hole
	 * punched into one may raise SIGBUS in whoever touches it. */
	PEAL_SHM_HUGE = 1 << 0,
	/* Touch every page now: no later access through @ret_mapping faults, and
	 * one through another mapping finds its page zeroed already. */
	PEAL_SHM_PREFAULT = 1 << 1,
	/* mlock(2) the mapping, which must be asked for: the kernel locks
	 * mappings, not regions. -ENOMEM, -EPERM or -EAGAIN when RLIMIT_MEMLOCK
	 * forbids. */
	PEAL_SHM_LOCK = 1 << 2,
	/* After our own mapping nobody may write any more (FUTURE_WRITE). */
	PEAL_SHM_READ_ONLY_FOR_OTHERS = 1 << 3,
};

#define PEAL_SHM_ANY_NODE (-1)

struct peal_shm_options {
	size_t size;      /* of this struct: PEAL_SHM_OPTIONS_INIT sets it */
	const char *name; /* for people, in /proc/PID/maps; at most 200 bytes,
			   * NULL is "peal" */
	uint64_t bytes;   /* 1 up to 4 GiB, rounded up to whole pages */
	uint32_t flags;   /* PEAL_SHM_HUGE | ... */
	int numa_node;    /* or PEAL_SHM_ANY_NODE */
	struct peal_failure *ret_failure; /* or NULL */
};
/* clang-format off */
#define PEAL_SHM_OPTIONS_INIT \
	{ sizeof(struct peal_shm_options), NULL, 0, 0, PEAL_SHM_ANY_NODE, NULL }
/* clang-format on */

/* A part of a region, mapped @copies times in a row. */
struct peal_shm_span {
	uint64_t offset_bytes;
	uint64_t bytes;
	uint32_t copies; /* 1 or 2 */
};

/* Where a region lies in this process. Spans follow each other in order. */
struct peal_shm_mapping {
	void *address;
	size_t bytes; /* of the whole reservation */
};

enum {
	PEAL_SHM_MAP_WRITE = 1 << 0,     /* else read-only */
	PEAL_SHM_MAP_DONT_FORK = 1 << 1, /* absent in a forked child */
	PEAL_SHM_MAP_PREFAULT = 1 << 2,  /* no later access faults */
	PEAL_SHM_MAP_LOCK = 1 << 3, /* each copy counts for RLIMIT_MEMLOCK */
};

/*
 * Make a region: memory is allocated, on @numa_node when one is given (on
 * another one when that is full; huge pages go where the calling thread's own
 * policy says), and sealed against every change of its size.
 * The descriptor is close-on-exec and belongs to the caller.
 *
 * @ret_mapping, when it is not NULL, becomes a mapping of the whole region,
 * writable, shared and PEAL_SHM_MAP_DONT_FORK. It may be NULL but for two
 * flags: with PEAL_SHM_READ_ONLY_FOR_OTHERS this is the one mapping that may
 * ever write, and with PEAL_SHM_LOCK it is what is locked.
 *
 * 0, or -EINVAL (an option is nonsense; ret_failure names it), -ENOSPC,
 * -ENOMEM, -EFBIG (RLIMIT_FSIZE), -EMFILE, -ENFILE, -EPERM or -EAGAIN
 * (locking).
 */
PEAL_API PEAL_MUST_CHECK int
peal_shm_create(const struct peal_shm_options *options, int *ret_fd,
                struct peal_shm_mapping *ret_mapping);

/*
 * Map @span_count spans (1 to 8) of @fd into one reservation, one after the
 * other, @flags from PEAL_SHM_MAP_*. The descriptor may be closed afterwards.
 * Spans may come from a peer's numbers, the descriptor must not: ask
 * peal_shm_check() first, or its owner may shrink the region under us.
 *
 * 0, or -EINVAL (a span is unaligned, empty, not copied once or twice, or
 * beyond the region; the descriptor is not a file; a flag is unknown), -EBADF,
 * -EPERM (writing is sealed off), -EACCES (the descriptor is read-only),
 * -ENOMEM (memory, addresses, or the lock limit), -EPERM or -EAGAIN (locking).
 */
PEAL_API PEAL_MUST_CHECK int peal_shm_map(int fd,
                                          const struct peal_shm_span *spans,
                                          size_t span_count, uint32_t flags,
                                          struct peal_shm_mapping *ret_mapping);

/* Take a mapping away and clear *@mapping. One that is clear is left alone. */
PEAL_API void peal_shm_unmap(struct peal_shm_mapping *mapping);

/*
 * Is @fd a region that may be trusted to keep its size: a memfd of at least
 * @bytes with at least the seals SHRINK, GROW and SEAL? More seals are fine.
 * It never blocks, not even on a file of a hostile FUSE file system.
 *
 * 0, or -EPROTO (not a memfd, too small, or not sealed), -EBADF.
 */
PEAL_API PEAL_MUST_CHECK int peal_shm_check(int fd, uint64_t bytes);

/* The page size of a region with these PEAL_SHM_ flags; x86: 4 KiB or 2 MiB. */
PEAL_API uint64_t peal_shm_page_bytes(uint32_t flags);

PEAL_END_DECLS

#endif
