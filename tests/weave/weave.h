/* SPDX-License-Identifier: MIT */
/*
 * Weaving: two threads of which one runs at a time, from one named place to
 * the next, in an order that we choose.
 *
 *	actor 0   start ---- a ---- b ---- c - - -   each ---- is a step: it is
 *	actor 1   start -- d -- e -- (asleep) - - -  granted, and runs alone
 *
 * Places are the library's hooks and weave_point() of the test. An actor that
 * sleeps does so in the kernel, as in life: it is asleep when it has gone on
 * from "sleep: looked again", or from where it waits to be welcomed, and the
 * kernel says so, and it can run again when the kernel says that. When nobody
 * can run and somebody sleeps, a wake was lost, and the schedule that lost it
 * is printed. Other threads than the actors run freely: the one of admission
 * in futex mode. In fd mode its work is the consumer's own: weave_door.c.
 *
 * Orders are enumerated depth first, those first that switch rarely: a switch
 * away from an actor that could go on is a preemption, and their number is
 * bounded. Then come random ones.
 *
 * What this cannot see: between two places everything happens at once and in
 * order, as if there were no store buffers. That the store which announces is
 * seen before the bell is loaded is for the stress tests and the model.
 *
 * Source: CHESS (Musuvathi and Qadeer, 2007); fd_racesan of Firedancer.
 */
#ifndef PEAL_TESTS_WEAVE_WEAVE_H
#define PEAL_TESTS_WEAVE_WEAVE_H

#include "tests/scene.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include "base/hooks.h"

#define WEAVE_ACTORS 2
#define WEAVE_STEPS_MAX 400
#define WEAVE_SLEEP_PLACE "sleep: looked again"
#define WEAVE_GREETING_PLACE "attach: connected"

enum weave_state { WEAVE_AT_PLACE, WEAVE_RUNNING, WEAVE_ASLEEP, WEAVE_DONE };

struct weave_actor {
	void (*run)(void *object);
	void *object;
	pthread_t thread;
	sem_t go;
	uint32_t is_at_place; /* set by itself */
	uint32_t is_done;
	const char *place;
	int stat_fd; /* of its thread in /proc */
	enum weave_state state;
};

struct weave_step {
	uint8_t actor;
	uint8_t could_switch;
	uint8_t switched;
	const char *place; /* where it was granted */
};

/* What is woven, and how it went. */
struct weave {
	void (*runs[WEAVE_ACTORS])(void *object);
	void (*reset)(void *object); /* before each schedule */
	void *object;
	uint32_t preemption_max;
	uint64_t schedule_max;
	uint64_t seed; /* of the random ones */

	struct weave_actor actors[WEAVE_ACTORS];
	struct weave_step steps[WEAVE_STEPS_MAX];
	uint32_t step_count, prefix_count, preemption_count;
	bool is_random;
	uint64_t chance;
	uint64_t schedule_count, sleep_count, total_step_count;
};

static _Thread_local struct weave_actor *weave_self;
static sem_t weave_arrived;

/* One of the places at which the order is decided. */
static inline void weave_point(const char *place)
{
	struct weave_actor *self = weave_self;

	if (self == NULL) /* not one of ours: the thread of admission */
		return;
	self->place = place;
	scene_put(&self->is_at_place, 1);
	sem_post(&weave_arrived);
	while (sem_wait(&self->go) != 0)
		;
}

static inline void *weave_thread_main(void *argument)
{
	struct weave_actor *self = argument;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%ld/stat",
	         syscall(SYS_gettid));
	self->stat_fd = open(path, O_RDONLY | O_CLOEXEC);
	weave_self = self;
	weave_point("start");
	self->run(self->object);
	scene_put(&self->is_done, 1);
	scene_put(&self->is_at_place, 1);
	sem_post(&weave_arrived);
	return NULL;
}

/* Does the kernel say that this thread sleeps? */
static inline bool weave_sleeps(const struct weave_actor *actor)
{
	char text[128];
	ssize_t got = pread(actor->stat_fd, text, sizeof(text) - 1, 0);
	const char *state;

	if (got <= 0)
		return false;
	text[got] = '\0';
	state = strrchr(text, ')');
	return state != NULL && strncmp(state, ") S", 3) == 0;
}

/* Wait for an actor that runs to come to a place, or to fall asleep. */
static inline void weave_settle(struct weave_actor *actor)
{
	bool may_sleep = strcmp(actor->place, WEAVE_SLEEP_PLACE) == 0 ||
	                 strcmp(actor->place, WEAVE_GREETING_PLACE) == 0;

	while (scene_get(&actor->is_at_place) == 0) {
		if (!may_sleep) {
			while (sem_wait(&weave_arrived) != 0)
				;
		} else if (weave_sleeps(actor)) {
			/* Once more: it may have slept for us a moment ago. */
			if (scene_get(&actor->is_at_place) == 0) {
				actor->state = WEAVE_ASLEEP;
				return;
			}
		} else {
			sched_yield();
		}
	}
	actor->state = scene_get(&actor->is_done) != 0 ? WEAVE_DONE
	                                               : WEAVE_AT_PLACE;
}

/* Who slept and was woken by the last step comes to its place. */
static inline void weave_look_at_sleepers(struct weave *weave)
{
	for (int i = 0; i < WEAVE_ACTORS; i++)
		if (weave->actors[i].state == WEAVE_ASLEEP)
			weave_settle(&weave->actors[i]);
}

/* Whose step is it? -1: nobody can. */
static inline int weave_choose(struct weave *weave, int current)
{
	struct weave_step *step = &weave->steps[weave->step_count];
	int other = 1 - current;
	bool can_stay = weave->actors[current].state == WEAVE_AT_PLACE;
	bool can_switch = weave->actors[other].state == WEAVE_AT_PLACE;
	bool is_first = weave->step_count == 0, is_planned;

	is_planned = !weave->is_random && step->switched &&
	             weave->step_count < weave->prefix_count;
	step->could_switch =
		can_stay && can_switch &&
		(is_first || weave->preemption_count < weave->preemption_max);
	/* The kernel may have it otherwise this time: that is not tried again,
	 * or there would be no end. */
	if (is_planned && !step->could_switch) {
		step->could_switch = 1;
		return can_stay ? current : can_switch ? other : -1;
	}
	if (weave->is_random)
		step->switched = can_stay && can_switch &&
		                 scene_random(&weave->chance) % 3 == 0;
	else if (weave->step_count >= weave->prefix_count)
		step->switched = 0;
	if (!step->could_switch && !weave->is_random)
		step->switched = 0;
	if (step->switched && !is_first)
		weave->preemption_count++;
	if (!can_stay && !can_switch)
		return -1;
	return can_stay && !step->switched ? current : other;
}

static inline void weave_start(struct weave *weave)
{
	weave->step_count = weave->preemption_count = 0;
	for (int i = 0; i < WEAVE_ACTORS; i++) {
		struct weave_actor *actor = &weave->actors[i];

		*actor = (struct weave_actor){.run = weave->runs[i],
		                              .object = weave->object,
		                              .place = "",
		                              .stat_fd = -1};
		sem_init(&actor->go, 0, 0);
		if (pthread_create(&actor->thread, NULL, weave_thread_main,
		                   actor) != 0)
			abort();
		weave_settle(actor);
	}
}

static inline void weave_print(const struct weave *weave)
{
	for (uint32_t i = 0; i < weave->step_count; i++)
		print_message("  %3u  %*s%u goes on from '%s'\n", i,
		              weave->steps[i].actor * 36, "",
		              weave->steps[i].actor, weave->steps[i].place);
	for (int i = 0; i < WEAVE_ACTORS; i++)
		print_message("  actor %d %s\n", i,
		              weave->actors[i].state == WEAVE_DONE
		                      ? "has done everything"
		                      : "sleeps for ever");
}

/* One schedule. False when a wake was lost; its threads sleep on then. */
static inline bool weave_run(struct weave *weave)
{
	int current = 0;

	weave->reset(weave->object);
	weave_start(weave);
	while (weave->step_count < WEAVE_STEPS_MAX) {
		struct weave_actor *actor;

		weave_look_at_sleepers(weave);
		current = weave_choose(weave, current);
		if (current < 0)
			break;
		actor = &weave->actors[current];
		weave->steps[weave->step_count].actor = (uint8_t)current;
		weave->steps[weave->step_count++].place = actor->place;
		scene_put(&actor->is_at_place, 0);
		actor->state = WEAVE_RUNNING;
		sem_post(&actor->go);
		weave_settle(actor);
		weave->sleep_count += actor->state == WEAVE_ASLEEP;
	}
	weave->schedule_count++;
	weave->total_step_count += weave->step_count;
	for (int i = 0; i < WEAVE_ACTORS; i++)
		if (weave->actors[i].state != WEAVE_DONE)
			return false;
	for (int i = 0; i < WEAVE_ACTORS; i++) {
		pthread_join(weave->actors[i].thread, NULL);
		close(weave->actors[i].stat_fd);
		sem_destroy(&weave->actors[i].go);
	}
	return true;
}

/* The next schedule in depth-first order. False when there is none. */
static inline bool weave_advance(struct weave *weave)
{
	for (uint32_t i = weave->step_count; i-- > 0;) {
		struct weave_step *step = &weave->steps[i];

		if (!step->could_switch || step->switched)
			continue;
		step->switched = 1;
		weave->prefix_count = i + 1;
		return true;
	}
	return false;
}

/*
 * Every schedule with up to @preemption_max preemptions, up to @schedule_max
 * of them, then @random_count random ones. Asserts that no wake is lost.
 */
static inline void weave_all(struct weave *weave, const char *name,
                             uint64_t random_count)
{
	bool is_complete = false, is_fine;

	sem_init(&weave_arrived, 0, 0);
	do {
		is_fine = weave_run(weave);
		is_complete = is_fine && !weave_advance(weave);
	} while (is_fine && !is_complete &&
	         weave->schedule_count < weave->schedule_max);
	print_message("weave: %s: %llu schedules, %s ", name,
	              (unsigned long long)weave->schedule_count,
	              is_complete ? "all there are" : "not all");
	if (weave->preemption_max == UINT32_MAX)
		print_message("with any number of preemptions\n");
	else
		print_message("with up to %u preemptions\n",
		              weave->preemption_max);
	weave->is_random = true;
	weave->chance = weave->seed;
	for (uint64_t i = 0; is_fine && i < random_count; i++)
		is_fine = weave_run(weave);
	print_message("weave: %s: %llu schedules in all, %llu steps, %llu "
	              "sleeps\n",
	              name, (unsigned long long)weave->schedule_count,
	              (unsigned long long)weave->total_step_count,
	              (unsigned long long)weave->sleep_count);
	if (!is_fine) {
		weave_print(weave);
		fail_msg("%s: a wake was lost", name);
	}
}

/* One processor for all: only one is to run, and to sleep means to switch. */
static inline int weave_setup(void **state)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
#ifdef PEAL_HOOKS
	peal__hook = weave_point;
#endif
	return scene_group_setup(state);
}

#endif
