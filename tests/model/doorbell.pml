/* SPDX-License-Identifier: MIT */
/*
 * The bell of a consumer: no wake is lost, whoever dies.
 *
 *	 user            producer 0   producer 1         admission
 *	  | notify, stop   | publish, ring |                 | rings for the dead
 *	  v                v               v                 v
 *	 +-----+-----+  +-----+---------------------------+-----+
 *	 |notif|stop |  | arm |  payload, commit of each  | seq |
 *	 +-----+-----+  +--^--+---------------------------+--^--+
 *	                   | only the consumer            |  | looked at
 *	                   |          consumer            v  |
 *	        look, take notice, spin, arm, second look, sleep
 *
 * Modelled, step by step and by the labels of docs/ordering.md:
 *	include/peal/ring.h       payload, R3, R4
 *	include/peal/doorbell.h   B1, B2, B3, B6
 *	doorbell/doorbell.c       B4, B5, B7, the wake
 *	doorbell/spin.h           spin, arm, second look (R7), sleep
 *	mpsc/wait.c               take_notice (N2), notify (N1)
 *	reactor/run.c             stop (W2), has_stop (W3)
 *	mpsc/seat.c, admission.c  a hang-up (S6, S4), a byte that is passed on
 *	mpsc/drain.c              taking notice of a hang-up (S3, S5)
 * A step is what other processes cannot see the middle of: one access, and
 * what its process does with the value in its own memory.
 *
 * How it is woken: by futex; with -DISOLATED by futex, but a producer can only
 * send a byte to admission, which passes it on; with -DFD by epoll, and the
 * consumer is admission as well. -DTSO: store buffers, see memory.pml.
 * PRODUCERS (1 or 2), MESSAGES of each; KILLS: so many producers are killed,
 * each before any of its steps; CALLS of the user: 0 none, 1 notify, 2 stop,
 * 3 the one and then the other.
 *
 * To be proved, as assertions:
 *	lost_wake   when nothing moves any more, everything that was published was
 *	            delivered, and the consumer knows of notify, stop and deaths
 *	torn        no message is delivered before its payload
 *	twice       none is delivered twice, or without having been published
 *	vain        after a second look that found work, there is some
 *
 * Left out, since it makes no difference to who sees what when:
 *	- A ring is two counters, of payloads and of committed frames; room for
 *	  them is the matter of room.pml, their bytes of the tests of the ring.
 *	- A spin is one look, or none: each of its looks is only a load, and what
 *	  it finds is looked for again. Budgets and the clock are not here, nor
 *	  the bounded sleep: it must not be needed.
 *	- seq and changes are only ever compared with what was seen last, so one
 *	  bit says it: has it moved since? That they do not wrap in between is
 *	  said in doorbell.h.
 *	- Epochs are only compared for being equal. Here they are 1 and 2 in turn,
 *	  and who remembers one that comes again is made to remember STALE.
 *	- After a stop the consumer goes on, or nothing would be left to prove.
 *	- That a scan looks at all rings before a sleep is a test's matter.
 */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CALLS
#define CALLS 3
#endif

#define CONSUMER 2

/* What is shared: */
#define COMMIT(p) (p)        /* frames that producer p has committed */
#define PAYLOAD(p) (2 + (p)) /* whose payload is written */
#define ARM 4
#define CELLS 5

#include "memory.pml"

/* Changed by locked operations and system calls alone, so by no FIFO: */
bool seq_moved;   /* since B3 */
bool changed;     /* since S3 */
bool notified, stop;
bool asleep;      /* in the futex queue of seq */
bool rung[2];     /* a byte lies in its control socket */
bool event;       /* the consumer's own eventfd is readable */
bool hung_up[2];  /* the slot's state */

/* What only one process looks at: */
byte arm[2], my_last[2]; /* of struct peal_ringer */
#define STALE 3
bool killed[2], dead[2]; /* by kill -9; and the kernel has buried it */
byte delivered[2];
bool gone[2], retired[2]; /* it is known to have hung up; and is drained */
bool stop_known;
bool lost_wake, torn, twice, vain;

/* futex(2) and its bucket lock. */
#define FUTEX_WAKE asleep = false
/* The end of peal_doorbell_notify(). */
#ifdef FD
#define WAKE_CONSUMER event = true
#else
#define WAKE_CONSUMER FUTEX_WAKE
#endif

/* peal_ring_publish() and peal_doorbell_ring(). */
proctype producer(byte me)
{
	byte n;

	{
		do
		:: n < MESSAGES ->
			n++;
#ifdef INDEX_BEFORE_PAYLOAD
R3:			STORE(me, COMMIT(me), n);
payload:		STORE(me, PAYLOAD(me), n);
#else
payload:		STORE(me, PAYLOAD(me), n);
R3:			STORE(me, COMMIT(me), n);
#endif
B1:			atomic {
#ifndef NO_PRODUCER_ORDER
				DRAINED(me);
#endif
				arm[me] = LOAD(me, ARM);
				if
				:: arm[me] == my_last[me] -> arm[me] = 0
				:: else
				fi
			};
			if
			:: arm[me] == 0
			:: else ->
#ifdef FIRST_RINGER_CLEARS
				d_step { DRAINED(me); cells[ARM] = 0 };
#endif
#if defined(FD) || defined(ISOLATED)
ring_socket:			d_step { DRAINED(me); rung[me] = true };
#else
#ifndef NO_BUMP
B4:				d_step { DRAINED(me); seq_moved = true };
#endif
woken:				d_step { DRAINED(me); FUTEX_WAKE };
#endif
				d_step { my_last[me] = arm[me]; arm[me] = 0 }
			fi
		:: else -> break
		od;
end_attached:	false
	} unless { killed[me] };
	/* Its last stores have gone out when the kernel closes its socket. */
	d_step {
		DRAINED(me);
		dead[me] = true;
		arm[me] = 0;
		my_last[me] = 0;
		n = 0
	}
}

proctype killer()
{
	byte kills = KILLS;

	do
	:: kills > 0 ->
		if
		:: killed[0] = true
#if PRODUCERS > 1
		:: killed[1] = true
#endif
		:: skip
		fi;
		kills--
	:: else -> break
	od
}

/* peal_consumer_notify(), then peal_reactor_stop(), from any thread. */
proctype user()
{
#if CALLS & 1
N1:	notified = true;
#ifndef NOTIFY_WITHOUT_BUMP
B5:	seq_moved = true;
#endif
B7:	if
	:: cells[ARM] != 0 -> WAKE_CONSUMER
	:: else
	fi;
#endif
#if CALLS & 2
W2:	stop = true;
N1_of_stop:
	notified = true;
#ifndef STOP_WITHOUT_BUMP
B5_of_stop:
	seq_moved = true;
#endif
B7_of_stop:
	if
	:: cells[ARM] != 0 -> WAKE_CONSUMER
	:: else
	fi
#endif
	skip
}

#define HAS_BYTE(p) rung[p]
#define HAS_HANGUP(p) (dead[p] && !hung_up[p])
#define IS_AT_DOOR(p) (HAS_BYTE(p) || HAS_HANGUP(p))

/* What admission finds of producer p; in fd mode the consumer itself does. */
inline look_at_door(p)
{
	if
	:: d_step { HAS_BYTE(p) -> rung[p] = false };
#ifndef PASSED_ON_WITHOUT_BUMP
		seq_moved = true;			/* B5 */
#endif
#ifndef FD
		if
		:: cells[ARM] != 0 -> FUTEX_WAKE	/* B7 */
		:: else
		fi
#endif
	:: d_step { HAS_HANGUP(p) -> hung_up[p] = true; changed = true };
		/* S6, S4 */
#ifndef NOBODY_RINGS_FOR_THE_DEAD
		seq_moved = true;			/* B5 */
		if
		:: cells[ARM] != 0 -> WAKE_CONSUMER	/* B7 */
		:: else
		fi
#endif
	:: else
	fi
}

#ifndef FD
/* A thread of its own. */
proctype admission()
{
end:	do
	:: IS_AT_DOOR(0) -> look_at_door(0)
	:: IS_AT_DOOR(1) -> look_at_door(1)
	od
}
#endif

#define HAS_MESSAGE(p) \
	(!retired[p] && LOAD(CONSUMER, COMMIT(p)) > delivered[p])
#define HAS_STOP (stop && !stop_known)

/* peal_consumer_peek() until it is empty. */
inline drain(p)
{
	d_step {
		do
		:: HAS_MESSAGE(p) ->			/* R4 */
			delivered[p]++;
			torn = torn || cells[PAYLOAD(p)] < delivered[p];
			twice = twice || cells[COMMIT(p)] < delivered[p];
			found = false
		:: else -> break
		od;
		retired[p] = gone[p]
	}
	assert(!torn);
	assert(!twice)
}

/* peal_consumer_wait(), and its user who takes all there is. */
proctype consumer()
{
	byte epoch = 1;
	bool found;	/* by the second look, and not taken yet */

wait:	skip;
#ifndef SEEN_LATE
B3:	seq_moved = false;
#endif
S3:	atomic {
		if
		:: changed ->				/* S5 */
			changed = false;
			gone[0] = hung_up[0];
			gone[1] = hung_up[1]
		:: else
		fi
	};
N2:	if
	:: notified -> notified = false; goto pass
	:: else
	fi;
#ifdef SEEN_LATE
B3:	seq_moved = false;
#endif

spin:	if
	:: skip						/* it finds nothing */
	:: HAS_MESSAGE(0) || HAS_MESSAGE(1) || HAS_STOP -> goto pass
	:: seq_moved -> goto wait
	fi;
#ifdef FD
settle:	look_at_door(0);
	look_at_door(1);
	event = false;
#endif

arming:	d_step {
#ifndef EPOCH_AGAIN
		epoch = 3 - epoch;
		if
		:: arm[0] == epoch -> arm[0] = STALE
		:: else
		fi;
		if
		:: arm[1] == epoch -> arm[1] = STALE
		:: else
		fi;
		if
		:: my_last[0] != 3 - epoch -> my_last[0] = 0
		:: else
		fi;
		if
		:: my_last[1] != 3 - epoch -> my_last[1] = 0
		:: else
		fi
#else
		epoch = 1
#endif
	}
B2:	STORE(CONSUMER, ARM, epoch);
#ifndef NO_CONSUMER_ORDER
	DRAINED(CONSUMER);
#endif
#ifndef NO_SECOND_LOOK
R7:	if
	:: HAS_MESSAGE(0) -> found = true; goto disarm
	:: else
	fi;
#if PRODUCERS > 1
R7_of_1:
	if
	:: HAS_MESSAGE(1) -> found = true; goto disarm
	:: else
	fi;
#endif
#endif
W3:	if
	:: HAS_STOP -> found = true; goto disarm
	:: else
	fi;
B6:	if
	:: seq_moved -> goto disarm
	:: else
	fi;
#ifdef FD
end_asleep:
	IS_AT_DOOR(0) || IS_AT_DOOR(1) || event;	/* epoll_wait(2) */
	look_at_door(0);
	look_at_door(1);
	event = false;
#else
	d_step { DRAINED(CONSUMER); asleep = !seq_moved };
end_asleep:
	!asleep;
#endif
disarm:	skip;
	STORE(CONSUMER, ARM, 0);
	if
	:: !found -> goto wait
	:: else
	fi;

pass:	atomic {
		if
		:: HAS_STOP -> stop_known = true; found = false
		:: else
		fi
	}
	drain(0);
#if PRODUCERS > 1
	drain(1);
#endif
	d_step { vain = found; found = false };
	assert(!vain);
	goto wait
}

#define IS_LOST(p) (delivered[p] < cells[COMMIT(p)] || dead[p] != gone[p])

/* When nobody can do anything any more. */
active proctype end()
{
	timeout;
	lost_wake = IS_LOST(0) || IS_LOST(1) || notified || HAS_STOP;
	assert(!lost_wake)
}

init
{
	atomic {
		run producer(0);
#if PRODUCERS > 1
		run producer(1);
#endif
		run killer();
		run user();
#ifndef FD
		run admission();
#endif
		run consumer()
	}
}
