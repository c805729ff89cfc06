/* SPDX-License-Identifier: MIT */
#include "mpsc/name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/failure.h"
#include "base/hooks.h"

#define SYSTEM_DIRECTORY "/run/peal"
#define LOCK_SUFFIX ".lock"
#define LOCK_TRIES 100
/* As long as the other one, and nothing that a name can end in. */
#define UNBORN_SUFFIX "~peal"

/* A directory that may hold names, and what must be true of it. */
struct place {
	char path[PEAL__PATH_BYTES];
	bool must_be_ours; /* in /tmp anybody may make it before us */
	mode_t mode;
	const char *variable; /* which it comes from, or "" */
	bool is_too_long;     /* no path can begin with it */
};

static bool is_name_byte(char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= '0' && byte <= '9') || byte == '.' || byte == '_' ||
	       byte == '-';
}

static bool ends_in(const char *name, size_t bytes, const char *suffix)
{
	return bytes >= strlen(suffix) &&
	       strcmp(name + bytes - strlen(suffix), suffix) == 0;
}

int peal__name_check(const char *name, struct peal_failure *failure)
{
	size_t bytes;

	if (name == NULL)
		return peal__fail(failure, -EINVAL, "options.name is not set");
	if (*name == '\0')
		return peal__fail(failure, -EINVAL, "options.name is empty");
	bytes = strnlen(name, PEAL__PATH_BYTES);
	if (strchr(name, '/') != NULL) {
		if (bytes + sizeof(LOCK_SUFFIX) > PEAL__PATH_BYTES)
			return peal__fail(failure, -EINVAL,
			                  "options.name is a path of more than "
			                  "%zu bytes",
			                  PEAL__PATH_BYTES -
			                          sizeof(LOCK_SUFFIX));
		if (ends_in(name, bytes, LOCK_SUFFIX) ||
		    ends_in(name, bytes, UNBORN_SUFFIX))
			return peal__fail(failure, -EINVAL,
			                  "options.name is a path that ends in "
			                  "'" LOCK_SUFFIX "' or '" UNBORN_SUFFIX
			                  "', as files beside a socket do");
		return 0;
	}
	if (bytes > PEAL__NAME_MAX)
		return peal__fail(failure, -EINVAL,
		                  "options.name is longer than %d bytes",
		                  PEAL__NAME_MAX);
	for (const char *byte = name; *byte != '\0'; byte++)
		if (!is_name_byte(*byte))
			return peal__fail(
				failure, -EINVAL,
				"options.name has a character other "
				"than letters, digits, '.', '_', '-'");
	if (*name == '.' || ends_in(name, bytes, LOCK_SUFFIX))
		return peal__fail(failure, -EINVAL,
		                  "options.name begins with '.' or ends in "
		                  "'.lock'");
	return 0;
}

/* A place that is too long is no reason to take another one in silence. */
static struct place make_place(bool must_be_ours, mode_t mode,
                               const char *format, const char *text,
                               const char *variable)
{
	struct place place = {
		.must_be_ours = must_be_ours,
		.mode = mode,
		.variable = variable,
	};
	int bytes = snprintf(place.path, sizeof(place.path), format, text);

	place.is_too_long = bytes < 0 || (size_t)bytes >= sizeof(place.path);
	return place;
}

/* The directories that apply to this user, best first; returns how many. */
static unsigned int find_places(struct place places[PEAL__NAME_DIRECTORY_MAX])
{
	const char *chosen = secure_getenv("PEAL_RUNTIME_DIR");
	const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
	char uid[16];
	unsigned int count = 0;

	if (chosen != NULL && *chosen != '\0')
		places[count++] = make_place(false, 0700, "%s", chosen,
		                             "PEAL_RUNTIME_DIR");
	if (geteuid() != 0) {
		snprintf(uid, sizeof(uid), "%u", (unsigned int)geteuid());
		if (runtime != NULL && *runtime == '/')
			places[count++] = make_place(true, 0700, "%s/peal",
			                             runtime,
			                             "XDG_RUNTIME_DIR");
		places[count++] =
			make_place(true, 0700, "/tmp/peal-%s", uid, "");
	}
	places[count++] = make_place(false, 0755, "%s", SYSTEM_DIRECTORY, "");
	return count;
}

static int fail_long(const struct place *place, struct peal_failure *failure)
{
	return peal__fail(failure, -EINVAL,
	                  "$%s is too long for the path of a socket, which has "
	                  "%d bytes at most",
	                  place->variable, PEAL__PATH_BYTES - 1);
}

/* Tells where such a path comes from, and what else there is. */
static int fail_make(const struct place *place, int error,
                     struct peal_failure *failure)
{
	bool has_variable = *place->variable != '\0';
	bool is_chosen = strcmp(place->variable, "PEAL_RUNTIME_DIR") == 0;

	return peal__fail(failure, error, "cannot make %.60s%s%s: %s%s",
	                  place->path, has_variable ? ", of $" : "",
	                  place->variable, strerrordesc_np(-error),
	                  is_chosen ? "" : "; set $PEAL_RUNTIME_DIR");
}

/* Is it a directory, and nobody else's where that matters? 0 or -errno. */
static int check_place(const struct place *place)
{
	struct stat status;

	if (lstat(place->path, &status) != 0)
		return -errno;
	if (!place->must_be_ours) /* the user's choice may be a link */
		return stat(place->path, &status) != 0 ? -errno
		       : S_ISDIR(status.st_mode)       ? 0
		                                       : -ENOTDIR;
	if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid() ||
	    (status.st_mode & 022) != 0)
		return -EACCES;
	return 0;
}

int peal__name_directory(unsigned int index, char path[PEAL__PATH_BYTES])
{
	struct place places[PEAL__NAME_DIRECTORY_MAX];

	if (index >= find_places(places))
		return -ENOENT;
	if (places[index].is_too_long)
		return -EINVAL;
	strcpy(path, places[index].path);
	return 0;
}

static int join(const char *directory, const char *name,
                char path[PEAL__PATH_BYTES], struct peal_failure *failure)
{
	int bytes = snprintf(path, PEAL__PATH_BYTES, "%s/%s", directory, name);

	if (bytes < 0 || (size_t)bytes + sizeof(LOCK_SUFFIX) > PEAL__PATH_BYTES)
		return peal__fail(
			failure, -EINVAL,
			"the path of this name, in %.80s, is too long "
			"for a socket",
			directory);
	return 0;
}

int peal__name_for_server(const char *name, char path[PEAL__PATH_BYTES],
                          struct peal_failure *failure)
{
	struct place places[PEAL__NAME_DIRECTORY_MAX];
	int error = peal__name_check(name, failure);

	if (error < 0)
		return error;
	if (strchr(name, '/') != NULL) {
		strcpy(path, name);
		return 0;
	}
	/* The first that applies: root has no places of a user's. */
	find_places(places);
	if (places[0].is_too_long)
		return fail_long(&places[0], failure);
	if (mkdir(places[0].path, places[0].mode) != 0 && errno != EEXIST)
		return fail_make(&places[0], -errno, failure);
	error = check_place(&places[0]);
	if (error < 0 && error != -EACCES)
		return peal__fail(failure, error, "cannot use %.90s: %s",
		                  places[0].path, strerrordesc_np(-error));
	if (error < 0)
		return peal__fail(failure, error,
		                  "%.90s is not a directory that only we can "
		                  "write",
		                  places[0].path);
	return join(places[0].path, name, path, failure);
}

int peal__name_for_client(const char *name, unsigned int index,
                          char path[PEAL__PATH_BYTES],
                          struct peal_failure *failure)
{
	struct place places[PEAL__NAME_DIRECTORY_MAX];
	int error = peal__name_check(name, failure);

	if (error < 0)
		return error;
	if (strchr(name, '/') != NULL) {
		if (index > 0)
			return -ENOENT;
		strcpy(path, name);
		return 0;
	}
	if (index >= find_places(places))
		return -ENOENT;
	if (places[index].is_too_long)
		return fail_long(&places[index], failure);
	/* A directory that is missing has no server, and one that somebody
	 * else made has none of ours: the socket's path is left to fail. */
	if (check_place(&places[index]) == -EACCES)
		return peal__fail(failure, -EACCES,
		                  "%.90s is not our directory, or others can "
		                  "write it",
		                  places[index].path);
	return join(places[index].path, name, path, failure);
}

static void lock_path(const char *path, char lock[PEAL__PATH_BYTES + 8])
{
	snprintf(lock, PEAL__PATH_BYTES + 8, "%s" LOCK_SUFFIX, path);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/* Has the file been unlinked, or replaced, since we opened it? */
static bool was_replaced(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) != 0 || lstat(path, &there) != 0 ||
	       !is_same(&ours, &there);
}

/* Watched from the first moment, and before it is locked: a lock belongs to the
 * open file, and a child's copy of that would keep it when we are dead. 0, 1 to
 * try again, or -errno. */
static int open_lock(const char *path, struct peal__fork_fd *lock,
                     bool *ret_was_made)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
	int error = 0;

	peal__fork_hold();
	/* Two steps: where everybody can write, as in /tmp, O_CREAT alone may
	 * not open what somebody else made (fs.protected_regular). */
	lock->fd = open(path, flags);
	*ret_was_made = lock->fd < 0 && errno == ENOENT;
	if (*ret_was_made)
		lock->fd = open(path, flags | O_CREAT | O_EXCL, 0600);
	if (lock->fd < 0) /* 1: somebody else made it between the two */
		error = errno == EEXIST ? 1 : -errno;
	peal__fork_watch_held(lock);
	peal__fork_let();
	return error;
}

/* 0 with the lock, 1 to try again, or -errno. */
static int try_lock(const char *path, struct peal__fork_fd *lock,
                    bool *ret_was_made)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int error = open_lock(path, lock, ret_was_made);

	if (error != 0)
		return error;
	PEAL__HOOK("name: opened");
	if (fcntl(lock->fd, F_OFD_SETLK, &whole) != 0) {
		error = errno;
		peal__fork_forget(lock, true);
		return error == EAGAIN || error == EACCES ? -EADDRINUSE
		                                          : -error;
	}
	/* A server that closes unlinks its lock while it holds it; a lock on a
	 * file without a name protects nothing. */
	if (was_replaced(lock->fd, path)) {
		peal__fork_forget(lock, true);
		return 1;
	}
	return 0;
}

_Static_assert(sizeof(UNBORN_SUFFIX) <= sizeof(LOCK_SUFFIX),
               "a path that leaves room for one has room for the other");

void peal__name_unborn(const char *path, char unborn[PEAL__PATH_BYTES])
{
	snprintf(unborn, PEAL__PATH_BYTES, "%.*s" UNBORN_SUFFIX,
	         (int)(PEAL__PATH_BYTES - sizeof(UNBORN_SUFFIX)), path);
}

static void unlink_unborn(const char *path)
{
	char unborn[PEAL__PATH_BYTES];
	struct stat status;

	peal__name_unborn(path, unborn);
	if (lstat(unborn, &status) == 0 && S_ISSOCK(status.st_mode))
		unlink(unborn);
}

/* An empty lock file proves nothing: somebody may have removed that of a living
 * server, or the socket may be no server's of ours. It has a byte since somebody
 * who held the lock has found the name free, and not since it was made: whoever
 * made it may have been killed before. */
static bool is_proven(const struct peal__fork_fd *lock)
{
	return lseek(lock->fd, 0, SEEK_END) > 0;
}

static void prove(const struct peal__fork_fd *lock)
{
	/* Without it the next one asks the socket once more. */
	if (write(lock->fd, "\n", 1) < 0)
		return;
}

/* Is anybody at the socket, whatever lock there is? 0: nobody listens
 * there; or -EADDRINUSE, -EEXIST (another kind of socket), -errno. */
static int ask_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int error = 0, fd;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	/* No child is to keep a connection that nobody will use. */
	peal__fork_hold();
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		error = errno;
	else
		error = EADDRINUSE;
	if (fd >= 0)
		close(fd);
	peal__fork_let();
	switch (error) {
	case ECONNREFUSED:
	case ENOENT:
		return 0;
	case EAGAIN: /* its queue is full */
		return -EADDRINUSE;
	case EPROTOTYPE:
		return -EEXIST;
	default:
		return -error;
	}
}

static int fail_living(const char *path, struct peal_failure *failure)
{
	return peal__fail(failure, -EADDRINUSE,
	                  "a living server already has the name %.94s; "
	                  "'shmctl stat' shows it",
	                  path);
}

/* The socket, if there is one. 0 or -errno. */
static int remove_dead(const char *path, bool proven,
                       struct peal_failure *failure)
{
	struct stat status;
	int error;

	if (lstat(path, &status) != 0)
		return 0;
	if (!S_ISSOCK(status.st_mode))
		return peal__fail(failure, -EEXIST,
		                  "%.90s exists and is not a socket; remove it "
		                  "or take another name",
		                  path);
	error = proven ? 0 : ask_socket(path);
	if (error == -EADDRINUSE)
		return fail_living(path, failure);
	if (error < 0)
		return peal__fail(failure, error,
		                  "%.90s is not known to be the socket of a "
		                  "dead server; remove it or take another name",
		                  path);
	if (unlink(path) != 0 && errno != ENOENT)
		return peal__fail(failure, -errno,
		                  "cannot remove the socket that a dead server "
		                  "left, %.60s: %s",
		                  path, strerrordesc_np(errno));
	return 0;
}

int peal__name_lock(const char *path, struct peal__fork_fd *ret_lock,
                    struct peal_failure *failure)
{
	char lock[PEAL__PATH_BYTES + 8];
	bool was_made = false, proven;
	int error = 1;

	lock_path(path, lock);
	for (int tries = 0; error == 1 && tries < LOCK_TRIES; tries++)
		error = try_lock(lock, ret_lock, &was_made);
	if (error == 1 || error == -EADDRINUSE)
		return fail_living(path, failure);
	if (error == -ENOENT)
		return peal__fail(failure, error,
		                  "cannot lock %.98s: its directory does not "
		                  "exist; make it first",
		                  lock);
	if (error < 0)
		return peal__fail(failure, error, "cannot lock %.108s: %s",
		                  lock, strerrordesc_np(-error));
	PEAL__HOOK("name: locked");
	/* We hold the lock: if it is a proven one, the socket is a dead
	 * server's, and so is one that it had not named yet. */
	unlink_unborn(path);
	proven = is_proven(ret_lock);
	error = remove_dead(path, proven, failure);
	if (error < 0) {
		if (was_made) /* else it is not known to be one of ours */
			unlink(lock);
		peal__fork_forget(ret_lock, true);
		return error;
	}
	if (!proven)
		prove(ret_lock);
	return 0;
}

void peal__name_unlink_lock(const char *path)
{
	char lock[PEAL__PATH_BYTES + 8];

	lock_path(path, lock);
	unlink(lock);
}

void peal__name_unlink(const char *path, int lock_fd)
{
	char lock[PEAL__PATH_BYTES + 8];

	lock_path(path, lock);
	/* Only the lock tells whose the socket beside it is: a path may lead
	 * elsewhere by now, and without a lock the next server may have come. */
	if (was_replaced(lock_fd, lock))
		return;
	unlink(path);
	PEAL__HOOK("name: socket removed");
	peal__name_unlink_lock(path);
}
