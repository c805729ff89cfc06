/* SPDX-License-Identifier: MIT */
/*
 * What a producer remembers to have rung belongs to one bell of one connection.
 * The server here is none: it hands out pages that the test writes, and it
 * arms its second bell with the very value of its first one, which a real one
 * does not in 2^61 sleeps.
 */
#include "tests/check.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "mpsc/layout.h"
#include "mpsc/wire.h"
#include "peal/doorbell.h"
#include "peal/mpsc.h"
#include "peal/shm.h"
#include "shm/pass.h"

#define ARMED (UINT64_C(77) << 2 | PEAL_DOORBELL_FUTEX)
#define RING_BYTES PEAL_RING_MIN_BYTES
#define PATIENCE_NS (10 * PEAL__NS_PER_S)

/* One connection as the server has it. */
struct made {
	struct peal_shm_mapping arm, bell, segment;
	int fds[3];
	int socket_fd;
};

struct server {
	char directory[64];
	char path[80];
	int listen_fd;
	struct made made[2];
	uint32_t made_count;
};

static int make(const char *name, uint64_t bytes, int *ret_fd,
                struct peal_shm_mapping *mapping)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;

	options.name = name;
	options.bytes = bytes;
	return peal_shm_create(&options, ret_fd, mapping);
}

static int make_pages(struct made *made)
{
	struct peal__arm_page *arm;
	struct peal__segment *segment;

	if (make("arm", PEAL__ARM_BYTES, &made->fds[0], &made->arm) < 0 ||
	    make("segment", PEAL__SEGMENT_HEADER_BYTES + RING_BYTES,
	         &made->fds[1], &made->segment) < 0 ||
	    make("bell", PEAL__BELL_BYTES, &made->fds[2], &made->bell) < 0)
		return -ENOMEM;
	arm = made->arm.address;
	arm->magic = PEAL__ARM_MAGIC;
	arm->arm = ARMED;
	arm->lifeline = 1; /* held by somebody who never dies */
	segment = made->segment.address;
	segment->magic = PEAL__SEGMENT_MAGIC;
	segment->version = PEAL__LAYOUT_VERSION;
	return 0;
}

/* Accept one producer and welcome it. */
static int welcome(struct server *server, struct made *made)
{
	union peal__packet packet;
	struct pollfd readable = {.events = POLLIN};
	uint64_t nonce;
	int got;

	if (make_pages(made) < 0)
		return -ENOMEM;
	made->socket_fd = accept(server->listen_fd, NULL, NULL);
	readable.fd = made->socket_fd;
	if (poll(&readable, 1, 10000) != 1)
		return -ETIMEDOUT;
	got = peal__pass_receive(made->socket_fd, &packet, sizeof(packet), NULL,
	                         NULL);
	if (got < 0 ||
	    peal__wire_check(&packet, (size_t)got) != PEAL__WIRE_HELLO)
		return -EPROTO;
	nonce = packet.hello.nonce;
	packet.welcome = (struct peal__welcome){
		.generation = 1,
		.nonce = nonce,
		.flags = PEAL__WELCOME_TRUSTED,
		.page_bytes = PEAL__SEGMENT_HEADER_BYTES,
		.request_ring_bytes = RING_BYTES,
	};
	return peal__pass_send(made->socket_fd, &packet,
	                       peal__wire_seal(&packet, PEAL__WIRE_WELCOME),
	                       made->fds, 3);
}

static void *serve(void *argument)
{
	struct server *server = argument;

	for (uint32_t i = 0; i < 2; i++)
		if (welcome(server, &server->made[i]) < 0)
			return argument;
	return NULL;
}

static uint32_t seq_of(const struct made *made)
{
	const struct peal__bell_page *bell = made->bell.address;

	return __atomic_load_n(&bell->seq, __ATOMIC_ACQUIRE);
}

static void open_server(struct server *server)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*server = (struct server){.directory = "/tmp/peal-test-XXXXXX"};
	assert_non_null(mkdtemp(server->directory));
	snprintf(server->path, sizeof(server->path), "%s/server",
	         server->directory);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s",
	         server->path);
	server->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server->listen_fd, (struct sockaddr *)&address,
	                      sizeof(address)),
	                 0);
	assert_int_equal(listen(server->listen_fd, 4), 0);
}

static void close_made(struct made *made)
{
	peal_shm_unmap(&made->arm);
	peal_shm_unmap(&made->bell);
	peal_shm_unmap(&made->segment);
	for (int i = 0; i < 3; i++)
		close(made->fds[i]);
}

static void
bell_of_a_new_connection_is_rung_though_its_arming_is_an_old_one(void **state)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	struct server server;
	pthread_t thread;
	void *result;

	(void)state;
	open_server(&server);
	options.name = server.path;
	options.reconnect = 1;
	assert_int_equal(pthread_create(&thread, NULL, serve, &server), 0);
	assert_int_equal(peal_producer_attach(&options, PATIENCE_NS, &producer),
	                 0);
	assert_int_equal(peal_producer_send(producer, "a", 1, 0), 0);
	assert_int_equal(seq_of(&server.made[0]), 1);
	/* The same sleep is rung once. */
	assert_int_equal(peal_producer_send(producer, "b", 1, 0), 0);
	assert_int_equal(seq_of(&server.made[0]), 1);

	/* The first server dies; the kernel marks its lifeline. */
	((struct peal__arm_page *)server.made[0].arm.address)->lifeline =
		PEAL__LIFELINE_CUT | 1;
	close(server.made[0].socket_fd);
	assert_int_equal(peal_producer_send(producer, "c", 1, PATIENCE_NS),
	                 -ECONNRESET);
	assert_int_equal(peal_producer_send(producer, "d", 1, PATIENCE_NS), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	assert_int_equal(seq_of(&server.made[1]), 1);

	peal_producer_detach(producer);
	close(server.made[1].socket_fd);
	close_made(&server.made[0]);
	close_made(&server.made[1]);
	close(server.listen_fd);
	unlink(server.path);
	rmdir(server.directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			bell_of_a_new_connection_is_rung_though_its_arming_is_an_old_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
