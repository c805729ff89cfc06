/* SPDX-License-Identifier: MIT */
/*
 * Killed at a place: a process notes the places it passes, and ends at the one
 * it is told to, as by kill -9.
 *
 *	parent  places_open()
 *	        places_kill_at_each()   dry runs: what places are there? Then one
 *	                                child after the other dies, at the first
 *	                                passing of a place, the second, ...
 *	child   places_watch()          then everything as usual
 *
 * The plan is shared memory, so it survives the child. Needs -Dhooks=true.
 */
#ifndef PEAL_TESTS_DEATH_PLACES_H
#define PEAL_TESTS_DEATH_PLACES_H

#include "tests/scene.h"

#include "base/hooks.h"

#define PLACE_MAX 40
#define PLACE_BYTES 40

struct plan {
	char kill_at[PLACE_BYTES];
	uint64_t kill_passing;
	uint32_t lock;
	uint32_t place_count;
	struct {
		char name[PLACE_BYTES];
		uint64_t passings;
	} places[PLACE_MAX];
};

static struct plan *plan;
static uint64_t *places_kill_ns; /* when it was killed, 0: not yet; or NULL */

static inline void places_plan(const char *place, uint64_t passing)
{
	if (places_kill_ns != NULL)
		scene_put(places_kill_ns, 0);
	memset(plan, 0, sizeof(*plan));
	snprintf(plan->kill_at, sizeof(plan->kill_at), "%s",
	         place == NULL ? "" : place);
	plan->kill_passing = passing;
}

/* How often has this place been passed, this time included? */
static inline uint64_t places_count(const char *name)
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
	uint64_t passing = places_count(name);

	if (strcmp(plan->kill_at, name) != 0 || passing != plan->kill_passing)
		return;
	if (places_kill_ns != NULL)
		scene_put(places_kill_ns, scene_now_ns());
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static inline void places_watch(void)
{
#ifdef PEAL_HOOKS
	peal__hook = places_pass;
#endif
}

/* the parent --------------------------------------------------------------- */

/* Before it starts a child. */
static inline void places_open(uint64_t *kill_ns)
{
	if (plan == NULL)
		plan = scene_board(sizeof(*plan));
	assert_non_null(plan);
	places_kill_ns = kill_ns;
}

/* Add the places of the last run. */
static inline void places_merge(struct plan *all)
{
	for (uint32_t i = 0; i < plan->place_count; i++) {
		uint32_t at = 0;

		while (at < all->place_count &&
		       strcmp(all->places[at].name, plan->places[i].name) != 0)
			at++;
		if (at == all->place_count)
			all->places[all->place_count++] = plan->places[i];
		else if (all->places[at].passings < plan->places[i].passings)
			all->places[at].passings = plan->places[i].passings;
	}
}

/* One life of the victim, and what it left judged: how it ended. */
typedef int places_live_fn(void *arg, const char *what);

/* How many deaths of @live that was, at @place and its first @last passings. */
static inline uint32_t places_kill_at(const char *place, uint64_t last,
                                      places_live_fn *live, void *arg)
{
	char what[100];
	uint32_t kill_count = 0;

	for (uint64_t passing = 1; passing <= last; passing++) {
		snprintf(what, sizeof(what), "killed at '%s', %llu", place,
		         (unsigned long long)passing);
		places_plan(place, passing);
		kill_count += live(arg, what) != 0;
	}
	return kill_count;
}

/*
 * At each place, and @passing_max passings of it at most. Asserts that there
 * are @place_count places, all of which are passed by one of @dry_run_max
 * lives, and a death at each.
 */
static inline void places_kill_at_each(places_live_fn *live, void *arg,
                                       uint32_t place_count, int dry_run_max,
                                       uint64_t passing_max)
{
	static struct plan all;
	uint32_t kill_count = 0;

	memset(&all, 0, sizeof(all));
	for (int i = 0; i < dry_run_max && all.place_count < place_count; i++) {
		places_plan(NULL, 0);
		assert_int_equal(live(arg, "a dry run"), 0);
		places_merge(&all);
	}
	for (uint32_t i = 0; i < all.place_count; i++) {
		uint64_t last = all.places[i].passings;

		print_message("  %-28s passed %llu times\n", all.places[i].name,
		              (unsigned long long)last);
		if (last > passing_max)
			last = passing_max;
		kill_count +=
			places_kill_at(all.places[i].name, last, live, arg);
	}
	print_message("%u places, %u kills\n", all.place_count, kill_count);
	assert_true(all.place_count >= place_count);
	assert_true(kill_count >= all.place_count);
}

#endif
