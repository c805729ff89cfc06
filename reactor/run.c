/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/hooks.h"
#include "base/memory.h"
#include "reactor/reactor.h"

#define COMPLETIONS_AT_ONCE 256

/* from other threads -------------------------------------------------------- */

void peal__reactor_ring(struct peal_reactor *reactor)
{
	struct peal_consumer *consumer = reactor->consumer;

	peal_doorbell_notify(&consumer->arm_page->arm,
	                     &consumer->bell_page->seq, consumer->notify_fd);
}

void peal__reactor_tell(struct peal_reactor *reactor,
                        struct peal__completion *completion, bool can_wait)
{
	peal__completions_enter(reactor->completions);
	if (peal__completions_push(reactor->completions, completion,
	                           can_wait)) {
		PEAL__HOOK("reactor: told");
		peal__reactor_ring(reactor);
	}
	peal__completions_leave(reactor->completions);
}

void peal_reactor_notify(struct peal_reactor *reactor)
{
	peal_consumer_notify(reactor->consumer);
}

int peal_reactor_stop(struct peal_reactor *reactor, uint64_t drain_ns)
{
	uint64_t expected = 0;
	uint64_t wanted = drain_ns >= PEAL__NEVER - 1 ? PEAL__NEVER
	                                              : drain_ns + 1;

	peal__completions_enter(reactor->completions);
	/* W2: pairs with W3 in peal__reactor_has_stop(); the first one counts. */
	__atomic_compare_exchange_n(&reactor->stop_ns, &expected, wanted, false,
	                            __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	PEAL__HOOK("reactor: to be stopped");
	peal_consumer_notify(reactor->consumer);
	peal__completions_leave(reactor->completions);
	return 0;
}

void peal__reactor_signalled(void *object)
{
	struct peal_reactor *reactor = object;

	peal_reactor_stop(reactor, reactor->options.drain_ns);
}

struct post {
	struct peal__completion completion; /* first: it is cast */
	void (*run)(void *arg);
	void *arg;
};

static void on_post(struct peal__completion *completion, void *object)
{
	struct post *post = (struct post *)completion;
	struct post copy = *post;

	(void)object;
	free(post);
	copy.run(copy.arg);
}

int peal_reactor_post(struct peal_reactor *reactor, void (*run)(void *arg),
                      void *arg)
{
	struct post *post;

	if (peal__consumer_was_forked(reactor->consumer))
		return -ESTALE;
	if (run == NULL)
		return -EINVAL;
	/* Relaxed: who posts while it ends has no claim either way. */
	if (peal__read_once(&reactor->is_over) ||
	    peal__read_once(&reactor->is_closing))
		return -ESHUTDOWN;
	post = peal__malloc(sizeof(*post));
	if (post == NULL)
		return -ENOMEM;
	*post = (struct post){
		.completion.run = on_post, .run = run, .arg = arg};
	peal__reactor_tell(reactor, &post->completion, false);
	return 0;
}

/* a pass -------------------------------------------------------------------- */

static void complete(struct peal_reactor *reactor)
{
	struct peal__completion *completion;
	uint32_t count = 0;

	/* Not until it is empty: a post that posts again would starve the
	 * rings. */
	while (count < COMPLETIONS_AT_ONCE &&
	       !peal__reactor_is_childs(reactor) &&
	       (completion = peal__completions_pop(reactor->completions)) !=
	               NULL) {
		completion->run(completion, reactor);
		count++;
	}
}

void peal__reactor_complete_all(struct peal_reactor *reactor)
{
	struct peal__completion *completion;

	while (peal__completions_has_any(reactor->completions) &&
	       !peal__reactor_is_childs(reactor))
		if ((completion = peal__completions_pop(
			     reactor->completions)) != NULL)
			completion->run(completion, reactor);
}

static void flush_queues(struct peal_reactor *reactor)
{
	uint32_t left = reactor->queued_count;

	for (uint32_t i = 0; left > 0 && i < reactor->options.client_max; i++) {
		struct peal__peer *peer = &reactor->peers[i];

		if (peer->first == NULL)
			continue;
		left--;
		if (peal__peer_can_flush(peer))
			peal__peer_flush(peer);
	}
}

static void send_doomed_away(struct peal_reactor *reactor)
{
	/* Callbacks may doom others that we have passed: in the next pass. */
	for (uint32_t i = 0;
	     reactor->doomed_count > 0 && i < reactor->options.client_max;
	     i++) {
		struct peal__peer *peer = &reactor->peers[i];

		if (peer->is_open && peer->doom != 0)
			peal__drain_retire(reactor->consumer, peer->slot,
			                   peer->doom);
	}
}

bool peal__reactor_has_stop(const struct peal_reactor *reactor)
{
	/* W3: pairs with W2 in peal_reactor_stop(). */
	return __atomic_load_n(&reactor->stop_ns, __ATOMIC_ACQUIRE) != 0;
}

/* Has all that was taken been answered? An answer that waits for room belongs to
 * a request in flight; what else waits does not hold us up: a push that nobody
 * reads, or a post that posts itself again. */
static bool is_drained(const struct peal_reactor *reactor)
{
	return reactor->in_flight == 0;
}

static void look_at_stop(struct peal_reactor *reactor)
{
	uint64_t stop_ns;
	bool is_clean;

	if (PEAL_LIKELY(!peal__reactor_has_stop(reactor)) || reactor->is_over)
		return;
	if (!reactor->is_draining) {
		/* Relaxed: W3 has acquired it. */
		stop_ns = peal__read_once(&reactor->stop_ns);
		reactor->is_draining = true;
		peal__turns_end(reactor);
		reactor->turns.holder_max = 0;
		peal__write_once(&reactor->consumer->refusing, 1);
		reactor->drain_until_ns =
			stop_ns == PEAL__NEVER
				? PEAL__NEVER
				: peal__deadline_after(stop_ns - 1);
	}
	is_clean = is_drained(reactor);
	if (!is_clean && peal__clock_ns() < reactor->drain_until_ns)
		return;
	reactor->over_result = is_clean ? 0 : -ETIMEDOUT;
	peal__write_once(&reactor->is_over, true);
	/* Posts that were made before have their turn, all of them; those that
	 * they make are refused from now on. */
	if (is_clean)
		peal__reactor_complete_all(reactor);
}

/* Clients that are silent, or do not read, for too long. */
static void look_at_timers(struct peal_reactor *reactor, uint64_t now_ns)
{
	uint64_t idle_ns = reactor->options.idle_timeout_ns;
	uint64_t stall_ns = reactor->options.stall_timeout_ns;
	uint64_t step_ns = UINT64_MAX;

	for (uint32_t i = 0; i < reactor->options.client_max; i++) {
		struct peal__peer *peer = &reactor->peers[i];

		if (!peer->is_open)
			continue;
		/* Whoever waits for us to take its request is not silent. */
		if (peer->received_count != peer->looked_count ||
		    peer->in_flight > 0 ||
		    peal_ring_has_data(&peer->slot->rx)) {
			peer->looked_count = peer->received_count;
			peer->active_ns = now_ns;
		}
		if ((idle_ns != 0 && now_ns - peer->active_ns >= idle_ns) ||
		    (stall_ns != 0 && peer->first != NULL &&
		     now_ns - peer->parked_ns >= stall_ns))
			peal__peer_doom(peer, -ETIMEDOUT);
	}
	if (idle_ns != 0)
		step_ns = idle_ns / 4;
	if (stall_ns != 0 && stall_ns / 4 < step_ns)
		step_ns = stall_ns / 4;
	reactor->timers_due_ns = now_ns + step_ns + 1;
}

/* When something is to be done though nobody rings; PEAL__NEVER: nothing. */
static uint64_t next_due_ns(const struct peal_reactor *reactor)
{
	uint64_t due_ns = reactor->calls_due_ns;

	/* Where nothing waits for a client, none is stalled. */
	if (reactor->timers_due_ns < due_ns && reactor->open_count > 0 &&
	    (reactor->options.idle_timeout_ns != 0 ||
	     reactor->queued_count > 0))
		due_ns = reactor->timers_due_ns;
	if (reactor->is_draining && reactor->drain_until_ns < due_ns)
		due_ns = reactor->drain_until_ns;
	return due_ns;
}

static void look_at_clock(struct peal_reactor *reactor)
{
	uint64_t now_ns;

	if (next_due_ns(reactor) == PEAL__NEVER)
		return;
	now_ns = peal__clock_ns();
	/* First: the callbacks of calls may park somebody after this moment. */
	if (now_ns >= reactor->timers_due_ns)
		look_at_timers(reactor, now_ns);
	peal__call_expire(reactor, now_ns);
}

/* Over where a child comes back from a post or a handler of its parent's. */
static void serve(struct peal_reactor *reactor)
{
	if (peal__completions_has_any(reactor->completions)) {
		complete(reactor);
		if (peal__reactor_is_childs(reactor))
			return;
	}
	if (reactor->calling_count > 0)
		peal__call_take_answers(reactor);
	if (reactor->queued_count > 0)
		flush_queues(reactor);
	if (PEAL_UNLIKELY(peal__turns_are_possible(reactor)))
		peal__turns_pass(reactor);
	peal__take(reactor);
	if (peal__reactor_is_childs(reactor))
		return;
	look_at_clock(reactor);
	if (PEAL_UNLIKELY(reactor->consumer->draining_count > 0))
		peal__peers_end_reading(reactor);
	if (reactor->doomed_count > 0)
		send_doomed_away(reactor);
}

/* @result, unless the stop is complete, or this is not its parent. */
static int pass(struct peal_reactor *reactor, int result)
{
	peal__reactor_begin_pass(reactor);
	look_at_stop(reactor);
	if (!reactor->is_over)
		serve(reactor);
	peal__peers_ring(reactor);
	peal__reactor_end_pass(reactor);
	if (peal__reactor_is_childs(reactor))
		return -ESTALE;
	return reactor->is_over ? -ESHUTDOWN : result;
}

/* what the consumer below asks ---------------------------------------------- */

bool peal__reactor_has_work(void *object)
{
	const struct peal_reactor *reactor = object;
	uint32_t left = reactor->queued_count;

	if (peal__completions_has_any(reactor->completions) ||
	    (peal__reactor_has_stop(reactor) &&
	     (!reactor->is_draining || is_drained(reactor))) ||
	    (reactor->calling_count > 0 && peal__call_has_answers(reactor)) ||
	    (reactor->turns.first != NULL && peal__turns_has_waiting(reactor)))
		return true;
	for (uint32_t i = 0; left > 0 && i < reactor->options.client_max; i++) {
		if (reactor->peers[i].first == NULL)
			continue;
		left--;
		if (peal__peer_can_flush(&reactor->peers[i]))
			return true;
	}
	return false;
}

void peal__reactor_settle(void *object)
{
	const struct peal_reactor *reactor = object;

	peal__peers_ring(object);
	/* Who waits for a handler to end, rather than for its answer? */
	peal__completions_rest(
		reactor->completions,
		reactor->is_draining || reactor->consumer->paused ||
			reactor->capped_count > 0 || reactor->orphan_count > 0);
}

/* the loop ------------------------------------------------------------------ */

static uint64_t bounded(const struct peal_reactor *reactor, uint64_t timeout_ns)
{
	uint64_t due_ns = next_due_ns(reactor), left_ns;

	if (due_ns == PEAL__NEVER)
		return timeout_ns;
	left_ns = peal__deadline_left(due_ns);
	return left_ns < timeout_ns ? left_ns : timeout_ns;
}

/*
 * Is all that we wait for on workers, and no processor left to spin on? The
 * last one is, as long as their answers are likely to come while we spin.
 */
static bool is_calm(const struct peal_reactor *reactor)
{
	uint32_t busy;

	if (reactor->workers == NULL || reactor->in_flight == 0)
		return false;
	busy = peal__workers_busy(reactor->workers);
	return busy >= reactor->cpu_count ||
	       (busy + 1 >= reactor->cpu_count && busy > 0 &&
	        reactor->mean_ticks > reactor->spin_ticks);
}

/* The wait runs callbacks, of those who come and go. */
static int wait(struct peal_reactor *reactor, uint64_t timeout_ns)
{
	uint64_t bound_ns;
	int result;

	peal__reactor_begin_pass(reactor);
	reactor->consumer->is_calm = is_calm(reactor);
	bound_ns = bounded(reactor, timeout_ns);
	result = peal_consumer_wait(reactor->consumer, bound_ns);
	peal__reactor_end_pass(reactor);
	/* It was something of our own that is due, not the caller's time. */
	return result == -ETIMEDOUT && bound_ns < timeout_ns ? 0 : result;
}

/* The wait looks at the bell first, so that all it rang for is seen. */
static int wait_and_pass(struct peal_reactor *reactor, uint64_t timeout_ns)
{
	int result = wait(reactor, timeout_ns);

	return result == -ESTALE ? result : pass(reactor, result);
}

int peal_reactor_run_once(struct peal_reactor *reactor, uint64_t timeout_ns)
{
	int result = peal__reactor_enter(reactor);

	if (result < 0)
		return result;
	if (reactor->is_over)
		return -ESHUTDOWN;
	return wait_and_pass(reactor, timeout_ns);
}

int peal_reactor_run(struct peal_reactor *reactor)
{
	int result = peal__reactor_enter(reactor);

	if (result < 0)
		return result;
	while (!reactor->is_over)
		if (wait_and_pass(reactor, PEAL_FOREVER) == -ESTALE)
			return -ESTALE;
	return reactor->over_result;
}

int peal_reactor_fd(const struct peal_reactor *reactor)
{
	return peal_consumer_fd(reactor->consumer);
}

int peal_reactor_prepare(struct peal_reactor *reactor, uint64_t *ret_timeout_ns)
{
	uint64_t due_ns, now_ns;
	int result = peal__reactor_enter(reactor);

	if (result < 0)
		return result;
	if (reactor->is_over)
		return 1; /* dispatch tells it */
	peal__reactor_begin_pass(reactor);
	result = peal_consumer_prepare(reactor->consumer);
	peal__reactor_end_pass(reactor);
	if (result < 0)
		return result;
	due_ns = next_due_ns(reactor);
	now_ns = due_ns == PEAL__NEVER ? 0 : peal__clock_ns();
	if (due_ns <= now_ns && result == 0) {
		peal_doorbell_disarm(&reactor->consumer->sleeper);
		result = 1;
	}
	if (ret_timeout_ns != NULL)
		*ret_timeout_ns = due_ns == PEAL__NEVER ? PEAL_FOREVER
		                  : due_ns > now_ns     ? due_ns - now_ns
		                                        : 0;
	return result;
}

int peal_reactor_dispatch(struct peal_reactor *reactor)
{
	int result = peal__reactor_enter(reactor);

	if (result < 0)
		return result;
	if (reactor->is_over)
		return -ESHUTDOWN;
	peal__reactor_begin_pass(reactor);
	result = peal_consumer_dispatch(reactor->consumer);
	peal__reactor_end_pass(reactor);
	return result < 0 ? result : pass(reactor, 0);
}
