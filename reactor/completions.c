/* SPDX-License-Identifier: MIT */
#include "reactor/completions.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <urcu/wfcqueue.h>

#include "base/hooks.h"
#include "base/read.h"

_Static_assert(sizeof(struct cds_wfcq_node) == sizeof(void *),
               "a completion begins with liburcu's node");
_Static_assert(offsetof(struct peal__completion, next) == 0, "likewise");

#define SEE_OFF_RETRY_NS 20000

/* The reactor writes the head, everybody else the tail. */
struct peal__completions {
	_Alignas(64) struct __cds_wfcq_head head;
	_Alignas(64) struct cds_wfcq_tail tail;
	uint32_t guest_count; /* beside what a guest writes anyway */
	uint32_t is_rung;     /* since the reactor last rested */
	uint32_t is_awaited;  /* also what could wait */
};

struct peal__completions *peal__completions_open(void)
{
	struct peal__completions *completions =
		aligned_alloc(64, sizeof(*completions));

	if (completions == NULL)
		return NULL;
	__cds_wfcq_init(&completions->head, &completions->tail);
	completions->guest_count = 0;
	completions->is_rung = 0;
	completions->is_awaited = 0;
	return completions;
}

void peal__completions_close(struct peal__completions *completions)
{
	free(completions);
}

bool peal__completions_push(struct peal__completions *completions,
                            struct peal__completion *completion, bool can_wait)
{
	struct cds_wfcq_node *node = (struct cds_wfcq_node *)completion;

	cds_wfcq_node_init(node);
	/* Q1: pairs with Q2 in peal__completions_pop(). The queue orders it as
	 * well, in a way that ThreadSanitizer does not see. */
	__atomic_store_n(&completion->is_written, 1, __ATOMIC_RELEASE);
	cds_wfcq_enqueue(&completions->head, &completions->tail, node);
	PEAL__HOOK("completions: pushed");
	/* Q5: pairs with Q6 and Q9, the second look, which finds the node
	 * that the full barrier of the queue's exchange has put before this. */
	if (can_wait &&
	    __atomic_load_n(&completions->is_awaited, __ATOMIC_SEQ_CST) == 0)
		return false;
	/* Q7: pairs with Q8: who rang before us, and was not heard yet, rings
	 * for us as well. */
	return __atomic_exchange_n(&completions->is_rung, 1,
	                           __ATOMIC_SEQ_CST) == 0;
}

void peal__completions_rest(struct peal__completions *completions,
                            bool is_awaited)
{
	/* The plain look first: whoever sets it later rings later, and ends
	 * the sleep. */
	if (peal__read_once(&completions->is_rung) != 0)
		/* Q8: pairs with Q7: what was pushed before it is found by the
		 * second look. */
		__atomic_exchange_n(&completions->is_rung, 0, __ATOMIC_SEQ_CST);
	if (completions->is_awaited != is_awaited)
		/* Q6: pairs with Q5: who does not see it has pushed before the
		 * second look that follows. */
		__atomic_store_n(&completions->is_awaited, is_awaited,
		                 __ATOMIC_SEQ_CST);
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
	/* Q9: pairs with Q5, which follows the queue's exchange of the tail.
	 * seq_cst because it is part of the second look; the queue's own test
	 * promises less. */
	return __atomic_load_n(&completions->tail.p, __ATOMIC_SEQ_CST) !=
	       &completions->head.node;
}
