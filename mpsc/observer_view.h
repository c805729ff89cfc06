/* SPDX-License-Identifier: MIT */
/*
 * A status region as somebody else sees it: everything that reads one.
 *
 *	descriptor --check--> [ server ][ slot 0 ][ slot 1 ] ...  read-only
 *
 * The region is a stranger's. Its size is sealed before it is measured, what is
 * written once is copied before it is checked, and every other word is read
 * once and only shown.
 *
 * Callers: one thread at a time for each view.
 *
 * Ordering: relaxed. Counters move while they are read; a row whose generation
 *	moved is read again, so that a row mixes two connections for one look at
 *	most, where the processor reorders loads.
 *
 * Death: of the server: nothing changes any more.
 */
#ifndef PEAL_MPSC_OBSERVER_VIEW_H
#define PEAL_MPSC_OBSERVER_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "mpsc/layout.h"
#include "peal/observer.h"
#include "peal/shm.h"

struct peal__view {
	struct peal_shm_mapping mapping;
	const struct peal__status_server *server;
	const unsigned char
		*slots; /* of a later minor version they are larger */
	uint32_t slot_bytes;
	uint32_t slot_max;
	uint32_t role;
	uint64_t opened_ns;
	char name[72];
};

/*
 * Check and map the region of at least @status_bytes behind @fd, which stays
 * the caller's. 0, -EPROTO, -EPROTONOSUPPORT (its layout), -ENOMEM.
 */
int peal__view_open(int fd, uint64_t status_bytes, struct peal__view *ret_view);

void peal__view_close(struct peal__view *view);

/* Has the server said that it closed? */
bool peal__view_is_closed(const struct peal__view *view);

/* All but who it is and its state. */
void peal__view_server(const struct peal__view *view,
                       struct peal_server_info *info);

/* See peal_observer_slot(). */
int peal__view_slot(const struct peal__view *view, uint32_t slot_index,
                    struct peal_slot_info *ret_info);

#endif
