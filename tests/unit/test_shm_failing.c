/* SPDX-License-Identifier: MIT */
/*
 * Nothing is left of a region that could not be made. System calls are made to
 * fail in a forked child by a seccomp filter, so that each step of the making
 * fails once, as the kernel would have it fail.
 */
#include "tests/unit/region.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define REGION_BYTES (1 << 18)
#define ALL_STEPS \
	(PEAL_SHM_PREFAULT | PEAL_SHM_LOCK | PEAL_SHM_READ_ONLY_FOR_OTHERS)

/* The sanitizers have an mlock(2) of their own, which does nothing. */
int mlock(const void *address, size_t bytes)
{
	return (int)syscall(SYS_mlock, address, bytes);
}

/* leaks ------------------------------------------------------------------ */

static void thousand_regions_leave_nothing_behind(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping first, second;
	struct held before = count_held();
	int fd;

	(void)state;
	options.bytes = 3 * PAGE;
	options.numa_node = 0;
	for (int i = 0; i < 1000; i++) {
		struct peal_shm_span spans[] = {
			{0, PAGE, 1},
			{PAGE, 2 * PAGE, 2},
			{0, i % 2 ? PAGE : PAGE + 1, 1},
		};
		uint32_t flags = PEAL_SHM_MAP_WRITE | PEAL_SHM_MAP_DONT_FORK;
		int error;

		options.flags = i % 3 ? PEAL_SHM_PREFAULT : 0;
		assert_int_equal(peal_shm_create(&options, &fd,
		                                 i % 4 ? &first : NULL),
		                 0);
		error = peal_shm_map(fd, spans, 3, flags, &second);
		assert_int_equal(error, i % 2 ? 0 : -EINVAL);
		close(fd);
		if (i % 4)
			peal_shm_unmap(&first);
		if (error == 0)
			peal_shm_unmap(&second);
	}
	assert_true(is_same(before, count_held()));
}

/* A system call that fails when its argument has this value. */
struct refusal {
	const char *what;
	long number;
	int argument; /* -1: any call */
	uint32_t value;
	int error;
	int expected;
};

static int refuse(const struct refusal *refusal)
{
	uint32_t where = 0;
	struct sock_filter steps[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
	                 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refusal->number,
	                 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusal->value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K,
	                 SECCOMP_RET_ERRNO | (uint32_t)refusal->error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {CHECK_COUNT(steps), steps};

	/* Compare the lower half of the argument, or the number once more. */
	if (refusal->argument >= 0) {
		where = (uint32_t)offsetof(struct seccomp_data, args) +
		        8 * (uint32_t)refusal->argument;
		where += __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
	} else {
		where = (uint32_t)offsetof(struct seccomp_data, nr);
		steps[3].k = (uint32_t)refusal->number;
	}
	steps[2].k = where;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

enum { FINE, WRONG_RESULT, WRONG_OUTPUT, WRONG_SENTENCE, LEAK, NO_SECCOMP };

static int create_while_refused(void *arg)
{
	const struct refusal *refusal = arg;
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct held before;

	/* A step that is never made smaller would be refused for ever. */
	alarm(20);
	options.bytes = REGION_BYTES;
	options.flags = ALL_STEPS;
	options.numa_node = 0;
	if (refuse(refusal) != 0)
		return NO_SECCOMP;
	before = count_held();
	for (int i = 0; i < 10; i++) {
		struct peal_shm_mapping mapping = {NULL, 77};
		struct peal_failure failure = {0, ""};
		int fd = -7;

		options.ret_failure = &failure;
		errno = OUR_ERRNO;
		if (peal_shm_create(&options, &fd, &mapping) !=
		    refusal->expected)
			return WRONG_RESULT;
		if (errno != OUR_ERRNO)
			return WRONG_OUTPUT;
		if (refusal->expected == 0) {
			peal_shm_unmap(&mapping);
			close(fd);
			continue;
		}
		if (fd != -7 || mapping.address != NULL || mapping.bytes != 77)
			return WRONG_OUTPUT;
		if (failure.code != refusal->expected || !failure.text[0])
			return WRONG_SENTENCE;
	}
	return is_same(before, count_held()) ? FINE : LEAK;
}

static void each_step_that_fails_leaves_nothing_behind(void **state)
{
	/* MADV_POPULATE_WRITE is 23, MFD_NOEXEC_SEAL 8. */
	static const struct refusal refusals[] = {
		{"memfd_create", SYS_memfd_create, -1, 0, EMFILE, -EMFILE},
		{"no NOEXEC_SEAL", SYS_memfd_create, 1,
	         MFD_CLOEXEC | MFD_ALLOW_SEALING | 8, EINVAL, 0},
		{"ftruncate", SYS_ftruncate, -1, 0, EIO, -EIO},
		{"fallocate", SYS_fallocate, -1, 0, ENOSPC, -ENOSPC},
		{"fallocate", SYS_fallocate, -1, 0, ENOMEM, -ENOMEM},
		{"signal", SYS_fallocate, 3, REGION_BYTES, EINTR, 0},
		{"reservation", SYS_mmap, 2, PROT_NONE, ENOMEM, -ENOMEM},
		{"probe", SYS_mmap, 3, MAP_SHARED, ENOMEM, -ENOMEM},
		{"piece", SYS_mmap, 3, MAP_SHARED | MAP_FIXED, ENOMEM, -ENOMEM},
		{"DONTFORK", SYS_madvise, 2, MADV_DONTFORK, ENOMEM, -ENOMEM},
		{"prefault", SYS_madvise, 2, 23, EFAULT, -ENOMEM},
		{"prefault", SYS_madvise, 2, 23, ENOMEM, -ENOMEM},
		{"before 5.14", SYS_madvise, 2, 23, EINVAL, 0},
		{"mlock", SYS_mlock, -1, 0, EAGAIN, -EAGAIN},
		{"mlock", SYS_mlock, -1, 0, ENOMEM, -ENOMEM},
		{"seals", SYS_fcntl, 1, F_ADD_SEALS, EBUSY, -EBUSY},
		{"nothing", SYS_getppid, -1, 0, EPERM, 0},
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(refusals); i++) {
		struct refusal refusal = refusals[i];
		int status = check_in_child(create_while_refused, &refusal);

		if (status == NO_SECCOMP) {
			print_message("no seccomp here: nothing was refused\n");
			return;
		}
		if (status != FINE)
			fail_msg("%s refused with %s: status %d", refusal.what,
			         strerror(refusal.error), status);
	}
}

/* Linux before 5.14 has neither of the two ways to populate. */
static int prefault_as_of_old(void *arg)
{
	struct refusal reading = {"", SYS_madvise, 2, 22, EINVAL, 0};
	struct refusal writing = {"", SYS_madvise, 2, 23, EINVAL, 0};
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping mapping;
	struct rusage before, after;
	int fd;

	(void)arg;
	if (refuse(&reading) != 0 || refuse(&writing) != 0)
		return NO_SECCOMP;
	options.bytes = 512 * PAGE;
	options.flags = PEAL_SHM_PREFAULT;
	if (peal_shm_create(&options, &fd, &mapping) != 0)
		return WRONG_RESULT;
	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < 512; i++)
		((char *)mapping.address)[i * PAGE] = 'x';
	getrusage(RUSAGE_SELF, &after);
	return after.ru_minflt - before.ru_minflt < 256 ? FINE : WRONG_OUTPUT;
}

static void old_kernel_prefaults_all_the_same(void **state)
{
	int status = check_in_child(prefault_as_of_old, NULL);

	(void)state;
	assert_true(status == FINE || status == NO_SECCOMP);
}

static void placement_that_is_refused_leaves_nothing_behind(void **state)
{
	struct refusal refusal = {"mbind", SYS_mbind, -1, 0, ENOMEM, -ENOMEM};
	int mode, status;

	(void)state;
	if (syscall(SYS_get_mempolicy, &mode, NULL, 0UL, NULL, 0UL) != 0) {
		print_message("no NUMA here: mbind is never called\n");
		return;
	}
	status = check_in_child(create_while_refused, &refusal);
	assert_true(status == FINE || status == NO_SECCOMP);
}

/* limits ----------------------------------------------------------------- */

static int lock_with_limit(void *arg)
{
	const rlim_t *limit_bytes = arg;
	struct rlimit limit = {*limit_bytes, *limit_bytes};
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping mapping;
	struct peal_failure failure = {0, ""};
	struct held before;
	int fd, error;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return 255;
	/* Root may lock whatever it likes. */
	if (geteuid() == 0 && setuid(65534) != 0)
		return 255;
	before = count_held();
	options.bytes = UINT64_C(1) << 20;
	options.flags = PEAL_SHM_LOCK;
	options.ret_failure = &failure;
	error = peal_shm_create(&options, &fd, &mapping);
	if (error != 0 && strstr(failure.text, "RLIMIT_MEMLOCK") == NULL)
		return 254;
	if (error != 0 && !is_same(before, count_held()))
		return 253;
	return -error;
}

static void lock_beyond_the_limit_is_refused(void **state)
{
	rlim_t nothing = 0, little = 16 * PAGE, enough = 4 << 20;

	(void)state;
	assert_int_equal(check_in_child(lock_with_limit, &nothing), EPERM);
	assert_int_equal(check_in_child(lock_with_limit, &little), ENOMEM);
	assert_int_equal(check_in_child(lock_with_limit, &enough), 0);
}

static int map_locked_with_limit(void *arg)
{
	struct peal_shm_span ring = {0, 16 * PAGE, 2};
	struct peal_shm_mapping mapping;
	struct rlimit limit = {16 * PAGE, 16 * PAGE};
	struct held before;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return 255;
	if (geteuid() == 0 && setuid(65534) != 0)
		return 255;
	before = count_held();
	/* Each copy counts, so two are too many and one is not. */
	if (peal_shm_map(*(int *)arg, &ring, 1, PEAL_SHM_MAP_LOCK, &mapping) !=
	    -ENOMEM)
		return 1;
	if (!is_same(before, count_held()))
		return 2;
	ring.copies = 1;
	return -peal_shm_map(*(int *)arg, &ring, 1, PEAL_SHM_MAP_LOCK,
	                     &mapping);
}

static void each_copy_counts_for_the_lock_limit(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	int fd;

	(void)state;
	options.bytes = 16 * PAGE;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), 0);
	assert_int_equal(check_in_child(map_locked_with_limit, &fd), 0);
	close(fd);
}

static int create_beyond_file_limit(void *arg)
{
	struct rlimit limit = {4096, 4096};
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_failure failure = {0, ""};
	int fd;

	(void)arg;
	setrlimit(RLIMIT_FSIZE, &limit);
	options.bytes = 1 << 20;
	options.ret_failure = &failure;
	if (peal_shm_create(&options, &fd, NULL) != -EFBIG)
		return 1;
	return strstr(failure.text, "RLIMIT_FSIZE") != NULL ? 0 : 2;
}

static void file_size_limit_is_an_error_and_no_signal(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(create_beyond_file_limit, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(thousand_regions_leave_nothing_behind),
		cmocka_unit_test(each_step_that_fails_leaves_nothing_behind),
		cmocka_unit_test(old_kernel_prefaults_all_the_same),
		cmocka_unit_test(
			placement_that_is_refused_leaves_nothing_behind),
		cmocka_unit_test(lock_beyond_the_limit_is_refused),
		cmocka_unit_test(each_copy_counts_for_the_lock_limit),
		cmocka_unit_test(file_size_limit_is_an_error_and_no_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
