/* SPDX-License-Identifier: MIT */
/*
 * One connection as the client has it: socket, pages, segment.
 *
 *	HELLO -> WELCOME + arm page, segment (, bell) -> map, check -> READY
 *
 * Callers: the thread that owns the handle.
 *
 * Death: of the server during the handshake: an error, and nothing is left.
 *
 * Errors: what the server hands over is checked like anything from a peer:
 *	number of descriptors, seals, sizes, magic; -EPROTO with a sentence.
 */
#ifndef PEAL_MPSC_ATTACH_H
#define PEAL_MPSC_ATTACH_H

#include <stdint.h>

#include "base/fork.h"
#include "mpsc/segment.h"
#include "mpsc/wire.h"
#include "peal/ring.h"
#include "peal/shm.h"

struct peal__connection {
	struct peal__fork_fd socket;
	struct peal_shm_mapping arm_mapping, bell_mapping, segment_mapping;
	const struct peal__arm_page *arm_page;
	struct peal__bell_page *bell_page; /* NULL: isolated */
	struct peal__segment *segment;
	struct peal__segment_shape shape;
	struct peal_peer self;
};

/* What a HELLO asks for. */
struct peal__wish {
	const char *name;
	enum peal__wire_role role;    /* PEAL__ROLE_CLIENT or _PRODUCER */
	uint64_t request_ring_bytes;  /* 0: the server's choice */
	uint64_t response_ring_bytes; /* likewise */
	uint64_t flags;               /* PEAL__HELLO_UNORDERED */
};

/*
 * Attach. On failure *@ret_connection has no socket and no mappings. 0 or
 * -errno, see peal_producer_attach().
 */
int peal__attach(const struct peal__wish *wish, uint64_t deadline_ns,
                 struct peal_failure *failure,
                 struct peal__connection *ret_connection);

/* Take it apart, after BYE if @say_bye. In a forked child nothing is unmapped. */
void peal__connection_close(struct peal__connection *connection, bool say_bye,
                            bool forked);

#endif
