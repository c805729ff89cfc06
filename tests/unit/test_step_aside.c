/* SPDX-License-Identifier: MIT */
/*
 * A client that is woken on the server's processor moves, if it may. In
 * children, whose affinity is theirs. Where the server runs is what its arm page
 * says, so the test says it.
 */
#include "tests/unit/client_fixture.h"

#include <sched.h>

#include "base/cpu.h"
#include "reactor/client.h"

#define CALLS 2000

static struct server server;

struct way {
	bool steps_aside;
	bool is_pinned; /* to the processor that it is on */
};

/* As if the server ran where this thread does; it says so itself when it moves. */
static void come_beside(void)
{
	__atomic_store_n(&server.consumer->arm_page->cpu, peal__cpu_current(),
	                 __ATOMIC_RELAXED);
}

static int pin_here(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)peal__cpu_current(), &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* 0, or what was wrong. */
static int call_beside(void *argument)
{
	const struct way *way = argument;
	struct peal_client_options options = client_options();
	struct peal_client_stats stats = {0};
	struct peal_client *client;
	struct peal_message answer;
	cpu_set_t before, after;

	alarm(60);
	options.step_aside = way->steps_aside;
	server_start(&server);
	client = client_with(&options);
	if (way->is_pinned && pin_here() != 0)
		return CHECK_NOT_HERE;
	if (sched_getaffinity(0, sizeof(before), &before) != 0 ||
	    (!way->is_pinned && CPU_COUNT(&before) < 2))
		return CHECK_NOT_HERE;
	errno = OUR_ERRNO;
	for (int i = 0; i < CALLS && stats.aside_count == 0; i++) {
		int cpu;

		come_beside();
		cpu = peal__cpu_current();
		if (call_text(client, "echo", PATIENCE_NS, &answer) != 0)
			return 1;
		stats = client_stats(client);
		if (stats.aside_count > 0 && peal__cpu_current() == cpu)
			stats.aside_count = 0; /* moved back by the kernel? */
	}
	if (errno != OUR_ERRNO)
		return 2;
	if (sched_getaffinity(0, sizeof(after), &after) != 0 ||
	    !CPU_EQUAL(&before, &after))
		return 3;
	if ((stats.aside_count > 0) != (way->steps_aside && !way->is_pinned))
		return 4;
	peal_client_close(client);
	server_stop(&server);
	return 0;
}

static void check(bool steps_aside, bool is_pinned)
{
	struct way way = {steps_aside, is_pinned};
	check_passes_in_child(call_beside, &way,
	                      "it takes two processors, and to be pinned");
}

static void client_beside_its_server_moves(void **state)
{
	(void)state;
	check(true, false);
}

static void client_that_was_not_asked_to_stays(void **state)
{
	(void)state;
	check(false, false);
}

static void pinned_client_stays_and_works(void **state)
{
	(void)state;
	check(true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(client_beside_its_server_moves),
		TEST(client_that_was_not_asked_to_stays),
		TEST(pinned_client_stays_and_works),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
