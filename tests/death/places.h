/* SPDX-License-Identifier: MIT */
/*
 * Killed at a place: a process notes the places it passes, and ends at the one
 * it is told to, as by kill -9.
 *
 *	parent  places_plan(&plan, NULL, 0)      a dry run: what is there?
 *	        places_plan(&plan, place, 3)     now die at its third passing
 *	child   places_watch(&plan)              then everything as usual
 *
 * The plan lies on the board, so it survives the child. Needs -Dhooks=true.
 */
#ifndef PEAL_TESTS_DEATH_PLACES_H
#define PEAL_TESTS_DEATH_PLACES_H

#include "tests/scene.h"

#include "base/hooks.h"

#define PLACE_MAX 40
#define PLACE_BYTES 40

struct plan {
	uint64_t kill_ns; /* when it was killed; 0: not yet */
	char kill_at[PLACE_BYTES];
	uint64_t kill_passing;
	uint32_t lock;
	uint32_t place_count;
	struct {
		char name[PLACE_BYTES];
		uint64_t passings;
	} places[PLACE_MAX];
};

static struct plan *places_of_child;

static inline void places_plan(struct plan *plan, const char *place,
                               uint64_t passing)
{
	memset(plan, 0, sizeof(*plan));
	snprintf(plan->kill_at, sizeof(plan->kill_at), "%s",
	         place == NULL ? "" : place);
	plan->kill_passing = passing;
}

/* How often has this place been passed, this time included? */
static inline uint64_t places_count(struct plan *plan, const char *name)
{
	uint64_t passings = 0;
	uint32_t i = 0;

	while (__atomic_exchange_n(&plan->lock, 1, __ATOMIC_ACQUIRE) != 0)
		;
	while (i < plan->place_count && strcmp(plan->places[i].name, name) != 0)
		i++;
	if (i < PLACE_MAX) {
		if (i == plan->place_count) {
			snprintf(plan->places[i].name, PLACE_BYTES, "%s", name);
			plan->place_count++;
		}
		passings = ++plan->places[i].passings;
	}
	__atomic_store_n(&plan->lock, 0, __ATOMIC_RELEASE);
	return passings;
}

static inline void places_pass(const char *name)
{
	struct plan *plan = places_of_child;
	uint64_t passing = places_count(plan, name);

	if (strcmp(plan->kill_at, name) != 0 || passing != plan->kill_passing)
		return;
	scene_put(&plan->kill_ns, scene_now_ns());
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* Add the places of another run. */
static inline void places_merge(struct plan *plan, const struct plan *other)
{
	for (uint32_t i = 0; i < other->place_count; i++) {
		uint32_t at = 0;

		while (at < plan->place_count &&
		       strcmp(plan->places[at].name, other->places[i].name) !=
		               0)
			at++;
		if (at == plan->place_count)
			plan->places[plan->place_count++] = other->places[i];
		else if (plan->places[at].passings < other->places[i].passings)
			plan->places[at].passings = other->places[i].passings;
	}
}

static inline void places_watch(struct plan *plan)
{
	places_of_child = plan;
#ifdef PEAL_HOOKS
	peal__hook = places_pass;
#endif
}

#endif
