/* SPDX-License-Identifier: MIT */
/*
 * Somebody at the door of the fixture's server "words" who speaks the protocol by
 * hand, right or wrong.
 */
#ifndef PEAL_TESTS_UNIT_BY_HAND_H
#define PEAL_TESTS_UNIT_BY_HAND_H

#include "tests/unit/mpsc_fixture.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "mpsc/wire.h"
#include "shm/pass.h"

static inline int hand_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/words",
	         own.directory.path);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline void hand_send(int fd, union peal__packet *packet,
                             enum peal__wire_type type)
{
	size_t bytes = peal__wire_seal(packet, type);

	assert_int_equal(peal__pass_send(fd, packet, bytes, NULL, 0), 0);
}

/* The type of the next packet, which replaces *@packet; or -errno. */
static inline int hand_receive(int fd, union peal__packet *packet)
{
	int fds[PEAL__PASS_FD_MAX], got;
	size_t fd_count = PEAL__PASS_FD_MAX;

	got = peal__pass_receive(fd, packet, sizeof(*packet), fds, &fd_count);
	while (got >= 0 && fd_count > 0)
		close(fds[--fd_count]);
	return got < 0 ? got : peal__wire_check(packet, (size_t)got);
}

/* The same, waited for. */
static inline int hand_await(int fd, union peal__packet *packet)
{
	assert_true(is_readable(fd, 10000));
	return hand_receive(fd, packet);
}

#endif
