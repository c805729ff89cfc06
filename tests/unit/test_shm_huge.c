/* SPDX-License-Identifier: MIT */
/*
 * Regions of huge pages. Ends with 77 where the pool has too few of them; make
 * some with: echo 8 >/proc/sys/vm/nr_hugepages
 */
#include "tests/unit/region.h"

#include <sys/mman.h>

#define HUGE peal_shm_page_bytes(PEAL_SHM_HUGE)
#define PAGES_NEEDED 4

static void huge_region_mapped_twice_is_aligned_and_contiguous(void **state)
{
	struct peal_shm_span spans[] = {{0, HUGE, 1}, {HUGE, 2 * HUGE, 2}};
	struct peal_shm_mapping mapping;
	int fd = make(2 * HUGE + 1, PEAL_SHM_HUGE, NULL);
	char *bytes;

	(void)state;
	assert_int_equal(peal_shm_check(fd, 3 * HUGE), 0);
	for (int i = 0; i < 8; i++) {
		struct held before = count_held();

		assert_int_equal(peal_shm_map(fd, spans, 2, PEAL_SHM_MAP_WRITE,
		                              &mapping),
		                 0);
		assert_int_equal((uintptr_t)mapping.address % HUGE, 0);
		assert_int_equal(mapping.bytes, 5 * HUGE);
		bytes = mapping.address;
		memcpy(bytes + 3 * HUGE - 2, "wrap", 4);
		assert_memory_equal(bytes + HUGE, "ap", 2);
		peal_shm_unmap(&mapping);
		assert_true(is_same(before, count_held()));
	}
	close(fd);
}

static void span_of_small_pages_is_einval_in_a_huge_region(void **state)
{
	struct peal_shm_span small[] = {{0, PAGE, 1}, {PAGE, HUGE, 1}};
	struct peal_shm_mapping mapping;
	int fd = make(2 * HUGE, PEAL_SHM_HUGE, NULL);

	(void)state;
	assert_int_equal(peal_shm_map(fd, &small[0], 1, 0, &mapping), -EINVAL);
	assert_int_equal(peal_shm_map(fd, &small[1], 1, 0, &mapping), -EINVAL);
	close(fd);
}

static void huge_region_can_have_every_option(void **state)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping mapping, reader;
	struct held before = count_held();
	int fd;

	(void)state;
	options.bytes = HUGE;
	options.flags = PEAL_SHM_HUGE | PEAL_SHM_PREFAULT | PEAL_SHM_LOCK |
	                PEAL_SHM_READ_ONLY_FOR_OTHERS;
	options.numa_node = 0;
	assert_int_equal(peal_shm_create(&options, &fd, &mapping), 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	reader = map_whole(fd, HUGE, PEAL_SHM_MAP_PREFAULT);
	strcpy(mapping.address, "written");
	assert_string_equal(reader.address, "written");
	peal_shm_unmap(&reader);
	peal_shm_unmap(&mapping);
	close(fd);
	assert_true(is_same(before, count_held()));
}

static void huge_pages_go_back_to_the_pool(void **state)
{
	uint64_t before = free_huge_pages();
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_mapping mapping;
	int fd = make(2 * HUGE, PEAL_SHM_HUGE | PEAL_SHM_PREFAULT, &mapping);

	(void)state;
	assert_int_equal(free_huge_pages(), before - 2);
	options.flags = PEAL_SHM_HUGE;
	options.bytes = before * HUGE;
	if (options.bytes <= UINT64_C(4) << 30) {
		int none = -1;

		assert_int_equal(peal_shm_create(&options, &none, NULL),
		                 -ENOMEM);
		assert_int_equal(free_huge_pages(), before - 2);
	}
	peal_shm_unmap(&mapping);
	close(fd);
	assert_int_equal(free_huge_pages(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			huge_region_mapped_twice_is_aligned_and_contiguous),
		cmocka_unit_test(
			span_of_small_pages_is_einval_in_a_huge_region),
		cmocka_unit_test(huge_region_can_have_every_option),
		cmocka_unit_test(huge_pages_go_back_to_the_pool),
	};

	if (free_huge_pages() < PAGES_NEEDED) {
		printf("skipped: %d free huge pages are needed, and there are "
		       "%llu\n",
		       PAGES_NEEDED, (unsigned long long)free_huge_pages());
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
