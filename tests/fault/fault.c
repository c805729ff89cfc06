/* SPDX-License-Identifier: MIT */
#include "tests/fault/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD /* Linux 6.5 */
#define SO_PEERPIDFD 77
#endif

#define FAULT_AIM_MAX 4

/* Written by the thread that arms, before and after what it watches. */
static struct {
	uint32_t whose; /* enum fault_whose */
	uint32_t number;
	int pass;
	pthread_t walker;
	uint32_t count;
	uint64_t errors[3];
	const char *name;
	int error;
	struct fault_aim aims[FAULT_AIM_MAX];
} plan;

bool fault_is_full, fault_has_no_peerpidfd;
static int64_t live_allocations, mapped_bytes;

#define LOAD(word) __atomic_load_n(&(word), __ATOMIC_SEQ_CST)
#define STORE(word, value) __atomic_store_n(&(word), (value), __ATOMIC_SEQ_CST)
#define ADD(word, value) __atomic_fetch_add(&(word), (value), __ATOMIC_SEQ_CST)

void fault_arm_at(enum fault_whose whose, const struct fault_aim *aims)
{
	for (int i = 0; i < FAULT_AIM_MAX && aims[i].name != NULL; i++)
		plan.aims[i] = aims[i];
	plan.walker = pthread_self();
	STORE(plan.name, NULL);
	STORE(plan.whose, whose);
}

void fault_arm(enum fault_whose whose, uint32_t number, int pass)
{
	memset(plan.aims, 0, sizeof(plan.aims));
	plan.number = number;
	plan.pass = pass;
	plan.walker = pthread_self();
	STORE(plan.count, 0);
	STORE(plan.name, NULL);
	for (int i = 0; i < 3; i++)
		STORE(plan.errors[i], 0);
	STORE(plan.whose, whose);
}

struct fault fault_look(void)
{
	struct fault fault = {.name = LOAD(plan.name),
	                      .error = LOAD(plan.error)};

	for (int i = 0; i < 3; i++)
		fault.errors[i] = LOAD(plan.errors[i]);
	return fault;
}

struct fault fault_disarm(void)
{
	STORE(plan.whose, FAULT_NOBODYS);
	memset(plan.aims, 0, sizeof(plan.aims));
	return fault_look();
}

int64_t fault_live_allocations(void)
{
	return LOAD(live_allocations);
}

int64_t fault_mapped_bytes(void)
{
	return LOAD(mapped_bytes);
}

/* Of a list that ends with 0: the error of this pass, or 0. */
static int error_of_pass(const int *errors)
{
	int error;

	if (plan.pass == FAULT_PASS_FROM_NOW_ON) {
		error = errors[0];
		return error == ENOMEM || error == EMFILE || error == ENOSPC
		               ? error
		               : 0;
	}
	for (int i = 0; i < plan.pass; i++)
		if (errors[i] == 0)
			return 0;
	return errors[plan.pass];
}

/* Is it aimed at? */
static bool hits(const char *name)
{
	for (int i = 0; i < FAULT_AIM_MAX; i++) {
		struct fault_aim *aim = &plan.aims[i];

		if (aim->name == NULL || strcmp(aim->name, name) != 0 ||
		    LOAD(aim->times) == 0)
			continue;
		__atomic_fetch_sub(&aim->times, 1, __ATOMIC_SEQ_CST);
		STORE(plan.error, aim->error);
		STORE(plan.name, aim->name);
		errno = aim->error;
		return true;
	}
	return false;
}

/* Is this call to fail? Then errno says how. */
static bool strikes(const char *name, const int *errors)
{
	uint32_t whose = LOAD(plan.whose), count;
	int error;

	if (whose == FAULT_NOBODYS ||
	    (whose == FAULT_MINE) !=
	            (pthread_equal(pthread_self(), plan.walker) != 0))
		return false;
	if (plan.aims[0].name != NULL)
		return hits(name);
	error = error_of_pass(errors);
	if (error == 0)
		return false;
	count = ADD(plan.count, 1) + 1;
	if (count < plan.number ||
	    (count > plan.number && plan.pass != FAULT_PASS_FROM_NOW_ON))
		return false;
	if (count == plan.number) {
		STORE(plan.error, error);
		STORE(plan.name, name);
	}
	__atomic_fetch_or(&plan.errors[error / 64], UINT64_C(1) << error % 64,
	                  __ATOMIC_SEQ_CST);
	errno = error;
	return true;
}

#define STRIKES(name, ...) strikes(name, (const int[]){__VA_ARGS__, 0})

/* A wrapper for a call that tells its failure by @failed and errno. */
#define WRAP(type, name, parameters, arguments, failed, ...) \
	type __real_##name parameters;                       \
	type __wrap_##name parameters;                       \
	type __wrap_##name parameters                        \
	{                                                    \
		if (STRIKES(#name, __VA_ARGS__))             \
			return failed;                       \
		return __real_##name arguments;              \
	}

/* memory ------------------------------------------------------------------- */

#define WRAP_ALLOCATOR(name, parameters, arguments)    \
	void *__real_##name parameters;                \
	void *__wrap_##name parameters;                \
	void *__wrap_##name parameters                 \
	{                                              \
		void *memory;                          \
                                                       \
		if (STRIKES(#name, ENOMEM))            \
			return NULL;                   \
		memory = __real_##name arguments;      \
		ADD(live_allocations, memory != NULL); \
		return memory;                         \
	}

WRAP_ALLOCATOR(malloc, (size_t bytes), (bytes))
WRAP_ALLOCATOR(calloc, (size_t count, size_t bytes), (count, bytes))
WRAP_ALLOCATOR(aligned_alloc, (size_t alignment, size_t bytes),
               (alignment, bytes))
WRAP_ALLOCATOR(strdup, (const char *text), (text))

void *__real_realloc(void *memory, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes)
{
	void *moved;

	if (STRIKES("realloc", ENOMEM))
		return NULL;
	moved = __real_realloc(memory, bytes);
	ADD(live_allocations, memory == NULL && moved != NULL);
	return moved;
}

void __real_free(void *memory);
void __wrap_free(void *memory);
void __wrap_free(void *memory)
{
	ADD(live_allocations, -(memory != NULL));
	__real_free(memory);
}

void *__real_mmap64(void *address, size_t bytes, int protection, int flags,
                    int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags,
                    int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t bytes, int protection, int flags,
                    int fd, off_t offset)
{
	void *mapped;

	if (STRIKES("mmap", ENOMEM))
		return MAP_FAILED;
	mapped = __real_mmap64(address, bytes, protection, flags, fd, offset);
	/* A piece that is put into a reservation takes no addresses. */
	if (mapped != MAP_FAILED && (flags & MAP_FIXED) == 0)
		ADD(mapped_bytes, (int64_t)bytes);
	return mapped;
}

int __real_munmap(void *address, size_t bytes);
int __wrap_munmap(void *address, size_t bytes);
int __wrap_munmap(void *address, size_t bytes)
{
	ADD(mapped_bytes, -(int64_t)bytes);
	return __real_munmap(address, bytes);
}

WRAP(int, memfd_create, (const char *name, unsigned int flags), (name, flags),
     -1, EMFILE, ENOMEM, ENFILE)
WRAP(int, ftruncate64, (int fd, off_t bytes), (fd, bytes), -1, ENOMEM)
WRAP(int, fallocate64, (int fd, int mode, off_t offset, off_t bytes),
     (fd, mode, offset, bytes), -1, ENOSPC, ENOMEM, EINTR)
WRAP(int, madvise, (void *address, size_t bytes, int advice),
     (address, bytes, advice), -1, ENOMEM)
WRAP(int, mlock, (const void *address, size_t bytes), (address, bytes), -1,
     ENOMEM, EAGAIN, EPERM)
WRAP(long, mbind,
     (void *address, unsigned long bytes, int mode, const unsigned long *nodes,
      unsigned long node_max, unsigned int flags),
     (address, bytes, mode, nodes, node_max, flags), -1, ENOMEM, EPERM, EIO)

/* files -------------------------------------------------------------------- */

/* What the kernel tells of itself is read from dozens of files, and done without
 * when it cannot be read; those of /proc/sys are few. */
static bool is_struck_path(const char *path)
{
	return fault_is_full || strncmp(path, "/proc/sys/", 10) == 0 ||
	       (strncmp(path, "/sys/", 5) != 0 &&
	        strncmp(path, "/proc/", 6) != 0);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list arguments;

	if (flags & O_CREAT) {
		va_start(arguments, flags);
		mode = va_arg(arguments, mode_t);
		va_end(arguments);
	}
	if (is_struck_path(path) && STRIKES("open", EMFILE, ENOMEM, ENFILE))
		return -1;
	return __real_open64(path, flags, mode);
}

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...)
{
	va_list arguments;
	long argument;

	va_start(arguments, command);
	argument = va_arg(arguments, long);
	va_end(arguments);
	if ((command == F_ADD_SEALS && STRIKES("fcntl(F_ADD_SEALS)", ENOMEM)) ||
	    (command == F_OFD_SETLK &&
	     STRIKES("fcntl(F_OFD_SETLK)", ENOLCK, ENOMEM)) ||
	    (command == F_DUPFD_CLOEXEC &&
	     STRIKES("fcntl(F_DUPFD_CLOEXEC)", EMFILE)))
		return -1;
	return __real_fcntl64(fd, command, argument);
}

WRAP(int, fstat64, (int fd, struct stat *status), (fd, status), -1, ENOMEM)
WRAP(int, lstat64, (const char *path, struct stat *status), (path, status), -1,
     ENOMEM)

int __real_stat64(const char *path, struct stat *status);
int __wrap_stat64(const char *path, struct stat *status);
int __wrap_stat64(const char *path, struct stat *status)
{
	if (is_struck_path(path) && STRIKES("stat", ENOMEM))
		return -1;
	return __real_stat64(path, status);
}

ssize_t __real_read(int fd, void *data, size_t bytes);
ssize_t __wrap_read(int fd, void *data, size_t bytes);
ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
	if (fault_is_full && STRIKES("read", ENOMEM, EINTR))
		return -1;
	return __real_read(fd, data, bytes);
}

WRAP(int, openat64, (int directory_fd, const char *path, int flags),
     (directory_fd, path, flags), -1, EMFILE, ENOMEM, EACCES)
WRAP(ssize_t, pread64, (int fd, void *data, size_t bytes, off_t offset),
     (fd, data, bytes, offset), -1, ENOMEM, EIO)
WRAP(ssize_t, readlinkat,
     (int directory_fd, const char *path, char *link, size_t bytes),
     (directory_fd, path, link, bytes), -1, ENOMEM, EACCES)
WRAP(int, fstatat64,
     (int directory_fd, const char *path, struct stat *status, int flags),
     (directory_fd, path, status, flags), -1, ENOMEM)
WRAP(int, statx,
     (int directory_fd, const char *path, int flags, unsigned int mask,
      struct statx *status),
     (directory_fd, path, flags, mask, status), -1, ENOMEM, ENOSYS)
WRAP(int, fstatfs64, (int fd, struct statfs *status), (fd, status), -1, ENOMEM,
     ENOSYS)
WRAP(int, statfs64, (const char *path, struct statfs *status), (path, status),
     -1, ENOMEM, ENOSYS)
WRAP(DIR *, opendir, (const char *path), (path), NULL, EMFILE, ENOMEM, ENFILE)

/* Not ENOMEM, or in the last pass nobody could clean up. */
WRAP(int, unlink, (const char *path), (path), -1, EIO, EROFS)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1, ENOMEM,
     ENOSPC)
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode), -1, ENOMEM)
WRAP(int, rename, (const char *from, const char *to), (from, to), -1, ENOMEM,
     ENOSPC)

/* Whoever closes has closed, whatever it is told. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	int result = __real_close(fd);

	return fault_is_full && result == 0 && STRIKES("close", EINTR) ? -1
	                                                               : result;
}

/* Likewise: whoever rings has rung, or it would be the lost wake that others look
 * for. */
ssize_t __real_write(int fd, const void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes)
{
	ssize_t result = __real_write(fd, data, bytes);

	return STRIKES("write", EAGAIN) ? -1 : result;
}

/* sockets ------------------------------------------------------------------ */

WRAP(int, socket, (int domain, int type, int protocol),
     (domain, type, protocol), -1, EMFILE, ENOMEM, ENFILE, ENOBUFS)
WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t bytes),
     (fd, address, bytes), -1, ENOMEM, ENOSPC)
WRAP(int, listen, (int fd, int backlog), (fd, backlog), -1, ENOMEM)
WRAP(int, connect, (int fd, const struct sockaddr *address, socklen_t bytes),
     (fd, address, bytes), -1, ENOMEM, EINTR, EAGAIN)
WRAP(int, accept4,
     (int fd, struct sockaddr *address, socklen_t *bytes, int flags),
     (fd, address, bytes, flags), -1, EMFILE, ENOMEM, EINTR, ECONNABORTED)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
     (fd, message, flags), -1, ENOMEM, EINTR, ENOBUFS)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags),
     (fd, message, flags), -1, ENOMEM, EINTR)
WRAP(ssize_t, send, (int fd, const void *data, size_t bytes, int flags),
     (fd, data, bytes, flags), -1, ENOBUFS, ENOMEM)
WRAP(int, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t bytes),
     (fd, level, name, value, bytes), -1, ENOPROTOOPT)

/* Whom we hang up on may have done so before us. */
int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how)
{
	int result = __real_shutdown(fd, how);

	return STRIKES("shutdown", ENOTCONN) ? -1 : result;
}

int __real_getsockopt(int fd, int level, int name, void *value,
                      socklen_t *bytes);
int __wrap_getsockopt(int fd, int level, int name, void *value,
                      socklen_t *bytes);
int __wrap_getsockopt(int fd, int level, int name, void *value,
                      socklen_t *bytes)
{
	if (name == SO_PEERPIDFD && fault_has_no_peerpidfd) {
		errno = ENOPROTOOPT;
		return -1;
	}
	if (name == SO_PEERPIDFD ? STRIKES("getsockopt(SO_PEERPIDFD)", EMFILE,
	                                   ENOPROTOOPT, ESRCH, ENOMEM)
	                         : STRIKES("getsockopt", ENOMEM))
		return -1;
	return __real_getsockopt(fd, level, name, value, bytes);
}

/* waiting ------------------------------------------------------------------ */

WRAP(int, eventfd, (unsigned int count, int flags), (count, flags), -1, EMFILE,
     ENOMEM, ENFILE)
WRAP(int, epoll_create1, (int flags), (flags), -1, EMFILE, ENOMEM, ENFILE)
WRAP(int, timerfd_create, (int clock, int flags), (clock, flags), -1, EMFILE,
     ENOMEM, ENFILE)
WRAP(int, epoll_wait,
     (int fd, struct epoll_event *events, int event_max, int timeout_ms),
     (fd, events, event_max, timeout_ms), -1, EINTR)
WRAP(int, poll, (struct pollfd * fds, nfds_t fd_count, int timeout_ms),
     (fds, fd_count, timeout_ms), -1, EINTR, ENOMEM)
WRAP(int, nanosleep, (const struct timespec *time, struct timespec *left),
     (time, left), -1, EINTR)
WRAP(int, sched_getaffinity, (pid_t pid, size_t bytes, cpu_set_t *cpus),
     (pid, bytes, cpus), -1, EINVAL, ENOMEM)
WRAP(int, sched_setaffinity, (pid_t pid, size_t bytes, const cpu_set_t *cpus),
     (pid, bytes, cpus), -1, EINVAL, ENOMEM)
WRAP(ssize_t, getrandom, (void *data, size_t bytes, unsigned int flags),
     (data, bytes, flags), -1, EAGAIN, ENOSYS)

int __real_epoll_ctl(int fd, int operation, int watched,
                     struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int operation, int watched,
                     struct epoll_event *event);
int __wrap_epoll_ctl(int fd, int operation, int watched,
                     struct epoll_event *event)
{
	/* To take something out of a set needs nothing that could lack. */
	if (operation == EPOLL_CTL_ADD && STRIKES("epoll_ctl", ENOMEM, ENOSPC))
		return -1;
	return __real_epoll_ctl(fd, operation, watched, event);
}

long __real_syscall(long number, ...);

/*
 * A wait may end for no reason, with any of these. A wake is done whatever its
 * result: one that is not done would be the lost wake that others look for.
 */
static long futex(const long *arguments)
{
	int operation = (int)arguments[1] & FUTEX_CMD_MASK;
	long result;

	if (operation != FUTEX_WAKE &&
	    STRIKES("futex(wait)", EINTR, EAGAIN, EFAULT))
		return errno == EFAULT ? 0 : -1; /* out of nowhere */
	result = __real_syscall(SYS_futex, arguments[0], arguments[1],
	                        arguments[2], arguments[3], arguments[4],
	                        arguments[5]);
	if (operation == FUTEX_WAKE && STRIKES("futex(wake)", ENOMEM, EFAULT))
		return -1;
	return result;
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	long arguments[6];
	va_list rest;

	va_start(rest, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(rest, long);
	va_end(rest);
	if (number == SYS_futex)
		return futex(arguments);
	if ((number == SYS_pidfd_open &&
	     STRIKES("pidfd_open", EMFILE, ENOMEM, ENOSYS, ESRCH)) ||
	    (number == SYS_set_robust_list &&
	     STRIKES("set_robust_list", ENOSYS)))
		return -1;
	return __real_syscall(number, arguments[0], arguments[1], arguments[2],
	                      arguments[3], arguments[4], arguments[5]);
}

/* threads: these return their error, and leave errno alone ------------------ */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *arg), void *arg)
{
	int saved_errno = errno;

	if (STRIKES("pthread_create", EAGAIN)) {
		errno = saved_errno;
		return EAGAIN;
	}
	return __real_pthread_create(thread, attributes, run, arg);
}

int __real_pthread_atfork(void (*before)(void), void (*in_parent)(void),
                          void (*in_child)(void));
int __wrap_pthread_atfork(void (*before)(void), void (*in_parent)(void),
                          void (*in_child)(void));
int __wrap_pthread_atfork(void (*before)(void), void (*in_parent)(void),
                          void (*in_child)(void))
{
	int saved_errno = errno;

	if (STRIKES("pthread_atfork", ENOMEM)) {
		errno = saved_errno;
		return ENOMEM;
	}
	return __real_pthread_atfork(before, in_parent, in_child);
}
