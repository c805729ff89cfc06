/* SPDX-License-Identifier: MIT */
/*
 * A ring carries messages of any length from one process to one other.
 *
 *	             data is mapped twice, back to back: a frame never splits
 *	  +------+-----------+-------+------------+------+---------- - -
 *	  | free | frame     | frame | claimed    | free | (the copy)
 *	  +------+-----------+-------+------------+------+---------- - -
 *	         ^released           ^first       ^tail
 *	         (shared)            |            (producer's own)
 *	                             commit word is 0: invisible
 *
 *	  frame, 16-byte aligned
 *	  +----------+----------+---------------------+- - - - - - -+------+
 *	  | commit   | kind     | id                  | payload     | pad  |
 *	  | u32      | u32      | u64                 |             |      |
 *	  +----------+----------+---------------------+- - - - - - -+------+
 *	  0          4          8                     16
 *
 *	  commit: 0 = not yet; else bits 0..29 the bytes of header + payload,
 *	  bits 30 and 31 reserved (a reader refuses them).
 *
 * To publish is one store: that of the commit word, after the payload and after
 * zeroing the commit word where the next frame will begin. The reader polls
 * the very line that carries the message. Of a batch the first frame is
 * committed last, so all of it appears at once.
 *
 * Callers: one thread at a time on each side. Both structs are private memory;
 *	nothing in them is shared.
 *
 * Ordering: publish releases the payload, peek acquires it; a
 *	peal_doorbell_ring() may follow, which orders the rest. tell and settle
 *	release what was read, claim acquires it.
 *
 * Progress: wait-free on both sides.
 *
 * Death: a producer killed before the commit store leaves nothing visible; one
 *	killed after it has published. A consumer killed anywhere leaves what
 *	it did not release.
 *
 * Wrap: positions are u64 and count bytes for ever. 8 bytes more than the frame
 *	must be free, because the zeroed word would else be the commit word of
 *	the oldest frame that is still unread.
 *
 * Errors: -EAGAIN (full, empty), -EMSGSIZE (beyond peal_ring_message_max()),
 *	-EINVAL, and for the reader -EPROTO when the other side wrote a frame
 *	that cannot be right. After -EPROTO the ring is good for nothing but
 *	unmapping.
 *
 * Units: bytes. The capacity is a power of two from 4 KiB to 1 GiB, and of whole
 *	pages, or it could not be mapped twice.
 *
 * Source: commit word in the entry after Lamport's single-producer queue and
 *	FastForward (Giacomoni et al., 2008).
 */
#ifndef PEAL_RING_H
#define PEAL_RING_H

#include <errno.h>

#include <peal/base.h>

PEAL_BEGIN_DECLS

#define PEAL_RING_MIN_BYTES (UINT64_C(1) << 12)
#define PEAL_RING_MAX_BYTES (UINT64_C(1) << 30)
#define PEAL_RING_HEADER_BYTES 16
#define PEAL_RING_SPARE_BYTES 8
#define PEAL_RING_LENGTH_MASK UINT32_C(0x3fffffff)
/* How far ahead of a claim the lines of later ones are fetched: far enough to
 * arrive in time, and beyond what the reader polls. Of long frames the machine
 * sees by itself what comes next. */
#define PEAL__RING_AHEAD_BYTES 768
#define PEAL__RING_FETCH_MAX_BYTES 4096
#define PEAL__RING_LINE_BYTES 64

/* Who sent a message: a slot and its generation. {0, 0} is nobody. */
struct peal_peer {
	uint32_t slot_index;
	uint32_t generation;
};

/* A message in place. What @data points to lives until it is released. */
struct peal_message {
	const void *data;
	size_t data_bytes;
	uint64_t id;    /* 0: a push or a one-way message */
	uint32_t kind;  /* of a bare ring: the user's own; of an answer:
	                 * PEAL_ANSWERED or PEAL_FAILED; else 0 */
	int32_t status; /* of answers: the handler's own, 0 is fine */
	struct peal_peer peer;
	uint64_t peal__end; /* for release */
};

/* The header of a frame, as it lies in the ring. */
struct peal_frame {
	uint32_t commit;
	uint32_t kind;
	uint64_t id;
};

/* The writing side. */
struct peal_ring_tx {
	uint8_t *data;
	uint64_t capacity_bytes;
	uint64_t tail;     /* end of the newest claim */
	uint64_t first;    /* start of the oldest unpublished claim */
	uint64_t last;     /* start of the newest claim */
	uint64_t released; /* as last seen */
	uint32_t first_word;
	uint32_t last_word;
	uint32_t claim_count; /* unpublished */
	uint32_t
		newest_is_open; /* may be trimmed; its word is not stored yet */
	const uint64_t *released_word; /* shared, written by the reader */
};

/* The reading side. */
struct peal_ring_rx {
	const uint8_t *data;
	uint64_t capacity_bytes;
	uint64_t head;     /* next frame to peek */
	uint64_t released; /* given back by the reader */
	uint64_t told;     /* given back and stored where the writer looks */
	uint64_t *released_word; /* shared, written by this side */
};

/*
 * Set up a side over a double mapping at @data; both sides begin at the same
 * @start, a multiple of 64 below the capacity, where the memory is zero. Many
 * rings that begin at different places of their pages do not fight for one
 * set of the cache when they are scanned.
 */
PEAL_API void peal_ring_tx_init(struct peal_ring_tx *tx, void *data,
                                uint64_t capacity_bytes, uint64_t start,
                                const uint64_t *released_word);
PEAL_API void peal_ring_rx_init(struct peal_ring_rx *rx, const void *data,
                                uint64_t capacity_bytes, uint64_t start,
                                uint64_t *released_word);

/* The largest payload a ring of this capacity can ever carry. */
static inline size_t peal_ring_message_max(uint64_t capacity_bytes)
{
	return (size_t)(capacity_bytes - 2 * PEAL_RING_HEADER_BYTES);
}

/* What a payload of @bytes takes in the ring. */
static inline uint64_t peal_ring_frame_bytes(uint64_t bytes)
{
	return (bytes + PEAL_RING_HEADER_BYTES + 15) & ~UINT64_C(15);
}

static inline struct peal_frame *
peal__ring_frame(const void *data, uint64_t capacity_bytes, uint64_t position)
{
	return (struct peal_frame *)((uintptr_t)data +
	                             (uintptr_t)(position &
	                                         (capacity_bytes - 1)));
}

/* Read the reader's position again; is there room for @frame_bytes now? */
static inline bool peal__ring_make_room(struct peal_ring_tx *tx,
                                        uint64_t frame_bytes)
{
	/* R1: pairs with R2 and R6: what the reader read there is
	 * read before we write over it. seq_cst because it is also the second
	 * look of a producer about to sleep. */
	uint64_t released = peal__load(tx->released_word, __ATOMIC_SEQ_CST);

	/* A position that moves back or past what was published is a lie: it
	 * is not taken, and the ring stays as full as it was. */
	if (released - tx->released <= tx->first - tx->released)
		tx->released = released;
	return tx->tail - tx->released + frame_bytes + PEAL_RING_SPARE_BYTES <=
	       tx->capacity_bytes;
}

/* The reader has the lines that come next in its cache, since it read them a
 * lap ago: take them back before they are waited for. Only where it has read
 * them, as far as we know: it is not to fetch a message twice. */
static inline void peal__ring_fetch_ahead(const struct peal_ring_tx *tx,
                                          const struct peal_frame *frame,
                                          uint64_t used, uint64_t frame_bytes)
{
	uint64_t ahead = frame_bytes > PEAL__RING_AHEAD_BYTES
	                         ? frame_bytes
	                         : PEAL__RING_AHEAD_BYTES;

	if (PEAL_UNLIKELY(frame_bytes > PEAL__RING_FETCH_MAX_BYTES ||
	                  used + ahead + frame_bytes > tx->capacity_bytes))
		return;
	for (uint64_t i = 0; i < frame_bytes; i += PEAL__RING_LINE_BYTES)
		peal__prefetch_write((const char *)frame + ahead + i);
}

/*
 * Reserve room for a message of @bytes and point @ret_data at it, 16-byte
 * aligned; the caller writes the payload there and publishes. Several claims
 * may be held; all are published at once.
 *
 * 0, or -EAGAIN (full), -EMSGSIZE (beyond peal_ring_message_max()).
 */
static inline int peal_ring_claim(struct peal_ring_tx *tx, size_t bytes,
                                  uint32_t kind, uint64_t id, void **ret_data)
{
	struct peal_frame *frame;
	uint64_t frame_bytes, used;

	if (PEAL_UNLIKELY(bytes > peal_ring_message_max(tx->capacity_bytes)))
		return -EMSGSIZE;
	frame_bytes = peal_ring_frame_bytes(bytes);
	used = tx->tail - tx->released + frame_bytes + PEAL_RING_SPARE_BYTES;
	if (PEAL_UNLIKELY(used > tx->capacity_bytes) &&
	    !peal__ring_make_room(tx, frame_bytes))
		return -EAGAIN;
	if (tx->newest_is_open && tx->last != tx->first)
		/* Relaxed: invisible until the first frame is committed, R3. */
		__atomic_store_n(&peal__ring_frame(tx->data, tx->capacity_bytes,
		                                   tx->last)
		                          ->commit,
		                 tx->last_word, __ATOMIC_RELAXED);
	frame = peal__ring_frame(tx->data, tx->capacity_bytes, tx->tail);
	peal__ring_fetch_ahead(tx, frame, used, frame_bytes);
	frame->kind = kind;
	frame->id = id;
	tx->last = tx->tail;
	tx->last_word = (uint32_t)(bytes + PEAL_RING_HEADER_BYTES);
	if (tx->claim_count++ == 0)
		tx->first_word = tx->last_word;
	tx->newest_is_open = 1;
	tx->tail += frame_bytes;
	*ret_data = frame + 1;
	return 0;
}

/* Shorten the newest claim to @bytes. 0, or -EINVAL (longer, or no claim). */
PEAL_API int peal_ring_trim(struct peal_ring_tx *tx, size_t bytes);

/*
 * Give the newest claim up, as if it had not been made. Only the newest one,
 * and once until the next claim. 0, or -EINVAL (there is none to give up).
 */
PEAL_API int peal_ring_abort(struct peal_ring_tx *tx);

/*
 * Make every claim since the last publish visible, all at once. Returns how
 * many; 0 when nothing was claimed. Then ring, if somebody may sleep.
 */
static inline uint32_t peal_ring_publish(struct peal_ring_tx *tx)
{
	uint32_t count = tx->claim_count;

	if (PEAL_UNLIKELY(count == 0))
		return 0;
	/* Relaxed, both: ordered before the commit below by its release. */
	__atomic_store_n(&peal__ring_frame(tx->data, tx->capacity_bytes,
	                                   tx->tail)
	                          ->commit,
	                 0, __ATOMIC_RELAXED);
	if (tx->newest_is_open && tx->last != tx->first)
		__atomic_store_n(&peal__ring_frame(tx->data, tx->capacity_bytes,
		                                   tx->last)
		                          ->commit,
		                 tx->last_word, __ATOMIC_RELAXED);
	/* R3: pairs with R4, R5 and R7; it announces, for B1 that follows in
	 * peal_doorbell_ring(). */
	__atomic_store_n(&peal__ring_frame(tx->data, tx->capacity_bytes,
	                                   tx->first)
	                          ->commit,
	                 tx->first_word, PEAL__ANNOUNCE);
	tx->first = tx->tail;
	tx->claim_count = 0;
	tx->newest_is_open = 0;
	return count;
}

/* Is there a message to peek? Changes nothing at all. */
static inline bool peal_ring_has_data(const struct peal_ring_rx *rx)
{
	/* R5: pairs with R3; seq_cst because it is the second look. */
	return peal__load(&peal__ring_frame(rx->data, rx->capacity_bytes,
	                                    rx->head)
	                           ->commit,
	                  __ATOMIC_SEQ_CST) != 0;
}

/*
 * Look at the next message, in place, and step past it. Several may be looked
 * at before one is released. Fills all of *@ret_message but its peer.
 *
 * 0, or -EAGAIN (empty), -EPROTO (the writer's bytes make no sense).
 */
static inline int peal_ring_peek(struct peal_ring_rx *rx,
                                 struct peal_message *ret_message)
{
	struct peal_frame *frame =
		peal__ring_frame(rx->data, rx->capacity_bytes, rx->head);
	/* R4: pairs with R3: the payload is there when the word is. */
	uint32_t word = peal__load(&frame->commit, __ATOMIC_ACQUIRE);
	uint64_t end;

	if (word == 0)
		return -EAGAIN;
	end = rx->head + ((word + UINT64_C(15)) & ~UINT64_C(15));
	/* The writer never holds more than the capacity less the spare bytes
	 * beyond what it was told is free. */
	if (PEAL_UNLIKELY(word < PEAL_RING_HEADER_BYTES ||
	                  word > PEAL_RING_LENGTH_MASK ||
	                  end - rx->told + PEAL_RING_SPARE_BYTES >
	                          rx->capacity_bytes))
		return -EPROTO;
	ret_message->data = frame + 1;
	ret_message->data_bytes = word - PEAL_RING_HEADER_BYTES;
	/* Relaxed: R4 has acquired them; each is read once. */
	ret_message->id = peal__load(&frame->id, __ATOMIC_RELAXED);
	ret_message->kind = peal__load(&frame->kind, __ATOMIC_RELAXED);
	ret_message->status = 0;
	ret_message->peal__end = end;
	rx->head = end;
	return 0;
}

/*
 * Give back everything up to and including @message, of which a copy will do.
 * The writer learns of it from peal_ring_tell() or peal_ring_settle(). One that
 * was not peeked here, or was given back already, changes nothing.
 */
static inline void peal_ring_release(struct peal_ring_rx *rx,
                                     const struct peal_message *message)
{
	uint64_t end = message->peal__end;

	if (PEAL_LIKELY(end - rx->released <= rx->head - rx->released))
		rx->released = end;
}

/*
 * Let the writer know what was released: tell is a plain store, for a turn's
 * end; settle is what must be done before this side sleeps, and before it looks
 * whether the writer sleeps: releasing is publishing the other way.
 */
static inline void peal_ring_tell(struct peal_ring_rx *rx)
{
	rx->told = rx->released;
	/* R2: pairs with R1, R8 and R9: our reads are done before the
	 * writer writes. */
	__atomic_store_n(rx->released_word, rx->told, __ATOMIC_RELEASE);
}

static inline void peal_ring_settle(struct peal_ring_rx *rx)
{
	rx->told = rx->released;
	/* R6: pairs with R1, R8 and R9; it announces, for the load of the
	 * writer's bell, B1, that follows. */
	__atomic_store_n(rx->released_word, rx->told, PEAL__ANNOUNCE);
}

PEAL_END_DECLS

#endif
