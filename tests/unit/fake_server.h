/* SPDX-License-Identifier: MIT */
/*
 * A server that is none: a socket, a status region that the test fills in by
 * hand, and a thread that answers as it was told, or nobody who does.
 *
 *	fake_open(&fake)               the socket, a good region, nobody answers
 *	fake.region->state = ...       what the region says
 *	fake.answer.status_bytes = ... what WELCOME says
 *	fake_start(&fake)              from now on it is said
 *	fake_close(&fake)
 *
 * Callers: one test at a time. The thread never asserts; what it was told may
 *	be changed while it waits for a packet, by the atomic fields only.
 */
#ifndef PEAL_TESTS_UNIT_FAKE_SERVER_H
#define PEAL_TESTS_UNIT_FAKE_SERVER_H

#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "mpsc/layout.h"
#include "mpsc/wire.h"
#include "peal/observer.h"
#include "peal/shm.h"
#include "shm/pass.h"

#define FAKE_NAME "words"
#define FAKE_SLOT_MAX 4

/* The value that errno must still have after each call. */
#define FAKE_ERRNO 4321

/* Long enough for a loaded machine, and short enough to be waited for. */
#define FAKE_PATIENCE_NS (10 * PEAL__NS_PER_S)
#define FAKE_SHORT_NS (50 * PEAL__NS_PER_MS)

struct fake {
	char directory[64];
	char path[100];
	int listen_fd;
	int region_fd;
	struct peal_shm_mapping mapping;
	struct peal__status_server *region;
	struct peal__status_slot *slots;

	/* what it says to HELLO, and what comes with it */
	enum peal__wire_type type;
	struct peal__welcome answer;
	uint64_t nonce_error;
	int fds[PEAL__PASS_FD_MAX];
	size_t fd_count;

	/* to STATUS: shared with the thread, relaxed: the packets order them */
	uint32_t is_mute;
	uint32_t asked_count;
	uint32_t hello_count;

	bool has_thread;
	pthread_t thread;
	int stop_fd;
};

static inline void fake_fill(struct fake *fake)
{
	uint64_t now_ns = peal__clock_ns();

	*fake->region = (struct peal__status_server){
		.magic = PEAL__STATUS_MAGIC,
		.version = PEAL__LAYOUT_VERSION,
		.slot_max = FAKE_SLOT_MAX,
		.slot_bytes = sizeof(struct peal__status_slot),
		.minor = PEAL__STATUS_MINOR,
		.role = PEAL__ROLE_PRODUCER,
		.server_bytes = sizeof(struct peal__status_server),
		.pid = getpid(),
		.uid = geteuid(),
		.state = PEAL__STATUS_OPEN,
		.opened_ns = now_ns - 5 * PEAL__NS_PER_S,
		.name = FAKE_NAME,
		.looked_ns = now_ns - PEAL__NS_PER_S,
		.attached_count = 9,
		.detached_count = 3,
		.died_count = 2,
		.evicted_count = 1,
		.refused_count = 7,
		.client_count = 3,
		.past_message_count = 1000,
		.past_payload_bytes = 50000,
		.dropped_bytes = 17,
		.sleep_count = 23,
	};
	fake->slots[1] = (struct peal__status_slot){
		.state = PEAL__STATUS_SLOT_LIVE,
		.generation = 77,
		.pid = 4711,
		.uid = 1001,
		.gid = 1002,
		.ring_bytes = 4096,
		.attached_ns = now_ns - 4 * PEAL__NS_PER_S,
		.message_count = 20,
		.payload_bytes = 600,
		.active_ns = now_ns - 2 * PEAL__NS_PER_S,
		.client_fill_bytes = 3000,
		.client_full_count = 5,
		.client_blocked_ns = 12345,
	};
	fake->slots[3] = (struct peal__status_slot){
		.state = PEAL__STATUS_SLOT_DRAINING,
		.generation = 78,
		.message_count = 3,
		.payload_bytes = 30,
	};
}

/* A region of this name and size, filled in; its descriptor. */
static inline int fake_region(struct fake *fake, const char *region_name,
                              uint64_t bytes)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_span span = {0, 0, 1};
	const uint64_t page_bytes = peal_shm_page_bytes(0);
	int fd = -1;

	options.name = region_name;
	options.bytes = bytes;
	span.bytes = (bytes + page_bytes - 1) / page_bytes * page_bytes;
	if (peal_shm_create(&options, &fd, NULL) != 0 ||
	    peal_shm_map(fd, &span, 1, PEAL_SHM_MAP_WRITE, &fake->mapping) != 0)
		return -1;
	fake->region = fake->mapping.address;
	fake->slots = (struct peal__status_slot *)(fake->region + 1);
	fake_fill(fake);
	return fd;
}

/* 0, or the line that failed: a forked child calls it as well. */
static inline int fake_try_open(struct fake *fake)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memset(fake, 0, sizeof(*fake));
	strcpy(fake->directory, "/tmp/peal-fake.XXXXXX");
	if (mkdtemp(fake->directory) == NULL)
		return __LINE__;
	snprintf(fake->path, sizeof(fake->path), "%s/" FAKE_NAME,
	         fake->directory);
	strcpy(address.sun_path, fake->path);
	fake->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (bind(fake->listen_fd, (struct sockaddr *)&address,
	         sizeof(address)) != 0 ||
	    listen(fake->listen_fd, 8) != 0)
		return __LINE__;
	fake->region_fd = fake_region(fake, "peal-status:" FAKE_NAME,
	                              peal__status_bytes(FAKE_SLOT_MAX));
	fake->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (fake->region_fd < 0 || fake->stop_fd < 0)
		return __LINE__;
	fake->type = PEAL__WIRE_WELCOME;
	fake->answer.status_bytes = peal__status_bytes(FAKE_SLOT_MAX);
	fake->fds[0] = fake->region_fd;
	fake->fd_count = 1;
	return 0;
}

static inline void fake_open(struct fake *fake)
{
	assert_int_equal(fake_try_open(fake), 0);
}

/* HELLO or STATUS was received: say what was told. */
static inline void fake_answer(struct fake *fake, int fd,
                               union peal__packet *packet, int type)
{
	size_t bytes;

	if (type == PEAL__WIRE_STATUS) {
		__atomic_add_fetch(&fake->asked_count, 1, __ATOMIC_RELAXED);
		if (__atomic_load_n(&fake->is_mute, __ATOMIC_RELAXED))
			return;
		bytes = peal__wire_seal(packet, PEAL__WIRE_STATUS);
		peal__pass_send(fd, packet, bytes, NULL, 0);
		return;
	}
	fake->answer.nonce = packet->hello.nonce + fake->nonce_error;
	__atomic_add_fetch(&fake->hello_count, 1, __ATOMIC_RELAXED);
	if (fake->type == PEAL__WIRE_ERROR) {
		bytes = peal__wire_error(packet, -ESHUTDOWN, "no seat is free");
	} else {
		memset(packet, 0, sizeof(*packet));
		packet->welcome = fake->answer;
		bytes = peal__wire_seal(packet, fake->type);
	}
	peal__pass_send(fd, packet, bytes, fake->fds, fake->fd_count);
}

static inline void *fake_main(void *argument)
{
	struct fake *fake = argument;
	struct pollfd polled[8] = {
		{.fd = fake->stop_fd, .events = POLLIN},
		{.fd = fake->listen_fd, .events = POLLIN},
	};
	size_t count = 2;

	while (poll(polled, count, -1) >= 0 && polled[0].revents == 0) {
		if (polled[1].revents != 0 && count < CHECK_COUNT(polled)) {
			polled[count].fd = accept4(fake->listen_fd, NULL, NULL,
			                           SOCK_CLOEXEC);
			polled[count].revents = 0;
			polled[count++].events = POLLIN;
		}
		for (size_t i = 2; i < count; i++) {
			union peal__packet packet;
			int got;

			if (polled[i].revents == 0)
				continue;
			got = peal__pass_receive(polled[i].fd, &packet,
			                         sizeof(packet), NULL, NULL);
			if (got > 0) {
				fake_answer(fake, polled[i].fd, &packet,
				            peal__wire_check(&packet,
				                             (size_t)got));
			} else if (got != -EAGAIN) {
				close(polled[i].fd);
				polled[i].fd = -1; /* poll() passes it over */
				polled[i].revents = 0;
			}
		}
	}
	for (size_t i = 2; i < count; i++)
		if (polled[i].fd >= 0)
			close(polled[i].fd);
	return NULL;
}

static inline void fake_start(struct fake *fake)
{
	assert_int_equal(pthread_create(&fake->thread, NULL, fake_main, fake),
	                 0);
	fake->has_thread = true;
}

/* It hangs up on everybody, and answers no longer. */
static inline void fake_stop(struct fake *fake)
{
	uint64_t one = 1;

	if (!fake->has_thread)
		return;
	assert_int_equal(write(fake->stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(fake->thread, NULL), 0);
	/* It may start again. */
	assert_int_equal(read(fake->stop_fd, &one, sizeof(one)), sizeof(one));
	fake->has_thread = false;
}

static inline void fake_close(struct fake *fake)
{
	fake_stop(fake);
	close(fake->stop_fd);
	close(fake->listen_fd);
	close(fake->region_fd);
	peal_shm_unmap(&fake->mapping);
	unlink(fake->path);
	rmdir(fake->directory);
}

/* Open it for looking; the caller closes. */
static inline struct peal_observer *fake_look(const struct fake *fake,
                                              uint64_t timeout_ns)
{
	struct peal_failure failure = {0, ""};
	struct peal_observer *observer = NULL;
	int error =
		peal_observer_open(fake->path, timeout_ns, &failure, &observer);

	if (error != 0)
		print_message("open: %s\n", failure.text);
	assert_int_equal(error, 0);
	assert_non_null(observer);
	return observer;
}

static inline uint32_t fake_state(struct peal_observer *observer)
{
	struct peal_server_info info;

	assert_int_equal(peal_observer_server(observer, &info), 0);
	return info.state;
}

/* A test ends with the descriptors that it began with. */
static int fake_fds_before;

static inline int fake_count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static inline int fake_remember_fds(void **state)
{
	(void)state;
	fake_fds_before = fake_count_fds();
	return 0;
}

static inline int fake_compare_fds(void **state)
{
	(void)state;
	return fake_count_fds() == fake_fds_before ? 0 : -1;
}

#define FAKE_TEST(name)                                          \
	cmocka_unit_test_setup_teardown(name, fake_remember_fds, \
	                                fake_compare_fds)

#endif
