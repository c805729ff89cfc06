/* SPDX-License-Identifier: MIT */
/*
 * The attacker's tools: it speaks the protocol by hand, and lies.
 */
#ifndef PEAL_TESTS_HOSTILE_RAW_H
#define PEAL_TESTS_HOSTILE_RAW_H

#include "tests/hostile/stage.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "mpsc/segment.h"
#include "peal/doorbell.h"
#include "shm/pass.h"

struct raw {
	int socket;
	int fds[PEAL__PASS_FD_MAX];
	size_t fd_count;
	union peal__packet packet; /* the last one received */
	struct peal_shm_mapping mapping;
	struct peal__segment_shape shape;
	struct peal__segment *segment;
	size_t page_bytes, ring_bytes;
	uint8_t *ring; /* mapped twice */
	struct peal_ring_tx tx, lane;
	struct peal_ring_rx responses;
	uint64_t id; /* of its last request */
	struct peal_ringer bell;
	const struct peal__arm_page *arm_page;
	struct peal__bell_page *bell_page; /* or NULL */
};

/* A socket to the server, or -errno. */
static inline int raw_connect(struct raw *raw)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
	                0);

	memset(raw, 0, sizeof(*raw));
	raw->socket = fd;
	snprintf(address.sun_path, sizeof(address.sun_path), "%.60s/%s",
	         scene_directory, STAGE_NAME);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	raw->socket = -1;
	close(fd);
	return -errno;
}

static inline struct peal__hello raw_hello(uint32_t role)
{
	union peal__packet packet = {.hello = {.abi = PEAL__WIRE_ABI,
	                                       .role = role,
	                                       .nonce = 42,
	                                       .request_ring_bytes = 4096}};

	if (role == PEAL__ROLE_CLIENT)
		packet.hello.response_ring_bytes = 4096;

	peal__wire_seal(&packet, PEAL__WIRE_HELLO);
	return packet.hello;
}

static inline int raw_send(const struct raw *raw, const void *data,
                           size_t bytes)
{
	ssize_t sent =
		send(raw->socket, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

	return sent == (ssize_t)bytes ? 0 : -errno;
}

static inline int raw_send_type(const struct raw *raw,
                                enum peal__wire_type type)
{
	union peal__packet packet = {.bytes = {0}};
	size_t bytes = peal__wire_seal(&packet, type);

	return raw_send(raw, &packet, bytes);
}

/* The next packet that is no wake byte: its type, or -errno. */
static inline int raw_receive(struct raw *raw, uint64_t timeout_ns)
{
	struct pollfd readable = {.fd = raw->socket, .events = POLLIN};
	size_t fd_count;
	int got;

	do {
		fd_count = raw->fd_count == 0 ? PEAL__PASS_FD_MAX : 0;
		if (poll(&readable, 1, (int)(timeout_ns / SCENE_MS)) == 0)
			return -ETIMEDOUT;
		got = peal__pass_receive(raw->socket, &raw->packet,
		                         sizeof(raw->packet),
		                         fd_count > 0 ? raw->fds : NULL,
		                         fd_count > 0 ? &fd_count : NULL);
		if (got > 0 && fd_count > 0)
			raw->fd_count = fd_count;
	} while (got == 1 || got == -EAGAIN);
	return got < 0 ? got : peal__wire_check(&raw->packet, (size_t)got);
}

/* HELLO, and WELCOME back: its type, or the code of the ERROR. */
static inline int raw_greet(struct raw *raw, uint32_t role)
{
	struct peal__hello hello = raw_hello(role);
	int type = raw_send(raw, &hello, sizeof(hello));

	if (type == 0)
		type = raw_receive(raw, STAGE_PATIENCE_NS);
	return type == PEAL__WIRE_ERROR ? raw->packet.error.code : type;
}

static inline void *raw_map(int fd, size_t bytes, int protection, off_t offset)
{
	void *address = mmap(NULL, bytes, protection, MAP_SHARED, fd, offset);

	return address == MAP_FAILED ? NULL : address;
}

/* Map what WELCOME brought, as a client would. */
static inline int raw_map_all(struct raw *raw)
{
	const struct peal__welcome *welcome = &raw->packet.welcome;
	struct peal__segment_shape *shape = &raw->shape;

	*shape = (struct peal__segment_shape){
		.page_bytes = welcome->page_bytes,
		.rings = {{welcome->request_ring_bytes, welcome->request_start},
	                  {welcome->response_ring_bytes,
	                   welcome->response_start},
	                  {welcome->lane_ring_bytes, welcome->lane_start}},
	};
	raw->page_bytes = shape->page_bytes;
	raw->ring_bytes = shape->rings[PEAL__RING_REQUEST].bytes;
	raw->arm_page = raw_map(raw->fds[0], PEAL__ARM_BYTES, PROT_READ, 0);
	if (raw->fd_count > 2)
		raw->bell_page = raw_map(raw->fds[2], PEAL__BELL_BYTES,
		                         PROT_READ | PROT_WRITE, 0);
	if (raw->arm_page == NULL)
		return -errno;
	if (peal__segment_map(raw->fds[1], shape, PEAL_SHM_MAP_WRITE,
	                      &raw->mapping) < 0)
		return -ENOMEM;
	raw->segment = raw->mapping.address;
	raw->ring = peal__segment_data(raw->segment, shape, PEAL__RING_REQUEST);
	peal_ring_tx_init(&raw->tx, raw->ring, raw->ring_bytes,
	                  welcome->request_start,
	                  &raw->segment->request_released);
	peal_ring_tx_init(&raw->lane,
	                  peal__segment_data(raw->segment, shape,
	                                     PEAL__RING_LANE),
	                  welcome->lane_ring_bytes, welcome->lane_start,
	                  &raw->segment->lane_released);
	peal_ring_rx_init(&raw->responses,
	                  peal__segment_data(raw->segment, shape,
	                                     PEAL__RING_RESPONSE),
	                  welcome->response_ring_bytes, welcome->response_start,
	                  &raw->segment->response_released);
	raw->bell = (struct peal_ringer){
		.arm = &raw->arm_page->arm,
		.seq = raw->bell_page == NULL ? NULL : &raw->bell_page->seq,
		.fd = raw->socket,
	};
	return 0;
}

/* Everything up to READY. 0 or -errno. */
static inline int raw_attach(struct raw *raw)
{
	int error = raw_connect(raw);

	if (error == 0)
		error = raw_greet(raw, stage_role);
	if (error != PEAL__WIRE_WELCOME)
		return error < 0 ? error : -EPROTO;
	error = raw_map_all(raw);
	return error < 0 ? error : raw_send_type(raw, PEAL__WIRE_READY);
}

/* Answers are read, or a client's requests would not be taken. */
static inline void raw_read(struct raw *raw)
{
	struct peal_message message;

	while (raw->responses.capacity_bytes > 0 &&
	       peal_ring_peek(&raw->responses, &message) == 0) {
		peal_ring_release(&raw->responses, &message);
		peal_ring_settle(&raw->responses);
		peal_doorbell_ring(&raw->bell);
	}
}

/* One honest message, or a request. 0 or -EAGAIN. */
static inline int raw_publish(struct raw *raw, size_t bytes)
{
	bool is_request = stage_role == PEAL__ROLE_CLIENT;
	void *data;
	int error = peal_ring_claim(&raw->tx, bytes, is_request,
	                            is_request ? ++raw->id : 0, &data);

	if (error < 0) {
		raw_read(raw);
		return error;
	}
	memset(data, 0x5a, bytes);
	peal_ring_publish(&raw->tx);
	peal_doorbell_ring(&raw->bell);
	return 0;
}

/* Has the server ended this connection? */
static inline bool raw_is_closed(const struct raw *raw)
{
	struct pollfd hung_up = {.fd = raw->socket, .events = POLLRDHUP};

	return poll(&hung_up, 1, 0) > 0 &&
	       (hung_up.revents & (POLLRDHUP | POLLHUP)) != 0;
}

static inline void raw_close(struct raw *raw)
{
	if (raw->socket >= 0)
		close(raw->socket);
	while (raw->fd_count > 0)
		close(raw->fds[--raw->fd_count]);
	if (raw->arm_page != NULL)
		munmap((void *)(uintptr_t)raw->arm_page, PEAL__ARM_BYTES);
	if (raw->bell_page != NULL)
		munmap(raw->bell_page, PEAL__BELL_BYTES);
	if (raw->segment != NULL)
		peal_shm_unmap(&raw->mapping);
	memset(raw, 0, sizeof(*raw));
	raw->socket = -1;
}

/*
 * In for sure, and taken notice of: on a busy machine a handshake may take
 * longer than the second that it has. 0 or -errno.
 */
static inline int raw_enter(struct raw *raw)
{
	uint64_t end_ns = scene_now_ns() + STAGE_PATIENCE_NS;
	int error;

	do {
		uint64_t start;

		error = raw_attach(raw);
		if (error == 0) {
			start = raw->tx.first;
			raw_publish(raw, 16);
			while (scene_get(&raw->segment->request_released) ==
			               start &&
			       !raw_is_closed(raw) && scene_now_ns() < end_ns)
				scene_sleep_ns(100 * SCENE_US);
			if (!raw_is_closed(raw))
				return 0;
			error = -ECONNRESET;
		}
		raw_close(raw);
		scene_sleep_ns(SCENE_MS);
	} while (scene_now_ns() < end_ns);
	return error;
}

#endif
