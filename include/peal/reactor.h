/* SPDX-License-Identifier: MIT */
/*
 * The reactor answers calls: one thread owns every ring, a handler runs for
 * each request, and the answer comes from it, or later from any thread.
 *
 *	client --request ring--> +---------+ --inline--> handler on this thread
 *	       <-response ring-- | reactor |
 *	client --request ring--> |         | --copy--> workers, or your executor
 *	       <-response ring-- +---------+ <--------- completions
 *
 *	request:  taken --> handler --> answered, failed or dropped
 *	                      |            ^
 *	                      +--> open ---+   peal_reply() later, any thread
 *
 * Every request ends exactly once: answered by peal_reply() and its kin, failed
 * by peal_reply_error() or by the library (-EIO when it was dropped, -ETIMEDOUT
 * when its deadline passed before it was begun, -ECANCELED, -EBUSY at a cap,
 * -ESHUTDOWN), or, when its client has gone, dropped and counted.
 *
 * Callers: the reactor's thread is the one that runs it, or called run_once(),
 *	prepare() or dispatch() last. From any thread: stop, notify, post,
 *	is_current and every call on an open request (one thread at a time for
 *	each request). stop and notify also in signal handlers. All else is for
 *	the reactor's thread: handlers, callbacks and posts run there.
 *
 * Ordering: answers of an ordered client arrive in the order of its requests;
 *	an unordered one's as they are ready. A push comes after what was sent
 *	to that client before it.
 *
 * Progress: the reactor never waits for a client. A client that does not read
 *	its answers is parked alone. No system call and no allocation per
 *	request once warm and awake.
 *
 * Death: of a client: what it had not begun is dropped and counted, what runs
 *	sees peal_request_cancelled(), answers to it go nowhere, and its slot is
 *	free when its last handler has ended. Of the server: see peal/client.h.
 *
 * Errors: see peal_strerror(). -ESTALE in a forked child, and for a peer that
 *	has gone.
 *
 * Units: bytes and nanoseconds.
 */
#ifndef PEAL_REACTOR_H
#define PEAL_REACTOR_H

#include <peal/base.h>
#include <peal/mpsc.h>
#include <peal/ring.h>

PEAL_BEGIN_DECLS

enum { PEAL_INLINE_AUTO, PEAL_INLINE_ALWAYS, PEAL_INLINE_NEVER };
enum { PEAL_AT_CAP_STALL, PEAL_AT_CAP_REJECT };
enum { PEAL_ORDERED, PEAL_UNORDERED };

struct peal_reactor;
struct peal_request;

struct peal_reactor_options {
	size_t size; /* of this struct: PEAL_REACTOR_OPTIONS_INIT sets it */

	/* As in struct peal_consumer_options. */
	const char *name;

	/* Called for every request, which it answers now or keeps open. */
	void (*on_request)(struct peal_request *request, void *arg);

	/* A client has come; it has gone, and why: 0 it said good-bye,
	 * -ECONNRESET it died, -EPROTO its bytes made no sense, -ETIMEDOUT it
	 * was idle or stalled for too long, -ECONNABORTED we sent it away,
	 * -ENOMEM, -ESHUTDOWN we closed. They come in
	 * pairs, on the reactor's thread. Or NULL. */
	void (*on_opened)(struct peal_reactor *reactor, struct peal_peer peer,
	                  void *arg);
	void (*on_closed)(struct peal_reactor *reactor, struct peal_peer peer,
	                  int reason, void *arg);

	/*
	 * Where handlers run when not on the reactor's thread: @executor hands
	 * @work to a thread of yours, which calls run(work) once. It returns 0,
	 * and then run will be called; or a -errno, and then it will not: the
	 * request fails with that error. Anything else is a mistake. Or
	 * worker_count threads of the library's own. Neither: always inline.
	 */
	int (*executor)(void (*run)(void *work), void *work, void *arg);
	void *arg; /* for all of these */

	uint32_t wait_mode;     /* PEAL_WAIT_FUTEX or PEAL_WAIT_FD */
	uint32_t spin_mode;     /* PEAL_SPIN_ADAPTIVE, ... */
	uint64_t spin_ns;       /* budget, at most 50,000; 20,000 */
	uint32_t inline_mode;   /* PEAL_INLINE_AUTO, ... */
	uint32_t worker_count;  /* 0 to 1,024; 0 */
	uint32_t turn_budget;   /* requests a turn, 1 to 65,536; 64 */
	uint32_t copy_requests; /* 1: copy what clients say, always */

	/* Caps. At one of the in-flight caps a request stays in its ring
	 * (STALL) or fails with -EBUSY (REJECT). */
	uint32_t at_cap;
	uint32_t client_max;               /* 1 to 4,096; 256 */
	uint32_t client_per_uid_max;       /* 0: client_max */
	uint32_t in_flight_max;            /* 1 to 1,048,576; 4,096 */
	uint32_t in_flight_per_client_max; /* 1 to 65,536; 256 */
	uint64_t queued_max_bytes; /* of a client that does not read; 1 MiB */

	/* What a client may ask for, and what one gets that does not ask; for
	 * request and response ring alike. */
	uint64_t ring_min_bytes;          /* 4 KiB */
	uint64_t ring_default_bytes;      /* 256 KiB */
	uint64_t ring_max_bytes;          /* 16 MiB; at most 1 GiB */
	uint64_t segment_total_max_bytes; /* of all rings; 4 GiB */

	/* Close a client that neither asks nor answers for so long; 0: never. */
	uint64_t idle_timeout_ns;
	uint64_t stall_timeout_ns; /* one that does not read; 0: never */

	uint32_t memory_flags; /* PEAL_MEMORY_HUGE | ... */
	int numa_node;         /* -1: any */

	/* Who may connect: as in struct peal_consumer_options. */
	uint32_t socket_mode;
	uint32_t connect_rate_max; /* its attach_rate_max */
	const uint32_t *allow_uid;
	size_t allow_uid_count;
	const uint32_t *allow_gid;
	size_t allow_gid_count;
	int listen_fd; /* -1: none */

	/* A signalfd of yours, or -1: when it becomes readable the reactor
	 * stops, as by peal_reactor_stop(drain_ns). It stays yours, unread. */
	int stop_signals_fd;
	uint64_t drain_ns; /* 5 s */

	struct peal_failure *ret_failure; /* or NULL */
};
/* clang-format off */
#define PEAL_REACTOR_OPTIONS_INIT                                              \
	{ sizeof(struct peal_reactor_options), NULL, NULL, NULL, NULL, NULL,   \
	  NULL, PEAL_WAIT_FUTEX, PEAL_SPIN_ADAPTIVE, UINT64_C(20000),          \
	  PEAL_INLINE_AUTO, 0, 64, 0, PEAL_AT_CAP_STALL, 256, 0, 4096, 256,    \
	  UINT64_C(1) << 20, PEAL_RING_MIN_BYTES, PEAL_RING_DEFAULT_BYTES,     \
	  UINT64_C(16) << 20, UINT64_C(4) << 30, 0, 0, 0, -1, 0600, 0, NULL,   \
	  0, NULL, 0, -1, -1, UINT64_C(5000000000), NULL }
/* clang-format on */

/*
 * Open @options->name and let clients connect. Requests wait in their rings
 * until the reactor is run.
 *
 * 0, or -EINVAL (an option is nonsense; ret_failure names it) and all of
 * peal_consumer_open()'s.
 */
PEAL_API PEAL_MUST_CHECK int
peal_reactor_open(const struct peal_reactor_options *options,
                  struct peal_reactor **ret_reactor);

/*
 * Serve until peal_reactor_stop(). 0 when all that was taken has been answered,
 * -ETIMEDOUT when the drain's bound ended it, -EDEADLK inside a handler, on
 * whatever thread, or a callback; so are run_once, prepare and dispatch. After
 * it has returned nobody answers, and clients that are connected wait: close
 * soon, which is what tells them.
 */
PEAL_API int peal_reactor_run(struct peal_reactor *reactor);

/*
 * Serve what there is; when there is nothing, wait for it no longer than
 * @timeout_ns. May return early. 0, -ETIMEDOUT (all of that is over), or
 * -ESHUTDOWN (a stop is complete; nothing more will be served).
 */
PEAL_API int peal_reactor_run_once(struct peal_reactor *reactor,
                                   uint64_t timeout_ns);

/*
 * Stop: requests whose handlers have not begun fail with -ESHUTDOWN, running ones
 * are answered, for @drain_ns at most; then run() returns. Posts that were made
 * before have their turn, but for those that a bound of 0 is too short for; pushes
 * that wait for room are not waited for. The first call counts. Any thread;
 * async-signal-safe. 0.
 */
PEAL_API int peal_reactor_stop(struct peal_reactor *reactor, uint64_t drain_ns);

/* End a wait that is under way, or the next one. Any thread and signal
 * handlers. */
PEAL_API void peal_reactor_notify(struct peal_reactor *reactor);

/*
 * Run @run(@arg) on the reactor's thread, soon. Posts of one thread run in
 * order; many make one wake; what they send goes out before the next sleep. A
 * post that posts again has its turn after the rings have had theirs. Those that
 * are left run in close. Any thread. 0, -ENOMEM, -EINVAL (@run is NULL),
 * -ESHUTDOWN (the stop is complete, or it is being closed).
 */
PEAL_API PEAL_MUST_CHECK int peal_reactor_post(struct peal_reactor *reactor,
                                               void (*run)(void *arg),
                                               void *arg);

/* Am I the reactor's thread? Any thread. */
PEAL_API bool peal_reactor_is_current(const struct peal_reactor *reactor);

/*
 * Send a message that nobody asked for to @peer, or to every client; it comes
 * after what was sent there before. push_all returns how many got it.
 *
 * 0 (or that count), -ESTALE (it has gone), -EAGAIN (queued_max_bytes wait for
 * it already), -EMSGSIZE (more than peal_reactor_message_max()), -ENOMEM,
 * -EINVAL (not the reactor's thread).
 */
PEAL_API PEAL_MUST_CHECK int peal_reactor_push(struct peal_reactor *reactor,
                                               struct peal_peer peer,
                                               const void *data, size_t bytes);
PEAL_API int peal_reactor_push_all(struct peal_reactor *reactor,
                                   const void *data, size_t bytes);

/*
 * Call @peer: its on_request answers, also while it waits in a call of its own.
 * @on_answer runs once, on the reactor's thread: with error 0 and the answer,
 * which lives until it returns (where requests are not copied, in memory that
 * its client can still write), or with -ETIMEDOUT, -ECONNRESET (it has gone and
 * had not answered before), -EPROTO, -ENOMEM, -EIO (its handler gave no answer),
 * -ENOSYS (it has none), and NULL. Answers of more than peal_reply_max(), 16 KiB
 * less 40 bytes where pages are no larger, are -EMSGSIZE for the client.
 *
 * 0, or the errors of peal_reactor_push(), -EINVAL also when @on_answer is NULL;
 * then on_answer does not run.
 */
typedef void peal_answer_fn(int error, const struct peal_message *answer,
                            void *arg);
PEAL_API PEAL_MUST_CHECK int
peal_reactor_call(struct peal_reactor *reactor, struct peal_peer peer,
                  const void *data, size_t bytes, uint64_t timeout_ns,
                  peal_answer_fn *on_answer, void *arg);

/* The largest push or call that @peer's response ring can carry; 0: it has gone,
 * or this is not the reactor's thread. */
PEAL_API size_t peal_reactor_message_max(const struct peal_reactor *reactor,
                                         struct peal_peer peer);

/* Send @peer away; it learns of it at once, whatever its handlers are doing. 0,
 * also when that is under way; -ESTALE (it has gone), -EINVAL (not the reactor's
 * thread). */
PEAL_API int peal_reactor_disconnect(struct peal_reactor *reactor,
                                     struct peal_peer peer);

/* Who is behind @peer. On the reactor's thread, or on one that has an open
 * request of it. 0, -ESTALE (it has gone, and its last request has ended),
 * -EINVAL (@ret_info is NULL). */
PEAL_API int peal_reactor_peer_info(const struct peal_reactor *reactor,
                                    struct peal_peer peer,
                                    struct peal_peer_info *ret_info);

/*
 * Inside an event loop of the caller's own, in fd mode: prepare; when it
 * returns 0 block in the loop; dispatch, which serves what there is.
 *
 * fd: polls readable when dispatch has something to do; or -EINVAL (futex mode).
 * prepare: 1, there is work, do not block; 0, armed, you may block, for
 * @ret_timeout_ns at most (PEAL_FOREVER when no timer runs; may be NULL).
 * dispatch: 0, -ESHUTDOWN (a stop is complete). Both: -EDEADLK as of run,
 * -EINVAL (futex mode), -ESTALE.
 */
PEAL_API int peal_reactor_fd(const struct peal_reactor *reactor);
PEAL_API int peal_reactor_prepare(struct peal_reactor *reactor,
                                  uint64_t *ret_timeout_ns);
PEAL_API int peal_reactor_dispatch(struct peal_reactor *reactor);

/* What happened so far: received = answered + failed + dropped + running. 0,
 * -EINVAL, -ESTALE. */
struct peal_reactor_stats {
	uint64_t received_count; /* requests taken from rings */
	uint64_t answered_count; /* by a handler, whatever its status */
	uint64_t failed_count;   /* by the library, or by peal_reply_error() */
	uint64_t dropped_count;  /* their client had gone */
	uint64_t running_count;  /* taken, and none of these yet */
	uint64_t unread_count;   /* of clients that had gone: not begun */
	uint64_t inline_count;   /* handled on the reactor's thread */
	uint64_t pushed_count;
	uint64_t called_count;
	uint64_t parked_count; /* times a client was parked */
	struct peal_consumer_stats door;
};
PEAL__BEGIN_SAME_NAME
PEAL_API int peal_reactor_stats(const struct peal_reactor *reactor,
                                struct peal_reactor_stats *ret_stats);
PEAL__END_SAME_NAME

/*
 * Close: the name is free, clients get -ESHUTDOWN. Requests that are open and
 * whose handlers have ended are dropped: do not reply to them any more. NULL
 * is fine. 0, or -EBUSY: a handler still runs, everything stays valid; let it
 * end and call again; or -EDEADLK: in a handler, callback or post of its own.
 * Not while another thread runs the reactor: stop it and join that thread first.
 * The caller's is then the reactor's thread, where on_closed and posts run. In a
 * child forked by one of its own handlers it is -EDEADLK as well.
 */
PEAL_API int peal_reactor_close(struct peal_reactor *reactor);

/* a request ---------------------------------------------------------------- */

/*
 * Its bytes; @ret_bytes may be NULL. They live until the handler returns (and,
 * in an inline handler of a trusted client, lie in memory that the client can
 * still write and that a forked child has not got: set copy_requests where that
 * matters, or retain before the fork), or until the answer after
 * peal_request_retain(), which returns 0 or -ENOMEM.
 */
PEAL_API const void *peal_request_data(const struct peal_request *request,
                                       size_t *ret_bytes);
PEAL_API PEAL_MUST_CHECK int peal_request_retain(struct peal_request *request);

PEAL_API uint64_t peal_request_id(const struct peal_request *request);
PEAL_API struct peal_peer peal_request_peer(const struct peal_request *request);

/* What is left until its deadline; 0: it has passed; PEAL_FOREVER: none. */
PEAL_API uint64_t peal_request_deadline_ns(const struct peal_request *request);

/* Does nobody want the answer any more? A handler that takes long asks. That its
 * client has died is seen at once in futex mode; in fd mode not before the
 * reactor's thread dispatches again. */
PEAL_API bool peal_request_cancelled(const struct peal_request *request);

/* No answer is wanted; peal_reply() sends none, and is still to be called. */
PEAL_API bool peal_request_is_one_way(const struct peal_request *request);

/* The largest answer that this request can have, in bytes. */
PEAL_API size_t peal_reply_max(const struct peal_request *request);

/*
 * Answer with a copy of @bytes at @data; 0 consumes the request, which must not
 * be touched again. reply_status tells a status of the handler's own beside it,
 * which arrives in peal_message.status and never looks like a failure of
 * peal's. @data may be the request's own bytes.
 *
 * 0, also when the client has gone meanwhile; -EMSGSIZE (more than
 * peal_reply_max(), so that it never fits: the request stays open), -ENOMEM
 * (likewise), -ESTALE (in a forked child, as all below: the parent has it).
 */
PEAL_API int peal_reply(struct peal_request *request, const void *data,
                        size_t bytes);
PEAL_API int peal_reply_status(struct peal_request *request, int32_t status,
                               const void *data, size_t bytes);

/*
 * Answer in place: write at most @bytes at *@ret_data, 16-byte aligned, then
 * publish as many as there are. On the reactor's thread, when the answer can go
 * at once, that is the response ring itself, and only until the handler
 * returns; elsewhere it is a buffer of the request's. Another claim, or any
 * other reply, gives the first one up. Who hands the request to another thread
 * claims there: what was claimed in place cannot be published by it.
 *
 * claim: 0, -EMSGSIZE (more than peal_reply_max()), -ENOMEM. publish: 0, which
 * consumes the request, or -EINVAL (more than was claimed, or nothing was, or it
 * was claimed in place and the handler has returned or this is another thread;
 * the request stays open).
 */
PEAL_API PEAL_MUST_CHECK int peal_reply_claim(struct peal_request *request,
                                              size_t bytes, void **ret_data);
PEAL_API int peal_reply_publish(struct peal_request *request, size_t bytes);

/*
 * Fail it: the client's call returns @error, a -errno. 0, which consumes the
 * request, or -EINVAL (@error is not one).
 */
PEAL_API int peal_reply_error(struct peal_request *request, int error);

/* Give it up: its client gets -EIO. Consumes the request. NULL is fine. */
PEAL_API void peal_request_drop(struct peal_request *request);

PEAL_END_DECLS

#endif
