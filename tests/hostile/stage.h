/* SPDX-License-Identifier: MIT */
/*
 * The stage of the hostile tests, and the attacker's tools.
 *
 *	server     a consumer in a process of its own, or a reactor
 *	           (stage_reactor.h)
 *	neighbour  a well-behaved producer that streams all the time: whatever
 *	           the attacker does, its messages arrive, each one, intact; or
 *	           a client that calls all the time, and is answered
 *	attacker   this process: speaks the protocol by hand, and lies
 *
 * After each attack stage_is_well() must be true: the server lives, the
 * neighbour was heard, and what the attacker had was given back.
 */
#ifndef PEAL_TESTS_HOSTILE_STAGE_H
#define PEAL_TESTS_HOSTILE_STAGE_H

#include "tests/slots.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "mpsc/layout.h"
#include "mpsc/segment.h"
#include "mpsc/wire.h"
#include "peal/doorbell.h"
#include "shm/pass.h"

#define STAGE_NAME "target"
#define STAGE_SLOTS 8
#define STAGE_SEATS (STAGE_SLOTS + 16)
#define STAGE_NEIGHBOUR 7 /* its sender number */
#define STAGE_STRANGER_UID 12345
#define STAGE_PATIENCE_NS (10 * SCENE_S)

#define STAGE_IN_FLIGHT 1024 /* more messages than a ring of 16 KiB holds */
#define STAGE_WINDOWS 4
#define STAGE_TIMES 256 /* times of the neighbour's calls: eight an octave */

struct stage_board {
	uint64_t is_open, stop, is_enough; /* for the neighbour */
	uint64_t window; /* of the times that are taken now; 0: of none */
	uint32_t times[STAGE_WINDOWS][STAGE_TIMES];
	/* The longest call of the neighbour, or the longest that a message of
	 * its was on the way. */
	uint64_t longest_ns;
	uint64_t published_ns[STAGE_IN_FLIGHT];
	uint64_t sent, received; /* the neighbour's */
	uint64_t other_count;    /* messages of the attacker */
	uint64_t passed_count;   /* descriptors that it could send along */
	uint64_t asked, answered;
	struct scene_held held;
	uint32_t free_count;
	struct peal_consumer_stats stats;
	char fault[200];
};

static struct stage_board *stage_board;
static uint32_t stage_wait_mode;
/* What the attacker is: PEAL__ROLE_CLIENT of a reactor, or a producer. */
static uint32_t stage_role = PEAL__ROLE_PRODUCER;
static pid_t stage_server, stage_neighbour;
static struct scene_held stage_held; /* when only the neighbour was there */

static inline int stage_fault(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (stage_board->fault[0] == '\0')
		vsnprintf(stage_board->fault, sizeof(stage_board->fault),
		          format, arguments);
	va_end(arguments);
	return 1;
}

/* server ----------------------------------------------------------------- */

/* 0; -1 for what is not the neighbour's; 1 when something is wrong. */
static inline int stage_hear(const void *data, size_t bytes)
{
	struct scene_stamp stamp = {0};
	bool is_intact = scene_stamp_read(data, bytes, &stamp);

	if (stamp.sender != STAGE_NEIGHBOUR || !is_intact) {
		/* The attacker's: anything goes. A stamp that is not intact
		 * leaves a hole in the neighbour's numbers if it was his. */
		stage_board->other_count++;
		return -1;
	}
	if (stamp.sequence != stage_board->received + 1)
		return stage_fault("the neighbour's message %llu follows %llu",
		                   (unsigned long long)stamp.sequence,
		                   (unsigned long long)stage_board->received);
	scene_put(&stage_board->received, stamp.sequence);
	return 0;
}

static inline void stage_answer(struct peal_consumer *consumer)
{
	uint64_t asked = scene_get(&stage_board->asked);

	if (asked == stage_board->answered)
		return;
	stage_board->free_count = slots_free_count(consumer);
	stage_board->held = scene_held();
	peal_consumer_stats(consumer, &stage_board->stats);
	scene_put(&stage_board->answered, asked);
}

static inline void stage_took(uint64_t took_ns)
{
	if (took_ns > scene_get(&stage_board->longest_ns))
		scene_put(&stage_board->longest_ns, took_ns);
}

/* What has been heard is let go: how long did that take? */
static inline void stage_let_go(struct peal_consumer *consumer,
                                struct peal_message *message,
                                bool is_neighbours)
{
	uint64_t number = stage_board->received % STAGE_IN_FLIGHT;

	peal_consumer_release(consumer, message);
	if (is_neighbours)
		stage_took(scene_now_ns() -
		           scene_get(&stage_board->published_ns[number]));
}

static inline int stage_serve(void *arg)
{
	static const uint32_t stranger = STAGE_STRANGER_UID;
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_message message;

	(void)arg;
	options.name = STAGE_NAME;
	options.wait_mode = stage_wait_mode;
	options.producer_max = STAGE_SLOTS;
	options.socket_mode = 0666;
	options.allow_uid = &stranger;
	options.allow_uid_count = 1;
	if (peal_consumer_open(&options, &consumer) < 0)
		return 2;
	scene_put(&stage_board->is_open, 1);
	while (scene_get(&stage_board->stop) == 0) {
		peal_consumer_wait(consumer, 20 * SCENE_MS);
		for (int i = 0;
		     i < 1000 && peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			int heard =
				stage_hear(message.data, message.data_bytes);

			if (heard > 0)
				return 1;
			stage_let_go(consumer, &message, heard == 0);
		}
		stage_answer(consumer);
	}
	return peal_consumer_close(consumer);
}

static inline int stage_stream(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	uint8_t data[500];
	int error;

	(void)arg;
	options.name = STAGE_NAME;
	options.ring_bytes = 1 << 14;
	if (peal_producer_attach(&options, STAGE_PATIENCE_NS, &producer) < 0)
		return stage_fault("the neighbour cannot attach");
	for (uint64_t i = 1; scene_get(&stage_board->is_enough) == 0; i++) {
		size_t bytes = 24 + i * 37 % 400;

		scene_stamp_write(data, bytes, STAGE_NEIGHBOUR, i);
		scene_put(&stage_board->published_ns[i % STAGE_IN_FLIGHT],
		          scene_now_ns());
		error = peal_producer_send(producer, data, bytes,
		                           STAGE_PATIENCE_NS);
		if (error < 0)
			return stage_fault("the neighbour got %d", error);
		scene_put(&stage_board->sent, i);
		if (i % 16 == 0)
			scene_sleep_ns(20 * SCENE_US);
	}
	return peal_producer_detach(producer);
}

/* Who is started; stage_reactor.h has others. */
static int (*stage_server_main)(void *arg) = stage_serve;
static int (*stage_neighbour_main)(void *arg) = stage_stream;

/* What the server says of itself, now. */
static inline bool stage_ask(void)
{
	uint64_t question = scene_add(&stage_board->asked, 1) + 1;

	return scene_reach(&stage_board->answered, question, STAGE_PATIENCE_NS);
}

static inline int stage_setup(void **state)
{
	(void)state;
	memset(stage_board, 0, sizeof(*stage_board));
	stage_server = scene_start(stage_server_main, NULL);
	if (!scene_reach(&stage_board->is_open, 1, STAGE_PATIENCE_NS))
		return -1;
	stage_neighbour = scene_start(stage_neighbour_main, NULL);
	if (!scene_reach(&stage_board->received, 100, STAGE_PATIENCE_NS) ||
	    !stage_ask())
		return -1;
	stage_held = stage_board->held;
	return 0;
}

/* Does everybody else live as if there had been no attack? */
static inline bool stage_is_well(void)
{
	uint64_t end_ns = scene_now_ns() + STAGE_PATIENCE_NS;
	uint64_t least = scene_get(&stage_board->sent) + 100;

	if (!scene_reach_unless(stage_board->fault, &stage_board->received,
	                        least, STAGE_PATIENCE_NS))
		stage_fault("the neighbour is not heard");
	while (stage_board->fault[0] == '\0' && stage_ask() &&
	       scene_now_ns() < end_ns) {
		if (stage_board->free_count == STAGE_SLOTS - 1 &&
		    stage_board->held.fds == stage_held.fds &&
		    stage_board->held.maps == stage_held.maps &&
		    stage_board->held.threads == stage_held.threads)
			break;
		scene_sleep_ns(2 * SCENE_MS);
	}
	if (stage_board->free_count != STAGE_SLOTS - 1)
		stage_fault("%u slots are free", stage_board->free_count);
	if (stage_board->held.fds != stage_held.fds ||
	    stage_board->held.maps != stage_held.maps)
		stage_fault("%u descriptors, %u mappings; there were %u, %u",
		            stage_board->held.fds, stage_board->held.maps,
		            stage_held.fds, stage_held.maps);
	if (stage_board->fault[0] != '\0')
		print_message("%s\n", stage_board->fault);
	return stage_board->fault[0] == '\0';
}

static inline int stage_teardown(void **state)
{
	int neighbour, server;

	/* One after the other: a server that closes answers nobody. */
	scene_put(&stage_board->is_enough, 1);
	neighbour = scene_wait(stage_neighbour, STAGE_PATIENCE_NS);
	scene_put(&stage_board->stop, 1);
	server = scene_wait(stage_server, STAGE_PATIENCE_NS);
	if (neighbour != 0 || server != 0 || strcmp(scene_names(), "") != 0) {
		print_message("the stage did not end well: %s%s\n",
		              stage_board->fault, scene_names());
		scene_teardown(state);
		return -1;
	}
	return scene_teardown(state);
}

static inline int stage_group_setup(void **state)
{
	stage_board = scene_board(sizeof(*stage_board));
	if (stage_board == NULL || scene_group_setup(state) != 0)
		return -1;
	/* Strangers have to reach the socket. */
	return chmod(scene_directory, 0711);
}

/* the attacker ----------------------------------------------------------- */

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

#endif
