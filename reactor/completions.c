/* SPDX-License-Identifier: MIT */
#include "reactor/completions.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <urcu/wfcqueue.h>

_Static_assert(sizeof(struct cds_wfcq_node) == sizeof(void *),
               "a completion begins with liburcu's node");
_Static_assert(offsetof(struct peal__completion, next) == 0, "likewise");

#define SEE_OFF_RETRY_NS 20000

/* The reactor writes the head, everybody else the tail. */
struct peal__completions {
	_Alignas(64) struct __cds_wfcq_head head;
	_Alignas(64) struct cds_wfcq_tail tail;
	uint32_t guest_count; /* beside what a guest writes anyway */
};

struct peal__completions *peal__completions_open(void)
{
	struct peal__completions *completions =
		aligned_alloc(64, sizeof(*completions));

	if (completions == NULL)
		return NULL;
	__cds_wfcq_init(&completions->head, &completions->tail);
	completions->guest_count = 0;
	return completions;
}

void peal__completions_close(struct peal__completions *completions)
{
	free(completions);
}

bool peal__completions_push(struct peal__completions *completions,
                            struct peal__completion *completion)
{
	struct cds_wfcq_node *node = (struct cds_wfcq_node *)completion;

	cds_wfcq_node_init(node);
	/* Q1: pairs with Q2 in peal__completions_pop(). The queue orders it as
	 * well, in a way that ThreadSanitizer does not see. */
	__atomic_store_n(&completion->is_written, 1, __ATOMIC_RELEASE);
	return !cds_wfcq_enqueue(&completions->head, &completions->tail, node);
}

struct peal__completion *
peal__completions_pop(struct peal__completions *completions)
{
	struct cds_wfcq_node *node = __cds_wfcq_dequeue_nonblocking(
		&completions->head, &completions->tail);
	struct peal__completion *completion;

	if (node == NULL || node == CDS_WFCQ_WOULDBLOCK)
		return NULL;
	completion = (struct peal__completion *)node;
	/* Q2: pairs with Q1 in peal__completions_push(). */
	if (__atomic_load_n(&completion->is_written, __ATOMIC_ACQUIRE) == 0)
		return NULL; /* cannot be: it was written before it was linked */
	completion->is_written = 0;
	return completion;
}

void peal__completions_enter(struct peal__completions *completions)
{
	/* Relaxed: whoever sees what is told next, by Q1, W2 or W5, sees this. */
	__atomic_fetch_add(&completions->guest_count, 1, __ATOMIC_RELAXED);
}

void peal__completions_leave(struct peal__completions *completions)
{
	/* Q3: pairs with Q4 in peal__completions_see_off(). */
	__atomic_fetch_sub(&completions->guest_count, 1, __ATOMIC_RELEASE);
}

void peal__completions_see_off(struct peal__completions *completions)
{
	const struct timespec retry = {.tv_nsec = SEE_OFF_RETRY_NS};
	int saved_errno = errno;

	/* Q4: pairs with Q3: its accesses to the reactor are done. */
	while (__atomic_load_n(&completions->guest_count, __ATOMIC_ACQUIRE) !=
	       0)
		nanosleep(&retry, NULL);
	errno = saved_errno;
}

bool peal__completions_has_any(struct peal__completions *completions)
{
	return !cds_wfcq_empty(&completions->head, &completions->tail);
}
