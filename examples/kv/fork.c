/* SPDX-License-Identifier: MIT */
#include "store.h"

#include <string.h>

/* Which of the threads that ever read this one is. */
static atomic_uint thread_count;
static _Thread_local unsigned int thread_number; /* from 1 on */

void fork_fail(struct kv_answer *answer, int error)
{
	if (error == MDB_MAP_FULL)
		kv_fail(answer, KV_FULL, "the fork is full");
	else if (error == MDB_NOTFOUND)
		kv_fail(answer, KV_NO_KEY, "there is no such key");
	else
		kv_fail(answer, KV_FAILED, "the store failed: %s",
		        mdb_strerror(error));
}

/* reads -------------------------------------------------------------------- */

static int begin_read(struct fork *fork, MDB_txn **ret_read)
{
	MDB_txn **read;
	int error;

	if (thread_number == 0)
		thread_number = atomic_fetch_add(&thread_count, 1) + 1;
	if (thread_number > FORK_THREAD_MAX)
		return MDB_READERS_FULL;
	read = &fork->reads[thread_number - 1];
	error = *read != NULL ? mdb_txn_renew(*read)
	                      : mdb_txn_begin(fork->environment, NULL,
	                                      MDB_RDONLY, read);
	if (error == 0)
		*ret_read = *read;
	return error;
}

void fork_end_read(struct fork *fork)
{
	if (thread_number > 0 && thread_number <= FORK_THREAD_MAX &&
	    fork->reads[thread_number - 1] != NULL)
		mdb_txn_reset(fork->reads[thread_number - 1]);
}

/* FNV-1a, round after round: work that nobody can skip. */
static uint64_t hash(const void *data, size_t bytes, uint32_t rounds)
{
	const uint8_t *text = data;
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (uint32_t round = 0; round < rounds; round++)
		for (size_t i = 0; i < bytes; i++)
			sum = (sum ^ text[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static void get(MDB_txn *txn, struct fork *fork,
                const struct kv_request *request, struct kv_answer *answer)
{
	MDB_val key = {request->key_bytes, (void *)request->key}, value;
	int error = mdb_get(txn, fork->table, &key, &value);
	volatile uint64_t sink;

	if (error != 0) {
		fork_fail(answer, error);
		return;
	}
	sink = hash(value.mv_data, value.mv_size, request->rounds);
	(void)sink;
	answer->data = value.mv_data;
	answer->bytes = value.mv_size;
}

static bool has_prefix(const MDB_val *key, const struct kv_request *request)
{
	return key->mv_size >= request->key_bytes &&
	       memcmp(key->mv_data, request->key, request->key_bytes) == 0;
}

/* Pairs, until there is no room or no key with the prefix. */
static void scan(MDB_txn *txn, struct fork *fork,
                 const struct kv_request *request, struct kv_answer *answer)
{
	bool is_first = request->value_bytes == 0;
	const void *from = is_first ? request->key : request->value;
	MDB_val key = {is_first ? request->key_bytes : request->value_bytes,
	               (void *)from};
	MDB_val after = key, value;
	MDB_cursor *cursor;
	int error = mdb_cursor_open(txn, fork->table, &cursor);

	if (error != 0) {
		fork_fail(answer, error);
		return;
	}
	answer->data = answer->room;
	error = mdb_cursor_get(cursor, &key, &value,
	                       key.mv_size > 0 ? MDB_SET_RANGE : MDB_FIRST);
	if (error == 0 && !is_first && key.mv_size == after.mv_size &&
	    memcmp(key.mv_data, from, key.mv_size) == 0)
		error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	while (error == 0 && has_prefix(&key, request)) {
		struct kv_view view = {key.mv_data, value.mv_data, key.mv_size,
		                       value.mv_size};

		if (!kv_add_pair(answer->room, &answer->bytes, &view)) {
			answer->status = KV_MORE;
			break;
		}
		error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	if (error != 0 && error != MDB_NOTFOUND)
		fork_fail(answer, error);
}

static void read_in(MDB_txn *txn, struct fork *fork,
                    const struct kv_request *request, struct kv_answer *answer)
{
	if (request->op == KV_GET)
		get(txn, fork, request, answer);
	else
		scan(txn, fork, request, answer);
}

void fork_read(struct fork *fork, const struct kv_request *request,
               struct kv_answer *answer)
{
	MDB_txn *read;
	int error = begin_read(fork, &read);

	if (error == 0)
		read_in(read, fork, request, answer);
	else
		fork_fail(answer, error);
}

/* writes ------------------------------------------------------------------- */

static void load(MDB_txn *txn, struct fork *fork,
                 const struct kv_request *request, struct kv_answer *answer)
{
	const uint8_t *data = request->value;
	size_t bytes = request->value_bytes;
	struct kv_view view;
	bool is_good;
	int error = 0;

	while (error == 0 && kv_next_pair(&data, &bytes, &view, &is_good)) {
		MDB_val key = {view.key_bytes, (void *)view.key};
		MDB_val value = {view.value_bytes, (void *)view.value};

		if (!kv_check_key(view.key_bytes, answer) ||
		    !kv_check_value(view.value_bytes, answer))
			return;
		error = mdb_put(txn, fork->table, &key, &value, 0);
	}
	if (error != 0)
		fork_fail(answer, error);
	else if (!is_good)
		kv_fail(answer, KV_BAD_REQUEST, "the pairs make no sense");
}

static void change(MDB_txn *txn, struct fork *fork,
                   const struct kv_request *request, struct kv_answer *answer)
{
	MDB_val key = {request->key_bytes, (void *)request->key};
	MDB_val value = {request->value_bytes, (void *)request->value};
	int error = 0;

	if (request->op == KV_PUT)
		error = mdb_put(txn, fork->table, &key, &value, 0);
	else if (request->op == KV_DELETE)
		error = mdb_del(txn, fork->table, &key, NULL);
	else
		load(txn, fork, request, answer);
	if (error != 0)
		fork_fail(answer, error);
}

/* A change that failed half way must not become part of a commit. */
static void change_within(MDB_txn *parent, struct fork *fork,
                          const struct kv_request *request,
                          struct kv_answer *answer)
{
	MDB_txn *txn;
	int error = mdb_txn_begin(fork->environment, parent, 0, &txn);

	if (error != 0) {
		fork_fail(answer, error);
		return;
	}
	change(txn, fork, request, answer);
	if (answer->status > KV_MORE) {
		mdb_txn_abort(txn);
		return;
	}
	error = mdb_txn_commit(txn);
	if (error != 0)
		fork_fail(answer, error);
}

static void begin(struct fork *fork, struct kv_answer *answer)
{
	int error;

	if (fork->write != NULL) {
		kv_fail(answer, KV_WRITE_OPEN, "a write is open already");
		return;
	}
	error = mdb_txn_begin(fork->environment, NULL, 0, &fork->write);
	if (error != 0)
		fork_fail(answer, error);
}

static void end(struct fork *fork, enum kv_op op, struct kv_answer *answer)
{
	MDB_txn *write = fork->write;
	int error = 0;

	if (write == NULL) {
		kv_fail(answer, KV_NO_WRITE_OPEN, "no write is open");
		return;
	}
	fork->write = NULL;
	if (op == KV_COMMIT)
		error = mdb_txn_commit(write);
	else
		mdb_txn_abort(write);
	if (error != 0)
		fork_fail(answer, error);
}

void fork_write(struct fork *fork, const struct kv_request *request,
                struct kv_answer *answer)
{
	if (request->op == KV_BEGIN)
		begin(fork, answer);
	else if (request->op == KV_COMMIT || request->op == KV_ABORT)
		end(fork, request->op, answer);
	else if (request->op != KV_GET && request->op != KV_SCAN)
		change_within(fork->write, fork, request, answer);
	else if (fork->write != NULL)
		read_in(fork->write, fork, request, answer);
	else
		fork_read(fork, request, answer);
}

void fork_abandon(void *arg)
{
	struct fork *fork = arg;

	if (fork->write != NULL)
		mdb_txn_abort(fork->write);
	fork->write = NULL;
}
