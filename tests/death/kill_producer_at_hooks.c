/* SPDX-License-Identifier: MIT */
/*
 * A producer killed at every place of the library that has a name, and in
 * every state of the ring between two of them that can be made by hand.
 *
 * tests/death/words.h says what is asked of those who live on.
 *
 *	./test_kill_producer_at_hooks [--full]   up to 3 passings, or 50
 */
#include "tests/death/places.h"
#include "tests/death/words.h"

#include "mpsc/attach.h"
#include "peal/doorbell.h"

#define DRY_RUN_MAX 5
#define FILLED_BYTES 400

static uint64_t passing_max = 3;

/* In a loop of its own: a full ring is polled for room. */
static int send_in_a_loop(struct peal_producer *producer)
{
	struct pollfd room = {.fd = peal_producer_fd(producer),
	                      .events = POLLIN};
	void *data;

	scene_put(&board->hold, 1);
	while (peal_producer_claim(producer, FILLED_BYTES, 0, &data) == 0) {
		peal_producer_abort(producer);
		if (send_some(producer, 1, FILLED_BYTES) != 0)
			return -1;
	}
	if (peal_producer_prepare(producer, FILLED_BYTES) == 0) {
		scene_put(&board->hold, 0);
		if (poll(&room, 1, (int)(WATCH_NS / SCENE_MS)) != 1)
			return fault("no room in a loop");
	}
	scene_put(&board->hold, 0);
	peal_producer_dispatch(producer);
	return send_some(producer, 1, FILLED_BYTES);
}

/* Everything a producer does, at a sleeping and at a slow consumer. */
static int live(void *arg)
{
	struct peal_producer *producer;

	(void)arg;
	places_watch();
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
	if (wait_mode == PEAL_WAIT_FD && send_in_a_loop(producer) != 0)
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

static int run_life(int (*run)(void *arg), void *arg, const char *what)
{
	int status;

	begin_life();
	status = scene_wait(scene_start(run, arg), WATCH_NS);
	scene_put(&board->hold, 0);
	judge_life(status, what);
	return status;
}

static int run_producer(void *arg, const char *what)
{
	return run_life(live, arg, what);
}

static void killed_at_every_place(void **state)
{
	uint32_t mode = scene_mode(state);

	places_open(NULL);
	start_stage(mode);
	places_kill_at_each(run_producer, NULL, DIES_PRODUCER, mode,
	                    DRY_RUN_MAX, passing_max);
	end_stage();
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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TESTS_OF_MODES(killed_at_every_place),
		SCENE_TEST(killed_between_any_two_stores_of_publish),
	};

	if (scene_is_full(argc, argv))
		passing_max = 50;
	return cmocka_run_group_tests(tests, open_board,
	                              scene_group_teardown) != 0;
}
