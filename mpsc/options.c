/* SPDX-License-Identifier: MIT */
#include "mpsc/options.h"

#include <errno.h>
#include <stdbool.h>

#include "base/failure.h"
#include "base/options.h"
#include "doorbell/spin.h"
#include "mpsc/name.h"
#include "mpsc/seat.h"
#include "mpsc/server.h"
#include "peal/shm.h"

#define TURN_BUDGET_MAX 65536
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

_Static_assert((int)PEAL_SPIN_ADAPTIVE == (int)PEAL__SPIN_ADAPTIVE, "same");
_Static_assert((int)PEAL_SPIN_ALWAYS == (int)PEAL__SPIN_ALWAYS, "same");
_Static_assert((int)PEAL_SPIN_NEVER == (int)PEAL__SPIN_NEVER, "same");

static int check_rings(const struct peal_consumer_options *known)
{
	struct peal_failure *failure = known->ret_failure;
	bool is_huge = (known->memory_flags & PEAL_MEMORY_HUGE) != 0;
	uint64_t least = is_huge ? HUGE_PAGE_BYTES : PEAL_RING_MIN_BYTES;
	const struct peal__range ranges[] = {
		{"ring_max_bytes", known->ring_max_bytes, least,
	         PEAL_RING_MAX_BYTES},
		{"ring_min_bytes", known->ring_min_bytes, least,
	         known->ring_max_bytes},
		{"ring_default_bytes", known->ring_default_bytes,
	         known->ring_min_bytes, known->ring_max_bytes},
		{"segment_total_max_bytes", known->segment_total_max_bytes,
	         known->ring_min_bytes, UINT64_MAX},
	};
	int error;

	/* By default they are smaller, and who has set neither would wonder. */
	if (is_huge && (known->ring_min_bytes < least ||
	                known->ring_default_bytes < least))
		return peal__fail(failure, -EINVAL,
		                  "options.memory_flags has PEAL_MEMORY_HUGE: "
		                  "ring_min_bytes and ring_default_bytes must "
		                  "be at least %llu",
		                  (unsigned long long)least);
	error = peal__check_ranges(ranges, 4, failure);
	if (error == 0)
		error = peal__check_power_of_two("ring_default_bytes",
		                                 known->ring_default_bytes,
		                                 failure);
	return error;
}

/* A ring has whole pages, and a program need not know how large they are on the
 * machine that it will run on. */
static void round_up(uint64_t *ring_bytes)
{
	uint64_t page_bytes = peal_shm_page_bytes(0);

	if (*ring_bytes < page_bytes)
		*ring_bytes = page_bytes;
}

/* Such a user or group is never let in: better said to who wrote the list. */
static int check_list(const uint32_t *ids, size_t count, uint32_t nobody,
                      const char *list, const char *what,
                      struct peal_failure *failure)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == nobody)
			return peal__fail(failure, -EINVAL,
			                  "options.%s has %s %u, which may be "
			                  "any that a user namespace has no "
			                  "number for, and is never let in",
			                  list, what, nobody);
	return 0;
}

static int check_lists(const struct peal_consumer_options *known)
{
	struct peal_failure *failure = known->ret_failure;
	int error = 0;

	if ((known->allow_uid_count > 0 && known->allow_uid == NULL) ||
	    (known->allow_gid_count > 0 && known->allow_gid == NULL))
		return peal__fail(failure, -EINVAL,
		                  "options.allow_uid or allow_gid is NULL and "
		                  "its count is not 0");
	/* The file of the number is read only where there is a list. */
	if (known->allow_uid_count > 0)
		error = check_list(known->allow_uid, known->allow_uid_count,
		                   peal__grant_overflow_uid(), "allow_uid",
		                   "user", failure);
	if (error == 0 && known->allow_gid_count > 0)
		error = check_list(known->allow_gid, known->allow_gid_count,
		                   peal__grant_overflow_gid(), "allow_gid",
		                   "group", failure);
	return error;
}

static int check_consumer(const struct peal_consumer_options *known)
{
	struct peal_failure *failure = known->ret_failure;
	const struct peal__range ranges[] = {
		{"wait_mode", known->wait_mode, 0, PEAL_WAIT_FD},
		{"spin_mode", known->spin_mode, 0, PEAL_SPIN_NEVER},
		{"spin_ns", known->spin_ns, 0, PEAL__SPIN_MAX_NS},
		{"producer_max", known->producer_max, 1, PEAL__PRODUCER_MAX},
		{"producer_per_uid_max", known->producer_per_uid_max, 0,
	         PEAL__PRODUCER_MAX},
		{"turn_budget", known->turn_budget, 1, TURN_BUDGET_MAX},
		{"attach_rate_max", known->attach_rate_max, 0,
	         PEAL__PACE_RATE_MAX},
		{"memory_flags", known->memory_flags, 0,
	         PEAL_MEMORY_HUGE | PEAL_MEMORY_PREFAULT | PEAL_MEMORY_LOCK},
		{"allow_uid_count", known->allow_uid_count, 0, 4096},
		{"allow_gid_count", known->allow_gid_count, 0, 4096},
	};
	int error = peal__check_ranges(
		ranges, sizeof(ranges) / sizeof(ranges[0]), failure);

	if (error < 0)
		return error;
	if (known->socket_mode > 0777)
		return peal__fail(failure, -EINVAL,
		                  "options.socket_mode is 0%o; it must be 0 to "
		                  "0777",
		                  (unsigned int)known->socket_mode);
	error = check_lists(known);
	if (error < 0)
		return error;
	if (known->numa_node < -1)
		return peal__fail(failure, -EINVAL,
		                  "options.numa_node is %d; -1 is any",
		                  known->numa_node);
	if (known->listen_fd < -1)
		return peal__fail(failure, -EINVAL,
		                  "options.listen_fd is %d; -1 is none",
		                  known->listen_fd);
	if (known->listen_fd >= 0 && known->name == NULL)
		return 0;
	return peal__name_check(known->name, failure);
}

int peal__consumer_options_check(const struct peal_consumer_options *given,
                                 struct peal_consumer_options *known)
{
	int error = peal__options_take(
		known, sizeof(*known),
		offsetof(struct peal_consumer_options, ret_failure), given);

	return error < 0 ? error : peal__consumer_options_check_known(known);
}

int peal__consumer_options_check_known(struct peal_consumer_options *known)
{
	int error = check_consumer(known);

	if (error == 0)
		error = check_rings(known);
	if (error < 0)
		return error;
	/* All of the slots, and not of the seats: the others get to the door. */
	if (known->producer_per_uid_max == 0 ||
	    known->producer_per_uid_max > known->producer_max)
		known->producer_per_uid_max = known->producer_max;
	round_up(&known->ring_min_bytes);
	round_up(&known->ring_default_bytes);
	round_up(&known->ring_max_bytes);
	round_up(&known->segment_total_max_bytes);
	return 0;
}

static int check_producer(const struct peal_producer_options *known)
{
	struct peal_failure *failure = known->ret_failure;
	const struct peal__range ranges[] = {
		{"wait_mode", known->wait_mode, 0, PEAL_WAIT_FD},
		{"spin_mode", known->spin_mode, 0, PEAL_SPIN_NEVER},
		{"spin_ns", known->spin_ns, 0, PEAL__SPIN_MAX_NS},
		{"reconnect", known->reconnect, 0, 1},
		{"wait_for_server", known->wait_for_server, 0, 1},
		{"ring_bytes", known->ring_bytes,
	         known->ring_bytes == 0 ? 0 : PEAL_RING_MIN_BYTES,
	         PEAL_RING_MAX_BYTES},
	};
	int error = peal__check_ranges(
		ranges, sizeof(ranges) / sizeof(ranges[0]), failure);

	if (error == 0)
		error = peal__check_power_of_two("ring_bytes",
		                                 known->ring_bytes, failure);
	return error < 0 ? error : peal__name_check(known->name, failure);
}

int peal__producer_options_check(const struct peal_producer_options *given,
                                 struct peal_producer_options *known)
{
	int error = peal__options_take(
		known, sizeof(*known),
		offsetof(struct peal_producer_options, ret_failure), given);

	if (error == 0)
		error = check_producer(known);
	if (error == 0 && known->ring_bytes != 0)
		round_up(&known->ring_bytes);
	return error;
}
