/* SPDX-License-Identifier: MIT */
/*
 * A reactor, over a client whose segment changes after every read, trusted or
 * of another user.
 *
 * Whatever the hostile client does: what a handler is shown lies within its
 * ring, or is a copy for one of another user; each request ends once, each call
 * of the server's too; and the neighbour gets its own answers, all of them and
 * in order.
 */
#include "tests/fuzz/seats.h"

#include "mpsc/wire.h"
#include "peal/reactor.h"
#include "reactor/frame.h"
#include "reactor/reactor.h"

#define KEPT_MAX 6
#define IN_FLIGHT_MAX 8 /* of one; the neighbour's have room beside them */
#define HONEST_MAX 3
#define STEP_MAX 200
#define ROUND_MAX 40
#define STRANGER_UID 12345

static struct peal_reactor *reactor;
static struct peal_request *kept[KEPT_MAX];
static uint32_t kept_count;
static uint64_t asked, heard; /* the neighbour's */
static uint64_t call_count, called_count;
static int open_count;

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* the server's side --------------------------------------------------------- */

static void count_call(int error, const struct peal_message *answer, void *arg)
{
	(void)arg;
	called_count++;
	FUZZ_MUST(error <= 0 && (error == 0) == (answer != NULL),
	          "a call has neither an answer nor an error");
	if (error == 0)
		fuzz_look_at(answer->data, answer->data_bytes);
}

static void call_back(struct peal_peer peer)
{
	static const uint64_t times[] = {0, 1000, PEAL_FOREVER};

	if (peal_reactor_call(reactor, peer, "who?", 1 + fuzz_choice(4),
	                      times[fuzz_choice(FUZZ_COUNT(times))], count_call,
	                      NULL) == 0)
		call_count++;
}

/* One way or another; true when it is consumed. */
static bool answer(struct peal_request *request)
{
	static const char text[PEAL_RING_MIN_BYTES] = "text";
	size_t bytes = 20 * (size_t)fuzz_byte();
	void *place;

	switch (fuzz_choice(7)) {
	case 0:
		return peal_reply(request, text,
		                  bytes < sizeof(text) ? bytes : 0) == 0;
	case 1:
		return peal_reply_status(request, -3, text, bytes % 64) == 0;
	case 2:
		return peal_reply_error(request, -EPERM) == 0;
	case 3:
		if (peal_reply_claim(request, bytes, &place) < 0)
			return false;
		memset(place, 1, bytes);
		return peal_reply_publish(request, bytes / 2) == 0;
	case 4:
		/* Claimed and not used; the next reply gives it up. */
		if (peal_reply_claim(request, bytes, &place) == 0 && bytes > 0)
			memset(place, 2, bytes);
		return false;
	case 5:
		/* It never fits: the request stays open, if anybody wants it. */
		return peal_reply(request, text, sizeof(text)) == 0;
	default:
		peal_request_drop(request);
		return true;
	}
}

static void answer_kept(uint32_t which)
{
	struct peal_request *request;

	if (which >= kept_count)
		return;
	request = kept[which];
	kept[which] = kept[--kept_count];
	if (!answer(request) && !answer(request))
		peal_request_drop(request);
}

static void serve_hostile(struct peal_request *request)
{
	const struct peal__slot *slot = seats[SEAT_HOSTILE].slot;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);
	uintptr_t at = (uintptr_t)data - (uintptr_t)slot->segment;
	uint64_t sum = fuzz_look_at(data, bytes);

	FUZZ_MUST(bytes <= peal_ring_message_max(SEAT_RING_BYTES),
	          "a request is longer than its ring");
	if (slot->info.uid == STRANGER_UID) {
		FUZZ_MUST(bytes == 0 || at >= slot->mapping.bytes,
		          "a stranger can write under the handler");
		hostile_write_ring(PEAL__RING_REQUEST,
		                   &seats[SEAT_HOSTILE].requests);
		FUZZ_MUST(sum == fuzz_look_at(data, bytes),
		          "a stranger's request changes under the handler");
	} else {
		FUZZ_MUST(bytes == 0 || at + bytes <= slot->mapping.bytes,
		          "a request lies outside of its segment");
	}
	switch (fuzz_choice(6)) {
	case 0:
		call_back(peal_request_peer(request));
		break;
	case 1:
		peal_reactor_disconnect(reactor, peal_request_peer(request));
		break;
	case 2:
		if (kept_count < KEPT_MAX &&
		    peal_request_retain(request) == 0) {
			kept[kept_count++] = request;
			return;
		}
		break;
	default:
		break;
	}
	if (!answer(request) && !answer(request))
		peal_request_drop(request);
}

static void serve(struct peal_request *request, void *arg)
{
	struct peal_peer peer = peal_request_peer(request);
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	FUZZ_MUST(peer.slot_index < SEAT_COUNT, "a request is nobody's");
	if (peer.slot_index == SEAT_HOSTILE) {
		serve_hostile(request);
		return;
	}
	FUZZ_MUST(bytes == sizeof(uint64_t), "the neighbour never said that");
	peal_reply(request, data, bytes);
}

static void on_opened(struct peal_reactor *unused, struct peal_peer peer,
                      void *arg)
{
	(void)unused;
	(void)peer;
	(void)arg;
	open_count++;
}

static void on_closed(struct peal_reactor *unused, struct peal_peer peer,
                      int reason, void *arg)
{
	(void)unused;
	(void)peer;
	(void)arg;
	FUZZ_MUST(reason <= 0, "a client left for no reason");
	open_count--;
}

static void close_reactor(void)
{
	FUZZ_MUST(peal_reactor_close(reactor) == 0, "it does not close");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	char name[32];

	(void)argc;
	(void)argv;
	snprintf(name, sizeof(name), "fuzz-reactor-%d", getpid());
	options.name = name;
	options.on_request = serve;
	options.on_opened = on_opened;
	options.on_closed = on_closed;
	options.wait_mode = PEAL_WAIT_FD;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.client_max = SEAT_COUNT;
	options.turn_budget = 4;
	options.in_flight_per_client_max = IN_FLIGHT_MAX;
	options.in_flight_max = IN_FLIGHT_MAX + HONEST_MAX;
	options.queued_max_bytes = 8192;
	FUZZ_MUST(peal_reactor_open(&options, &reactor) == 0,
	          "no reactor to be had");
	/* No clock decides what a pass does: what broke once breaks again. */
	reactor->take_ticks = INT64_MAX;
	atexit(close_reactor);
	for (int i = 0; i < SEAT_COUNT; i++)
		seat_make(&seats[i], &reactor->consumer->slots[i], true);
	return 0;
}

/* the neighbour's ------------------------------------------------------------ */

static void honest_asks(void)
{
	struct seat *seat = &seats[SEAT_HONEST];
	void *data;

	if (asked - heard >= HONEST_MAX ||
	    peal_ring_claim(&seat->requests, sizeof(asked), PEAL__FRAME_REQUEST,
	                    1000 + asked, &data) < 0)
		return;
	memcpy(data, &asked, sizeof(asked));
	peal_ring_publish(&seat->requests);
	asked++;
}

static void honest_listens(void)
{
	struct seat *seat = &seats[SEAT_HONEST];
	struct peal__frame_parts parts;
	struct peal_message message;
	uint64_t number;

	while (peal_ring_peek(&seat->responses, &message) == 0) {
		struct peal_message whole = message;

		FUZZ_MUST(peal__frame_take(&message, &parts) == 0,
		          "the neighbour gets a frame that is none");
		if (parts.type != PEAL__FRAME_PUSH) {
			FUZZ_MUST(parts.type == PEAL__FRAME_ANSWER &&
			                  message.id == 1000 + heard &&
			                  message.data_bytes == sizeof(number),
			          "the neighbour gets another one's answer");
			memcpy(&number, message.data, sizeof(number));
			FUZZ_MUST(number == heard,
			          "the neighbour gets other bytes");
			heard++;
		}
		peal_ring_release(&seat->responses, &whole);
		peal_ring_settle(&seat->responses);
	}
}

/* steps ----------------------------------------------------------------------- */

static void hostile_asks(void)
{
	static const uint16_t kinds[] = {
		PEAL__FRAME_REQUEST,
		PEAL__FRAME_REQUEST,
		PEAL__FRAME_REQUEST | PEAL__FRAME_EXTENDED,
		PEAL__FRAME_ONE_WAY,
		PEAL__FRAME_ONE_WAY | PEAL__FRAME_EXTENDED,
	};
	struct seat *hostile = &seats[SEAT_HOSTILE];
	uint8_t which = fuzz_byte();
	uint32_t kind = which < 0xf0 ? kinds[which % FUZZ_COUNT(kinds)] : which;
	uint64_t id = (kind & PEAL__FRAME_TYPE_MASK) == PEAL__FRAME_ONE_WAY
	                      ? 0
	                      : 1 + (uint64_t)(fuzz_byte() & 0x1f);

	hostile_say(&hostile->requests, kind, id, 4 * (size_t)fuzz_byte());
}

static void hostile_uses_the_lane(void)
{
	struct seat *hostile = &seats[SEAT_HOSTILE];
	uint32_t kind = PEAL__FRAME_ANSWER + fuzz_choice(2);

	if (fuzz_choice(2) == 1)
		kind |= PEAL__FRAME_EXTENDED;
	/* Ids of calls count up from a number that it is told in the call. */
	hostile_say(&hostile->lane, kind,
	            reactor->call_id - fuzz_choice(4) +
	                    (uint64_t)(fuzz_choice(8) == 7),
	            fuzz_byte());
}

/* Reads, or says that it has read what it has not. */
static void hostile_releases(void)
{
	struct seat *hostile = &seats[SEAT_HOSTILE];
	uint64_t *word = &hostile->segment->response_released;
	struct peal_message message;

	if (fuzz_choice(4) == 0) {
		*word = fuzz_other(*word, fuzz_byte);
		return;
	}
	while (peal_ring_peek(&hostile->responses, &message) == 0)
		peal_ring_release(&hostile->responses, &message);
	peal_ring_settle(&hostile->responses);
}

static void hostile_cancels(void)
{
	uint64_t id = fuzz_byte() & 0x1f;

	seats[SEAT_HOSTILE].segment->cancelled[id] = id;
}

static void turn_the_server(void)
{
	uint64_t timeout_ns;

	switch (fuzz_choice(4)) {
	case 0:
		peal_reactor_prepare(reactor, &timeout_ns);
		peal_reactor_dispatch(reactor);
		break;
	case 1:
		FUZZ_MUST(peal_reactor_push(
				  reactor,
				  seats[fuzz_choice(SEAT_COUNT)].slot->peer,
				  "news", 4) <= 0,
		          "a push that is neither sent nor refused");
		break;
	case 2:
		call_back(seats[SEAT_HOSTILE].slot->peer);
		break;
	default:
		peal_reactor_push_all(reactor, "news", 4);
		break;
	}
}

static void step(void)
{
	struct seat *hostile = &seats[SEAT_HOSTILE];

	switch (fuzz_choice(13)) {
	case 0:
	case 1:
		hostile_asks();
		break;
	case 2:
		hostile_write_header();
		break;
	case 3:
		hostile_write_ring(PEAL__RING_REQUEST, &hostile->requests);
		break;
	case 4:
		hostile_uses_the_lane();
		break;
	case 5:
		hostile_write_ring(PEAL__RING_LANE, &hostile->lane);
		break;
	case 6:
		hostile_releases();
		break;
	case 7:
		hostile_cancels();
		break;
	case 8:
		honest_asks();
		honest_listens();
		break;
	case 9:
		answer_kept(fuzz_choice(KEPT_MAX));
		break;
	case 10:
		turn_the_server();
		break;
	default:
		hostile->requests.released = hostile->requests.tail =
			hostile->requests.first;
		if (fuzz_choice(16) == 0)
			seat_leave(reactor->consumer, hostile);
		peal_reactor_run_once(reactor, 0);
		break;
	}
	seats_check();
}

static void finish(void)
{
	struct peal_reactor_stats stats;

	for (int i = 0; i < ROUND_MAX && heard < asked; i++) {
		peal_reactor_run_once(reactor, 0);
		honest_listens();
	}
	FUZZ_MUST(heard == asked, "the neighbour waits for its answers");
	for (int i = 0; i < SEAT_COUNT; i++)
		seat_leave(reactor->consumer, &seats[i]);
	for (int i = 0; i < 3; i++) {
		peal_reactor_run_once(reactor, 0);
		seats_check();
		while (kept_count > 0)
			answer_kept(0);
		seats_check();
	}
	for (int i = 0; i < SEAT_COUNT; i++)
		seat_free(&seats[i]);
	FUZZ_MUST(peal_reactor_stats(reactor, &stats) == 0 &&
	                  stats.running_count == 0 && reactor->in_flight == 0,
	          "a request has not ended");
	FUZZ_MUST(reactor->queued_count == 0 && reactor->capped_count == 0 &&
	                  reactor->calling_count == 0 &&
	                  reactor->doomed_count == 0 &&
	                  reactor->orphan_count == 0 && open_count == 0 &&
	                  reactor->consumer->scan.count == 0,
	          "somebody who has gone is still counted");
	FUZZ_MUST(call_count == called_count,
	          "a call has not ended, or more than once");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint8_t how;
	uint64_t start;

	fuzz_begin(data, bytes);
	fuzz_watch_nothing();
	kept_count = 0;
	asked = heard = 0;
	how = fuzz_byte();
	start = 64 * (uint64_t)(how >> 2);
	seat_enter(reactor->consumer, &seats[SEAT_HOSTILE], start,
	           how & 1 ? STRANGER_UID : geteuid(),
	           how & 2 ? PEAL__HELLO_UNORDERED : 0);
	seat_enter(reactor->consumer, &seats[SEAT_HONEST], start, geteuid(), 0);
	for (int i = 0; i < STEP_MAX && !fuzz_is_over(); i++)
		step();
	finish();
	return 0;
}
