/* SPDX-License-Identifier: MIT */
/*
 * Calls of the server's own whose answers are so many and so long that the lane
 * cannot hold them all.
 */
#ifndef PEAL_TESTS_UNIT_FULL_LANE_H
#define PEAL_TESTS_UNIT_FULL_LANE_H

#include "tests/unit/reactor_fixture.h"

#define CALLS 40
#define LONG_BYTES 1000 /* an answer */

static uint32_t answer_count;

static inline void on_answer(int error, const struct peal_message *answer,
                             void *arg)
{
	(void)arg;
	answer_count += error == 0 && answer->data_bytes == LONG_BYTES;
}

/* on_opened of the reactor. */
static inline void call_often(struct peal_reactor *reactor,
                              struct peal_peer peer, void *arg)
{
	on_opened(reactor, peer, arg);
	for (int i = 0; i < CALLS; i++)
		(void)!peal_reactor_call(reactor, peer, "q", 1, PEAL_FOREVER,
		                         on_answer, NULL);
}

/* on_request of the client. */
static inline void answer_at_length(struct peal_request *request, void *arg)
{
	static const char text[LONG_BYTES];

	(void)arg;
	peal_reply(request, text, sizeof(text));
}

#endif
