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

#define DOOR_NS (100 * PEAL__NS_PER_US)
#define SHOW_NS (1 * PEAL__NS_PER_MS)

/* The memory of one that has no regions and no admission. */
static void free_consumer(struct peal_consumer *consumer)
{
	peal__scan_close(&consumer->scan);
	free(consumer->slots);
	free(consumer);
}

static struct peal_consumer *
allocate(const struct peal_consumer_options *options,
         const struct peal__owner *owner)
{
	struct peal_consumer *consumer =
		aligned_alloc(64, (sizeof(*consumer) + 63) & ~(size_t)63);
	uint32_t generation = (uint32_t)peal__random();

	if (consumer == NULL)
		return NULL;
	*consumer = (struct peal_consumer){
		.owner = owner,
		.fork_generation = peal__fork_generation(),
		.turn_budget = options->turn_budget,
		.slot_max = options->producer_max,
		.wait_mode = options->wait_mode,
		.notify_fd = -1,
		.door_ticks = peal__ns_to_ticks(DOOR_NS),
		.show_ticks = peal__ns_to_ticks(SHOW_NS),
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
	int error = peal__consumer_options_check(options, &known);

	if (error < 0)
		return error;
	if (ret_consumer == NULL)
		return peal__fail(known.ret_failure, -EINVAL,
		                  "ret_consumer is NULL");
	error = peal__consumer_open(&known, NULL, &consumer);
	if (error == 0)
		*ret_consumer = consumer;
	return error;
}

int peal__consumer_open(const struct peal_consumer_options *known,
                        const struct peal__owner *owner,
                        struct peal_consumer **ret_consumer)
{
	int saved_errno = errno, error;
	struct peal_consumer *consumer = allocate(known, owner);

	if (consumer == NULL) {
		errno = saved_errno;
		return peal__fail(known->ret_failure, -ENOMEM,
		                  "not enough memory for %u slots",
		                  known->producer_max);
	}
	/* Before there is a thread that tells the owner to stop. */
	*ret_consumer = consumer;
	error = open_consumer(known, consumer);
	errno = saved_errno;
	if (error < 0) {
		*ret_consumer = NULL;
		free_consumer(consumer);
	}
	return error;
}

int peal_consumer_close(struct peal_consumer *consumer)
{
	int saved_errno = errno;
	bool forked;

	if (consumer == NULL)
		return 0;
	forked = peal__consumer_was_forked(consumer);
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

int peal_consumer_peer_info(const struct peal_consumer *consumer,
                            struct peal_peer peer,
                            struct peal_peer_info *ret_info)
{
	const struct peal__slot *slot;

	if (ret_info == NULL)
		return -EINVAL;
	if (peal__consumer_was_forked(consumer) ||
	    peer.slot_index >= consumer->slot_max)
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
	if (ret_stats == NULL)
		return -EINVAL;
	if (peal__consumer_was_forked(consumer))
		return -ESTALE;
	*ret_stats = consumer->totals;
	for (uint32_t i = 0; i < consumer->slot_max; i++) {
		const struct peal__slot *slot = &consumer->slots[i];

		if (!slot->known || slot->retired)
			continue;
		ret_stats->message_count += slot->message_count;
		ret_stats->payload_bytes += slot->payload_bytes;
	}
	if (consumer->current != NULL) {
		ret_stats->message_count +=
			consumer->turn_folded - consumer->hot.turn_left;
		ret_stats->payload_bytes += consumer->hot.payload_bytes;
	}
	ret_stats->sleep_count = consumer->spin.sleep_count;
	peal__admission_stats(consumer->admission, ret_stats);
	return 0;
}
