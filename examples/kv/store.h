/* SPDX-License-Identifier: MIT */
/*
 * The forks, each an LMDB environment of its own in DIR/FORK. Not sub-databases
 * of one environment, though LMDB has these: an environment has one writer at a
 * time, so a client's open write on one fork would keep everybody from writing
 * to all others. It also makes a fork the copy of a file, which LMDB does while
 * others write.
 *
 *	reads   any thread, side by side: each has a read transaction of its
 *	        own in each fork, which is renewed and reset and never opened
 *	        again
 *	writes  the thread of the fork's line, in the fork's open write, or in
 *	        one that is committed at once
 *
 * Callers: as said; store_open() and store_close(): one thread.
 *
 * Death: LMDB's files are whole at every moment; a fork that was being copied
 *	is a directory with a dot in front, which the next store_open() removes.
 */
#ifndef KV_STORE_H
#define KV_STORE_H

#include "kv.h"
#include "schedule.h"

#include <lmdb.h>

#define FORK_THREAD_MAX 512 /* threads that ever read */

struct store;

/* Lives as long as its store. */
struct fork {
	char name[KV_FORK_NAME_MAX + 1];
	struct store *store;
	MDB_env *environment;
	MDB_dbi table;
	MDB_txn *write; /* what is open, or NULL; the line's thread only */
	struct line line;
	MDB_txn *reads[FORK_THREAD_MAX]; /* each its thread's own */
};

struct store_options {
	const char *directory;
	bool is_volatile; /* do not wait for the disk at each commit */
	/* For the lines of forks; without it they have no lines, and several
	 * processes may open the directory, to read. */
	int (*run)(struct peal_request *request, void *fork);
};

/* 0, or -1 and a sentence on stderr. */
int store_open(const struct store_options *options, struct store **ret_store);
void store_close(struct store *store);

/* A living client's end, in every fork. */
void store_forget_client(struct store *store, struct peal_peer peer);
/* No line runs any more when it returns; clients may still come and go. */
void store_close_lines(struct store *store);

/* NULL: @answer says that there is none. */
struct fork *store_find(struct store *store, const char *name,
                        struct kv_answer *answer);
void store_list(struct store *store, struct kv_answer *answer);

/*
 * Carry @request out and make @answer, which begins as {.room = ...}. A value
 * that was read lives until fork_end_read() of the same thread, which follows
 * each of the first two.
 */
void fork_read(struct fork *fork, const struct kv_request *request,
               struct kv_answer *answer);
void fork_write(struct fork *fork, const struct kv_request *request,
                struct kv_answer *answer);
void fork_end_read(struct fork *fork);
/* For the thread of its line, too: the branch request->new_fork. */
void fork_copy(struct fork *from, const struct kv_request *request,
               struct kv_answer *answer);

/* Undo what is open; @arg is the fork. */
void fork_abandon(void *arg);
void fork_fail(struct kv_answer *answer, int error);

#endif
