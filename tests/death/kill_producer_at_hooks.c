/* SPDX-License-Identifier: MIT */
/*
 * A producer killed at every place of the library that has a name, and in
 * every state of the ring between two of them that can be made by hand.
 *
 *	consumer   never spins and has no net: a lost wake stays lost
 *	other      sends one message when it is asked to
 *	victim     dies; everything it published arrives, the other one can
 *	           still wake the consumer, and the slot is free again
 *
 *	./test_kill_producer_at_hooks [--full]   up to 3 passings, or 50
 */
#include "tests/death/places.h"

#include "mpsc/attach.h"
#include "mpsc/server.h"
#include "peal/doorbell.h"

#define NAME "words"
#define OTHER_SENDER 0
#define SLOT_MAX 8
#define WATCH_NS (10 * SCENE_S)

struct board {
	uint64_t is_open, is_attached, stop;
	uint64_t life; /* of victims; their sender number */
	uint64_t attempted, published, received;
	uint64_t asked, pings; /* of the other */
	uint64_t alone;        /* pings after which only the other was left */
	char fault[200];
	struct plan plan;
};

static struct board *board;
static uint64_t passing_max = 3;
static uint32_t wait_mode; /* of everybody in this part */

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* the consumer's process ------------------------------------------------- */

static int take(const struct peal_message *message)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp))
		return fault("a torn message");
	if (stamp.sender == OTHER_SENDER) {
		scene_add(&board->pings, 1);
		return 0;
	}
	if (stamp.sender != board->life ||
	    stamp.sequence != board->received + 1)
		return fault("life %u: message %llu follows %llu", stamp.sender,
		             (unsigned long long)stamp.sequence,
		             (unsigned long long)board->received);
	scene_put(&board->received, stamp.sequence);
	/* So slow that its ring is full now and then. */
	if (stamp.sequence > 10)
		scene_sleep_ns(20 * SCENE_US);
	return 0;
}

static int drain(struct peal_consumer *consumer)
{
	struct peal_message message;

	while (peal_consumer_peek(consumer, &message) == 0) {
		if (take(&message) != 0)
			return -1;
		peal_consumer_release(consumer, &message);
	}
	return 0;
}

static bool is_alone(struct peal_consumer *consumer)
{
	uint32_t free_count = 0;

	for (uint32_t i = 0; i < SLOT_MAX; i++)
		free_count += scene_get(&consumer->slots[i].state) ==
		              PEAL__SLOT_FREE;
	return free_count == SLOT_MAX - 1;
}

static int consume_all(struct peal_consumer *consumer)
{
	uint64_t pings = 0;

	while (scene_get(&board->stop) == 0) {
		/* No limit: who does not wake us leaves us asleep. */
		if (peal_consumer_wait(consumer, PEAL_FOREVER) < 0)
			return fault("wait");
		if (drain(consumer) < 0)
			return 1;
		if (pings == board->pings)
			continue;
		pings = board->pings;
		for (int i = 0; i < 1000 && !is_alone(consumer); i++)
			if (peal_consumer_wait(consumer, 2 * SCENE_MS) == 0 &&
			    drain(consumer) < 0)
				return 1;
		if (!is_alone(consumer))
			return fault("a slot was not freed");
		scene_put(&board->alone, pings);
	}
	return 0;
}

static int consume(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;

	(void)arg;
	options.name = NAME;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.producer_max = SLOT_MAX;
	if (peal_consumer_open(&options, &consumer) < 0)
		return fault("open");
	scene_put(&board->is_open, 1);
	if (consume_all(consumer) != 0)
		return 1;
	return peal_consumer_close(consumer);
}

/* producers' processes --------------------------------------------------- */

static struct peal_producer *attach(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;

	options.name = NAME;
	options.ring_bytes = 4096;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	if (peal_producer_attach(&options, WATCH_NS, &producer) == 0)
		return producer;
	fault("attach");
	return NULL;
}

static int ping_when_asked(void *arg)
{
	uint8_t data[sizeof(struct scene_stamp)];
	struct peal_producer *producer = attach();

	(void)arg;
	if (producer == NULL)
		return 1;
	scene_put(&board->is_attached, 1);
	for (uint64_t i = 1; scene_reach(&board->asked, i, 1000 * SCENE_S);
	     i++) {
		scene_stamp_write(data, sizeof(data), OTHER_SENDER, i);
		if (peal_producer_send(producer, data, sizeof(data), 0) < 0)
			return fault("ping");
	}
	return 1;
}

static int send_some(struct peal_producer *producer, uint64_t count,
                     size_t bytes)
{
	uint64_t first = board->published + 1;
	void *data;

	for (uint64_t i = 0; i < count; i++) {
		if (peal_producer_claim(producer, bytes,
		                        i == 0 ? PEAL_FOREVER : 0, &data) < 0)
			return fault("claim");
		scene_stamp_write(data, bytes, (uint32_t)board->life,
		                  first + i);
	}
	scene_put(&board->attempted, first + count - 1);
	if (peal_producer_publish(producer) < 0)
		return fault("publish");
	scene_put(&board->published, first + count - 1);
	return 0;
}

/* Everything a producer does, at a sleeping and at a slow consumer. */
static int live(void *arg)
{
	struct peal_producer *producer;

	(void)arg;
	places_watch(&board->plan);
	producer = attach();
	if (producer == NULL)
		return 1;
	for (uint64_t i = 0; i < 3; i++) {
		scene_sleep_ns(SCENE_MS);
		if (send_some(producer, 1 + i, 40) != 0)
			return 1;
	}
	for (int i = 0; i < 60; i++)
		if (send_some(producer, 1, 400) != 0)
			return 1;
	scene_sleep_ns(SCENE_MS);
	if (send_some(producer, 1, 40) != 0)
		return 1;
	return peal_producer_detach(producer);
}

/* Where publishing may be cut off; the consumer sees what follows SEEN. */
enum {
	PAYLOAD_HALF_WRITTEN,
	NEXT_WORD_ZEROED,
	BATCH_BUT_FIRST_COMMITTED,
	SEEN,
	COMMITTED = SEEN,
	BUMPED,
	CUT_COUNT,
};

/* Publish two frames by hand, as far as @cut, and die. */
static int publish_by_hand(void *arg)
{
	uintptr_t cut = (uintptr_t)arg;
	struct peal__connection connection;
	struct peal_ring_tx tx;
	struct peal_frame *frames[3];
	void *data[2];

	if (peal__attach(&(struct peal__wish){NAME, PEAL__ROLE_PRODUCER, 4096,
	                                      0, 0},
	                 scene_now_ns() + SCENE_S, NULL, &connection) < 0)
		return fault("attach by hand");
	scene_sleep_ns(2 * SCENE_MS); /* it sleeps by now */
	peal_ring_tx_init(
		&tx,
		peal__segment_data(connection.segment, &connection.shape,
	                           PEAL__RING_REQUEST),
		4096, connection.shape.rings[PEAL__RING_REQUEST].start,
		&connection.segment->request_released);
	for (uint64_t i = 0; i < 2; i++) {
		if (peal_ring_claim(&tx, 40, 0, 0, &data[i]) < 0)
			return fault("claim by hand");
		scene_stamp_write(data[i], cut == 0 ? 24 : 40,
		                  (uint32_t)board->life, i + 1);
		frames[i] = (struct peal_frame *)data[i] - 1;
	}
	frames[2] = frames[1] + (frames[1] - frames[0]);
	/* What may lie there from the last time round. */
	frames[2]->commit = cut == PAYLOAD_HALF_WRITTEN ? 77 : 0;
	if (cut >= BATCH_BUT_FIRST_COMMITTED)
		__atomic_store_n(&frames[1]->commit, 56, __ATOMIC_RELAXED);
	scene_put(&board->published, cut >= SEEN ? 2 : 0);
	scene_put(&board->attempted, board->published);
	if (cut >= COMMITTED)
		__atomic_store_n(&frames[0]->commit, 56, __ATOMIC_SEQ_CST);
	if (cut >= BUMPED)
		__atomic_fetch_add(&connection.bell_page->seq, 1,
		                   __ATOMIC_RELEASE);
	kill(getpid(), SIGKILL);
	return 1;
}

/* the parent ------------------------------------------------------------- */

static void start_stage(uint32_t mode)
{
	memset(board, 0, sizeof(*board));
	wait_mode = mode;
	assert_true(scene_start(consume, NULL) > 0);
	assert_true(scene_reach(&board->is_open, 1, WATCH_NS));
	assert_true(scene_start(ping_when_asked, NULL) > 0);
	assert_true(scene_reach(&board->is_attached, 1, WATCH_NS));
}

static void end_stage(void)
{
	scene_kill_all();
	assert_string_equal(board->fault, "");
	scene_leave();
	assert_int_equal(scene_enter(), 0);
}

/* A life and, if it comes to that, its death: did all go on as it must? */
static int run_life(int (*run)(void *arg), void *arg, const char *what)
{
	int status;

	board->attempted = board->published = board->received = 0;
	scene_add(&board->life, 1);
	status = scene_wait(scene_start(run, arg), WATCH_NS);
	if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
		fault("the victim ended with %d", status);
	/* Whoever watches for deaths rings for the dead. */
	if (!scene_reach(&board->received, board->published, WATCH_NS))
		fault("%llu of %llu messages arrived",
		      (unsigned long long)board->received,
		      (unsigned long long)board->published);
	scene_add(&board->asked, 1);
	if (!scene_reach(&board->pings, board->asked, WATCH_NS))
		fault("nobody can wake the consumer any more");
	else if (!scene_reach(&board->alone, board->asked, WATCH_NS))
		fault("the slot was not freed");
	if (board->received != board->published &&
	    board->received != board->attempted)
		fault("%llu messages arrived, %llu were published, %llu "
		      "perhaps",
		      (unsigned long long)board->received,
		      (unsigned long long)board->published,
		      (unsigned long long)board->attempted);
	if (board->fault[0] != '\0')
		fail_msg("%s: %s", what, board->fault);
	return status;
}

static void kill_at_every_place(uint32_t mode)
{
	static struct plan dry;
	char what[100];
	int kill_count = 0;

	start_stage(mode);
	places_plan(&board->plan, NULL, 0);
	assert_int_equal(run_life(live, NULL, "a dry run"), 0);
	dry = board->plan;
	for (uint32_t i = 0; i < dry.place_count; i++) {
		uint64_t last = dry.places[i].passings;

		print_message("  %-28s passed %llu times\n", dry.places[i].name,
		              (unsigned long long)last);
		if (last > passing_max)
			last = passing_max;
		for (uint64_t passing = 1; passing <= last; passing++) {
			snprintf(what, sizeof(what), "killed at '%s', %llu",
			         dry.places[i].name,
			         (unsigned long long)passing);
			places_plan(&board->plan, dry.places[i].name, passing);
			kill_count += run_life(live, NULL, what) != 0;
		}
	}
	print_message("kill_producer_at_hooks: %u places, %d kills; nothing "
	              "published was lost, no wake, no slot\n",
	              dry.place_count, kill_count);
	/* Ringing by a byte has one step less. */
	assert_true(dry.place_count >= (mode == PEAL_WAIT_FUTEX ? 11 : 10));
	assert_true(kill_count >= (int)dry.place_count);
	end_stage();
}

static void killed_at_every_place_of_futex_mode(void **state)
{
	(void)state;
	kill_at_every_place(PEAL_WAIT_FUTEX);
}

static void killed_at_every_place_of_fd_mode(void **state)
{
	(void)state;
	kill_at_every_place(PEAL_WAIT_FD);
}

static void killed_between_any_two_stores_of_publish(void **state)
{
	static const uint32_t modes[] = {PEAL_WAIT_FUTEX, PEAL_WAIT_FD};
	char what[100];

	(void)state;
	for (size_t mode = 0; mode < CHECK_COUNT(modes); mode++) {
		start_stage(modes[mode]);
		for (uintptr_t cut = 0; cut < CUT_COUNT; cut++) {
			snprintf(what, sizeof(what), "cut %u",
			         (unsigned int)cut);
			assert_int_equal(run_life(publish_by_hand, (void *)cut,
			                          what),
			                 CHECK_KILLED_BY + SIGKILL);
			assert_int_equal(board->received, cut >= SEEN ? 2 : 0);
		}
		end_stage();
	}
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

#define TEST(name) cmocka_unit_test_teardown(name, scene_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(killed_at_every_place_of_futex_mode),
		TEST(killed_at_every_place_of_fd_mode),
		TEST(killed_between_any_two_stores_of_publish),
	};

	if (scene_is_full(argc, argv))
		passing_max = 50;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
