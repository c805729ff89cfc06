/* SPDX-License-Identifier: MIT */
#include "reactor/request.h"

#include "base/clock.h"
#include "reactor/frame.h"

const void *peal_request_data(const struct peal_request *request,
                              size_t *ret_bytes)
{
	if (ret_bytes != NULL)
		*ret_bytes = request->data_bytes;
	return request->data;
}

uint64_t peal_request_id(const struct peal_request *request)
{
	return request->id;
}

struct peal_peer peal_request_peer(const struct peal_request *request)
{
	return request->peer;
}

uint64_t peal_request_deadline_ns(const struct peal_request *request)
{
	uint64_t now_ns;

	if (request->deadline_ns == PEAL__NEVER)
		return PEAL_FOREVER;
	now_ns = peal__clock_ns();
	return request->deadline_ns > now_ns ? request->deadline_ns - now_ns
	                                     : 0;
}

bool peal_request_cancelled(const struct peal_request *request)
{
	return request->ops->is_cancelled(request);
}

bool peal_request_is_one_way(const struct peal_request *request)
{
	return request->is_one_way;
}

int peal_request_retain(struct peal_request *request)
{
	return request->ops->retain(request);
}

size_t peal_reply_max(const struct peal_request *request)
{
	return request->ops->message_max(request);
}

int peal_reply(struct peal_request *request, const void *data, size_t bytes)
{
	return request->ops->send(request, 0, 0, data, bytes);
}

int peal_reply_status(struct peal_request *request, int32_t status,
                      const void *data, size_t bytes)
{
	return request->ops->send(request, 0, status, data, bytes);
}

int peal_reply_error(struct peal_request *request, int error)
{
	if (!peal__is_errno(error))
		return -EINVAL;
	return request->ops->send(request, error, 0, NULL, 0);
}

void peal_request_drop(struct peal_request *request)
{
	/* A failure needs no memory and always fits: it cannot be refused. */
	if (request != NULL)
		request->ops->send(request, -EIO, 0, NULL, 0);
}

int peal_reply_claim(struct peal_request *request, size_t bytes,
                     void **ret_data)
{
	return request->ops->claim(request, bytes, ret_data);
}

int peal_reply_publish(struct peal_request *request, size_t bytes)
{
	return request->ops->publish(request, bytes);
}
