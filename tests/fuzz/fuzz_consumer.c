/* SPDX-License-Identifier: MIT */
/*
 * A consumer, over a segment whose bytes change after every read.
 *
 * Whatever the hostile producer does: what the consumer is shown of it lies
 * within its ring, its neighbour's messages arrive each once, in order and
 * whole, and both slots come back.
 */
#include "tests/fuzz/seats.h"

#include "mpsc/admission.h"
#include "mpsc/seat.h"

#define HELD_MAX 8
#define STEP_MAX 200
/* More than two rings can hold: a loop that comes so far has no end. */
#define MESSAGE_MAX (4 * SEAT_RING_BYTES / 16)

static struct peal_consumer *consumer;
static struct peal_message held[HELD_MAX];
static uint32_t held_count;
static uint64_t said, heard; /* by the honest one, and of it */

int LLVMFuzzerInitialize(int *argc, char ***argv);

static void close_consumer(void)
{
	peal_consumer_close(consumer);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	char name[32];

	(void)argc;
	(void)argv;
	snprintf(name, sizeof(name), "fuzz-consumer-%d", getpid());
	options.name = name;
	options.wait_mode = PEAL_WAIT_FD;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.producer_max = SEAT_COUNT;
	options.turn_budget = 4;
	FUZZ_MUST(peal_consumer_open(&options, &consumer) == 0,
	          "no consumer to be had");
	atexit(close_consumer);
	for (int i = 0; i < SEAT_COUNT; i++)
		seat_make(&seats[i], &consumer->slots[i], false);
	return 0;
}

static void honest_says_something(void)
{
	struct seat *seat = &seats[SEAT_HONEST];
	size_t bytes = 8 + fuzz_byte();
	uint8_t *data;

	if (seat->has_left || peal_ring_claim(&seat->requests, bytes, 7, said,
	                                      (void **)&data) < 0)
		return;
	memset(data, (int)(said & 0xff), bytes);
	memcpy(data, &said, sizeof(said));
	peal_ring_publish(&seat->requests);
	said++;
}

static void check_honest(const struct peal_message *message)
{
	const uint8_t *data = message->data;
	uint64_t number;

	FUZZ_MUST(message->id == heard && message->kind == 7 &&
	                  message->data_bytes >= sizeof(number),
	          "the neighbour's message is another one's");
	memcpy(&number, data, sizeof(number));
	FUZZ_MUST(number == heard, "the neighbour's messages are out of order");
	for (size_t i = sizeof(number); i < message->data_bytes; i++)
		FUZZ_MUST(data[i] == (heard & 0xff),
		          "the neighbour's message is not whole");
	heard++;
}

static void check_hostile(const struct peal_message *message)
{
	const struct peal__slot *slot = seats[SEAT_HOSTILE].slot;
	uintptr_t at = (uintptr_t)message->data - (uintptr_t)slot->rx.data;

	FUZZ_MUST(at >= PEAL_RING_HEADER_BYTES &&
	                  at < SEAT_RING_BYTES + PEAL_RING_HEADER_BYTES,
	          "a message begins outside of its ring");
	FUZZ_MUST(message->data_bytes <= peal_ring_message_max(SEAT_RING_BYTES),
	          "a message is longer than its ring");
	FUZZ_MUST(slot->rx.head - slot->rx.told + PEAL_RING_SPARE_BYTES <=
	                  SEAT_RING_BYTES,
	          "more is shown than the ring can hold");
	fuzz_look_at(message->data, message->data_bytes);
}

/* False when there is nothing. */
static bool look(bool keep)
{
	struct peal_message message;

	if (peal_consumer_peek(consumer, &message) != 0)
		return false;
	FUZZ_MUST(message.peer.slot_index < SEAT_COUNT &&
	                  message.peer.generation ==
	                          consumer->slots[message.peer.slot_index]
	                                  .peer.generation,
	          "a message is nobody's");
	if (message.peer.slot_index == SEAT_HONEST)
		check_honest(&message);
	else
		check_hostile(&message);
	if (keep && held_count < HELD_MAX)
		held[held_count++] = message;
	else
		peal_consumer_release(consumer, &message);
	return true;
}

static void give_back(uint32_t which)
{
	if (which >= held_count)
		return;
	peal_consumer_release(consumer, &held[which]);
	held[which] = held[--held_count];
}

/* An observer asks for the words of all clients, which admission copies. */
static void copy_words(void)
{
	struct peal__seat *asking = &consumer->admission->seats[SEAT_COUNT];
	struct peal__seat *seat = &consumer->admission->seats[0];

	if (seats[SEAT_HOSTILE].slot->state == PEAL__SLOT_DONE)
		return;
	seat->slot = seats[SEAT_HOSTILE].slot;
	asking->socket.fd = -1;
	peal__grant_refresh(consumer->admission, asking);
	seat->slot = NULL;
}

static void step(void)
{
	struct seat *hostile = &seats[SEAT_HOSTILE];

	switch (fuzz_choice(12)) {
	case 0:
		hostile_say(&hostile->requests, fuzz_byte(), fuzz_byte(),
		            16 * (size_t)fuzz_byte());
		break;
	case 1:
		hostile_write_header();
		break;
	case 2:
		hostile_write_ring(PEAL__RING_REQUEST, &hostile->requests);
		break;
	case 3:
	case 4:
		look(false);
		break;
	case 5:
		look(true);
		break;
	case 6:
		give_back(fuzz_choice(HELD_MAX));
		break;
	case 7:
		honest_says_something();
		break;
	case 8:
		peal_consumer_wait(consumer, 0);
		break;
	case 9:
		if (peal_consumer_prepare(consumer) == 0)
			peal_consumer_dispatch(consumer);
		break;
	case 10:
		copy_words();
		peal_consumer_has_data(consumer);
		break;
	default:
		/* It is not told who read what: its own view of the ring. */
		hostile->requests.released = hostile->requests.tail =
			hostile->requests.first;
		if (fuzz_choice(8) == 0)
			seat_leave(consumer, hostile);
		break;
	}
	seats_check();
}

/* Everybody leaves; what is there to come, comes. */
static void finish(void)
{
	uint32_t count = 0;

	for (int i = 0; i < SEAT_COUNT; i++)
		seat_leave(consumer, &seats[i]);
	for (int round = 0; round < 3; round++) {
		peal_consumer_wait(consumer, 0);
		seats_check();
		while (look(false))
			FUZZ_MUST(++count < MESSAGE_MAX,
			          "a dead producer is heard for ever");
		while (held_count > 0)
			give_back(0);
		seats_check();
	}
	FUZZ_MUST(heard == said, "messages of the neighbour are missing");
	for (int i = 0; i < SEAT_COUNT; i++)
		seat_free(&seats[i]);
	FUZZ_MUST(consumer->scan.count == 0 && consumer->unsettled_count == 0,
	          "somebody is left in the scan");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	uint64_t start;

	fuzz_begin(data, bytes);
	fuzz_watch_nothing();
	held_count = 0;
	said = heard = 0;
	start = 64 * fuzz_choice(SEAT_RING_BYTES / 64);
	for (int i = 0; i < SEAT_COUNT; i++)
		seat_enter(consumer, &seats[i], start, geteuid(), 0);
	for (int i = 0; i < STEP_MAX && !fuzz_is_over(); i++)
		step();
	finish();
	return 0;
}
