/* SPDX-License-Identifier: MIT */
#include "peal/observer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/fork.h"
#include "base/random.h"
#include "mpsc/connect.h"
#include "mpsc/name.h"
#include "mpsc/observer_proc.h"
#include "mpsc/observer_view.h"
#include "mpsc/wire.h"
#include "shm/pass.h"

/* What the way through /proc may take after the time to answer is over. */
#define PROC_NS (100 * PEAL__NS_PER_MS)

/* A process that dies lets go of its sockets before it counts as gone. */
#define EXIT_MS 100

/* Where one asks. */
struct line {
	struct peal__fork_fd socket;
	struct peal__fork_fd pidfd;
	struct peal__process process; /* with the same pidfd */
};

struct peal_observer {
	uint32_t fork_generation;
	bool answers;        /* it did, when it was asked last */
	bool is_turned_away; /* it has observers enough; our line is cut */
	struct line *line;
	struct line lines[2]; /* the other one is for coming back */
	struct peal__view view;
	char name[PEAL__PATH_BYTES];
};

static int fail_view(struct peal_failure *failure, int error)
{
	return peal__fail(failure, error,
	                  error == -EPROTONOSUPPORT
	                          ? "the server's status region has another "
	                            "version"
	                  : error == -EPROTO
	                          ? "what the server shows as its status makes "
	                            "no sense"
	                          : "no room to map the server's status");
}

/* line: asking ------------------------------------------------------------ */

static int watch_or_close(struct peal__fork_fd *watched, int fd)
{
	int error;

	watched->fd = fd;
	error = peal__fork_watch(watched);
	if (error == 0)
		return 0;
	watched->fd = -1;
	close(fd);
	return error;
}

static void close_line(struct line *line)
{
	peal__fork_forget(&line->socket, true);
	peal__fork_forget(&line->pidfd, true);
}

static int open_line(struct line *line, const char *name, uint64_t deadline_ns,
                     struct peal_failure *failure)
{
	int error;

	line->socket.fd = line->pidfd.fd = -1;
	error = peal__connect(name, deadline_ns, failure, &line->socket);
	if (error < 0)
		return error;
	error = peal__process_of_peer(line->socket.fd, &line->process);
	if (error == 0 && line->process.pidfd >= 0)
		error = watch_or_close(&line->pidfd, line->process.pidfd);
	if (error == 0)
		return 0;
	close_line(line);
	return peal__fail(failure, error, "nobody knows whose server it is: %s",
	                  strerrordesc_np(-error));
}

/* HELLO, and WELCOME with the region. */
static int greet(struct line *line, uint64_t deadline_ns,
                 struct peal_failure *failure, struct peal__view *ret_view)
{
	const uint64_t nonce = peal__random();
	union peal__packet packet = {0};
	size_t fd_count = 1;
	int type, error, fd = -1;

	packet.hello.abi = PEAL__WIRE_ABI;
	packet.hello.role = PEAL__ROLE_OBSERVER;
	packet.hello.nonce = nonce;
	packet.hello.monotonic_ns = peal__clock_ns();
	type = peal__exchange(line->socket.fd, &packet,
	                      peal__wire_seal(&packet, PEAL__WIRE_HELLO),
	                      deadline_ns, &fd, &fd_count, failure);
	if (type < 0)
		return type;
	if (type == PEAL__WIRE_WELCOME && packet.welcome.nonce == nonce &&
	    fd_count == 1)
		error = peal__view_open(fd, packet.welcome.status_bytes,
		                        ret_view);
	else
		error = -EPROTO;
	if (fd_count == 1)
		close(fd);
	return error < 0 ? fail_view(failure, error) : 0;
}

/* The same region, past a server that does not answer. */
static int look_past(const struct line *line, const char *name,
                     struct peal_failure *failure, struct peal__view *ret_view)
{
	const struct peal__process *process = &line->process;
	uint64_t deadline_ns = peal__deadline_after(PROC_NS);
	int fd, error;

	error = peal__process_open_status(process, name, deadline_ns, &fd);
	if (error == 0) {
		error = peal__view_open(fd, sizeof(struct peal__status_server),
		                        ret_view);
		close(fd);
		return error < 0 ? fail_view(failure, error) : 0;
	}
	switch (error) {
	case -EACCES:
		return peal__fail(failure, error,
		                  "the server '%.40s' (pid %d) does not "
		                  "answer; only root and its own user, %u, can "
		                  "look past it",
		                  name, process->pid, process->uid);
	case -ECONNRESET:
		return peal__fail(failure, error,
		                  "the server '%.60s' died meanwhile", name);
	case -ENOTUNIQ:
		return peal__fail(
			failure, -ETIMEDOUT,
			"pid %d does not answer and has several "
			"servers '%.40s': give the name it was opened "
			"with",
			process->pid, name);
	default:
		return peal__fail(
			failure, -ETIMEDOUT,
			"the server '%.40s' (pid %d) does not "
			"answer, and its status was not found in /proc",
			name, process->pid);
	}
}

/* API --------------------------------------------------------------------- */

static bool is_forked(const struct peal_observer *observer)
{
	return observer->fork_generation != peal__fork_generation();
}

static int open_observer(struct peal_observer *observer, const char *name,
                         uint64_t deadline_ns, struct peal_failure *failure)
{
	int error;

	observer->line = &observer->lines[0];
	error = open_line(observer->line, name, deadline_ns, failure);
	if (error < 0)
		return error;
	/* After the first watch: a fork before it counts for nobody. */
	observer->fork_generation = peal__fork_generation();
	snprintf(observer->name, sizeof(observer->name), "%s", name);
	error = greet(observer->line, deadline_ns, failure, &observer->view);
	observer->answers = error == 0;
	if (error == -ETIMEDOUT)
		error = look_past(observer->line, name, failure,
		                  &observer->view);
	/* Or idle observers would lock out its own user and root. */
	observer->is_turned_away =
		error == -EBUSY &&
		look_past(observer->line, name, NULL, &observer->view) == 0;
	if (observer->is_turned_away)
		error = 0;
	if (error < 0)
		close_line(observer->line);
	return error;
}

int peal_observer_open(const char *name, uint64_t timeout_ns,
                       struct peal_failure *failure, struct peal_observer **ret)
{
	uint64_t deadline_ns = peal__deadline_after(timeout_ns);
	struct peal_observer *observer;
	int saved_errno = errno, error;

	if (ret == NULL)
		return peal__fail(failure, -EINVAL, "ret is NULL");
	observer = calloc(1, sizeof(*observer));
	error = observer == NULL
	                ? peal__fail(failure, -ENOMEM, "no memory")
	                : open_observer(observer, name, deadline_ns, failure);
	errno = saved_errno;
	if (error < 0) {
		free(observer);
		return error;
	}
	*ret = observer;
	return 0;
}

static bool has_gone(const struct peal_observer *observer)
{
	return peal__view_is_closed(&observer->view) ||
	       peal__process_has_gone(&observer->line->process);
}

/* Has it gone, or had it only enough of this connection? */
static bool is_over(const struct peal_observer *observer)
{
	const struct line *line = observer->line;
	struct pollfd poll_fd = {line->pidfd.fd, POLLIN, 0};

	if (has_gone(observer))
		return true;
	if (observer->is_turned_away || !peal__has_hung_up(line->socket.fd))
		return false;
	return line->pidfd.fd < 0 || poll(&poll_fd, 1, EXIT_MS) > 0;
}

/* Has the answer come that a server owed us? 0, or -errno. */
static int await_answer(const struct peal_observer *observer,
                        uint64_t deadline_ns)
{
	struct pollfd poll_fd = {observer->line->socket.fd, POLLIN, 0};
	int ready;

	do
		ready = poll(&poll_fd, 1,
		             peal__deadline_to_poll_ms(deadline_ns));
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return ready < 0 ? -errno : -ETIMEDOUT;
	return is_over(observer) ? -ECONNRESET : 0;
}

/*
 * A server that owed us an answer: has it come? Then it is asked afresh, on a
 * new connection, rather than to puzzle out what the old answer was about.
 * Until then no second question is put, or a stopped server would find a queue
 * of ours that locks everybody else out. One that turned us away owes nothing.
 */
static int come_back(struct peal_observer *observer, uint64_t deadline_ns)
{
	struct line *line = observer->line == &observer->lines[0]
	                            ? &observer->lines[1]
	                            : &observer->lines[0];
	struct peal__view view;
	int error = 0;

	if (!observer->is_turned_away)
		error = await_answer(observer, deadline_ns);
	/* Whoever has the name by now is not the server we have looked at. */
	else if (has_gone(observer))
		error = -ECONNRESET;
	if (error < 0)
		return error;
	error = open_line(line, observer->name, deadline_ns, NULL);
	if (error < 0)
		return error;
	error = greet(line, deadline_ns, NULL, &view);
	if (error == -EBUSY)
		observer->is_turned_away = true;
	if (error < 0 && error != -ETIMEDOUT) {
		close_line(line);
		return error;
	}
	close_line(observer->line);
	observer->line = line;
	observer->is_turned_away = false;
	if (error == 0) {
		peal__view_close(&observer->view);
		observer->view = view;
	}
	return error;
}

static int refresh(struct peal_observer *observer, uint64_t deadline_ns)
{
	union peal__packet packet = {0};
	int type, error;

	if (!observer->answers) {
		error = come_back(observer, deadline_ns);
		if (error < 0)
			return error;
		observer->answers = true;
	}
	error = peal__pass_send(observer->line->socket.fd, &packet,
	                        peal__wire_seal(&packet, PEAL__WIRE_STATUS),
	                        NULL, 0);
	/* A question that did not go out is owed no answer. */
	if (error < 0 && error != -ECONNRESET)
		return error;
	type = peal__exchange(observer->line->socket.fd, &packet, 0,
	                      deadline_ns, NULL, NULL, NULL);
	observer->answers = type == PEAL__WIRE_STATUS;
	if (type < 0)
		return type;
	return observer->answers ? 0 : -EPROTO;
}

int peal_observer_refresh(struct peal_observer *observer, uint64_t timeout_ns)
{
	uint64_t deadline_ns = peal__deadline_after(timeout_ns);
	int saved_errno = errno, error;

	if (observer == NULL)
		return -EINVAL;
	if (is_forked(observer))
		return -ESTALE;
	error = refresh(observer, deadline_ns);
	errno = saved_errno;
	return error;
}

static uint32_t find_state(struct peal_observer *observer)
{
	if (is_over(observer))
		return PEAL_SERVER_CLOSED;
	/* It lives, and had enough of this connection only. */
	if (!observer->is_turned_away &&
	    peal__has_hung_up(observer->line->socket.fd))
		observer->answers = false;
	if (peal__process_is_stopped(&observer->line->process))
		return PEAL_SERVER_STOPPED;
	return observer->answers || observer->is_turned_away
	               ? PEAL_SERVER_ALIVE
	               : PEAL_SERVER_SILENT;
}

int peal_observer_server(struct peal_observer *observer,
                         struct peal_server_info *ret_info)
{
	struct peal_server_info info = {0};
	int saved_errno = errno;

	if (observer == NULL || ret_info == NULL)
		return -EINVAL;
	if (is_forked(observer))
		return -ESTALE;
	peal__view_server(&observer->view, &info);
	info.pid = observer->line->process.pid;
	info.uid = observer->line->process.uid;
	info.state = find_state(observer);
	errno = saved_errno;
	*ret_info = info;
	return 0;
}

int peal_observer_slot(struct peal_observer *observer, uint32_t slot_index,
                       struct peal_slot_info *ret_info)
{
	if (observer == NULL || ret_info == NULL)
		return -EINVAL;
	if (is_forked(observer))
		return -ESTALE;
	return peal__view_slot(&observer->view, slot_index, ret_info);
}

void peal_observer_close(struct peal_observer *observer)
{
	int saved_errno = errno;

	if (observer == NULL)
		return;
	/* In a child the handlers have closed the descriptors, and the region
	 * was never mapped there. */
	if (!is_forked(observer)) {
		close_line(observer->line);
		peal__view_close(&observer->view);
	}
	free(observer);
	errno = saved_errno;
}
