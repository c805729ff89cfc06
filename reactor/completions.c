/* SPDX-License-Identifier: MIT */
#include "reactor/completions.h"

#include <stdlib.h>
#include <urcu/wfcqueue.h>

_Static_assert(sizeof(struct cds_wfcq_node) == sizeof(void *),
               "a completion begins with liburcu's node");
_Static_assert(offsetof(struct peal__completion, next) == 0, "likewise");

/* The reactor writes the head, everybody else the tail. */
struct peal__completions {
	_Alignas(64) struct __cds_wfcq_head head;
	_Alignas(64) struct cds_wfcq_tail tail;
};

struct peal__completions *peal__completions_open(void)
{
	struct peal__completions *completions =
		aligned_alloc(64, sizeof(*completions));

	if (completions != NULL)
		__cds_wfcq_init(&completions->head, &completions->tail);
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

bool peal__completions_has_any(struct peal__completions *completions)
{
	return !cds_wfcq_empty(&completions->head, &completions->tail);
}
