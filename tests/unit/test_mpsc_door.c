/* SPDX-License-Identifier: MIT */
/*
 * The door of a server: whom it lets in, and what it does for those who only
 * stand there.
 */
#include "tests/unit/mpsc_fixture.h"

#include <sched.h>
#include <sys/mount.h>

#define STRANGE_UID 4321

/* users ------------------------------------------------------------------- */

/* With mounts of its own, where the overflow uid is another one. */
static bool become_strange(void)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/uid", own.directory.path);
	directory_write(path, "4321\n");
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(path, "/proc/sys/kernel/overflowuid", NULL, MS_BIND,
	             NULL) == 0;
}

static int attach_as(void *argument)
{
	const uint32_t *uid = argument;
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;
	int error;

	if (setgid(*uid) != 0 || setuid(*uid) != 0)
		return 3;
	error = peal_producer_attach(&options, PATIENCE_NS, &producer);
	if (error == -EACCES)
		return strstr(own.failure.text, "user 4321 may be anybody") !=
		                       NULL
		               ? 1
		               : 2;
	return error == 0 ? 0 : 4;
}

static int serve_strangely(void *unused)
{
	static const uint32_t allowed[] = {STRANGE_UID, 65534};
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	uint32_t uids[] = {STRANGE_UID, 65534};
	int strange, usual;

	(void)unused;
	if (!become_strange())
		return 77;
	options.socket_mode = 0666;
	options.allow_uid = allowed;
	options.allow_uid_count = CHECK_COUNT(allowed);
	if (peal_consumer_open(&options, &consumer) != 0)
		return 10;
	strange = check_in_child(attach_as, &uids[0]);
	usual = check_in_child(attach_as, &uids[1]);
	peal_consumer_close(consumer);
	return strange != 1 ? 20 + strange : usual != 0 ? 30 + usual : 0;
}

static void overflow_user_is_refused_whatever_its_number_is(void **state)
{
	char path[200];
	int status;

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be several users");
	assert_int_equal(chmod(own.directory.path, 0755), 0);
	status = check_in_child(serve_strangely, NULL);
	snprintf(path, sizeof(path), "%s/uid", own.directory.path);
	unlink(path);
	if (status == 77)
		CHECK_SKIP("mounts of its own are not to be had here");
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(overflow_user_is_refused_whatever_its_number_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
