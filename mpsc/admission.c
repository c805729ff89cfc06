/* SPDX-License-Identifier: MIT */
#include "mpsc/admission.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/event.h"
#include "base/failure.h"
#include "base/hooks.h"
#include "base/read.h"
#include "mpsc/listen.h"
#include "mpsc/seat.h"

#define EVENTS_AT_ONCE 64
#define ACCEPTS_AT_ONCE 16
#define LISTENER_REST_NS (100 * PEAL__NS_PER_MS)
#define LISTENER_ENDED ((uint32_t)EPOLLRDHUP | EPOLLHUP | EPOLLERR)

int peal__admission_watch(struct peal__admission *admission, int fd,
                          enum peal__event event, const struct peal__seat *seat)
{
	struct epoll_event wanted = {.events = EPOLLIN | EPOLLRDHUP};
	uint32_t index = seat == NULL ? 0 : (uint32_t)(seat - admission->seats);

	wanted.data.u64 = (uint64_t)(seat == NULL ? 0 : seat->serial) << 32 |
	                  (uint64_t)index << 8 | event;
	return epoll_ctl(admission->epoll.fd, EPOLL_CTL_ADD, fd, &wanted) == 0
	               ? 0
	               : -errno;
}

/* Slots have changed: the consumer looks at them in its next pass. */
void peal__admission_announce(struct peal__admission *admission)
{
	struct peal_consumer *consumer = admission->consumer;

	/* S4: pairs with S3 in peal__drain_take_changes(). */
	__atomic_fetch_add(&consumer->changes, 1, __ATOMIC_RELEASE);
	peal_doorbell_notify(&consumer->arm_page->arm,
	                     &consumer->bell_page->seq, consumer->notify_fd);
}

void peal__admission_show(struct peal__admission *admission)
{
	struct peal__status_server *status = admission->consumer->status;

	peal__write_once(&status->attached_count, admission->attached_count);
	peal__write_once(&status->detached_count, admission->detached_count);
	peal__write_once(&status->died_count, admission->died_count);
	peal__write_once(&status->evicted_count, admission->evicted_count);
	peal__write_once(&status->refused_count, admission->refused_count);
	peal__write_once(&status->client_count, admission->client_count);
}

void peal__admission_stats(const struct peal__admission *admission,
                           struct peal_consumer_stats *stats)
{
	const struct peal__status_server *status = admission->consumer->status;

	stats->attached_count = peal__read_once(&status->attached_count);
	stats->detached_count = peal__read_once(&status->detached_count);
	stats->died_count = peal__read_once(&status->died_count);
	stats->evicted_count = peal__read_once(&status->evicted_count);
	stats->refused_count = peal__read_once(&status->refused_count);
}

int peal__admission_fd(const struct peal__admission *admission)
{
	return admission->epoll.fd;
}

void peal__admission_poke(struct peal__admission *admission)
{
	static const uint64_t one = 1;
	int saved_errno = errno;

	/* A full counter is readable, which is all that is wanted. */
	if (write(admission->wake.fd, &one, sizeof(one)) < 0)
		errno = saved_errno;
}

/* Out of seats or descriptors: leave people in the backlog for a while. */
static void rest(struct peal__admission *admission, uint64_t resume_ns)
{
	if (admission->listening)
		epoll_ctl(admission->epoll.fd, EPOLL_CTL_DEL,
		          admission->listener.fd, NULL);
	admission->listening = false;
	admission->resume_ns = resume_ns;
}

static void resume(struct peal__admission *admission)
{
	if (admission->seat_count == admission->seat_max) {
		/* A seat that becomes empty resumes it. */
		admission->resume_ns = PEAL__NEVER;
		return;
	}
	if (peal__admission_watch(admission, admission->listener.fd,
	                          PEAL__EVENT_LISTENER, NULL) == 0) {
		admission->listening = true;
		admission->resume_ns = 0;
	} else {
		admission->resume_ns = peal__clock_ns() + LISTENER_REST_NS;
	}
}

/* A child that had a copy would keep its client from seeing us hang up. 0 or
 * -errno. */
static int accept_into(struct peal__seat *seat, int listener_fd)
{
	int error = 0;

	peal__fork_hold();
	seat->socket.fd =
		accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (seat->socket.fd < 0)
		error = -errno;
	peal__fork_watch_held(&seat->socket);
	peal__fork_let();
	return error;
}

static void accept_some(struct peal__admission *admission)
{
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		struct peal__seat *seat;
		int error;

		if (admission->seat_count == admission->seat_max) {
			rest(admission, PEAL__NEVER);
			return;
		}
		seat = peal__seat_find_empty(admission);
		error = accept_into(seat, admission->listener.fd);
		if (error == 0) {
			PEAL__HOOK("admission: accepted");
			peal__seat_take(admission, seat);
		}
		if (error == -EAGAIN)
			return;
		/* It stays readable, and we would not sleep any more. */
		if (error < 0 && error != -EINTR && error != -ECONNABORTED) {
			rest(admission, peal__clock_ns() + LISTENER_REST_NS);
			return;
		}
	}
}

/* Slots that the consumer has let go of: their seats become empty. */
static void reap(struct peal__admission *admission)
{
	for (uint32_t i = 0; i < admission->seat_max; i++) {
		struct peal__seat *seat = &admission->seats[i];
		uint32_t state;

		if (seat->slot == NULL)
			continue;
		/* S2: pairs with S1 and S7 in drain.c. */
		state = __atomic_load_n(&seat->slot->state, __ATOMIC_ACQUIRE);
		if (state == PEAL__SLOT_DONE)
			peal__seat_clear(admission, seat);
		else if (state == PEAL__SLOT_EVICTED)
			peal__seat_evict(admission, seat);
	}
}

/* Those whose time is over, or has come; returns the next deadline. */
static uint64_t expire(struct peal__admission *admission)
{
	uint64_t now_ns, next_ns = PEAL__NEVER;

	if (admission->pending_count == 0 && admission->resume_ns == 0)
		return next_ns;
	now_ns = peal__clock_ns();
	for (uint32_t i = 0; i < admission->seat_max; i++) {
		struct peal__seat *seat = &admission->seats[i];

		if (peal__seat_is_pending(seat) && seat->deadline_ns <= now_ns)
			peal__seat_come_due(admission, seat);
		if (peal__seat_is_pending(seat) && seat->deadline_ns < next_ns)
			next_ns = seat->deadline_ns;
	}
	if (!admission->listening && (admission->resume_ns <= now_ns ||
	                              admission->resume_ns == PEAL__NEVER))
		resume(admission);
	/* Also when that was in vain: nothing else would try it again. */
	if (!admission->listening && admission->resume_ns < next_ns)
		next_ns = admission->resume_ns;
	return next_ns;
}

/* Once is enough, and the descriptor is not ours to read. */
static void stop_owner(struct peal__admission *admission)
{
	const struct peal__owner *owner = admission->consumer->owner;

	epoll_ctl(admission->epoll.fd, EPOLL_CTL_DEL, owner->stop_fd, NULL);
	owner->stop(owner->object);
}

/* Is the seat still taken by whom this event is about? What is known of one
 * that has left comes with the event that told it; its slot is the consumer's. */
static bool is_here(const struct peal__seat *seat, uint32_t serial)
{
	return seat->serial == serial && seat->phase != PEAL__SEAT_EMPTY &&
	       seat->phase != PEAL__SEAT_LEAVING;
}

static void handle(struct peal__admission *admission,
                   const struct epoll_event *happened)
{
	uint32_t index = (uint32_t)(happened->data.u64 >> 8) & 0xffffff;
	uint32_t serial = (uint32_t)(happened->data.u64 >> 32);
	struct peal__seat *seat = &admission->seats[index];

	switch ((enum peal__event)(happened->data.u64 & 0xff)) {
	case PEAL__EVENT_LISTENER:
		accept_some(admission);
		/* Shut down, it is readable for ever and has nobody. */
		if (admission->listening && (happened->events & LISTENER_ENDED))
			rest(admission, peal__clock_ns() + LISTENER_REST_NS);
		return;
	case PEAL__EVENT_WAKE:
		peal__event_clear(admission->wake.fd);
		reap(admission);
		return;
	case PEAL__EVENT_NOTIFY:
		peal__event_clear(admission->consumer->notify_fd);
		return;
	case PEAL__EVENT_TIMER:
		peal__event_clear(admission->timer.fd);
		return;
	case PEAL__EVENT_STOP:
		stop_owner(admission);
		return;
	case PEAL__EVENT_SOCKET:
		if (is_here(seat, serial))
			peal__seat_read(admission, seat);
		return;
	case PEAL__EVENT_PIDFD:
		if (is_here(seat, serial))
			peal__seat_gone(admission, seat);
		return;
	}
}

/* The next deadline makes the epoll descriptor readable, whoever waits for it:
 * our thread, or somebody's loop. Without one no timer runs. */
static void set_timer(struct peal__admission *admission, uint64_t due_ns)
{
	struct itimerspec due = {0};

	if (due_ns == admission->due_ns)
		return;
	admission->due_ns = due_ns;
	if (due_ns != PEAL__NEVER) {
		due.it_value.tv_sec = (time_t)(due_ns / PEAL__NS_PER_S);
		due.it_value.tv_nsec = (long)(due_ns % PEAL__NS_PER_S);
	}
	timerfd_settime(admission->timer.fd, TFD_TIMER_ABSTIME, &due, NULL);
}

int peal__admission_run(struct peal__admission *admission, int timeout_ms)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int saved_errno = errno, count;

	count = epoll_wait(admission->epoll.fd, events, EVENTS_AT_ONCE,
	                   timeout_ms);
	for (int i = 0; i < count; i++)
		handle(admission, &events[i]);
	set_timer(admission, expire(admission));
	errno = saved_errno;
	return count < 0 ? 0 : count;
}

static void *thread_main(void *argument)
{
	struct peal__admission *admission = argument;
	struct peal_consumer *consumer = admission->consumer;
	bool held;

	/* From outside this would be a file of /proc. */
	pthread_setname_np(pthread_self(), "peal-admission");
	/* Without it, which a kernel may refuse, producers ask their socket. */
	held = peal__lifeline_hold(&admission->lifeline,
	                           &consumer->arm_page->lifeline) == 0;
	/* S9: pairs with S10 in peal__admission_close(). */
	while (!__atomic_load_n(&consumer->stopping, __ATOMIC_ACQUIRE))
		peal__admission_run(admission, -1);
	if (held)
		peal__lifeline_drop(&admission->lifeline);
	return NULL;
}

/* The user's signals are not ours to take. */
static int start_thread(struct peal__admission *admission)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	error = -pthread_sigmask(SIG_SETMASK, &all, &before);
	if (error != 0)
		return error;
	error = -pthread_create(&admission->thread, NULL, thread_main,
	                        admission);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
		return error;
	admission->has_thread = true;
	return 0;
}

static int open_descriptors(struct peal__admission *admission,
                            int *ret_notify_fd)
{
	const struct peal__owner *owner = admission->consumer->owner;
	int error;

	admission->epoll.fd = epoll_create1(EPOLL_CLOEXEC);
	if (admission->epoll.fd < 0)
		return -errno;
	peal__fork_watch(&admission->epoll);
	admission->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (admission->wake.fd < 0)
		return -errno;
	admission->wake.broken = &admission->consumer->hot.is_broken;
	peal__fork_watch(&admission->wake);
	admission->timer.fd =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (admission->timer.fd < 0)
		return -errno;
	peal__fork_watch(&admission->timer);
	error = peal__admission_watch(admission, admission->wake.fd,
	                              PEAL__EVENT_WAKE, NULL);
	if (error == 0)
		error = peal__admission_watch(admission, admission->timer.fd,
		                              PEAL__EVENT_TIMER, NULL);
	if (error == 0 && *ret_notify_fd >= 0)
		error = peal__admission_watch(admission, *ret_notify_fd,
		                              PEAL__EVENT_NOTIFY, NULL);
	if (error == 0 && owner != NULL && owner->stop_fd >= 0)
		error = peal__admission_watch(admission, owner->stop_fd,
		                              PEAL__EVENT_STOP, NULL);
	if (error == 0)
		error = peal__admission_watch(admission, admission->listener.fd,
		                              PEAL__EVENT_LISTENER, NULL);
	admission->listening = error == 0;
	return error;
}

/* Give every seat up; nobody is told anything any more. */
static void free_all(struct peal__admission *admission, bool forked)
{
	/* A forked child has none of the mappings and none of the sockets. */
	for (uint32_t i = 0; i < admission->seat_max && !forked; i++)
		if (admission->seats != NULL &&
		    admission->seats[i].phase != PEAL__SEAT_EMPTY)
			peal__seat_clear(admission, &admission->seats[i]);
	if (!forked && admission->path[0] != '\0')
		peal__name_unlink(admission->path, admission->lock.fd);
	peal__fork_forget(&admission->listener, true);
	peal__fork_forget(&admission->epoll, true);
	peal__fork_forget(&admission->wake, true);
	peal__fork_forget(&admission->timer, true);
	peal__fork_forget(&admission->lock, true);
	for (int i = 0; i < PEAL__REGION_COUNT; i++)
		peal__fork_forget(&admission->regions[i], true);
	free((void *)(uintptr_t)admission->options.allow_uid);
	free((void *)(uintptr_t)admission->options.allow_gid);
	free(admission->seats);
	free(admission);
}

static uint32_t *copy_ids(const uint32_t *ids, size_t count)
{
	uint32_t *copy = calloc(count + 1, sizeof(*ids));

	if (copy != NULL && count > 0)
		memcpy(copy, ids, count * sizeof(*ids));
	return copy;
}

static struct peal__admission *
allocate(struct peal_consumer *consumer,
         const struct peal_consumer_options *options)
{
	struct peal__admission *admission = calloc(1, sizeof(*admission));

	if (admission == NULL)
		return NULL;
	admission->consumer = consumer;
	admission->options = *options;
	admission->options.name = NULL;
	admission->options.ret_failure = NULL;
	admission->seat_max = consumer->slot_max + PEAL__SPARE_SEATS;
	admission->due_ns = PEAL__NEVER;
	admission->overflow_uid = peal__grant_overflow_uid();
	admission->own_uid = geteuid();
	peal__pace_init(&admission->pace, options->attach_rate_max);
	admission->lock.fd = admission->listener.fd = -1;
	admission->epoll.fd = admission->wake.fd = admission->timer.fd = -1;
	for (int i = 0; i < PEAL__REGION_COUNT; i++)
		admission->regions[i].fd = -1;
	admission->seats =
		calloc(admission->seat_max, sizeof(*admission->seats));
	admission->options.allow_uid =
		copy_ids(options->allow_uid, options->allow_uid_count);
	admission->options.allow_gid =
		copy_ids(options->allow_gid, options->allow_gid_count);
	if (admission->seats == NULL || admission->options.allow_uid == NULL ||
	    admission->options.allow_gid == NULL) {
		free_all(admission, false);
		return NULL;
	}
	return admission;
}

int peal__admission_open(struct peal_consumer *consumer,
                         const struct peal_consumer_options *options,
                         const int region_fds[PEAL__REGION_COUNT])
{
	struct peal_failure *failure = options->ret_failure;
	struct peal__admission *admission = allocate(consumer, options);
	int error;

	if (admission == NULL)
		return peal__fail(failure, -ENOMEM, "not enough memory");
	error = peal__listen(options, admission->path, &admission->listener,
	                     &admission->lock);
	if (error < 0) {
		admission->path[0] = '\0';
		free_all(admission, false);
		return error;
	}
	PEAL__HOOK("admission: listens");
	error = open_descriptors(admission, &consumer->notify_fd);
	/* Before the thread: somebody may wait for us to come up already. */
	consumer->admission = admission;
	for (int i = 0; i < PEAL__REGION_COUNT; i++) {
		admission->regions[i].fd = region_fds[i];
		peal__fork_watch(&admission->regions[i]);
	}
	if (error == 0 && consumer->wait_mode == PEAL_WAIT_FUTEX)
		error = start_thread(admission);
	if (error < 0) {
		for (int i = 0; i < PEAL__REGION_COUNT; i++)
			peal__fork_forget(&admission->regions[i],
			                  false); /* the caller's */
		free_all(admission, false);
		consumer->admission = NULL;
		return peal__fail(failure, error, "cannot start admission: %s",
		                  strerrordesc_np(-error));
	}
	return 0;
}

void peal__admission_close(struct peal_consumer *consumer, bool forked)
{
	struct peal__admission *admission = consumer->admission;

	if (!forked) {
		/* S10: pairs with S9 in thread_main(). */
		__atomic_store_n(&consumer->stopping, 1, __ATOMIC_RELEASE);
		peal__admission_poke(admission);
		if (admission->has_thread)
			pthread_join(admission->thread, NULL);
		for (uint32_t i = 0; i < admission->seat_max; i++)
			if (admission->seats[i].phase != PEAL__SEAT_EMPTY)
				peal__seat_refuse(admission,
				                  &admission->seats[i],
				                  -ESHUTDOWN,
				                  "the server has closed");
	}
	free_all(admission, forked);
	consumer->admission = NULL;
}
