/* SPDX-License-Identifier: MIT */
/*
 * The bell of a client: no answer, no wake and no loss is slept through,
 * wherever its server is killed.
 *
 *	 user                    server
 *	  | peal_client_wake()    | publish, ring   x killed before any step
 *	  v                       v
 *	 +-------+  +-----+---------------------+-----+
 *	 | woken |  | arm |  payload, commit    | seq |  fd: byte, event
 *	 +-------+  +--^--+---------------------+--^--+
 *	                | only the client          | looked at
 *	                |           client         v
 *	        look, take what there is, arm, second look, sleep
 *
 * Modelled, step by step and by the labels of docs/ordering.md:
 *	include/peal/ring.h       payload, R3, R4, R5
 *	doorbell/doorbell.c       B4 and the wake, which are two steps; B5, B7
 *	doorbell/spin.h           look, arm, second look, sleep
 *	reactor/client_wait.c     C6, C7, C8; the sleep of both modes
 *	mpsc/producer.c           the loss: a sleep by futex ends after 50 ms to
 *	                          look for it, a socket that hangs up is readable
 * A step is what other processes cannot see the middle of.
 *
 * By futex, or with -DFD by a byte on the socket, and an eventfd for the user's
 * wake. Where the client is isolated its server rings it in the same way; what
 * differs is how it rings the server, in doorbell.pml. ANSWERS; WAKES of the
 * user; KILLS: 1, the server may be killed. -DTSO: see memory.pml.
 *
 * To be proved, as assertions:
 *	lost_wake   when nothing moves any more, the client has every answer that
 *	            was published, each wake was noticed, and so was the loss
 *	torn        no answer is taken before its payload
 *	dropped     what came before the server died is taken before the loss
 *
 * Left out: epochs are 1 and 2 in turn, as in doorbell.pml; the spin; rooms, in
 * room.pml; and that a wake enters the door (C1 to C5), which weave_calls has.
 */
#ifndef ANSWERS
#define ANSWERS 2
#endif
#ifndef WAKES
#define WAKES 1
#endif
#ifndef KILLS
#define KILLS 1
#endif

#define SERVER 0
#define CLIENT 1

/* What is shared: */
#define COMMIT 0
#define PAYLOAD 1
#define ARM 2
#define CELLS 3

#include "memory.pml"

/* Changed by locked operations and system calls alone, so by no FIFO: */
bool seq_moved; /* since B3 */
bool woken;     /* C6 */
bool asleep;    /* in the futex queue of seq */
bool rung;      /* a byte lies in the socket */
bool event;     /* the eventfd of wakes is readable */

/* What only one process looks at: */
byte arm, my_last; /* of the server's struct peal_ringer */
#define STALE 3
bool killed, dead; /* by kill -9; and the kernel has closed its socket */
byte received;
bool loss_known;
bool lost_wake, torn, dropped;

#define FUTEX_WAKE asleep = false

/* peal__peer_send() and peal__doorbell_ring_armed(). */
proctype server()
{
	byte n;

	{
		do
		:: n < ANSWERS ->
			n++;
#ifdef COMMIT_BEFORE_PAYLOAD
R3:			STORE(SERVER, COMMIT, n);
payload:		STORE(SERVER, PAYLOAD, n);
#else
payload:		STORE(SERVER, PAYLOAD, n);
R3:			STORE(SERVER, COMMIT, n);
#endif
B1:			atomic {
#ifndef NO_SERVER_ORDER
				DRAINED(SERVER);
#endif
				arm = LOAD(SERVER, ARM);
				arm = (arm == my_last -> 0 : arm)
			};
			if
			:: arm == 0
			:: else ->
#ifdef FD
ring_socket:			d_step { DRAINED(SERVER); rung = true };
#else
#ifndef ANSWER_WITHOUT_BUMP
B4:				d_step { DRAINED(SERVER); seq_moved = true };
#endif
#ifndef ANSWER_WITHOUT_WAKE
woken_up:			d_step { DRAINED(SERVER); FUTEX_WAKE };
#endif
#endif
				d_step { my_last = arm; arm = 0 }
			fi
		:: else -> break
		od;
end_attached:	false
	} unless { killed };
	/* Its last stores have gone out when the kernel closes its socket. */
	d_step { DRAINED(SERVER); dead = true; arm = 0; my_last = 0; n = 0 }
}

proctype killer()
{
	if
	:: KILLS > 0 -> killed = true
	:: skip
	fi
}

/* peal_client_wake(), from any thread. */
proctype user()
{
	byte wakes = WAKES;

	do
	:: wakes > 0 ->
		wakes--;
#ifndef WOKEN_AFTER_THE_BELL
C6:		woken = true;
#endif
#ifndef WAKE_WITHOUT_BUMP
B5:		seq_moved = true;
#endif
B7:		if
#ifdef FD
		:: cells[ARM] != 0 -> event = true
#else
		:: cells[ARM] != 0 -> FUTEX_WAKE
#endif
		:: else
		fi;
#ifdef WOKEN_AFTER_THE_BELL
C6:		woken = true
#endif
	:: else -> break
	od
}

#define HAS_ANSWER (LOAD(CLIENT, COMMIT) > received)

/* peal_client_recv(), for ever. */
proctype client()
{
	byte epoch = 1;

wait:	skip;
#ifndef SEEN_AFTER_THE_LOOK
B3:	seq_moved = false;
#endif
R4:	if
	:: d_step { HAS_ANSWER ->
			received++;
			torn = cells[PAYLOAD] < received
		};
		assert(!torn);
		goto wait
	:: else
	fi;
C8:	if
	:: d_step { woken -> woken = false }; goto wait
	:: else
	fi;
	/* The ring is dry: has it gone? What it published before is there. */
	if
	:: dead ->
#ifndef LOSS_BEFORE_ANSWERS
		if
		:: HAS_ANSWER -> goto wait
		:: else
		fi;
#endif
		loss_known = true;
		dropped = cells[COMMIT] > received;
		assert(!dropped);
		goto over
	:: else
	fi;

arming:	d_step {
#ifndef CLIENTS_EPOCH_AGAIN
		epoch = 3 - epoch;
		arm = (arm == epoch -> STALE : arm);
		my_last = (my_last != 3 - epoch -> 0 : my_last)
#else
		epoch = 1
#endif
	}
B2:	STORE(CLIENT, ARM, epoch);
#ifndef NO_CLIENT_ORDER
	DRAINED(CLIENT);
#endif
#ifndef NO_SECOND_LOOK_FOR_ANSWERS
R5:	if
	:: HAS_ANSWER -> goto disarm
	:: else
	fi;
#endif
C7:	if
	:: woken -> goto disarm
	:: else
	fi;
#ifdef SEEN_AFTER_THE_LOOK
B3:	seq_moved = false;
#endif
B6:	if
	:: seq_moved -> goto disarm
	:: else
	fi;
#ifdef NOBODY_LOOKS_FOR_THE_LOSS
#define IS_TOLD_OF_LOSS false
#else
#define IS_TOLD_OF_LOSS dead
#endif
#ifdef FD
end_asleep:
	rung || event || IS_TOLD_OF_LOSS;		/* poll(2) */
	d_step { rung = false; event = false };
#else
	d_step { DRAINED(CLIENT); asleep = !seq_moved };
end_asleep:
	!asleep || IS_TOLD_OF_LOSS;			/* or 50 ms later */
	asleep = false;
#endif
disarm:	skip;
	STORE(CLIENT, ARM, 0);
	goto wait;

	/* A wake is noticed by a client that has lost its server as well. */
over:
end_over:
	do
	:: woken -> woken = false
	od
}

/* When nobody can do anything any more. */
active proctype end()
{
	timeout;
	lost_wake = received < cells[COMMIT] || woken || dead != loss_known;
	assert(!lost_wake)
}

init
{
	atomic {
		run server();
		run killer();
		run user();
		run client()
	}
}
