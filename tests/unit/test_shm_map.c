/* SPDX-License-Identifier: MIT */
#include "tests/unit/region.h"

#include <sys/mman.h>

/* the mapping ------------------------------------------------------------ */

static void span_mapped_twice_is_contiguous_across_its_end(void **state)
{
	static const char text[] = "from the end to the beginning";
	struct peal_shm_span ring = {PAGE, 2 * PAGE, 2};
	struct peal_shm_mapping mapping;
	int fd = make(3 * PAGE, 0, NULL);
	char *bytes;

	(void)state;
	assert_int_equal(
		peal_shm_map(fd, &ring, 1, PEAL_SHM_MAP_WRITE, &mapping), 0);
	assert_int_equal(mapping.bytes, 4 * PAGE);
	bytes = mapping.address;
	memcpy(bytes + 2 * PAGE - 4, text, sizeof(text));
	assert_memory_equal(bytes, text + 4, sizeof(text) - 4);
	bytes[1] = '#';
	assert_int_equal(bytes[2 * PAGE + 1], '#');
	peal_shm_unmap(&mapping);
	close(fd);
}

static void spans_lie_one_after_the_other(void **state)
{
	struct peal_shm_span spans[] = {
		{0, PAGE, 1},
		{PAGE, 2 * PAGE, 2},
		{3 * PAGE, 4 * PAGE, 2},
	};
	struct peal_shm_mapping whole, parts;
	int fd = make(7 * PAGE, 0, &whole);
	char *from = whole.address, *to;

	(void)state;
	for (size_t i = 0; i < 7; i++)
		from[i * PAGE] = (char)('0' + i);
	assert_int_equal(peal_shm_map(fd, spans, 3, 0, &parts), 0);
	close(fd);
	assert_int_equal(parts.bytes, 13 * PAGE);
	to = parts.address;
	for (size_t i = 0; i < 13; i++)
		assert_int_equal(to[i * PAGE], "0121234563456"[i]);
	from[6 * PAGE + 1] = 'x';
	assert_int_equal(to[8 * PAGE + 1], 'x');
	assert_int_equal(to[12 * PAGE + 1], 'x');
	peal_shm_unmap(&parts);
	peal_shm_unmap(&whole);
}

static void map_takes_one_to_eight_spans(void **state)
{
	struct peal_shm_span spans[9];
	struct peal_shm_mapping mapping = {NULL, 0};
	int fd = make(PAGE, 0, NULL);

	(void)state;
	for (size_t i = 0; i < 9; i++)
		spans[i] = (struct peal_shm_span){0, PAGE, 2};
	assert_int_equal(peal_shm_map(fd, spans, 0, 0, &mapping), -EINVAL);
	assert_int_equal(peal_shm_map(fd, spans, 9, 0, &mapping), -EINVAL);
	assert_null(mapping.address);
	assert_int_equal(peal_shm_map(fd, spans, 8, 0, &mapping), 0);
	assert_int_equal(mapping.bytes, 16 * PAGE);
	peal_shm_unmap(&mapping);
	close(fd);
}

static void span_that_makes_no_sense_is_einval(void **state)
{
	const struct peal_shm_span wrong[] = {
		{0, 0, 1},
		{0, PAGE, 0},
		{0, PAGE, 3},
		{0, PAGE, UINT32_MAX},
		{1, PAGE, 1},
		{PAGE / 2, PAGE, 1},
		{0, PAGE + 1, 1},
		{0, 1, 1},
		{0, 5 * PAGE, 1},
		{4 * PAGE, PAGE, 1},
		{3 * PAGE, 2 * PAGE, 2},
		{5 * PAGE, PAGE, 1},
		{UINT64_MAX - PAGE + 1, PAGE, 1},
		{PAGE, UINT64_MAX - PAGE + 1, 1},
		{UINT64_C(1) << 63, UINT64_C(1) << 63, 2},
	};
	struct peal_shm_span spans[2] = {{0, PAGE, 1}, {0, PAGE, 1}};
	struct peal_shm_mapping mapping = {NULL, 0};
	int fd = make(4 * PAGE, 0, NULL);

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(wrong); i++) {
		spans[1] = wrong[i];
		errno = OUR_ERRNO;
		assert_int_equal(peal_shm_map(fd, spans, 2, 0, &mapping),
		                 -EINVAL);
		assert_int_equal(errno, OUR_ERRNO);
		assert_null(mapping.address);
	}
	close(fd);
}

static void sum_of_spans_does_not_wrap(void **state)
{
	struct peal_shm_span spans[8];
	struct peal_shm_mapping mapping = {NULL, 0};
	int fd = memfd_create("peal-test", MFD_CLOEXEC);

	(void)state;
	/* 4 times 2^62 is 2^64, which would wrap to a mapping of nothing. */
	assert_int_equal(ftruncate(fd, INT64_C(1) << 62), 0);
	for (size_t i = 0; i < 8; i++)
		spans[i] = (struct peal_shm_span){0, UINT64_C(1) << 62, 2};
	assert_int_equal(peal_shm_map(fd, spans, 2, 0, &mapping), -ENOMEM);
	assert_int_equal(peal_shm_map(fd, spans, 8, 0, &mapping), -ENOMEM);
	/* And this is no more than the processor has addresses for. */
	assert_int_equal(peal_shm_map(fd, spans, 1, 0, &mapping), -ENOMEM);
	assert_null(mapping.address);
	close(fd);
}

static void map_of_what_is_no_region_is_refused(void **state)
{
	struct peal_shm_span span = {0, PAGE, 1};
	struct peal_shm_mapping mapping = {NULL, 0};
	int fd = make(PAGE, 0, NULL), root = open("/", O_RDONLY | O_CLOEXEC);
	int ends[2], read_only;
	char path[64];

	(void)state;
	errno = OUR_ERRNO;
	assert_int_equal(peal_shm_map(-1, &span, 1, 0, &mapping), -EBADF);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(peal_shm_map(ends[0], &span, 1, 0, &mapping), -EINVAL);
	assert_int_equal(peal_shm_map(root, &span, 1, 0, &mapping), -EINVAL);
	close(root);
	assert_int_equal(peal_shm_map(fd, NULL, 1, 0, &mapping), -EINVAL);
	assert_int_equal(peal_shm_map(fd, &span, 1, 0, NULL), -EINVAL);
	assert_int_equal(peal_shm_map(fd, &span, 1, 1 << 4, &mapping), -EINVAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(peal_shm_map(read_only, &span, 1, PEAL_SHM_MAP_WRITE,
	                              &mapping),
	                 -EACCES);
	assert_null(mapping.address);
	close(read_only);
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

static void mapping_without_write_cannot_be_written(void **state)
{
	int fd = make(PAGE, 0, NULL);
	struct peal_shm_mapping reader = map_whole(fd, PAGE, 0);
	struct peal_shm_mapping writer =
		map_whole(fd, PAGE, PEAL_SHM_MAP_WRITE);

	(void)state;
	assert_true(is_readable(reader.address));
	assert_false(is_writable(reader.address));
	assert_true(is_writable(writer.address));
	peal_shm_unmap(&reader);
	peal_shm_unmap(&writer);
	close(fd);
}

static int sees(void *address)
{
	return is_readable(address) ? 1 : 0;
}

static void forked_child_has_not_got_a_dont_fork_mapping(void **state)
{
	struct peal_shm_mapping ours, kept, inherited;
	struct peal_shm_span ring = {0, PAGE, 2};
	int fd = make(PAGE, 0, &ours);

	(void)state;
	assert_int_equal(
		peal_shm_map(fd, &ring, 1, PEAL_SHM_MAP_DONT_FORK, &kept), 0);
	inherited = map_whole(fd, PAGE, 0);
	assert_int_equal(check_in_child(sees, ours.address), 0);
	assert_int_equal(check_in_child(sees, kept.address), 0);
	assert_int_equal(check_in_child(sees, (char *)kept.address + PAGE), 0);
	assert_int_equal(check_in_child(sees, inherited.address), 1);
	assert_true(is_readable(ours.address));
	peal_shm_unmap(&ours);
	peal_shm_unmap(&kept);
	peal_shm_unmap(&inherited);
	close(fd);
}

static void unmap_clears_and_may_be_repeated(void **state)
{
	struct peal_shm_mapping mapping;
	int fd = make(PAGE, 0, &mapping);
	void *address = mapping.address;

	(void)state;
	peal_shm_unmap(&mapping);
	assert_null(mapping.address);
	assert_int_equal(mapping.bytes, 0);
	assert_false(is_readable(address));
	peal_shm_unmap(&mapping);
	peal_shm_unmap(NULL);
	close(fd);
}

static void page_size_follows_the_flags(void **state)
{
	(void)state;
	assert_int_equal(peal_shm_page_bytes(0), PAGE);
	assert_int_equal(peal_shm_page_bytes(PEAL_SHM_PREFAULT), PAGE);
	assert_int_equal(peal_shm_page_bytes(PEAL_SHM_HUGE), 2 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			span_mapped_twice_is_contiguous_across_its_end),
		cmocka_unit_test(spans_lie_one_after_the_other),
		cmocka_unit_test(map_takes_one_to_eight_spans),
		cmocka_unit_test(span_that_makes_no_sense_is_einval),
		cmocka_unit_test(sum_of_spans_does_not_wrap),
		cmocka_unit_test(map_of_what_is_no_region_is_refused),
		cmocka_unit_test(mapping_without_write_cannot_be_written),
		cmocka_unit_test(forked_child_has_not_got_a_dont_fork_mapping),
		cmocka_unit_test(unmap_clears_and_may_be_repeated),
		cmocka_unit_test(page_size_follows_the_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
