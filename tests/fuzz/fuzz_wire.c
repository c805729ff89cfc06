/* SPDX-License-Identifier: MIT */
/*
 * Packets: as they are checked, as the door hears them from anybody who
 * connects, and as a producer hears them from whoever answered its HELLO.
 *
 * Whatever is said at the door: it answers with packets of peal's, keeps no
 * descriptor, seat, slot or memory of those who have gone, and hears the next
 * one. A producer takes what fits together and refuses the rest.
 */
#include "tests/fuzz/hostile_server.h"

#include <fcntl.h>
#include <sys/un.h>

#include "mpsc/admission.h"
#include "mpsc/seat.h"
#include "mpsc/server.h"
#include "peal/shm.h"

#define CALLER_MAX 3
#define STEP_MAX 40
#define FD_MAX 48
#define RING_BYTES PEAL_RING_MIN_BYTES

/* One takes producers, one clients. */
static struct peal_consumer *servers[2];
static struct peal__owner owner;
static int callers[CALLER_MAX] = {-1, -1, -1};
static int arm_fd, segment_fd;
static struct peal_shm_mapping arm_mapping, segment_mapping;

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* as they are checked --------------------------------------------------------- */

static int check_packet(union peal__packet *packet, size_t bytes)
{
	int type = peal__wire_check(packet, bytes);

	if (type < 0) {
		FUZZ_MUST(type == -EPROTO || type == -EPROTONOSUPPORT,
		          "a packet is refused for no reason");
		return type;
	}
	FUZZ_MUST(type >= PEAL__WIRE_HELLO && type <= PEAL__WIRE_STATUS,
	          "a packet of no type is taken");
	FUZZ_MUST(packet->head.bytes == bytes, "a packet is not whole");
	if (type == PEAL__WIRE_ERROR) {
		FUZZ_MUST(memchr(packet->error.text, '\0',
		                 sizeof(packet->error.text)) != NULL,
		          "a sentence does not end");
		FUZZ_MUST(packet->error.text[0] != '\0',
		          "a sentence says nothing");
		FUZZ_MUST(packet->error.code < 0 && packet->error.code >= -4095,
		          "an error is none");
	}
	return type;
}

static void check_alone(void)
{
	union peal__packet packet;
	size_t bytes = sizeof(packet);

	/* Beyond what was received lies whatever was there before. */
	memset(&packet, 0xff, sizeof(packet));
	if (fuzz_choice(2) == 0) {
		bytes = peal__wire_seal(&packet,
		                        (enum peal__wire_type)fuzz_choice(8));
		bytes = hostile_spoil(&packet, bytes);
	}
	if (bytes == 0 || bytes == sizeof(packet))
		bytes = fuzz_bytes(&packet, sizeof(packet));
	check_packet(&packet, bytes);
}

/* at the door ------------------------------------------------------------------ */

static bool has_no_work(void *object)
{
	(void)object;
	return false;
}

static void settle_nothing(void *object)
{
	(void)object;
}

static void slot_opened(void *object, struct peal__slot *slot)
{
	(void)object;
	FUZZ_MUST(slot->segment != NULL, "a slot has no memory");
}

static void slot_closed(void *object, struct peal__slot *slot, int reason)
{
	(void)object;
	(void)slot;
	(void)reason;
}

static void call_at(const struct peal_consumer *server, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (*ret_fd >= 0)
		return;
	*ret_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
	                 0);
	strcpy(address.sun_path, server->admission->path);
	if (connect(*ret_fd, (struct sockaddr *)&address, sizeof(address)) !=
	    0) {
		close(*ret_fd);
		*ret_fd = -1;
	}
}

/* A packet, whole or not, with descriptors or without. */
static void say(int fd)
{
	union peal__packet packet = {.bytes = {0}};
	enum peal__wire_type type =
		(enum peal__wire_type)(1 + fuzz_choice(PEAL__WIRE_STATUS));
	int given[] = {0, fd, fd};
	uint8_t how = fuzz_byte();
	size_t bytes;

	packet.hello.abi = PEAL__WIRE_ABI;
	packet.hello.role = 1 + fuzz_choice(3);
	packet.hello.request_ring_bytes = how & 1 ? RING_BYTES : 0;
	packet.hello.response_ring_bytes = how & 2 ? RING_BYTES : 0;
	bytes = peal__wire_seal(&packet, type);
	if (how >= 0xc0)
		bytes = hostile_spoil(&packet, bytes);
	else if (how >= 0xb8)
		bytes = 1;
	__real_peal__pass_send(fd, &packet, bytes, given,
	                       how & 8 ? 0 : fuzz_choice(4));
}

/* All that was answered so far. */
static void listen_to(int fd)
{
	union peal__packet packet;
	int fds[PEAL__PASS_FD_MAX], got, type;
	size_t fd_count = PEAL__PASS_FD_MAX;

	while ((got = peal__pass_receive(fd, &packet, sizeof(packet), fds,
	                                 &fd_count)) > 0) {
		while (fd_count > 0)
			close(fds[--fd_count]);
		fd_count = PEAL__PASS_FD_MAX;
		if (got == 1)
			continue;
		type = check_packet(&packet, (size_t)got);
		FUZZ_MUST(type == PEAL__WIRE_WELCOME ||
		                  type == PEAL__WIRE_ERROR ||
		                  type == PEAL__WIRE_STATUS,
		          "the door says what it never says");
	}
}

static void turn(struct peal_consumer *server)
{
	struct peal_message message;

	peal_consumer_dispatch(server);
	FUZZ_MUST(peal_consumer_peek(server, &message) == -EAGAIN,
	          "a message that nobody sent");
}

static void step_at_door(struct peal_consumer *server)
{
	int *fd = &callers[fuzz_choice(CALLER_MAX)];

	switch (fuzz_choice(8)) {
	case 0:
		call_at(server, fd);
		break;
	case 1:
	case 2:
	case 3:
		call_at(server, fd);
		if (*fd >= 0)
			say(*fd);
		break;
	case 4:
		if (*fd >= 0)
			listen_to(*fd);
		break;
	case 5:
		if (*fd >= 0)
			shutdown(*fd, (int)fuzz_choice(3));
		break;
	case 6:
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		break;
	default:
		turn(server);
		break;
	}
}

static uint32_t count_fds(void)
{
	uint32_t count = 0;

	for (int fd = 0; fd < FD_MAX; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void stand_at_door(void)
{
	struct peal_consumer *server = servers[fuzz_choice(2)];
	const struct peal__admission *admission = server->admission;
	uint32_t fd_count = count_fds();

	for (int i = 0; i < STEP_MAX && !fuzz_is_over(); i++)
		step_at_door(server);
	turn(server);
	for (int i = 0; i < CALLER_MAX; i++) {
		if (callers[i] < 0)
			continue;
		listen_to(callers[i]);
		close(callers[i]);
		callers[i] = -1;
	}
	for (int i = 0; i < 4; i++)
		turn(server);
	FUZZ_MUST(admission->seat_count == 0 && admission->pending_count == 0 &&
	                  admission->client_count == 0,
	          "somebody who has gone has a seat");
	FUZZ_MUST(admission->segment_total_bytes == 0,
	          "somebody who has gone has memory");
	for (uint32_t i = 0; i < server->slot_max; i++)
		FUZZ_MUST(server->slots[i].state == PEAL__SLOT_FREE &&
		                  server->slots[i].segment == NULL,
		          "somebody who has gone has a slot");
	FUZZ_MUST(count_fds() == fd_count, "a descriptor is kept");
}

/* who answers a HELLO --------------------------------------------------------------- */

static void hostile_heard(const union peal__packet *packet, size_t bytes)
{
	union peal__packet answer = {.bytes = {0}};
	const int all[] = {arm_fd, segment_fd, arm_fd, segment_fd, 0};
	int given[3];
	size_t answer_bytes, fd_count = 2 + fuzz_choice(2);

	if (bytes < sizeof(packet->hello))
		return;
	answer.welcome = (struct peal__welcome){
		.nonce = packet->hello.nonce,
		.flags = fd_count == 3 ? PEAL__WELCOME_TRUSTED : 0,
		.page_bytes = PEAL__SEGMENT_HEADER_BYTES,
		.request_ring_bytes = RING_BYTES,
		.request_start = 64,
	};
	if (fuzz_choice(4) == 3)
		answer_bytes =
			peal__wire_error(&answer, -(int)fuzz_byte(), "because");
	else
		answer_bytes = peal__wire_seal(&answer, PEAL__WIRE_WELCOME);
	answer_bytes = hostile_spoil(&answer, answer_bytes);
	for (int i = 0; i < 3; i++)
		given[i] = all[i];
	if (fuzz_choice(4) == 3)
		given[fuzz_choice(3)] = all[fuzz_choice(FUZZ_COUNT(all))];
	if (fuzz_choice(8) == 7)
		fd_count = fuzz_choice(4);
	hostile_say_last(&answer, answer_bytes, given, fd_count);
}

static void be_welcomed(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_failure failure = {0, ""};
	struct peal_producer *producer = NULL;
	uint32_t fd_count = count_fds();
	int error;

	memset(segment_mapping.address, 0, segment_mapping.bytes);
	((struct peal__segment *)segment_mapping.address)->magic =
		PEAL__SEGMENT_MAGIC;
	((struct peal__segment *)segment_mapping.address)->version =
		PEAL__LAYOUT_VERSION;
	((struct peal__arm_page *)arm_mapping.address)->magic = PEAL__ARM_MAGIC;
	options.name = "nobody";
	options.ret_failure = &failure;
	error = peal_producer_attach(&options, PEAL_FOREVER, &producer);
	if (error == 0) {
		FUZZ_MUST(peal_producer_message_max(producer) <
		                  segment_mapping.bytes,
		          "a ring is larger than its memory");
		FUZZ_MUST(peal_producer_send(producer, "text", 4, 0) <= 0,
		          "a message is neither sent nor refused");
		peal_producer_detach(producer);
	} else {
		FUZZ_MUST(error < 0 && failure.code == error &&
		                  failure.text[0] != '\0',
		          "a server is refused without a word");
	}
	hostile_hang_up();
	FUZZ_MUST(count_fds() == fd_count, "a descriptor is kept");
}

/* ------------------------------------------------------------------------------------ */

static void close_servers(void)
{
	for (int i = 0; i < 2; i++)
		peal_consumer_close(servers[i]);
}

static int make_region(int *ret_fd, const char *name, uint64_t bytes,
                       struct peal_shm_mapping *mapping)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_span span = {0, bytes, 1};

	options.name = name;
	options.bytes = bytes;
	return peal_shm_create(&options, ret_fd, NULL) == 0 &&
	       peal_shm_map(*ret_fd, &span, 1, PEAL_SHM_MAP_WRITE, mapping) ==
	               0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	char name[32];

	(void)argc;
	(void)argv;
	owner = (struct peal__owner){
		.role = PEAL__ROLE_CLIENT,
		.has_work = has_no_work,
		.settle = settle_nothing,
		.opened = slot_opened,
		.closed = slot_closed,
		.stop_fd = -1,
	};
	options.name = name;
	options.wait_mode = PEAL_WAIT_FD;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.producer_max = options.producer_per_uid_max = 2;
	options.ring_default_bytes = RING_BYTES;
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "fuzz-wire-%d-%d", getpid(), i);
		FUZZ_MUST(peal__consumer_open(&options, i == 0 ? NULL : &owner,
		                              &servers[i]) == 0,
		          "no server to be had");
		/* All that is said here is nonsense; nobody waits for it. */
		servers[i]->admission->pace.rest_ns = 0;
	}
	atexit(close_servers);
	FUZZ_MUST(make_region(&arm_fd, "arm", PEAL__ARM_BYTES, &arm_mapping) &&
	                  make_region(&segment_fd, "segment",
	                              PEAL__SEGMENT_HEADER_BYTES + RING_BYTES,
	                              &segment_mapping),
	          "no memory");
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static void (*const parts[])(void) = {check_alone, stand_at_door,
	                                      be_welcomed};

	fuzz_begin(data, bytes);
	fuzz_watch_nothing();
	parts[fuzz_choice(FUZZ_COUNT(parts))]();
	return 0;
}
