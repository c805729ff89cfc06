/* SPDX-License-Identifier: MIT */
#include "mpsc/pace.h"

#include "base/clock.h"

#define WAIT_MAX_NS PEAL__NS_PER_S
/* Long beside the making of a segment, which takes some hundred microseconds;
 * short for an innocent one of the same user. */
#define NONSENSE_NS (20 * PEAL__NS_PER_MS)

void peal__pace_init(struct peal__pace *pace, uint32_t per_second)
{
	*pace = (struct peal__pace){.rest_ns = NONSENSE_NS};
	if (per_second == 0)
		return;
	pace->interval_ns = PEAL__NS_PER_S / per_second;
	pace->burst_ns = (per_second - 1) * pace->interval_ns;
}

uint64_t peal__pace_enter(struct peal__pace *pace, uint32_t uid,
                          uint64_t now_ns)
{
	uint64_t *due_ns = &pace->due_ns[uid % PEAL__PACE_USERS];
	uint64_t first_ns = now_ns + pace->burst_ns, enter_ns = now_ns;

	if (*due_ns > first_ns)
		enter_ns = *due_ns - pace->burst_ns;
	if (enter_ns > now_ns + WAIT_MAX_NS)
		return PEAL__PACE_TURNED_AWAY;
	if (*due_ns < now_ns)
		*due_ns = now_ns;
	*due_ns += pace->interval_ns;
	return enter_ns;
}

void peal__pace_punish(struct peal__pace *pace, uint32_t uid, uint64_t now_ns)
{
	uint64_t *due_ns = &pace->due_ns[uid % PEAL__PACE_USERS];
	uint64_t first_ns = now_ns + pace->burst_ns;

	if (*due_ns < first_ns)
		*due_ns = first_ns;
	*due_ns += pace->rest_ns;
	/* Many connections, all sent away: nobody is turned away for them. */
	if (*due_ns > first_ns + WAIT_MAX_NS)
		*due_ns = first_ns + WAIT_MAX_NS;
}
