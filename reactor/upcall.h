/* SPDX-License-Identifier: MIT */
/*
 * Calls from the server, on the client's side.
 *
 *	CALL --copy--> on_request(request) --peal_reply()--> lane
 *	                                         \-- full: unsent, and later
 *
 * Callers: the thread that owns the client, replies included.
 *
 * Progress: nothing waits for room in the lane. What did not fit goes out in
 *	later calls, and while the client waits.
 *
 * Death: of the server: open requests stay valid, their replies go nowhere.
 */
#ifndef PEAL_REACTOR_UPCALL_H
#define PEAL_REACTOR_UPCALL_H

#include "reactor/client.h"

/*
 * Make a request of a CALL: a copy. NULL: not enough memory. Then run the
 * handler for it, once the ring has its space back.
 */
struct peal__upcall *peal__upcall_take(struct peal_client *client,
                                       const struct peal_message *message,
                                       uint64_t deadline_ns);
void peal__upcall_run(struct peal__upcall *upcall);

/* Send what the lane has room for now. */
void peal__upcall_flush(struct peal_client *client);

/* Has the lane room for the next that is unsent? A seq_cst load. */
bool peal__upcall_can_flush(struct peal_client *client);

/* The connection is over: nothing is left to be sent. */
void peal__upcall_forget(struct peal_client *client);

/* Free them all, open ones too. */
void peal__upcall_close(struct peal_client *client);

#endif
