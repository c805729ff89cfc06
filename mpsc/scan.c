/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "base/hooks.h"
#include "mpsc/server.h"

#define HOT_PASSES 64 /* passes without a message that make a ring cold */
#define COLD_SHARE 8  /* cold rings that one pass looks at */
#define NONE UINT32_MAX

int peal__scan_open(struct peal__scan *scan, uint32_t slot_max)
{
	*scan = (struct peal__scan){
		.entries = calloc(slot_max, sizeof(*scan->entries)),
		.places = calloc(slot_max, sizeof(*scan->places)),
	};
	if (scan->entries != NULL && scan->places != NULL)
		return 0;
	peal__scan_close(scan);
	return -ENOMEM;
}

void peal__scan_close(struct peal__scan *scan)
{
	free(scan->entries);
	free(scan->places);
	*scan = (struct peal__scan){0};
}

static void swap(struct peal__scan *scan, uint32_t a, uint32_t b)
{
	struct peal__scan_entry entry = scan->entries[a];

	scan->entries[a] = scan->entries[b];
	scan->entries[b] = entry;
	scan->places[scan->entries[a].slot_index] = a;
	scan->places[scan->entries[b].slot_index] = b;
}

/* A new ring is hot: its first message is probably on its way. */
void peal__scan_add(struct peal__scan *scan, const struct peal__slot *slot)
{
	uint32_t place = scan->count++;

	scan->entries[place].slot_index = slot->peer.slot_index;
	scan->entries[place].idle_count = 0;
	scan->places[slot->peer.slot_index] = place;
	peal__scan_moved(scan, slot);
	swap(scan, place, scan->hot_count++);
}

void peal__scan_remove(struct peal__scan *scan, uint32_t slot_index)
{
	uint32_t place = scan->places[slot_index];

	if (place < scan->hot_count) {
		swap(scan, place, --scan->hot_count);
		place = scan->hot_count;
	}
	swap(scan, place, --scan->count);
}

static bool has_message(const struct peal__scan_entry *entry)
{
	/* R7: pairs with R3; the acquire that counts is R4. seq_cst because it
	 * is also the second look. */
	return peal__load(entry->commit, __ATOMIC_SEQ_CST) != 0;
}

/* The next cold ring with a message, of this pass's share; it becomes hot. */
static uint32_t next_cold(struct peal__scan *scan)
{
	uint32_t cold_count = scan->count - scan->hot_count;
	uint32_t share = cold_count < COLD_SHARE ? cold_count : COLD_SHARE;

	for (; share > 0; share--, scan->cold_next++) {
		struct peal__scan_entry *entry;

		if (scan->cold_next >= cold_count)
			scan->cold_next = 0;
		entry = &scan->entries[scan->hot_count + scan->cold_next];
		if (!has_message(entry))
			continue;
		entry->idle_count = 0;
		swap(scan, scan->hot_count + scan->cold_next, scan->hot_count);
		return scan->entries[scan->hot_count++].slot_index;
	}
	return NONE;
}

uint32_t peal__scan_next(struct peal__scan *scan)
{
	struct peal__scan_entry *entry;
	uint32_t slot_index;

	for (uint32_t left = scan->hot_count + 1; left > 0; left--) {
		if (scan->hot_next >= scan->hot_count) {
			/* A pass over the hot ones is complete. The cold ones
			 * have their share of every pass, or a busy ring would
			 * starve them; one that is found has its turn before
			 * the next pass begins. */
			scan->hot_next = 0;
			slot_index = next_cold(scan);
			if (slot_index != NONE || scan->hot_count == 0)
				return slot_index;
		}
		entry = &scan->entries[scan->hot_next];
		if (has_message(entry)) {
			entry->idle_count = 0;
			scan->hot_next++;
			return entry->slot_index;
		}
		/* The last hot ring takes the place of one gone cold, and is
		 * looked at next. One ring alone may stay. */
		if (++entry->idle_count >= HOT_PASSES && scan->hot_count > 1)
			swap(scan, scan->hot_next, --scan->hot_count);
		else
			scan->hot_next++;
	}
	return NONE;
}

bool peal__scan_poll(struct peal__scan *scan)
{
	uint32_t cold_count = scan->count - scan->hot_count;

	for (uint32_t i = 0; i < scan->hot_count; i++)
		if (has_message(&scan->entries[i]))
			return true;
	if (cold_count == 0)
		return false;
	if (scan->cold_next >= cold_count)
		scan->cold_next = 0;
	/* Where one is found the cursor stays, for the pass that takes it. */
	if (has_message(&scan->entries[scan->hot_count + scan->cold_next]))
		return true;
	scan->cold_next++;
	return false;
}

bool peal__scan_find(struct peal__scan *scan)
{
	for (uint32_t i = 0; i < scan->count; i++) {
		if (!has_message(&scan->entries[i]))
			continue;
		if (i >= scan->hot_count)
			scan->cold_next = i - scan->hot_count;
		return true;
	}
	return false;
}

static bool has_among(const struct peal__scan *scan, uint32_t count,
                      uint32_t but_slot)
{
	for (uint32_t i = 0; i < count; i++)
		if (scan->entries[i].slot_index != but_slot &&
		    has_message(&scan->entries[i]))
			return true;
	return false;
}

bool peal__scan_has_hot(const struct peal__scan *scan, uint32_t but_slot)
{
	return has_among(scan, scan->hot_count, but_slot);
}

bool peal__scan_has_data(const struct peal__scan *scan, uint32_t but_slot)
{
	return has_among(scan, scan->count, but_slot);
}
