/* SPDX-License-Identifier: MIT */
#include "reactor/options.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/options.h"
#include "mpsc/options.h"
#include "mpsc/pace.h"
#include "mpsc/server.h"

#define WORKER_MAX 1024
#define IN_FLIGHT_MAX (UINT64_C(1) << 20)
#define IN_FLIGHT_PER_CLIENT_MAX (UINT64_C(1) << 16)

/* A file or /dev/null cannot, and would only be told when clients are let in.
 * Whatever else fails here is told there as well. */
static bool can_be_waited_for(int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bool can = epoll_fd < 0 ||
	           epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ||
	           errno != EPERM;

	if (epoll_fd >= 0)
		close(epoll_fd);
	return can;
}

static int check(const struct peal_reactor_options *known)
{
	struct peal_failure *failure = known->ret_failure;
	const struct peal__range ranges[] = {
		{"inline_mode", known->inline_mode, 0, PEAL_INLINE_NEVER},
		{"worker_count", known->worker_count, 0, WORKER_MAX},
		{"copy_requests", known->copy_requests, 0, 1},
		{"at_cap", known->at_cap, 0, PEAL_AT_CAP_REJECT},
		{"client_max", known->client_max, 1, PEAL__PRODUCER_MAX},
		{"client_per_uid_max", known->client_per_uid_max, 0,
	         PEAL__PRODUCER_MAX},
		{"connect_rate_max", known->connect_rate_max, 0,
	         PEAL__PACE_RATE_MAX},
		{"in_flight_max", known->in_flight_max, 1, IN_FLIGHT_MAX},
		{"in_flight_per_client_max", known->in_flight_per_client_max, 1,
	         IN_FLIGHT_PER_CLIENT_MAX},
	};
	int error = peal__check_ranges(
		ranges, sizeof(ranges) / sizeof(ranges[0]), failure);

	if (error < 0)
		return error;
	if (known->on_request == NULL)
		return peal__fail(failure, -EINVAL,
		                  "options.on_request is NULL: who would "
		                  "answer?");
	if (known->executor != NULL && known->worker_count > 0)
		return peal__fail(failure, -EINVAL,
		                  "options.executor and options.worker_count "
		                  "exclude each other");
	if (known->inline_mode == PEAL_INLINE_NEVER &&
	    known->executor == NULL && known->worker_count == 0)
		return peal__fail(failure, -EINVAL,
		                  "options.inline_mode is PEAL_INLINE_NEVER, "
		                  "and there is neither a worker nor an "
		                  "executor");
	if (known->stop_signals_fd < -1 ||
	    (known->stop_signals_fd >= 0 &&
	     fcntl(known->stop_signals_fd, F_GETFD) < 0))
		return peal__fail(failure, -EINVAL,
		                  "options.stop_signals_fd is %d, which is no "
		                  "open descriptor; -1 is none",
		                  known->stop_signals_fd);
	if (known->stop_signals_fd >= 0 &&
	    !can_be_waited_for(known->stop_signals_fd))
		return peal__fail(failure, -EINVAL,
		                  "options.stop_signals_fd is %d, which is no "
		                  "signalfd; -1 is none",
		                  known->stop_signals_fd);
	return 0;
}

/* The fields that the consumer below knows by the same names, and two caps. */
static struct peal_consumer_options
door_of(const struct peal_reactor_options *known)
{
	struct peal_consumer_options door = PEAL_CONSUMER_OPTIONS_INIT;

	door.name = known->name;
	door.wait_mode = known->wait_mode;
	door.spin_mode = known->spin_mode;
	door.spin_ns = known->spin_ns;
	door.producer_max = known->client_max;
	door.producer_per_uid_max = known->client_per_uid_max;
	door.turn_budget = known->turn_budget;
	door.ring_min_bytes = known->ring_min_bytes;
	door.ring_default_bytes = known->ring_default_bytes;
	door.ring_max_bytes = known->ring_max_bytes;
	door.segment_total_max_bytes = known->segment_total_max_bytes;
	door.memory_flags = known->memory_flags;
	door.numa_node = known->numa_node;
	door.socket_mode = known->socket_mode;
	door.attach_rate_max = known->connect_rate_max;
	door.allow_uid = known->allow_uid;
	door.allow_uid_count = known->allow_uid_count;
	door.allow_gid = known->allow_gid;
	door.allow_gid_count = known->allow_gid_count;
	door.listen_fd = known->listen_fd;
	door.ret_failure = known->ret_failure;
	return door;
}

int peal__reactor_options_check(const struct peal_reactor_options *given,
                                struct peal_reactor_options *ret_known,
                                struct peal_consumer_options *ret_door)
{
	int saved_errno = errno;
	int error = peal__options_take(
		ret_known, sizeof(*ret_known),
		offsetof(struct peal_reactor_options, ret_failure), given);

	if (error == 0)
		error = check(ret_known);
	errno = saved_errno;
	if (error < 0)
		return error;
	*ret_door = door_of(ret_known);
	return peal__consumer_options_check_known(ret_door);
}
