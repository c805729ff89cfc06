/* SPDX-License-Identifier: MIT */
/*
 * futex(2) in the hands of an attacker, on words that are not its own.
 */
#ifndef PEAL_TESTS_HOSTILE_FUTEX_H
#define PEAL_TESTS_HOSTILE_FUTEX_H

#include "tests/scene.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>

static inline long do_futex(const uint32_t *word, int operation, uint32_t value,
                            uintptr_t time_or_count, const uint32_t *other,
                            uint32_t other_value)
{
	return syscall(SYS_futex, word, operation, value, time_or_count, other,
	               other_value);
}

struct waits {
	const uint32_t *word;
	uint64_t end_ns;
};

static inline void *wait_on_word(void *arg)
{
	const struct timespec briefly = {.tv_nsec = 2 * SCENE_MS};
	const struct waits *waits = arg;

	while (scene_now_ns() < waits->end_ns)
		do_futex(waits->word, FUTEX_WAIT,
		         __atomic_load_n(waits->word, __ATOMIC_RELAXED),
		         (uintptr_t)&briefly, NULL, 0);
	return NULL;
}

#endif
