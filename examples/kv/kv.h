/* SPDX-License-Identifier: MIT */
/*
 * kv: keys and values that several programs share, in forks. A fork is an
 * independent branch of the data, begun as a copy of another one.
 *
 *	kv serve DIR NAME                     main.c -- client.c: subcommands
 *	kv put NAME color blue                   |
 *	kv fork NAME spring                   serve.c: one request after another
 *	kv put NAME -f spring color green        |
 *	kv get NAME color             blue    schedule.c: may it run now?
 *	kv get NAME -f spring color   green      |
 *	                                      store.c: forks in LMDB
 *
 * This file is what travels: a header, then the fork's name, the key and the
 * value, none of them terminated; integers as the machine has them, since both
 * sides are on it.
 *
 *	0      4    6       8      12      16      20     24
 *	+------+----+-------+------+-------+-------+------+------+-----+-------+
 *	|magic | op | fork_ | key_ | value_| rounds| zero | fork | key | value |
 *	|      |    | bytes | bytes| bytes |       |      |      |     |       |
 *	+------+----+-------+------+-------+-------+------+------+-----+-------+
 *
 *	op        key          value            the answer
 *	GET       the key      -                its value
 *	PUT       the key      its value        -
 *	DELETE    the key      -                -
 *	LOAD      -            pairs            -
 *	SCAN      the prefix   go on after it   pairs; KV_MORE: there are more
 *	BEGIN     -            -                -
 *	COMMIT    -            -                -
 *	ABORT     -            -                -
 *	FORK      the new one  -                -          fork: copied from
 *	FORKS     -            -                names, each with a line break
 *
 * PUT, DELETE and LOAD between BEGIN and COMMIT are seen by their own client
 * alone, and nobody else writes to the fork meanwhile; else each is committed
 * by itself. ABORT, or the client's end, undoes what was not committed. What is
 * in flight together has no order.
 *
 * Pairs are struct kv_pair, the key, the value, and the next pair.
 *
 * Errors: an answer whose status is neither KV_OK nor KV_MORE is a sentence.
 */
#ifndef KV_KV_H
#define KV_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_MAGIC UINT32_C(0x31766b70) /* "pkv1" */
#define KV_KEY_MAX 511                /* as LMDB is built */
#define KV_VALUE_MAX 65536
#define KV_FORK_MAX 32 /* forks */
#define KV_FORK_NAME_MAX 64
#define KV_ROUNDS_MAX 1000000
#define KV_PAIRS_MAX (KV_VALUE_MAX + KV_KEY_MAX + 8) /* a pair always fits */
#define KV_MAIN "main"

enum kv_op {
	KV_GET = 1,
	KV_PUT,
	KV_DELETE,
	KV_LOAD,
	KV_SCAN,
	KV_BEGIN,
	KV_COMMIT,
	KV_ABORT,
	KV_FORK,
	KV_FORKS,
};

enum kv_status {
	KV_OK,
	KV_MORE,
	KV_BAD_REQUEST,
	KV_BAD_KEY,
	KV_BAD_VALUE,
	KV_BAD_FORK,
	KV_NO_KEY,
	KV_NO_FORK,
	KV_FORK_EXISTS,
	KV_TOO_MANY_FORKS,
	KV_WRITE_OPEN,
	KV_NO_WRITE_OPEN,
	KV_FULL,
	KV_FAILED,
};

struct kv_header {
	uint32_t magic;
	uint16_t op;
	uint16_t fork_bytes;
	uint32_t key_bytes;
	uint32_t value_bytes;
	uint32_t
		rounds; /* GET: hash the value so often first; for benchmarks */
	uint32_t zero;
};
_Static_assert(sizeof(struct kv_header) == 24, "it is what travels");

struct kv_pair {
	uint32_t key_bytes;
	uint32_t value_bytes;
};

/* A request, taken apart. Names of forks are copies, so that nobody changes them
 * once they were checked; key and value lie where they came. */
struct kv_request {
	enum kv_op op;
	char fork[KV_FORK_NAME_MAX + 1];
	char new_fork[KV_FORK_NAME_MAX + 1];
	const uint8_t *key;
	size_t key_bytes;
	const uint8_t *value;
	size_t value_bytes;
	uint32_t rounds;
};

/* An answer that is made: bytes of a value, or a sentence. */
struct kv_answer {
	enum kv_status status;
	const void *data;
	size_t bytes;
	char text[200];
	uint8_t *room; /* KV_PAIRS_MAX bytes, for what is put together */
};

/* wire.c */

/* Make @answer the failure @status with this sentence. */
void kv_fail(struct kv_answer *answer, enum kv_status status,
             const char *format, ...) __attribute__((format(printf, 3, 4)));

/* False: it makes no sense, and @answer says why. */
bool kv_parse(const void *data, size_t bytes, struct kv_request *ret_request,
              struct kv_answer *answer);

bool kv_is_fork_name(const char *name, size_t bytes);

/* How many bytes @request takes, written to @data if there are so many. */
size_t kv_format(const struct kv_request *request, void *data, size_t bytes);

/* The next of the pairs at *@data, which it moves on; false: there is none.
 * *@ret_good is false when they make no sense. */
struct kv_view {
	const uint8_t *key, *value;
	size_t key_bytes, value_bytes;
};
bool kv_next_pair(const uint8_t **data, size_t *bytes, struct kv_view *ret_view,
                  bool *ret_good);

/* Append a pair at @used of @room; false: no room. */
bool kv_add_pair(uint8_t *room, size_t *used, const struct kv_view *view);

/* "key" or "value" out of bounds: tells so in @answer. */
bool kv_check_key(size_t bytes, struct kv_answer *answer);
bool kv_check_value(size_t bytes, struct kv_answer *answer);

/* the subcommands: argv[0] is theirs; the exit code. */
int serve_command(int argc, char **argv);
int client_command(int argc, char **argv);
int bench_command(int argc, char **argv);

/* How one command is called, or, of NULL, all of them; 2. */
int usage(const char *command);

/* A whole number of at most @most, or UINT32_MAX. */
uint32_t parse_count(const char *text, uint32_t most);

#endif
