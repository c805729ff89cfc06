/* SPDX-License-Identifier: MIT */
/*
 * How soon a user may come in again: what a door costs that somebody keeps
 * swinging, everybody inside pays.
 *
 *	                    now            due
 *	    ------------------|--------------|-------> time
 *	                      |<-- burst -->|  at once
 *	                      |<-- burst --------->|  waits for the rest
 *
 * Each user has a time at which all of its visits so far would be over if they
 * came one after the other at the rate. Who comes when that is less than a burst
 * away comes in at once; who is earlier waits; who would wait for longer than a
 * second is turned away. To talk nonsense counts as a burst and a rest beyond.
 *
 * Callers: the admission thread.
 *
 * Progress: no call waits. Users share PEAL__PACE_USERS places, by their number:
 *	those of one place wait for each other, a second at most.
 *
 * Source: the generic cell rate algorithm as virtual scheduling, ITU-T
 *	recommendation I.371, annex A.
 */
#ifndef PEAL_MPSC_PACE_H
#define PEAL_MPSC_PACE_H

#include <stdint.h>

#define PEAL__PACE_USERS 64
#define PEAL__PACE_RATE_MAX 1000000
#define PEAL__PACE_TURNED_AWAY UINT64_MAX

struct peal__pace {
	uint64_t interval_ns; /* between visits; 0: as often as one likes */
	uint64_t burst_ns;    /* what may lie ahead of one who need not wait */
	uint64_t rest_ns;     /* for nonsense */
	uint64_t due_ns[PEAL__PACE_USERS];
};

/* So many visits of one user at once, and then as many a second; 0: any number. */
void peal__pace_init(struct peal__pace *pace, uint32_t per_second);

/* A visit of @uid: when it may come in, which may be over, or TURNED_AWAY. */
uint64_t peal__pace_enter(struct peal__pace *pace, uint32_t uid,
                          uint64_t now_ns);

/* It was sent away for nonsense. */
void peal__pace_punish(struct peal__pace *pace, uint32_t uid, uint64_t now_ns);

#endif
