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

static void put(struct peal__flight *flight,
                const struct peal__flight_entry *entry)
{
	size_t place = home_of(flight, entry->id);

	while (flight->entries[place].id != 0)
		place = after(flight, place);
	flight->entries[place] = *entry;
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
	grown.next = 0;
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

	if (flight->used_count == 0)
		return PEAL__FLIGHT_NONE;
	for (place = home_of(flight, id); flight->entries[place].id != 0;
	     place = after(flight, place)) {
		uint32_t state = flight->entries[place].state;

		if (flight->entries[place].id != id)
			continue;
		/* Nobody answers what another connection has asked. */
		if (state == PEAL__FLIGHT_LOST)
			return PEAL__FLIGHT_NONE;
		remove_at(flight, place);
		return (enum peal__flight_state)state;
	}
	return PEAL__FLIGHT_NONE;
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
}

bool peal__flight_take_lost(struct peal__flight *flight, uint64_t *ret_id,
                            int *ret_error)
{
	size_t place;

	if (flight->lost_count == 0)
		return false;
	for (place = flight->next & (flight->capacity - 1);
	     flight->entries[place].state != PEAL__FLIGHT_LOST;
	     place = after(flight, place))
		continue;
	*ret_id = flight->entries[place].id;
	*ret_error = flight->entries[place].error;
	remove_at(flight, place);
	/* Another one may have moved up to here. */
	flight->next = place;
	return true;
}
