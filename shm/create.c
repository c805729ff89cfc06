/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/options.h"
#include "peal/shm.h"
#include "shm/headroom.h"
#include "shm/numa.h"
#include "shm/region.h"

/* Younger than some C libraries we build with. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21U << 26)
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define REGION_BYTES_MAX (UINT64_C(4) << 30)
#define NAME_BYTES_MAX 200
#define FLAGS_KNOWN                                                     \
	((uint32_t)(PEAL_SHM_HUGE | PEAL_SHM_PREFAULT | PEAL_SHM_LOCK | \
	            PEAL_SHM_READ_ONLY_FOR_OTHERS))

/* Flags that make no sense, alone or together with the other arguments. */
static int check_flags(const struct peal_shm_options *options,
                       const struct peal_shm_mapping *ret_mapping)
{
	struct peal_failure *failure = options->ret_failure;

	if ((options->flags & ~FLAGS_KNOWN) != 0)
		return peal__fail(failure, -EINVAL,
		                  "options.flags has 0x%" PRIx32
		                  ", which peal %s does not know",
		                  options->flags & ~FLAGS_KNOWN,
		                  peal_version());
	if (ret_mapping != NULL)
		return 0;
	if (options->flags & PEAL_SHM_READ_ONLY_FOR_OTHERS)
		return peal__fail(failure, -EINVAL,
		                  "options.flags has READ_ONLY_FOR_OTHERS, so "
		                  "ret_mapping must not be NULL: nobody could "
		                  "ever write");
	if (options->flags & PEAL_SHM_LOCK)
		return peal__fail(failure, -EINVAL,
		                  "options.flags has LOCK, so ret_mapping must "
		                  "not be NULL: a lock is one of a mapping");
	return 0;
}

static int check_options(const struct peal_shm_options *options,
                         const struct peal_shm_mapping *ret_mapping)
{
	struct peal_failure *failure = options->ret_failure;

	if (options->name != NULL &&
	    strnlen(options->name, NAME_BYTES_MAX + 1) > NAME_BYTES_MAX)
		return peal__fail(failure, -EINVAL,
		                  "options.name is longer than %d bytes",
		                  NAME_BYTES_MAX);
	if (options->bytes == 0 || options->bytes > REGION_BYTES_MAX)
		return peal__fail(failure, -EINVAL,
		                  "options.bytes is %" PRIu64
		                  "; a region has 1 to %" PRIu64 " bytes",
		                  options->bytes, REGION_BYTES_MAX);
	if (options->numa_node < PEAL_SHM_ANY_NODE)
		return peal__fail(
			failure, -EINVAL,
			"options.numa_node is %d; use a node's number "
			"or PEAL_SHM_ANY_NODE",
			options->numa_node);
	return check_flags(options, ret_mapping);
}

/* Whole pages, and a size that this process could also map. */
static int round_up(const struct peal_shm_options *options, uint64_t *ret_bytes)
{
	uint64_t page_bytes = peal_shm_page_bytes(options->flags);
	uint64_t bytes = (options->bytes + page_bytes - 1) & ~(page_bytes - 1);

	if ((size_t)bytes != bytes)
		return peal__fail(options->ret_failure, -EINVAL,
		                  "options.bytes is %" PRIu64
		                  ", more than a 32-bit process can map",
		                  options->bytes);
	*ret_bytes = bytes;
	return 0;
}

/* Limits that would end the process or somebody else's, not just the call. */
static int check_limits(const struct peal_shm_options *options, uint64_t bytes)
{
	struct rlimit limit;

	/* The kernel sends SIGXFSZ, which kills, to who goes beyond this. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
	    limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur)
		return peal__fail(options->ret_failure, -EFBIG,
		                  "options.bytes is %" PRIu64
		                  ", but RLIMIT_FSIZE allows %" PRIu64,
		                  options->bytes, (uint64_t)limit.rlim_cur);
	/* Huge pages have a pool of their own. */
	if (options->flags & PEAL_SHM_HUGE)
		return 0;
	return peal__headroom_check(bytes, options->ret_failure);
}

int peal__region_memfd(const char *name, unsigned int flags)
{
	int fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_NOEXEC_SEAL);

	/* Before Linux 6.3 nobody knew that flag; since then it may be wanted. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags | MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_memfd(const struct peal_shm_options *options,
                      struct peal__fork_fd *ret_fd)
{
	const char *name = options->name != NULL ? options->name : "peal";
	unsigned int flags = MFD_ALLOW_SEALING;
	int fd, error;

	if (options->flags & PEAL_SHM_HUGE)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	peal__fork_hold();
	fd = peal__region_memfd(name, flags);
	ret_fd->fd = fd < 0 ? -1 : fd;
	peal__fork_watch_held(ret_fd);
	peal__fork_let();
	if (fd >= 0)
		return 0;
	error = -fd;
	if ((options->flags & PEAL_SHM_HUGE) &&
	    (error == ENODEV || error == ENOSYS || error == EINVAL))
		return peal__fail(
			options->ret_failure, -EINVAL,
			"options.flags has HUGE, but this machine has "
			"no pages of 2 MiB");
	return peal__fail(options->ret_failure, -error,
	                  "memfd_create failed: %s", peal_strerror(error));
}

/* A pool of huge pages that is too small, in the words of who can mend it. */
static int fail_pool(const struct peal_shm_options *options, uint64_t bytes)
{
	return peal__fail(options->ret_failure, -ENOMEM,
	                  "options.bytes needs %" PRIu64
	                  " free huge pages of 2 MiB, more than the pool has; "
	                  "see /proc/sys/vm/nr_hugepages",
	                  bytes / peal_shm_page_bytes(PEAL_SHM_HUGE));
}

static int map_whole(int fd, const struct peal_shm_options *options,
                     uint64_t bytes, uint32_t flags,
                     struct peal_shm_mapping *ret_mapping)
{
	struct peal_shm_span whole = {0, bytes, 1};
	int error = peal_shm_map(fd, &whole, 1, flags, ret_mapping);

	if (error == 0)
		return 0;
	if (error == -ENOMEM && (options->flags & PEAL_SHM_HUGE))
		return fail_pool(options, bytes);
	return peal__fail(options->ret_failure, error,
	                  "mapping %" PRIu64 " bytes failed: %s", bytes,
	                  peal_strerror(error));
}

/* The placement belongs to the file and outlives the mapping it came by. */
static int place(int fd, const struct peal_shm_options *options, uint64_t bytes)
{
	struct peal_shm_mapping mapping;
	int error;

	if (options->numa_node == PEAL_SHM_ANY_NODE)
		return 0;
	error = map_whole(fd, options, bytes, PEAL_SHM_MAP_WRITE, &mapping);
	if (error != 0)
		return error;
	error = peal__numa_place(mapping.address, mapping.bytes,
	                         options->numa_node, options->ret_failure);
	peal_shm_unmap(&mapping);
	return error;
}

/*
 * On older kernels a signal ends fallocate(2), which then takes back what it
 * had done. Smaller and smaller steps get ahead even of a timer that fires all
 * the time.
 */
static int allocate(int fd, const struct peal_shm_options *options,
                    uint64_t bytes)
{
	uint64_t page_bytes = peal_shm_page_bytes(options->flags);
	uint64_t done = 0, step = bytes;

	while (done < bytes) {
		if (step > bytes - done)
			step = bytes - done;
		if (fallocate(fd, 0, (off_t)done, (off_t)step) == 0) {
			done += step;
			continue;
		}
		if (errno != EINTR)
			break;
		if (step > page_bytes)
			step = step / 2 & ~(page_bytes - 1);
	}
	if (done == bytes)
		return 0;
	if ((options->flags & PEAL_SHM_HUGE) &&
	    (errno == ENOSPC || errno == ENOMEM))
		return fail_pool(options, bytes);
	return peal__fail(options->ret_failure, -errno,
	                  "options.bytes is %" PRIu64
	                  ", but allocating them failed: %s",
	                  options->bytes, peal_strerror(errno));
}

/* The mapping the caller gets, or a passing one to touch every page by. */
static int map_and_lock(int fd, const struct peal_shm_options *options,
                        uint64_t bytes, bool keep,
                        struct peal_shm_mapping *ret_mapping)
{
	uint32_t flags = PEAL_SHM_MAP_WRITE | PEAL_SHM_MAP_DONT_FORK;
	struct peal_shm_mapping mapping;
	int error;

	if (options->flags & PEAL_SHM_PREFAULT)
		flags |= PEAL_SHM_MAP_PREFAULT;
	else if (!keep)
		return 0;
	error = map_whole(fd, options, bytes, flags, &mapping);
	if (error != 0)
		return error;
	if (!keep) {
		peal_shm_unmap(&mapping);
		return 0;
	}
	if ((options->flags & PEAL_SHM_LOCK) &&
	    mlock(mapping.address, mapping.bytes) != 0) {
		error = errno;
		peal_shm_unmap(&mapping);
		return peal__fail(options->ret_failure, -error,
		                  "options.flags has LOCK, but locking %" PRIu64
		                  " bytes failed (%s); see RLIMIT_MEMLOCK",
		                  bytes, peal_strerror(error));
	}
	*ret_mapping = mapping;
	return 0;
}

/* All at once: after F_SEAL_SEAL no other seal can be added. */
static int seal(int fd, const struct peal_shm_options *options)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	if (options->flags & PEAL_SHM_READ_ONLY_FOR_OTHERS)
		seals |= F_SEAL_FUTURE_WRITE;
	if (fcntl(fd, F_ADD_SEALS, seals) == 0)
		return 0;
	return peal__fail(options->ret_failure, -errno,
	                  "sealing the region failed: %s",
	                  peal_strerror(errno));
}

static int fill(int fd, const struct peal_shm_options *options, uint64_t bytes,
                bool keep, struct peal_shm_mapping *ret_mapping)
{
	int error;

	if (ftruncate(fd, (off_t)bytes) != 0)
		return peal__fail(options->ret_failure, -errno,
		                  "ftruncate failed: %s", peal_strerror(errno));
	/* Pages go where the policy says at the moment of their allocation. */
	error = place(fd, options, bytes);
	if (error == 0)
		error = allocate(fd, options, bytes);
	if (error == 0)
		error = map_and_lock(fd, options, bytes, keep, ret_mapping);
	if (error != 0)
		return error;
	/* Our own mapping may write because it is older than the seal. */
	error = seal(fd, options);
	if (error != 0)
		peal_shm_unmap(ret_mapping);
	return error;
}

static int create(const struct peal_shm_options *options,
                  struct peal__fork_fd *ret_fd,
                  struct peal_shm_mapping *ret_mapping)
{
	struct peal_shm_mapping mapping = {NULL, 0};
	uint64_t bytes;
	int error;

	if (ret_fd == NULL)
		return peal__fail(options->ret_failure, -EINVAL,
		                  "ret_fd is NULL");
	error = check_options(options, ret_mapping);
	if (error == 0)
		error = round_up(options, &bytes);
	if (error == 0)
		error = check_limits(options, bytes);
	if (error == 0)
		error = open_memfd(options, ret_fd);
	if (error != 0)
		return error;
	error = fill(ret_fd->fd, options, bytes, ret_mapping != NULL, &mapping);
	if (error != 0) {
		peal__fork_forget(ret_fd, true);
		return error;
	}
	if (ret_mapping != NULL)
		*ret_mapping = mapping;
	return 0;
}

int peal__region_create(const struct peal_shm_options *options,
                        struct peal__fork_fd *ret_fd,
                        struct peal_shm_mapping *ret_mapping)
{
	struct peal_shm_options known = PEAL_SHM_OPTIONS_INIT;
	int saved_errno = errno;
	int result = peal__options_take(
		&known, sizeof(known),
		offsetof(struct peal_shm_options, ret_failure), options);

	if (result == 0)
		result = create(&known, ret_fd, ret_mapping);
	errno = saved_errno;
	return result;
}

int peal_shm_create(const struct peal_shm_options *options, int *ret_fd,
                    struct peal_shm_mapping *ret_mapping)
{
	struct peal__fork_fd watched = {.fd = -1};
	int error = peal__region_create(
		options, ret_fd == NULL ? NULL : &watched, ret_mapping);

	if (error != 0 || ret_fd == NULL)
		return error;
	/* From now on it is the caller's, who may want its children to have it. */
	*ret_fd = watched.fd;
	peal__fork_forget(&watched, false);
	return 0;
}
