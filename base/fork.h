/* SPDX-License-Identifier: MIT */
/*
 * What a forked child must not inherit: connections, locks, listeners.
 *
 *	parent                          child
 *	  peal__fork_watch(owner)         every watched descriptor is closed,
 *	  ... fork() ...                  peal__fork_generation() has moved on
 *
 * A handle keeps the generation it was opened in; a call that finds another
 * one is running in a child and returns -ESTALE without touching memory that
 * MADV_DONTFORK has taken away.
 *
 *	hold -> open -> watch_held -> let   no fork in between: no child ever
 *	                                    has a copy that is not watched
 *
 * Callers: watch and forget take a lock and may be called from any thread. The
 *	generation is one relaxed load.
 *
 * Progress: who forks waits until nobody holds. What is done while it is held
 *	does not wait for anybody.
 *
 * Death: the child's copies are closed before fork() returns there, so a
 *	child that lives on keeps no peer believing that its parent does.
 *
 * Source: pthread_atfork(3).
 */
#ifndef PEAL_BASE_FORK_H
#define PEAL_BASE_FORK_H

#include <stdbool.h>
#include <stdint.h>

/* A descriptor to close in forked children; the owner embeds it. */
struct peal__fork_fd {
	int fd;           /* -1: none */
	uint32_t *broken; /* set to 1 in a child, or NULL */
	struct peal__fork_fd *previous, *next;
};

extern uint32_t peal__fork_count;

/* Relaxed: fork() itself orders the child's only thread after the handler. */
static inline uint32_t peal__fork_generation(void)
{
	return __atomic_load_n(&peal__fork_count, __ATOMIC_RELAXED);
}

/* Start to watch @watched->fd, if there is one. 0 or -ENOMEM. */
int peal__fork_watch(struct peal__fork_fd *watched);

/*
 * From hold to let no thread of this process forks. Of a lock, a listener or a
 * connection a child must not have a copy even for a moment: it would keep the
 * name, or the connection, of a parent that dies. No hook is reached in between,
 * and it does not nest.
 */
void peal__fork_hold(void);
int peal__fork_watch_held(struct peal__fork_fd *watched);
void peal__fork_let(void);

/* Stop watching and, with @close_it, close the descriptor. Idempotent. */
void peal__fork_forget(struct peal__fork_fd *watched, bool close_it);

#endif
