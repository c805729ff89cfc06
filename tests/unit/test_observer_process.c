/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_server.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "mpsc/observer_proc.h"

/* silence ------------------------------------------------------------------ */

static void silent_server_is_seen_through_its_process(void **state)
{
	struct peal_server_info info;
	struct peal_slot_info slot;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	/* The link carries the last part of the path that we ask for. */
	observer = fake_look(&fake, FAKE_SHORT_NS);
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_int_equal(info.state, PEAL_SERVER_SILENT);
	assert_int_equal(info.pid, getpid());
	assert_int_equal(info.message_count, 1023);
	assert_int_equal(peal_observer_slot(observer, 1, &slot), 0);
	assert_int_equal(slot.client_fill_bytes, 3000);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void silent_server_is_not_waited_for_without_a_timeout(void **state)
{
	struct peal_observer *observer;
	uint64_t began_ns;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	began_ns = peal__clock_ns();
	observer = fake_look(&fake, 0);
	assert_true(peal__clock_ns() - began_ns < FAKE_PATIENCE_NS);
	assert_int_equal(fake_state(observer), PEAL_SERVER_SILENT);
	peal_observer_close(observer);
	fake_close(&fake);
}

/* Opening the silent server fails like this. */
static void assert_unseen(const char *path, int error, const char *sentence)
{
	struct peal_observer *observer;
	struct peal_failure failure = {0, ""};

	assert_int_equal(peal_observer_open(path, FAKE_SHORT_NS, &failure,
	                                    &observer),
	                 error);
	assert_int_equal(failure.code, error);
	if (strstr(failure.text, sentence) == NULL)
		fail_msg("not in \"%s\": %s", failure.text, sentence);
}

/* Make @fake show a region of another name. */
static void rename_region(struct fake *fake, const char *region_name)
{
	peal_shm_unmap(&fake->mapping);
	close(fake->region_fd);
	fake->region_fd = fake_region(fake, region_name,
	                              peal__status_bytes(FAKE_SLOT_MAX));
	assert_true(fake->region_fd >= 0);
}

static void region_of_another_name_is_not_taken(void **state)
{
	static const char *const names[] = {
		"peal-status:words2",
		"peal-status:xwords",
		"peal-status:word",
		"peal-arm:words",
		"peal-status:",
		"xpeal-status:words",
		"peal-status:words (deleted)",
	};
	struct fake fake;

	(void)state;
	fake_open(&fake);
	for (size_t i = 0; i < CHECK_COUNT(names); i++) {
		rename_region(&fake, names[i]);
		assert_unseen(fake.path, -ETIMEDOUT, "was not found in /proc");
	}
	fake_close(&fake);
}

static void
region_of_exactly_the_name_is_taken_before_a_similar_one(void **state)
{
	char region_name[160];
	struct peal_server_info info;
	struct peal_observer *observer;
	struct fake fake, similar;

	(void)state;
	fake_open(&similar);
	similar.region->sleep_count = 666;
	fake_open(&fake);
	snprintf(region_name, sizeof(region_name), "peal-status:%s", fake.path);
	rename_region(&fake, region_name);
	observer = fake_look(&fake, FAKE_SHORT_NS);
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_int_equal(info.sleep_count, 23);
	peal_observer_close(observer);
	/* The other one cannot be told from it by the last part alone. */
	assert_unseen(similar.path, -ETIMEDOUT, "has several servers");
	fake_close(&fake);
	fake_close(&similar);
}

static void region_of_a_silent_server_is_checked_like_any_other(void **state)
{
	struct fake fake;
	int fd;

	(void)state;
	fake_open(&fake);
	fake.region->slot_max = 4097;
	assert_unseen(fake.path, -EPROTO, "makes no sense");
	fake.region->slot_max = FAKE_SLOT_MAX;
	fake.region->version++;
	assert_unseen(fake.path, -EPROTONOSUPPORT, "another version");
	close(fake.region_fd);
	fd = memfd_create("peal-status:words", MFD_CLOEXEC);
	fake.region_fd = fd;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_unseen(fake.path, -EPROTO, "makes no sense");
	fake_close(&fake);
}

/* a process of its own ----------------------------------------------------- */

/* A server in a child: it listens, shows its region and answers nobody. */
struct child {
	pid_t pid;
	char directory[64];
	char path[100];
};

static void start_child(struct child *child)
{
	struct fake fake;
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fflush(NULL);
	child->pid = fork();
	if (child->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fake_try_open(&fake) != 0 ||
		    write(ends[1], &fake, sizeof(fake)) != sizeof(fake))
			_exit(1);
		for (;;)
			pause();
	}
	assert_true(child->pid > 0);
	assert_int_equal(read(ends[0], &fake, sizeof(fake)), sizeof(fake));
	close(ends[0]);
	close(ends[1]);
	strcpy(child->directory, fake.directory);
	strcpy(child->path, fake.path);
}

static void kill_child(struct child *child)
{
	int status;

	assert_int_equal(kill(child->pid, SIGKILL), 0);
	assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
}

static void clean_up_after(const struct child *child)
{
	unlink(child->path);
	rmdir(child->directory);
}

static struct peal_observer *look_at_child(const struct child *child)
{
	struct fake fake;

	strcpy(fake.path, child->path);
	return fake_look(&fake, FAKE_SHORT_NS);
}

static void stop_child(const struct child *child)
{
	int status;

	assert_int_equal(kill(child->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(child->pid, &status, WUNTRACED), child->pid);
	assert_true(WIFSTOPPED(status));
}

static void stopped_server_is_stopped_and_not_dead(void **state)
{
	struct peal_observer *observer;
	struct child child;
	int status;

	(void)state;
	start_child(&child);
	stop_child(&child);
	observer = look_at_child(&child);
	assert_int_equal(fake_state(observer), PEAL_SERVER_STOPPED);
	assert_int_equal(kill(child.pid, SIGCONT), 0);
	assert_int_equal(waitpid(child.pid, &status, WCONTINUED), child.pid);
	assert_int_equal(fake_state(observer), PEAL_SERVER_SILENT);
	kill_child(&child);
	peal_observer_close(observer);
	clean_up_after(&child);
}

static void dead_server_is_closed_and_its_last_words_stay(void **state)
{
	struct peal_server_info info;
	struct peal_slot_info slot;
	struct peal_observer *observer;
	struct child child;

	(void)state;
	start_child(&child);
	observer = look_at_child(&child);
	kill_child(&child);
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_int_equal(info.state, PEAL_SERVER_CLOSED);
	assert_int_equal(info.message_count, 1023);
	assert_int_equal(peal_observer_slot(observer, 1, &slot), 0);
	assert_int_equal(peal_observer_refresh(observer, FAKE_SHORT_NS),
	                 -ECONNRESET);
	peal_observer_close(observer);
	clean_up_after(&child);
}

static void name_that_looks_like_a_state_is_not_taken_for_one(void **state)
{
	struct peal_observer *observer;
	struct fake fake;
	char name[16];

	(void)state;
	fake_open(&fake);
	prctl(PR_GET_NAME, name);
	prctl(PR_SET_NAME, "a) T (b) T 1");
	observer = fake_look(&fake, 0);
	assert_int_equal(fake_state(observer), PEAL_SERVER_SILENT);
	prctl(PR_SET_NAME, name);
	peal_observer_close(observer);
	fake_close(&fake);
}

static int ask_whose_it_is(void *fds)
{
	struct peal__process process = {1, 1, 1};
	struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_NOFILE, &none) != 0 ||
	    peal__process_of_peer(*(int *)fds, &process) != 0)
		return 1;
	if (process.uid != geteuid() || process.pidfd != -1)
		return 2;
	return process.pid == 0 ? 0 : 3;
}

/* Its number alone may mean another process by the time it is used. */
static void process_without_a_descriptor_has_no_number(void **state)
{
	struct peal__process process;
	int fds[2];

	(void)state;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(peal__process_of_peer(fds[0], &process), 0);
	assert_int_equal(process.pid, getpid());
	assert_true(process.pidfd >= 0);
	close(process.pidfd);
	assert_int_equal(check_in_child(ask_whose_it_is, fds), 0);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(silent_server_is_seen_through_its_process),
		FAKE_TEST(silent_server_is_not_waited_for_without_a_timeout),
		FAKE_TEST(region_of_another_name_is_not_taken),
		FAKE_TEST(
			region_of_exactly_the_name_is_taken_before_a_similar_one),
		FAKE_TEST(region_of_a_silent_server_is_checked_like_any_other),
		FAKE_TEST(stopped_server_is_stopped_and_not_dead),
		FAKE_TEST(dead_server_is_closed_and_its_last_words_stay),
		FAKE_TEST(name_that_looks_like_a_state_is_not_taken_for_one),
		FAKE_TEST(process_without_a_descriptor_has_no_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
