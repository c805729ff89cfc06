/* SPDX-License-Identifier: MIT */
/*
 * What tests share in which the one that is killed has an heir: those who live
 * on are told of the death, in time, and the heir leaves nothing behind.
 */
#ifndef PEAL_TESTS_DEATH_HEIR_H
#define PEAL_TESTS_DEATH_HEIR_H

#include "tests/scene.h"

#define WATCH_NS (30 * SCENE_S)
#define FAR_ABOVE_NS (SCENE_IS_SANITIZED ? 3 * SCENE_S : SCENE_S)

/* The promise; a sanitizer is slow. */
#define SOON_NS ((SCENE_IS_SANITIZED ? 300 : 100) * SCENE_MS)

/* Of those who are told so many percent may be late: a machine may be busy, and
 * is where many are killed at once. */
#define LATE_PERCENT 10
#define LATE_PERCENT_OF_MANY 50

/* On the board: when the victim was killed, and who was told of it. */
struct told {
	uint64_t kill_ns; /* 0: not yet */
	uint64_t max_ns;  /* so much later, at most */
	uint64_t count, late_count;
};

/* Somebody is, now. False: of a death that did not happen. */
static inline bool told_now(struct told *told)
{
	uint64_t kill_ns = scene_get(&told->kill_ns);
	uint64_t late_ns = scene_now_ns() - kill_ns;

	scene_add(&told->count, 1);
	scene_add(&told->late_count, late_ns > SOON_NS);
	if (kill_ns != 0 && late_ns > scene_get(&told->max_ns))
		scene_put(&told->max_ns, late_ns);
	return kill_ns != 0;
}

/* Were all but so many percent of them told soon? NULL, or what is wrong. */
static inline const char *told_fault(const struct told *told, uint32_t percent)
{
	static char text[100];

	print_message("told %llu times, at most %.1f ms after the kill, %llu "
	              "times too late\n",
	              (unsigned long long)told->count,
	              (double)told->max_ns / 1e6,
	              (unsigned long long)told->late_count);
	if (told->count != 0 && told->late_count * 100 <= told->count * percent)
		return NULL;
	snprintf(text, sizeof(text), "of %llu deaths %llu were told too late",
	         (unsigned long long)told->count,
	         (unsigned long long)told->late_count);
	return text;
}

/* It has been asked to close. NULL, or what is wrong with its end. */
static inline const char *heir_fault(pid_t heir)
{
	static char text[200];
	int status = scene_wait(heir, WATCH_NS);

	if (status == 0 && strcmp(scene_names(), "") == 0)
		return NULL;
	snprintf(text, sizeof(text),
	         "the heir ended with %d, left behind: %.150s", status,
	         scene_names());
	return text;
}

#endif
