/* SPDX-License-Identifier: MIT */
#include "kv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Which parts an operation has. */
enum { NO_KEY, A_FORK, A_KEY, A_PREFIX };
static const struct {
	int key;
	bool has_value;
} shapes[] = {
	[KV_GET] = {A_KEY, false},     [KV_PUT] = {A_KEY, true},
	[KV_DELETE] = {A_KEY, false},  [KV_LOAD] = {NO_KEY, true},
	[KV_SCAN] = {A_PREFIX, true},  [KV_BEGIN] = {NO_KEY, false},
	[KV_COMMIT] = {NO_KEY, false}, [KV_ABORT] = {NO_KEY, false},
	[KV_FORK] = {A_FORK, false},   [KV_FORKS] = {NO_KEY, false},
};

void kv_fail(struct kv_answer *answer, enum kv_status status,
             const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(answer->text, sizeof(answer->text), format,
	                   arguments);
	va_end(arguments);
	answer->status = status;
	answer->data = answer->text;
	answer->bytes = (size_t)length < sizeof(answer->text)
	                        ? (size_t)length
	                        : sizeof(answer->text) - 1;
}

bool kv_check_key(size_t bytes, struct kv_answer *answer)
{
	if (bytes > 0 && bytes <= KV_KEY_MAX)
		return true;
	kv_fail(answer, KV_BAD_KEY, "a key has 1 to %d bytes, not %zu",
	        KV_KEY_MAX, bytes);
	return false;
}

bool kv_check_value(size_t bytes, struct kv_answer *answer)
{
	if (bytes <= KV_VALUE_MAX)
		return true;
	kv_fail(answer, KV_BAD_VALUE, "a value has at most %d bytes, not %zu",
	        KV_VALUE_MAX, bytes);
	return false;
}

/* It becomes the name of a directory: nothing that could lead elsewhere. */
bool kv_is_fork_name(const char *name, size_t bytes)
{
	if (bytes == 0 || bytes > KV_FORK_NAME_MAX)
		return false;
	for (size_t i = 0; i < bytes; i++)
		if (!((name[i] >= 'a' && name[i] <= 'z') ||
		      (name[i] >= 'A' && name[i] <= 'Z') ||
		      (name[i] >= '0' && name[i] <= '9') || name[i] == '-' ||
		      name[i] == '_'))
			return false;
	return true;
}

/* Copied before it is checked: the sender may still write to where it lies. */
static bool take_fork_name(const uint8_t *data, size_t bytes,
                           char name[KV_FORK_NAME_MAX + 1],
                           struct kv_answer *answer)
{
	size_t length = bytes < KV_FORK_NAME_MAX ? bytes : KV_FORK_NAME_MAX;

	memcpy(name, data, length);
	name[length] = 0;
	if (kv_is_fork_name(name, bytes))
		return true;
	for (size_t i = 0; i < length; i++)
		if (name[i] < ' ' || name[i] > '~')
			name[i] = '?';
	kv_fail(answer, KV_BAD_FORK,
	        "'%s' cannot name a fork: 1 to %d letters, digits, '-', '_'",
	        name, KV_FORK_NAME_MAX);
	return false;
}

static bool check_parts(const struct kv_header *header,
                        struct kv_answer *answer)
{
	int key = shapes[header->op].key;

	if ((key == NO_KEY && header->key_bytes > 0) ||
	    (!shapes[header->op].has_value && header->value_bytes > 0) ||
	    (header->op != KV_GET && header->rounds > 0) ||
	    header->rounds > KV_ROUNDS_MAX) {
		kv_fail(answer, KV_BAD_REQUEST,
		        "the request has parts that its kind has not");
		return false;
	}
	if ((key == A_KEY || (key == A_PREFIX && header->key_bytes > 0)) &&
	    !kv_check_key(header->key_bytes, answer))
		return false;
	if (header->op == KV_SCAN && header->value_bytes > 0)
		return kv_check_key(header->value_bytes, answer);
	return header->op != KV_PUT ||
	       kv_check_value(header->value_bytes, answer);
}

static bool is_header(const struct kv_header *header, size_t bytes)
{
	/* 64 bits: three numbers of a stranger do not overflow them. */
	return header->magic == KV_MAGIC && header->zero == 0 &&
	       header->op >= KV_GET && header->op <= KV_FORKS &&
	       sizeof(*header) + (uint64_t)header->fork_bytes +
	                       header->key_bytes + header->value_bytes ==
	               bytes;
}

bool kv_parse(const void *data, size_t bytes, struct kv_request *ret_request,
              struct kv_answer *answer)
{
	struct kv_request request = {.op = 0};
	const uint8_t *fork, *key;
	struct kv_header header = {.magic = 0};

	if (bytes >= sizeof(header))
		memcpy(&header, data, sizeof(header));
	if (!is_header(&header, bytes)) {
		kv_fail(answer, KV_BAD_REQUEST, "this is no request of kv's");
		return false;
	}
	fork = (const uint8_t *)data + sizeof(header);
	key = fork + header.fork_bytes;
	if (!take_fork_name(fork, header.fork_bytes, request.fork, answer) ||
	    !check_parts(&header, answer))
		return false;
	request.op = header.op;
	request.rounds = header.rounds;
	request.key = key;
	request.key_bytes = header.key_bytes;
	request.value = key + header.key_bytes;
	request.value_bytes = header.value_bytes;
	if (request.op == KV_FORK &&
	    !take_fork_name(key, header.key_bytes, request.new_fork, answer))
		return false;
	*ret_request = request;
	return true;
}

size_t kv_format(const struct kv_request *request, void *data, size_t bytes)
{
	struct kv_header header = {
		.magic = KV_MAGIC,
		.op = (uint16_t)request->op,
		.fork_bytes = (uint16_t)strlen(request->fork),
		.key_bytes = (uint32_t)request->key_bytes,
		.value_bytes = (uint32_t)request->value_bytes,
		.rounds = request->rounds,
	};
	size_t all = sizeof(header) + header.fork_bytes + request->key_bytes +
	             request->value_bytes;
	uint8_t *end = data;

	if (all > bytes)
		return all;
	memcpy(end, &header, sizeof(header));
	end += sizeof(header);
	memcpy(end, request->fork, header.fork_bytes);
	end += header.fork_bytes;
	if (request->key_bytes > 0)
		memcpy(end, request->key, request->key_bytes);
	end += request->key_bytes;
	if (request->value_bytes > 0)
		memcpy(end, request->value, request->value_bytes);
	return all;
}

bool kv_next_pair(const uint8_t **data, size_t *bytes, struct kv_view *ret_view,
                  bool *ret_good)
{
	struct kv_pair pair;
	uint64_t all;

	*ret_good = true;
	if (*bytes == 0)
		return false;
	*ret_good = *bytes >= sizeof(pair);
	if (!*ret_good)
		return false;
	memcpy(&pair, *data, sizeof(pair));
	all = sizeof(pair) + (uint64_t)pair.key_bytes + pair.value_bytes;
	*ret_good = all <= *bytes;
	if (!*ret_good)
		return false;
	ret_view->key = *data + sizeof(pair);
	ret_view->key_bytes = pair.key_bytes;
	ret_view->value = ret_view->key + pair.key_bytes;
	ret_view->value_bytes = pair.value_bytes;
	*data += all;
	*bytes -= all;
	return true;
}

bool kv_add_pair(uint8_t *room, size_t *used, const struct kv_view *view)
{
	struct kv_pair pair = {(uint32_t)view->key_bytes,
	                       (uint32_t)view->value_bytes};
	uint8_t *end = room + *used;

	if (sizeof(pair) + view->key_bytes + view->value_bytes >
	    KV_PAIRS_MAX - *used)
		return false;
	memcpy(end, &pair, sizeof(pair));
	end += sizeof(pair);
	memcpy(end, view->key, view->key_bytes);
	end += view->key_bytes;
	if (view->value_bytes > 0)
		memcpy(end, view->value, view->value_bytes);
	*used += sizeof(pair) + view->key_bytes + view->value_bytes;
	return true;
}
