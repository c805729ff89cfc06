/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>

#include "base/hooks.h"
#include "base/read.h"
#include "mpsc/producer.h"

/* How long a producer sleeps before it looks whether its server is there. */
#define SLEEP_MAX_NS (50 * PEAL__NS_PER_MS)
/* Does it then look for room as well? A net below the proof, never needed. */
#ifdef PEAL_NO_BOUNDED_SLEEP
#define HAS_NET false
#else
#define HAS_NET true
#endif

static bool has_room(void *object)
{
	const struct peal_producer *producer = object;
	uint64_t want =
		peal__read_once(&producer->connection.segment->space.want);
	/* R8: pairs with R2 and R6; seq_cst because it is the second look. */
	uint64_t released = __atomic_load_n(producer->hot.tx.released_word,
	                                    __ATOMIC_SEQ_CST);

	return (int64_t)(released - want) >= 0 ||
	       (producer->answers != NULL &&
	        peal_ring_has_data(producer->answers));
}

/* In fd mode the consumer rings with a byte on the socket. */
static int sleep_in_poll(void *object, uint64_t deadline_ns)
{
	struct peal_producer *producer = object;
	struct pollfd poll_fd = {.fd = producer->connection.socket.fd,
	                         .events = POLLIN | POLLRDHUP};
	int saved_errno = errno;
	int count = poll(&poll_fd, 1, peal__deadline_to_poll_ms(deadline_ns));

	errno = saved_errno;
	return count != 0 ? 0 : -ETIMEDOUT;
}

/* Without the net only the server is looked at: no wake, no room. */
static int sleep_without_net(void *object, uint64_t deadline_ns)
{
	struct peal_producer *producer = object;
	int result;

	do {
		uint64_t until_ns = peal__deadline_after(SLEEP_MAX_NS);

		if (deadline_ns <= until_ns)
			until_ns = deadline_ns;
		result = producer->options.wait_mode == PEAL_WAIT_FD
		                 ? sleep_in_poll(object, until_ns)
		                 : peal__doorbell_wait_until(&producer->sleeper,
		                                             until_ns);
		if (result == 0 || until_ns == deadline_ns)
			return result;
	} while (peal__producer_look(producer) == 0);
	return 0;
}

/* How far the consumer must have released before so much is free. */
static void wish(struct peal_producer *producer, uint64_t frame_bytes)
{
	/* Relaxed: arming, B2, is what makes it count. */
	peal__write_once(&producer->connection.segment->space.want,
	                 producer->hot.tx.tail + frame_bytes +
	                         PEAL_RING_SPARE_BYTES -
	                         producer->hot.tx.capacity_bytes);
}

/* A sleep may have ended because the server did; a spin that goes on and on
 * asks the kernel only now and then. */
static bool has_lost_server(struct peal_producer *producer, int result)
{
	if (result == PEAL__SPIN_WOKEN &&
	    producer->options.spin_mode == PEAL_SPIN_ALWAYS &&
	    !peal__producer_look_is_due(producer))
		return false;
	return peal__producer_look(producer) < 0;
}

int peal__producer_wait_for_room(struct peal_producer *producer, size_t bytes,
                                 uint64_t timeout_ns)
{
	const struct peal__spin_look look = {
		.soon = has_room,
		.final = has_room,
		.sleep = !HAS_NET ? sleep_without_net
	                 : producer->options.wait_mode == PEAL_WAIT_FD
	                         ? sleep_in_poll
	                         : NULL,
		.object = producer,
		.peer_cpu = &producer->connection.arm_page->cpu,
	};
	struct peal__spin_limit limit = {timeout_ns, 0,
	                                 HAS_NET ? SLEEP_MAX_NS : PEAL__NEVER};
	uint64_t frame_bytes = peal_ring_frame_bytes(bytes);
	int result;

	wish(producer, frame_bytes);
	for (;;) {
		peal_doorbell_look(&producer->sleeper);
		result = peal__spin_wait(&producer->spin, &producer->sleeper,
		                         &look, &limit);
		if (producer->options.wait_mode == PEAL_WAIT_FD)
			peal__producer_hear(producer);
		if (peal__ring_make_room(&producer->hot.tx, frame_bytes))
			return 0;
		if (producer->answers != NULL &&
		    peal_ring_has_data(producer->answers))
			return -EAGAIN;
		if (has_lost_server(producer, result)) {
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
	PEAL__HOOK("prepare: about to");
	peal_doorbell_arm(&producer->sleeper);
	PEAL__HOOK("prepare: armed");
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
