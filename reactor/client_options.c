/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/failure.h"
#include "base/options.h"
#include "doorbell/spin.h"
#include "mpsc/name.h"
#include "reactor/client.h"

static int check(const struct peal_client_options *known)
{
	struct peal_failure *failure = known->ret_failure;
	const uint64_t request_bytes = known->request_ring_bytes;
	const uint64_t response_bytes = known->response_ring_bytes;
	const struct peal__range ranges[] = {
		{"request_ring_bytes", request_bytes,
	         request_bytes == 0 ? 0 : PEAL_RING_MIN_BYTES,
	         PEAL_RING_MAX_BYTES},
		{"response_ring_bytes", response_bytes,
	         response_bytes == 0 ? 0 : PEAL_RING_MIN_BYTES,
	         PEAL_RING_MAX_BYTES},
		{"order", known->order, 0, PEAL_UNORDERED},
		{"wait_mode", known->wait_mode, 0, PEAL_WAIT_FD},
		{"spin_mode", known->spin_mode, 0, PEAL_SPIN_NEVER},
		{"spin_ns", known->spin_ns, 0, PEAL__SPIN_MAX_NS},
		{"reconnect", known->reconnect, 0, 1},
		{"wait_for_server", known->wait_for_server, 0, 1},
		{"step_aside", known->step_aside, 0, 1},
	};
	int error = peal__check_ranges(
		ranges, sizeof(ranges) / sizeof(ranges[0]), failure);

	if (error == 0)
		error = peal__check_power_of_two("request_ring_bytes",
		                                 request_bytes, failure);
	if (error == 0)
		error = peal__check_power_of_two("response_ring_bytes",
		                                 response_bytes, failure);
	return error < 0 ? error : peal__name_check(known->name, failure);
}

int peal__client_options_check(const struct peal_client_options *given,
                               struct peal_client_options *known)
{
	int error = peal__options_take(
		known, sizeof(*known),
		offsetof(struct peal_client_options, ret_failure), given);

	return error < 0 ? error : check(known);
}
