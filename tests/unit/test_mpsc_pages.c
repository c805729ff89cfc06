/* SPDX-License-Identifier: MIT */
/*
 * A machine with pages of 64 KiB, as arm64 and POWER have them: sysconf() and
 * mmap() say so, and what is mapped has to follow. Whole pages of 64 KiB are whole pages
 * here as well, so all of it can be mapped and used.
 */
#include "tests/unit/mpsc_fixture.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "peal/observer.h"
#include "tests/unit/sanitizer.h"

#define LARGE_PAGE_BYTES UINT64_C(65536)

static bool has_large_pages;

/* In the place of the C library's. */
long sysconf(int name);
long sysconf(int name)
{
	static long (*real)(int name);

	if (name == _SC_PAGESIZE && has_large_pages)
		return LARGE_PAGE_BYTES;
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "sysconf");
	return real(name);
}

static void *map_at(void *address, size_t bytes, int protection, int flags,
                    int fd, off_t offset)
{
	long got = syscall(SYS_mmap, address, bytes, protection, flags, fd,
	                   offset);

	return got == -1 ? MAP_FAILED : (void *)got;
}

/* Likewise: where pages are large, so is what an address is a multiple of. */
void *mmap(void *address, size_t bytes, int protection, int flags, int fd,
           off_t offset)
{
	char *wide, *aligned;

	if (!has_large_pages || address != NULL)
		return map_at(address, bytes, protection, flags, fd, offset);
	wide = map_at(NULL, bytes + LARGE_PAGE_BYTES, PROT_NONE,
	              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (wide == MAP_FAILED)
		return MAP_FAILED;
	aligned = wide + (-(uintptr_t)wide & (LARGE_PAGE_BYTES - 1));
	if (aligned > wide)
		munmap(wide, (size_t)(aligned - wide));
	munmap(aligned + bytes, (size_t)(wide + LARGE_PAGE_BYTES - aligned));
	return map_at(aligned, bytes, protection, flags | MAP_FIXED, fd,
	              offset);
}

static int begin_with_large_pages(void **state)
{
	has_large_pages = true;
	return begin(state);
}

static int end_with_large_pages(void **state)
{
	has_large_pages = false;
	return end(state);
}

/* How many mappings of ours are no whole pages, in size or in offset. */
static int count_broken_pages(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long long first, last, offset;
	char line[512];
	int count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL)
		if (strstr(line, "memfd:peal") != NULL &&
		    sscanf(line, "%llx-%llx %*s %llx", &first, &last,
		           &offset) == 3)
			count += (last - first) % LARGE_PAGE_BYTES != 0 ||
			         offset % LARGE_PAGE_BYTES != 0;
	fclose(file);
	return count;
}

static void least_ring_is_a_page_of_64_KiB_and_everything_works(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer = open_with(&options);
	struct peal_producer *chosen, *given = attach();
	struct peal_observer *observer = NULL;

	(void)state;
	others.ring_bytes = PEAL_RING_MIN_BYTES;
	chosen = attach_with(&others);
	await_attached(consumer, 2);
	assert_int_equal(
		peal_observer_open("words", PATIENCE_NS, NULL, &observer), 0);
	assert_int_equal(count_broken_pages(), 0);
	assert_int_equal(peal_producer_message_max(given),
	                 peal_ring_message_max(LARGE_PAGE_BYTES));
	assert_int_equal(peal_producer_message_max(chosen),
	                 peal_ring_message_max(LARGE_PAGE_BYTES));
	/* Some laps, so that the second copy is written and read. */
	for (int i = 0; i < 5; i++) {
		uint64_t count = fill(chosen, 3000);

		assert_true(count > 15);
		assert_int_equal(drain(consumer), count);
	}
	assert_int_equal(send_text(given, "hello"), 0);
	expect(consumer, "hello");
	peal_observer_close(observer);
	peal_producer_detach(chosen);
	peal_producer_detach(given);
	peal_consumer_close(consumer);
}

/* Nonsense stays nonsense, however large the pages are. */
static void ring_of_less_than_4_KiB_is_refused_as_everywhere(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer = NULL;
	struct peal_producer *producer = NULL;

	(void)state;
	options.ring_min_bytes = 2048;
	others.ring_bytes = 2048;
	assert_int_equal(peal_consumer_open(&options, &consumer), -EINVAL);
	assert_int_equal(peal_producer_attach(&others, 0, &producer), -EINVAL);
}

#define LARGE(test)                                                   \
	cmocka_unit_test_setup_teardown(test, begin_with_large_pages, \
	                                end_with_large_pages)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LARGE(least_ring_is_a_page_of_64_KiB_and_everything_works),
		LARGE(ring_of_less_than_4_KiB_is_refused_as_everywhere),
	};

	if (SLOW) {
		printf("a sanitizer has an mmap() of its own\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
