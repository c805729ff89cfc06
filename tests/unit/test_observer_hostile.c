/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_server.h"

/* regions that lie --------------------------------------------------------- */

/* Opening it fails with this error and a sentence; nothing is left open. */
static void assert_refused(struct fake *fake, int error)
{
	struct peal_observer *observer = (void *)fake;
	struct peal_failure failure = {0, ""};

	fake_start(fake);
	errno = FAKE_ERRNO;
	assert_int_equal(peal_observer_open(fake->path, FAKE_PATIENCE_NS,
	                                    &failure, &observer),
	                 error);
	assert_int_equal(errno, FAKE_ERRNO);
	assert_int_equal(failure.code, error);
	assert_true(strlen(failure.text) > 10);
	assert_ptr_equal(observer, fake);
	fake_close(fake);
}

static void region_of_another_magic_is_refused(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.region->magic = PEAL__ARM_MAGIC;
	assert_refused(&fake, -EPROTO);
}

static void region_of_another_version_is_told_from_garbage(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.region->version++;
	assert_refused(&fake, -EPROTONOSUPPORT);
}

static void region_of_no_or_too_many_slots_is_refused(void **state)
{
	static const uint32_t slot_maxs[] = {
		0, 4097, UINT32_MAX, UINT32_MAX / 192, 1U << 31,
		/* These fit the rules and not the region: a page has 20. */
		21, 4096};
	struct fake fake;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(slot_maxs); i++) {
		fake_open(&fake);
		fake.region->slot_max = slot_maxs[i];
		assert_refused(&fake, -EPROTO);
	}
}

static void region_of_more_slots_than_a_server_can_have_is_refused(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	peal_shm_unmap(&fake.mapping);
	close(fake.region_fd);
	fake.region_fd = fake_region(&fake, "peal-status:" FAKE_NAME,
	                             peal__status_bytes(4097));
	assert_true(fake.region_fd >= 0);
	fake.fds[0] = fake.region_fd;
	fake.region->slot_max = 4097;
	fake.answer.status_bytes = peal__status_bytes(4097);
	assert_refused(&fake, -EPROTO);
}

static void region_with_slots_of_another_size_is_refused(void **state)
{
	static const uint32_t sizes[] = {0,   1,    192,     255,
	                                 257, 4160, 1 << 30, UINT32_MAX};
	struct fake fake;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(sizes); i++) {
		fake_open(&fake);
		fake.region->slot_bytes = sizes[i];
		assert_refused(&fake, -EPROTO);
		fake_open(&fake);
		fake.region->server_bytes = sizes[i];
		assert_refused(&fake, -EPROTO);
	}
}

static void region_with_a_name_without_end_is_refused(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	memset(fake.region->name, 'x', sizeof(fake.region->name));
	assert_refused(&fake, -EPROTO);
}

static void region_smaller_than_announced_is_refused(void **state)
{
	static const uint64_t sizes[] = {4097, 1 << 20, UINT64_MAX, 255, 0};
	struct fake fake;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(sizes); i++) {
		fake_open(&fake);
		fake.answer.status_bytes = sizes[i];
		assert_refused(&fake, -EPROTO);
	}
}

static void region_that_is_not_sealed_is_refused(void **state)
{
	struct fake fake;
	int fd;

	(void)state;
	fake_open(&fake);
	fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(pwrite(fd, fake.region, 4096, 0), 4096);
	fake.fds[0] = fd;
	assert_refused(&fake, -EPROTO);
	/* The same with half of the seals. */
	fake_open(&fake);
	assert_int_equal(fcntl(fd, F_ADD_SEALS,
	                       F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_WRITE),
	                 0);
	fake.fds[0] = fd;
	assert_refused(&fake, -EPROTO);
	close(fd);
}

static void region_that_ends_within_a_page_is_refused(void **state)
{
	struct fake fake;
	int fd;

	(void)state;
	fake_open(&fake);
	fd = memfd_create("odd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, 1024), 0);
	assert_int_equal(pwrite(fd, fake.region, 1024, 0), 1024);
	assert_int_equal(fcntl(fd, F_ADD_SEALS,
	                       F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL),
	                 0);
	fake.region->slot_max = 1;
	fake.answer.status_bytes = 448;
	fake.fds[0] = fd;
	assert_refused(&fake, -EPROTO);
	close(fd);
}

static void region_that_is_no_memory_is_refused(void **state)
{
	struct fake fake;
	int ends[2];

	(void)state;
	fake_open(&fake);
	assert_int_equal(pipe(ends), 0);
	fake.fds[0] = ends[0];
	assert_refused(&fake, -EPROTO);
	close(ends[0]);
	close(ends[1]);
	fake_open(&fake);
	fake.fds[0] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	ends[0] = fake.fds[0];
	assert_refused(&fake, -EPROTO);
	close(ends[0]);
}

static void region_that_may_not_be_read_is_refused(void **state)
{
	char path[64];
	struct fake fake;
	int fd;

	(void)state;
	fake_open(&fake);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fake.region_fd);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	fake.fds[0] = fd;
	assert_refused(&fake, -EPROTO);
	close(fd);
}

static void region_of_huge_pages_is_refused(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct fake fake;
	int fd;

	(void)state;
	options.bytes = peal_shm_page_bytes(PEAL_SHM_HUGE);
	options.flags = PEAL_SHM_HUGE;
	if (peal_shm_create(&options, &fd, NULL) != 0)
		CHECK_SKIP("there are no huge pages");
	fake_open(&fake);
	fake.fds[0] = fd;
	assert_refused(&fake, -EPROTO);
	close(fd);
}

static void region_that_changes_after_the_check_cannot_mislead(void **state)
{
	struct peal_server_info info;
	struct peal_slot_info slot;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	memset(fake.region, 0xff, sizeof(*fake.region));
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_string_equal(info.name, FAKE_NAME);
	assert_int_equal(info.slot_max, FAKE_SLOT_MAX);
	assert_int_equal(peal_observer_slot(observer, FAKE_SLOT_MAX, &slot),
	                 -EINVAL);
	peal_observer_close(observer);
	fake_close(&fake);
}

/* answers that lie --------------------------------------------------------- */

static void welcome_without_a_region_is_refused(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.fd_count = 0;
	assert_refused(&fake, -EPROTO);
}

static void
welcome_with_two_regions_is_refused_and_both_are_closed(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.fds[1] = fake.region_fd;
	fake.fd_count = 2;
	assert_refused(&fake, -EPROTO);
}

static void welcome_for_somebody_else_is_refused(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.nonce_error = 1;
	assert_refused(&fake, -EPROTO);
}

static void answer_of_another_kind_is_refused(void **state)
{
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.type = PEAL__WIRE_READY;
	assert_refused(&fake, -EPROTO);
}

static void refusal_carries_the_sentence_of_the_server(void **state)
{
	struct peal_failure failure = {0, ""};
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.type = PEAL__WIRE_ERROR;
	fake.fd_count = 0;
	fake_start(&fake);
	assert_int_equal(peal_observer_open(fake.path, FAKE_PATIENCE_NS,
	                                    &failure, &observer),
	                 -ESHUTDOWN);
	assert_string_equal(failure.text, "no seat is free");
	assert_int_equal(peal_observer_open(fake.path, FAKE_PATIENCE_NS, NULL,
	                                    &observer),
	                 -ESHUTDOWN);
	fake_close(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(region_of_another_magic_is_refused),
		FAKE_TEST(region_of_another_version_is_told_from_garbage),
		FAKE_TEST(region_of_no_or_too_many_slots_is_refused),
		FAKE_TEST(
			region_of_more_slots_than_a_server_can_have_is_refused),
		FAKE_TEST(region_with_slots_of_another_size_is_refused),
		FAKE_TEST(region_with_a_name_without_end_is_refused),
		FAKE_TEST(region_smaller_than_announced_is_refused),
		FAKE_TEST(region_that_is_not_sealed_is_refused),
		FAKE_TEST(region_that_ends_within_a_page_is_refused),
		FAKE_TEST(region_that_is_no_memory_is_refused),
		FAKE_TEST(region_that_may_not_be_read_is_refused),
		FAKE_TEST(region_of_huge_pages_is_refused),
		FAKE_TEST(region_that_changes_after_the_check_cannot_mislead),
		FAKE_TEST(welcome_without_a_region_is_refused),
		FAKE_TEST(
			welcome_with_two_regions_is_refused_and_both_are_closed),
		FAKE_TEST(welcome_for_somebody_else_is_refused),
		FAKE_TEST(answer_of_another_kind_is_refused),
		FAKE_TEST(refusal_carries_the_sentence_of_the_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
