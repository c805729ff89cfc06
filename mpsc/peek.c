/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/cpu.h"
#include "base/read.h"
#include "mpsc/server.h"

#define CLOSE_BYTES 4096
#define PASSES_PER_CHORES 16

/*
 * A reader that follows its writer closely makes both wait for every line. At
 * the end of a whole turn we look how far ahead the writer is, and if that is
 * little fall back. Where it is is the client's word: a lie costs a pause.
 */
static void keep_distance(const struct peal_consumer *consumer)
{
	const struct peal__slot *slot = consumer->current;

	if (slot == NULL || consumer->owner != NULL ||
	    consumer->hot.turn_left != 0 || consumer->scan.hot_count != 1)
		return;
	if (peal__read_once(&slot->segment->word.position) - slot->rx.head <
	    CLOSE_BYTES)
		peal__cpu_pause_for(PEAL__PAUSES_MAX);
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

	if (peal__consumer_was_forked(consumer))
		return -ESTALE;
	if (hot->turn_left != 0)
		error = take_message(hot, ret_message);
	if (error == 0)
		return 0; /* it came just now */
	if (error == -EPROTO)
		peal__drain_retire(consumer, consumer->current, error);
	keep_distance(consumer);
	peal__drain_end_turn(consumer);
	if (++consumer->pass_count % PASSES_PER_CHORES == 0)
		peal__consumer_do_chores(consumer);
	peal__drain_take_changes(consumer);
	while ((slot_index = peal__scan_next(&consumer->scan)) != UINT32_MAX) {
		struct peal__slot *slot = &consumer->slots[slot_index];

		peal__drain_begin_turn(consumer, slot);
		/* Beyond the end of one that hung up nobody published. */
		error = slot->rx.head < slot->drain_end
		                ? take_message(hot, ret_message)
		                : 1;
		if (error == 0)
			return 0;
		/* What the scan saw cannot go away by itself. */
		peal__drain_retire(consumer, slot, error == 1 ? 0 : -EPROTO);
	}
	if (consumer->current != NULL)
		peal__drain_begin_turn(consumer, consumer->current);
	return -EAGAIN;
}

void peal__consumer_release_slowly(struct peal_consumer *consumer,
                                   const struct peal_message *message)
{
	struct peal__slot *slot;

	if (peal__consumer_was_forked(consumer) ||
	    message->peer.slot_index >= consumer->slot_max)
		return;
	slot = &consumer->slots[message->peer.slot_index];
	/* A slot we know is ours until we finish it, so its generation may be
	 * looked at; another's message has another generation. */
	if (!slot->known || slot->peer.generation != message->peer.generation)
		return;
	peal_ring_release(&slot->rx, message);
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

	if (peal__consumer_was_forked(consumer))
		return false;
	/* In the middle of a turn the scan does not know how far it went. */
	if (current != NULL && peal_ring_has_data(&current->rx))
		return true;
	if (peal__scan_has_data(&consumer->scan,
	                        current == NULL ? UINT32_MAX
	                                        : current->peer.slot_index))
		return true;
	/* The scan does not know a ring that has come since, and it is the peek
	 * that takes it in. Relaxed: that one acquires, with S3. */
	return peal__read_once(&consumer->changes) != consumer->changes_seen;
}
