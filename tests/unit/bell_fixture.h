/* SPDX-License-Identifier: MIT */
/* A bell, its sleeper, and one who rings it. */
#ifndef PEAL_TESTS_UNIT_BELL_FIXTURE_H
#define PEAL_TESTS_UNIT_BELL_FIXTURE_H

#include "tests/check.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "doorbell/spin.h"
#include "peal/doorbell.h"
#include "tests/unit/shared.h"

#define OUR_ERRNO 4321

static uint64_t *arm;
static uint32_t *seq;
static struct peal_sleeper sleeper;
static struct peal_ringer ringer;
static int ends[2]; /* the ringer's end of the socket, the sleeper's */

static inline int open_bell(void **state)
{
	static void *memory;

	(void)state;
	if (memory == NULL)
		memory = shared_open(4096);
	memset(memory, 0, 4096);
	arm = memory;
	seq = (uint32_t *)(arm + 8);
	*seq = 1000;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0,
	                            ends),
	                 0);
	peal_doorbell_init(&sleeper, arm, seq, PEAL_DOORBELL_FUTEX);
	ringer = (struct peal_ringer){.arm = arm, .seq = seq, .fd = ends[0]};
	errno = OUR_ERRNO;
	return 0;
}

static inline int close_bell(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_bell, close_bell)

#endif
