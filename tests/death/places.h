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
 * Who has to have died where is in one table, which names every place of the
 * library: tests/tidy.py compares them. A program asserts its part of it.
 *
 * The plan is shared memory, so it survives the child. Needs -Dhooks=true.
 */
#ifndef PEAL_TESTS_DEATH_PLACES_H
#define PEAL_TESTS_DEATH_PLACES_H

#include "tests/scene.h"

#include "base/hooks.h"

#define PLACE_MAX 60
#define PLACE_BYTES 40
#define PLACE_TRIES 20 /* victims that may end before they pass it */

/* Victims, and modes of waiting of which only one passes the place. */
enum {
	DIES_PRODUCER = 1 << 0,
	DIES_CONSUMER = 1 << 1,
	DIES_CLIENT = 1 << 2,
	DIES_SERVER = 1 << 3,
	DIES_SERVER_OF_WORKERS = 1 << 4,
	DIES_IN_FUTEX_MODE = 1 << 5,
	DIES_IN_FD_MODE = 1 << 6,
};

#define DIES_SERVERS (DIES_SERVER | DIES_SERVER_OF_WORKERS)
#define DIES_OWNERS (DIES_CONSUMER | DIES_SERVERS)
#define DIES_VISITORS (DIES_PRODUCER | DIES_CLIENT)

/* Every place of the library, and who is killed there. */
static const struct {
	const char *name;
	uint32_t who;
} places_table[] = {
	{"name: opened", DIES_OWNERS},
	{"name: locked", DIES_OWNERS},
	{"listen: bound", DIES_OWNERS},
	{"admission: listens", DIES_OWNERS},
	{"admission: accepted", DIES_OWNERS},
	{"admission: welcome", DIES_OWNERS},
	{"admission: live", DIES_OWNERS},
	{"admission: gone", DIES_CONSUMER},
	{"drain: told", DIES_OWNERS},
	{"drain: evicts", DIES_CONSUMER},
	{"drain: finished", DIES_CONSUMER},
	{"close: marked", DIES_OWNERS},
	{"name: socket removed", DIES_OWNERS},

	{"attach: connected", DIES_VISITORS},
	{"attach: welcomed", DIES_VISITORS},
	{"attach: mapped", DIES_VISITORS},
	{"attach: ready", DIES_VISITORS},
	{"detach: said good-bye", DIES_VISITORS},

	{"ring: armed", DIES_OWNERS | DIES_VISITORS},
	{"ring: bumped", DIES_OWNERS | DIES_VISITORS | DIES_IN_FUTEX_MODE},
	{"ring: woken", DIES_OWNERS | DIES_VISITORS},
	{"notify: bumped", DIES_OWNERS | DIES_CLIENT | DIES_IN_FUTEX_MODE},
	{"sleep: about to", DIES_OWNERS | DIES_VISITORS},
	{"sleep: armed", DIES_OWNERS | DIES_VISITORS},
	{"sleep: looked again", DIES_OWNERS | DIES_VISITORS},
	{"sleep: over", DIES_OWNERS | DIES_VISITORS},
	{"consumer prepares: about to", DIES_CONSUMER | DIES_IN_FD_MODE},
	{"consumer prepares: armed", DIES_CONSUMER | DIES_IN_FD_MODE},
	{"producer prepares: about to", DIES_PRODUCER | DIES_IN_FD_MODE},
	{"producer prepares: armed", DIES_PRODUCER | DIES_IN_FD_MODE},
	{"client prepares: about to", DIES_CLIENT | DIES_IN_FD_MODE},
	{"client prepares: armed", DIES_CLIENT | DIES_IN_FD_MODE},

	{"client: about to attach again", DIES_CLIENT},
	{"client: told", DIES_CLIENT},
	{"wake: in the door", DIES_CLIENT},
	{"reactor: published", DIES_SERVERS},
	{"reactor: to be stopped", DIES_SERVERS},
	{"reactor: told", DIES_SERVER_OF_WORKERS},
	{"reactor: handler has returned", DIES_SERVER_OF_WORKERS},
	{"reactor: handler has ended", DIES_SERVER_OF_WORKERS},
	{"completions: pushed", DIES_SERVER_OF_WORKERS},
};

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

/* Is somebody who is @who, of this mode, to be killed at this row's place? */
static inline bool places_is_due(size_t row, uint32_t who)
{
	const uint32_t modes = DIES_IN_FUTEX_MODE | DIES_IN_FD_MODE;
	uint32_t due = places_table[row].who;

	return (due & who & ~modes) != 0 &&
	       ((due & modes) == 0 || (due & who & modes) != 0);
}

/* How often was this place passed in the longest of the dry runs? */
static inline uint64_t places_passings(const struct plan *all, const char *name)
{
	for (uint32_t i = 0; i < all->place_count; i++)
		if (strcmp(all->places[i].name, name) == 0)
			return all->places[i].passings;
	return 0;
}

static inline bool places_are_all_passed(const struct plan *all, uint32_t who)
{
	for (size_t i = 0; i < CHECK_COUNT(places_table); i++)
		if (places_is_due(i, who) &&
		    places_passings(all, places_table[i].name) == 0)
			return false;
	return true;
}

/*
 * How many deaths of @live that was, at @place and its first @last passings. At
 * the first one until somebody has died there: one life may have less to do.
 */
static inline uint32_t places_kill_at(const char *place, uint64_t last,
                                      places_live_fn *live, void *arg)
{
	char what[100];
	uint32_t kill_count = 0, tries = 0;
	int status;

	for (uint64_t passing = 1; passing <= last; passing++) {
		snprintf(what, sizeof(what), "killed at '%s', %llu", place,
		         (unsigned long long)passing);
		do {
			places_plan(place, passing);
			status = live(arg, what);
		} while (passing == 1 && status == 0 && ++tries < PLACE_TRIES);
		kill_count += status == CHECK_KILLED_BY + SIGKILL;
	}
	return kill_count;
}

/*
 * At each place, and @passing_max passings of it at most. Asserts that @who has
 * died at every place of the table where he has to, all of which are passed by
 * one of @dry_run_max lives.
 */
static inline void places_kill_at_each(places_live_fn *live, void *arg,
                                       uint32_t who, uint32_t mode,
                                       int dry_run_max, uint64_t passing_max)
{
	static struct plan all;
	uint32_t kill_count = 0;
	uint32_t kill_counts[CHECK_COUNT(places_table)];

	who |= mode == PEAL_WAIT_FD ? DIES_IN_FD_MODE : DIES_IN_FUTEX_MODE;
	memset(&all, 0, sizeof(all));
	for (int i = 0; i < dry_run_max && !places_are_all_passed(&all, who);
	     i++) {
		places_plan(NULL, 0);
		assert_int_equal(live(arg, "a dry run"), 0);
		places_merge(&all);
	}
	for (size_t i = 0; i < CHECK_COUNT(places_table); i++) {
		const char *name = places_table[i].name;
		uint64_t passings = places_passings(&all, name);

		kill_counts[i] = places_kill_at(
			name, passings < passing_max ? passings : passing_max,
			live, arg);
		kill_count += kill_counts[i];
		if (passings != 0)
			print_message("  %-30s passed %llu times, %u kills\n",
			              name, (unsigned long long)passings,
			              kill_counts[i]);
	}
	print_message("%u places, %u kills\n", all.place_count, kill_count);
	for (size_t i = 0; i < CHECK_COUNT(places_table); i++)
		if (places_is_due(i, who) && kill_counts[i] == 0)
			fail_msg("nobody was killed at '%s'",
			         places_table[i].name);
}

#endif
