/* SPDX-License-Identifier: MIT */
/*
 * The door's own records: a seat for each connection, from accept until its
 * slot has been reaped. Everything here belongs to the admission thread.
 *
 *	admission.c  epoll, accept, deaths, reaping
 *	pace.c       how soon a user may come in again
 *	seat.c       one connection: its packets and its phases
 *	grant.c      may it come in, and with what
 *
 * Callers: the admission thread alone.
 */
#ifndef PEAL_MPSC_SEAT_H
#define PEAL_MPSC_SEAT_H

#include "mpsc/admission.h"
#include "mpsc/pace.h"
#include "mpsc/wire.h"

/* Seats beyond the slots: for observers, and to turn people away politely. */
#define PEAL__SPARE_SEATS 16
#define PEAL__OBSERVER_MAX (PEAL__SPARE_SEATS / 2)
#define PEAL__HANDSHAKE_NS PEAL__NS_PER_S

enum peal__seat_phase {
	PEAL__SEAT_EMPTY,
	PEAL__SEAT_WAITING,  /* accepted, too early: not listened to yet */
	PEAL__SEAT_HELLO,    /* accepted, nothing heard */
	PEAL__SEAT_READY,    /* welcomed, READY to come */
	PEAL__SEAT_LIVE,     /* a producer */
	PEAL__SEAT_OBSERVER, /* looks */
	PEAL__SEAT_LEAVING,  /* gone or told to; its slot is drained */
};

struct peal__seat {
	enum peal__seat_phase phase;
	uint32_t serial; /* of this use of the seat, against stale events */
	struct peal__fork_fd socket, pid;
	struct peal_peer_info info;
	uint64_t deadline_ns;
	struct peal__slot *slot; /* or NULL */
	bool said_bye;
	bool was_evicted; /* it was told; its slot is drained */
	bool has_asked;   /* an observer: for the clients' words */
};

/* Has it a deadline? */
static inline bool peal__seat_is_pending(const struct peal__seat *seat)
{
	return seat->phase == PEAL__SEAT_WAITING ||
	       seat->phase == PEAL__SEAT_HELLO ||
	       seat->phase == PEAL__SEAT_READY;
}

struct peal__admission {
	struct peal_consumer *consumer;
	struct peal_consumer_options options; /* lists and name are ours */
	char path[PEAL__PATH_BYTES];          /* empty: a given listener */
	struct peal__fork_fd lock, listener, epoll, wake, timer;
	struct peal__fork_fd regions[PEAL__REGION_COUNT];

	struct peal__seat *seats;
	uint32_t seat_max;
	uint32_t seat_count;    /* not empty */
	uint32_t pending_count; /* with a deadline */
	uint32_t overflow_uid;
	uint32_t own_uid; /* when it was opened */
	struct peal__pace pace;
	uint64_t segment_total_bytes;
	uint64_t resume_ns; /* the listener rests until then; 0: it does not */
	uint64_t due_ns;    /* when somebody's handshake has taken too long */
	bool listening;     /* the listener is in the epoll set */

	uint64_t attached_count, detached_count, died_count, evicted_count,
		refused_count;
	uint32_t client_count;

	pthread_t thread;
	bool has_thread;
	struct peal__lifeline lifeline;
};

/* What an epoll event is about; an index and a serial, never a pointer. */
enum peal__event {
	PEAL__EVENT_LISTENER,
	PEAL__EVENT_WAKE,
	PEAL__EVENT_NOTIFY,
	PEAL__EVENT_TIMER,
	PEAL__EVENT_STOP,
	PEAL__EVENT_SOCKET,
	PEAL__EVENT_PIDFD,
};

/* Of those who may attach. */
static inline enum peal__wire_role
peal__admission_role(const struct peal__admission *admission)
{
	const struct peal__owner *owner = admission->consumer->owner;

	return owner == NULL ? PEAL__ROLE_PRODUCER : owner->role;
}

/* admission.c: helpers of the others */
int peal__admission_watch(struct peal__admission *admission, int fd,
                          enum peal__event event,
                          const struct peal__seat *seat);
void peal__admission_announce(struct peal__admission *admission);
void peal__admission_show(struct peal__admission *admission);

/* seat.c */

/* One is empty, which has to be known. */
struct peal__seat *peal__seat_find_empty(struct peal__admission *admission);

/* Give the connection that was accepted into @seat that seat. It is closed when
 * that fails. */
void peal__seat_take(struct peal__admission *admission,
                     struct peal__seat *seat);

/* Its socket is readable or hung up. */
void peal__seat_read(struct peal__admission *admission,
                     struct peal__seat *seat);

/* Its deadline is over: it has waited for long enough, or is late. */
void peal__seat_come_due(struct peal__admission *admission,
                         struct peal__seat *seat);

/* Send it away: with a sentence if @code is not 0, and count it. It has no slot
 * that the consumer knows, or nobody drains any more. */
void peal__seat_refuse(struct peal__admission *admission,
                       struct peal__seat *seat, int code, const char *text);

/* It has hung up or died. */
void peal__seat_gone(struct peal__admission *admission,
                     struct peal__seat *seat);

/* Its slot is EVICTED: tell it, once, and hang up. */
void peal__seat_evict(struct peal__admission *admission,
                      struct peal__seat *seat);

/* Its slot is DONE, or it never had one: take everything away. */
void peal__seat_clear(struct peal__admission *admission,
                      struct peal__seat *seat);

/* grant.c */

/* Whom the kernel shows when a user, or group, has no number in our namespace. */
uint32_t peal__grant_overflow_uid(void);
uint32_t peal__grant_overflow_gid(void);

/* May this user come in at all? 0, or -EACCES, -EBUSY with a sentence. */
int peal__grant_check(const struct peal__admission *admission,
                      const struct peal__seat *seat,
                      struct peal_failure *failure);

/* Answer a HELLO: with WELCOME and a phase, or with a refusal. */
void peal__grant(struct peal__admission *admission, struct peal__seat *seat,
                 const struct peal__hello *hello);

/* An observer asked: copy the clients' words in, and say when it is done. */
void peal__grant_refresh(struct peal__admission *admission,
                         struct peal__seat *observer);

#endif
