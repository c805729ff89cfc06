/* SPDX-License-Identifier: MIT */
/*
 * shmctl and its observer, over a server that lies: in its WELCOME, in its
 * answers, and in every byte of the status region, which changes after every
 * read.
 *
 * Whatever that server shows: nothing outside of the region is read, and what
 * is printed is plain text or one JSON document a line.
 */
#include "tests/fuzz/hostile_server.h"

#include <poll.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "mpsc/layout.h"
#include "mpsc/observer_view.h"
#include "peal/shm.h"
#include "shmctl.h"

#define SLOT_MAX 8
#define NAME "words"
#define DEPTH_MAX 16
#define LINE_MAX_BYTES 2000

enum { GOOD, UNSEALED, SHORT, NO_MEMORY, REGION_COUNT };

static int fds[REGION_COUNT];
static struct peal_shm_mapping mapping; /* of the good one */
static bool is_silent;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int __wrap_poll(struct pollfd *polled, nfds_t count, int timeout_ms);
int __real_poll(struct pollfd *polled, nfds_t count, int timeout_ms);
int __real_peal__view_open(int fd, uint64_t status_bytes,
                           struct peal__view *ret_view);
int __wrap_peal__view_open(int fd, uint64_t status_bytes,
                           struct peal__view *ret_view);
int __wrap_peal_observer_each(int (*found)(const char *name, const char *path,
                                           void *arg),
                              void *arg);

/* what is looked at ------------------------------------------------------------- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_span span = {0, PEAL__ARM_BYTES, 1};
	int ends[2];

	(void)argc;
	(void)argv;
	options.name = "peal-status:" NAME;
	options.bytes = peal__status_bytes(SLOT_MAX);
	FUZZ_MUST(peal_shm_create(&options, &fds[GOOD], NULL) == 0 &&
	                  peal_shm_map(fds[GOOD], &span, 1, PEAL_SHM_MAP_WRITE,
	                               &mapping) == 0,
	          "no memory");
	fds[UNSEALED] = memfd_create("unsealed", MFD_ALLOW_SEALING);
	fds[SHORT] = memfd_create("short", MFD_ALLOW_SEALING);
	FUZZ_MUST(ftruncate(fds[UNSEALED], PEAL__ARM_BYTES) == 0 &&
	                  ftruncate(fds[SHORT], 100) == 0 && pipe(ends) == 0,
	          "no memory");
	fds[NO_MEMORY] = ends[0];
	return 0;
}

static void fill(void)
{
	struct peal__status_server *server = mapping.address;
	struct peal__status_slot *slots = (void *)(server + 1);
	uint64_t now_ns = peal__clock_ns();

	memset(mapping.address, 0, mapping.bytes);
	*server = (struct peal__status_server){
		.magic = PEAL__STATUS_MAGIC,
		.version = PEAL__LAYOUT_VERSION,
		.slot_max = SLOT_MAX,
		.slot_bytes = sizeof(*slots),
		.server_bytes = sizeof(*server),
		.state = PEAL__STATUS_OPEN,
		.opened_ns = now_ns - 5 * NS_PER_S,
		.name = NAME,
		.looked_ns = now_ns - NS_PER_S,
		.client_count = 2,
		.past_message_count = 1000,
	};
	for (uint32_t i = 1; i < SLOT_MAX; i += 2)
		slots[i] = (struct peal__status_slot){
			.state = PEAL__STATUS_SLOT_LIVE,
			.generation = i,
			.pid = 4711,
			.ring_bytes = 4096,
			.message_count = 20,
			.client_fill_bytes = 3000 + i,
		};
}

/* Words of it are something else, and a name need not be one. */
static void spoil(void)
{
	static const uint16_t words[] = {
		offsetof(struct peal__status_server, version),
		offsetof(struct peal__status_server, slot_max),
		offsetof(struct peal__status_server, slot_bytes),
		offsetof(struct peal__status_server, server_bytes),
		offsetof(struct peal__status_server, state),
		offsetof(struct peal__status_server, opened_ns),
		offsetof(struct peal__status_server, looked_ns),
	};
	struct peal__status_server *server = mapping.address;
	uint32_t changes = fuzz_choice(8);

	while (changes-- > 0) {
		uint32_t which = fuzz_choice(16);
		uint8_t *at = mapping.address;
		uint64_t value;

		if (which == 15) {
			fuzz_bytes(server->name, 1 + fuzz_byte() % 72);
			continue;
		}
		if (which < FUZZ_COUNT(words))
			at += words[which];
		else
			at += 8 *
			      (fuzz_byte() + (size_t)(which & 1) * 256 % 480);
		memcpy(&value, at, sizeof(value));
		value = fuzz_other(value, fuzz_byte);
		memcpy(at, &value,
		       which < 4 ? sizeof(uint32_t) : sizeof(value));
	}
}

int __wrap_peal__view_open(int fd, uint64_t status_bytes,
                           struct peal__view *ret_view)
{
	int error = __real_peal__view_open(fd, status_bytes, ret_view);

	if (error != 0)
		return error;
	FUZZ_MUST(peal__status_bytes(ret_view->slot_max) <= mapping.bytes,
	          "a region has more slots than room");
	fuzz_watch_nothing();
	fuzz_watch(ret_view->server, mapping.address, mapping.bytes, true);
	return 0;
}

/* what is answered ---------------------------------------------------------------- */

static void hostile_heard(const union peal__packet *packet, size_t bytes)
{
	union peal__packet answer = {.bytes = {0}};
	uint8_t how = fuzz_byte();
	size_t answer_bytes, fd_count = 0;
	int fd = fds[GOOD];

	(void)bytes;
	if (is_silent || how == 0xff)
		return;
	if (packet->head.type == PEAL__WIRE_HELLO) {
		answer.welcome.nonce = packet->hello.nonce;
		answer.welcome.status_bytes = peal__status_bytes(SLOT_MAX);
		answer_bytes = peal__wire_seal(&answer, PEAL__WIRE_WELCOME);
		fd_count = 1;
	} else {
		answer_bytes = peal__wire_seal(&answer, PEAL__WIRE_STATUS);
	}
	if (how >= 0xf0) {
		hostile_hang_up();
		return;
	}
	if (how >= 0xe0)
		answer_bytes = peal__wire_error(&answer, -(int)fuzz_byte(),
		                                "\033[2J \"because\" \\");
	if (how >= 0x80) {
		answer_bytes = hostile_spoil(&answer, answer_bytes);
		fd = fds[fuzz_choice(REGION_COUNT)];
		fd_count = fuzz_choice(3) == 2 ? 0 : fd_count;
	}
	hostile_say_last(&answer, answer_bytes, &fd, fd_count);
}

/* Nobody comes late: to wait would only take time. */
int __wrap_poll(struct pollfd *polled, nfds_t count, int timeout_ms)
{
	(void)timeout_ms;
	return __real_poll(polled, count, 0);
}

int __wrap_peal_observer_each(int (*found)(const char *name, const char *path,
                                           void *arg),
                              void *arg)
{
	int error = found(NAME, "/nowhere/" NAME, arg);

	return error < 0 ? error : found(NAME, "/elsewhere/" NAME, arg);
}

/* what is printed ------------------------------------------------------------------- */

static void check_text(const char *text, size_t bytes)
{
	size_t line_bytes = 0;

	for (size_t i = 0; i < bytes; i++) {
		line_bytes = text[i] == '\n' ? 0 : line_bytes + 1;
		FUZZ_MUST(text[i] == '\n' ||
		                  (text[i] >= 0x20 && text[i] < 0x7f),
		          "a terminal gets more than plain text");
		FUZZ_MUST(line_bytes < LINE_MAX_BYTES, "a line does not end");
	}
}

/* As much of JSON as shows that nobody can write it for us. */
static void check_json(const char *text, size_t bytes)
{
	char stack[DEPTH_MAX];
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < bytes; i++) {
		char byte = text[i];

		if (in_string) {
			FUZZ_MUST(byte >= 0x20 && byte < 0x7f,
			          "a string of JSON is not plain");
			i += byte == '\\';
			in_string = byte != '"';
		} else if (byte == '"') {
			in_string = true;
		} else if (byte == '{' || byte == '[') {
			FUZZ_MUST(depth < DEPTH_MAX, "JSON is too deep");
			stack[depth++] = byte == '{' ? '}' : ']';
		} else if (byte == '}' || byte == ']') {
			FUZZ_MUST(depth > 0 && stack[--depth] == byte,
			          "brackets of JSON do not match");
		} else if (byte == '\n') {
			FUZZ_MUST(depth == 0, "a line of JSON is cut");
		} else {
			FUZZ_MUST(strchr(",:-+.eE0123456789nulltruefalse",
			                 byte) != NULL,
			          "JSON has a strange byte");
		}
	}
	FUZZ_MUST(depth == 0 && !in_string, "JSON is cut");
}

/* Run it with both streams in memory. */
static void run_shmctl(const struct request *request)
{
	FILE *out = stdout, *err = stderr;
	char *texts[2] = {NULL, NULL};
	size_t bytes[2];
	int code;

	stdout = open_memstream(&texts[0], &bytes[0]);
	stderr = open_memstream(&texts[1], &bytes[1]);
	FUZZ_MUST(stdout != NULL && stderr != NULL, "no memory");
	code = request->name == NULL ? list_run(request) : stat_run(request);
	fclose(stdout);
	fclose(stderr);
	stdout = out;
	stderr = err;
	FUZZ_MUST(code == SHMCTL_FINE || code == SHMCTL_FAILED,
	          "shmctl ends with another code");
	FUZZ_MUST(code == SHMCTL_FINE || bytes[1] > 0,
	          "shmctl fails without a word");
	if (request->json)
		check_json(texts[0], bytes[0]);
	else
		check_text(texts[0], bytes[0]);
	check_text(texts[1], bytes[1]);
	free(texts[0]);
	free(texts[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct request request = {.look_count = 2};
	uint8_t how;

	fuzz_begin(data, bytes);
	fuzz_watch_nothing();
	how = fuzz_byte();
	request.json = how & 1;
	request.name = how & 2 ? NAME : NULL;
	request.interval_ns = how & 4 ? 1 : 0;
	/* Past it, through /proc: seldom, because that is slow. */
	is_silent = how >= 0xf8;
	fill();
	spoil();
	run_shmctl(&request);
	hostile_hang_up();
	return 0;
}
