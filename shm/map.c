/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "shm/region.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define SPAN_MAX 8
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)
#define FLAGS_KNOWN                                               \
	((uint32_t)(PEAL_SHM_MAP_WRITE | PEAL_SHM_MAP_DONT_FORK | \
	            PEAL_SHM_MAP_PREFAULT | PEAL_SHM_MAP_LOCK))

static uint64_t base_page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

int peal__region_page_bytes(int fd, uint64_t *ret_page_bytes)
{
	struct statfs status;

	*ret_page_bytes = base_page_bytes();
	if (fstatfs(fd, &status) != 0)
		return -errno;
	if ((uint32_t)status.f_type == HUGETLBFS_MAGIC)
		*ret_page_bytes = (uint64_t)status.f_bsize;
	return 0;
}

/*
 * The sum of all copies, each of them inside a region of @region_bytes. Spans
 * may have been computed from what a peer sent, so no sum may wrap.
 */
static int sum_spans(const struct peal_shm_span *spans, size_t span_count,
                     uint64_t region_bytes, uint64_t page_bytes,
                     uint64_t *ret_bytes)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < span_count; i++) {
		const struct peal_shm_span *span = &spans[i];

		if (span->copies < 1 || span->copies > 2 || span->bytes == 0)
			return -EINVAL;
		if (span->offset_bytes % page_bytes != 0 ||
		    span->bytes % page_bytes != 0)
			return -EINVAL;
		if (span->offset_bytes > region_bytes ||
		    span->bytes > region_bytes - span->offset_bytes)
			return -EINVAL;
		for (uint32_t copy = 0; copy < span->copies; copy++)
			if (__builtin_add_overflow(sum, span->bytes, &sum))
				return -ENOMEM;
	}
	*ret_bytes = sum;
	return 0;
}

/*
 * Addresses that nobody else gets, so that the pieces can be put there with
 * MAP_FIXED. Huge pages want an aligned beginning: take up to one page more
 * and give back what lies around the aligned part.
 */
static int reserve(uint64_t bytes, uint64_t page_bytes,
                   struct peal_shm_mapping *ret_mapping)
{
	uint64_t extra = page_bytes - base_page_bytes();
	uint64_t total, before;
	char *address;

	if (__builtin_add_overflow(bytes, extra, &total) ||
	    (size_t)total != total)
		return -ENOMEM;
	address = mmap(NULL, (size_t)total, PROT_NONE,
	               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (address == MAP_FAILED)
		return -errno;
	before = -(uint64_t)(uintptr_t)address & (page_bytes - 1);
	if (before > 0)
		munmap(address, (size_t)before);
	if (extra > before)
		munmap(address + before + bytes, (size_t)(extra - before));
	ret_mapping->address = address + before;
	ret_mapping->bytes = (size_t)bytes;
	return 0;
}

/*
 * A MAP_FIXED that the file refuses may leave a gap in the reservation, which
 * another thread could fill before we give the reservation back. So the file
 * is asked beforehand, at an address that does not matter.
 */
static int probe(int fd, const struct peal_shm_span *span, int protection)
{
	void *address = mmap(NULL, (size_t)span->bytes, protection, MAP_SHARED,
	                     fd, (off_t)span->offset_bytes);

	if (address == MAP_FAILED)
		return -errno;
	munmap(address, (size_t)span->bytes);
	return 0;
}

static int put_pieces(int fd, const struct peal_shm_span *spans,
                      size_t span_count, uint32_t flags, char *address)
{
	int protection = PROT_READ, how = MAP_SHARED | MAP_FIXED;

	if (flags & PEAL_SHM_MAP_WRITE)
		protection |= PROT_WRITE;
	/* Before Linux 5.14 this is all there is; it hides its failures. */
	if ((flags & PEAL_SHM_MAP_PREFAULT) &&
	    madvise(address, 0, MADV_POPULATE_READ) != 0)
		how |= MAP_POPULATE;
	for (size_t i = 0; i < span_count; i++) {
		size_t bytes = (size_t)spans[i].bytes;
		int error = probe(fd, &spans[i], protection);

		if (error != 0)
			return error;
		for (uint32_t copy = 0; copy < spans[i].copies; copy++) {
			if (mmap(address, bytes, protection, how, fd,
			         (off_t)spans[i].offset_bytes) == MAP_FAILED)
				return -errno;
			address += bytes;
		}
	}
	return 0;
}

static int prefault(const struct peal_shm_mapping *mapping, uint32_t flags)
{
	int advice = flags & PEAL_SHM_MAP_WRITE ? MADV_POPULATE_WRITE
	                                        : MADV_POPULATE_READ;

	while (madvise(mapping->address, mapping->bytes, advice) != 0) {
		if (errno == EINVAL)
			return 0; /* put_pieces() has done it */
		/* Where touching the page would have raised SIGBUS. */
		if (errno == EFAULT)
			return -ENOMEM;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int settle(const struct peal_shm_mapping *mapping, uint32_t flags)
{
	int error;

	if ((flags & PEAL_SHM_MAP_DONT_FORK) &&
	    madvise(mapping->address, mapping->bytes, MADV_DONTFORK) != 0)
		return -errno;
	if (flags & PEAL_SHM_MAP_PREFAULT) {
		error = prefault(mapping, flags);
		if (error != 0)
			return error;
	}
	if ((flags & PEAL_SHM_MAP_LOCK) &&
	    mlock(mapping->address, mapping->bytes) != 0)
		return -errno;
	return 0;
}

static int map(int fd, const struct peal_shm_span *spans, size_t span_count,
               uint32_t flags, struct peal_shm_mapping *ret_mapping)
{
	struct peal_shm_mapping mapping;
	uint64_t page_bytes, bytes;
	struct stat status;
	int error;

	if (spans == NULL || span_count < 1 || span_count > SPAN_MAX ||
	    (flags & ~FLAGS_KNOWN) != 0 || ret_mapping == NULL)
		return -EINVAL;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	error = peal__region_page_bytes(fd, &page_bytes);
	if (error == 0)
		error = sum_spans(spans, span_count, (uint64_t)status.st_size,
		                  page_bytes, &bytes);
	if (error == 0)
		error = reserve(bytes, page_bytes, &mapping);
	if (error != 0)
		return error;
	error = put_pieces(fd, spans, span_count, flags, mapping.address);
	if (error == 0)
		error = settle(&mapping, flags);
	if (error != 0) {
		munmap(mapping.address, mapping.bytes);
		return error;
	}
	*ret_mapping = mapping;
	return 0;
}

int peal_shm_map(int fd, const struct peal_shm_span *spans, size_t span_count,
                 uint32_t flags, struct peal_shm_mapping *ret_mapping)
{
	int saved_errno = errno;
	int result = map(fd, spans, span_count, flags, ret_mapping);

	errno = saved_errno;
	return result;
}

void peal_shm_unmap(struct peal_shm_mapping *mapping)
{
	int saved_errno = errno;

	if (mapping == NULL || mapping->address == NULL)
		return;
	munmap(mapping->address, mapping->bytes);
	mapping->address = NULL;
	mapping->bytes = 0;
	errno = saved_errno;
}

uint64_t peal_shm_page_bytes(uint32_t flags)
{
	return flags & PEAL_SHM_HUGE ? HUGE_PAGE_BYTES : base_page_bytes();
}
