/* SPDX-License-Identifier: MIT */
/*
 * A client and its reactor: nobody sleeps through room or an answer.
 *
 *	 client                    segment                     reactor
 *	   |    request ring:  commit >                           |
 *	   |                   < request_released                 |
 *	   |    response ring: < commit                           |
 *	   |                   response_released >                |
 *	   |                                                      |
 *	   |    SPACE bell:    arm, want >    (rung at a release) |
 *	   |    ANSWERS bell:  arm >          (rung at an answer) |
 *	   |    SERVER bell:   < arm, response_want               |
 *
 * To release is to publish the other way: the position is stored, then the bell
 * of whoever may wait for it is looked at, and rung when it is armed and what
 * it wants is reached. The client sleeps at one bell at a time; the reactor
 * sleeps at one, for requests and for room to answer.
 *
 * Modelled, step by step and by the labels of docs/ordering.md:
 *	include/peal/ring.h       R1 to R6
 *	include/peal/doorbell.h   B1, B2, B3, B4, B6
 *	mpsc/room.c               wish, has_room (R8), wait_for_room
 *	mpsc/drain.c              tell, settle, park, wake
 *	reactor/peer.c            send, want_room, flush, can_flush (R9)
 *	reactor/client_recv.c     settle; client_wait.c: has_incoming, interrupt
 *	doorbell/spin.h           settle, arm, second look, sleep
 * A step is what the other process cannot see the middle of.
 *
 * REQUESTS are sent, each is answered, and PUSHES are sent as well; the rings
 * hold REQUEST_ROOM and RESPONSE_ROOM frames. The client's user sends or
 * receives in any order, but receives when send says that answers wait.
 *
 * To be proved, as assertions:
 *	lost_wake   when nothing moves any more, the client has it all
 *	torn        no answer is received that was not published, no request taken
 *	            that was not, and nothing is written where it is still read
 *	vain        after a second look that found work, there is some: neither
 *	            side spins for ever on what it may not take
 *
 * A bell that is armed is rung in one step, or with -DIN_STEPS in three, so that
 * a sleep may begin between the bump and the wake.
 *
 * Left out: death and how the wake travels (doorbell.pml, client.pml), the spin, which is
 * a look that the second look repeats, and workers: their answers come to the
 * reactor by a notify, and go on here as pushes do. Calls of the server to the
 * client wait for no release and need no want.
 */
#ifndef REQUESTS
#define REQUESTS 3
#endif
#ifndef PUSHES
#define PUSHES 1
#endif
#ifndef REQUEST_ROOM
#define REQUEST_ROOM 1
#endif
#ifndef RESPONSE_ROOM
#define RESPONSE_ROOM 1
#endif

#define CLIENT 0
#define REACTOR 1

/* The bells. */
#define SERVER 0
#define ANSWERS 1
#define SPACE 2

/* What is shared: */
#define ARM(bell) (bell)
#define REQUEST_COMMIT 3
#define REQUEST_RELEASED 4
#define RESPONSE_COMMIT 5
#define RESPONSE_RELEASED 6
#define SPACE_WANT 7
#define RESPONSE_WANT 8
#define CELLS 9

#define WANT_NOTHING 100

#define DEPTH 3
#include "memory.pml"

bool seq_moved[3];          /* since B3; by locked operations alone */
bool asleep[3];             /* in the futex queue of seq */
byte arm[3], my_last[3];    /* of the ringer */
#define STALE 3
byte sent, received;        /* by the client */
byte taken, answered;       /* by the reactor: requests; answers and pushes */
byte queued;                /* of which so many have not found room yet */
bool lost_wake, torn, vain;

/* doorbell.h; that epochs repeat is explained in doorbell.pml. */
inline look(bell)
{
	seq_moved[bell] = false				/* B3 */
}

inline arm_bell(me, bell)
{
	atomic {
		epoch = (cells[ARM(bell)] == 1 -> 2 : 1);
		arm[bell] = (arm[bell] == epoch -> STALE : arm[bell]);
		my_last[bell] = (my_last[bell] == epoch -> 0 : my_last[bell]);
		STORE(me, ARM(bell), epoch);		/* B2 */
		epoch = 0
	}
}

/* The second look begins when the arming store is out. */
#ifndef SLEEPER_WITHOUT_ORDER
#define ARMED(me) DRAINED(me)
#else
#define ARMED(me) true
#endif

inline disarm(me, bell)
{
	atomic { skip; STORE(me, ARM(bell), 0) }
}

#define CHANGED(bell) seq_moved[bell]			/* B6 */

/* What the ringer finds in arm[bell]: 0, or what it is to ring. */
inline armed(me, bell)
{
	atomic {
#ifndef RELEASE_WITHOUT_ORDER
		DRAINED(me);
#endif
		arm[bell] = LOAD(me, ARM(bell));	/* B1 */
		arm[bell] = (arm[bell] == my_last[bell] -> 0 : arm[bell])
	}
}

inline ring_armed(me, bell)
{
#ifdef IN_STEPS
#ifndef RUNG_WITHOUT_BUMP
	d_step { DRAINED(me); seq_moved[bell] = true };	/* B4 */
#endif
	d_step { DRAINED(me); asleep[bell] = false };	/* FUTEX_WAKE */
	d_step { my_last[bell] = arm[bell]; arm[bell] = 0 }
#else
	d_step {
		DRAINED(me);
		seq_moved[bell] = true;			/* B4 */
		asleep[bell] = false;			/* FUTEX_WAKE */
		my_last[bell] = arm[bell];
		arm[bell] = 0
	}
#endif
}

inline ring(me, bell)
{
	armed(me, bell);
	if
	:: arm[bell] != 0 -> ring_armed(me, bell)
	:: else
	fi
}

inline ring_if_wanted(me, bell, told, want)
{
	armed(me, bell);
	if
	:: arm[bell] != 0 && told >= LOAD(me, want) -> ring_armed(me, bell)
	:: else -> arm[bell] = 0
	fi
}

#define HAS_ANSWER (LOAD(CLIENT, RESPONSE_COMMIT) > received)
#define HAS_ROOM (LOAD(CLIENT, REQUEST_RELEASED) >= LOAD(CLIENT, SPACE_WANT))

/* peal__client_settle() */
inline settle_answers()
{
	if
	:: told < received ->
		told = received;
		STORE(CLIENT, RESPONSE_RELEASED, told);	/* R6 */
		ring_if_wanted(CLIENT, SERVER, told, RESPONSE_WANT)
	:: else
	fi
}

proctype client()
{
	byte told, epoch;
	bool found;	/* by a second look, and not used yet */

user:	if
	:: sent < REQUESTS -> goto send
	:: received < sent -> goto receive
	:: sent == REQUESTS && received >= sent -> goto receive
	fi;

send:	atomic {
		if
		:: sent - LOAD(CLIENT, REQUEST_RELEASED) < REQUEST_ROOM -> /* R1 */
			sent++;
			found = false;
			torn = sent - taken > REQUEST_ROOM;
			assert(!torn);
			STORE(CLIENT, REQUEST_COMMIT, sent)		/* R3 */
		:: else -> goto is_full
		fi
	};
	ring(CLIENT, SERVER);
	goto user;
is_full:
#ifndef ANSWERS_DO_NOT_INTERRUPT
	if
	:: HAS_ANSWER -> found = false; goto receive	/* -EAGAIN */
	:: else
	fi;
#endif
	atomic { vain = found; found = false };
	assert(!vain);
#ifdef WANTS_TOO_MUCH
wish:	STORE(CLIENT, SPACE_WANT, sent + 2 - REQUEST_ROOM);
#else
wish:	STORE(CLIENT, SPACE_WANT, sent + 1 - REQUEST_ROOM);
#endif
	look(SPACE);
	if
	:: HAS_ROOM -> goto send			/* it spins, or not */
	:: skip
	fi;
#ifndef CLIENT_DOES_NOT_SETTLE
	settle_answers();
#endif
	arm_bell(CLIENT, SPACE);
#ifndef NO_SECOND_LOOK_OF_CLIENT
R8:	atomic {
		ARMED(CLIENT);
		if
		:: HAS_ROOM -> found = true; goto disarm_space
		:: else
		fi
	};
#endif
#ifndef ANSWERS_DO_NOT_INTERRUPT
R5_of_interrupt:
	if
	:: HAS_ANSWER -> found = true; goto disarm_space
	:: else
	fi;
#endif
	d_step { DRAINED(CLIENT); asleep[SPACE] = !CHANGED(SPACE) };
	!asleep[SPACE];
disarm_space:
	disarm(CLIENT, SPACE);
	goto send;

receive:
	atomic { skip; look(ANSWERS) };
	if
	:: atomic { HAS_ANSWER ->			/* R4 */
			received++;
			found = false;
			torn = answered - queued < received;
			assert(!torn)
		}
		if
		:: settle_answers()			/* it was much */
		:: skip					/* or not */
		fi;
		goto user
	:: else
	fi;
	atomic { vain = found; found = false };
	assert(!vain);
#ifndef CLIENT_DOES_NOT_SETTLE
	settle_answers();
#endif
	arm_bell(CLIENT, ANSWERS);
#ifndef NO_SECOND_LOOK_OF_CLIENT
R5:	atomic {
		ARMED(CLIENT);
		if
		:: HAS_ANSWER -> found = true; goto disarm_answers
		:: else
		fi
	};
#endif
	d_step { DRAINED(CLIENT); asleep[ANSWERS] = !CHANGED(ANSWERS) };
end_asleep:
	!asleep[ANSWERS];
disarm_answers:
	disarm(CLIENT, ANSWERS);
	goto receive
}

#define HAS_REQUEST (LOAD(REACTOR, REQUEST_COMMIT) > taken)
#define CAN_FLUSH (queued > 0 && LOAD(REACTOR, RESPONSE_RELEASED) >= want)
#define HAS_RESPONSE_ROOM \
	(answered - queued - LOAD(REACTOR, RESPONSE_RELEASED) < RESPONSE_ROOM)
#define IS_PARKED (queued > 0)
#define HAS_WORK (CAN_FLUSH || (HAS_REQUEST && !IS_PARKED))

/* settle() of drain.c */
inline settle_requests()
{
	released = freed;
	unsettled = false;
	STORE(REACTOR, REQUEST_RELEASED, released);	/* R6 */
	ring_if_wanted(REACTOR, SPACE, released, SPACE_WANT)
}

/* peal__drain_wake() */
inline wake_for_room()
{
#ifndef PARKED_ONE_SLEEPS_ON
	ring(REACTOR, SPACE)
#else
	skip
#endif
}

/* How far the client has to read before the first of the queue fits. */
inline want_room()
{
#ifndef WANT_IS_NOT_TOLD
	want = answered - queued + 1 - RESPONSE_ROOM;
	STORE(REACTOR, RESPONSE_WANT, want)
#else
	want = answered - queued + 1 - RESPONSE_ROOM
#endif
}

/* peal__peer_send() of an answer or a push. */
inline send_response()
{
	atomic {
		found = false;
		if
		:: queued == 0 && HAS_RESPONSE_ROOM ->		/* R1 */
			answered++;
			torn = answered - received > RESPONSE_ROOM;
			assert(!torn);
			touched = true;
			STORE(REACTOR, RESPONSE_COMMIT, answered)	/* R3 */
		:: else -> answered++; queued++
		fi
	};
	if
	:: queued == 1 ->
		want_room();
		settle_requests();				/* park */
		wake_for_room()
	:: else
	fi
}

/* peal__peer_flush(): one frame, and what follows from it. */
inline flush()
{
	atomic {
		queued--;
		found = false;
		torn = answered - queued - received > RESPONSE_ROOM;
		assert(!torn);
		touched = true;
		STORE(REACTOR, RESPONSE_COMMIT, answered - queued)	/* R3 */
	};
	if
	:: queued == 0 -> STORE(REACTOR, RESPONSE_WANT, WANT_NOTHING)
	:: else ->
		want_room();
		wake_for_room()
	fi
}

proctype reactor()
{
	byte freed, released, want, pushed, epoch;
	bool unsettled, touched;
	bool found;	/* by the second look, and not used yet */

wait:	atomic { skip; look(SERVER) };
	if
	:: HAS_WORK -> goto pass			/* it spins, or not */
	:: skip
	fi;
#ifndef REACTOR_DOES_NOT_SETTLE
	if
	:: unsettled -> settle_requests()
	:: else
	fi;
#endif
	arm_bell(REACTOR, SERVER);
#ifndef NO_SECOND_LOOK_OF_REACTOR
R7:	atomic {
		ARMED(REACTOR);
		if
#ifdef PARKED_ONE_IS_LOOKED_AT
		:: HAS_REQUEST -> found = true; goto disarm_server
#else
		:: HAS_REQUEST && !IS_PARKED -> found = true; goto disarm_server
#endif
		:: else
		fi
	};
#endif
#ifndef ROOM_IS_NOT_LOOKED_FOR
R9:	if
	:: CAN_FLUSH -> found = true; goto disarm_server
	:: else
	fi;
#endif
	d_step { DRAINED(REACTOR); asleep[SERVER] = !CHANGED(SERVER) };	/* B6 */
end_asleep:
	!asleep[SERVER];
disarm_server:
	disarm(REACTOR, SERVER);

pass:	do
	:: pushed < PUSHES -> pushed++; send_response()
	:: break
	od;
	do
	:: CAN_FLUSH -> flush()				/* R9, R1 */
	:: else -> break
	od;
	do
	:: HAS_REQUEST && !IS_PARKED ->			/* R4 */
		atomic {
			taken++;
			found = false;
			torn = sent < taken;
			assert(!torn)
		};
		send_response();
		freed = taken;
		if
		:: IS_PARKED -> settle_requests()
		:: else
		fi
	:: else -> break
	od;
	atomic { vain = found; found = false };
	assert(!vain);
	if
	:: released < freed ->				/* tell */
		released = freed;
		unsettled = true;
		STORE(REACTOR, REQUEST_RELEASED, released);	/* R2 */
		if
		:: LOAD(REACTOR, ARM(SPACE)) != 0 -> settle_requests()
		:: else
		fi
	:: else
	fi;
	if
	:: touched -> touched = false; ring(REACTOR, ANSWERS)
	:: else
	fi;
	goto wait
}

/* When nobody can do anything any more. */
active proctype end()
{
	timeout;
	lost_wake = sent < REQUESTS || taken < sent || received < answered;
	assert(!lost_wake)
}

init
{
	atomic {
		cells[RESPONSE_WANT] = WANT_NOTHING;
		run client();
		run reactor()
	}
}
