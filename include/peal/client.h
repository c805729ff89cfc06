/* SPDX-License-Identifier: MIT */
/*
 * A client calls a reactor by its name, and is called back by it.
 *
 *	peal_client_connect("kv")
 *	  call ---- request ----> handler          one at a time, answer in place
 *	       <--- answer ------
 *	  send, send, send; recv, recv, recv       pipelined, matched by id
 *	       <--- push -------- on_push          while we call or recv
 *	       <--- call -------- on_request       likewise; peal_reply() answers
 *
 * Callers: a handle belongs to one thread at a time, and its callbacks run on
 *	that thread, inside call and recv; each thread connects for itself. From
 *	any thread: wake and cancel, before close is called; both also in signal
 *	handlers. Callbacks may use the handle, nested calls included, but for
 *	close; what they look at lives until they return. A handle opened before
 *	a fork() is -ESTALE in the child.
 *
 * Ordering: an ordered connection's answers come in the order of its requests,
 *	an unordered one's as they are ready.
 *
 * Progress: no system call while both sides are awake; blocking calls end at
 *	their timeout, at peal_client_wake(), or when the server dies.
 *
 * Death: of the server: every request in flight ends once with -ECONNRESET
 *	(-ESHUTDOWN when it closed, -EPROTO when its bytes made no sense), within
 *	100 ms where somebody waits; answers that it had published before are
 *	delivered. -ECONNRESET also when it sent this client away: by
 *	peal_reactor_disconnect(), or idle or stalled for too long. Without
 *	reconnect every call returns the loss from then on. With it, once
 *	anything has told it, dispatch too, the next call, send, tell or claim
 *	connects again; recv tells it once itself, and the recv after that
 *	connects. That may take its timeout, and 100 ms at least. What was in
 *	flight is not sent again. In fd mode a connection that the descriptor could
 *	not watch is none: the call says so (-ENOSPC, -ENOMEM), and the next one
 *	tries again.
 *
 * Errors: see peal_strerror(). What a call returns is about the call; what the
 *	handler had to say is in the answer's status.
 *
 * Units: bytes and nanoseconds. A deadline is relative, like a timeout: what
 *	the server has not begun by then fails with -ETIMEDOUT and is not run.
 */
#ifndef PEAL_CLIENT_H
#define PEAL_CLIENT_H

#include <peal/base.h>
#include <peal/mpsc.h>
#include <peal/reactor.h>
#include <peal/ring.h>

PEAL_BEGIN_DECLS

struct peal_client;

/* peal_message.kind of an answer: status is the handler's own, or it is why
 * there is no answer, a -errno. call() returns that instead. */
enum { PEAL_ANSWERED, PEAL_FAILED };

struct peal_client_options {
	size_t size;      /* of this struct: PEAL_CLIENT_OPTIONS_INIT */
	const char *name; /* as the reactor's; also tried in /run/peal */

	/* Pushes, and calls from the server, which are answered by
	 * peal_reply() and its kin, at once or later, by the thread that has
	 * the handle and until it is closed. Both get copies: a push lives
	 * until the callback returns, a request until it is answered. An answer
	 * that finds no room goes out in later calls. Or NULL: pushes are
	 * counted and dropped, calls fail with -ENOSYS. */
	void (*on_push)(const struct peal_message *push, void *arg);
	void (*on_request)(struct peal_request *request, void *arg);
	void *arg;

	uint64_t request_ring_bytes;  /* a power of two; 0: the server's */
	uint64_t response_ring_bytes; /* likewise */
	uint32_t order;               /* PEAL_ORDERED or PEAL_UNORDERED */
	uint32_t wait_mode;           /* PEAL_WAIT_FUTEX or PEAL_WAIT_FD */
	uint32_t spin_mode;           /* PEAL_SPIN_ADAPTIVE, ... */
	uint64_t spin_ns;             /* budget, at most 50,000; 50,000 */
	uint32_t reconnect;       /* 1: the call after a loss connects again */
	uint32_t wait_for_server; /* 1: connect waits until it is there */
	/* 1: a thread that the kernel wakes on the server's own processor time
	 * and again, where the two can only take turns, moves to another one
	 * that it may use. To do so it narrows its affinity and puts it back,
	 * within microseconds, and at most once in a millisecond; from then on
	 * that counts as set, so that a cpuset which grows later does not widen
	 * it. */
	uint32_t step_aside;
	struct peal_failure *ret_failure; /* or NULL */
};
/* clang-format off */
#define PEAL_CLIENT_OPTIONS_INIT                                               \
	{ sizeof(struct peal_client_options), NULL, NULL, NULL, NULL, 0, 0,    \
	  PEAL_ORDERED, PEAL_WAIT_FUTEX, PEAL_SPIN_ADAPTIVE, UINT64_C(50000),  \
	  0, 0, 0, NULL }
/* clang-format on */

/*
 * Connect to the reactor of that name. @timeout_ns is for its answer: when
 * nobody has the name that is -ECONNREFUSED at once. With wait_for_server it is
 * for its coming up as well, as in peal_producer_attach(); what reconnects after
 * a loss does not wait. 0, or the errors of peal_producer_attach(); ret_failure
 * says it in a sentence.
 */
PEAL_API PEAL_MUST_CHECK int
peal_client_connect(const struct peal_client_options *options,
                    uint64_t timeout_ns, struct peal_client **ret_client);

/*
 * Ask, and wait for the answer; @timeout_ns is its deadline as well. The answer
 * is a view that lives until the next call, recv or release of this handle
 * begins (so it cannot be the @data of the next call), or until the handle
 * connects again.
 *
 * 0, -ETIMEDOUT, -EMSGSIZE (more than peal_client_message_max()), -ECANCELED
 * (peal_client_wake()), -EDEADLK (it would wait, in a handler of that very
 * server, on its thread), -ECONNRESET, -ESHUTDOWN, -EPROTO, -ENOMEM, -EAGAIN
 * (@timeout_ns is 0 and there is no room), or what the server failed it with:
 * -EBUSY, -EIO, ... Who gives up cancels; an answer that comes all the same is
 * dropped and counted.
 */
PEAL_API PEAL_MUST_CHECK int peal_client_call(struct peal_client *client,
                                              const void *data, size_t bytes,
                                              uint64_t timeout_ns,
                                              struct peal_message *ret_answer);

/*
 * Pipelined: send and do not wait for the answer, which recv brings; *@ret_id
 * names it. It has to be run before @deadline_ns is over (PEAL_FOREVER: none).
 * send copies; claim and publish write in place, 8-byte aligned, one claim at a
 * time: another one, a send, tell or call, or whatever connects again gives it
 * up. tell is one way: no answer comes, and it is handled though its client has
 * gone meanwhile, unless the server is at its caps or stops just then.
 * @timeout_ns is for room; a full ring is -EAGAIN at once when answers (or
 * pushes) are waiting to be read, or when the server waits for the answer that is
 * looked at to be released. *@ret_id is filled in before the answer can come; it
 * may be NULL.
 *
 * 0, -EAGAIN, -ETIMEDOUT, -EMSGSIZE (more than peal_client_message_max()),
 * -ECANCELED, -EDEADLK (as of call), -ECONNRESET, -ESHUTDOWN, -EPROTO, -ENOMEM;
 * with reconnect also those of peal_client_connect();
 * publish: 0, or -EINVAL (nothing was claimed, more than was claimed: the claim
 * stays), -ENOMEM, or the loss.
 */
PEAL_API PEAL_MUST_CHECK int
peal_client_send(struct peal_client *client, const void *data, size_t bytes,
                 uint64_t deadline_ns, uint64_t timeout_ns, uint64_t *ret_id);
PEAL_API PEAL_MUST_CHECK int peal_client_tell(struct peal_client *client,
                                              const void *data, size_t bytes,
                                              uint64_t timeout_ns);
PEAL_API PEAL_MUST_CHECK int peal_client_claim(struct peal_client *client,
                                               size_t bytes,
                                               uint64_t timeout_ns,
                                               void **ret_data);
PEAL_API PEAL_MUST_CHECK int peal_client_publish(struct peal_client *client,
                                                 size_t bytes,
                                                 uint64_t deadline_ns,
                                                 uint64_t *ret_id);

/*
 * The next answer to something sent, in place, with its id; its kind says
 * whether it was answered or failed. After the loss of the server each request
 * in flight comes once, failed with -ECONNRESET, -ESHUTDOWN or -EPROTO.
 * Delivers pushes and calls from the server meanwhile. The view lives as that
 * of a call.
 *
 * 0, -EAGAIN (@timeout_ns is 0), -ETIMEDOUT, -ECANCELED, -EDEADLK (as of call),
 * -ENOMEM, -ECONNRESET, -ESHUTDOWN, -EPROTO (the server has gone and nothing is
 * left to come); with reconnect also those of peal_client_connect().
 */
PEAL_API PEAL_MUST_CHECK int peal_client_recv(struct peal_client *client,
                                              uint64_t timeout_ns,
                                              struct peal_message *ret_answer);

/* Give an answer's space back before the next call or recv does. */
PEAL_API void peal_client_release(struct peal_client *client,
                                  const struct peal_message *answer);

/*
 * Nobody wants the answer to @id any more: what has not begun fails with
 * -ECANCELED, what runs is told by peal_request_cancelled(); either way the
 * request still ends once, with an answer or a failure. It is a hint: of more
 * than 256 at once some may overwrite others. Any thread. 0, also when there is
 * no such request or it has ended; -ECONNRESET, -ESTALE.
 */
PEAL_API int peal_client_cancel(struct peal_client *client, uint64_t id);

/* A blocked call, recv or send, or else the next call, or recv or send that
 * would block, returns -ECANCELED; but for the time it takes to connect again.
 * In an event loop it ends the wait, and dispatch takes note of it. Any thread;
 * async-signal-safe. */
PEAL_API void peal_client_wake(struct peal_client *client);

/*
 * Inside an event loop of the caller's own, in fd mode: prepare; when it
 * returns 0 block in the loop; dispatch; recv with timeout 0 until -EAGAIN.
 *
 * fd: polls readable when dispatch has something to do; it stays ours, and is
 * the same after a reconnect. -EINVAL in futex mode.
 * prepare: 1, there is something to receive (or a loss that recv has not told),
 * do not block; 0, armed, you may block.
 * dispatch: runs no callback, recv does. 0, or -ECONNRESET, -ESHUTDOWN, -EPROTO
 * until it is connected again.
 * Both: -EINVAL (futex mode), -ESTALE. A loss leaves nothing that would end a
 * wait: to connect again takes a send or a timer of the loop.
 */
PEAL_API int peal_client_fd(const struct peal_client *client);
PEAL_API int peal_client_prepare(struct peal_client *client);
PEAL_API int peal_client_dispatch(struct peal_client *client);

/* The largest request this connection can carry, in bytes. */
PEAL_API size_t peal_client_message_max(const struct peal_client *client);

/* What happened so far. 0, -EINVAL, -ESTALE. */
struct peal_client_stats {
	uint64_t sent_count;
	uint64_t answered_count;
	uint64_t failed_count;
	uint64_t late_count; /* answers that came after their call had ended */
	uint64_t push_count;
	uint64_t push_dropped_count; /* no on_push, or it connected again */
	uint64_t request_count;      /* calls from the server */
	uint64_t in_flight_count;
	uint64_t full_count;
	uint64_t reconnect_count;
	uint64_t aside_count;  /* moves to another processor, see step_aside */
	struct peal_peer self; /* how the server names us */
};
PEAL__BEGIN_SAME_NAME
PEAL_API int peal_client_stats(const struct peal_client *client,
                               struct peal_client_stats *ret_stats);
PEAL__END_SAME_NAME

/*
 * Say good-bye; requests in flight are given up (what was told is not), and
 * those of the server that are open: do not reply to them any more. NULL is
 * fine. Not inside a callback. 0.
 */
PEAL_API int peal_client_close(struct peal_client *client);

PEAL_END_DECLS

#endif
