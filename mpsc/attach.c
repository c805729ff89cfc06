/* SPDX-License-Identifier: MIT */
#include "mpsc/attach.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/hooks.h"
#include "base/random.h"
#include "base/read.h"
#include "mpsc/connect.h"
#include "mpsc/wire.h"
#include "shm/pass.h"
#include "shm/region.h"

static struct peal__segment_shape shape_of(const struct peal__welcome *welcome)
{
	return (struct peal__segment_shape){
		.page_bytes = welcome->page_bytes,
		.rings = {{welcome->request_ring_bytes, welcome->request_start},
	                  {welcome->response_ring_bytes,
	                   welcome->response_start},
	                  {welcome->lane_ring_bytes, welcome->lane_start}},
	};
}

/* What the layout calls a page is the beginning of one where they are larger. */
static int map_page(int fd, uint64_t bytes, uint32_t flags,
                    struct peal_shm_mapping *mapping)
{
	uint64_t page_bytes = peal_shm_page_bytes(0);
	struct peal_shm_span span = {0, bytes < page_bytes ? page_bytes : bytes,
	                             1};
	int error = peal_shm_check(fd, span.bytes);

	return error < 0
	               ? error
	               : peal_shm_map(fd, &span, 1,
	                              flags | PEAL_SHM_MAP_DONT_FORK, mapping);
}

static int map_segment(int fd, const struct peal__segment_shape *shape,
                       struct peal_shm_mapping *mapping)
{
	int error = peal_shm_check(fd, peal__segment_bytes(shape));

	return error < 0 ? error
	                 : peal__segment_map(fd, shape,
	                                     PEAL_SHM_MAP_WRITE |
	                                             PEAL_SHM_MAP_DONT_FORK,
	                                     mapping);
}

/* The server may punch holes in huge pages: from another user's we take none. */
static bool are_safe(int socket_fd, const int *fds, size_t fd_count)
{
	struct ucred server;
	socklen_t bytes = sizeof(server);
	uint64_t page_bytes;

	if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &server, &bytes) !=
	    0)
		return false;
	for (size_t i = 0; i < fd_count && server.uid != geteuid(); i++)
		if (peal__region_page_bytes(fds[i], &page_bytes) != 0 ||
		    page_bytes != peal_shm_page_bytes(0))
			return false;
	return true;
}

static void unmap(struct peal__connection *connection)
{
	peal_shm_unmap(&connection->arm_mapping);
	peal_shm_unmap(&connection->bell_mapping);
	peal_shm_unmap(&connection->segment_mapping);
}

/* Map what came with WELCOME. 0 or -errno; on failure nothing is mapped. */
static int map_all(struct peal__connection *connection,
                   const struct peal__welcome *welcome, const int *fds,
                   size_t fd_count)
{
	bool trusted = (welcome->flags & PEAL__WELCOME_TRUSTED) != 0;
	int error;

	if (fd_count != (trusted ? 3 : 2) ||
	    !are_safe(connection->socket.fd, fds, fd_count))
		return -EPROTO;
	error = map_page(fds[0], PEAL__ARM_BYTES, 0, &connection->arm_mapping);
	if (error == 0)
		error = map_segment(fds[1], &connection->shape,
		                    &connection->segment_mapping);
	if (error == 0 && trusted)
		error = map_page(fds[2], PEAL__BELL_BYTES, PEAL_SHM_MAP_WRITE,
		                 &connection->bell_mapping);
	if (error < 0) {
		unmap(connection);
		return error;
	}
	connection->arm_page = connection->arm_mapping.address;
	connection->bell_page = connection->bell_mapping.address;
	connection->segment = connection->segment_mapping.address;
	if (peal__read_once(&connection->arm_page->magic) != PEAL__ARM_MAGIC ||
	    peal__read_once(&connection->segment->magic) !=
	            PEAL__SEGMENT_MAGIC ||
	    peal__read_once(&connection->segment->version) !=
	            PEAL__LAYOUT_VERSION) {
		unmap(connection);
		return -EPROTO;
	}
	return 0;
}

/* Take what a WELCOME brought. 0 or -errno. */
static int take_welcome(struct peal__connection *connection,
                        const struct peal__wish *wish, uint64_t nonce,
                        const struct peal__welcome *welcome, const int *fds,
                        size_t fd_count)
{
	connection->shape = shape_of(welcome);
	if (welcome->nonce != nonce ||
	    !peal__segment_is_sane(&connection->shape,
	                           wish->role == PEAL__ROLE_CLIENT))
		return -EPROTO;
	connection->self =
		(struct peal_peer){welcome->slot_index, welcome->generation};
	return map_all(connection, welcome, fds, fd_count);
}

static int shake_hands(struct peal__connection *connection,
                       const struct peal__wish *wish, uint64_t deadline_ns,
                       struct peal_failure *failure)
{
	uint64_t nonce = peal__random();
	union peal__packet packet = {
		.hello = {.abi = PEAL__WIRE_ABI,
	                  .role = (uint32_t)wish->role,
	                  .nonce = nonce,
	                  .request_ring_bytes = wish->request_ring_bytes,
	                  .response_ring_bytes = wish->response_ring_bytes,
	                  .flags = wish->flags,
	                  .monotonic_ns = peal__clock_ns()}};
	size_t bytes = peal__wire_seal(&packet, PEAL__WIRE_HELLO);
	int fds[PEAL__PASS_FD_MAX], type, error;
	size_t fd_count = PEAL__PASS_FD_MAX;

	type = peal__exchange(connection->socket.fd, &packet, bytes,
	                      deadline_ns, fds, &fd_count, failure);
	if (type < 0)
		return type;
	PEAL__HOOK("attach: welcomed");
	error = type == PEAL__WIRE_WELCOME
	                ? take_welcome(connection, wish, nonce, &packet.welcome,
	                               fds, fd_count)
	                : -EPROTO;
	while (fd_count > 0)
		close(fds[--fd_count]);
	if (error < 0)
		return peal__fail(
			failure, error,
			error == -EPROTO ? "the server's WELCOME makes no sense"
					 : "cannot map what the server gave: "
					   "%s",
			strerrordesc_np(-error));
	PEAL__HOOK("attach: mapped");
	bytes = peal__wire_seal(&packet, PEAL__WIRE_READY);
	error = peal__pass_send(connection->socket.fd, &packet, bytes, NULL, 0);
	if (error < 0) {
		unmap(connection);
		return peal__fail(failure, error,
		                  "the server closed the connection");
	}
	return 0;
}

int peal__attach(const struct peal__wish *wish, uint64_t deadline_ns,
                 struct peal_failure *failure,
                 struct peal__connection *ret_connection)
{
	int error;

	*ret_connection = (struct peal__connection){.socket.fd = -1};
	error = peal__connect(wish->name, deadline_ns, failure,
	                      &ret_connection->socket);
	if (error < 0)
		return error;
	PEAL__HOOK("attach: connected");
	error = shake_hands(ret_connection, wish, deadline_ns, failure);
	if (error < 0) {
		peal__fork_forget(&ret_connection->socket, true);
		return error;
	}
	PEAL__HOOK("attach: ready");
	return 0;
}

void peal__connection_close(struct peal__connection *connection, bool say_bye,
                            bool forked)
{
	union peal__packet packet;
	size_t bytes;

	if (!forked && say_bye) {
		bytes = peal__wire_seal(&packet, PEAL__WIRE_BYE);
		/* A server that does not hear it sees us hang up. */
		(void)peal__pass_send(connection->socket.fd, &packet, bytes,
		                      NULL, 0);
		PEAL__HOOK("detach: said good-bye");
	}
	peal__fork_forget(&connection->socket, true);
	if (!forked)
		unmap(connection);
	*connection = (struct peal__connection){.socket.fd = -1};
}
