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
	*scan = (struct peal__scan){0};
	scan->entries = calloc(slot_max, sizeof(*scan->entries));
	return scan->entries == NULL ? -ENOMEM : 0;
}

void peal__scan_close(struct peal__scan *scan)
{
	free(scan->entries);
	*scan = (struct peal__scan){0};
}

static void swap(struct peal__scan *scan, uint32_t a, uint32_t b)
{
	struct peal__scan_entry entry = scan->entries[a];

	scan->entries[a] = scan->entries[b];
	scan->entries[b] = entry;
}

static uint32_t find(const struct peal__scan *scan, uint32_t slot_index)
{
	for (uint32_t i = 0; i < scan->count; i++)
		if (scan->entries[i].slot_index == slot_index)
			return i;
	return NONE;
}

static const uint32_t *next_commit(const struct peal__slot *slot)
{
	return &peal__ring_frame(slot->rx.data, slot->rx.capacity_bytes,
				 slot->rx.head)
			->commit;
}

/* A new ring is hot: its first message is probably on its way. */
void peal__scan_add(struct peal__scan *scan, const struct peal__slot *slot)
{
	scan->entries[scan->count] = (struct peal__scan_entry){
		.commit = next_commit(slot),
		.slot_index = slot->peer.slot_index,
	};
	swap(scan, scan->count++, scan->hot_count++);
}

void peal__scan_remove(struct peal__scan *scan, uint32_t slot_index)
{
	uint32_t i = find(scan, slot_index);

	if (i == NONE)
		return;
	if (i < scan->hot_count) {
		swap(scan, i, --scan->hot_count);
		i = scan->hot_count;
	}
	swap(scan, i, --scan->count);
}

static bool has_message(const struct peal__scan_entry *entry)
{
	/* R7: pairs with R3; the acquire that counts is R4's. seq_cst because
	 * it is also the second look after B2. */
	return __atomic_load_n(entry->commit, __ATOMIC_SEQ_CST) != 0;
}

/* The next cold ring with a message, of this pass's share; it becomes hot. */
static struct peal__scan_entry *next_cold(struct peal__scan *scan)
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
		return &scan->entries[scan->hot_count++];
	}
	return NULL;
}

struct peal__scan_entry *peal__scan_next(struct peal__scan *scan)
{
	struct peal__scan_entry *entry;

	for (uint32_t left = scan->hot_count + 1; left > 0; left--) {
		if (scan->hot_next >= scan->hot_count) {
			/* A pass over the hot ones is complete. The cold ones
			 * have their share of every pass, or a busy ring would
			 * starve them; one that is found has its turn before
			 * the next pass begins. */
			scan->hot_next = 0;
			entry = next_cold(scan);
			if (entry != NULL || scan->hot_count == 0)
				return entry;
		}
		entry = &scan->entries[scan->hot_next];
		if (has_message(entry)) {
			entry->idle_count = 0;
			scan->hot_next++;
			return entry;
		}
		/* The last hot ring takes the place of one gone cold, and is
		 * looked at next. One ring alone may stay. */
		if (++entry->idle_count >= HOT_PASSES && scan->hot_count > 1)
			swap(scan, scan->hot_next, --scan->hot_count);
		else
			scan->hot_next++;
	}
	return NULL;
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

bool peal__scan_has_data(const struct peal__scan *scan)
{
	for (uint32_t i = 0; i < scan->count; i++)
		if (has_message(&scan->entries[i]))
			return true;
	return false;
}
