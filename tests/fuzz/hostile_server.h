/* SPDX-License-Identifier: MIT */
/*
 * A server that lies, without a process: the library is given one end of a
 * socketpair for its connection, and each packet that it sends is answered
 * right there, before the call returns.
 *
 *	peal__connect()    __wrap_: a socketpair
 *	peal__pass_send()  __wrap_: sent in earnest, and then hostile_heard()
 *
 * Callers: one thread. The fuzzer defines hostile_heard().
 */
#ifndef PEAL_TESTS_FUZZ_HOSTILE_SERVER_H
#define PEAL_TESTS_FUZZ_HOSTILE_SERVER_H

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mpsc/connect.h"
#include "mpsc/wire.h"
#include "shm/pass.h"
#include "tests/fuzz/fuzz.h"

static int hostile_socket = -1; /* our end of the newest connection */

/* The library has sent this, to be answered or not. */
static void hostile_heard(const union peal__packet *packet, size_t bytes);

int __wrap_peal__connect(const char *name, uint64_t deadline_ns,
                         struct peal_failure *failure, int *ret_fd);
int __real_peal__pass_send(int socket_fd, const void *data, size_t data_bytes,
                           const int *fds, size_t fd_count);
int __wrap_peal__pass_send(int socket_fd, const void *data, size_t data_bytes,
                           const int *fds, size_t fd_count);

static inline void hostile_hang_up(void)
{
	if (hostile_socket >= 0)
		close(hostile_socket);
	hostile_socket = -1;
}

int __wrap_peal__connect(const char *name, uint64_t deadline_ns,
                         struct peal_failure *failure, int *ret_fd)
{
	int ends[2];

	(void)name;
	(void)deadline_ns;
	(void)failure;
	hostile_hang_up();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
	               0, ends) != 0)
		return -errno;
	hostile_socket = ends[0];
	*ret_fd = ends[1];
	return 0;
}

int __wrap_peal__pass_send(int socket_fd, const void *data, size_t data_bytes,
                           const int *fds, size_t fd_count)
{
	int error = __real_peal__pass_send(socket_fd, data, data_bytes, fds,
	                                   fd_count);
	union peal__packet packet;

	FUZZ_MUST(data_bytes <= sizeof(packet), "a packet is too long");
	memcpy(&packet, data, data_bytes);
	if (hostile_socket >= 0)
		hostile_heard(&packet, data_bytes);
	return error;
}

/* Some bytes of the script over those of @packet: how many are sent. */
static inline size_t hostile_spoil(union peal__packet *packet, size_t bytes)
{
	uint32_t changes = fuzz_choice(4);

	while (changes-- > 0) {
		size_t at = 4 * (size_t)(fuzz_byte() % (sizeof(*packet) / 4));
		uint32_t word;

		memcpy(&word, packet->bytes + at, sizeof(word));
		word = (uint32_t)fuzz_other(word, fuzz_byte);
		memcpy(packet->bytes + at, &word, sizeof(word));
	}
	return fuzz_choice(8) == 7 ? 1 + fuzz_byte() % sizeof(*packet) : bytes;
}

/* What is never answered would be waited for: nothing follows this packet. */
static inline void hostile_say_last(const union peal__packet *packet,
                                    size_t bytes, const int *fds,
                                    size_t fd_count)
{
	__real_peal__pass_send(hostile_socket, packet, bytes, fds, fd_count);
	if (bytes == 1)
		shutdown(hostile_socket, SHUT_WR);
}

#endif
