/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "base/hooks.h"
#include "base/read.h"
#include "reactor/client.h"
#include "reactor/upcall.h"

/* views and space ----------------------------------------------------------- */

void peal__client_settle(struct peal_client *client)
{
	struct peal_producer *producer = client->producer;
	uint64_t arm, want;

	if (client->rx.released == client->rx.told || producer->lost != 0)
		return;
	peal_ring_settle(&client->rx);
	PEAL__HOOK("client: told");
	arm = peal__doorbell_armed(&producer->hot.bell);
	if (PEAL_LIKELY(arm == 0))
		return;
	/* A server that sleeps wants so much room, or none at all. */
	want = peal__read_once(&producer->connection.segment->response_want);
	if ((int64_t)(client->rx.told - want) >= 0)
		peal__doorbell_ring_armed(&producer->hot.bell, arm);
}

static void give_back(struct peal_client *client, uint64_t end)
{
	peal_ring_release(&client->rx,
	                  &(struct peal_message){.peal__end = end});
	if (client->rx.released - client->rx.told >= client->tell_bytes)
		peal__client_settle(client);
}

void peal__client_drop_view(struct peal_client *client)
{
	struct peal__view view = client->view;

	if (view.serial == 0)
		return;
	client->view = (struct peal__view){0};
	if (view.note != NULL)
		peal__client_free_note(client, view.note);
	else
		give_back(client, view.end);
}

/* The user gets this to look at: in the ring, or a copy. */
static void show(struct peal_client *client, struct peal__note *note,
                 const struct peal_message *message,
                 struct peal_message *ret_answer)
{
	client->view.note = note;
	client->view.end = message->peal__end;
	client->view.serial = ++client->view_serial;
	/* One by one: a copy of the whole would load by twos what has just been
	 * stored one by one, and so wait for the stores before it. */
	ret_answer->data = message->data;
	ret_answer->data_bytes = message->data_bytes;
	ret_answer->id = message->id;
	ret_answer->kind = message->kind;
	ret_answer->status = message->status;
	ret_answer->peer = message->peer;
	ret_answer->peal__end = client->view_serial;
}

void peal_client_release(struct peal_client *client,
                         const struct peal_message *answer)
{
	if (peal__client_was_forked(client) || client->view.serial == 0 ||
	    answer->peal__end != client->view.serial)
		return;
	peal__client_drop_view(client);
	/* We may not be back for long. */
	peal__client_settle(client);
}

/* frames -------------------------------------------------------------------- */

/* Copy a message of the ring; NULL: no memory. */
static struct peal__note *copy(struct peal_client *client,
                               const struct peal_message *message)
{
	struct peal__note *note =
		peal__client_note(client, message->data_bytes);

	if (note == NULL)
		return NULL;
	note->message = *message;
	note->message.data = note->buffer.data;
	if (message->data_bytes > 0)
		memcpy(note->buffer.data, message->data, message->data_bytes);
	return note;
}

static void count_answer(struct peal_client *client,
                         const struct peal_message *answer)
{
	if (answer->kind == PEAL_FAILED)
		client->stats.failed_count++;
	else
		client->stats.answered_count++;
}

/* An answer that its call waits for. 0, 1 or -ENOMEM. */
static int answer_call(struct peal_client *client, struct peal__waiter *waiter,
                       bool in_place, const struct peal_message *answer,
                       struct peal_message *ret_answer)
{
	if (answer->kind == PEAL_FAILED) {
		waiter->error = answer->status;
	} else if (in_place) {
		count_answer(client, answer);
		show(client, NULL, answer, ret_answer);
		return 0;
	} else {
		waiter->note = copy(client, answer);
		if (waiter->note == NULL)
			return -ENOMEM;
	}
	count_answer(client, answer);
	waiter->is_done = true;
	give_back(client, answer->peal__end);
	return 1;
}

/* An answer to something sent, for recv: now, or in the inbox. */
static int answer_sent(struct peal_client *client,
                       const struct peal_message *answer,
                       struct peal_message *ret_answer)
{
	struct peal__note *note;

	if (ret_answer != NULL) {
		count_answer(client, answer);
		show(client, NULL, answer, ret_answer);
		return 0;
	}
	note = copy(client, answer);
	if (note == NULL) {
		/* It is to be found once more. There is room: it was there. */
		peal__flight_add(&client->flight, answer->id,
		                 PEAL__FLIGHT_SENT);
		return -ENOMEM;
	}
	count_answer(client, answer);
	*client->inbox_end = note;
	client->inbox_end = &note->next;
	give_back(client, answer->peal__end);
	return 1;
}

/* What an ANSWER or a FAILED says, as the user gets it. 0 or -EPROTO. */
static int read_answer(struct peal_message *message,
                       const struct peal__frame_parts *parts)
{
	int64_t value = (int64_t)parts->extension;

	message->kind = PEAL_ANSWERED;
	message->status = (int32_t)value;
	if (message->id == 0 || value < INT32_MIN || value > INT32_MAX)
		return -EPROTO;
	if (parts->type == PEAL__FRAME_ANSWER)
		return 0;
	message->kind = PEAL_FAILED;
	return parts->is_extended && message->data_bytes == 0 &&
	                       peal__is_errno(value)
	               ? 0
	               : -EPROTO;
}

static int take_answer(struct peal_client *client,
                       const struct peal_message *answer,
                       struct peal__waiter *waiter,
                       struct peal_message *ret_answer)
{
	if (PEAL_LIKELY(waiter != NULL && answer->id == waiter->id))
		return answer_call(client, waiter, true, answer, ret_answer);
	for (struct peal__waiter *outer = client->waiting; outer != NULL;
	     outer = outer->outer)
		if (outer->id == answer->id && !outer->is_done)
			return answer_call(client, outer, false, answer, NULL);
	switch (peal__flight_take(&client->flight, answer->id)) {
	case PEAL__FLIGHT_SENT:
		return answer_sent(client, answer,
		                   waiter == NULL ? ret_answer : NULL);
	case PEAL__FLIGHT_ABANDONED:
		client->stats.late_count++;
		give_back(client, answer->peal__end);
		return 1;
	default:
		return peal__client_lose(client);
	}
}

static int take_push(struct peal_client *client,
                     const struct peal_message *push)
{
	struct peal__note *note;

	if (client->options.on_push == NULL || client->is_saving) {
		client->stats.push_count++;
		client->stats.push_dropped_count++;
		give_back(client, push->peal__end);
		return 1;
	}
	note = copy(client, push);
	if (note == NULL)
		return -ENOMEM;
	client->stats.push_count++;
	note->message.kind = 0;
	note->message.peal__end = 0;
	give_back(client, push->peal__end);
	client->options.on_push(&note->message, client->options.arg);
	peal__client_free_note(client, note);
	/* Of calls that the callback made. */
	peal__client_drop_view(client);
	return 1;
}

static int take_call(struct peal_client *client,
                     const struct peal_message *call,
                     const struct peal__frame_parts *parts)
{
	struct peal__upcall *upcall;

	if (client->is_saving) {
		give_back(client, call->peal__end);
		return 1;
	}
	upcall = peal__upcall_take(client, call,
	                           parts->is_extended ? parts->extension
	                                              : PEAL__NEVER);
	if (upcall == NULL)
		return -ENOMEM;
	client->stats.request_count++;
	give_back(client, call->peal__end);
	peal__upcall_run(upcall);
	peal__client_drop_view(client);
	return 1;
}

/* A frame that is no answer. */
static int take_other(struct peal_client *client,
                      const struct peal_message *message,
                      const struct peal__frame_parts *parts)
{
	if (parts->type == PEAL__FRAME_PUSH && message->id == 0 &&
	    !parts->is_extended)
		return take_push(client, message);
	if (parts->type == PEAL__FRAME_CALL && message->id != 0)
		return take_call(client, message, parts);
	return peal__client_lose(client);
}

int peal__client_take(struct peal_client *client, struct peal__waiter *waiter,
                      struct peal_message *ret_answer)
{
	uint64_t head = client->rx.head;
	struct peal__frame_parts parts;
	struct peal_message message;
	uint32_t serial = client->serial;
	int error;

	if (PEAL_UNLIKELY(!client->is_readable))
		return -EAGAIN;
	error = peal_ring_peek(&client->rx, &message);
	if (error == -EAGAIN)
		return error;
	if (PEAL_UNLIKELY(error < 0 || peal__frame_take(&message, &parts) < 0))
		return peal__client_lose(client);
	message.peer = (struct peal_peer){0, 0};
	if (parts.type != PEAL__FRAME_ANSWER &&
	    parts.type != PEAL__FRAME_FAILED)
		error = take_other(client, &message, &parts);
	else if (PEAL_UNLIKELY(read_answer(&message, &parts) < 0))
		error = peal__client_lose(client);
	else
		error = take_answer(client, &message, waiter, ret_answer);
	/* Not taken: the next one who looks finds it again. */
	if (error == -ENOMEM && serial == client->serial)
		client->rx.head = head;
	return error;
}

/* call and recv -------------------------------------------------------------- */

/* When attaching again has failed, the bell is not mapped any more; nobody
 * sleeps on it before the next connection. */
static void look_at_bell(struct peal_client *client)
{
	if (PEAL_LIKELY(client->is_readable))
		peal_doorbell_look(&client->sleeper);
}

/* The connection is lost, and its ring is dry. */
static bool is_over(struct peal_client *client)
{
	if (PEAL_LIKELY(client->producer->lost == 0))
		return false;
	peal__client_note_loss(client);
	return true;
}

/* A call's answer that a nested one has taken, or why there is none. */
static int finish_call(struct peal_client *client, struct peal__waiter *waiter,
                       struct peal_message *ret_answer)
{
	struct peal__note *note = waiter->note;

	if (note == NULL) {
		if (waiter->error == client->producer->lost)
			client->producer->told = true;
		return waiter->error;
	}
	waiter->note = NULL;
	show(client, note, &note->message, ret_answer);
	return 0;
}

/* Pushes may come faster than we take them: is it time to go all the same? 0,
 * -ECANCELED or -ETIMEDOUT. */
static int look_at_limit(struct peal_client *client,
                         struct peal__spin_limit *limit)
{
	if (peal__client_is_woken(client))
		return -ECANCELED;
	return limit->timeout_ns != PEAL_FOREVER &&
	                       peal__spin_is_over(limit, peal__clock_ns())
	               ? -ETIMEDOUT
	               : 0;
}

/* How a wait ends. The wake is taken by who says so: if an answer has come as well
 * it is the next call's. */
static int end_wait(struct peal_client *client, int error)
{
	if (error == -ECANCELED)
		peal__client_take_wake(client);
	return error;
}

int peal__client_await(struct peal_client *client, struct peal__waiter *waiter,
                       struct peal__spin_limit *limit,
                       struct peal_message *ret_answer)
{
	int error = 0, taken;

	for (;;) {
		look_at_bell(client);
		do {
			if (PEAL_UNLIKELY(waiter->is_done))
				return finish_call(client, waiter, ret_answer);
			taken = peal__client_take(client, waiter, ret_answer);
			if (taken == 1 && !waiter->is_done)
				error = look_at_limit(client, limit);
		} while (taken == 1 && (error == 0 || waiter->is_done));
		if (taken == 1)
			return end_wait(client, error);
		if (taken == 0 || taken == -ENOMEM)
			return taken;
		if (is_over(client))
			continue;
		if (error < 0)
			return end_wait(client, error);
		error = peal__client_wait(client, limit);
	}
}

/* The oldest of what was put aside. */
static bool open_inbox(struct peal_client *client,
                       struct peal_message *ret_answer)
{
	struct peal__note *note = client->inbox;

	if (PEAL_LIKELY(note == NULL))
		return false;
	client->inbox = note->next;
	if (client->inbox == NULL)
		client->inbox_end = &client->inbox;
	show(client, note, &note->message, ret_answer);
	return true;
}

/* One request that was in flight when the connection was lost. */
static bool open_lost(struct peal_client *client,
                      struct peal_message *ret_answer)
{
	struct peal_message failed = {.kind = PEAL_FAILED};
	int error;

	if (!peal__flight_take_lost(&client->flight, &failed.id, &error))
		return false;
	failed.status = error;
	*ret_answer = failed;
	client->stats.failed_count++;
	client->producer->told = true;
	return true;
}

/* One of many was taken that are not for the caller: may recv go on? Who does not
 * want to wait has a ring of them at most, which end at @end. */
static int go_on(struct peal_client *client, struct peal__spin_limit *limit,
                 uint64_t end)
{
	if (limit->timeout_ns != 0)
		return look_at_limit(client, limit);
	return (int64_t)(client->rx.head - end) < 0 ? 0 : -EAGAIN;
}

/* 0, or -EAGAIN: nothing is there now; or what go_on() says. */
static int look_for_any(struct peal_client *client,
                        struct peal__spin_limit *limit,
                        struct peal_message *ret_answer)
{
	uint64_t end = client->rx.head + client->rx.capacity_bytes;
	int error, stop = 0;

	look_at_bell(client);
	do {
		if (open_inbox(client, ret_answer))
			return 0;
		error = peal__client_take(client, NULL, ret_answer);
		if (error == 1)
			stop = go_on(client, limit, end);
	} while (error == 1 && stop == 0);
	if (error == 1)
		return stop;
	if (error == 0 || error == -ENOMEM)
		return error;
	if (client->producer->lost == 0 && client->flight.lost_count == 0)
		return -EAGAIN;
	if (is_over(client) && client->inbox != NULL)
		return open_inbox(client, ret_answer) ? 0 : -EAGAIN;
	return open_lost(client, ret_answer) ? 0 : -EAGAIN;
}

/* Everything has been delivered, and the connection is lost. */
static int mend_for_recv(struct peal_client *client, uint64_t timeout_ns)
{
	if (client->is_recv_told)
		return peal__client_mend(client, timeout_ns);
	client->is_recv_told = true;
	client->producer->told = true;
	return client->producer->lost;
}

int peal_client_recv(struct peal_client *client, uint64_t timeout_ns,
                     struct peal_message *ret_answer)
{
	struct peal_producer *producer = client->producer;
	struct peal__spin_limit limit = {timeout_ns, 0, 0, false};
	int error, waited = 0;

	if (peal__client_was_forked(client))
		return -ESTALE;
	peal__client_drop_view(client);
	for (;;) {
		error = look_for_any(client, &limit, ret_answer);
		if (error != -EAGAIN)
			return end_wait(client, error);
		if (producer->lost != 0) {
			error = mend_for_recv(client, timeout_ns);
			if (error < 0)
				return error;
			continue;
		}
		/* A call of a callback's own may have told it meanwhile. */
		if (waited == -ECANCELED && !peal__client_is_woken(client))
			waited = 0;
		if (waited < 0)
			return end_wait(client, waited);
		if (timeout_ns == 0) {
			peal__upcall_flush(client);
			peal__client_settle(client);
			if (!peal__producer_look_is_due(producer) ||
			    peal__producer_look(producer) == 0)
				return -EAGAIN;
			continue;
		}
		waited = peal__client_wait(client, &limit);
	}
}
