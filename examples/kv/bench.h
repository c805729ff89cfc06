/* SPDX-License-Identifier: MIT */
/*
 * kv bench: the same reads of the same store, in three ways.
 *
 *	in-process   lane --------------------------------> fork_read()
 *	socket       lane --> SOCK_SEQPACKET --> thread --> fork_read()
 *	peal         lane --> rings --> kv serve ---------> fork_read()
 *
 * A lane is a thread of the bench with a connection of its own.
 */
#ifndef KV_BENCH_H
#define KV_BENCH_H

#include "store.h"

struct lane {
	const struct way *way;
	struct fork *fork; /* of the bench's own, for in-process */
	const char *name;  /* where to connect */
	void *connection;
	int fd;
	unsigned int depth; /* requests in flight */
	bool spins;         /* for its answers, and never sleeps */
	uint32_t rounds;
	uint64_t seed;
	uint64_t end_ns;
	uint64_t read_count;
	bool has_failed;
};

/* send begins a read, recv awaits the end of any; 0 or -1. */
struct way {
	const char *name;
	int (*open)(struct lane *lane);
	int (*send)(struct lane *lane, const struct kv_request *request);
	int (*recv)(struct lane *lane);
	void (*close)(struct lane *lane);
};
extern const struct way in_process_way, socket_way, peal_way;

#define BENCH_VALUE_BYTES 100

/* kv_socket.c: serve reads of @directory at @path until killed. */
int socket_serve(const char *directory, const char *path);

#endif
