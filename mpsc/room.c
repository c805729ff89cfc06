/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>

#include "base/event.h"
#include "base/hooks.h"
#include "base/read.h"
#include "mpsc/producer.h"

/* How long a producer sleeps before it looks whether its server is there. */
#define LOOK_NS (50 * PEAL__NS_PER_MS)

static int interrupted(const struct peal_producer *producer)
{
	const struct peal__producer_owner *owner = producer->owner;

	return owner == NULL ? 0 : owner->interrupt(owner->object);
}

static bool has_room(void *object)
{
	const struct peal_producer *producer = object;
	const struct peal_ring_tx *tx = &producer->hot.tx;
	/* R8: pairs with R2 and R6; seq_cst because it is the second look. A
	 * position that cannot be is not taken, as in peal__ring_make_room(),
	 * or a lie would keep us awake. */
	uint64_t released = peal__load(tx->released_word, __ATOMIC_SEQ_CST);

	return (released - tx->released <= tx->first - tx->released &&
	        (int64_t)(released - producer->want) >= 0) ||
	       interrupted(producer) != 0;
}

/* In fd mode the consumer rings with a byte on the socket. */
static int sleep_in_poll(const struct peal_producer *producer,
                         uint64_t deadline_ns)
{
	struct pollfd poll_fds[] = {
		{.fd = producer->connection.socket.fd,
	         .events = POLLIN | POLLRDHUP},
		{.fd = producer->owner == NULL ? -1 : producer->owner->wake_fd,
	         .events = POLLIN},
	};
	int saved_errno = errno;
	int count = poll(poll_fds, 2, peal__deadline_to_poll_ms(deadline_ns));

	/* Or no later sleep would be one. What it tells of was stored before it
	 * was written: the owner finds that. */
	if (count > 0 && poll_fds[1].revents != 0)
		peal__event_clear(poll_fds[1].fd);
	errno = saved_errno;
	return count != 0 ? 0 : -ETIMEDOUT;
}

int peal__producer_sleep(struct peal_producer *producer,
                         const struct peal_sleeper *sleeper,
                         uint64_t deadline_ns)
{
	int result;

	do {
		uint64_t until_ns = peal__deadline_after(LOOK_NS);

		if (deadline_ns <= until_ns)
			until_ns = deadline_ns;
		result = producer->options.wait_mode == PEAL_WAIT_FD
		                 ? sleep_in_poll(producer, until_ns)
		                 : peal__doorbell_wait_until(sleeper, until_ns);
		if (result == 0 || until_ns == deadline_ns)
			return result;
	} while (peal__producer_look(producer) == 0);
	return 0;
}

static int sleep_for_room(void *object, uint64_t deadline_ns)
{
	struct peal_producer *producer = object;

	return peal__producer_sleep(producer, &producer->sleeper, deadline_ns);
}

/* How far the consumer must have released before so much is free. */
static void wish(struct peal_producer *producer, uint64_t frame_bytes)
{
	/* Ours is kept: what the server reads, it could also write. */
	producer->want = producer->hot.tx.tail + frame_bytes +
	                 PEAL_RING_SPARE_BYTES -
	                 producer->hot.tx.capacity_bytes;
	/* Relaxed: arming, B2, is what makes it count. */
	peal__write_once(&producer->connection.segment->space.want,
	                 producer->want);
}

/* A sleep may have ended because the server did; a spin that goes on and on
 * asks the kernel only now and then. */
bool peal__producer_has_lost(struct peal_producer *producer, int result)
{
	if (result == PEAL__SPIN_WOKEN &&
	    producer->options.spin_mode == PEAL_SPIN_ALWAYS &&
	    !peal__producer_look_is_due(producer))
		return producer->lost != 0;
	return peal__producer_look(producer) < 0;
}

static void settle_owner(void *object)
{
	const struct peal_producer *producer = object;

	if (producer->owner != NULL)
		producer->owner->settle(producer->owner->object);
}

int peal__producer_wait_for_room(struct peal_producer *producer, size_t bytes,
                                 uint64_t timeout_ns)
{
	const struct peal__spin_look look = {
		.soon = has_room,
		.final = has_room,
		.settle = settle_owner,
		.sleep = sleep_for_room,
		.object = producer,
		.peer_cpu = &producer->connection.arm_page->cpu,
	};
	struct peal__spin_limit limit = {timeout_ns, 0, PEAL__PRODUCER_NET_NS,
	                                 false};
	uint64_t frame_bytes = peal_ring_frame_bytes(bytes);
	int result, error;

	wish(producer, frame_bytes);
	for (;;) {
		peal_doorbell_look(&producer->sleeper);
		result = peal__spin_wait(&producer->spin, &producer->sleeper,
		                         &look, &limit);
		if (producer->options.wait_mode == PEAL_WAIT_FD)
			peal__producer_hear(producer);
		/* Room that a server made before it went is none. */
		if (producer->lost == 0 &&
		    peal__ring_make_room(&producer->hot.tx, frame_bytes))
			return 0;
		error = interrupted(producer);
		if (error < 0)
			return error;
		if (error > 0)
			settle_owner(producer);
		if (peal__producer_has_lost(producer, result)) {
			producer->told = true;
			return producer->lost;
		}
		if (result == -ETIMEDOUT)
			return result;
	}
}

size_t peal_producer_message_max(const struct peal_producer *producer)
{
	return peal_ring_message_max(producer->hot.tx.capacity_bytes);
}

int peal_producer_fd(const struct peal_producer *producer)
{
	if (peal__producer_was_forked(producer))
		return -ESTALE;
	if (producer->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	return producer->lost != 0 ? producer->lost
	                           : producer->connection.socket.fd;
}

int peal_producer_prepare(struct peal_producer *producer, size_t bytes)
{
	uint64_t frame_bytes = peal_ring_frame_bytes(bytes);

	if (peal__producer_was_forked(producer))
		return -ESTALE;
	if (producer->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	/* Who has been told of the loss is not to ask claim again at once: it
	 * would find nobody to attach to, and a loop would not rest. */
	if (producer->lost != 0)
		return producer->told ? producer->lost : 1;
	if (bytes > peal_producer_message_max(producer))
		return -EMSGSIZE;
	peal_doorbell_look(&producer->sleeper);
	if (peal__ring_make_room(&producer->hot.tx, frame_bytes))
		return 1;
	wish(producer, frame_bytes);
	PEAL__HOOK("producer prepares: about to");
	peal_doorbell_arm(&producer->sleeper);
	PEAL__HOOK("producer prepares: armed");
	if (!has_room(producer) && !peal_doorbell_changed(&producer->sleeper))
		return 0;
	peal_doorbell_disarm(&producer->sleeper);
	return 1;
}

int peal_producer_dispatch(struct peal_producer *producer)
{
	int saved_errno = errno;

	if (peal__producer_was_forked(producer))
		return -ESTALE;
	if (producer->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	if (producer->lost == 0) {
		peal_doorbell_disarm(&producer->sleeper);
		peal__producer_hear(producer);
		peal__producer_look(producer);
	}
	producer->told = producer->lost != 0;
	errno = saved_errno;
	return producer->lost;
}
