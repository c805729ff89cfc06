/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/hooks.h"
#include "base/read.h"
#include "mpsc/admission.h"
#include "mpsc/server.h"

/* A producer that waits for room learns of it once this much came back. */
#define TELL_SHARE 8
#define TURNS_PER_CLOCK 256

/* Store what was released where the producer looks, and ring it if it sleeps
 * until so much is free; earlier rings would be in vain and dear. */
static void settle(struct peal_consumer *consumer, struct peal__slot *slot)
{
	uint64_t arm, want;

	peal_ring_settle(&slot->rx);
	if (slot->unsettled) {
		slot->unsettled = false;
		consumer->unsettled_count--;
	}
	PEAL__HOOK("drain: told");
	arm = peal__doorbell_armed(&slot->space);
	if (PEAL_LIKELY(arm == 0))
		return;
	want = peal__read_once(&slot->segment->space.want);
	/* The wish is the producer's word: a wild one costs it its own ring. */
	if ((int64_t)(slot->rx.told - want) >= 0)
		peal__doorbell_ring_armed(&slot->space, arm);
}

void peal__drain_wake(struct peal__slot *slot)
{
	uint64_t arm = peal__doorbell_armed(&slot->space);

	if (arm != 0)
		peal__doorbell_ring_armed(&slot->space, arm);
}

void peal__drain_tell(struct peal_consumer *consumer, struct peal__slot *slot)
{
	peal_ring_tell(&slot->rx);
	if (!slot->unsettled) {
		slot->unsettled = true;
		consumer->unsettled_count++;
	}
	/* Relaxed: mostly it tells that nobody waits; who begins to wait just
	 * now is found when this is settled. */
	if (peal__load(slot->space.arm, __ATOMIC_RELAXED) != 0)
		settle(consumer, slot);
}

void peal__drain_settle_all(struct peal_consumer *consumer)
{
	const struct peal__scan *scan = &consumer->scan;

	for (uint32_t i = 0; i < scan->count && consumer->unsettled_count > 0;
	     i++) {
		struct peal__slot *slot =
			&consumer->slots[scan->entries[i].slot_index];

		if (slot->unsettled)
			settle(consumer, slot);
	}
}

/* Counters go to the status region once a turn; nobody waits for them. The
 * clock is read when there was a pause, or it is time. */
static void show_counters(struct peal_consumer *consumer,
                          const struct peal__slot *slot)
{
	struct peal__status_slot *row =
		&consumer->status_slots[slot->peer.slot_index];

	if (consumer->clock_is_old ||
	    ++consumer->turn_count % TURNS_PER_CLOCK == 0) {
		consumer->active_ns = peal__clock_ns();
		consumer->clock_is_old = false;
	}
	peal__write_once(&row->message_count, slot->message_count);
	peal__write_once(&row->payload_bytes, slot->payload_bytes);
	peal__write_once(&row->active_ns, consumer->active_ns);
}

static bool is_drained(const struct peal__slot *slot)
{
	return slot->rx.head >= slot->drain_end ||
	       !peal_ring_has_data(&slot->rx);
}

/* What the inline half of peek has counted goes to the slot. What is left of
 * the turn stays: a user who waits between two messages is no less fair. */
static void fold_turn(struct peal_consumer *consumer, struct peal__slot *slot)
{
	struct peal__consumer_hot *hot = &consumer->hot;
	uint32_t taken = consumer->turn_folded - hot->turn_left;

	if (taken == 0)
		return;
	consumer->turn_folded = hot->turn_left;
	slot->message_count += taken;
	slot->payload_bytes += hot->payload_bytes;
	hot->payload_bytes = 0;
	consumer->drained_count += taken;
	peal__scan_moved(&consumer->scan, slot);
	show_counters(consumer, slot);
}

void peal__drain_begin_turn(struct peal_consumer *consumer,
                            struct peal__slot *slot)
{
	consumer->current = slot;
	consumer->hot.rx = &slot->rx;
	consumer->hot.peer = slot->peer;
	consumer->hot.tell_bytes = slot->tell_bytes;
	consumer->hot.turn_left = consumer->turn_budget;
	consumer->turn_folded = consumer->turn_budget;
	consumer->peer_cpu = &slot->segment->word.cpu;
}

void peal__drain_end_turn(struct peal_consumer *consumer)
{
	struct peal__slot *slot = consumer->current;

	if (slot == NULL)
		return;
	fold_turn(consumer, slot);
	if (PEAL_UNLIKELY(slot->drain_end != UINT64_MAX))
		peal__drain_check(consumer, slot);
	else if (slot->rx.released != slot->rx.told)
		peal__drain_tell(consumer, slot);
}

void peal__drain_forget_turn(struct peal_consumer *consumer)
{
	consumer->current = NULL;
	consumer->hot.turn_left = 0;
	consumer->turn_folded = 0;
	consumer->hot.peer = (struct peal_peer){.slot_index = UINT32_MAX};
}

void peal__drain_released(struct peal_consumer *consumer,
                          struct peal__slot *slot)
{
	if (slot->drain_end != UINT64_MAX) {
		if (slot != consumer->current)
			peal__drain_check(consumer, slot);
	} else if (slot->parked) {
		settle(consumer, slot); /* pauses do not look at it */
	} else if (slot->rx.released - slot->rx.told >= slot->tell_bytes) {
		peal__drain_tell(consumer, slot);
	} else if (!slot->unsettled) {
		/* Little, and it may not have a turn soon: in the next pause. */
		slot->unsettled = true;
		consumer->unsettled_count++;
	}
}

/* Nobody looks at the segment any more: admission may take it away. */
static void finish(struct peal_consumer *consumer, struct peal__slot *slot)
{
	slot->known = false;
	PEAL__HOOK("drain: finished");
	/* S1: pairs with S2 in admission: it unmaps what we have left. */
	__atomic_store_n(&slot->state, PEAL__SLOT_DONE, __ATOMIC_RELEASE);
	peal__admission_poke(consumer->admission);
}

/* Its client learns of it now, however long its memory is needed here. */
static void have_it_told(struct peal_consumer *consumer,
                         struct peal__slot *slot)
{
	uint32_t expected = PEAL__SLOT_LIVE;

	PEAL__HOOK("drain: evicts");
	/* S7: pairs with S2 in admission, which reads why. It fails, and
	 * nobody has to be told, when the client has hung up before: S6. */
	if (__atomic_compare_exchange_n(&slot->state, &expected,
	                                PEAL__SLOT_EVICTED, false,
	                                __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		peal__admission_poke(consumer->admission);
}

/* Does nobody look at its segment any more? */
static bool is_let_go(const struct peal__slot *slot)
{
	return slot->rx.released == slot->rx.head && slot->hold_count == 0;
}

/* Counted once: in the row of the slot or among the past ones. */
static void move_counters(struct peal_consumer *consumer,
                          const struct peal__slot *slot)
{
	struct peal__status_slot *row =
		&consumer->status_slots[slot->peer.slot_index];
	struct peal_consumer_stats *totals = &consumer->totals;

	peal__write_once(&row->message_count, 0);
	peal__write_once(&row->payload_bytes, 0);
	totals->message_count += slot->message_count;
	totals->payload_bytes += slot->payload_bytes;
	peal__write_once(&consumer->status->past_message_count,
	                 totals->message_count);
	peal__write_once(&consumer->status->past_payload_bytes,
	                 totals->payload_bytes);
}

/* How much is lost of an evicted ring is the client's word, within its ring. */
static void count_dropped(struct peal_consumer *consumer,
                          const struct peal__slot *slot)
{
	uint64_t left =
		peal__read_once(&slot->segment->word.position) - slot->rx.head;

	if (left <= slot->rx.capacity_bytes)
		consumer->totals.dropped_bytes += left;
	peal__write_once(&consumer->status->dropped_bytes,
	                 consumer->totals.dropped_bytes);
}

void peal__drain_retire(struct peal_consumer *consumer, struct peal__slot *slot,
                        int error)
{
	if (consumer->current == slot) {
		fold_turn(consumer, slot);
		peal__drain_forget_turn(consumer);
	}
	if (slot->unsettled) {
		slot->unsettled = false;
		consumer->unsettled_count--;
	}
	if (consumer->peer_cpu == &slot->segment->word.cpu)
		consumer->peer_cpu = NULL;
	if (!slot->parked)
		peal__scan_remove(&consumer->scan, slot->peer.slot_index);
	move_counters(consumer, slot);
	if (error != 0)
		count_dropped(consumer, slot);
	slot->evict_error = error;
	slot->retired = true;
	slot->tell_bytes = 0; /* every release is looked at */
	consumer->draining_count -= slot->drain_end != UINT64_MAX;
	slot->drain_end = slot->rx.head;
	if (consumer->owner != NULL)
		consumer->owner->closed(
			consumer->owner->object, slot,
			error != 0 || slot->said_bye ? error : -ECONNRESET);
	/* Else it is told when it is DONE, which is now. */
	if (error != 0 && !is_let_go(slot))
		have_it_told(consumer, slot);
	peal__drain_check(consumer, slot);
}

void peal__drain_park(struct peal_consumer *consumer, struct peal__slot *slot)
{
	if (slot->parked)
		return;
	if (consumer->current == slot) {
		fold_turn(consumer, slot);
		peal__drain_forget_turn(consumer);
	}
	peal__scan_remove(&consumer->scan, slot->peer.slot_index);
	slot->parked = true;
	settle(consumer, slot);
}

void peal__drain_unpark(struct peal_consumer *consumer, struct peal__slot *slot)
{
	if (!slot->parked)
		return;
	slot->parked = false;
	peal__scan_add(&consumer->scan, slot);
}

void peal__drain_check(struct peal_consumer *consumer, struct peal__slot *slot)
{
	if (!slot->retired) {
		if (is_drained(slot))
			peal__drain_retire(consumer, slot, 0);
	} else if (is_let_go(slot)) {
		/* Until now views that somebody holds kept the memory. */
		finish(consumer, slot);
	}
}

static void take(struct peal_consumer *consumer, struct peal__slot *slot)
{
	struct peal__segment *segment = slot->segment;

	peal_ring_rx_init(&slot->rx,
	                  peal__segment_data(segment, &slot->shape,
	                                     PEAL__RING_REQUEST),
	                  slot->shape.rings[PEAL__RING_REQUEST].bytes,
	                  slot->shape.rings[PEAL__RING_REQUEST].start,
	                  peal__segment_released(segment, PEAL__RING_REQUEST));
	slot->space = (struct peal_ringer){
		.arm = &segment->space.arm,
		.seq = &segment->space.seq,
		.is_clients = 1,
		.fd = slot->socket_fd,
	};
	slot->tell_bytes = slot->rx.capacity_bytes / TELL_SHARE;
	slot->message_count = 0;
	slot->payload_bytes = 0;
	slot->drain_end = UINT64_MAX;
	slot->unsettled = false;
	slot->parked = false;
	slot->retired = false;
	slot->hold_count = 0;
	slot->known = true;
	peal__scan_add(&consumer->scan, slot);
	if (consumer->owner != NULL)
		consumer->owner->opened(consumer->owner->object, slot);
}

/* What was published before a death is within one capacity: whoever still maps
 * the ring may go on writing. */
static void begin_to_drain(struct peal_consumer *consumer,
                           struct peal__slot *slot)
{
	const struct peal__owner *owner = consumer->owner;
	bool reads_on = owner == NULL || (owner->reads_on != NULL &&
	                                  owner->reads_on(owner->object, slot));

	slot->drain_end = reads_on ? slot->rx.told + slot->rx.capacity_bytes
	                           : slot->rx.head;
	slot->tell_bytes = 0; /* every release is looked at */
	consumer->draining_count++;
	if (slot == consumer->current)
		consumer->hot.tell_bytes = 0;
	peal__drain_check(consumer, slot);
}

void peal__drain_check_all(struct peal_consumer *consumer)
{
	for (uint32_t i = 0;
	     i < consumer->slot_max && consumer->draining_count > 0; i++) {
		struct peal__slot *slot = &consumer->slots[i];

		if (slot->known && !slot->retired &&
		    slot->drain_end != UINT64_MAX)
			peal__drain_check(consumer, slot);
	}
}

void peal__drain_take_changes(struct peal_consumer *consumer)
{
	/* S3: pairs with S4 in peal__admission_announce(). */
	uint32_t changes =
		__atomic_load_n(&consumer->changes, __ATOMIC_ACQUIRE);

	if (changes == consumer->changes_seen)
		return;
	consumer->changes_seen = changes;
	for (uint32_t i = 0; i < consumer->slot_max; i++) {
		struct peal__slot *slot = &consumer->slots[i];
		/* S5: pairs with S6 and S13 in seat.c, which made the slot. */
		uint32_t state =
			__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

		if (state != PEAL__SLOT_LIVE && state != PEAL__SLOT_HUNG_UP)
			continue;
		if (!slot->known)
			take(consumer, slot);
		if (state == PEAL__SLOT_LIVE || slot->drain_end != UINT64_MAX)
			continue;
		begin_to_drain(consumer, slot);
	}
}
