/* SPDX-License-Identifier: MIT */
/*
 * A consumer killed at every place of the library that has a name, on its own
 * thread and on that of admission, from before it has its name until it has
 * given it back.
 *
 *	producers  one blocks in a tiny ring, one sends now and then: they are
 *	           told -ECONNRESET, or -ESHUTDOWN when it was closing
 *	visitor    attaches, sends and detaches, again and again
 *	victim     opens, takes messages, closes; dies on the way
 *	heir       opens the name after it: everybody is heard, nothing is left
 *
 *	./test_kill_consumer_at_hooks [--full]   up to 2 passings, or 20
 */
#include "tests/death/places.h"
#include "tests/death/senders.h"

#define TAKEN_COUNT 80
#define VISIT_COUNT 2
#define DRY_RUN_MAX 20

#define HOLD_ROUNDS 10 /* that a message of the visitor's is not released */

static uint64_t passing_max = 2;

/* What follows it may be nonsense, and its memory is still needed then. */
static struct {
	struct peal_message message;
	uint32_t rounds; /* 0: there is none */
} held;

static void hold(struct peal_consumer *consumer,
                 const struct peal_message *message)
{
	if (held.rounds != 0)
		peal_consumer_release(consumer, &held.message);
	held.message = *message;
	held.rounds = HOLD_ROUNDS;
}

/* In either way of the mode, in turns. */
static void sleep_somehow(struct peal_consumer *consumer)
{
	static uint32_t count;
	struct pollfd work = {.fd = peal_consumer_fd(consumer),
	                      .events = POLLIN};

	if (held.rounds != 0 && --held.rounds == 0)
		peal_consumer_release(consumer, &held.message);
	if (wait_mode == PEAL_WAIT_FUTEX || count++ % 2 != 0) {
		peal_consumer_wait(consumer,
		                   held.rounds != 0 ? SCENE_MS : PEAL_FOREVER);
		return;
	}
	if (peal_consumer_prepare(consumer) == 0)
		poll(&work, 1, held.rounds != 0 ? 1 : -1);
	peal_consumer_dispatch(consumer);
}

/* Until so many messages came and so many visitors went; then it closes. */
static int live(void *arg)
{
	uint32_t taken_count = 0, sender;
	struct peal_consumer_stats stats = {0};
	struct peal_consumer *consumer;
	struct peal_message message;

	(void)arg;
	places_watch();
	consumer = open_consumer();
	if (consumer == NULL)
		return 1;
	while (taken_count < TAKEN_COUNT ||
	       stats.detached_count < VISIT_COUNT) {
		sleep_somehow(consumer);
		for (int i = 0; i < PEEKS_MAX &&
		                peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			if (take(&message, &sender) != 0)
				return 1;
			/* So slow that a ring is full. */
			if (sender == FILLS)
				scene_sleep_ns(50 * SCENE_US);
			if (sender == VISITOR)
				hold(consumer, &message);
			else
				peal_consumer_release(consumer, &message);
			taken_count++;
		}
		peal_consumer_stats(consumer, &stats);
	}
	return peal_consumer_close(consumer);
}

/* the parent ------------------------------------------------------------- */

/* One victim, and its heir; returns how the victim ended. */
static int run_life(void *arg, const char *what)
{
	int status = scene_wait(scene_start(live, arg), 2 * WATCH_NS);

	judge_life(status, what);
	return status;
}

static void killed_at_every_place(void **state)
{
	places_open(&board->told.kill_ns);
	start_senders(scene_mode(state));
	/* On a busy machine one life may have no time to sleep. */
	places_kill_at_each(run_life, NULL, DIES_CONSUMER, scene_mode(state),
	                    DRY_RUN_MAX, passing_max);
	end_senders(LATE_PERCENT);
	assert_string_equal(board->fault, "");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TESTS_OF_MODES(killed_at_every_place),
	};

	if (scene_is_full(argc, argv))
		passing_max = 20;
	return cmocka_run_group_tests(tests, open_board,
	                              scene_group_teardown) != 0;
}
