/* SPDX-License-Identifier: MIT */
#include "reactor/client_flight.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 64

/* The golden ratio of 2^64 keeps consecutive numbers apart. */
#define SPREAD UINT64_C(0x9e3779b97f4a7c15)

static size_t home_of(const struct peal__flight *flight, uint64_t id)
{
	return (size_t)((id * SPREAD) >> 32) & (flight->capacity - 1);
}

static size_t after(const struct peal__flight *flight, size_t place)
{
	return (place + 1) & (flight->capacity - 1);
}

/* The place of @id, or one that is free. There are free ones. */
static size_t place_of(const struct peal__flight *flight, uint64_t id)
{
	size_t place = home_of(flight, id);

	while (flight->entries[place].id != 0 &&
	       flight->entries[place].id != id)
		place = after(flight, place);
	return place;
}

static void put(struct peal__flight *flight,
                const struct peal__flight_entry *entry)
{
	flight->entries[place_of(flight, entry->id)] = *entry;
}

int peal__flight_grow(struct peal__flight *flight, size_t count)
{
	struct peal__flight grown = *flight;
	int saved_errno = errno;

	if (grown.capacity == 0)
		grown.capacity = CAPACITY_MIN;
	while (flight->used_count + count > grown.capacity / 2)
		if (__builtin_mul_overflow(grown.capacity, 2, &grown.capacity))
			return -ENOMEM;
	grown.entries = calloc(grown.capacity, sizeof(*grown.entries));
	errno = saved_errno;
	if (grown.entries == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < flight->capacity; i++)
		if (flight->entries[i].id != 0)
			put(&grown, &flight->entries[i]);
	free(flight->entries);
	*flight = grown;
	return 0;
}

void peal__flight_close(struct peal__flight *flight)
{
	free(flight->entries);
	*flight = (struct peal__flight){0};
}

void peal__flight_add(struct peal__flight *flight, uint64_t id,
                      enum peal__flight_state state)
{
	put(flight, &(struct peal__flight_entry){.id = id, .state = state});
	flight->used_count++;
	flight->sent_count += state == PEAL__FLIGHT_SENT;
}

/* Empty a place, and move up what was probed past it. */
static void remove_at(struct peal__flight *flight, size_t place)
{
	size_t mask = flight->capacity - 1, from = place;

	flight->sent_count -= flight->entries[place].state == PEAL__FLIGHT_SENT;
	flight->lost_count -= flight->entries[place].state == PEAL__FLIGHT_LOST;
	flight->used_count--;
	for (;;) {
		from = after(flight, from);
		if (flight->entries[from].id == 0)
			break;
		/* It may move when its home is not between the two places. */
		if (((from - home_of(flight, flight->entries[from].id)) &
		     mask) < ((from - place) & mask))
			continue;
		flight->entries[place] = flight->entries[from];
		place = from;
	}
	flight->entries[place] = (struct peal__flight_entry){0};
}

enum peal__flight_state peal__flight_take(struct peal__flight *flight,
                                          uint64_t id)
{
	size_t place;
	uint32_t state;

	if (flight->used_count == 0)
		return PEAL__FLIGHT_NONE;
	place = place_of(flight, id);
	state = flight->entries[place].state;
	/* Nobody answers what another connection has asked. */
	if (flight->entries[place].id == 0 || state == PEAL__FLIGHT_LOST)
		return PEAL__FLIGHT_NONE;
	remove_at(flight, place);
	return (enum peal__flight_state)state;
}

/* Ids are given in turn, so the first one is the least, counted from any. */
static size_t place_of_first_lost(const struct peal__flight *flight)
{
	const struct peal__flight_entry *first = NULL;

	for (size_t i = 0; i < flight->capacity; i++) {
		const struct peal__flight_entry *entry = &flight->entries[i];

		if (entry->state == PEAL__FLIGHT_LOST &&
		    (first == NULL || (int64_t)(entry->id - first->id) < 0))
			first = entry;
	}
	return (size_t)(first - flight->entries);
}

void peal__flight_lose(struct peal__flight *flight, int error)
{
	for (size_t i = 0; i < flight->capacity; i++) {
		struct peal__flight_entry *entry = &flight->entries[i];

		while (entry->state == PEAL__FLIGHT_ABANDONED)
			remove_at(flight, i);
	}
	for (size_t i = 0; i < flight->capacity; i++) {
		struct peal__flight_entry *entry = &flight->entries[i];

		if (entry->state != PEAL__FLIGHT_SENT)
			continue;
		entry->state = PEAL__FLIGHT_LOST;
		entry->error = error;
		flight->sent_count--;
		flight->lost_count++;
	}
	if (flight->lost_count > 0)
		flight->next_lost =
			flight->entries[place_of_first_lost(flight)].id;
}

bool peal__flight_take_lost(struct peal__flight *flight, uint64_t *ret_id,
                            int *ret_error)
{
	size_t place = 0, count = flight->capacity;

	if (flight->lost_count == 0)
		return false;
	/* Mostly the next one is near; to look at all of them takes as long. */
	do {
		if (count-- == 0)
			place = place_of_first_lost(flight);
		else
			place = place_of(flight, flight->next_lost++);
	} while (flight->entries[place].state != PEAL__FLIGHT_LOST);
	*ret_id = flight->entries[place].id;
	*ret_error = flight->entries[place].error;
	flight->next_lost = *ret_id + 1;
	remove_at(flight, place);
	return true;
}
