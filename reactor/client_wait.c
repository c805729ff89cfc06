/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/cpu.h"
#include "base/event.h"
#include "base/hooks.h"
#include "base/read.h"
#include "reactor/client.h"
#include "reactor/reactor.h"
#include "reactor/upcall.h"

/* The server rings when it has read from the lane. In a wait it is looked at
 * again besides. */
#define LANE_RETRY_NS (1 * PEAL__NS_PER_MS)
#define BESIDE_ENOUGH 4
#define ASIDE_REST_NS (1 * PEAL__NS_PER_MS)

/* waking -------------------------------------------------------------------- */

bool peal__client_is_woken(const struct peal_client *client)
{
	/* C7: pairs with C6; seq_cst because it is part of the second look. */
	return __atomic_load_n(&client->is_woken, __ATOMIC_SEQ_CST) != 0;
}

bool peal__client_take_wake(struct peal_client *client)
{
	/* C8: pairs with C6; the plain look first, since it is mostly 0. */
	return peal__read_once(&client->is_woken) != 0 &&
	       __atomic_exchange_n(&client->is_woken, 0, __ATOMIC_ACQUIRE) != 0;
}

void peal_client_wake(struct peal_client *client)
{
	struct peal__segment *segment;
	int fd = client->owner.wake_fd;

	if (peal__client_was_forked(client))
		return;
	/* C6: pairs with C7 and C8; seq_cst because C2 follows: who opens the
	 * door after it sees this before it sleeps. */
	__atomic_store_n(&client->is_woken, 1, __ATOMIC_SEQ_CST);
	segment = peal__client_enter(client);
	PEAL__HOOK("wake: in the door");
	if (segment != NULL) {
		peal_doorbell_notify(&segment->answers.arm,
		                     &segment->answers.seq, fd);
		peal_doorbell_notify(&segment->space.arm, &segment->space.seq,
		                     fd);
	}
	peal__client_leave(client);
}

int peal_client_cancel(struct peal_client *client, uint64_t id)
{
	struct peal__segment *segment;

	if (peal__client_was_forked(client))
		return -ESTALE;
	segment = peal__client_enter(client);
	if (segment != NULL)
		peal__write_once(&segment->cancelled[id % PEAL__CANCEL_COUNT],
		                 id);
	peal__client_leave(client);
	return segment != NULL ? 0 : -ECONNRESET;
}

/* waiting ------------------------------------------------------------------- */

static bool has_incoming(void *object)
{
	struct peal_client *client = object;

	return peal_ring_has_data(&client->rx) ||
	       peal__client_is_woken(client) || peal__upcall_can_flush(client);
}

/* Does the server wait until we release? Its word, which costs us a call. */
static bool is_awaited(const struct peal_client *client)
{
	/* R11: pairs with R10; seq_cst because it is part of the second look. */
	uint64_t want = __atomic_load_n(
		&client->producer->connection.segment->response_want,
		__ATOMIC_SEQ_CST);

	return want - client->rx.told <= client->rx.capacity_bytes &&
	       want != client->rx.told;
}

int peal__client_interrupt(void *object)
{
	struct peal_client *client = object;

	if (peal__client_is_woken(client))
		return -ECANCELED;
	if (peal_ring_has_data(&client->rx))
		return -EAGAIN;
	/* A view that the user holds may be what it waits for. */
	if (client->view.serial != 0 && client->view.note == NULL &&
	    is_awaited(client))
		return -EAGAIN;
	/* An answer of ours may be what it waits for. */
	if (peal__upcall_can_flush(client))
		return 1;
	/* A handler on the server's own thread: nobody else makes room. */
	return PEAL_UNLIKELY(peal__reactor_may_wait(
				     client->producer->connection.self) < 0)
	               ? -EDEADLK
	               : 0;
}

static void settle(void *object)
{
	const struct peal_client *client = object;

	client->owner.settle(client->owner.object);
}

static int sleep_for_answers(void *object, uint64_t deadline_ns)
{
	struct peal_client *client = object;

	return peal__producer_sleep(client->producer, &client->sleeper,
	                            deadline_ns);
}

/* Take what lies on the descriptors that woke us. */
static void read_fds(struct peal_client *client)
{
	peal__producer_hear(client->producer);
	peal__event_clear(client->wake_event.fd);
}

/* The server has no time for us now, and others need our processor. */
static bool is_to_yield(const struct peal_client *client)
{
	return peal__read_once(
		       &client->producer->connection.segment->answers.yield) !=
	       0;
}

/*
 * Has this thread slept on the server's processor again? There it never spins,
 * and each request takes two changes between threads. Once is chance; where the
 * kernel finds both processors busy on the average it does so every time.
 */
static void step_aside(struct peal_client *client)
{
	const struct peal__arm_page *page =
		client->producer->connection.arm_page;
	int cpu = peal__cpu_current();
	uint64_t now;

	if (cpu < 0 || cpu != peal__read_once(&page->cpu)) {
		client->beside_count = 0;
		return;
	}
	if (++client->beside_count < BESIDE_ENOUGH)
		return;
	now = peal__cpu_ticks();
	if (now - client->aside_ticks < peal__ns_to_ticks(ASIDE_REST_NS))
		return;
	client->aside_ticks = now;
	client->beside_count = 0;
	if (peal__cpu_leave(cpu) == 0)
		client->stats.aside_count++;
}

int peal__client_wait(struct peal_client *client,
                      struct peal__spin_limit *limit)
{
	struct peal_producer *producer = client->producer;
	const struct peal__spin_look look = {
		.soon = has_incoming,
		.final = has_incoming,
		.settle = settle,
		.sleep = sleep_for_answers,
		.object = client,
		.peer_cpu = &producer->connection.arm_page->cpu,
		.is_calm = is_to_yield(client),
	};
	int result = peal__reactor_may_wait(producer->connection.self);

	/* A handler on the server's own thread: nobody else would answer. */
	if (PEAL_UNLIKELY(result < 0))
		return result;
	/* A handler's connection may be so young that its server's door, which
	 * another thread keeps, does not know it yet: ask again soon. */
	limit->net_ns = client->unsent == NULL && result == 0
	                        ? PEAL__PRODUCER_NET_NS
	                        : LANE_RETRY_NS;
	result = peal__spin_wait(&client->spin, &client->sleeper, &look, limit);
	if (client->unsent != NULL)
		peal__upcall_flush(client);
	if (peal__client_is_woken(client))
		return -ECANCELED;
	if (result == PEAL__SPIN_WORK)
		return 0;
	if (client->options.step_aside)
		step_aside(client);
	if (client->options.wait_mode == PEAL_WAIT_FD)
		read_fds(client);
	if (PEAL_LIKELY(peal_ring_has_data(&client->rx)))
		return 0;
	/* A loss is found by the caller, when the ring is dry. */
	peal__producer_has_lost(producer, result);
	return result == -ETIMEDOUT ? result : 0;
}

/* event loops --------------------------------------------------------------- */

int peal_client_fd(const struct peal_client *client)
{
	if (peal__client_was_forked(client))
		return -ESTALE;
	return client->epoll.fd >= 0 ? client->epoll.fd : -EINVAL;
}

int peal_client_prepare(struct peal_client *client)
{
	if (peal__client_was_forked(client))
		return -ESTALE;
	if (client->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	if (client->inbox != NULL || client->flight.lost_count != 0)
		return 1;
	if (client->producer->lost != 0)
		return !client->is_recv_told;
	settle(client);
	peal_doorbell_look(&client->sleeper);
	if (has_incoming(client))
		return 1;
	PEAL__HOOK("client prepares: about to");
	peal_doorbell_arm(&client->sleeper);
	PEAL__HOOK("client prepares: armed");
	if (!has_incoming(client) && !peal_doorbell_changed(&client->sleeper))
		return 0;
	peal_doorbell_disarm(&client->sleeper);
	return 1;
}

int peal_client_dispatch(struct peal_client *client)
{
	int saved_errno = errno;

	if (peal__client_was_forked(client))
		return -ESTALE;
	if (client->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	if (client->producer->lost == 0) {
		peal_doorbell_disarm(&client->sleeper);
		peal__producer_hear(client->producer);
		peal__producer_look(client->producer);
		settle(client);
	}
	/* Also after a loss that somebody else has noticed, or it would end
	 * every wait of the loop from now on. */
	peal__event_clear(client->wake_event.fd);
	/* It has done what it was called for. */
	peal__client_take_wake(client);
	client->producer->told |= client->producer->lost != 0;
	errno = saved_errno;
	return client->producer->lost;
}
