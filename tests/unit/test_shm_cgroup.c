/* SPDX-License-Identifier: MIT */
/*
 * The head-room of the memory controller, in both of its versions. No real
 * group is touched: each case runs in a child with mounts of its own, where
 * /sys/fs/cgroup, /proc/self/cgroup and /proc/meminfo are files made here.
 *
 * Ends with 77 where this user may not make such mounts.
 */
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "peal/shm.h"

#define ROOT "/sys/fs/cgroup"
#define ASKED_BYTES (1 << 20)

/* A file of the tree, its path below ROOT, and what it says. */
struct text {
	const char *path, *text;
};

struct scene {
	const char *groups; /* what /proc/self/cgroup says */
	const char *swap;   /* what /proc/meminfo says */
	int expected;
	const char *named;     /* a part of the sentence, or NULL */
	struct text files[10]; /* up to one without a path */
};

enum { FINE, WRONG_RESULT, WRONG_SENTENCE, NO_MOUNTS };

static int put(const char *path, const char *text)
{
	char full[256], *slash;
	ssize_t bytes = (ssize_t)strlen(text);
	int fd, wrong;

	snprintf(full, sizeof(full), "%s/%s", ROOT, path);
	for (slash = full + strlen(ROOT) + 1;
	     (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = '\0';
		if (mkdir(full, 0755) != 0 && errno != EEXIST)
			return -1;
		*slash = '/';
	}
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -1;
	wrong = write(fd, text, (size_t)bytes) != bytes;
	close(fd);
	return wrong ? -1 : 0;
}

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t bytes = (ssize_t)strlen(text);
	int wrong = fd < 0 || write(fd, text, (size_t)bytes) != bytes;

	if (fd >= 0)
		close(fd);
	return wrong ? -1 : 0;
}

/* Mounts that only this process sees; who is not root becomes it in private. */
static int leave_the_real_mounts(void)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (uid == 0) {
		if (unshare(CLONE_NEWNS) != 0)
			return -1;
	} else {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
			return -1;
		snprintf(map, sizeof(map), "0 %u 1", uid);
		if (write_text("/proc/self/uid_map", map) != 0 ||
		    write_text("/proc/self/setgroups", "deny") != 0)
			return -1;
		snprintf(map, sizeof(map), "0 %u 1", gid);
		if (write_text("/proc/self/gid_map", map) != 0)
			return -1;
	}
	return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int build(const struct scene *scene)
{
	if (leave_the_real_mounts() != 0 ||
	    mount("peal-test", ROOT, "tmpfs", 0, NULL) != 0 ||
	    put("own-groups", scene->groups) != 0 ||
	    put("meminfo", scene->swap) != 0 ||
	    mount(ROOT "/own-groups", "/proc/self/cgroup", NULL, MS_BIND,
	          NULL) != 0 ||
	    mount(ROOT "/meminfo", "/proc/meminfo", NULL, MS_BIND, NULL) != 0)
		return -1;
	for (const struct text *file = scene->files; file->path != NULL; file++)
		if (put(file->path, file->text) != 0)
			return -1;
	return 0;
}

static int play(void *arg)
{
	const struct scene *scene = arg;
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_failure failure = {0, ""};
	int fd = -1;

	if (build(scene) != 0)
		return NO_MOUNTS;
	options.bytes = ASKED_BYTES;
	options.ret_failure = &failure;
	if (peal_shm_create(&options, &fd, NULL) != scene->expected)
		return WRONG_RESULT;
	if (scene->named == NULL)
		return FINE;
	if (strstr(failure.text, "options.bytes is 1048576") != NULL &&
	    strstr(failure.text, scene->named) != NULL)
		return FINE;
	fprintf(stderr, "'%s' does not name %s\n", failure.text, scene->named);
	return WRONG_SENTENCE;
}

static void expect(struct scene scene)
{
	assert_int_equal(check_in_child(play, &scene), FINE);
}

#define NO_SWAP "SwapTotal: 0 kB\nSwapFree:        0 kB\n"
#define SWAP "SwapTotal: 4096 kB\nSwapFree:        2048 kB\n"
#define NEW "0::/a/b\n"
#define OLD "5:cpu:/\n4:memory:/a/b\n0::/\n"

static void group_without_a_limit_lets_pass(void **state)
{
	(void)state;
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      0,
	                      NULL,
	                      {{"a/b/memory.max", "max\n"},
	                       {"a/b/memory.current", "999999999\n"}}});
	expect((struct scene){
		OLD,
		NO_SWAP,
		0,
		NULL,
		{{"memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"},
	         {"memory/a/b/memory.usage_in_bytes", "999999999\n"}}});
}

static void group_with_just_enough_room_lets_pass(void **state)
{
	(void)state;
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      0,
	                      NULL,
	                      {{"a/b/memory.max", "2097152\n"},
	                       {"a/b/memory.current", "1048576\n"}}});
	expect((struct scene){
		OLD,
		NO_SWAP,
		0,
		NULL,
		{{"memory/a/b/memory.limit_in_bytes", "2097152\n"},
	         {"memory/a/b/memory.usage_in_bytes", "1048576\n"}}});
}

static void group_with_a_byte_too_little_is_enomem(void **state)
{
	(void)state;
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      -ENOMEM,
	                      "/a/b",
	                      {{"a/b/memory.max", "2097152\n"},
	                       {"a/b/memory.current", "1048577\n"},
	                       {"a/b/memory.stat", "anon 1048577\n"}}});
	expect((struct scene){
		OLD,
		NO_SWAP,
		-ENOMEM,
		"memory/a/b",
		{{"memory/a/b/memory.limit_in_bytes", "2097152\n"},
	         {"memory/a/b/memory.usage_in_bytes", "1048577\n"}}});
}

static void group_beyond_its_limit_is_enomem(void **state)
{
	(void)state;
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      -ENOMEM,
	                      "only 0 of 4096 bytes",
	                      {{"a/b/memory.max", "4096\n"},
	                       {"a/b/memory.current", "8192\n"}}});
}

static void limit_of_a_group_above_counts(void **state)
{
	(void)state;
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      -ENOMEM,
	                      ROOT "/a",
	                      {{"a/b/memory.max", "max\n"},
	                       {"a/memory.max", "1048576\n"},
	                       {"a/memory.current", "4096\n"}}});
	expect((struct scene){
		OLD,
		NO_SWAP,
		-ENOMEM,
		ROOT "/memory/a",
		{{"memory/a/b/memory.limit_in_bytes", "4194304\n"},
	         {"memory/a/memory.limit_in_bytes", "1048576\n"},
	         {"memory/a/memory.usage_in_bytes", "4096\n"}}});
	/* A container sees its own group as the root. */
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      -ENOMEM,
	                      ROOT,
	                      {{"a/b/memory.max", "max\n"},
	                       {"memory.max", "1048576\n"},
	                       {"memory.current", "4096\n"}}});
	expect((struct scene){"0::/\n",
	                      NO_SWAP,
	                      -ENOMEM,
	                      ROOT,
	                      {{"memory.max", "1048576\n"},
	                       {"memory.current", "4096\n"}}});
}

/* As systemd has it in hybrid mode: the unified one is beside the others. */
static void limit_in_a_unified_hierarchy_beside_others_counts(void **state)
{
	(void)state;
	expect((struct scene){"5:cpu:/\n0::/a/b\n",
	                      NO_SWAP,
	                      -ENOMEM,
	                      ROOT "/unified/a",
	                      {{"cpu/cpu.shares", "1024\n"},
	                       {"unified/a/b/memory.max", "max\n"},
	                       {"unified/a/memory.max", "1048576\n"},
	                       {"unified/a/memory.current", "4096\n"}}});
	/* Where the controller is of the older kind, that is what counts. */
	expect((struct scene){
		"4:memory:/a/b\n0::/a/b\n",
		NO_SWAP,
		-ENOMEM,
		ROOT "/memory/a/b",
		{{"memory/a/b/memory.limit_in_bytes", "1048576\n"},
	         {"memory/a/b/memory.usage_in_bytes", "4096\n"},
	         {"unified/a/b/cgroup.procs", ""}}});
}

static void cached_files_count_as_free(void **state)
{
	(void)state;
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      0,
	                      NULL,
	                      {{"a/b/memory.max", "2097152\n"},
	                       {"a/b/memory.current", "2097152\n"},
	                       {"a/b/memory.stat",
	                        "anon 524288\nfile 1572864\n"
	                        "inactive_anon 524288\nactive_anon 0\n"
	                        "inactive_file 524288\nactive_file 262144\n"
	                        "slab_reclaimable 262144\n"}}});
	expect((struct scene){
		OLD,
		NO_SWAP,
		0,
		NULL,
		{{"memory/a/b/memory.limit_in_bytes", "2097152\n"},
	         {"memory/a/b/memory.usage_in_bytes", "2097152\n"},
	         {"memory/a/b/memory.kmem.usage_in_bytes", "262144\n"},
	         {"memory/a/b/memory.stat", "inactive_file 1\nactive_file 1\n"
	                                    "total_inactive_file 524288\n"
	                                    "total_active_file 262144\n"}}});
}

static void shared_memory_does_not_count_as_free(void **state)
{
	(void)state;
	/* It is part of "file", but nobody can take it back without swap. */
	expect((struct scene){NEW,
	                      NO_SWAP,
	                      -ENOMEM,
	                      "/a/b",
	                      {{"a/b/memory.max", "2097152\n"},
	                       {"a/b/memory.current", "2097152\n"},
	                       {"a/b/memory.stat",
	                        "file 2097152\nshmem 2097152\n"
	                        "inactive_anon 2097152\n"
	                        "inactive_file 0\nactive_file 0\n"}}});
}

static void free_swap_counts_as_free_up_to_its_limit(void **state)
{
	struct scene scene = {NEW,
	                      SWAP,
	                      0,
	                      NULL,
	                      {{"a/b/memory.max", "2097152\n"},
	                       {"a/b/memory.current", "2097152\n"}}};

	(void)state;
	expect(scene);
	scene.files[2] = (struct text){"a/b/memory.swap.max", "1048576\n"};
	scene.files[3] = (struct text){"a/b/memory.swap.current", "0\n"};
	expect(scene);
	scene.files[3].text = "1\n";
	scene.expected = -ENOMEM;
	expect(scene);
	scene.files[2].text = "0\n";
	expect(scene);
}

static void what_makes_no_sense_lets_pass(void **state)
{
	(void)state;
	expect((struct scene){NEW, "", 0, NULL, {{"a/b/other", ""}}});
	expect((struct scene){"", "", 0, NULL, {{"memory.max", "4096\n"}}});
	expect((struct scene){"nonsense\n", "", 0, NULL, {{"x", ""}}});
	expect((struct scene){NEW,
	                      "",
	                      0,
	                      NULL,
	                      {{"a/b/memory.max", ""},
	                       {"a/memory.max", "-1\n"},
	                       {"memory.max", "banana\n"}}});
	expect((struct scene){
		NEW, "", 0, NULL, {{"a/b/memory.max", "2097152\n"}}});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(group_without_a_limit_lets_pass),
		cmocka_unit_test(group_with_just_enough_room_lets_pass),
		cmocka_unit_test(group_with_a_byte_too_little_is_enomem),
		cmocka_unit_test(group_beyond_its_limit_is_enomem),
		cmocka_unit_test(limit_of_a_group_above_counts),
		cmocka_unit_test(
			limit_in_a_unified_hierarchy_beside_others_counts),
		cmocka_unit_test(cached_files_count_as_free),
		cmocka_unit_test(shared_memory_does_not_count_as_free),
		cmocka_unit_test(free_swap_counts_as_free_up_to_its_limit),
		cmocka_unit_test(what_makes_no_sense_lets_pass),
	};
	struct scene empty = {NEW, NO_SWAP, 0, NULL, {{NULL, NULL}}};

	if (check_in_child(play, &empty) == NO_MOUNTS) {
		puts("skipped: mounts in a namespace of one's own are not "
		     "allowed here, so no cgroup tree can be made");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
