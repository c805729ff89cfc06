/* SPDX-License-Identifier: MIT */
#include "doorbell/lifeline.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/read.h"

int peal__lifeline_hold(struct peal__lifeline *lifeline, uint32_t *word)
{
	int saved_errno = errno, error = 0;

	lifeline->word = word;
	lifeline->head.list.next = &lifeline->entry;
	lifeline->entry.next = &lifeline->head.list;
	/* The kernel finds the word by its distance from the entry. */
	lifeline->head.futex_offset =
		(long)((intptr_t)word - (intptr_t)&lifeline->entry);
	lifeline->head.list_op_pending = NULL;
	peal__write_once(word, (uint32_t)syscall(SYS_gettid));
	if (syscall(SYS_set_robust_list, &lifeline->head,
	            sizeof(lifeline->head)) != 0) {
		error = -errno;
		peal__write_once(word, 0);
	}
	errno = saved_errno;
	return error;
}

void peal__lifeline_drop(struct peal__lifeline *lifeline)
{
	/* In this order: killed in between, we leave a word that says that
	 * nobody holds it. An empty list is one whose head points at itself. */
	peal__write_once(lifeline->word, 0);
	lifeline->head.list.next = &lifeline->head.list;
}
