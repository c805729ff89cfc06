/* SPDX-License-Identifier: MIT */
/*
 * The inside of a consumer: what the thread that drains rings and the one that
 * admits producers have in common, and which of them owns what.
 *
 *	  free --HELLO--> (handshake) --READY--> LIVE --death--> HUNG_UP
 *	   ^                                      |                 |
 *	   |                       bad bytes, -- EVICTED         drained
 *	   |                       sent away      | let go          |
 *	   |                                      v                 v
 *	   +---------- unmapped, ++generation --- DONE <------------+
 *
 *	admission moves a slot to LIVE, to HUNG_UP and back to FREE;
 *	the drainer moves it to EVICTED, if something keeps it back, and to
 *	DONE, after which it never touches it again.
 *
 * Callers: fields are marked A (admission), C (the consumer's thread), AC
 *	(atomic, both). In fd mode both are one thread.
 *
 * Ordering: state is stored with release and loaded with acquire; all else in
 *	a slot is handed over by it.
 *
 * Death: of a producer at any place: admission hears of it and moves the slot.
 *	What the producer left in its segment is read as a stranger's.
 */
#ifndef PEAL_MPSC_SERVER_H
#define PEAL_MPSC_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fork.h"
#include "doorbell/lifeline.h"
#include "doorbell/spin.h"
#include "mpsc/layout.h"
#include "mpsc/name.h"
#include "mpsc/segment.h"
#include "mpsc/wire.h"
#include "peal/doorbell.h"
#include "peal/mpsc.h"
#include "peal/shm.h"

#define PEAL__PRODUCER_MAX 4096

enum peal__slot_state {
	PEAL__SLOT_FREE,
	PEAL__SLOT_LIVE,
	PEAL__SLOT_HUNG_UP,
	PEAL__SLOT_EVICTED, /* to be told so; its memory is still looked at */
	PEAL__SLOT_DONE,
};

/* One connection's ring as the server sees it. Never freed while open. */
struct peal__slot {
	uint32_t state; /* AC: enum peal__slot_state */
	struct peal_peer peer;

	/* A, before LIVE; constant until FREE */
	struct peal_shm_mapping mapping;
	struct peal__segment *segment;
	struct peal__segment_shape shape;
	struct peal_peer_info info;
	int socket_fd;
	uint64_t flags;  /* of its HELLO */
	bool is_trusted; /* it has the bell page; nobody asks a second time */
	bool said_bye;   /* before HUNG_UP */

	/* C, from LIVE to DONE */
	struct peal_ring_rx rx;
	struct peal_ringer space; /* rings a producer that waits for room */
	uint64_t message_count;
	uint64_t payload_bytes;
	uint64_t tell_bytes; /* released and not told: time to look at it */
	uint64_t drain_end;  /* no message that begins here is delivered */
	bool unsettled;      /* released since the last settling */
	bool known;          /* ours, from LIVE to DONE */
	bool parked;         /* out of the scan, for a while */
	bool retired;        /* out of the scan; views may still be held */
	uint32_t hold_count; /* who above us still needs the memory */
	int evict_error;     /* why it was retired; 0 when it was drained */
};

/* An entry of the scan: all that a fruitless look needs. */
struct peal__scan_entry {
	const uint32_t *commit; /* the word that becomes the next message */
	uint32_t slot_index;
	uint32_t idle_count; /* passes without a message */
};

/*
 * Which rings a pass looks at: [0, hot_count) every time, a part of the rest
 * in turn. C alone.
 */
struct peal__scan {
	struct peal__scan_entry *entries;
	uint32_t *places; /* of each slot among the entries */
	uint32_t count;
	uint32_t hot_count;
	uint32_t hot_next;  /* where the round robin goes on */
	uint32_t cold_next; /* likewise, counted from hot_count */
};

struct peal__admission;

/*
 * Who stands on a consumer and makes more of it: a reactor. A plain consumer
 * has nobody.
 */
struct peal__owner {
	enum peal__wire_role role; /* of those that may attach */
	void *object;

	/* Something to do beyond the rings? Only loads, which are seq_cst: it
	 * is part of the second look. C */
	bool (*has_work)(void *object);
	/* What must be done before a sleep, and after a short spin. C */
	void (*settle)(void *object);
	/* What is worth showing goes to the status region: then, and about every
	 * millisecond where there is no pause. Or NULL. C */
	void (*show)(void *object);
	/* A slot is ours from now on; its client has gone: is what it left in
	 * the ring to be read (NULL: no), which must then go on until it is
	 * done or retired; it is not ours any more, and why: 0, -ECONNRESET or what it
	 * was retired with. C */
	void (*opened)(void *object, struct peal__slot *slot);
	bool (*reads_on)(void *object, struct peal__slot *slot);
	void (*closed)(void *object, struct peal__slot *slot, int reason);
	/* @stop_fd has become readable. A */
	void (*stop)(void *object);
	int stop_fd; /* -1: none */
};

/* The inline halves find "hot" at its beginning. */
struct peal_consumer {
	struct peal__consumer_hot hot; /* C */

	const struct peal__owner *owner; /* or NULL; constant */

	/* C */
	bool paused;                /* nobody's turn, until it is taken back */
	bool is_calm;               /* the owner's: sleep rather than spin */
	struct peal__slot *current; /* whose turn it is, or was last; or NULL */
	uint32_t fork_generation;
	struct peal__slot *slots;
	uint32_t turn_budget;
	uint32_t drained_count; /* messages since the last wait */
	uint32_t changes_seen;
	uint32_t unsettled_count;
	uint32_t draining_count; /* hung up, and not retired yet */
	struct peal__scan scan;
	struct peal_sleeper sleeper;
	struct peal__spin spin;
	uint64_t active_ns;   /* about now, for the status region */
	uint32_t turn_folded; /* of hot.turn_left: not counted below this */
	uint32_t turn_count;
	uint32_t pass_count;
	uint64_t chores_ticks; /* when they were done last */
	uint64_t door_ticks;   /* how long the door may wait for them */
	uint64_t shown_ticks;  /* when the owner has shown itself */
	uint64_t show_ticks;   /* how long that will do without a pause */
	bool clock_is_old;
	int32_t cpu;             /* as last told */
	const int32_t *peer_cpu; /* of the producer that was active last */
	struct peal_consumer_stats totals; /* of slots that are DONE */

	/* shared memory, constant */
	struct peal_shm_mapping arm_mapping, bell_mapping, status_mapping;
	struct peal__arm_page *arm_page;
	struct peal__bell_page *bell_page;
	struct peal__status_server *status;
	struct peal__status_slot *status_slots;

	/* AC */
	uint32_t changes;  /* slots have changed their state */
	uint32_t notified; /* peal_consumer_notify() was called */
	uint32_t stopping;
	uint32_t refusing; /* newcomers are told that we are closing */

	/* constant after open */
	uint32_t slot_max;
	uint32_t wait_mode;
	int notify_fd; /* eventfd, fd mode only; else -1 */
	struct peal__admission *admission;
};

/* Readers that pause do so for no longer than this, in pauses. */
#define PEAL__PAUSES_MAX 64

static inline bool
peal__consumer_was_forked(const struct peal_consumer *consumer)
{
	return PEAL_UNLIKELY(consumer->fork_generation !=
	                     peal__fork_generation());
}

/* consumer.c ---------------------------------------------------------------- */

/*
 * As peal_consumer_open(), with options that were checked, for @owner, which
 * may be told to stop before this returns: *@ret_consumer is there by then, and
 * NULL after a failure.
 */
int peal__consumer_open(const struct peal_consumer_options *known,
                        const struct peal__owner *owner,
                        struct peal_consumer **ret_consumer);

/* wait.c ------------------------------------------------------------------- */

/*
 * What is mostly done in a pause must not wait for ever when there is none: a
 * producer may sleep until it is settled, and in fd mode nobody else looks at
 * the door.
 */
void peal__consumer_do_chores(struct peal_consumer *consumer);

/* regions.c: the shared memory of a server and of each connection ---------- */

/*
 * Make and map the arm page, the bell page and the status region; their
 * descriptors, to be handed out, go to @ret_fds in the order of
 * enum peal__region. 0 or -errno; on failure nothing is left.
 */
enum peal__region {
	PEAL__REGION_ARM,
	PEAL__REGION_BELL,
	PEAL__REGION_STATUS,
	PEAL__REGION_COUNT,
};
int peal__regions_open(struct peal_consumer *consumer, const char *label,
                       int numa_node, int ret_fds[PEAL__REGION_COUNT],
                       struct peal_failure *failure);
void peal__regions_close(struct peal_consumer *consumer);

/*
 * Make and map the segment of @slot, whose peer and bytes of rings are set. The
 * descriptor is the caller's, and watched: a segment is as large as its rings
 * may be, and no child is to keep it alive. 0 or -errno with a sentence.
 */
int peal__segment_open(struct peal__slot *slot, uint32_t memory_flags,
                       int numa_node, struct peal__fork_fd *ret_fd,
                       struct peal_failure *failure);

/* scan.c: which ring is next ------------------------------------------------ */

/* Room for @slot_max entries. 0 or -ENOMEM. */
int peal__scan_open(struct peal__scan *scan, uint32_t slot_max);
void peal__scan_close(struct peal__scan *scan);
void peal__scan_add(struct peal__scan *scan, const struct peal__slot *slot);
void peal__scan_remove(struct peal__scan *scan, uint32_t slot_index);

/* A turn is over: another commit word is the slot's next message. */
static inline void peal__scan_moved(struct peal__scan *scan,
                                    const struct peal__slot *slot)
{
	scan->entries[scan->places[slot->peer.slot_index]].commit =
		&peal__ring_frame(slot->rx.data, slot->rx.capacity_bytes,
	                          slot->rx.head)
			 ->commit;
}

/*
 * The slot index of the next ring with a message, or UINT32_MAX when neither
 * the recently active rings nor this pass's share of the others have any.
 */
uint32_t peal__scan_next(struct peal__scan *scan);

/*
 * For a spin: any message in a recently active ring, or in one more of the
 * others? Moves nothing but the place where the others are looked at.
 */
bool peal__scan_poll(struct peal__scan *scan);

/*
 * For the second look: any message in any ring? The next pass begins where it
 * was found, or with many rings it would be long in coming to it.
 */
bool peal__scan_find(struct peal__scan *scan);

/* Any message in a recently active ring but that of @but_slot? Only loads. */
bool peal__scan_has_hot(const struct peal__scan *scan, uint32_t but_slot);

/* Any message in any ring but that of @but_slot (or UINT32_MAX)? Only loads. */
bool peal__scan_has_data(const struct peal__scan *scan, uint32_t but_slot);

/* drain.c: slots between LIVE and DONE, on the consumer's thread ----------- */

/* Take notice of slots that admission has moved. */
void peal__drain_take_changes(struct peal_consumer *consumer);

/* It is the turn of @slot, for a budget of messages. */
void peal__drain_begin_turn(struct peal_consumer *consumer,
                            struct peal__slot *slot);

/*
 * The current slot's turn is over, or its ring is empty: tell what it gave
 * back. It stays the current one until another one has a message.
 */
void peal__drain_end_turn(struct peal_consumer *consumer);

/* It is nobody's turn. */
void peal__drain_forget_turn(struct peal_consumer *consumer);

/* Tell the producer what was released, and ring it if it waits for that. */
void peal__drain_tell(struct peal_consumer *consumer, struct peal__slot *slot);
void peal__drain_settle_all(struct peal_consumer *consumer);

/* Something was released out of turn, enough to tell, or after a hang-up. */
void peal__drain_released(struct peal_consumer *consumer,
                          struct peal__slot *slot);

/*
 * Take no message of @slot until it is unparked: its turn is over, what it gave
 * back is settled, and the second look does not see it.
 */
void peal__drain_park(struct peal_consumer *consumer, struct peal__slot *slot);
void peal__drain_unpark(struct peal_consumer *consumer,
                        struct peal__slot *slot);

/* Wake its client if it waits for room, whether or not there is any. */
void peal__drain_wake(struct peal__slot *slot);

/* Of a slot that hung up or is retired: go on if nothing keeps it back. */
void peal__drain_check(struct peal_consumer *consumer, struct peal__slot *slot);

/*
 * The same, of all that are being drained. Whoever still maps a ring can take
 * back a message that was seen in it, and then no peek comes to its end.
 */
void peal__drain_check_all(struct peal_consumer *consumer);

/*
 * Look at its ring no more, and let go of it when all views of it have been
 * released; @error is why when its bytes made no sense, else 0.
 */
void peal__drain_retire(struct peal_consumer *consumer, struct peal__slot *slot,
                        int error);

#endif
