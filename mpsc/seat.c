/* SPDX-License-Identifier: MIT */
#include "mpsc/seat.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/failure.h"
#include "base/hooks.h"
#include "base/read.h"
#include "mpsc/connect.h"
#include "mpsc/listen.h"
#include "shm/pass.h"

#define PACKETS_AT_ONCE 16

struct peal__seat *peal__seat_find_empty(struct peal__admission *admission)
{
	struct peal__seat *seat = admission->seats;

	while (seat->phase != PEAL__SEAT_EMPTY)
		seat++;
	*seat = (struct peal__seat){
		.serial = seat->serial, .socket.fd = -1, .pid.fd = -1};
	return seat;
}

static void let_in(struct peal__admission *admission, struct peal__seat *seat)
{
	seat->phase = PEAL__SEAT_HELLO;
	seat->deadline_ns = peal__deadline_after(PEAL__HANDSHAKE_NS);
	if (peal__admission_watch(admission, seat->socket.fd,
	                          PEAL__EVENT_SOCKET, seat) != 0 ||
	    (seat->pid.fd >= 0 &&
	     peal__admission_watch(admission, seat->pid.fd, PEAL__EVENT_PIDFD,
	                           seat) != 0))
		peal__seat_refuse(admission, seat, -ENOMEM,
		                  "the server is out of memory");
}

static void refuse_hasty(struct peal__admission *admission,
                         struct peal__seat *seat)
{
	struct peal_failure failure = {0};

	peal__fail(&failure, -EBUSY,
	           "user %u comes too often, and would wait for longer than a "
	           "second; raise %s_rate_max, which is %u",
	           seat->info.uid,
	           peal__admission_role(admission) == PEAL__ROLE_CLIENT
	                   ? "connect"
	                   : "attach",
	           admission->options.attach_rate_max);
	peal__seat_refuse(admission, seat, -EBUSY, failure.text);
}

void peal__seat_take(struct peal__admission *admission, struct peal__seat *seat)
{
	int socket_fd = seat->socket.fd;
	struct peal_failure failure = {0};
	struct ucred credentials;
	socklen_t bytes = sizeof(credentials);
	uint64_t now_ns = peal__clock_ns();

	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials,
	               &bytes) != 0) {
		peal__fork_forget(&seat->socket, true);
		return;
	}
	/* Its listener may have been somebody else's when it connected. */
	if (admission->path[0] == '\0')
		peal__listen_for_bytes(socket_fd);
	seat->phase = PEAL__SEAT_WAITING;
	seat->serial++;
	seat->pid.fd = peal__pidfd_of_peer(socket_fd, credentials.pid);
	seat->info = (struct peal_peer_info){
		.pid = credentials.pid,
		.uid = credentials.uid,
		.gid = credentials.gid,
	};
	peal__fork_watch(&seat->pid);
	admission->seat_count++;
	admission->pending_count++;
	/* Strangers are not waited for: silent ones would fill the seats. */
	if (peal__grant_check(admission, seat, &failure) < 0) {
		peal__seat_refuse(admission, seat, failure.code, failure.text);
		return;
	}
	seat->deadline_ns =
		peal__pace_enter(&admission->pace, seat->info.uid, now_ns);
	if (seat->deadline_ns == PEAL__PACE_TURNED_AWAY)
		refuse_hasty(admission, seat);
	else if (seat->deadline_ns <= now_ns)
		let_in(admission, seat);
}

/* Off the epoll set first: a copy of the descriptor elsewhere would keep
 * reporting it. */
static void stop_watching(struct peal__admission *admission,
                          struct peal__seat *seat)
{
	epoll_ctl(admission->epoll.fd, EPOLL_CTL_DEL, seat->socket.fd, NULL);
	if (seat->pid.fd < 0)
		return;
	epoll_ctl(admission->epoll.fd, EPOLL_CTL_DEL, seat->pid.fd, NULL);
	peal__fork_forget(&seat->pid, true);
}

static void send_error(const struct peal__seat *seat, int code,
                       const char *text)
{
	union peal__packet packet;
	size_t bytes = peal__wire_error(&packet, code, text);

	/* Who does not read it, does not learn it. */
	if (peal__pass_send(seat->socket.fd, &packet, bytes, NULL, 0) < 0)
		return;
}

/* The slot goes back to the free ones, with a generation nobody has seen. */
static void free_slot(struct peal__admission *admission,
                      struct peal__seat *seat)
{
	struct peal__slot *slot = seat->slot;
	struct peal__status_slot *row;

	row = &admission->consumer->status_slots[slot->peer.slot_index];
	peal__write_once(&row->state, PEAL__STATUS_SLOT_FREE);
	admission->segment_total_bytes -=
		peal__segment_ring_bytes(&slot->shape);
	peal_shm_unmap(&slot->mapping);
	slot->segment = NULL;
	if (++slot->peer.generation == 0)
		slot->peer.generation = 1; /* {0, 0} is nobody */
	/* Relaxed: only this thread takes a slot that is free. */
	__atomic_store_n(&slot->state, PEAL__SLOT_FREE, __ATOMIC_RELAXED);
	seat->slot = NULL;
}

static const char *why_evicted(int error)
{
	switch (error) {
	case -EPROTO:
		return "your ring held bytes that make no sense";
	case -ETIMEDOUT:
		return "you were idle, or did not read your answers, for "
		       "longer than this server allows";
	default:
		return "the server has sent you away";
	}
}

/* It would come back at once, and again, and each time others would wait while
 * it is let in. */
static void punish(struct peal__admission *admission,
                   const struct peal__seat *seat)
{
	peal__pace_punish(&admission->pace, seat->info.uid, peal__clock_ns());
}

static void tell_why(struct peal__admission *admission,
                     const struct peal__seat *seat)
{
	int error = seat->slot->evict_error;

	send_error(seat, error, why_evicted(error));
	if (error == -EPROTO)
		punish(admission, seat);
	admission->evicted_count++;
	admission->client_count--;
}

/* Not closed: the number is the consumer's as well, until it has let go of the
 * slot, which may be long after its client is to know. */
static void hang_up(const struct peal__seat *seat)
{
	shutdown(seat->socket.fd, SHUT_RDWR);
}

/* From now on only its slot is left to be waited for. */
static void begin_to_leave(struct peal__admission *admission,
                           struct peal__seat *seat)
{
	uint32_t index = seat->slot->peer.slot_index;

	seat->phase = PEAL__SEAT_LEAVING;
	peal__write_once(&admission->consumer->status_slots[index].state,
	                 PEAL__STATUS_SLOT_DRAINING);
	peal__admission_show(admission);
}

void peal__seat_evict(struct peal__admission *admission,
                      struct peal__seat *seat)
{
	if (seat->phase != PEAL__SEAT_LIVE)
		return; /* it was told, or has hung up since */
	stop_watching(admission, seat);
	tell_why(admission, seat);
	begin_to_leave(admission, seat);
	hang_up(seat);
}

void peal__seat_clear(struct peal__admission *admission,
                      struct peal__seat *seat)
{
	uint32_t serial = seat->serial;

	if (seat->socket.fd >= 0 && seat->phase != PEAL__SEAT_LEAVING)
		stop_watching(admission, seat);
	if (seat->phase == PEAL__SEAT_LIVE && seat->slot->evict_error != 0)
		tell_why(admission, seat);
	if (peal__seat_is_pending(seat))
		admission->pending_count--;
	if (seat->slot != NULL)
		free_slot(admission, seat);
	peal__fork_forget(&seat->socket, true);
	*seat = (struct peal__seat){
		.serial = serial, .socket.fd = -1, .pid.fd = -1};
	admission->seat_count--;
	peal__admission_show(admission);
}

void peal__seat_refuse(struct peal__admission *admission,
                       struct peal__seat *seat, int code, const char *text)
{
	if (code != 0) {
		send_error(seat, code, text);
		if (peal__seat_is_pending(seat))
			admission->refused_count++;
	}
	peal__seat_clear(admission, seat);
}

void peal__seat_gone(struct peal__admission *admission, struct peal__seat *seat)
{
	struct peal__slot *slot = seat->slot;
	uint32_t expected = PEAL__SLOT_LIVE;

	if (seat->phase != PEAL__SEAT_LIVE) {
		peal__seat_refuse(admission, seat, 0, NULL);
		return;
	}
	PEAL__HOOK("admission: gone");
	stop_watching(admission, seat);
	if (seat->said_bye)
		admission->detached_count++;
	else if (seat->was_evicted)
		admission->evicted_count++;
	else
		admission->died_count++;
	admission->client_count--;
	slot->said_bye = seat->said_bye;
	begin_to_leave(admission, seat);
	/* S6: pairs with S5 in peal__drain_take_changes(). It fails when the
	 * consumer was quicker and evicted it, S7; reaping is under way then. */
	__atomic_compare_exchange_n(&slot->state, &expected, PEAL__SLOT_HUNG_UP,
	                            false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	peal__admission_announce(admission);
}

/* READY: from now on the ring is polled. */
static void go_live(struct peal__admission *admission, struct peal__seat *seat)
{
	struct peal__slot *slot = seat->slot;
	struct peal__status_slot *row =
		&admission->consumer->status_slots[slot->peer.slot_index];

	admission->pending_count--;
	admission->attached_count++;
	admission->client_count++;
	seat->phase = PEAL__SEAT_LIVE;
	*row = (struct peal__status_slot){
		.generation = slot->peer.generation,
		.pid = slot->info.pid,
		.uid = slot->info.uid,
		.gid = slot->info.gid,
		.ring_bytes = slot->shape.rings[PEAL__RING_REQUEST].bytes,
		.attached_ns = peal__clock_ns(),
	};
	peal__write_once(&row->state, PEAL__STATUS_SLOT_LIVE);
	peal__admission_show(admission);
	/* S13: pairs with S5 and S14, which then find the segment. */
	__atomic_store_n(&slot->state, PEAL__SLOT_LIVE, __ATOMIC_RELEASE);
	PEAL__HOOK("admission: live");
	peal__admission_announce(admission);
}

/* It has gone now, not at the hang-up: a forked child may hold a copy. */
static void say_bye(struct peal__admission *admission, struct peal__seat *seat)
{
	seat->said_bye = true;
	peal__seat_gone(admission, seat);
}

/*
 * What it said makes no sense. The segment of a producer is the consumer's
 * until it has let go of it, so such a one goes as the dead do: what it had
 * published is delivered.
 */
static void send_away(struct peal__admission *admission,
                      struct peal__seat *seat, int code, const char *text)
{
	punish(admission, seat);
	if (seat->phase != PEAL__SEAT_LIVE) {
		peal__seat_refuse(admission, seat, code, text);
		return;
	}
	send_error(seat, code, text);
	seat->was_evicted = true;
	peal__seat_gone(admission, seat);
	hang_up(seat);
}

/* What may be said depends on the phase; all else ends the connection. */
static void handle(struct peal__admission *admission, struct peal__seat *seat,
                   union peal__packet *packet, size_t bytes)
{
	int type = peal__wire_check(packet, bytes);

	if (type == -EPROTONOSUPPORT)
		send_away(admission, seat, type,
		          "this server speaks major version 1 of peal's "
		          "protocol");
	else if (type == PEAL__WIRE_HELLO && seat->phase == PEAL__SEAT_HELLO)
		peal__grant(admission, seat, &packet->hello);
	else if (type == PEAL__WIRE_READY && seat->phase == PEAL__SEAT_READY)
		go_live(admission, seat);
	else if (type == PEAL__WIRE_BYE && seat->phase == PEAL__SEAT_LIVE)
		say_bye(admission, seat);
	else if (type == PEAL__WIRE_STATUS &&
	         seat->phase == PEAL__SEAT_OBSERVER)
		seat->has_asked = true;
	else
		send_away(admission, seat, -EPROTO,
		          "this is not what peal's protocol expects here");
}

static void read_packets(struct peal__admission *admission,
                         struct peal__seat *seat)
{
	struct peal_consumer *consumer = admission->consumer;
	uint32_t serial = seat->serial;

	for (int i = 0; i < PACKETS_AT_ONCE; i++) {
		union peal__packet packet;
		int got = peal__pass_receive(seat->socket.fd, &packet,
		                             sizeof(packet), NULL, NULL);

		if (got == -EAGAIN)
			return;
		if (got == -EPROTO)
			send_away(admission, seat, got,
			          "this packet is longer than any of peal's, "
			          "or descriptors came with it");
		else if (got < 0)
			peal__seat_gone(admission, seat);
		if (got < 0)
			return;
		if (got == 1 && seat->phase == PEAL__SEAT_LIVE)
			/* It could not ring itself: pass it on. In fd mode
			 * whoever runs this is awake already. */
			peal_doorbell_notify(&consumer->arm_page->arm,
			                     &consumer->bell_page->seq, -1);
		else
			handle(admission, seat, &packet, (size_t)got);
		if (seat->serial != serial || seat->phase == PEAL__SEAT_EMPTY ||
		    seat->phase == PEAL__SEAT_LEAVING)
			return;
	}
}

void peal__seat_read(struct peal__admission *admission, struct peal__seat *seat)
{
	read_packets(admission, seat);
	/* To copy the words of all clients is the one thing here that is dear:
	 * it answers all that were asked until now. */
	if (seat->has_asked && seat->phase == PEAL__SEAT_OBSERVER) {
		seat->has_asked = false;
		peal__grant_refresh(admission, seat);
	}
}

void peal__seat_come_due(struct peal__admission *admission,
                         struct peal__seat *seat)
{
	enum peal__seat_phase phase = seat->phase;

	if (phase == PEAL__SEAT_WAITING) {
		let_in(admission, seat);
		return;
	}
	/* Only the silent are late: what it has said while we did not listen
	 * lies in its socket. */
	peal__seat_read(admission, seat);
	if (seat->phase == phase)
		peal__seat_refuse(admission, seat, -ETIMEDOUT,
		                  "the handshake took longer than one "
		                  "second");
}
