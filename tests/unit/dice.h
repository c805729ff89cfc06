/* SPDX-License-Identifier: MIT */
/*
 * Random numbers of a test, which can be had again: the seed is printed, and
 * PEAL_TEST_SEED sets it.
 */
#ifndef PEAL_TESTS_UNIT_DICE_H
#define PEAL_TESTS_UNIT_DICE_H

#include "tests/check.h"

#include <stdlib.h>
#include <sys/random.h>

struct dice {
	uint64_t state;
};

static inline struct dice dice_with(uint64_t seed)
{
	/* The generator stands still at 0. */
	return (struct dice){seed == 0 ? 1 : seed};
}

/* A seed, told to who looks for the reason of a failure. */
static inline uint64_t dice_seed(void)
{
	const char *given = getenv("PEAL_TEST_SEED");
	uint64_t seed = 1;

	if (given != NULL)
		seed = strtoull(given, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)getpid();
	print_message("PEAL_TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

/* xorshift64* (Vigna, 2014) */
static inline uint64_t dice_roll(struct dice *dice)
{
	uint64_t x = dice->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	dice->state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to @limit - 1 */
static inline uint64_t dice_below(struct dice *dice, uint64_t limit)
{
	return (dice_roll(dice) >> 11) % limit;
}

#endif
