/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/file.h"
#include "base/hooks.h"
#include "base/random.h"
#include "base/read.h"
#include "mpsc/connect.h"
#include "mpsc/seat.h"
#include "shm/pass.h"

/* Of the ring for answers to the server's own calls. */
#define LANE_BYTES (UINT64_C(16) << 10)

#define OVERFLOW_UID_FILE "/proc/sys/kernel/overflowuid"
#define OVERFLOW_GID_FILE "/proc/sys/kernel/overflowgid"
#define OVERFLOW_ID 65534 /* what they say unless somebody changed it */

static uint32_t read_id(const char *path)
{
	char text[32], *end;
	unsigned long id;

	if (peal__file_read(path, text, sizeof(text)) <= 0)
		return OVERFLOW_ID;
	id = strtoul(text, &end, 10);
	return end == text || id > UINT32_MAX ? OVERFLOW_ID : (uint32_t)id;
}

uint32_t peal__grant_overflow_uid(void)
{
	return read_id(OVERFLOW_UID_FILE);
}

uint32_t peal__grant_overflow_gid(void)
{
	return read_id(OVERFLOW_GID_FILE);
}

static bool contains(const uint32_t *ids, size_t count, uint32_t id)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Our own user: the one that opened, or the only one that we still can be. One
 * that we are for a moment, to open a file as it, say, is a stranger. */
static bool is_our_own(const struct peal__admission *admission, uint32_t uid)
{
	uid_t real, effective, saved;

	return uid == admission->own_uid ||
	       (getresuid(&real, &effective, &saved) == 0 && uid == real &&
	        uid == effective && uid == saved);
}

static bool is_allowed(const struct peal__admission *admission,
                       const struct peal_peer_info *info)
{
	const struct peal_consumer_options *options = &admission->options;

	if (contains(options->allow_uid, options->allow_uid_count, info->uid) ||
	    contains(options->allow_gid, options->allow_gid_count, info->gid))
		return true;
	return info->uid == 0 || is_our_own(admission, info->uid);
}

/* Another uid gets no page that others write, and no huge pages. A process that
 * has changed its user since it opened, maybe for a moment only, trusts nobody. */
static bool is_trusted(const struct peal__admission *admission,
                       const struct peal_peer_info *info)
{
	return info->uid == admission->own_uid && info->uid == geteuid();
}

/* How many seats this user has, or how many of them with a slot; the one that
 * asks is not counted. */
static uint32_t seats_of(const struct peal__admission *admission,
                         const struct peal__seat *asking, bool with_slot)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < admission->seat_max; i++) {
		const struct peal__seat *seat = &admission->seats[i];

		if (seat != asking && seat->phase != PEAL__SEAT_EMPTY &&
		    (seat->slot != NULL || !with_slot) &&
		    seat->info.uid == asking->info.uid)
			count++;
	}
	return count;
}

static struct peal__slot *find_free_slot(struct peal_consumer *consumer)
{
	for (uint32_t i = 0; i < consumer->slot_max; i++) {
		/* Relaxed: only this thread makes a slot free. */
		uint32_t state = __atomic_load_n(&consumer->slots[i].state,
		                                 __ATOMIC_RELAXED);

		if (state == PEAL__SLOT_FREE &&
		    consumer->slots[i].segment == NULL)
			return &consumer->slots[i];
	}
	return NULL;
}

static const char *people(const struct peal__admission *admission)
{
	return peal__admission_role(admission) == PEAL__ROLE_CLIENT
	               ? "client"
	               : "producer";
}

/* May a ring have so many bytes? */
static int check_ring(const struct peal_consumer_options *options,
                      const char *field, uint64_t bytes,
                      struct peal_failure *failure)
{
	if (bytes < options->ring_min_bytes || bytes > options->ring_max_bytes)
		return peal__fail(
			failure, -EMSGSIZE,
			"%s is %llu; this server allows %llu to %llu, "
			"its ring_min_bytes and ring_max_bytes",
			field, (unsigned long long)bytes,
			(unsigned long long)options->ring_min_bytes,
			(unsigned long long)options->ring_max_bytes);
	if ((bytes & (bytes - 1)) != 0)
		return peal__fail(failure, -EINVAL,
		                  "%s is %llu, which is no power of two", field,
		                  (unsigned long long)bytes);
	return 0;
}

/* 0, or why not: a code, and a sentence in @failure. */
static int check_caps(const struct peal__admission *admission,
                      const struct peal__seat *seat,
                      const struct peal__slot *slot,
                      const struct peal__segment_shape *shape,
                      struct peal_failure *failure)
{
	const struct peal_consumer_options *options = &admission->options;
	uint32_t uid_max = options->producer_per_uid_max;
	bool is_client = peal__admission_role(admission) == PEAL__ROLE_CLIENT;
	int error;

	/* Relaxed: who comes a moment earlier is sent away a moment later. */
	if (peal__read_once(&admission->consumer->refusing) != 0)
		return peal__fail(failure, -ESHUTDOWN, "the server is closing");
	if (slot == NULL)
		return peal__fail(failure, -EBUSY,
		                  "the server has all of its %u slots taken; "
		                  "raise %s_max",
		                  options->producer_max, people(admission));
	if (seats_of(admission, seat, true) >= uid_max)
		return peal__fail(failure, -EBUSY,
		                  "user %u has all of the %u slots that one "
		                  "user may have; raise %s_per_uid_max",
		                  seat->info.uid, uid_max, people(admission));
	error = check_ring(options,
	                   is_client ? "request_ring_bytes" : "ring_bytes",
	                   shape->rings[PEAL__RING_REQUEST].bytes, failure);
	if (error == 0 && is_client)
		error = check_ring(options, "response_ring_bytes",
		                   shape->rings[PEAL__RING_RESPONSE].bytes,
		                   failure);
	if (error < 0)
		return error;
	if (peal__segment_ring_bytes(shape) >
	    options->segment_total_max_bytes - admission->segment_total_bytes)
		return peal__fail(failure, -EBUSY,
		                  "the rings of this server may not take more "
		                  "memory; raise segment_total_max_bytes");
	return 0;
}

/* Send WELCOME; a queue that is full is somebody who does not listen. */
static int welcome(struct peal__seat *seat, struct peal__welcome *welcome,
                   const int *fds, size_t fd_count)
{
	union peal__packet packet = {.welcome = *welcome};
	size_t bytes = peal__wire_seal(&packet, PEAL__WIRE_WELCOME);

	PEAL__HOOK("admission: welcome");
	return peal__pass_send(seat->socket.fd, &packet, bytes, fds, fd_count);
}

/* Observers that only look must not keep those out who work. */
static bool has_observers_enough(const struct peal__admission *admission)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < admission->seat_max; i++)
		count += admission->seats[i].phase == PEAL__SEAT_OBSERVER;
	return count >= PEAL__OBSERVER_MAX;
}

static void grant_observer(struct peal__admission *admission,
                           struct peal__seat *seat,
                           const struct peal__hello *hello)
{
	struct peal__welcome answer = {
		.nonce = hello->nonce,
		.status_bytes =
			peal__status_bytes(admission->consumer->slot_max),
	};

	if (has_observers_enough(admission)) {
		peal__seat_refuse(
			admission, seat, -EBUSY,
			"eight observers look at this server already");
		return;
	}
	if (welcome(seat, &answer, &admission->regions[PEAL__REGION_STATUS].fd,
	            1) < 0) {
		peal__seat_refuse(admission, seat, 0, NULL);
		return;
	}
	seat->phase = PEAL__SEAT_OBSERVER;
	admission->pending_count--;
}

/* As peal__segment_open(), in a sentence for somebody who has none of the options
 * that it would name. */
static int open_segment(const struct peal__admission *admission,
                        struct peal__slot *slot, uint32_t flags,
                        struct peal__fork_fd *ret_fd,
                        struct peal_failure *failure)
{
	struct peal_failure why = {0};
	int error = peal__segment_open(
		slot, flags, admission->options.numa_node, ret_fd, &why);

	if (error < 0)
		return peal__fail(failure, error,
		                  "the server could not make this %s's memory: "
		                  "%s",
		                  people(admission), why.text);
	return 0;
}

/* Make the slot's segment and hand it over. 0 or -errno with a sentence. */
static int grant_slot(struct peal__admission *admission,
                      struct peal__seat *seat, struct peal__slot *slot,
                      const struct peal__hello *hello,
                      struct peal_failure *failure)
{
	bool trusted = is_trusted(admission, &seat->info);
	uint32_t flags = admission->options.memory_flags;
	struct peal__welcome answer = {
		.slot_index = slot->peer.slot_index,
		.generation = slot->peer.generation,
		.nonce = hello->nonce,
		.flags = trusted ? PEAL__WELCOME_TRUSTED : 0,
	};
	struct peal__fork_fd segment = {.fd = -1};
	int fds[3], error;

	if (!trusted)
		flags &= ~(uint32_t)PEAL_MEMORY_HUGE;
	error = open_segment(admission, slot, flags, &segment, failure);
	if (error < 0)
		return error;
	answer.page_bytes = (uint32_t)slot->shape.page_bytes;
	answer.request_ring_bytes = slot->shape.rings[PEAL__RING_REQUEST].bytes;
	answer.request_start = slot->shape.rings[PEAL__RING_REQUEST].start;
	answer.response_ring_bytes =
		slot->shape.rings[PEAL__RING_RESPONSE].bytes;
	answer.response_start = slot->shape.rings[PEAL__RING_RESPONSE].start;
	answer.lane_ring_bytes = slot->shape.rings[PEAL__RING_LANE].bytes;
	answer.lane_start = slot->shape.rings[PEAL__RING_LANE].start;
	slot->socket_fd = seat->socket.fd;
	slot->flags = hello->flags;
	slot->is_trusted = trusted;
	slot->said_bye = false;
	slot->evict_error = 0;
	seat->slot = slot;
	/* The rings alone, as the cap has them: the sum stays below it. */
	admission->segment_total_bytes +=
		peal__segment_ring_bytes(&slot->shape);
	fds[0] = admission->regions[PEAL__REGION_ARM].fd;
	fds[1] = segment.fd;
	fds[2] = admission->regions[PEAL__REGION_BELL].fd;
	error = welcome(seat, &answer, fds, trusted ? 3 : 2);
	peal__fork_forget(&segment, true);
	return error < 0 ? peal__fail(failure, error, "WELCOME was not read")
	                 : 0;
}

/* The rings it asked for, or the usual ones. */
static struct peal__segment_shape
wished_shape(const struct peal__admission *admission,
             const struct peal__hello *hello)
{
	uint64_t usual = admission->options.ring_default_bytes;
	uint64_t page_bytes = peal_shm_page_bytes(
		admission->options.memory_flags & PEAL_MEMORY_HUGE
			? PEAL_SHM_HUGE
			: 0);
	struct peal__segment_shape shape = {0};

	shape.rings[PEAL__RING_REQUEST].bytes =
		hello->request_ring_bytes == 0 ? usual
					       : hello->request_ring_bytes;
	if (hello->role != PEAL__ROLE_CLIENT)
		return shape;
	shape.rings[PEAL__RING_RESPONSE].bytes =
		hello->response_ring_bytes == 0 ? usual
						: hello->response_ring_bytes;
	shape.rings[PEAL__RING_LANE].bytes =
		page_bytes > LANE_BYTES ? page_bytes : LANE_BYTES;
	return shape;
}

static void grant_ring(struct peal__admission *admission,
                       struct peal__seat *seat, const struct peal__hello *hello)
{
	struct peal__slot *slot = find_free_slot(admission->consumer);
	struct peal__segment_shape shape = wished_shape(admission, hello);
	struct peal_failure failure = {0};
	int error = check_caps(admission, seat, slot, &shape, &failure);

	if (error == 0) {
		seat->info.ring_bytes = shape.rings[PEAL__RING_REQUEST].bytes;
		slot->shape = shape;
		slot->info = seat->info;
		error = grant_slot(admission, seat, slot, hello, &failure);
	}
	if (error < 0) {
		peal__seat_refuse(admission, seat, error, failure.text);
		return;
	}
	seat->phase = PEAL__SEAT_READY;
	/* How long we took to answer is not its fault. */
	seat->deadline_ns = peal__deadline_after(PEAL__HANDSHAKE_NS);
}

/* Nobody has said yet what it wants to be, and to be silent for a second is
 * cheap: without this one user could have all seats. Those who gave up while we
 * did not listen are in nobody's way: they go in this very pass, unless they
 * have to wait to be heard. */
static bool has_seats_enough(const struct peal__admission *admission,
                             const struct peal__seat *asking, uint32_t max)
{
	uint32_t count = seats_of(admission, asking, false);

	for (uint32_t i = 0; i < admission->seat_max && count >= max; i++) {
		const struct peal__seat *seat = &admission->seats[i];

		if (seat != asking && peal__seat_is_pending(seat) &&
		    seat->phase != PEAL__SEAT_WAITING &&
		    seat->info.uid == asking->info.uid &&
		    peal__has_hung_up(seat->socket.fd))
			count--;
	}
	return count >= max;
}

int peal__grant_check(const struct peal__admission *admission,
                      const struct peal__seat *seat,
                      struct peal_failure *failure)
{
	const struct peal_consumer_options *options = &admission->options;
	uint32_t uid_max = options->producer_per_uid_max + PEAL__OBSERVER_MAX;

	if (seat->info.uid == admission->overflow_uid)
		return peal__fail(
			failure, -EACCES,
			"user %u may be anybody whom this user "
			"namespace has no number for; use another one",
			seat->info.uid);
	if (!is_allowed(admission, &seat->info))
		return peal__fail(failure, -EACCES,
		                  "user %u is not allowed here; see allow_uid "
		                  "and allow_gid",
		                  seat->info.uid);
	if (has_seats_enough(admission, seat, uid_max))
		return peal__fail(failure, -EBUSY,
		                  "user %u has all of the %u connections that "
		                  "one user may have; raise %s%s_max",
		                  seat->info.uid, uid_max, people(admission),
		                  options->producer_per_uid_max <
		                                  options->producer_max
		                          ? "_per_uid"
		                          : "");
	return 0;
}

void peal__grant(struct peal__admission *admission, struct peal__seat *seat,
                 const struct peal__hello *hello)
{
	if (hello->abi != PEAL__WIRE_ABI) {
		peal__seat_refuse(admission, seat, -EPROTONOSUPPORT,
		                  "the shapes of shared memory differ: build "
		                  "both sides with the same major version");
	} else if (hello->role == PEAL__ROLE_OBSERVER) {
		grant_observer(admission, seat, hello);
	} else if (hello->role == peal__admission_role(admission)) {
		grant_ring(admission, seat, hello);
	} else if (hello->role == PEAL__ROLE_CLIENT) {
		peal__seat_refuse(admission, seat, -EPROTONOSUPPORT,
		                  "this server takes producers and observers; "
		                  "it answers no calls: attach to it as a "
		                  "producer");
	} else {
		peal__seat_refuse(admission, seat, -EPROTONOSUPPORT,
		                  "this server answers calls: connect to it as "
		                  "a client");
	}
}

static void copy_words(struct peal__status_slot *row,
                       const struct peal__slot *slot)
{
	const struct peal__client_word *word = &slot->segment->word;
	uint64_t fill = peal__read_once(&word->position) -
	                peal__read_once(&slot->segment->request_released);

	/* Both are words that the client can write. */
	if (fill > slot->shape.rings[PEAL__RING_REQUEST].bytes)
		fill = 0;
	peal__write_once(&row->client_fill_bytes, fill);
	peal__write_once(&row->client_full_count,
	                 peal__read_once(&word->full_count));
	peal__write_once(&row->client_blocked_ns,
	                 peal__read_once(&word->blocked_ns));
}

void peal__grant_refresh(struct peal__admission *admission,
                         struct peal__seat *observer)
{
	struct peal_consumer *consumer = admission->consumer;
	union peal__packet packet;

	for (uint32_t i = 0; i < admission->seat_max; i++) {
		const struct peal__slot *slot = admission->seats[i].slot;

		if (slot != NULL)
			copy_words(
				&consumer->status_slots[slot->peer.slot_index],
				slot);
	}
	peal__write_once(&consumer->status->looked_ns, peal__clock_ns());
	/* An observer that does not listen is told the next time. */
	if (peal__pass_send(observer->socket.fd, &packet,
	                    peal__wire_seal(&packet, PEAL__WIRE_STATUS), NULL,
	                    0) < 0)
		return;
}
