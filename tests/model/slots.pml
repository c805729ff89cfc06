/* SPDX-License-Identifier: MIT */
/*
 * The life of a slot: nobody gets what another one was sent, no memory goes
 * while somebody looks at it, and every slot becomes free again.
 *
 *	  FREE --HELLO--> (mapped) --READY--> LIVE --hang-up, pidfd--> HUNG_UP
 *	   ^                                   |                          |
 *	   |                      bad bytes, EVICTED                   drained
 *	   |                      sent away    v                          v
 *	   +--------- unmapped, ++generation - DONE <---------------------+
 *
 *	 connections      admission           reactor             worker
 *	   HELLO, READY     seats, the slot     LIVE to DONE        has requests
 *	   request, BYE     up to LIVE, HUNG_UP  takes, answers      of whoever is
 *	   hang up, die     and from DONE        pushes, evicts      gone by then
 *
 * CONNECTIONS come one after the other or at once, and share the one slot; each
 * sends one request, or none, and goes in one of three ways. The server also
 * makes PUSHES, to a name (slot and generation) that it keeps from earlier, and
 * sends away whose bytes make no sense (EVICTIONS). With NONSENSE each may say
 * something that no server understands, or leave a child behind that does. The
 * answer of a request may
 * come at any time; two of one slot would be held as one is.
 *
 * Modelled, by function and by the labels of docs/ordering.md:
 *	mpsc/admission.c  a batch of epoll events, reap (S2), announce (S4)
 *	mpsc/seat.c       take, gone (S6), go_live (S13), evict, clear, free_slot
 *	mpsc/grant.c      a free slot is mapped and promised
 *	mpsc/drain.c      take_changes (S3, S5), retire, have_it_told (S7), check,
 *	                  finish (S1)
 *	reactor/peer.c    opened, closed, find
 *	reactor/take.c    a request is held; settle (W1), ended (W5), recycle
 *	reactor/answer.c  answer, is_cancelled
 *
 * To be proved, as assertions:
 *	stray     what is for one connection does not come to another one, be it
 *	          an answer, a push or an epoll event
 *	unmapped  the segment that somebody looks at is mapped, and is that of
 *	          the connection that it is meant to be
 *	twice     a connection is opened once, and its slot is let go once
 *	leaked    when all have gone and nothing moves any more, the slot is free,
 *	          the seats are empty, and nothing is held
 *
 * Left out: store buffers, since every word that hands something over is a
 * release or a locked operation, and x86-64 keeps stores in their order; how
 * the two are woken (doorbell.pml: B5 is "changed", the eventfd is "poked");
 * the rings, and views of them that are held: those count as one more request;
 * deadlines; and fd mode, in which admission and reactor are one thread and take
 * turns, as they may do here.
 */
#ifndef CONNECTIONS
#define CONNECTIONS 2
#endif
#ifndef REQUESTS
#define REQUESTS 1 /* of each: 0 or 1 */
#endif
#ifndef PUSHES
#define PUSHES 1
#endif
#ifndef EVICTIONS
#define EVICTIONS 1
#endif
#define SEATS 2

mtype = { FREE, LIVE, HUNG_UP, EVICTED, DONE };
mtype = { EMPTY, HELLO, READY, AT_WORK, LEAVING };

/* The connections: what has come from them. */
bool called[CONNECTIONS];    /* is in the backlog, or was */
bool ready[CONNECTIONS], bye[CONNECTIONS];
bool hung_up[CONNECTIONS], died[CONNECTIONS];
bool babbled[CONNECTIONS];
bool requested[CONNECTIONS]; /* its ring holds a request */
byte granted[CONNECTIONS];   /* its generation, or 0 */
bool refused[CONNECTIONS];

/* The seats; admission's alone. */
mtype phase[SEATS] = EMPTY;
byte serial[SEATS];
byte who[SEATS];
bool has_slot[SEATS];
bool poked; /* its eventfd */

/* The slot. */
mtype state = FREE;
byte generation = 1;
bool changed;
bool known, retired, draining;
byte hold_count;
/* The segment it maps: that of connection mapped - 1, or none. */
byte mapped;
#define NOBODY 0
#define SEGMENT_OF(k) ((k) + 1)

/* The reactor's peer in that slot. */
bool is_open;
byte peer_generation;

/* The request that is held, and its completions. */
bool is_held, is_settled, is_ended, is_submitted;
bool answered, ended;

/* For the model: whom the peer, the request and the name are meant for. */
byte opened, meant_for, friend;
byte friend_generation;

bool stray, unmapped, twice, leaked;

/* Whoever looks at the segment takes it for that of @whom. */
inline look_at_segment(whom)
{
	unmapped = mapped != whom;
	assert(!unmapped)
}

inline deliver(whom)
{
	stray = mapped != whom && mapped != NOBODY;
	assert(!stray);
	look_at_segment(whom)
}

proctype connection(byte me)
{
	called[me] = true;			/* connect, HELLO */
	if
	:: refused[me] -> goto end_gone
	:: granted[me] != 0 -> ready[me] = true	/* WELCOME, READY */
	:: goto going				/* it dies before */
	fi;
#if REQUESTS > 0
	if
	:: requested[me] = true
	:: skip
	fi;
#endif
	if
	:: bye[me] = true
	:: goto going
	fi;
going:	if
	:: died[me] = true; hung_up[me] = true
	:: hung_up[me] = true
	:: died[me] = true	/* a forked child keeps the socket */
#ifdef NONSENSE
	:: babbled[me] = true; died[me] = true
	:: died[me] = true; babbled[me] = true
#endif
	fi;
end_gone:
	skip
}

#define IS_WATCHED(i) (phase[i] != EMPTY && phase[i] != LEAVING)
#define HAS_HELLO(i) (phase[i] == HELLO)
#define HAS_READY(i) (phase[i] == READY && ready[who[i]])
#define HAS_BYE(i) (phase[i] == AT_WORK && bye[who[i]])
#define HAS_SENSE(i) (HAS_HELLO(i) || HAS_READY(i) || HAS_BYE(i))
#define HAS_PACKET(i) (HAS_SENSE(i) || babbled[who[i]])
#define SOCKET_IS_READABLE(i) \
	(IS_WATCHED(i) && (HAS_PACKET(i) || hung_up[who[i]]))
#define PIDFD_IS_READABLE(i) (IS_WATCHED(i) && died[who[i]])

inline announce()
{
#ifndef HANG_UP_IS_NOT_ANNOUNCED
	changed = true					/* S4, B5 */
#else
	changed = changed || state == LIVE
#endif
}

inline free_slot(i)
{
	mapped = NOBODY;
#ifndef SAME_GENERATION_AGAIN
	generation++;
#endif
	state = FREE;
	has_slot[i] = false
}

inline seat_clear(i)
{
	if
	:: has_slot[i] -> free_slot(i)
	:: else
	fi;
	phase[i] = EMPTY;
	who[i] = 0
}

inline seat_gone(i)
{
	if
	:: phase[i] == AT_WORK ->
		phase[i] = LEAVING;
#ifdef FREED_BEFORE_READER_LEFT
		mapped = NOBODY;
#endif
#ifndef HUNG_UP_OVER_DONE
		if
		:: state == LIVE -> state = HUNG_UP	/* S6 */
		:: else
		fi;
#else
		state = HUNG_UP;
#endif
		announce()
	:: phase[i] == HELLO || phase[i] == READY -> seat_clear(i)
	:: else
	fi
}

/* Of read_packets(): one packet, or the end of them. */
inline seat_read(i)
{
	if
	:: HAS_HELLO(i) ->				/* peal__grant() */
		if
		:: state == FREE && mapped == NOBODY ->
			mapped = SEGMENT_OF(who[i]);
			granted[who[i]] = generation;
			has_slot[i] = true;
			phase[i] = READY
		:: else ->
			refused[who[i]] = true;
			seat_clear(i)
		fi
	:: HAS_READY(i) ->				/* go_live() */
		phase[i] = AT_WORK;
		state = LIVE;				/* S13 */
		announce()
	:: HAS_BYE(i) -> seat_gone(i)
	:: !HAS_SENSE(i) && babbled[who[i]] ->		/* send_away() */
		if
		:: phase[i] == AT_WORK -> seat_gone(i)
		:: else -> seat_clear(i)
		fi
	:: !HAS_PACKET(i) && hung_up[who[i]] -> seat_gone(i)
	:: else
	fi
}

/* S2: slots that the reactor has let go of. */
inline reap()
{
	poked = false;
	i = 0;
	do
	:: i < SEATS ->
		if
		:: has_slot[i] && state == DONE -> seat_clear(i)
		:: has_slot[i] && state == EVICTED && phase[i] == AT_WORK ->
#ifndef EVICTED_IS_FREED
			phase[i] = LEAVING		/* it is told */
#else
			seat_clear(i)
#endif
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* Does this event still mean who sits there now? is_here() */
#ifdef NO_SERIAL
#define IS_MEANT(i, number) IS_WATCHED(i)
#elif defined(LEAVING_IS_HEARD)
#define IS_MEANT(i, number) (serial[i] == number && phase[i] != EMPTY)
#else
#define IS_MEANT(i, number) (serial[i] == number && IS_WATCHED(i))
#endif

#define HAS_SEAT (phase[0] == EMPTY || phase[1] == EMPTY)
#define IS_CALLING(k) (called[k] && !accepted[k])

proctype admission()
{
	/* A batch of epoll_wait(2): the serial that an event names, or 0. */
	byte socket[SEATS], pidfd[SEATS];
	bool wake, accepted[CONNECTIONS];
	byte i, k;

end_waits:
	do
	:: atomic {
		SOCKET_IS_READABLE(0) || SOCKET_IS_READABLE(1) ||
		PIDFD_IS_READABLE(0) || PIDFD_IS_READABLE(1) || poked ->
			socket[0] = (SOCKET_IS_READABLE(0) -> serial[0] : 0);
			socket[1] = (SOCKET_IS_READABLE(1) -> serial[1] : 0);
			pidfd[0] = (PIDFD_IS_READABLE(0) -> serial[0] : 0);
			pidfd[1] = (PIDFD_IS_READABLE(1) -> serial[1] : 0);
			wake = poked
	   };
	   do						/* in any order */
	   :: socket[0] != 0 -> atomic {
		if
		:: IS_MEANT(0, socket[0]) -> seat_read(0)
		:: else
		fi;
		socket[0] = 0 }
	   :: socket[1] != 0 -> atomic {
		if
		:: IS_MEANT(1, socket[1]) -> seat_read(1)
		:: else
		fi;
		socket[1] = 0 }
	   :: pidfd[0] != 0 -> atomic {
		if
		:: IS_MEANT(0, pidfd[0]) ->
			stray = !died[who[0]];
			assert(!stray);
			seat_gone(0)
		:: else
		fi;
		pidfd[0] = 0 }
	   :: pidfd[1] != 0 -> atomic {
		if
		:: IS_MEANT(1, pidfd[1]) ->
			stray = !died[who[1]];
			assert(!stray);
			seat_gone(1)
		:: else
		fi;
		pidfd[1] = 0 }
	   :: wake -> atomic { wake = false; reap() }
	   :: atomic { HAS_SEAT && k < CONNECTIONS && IS_CALLING(k) ->
		/* peal__seat_take(); in the middle of a batch, too */
		accepted[k] = true;
		i = (phase[0] == EMPTY -> 0 : 1);
		serial[i]++;
		phase[i] = HELLO;
		who[i] = k;
		i = 0;
		k++ }
	   :: socket[0] == 0 && socket[1] == 0 && pidfd[0] == 0 &&
	      pidfd[1] == 0 && !wake -> break
	   od
	:: atomic { HAS_SEAT && k < CONNECTIONS && IS_CALLING(k) ->
		accepted[k] = true;
		i = (phase[0] == EMPTY -> 0 : 1);
		serial[i]++;
		phase[i] = HELLO;
		who[i] = k;
		i = 0;
		k++ }
	od
}

/* drain.c ------------------------------------------------------------------ */

inline drain_check()
{
	if
#ifndef NOT_HELD
	:: retired && hold_count == 0 ->
#else
	:: retired ->
#endif
		twice = !known;
		assert(!twice);
		known = false;
		state = DONE;					/* S1 */
#ifndef NO_POKE
		poked = true
#endif
	:: else
	fi
}

/* With peal__peer_closed(): nobody begins its requests any more. */
inline retire()
{
	look_at_segment(opened);
	retired = true;
	is_open = false;
	drain_check()
}

/* reactor ------------------------------------------------------------------ */

/* peal__running_settle() and what it leads to on the reactor's thread. */
inline recycle()
{
	is_held = false;
	is_settled = false;
	is_ended = false;
	meant_for = NOBODY;
	hold_count--;
	if
	:: !is_open && hold_count == 0 -> drain_check()
	:: else
	fi
}

inline settle()
{
	is_settled = true;					/* W1 */
	if
	:: is_ended -> recycle()
	:: else
	fi
}

/* peal__answer(): to whoever has the peer now, if somebody has. */
inline answer()
{
	if
	:: is_open -> deliver(meant_for)
	:: else						/* dropped, counted */
	fi;
	settle()
}

#define HAS_REQUEST \
	(known && !retired && !is_held && mapped != NOBODY && \
	 requested[mapped - 1])

proctype reactor()
{
	byte pushes, evictions;

end_waits:
	do
	:: atomic { changed ->					/* S3, S5 */
		changed = false;
		if
		:: (state == LIVE || state == HUNG_UP) && !known ->
			unmapped = mapped == NOBODY;
			assert(!unmapped);
			twice = opened == mapped;
			assert(!twice);
			opened = mapped;
			known = true;
			retired = false;
			draining = false;
			hold_count = 0;
			is_open = true;
			peer_generation = generation
		:: else
		fi;
		if
		:: state == HUNG_UP && known && !draining ->
			draining = true;
			if
			:: !retired -> retire()
			:: else -> drain_check()
			fi
		:: else
		fi
	   }
	:: atomic { HAS_REQUEST ->				/* R4 */
		look_at_segment(opened);
		requested[mapped - 1] = false;
		is_held = true;
		meant_for = opened;
		hold_count++;
		is_submitted = true
	   }
	:: atomic { known && !retired && evictions < EVICTIONS ->
		evictions++;					/* -EPROTO */
		retire();
		if
		:: known && state == LIVE ->
			state = EVICTED;			/* S7 */
#ifndef NO_POKE
			poked = true
#endif
		:: else
		fi
	   }
	:: atomic { answered -> answered = false; answer() }
	:: atomic { ended -> ended = false; recycle() }
	:: atomic { is_open && pushes < PUSHES && friend == NOBODY ->
		friend = opened;
		friend_generation = peer_generation
	   }
	:: atomic { is_open && friend != NOBODY ->
		if
#ifndef NO_GENERATION_CHECK
		:: friend_generation == peer_generation -> deliver(friend)
		:: else						/* -ESTALE */
#else
		:: deliver(friend)
#endif
		fi;
		friend = NOBODY;
		friend_generation = 0;
		pushes++
	   }
	od
}

/* A worker: it begins and answers when it likes. */
proctype worker()
{
end_waits:
	do
	:: is_submitted ->
		is_submitted = false;
		if
		:: is_open ->				/* is_cancelled */
			atomic { look_at_segment(meant_for) }
		:: else
		fi;
		answered = true;			/* Q1 */
		atomic {
			is_ended = true;		/* W5 */
			if
			:: is_settled -> ended = true
			:: else
			fi
		}
	od
}

/* When nobody can do anything any more. */
active proctype end()
{
	timeout;
	leaked = state != FREE || mapped != NOBODY || known || is_open ||
		 phase[0] != EMPTY || phase[1] != EMPTY ||
		 is_held || hold_count != 0;
	assert(!leaked)
}

init
{
	byte k;

	atomic {
		do
		:: k < CONNECTIONS -> run connection(k); k++
		:: else -> break
		od;
		run admission();
		run reactor();
		run worker()
	}
}
