/* SPDX-License-Identifier: MIT */
#include "peal/mpsc.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/hooks.h"
#include "base/random.h"
#include "base/read.h"
#include "mpsc/admission.h"
#include "mpsc/options.h"
#include "mpsc/server.h"

#ifdef PEAL_NO_BOUNDED_SLEEP
#define SLEEP_MAX_NS PEAL__NEVER
#else
#define SLEEP_MAX_NS PEAL__NS_PER_S /* a net below the proof, never needed */
#endif
#define PAUSES_MAX 64
#define CLOSE_BYTES 4096
#define PASSES_PER_CHORES 16

static bool was_forked(const struct peal_consumer *consumer)
{
	return PEAL_UNLIKELY(consumer->fork_generation !=
	                     peal__fork_generation());
}

/* The memory of one that has no regions and no admission. */
static void free_consumer(struct peal_consumer *consumer)
{
	peal__scan_close(&consumer->scan);
	free(consumer->slots);
	free(consumer);
}

static struct peal_consumer *
allocate(const struct peal_consumer_options *options)
{
	struct peal_consumer *consumer =
		aligned_alloc(64, (sizeof(*consumer) + 63) & ~(size_t)63);
	uint32_t generation = (uint32_t)peal__random();

	if (consumer == NULL)
		return NULL;
	*consumer = (struct peal_consumer){
		.fork_generation = peal__fork_generation(),
		.turn_budget = options->turn_budget,
		.slot_max = options->producer_max,
		.wait_mode = options->wait_mode,
		.notify_fd = -1,
	};
	peal__drain_forget_turn(consumer);
	consumer->slots = calloc(consumer->slot_max, sizeof(*consumer->slots));
	if (consumer->slots == NULL ||
	    peal__scan_open(&consumer->scan, consumer->slot_max) < 0) {
		free_consumer(consumer);
		return NULL;
	}
	for (uint32_t i = 0; i < consumer->slot_max; i++)
		consumer->slots[i].peer = (struct peal_peer){
			.slot_index = i,
			.generation = generation == 0 ? 1 : generation,
		};
	return consumer;
}

static int open_consumer(const struct peal_consumer_options *options,
                         struct peal_consumer *consumer)
{
	int region_fds[PEAL__REGION_COUNT], error;
	const char *label = options->name != NULL ? options->name : "";

	if (consumer->wait_mode == PEAL_WAIT_FD) {
		consumer->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (consumer->notify_fd < 0)
			return peal__fail(options->ret_failure, -errno,
			                  "no descriptor to be had");
	}
	error = peal__regions_open(consumer, label, options->numa_node,
	                           region_fds, options->ret_failure);
	if (error == 0) {
		peal_doorbell_init(&consumer->sleeper, &consumer->arm_page->arm,
		                   &consumer->bell_page->seq,
		                   consumer->wait_mode == PEAL_WAIT_FD
		                           ? PEAL_DOORBELL_FD
		                           : PEAL_DOORBELL_FUTEX);
		peal__spin_init(&consumer->spin,
		                (enum peal__spin_mode)options->spin_mode,
		                options->spin_ns);
		error = peal__admission_open(consumer, options, region_fds);
		if (error < 0) {
			for (int i = 0; i < PEAL__REGION_COUNT; i++)
				close(region_fds[i]);
			peal__regions_close(consumer);
		}
	}
	if (error < 0 && consumer->notify_fd >= 0)
		close(consumer->notify_fd);
	return error;
}

int peal_consumer_open(const struct peal_consumer_options *options,
                       struct peal_consumer **ret_consumer)
{
	struct peal_consumer_options known = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	int saved_errno = errno;
	int error = peal__consumer_options_check(options, &known);

	if (error < 0)
		return error;
	if (ret_consumer == NULL)
		return peal__fail(known.ret_failure, -EINVAL,
		                  "ret_consumer is NULL");
	consumer = allocate(&known);
	if (consumer == NULL)
		return peal__fail(known.ret_failure, -ENOMEM,
		                  "not enough memory for %u slots",
		                  known.producer_max);
	error = open_consumer(&known, consumer);
	errno = saved_errno;
	if (error < 0) {
		free_consumer(consumer);
		return error;
	}
	*ret_consumer = consumer;
	return 0;
}

int peal_consumer_close(struct peal_consumer *consumer)
{
	int saved_errno = errno;
	bool forked;

	if (consumer == NULL)
		return 0;
	forked = was_forked(consumer);
	if (!forked) {
		peal__drain_end_turn(consumer);
		peal__write_once(&consumer->status->state, PEAL__STATUS_CLOSED);
		/* B9: pairs with B1 and B10: producers stop ringing, and
		 * look. */
		__atomic_store_n(&consumer->arm_page->arm,
		                 ++consumer->sleeper.epoch << 2 |
		                         PEAL_DOORBELL_CLOSED,
		                 __ATOMIC_SEQ_CST);
		PEAL__HOOK("close: marked");
	}
	peal__admission_close(consumer, forked);
	if (!forked)
		peal__regions_close(consumer);
	if (consumer->notify_fd >= 0)
		close(consumer->notify_fd);
	free_consumer(consumer);
	errno = saved_errno;
	return 0;
}

static void begin_turn(struct peal_consumer *consumer, struct peal__slot *slot)
{
	consumer->current = slot;
	consumer->hot.rx = &slot->rx;
	consumer->hot.peer = slot->peer;
	consumer->hot.tell_bytes = slot->tell_bytes;
	consumer->hot.turn_left = consumer->turn_budget;
	consumer->peer_cpu = &slot->segment->word.cpu;
}

/* What is mostly done in a pause must not wait for ever when there is none: a
 * producer may sleep until it is settled, and in fd mode nobody else looks at
 * the door. */
static __attribute__((noinline)) void do_chores(struct peal_consumer *consumer)
{
	peal__drain_settle_all(consumer);
	if (consumer->wait_mode == PEAL_WAIT_FD)
		peal__admission_run(consumer->admission, 0);
}

static void pause_for(uint32_t count)
{
	while (count-- > 0)
		peal__cpu_pause();
}

/*
 * A reader that follows its writer closely makes both wait for every line. At
 * the end of a whole turn we look how far ahead the writer is, and if that is
 * little fall back. Where it is is the client's word: a lie costs a pause.
 */
static void keep_distance(const struct peal_consumer *consumer)
{
	const struct peal__slot *slot = consumer->current;

	if (slot == NULL || consumer->hot.turn_left != 0 ||
	    consumer->scan.hot_count != 1)
		return;
	if (peal__read_once(&slot->segment->word.position) - slot->rx.head <
	    CLOSE_BYTES)
		pause_for(PAUSES_MAX);
}

/* 0, -EAGAIN, -EPROTO. */
static int take_message(struct peal__consumer_hot *hot,
                        struct peal_message *ret_message)
{
	int error = peal_ring_peek(hot->rx, ret_message);

	if (error < 0)
		return error;
	hot->turn_left--;
	hot->payload_bytes += ret_message->data_bytes;
	ret_message->peer = hot->peer;
	return 0;
}

/*
 * The turn is over, or the ring empty, or its bytes make no sense: whose turn
 * is it? When nobody has anything the current slot keeps its turn, so that its
 * next message is found without a search.
 */
int peal__consumer_peek_slowly(struct peal_consumer *consumer,
                               struct peal_message *ret_message)
{
	struct peal__consumer_hot *hot = &consumer->hot;
	uint32_t slot_index;
	int error = -EAGAIN;

	if (was_forked(consumer))
		return -ESTALE;
	if (hot->turn_left != 0)
		error = take_message(hot, ret_message);
	if (error == 0)
		return 0; /* it came just now */
	if (error == -EPROTO)
		peal__drain_finish(consumer, consumer->current, error);
	keep_distance(consumer);
	peal__drain_end_turn(consumer);
	if (++consumer->pass_count % PASSES_PER_CHORES == 0)
		do_chores(consumer);
	peal__drain_take_changes(consumer);
	while ((slot_index = peal__scan_next(&consumer->scan)) != UINT32_MAX) {
		begin_turn(consumer, &consumer->slots[slot_index]);
		if (take_message(hot, ret_message) == 0)
			return 0;
		/* What the scan saw cannot go away by itself. */
		peal__drain_finish(consumer, consumer->current, -EPROTO);
	}
	return -EAGAIN;
}

void peal__consumer_release_slowly(struct peal_consumer *consumer,
                                   const struct peal_message *message)
{
	struct peal__slot *slot;

	if (was_forked(consumer) ||
	    message->peer.slot_index >= consumer->slot_max)
		return;
	slot = &consumer->slots[message->peer.slot_index];
	/* A slot we know is ours until we finish it, so its generation may be
	 * looked at; another's message has another generation. */
	if (!slot->known || slot->peer.generation != message->peer.generation)
		return;
	peal_ring_release(&slot->rx, message->peal__end);
	if (slot->rx.released - slot->rx.told >= slot->tell_bytes)
		peal__drain_released(consumer, slot);
}

/* The functions behind the macros, for those who cannot include a header. */
int(peal_consumer_peek)(struct peal_consumer *consumer,
                        struct peal_message *ret_message)
{
	return peal__consumer_peek(consumer, ret_message);
}

void(peal_consumer_release)(struct peal_consumer *consumer,
                            const struct peal_message *message)
{
	peal__consumer_release(consumer, message);
}

bool peal_consumer_has_data(const struct peal_consumer *consumer)
{
	const struct peal__slot *current = consumer->current;

	if (was_forked(consumer))
		return false;
	if (current == NULL)
		return peal__scan_has_data(&consumer->scan, UINT32_MAX);
	/* In the middle of a turn the scan does not know how far it went. */
	return peal_ring_has_data(&current->rx) ||
	       peal__scan_has_data(&consumer->scan, current->peer.slot_index);
}

void peal_consumer_notify(struct peal_consumer *consumer)
{
	if (was_forked(consumer))
		return;
	/* N1: pairs with N2 in take_notice(). */
	__atomic_store_n(&consumer->notified, 1, __ATOMIC_RELEASE);
	peal_doorbell_notify(&consumer->arm_page->arm,
	                     &consumer->bell_page->seq, consumer->notify_fd);
}

static bool look_soon(void *object)
{
	struct peal_consumer *consumer = object;

	return peal__scan_poll(&consumer->scan);
}

static bool look_final(void *object)
{
	struct peal_consumer *consumer = object;

	return peal__scan_has_data(&consumer->scan, UINT32_MAX);
}

/* Idle for a moment: what was put off for the sake of speed is done now. */
static void settle(void *object)
{
	struct peal_consumer *consumer = object;
	int32_t cpu = peal__cpu_current();

	peal__drain_settle_all(consumer);
	consumer->clock_is_old = true;
	if (cpu != consumer->cpu) {
		consumer->cpu = cpu;
		peal__write_once(&consumer->arm_page->cpu, cpu);
	}
	peal__write_once(&consumer->status->sleep_count,
	                 consumer->spin.sleep_count);
	/* Nobody else admits in fd mode, and a spin may go on for ever. */
	if (consumer->wait_mode == PEAL_WAIT_FD)
		peal__admission_run(consumer->admission, 0);
}

/* In fd mode the sleep is in epoll, and what wakes us is handled at once. */
static int sleep_in_epoll(void *object, uint64_t deadline_ns)
{
	struct peal_consumer *consumer = object;
	int saved_errno = errno;
	int count = peal__admission_run(consumer->admission,
	                                peal__deadline_to_poll_ms(deadline_ns));

	errno = saved_errno;
	return count > 0 || peal__clock_ns() < deadline_ns ? 0 : -ETIMEDOUT;
}

/* Take note of the bell and of what it rang for: true if it was the user. */
static bool take_notice(struct peal_consumer *consumer)
{
	peal_doorbell_look(&consumer->sleeper);
	peal__drain_take_changes(consumer);
	/* N2: pairs with N1; the plain look first, since it is mostly 0. */
	return peal__read_once(&consumer->notified) != 0 &&
	       __atomic_exchange_n(&consumer->notified, 0, __ATOMIC_ACQUIRE) !=
	               0;
}

/* Past the deadline, or asked not to wait. */
static int look_once(const struct peal_consumer *consumer)
{
	return peal__scan_has_data(&consumer->scan, UINT32_MAX) ? 0
	                                                        : -ETIMEDOUT;
}

/* Who has just drained several messages steals the line from a producer that
 * is about to write the next ones, if it looks again at once. */
static void let_them_write(struct peal_consumer *consumer)
{
	uint32_t pauses = consumer->drained_count;

	consumer->drained_count = 0;
	if (pauses >= 2)
		pause_for(pauses < PAUSES_MAX ? pauses : PAUSES_MAX);
}

int peal_consumer_wait(struct peal_consumer *consumer, uint64_t timeout_ns)
{
	struct peal__spin_look look = {
		.soon = look_soon,
		.final = look_final,
		.settle = settle,
		.sleep = consumer->wait_mode == PEAL_WAIT_FD ? sleep_in_epoll
	                                                     : NULL,
		.object = consumer,
	};
	struct peal__spin_limit limit = {timeout_ns, 0, SLEEP_MAX_NS};
	int result;

	if (was_forked(consumer))
		return -ESTALE;
	peal__drain_end_turn(consumer);
	let_them_write(consumer);
	for (;;) {
		if (take_notice(consumer))
			return 0;
		if (timeout_ns == 0)
			return look_once(consumer);
		/* Anew every time: its segment goes with its producer. */
		look.peer_cpu = consumer->peer_cpu;
		result = peal__spin_wait(&consumer->spin, &consumer->sleeper,
		                         &look, &limit);
		if (result == PEAL__SPIN_WORK)
			return 0;
		if (result == -ETIMEDOUT)
			return look_once(consumer);
		consumer->clock_is_old = true;
	}
}

int peal_consumer_fd(const struct peal_consumer *consumer)
{
	if (was_forked(consumer))
		return -ESTALE;
	if (consumer->wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	return peal__admission_fd(consumer->admission);
}

int peal_consumer_prepare(struct peal_consumer *consumer)
{
	if (was_forked(consumer))
		return -ESTALE;
	if (consumer->wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	peal__drain_end_turn(consumer);
	if (take_notice(consumer) ||
	    peal__scan_has_data(&consumer->scan, UINT32_MAX))
		return 1;
	peal__drain_settle_all(consumer);
	peal_doorbell_arm(&consumer->sleeper);
	if (!peal__scan_has_data(&consumer->scan, UINT32_MAX) &&
	    !peal_doorbell_changed(&consumer->sleeper))
		return 0;
	peal_doorbell_disarm(&consumer->sleeper);
	return 1;
}

int peal_consumer_dispatch(struct peal_consumer *consumer)
{
	int saved_errno = errno;

	if (was_forked(consumer))
		return -ESTALE;
	if (consumer->wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	peal_doorbell_disarm(&consumer->sleeper);
	peal__drain_end_turn(consumer);
	peal__admission_run(consumer->admission, 0);
	take_notice(consumer);
	consumer->clock_is_old = true;
	errno = saved_errno;
	return 0;
}

int peal_consumer_peer_info(const struct peal_consumer *consumer,
                            struct peal_peer peer,
                            struct peal_peer_info *ret_info)
{
	const struct peal__slot *slot;

	if (was_forked(consumer) || peer.slot_index >= consumer->slot_max)
		return -ESTALE;
	slot = &consumer->slots[peer.slot_index];
	if (!slot->known || slot->peer.generation != peer.generation)
		return -ESTALE;
	*ret_info = slot->info;
	return 0;
}

int peal_consumer_stats(const struct peal_consumer *consumer,
                        struct peal_consumer_stats *ret_stats)
{
	if (was_forked(consumer))
		return -ESTALE;
	*ret_stats = consumer->totals;
	for (uint32_t i = 0; i < consumer->scan.count; i++) {
		const struct peal__slot *slot =
			&consumer->slots[consumer->scan.entries[i].slot_index];

		ret_stats->message_count += slot->message_count;
		ret_stats->payload_bytes += slot->payload_bytes;
	}
	if (consumer->current != NULL) {
		ret_stats->message_count +=
			consumer->turn_budget - consumer->hot.turn_left;
		ret_stats->payload_bytes += consumer->hot.payload_bytes;
	}
	ret_stats->sleep_count = consumer->spin.sleep_count;
	peal__admission_stats(consumer->admission, ret_stats);
	return 0;
}
