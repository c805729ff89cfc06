/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "peal/shm.h"

#define SEALS_NEEDED (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int check(int fd, uint64_t bytes)
{
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);

	/*
	 * Only memfds know seals; every other file says EINVAL, and EBADF when
	 * it came as O_PATH. Then it is the peer's mistake, not ours.
	 */
	if (seals < 0)
		return fcntl(fd, F_GETFD) < 0 ? -EBADF : -EPROTO;
	/* Seals come first: only then can the size no longer change. */
	if ((seals & SEALS_NEEDED) != SEALS_NEEDED)
		return -EPROTO;
	if (fstat(fd, &status) != 0)
		return -errno;
	if (status.st_size < 0 || (uint64_t)status.st_size < bytes)
		return -EPROTO;
	return 0;
}

int peal_shm_check(int fd, uint64_t bytes)
{
	int saved_errno = errno;
	int result = check(fd, bytes);

	errno = saved_errno;
	return result;
}
