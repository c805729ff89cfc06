/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "base/cpu.h"
#include "base/hooks.h"
#include "base/read.h"
#include "mpsc/admission.h"
#include "mpsc/server.h"

#ifdef PEAL_NO_BOUNDED_SLEEP
#define SLEEP_MAX_NS PEAL__NEVER
#else
#define SLEEP_MAX_NS PEAL__NS_PER_S /* a net below the proof, never needed */
#endif

static void settle_before_sleep(struct peal_consumer *consumer)
{
	peal__drain_settle_all(consumer);
	if (PEAL_UNLIKELY(consumer->draining_count > 0))
		peal__drain_check_all(consumer);
	if (consumer->owner != NULL)
		consumer->owner->settle(consumer->owner->object);
}

static void show(struct peal_consumer *consumer)
{
	const struct peal__owner *owner = consumer->owner;

	if (owner != NULL && owner->show != NULL)
		owner->show(owner->object);
	consumer->shown_ticks = peal__cpu_ticks();
}

void peal__consumer_do_chores(struct peal_consumer *consumer)
{
	settle_before_sleep(consumer);
	if (consumer->wait_mode == PEAL_WAIT_FD)
		peal__admission_run(consumer->admission, 0);
	consumer->chores_ticks = peal__cpu_ticks();
	if (consumer->chores_ticks - consumer->shown_ticks >=
	    consumer->show_ticks)
		show(consumer);
}

/* Has a consumer in fd mode, whose waits find work at once, left the door to
 * itself for long? */
static bool is_door_due(const struct peal_consumer *consumer)
{
	return consumer->wait_mode == PEAL_WAIT_FD &&
	       peal__cpu_ticks() - consumer->chores_ticks >=
	               consumer->door_ticks;
}

void peal_consumer_notify(struct peal_consumer *consumer)
{
	if (peal__consumer_was_forked(consumer))
		return;
	/* N1: pairs with N2 in take_notice(). */
	__atomic_store_n(&consumer->notified, 1, __ATOMIC_RELEASE);
	peal_doorbell_notify(&consumer->arm_page->arm,
	                     &consumer->bell_page->seq, consumer->notify_fd);
}

static bool owner_has_work(const struct peal_consumer *consumer)
{
	const struct peal__owner *owner = consumer->owner;

	return owner != NULL && owner->has_work(owner->object);
}

static bool look_soon(void *object)
{
	struct peal_consumer *consumer = object;

	return (!consumer->paused && peal__scan_poll(&consumer->scan)) ||
	       owner_has_work(consumer);
}

static bool look_final(void *object)
{
	struct peal_consumer *consumer = object;

	return (!consumer->paused && peal__scan_find(&consumer->scan)) ||
	       owner_has_work(consumer);
}

/* Idle for a moment: what was put off for the sake of speed is done now. */
static void settle(void *object)
{
	struct peal_consumer *consumer = object;
	int32_t cpu = peal__cpu_current();

	settle_before_sleep(consumer);
	show(consumer);
	consumer->clock_is_old = true;
	if (cpu != consumer->cpu) {
		consumer->cpu = cpu;
		peal__write_once(&consumer->arm_page->cpu, cpu);
	}
	peal__write_once(&consumer->status->sleep_count,
	                 consumer->spin.sleep_count);
	/* Nobody else admits in fd mode, and a spin may go on for ever. */
	if (consumer->wait_mode == PEAL_WAIT_FD)
		peal__admission_run(consumer->admission, 0);
}

/* In fd mode the sleep is in epoll, and what wakes us is handled at once. */
static int sleep_in_epoll(void *object, uint64_t deadline_ns)
{
	struct peal_consumer *consumer = object;
	int saved_errno = errno;
	int count = peal__admission_run(consumer->admission,
	                                peal__deadline_to_poll_ms(deadline_ns));

	errno = saved_errno;
	return count > 0 || peal__clock_ns() < deadline_ns ? 0 : -ETIMEDOUT;
}

/* Take note of the bell and of what it rang for: true if it was the user. */
static bool take_notice(struct peal_consumer *consumer)
{
	peal_doorbell_look(&consumer->sleeper);
	peal__drain_take_changes(consumer);
	/* N2: pairs with N1; the plain look first, since it is mostly 0. */
	return peal__read_once(&consumer->notified) != 0 &&
	       __atomic_exchange_n(&consumer->notified, 0, __ATOMIC_ACQUIRE) !=
	               0;
}

/* Past the deadline, or asked not to wait. */
static int look_once(struct peal_consumer *consumer)
{
	return look_final(consumer) ? 0 : -ETIMEDOUT;
}

/* Who has just drained several messages steals the line from a producer that
 * is about to write the next ones, if it looks again at once. */
static void let_them_write(struct peal_consumer *consumer)
{
	uint32_t pauses = consumer->drained_count;

	consumer->drained_count = 0;
	if (pauses >= 2 && consumer->owner == NULL)
		peal__cpu_pause_for(
			pauses < PEAL__PAUSES_MAX ? pauses : PEAL__PAUSES_MAX);
}

int peal_consumer_wait(struct peal_consumer *consumer, uint64_t timeout_ns)
{
	struct peal__spin_look look = {
		.soon = look_soon,
		.final = look_final,
		.settle = settle,
		.sleep = consumer->wait_mode == PEAL_WAIT_FD ? sleep_in_epoll
	                                                     : NULL,
		.object = consumer,
	};
	struct peal__spin_limit limit = {timeout_ns, 0, SLEEP_MAX_NS, false};
	int result;

	if (peal__consumer_was_forked(consumer))
		return -ESTALE;
	peal__drain_end_turn(consumer);
	let_them_write(consumer);
	if (timeout_ns == 0 || is_door_due(consumer))
		peal__consumer_do_chores(consumer);
	for (;;) {
		if (take_notice(consumer))
			return 0;
		if (timeout_ns == 0)
			return look_once(consumer);
		/* Anew every time: its segment goes with its producer. */
		look.peer_cpu = consumer->peer_cpu;
		look.is_calm = consumer->is_calm;
		result = peal__spin_wait(&consumer->spin, &consumer->sleeper,
		                         &look, &limit);
		if (result == PEAL__SPIN_WORK)
			return 0;
		if (result == -ETIMEDOUT)
			return look_once(consumer);
		consumer->clock_is_old = true;
	}
}

int peal_consumer_fd(const struct peal_consumer *consumer)
{
	if (peal__consumer_was_forked(consumer))
		return -ESTALE;
	if (consumer->wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	return peal__admission_fd(consumer->admission);
}

int peal_consumer_prepare(struct peal_consumer *consumer)
{
	if (peal__consumer_was_forked(consumer))
		return -ESTALE;
	if (consumer->wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	peal__drain_end_turn(consumer);
	if (take_notice(consumer) || look_final(consumer))
		return 1;
	settle_before_sleep(consumer);
	show(consumer);
	PEAL__HOOK("consumer prepares: about to");
	peal_doorbell_arm(&consumer->sleeper);
	PEAL__HOOK("consumer prepares: armed");
	if (!look_final(consumer) && !peal_doorbell_changed(&consumer->sleeper))
		return 0;
	peal_doorbell_disarm(&consumer->sleeper);
	return 1;
}

int peal_consumer_dispatch(struct peal_consumer *consumer)
{
	int saved_errno = errno;

	if (peal__consumer_was_forked(consumer))
		return -ESTALE;
	if (consumer->wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	peal_doorbell_disarm(&consumer->sleeper);
	peal__drain_end_turn(consumer);
	peal__admission_run(consumer->admission, 0);
	take_notice(consumer);
	consumer->clock_is_old = true;
	errno = saved_errno;
	return 0;
}
