/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/read.h"
#include "mpsc/producer.h"

/* Where we run, for a consumer that would spin on our processor in vain. */
void peal__producer_show(struct peal_producer *producer)
{
	int32_t cpu = peal__cpu_current();

	if (cpu == producer->cpu)
		return;
	producer->cpu = cpu;
	peal__write_once(&producer->connection.segment->word.cpu, cpu);
}

/* -1: it was told to nobody, and what found no room is sent all the same. */
static void count_full(struct peal_producer *producer, int change)
{
	producer->stats.full_count += (uint64_t)change;
	peal__write_once(&producer->connection.segment->word.full_count,
	                 producer->stats.full_count);
}

/* A full ring: look whether somebody is still there to empty it, and wait. */
static __attribute__((noinline)) int
claim_full(struct peal_producer *producer, size_t bytes, uint32_t kind,
           uint64_t id, uint64_t timeout_ns, void **ret_data)
{
	struct peal__client_word *word = &producer->connection.segment->word;
	uint64_t start_ns = peal__clock_ns();
	int error = -EAGAIN;

	if (peal__producer_look_is_due(producer) &&
	    peal__producer_look(producer) < 0) {
		producer->told = true;
		return producer->lost;
	}
	if (timeout_ns > 0 && producer->hot.tx.claim_count == 0) {
		error = peal__producer_wait_for_room(producer, bytes,
		                                     timeout_ns);
		if (producer->lost != 0)
			return error;
		producer->stats.blocked_ns += peal__clock_ns() - start_ns;
		peal__write_once(&word->blocked_ns, producer->stats.blocked_ns);
	}
	if (error == 0)
		return peal_ring_claim(&producer->hot.tx, bytes, kind, id,
		                       ret_data);
	count_full(producer, 1);
	return error;
}

int peal__producer_claim_slowly(struct peal_producer *producer, size_t bytes,
                                uint32_t kind, uint64_t id, uint64_t timeout_ns,
                                void **ret_data)
{
	int error = peal__producer_check(producer, timeout_ns);

	if (error < 0)
		return error;
	error = peal_ring_claim(&producer->hot.tx, bytes, kind, id, ret_data);
	if (error == -EAGAIN)
		error = claim_full(producer, bytes, kind, id, timeout_ns,
		                   ret_data);
	if (error == 0)
		producer->hot.claimed_bytes += bytes;
	return error;
}

int peal__producer_publish_slowly(struct peal_producer *producer)
{
	int error = peal__producer_error(producer);

	if (error == 0)
		return -EINVAL;
	producer->told = true;
	return error;
}

/* The functions behind the macros, for those who cannot include a header. */
int(peal_producer_claim)(struct peal_producer *producer, size_t bytes,
                         uint64_t timeout_ns, void **ret_data)
{
	return peal__producer_claim(producer, bytes, 0, 0, timeout_ns,
	                            ret_data);
}

int(peal_producer_publish)(struct peal_producer *producer)
{
	return peal__producer_publish(producer);
}

int peal_producer_trim(struct peal_producer *producer, size_t bytes)
{
	uint32_t before = producer->hot.tx.last_word;
	int error;

	if (producer->hot.is_broken)
		return peal__producer_error(producer);
	error = peal_ring_trim(&producer->hot.tx, bytes);
	if (error == 0)
		producer->hot.claimed_bytes -=
			before - producer->hot.tx.last_word;
	return error;
}

int peal_producer_abort(struct peal_producer *producer)
{
	uint32_t newest = producer->hot.tx.last_word - PEAL_RING_HEADER_BYTES;
	int error;

	if (producer->hot.is_broken)
		return peal__producer_error(producer);
	error = peal_ring_abort(&producer->hot.tx);
	if (error == 0)
		producer->hot.claimed_bytes -= newest;
	return error;
}

int peal_producer_send(struct peal_producer *producer, const void *data,
                       size_t bytes, uint64_t timeout_ns)
{
	void *to;
	int error = peal_producer_claim(producer, bytes, timeout_ns, &to);

	if (PEAL_UNLIKELY(error < 0))
		return error;
	if (bytes > 0)
		memcpy(to, data, bytes);
	peal_producer_publish(producer);
	return 0;
}

int peal_producer_sendv(struct peal_producer *producer,
                        const struct peal_part *parts, size_t part_count,
                        uint64_t timeout_ns)
{
	size_t bytes = 0;
	uint8_t *to;
	void *data;
	int error;

	for (size_t i = 0; i < part_count; i++)
		if (__builtin_add_overflow(bytes, parts[i].data_bytes, &bytes))
			return -EMSGSIZE;
	error = peal_producer_claim(producer, bytes, timeout_ns, &data);
	if (error < 0)
		return error;
	to = data;
	for (size_t i = 0; i < part_count; i++) {
		if (parts[i].data_bytes > 0)
			memcpy(to, parts[i].data, parts[i].data_bytes);
		to += parts[i].data_bytes;
	}
	peal_producer_publish(producer);
	return 0;
}

int peal_producer_send_batch(struct peal_producer *producer,
                             const struct peal_part *messages,
                             size_t message_count, uint64_t timeout_ns)
{
	/* One deadline for all of it, however often it has to wait. */
	uint64_t deadline_ns =
		timeout_ns == 0 ? 0 : peal__deadline_after(timeout_ns);
	size_t sent = 0, published = 0;
	int error = 0;
	void *data;

	if (message_count > INT32_MAX)
		return -EINVAL;
	while (sent < message_count) {
		size_t bytes = messages[sent].data_bytes;

		error = peal_producer_claim(producer, bytes, timeout_ns, &data);
		/* Full with claims in hand: publish them, then wait. */
		if (error == -EAGAIN && producer->lost == 0 &&
		    producer->hot.tx.claim_count > 0 && timeout_ns > 0) {
			count_full(producer, -1);
			peal_producer_publish(producer);
			published = sent;
			timeout_ns = peal__deadline_left(deadline_ns);
			continue;
		}
		if (error < 0)
			break;
		if (bytes > 0)
			memcpy(data, messages[sent].data, bytes);
		sent++;
	}
	/* Claims that a dead server left void were not published. */
	if (producer->lost == 0) {
		if (producer->hot.tx.claim_count > 0)
			peal_producer_publish(producer);
		published = sent;
	}
	/* A count tells no loss: that is left to the next call. */
	if (published > 0 && producer->lost != 0)
		producer->told = false;
	return published > 0 ? (int)published : error;
}
