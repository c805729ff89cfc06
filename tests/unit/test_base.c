/* SPDX-License-Identifier: MIT */
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/failure.h"
#include "base/file.h"
#include "base/hooks.h"
#include "base/read.h"

/* clock ------------------------------------------------------------------ */

static void deadline_of_forever_is_never(void **state)
{
	(void)state;
	assert_int_equal(peal__deadline_after(PEAL_FOREVER), PEAL__NEVER);
	assert_int_equal(peal__deadline_after(PEAL_FOREVER - 1), PEAL__NEVER);
	assert_int_equal(peal__deadline_after(PEAL_FOREVER - peal__clock_ns()),
	                 PEAL__NEVER);
}

static void deadline_of_five_seconds_is_five_seconds_away(void **state)
{
	const uint64_t timeout_ns = 5 * PEAL__NS_PER_S; /* beyond 32 bits */
	uint64_t before_ns = peal__clock_ns();
	uint64_t deadline_ns = peal__deadline_after(timeout_ns);

	(void)state;
	assert_true(deadline_ns >= before_ns + timeout_ns);
	assert_true(deadline_ns <= peal__clock_ns() + timeout_ns);
}

static void poll_timeout_of_never_is_minus_one(void **state)
{
	(void)state;
	assert_int_equal(peal__deadline_to_poll_ms(PEAL__NEVER), -1);
}

static void poll_timeout_of_a_past_deadline_is_zero(void **state)
{
	(void)state;
	assert_int_equal(peal__deadline_to_poll_ms(0), 0);
	assert_int_equal(peal__deadline_to_poll_ms(peal__clock_ns()), 0);
}

static void poll_timeout_is_rounded_up(void **state)
{
	static const uint64_t timeouts_ns[] = {
		PEAL__NS_PER_S,
		PEAL__NS_PER_S + 1,
		PEAL__NS_PER_S + PEAL__NS_PER_MS - 1,
		PEAL__NS_PER_S + PEAL__NS_PER_MS / 2,
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(timeouts_ns); i++) {
		uint64_t before_ns = peal__clock_ns();
		uint64_t deadline_ns = before_ns + timeouts_ns[i];
		int ms = peal__deadline_to_poll_ms(deadline_ns);
		uint64_t after_ns = peal__clock_ns();

		/* Never early, and less than one millisecond late. */
		assert_true(ms > 0);
		assert_true((uint64_t)ms * PEAL__NS_PER_MS >=
		            deadline_ns - after_ns);
		assert_true((uint64_t)(ms - 1) * PEAL__NS_PER_MS <
		            deadline_ns - before_ns);
	}
}

static void poll_timeout_of_centuries_does_not_wrap(void **state)
{
	(void)state;
	assert_int_equal(peal__deadline_to_poll_ms(PEAL__NEVER - 1), INT_MAX);
}

static void ticks_keep_the_pace_of_the_clock(void **state)
{
	uint64_t start_ns, end_ns, start, ticks, expected;

	(void)state;
	peal__ns_to_ticks(0); /* measure now */
	start_ns = peal__clock_ns();
	start = peal__cpu_ticks();
	do
		end_ns = peal__clock_ns();
	while (end_ns - start_ns < 5 * PEAL__NS_PER_MS);
	ticks = peal__cpu_ticks() - start;
	/* Being preempted between two lines makes ticks larger, not smaller. */
	expected = peal__ns_to_ticks(end_ns - start_ns);
	assert_true(ticks >= expected - expected / 4);
}

static void ticks_saturate(void **state)
{
	(void)state;
	assert_int_equal(peal__ns_to_ticks(0), 0);
	assert_true(peal__ns_to_ticks(1000) <= peal__ns_to_ticks(2000));
	assert_true(peal__ns_to_ticks(600 * PEAL__NS_PER_S) >
	            peal__ns_to_ticks(300 * PEAL__NS_PER_S));
	assert_true(peal__ns_to_ticks(PEAL__NEVER) == UINT64_MAX);
}

/* failure and strerror --------------------------------------------------- */

static void failure_carries_the_code_and_the_sentence(void **state)
{
	struct peal_failure failure;

	(void)state;
	assert_int_equal(peal__fail(&failure, -ENOSPC, "%s is %d bytes short",
	                            "the pool", 12),
	                 -ENOSPC);
	assert_int_equal(failure.code, -ENOSPC);
	assert_string_equal(failure.text, "the pool is 12 bytes short");
}

static void failure_that_is_too_long_is_cut_and_terminated(void **state)
{
	char words[2 * sizeof(((struct peal_failure *)NULL)->text)];
	struct {
		struct peal_failure failure;
		unsigned char guard;
	} out;

	(void)state;
	memset(words, 'w', sizeof(words));
	words[sizeof(words) - 1] = '\0';
	memset(&out, 0xaa, sizeof(out));
	peal__fail(&out.failure, -EINVAL, "%s", words);
	assert_int_equal(strlen(out.failure.text),
	                 sizeof(out.failure.text) - 1);
	assert_int_equal(out.guard, 0xaa);
}

static void failure_leaves_errno_alone(void **state)
{
	struct peal_failure failure;

	(void)state;
	errno = EXDEV;
	peal__fail(&failure, -EINVAL, "%s", "a sentence");
	assert_int_equal(errno, EXDEV);
}

static void failure_may_be_null(void **state)
{
	(void)state;
	assert_int_equal(peal__fail(NULL, -EBUSY, "nobody reads this"), -EBUSY);
}

static const int documented_errors[] = {
	EAGAIN,    ETIMEDOUT,       EMSGSIZE,     EBUSY,      EACCES,
	EPROTO,    EPROTONOSUPPORT, ECONNREFUSED, ECONNRESET, ESHUTDOWN,
	ECANCELED, ESTALE,          EIO,          EDEADLK,    EADDRINUSE,
	EINVAL,    ENOSYS,
};

static void every_documented_error_has_its_own_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(documented_errors); i++) {
		const char *text = peal_strerror(documented_errors[i]);

		assert_non_null(text);
		/* Ours says what it means here, not what the C library says. */
		assert_string_not_equal(text, strerror(documented_errors[i]));
		assert_ptr_equal(text, peal_strerror(-documented_errors[i]));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(
				text, peal_strerror(documented_errors[j]));
	}
}

static void error_of_somebody_else_gets_the_text_of_the_c_library(void **state)
{
	(void)state;
	assert_string_equal(peal_strerror(-EXDEV), strerror(EXDEV));
}

static void error_that_nobody_knows_still_has_a_text(void **state)
{
	static const int unknown[] = {4000,  -4000,   5000,
	                              -5000, INT_MAX, INT_MIN};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(unknown); i++)
		assert_string_equal(peal_strerror(unknown[i]), "unknown error");
}

static void version_is_that_of_the_header(void **state)
{
	char expected[32];

	(void)state;
	snprintf(expected, sizeof(expected), "%d.%d.%d", PEAL_VERSION_MAJOR,
	         PEAL_VERSION_MINOR, PEAL_VERSION_PATCH);
	assert_string_equal(peal_version(), expected);
}

/* cpu -------------------------------------------------------------------- */

static void current_cpu_is_one_of_this_machine_or_unknown(void **state)
{
	int cpu = peal__cpu_current();

	(void)state;
	assert_true(cpu >= -1);
	assert_true(cpu < sysconf(_SC_NPROCESSORS_CONF));
}

static int look_at_pinned_cpu(void *arg)
{
	cpu_set_t set;
	int cpu = sched_getcpu();

	(void)arg;
	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		return 0; /* it has just been taken away from us */
	if (peal__cpu_online_count() < 1)
		return 1;
	return peal__cpu_current() == cpu || peal__cpu_current() == -1 ? 0 : 2;
}

static void pinned_thread_is_where_it_was_pinned(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(look_at_pinned_cpu, NULL), 0);
}

static void online_cpus_are_not_more_than_there_are(void **state)
{
	(void)state;
	assert_in_range(peal__cpu_online_count(), 1,
	                sysconf(_SC_NPROCESSORS_CONF));
}

static void quota_is_plausible_or_unlimited(void **state)
{
	uint32_t quota_millis = peal__cpu_quota_millis();

	(void)state;
	/* The kernel takes no quota below 1 ms of a period of at most 1 s. */
	assert_true(quota_millis >= 1);
	assert_int_equal(peal__cpu_quota_millis(), quota_millis);
}

/* file ------------------------------------------------------------------- */

static const char *file_with(const char *text, int *ret_fd)
{
	static char path[64];
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*ret_fd = fd;
	return path;
}

static void file_is_read_and_terminated(void **state)
{
	char text[16] = "xxxxxxxxxxxxxxx";
	int fd;

	(void)state;
	assert_int_equal(peal__file_read(file_with("max 100000\n", &fd), text,
	                                 sizeof(text)),
	                 11);
	assert_string_equal(text, "max 100000\n");
	close(fd);
}

static void file_that_does_not_fit_is_cut(void **state)
{
	char text[] = "xxxxxxxx";
	int fd;

	(void)state;
	assert_int_equal(peal__file_read(file_with("abcdefgh", &fd), text, 5),
	                 4);
	assert_string_equal(text, "abcd");
	assert_int_equal(text[5], 'x');
	close(fd);
}

static void file_that_is_empty_is_an_empty_text(void **state)
{
	char text[4] = "xxx";
	int fd;

	(void)state;
	assert_int_equal(
		peal__file_read(file_with("", &fd), text, sizeof(text)), 0);
	assert_string_equal(text, "");
	close(fd);
}

static void file_that_cannot_be_read_is_an_error(void **state)
{
	char text[4];

	(void)state;
	errno = 4711;
	assert_int_equal(peal__file_read("/proc/self/no-such-file", text,
	                                 sizeof(text)),
	                 -ENOENT);
	assert_int_equal(peal__file_read("/", text, sizeof(text)), -EISDIR);
	assert_int_equal(errno, 4711);
}

static void cgroup_directory_begins_with_its_mount_point(void **state)
{
	char directory[512];
	struct stat status;
	size_t root_bytes = 0;
	int error = peal__file_cgroup_directory("memory", directory,
	                                        sizeof(directory), &root_bytes);

	(void)state;
	if (error != 0) {
		assert_int_equal(error, -ENOENT);
		CHECK_SKIP("no cgroup file system is mounted here");
	}
	assert_int_equal(strncmp(directory, "/sys/fs/cgroup", 14), 0);
	assert_in_range(root_bytes, 14, strlen(directory));
	assert_int_equal(stat(directory, &status), 0);
	assert_true(S_ISDIR(status.st_mode));
}

static void cgroup_directory_that_does_not_fit_is_not_found(void **state)
{
	char directory[4];
	size_t root_bytes = 77;

	(void)state;
	assert_int_equal(peal__file_cgroup_directory("memory", directory,
	                                             sizeof(directory),
	                                             &root_bytes),
	                 -ENOENT);
	assert_int_equal(root_bytes, 77);
}

/* read and hooks --------------------------------------------------------- */

static void word_written_once_is_read_once(void **state)
{
	uint64_t word = 0;

	(void)state;
	peal__write_once(&word, UINT64_MAX - 1);
	assert_true(peal__read_once(&word) == UINT64_MAX - 1);
}

#ifdef PEAL_HOOKS
static const char *reached;

static void remember_place(const char *place)
{
	reached = place;
}
#endif

static void hook_is_called_only_in_builds_with_hooks(void **state)
{
	(void)state;
	PEAL__HOOK("nobody listens");
#ifdef PEAL_HOOKS
	peal__hook = remember_place;
	PEAL__HOOK("a place");
	peal__hook = NULL;
	assert_string_equal(reached, "a place");
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deadline_of_forever_is_never),
		cmocka_unit_test(deadline_of_five_seconds_is_five_seconds_away),
		cmocka_unit_test(poll_timeout_of_never_is_minus_one),
		cmocka_unit_test(poll_timeout_of_a_past_deadline_is_zero),
		cmocka_unit_test(poll_timeout_is_rounded_up),
		cmocka_unit_test(poll_timeout_of_centuries_does_not_wrap),
		cmocka_unit_test(ticks_keep_the_pace_of_the_clock),
		cmocka_unit_test(ticks_saturate),
		cmocka_unit_test(failure_carries_the_code_and_the_sentence),
		cmocka_unit_test(
			failure_that_is_too_long_is_cut_and_terminated),
		cmocka_unit_test(failure_leaves_errno_alone),
		cmocka_unit_test(failure_may_be_null),
		cmocka_unit_test(every_documented_error_has_its_own_text),
		cmocka_unit_test(
			error_of_somebody_else_gets_the_text_of_the_c_library),
		cmocka_unit_test(error_that_nobody_knows_still_has_a_text),
		cmocka_unit_test(version_is_that_of_the_header),
		cmocka_unit_test(current_cpu_is_one_of_this_machine_or_unknown),
		cmocka_unit_test(pinned_thread_is_where_it_was_pinned),
		cmocka_unit_test(online_cpus_are_not_more_than_there_are),
		cmocka_unit_test(quota_is_plausible_or_unlimited),
		cmocka_unit_test(file_is_read_and_terminated),
		cmocka_unit_test(file_that_does_not_fit_is_cut),
		cmocka_unit_test(file_that_is_empty_is_an_empty_text),
		cmocka_unit_test(file_that_cannot_be_read_is_an_error),
		cmocka_unit_test(cgroup_directory_begins_with_its_mount_point),
		cmocka_unit_test(
			cgroup_directory_that_does_not_fit_is_not_found),
		cmocka_unit_test(word_written_once_is_read_once),
		cmocka_unit_test(hook_is_called_only_in_builds_with_hooks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
