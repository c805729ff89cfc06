/* SPDX-License-Identifier: MIT */
#include "reactor/upcall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reactor/request.h"

struct peal__upcall {
	struct peal_request request; /* first: the ops get it */
	struct peal_client *client;
	uint32_t serial; /* of the connection that it came by */
	bool has_claim;
	size_t claim_bytes;

	/* the answer, when the lane was full */
	int error;
	int32_t status;
	size_t answer_bytes;

	struct peal__upcall *next_free; /* or the next unsent one */
	struct peal__upcall *next;      /* of all there are */
};

static struct peal__upcall *upcall_of(struct peal_request *request)
{
	return (struct peal__upcall *)request;
}

/* A forked child has neither the lane nor the bell. */
static bool is_in_child(const struct peal__upcall *upcall)
{
	return peal__client_was_forked(upcall->client);
}

/* Its server has gone: nobody wants the answer. */
static bool is_orphan(const struct peal__upcall *upcall)
{
	const struct peal_client *client = upcall->client;

	return upcall->serial != client->serial || client->producer->lost != 0;
}

static void rest(struct peal__upcall *upcall)
{
	struct peal_client *client = upcall->client;

	peal__buffer_rest(&upcall->request.in);
	peal__buffer_rest(&upcall->request.out);
	upcall->next_free = client->free_upcalls;
	client->free_upcalls = upcall;
}

/* Beyond this an answer can never fit. */
static size_t answer_max(const struct peal_client *client)
{
	return peal_ring_message_max(client->lane.capacity_bytes) -
	       PEAL__FRAME_EXTENSION_BYTES;
}

/* Send the answer if the lane has room. 0 or -EAGAIN. */
static int send_now(struct peal_client *client, uint64_t id, int error,
                    int32_t status, const void *data, size_t bytes)
{
	const uint64_t extension =
		(uint64_t)(int64_t)(error < 0 ? error : status);
	bool is_plain = error == 0 && status == 0;
	void *to;
	int result = peal__frame_claim(
		&client->lane,
		error < 0 ? PEAL__FRAME_FAILED : PEAL__FRAME_ANSWER, id,
		is_plain ? NULL : &extension, bytes, &to);

	if (result < 0)
		return result;
	if (bytes > 0)
		memcpy(to, data, bytes);
	peal_ring_publish(&client->lane);
	peal_doorbell_ring(&client->producer->hot.bell);
	return 0;
}

void peal__upcall_flush(struct peal_client *client)
{
	while (client->unsent != NULL) {
		struct peal__upcall *upcall = client->unsent;

		if (client->producer->lost != 0 ||
		    send_now(client, upcall->request.id, upcall->error,
		             upcall->status, upcall->request.out.data,
		             upcall->answer_bytes) < 0)
			return;
		client->unsent = upcall->next_free;
		if (client->unsent == NULL)
			client->unsent_end = &client->unsent;
		rest(upcall);
	}
}

bool peal__upcall_can_flush(struct peal_client *client)
{
	const struct peal__upcall *upcall = client->unsent;

	return PEAL_UNLIKELY(upcall != NULL) &&
	       peal__ring_make_room(
		       &client->lane,
		       peal_ring_frame_bytes(upcall->answer_bytes +
	                                     PEAL__FRAME_EXTENSION_BYTES));
}

/* The lane is full: keep a copy. 0 or -ENOMEM. */
static int put_off(struct peal__upcall *upcall, int error, int32_t status,
                   const void *data, size_t bytes)
{
	struct peal_client *client = upcall->client;

	if (peal__buffer_put(&upcall->request.out, data, bytes) < 0)
		return -ENOMEM;
	upcall->error = error;
	upcall->status = status;
	upcall->answer_bytes = bytes;
	upcall->next_free = NULL;
	*client->unsent_end = upcall;
	client->unsent_end = &upcall->next_free;
	return 0;
}

static int send_answer(struct peal_request *request, int error, int32_t status,
                       const void *data, size_t bytes)
{
	struct peal__upcall *upcall = upcall_of(request);
	struct peal_client *client = upcall->client;

	if (PEAL_UNLIKELY(is_in_child(upcall)))
		return -ESTALE;
	if (is_orphan(upcall)) {
		rest(upcall);
		return 0;
	}
	if (bytes > answer_max(client))
		return -EMSGSIZE;
	upcall->has_claim = false;
	peal__upcall_flush(client);
	if (client->unsent != NULL ||
	    send_now(client, request->id, error, status, data, bytes) < 0)
		return put_off(upcall, error, status, data, bytes);
	rest(upcall);
	return 0;
}

static int claim_answer(struct peal_request *request, size_t bytes,
                        void **ret_data)
{
	struct peal__upcall *upcall = upcall_of(request);
	int saved_errno = errno, error;

	if (PEAL_UNLIKELY(is_in_child(upcall)))
		return -ESTALE;
	if (!is_orphan(upcall) && bytes > answer_max(upcall->client))
		return -EMSGSIZE;
	error = peal__buffer_reserve(&request->out, bytes);
	errno = saved_errno;
	if (error < 0)
		return error;
	upcall->has_claim = true;
	upcall->claim_bytes = bytes;
	*ret_data = request->out.data;
	return 0;
}

static int publish_answer(struct peal_request *request, size_t bytes)
{
	const struct peal__upcall *upcall = upcall_of(request);

	if (PEAL_UNLIKELY(is_in_child(upcall)))
		return -ESTALE;
	if (!upcall->has_claim || bytes > upcall->claim_bytes)
		return -EINVAL;
	return send_answer(request, 0, 0, request->out.data, bytes);
}

/* It is a copy from the beginning. */
static int retain(struct peal_request *request)
{
	return is_in_child(upcall_of(request)) ? -ESTALE : 0;
}

static bool is_cancelled(const struct peal_request *request)
{
	const struct peal__upcall *upcall =
		(const struct peal__upcall *)request;

	return is_in_child(upcall) || is_orphan(upcall);
}

static size_t message_max(const struct peal_request *request)
{
	return answer_max(((const struct peal__upcall *)request)->client);
}

static const struct peal__request_ops ops = {
	.send = send_answer,
	.claim = claim_answer,
	.publish = publish_answer,
	.retain = retain,
	.is_cancelled = is_cancelled,
	.message_max = message_max,
};

/* A pooled one, or a new one; or NULL. */
static struct peal__upcall *allocate(struct peal_client *client)
{
	struct peal__upcall *upcall = client->free_upcalls;

	if (upcall != NULL) {
		client->free_upcalls = upcall->next_free;
		return upcall;
	}
	upcall = calloc(1, sizeof(*upcall));
	if (upcall == NULL)
		return NULL;
	upcall->client = client;
	upcall->next = client->upcalls;
	client->upcalls = upcall;
	return upcall;
}

struct peal__upcall *peal__upcall_take(struct peal_client *client,
                                       const struct peal_message *message,
                                       uint64_t deadline_ns)
{
	int saved_errno = errno;
	struct peal__upcall *upcall = allocate(client);
	struct peal_request *request;

	if (upcall != NULL && peal__buffer_reserve(&upcall->request.in,
	                                           message->data_bytes) < 0) {
		rest(upcall);
		upcall = NULL;
	}
	errno = saved_errno;
	if (upcall == NULL)
		return NULL;
	request = &upcall->request;
	if (message->data_bytes > 0)
		memcpy(request->in.data, message->data, message->data_bytes);
	request->ops = &ops;
	request->data = request->in.data;
	request->data_bytes = message->data_bytes;
	request->id = message->id;
	request->peer = message->peer;
	request->deadline_ns = deadline_ns;
	request->is_one_way = false;
	upcall->serial = client->serial;
	upcall->has_claim = false;
	return upcall;
}

void peal__upcall_run(struct peal__upcall *upcall)
{
	struct peal_client *client = upcall->client;
	struct peal_request *request = &upcall->request;

	if (client->options.on_request == NULL)
		send_answer(request, -ENOSYS, 0, NULL, 0);
	else if (request->deadline_ns != PEAL__NEVER &&
	         request->deadline_ns <= peal__clock_ns())
		send_answer(request, -ETIMEDOUT, 0, NULL, 0);
	else
		client->options.on_request(request, client->options.arg);
}

void peal__upcall_forget(struct peal_client *client)
{
	while (client->unsent != NULL) {
		struct peal__upcall *upcall = client->unsent;

		client->unsent = upcall->next_free;
		rest(upcall);
	}
	client->unsent_end = &client->unsent;
}

void peal__upcall_close(struct peal_client *client)
{
	while (client->upcalls != NULL) {
		struct peal__upcall *upcall = client->upcalls;

		client->upcalls = upcall->next;
		peal__buffer_free(&upcall->request.in);
		peal__buffer_free(&upcall->request.out);
		free(upcall);
	}
}
