/* SPDX-License-Identifier: MIT */
/*
 * A request as its handler has it, on either side: the reactor's handlers get
 * them from clients, a client's on_request from its server.
 *
 *	struct peal_request            what both have, and the public calls use
 *	  .ops --> reactor/answer.c    the answer goes to a response ring
 *	       --> reactor/upcall.c    the answer goes to the client's lane
 *
 * Callers: whoever has the open request, one thread at a time.
 *
 * Errors: as of peal_reply() and its kin.
 */
#ifndef PEAL_REACTOR_REQUEST_H
#define PEAL_REACTOR_REQUEST_H

#include <stdbool.h>

#include "peal/reactor.h"
#include "reactor/buffer.h"

struct peal__request_ops {
	/*
	 * Answer with a copy of @data (@error 0), or fail it (@error a -errno,
	 * no bytes). 0 consumes the request.
	 */
	int (*send)(struct peal_request *request, int error, int32_t status,
	            const void *data, size_t bytes);
	int (*claim)(struct peal_request *request, size_t bytes,
	             void **ret_data);
	int (*publish)(struct peal_request *request, size_t bytes);
	int (*retain)(struct peal_request *request);
	bool (*is_cancelled)(const struct peal_request *request);
	size_t (*message_max)(const struct peal_request *request);
};

/* The beginning of every request; what follows is its side's own. */
struct peal_request {
	const struct peal__request_ops *ops;
	const void *data;
	size_t data_bytes;
	uint64_t id;
	struct peal_peer peer;
	uint64_t deadline_ns; /* absolute; PEAL__NEVER: none */
	bool is_one_way;
	struct peal__buffer in;  /* a copy of its bytes, when there is one */
	struct peal__buffer out; /* its answer, when that cannot go at once */
};

/* Its bytes, which are not there yet, into memory of our own. 0 or -ENOMEM. */
static inline int peal__request_copy_in(struct peal_request *request)
{
	int error = peal__buffer_reserve(&request->in, request->data_bytes);

	if (error < 0)
		return error;
	if (request->data_bytes > 0)
		memcpy(request->in.data, request->data, request->data_bytes);
	request->data = request->in.data;
	return 0;
}

#endif
