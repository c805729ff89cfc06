/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/failure.h"
#include "base/random.h"
#include "base/read.h"
#include "reactor/options.h"
#include "reactor/reactor.h"

#define SHORT_NS (10 * PEAL__NS_PER_US)
#define BRISK_NS 250
#define TAKE_NS (100 * PEAL__NS_PER_US)
#define TINY_NS (2 * PEAL__NS_PER_US)

static void free_stashes(struct peal_reactor *reactor)
{
	for (uint32_t i = 0;
	     reactor->peers != NULL && i < reactor->options.client_max; i++)
		free(reactor->peers[i].stash);
}

/* The memory of one that has no consumer and no workers. */
static void free_reactor(struct peal_reactor *reactor)
{
	while (reactor->all != NULL) {
		struct peal__running *running = reactor->all;

		reactor->all = running->next_all;
		peal__buffer_free(&running->request.in);
		peal__buffer_free(&running->request.out);
		free(running);
	}
	free_stashes(reactor);
	peal__buffer_free(&reactor->answer);
	peal__completions_close(reactor->completions);
	free(reactor->peers);
	free(reactor->touched);
	free(reactor);
}

static uint32_t stash_count(const struct peal_reactor_options *options)
{
	uint32_t count = 1;

	/* With refusals there may be twice as many as the cap. */
	while (count < 2 * options->in_flight_per_client_max)
		count *= 2;
	return count;
}

static struct peal_reactor *allocate(const struct peal_reactor_options *known)
{
	struct peal_reactor *reactor = calloc(1, sizeof(*reactor));

	if (reactor == NULL)
		return NULL;
	reactor->options = *known;
	reactor->options.name = NULL;
	reactor->options.allow_uid = reactor->options.allow_gid = NULL;
	reactor->options.ret_failure = NULL;
	reactor->stash_count = stash_count(known);
	reactor->full_count = known->at_cap == PEAL_AT_CAP_STALL
	                              ? known->in_flight_max
	                              : UINT32_MAX;
	reactor->unrung_ticks = peal__ns_to_ticks(PEAL__UNRUNG_NS);
	reactor->short_ticks = peal__ns_to_ticks(SHORT_NS);
	reactor->brisk_ticks = peal__ns_to_ticks(BRISK_NS);
	reactor->tiny_ticks = peal__ns_to_ticks(TINY_NS);
	reactor->take_ticks = peal__ns_to_ticks(TAKE_NS);
	reactor->spin_ticks = peal__ns_to_ticks(known->spin_ns);
	reactor->cpu_count = (uint32_t)peal__cpu_online_count();
	peal__turns_init(&reactor->turns, known->spin_mode != PEAL_SPIN_NEVER);
	/* Nothing is known of the handlers: the first ones are not run here. */
	reactor->mean_ticks = 2 * reactor->short_ticks;
	reactor->can_dispatch = known->worker_count > 0 ||
	                        known->executor != NULL;
	reactor->call_id = peal__random();
	reactor->calls_due_ns = PEAL__NEVER;
	reactor->timers_due_ns = known->idle_timeout_ns == 0 &&
	                                         known->stall_timeout_ns == 0
	                                 ? PEAL__NEVER
	                                 : 0;
	reactor->completions = peal__completions_open();
	reactor->peers = calloc(known->client_max, sizeof(*reactor->peers));
	reactor->touched = calloc(known->client_max, sizeof(*reactor->touched));
	reactor->owner = (struct peal__owner){
		.role = PEAL__ROLE_CLIENT,
		.object = reactor,
		.has_work = peal__reactor_has_work,
		.settle = peal__reactor_settle,
		.show = peal__show,
		.opened = peal__peer_opened,
		.reads_on = peal__peer_reads_on,
		.closed = peal__peer_closed,
		.stop = peal__reactor_signalled,
		.stop_fd = known->stop_signals_fd,
	};
	if (reactor->completions == NULL || reactor->peers == NULL ||
	    reactor->touched == NULL) {
		free_reactor(reactor);
		return NULL;
	}
	return reactor;
}

int peal_reactor_open(const struct peal_reactor_options *options,
                      struct peal_reactor **ret_reactor)
{
	struct peal_reactor_options known = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_consumer_options door;
	struct peal_reactor *reactor;
	int saved_errno = errno;
	int error = peal__reactor_options_check(options, &known, &door);

	if (error < 0)
		return error;
	if (ret_reactor == NULL)
		return peal__fail(known.ret_failure, -EINVAL,
		                  "ret_reactor is NULL");
	reactor = allocate(&known);
	if (reactor != NULL && known.worker_count > 0)
		error = peal__workers_open(known.worker_count,
		                           &reactor->workers);
	errno = saved_errno;
	if (reactor == NULL)
		return peal__fail(known.ret_failure, -ENOMEM,
		                  "not enough memory for %u clients",
		                  known.client_max);
	if (error < 0)
		peal__fail(known.ret_failure, error,
		           "cannot start %u workers: %s", known.worker_count,
		           strerrordesc_np(-error));
	else
		error = peal__consumer_open(&door, &reactor->owner,
		                            &reactor->consumer);
	if (error < 0) {
		peal__workers_close(reactor->workers);
		free_reactor(reactor);
		return error;
	}
	*ret_reactor = reactor;
	return 0;
}

/* Does a handler run that we cannot wait for? */
static bool is_busy(const struct peal_reactor *reactor)
{
	for (const struct peal__running *running = reactor->all;
	     running != NULL; running = running->next_all)
		/* W4: pairs with W5 in run_work(). */
		if (!running->is_free &&
		    (__atomic_load_n(&running->flags, __ATOMIC_ACQUIRE) &
		     PEAL__ENDED) == 0)
			return true;
	return false;
}

/* The part of closing that runs callbacks and posts. 0 or -EBUSY. */
static int finish(struct peal_reactor *reactor)
{
	peal__reactor_complete_all(reactor);
	/* Who has been answered now is told now, though we may go on. */
	peal__peers_ring(reactor);
	if (is_busy(reactor))
		return -EBUSY;
	peal__workers_close(reactor->workers);
	peal__completions_see_off(reactor->completions);
	peal__reactor_complete_all(reactor);
	peal__peers_ring(reactor);
	for (uint32_t i = 0; i < reactor->options.client_max; i++)
		if (reactor->peers[i].is_open)
			peal__peer_closed(reactor, reactor->peers[i].slot,
			                  -ESHUTDOWN);
	return 0;
}

int peal_reactor_close(struct peal_reactor *reactor)
{
	int error;

	if (reactor == NULL)
		return 0;
	if (peal__consumer_was_forked(reactor->consumer)) {
		/* Of a handler: this thread has yet to come out of it. */
		if (peal__reactor_is_below_us(reactor))
			return -EDEADLK;
	} else {
		if (peal__reactor_is_calling_us(reactor))
			return -EDEADLK;
		peal__reactor_take_over(reactor);
		peal__reactor_begin_pass(reactor);
		/* Relaxed: a post that posts itself again does so here. */
		peal__write_once(&reactor->is_closing, true);
		error = finish(reactor);
		peal__write_once(&reactor->is_closing, error == 0);
		peal__reactor_end_pass(reactor);
		if (error < 0)
			return error;
	}
	peal_consumer_close(reactor->consumer);
	free_reactor(reactor);
	return 0;
}

int peal_reactor_disconnect(struct peal_reactor *reactor, struct peal_peer id)
{
	struct peal__peer *peer;

	if (peal__consumer_was_forked(reactor->consumer))
		return -ESTALE;
	if (!peal__reactor_is_mine(reactor))
		return -EINVAL;
	peer = peal__peer_find(reactor, id);
	if (peer == NULL)
		return -ESTALE;
	peal__peer_doom(peer, -ECONNABORTED);
	/* The next wait, if none is under way, is to be none. */
	peal_consumer_notify(reactor->consumer);
	return 0;
}

int peal_reactor_peer_info(const struct peal_reactor *reactor,
                           struct peal_peer peer,
                           struct peal_peer_info *ret_info)
{
	return peal_consumer_peer_info(reactor->consumer, peer, ret_info);
}

int peal_reactor_stats(const struct peal_reactor *reactor,
                       struct peal_reactor_stats *ret_stats)
{
	struct peal_reactor_stats stats = reactor->stats;
	int error = ret_stats == NULL ? -EINVAL
	                              : peal_consumer_stats(reactor->consumer,
	                                                    &stats.door);

	if (error < 0)
		return error;
	stats.running_count = stats.received_count - stats.answered_count -
	                      stats.failed_count - stats.dropped_count;
	*ret_stats = stats;
	return 0;
}
