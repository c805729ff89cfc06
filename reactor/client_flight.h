/* SPDX-License-Identifier: MIT */
/*
 * Which requests have been sent and not answered, by their ids.
 *
 *	send ----------> SENT ------- answered: taken
 *	                  |  \------- connection lost: LOST --- told: taken
 *	call gave up -> ABANDONED --- answered: taken, and dropped
 *
 * An open table, at most half full, however far the ids in it are apart. Ids are
 * consecutive, and must not lie beside each other: who takes one out would have
 * to look at all that follow it.
 *
 * Callers: the thread that owns the client.
 *
 * Progress: no allocation but when more is in flight than ever before.
 */
#ifndef PEAL_REACTOR_CLIENT_FLIGHT_H
#define PEAL_REACTOR_CLIENT_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum peal__flight_state {
	PEAL__FLIGHT_NONE,
	PEAL__FLIGHT_SENT,
	PEAL__FLIGHT_ABANDONED,
	PEAL__FLIGHT_LOST,
};

struct peal__flight_entry {
	uint64_t id; /* 0: a free place */
	int32_t error;
	uint32_t state; /* enum peal__flight_state */
};

struct peal__flight {
	struct peal__flight_entry *entries;
	size_t capacity; /* a power of two, or 0 */
	size_t used_count;
	size_t sent_count;
	size_t lost_count;
	uint64_t next_lost; /* the id that is likely to be told next */
};

/* Room for @count more, so that they can be added. 0 or -ENOMEM. */
int peal__flight_grow(struct peal__flight *flight, size_t count);
static inline int peal__flight_reserve(struct peal__flight *flight,
                                       size_t count)
{
	return flight->used_count + count <= flight->capacity / 2
	               ? 0
	               : peal__flight_grow(flight, count);
}
void peal__flight_close(struct peal__flight *flight);

void peal__flight_add(struct peal__flight *flight, uint64_t id,
                      enum peal__flight_state state);

/* Take @id out: what it was, NONE when it is not known. */
enum peal__flight_state peal__flight_take(struct peal__flight *flight,
                                          uint64_t id);

/* The connection is over: what is SENT becomes LOST, what nobody wants goes. */
void peal__flight_lose(struct peal__flight *flight, int error);

/* Of those that were lost the one that was sent first, and why; false when there
 * is none. */
bool peal__flight_take_lost(struct peal__flight *flight, uint64_t *ret_id,
                            int *ret_error);

#endif
