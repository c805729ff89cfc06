/* SPDX-License-Identifier: MIT */
#include "doorbell/spin.h"

#define FRUITLESS_MAX 8
#define SOON_ENOUGH_MAX 16
#define ALWAYS_NS PEAL__NS_PER_MS /* between two looks at the clock */
/* Two wakes on a slow machine, ours and the peer's: so long sleeps take when both
 * sleep each time, and would not have to. A shorter limit leaves them at that. */
#define TWO_WAKES_NS (250 * PEAL__NS_PER_US)
#define QUOTA_MIN_MILLIS 1500 /* below one and a half CPUs the peer pays */

/* What spinning may cost here at all; 0 when nobody else could run meanwhile. */
static uint64_t full_budget_ns(enum peal__spin_mode mode, uint64_t budget_ns)
{
	if (mode == PEAL__SPIN_NEVER)
		return 0;
	if (mode == PEAL__SPIN_ALWAYS)
		return ALWAYS_NS;
	if (peal__cpu_online_count() < 2 ||
	    peal__cpu_quota_millis() < QUOTA_MIN_MILLIS)
		return 0;
	return budget_ns < PEAL__SPIN_MAX_NS ? budget_ns : PEAL__SPIN_MAX_NS;
}

void peal__spin_init(struct peal__spin *spin, enum peal__spin_mode mode,
                     uint64_t budget_ns)
{
	uint64_t full_ns = full_budget_ns(mode, budget_ns);

	*spin = (struct peal__spin){
		.mode = mode,
		.full_ticks = peal__ns_to_ticks(full_ns),
		.budget_ticks = peal__ns_to_ticks(full_ns),
		.soon_enough = 1,
		.soon_ticks = peal__ns_to_ticks(full_ns + TWO_WAKES_NS),
		.settle_ticks = peal__ns_to_ticks(PEAL__SPIN_SETTLE_NS),
	};
}

void peal__spin_failed(struct peal__spin *spin)
{
	if (++spin->fruitless_count < FRUITLESS_MAX)
		return;
	spin->budget_ticks = 0;
	spin->soon_count = 0;
	if (spin->soon_enough < SOON_ENOUGH_MAX)
		spin->soon_enough *= 2;
}

void peal__spin_paid(struct peal__spin *spin)
{
	/* With no budget it was the one look that found something. */
	if (spin->budget_ticks == 0)
		return;
	spin->fruitless_count = 0;
	spin->soon_enough = 1;
}

void peal__spin_slept(struct peal__spin *spin, uint64_t slept_ticks)
{
	if (spin->budget_ticks != 0 || slept_ticks >= spin->soon_ticks)
		return;
	if (++spin->soon_count < spin->soon_enough)
		return;
	spin->fruitless_count = FRUITLESS_MAX - 1;
	spin->budget_ticks = spin->full_ticks;
}
