/* SPDX-License-Identifier: MIT */
#include "base/fork.h"

#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

uint32_t peal__fork_count;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct peal__fork_fd *first;
static int register_error;

static void before(void)
{
	pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
	pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
	for (struct peal__fork_fd *entry = first; entry != NULL;
	     entry = entry->next) {
		close(entry->fd);
		entry->fd = -1;
		if (entry->broken != NULL)
			*entry->broken = 1;
	}
	first = NULL;
	/* Relaxed: the child has no other thread yet. */
	__atomic_store_n(&peal__fork_count, peal__fork_count + 1,
	                 __ATOMIC_RELAXED);
	pthread_mutex_unlock(&lock);
}

static void register_handlers(void)
{
	register_error = -pthread_atfork(before, in_parent, in_child);
}

void peal__fork_hold(void)
{
	pthread_once(&once, register_handlers);
	pthread_mutex_lock(&lock);
}

void peal__fork_let(void)
{
	pthread_mutex_unlock(&lock);
}

int peal__fork_watch_held(struct peal__fork_fd *watched)
{
	if (register_error != 0)
		return register_error;
	if (watched->fd < 0) /* nothing to close, so nothing to forget */
		return 0;
	watched->previous = NULL;
	watched->next = first;
	if (first != NULL)
		first->previous = watched;
	first = watched;
	return 0;
}

int peal__fork_watch(struct peal__fork_fd *watched)
{
	int error;

	peal__fork_hold();
	error = peal__fork_watch_held(watched);
	peal__fork_let();
	return error;
}

void peal__fork_forget(struct peal__fork_fd *watched, bool close_it)
{
	int fd;

	pthread_mutex_lock(&lock);
	fd = watched->fd;
	watched->fd = -1;
	if (fd >= 0) {
		if (watched->previous != NULL)
			watched->previous->next = watched->next;
		else
			first = watched->next;
		if (watched->next != NULL)
			watched->next->previous = watched->previous;
	}
	/* Under the lock, or a fork in between leaves the child a copy. */
	if (fd >= 0 && close_it)
		close(fd);
	pthread_mutex_unlock(&lock);
}
