/* SPDX-License-Identifier: MIT */
#include "reactor/workers.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "base/read.h"

#define LOOKOUT_NS (20 * PEAL__NS_PER_US)

struct peal__workers {
	pthread_mutex_t lock;
	pthread_cond_t wake;

	/* under the lock; count is also looked at without it */
	struct peal__work *first, *last;
	uint32_t count;
	uint32_t sleeper_count;
	bool has_lookout; /* somebody spins: nobody needs to be woken */
	bool is_closing;

	uint64_t lookout_ticks;
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

/* Locked. The next piece of work, or NULL: it is time to end. */
static struct peal__work *next_work(struct peal__workers *workers)
{
	struct peal__work *work;
	bool has_looked = false;

	while (workers->count == 0) {
		if (workers->is_closing)
			return NULL;
		if (!has_looked && !workers->has_lookout &&
		    workers->lookout_ticks != 0) {
			workers->has_lookout = true;
			pthread_mutex_unlock(&workers->lock);
			look_out(workers);
			pthread_mutex_lock(&workers->lock);
			workers->has_lookout = false;
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

	for (;;) {
		pthread_mutex_lock(&workers->lock);
		work = next_work(workers);
		pthread_mutex_unlock(&workers->lock);
		if (work == NULL)
			return NULL;
		work->run(work);
	}
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
		pthread_setname_np(*thread, "peal-worker");
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
	workers->lookout_ticks = peal__cpu_online_count() > 1
	                                 ? peal__ns_to_ticks(LOOKOUT_NS)
	                                 : 0;
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
