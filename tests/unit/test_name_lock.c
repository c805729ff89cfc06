/* SPDX-License-Identifier: MIT */
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "mpsc/name.h"
#include "tests/unit/directory.h"
#include "tests/unit/sanitizer.h"
#include "tests/unit/shared.h"

#define LOCKERS 4
#define LOCKS (SLOW ? 500 : 3000)

static struct directory own;
static char path[PEAL__PATH_BYTES], lock[PEAL__PATH_BYTES + 8];

static int open_directory(void **state)
{
	(void)state;
	if (directory_open(&own) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/words", own.path);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	return 0;
}

static int close_directory(void **state)
{
	(void)state;
	return directory_close(&own);
}

#define TEST(test) \
	cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

static bool exists(const char *name)
{
	struct stat status;

	return lstat(name, &status) == 0;
}

/* As a server does it, but that forked children of a test may have it. */
static int take_name(const char *at, int *ret_fd, struct peal_failure *failure)
{
	struct peal__fork_fd taken = {.fd = -1};
	int error = peal__name_lock(at, &taken, failure);

	if (error == 0) {
		*ret_fd = taken.fd;
		peal__fork_forget(&taken, false);
	}
	return error;
}

/* A socket at the path, as a server has it. Its descriptor, or -1. */
static int bind_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return -1;
	return fd;
}

static void second_locker_gets_eaddrinuse(void **state)
{
	struct peal_failure failure = {0, ""};
	int fd = -1, second_fd = -7;

	(void)state;
	assert_int_equal(take_name(path, &fd, &failure), 0);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_string_equal(failure.text, "");
	/* It is the open file that holds the lock, so our own process counts
	 * as another one. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(take_name(path, &second_fd, &failure),
		                 -EADDRINUSE);
		assert_int_equal(second_fd, -7);
		assert_int_equal(failure.code, -EADDRINUSE);
		assert_non_null(strstr(failure.text, path));
		assert_non_null(strstr(failure.text, "living server"));
		assert_non_null(strstr(failure.text, "shmctl stat"));
	}
	close(fd);
	assert_int_equal(take_name(path, &fd, NULL), 0);
	close(fd);
}

static void lock_never_takes_a_living_servers_socket(void **state)
{
	int fd = -1, second_fd, socket_fd;

	(void)state;
	assert_int_equal(take_name(path, &fd, NULL), 0);
	socket_fd = bind_socket();
	assert_true(socket_fd >= 0);
	/* Though nobody listens: only the lock tells who lives. */
	assert_int_equal(take_name(path, &second_fd, NULL), -EADDRINUSE);
	assert_true(exists(path));
	peal__name_unlink(path, fd);
	assert_int_equal(directory_count(&own), 0);
	close(socket_fd);
	close(fd);
}

static uint32_t *ready;

/* A server that is killed while it has the name. */
static int own_and_sleep(void *unused)
{
	int fd;

	(void)unused;
	if (take_name(path, &fd, NULL) != 0 || bind_socket() < 0)
		return 1;
	flag_set(ready);
	sleep(60);
	return 2;
}

static void socket_of_a_dead_owner_is_taken_over(void **state)
{
	int fd = -1, status;
	pid_t pid;

	(void)state;
	ready = shared_open(4096);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(own_and_sleep(NULL));
	assert_true(flag_wait(ready));
	assert_int_equal(take_name(path, &fd, NULL), -EADDRINUSE);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(exists(path));
	assert_true(exists(lock));
	assert_int_equal(take_name(path, &fd, NULL), 0);
	assert_false(exists(path));
	close(fd);
}

/* A cleaner of old files has removed it. */
static void socket_that_answers_needs_no_lock_file(void **state)
{
	struct peal_failure failure = {0, ""};
	int fd = -1, socket_fd = bind_socket();

	(void)state;
	assert_int_equal(listen(socket_fd, 0), 0);
	/* The second one finds a queue that is full. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(take_name(path, &fd, &failure), -EADDRINUSE);
		assert_non_null(strstr(failure.text, "living server"));
		assert_true(exists(path));
		assert_false(exists(lock));
	}
	close(socket_fd);
	assert_int_equal(take_name(path, &fd, NULL), 0);
	assert_false(exists(path));
	peal__name_unlink(path, fd);
	close(fd);
}

/* As an opener leaves it that was killed between making and removing it, where
 * the lock of a living server had been removed: the next one took its name. */
static void empty_lock_file_proves_nothing(void **state)
{
	struct peal_failure failure = {0, ""};
	int fd = -1, socket_fd = bind_socket();

	(void)state;
	assert_int_equal(listen(socket_fd, 8), 0);
	directory_write(lock, "");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(take_name(path, &fd, &failure), -EADDRINUSE);
		assert_non_null(strstr(failure.text, "living server"));
		assert_true(exists(path));
		/* Nor is it ours to remove. */
		assert_true(exists(lock));
	}
	close(socket_fd);
	assert_int_equal(take_name(path, &fd, NULL), 0);
	assert_false(exists(path));
	close(fd);
}

/* A child of a dead server may have a copy of its listener, and answer. */
static void lock_of_a_dead_owner_is_not_doubted(void **state)
{
	int fd = -1, socket_fd;

	(void)state;
	assert_int_equal(take_name(path, &fd, NULL), 0);
	socket_fd = bind_socket();
	assert_int_equal(listen(socket_fd, 8), 0);
	close(fd);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(take_name(path, &fd, NULL), 0);
		assert_false(exists(path));
		close(fd);
	}
	close(socket_fd);
}

static void listener_of_another_kind_is_left_alone(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = -1, socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	strcpy(address.sun_path, path);
	assert_int_equal(bind(socket_fd, (struct sockaddr *)&address,
	                      sizeof(address)),
	                 0);
	assert_int_equal(listen(socket_fd, 1), 0);
	assert_int_equal(take_name(path, &fd, NULL), -EEXIST);
	assert_true(exists(path));
	assert_false(exists(lock));
	close(socket_fd);
}

static void names_of_the_next_server_are_not_removed(void **state)
{
	int fd = -1, next_fd = -1, socket_fd;

	(void)state;
	assert_int_equal(take_name(path, &fd, NULL), 0);
	unlink(lock);
	assert_int_equal(take_name(path, &next_fd, NULL), 0);
	socket_fd = bind_socket();
	assert_true(socket_fd >= 0);
	peal__name_unlink(path, fd);
	assert_true(exists(path));
	assert_true(exists(lock));
	peal__name_unlink(path, next_fd);
	assert_false(exists(path));
	assert_false(exists(lock));
	close(socket_fd);
	close(fd);
	close(next_fd);
}

/* The next server may have come at the very moment in which it was looked. */
static void socket_stays_where_the_lock_was_removed(void **state)
{
	int fd = -1, socket_fd;

	(void)state;
	assert_int_equal(take_name(path, &fd, NULL), 0);
	socket_fd = bind_socket();
	unlink(lock);
	peal__name_unlink(path, fd);
	assert_true(exists(path));
	close(socket_fd);
	close(fd);
}

/* It was opened as ./words, and a file of another directory was removed. */
static int unlink_elsewhere(void *unused)
{
	int fd;

	(void)unused;
	if (chdir(own.path) != 0 || take_name("./words", &fd, NULL) != 0 ||
	    mkdir("elsewhere", 0700) != 0 || chdir("elsewhere") != 0 ||
	    mknod("words", S_IFREG | 0600, 0) != 0)
		return 1;
	peal__name_unlink("./words", fd);
	return exists("words") ? 0 : 2;
}

static void file_of_another_working_directory_is_not_removed(void **state)
{
	(void)state;
	assert_int_equal(check_in_child(unlink_elsewhere, NULL), 0);
	assert_true(exists(lock));
}

static void lock_of_a_dead_owner_needs_no_socket(void **state)
{
	int fd = -1;

	(void)state;
	directory_write(lock, "");
	assert_int_equal(take_name(path, &fd, NULL), 0);
	close(fd);
}

static void file_that_is_no_socket_is_left_alone(void **state)
{
	struct peal_failure failure = {0, ""};
	char text[8] = "", target[PEAL__PATH_BYTES];
	int fd = -7;

	(void)state;
	directory_write(path, "mine");
	assert_int_equal(take_name(path, &fd, &failure), -EEXIST);
	assert_int_equal(fd, -7);
	assert_non_null(strstr(failure.text, path));
	assert_non_null(strstr(failure.text, "is not a socket; remove it"));
	assert_false(exists(lock));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_string_equal(text, "mine");
	close(fd);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(take_name(path, &fd, &failure), -EEXIST);
	assert_true(exists(path));
	assert_int_equal(rmdir(path), 0);
	/* Nor a link, whatever is at its end. */
	snprintf(target, sizeof(target), "%s/target", own.path);
	directory_write(target, "theirs");
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(take_name(path, &fd, &failure), -EEXIST);
	assert_true(exists(path));
	assert_true(exists(target));
	/* The lock is not kept by who was refused. */
	unlink(path);
	assert_int_equal(take_name(path, &fd, NULL), 0);
	close(fd);
}

static int meet_socket_of_another_user(void *unused)
{
	struct peal_failure failure = {0, ""};
	int fd = -7;

	(void)unused;
	if (!directory_become_user())
		return CHECK_NOT_HERE;
	if (take_name(path, &fd, &failure) != -EPERM || fd != -7)
		return 1;
	if (strstr(failure.text, "cannot remove the socket") == NULL ||
	    strstr(failure.text, path) == NULL ||
	    strstr(failure.text, "not permitted") == NULL)
		return 2;
	return exists(path) && !exists(lock) ? 0 : 3;
}

/* In a directory like /tmp, where everybody removes only what is theirs. */
static void socket_that_cannot_be_removed_has_a_sentence(void **state)
{
	int fd = bind_socket();

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("only root can make what belongs to another user");
	assert_true(fd >= 0);
	close(fd);
	/* It can be asked, and nobody answers. */
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(chmod(own.path, 01777), 0);
	check_passes_in_child(meet_socket_of_another_user, NULL,
	                      "this process may not become another user");
}

static void lock_file_that_was_there_before_a_refusal_stays(void **state)
{
	int fd = -1;

	(void)state;
	directory_write(path, "mine");
	directory_write(lock, "also mine");
	assert_int_equal(take_name(path, &fd, NULL), -EEXIST);
	assert_true(exists(lock));
}

static void lock_that_is_a_link_is_not_followed(void **state)
{
	struct peal_failure failure = {0, ""};
	char target[PEAL__PATH_BYTES];
	int fd = -7;

	(void)state;
	snprintf(target, sizeof(target), "%s/target", own.path);
	assert_int_equal(symlink(target, lock), 0);
	assert_int_equal(take_name(path, &fd, &failure), -ELOOP);
	assert_non_null(strstr(failure.text, lock));
	assert_false(exists(target));
	assert_int_equal(fd, -7);
}

static void lock_in_a_missing_directory_has_a_sentence(void **state)
{
	struct peal_failure failure = {0, ""};
	char missing[PEAL__PATH_BYTES];
	int fd = -7;

	(void)state;
	snprintf(missing, sizeof(missing), "%s/not/there", own.path);
	assert_int_equal(take_name(missing, &fd, &failure), -ENOENT);
	assert_non_null(strstr(failure.text, missing));
	assert_non_null(strstr(failure.text, "directory does not exist"));
}

/*
 * A server that closes unlinks its lock while it holds it. Who has opened that
 * file before must see that it has lost its name, and try again: else two of
 * them hold a lock, one on each of two files.
 */
struct arena {
	uint32_t holder_count;
	uint32_t locked_count;
};

static struct arena *arena;

static int lock_very_often(void *unused)
{
	(void)unused;
	for (int i = 0; i < LOCKS; i++) {
		int fd, error = take_name(path, &fd, NULL);

		if (error == -EADDRINUSE)
			continue;
		if (error != 0)
			return 1;
		if (__atomic_add_fetch(&arena->holder_count, 1,
		                       __ATOMIC_SEQ_CST) != 1)
			return 2;
		/* Whoever holds it has it under its name. */
		if (!exists(lock))
			return 3;
		__atomic_add_fetch(&arena->locked_count, 1, __ATOMIC_SEQ_CST);
		__atomic_sub_fetch(&arena->holder_count, 1, __ATOMIC_SEQ_CST);
		peal__name_unlink(path, fd);
		close(fd);
	}
	return 0;
}

static void lock_whose_file_was_replaced_is_tried_again(void **state)
{
	pid_t pids[LOCKERS];
	int worst = 0;

	(void)state;
	arena = shared_open(sizeof(*arena));
	fflush(NULL);
	for (int i = 0; i < LOCKERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(lock_very_often(NULL));
	}
	for (int i = 0; i < LOCKERS; i++) {
		int status = -1;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) > worst)
			worst = WEXITSTATUS(status);
	}
	assert_int_equal(worst, 0);
	assert_true(arena->locked_count > LOCKS / 10);
	assert_int_equal(directory_count(&own), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(second_locker_gets_eaddrinuse),
		TEST(lock_never_takes_a_living_servers_socket),
		TEST(socket_of_a_dead_owner_is_taken_over),
		TEST(socket_that_answers_needs_no_lock_file),
		TEST(empty_lock_file_proves_nothing),
		TEST(lock_of_a_dead_owner_is_not_doubted),
		TEST(listener_of_another_kind_is_left_alone),
		TEST(names_of_the_next_server_are_not_removed),
		TEST(socket_stays_where_the_lock_was_removed),
		TEST(file_of_another_working_directory_is_not_removed),
		TEST(lock_of_a_dead_owner_needs_no_socket),
		TEST(file_that_is_no_socket_is_left_alone),
		TEST(socket_that_cannot_be_removed_has_a_sentence),
		TEST(lock_file_that_was_there_before_a_refusal_stays),
		TEST(lock_that_is_a_link_is_not_followed),
		TEST(lock_in_a_missing_directory_has_a_sentence),
		TEST(lock_whose_file_was_replaced_is_tried_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
