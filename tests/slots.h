/* SPDX-License-Identifier: MIT */
/* The slots of a consumer, counted by its own thread. */
#ifndef PEAL_TESTS_SLOTS_H
#define PEAL_TESTS_SLOTS_H

#include "tests/scene.h"

#include "mpsc/server.h"

static inline uint32_t slots_free_count(const struct peal_consumer *consumer)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < consumer->slot_max; i++)
		count += scene_get(&consumer->slots[i].state) ==
		         PEAL__SLOT_FREE;
	return count;
}

/* How often one was given away: the sum of their generations. */
static inline uint64_t slots_use_count(const struct peal_consumer *consumer)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < consumer->slot_max; i++)
		count += consumer->slots[i].peer.generation;
	return count;
}

#endif
