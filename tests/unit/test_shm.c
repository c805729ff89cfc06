/* SPDX-License-Identifier: MIT */
#include "tests/unit/region.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "shm/region.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* the region ------------------------------------------------------------- */

static void region_can_be_neither_shrunk_nor_grown(void **state)
{
	int fd = make(4 * PAGE, 0, NULL);

	(void)state;
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, (off_t)(5 * PAGE)), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fallocate(fd, 0, (off_t)(4 * PAGE), 1), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(pwrite(fd, "x", 1, (off_t)(4 * PAGE)), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & SEALS, SEALS);
	close(fd);
}

static void region_is_whole_pages_and_already_allocated(void **state)
{
	struct stat status;
	int fd = make(2 * PAGE + 1, 0, NULL);

	(void)state;
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, 3 * PAGE);
	assert_true((uint64_t)status.st_blocks * 512 >= 3 * PAGE);
	close(fd);
}

static void region_is_close_on_exec_and_no_program(void **state)
{
	struct stat status;
	int fd = make(1, 0, NULL);

	(void)state;
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	/* F_SEAL_EXEC, since Linux 6.3. */
	assert_int_equal(fstat(fd, &status), 0);
	if (fcntl(fd, F_GET_SEALS) & 0x20)
		assert_int_equal(status.st_mode & 0111, 0);
	close(fd);
}

static void region_carries_its_name(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	char path[64], target[256] = "", name[202];
	int fd;

	(void)state;
	memset(name, 'n', sizeof(name));
	name[200] = '\0';
	options.bytes = 1;
	options.name = name;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(readlink(path, target, sizeof(target) - 1) > 0);
	assert_non_null(strstr(target, name));
	close(fd);
	fd = make(1, 0, NULL);
	memset(target, 0, sizeof(target));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_true(readlink(path, target, sizeof(target) - 1) > 0);
	assert_non_null(strstr(target, "memfd:peal"));
	close(fd);
}

static void punched_hole_reads_as_zeroes(void **state)
{
	struct peal_shm_mapping mapping;
	int fd = make(2 * PAGE, PEAL_SHM_PREFAULT, &mapping);
	char *bytes = mapping.address;

	(void)state;
	memset(bytes, 'x', mapping.bytes);
	assert_int_equal(fallocate(fd,
	                           FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                           0, (off_t)PAGE),
	                 0);
	assert_int_equal(bytes[0], 0);
	assert_int_equal(bytes[PAGE - 1], 0);
	assert_int_equal(bytes[PAGE], 'x');
	bytes[0] = 'y';
	assert_int_equal(bytes[0], 'y');
	peal_shm_unmap(&mapping);
	close(fd);
}

static void others_can_only_read_what_is_read_only_for_others(void **state)
{
	struct peal_shm_span span = {0, PAGE, 1};
	struct peal_shm_mapping ours, theirs, none;
	int fd = make(PAGE, PEAL_SHM_READ_ONLY_FOR_OTHERS, &ours), again;
	char path[64];

	(void)state;
	assert_int_equal(peal_shm_map(fd, &span, 1, PEAL_SHM_MAP_WRITE, &none),
	                 -EPERM);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fallocate(fd,
	                           FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                           0, (off_t)PAGE),
	                 -1);
	assert_int_equal(errno, EPERM);
	/* Opening the same file once more is no way around it. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	assert_true(again >= 0);
	assert_int_equal(pwrite(again, "x", 1, 0), -1);
	assert_int_equal(peal_shm_map(again, &span, 1, PEAL_SHM_MAP_WRITE,
	                              &none),
	                 -EPERM);
	close(again);

	theirs = map_whole(fd, PAGE, 0);
	assert_int_equal(mprotect(theirs.address, PAGE, PROT_READ | PROT_WRITE),
	                 -1);
	strcpy(ours.address, "written");
	assert_string_equal(theirs.address, "written");
	peal_shm_unmap(&theirs);
	peal_shm_unmap(&ours);
	close(fd);
}

static void prefaulted_region_faults_no_more(void **state)
{
	enum { PAGES = 512 };
	struct peal_shm_mapping mapping;
	struct rusage before, after;
	int fd = make(PAGES * PAGE, PEAL_SHM_PREFAULT, &mapping);
	char *bytes = mapping.address;

	(void)state;
	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < PAGES; i++)
		bytes[i * PAGE] = 'x';
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_minflt - before.ru_minflt < PAGES / 2);
	peal_shm_unmap(&mapping);
	/* And so is a mapping that is made by somebody else later. */
	mapping = map_whole(fd, PAGES * PAGE, PEAL_SHM_MAP_PREFAULT);
	bytes = mapping.address;
	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(bytes[i * PAGE], 'x');
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_minflt - before.ru_minflt < PAGES / 2);
	peal_shm_unmap(&mapping);
	close(fd);
}

static void region_on_a_node_has_its_policy(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping mapping;
	int fd, mode = -1;

	(void)state;
	options.bytes = PAGE;
	options.numa_node = 0; /* every machine has this one */
	assert_int_equal(peal_shm_create(&options, &fd, &mapping), 0);
	/* MPOL_F_ADDR, and MPOL_PREFERRED, without libnuma's header. */
	if (syscall(SYS_get_mempolicy, &mode, NULL, 0UL, mapping.address, 2UL))
		print_message("no NUMA here: the policy was not looked at\n");
	else
		assert_int_equal(mode, 1);
	peal_shm_unmap(&mapping);
	close(fd);
}

static void create_on_full_hugetlb_pool_returns_enomem(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping mapping;
	struct peal_failure failure = {0, ""};
	int fd = -1;

	(void)state;
	options.flags = PEAL_SHM_HUGE;
	options.ret_failure = &failure;
	options.bytes =
		(free_huge_pages() + 1) * peal_shm_page_bytes(PEAL_SHM_HUGE);
	if (options.bytes > UINT64_C(4) << 30) {
		print_message("the pool cannot be exhausted by one region\n");
		return;
	}
	assert_int_equal(peal_shm_create(&options, &fd, NULL), -ENOMEM);
	assert_int_equal(failure.code, -ENOMEM);
	assert_non_null(strstr(failure.text, "huge pages"));
	/* Mapping it is what fails when the pages are placed first. */
	options.numa_node = 0;
	failure.text[0] = '\0';
	assert_int_equal(peal_shm_create(&options, &fd, &mapping), -ENOMEM);
	assert_non_null(strstr(failure.text, "huge pages"));
	assert_int_equal(fd, -1);
}

/* nonsense --------------------------------------------------------------- */

static char long_name[202];

static void set_long_name(struct peal_shm_options *options)
{
	memset(long_name, 'n', sizeof(long_name) - 1);
	options->name = long_name;
}

static void set_no_bytes(struct peal_shm_options *options)
{
	options->bytes = 0;
}

static void set_too_many_bytes(struct peal_shm_options *options)
{
	options->bytes = (UINT64_C(4) << 30) + 1;
}

static void set_all_the_bytes(struct peal_shm_options *options)
{
	options->bytes = UINT64_MAX;
}

static void set_unknown_flag(struct peal_shm_options *options)
{
	options->flags = 1U << 31;
}

static void set_read_only(struct peal_shm_options *options)
{
	options->flags = PEAL_SHM_READ_ONLY_FOR_OTHERS;
}

static void set_lock(struct peal_shm_options *options)
{
	options->flags = PEAL_SHM_LOCK;
}

static void set_negative_node(struct peal_shm_options *options)
{
	options->numa_node = -2;
}

static void set_absent_node(struct peal_shm_options *options)
{
	options->numa_node = 1023;
}

static void set_impossible_node(struct peal_shm_options *options)
{
	options->numa_node = INT32_MAX;
}

static void set_no_size(struct peal_shm_options *options)
{
	options->size = 0;
}

static const struct {
	void (*set)(struct peal_shm_options *options);
	const char *named;
} nonsense[] = {
	{set_long_name, "options.name"},
	{set_no_bytes, "options.bytes"},
	{set_too_many_bytes, "options.bytes"},
	{set_all_the_bytes, "options.bytes"},
	{set_unknown_flag, "options.flags"},
	{set_read_only, "options.flags"},
	{set_lock, "options.flags"},
	{set_negative_node, "options.numa_node"},
	{set_absent_node, "options.numa_node"},
	{set_impossible_node, "options.numa_node"},
	{set_no_size, "options.size"},
};

static void option_that_makes_no_sense_is_named(void **state)
{
	struct held before = count_held();

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(nonsense); i++) {
		struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
		struct peal_failure failure = {0, ""};
		int fd = -7;

		options.bytes = 1;
		options.ret_failure = &failure;
		nonsense[i].set(&options);
		errno = OUR_ERRNO;
		assert_int_equal(peal_shm_create(&options, &fd, NULL), -EINVAL);
		assert_int_equal(errno, OUR_ERRNO);
		assert_int_equal(fd, -7);
		assert_int_equal(failure.code, -EINVAL);
		if (strstr(failure.text, nonsense[i].named) == NULL)
			fail_msg("%zu: '%s' does not name %s", i, failure.text,
			         nonsense[i].named);
		/* A sentence that was cut has not been understood. */
		assert_true(strlen(failure.text) < sizeof(failure.text) - 1);
		options.ret_failure = NULL;
		assert_int_equal(peal_shm_create(&options, &fd, NULL), -EINVAL);
	}
	assert_true(is_same(before, count_held()));
}

static void missing_arguments_are_einval(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_failure failure = {0, ""};
	int fd;

	(void)state;
	assert_int_equal(peal_shm_create(NULL, &fd, NULL), -EINVAL);
	options.bytes = 1;
	options.ret_failure = &failure;
	assert_int_equal(peal_shm_create(&options, NULL, NULL), -EINVAL);
	assert_non_null(strstr(failure.text, "ret_fd"));
}

static void options_of_nonsense_size_are_not_followed(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	int fd;

	(void)state;
	options.bytes = 1;
	options.ret_failure = (struct peal_failure *)16; /* not a place */
	options.size = 5000;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), -EINVAL);
	options.size = 4;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), -EINVAL);
	options.size = sizeof(options) - 4; /* half of the pointer */
	options.bytes = 0;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), -EINVAL);
}

static void success_leaves_the_failure_alone(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_failure failure = {17, "untouched"};
	struct peal_shm_mapping mapping;
	int fd;

	(void)state;
	options.bytes = 1;
	options.ret_failure = &failure;
	errno = OUR_ERRNO;
	assert_int_equal(peal_shm_create(&options, &fd, &mapping), 0);
	assert_int_equal(peal_shm_check(fd, 1), 0);
	peal_shm_unmap(&mapping);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(failure.code, 17);
	assert_string_equal(failure.text, "untouched");
	close(fd);
}

/* whose descriptor ------------------------------------------------------- */

static void check_wants_the_seals_and_the_bytes(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping mapping;
	int fd;

	(void)state;
	options.bytes = 2 * PAGE;
	options.flags = PEAL_SHM_READ_ONLY_FOR_OTHERS; /* a seal more */
	assert_int_equal(peal_shm_create(&options, &fd, &mapping), 0);
	assert_int_equal(peal_shm_check(fd, 0), 0);
	assert_int_equal(peal_shm_check(fd, 2 * PAGE), 0);
	assert_int_equal(peal_shm_check(fd, 2 * PAGE + 1), -EPROTO);
	assert_int_equal(peal_shm_check(fd, UINT64_MAX), -EPROTO);
	peal_shm_unmap(&mapping);
	close(fd);
}

static void check_refuses_a_memfd_that_lacks_a_seal(void **state)
{
	const int lacking[] = {
		0,
		F_SEAL_SHRINK | F_SEAL_GROW,
		F_SEAL_SHRINK | F_SEAL_SEAL,
		F_SEAL_GROW | F_SEAL_SEAL,
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(lacking); i++) {
		int fd = memfd_create("peal-test",
		                      MFD_CLOEXEC | MFD_ALLOW_SEALING);

		assert_int_equal(ftruncate(fd, (off_t)PAGE), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, lacking[i]), 0);
		assert_int_equal(peal_shm_check(fd, PAGE), -EPROTO);
		close(fd);
	}
}

static void check_refuses_what_is_no_memfd(void **state)
{
	const int others[] = {
		open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
		open("/proc/self/exe", O_PATH | O_CLOEXEC),
		open("/dev/zero", O_RDWR | O_CLOEXEC),
		open("/", O_RDONLY | O_CLOEXEC),
		socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(others); i++) {
		assert_true(others[i] >= 0);
		errno = OUR_ERRNO;
		assert_int_equal(peal_shm_check(others[i], 0), -EPROTO);
		assert_int_equal(errno, OUR_ERRNO);
		close(others[i]);
	}
	assert_int_equal(peal_shm_check(-1, 0), -EBADF);
}

/* children ----------------------------------------------------------------- */

static uint32_t is_over;

static void *create_and_close(void *unused)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal__fork_fd region = {.fd = -1};

	options.bytes = 16 << 20; /* it takes milliseconds */
	options.name = "watched";
	while (__atomic_load_n(&is_over, __ATOMIC_RELAXED) == 0) {
		if (peal__region_create(&options, &region, NULL) != 0)
			return &is_over;
		peal__fork_forget(&region, true);
	}
	return unused;
}

static int count_watched_regions(void *unused)
{
	char path[64], target[256];
	int count = 0;

	(void)unused;
	for (int fd = 0; fd < 256; fd++) {
		ssize_t bytes;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		bytes = readlink(path, target, sizeof(target) - 1);
		target[bytes < 0 ? 0 : bytes] = '\0';
		count += strstr(target, "memfd:watched") != NULL;
	}
	return count;
}

/* It was watched when it had all its pages, and a child that was forked before
 * that kept them for as long as it lived. */
static void child_of_another_thread_has_no_region_that_is_watched(void **state)
{
	pthread_t thread;
	void *result;
	int found = 0;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, create_and_close, NULL),
	                 0);
	for (int i = 0; i < 100; i++)
		found += check_in_child(count_watched_regions, NULL);
	__atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	assert_int_equal(found, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(region_can_be_neither_shrunk_nor_grown),
		cmocka_unit_test(region_is_whole_pages_and_already_allocated),
		cmocka_unit_test(region_is_close_on_exec_and_no_program),
		cmocka_unit_test(region_carries_its_name),
		cmocka_unit_test(punched_hole_reads_as_zeroes),
		cmocka_unit_test(
			others_can_only_read_what_is_read_only_for_others),
		cmocka_unit_test(prefaulted_region_faults_no_more),
		cmocka_unit_test(region_on_a_node_has_its_policy),
		cmocka_unit_test(create_on_full_hugetlb_pool_returns_enomem),
		cmocka_unit_test(option_that_makes_no_sense_is_named),
		cmocka_unit_test(missing_arguments_are_einval),
		cmocka_unit_test(options_of_nonsense_size_are_not_followed),
		cmocka_unit_test(success_leaves_the_failure_alone),
		cmocka_unit_test(check_wants_the_seals_and_the_bytes),
		cmocka_unit_test(check_refuses_a_memfd_that_lacks_a_seal),
		cmocka_unit_test(check_refuses_what_is_no_memfd),
		cmocka_unit_test(
			child_of_another_thread_has_no_region_that_is_watched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
