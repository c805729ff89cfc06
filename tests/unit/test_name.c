/* SPDX-License-Identifier: MIT */
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#include "mpsc/connect.h"
#include "mpsc/name.h"
#include "tests/unit/directory.h"

static struct directory own;

static int open_directory(void **state)
{
	(void)state;
	unsetenv("XDG_RUNTIME_DIR");
	return directory_open(&own);
}

static int close_directory(void **state)
{
	(void)state;
	return directory_close(&own);
}

#define TEST(test) \
	cmocka_unit_test_setup_teardown(test, open_directory, close_directory)

/* names ------------------------------------------------------------------ */

static void assert_name(const char *name, const char *sentence)
{
	struct peal_failure failure = {0, "untouched"};
	int error = peal__name_check(name, &failure);

	assert_int_equal(error, sentence == NULL ? 0 : -EINVAL);
	assert_int_equal(failure.code, error);
	if (sentence == NULL)
		assert_string_equal(failure.text, "untouched");
	else if (strstr(failure.text, sentence) == NULL)
		fail_msg("'%s' does not say '%s'", failure.text, sentence);
	assert_int_equal(peal__name_check(name, NULL), error);
}

static void plain_name_has_letters_digits_and_three_signs(void **state)
{
	char name[4] = "aXa";

	(void)state;
	assert_name("words", NULL);
	assert_name("A-Z_0.9", NULL);
	assert_name("-", NULL);
	for (int byte = 1; byte < 256; byte++) {
		bool fine = strchr("abcdefghijklmnopqrstuvwxyz"
		                   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		                   "0123456789._-/",
		                   byte) != NULL;

		name[1] = (char)byte;
		assert_name(name, fine ? NULL : "options.name has a character");
	}
}

static void name_of_nothing_is_refused(void **state)
{
	(void)state;
	assert_name(NULL, "options.name is not set");
	assert_name("", "options.name is empty");
}

static void name_has_at_most_64_bytes(void **state)
{
	char name[300];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[PEAL__NAME_MAX] = '\0';
	assert_name(name, NULL);
	name[PEAL__NAME_MAX] = 'n';
	name[PEAL__NAME_MAX + 1] = '\0';
	assert_name(name, "options.name is longer than 64 bytes");
	name[PEAL__NAME_MAX + 1] = 'n';
	name[sizeof(name) - 1] = '\0';
	assert_name(name, "options.name is longer than 64 bytes");
}

static void name_is_neither_hidden_nor_a_lock(void **state)
{
	(void)state;
	assert_name(".words", "begins with '.'");
	assert_name("..", "begins with '.'");
	assert_name("words.lock", "ends in '.lock'");
	assert_name("a.lock", "ends in '.lock'");
	assert_name("a.lock.b", NULL);
	assert_name("lock", NULL);
	assert_name("xlock", NULL);
}

/* Another server's lock would be taken for a socket, or its socket removed. */
static void path_is_neither_a_lock_nor_an_unborn_socket(void **state)
{
	(void)state;
	assert_name("/run/words.lock", "ends in '.lock' or '~peal'");
	assert_name("./.lock", "ends in '.lock' or '~peal'");
	assert_name("/run/words~peal", "ends in '.lock' or '~peal'");
	assert_name("/run/words.locks", NULL);
	assert_name("/run/a.lock/words", NULL);
	assert_name("/run/~peal/words~", NULL);
}

/* A socket's path has 107 bytes, and the lock beside it has 5 more. */
static void path_leaves_room_for_its_lock(void **state)
{
	char path[200];

	(void)state;
	assert_name("/", NULL);
	assert_name("./strange name\n", NULL);
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[102] = '\0';
	assert_name(path, NULL);
	path[102] = 'p';
	path[103] = '\0';
	assert_name(path, "is a path of more than 102 bytes");
	path[103] = 'p';
	path[sizeof(path) - 1] = '\0';
	assert_name(path, "is a path of more than 102 bytes");
}

/* directories ------------------------------------------------------------ */

static void server_makes_the_directory_of_its_choice(void **state)
{
	char path[PEAL__PATH_BYTES], wanted[PEAL__PATH_BYTES];
	struct stat status;

	(void)state;
	snprintf(wanted, sizeof(wanted), "%s/new", own.path);
	setenv("PEAL_RUNTIME_DIR", wanted, 1);
	assert_int_equal(peal__name_for_server("words", path, NULL), 0);
	assert_int_equal(stat(wanted, &status), 0);
	assert_true(S_ISDIR(status.st_mode));
	assert_int_equal(status.st_mode & 0777, 0700);
	strcat(wanted, "/words");
	assert_string_equal(path, wanted);
	/* The second one finds it there. */
	assert_int_equal(peal__name_for_server("words", path, NULL), 0);
}

static void directory_that_cannot_be_had_has_a_sentence(void **state)
{
	char path[PEAL__PATH_BYTES] = "untouched", wanted[PEAL__PATH_BYTES];
	struct peal_failure failure = {0, ""};

	(void)state;
	snprintf(wanted, sizeof(wanted), "%s/not/there", own.path);
	setenv("PEAL_RUNTIME_DIR", wanted, 1);
	assert_int_equal(peal__name_for_server("words", path, &failure),
	                 -ENOENT);
	assert_non_null(strstr(failure.text, wanted));
	assert_non_null(strstr(failure.text, ", of $PEAL_RUNTIME_DIR: "));
	assert_string_equal(path, "untouched");
	snprintf(wanted, sizeof(wanted), "%s/file", own.path);
	directory_write(wanted, "x");
	setenv("PEAL_RUNTIME_DIR", wanted, 1);
	assert_int_equal(peal__name_for_server("words", path, &failure),
	                 -ENOTDIR);
	assert_non_null(strstr(failure.text, wanted));
	assert_int_equal(failure.code, -ENOTDIR);
}

static int make_directory_of_session(void *unused)
{
	char path[PEAL__PATH_BYTES], missing[PEAL__PATH_BYTES];
	struct peal_failure failure = {0, ""};

	(void)unused;
	if (!directory_become_user())
		return CHECK_NOT_HERE;
	snprintf(missing, sizeof(missing), "%s/ended", own.path);
	unsetenv("PEAL_RUNTIME_DIR");
	setenv("XDG_RUNTIME_DIR", missing, 1);
	if (peal__name_for_server("words", path, &failure) != -ENOENT)
		return 1;
	if (strstr(failure.text, missing) == NULL ||
	    strstr(failure.text, ", of $XDG_RUNTIME_DIR: ") == NULL ||
	    strstr(failure.text, "; set $PEAL_RUNTIME_DIR") == NULL)
		return 2;
	return 0;
}

/* As under sudo -u, or when the session has ended. */
static void directory_of_a_session_that_is_gone_is_told(void **state)
{
	(void)state;
	assert_int_equal(chmod(own.path, 0755), 0);
	check_passes_in_child(make_directory_of_session, NULL,
	                      "this process may not become another user");
}

static void path_that_is_too_long_for_a_socket_is_einval(void **state)
{
	char path[PEAL__PATH_BYTES] = "untouched", wanted[PEAL__PATH_BYTES];
	struct peal_failure failure = {0, ""};
	char name[PEAL__NAME_MAX + 1];

	(void)state;
	snprintf(wanted, sizeof(wanted), "%s/%060d", own.path, 0);
	setenv("PEAL_RUNTIME_DIR", wanted, 1);
	memset(name, 'n', PEAL__NAME_MAX);
	name[PEAL__NAME_MAX] = '\0';
	assert_int_equal(peal__name_for_server(name, path, &failure), -EINVAL);
	assert_non_null(strstr(failure.text, "too long"));
	assert_int_equal(peal__name_for_client(name, 0, path, &failure),
	                 -EINVAL);
	rmdir(wanted);
}

static void name_with_a_slash_is_a_path_as_it_is(void **state)
{
	char path[PEAL__PATH_BYTES];

	(void)state;
	assert_int_equal(peal__name_for_server("./any/where", path, NULL), 0);
	assert_string_equal(path, "./any/where");
	assert_int_equal(peal__name_for_client("/any/where", 0, path, NULL), 0);
	assert_string_equal(path, "/any/where");
	assert_int_equal(peal__name_for_client("/any/where", 1, path, NULL),
	                 -ENOENT);
}

static void name_is_checked_before_it_becomes_a_path(void **state)
{
	char path[PEAL__PATH_BYTES] = "untouched";

	(void)state;
	assert_int_equal(peal__name_for_server("a b", path, NULL), -EINVAL);
	assert_int_equal(peal__name_for_client("a b", 0, path, NULL), -EINVAL);
	assert_int_equal(peal__name_for_client(NULL, 0, path, NULL), -EINVAL);
	assert_string_equal(path, "untouched");
}

/* It was passed over, and the server was where nobody looked for it. */
static int refuse_long_directory(void *variable)
{
	char path[PEAL__PATH_BYTES] = "untouched", directory[200] = "/";
	struct peal_failure failure = {0, ""};

	if (!directory_become_user())
		return 1;
	memset(directory + 1, 'd', sizeof(directory) - 2);
	directory[sizeof(directory) - 1] = '\0';
	unsetenv("PEAL_RUNTIME_DIR");
	unsetenv("XDG_RUNTIME_DIR");
	setenv(variable, directory, 1);
	if (peal__name_for_server("words", path, &failure) != -EINVAL ||
	    strstr(failure.text, variable) == NULL ||
	    strstr(failure.text, "too long") == NULL)
		return 2;
	failure.text[0] = '\0';
	if (peal__name_for_client("words", 0, path, &failure) != -EINVAL ||
	    strstr(failure.text, variable) == NULL)
		return 3;
	/* For who lists what there is, nothing is there: the next one has its
	 * own number nevertheless. */
	if (peal__name_directory(0, path) != -EINVAL ||
	    peal__name_directory(1, path) != 0 ||
	    strncmp(path, "/tmp/peal-", 10) != 0)
		return 4;
	return 0;
}

static void
directory_that_is_too_long_is_named_and_not_passed_over(void **state)
{
	static char variables[][20] = {"PEAL_RUNTIME_DIR", "XDG_RUNTIME_DIR"};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(variables); i++)
		assert_int_equal(
			check_in_child(refuse_long_directory, variables[i]), 0);
}

/* What a user finds, as a number of the first step that went wrong. */
static int expect_directories(const char *const *wanted)
{
	char path[PEAL__PATH_BYTES];
	unsigned int i;

	for (i = 0; wanted[i] != NULL; i++)
		if (peal__name_directory(i, path) != 0 ||
		    strcmp(path, wanted[i]) != 0)
			return 10 + (int)i;
	return peal__name_directory(i, path) == -ENOENT ? 0 : 20;
}

static int directories_of_root(void *unused)
{
	const char *const chosen[] = {"/chosen/", "/run/peal", NULL};
	const char *const usual[] = {"/run/peal", NULL};
	int status;

	(void)unused;
	setenv("XDG_RUNTIME_DIR", "/not/for/root", 1);
	setenv("PEAL_RUNTIME_DIR", "/chosen/", 1);
	status = expect_directories(chosen);
	if (status != 0)
		return status;
	/* Set to nothing is not set. */
	setenv("PEAL_RUNTIME_DIR", "", 1);
	status = expect_directories(usual);
	unsetenv("PEAL_RUNTIME_DIR");
	return status != 0 ? 100 + status : expect_directories(usual);
}

static void root_has_its_choice_and_the_system_directory(void **state)
{
	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("only root can see what root gets");
	assert_int_equal(check_in_child(directories_of_root, NULL), 0);
}

static char of_uid[64];

static int directories_of_a_user(void *unused)
{
	const char *const all[] = {"/chosen", "/xdg/peal", of_uid, "/run/peal",
	                           NULL};
	const char *const own_ones[] = {of_uid, "/run/peal", NULL};
	int status;

	(void)unused;
	if (!directory_become_user())
		return CHECK_NOT_HERE;
	snprintf(of_uid, sizeof(of_uid), "/tmp/peal-%u", geteuid());
	setenv("PEAL_RUNTIME_DIR", "/chosen", 1);
	setenv("XDG_RUNTIME_DIR", "/xdg", 1);
	status = expect_directories(all);
	if (status != 0)
		return status;
	/* A relative one is not allowed by its own specification. */
	unsetenv("PEAL_RUNTIME_DIR");
	setenv("XDG_RUNTIME_DIR", "xdg", 1);
	status = expect_directories(own_ones);
	unsetenv("XDG_RUNTIME_DIR");
	return status != 0 ? 100 + status : expect_directories(own_ones);
}

static void user_has_own_directories_before_the_system_one(void **state)
{
	(void)state;
	check_passes_in_child(directories_of_a_user, NULL,
	                      "this process may not become another user");
}

/* somebody else's directory ---------------------------------------------- */

/* A user whose $XDG_RUNTIME_DIR is ours, so that /tmp is left alone. */
static int user_meets_directory(void *mode)
{
	struct peal__fork_fd socket = {.fd = -1};
	char path[PEAL__PATH_BYTES];
	struct peal_failure failure = {0, ""};
	int error;

	if (!directory_become_user())
		return CHECK_NOT_HERE;
	unsetenv("PEAL_RUNTIME_DIR");
	setenv("XDG_RUNTIME_DIR", own.path, 1);
	error = peal__name_for_server("words", path, &failure);
	if (mode == NULL)
		return error == 0 ? 0 : 1;
	if (error != -EACCES || strstr(failure.text, own.path) == NULL)
		return 2;
	/* Nor does a client look into it. */
	error = peal__name_for_client("words", 0, path, &failure);
	if (error != -EACCES || strstr(failure.text, own.path) == NULL)
		return 3;
	/* That is what it tells when there is no server elsewhere. */
	memset(&failure, 0, sizeof(failure));
	error = peal__connect("words", 0, &failure, &socket);
	return error == -EACCES && strstr(failure.text, own.path) != NULL ? 0
	                                                                  : 4;
}

/* Make $XDG_RUNTIME_DIR/peal; a user of another uid then comes. */
static void assert_met(uint32_t owner_uid, mode_t mode, bool fine)
{
	char path[PEAL__PATH_BYTES];
	int status;

	snprintf(path, sizeof(path), "%s/peal", own.path);
	assert_int_equal(chmod(own.path, 0777), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, mode), 0);
	assert_int_equal(chown(path, owner_uid, owner_uid), 0);
	status = check_in_child(user_meets_directory, fine ? NULL : &mode);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(status, 0);
}

static void directory_of_another_user_is_refused(void **state)
{
	char path[PEAL__PATH_BYTES], other[PEAL__PATH_BYTES];
	int any = 0;

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("only root can make what belongs to another user");
	assert_met(DIRECTORY_UID, 0700, true);
	assert_met(DIRECTORY_UID, 0755, true);
	assert_met(0, 0700, false);
	assert_met(0, 0777, false);
	assert_met(DIRECTORY_UID + 1, 0700, false);
	assert_met(DIRECTORY_UID, 0770, false);
	assert_met(DIRECTORY_UID, 0702, false);
	/* A link may lead anywhere tomorrow. */
	snprintf(path, sizeof(path), "%s/peal", own.path);
	snprintf(other, sizeof(other), "%s/other", own.path);
	assert_int_equal(mkdir(other, 0700), 0);
	assert_int_equal(chown(other, DIRECTORY_UID, DIRECTORY_UID), 0);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(check_in_child(user_meets_directory, &any), 0);
}

/* more rights than its user ----------------------------------------------- */

/* This program itself, as a copy that runs with another user's rights. */
static int run_with_more_rights(void *program)
{
	if (setgid(DIRECTORY_UID) != 0 || setuid(DIRECTORY_UID) != 0)
		return CHECK_NOT_HERE;
	setenv("PEAL_RUNTIME_DIR", own.path, 1);
	setenv("XDG_RUNTIME_DIR", own.path, 1);
	execl(program, program, "--with-more-rights", (char *)NULL);
	return CHECK_NOT_HERE;
}

static int am_i_deceived(void)
{
	char path[PEAL__PATH_BYTES];

	if (getauxval(AT_SECURE) == 0)
		return CHECK_NOT_HERE;
	/* Neither variable counts: what is first is the system directory. */
	if (peal__name_directory(0, path) != 0 ||
	    strcmp(path, "/run/peal") != 0)
		return 1;
	return peal__name_directory(1, path) == -ENOENT ? 0 : 2;
}

static void environment_is_not_trusted_by_who_has_more_rights(void **state)
{
	char program[PEAL__PATH_BYTES];

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("only root can make a program set-user-ID");
	snprintf(program, sizeof(program), "%s/program", own.path);
	directory_copy("/proc/self/exe", program);
	assert_int_equal(chmod(own.path, 0755), 0);
	assert_int_equal(chmod(program, 04755), 0);
	check_passes_in_child(run_with_more_rights, program,
	                      "nobody gets more rights on this file system");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(plain_name_has_letters_digits_and_three_signs),
		TEST(name_of_nothing_is_refused),
		TEST(name_has_at_most_64_bytes),
		TEST(name_is_neither_hidden_nor_a_lock),
		TEST(path_is_neither_a_lock_nor_an_unborn_socket),
		TEST(path_leaves_room_for_its_lock),
		TEST(server_makes_the_directory_of_its_choice),
		TEST(directory_that_cannot_be_had_has_a_sentence),
		TEST(directory_of_a_session_that_is_gone_is_told),
		TEST(path_that_is_too_long_for_a_socket_is_einval),
		TEST(name_with_a_slash_is_a_path_as_it_is),
		TEST(name_is_checked_before_it_becomes_a_path),
		TEST(directory_that_is_too_long_is_named_and_not_passed_over),
		TEST(root_has_its_choice_and_the_system_directory),
		TEST(user_has_own_directories_before_the_system_one),
		TEST(directory_of_another_user_is_refused),
		TEST(environment_is_not_trusted_by_who_has_more_rights),
	};

	if (argc == 2 && strcmp(argv[1], "--with-more-rights") == 0)
		return am_i_deceived();
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
