/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "base/read.h"
#include "reactor/client.h"

/* What is to be sent, and by when it has to be run. */
struct outgoing {
	enum peal__frame type;
	size_t bytes;
	uint64_t deadline_ns; /* absolute; PEAL__NEVER: none */
	bool is_extended;     /* it has a place for the deadline */
};

/* A claim that was not published is given up by the next one. */
static void give_up_claim(struct peal_client *client)
{
	if (PEAL_LIKELY(!client->has_claim))
		return;
	client->has_claim = false;
	if (client->producer->lost == 0)
		peal_producer_abort(client->producer);
}

/* The id is the next one of the connection, which may be a new one by then;
 * publish() is what takes it. */
static inline __attribute__((always_inline)) int
claim(struct peal_client *client, const struct outgoing *outgoing,
      uint64_t timeout_ns, uint8_t **ret_data)
{
	struct peal_producer *producer = client->producer;
	uint32_t kind = outgoing->type;
	size_t bytes = outgoing->bytes;
	void *data;
	int error;

	if (PEAL_UNLIKELY(producer->lost != 0)) {
		error = peal__client_mend(client, timeout_ns);
		if (error < 0)
			return error;
	}
	/* So that the limit does not depend on there being a deadline. Of this
	 * connection: the next one may have larger rings. */
	if (PEAL_UNLIKELY(bytes > peal_client_message_max(client)))
		return -EMSGSIZE;
	if (outgoing->is_extended) {
		kind |= PEAL__FRAME_EXTENDED;
		bytes += PEAL__FRAME_EXTENSION_BYTES;
	}
	error = peal__producer_claim(
		producer, bytes, kind,
		outgoing->type == PEAL__FRAME_REQUEST ? client->next_id : 0,
		timeout_ns, &data);
	if (PEAL_UNLIKELY(error < 0)) {
		if (error == -ECANCELED)
			peal__client_take_wake(client);
		return error;
	}
	*ret_data = data;
	if (outgoing->is_extended) {
		memcpy(data, &outgoing->deadline_ns,
		       PEAL__FRAME_EXTENSION_BYTES);
		*ret_data += PEAL__FRAME_EXTENSION_BYTES;
	}
	return 0;
}

static uint64_t publish(struct peal_client *client)
{
	uint64_t id = client->next_id++;

	if (PEAL_UNLIKELY(client->next_id == 0))
		client->next_id = 1;
	peal__producer_publish(client->producer);
	client->stats.sent_count++;
	return id;
}

/* call ---------------------------------------------------------------------- */

/* A call does what others leave to recv: while there is no room it takes what
 * the server may be waiting for us to take. */
static int claim_for_call(struct peal_client *client,
                          const struct outgoing *outgoing, uint64_t timeout_ns,
                          uint8_t **ret_data)
{
	uint64_t left_ns = timeout_ns;
	int error;

	for (;;) {
		/* A callback below may have left one. */
		give_up_claim(client);
		error = claim(client, outgoing, left_ns, ret_data);
		if (PEAL_LIKELY(error != -EAGAIN) || timeout_ns == 0)
			return error;
		error = peal__client_take(client, NULL, NULL);
		if (error < 0 && error != -EAGAIN) {
			client->producer->told |= client->producer->lost != 0;
			return error;
		}
		if (outgoing->deadline_ns == PEAL__NEVER)
			continue;
		if (peal__clock_ns() >= outgoing->deadline_ns)
			return -ETIMEDOUT;
		left_ns = peal__deadline_left(outgoing->deadline_ns);
	}
}

/* Nobody waits for its answer any more. */
static void abandon(struct peal_client *client, uint64_t id)
{
	peal__flight_add(&client->flight, id, PEAL__FLIGHT_ABANDONED);
	peal__write_once(&client->producer->connection.segment
	                          ->cancelled[id % PEAL__CANCEL_COUNT],
	                 id);
}

int peal_client_call(struct peal_client *client, const void *data, size_t bytes,
                     uint64_t timeout_ns, struct peal_message *ret_answer)
{
	uint64_t deadline_ns = timeout_ns == PEAL_FOREVER
	                               ? PEAL__NEVER
	                               : peal__deadline_after(timeout_ns);
	const struct outgoing outgoing = {PEAL__FRAME_REQUEST, bytes,
	                                  deadline_ns,
	                                  deadline_ns != PEAL__NEVER};
	struct peal__spin_limit limit = {timeout_ns, deadline_ns, 0, false};
	struct peal__waiter waiter = {0};
	uint8_t *to;
	int error;

	if (peal__client_was_forked(client))
		return -ESTALE;
	peal__client_drop_view(client);
	if (PEAL_UNLIKELY(peal__client_take_wake(client)))
		return -ECANCELED;
	error = claim_for_call(client, &outgoing, timeout_ns, &to);
	if (PEAL_UNLIKELY(error < 0))
		return error;
	/* Should nobody wait for the answer some day, it has its place, and so
	 * have those of the calls around this one. */
	if (PEAL_UNLIKELY(peal__flight_reserve(&client->flight,
	                                       1 + client->waiting_count) <
	                  0)) {
		peal_producer_abort(client->producer);
		return -ENOMEM;
	}
	if (bytes > 0)
		memcpy(to, data, bytes);
	waiter.outer = client->waiting;
	client->waiting = &waiter;
	client->waiting_count++;
	waiter.id = publish(client);
	error = peal__client_await(client, &waiter, &limit, ret_answer);
	client->waiting = waiter.outer;
	client->waiting_count--;
	if (PEAL_UNLIKELY(error < 0 && !waiter.is_done))
		abandon(client, waiter.id);
	return error;
}

/* send and its kin ---------------------------------------------------------- */

/* Publish what was claimed, as a request whose answer recv brings. */
static int publish_request(struct peal_client *client, uint64_t *ret_id)
{
	uint64_t id;

	if (PEAL_UNLIKELY(peal__flight_reserve(&client->flight,
	                                       1 + client->waiting_count) <
	                  0)) {
		peal_producer_abort(client->producer);
		return -ENOMEM;
	}
	id = publish(client);
	peal__flight_add(&client->flight, id, PEAL__FLIGHT_SENT);
	if (ret_id != NULL)
		*ret_id = id;
	return 0;
}

static uint64_t deadline_of(uint64_t deadline_ns)
{
	return deadline_ns == PEAL_FOREVER ? PEAL__NEVER
	                                   : peal__deadline_after(deadline_ns);
}

/* Claimed and written; what is left is to publish it. */
static int put(struct peal_client *client, const struct outgoing *outgoing,
               const void *data, uint64_t timeout_ns)
{
	uint8_t *to;
	int error;

	if (peal__client_was_forked(client))
		return -ESTALE;
	give_up_claim(client);
	error = claim(client, outgoing, timeout_ns, &to);
	if (error == 0 && outgoing->bytes > 0)
		memcpy(to, data, outgoing->bytes);
	return error;
}

int peal_client_send(struct peal_client *client, const void *data, size_t bytes,
                     uint64_t deadline_ns, uint64_t timeout_ns,
                     uint64_t *ret_id)
{
	uint64_t until_ns = deadline_of(deadline_ns);
	const struct outgoing outgoing = {PEAL__FRAME_REQUEST, bytes, until_ns,
	                                  until_ns != PEAL__NEVER};
	int error = put(client, &outgoing, data, timeout_ns);

	return error < 0 ? error : publish_request(client, ret_id);
}

int peal_client_tell(struct peal_client *client, const void *data, size_t bytes,
                     uint64_t timeout_ns)
{
	const struct outgoing outgoing = {PEAL__FRAME_ONE_WAY, bytes,
	                                  PEAL__NEVER, false};
	int error = put(client, &outgoing, data, timeout_ns);

	if (error < 0)
		return error;
	peal__producer_publish(client->producer);
	client->stats.sent_count++;
	return 0;
}

/* The deadline is told at last, so it has its place in any case. */
int peal_client_claim(struct peal_client *client, size_t bytes,
                      uint64_t timeout_ns, void **ret_data)
{
	const struct outgoing outgoing = {PEAL__FRAME_REQUEST, bytes,
	                                  PEAL__NEVER, true};
	int error;

	if (peal__client_was_forked(client))
		return -ESTALE;
	give_up_claim(client);
	error = claim(client, &outgoing, timeout_ns, &client->claim_data);
	if (error < 0)
		return error;
	client->has_claim = true;
	client->claim_bytes = bytes;
	*ret_data = client->claim_data;
	return 0;
}

int peal_client_publish(struct peal_client *client, size_t bytes,
                        uint64_t deadline_ns, uint64_t *ret_id)
{
	struct peal_producer *producer = client->producer;
	uint64_t until_ns = deadline_of(deadline_ns);

	if (peal__client_was_forked(client))
		return -ESTALE;
	if (!client->has_claim || bytes > client->claim_bytes)
		return -EINVAL;
	client->has_claim = false;
	if (producer->lost != 0) {
		producer->told = true;
		return producer->lost;
	}
	memcpy(client->claim_data - PEAL__FRAME_EXTENSION_BYTES, &until_ns,
	       sizeof(until_ns));
	if (bytes < client->claim_bytes)
		peal_producer_trim(producer,
		                   bytes + PEAL__FRAME_EXTENSION_BYTES);
	return publish_request(client, ret_id);
}
