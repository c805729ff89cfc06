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
 *	that thread, inside call, recv and dispatch; each thread connects for
 *	itself. From any thread: wake and cancel; wake also in signal handlers.
 *	Callbacks may use the handle, nested calls included, but for close. A
 *	handle opened before a fork() is -ESTALE in the child.
 *
 * Ordering: an ordered connection's answers come in the order of its requests,
 *	an unordered one's as they are ready.
 *
 * Progress: no system call while both sides are awake; blocking calls end at
 *	their timeout, at peal_client_wake(), or when the server dies.
 *
 * Death: of the server: every request in flight ends once with -ECONNRESET
 *	(-ESHUTDOWN when it closed), within 100 ms where somebody waits. With
 *	reconnect the next call connects again.
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
	 * peal_reply() and its kin, at once or later. Both get copies, which
	 * live until the callback returns. Or NULL: pushes are counted and
	 * dropped, calls fail with -ENOSYS. */
	void (*on_push)(const struct peal_message *push, void *arg);
	void (*on_request)(struct peal_request *request, void *arg);
	void *arg;

	uint64_t request_ring_bytes;  /* a power of two; 0: the server's */
	uint64_t response_ring_bytes; /* likewise */
	uint32_t order;               /* PEAL_ORDERED or PEAL_UNORDERED */
	uint32_t wait_mode;           /* PEAL_WAIT_FUTEX or PEAL_WAIT_FD */
	uint32_t spin_mode;
	uint64_t spin_ns;   /* budget, at most 50,000; 50,000 */
	uint32_t reconnect; /* 1: the call after a loss connects again */
	struct peal_failure *ret_failure; /* or NULL */
};
/* clang-format off */
#define PEAL_CLIENT_OPTIONS_INIT                                               \
	{ sizeof(struct peal_client_options), NULL, NULL, NULL, NULL, 0, 0,    \
	  PEAL_ORDERED, PEAL_WAIT_FUTEX, PEAL_SPIN_ADAPTIVE, UINT64_C(50000),  \
	  0, NULL }
/* clang-format on */

/*
 * Connect to the reactor of that name. 0, or the errors of
 * peal_producer_attach(); ret_failure says it in a sentence.
 */
PEAL_API PEAL_MUST_CHECK int
peal_client_connect(const struct peal_client_options *options,
                    uint64_t timeout_ns, struct peal_client **ret_client);

/*
 * Ask, and wait for the answer; @timeout_ns is its deadline as well. The answer
 * is a view that lives until the next call, recv or release of this handle.
 *
 * 0, -ETIMEDOUT, -EMSGSIZE, -ECANCELED (peal_client_wake()), -ECONNRESET,
 * -ESHUTDOWN, -EAGAIN (@timeout_ns is 0 and there is no room), or what the
 * server failed it with: -EBUSY, -EIO, ... An answer that comes too late is
 * dropped and counted.
 */
PEAL_API PEAL_MUST_CHECK int peal_client_call(struct peal_client *client,
                                              const void *data, size_t bytes,
                                              uint64_t timeout_ns,
                                              struct peal_message *ret_answer);

/*
 * Pipelined: send and do not wait for the answer, which recv brings; *@ret_id
 * names it. It has to be run before @deadline_ns is over (PEAL_FOREVER: none).
 * send copies; claim and publish write in place, one claim at a time. tell is
 * one way: no answer comes. @timeout_ns is for room; a full ring is -EAGAIN
 * at once when answers are waiting to be read, since the server may be waiting
 * for that.
 *
 * 0, -EAGAIN, -ETIMEDOUT, -EMSGSIZE, -ECANCELED, -ECONNRESET, -ESHUTDOWN;
 * publish: 0, or -EINVAL (nothing was claimed, more than was claimed).
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
 * in flight comes once, failed with -ECONNRESET or -ESHUTDOWN. Delivers pushes
 * and calls from the server meanwhile. The view lives until the next call, recv
 * or release.
 *
 * 0, -EAGAIN (@timeout_ns is 0), -ETIMEDOUT, -ECANCELED, -ECONNRESET,
 * -ESHUTDOWN (the server has gone and nothing is left to come).
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
 * request still ends once, with an answer or a failure. Any thread. 0,
 * -ECONNRESET, -ESTALE.
 */
PEAL_API int peal_client_cancel(struct peal_client *client, uint64_t id);

/* A blocked call, recv or send, or the next one, returns -ECANCELED. Any
 * thread; async-signal-safe. */
PEAL_API void peal_client_wake(struct peal_client *client);

/*
 * Inside an event loop of the caller's own, in fd mode: prepare; when it
 * returns 0 block in the loop; dispatch; recv with timeout 0 until -EAGAIN.
 *
 * fd: polls readable when dispatch has something to do; it stays ours, and
 * changes when a reconnect has happened. -EINVAL in futex mode, -ECONNRESET.
 * prepare: 1, there is something to receive (or a loss to be told), do not
 * block; 0, armed, you may block.
 * dispatch: 0, -ECONNRESET, -ESHUTDOWN.
 */
PEAL_API int peal_client_fd(const struct peal_client *client);
PEAL_API int peal_client_prepare(struct peal_client *client);
PEAL_API int peal_client_dispatch(struct peal_client *client);

/* The largest request this connection can carry, in bytes. */
PEAL_API size_t peal_client_message_max(const struct peal_client *client);

struct peal_client_stats {
	uint64_t sent_count;
	uint64_t answered_count;
	uint64_t failed_count;
	uint64_t late_count; /* answers that came after their call had ended */
	uint64_t push_count;
	uint64_t push_dropped_count; /* there was no on_push */
	uint64_t request_count;      /* calls from the server */
	uint64_t in_flight_count;
	uint64_t full_count;
	uint64_t reconnect_count;
	struct peal_peer self; /* how the server names us */
};
PEAL_API int peal_client_stats(const struct peal_client *client,
                               struct peal_client_stats *ret_stats);

/* Say good-bye; requests in flight are given up. NULL is fine. 0. */
PEAL_API int peal_client_close(struct peal_client *client);

PEAL_END_DECLS

#endif
