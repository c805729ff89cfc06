/* SPDX-License-Identifier: MIT */
/*
 * The scheduler: which request may run now, and which waits on which fork. It
 * knows nothing of keys and values: a fork has a line, and a request is let
 * past it or stands in it.
 *
 *	               +-- a read, and its client holds no open write here:
 *	               |   SCHEDULE_NOW, on the thread that asked, side by side
 *	schedule() ----+
 *	               |   all else: SCHEDULE_LATER, the request stays open
 *	               v
 *	fork "main"  [put B] [get A] [put A]  --> the line's thread --> run()
 *	             holder: A                    (one per fork)
 *	                ^                            |
 *	                +--- LINE_HELD or LINE_FREE -+
 *
 *	Nobody holds the line: its first request runs.
 *	A client holds it (begin ... commit): that client's first request runs;
 *	the others keep their places. When that client goes, abandon() runs and
 *	nobody holds the line.
 *
 * So writes to one fork never overlap, writes to two forks never wait for each
 * other, reads of what is committed wait for nobody, and a client sees what it
 * has written itself.
 *
 * One thread per fork, and not the reactor's workers, because an open write
 * lives for many requests and LMDB wants all of them on one thread.
 *
 * Callers: schedule(), line_forget_client(): any thread. run() and abandon()
 *	run on the line's thread. line_open(), close() and free(): one thread.
 *
 * Ordering: requests of one client that are in flight together have no order.
 *	Who needs the effect of a request awaits its answer first.
 *
 * Death: a client that has gone holds nothing and its requests are dropped
 *	unrun. line_close() ends what waits with -ESHUTDOWN.
 */
#ifndef KV_SCHEDULE_H
#define KV_SCHEDULE_H

#include <peal/reactor.h>
#include <pthread.h>
#include <stdatomic.h>

enum { SCHEDULE_NOW, SCHEDULE_LATER };
enum { LINE_FREE, LINE_HELD };

struct place; /* of a request in a line */

struct line {
	/* Ends @request; returns whether its client holds the line now. */
	int (*run)(struct peal_request *request, void *arg);
	/* The holder has gone: undo what it left open. */
	void (*abandon)(void *arg);
	void *arg;

	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct place *first, **end;
	atomic_uint_least64_t holder; /* a client, or 0 */
	bool is_abandoned;            /* the holder has gone */
	bool is_closing;
};

/* Which clients are there; a request of another one is not begun any more. */
#define SCHEDULE_CLIENT_MAX 256
void schedule_client_opened(struct peal_peer peer);
void schedule_client_closed(struct peal_peer peer);

/*
 * SCHEDULE_NOW: the caller runs it. SCHEDULE_LATER: it was queued, or has ended
 * already; the caller must not touch it any more.
 */
int schedule(struct line *line, struct peal_request *request, bool is_read);

/* @line->run, abandon and arg are set. 0, or -errno. */
int line_open(struct line *line);
void line_forget_client(struct line *line, struct peal_peer peer);
/* End its thread. What comes afterwards is told so, until line_free(). */
void line_close(struct line *line);
void line_free(struct line *line);

#endif
