/* SPDX-License-Identifier: MIT */
/*
 * A consumer tells its producers on which processor it runs. In children, which
 * may be pinned.
 */
#include "tests/unit/mpsc_fixture.h"

#include <sched.h>

#include "base/cpu.h"
#include "mpsc/server.h"

/* 0 was what it believed to have told from the beginning. */
static int say_where(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	int cpu = *(const int *)arg, told_before, told;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0 ||
	    peal__cpu_current() != cpu)
		return CHECK_NOT_HERE;
	options.name = "words";
	if (peal_consumer_open(&options, &consumer) != 0)
		return 1;
	told_before = consumer->arm_page->cpu;
	peal_consumer_wait(consumer, MS);
	told = consumer->arm_page->cpu;
	peal_consumer_close(consumer);
	if (told_before != -1)
		return 2;
	return told == cpu ? 0 : 3;
}

static void consumer_on_a_processor_says_so(void **state)
{
	cpu_set_t usable;
	int count = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(usable), &usable), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE && count < 4; cpu++) {
		if (!CPU_ISSET((size_t)cpu, &usable))
			continue;
		check_passes_in_child(say_where, &cpu,
		                      "this process may not be pinned");
		count++;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(consumer_on_a_processor_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
