/* SPDX-License-Identifier: MIT */
#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/cpu.h"

uint64_t peal__random(void)
{
	int saved_errno = errno;
	uint64_t bits;

	/* Eight bytes are never cut short. Before the pool is ready, early in
	 * the boot, two clocks must do: uniqueness is needed here, no secret. */
	if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) != sizeof(bits))
		bits = peal__clock_ns() * UINT64_C(0x9e3779b97f4a7c15) ^
		       peal__cpu_ticks() << 20;
	errno = saved_errno;
	return bits;
}
