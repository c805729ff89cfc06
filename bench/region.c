/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "limits.h"

static int region_create(uint64_t bytes, int *ret_fd)
{
	int fd = memfd_create("peal-bench", MFD_CLOEXEC);
	int error;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)(BENCH_CONTROL_BYTES + bytes)) != 0) {
		error = errno;
		close(fd);
		return -error;
	}
	*ret_fd = fd;
	return 0;
}

static int map_at(uint8_t *address, int fd, uint64_t bytes, uint64_t offset)
{
	void *at = mmap(address, bytes, PROT_READ | PROT_WRITE,
	                MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd,
	                (off_t)offset);

	return at == MAP_FAILED ? -errno : 0;
}

int bench_over_region(const struct bench_setting *setting,
                      const struct bench_work *work, uint64_t bytes,
                      bench_side_fn *first, bench_side_fn *second,
                      struct bench_result *ret_result)
{
	int fd = -1, result;

	result = region_create(bytes, &fd);
	if (result < 0)
		return result;
	result = bench_pair(setting, work, fd, first, second, ret_result);
	close(fd);
	return result;
}

int bench_region_map(int fd, uint64_t bytes, struct bench_region *ret_region)
{
	uint64_t total = BENCH_CONTROL_BYTES + 2 * bytes;
	uint8_t *address = mmap(NULL, total, PROT_NONE,
	                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int result;

	if (address == MAP_FAILED)
		return -errno;
	result = map_at(address, fd, BENCH_CONTROL_BYTES + bytes, 0);
	if (result == 0)
		result = map_at(address + BENCH_CONTROL_BYTES + bytes, fd,
		                bytes, BENCH_CONTROL_BYTES);
	if (result < 0) {
		munmap(address, total);
		return result;
	}
	ret_region->control = address;
	ret_region->data = address + BENCH_CONTROL_BYTES;
	ret_region->bytes = bytes;
	return 0;
}
