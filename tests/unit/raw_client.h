/* SPDX-License-Identifier: MIT */
/*
 * A client made of bare rings: it says to a reactor what it is told to, right
 * or wrong, and shows what comes back.
 */
#ifndef PEAL_TESTS_RAW_CLIENT_H
#define PEAL_TESTS_RAW_CLIENT_H

#include <string.h>

#include "base/clock.h"
#include "mpsc/attach.h"
#include "reactor/frame.h"

struct raw_client {
	struct peal__connection connection;
	struct peal_ring_tx requests, lane;
	struct peal_ring_rx responses;
	struct peal_ringer bell;
};

static inline int raw_connect(struct raw_client *raw, const char *name,
                              uint64_t ring_bytes, uint64_t flags)
{
	const struct peal__wish wish = {name, PEAL__ROLE_CLIENT, ring_bytes,
	                                ring_bytes, flags};
	struct peal__connection *connection = &raw->connection;
	const struct peal__segment_shape *shape = &connection->shape;
	int error = peal__attach(&wish, peal__deadline_after(PEAL__NS_PER_S),
	                         NULL, connection);

	if (error < 0)
		return error;
	peal_ring_tx_init(&raw->requests,
	                  peal__segment_data(connection->segment, shape,
	                                     PEAL__RING_REQUEST),
	                  shape->rings[PEAL__RING_REQUEST].bytes,
	                  shape->rings[PEAL__RING_REQUEST].start,
	                  &connection->segment->request_released);
	peal_ring_tx_init(&raw->lane,
	                  peal__segment_data(connection->segment, shape,
	                                     PEAL__RING_LANE),
	                  shape->rings[PEAL__RING_LANE].bytes,
	                  shape->rings[PEAL__RING_LANE].start,
	                  &connection->segment->lane_released);
	peal_ring_rx_init(&raw->responses,
	                  peal__segment_data(connection->segment, shape,
	                                     PEAL__RING_RESPONSE),
	                  shape->rings[PEAL__RING_RESPONSE].bytes,
	                  shape->rings[PEAL__RING_RESPONSE].start,
	                  &connection->segment->response_released);
	raw->bell = (struct peal_ringer){
		.arm = &connection->arm_page->arm,
		.seq = connection->bell_page == NULL
	                       ? NULL
	                       : &connection->bell_page->seq,
		.fd = connection->socket.fd,
	};
	return 0;
}

static inline int raw_say(struct raw_client *raw, struct peal_ring_tx *tx,
                          uint32_t kind, uint64_t id, const void *data,
                          size_t bytes)
{
	void *place;
	int error = peal_ring_claim(tx, bytes, kind, id, &place);

	if (error < 0)
		return error;
	if (bytes > 0)
		memcpy(place, data, bytes);
	peal_ring_publish(tx);
	peal_doorbell_ring(&raw->bell);
	return 0;
}

static inline int raw_ask(struct raw_client *raw, uint64_t id, const char *text)
{
	return raw_say(raw, &raw->requests, PEAL__FRAME_REQUEST, id, text,
	               strlen(text));
}

/* The next frame, without its extension, for a second at most; its space is
 * given back, which leaves the bytes there for now. */
static inline int raw_hear(struct raw_client *raw, struct peal_message *message,
                           struct peal__frame_parts *parts)
{
	uint64_t deadline_ns = peal__deadline_after(PEAL__NS_PER_S);
	int error;

	while ((error = peal_ring_peek(&raw->responses, message)) == -EAGAIN &&
	       peal__clock_ns() < deadline_ns) {
	}
	if (error < 0)
		return error;
	peal_ring_release(&raw->responses, message);
	peal_ring_settle(&raw->responses);
	peal_doorbell_ring(&raw->bell);
	return peal__frame_take(message, parts);
}

static inline void raw_close(struct raw_client *raw, bool say_bye)
{
	peal__connection_close(&raw->connection, say_bye, false);
}

#endif
