/* SPDX-License-Identifier: MIT */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_BYTES (UINT64_C(1) << 30) /* of each fork, at most */

struct store {
	struct store_options options;
	int directory_fd;
	pthread_mutex_t mutex; /* one fork is made at a time */
	atomic_size_t fork_count;
	struct fork *forks[KV_FORK_MAX]; /* and none is ever unmade */
};

/* 0, an -errno or an error of LMDB. */
static int open_environment(struct store *store, struct fork *fork)
{
	unsigned int flags = MDB_NOTLS; /* store_close() ends others' reads */
	char path[PATH_MAX];
	MDB_txn *txn;
	int error;

	snprintf(path, sizeof(path), "%s/%s", store->options.directory,
	         fork->name);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return errno;
	if (store->options.is_volatile)
		flags |= MDB_NOSYNC;
	error = mdb_env_create(&fork->environment);
	if (error == 0)
		error = mdb_env_set_mapsize(fork->environment, MAP_BYTES);
	if (error == 0)
		error = mdb_env_set_maxreaders(fork->environment,
		                               FORK_THREAD_MAX);
	if (error == 0)
		error = mdb_env_open(fork->environment, path, flags, 0600);
	if (error == 0)
		error = mdb_txn_begin(fork->environment, NULL, 0, &txn);
	if (error != 0)
		return error;
	error = mdb_dbi_open(txn, NULL, 0, &fork->table);
	return error == 0 ? mdb_txn_commit(txn) : error;
}

static int add_fork(struct store *store, const char *name)
{
	size_t count = atomic_load(&store->fork_count);
	struct fork *fork = calloc(1, sizeof(*fork));
	int error;

	if (fork == NULL)
		return ENOMEM;
	if (count == KV_FORK_MAX) {
		free(fork);
		return ENOSPC;
	}
	snprintf(fork->name, sizeof(fork->name), "%s", name);
	error = open_environment(store, fork);
	if (error == 0 && store->options.run != NULL) {
		fork->line.run = store->options.run;
		fork->line.abandon = fork_abandon;
		fork->line.arg = fork;
		error = -line_open(&fork->line);
	}
	if (error != 0) {
		if (fork->environment != NULL)
			mdb_env_close(fork->environment);
		free(fork);
		return error;
	}
	fork->store = store;
	store->forks[count] = fork;
	atomic_store(&store->fork_count, count + 1);
	return 0;
}

/* What a copy that was cut short has left. */
static void remove_copy(int directory_fd, const char *name)
{
	static const char *const files[] = {"data.mdb", "lock.mdb"};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", name, files[i]);
		unlinkat(directory_fd, path, 0);
	}
	unlinkat(directory_fd, name, AT_REMOVEDIR);
}

static int add_forks(struct store *store)
{
	DIR *directory = opendir(store->options.directory);
	struct kv_answer answer;
	struct dirent *entry;
	int error = 0;

	while (directory != NULL && error == 0 &&
	       (entry = readdir(directory)) != NULL) {
		const char *name = entry->d_name;

		if (kv_is_fork_name(name, strlen(name)))
			error = add_fork(store, name);
		else if (store->options.run != NULL && name[0] == '.' &&
		         kv_is_fork_name(name + 1, strlen(name + 1)))
			remove_copy(store->directory_fd, name);
	}
	if (directory == NULL)
		return errno;
	closedir(directory);
	if (error == 0 && store_find(store, KV_MAIN, &answer) == NULL)
		error = add_fork(store, KV_MAIN);
	return error;
}

/* Two servers of one directory would each have their own scheduler. */
static int lock_directory(struct store *store)
{
	const char *path = store->options.directory;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return errno;
	store->directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->directory_fd < 0 ||
	    (store->options.run != NULL &&
	     flock(store->directory_fd, LOCK_EX | LOCK_NB) < 0))
		return errno;
	return 0;
}

int store_open(const struct store_options *options, struct store **ret_store)
{
	struct store *store = calloc(1, sizeof(*store));
	int error;

	if (store == NULL)
		return -1;
	store->options = *options;
	store->directory_fd = -1;
	pthread_mutex_init(&store->mutex, NULL);
	error = lock_directory(store);
	if (error == 0)
		error = add_forks(store);
	if (error == 0) {
		*ret_store = store;
		return 0;
	}
	fprintf(stderr, "kv: %s: %s\n", options->directory,
	        error == EWOULDBLOCK ? "another server has it"
	                             : mdb_strerror(error));
	store_close_lines(store);
	store_close(store);
	return -1;
}

void store_close_lines(struct store *store)
{
	for (size_t i = 0; i < atomic_load(&store->fork_count); i++)
		if (store->options.run != NULL)
			line_close(&store->forks[i]->line);
}

void store_close(struct store *store)
{
	for (size_t i = 0; i < atomic_load(&store->fork_count); i++) {
		struct fork *fork = store->forks[i];

		for (int j = 0; j < FORK_THREAD_MAX; j++)
			if (fork->reads[j] != NULL)
				mdb_txn_abort(fork->reads[j]);
		mdb_env_close(fork->environment);
		if (store->options.run != NULL)
			line_free(&fork->line);
		free(fork);
	}
	if (store->directory_fd >= 0)
		close(store->directory_fd);
	pthread_mutex_destroy(&store->mutex);
	free(store);
}

void store_forget_client(struct store *store, struct peal_peer peer)
{
	for (size_t i = 0; i < atomic_load(&store->fork_count); i++)
		line_forget_client(&store->forks[i]->line, peer);
}

struct fork *store_find(struct store *store, const char *name,
                        struct kv_answer *answer)
{
	for (size_t i = 0; i < atomic_load(&store->fork_count); i++)
		if (strcmp(store->forks[i]->name, name) == 0)
			return store->forks[i];
	kv_fail(answer, KV_NO_FORK, "there is no fork '%s'", name);
	return NULL;
}

void store_list(struct store *store, struct kv_answer *answer)
{
	answer->data = answer->room;
	for (size_t i = 0; i < atomic_load(&store->fork_count); i++)
		answer->bytes +=
			(size_t)sprintf((char *)answer->room + answer->bytes,
		                        "%s\n", store->forks[i]->name);
}

/* Under another name until it is whole. */
static int copy_fork(struct store *store, struct fork *from, const char *name)
{
	char hidden[KV_FORK_NAME_MAX + 2], path[PATH_MAX];
	int error;

	snprintf(hidden, sizeof(hidden), ".%s", name);
	snprintf(path, sizeof(path), "%s/%s", store->options.directory, hidden);
	if (mkdir(path, 0700) < 0)
		return errno;
	error = mdb_env_copy(from->environment, path);
	if (error == 0 && renameat(store->directory_fd, hidden,
	                           store->directory_fd, name) < 0)
		error = errno;
	if (error != 0)
		remove_copy(store->directory_fd, hidden);
	return error == 0 ? add_fork(store, name) : error;
}

void fork_copy(struct fork *from, const struct kv_request *request,
               struct kv_answer *answer)
{
	struct store *store = from->store;
	const char *name = request->new_fork;
	struct kv_answer unused;
	int error = 0;

	if (from->write != NULL) {
		kv_fail(answer, KV_WRITE_OPEN,
		        "a write is open: commit or abort it first");
		return;
	}
	pthread_mutex_lock(&store->mutex);
	if (store_find(store, name, &unused) != NULL)
		kv_fail(answer, KV_FORK_EXISTS, "there is a fork '%s' already",
		        name);
	else if (atomic_load(&store->fork_count) == KV_FORK_MAX)
		kv_fail(answer, KV_TOO_MANY_FORKS, "there are %d forks already",
		        KV_FORK_MAX);
	else
		error = copy_fork(store, from, name);
	pthread_mutex_unlock(&store->mutex);
	if (error != 0)
		fork_fail(answer, error);
}
