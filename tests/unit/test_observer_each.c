/* SPDX-License-Identifier: MIT */
/* Which servers there are: what shmctl lists. */
#include "tests/unit/fake_server.h"

#include <sys/stat.h>

#include "mpsc/name.h"
#include "tests/unit/directory.h"

struct seen {
	char text[512];
	int stop_after;
};

static int see(const char *name, const char *path, void *arg)
{
	struct seen *seen = arg;
	const char *slash = strrchr(path, '/');

	if (slash == NULL || strcmp(slash + 1, name) != 0)
		return -EINVAL;
	strcat(seen->text, name);
	strcat(seen->text, " ");
	return --seen->stop_after == 0 ? 99 : 0;
}

/* A socket nobody listens at, as a dead server leaves it. */
static void make_socket(const char *directory, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", directory,
	         name);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	close(fd);
}

static void make_file(const char *directory, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void each_finds_sockets_in_the_order_of_their_names(void **state)
{
	static const char *const sockets[] = {"zeta", "alpha", "mid-2.x",
	                                      ".hidden", "strange name"};
	static const char *const files[] = {"zeta.lock", "notes", "alpha.lock"};
	char directory[] = "/tmp/peal-each.XXXXXX", command[64];
	const char *before = getenv("PEAL_RUNTIME_DIR");
	char *saved = before != NULL ? strdup(before) : NULL;
	struct seen seen = {"", 0}, stopped = {"", 2};

	(void)state;
	assert_non_null(mkdtemp(directory));
	for (size_t i = 0; i < CHECK_COUNT(sockets); i++)
		make_socket(directory, sockets[i]);
	for (size_t i = 0; i < CHECK_COUNT(files); i++)
		make_file(directory, files[i]);
	setenv("PEAL_RUNTIME_DIR", directory, 1);
	setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
	assert_int_equal(peal_observer_each(see, &seen), 0);
	/* Other places of this user may have servers of their own. */
	assert_non_null(strstr(seen.text, "alpha "));
	assert_true(strstr(seen.text, "alpha ") < strstr(seen.text, "mid-2.x"));
	assert_true(strstr(seen.text, "mid-2.x ") < strstr(seen.text, "zeta "));
	assert_null(strstr(seen.text, "lock"));
	assert_null(strstr(seen.text, "notes"));
	assert_null(strstr(seen.text, "hidden"));
	assert_null(strstr(seen.text, "strange"));
	assert_int_equal(peal_observer_each(see, &stopped), 99);
	assert_int_equal(stopped.stop_after, 0);
	if (saved != NULL)
		setenv("PEAL_RUNTIME_DIR", saved, 1);
	else
		unsetenv("PEAL_RUNTIME_DIR");
	free(saved);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	assert_int_equal(system(command), 0);
}

static int see_path(const char *name, const char *path, void *arg)
{
	if (strcmp(name, "alpha") == 0)
		strcpy(arg, path);
	return 0;
}

static int find_beyond_a_long_place(void *directory)
{
	char path[PEAL__PATH_BYTES] = "", wanted[PEAL__PATH_BYTES], chosen[200];

	memset(chosen, 'd', sizeof(chosen) - 1);
	chosen[0] = '/';
	chosen[sizeof(chosen) - 1] = '\0';
	snprintf(wanted, sizeof(wanted), "%s/peal/alpha", (char *)directory);
	if (!directory_become_user())
		return CHECK_NOT_HERE;
	setenv("PEAL_RUNTIME_DIR", chosen, 1);
	setenv("XDG_RUNTIME_DIR", directory, 1);
	if (peal_observer_each(see_path, path) != 0)
		return 1;
	return strcmp(path, wanted) == 0 ? 0 : 2;
}

/* What walked through the places and what made paths of them did not count them
 * alike: living servers were missed, and shown with another's path. */
static void each_finds_what_lies_beyond_a_place_that_is_too_long(void **state)
{
	char directory[] = "/tmp/peal-each.XXXXXX", path[64], command[64];
	int status;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/peal", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	make_socket(path, "alpha");
	if (geteuid() == 0) {
		assert_int_equal(chmod(directory, 0755), 0);
		assert_int_equal(chown(path, DIRECTORY_UID, DIRECTORY_UID), 0);
	}
	status = check_in_child(find_beyond_a_long_place, directory);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	assert_int_equal(system(command), 0);
	if (status == CHECK_NOT_HERE)
		CHECK_SKIP("this process may not become another user");
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(each_finds_sockets_in_the_order_of_their_names),
		FAKE_TEST(each_finds_what_lies_beyond_a_place_that_is_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
