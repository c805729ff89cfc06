/* SPDX-License-Identifier: MIT */
/*
 * Looking at a server, with every call failing once: of the observer, and of the
 * server that it asks.
 *
 *	observer_open        asks, and is shown the status region
 *	observer_open_past   nobody answers: the region is looked for in /proc
 *	observer_refresh     asks again
 *	observer_each        lists the names
 *	admission            the server's calls fail while it is asked
 *
 * Whoever sees something sees what is so, and leaves nothing.
 *
 *	./test_fault_observe [--full]
 */
#include "tests/fault/door.h"

#include "peal/observer.h"

static struct peal_observer *observer;
static struct peal_consumer *silent; /* asleep: nobody waits with it */
static uint32_t found_count;

/* Who sleeps answers nobody, however long one waits. */
static uint64_t answer_ns(void)
{
	return silent != NULL ? 5 * SCENE_MS : patience_ns();
}

/* opening ------------------------------------------------------------------ */

static int open_observer(struct peal_failure *failure)
{
	return peal_observer_open(NAME, answer_ns(), failure, &observer);
}

/* Nobody is known by a number that may be somebody else's by now. */
static bool may_be_nameless(void)
{
	return walk_fault.name != NULL &&
	       (strcmp(walk_fault.name, "getsockopt(SO_PEERPIDFD)") == 0 ||
	        strcmp(walk_fault.name, "pidfd_open") == 0 ||
	        fault_has(&walk_fault, EMFILE));
}

static int see(void)
{
	struct peal_server_info info;
	struct peal_slot_info slot;

	if (peal_observer_server(observer, &info) != 0 ||
	    (info.pid != getpid() && !(info.pid == 0 && may_be_nameless())) ||
	    info.slot_max != SLOTS || strcmp(info.name, NAME) != 0)
		return walk_say("it is not this server: '%s' of %d", info.name,
		                info.pid);
	/* Nobody is attached. */
	return peal_observer_slot(observer, 0, &slot) == -ESTALE
	               ? 0
	               : walk_say("its slot makes no sense");
}

static int see_and_close(int result)
{
	int error;

	if (result < 0)
		return observer == NULL ? 0 : walk_say("it was handed out");
	error = see();
	peal_observer_close(observer);
	observer = NULL;
	return error;
}

/* Those that it has not answered leave the queue at its door. */
static int see_and_wake(int result)
{
	int error = see_and_close(result);

	for (int i = 0; i < 4; i++)
		peal_consumer_wait(silent, SCENE_MS);
	return error;
}

/* asking again ------------------------------------------------------------- */

static int prepare_observer(void)
{
	struct peal_failure failure;

	return open_observer(&failure) == 0 ? 0 : walk_say("%s", failure.text);
}

static int refresh(struct peal_failure *failure)
{
	(void)failure;
	return peal_observer_refresh(observer, answer_ns());
}

/* Whatever it came to, what is shown is the truth, and it can be asked again. */
static int see_again(int result)
{
	int error = result == 0 ? 0 : -1;

	/* An answer that came too late is taken for none, once. */
	for (int tries = 0; error != 0 && tries < 3; tries++)
		error = peal_observer_refresh(observer, answer_ns());
	if (error == -ECONNRESET) /* the line was cut; another one is good */
		return see_and_close(0);
	if (error != 0)
		walk_say("it cannot be asked again: %d", error);
	return see_and_close(0) | (walk_word[0] == '\0' ? 0 : -1);
}

/* listing ------------------------------------------------------------------ */

static int count_name(const char *name, const char *path, void *arg)
{
	(void)path;
	(void)arg;
	found_count += strcmp(name, NAME) == 0;
	return 0;
}

static int list_names(struct peal_failure *failure)
{
	(void)failure;
	found_count = 0;
	return peal_observer_each(count_name, NULL);
}

static int see_name(int result)
{
	return result < 0 || found_count == 1
	               ? 0
	               : walk_say("a list without the name");
}

/* walking ------------------------------------------------------------------ */

/* What cannot be checked is not believed. */
static const struct walk_exception disbelieved[] = {
	{NULL, ENOMEM, -EPROTO},
	{"fstatfs64", ENOSYS, -EPROTO},
	{"pread64", EIO, -EPROTO},
	{NULL, 0, 0},
};

/* The region of a server that does not answer was not found. */
static const struct walk_exception silent_still[] = {
	{NULL, ENOMEM, -EPROTO},
	{"fstatfs64", ENOSYS, -EPROTO},
	{"pread64", EIO, -EPROTO},
	{NULL, 0, -ETIMEDOUT},
	{NULL, 0, 0},
};

/* What the server told it, in its own words, or that it hung up. */
static const struct walk_exception turned_away[] = {
	{NULL, 0, -ECONNRESET},
	{NULL, 0, -ENOMEM},
	{"accept4", EMFILE, -ETIMEDOUT}, /* from then on */
	{NULL, 0, 0},
};

static const struct operation operations[] = {
	{"observer_open", FAULT_MINE, true, false, disbelieved, NULL,
         open_observer, see_and_close,
         "calloc socket connect getrandom sendmsg recvmsg fstat64 fstatfs64 "
         "pread64 mmap madvise getsockopt(SO_PEERPIDFD) all(ENOMEM) "
         "all(EMFILE)"},
	{"observer_open_past", FAULT_MINE, true, false, silent_still, NULL,
         open_observer, see_and_wake,
         "poll opendir readlinkat openat64 memfd_create statx fstat64 "
         "fstatfs64 pread64 mmap all(ENOMEM) all(EMFILE)"},
	{"observer_refresh", FAULT_MINE, false, false, disbelieved,
         prepare_observer, refresh, see_again, "sendmsg recvmsg all(ENOMEM)"},
	{"observer_each", FAULT_MINE, false, false, NULL, NULL, list_names,
         see_name, "opendir stat fstatat64 realloc all(ENOMEM) all(EMFILE)"},
	{"admission_of_an_observer", FAULT_OTHERS, true, false, turned_away,
         NULL, open_observer, see_and_close,
         "accept4 epoll_ctl recvmsg sendmsg all(ENOMEM) all(EMFILE)"},
};

static void walk_answered(void **state)
{
	start_consumer(PEAL_WAIT_FUTEX);
	every_place_that_fails_is_told_and_leaves_nothing(state);
}

static void walk_silent(void **state)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;

	options.name = NAME;
	options.wait_mode = PEAL_WAIT_FD;
	options.producer_max = SLOTS;
	assert_int_equal(peal_consumer_open(&options, &silent), 0);
	every_place_that_fails_is_told_and_leaves_nothing(state);
}

static int close_servers(void **state)
{
	peal_consumer_close(silent);
	silent = NULL;
	return stop_all(state);
}

#define OBSERVE(walk, index)                                       \
	{                                                          \
		operations[index].name, walk, NULL, close_servers, \
			(void *)(uintptr_t)&operations[index]      \
	}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		OBSERVE(walk_answered, 0), OBSERVE(walk_silent, 1),
		OBSERVE(walk_answered, 2), OBSERVE(walk_answered, 3),
		OBSERVE(walk_answered, 4),
	};

	fault_is_full = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
