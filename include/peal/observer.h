/* SPDX-License-Identifier: MIT */
/*
 * Looking at a server from outside: what shmctl prints.
 *
 *	server --writes--> status region (sealed, its own words only)
 *	                        ^ mapped read-only
 *	observer ---------------+     no ring, no payload, no bell
 *
 * The hot path does not know that anybody looks. When the server answers, it
 * is asked to copy in what only its producers know (fill, blocked time); when
 * it is stuck or stopped, or has observers enough, the region is opened through
 * /proc/PID/fd, which its own user and root may do, and tells what was true last.
 *
 * Callers: a handle belongs to one thread at a time.
 *
 * Ordering: counters are read one by one; a row is marked by its generation
 *	and read again when that changed meanwhile.
 *
 * Progress: bounded by the timeout of each call.
 *
 * Death: of the server: the region stays readable, its last words.
 *
 * Errors: -ECONNREFUSED (no such server), -ECONNRESET (it died meanwhile),
 *	-EACCES (not its user, nor root, nor on its lists), -ETIMEDOUT (it does
 *	not answer, and its region was not found either), -EPROTO (what it
 *	shows makes no sense), -EPROTONOSUPPORT (another major version),
 *	-ESHUTDOWN, -EBUSY (it has observers enough, and its region was not
 *	found, or it has them still), -ENOMEM, -EMFILE. -ESTALE in a forked
 *	child.
 *
 * Units: bytes and nanoseconds. Ages are 0 when a clock of another time
 *	namespace would make them negative.
 */
#ifndef PEAL_OBSERVER_H
#define PEAL_OBSERVER_H

#include <peal/base.h>

PEAL_BEGIN_DECLS

struct peal_observer;

enum {
	PEAL_SERVER_ALIVE,   /* it answered */
	PEAL_SERVER_SILENT,  /* it lives, and did not answer in time */
	PEAL_SERVER_STOPPED, /* by a signal or a debugger */
	PEAL_SERVER_CLOSED,  /* it has closed, or died */
};

/* Of peal_server_info.looked_ns and shown_ns: nobody has, yet. */
#define PEAL_NEVER_LOOKED UINT64_MAX

struct peal_server_info {
	char name[72];
	int32_t pid; /* in our pid namespace; 0: not visible from here */
	uint32_t uid;
	uint32_t state; /* PEAL_SERVER_ALIVE, ... */
	uint32_t slot_max;
	uint32_t client_count;
	uint64_t age_ns;
	uint64_t looked_ns;     /* since the clients' words were copied in */
	uint64_t message_count; /* of all connections, past ones too */
	uint64_t payload_bytes;
	uint64_t attached_count;
	uint64_t detached_count;
	uint64_t died_count;
	uint64_t evicted_count;
	uint64_t refused_count;
	uint64_t dropped_bytes;
	uint64_t sleep_count;

	/* Of a reactor, else 0. It writes them when it pauses, and about every
	 * millisecond when it does not; while a handler runs on its own thread
	 * nothing is written, and shown_ns grows. */
	uint32_t is_reactor;
	uint32_t worker_count;
	uint32_t busy_count;      /* workers */
	uint32_t is_paused;       /* no more may be in flight in all */
	uint64_t running_count;   /* requests in flight */
	uint64_t answered_count;  /* as in struct peal_reactor_stats */
	uint64_t failed_count;    /* likewise */
	uint64_t dropped_count;   /* likewise */
	uint64_t mean_handler_ns; /* lately; 0: it does not measure */
	uint64_t shown_ns;        /* since it wrote these; PEAL_NEVER_LOOKED */
};

/* Why a reactor takes no requests of a client now. */
enum {
	PEAL_PARKED_CAP = 1 << 0,      /* it has enough in flight */
	PEAL_PARKED_RESPONSE = 1 << 1, /* it does not read its answers */
	PEAL_PARKED_TURN = 1 << 2,     /* others have their turn */
};

/* Where clients that call without pause are more than the processors. */
enum {
	PEAL_TURN_FREE, /* it is served at once */
	PEAL_TURN_WAITING,
	PEAL_TURN_HOLDING,
};

enum {
	PEAL_SLOT_FREE,
	PEAL_SLOT_LIVE,
	PEAL_SLOT_DRAINING, /* its producer has gone; messages are left */
};

struct peal_slot_info {
	uint32_t slot_index;
	uint32_t generation;
	uint32_t state; /* PEAL_SLOT_LIVE, ... */
	int32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint64_t ring_bytes;
	uint64_t age_ns;
	uint64_t idle_ns; /* since the consumer last found a message */
	uint64_t message_count;
	uint64_t payload_bytes;

	/* Of a reactor's client, else 0; written as those of the server. */
	uint64_t oldest_ns;     /* since its oldest open request was taken */
	uint64_t queued_bytes;  /* that wait for it to read */
	uint32_t running_count; /* requests in flight */
	uint32_t queued_count;  /* answers, pushes and calls that wait */
	uint32_t parked;        /* PEAL_PARKED_CAP | ...; 0: it is not */
	uint32_t turn;          /* PEAL_TURN_FREE, ... */

	/* The client's own word, as of peal_server_info.looked_ns: a liar may
	 * lie here, and hurts nobody but its own row. */
	uint64_t client_fill_bytes;
	uint64_t client_full_count; /* messages that found no room */
	uint64_t client_blocked_ns;
};

/*
 * Open the server of this name (resolved as a producer would) for looking.
 * With a timeout of 0 the server is not waited for. 0, or an error of the list
 * above; @failure may be NULL.
 */
PEAL_API PEAL_MUST_CHECK int peal_observer_open(const char *name,
                                                uint64_t timeout_ns,
                                                struct peal_failure *failure,
                                                struct peal_observer **ret);

/*
 * Ask the server to copy its clients' words in. 0, or -ETIMEDOUT when it did
 * not answer, or an error of the list above; the older values stand then. A
 * server that did not answer before is given the chance to do so now, and only
 * one question waits for it at a time.
 */
PEAL_API int peal_observer_refresh(struct peal_observer *observer,
                                   uint64_t timeout_ns);

/* The server as a whole. 0, or -ESTALE (a forked child). */
PEAL_API int peal_observer_server(struct peal_observer *observer,
                                  struct peal_server_info *ret_info);

/*
 * One slot, 0 to slot_max - 1. 0, or -ESTALE (it is free, or this is a forked
 * child), -EINVAL (there is no such slot), -EPROTO (its state is none).
 */
PEAL_API int peal_observer_slot(struct peal_observer *observer,
                                uint32_t slot_index,
                                struct peal_slot_info *ret_info);

/* NULL is fine. In a forked child it only frees memory. */
PEAL_API void peal_observer_close(struct peal_observer *observer);

/*
 * Call @found for each socket of a peal server in the runtime directories this
 * user can see, dead ones included, in the order of their names. Of two with
 * one name a producer gets the first; @path opens either. A return other than
 * 0 ends the walk and is returned; else 0, or -ENOMEM.
 */
PEAL_API int peal_observer_each(int (*found)(const char *name, const char *path,
                                             void *arg),
                                void *arg);

PEAL_END_DECLS

#endif
