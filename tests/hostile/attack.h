/* SPDX-License-Identifier: MIT */
/*
 * Who attacks the stage, and how one scribbles.
 *
 *	attack_as_everybody(run)    run() in a child that is our own user, then
 *	                            another one, then that one in a user and pid
 *	                            namespace of its own; each time everybody
 *	                            else must be well; skips the test in the end
 *	                            if one of them could not be had
 *
 *	attack_as_each(run)         the same for a test that goes on after it, and
 *	attack_was_by_everybody()   skips it at its end
 *
 * run() never asserts: it returns 0, or ATTACK_WRONG, which says in which line.
 */
#ifndef PEAL_TESTS_HOSTILE_ATTACK_H
#define PEAL_TESTS_HOSTILE_ATTACK_H

#include "tests/hostile/stage_reactor.h"

#include <sched.h>
#include <sys/wait.h>

/* This process may not become that user; no attack returns it. */
#define ATTACK_NOT_AS CHECK_NOT_HERE
/* Of a line as much as a status can carry. */
#define ATTACK_WRONG (1 + __LINE__ % 70)

enum identity { OWN, STRANGER, NAMESPACED, IDENTITY_COUNT };
static const char *const identity_names[] = {"our own user", "another user",
                                             "another namespace"};

static enum identity attack_who = OWN;
static uint64_t attack_ns = 100 * SCENE_MS;
static uint64_t chance;
static const char *attack_not_as; /* who could not be had in this test */

struct attack {
	enum identity who;
	int (*run)(void); /* 0, or the line that was wrong */
};

static inline int run_in_namespace(int (*run)(void))
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
		return ATTACK_NOT_AS;
	pid = fork();
	if (pid < 0)
		return ATTACK_WRONG;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(run());
	}
	if (waitpid(pid, &status, 0) != pid)
		return ATTACK_WRONG;
	return WIFEXITED(status) ? WEXITSTATUS(status) : ATTACK_WRONG;
}

static inline int be_somebody(void *arg)
{
	const struct attack *attack = arg;

	attack_who = attack->who;
	if (attack->who == OWN)
		return attack->run();
	if (setgid(STAGE_STRANGER_UID) != 0 || setuid(STAGE_STRANGER_UID) != 0)
		return ATTACK_NOT_AS;
	if (attack->who == NAMESPACED)
		return run_in_namespace(attack->run);
	return attack->run();
}

/* How long one may take; thousands of attachings take their time. */
static uint64_t attack_patience_ns = STAGE_PATIENCE_NS;

/* By everybody, one after the other; each time all others must be well. */
static inline void attack_as_each(int (*run)(void))
{
	for (int who = 0; who < IDENTITY_COUNT; who++) {
		struct attack attack = {(enum identity)who, run};
		int status = scene_wait(scene_start(be_somebody, &attack),
		                        attack_patience_ns);

		/* Ourselves we always are. */
		if (status == ATTACK_NOT_AS && who != OWN) {
			if (attack_not_as == NULL)
				attack_not_as = identity_names[who];
			continue;
		}
		if (status != 0)
			fail_msg("as %s: status %d", identity_names[who],
			         status);
		assert_true(stage_is_well());
	}
}

static inline void attack_was_by_everybody(void)
{
	const char *who = attack_not_as;
	char reason[80];

	attack_not_as = NULL;
	if (who == NULL)
		return;
	snprintf(reason, sizeof(reason), "this process may not become %s", who);
	CHECK_SKIP(reason);
}

static inline void attack_as_everybody(int (*run)(void))
{
	attack_as_each(run);
	attack_was_by_everybody();
}

/* The kinds of server that a program attacks, one after the other. */
static const struct {
	void (*be)(void);
	uint32_t wait_mode;
} attack_stages[] = {
	{stage_be_reactor, PEAL_WAIT_FD},
	{stage_be_consumer, PEAL_WAIT_FUTEX},
	{stage_be_reactor, PEAL_WAIT_FUTEX},
	{stage_be_consumer, PEAL_WAIT_FD},
};

static inline int run_attack(void *arg)
{
	const struct attack *attack = arg;

	return attack->run();
}

/* a server that nothing wakes but a ring --------------------------------------- */

/* The neighbour has gone, so nobody rings for one that is to stop. */
static inline int wake_the_stopped(void *arg)
{
	struct raw raw;

	(void)arg;
	if (scene_reach(&stage_board->stop, 1, 2 * STAGE_PATIENCE_NS))
		raw_enter(&raw);
	return 0;
}

static inline int attack_setup_for_ever(void **state)
{
	stage_wait_ns = PEAL_FOREVER;
	return stage_setup(state);
}

static inline int attack_teardown_for_ever(void **state)
{
	stage_wait_ns = STAGE_WAIT_NS;
	scene_start(wake_the_stopped, NULL);
	return stage_teardown(state);
}

/* scribbling ------------------------------------------------------------------ */

static inline void write_a_word(struct raw *raw)
{
	uint64_t dice = scene_random(&chance), value = scene_random(&chance);
	uint64_t *words = (uint64_t *)(void *)raw->segment;
	size_t count = dice % 2 == 0 ? sizeof(*raw->segment) / 8
	                             : raw->mapping.bytes / 8;
	uint64_t *word = &words[(dice >> 8) % count];

	/* Mostly the words that somebody reads: bells, wishes, positions. */
	if (dice % 4 == 0)
		word = &words[8 + (dice >> 8) % 56];
	switch (dice >> 60) {
	case 0:
	case 1:
		value = 0;
		break;
	case 2:
	case 3:
		value = *word + 16 * (value % 64);
		break;
	case 4:
	case 5:
		value = *word - 16 * (value % 64);
		break;
	case 6:
		value = UINT64_MAX;
		break;
	case 7:
	case 8:
	case 9:
		value = 1 + (value & 3);
		break;
	default:
		break;
	}
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

/* Frames in the lane, answers to calls or to nothing. */
static inline void use_the_lane(struct raw *raw)
{
	uint64_t dice = scene_random(&chance);
	void *data;

	if (stage_role != PEAL__ROLE_CLIENT ||
	    peal_ring_claim(&raw->lane, dice % 64,
	                    PEAL__FRAME_ANSWER + (uint32_t)(dice >> 8) % 3,
	                    dice >> 32, &data) < 0)
		return;
	peal_ring_publish(&raw->lane);
	peal_doorbell_ring(&raw->bell);
}

static inline void scribble_once(struct raw *raw)
{
	uint64_t dice = scene_random(&chance);

	for (uint64_t i = dice % 8; i > 0; i--)
		raw_publish(raw, (dice >> 8) % 500);
	/* Whatever stands there: it is the attacker's own view. */
	raw->tx.released = raw->tx.first;
	raw->lane.released = raw->lane.first;
	use_the_lane(raw);
	write_a_word(raw);
	if (raw->bell_page != NULL)
		__atomic_store_n(&raw->bell_page->seq, (uint32_t)dice,
		                 __ATOMIC_SEQ_CST);
	if (dice >> 60 == 1)
		raw_read(raw);
	if (dice >> 56 == 2)
		raw_send(raw, "W", 1);
	peal_doorbell_ring(&raw->bell);
}

static inline int scribble(void)
{
	uint64_t end_ns = scene_now_ns() + attack_ns;
	uint32_t lives = 0;

	chance = scene_seed + (uint64_t)getpid();
	while (scene_now_ns() < end_ns || lives == 0) {
		struct raw raw;
		int error = raw_attach(&raw);

		if (scene_now_ns() > end_ns + STAGE_PATIENCE_NS / 2)
			return ATTACK_WRONG;
		/* What was taken from it last may not be back yet. */
		for (int i = 0; i < 200 && error == 0 && !raw_is_closed(&raw) &&
		                scene_now_ns() < end_ns;
		     i++)
			scribble_once(&raw);
		raw_close(&raw);
		lives += error == 0;
	}
	return 0;
}

#endif
