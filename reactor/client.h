/* SPDX-License-Identifier: MIT */
/*
 * The inside of a client: a producer, whose ring carries the requests, and what
 * comes back.
 *
 *	request ring   peal_producer            client_send.c
 *	response ring  rx --> call's answer      a view, in place
 *	                  --> inbox              copies, for recv or an outer call
 *	                  --> on_push, on_request           client_recv.c
 *	lane           lane <-- peal_reply()     upcall.c
 *
 *	client.c        connect, reconnect, loss, close
 *	client_send.c   what is asked
 *	client_recv.c   what comes back, and who gets it
 *	client_wait.c   waiting, waking, event loops
 *
 * At most one frame of the response ring is peeked and not released, and it is
 * the view that the user has. What callbacks get is copied and released before
 * they run, so that they may call again; what they leave is let go when they
 * return.
 *
 * Callers: the thread that owns the handle, but for wake and cancel. Those
 *	reach the segment through the door: who replaces it shuts the door and
 *	waits until nobody stands in it. They never wait themselves, so that a
 *	signal handler may use it.
 *
 * Errors: a frame that makes no sense loses the connection, -EPROTO.
 */
#ifndef PEAL_REACTOR_CLIENT_H
#define PEAL_REACTOR_CLIENT_H

#include <stdbool.h>

#include "base/fork.h"
#include "doorbell/spin.h"
#include "mpsc/producer.h"
#include "peal/client.h"
#include "reactor/buffer.h"
#include "reactor/client_flight.h"
#include "reactor/frame.h"

/* A message in memory of our own: an answer that waits, or a push. */
struct peal__note {
	struct peal__note *next;
	struct peal__buffer buffer;
	struct peal_message message;
};

/* A call that waits for its answer; calls in callbacks are nested. */
struct peal__waiter {
	struct peal__waiter *outer;
	uint64_t id;
	bool is_done;            /* by the note, or else it failed */
	struct peal__note *note; /* its answer, taken by a nested call */
	int error;
};

/* What the user looks at, until the next call. */
struct peal__view {
	struct peal__note *note; /* a copy; or NULL: in the ring */
	uint64_t end;            /* in the ring */
	uint64_t serial;         /* 0: there is none */
};

struct peal__upcall;

struct peal_client {
	struct peal_producer *producer;
	struct peal_ring_rx rx;
	uint64_t tell_bytes; /* released and not told: time to tell it */
	uint64_t next_id;
	struct peal__waiter *waiting; /* the innermost call */
	uint32_t waiting_count;
	struct peal__view view;
	uint64_t view_serial;

	/* the claim that is open */
	bool has_claim;
	size_t claim_bytes;
	uint8_t *claim_data;

	struct peal__flight flight;
	struct peal__note *inbox, **inbox_end;
	struct peal__note *free_notes;

	/* waiting for answers */
	struct peal_sleeper sleeper;
	struct peal__spin spin;
	uint32_t beside_count; /* sleeps in a row on the server's processor */
	uint64_t aside_ticks;  /* when it moved last */

	/* the connection */
	uint32_t serial;   /* which one it is */
	bool is_readable;  /* its rings are mapped and make sense */
	bool is_noted;     /* its loss, in all that was in flight */
	bool is_recv_told; /* of its loss, by recv */
	bool is_saving;    /* no callbacks */

	/* calls from the server */
	struct peal_ring_tx lane;
	struct peal__upcall *upcalls; /* all there are */
	struct peal__upcall *free_upcalls;
	struct peal__upcall *unsent, **unsent_end; /* the lane was full */

	/* any thread */
	uint32_t is_woken;
	uint32_t door_count;
	struct peal__segment *door; /* NULL: shut */

	/* fd mode; else -1 */
	struct peal__fork_fd wake_event, epoll;

	struct peal__producer_owner owner;
	struct peal_client_options options; /* without a name */
	struct peal_client_stats stats;
};

static inline bool peal__client_was_forked(const struct peal_client *client)
{
	return peal__producer_was_forked(client->producer);
}

/* client_options.c: as the checks in base/options.h. */
int peal__client_options_check(const struct peal_client_options *given,
                               struct peal_client_options *known);

/* client.c ------------------------------------------------------------------ */

/*
 * What every call that sends begins with, when the connection is lost: tells it
 * once, then attaches again if it is to. 0 or -errno.
 */
int peal__client_mend(struct peal_client *client, uint64_t timeout_ns);

/* Everything in flight ends with the error that the connection was lost by. */
void peal__client_note_loss(struct peal_client *client);

/* The server's bytes make no sense: hang up. -EPROTO. */
int peal__client_lose(struct peal_client *client);

/* The segment, for another thread, or NULL; leave the door in any case. */
struct peal__segment *peal__client_enter(struct peal_client *client);
void peal__client_leave(struct peal_client *client);

/* A note of so many bytes, or NULL. */
struct peal__note *peal__client_note(struct peal_client *client, size_t bytes);
void peal__client_free_note(struct peal_client *client,
                            struct peal__note *note);

/* client_recv.c ------------------------------------------------------------- */

/*
 * Take one frame from the response ring. @waiter: its answer is wanted, in
 * place; none and @ret_answer: any answer to what was sent; neither: all are
 * put aside.
 *
 * 0: *@ret_answer is filled in. 1: something else was dealt with, by a callback
 * maybe. -EAGAIN: there is none. -ENOMEM: it stays there. -EPROTO: lost.
 */
int peal__client_take(struct peal_client *client, struct peal__waiter *waiter,
                      struct peal_message *ret_answer);

/*
 * Wait for the answer to a call. 0, or what the call ended with; when @waiter
 * is not done by then, its answer may still come.
 */
int peal__client_await(struct peal_client *client, struct peal__waiter *waiter,
                       struct peal__spin_limit *limit,
                       struct peal_message *ret_answer);

/* The user looks no longer. */
void peal__client_drop_view(struct peal_client *client);

/* Store what was released where the server looks, and ring if it waits. */
void peal__client_settle(struct peal_client *client);

/* client_wait.c ------------------------------------------------------------- */

/*
 * Wait until there may be something to take. 0: look again; -ETIMEDOUT: look
 * for the last time; -ECANCELED: woken. The caller has looked at the bell.
 */
int peal__client_wait(struct peal_client *client,
                      struct peal__spin_limit *limit);

/* Was wake called? And the same, answered once: for who returns -ECANCELED. */
bool peal__client_is_woken(const struct peal_client *client);
bool peal__client_take_wake(struct peal_client *client);

/* For waits that are not ours: see struct peal__producer_owner. */
int peal__client_interrupt(void *object);

#endif
