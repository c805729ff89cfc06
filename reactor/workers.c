/* SPDX-License-Identifier: MIT */
#include "reactor/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "base/fork.h"
#include "base/read.h"

#define LOOKOUT_NS (20 * PEAL__NS_PER_US)
#define REST_MAX 64 /* sleeps without a lookout */

struct peal__workers {
	pthread_mutex_t lock;
	pthread_cond_t wake;

	/* under the lock; count is also looked at without it */
	struct peal__work *first, *last;
	uint32_t count;
	uint32_t sleeper_count;
	uint32_t running_count; /* pieces, also looked at without it */
	uint32_t rest_count;    /* so many sleeps more without a lookout */
	uint32_t next_rest;     /* after the next one that is in vain */
	bool has_lookout;       /* somebody spins: nobody needs to be woken */
	bool is_closing;

	uint32_t cpu_count;
	uint64_t lookout_ticks;
	uint32_t fork_generation;
	uint32_t thread_count;
	pthread_t threads[];
};

/* Spin, without the lock, until there is work or the time is over. */
static void look_out(struct peal__workers *workers)
{
	uint64_t start = peal__cpu_ticks();

	/* Relaxed: the lock, taken next, orders what was submitted. */
	while (peal__read_once(&workers->count) == 0 &&
	       !peal__read_once(&workers->is_closing) &&
	       peal__cpu_ticks() - start < workers->lookout_ticks)
		peal__cpu_pause();
}

/* Locked. Is there a processor for it, beside the reactor and those at work; and
 * has it paid lately? */
static bool may_look_out(struct peal__workers *workers)
{
	if (workers->has_lookout || workers->lookout_ticks == 0 ||
	    workers->running_count + 2 > workers->cpu_count)
		return false;
	if (workers->rest_count == 0)
		return true;
	workers->rest_count--;
	return false;
}

/* Locked. One lookout is over. */
static void learn(struct peal__workers *workers)
{
	if (workers->count > 0) {
		workers->next_rest = 1;
		return;
	}
	workers->rest_count = workers->next_rest;
	if (workers->next_rest < REST_MAX)
		workers->next_rest *= 2;
}

/* Locked. The next piece of work, or NULL: it is time to end. */
static struct peal__work *next_work(struct peal__workers *workers)
{
	struct peal__work *work;
	bool has_looked = false;

	while (workers->count == 0) {
		if (workers->is_closing)
			return NULL;
		if (!has_looked && may_look_out(workers)) {
			workers->has_lookout = true;
			pthread_mutex_unlock(&workers->lock);
			look_out(workers);
			pthread_mutex_lock(&workers->lock);
			workers->has_lookout = false;
			learn(workers);
			has_looked = true;
			continue;
		}
		workers->sleeper_count++;
		pthread_cond_wait(&workers->wake, &workers->lock);
		workers->sleeper_count--;
		has_looked = false;
	}
	work = workers->first;
	workers->first = work->next;
	peal__write_once(&workers->count, workers->count - 1);
	/* More than one thing came while one was looking out. */
	if (workers->count > 0 && workers->sleeper_count > 0 &&
	    !workers->has_lookout)
		pthread_cond_signal(&workers->wake);
	return work;
}

static void *worker_main(void *argument)
{
	struct peal__workers *workers = argument;
	struct peal__work *work;

	/* From outside this would be a file of /proc. */
	pthread_setname_np(pthread_self(), "peal-worker");
	pthread_mutex_lock(&workers->lock);
	while ((work = next_work(workers)) != NULL) {
		peal__write_once(&workers->running_count,
		                 workers->running_count + 1);
		pthread_mutex_unlock(&workers->lock);
		work->run(work);
		/* A child that the work made and that came back has no other
		 * thread, and maybe the lock of one: it ends. */
		if (PEAL_UNLIKELY(workers->fork_generation !=
		                  peal__fork_generation()))
			return NULL;
		pthread_mutex_lock(&workers->lock);
		peal__write_once(&workers->running_count,
		                 workers->running_count - 1);
	}
	pthread_mutex_unlock(&workers->lock);
	return NULL;
}

static int start_threads(struct peal__workers *workers, uint32_t count)
{
	sigset_t all, before;
	int error;

	/* The user's signals are not ours to take. */
	sigfillset(&all);
	error = -pthread_sigmask(SIG_SETMASK, &all, &before);
	if (error < 0)
		return error;
	while (error == 0 && workers->thread_count < count) {
		pthread_t *thread = &workers->threads[workers->thread_count];

		error = -pthread_create(thread, NULL, worker_main, workers);
		if (error < 0)
			break;
		workers->thread_count++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

int peal__workers_open(uint32_t count, struct peal__workers **ret_workers)
{
	struct peal__workers *workers =
		calloc(1, sizeof(*workers) + count * sizeof(pthread_t));
	int error;

	if (workers == NULL)
		return -ENOMEM;
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->wake, NULL);
	workers->cpu_count = (uint32_t)peal__cpu_online_count();
	workers->lookout_ticks =
		workers->cpu_count > 1 ? peal__ns_to_ticks(LOOKOUT_NS) : 0;
	workers->next_rest = 1;
	workers->fork_generation = peal__fork_generation();
	error = start_threads(workers, count);
	if (error < 0) {
		peal__workers_close(workers);
		return error;
	}
	*ret_workers = workers;
	return 0;
}

void peal__workers_close(struct peal__workers *workers)
{
	if (workers == NULL)
		return;
	pthread_mutex_lock(&workers->lock);
	peal__write_once(&workers->is_closing, true);
	pthread_cond_broadcast(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
	for (uint32_t i = 0; i < workers->thread_count; i++)
		pthread_join(workers->threads[i], NULL);
	pthread_cond_destroy(&workers->wake);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
}

uint32_t peal__workers_busy(const struct peal__workers *workers)
{
	/* Relaxed: a hint. */
	uint32_t busy = peal__read_once(&workers->running_count) +
	                peal__read_once(&workers->count);

	return busy < workers->thread_count ? busy : workers->thread_count;
}

void peal__workers_submit(struct peal__workers *workers,
                          struct peal__work *work)
{
	work->next = NULL;
	pthread_mutex_lock(&workers->lock);
	if (workers->count == 0)
		workers->first = work;
	else
		workers->last->next = work;
	workers->last = work;
	peal__write_once(&workers->count, workers->count + 1);
	if (workers->sleeper_count > 0 &&
	    (!workers->has_lookout || workers->count > 1))
		pthread_cond_signal(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
}
