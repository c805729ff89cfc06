/* SPDX-License-Identifier: MIT */
/*
 * What the tests of several processes share: a directory of their own,
 * children that cannot outlive them, and messages that show a tear.
 *
 *	parent --fork--> child    dies with its parent
 *	   |               |
 *	   +-- one board --+      shared memory: what everybody counted
 *
 * A child never asserts: it returns a status, and says on the board what it
 * saw. Only processes that were started here are signalled, each by its pid.
 */
#ifndef PEAL_TESTS_SCENE_H
#define PEAL_TESTS_SCENE_H

#include "tests/check.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "peal/mpsc.h"

#define SCENE_US UINT64_C(1000)
#define SCENE_MS UINT64_C(1000000)
#define SCENE_S UINT64_C(1000000000)
#define SCENE_CHILD_MAX 1024
#define SCENE_TIMED_OUT (-2) /* of scene_wait() */
#define SCENE_WHY_BYTES 150

#define SCENE_IS_SANITIZED false
#if defined(__SANITIZE_ADDRESS__)
#undef SCENE_IS_SANITIZED
#define SCENE_IS_SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef SCENE_IS_SANITIZED
#define SCENE_IS_SANITIZED true
#endif
#endif

/* Words on the board are written by one and read by another. */
#define scene_get(pointer) __atomic_load_n((pointer), __ATOMIC_ACQUIRE)
#define scene_put(pointer, value) \
	__atomic_store_n((pointer), (value), __ATOMIC_RELEASE)
#define scene_add(pointer, value) \
	__atomic_fetch_add((pointer), (value), __ATOMIC_ACQ_REL)

static pid_t scene_children[SCENE_CHILD_MAX];
static size_t scene_child_count;
static char scene_directory[64];

/* Asked for the full counts, with --full or PEAL_FULL=1? */
static inline bool scene_is_full(int argc, char **argv)
{
	const char *wish = getenv("PEAL_FULL");

	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--full") == 0)
			return true;
	return wish != NULL && strcmp(wish, "1") == 0;
}

/* time ------------------------------------------------------------------- */

static inline uint64_t scene_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SCENE_S + (uint64_t)now.tv_nsec;
}

static inline void scene_sleep_ns(uint64_t ns)
{
	struct timespec left = {.tv_sec = (time_t)(ns / SCENE_S),
	                        .tv_nsec = (long)(ns % SCENE_S)};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

/* Wait until the word is not below @least. False when it took too long. */
static inline bool scene_reach(const uint64_t *word, uint64_t least,
                               uint64_t timeout_ns)
{
	uint64_t end_ns = scene_now_ns() + timeout_ns;

	while (scene_get(word) < least) {
		if (scene_now_ns() > end_ns)
			return scene_get(word) >= least;
		scene_sleep_ns(100 * SCENE_US);
	}
	return true;
}

/* The same, and not past a @fault that somebody tells meanwhile: what is waited
 * for may never come then. */
static inline bool scene_reach_unless(const char *fault, const uint64_t *word,
                                      uint64_t least, uint64_t timeout_ns)
{
	uint64_t end_ns = scene_now_ns() + timeout_ns;

	while (scene_get(word) < least && *fault == '\0' &&
	       scene_now_ns() < end_ns)
		scene_sleep_ns(100 * SCENE_US);
	return scene_get(word) >= least;
}

/* chance: splitmix64, from a seed that is printed and can be given -------- */

static uint64_t scene_seed;

static inline uint64_t scene_mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static inline uint64_t scene_random(uint64_t *state)
{
	return scene_mix(*state += UINT64_C(0x9e3779b97f4a7c15));
}

/* For the parent, before it starts a child. */
static inline void scene_choose_seed(void)
{
	const char *wish = getenv("PEAL_SEED");

	scene_seed = wish != NULL ? strtoull(wish, NULL, 0)
	                          : scene_mix(scene_now_ns());
	print_message("PEAL_SEED=%llu\n", (unsigned long long)scene_seed);
}

/* place ------------------------------------------------------------------ */

/* What went wrong first, on a board, for the parent to print; returns -1. */
static inline int __attribute__((format(printf, 3, 4)))
scene_fault(char *text, size_t bytes, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (text[0] == '\0')
		vsnprintf(text, bytes, format, arguments);
	va_end(arguments);
	return -1;
}

static inline void *scene_board(size_t bytes)
{
	void *board = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return board == MAP_FAILED ? NULL : board;
}

/* A directory for every name of this test. 0 or -errno. */
static inline int scene_enter(void)
{
	const char *parent = getenv("TMPDIR");
	int bytes = snprintf(scene_directory, sizeof(scene_directory),
	                     "%s/peal-test-XXXXXX",
	                     parent != NULL ? parent : "/tmp");

	if (bytes < 0 || (size_t)bytes >= sizeof(scene_directory))
		strcpy(scene_directory, "/tmp/peal-test-XXXXXX");
	if (mkdtemp(scene_directory) == NULL)
		return -errno;
	return setenv("PEAL_RUNTIME_DIR", scene_directory, 1) == 0 ? 0 : -errno;
}

static inline int scene_compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What stands in @directory, in order, each with a blank after it. */
static inline const char *scene_list(const char *directory, const char *with)
{
	static char text[1024];
	char *names[32];
	struct dirent *entry;
	size_t count = 0;
	DIR *stream = opendir(directory);

	text[0] = '\0';
	while (stream != NULL && count < CHECK_COUNT(names) &&
	       (entry = readdir(stream)) != NULL)
		if (entry->d_name[0] != '.' &&
		    strstr(entry->d_name, with) != NULL)
			names[count++] = strdup(entry->d_name);
	if (stream != NULL)
		closedir(stream);
	qsort(names, count, sizeof(names[0]), scene_compare_names);
	for (size_t i = 0; i < count; i++) {
		strncat(text, names[i], sizeof(text) - strlen(text) - 2);
		strcat(text, " ");
		free(names[i]);
	}
	return text;
}

static inline const char *scene_names(void)
{
	return scene_list(scene_directory, "");
}

static inline void scene_leave(void)
{
	char path[sizeof(scene_directory) + 258];
	struct dirent *entry;
	DIR *stream = opendir(scene_directory);

	while (stream != NULL && (entry = readdir(stream)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", scene_directory,
		         entry->d_name);
		unlink(path);
	}
	if (stream != NULL)
		closedir(stream);
	rmdir(scene_directory);
}

/* children --------------------------------------------------------------- */

static inline int scene_group_setup(void **state)
{
	(void)state;
	scene_choose_seed();
	return scene_enter();
}

/* -1 when there is no process to be had. */
static inline pid_t scene_start(int (*run)(void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	if (scene_child_count == SCENE_CHILD_MAX)
		return -1;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* cmocka's handlers would jump back into the parent's tests. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		signal(SIGFPE, SIG_DFL);
		signal(SIGILL, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(99);
		_exit(run(arg));
	}
	if (pid > 0)
		scene_children[scene_child_count++] = pid;
	return pid;
}

/*
 * How a child ended: its status, CHECK_KILLED_BY + the signal, or
 * SCENE_TIMED_OUT (it still lives).
 */
static inline int scene_wait(pid_t pid, uint64_t timeout_ns)
{
	struct pollfd ended = {.events = POLLIN};
	int status, count;

	ended.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (ended.fd < 0)
		return -1;
	count = poll(&ended, 1, (int)((timeout_ns + SCENE_MS - 1) / SCENE_MS));
	close(ended.fd);
	if (count == 0)
		return SCENE_TIMED_OUT;
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	for (size_t i = 0; i < scene_child_count; i++)
		if (scene_children[i] == pid)
			scene_children[i] = scene_children[--scene_child_count];
	return WIFEXITED(status) ? WEXITSTATUS(status)
	                         : CHECK_KILLED_BY + WTERMSIG(status);
}

/* kill -9 of one of our children, and how it ended. */
static inline int scene_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	return scene_wait(pid, 10 * SCENE_S);
}

static inline void scene_kill_all(void)
{
	while (scene_child_count > 0) {
		size_t before = scene_child_count;

		scene_kill(scene_children[before - 1]);
		if (scene_child_count == before)
			scene_child_count--;
	}
}

/* A failed test leaves its children behind: cmocka jumps. */
static inline int scene_teardown(void **state)
{
	(void)state;
	scene_kill_all();
	return 0;
}

static inline int scene_group_teardown(void **state)
{
	(void)state;
	scene_kill_all();
	scene_leave();
	return 0;
}

#define SCENE_TEST(test) cmocka_unit_test_teardown(test, scene_teardown)

#define SCENE_TEST_OF_MODE(test, name, mode)                                \
	{                                                                   \
		name, test, NULL, scene_teardown, (void *)(uintptr_t)(mode) \
	}

/* The same test in either mode of waiting, which is its state. */
#define SCENE_TESTS_OF_MODES(test)                                         \
	SCENE_TEST_OF_MODE(test, #test "_in_futex_mode", PEAL_WAIT_FUTEX), \
		SCENE_TEST_OF_MODE(test, #test "_in_fd_mode", PEAL_WAIT_FD)

static inline uint32_t scene_mode(void **state)
{
	return (uint32_t)(uintptr_t)*state;
}

/* Between two tests that start everybody anew, in a directory of their own. */
static inline void scene_begin_again(void)
{
	scene_kill_all();
	scene_leave();
	assert_int_equal(scene_enter(), 0);
}

/* What a process holds. The mappings of a sanitizer come and go. */
struct scene_held {
	uint32_t fds, maps, threads;
	uint64_t rss_bytes;
};

static inline uint32_t scene_count_entries(const char *directory)
{
	struct dirent *entry;
	uint32_t count = 0;
	DIR *stream = opendir(directory);

	while (stream != NULL && (entry = readdir(stream)) != NULL)
		count += entry->d_name[0] != '.';
	if (stream != NULL)
		closedir(stream);
	return count;
}

static inline FILE *scene_open_proc(pid_t pid, const char *what)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	return fopen(path, "re");
}

static inline struct scene_held scene_held_by(pid_t pid)
{
	struct scene_held held = {0};
	char path[64], line[512];
	FILE *file;

	/* Of our own the stream is counted, every time alike. */
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	held.fds = scene_count_entries(path);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	held.threads = scene_count_entries(path);
	file = scene_open_proc(pid, "maps");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		held.maps += !SCENE_IS_SANITIZED && strchr(line, '\n') != NULL;
	if (file != NULL)
		fclose(file);
	file = scene_open_proc(pid, "statm");
	if (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		char *rest;

		strtoull(line, &rest, 10);
		held.rss_bytes = strtoull(rest, NULL, 10) *
		                 (uint64_t)sysconf(_SC_PAGESIZE);
	}
	if (file != NULL)
		fclose(file);
	return held;
}

static inline struct scene_held scene_held(void)
{
	return scene_held_by(getpid());
}

/*
 * Do we hold what we held when *@first was noted, which the first call does?
 * Or @ret_why not. Memory comes and goes.
 */
static inline bool scene_holds_the_same(struct scene_held *first,
                                        char ret_why[SCENE_WHY_BYTES])
{
	struct scene_held held = scene_held();

	if (first->fds == 0)
		*first = held;
	snprintf(ret_why, SCENE_WHY_BYTES,
	         "%u descriptors instead of %u, %u mappings (%u), %u threads "
	         "(%u)",
	         held.fds, first->fds, held.maps, first->maps, held.threads,
	         first->threads);
	return held.fds == first->fds && held.maps == first->maps &&
	       held.threads == first->threads;
}

/* messages --------------------------------------------------------------- */

/*
 * Every byte of a message follows from its sender, number and size: one that
 * is torn, mixed or stale cannot look right.
 */
struct scene_stamp {
	uint64_t sequence;
	uint32_t sender;
	uint32_t bytes;
	uint64_t check;
};

static inline uint64_t scene_stamp_word(const struct scene_stamp *stamp)
{
	return scene_mix(stamp->sequence * UINT64_C(0x9e3779b97f4a7c15) +
	                 ((uint64_t)stamp->sender << 32 | stamp->bytes));
}

/* @bytes is sizeof(struct scene_stamp) at least. */
static inline void scene_stamp_write(void *data, size_t bytes, uint32_t sender,
                                     uint64_t sequence)
{
	struct scene_stamp stamp = {sequence, sender, (uint32_t)bytes, 0};
	size_t at = sizeof(stamp);
	uint64_t word;

	stamp.check = word = scene_stamp_word(&stamp);
	memcpy(data, &stamp, sizeof(stamp));
	for (; at + sizeof(word) <= bytes; at += sizeof(word)) {
		word += UINT64_C(0x9e3779b97f4a7c15);
		memcpy((uint8_t *)data + at, &word, sizeof(word));
	}
	memset((uint8_t *)data + at, (int)(word & 0xff), bytes - at);
}

/* Fills *@ret_stamp; false when any byte is not what its sender wrote. */
static inline bool scene_stamp_read(const void *data, size_t bytes,
                                    struct scene_stamp *ret_stamp)
{
	size_t at = sizeof(*ret_stamp);
	uint64_t word, found;

	if (bytes < sizeof(*ret_stamp))
		return false;
	memcpy(ret_stamp, data, sizeof(*ret_stamp));
	word = scene_stamp_word(ret_stamp);
	if (ret_stamp->bytes != bytes || ret_stamp->check != word)
		return false;
	for (; at + sizeof(word) <= bytes; at += sizeof(word)) {
		word += UINT64_C(0x9e3779b97f4a7c15);
		memcpy(&found, (const uint8_t *)data + at, sizeof(found));
		if (found != word)
			return false;
	}
	for (; at < bytes; at++)
		if (((const uint8_t *)data)[at] != (word & 0xff))
			return false;
	return true;
}

#endif
