/* SPDX-License-Identifier: MIT */
/*
 * A consumer at its door, where that is on its own thread, in fd mode, and a
 * producer that comes and goes, woven at every hook: it is let in, heard and
 * seen off, whatever the order of the steps, and nobody sleeps through it.
 *
 *	visit   producer: attach, send, detach    consumer: prepare, poll,
 *	evict   producer: attach, send, nonsense  dispatch, take, until it left
 *
 *	./test_weave_door [--full]      some thousand schedules, or ten thousands
 */
#include "tests/weave/weave.h"

#include "mpsc/producer.h"

#define NAME "woven"
#define PENALTY_NS (25 * SCENE_MS) /* and more than that of the library */

static bool is_full_run;

static struct stage {
	struct peal_consumer *consumer;
	bool with_nonsense;
	uint64_t message_count; /* taken in this schedule */
	struct peal_consumer_stats before;
} stage;

/* A thread that is woven cannot assert. */
static void require(bool is_true)
{
	if (!is_true)
		abort();
}

static struct peal_consumer_stats stats_now(void)
{
	struct peal_consumer_stats stats = {0};

	require(peal_consumer_stats(stage.consumer, &stats) == 0);
	return stats;
}

static uint64_t left_count(const struct peal_consumer_stats *stats)
{
	return stats->detached_count + stats->died_count + stats->evicted_count;
}

/* the consumer -------------------------------------------------------------- */

/* What follows the first message is looked at before that is released. */
static void take_some(void)
{
	struct peal_message messages[2];
	int count = 0;

	while (count < 2 &&
	       peal_consumer_peek(stage.consumer, &messages[count]) == 0)
		count++;
	weave_point("taken");
	for (int i = 0; i < count; i++)
		peal_consumer_release(stage.consumer, &messages[i]);
	stage.message_count += (uint64_t)count;
}

/* In a loop of its own: that somebody has left does not end a wait. */
static void consume_until_it_left(void *object)
{
	struct pollfd work = {.fd = peal_consumer_fd(stage.consumer),
	                      .events = POLLIN};
	struct peal_consumer_stats stats;

	(void)object;
	do {
		if (peal_consumer_prepare(stage.consumer) == 0) {
			weave_point(WEAVE_SLEEP_PLACE);
			require(poll(&work, 1, -1) == 1);
		}
		require(peal_consumer_dispatch(stage.consumer) == 0);
		take_some();
		stats = stats_now();
	} while (left_count(&stats) == left_count(&stage.before));
	require(stage.message_count == 1);
	require(stats.attached_count == stage.before.attached_count + 1);
}

/* the producer -------------------------------------------------------------- */

static void visit(void *object)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	const struct peal_ring_tx *tx;

	(void)object;
	options.name = NAME;
	options.wait_mode = PEAL_WAIT_FD;
	options.ring_bytes = 4096;
	require(peal_producer_attach(&options, PEAL_FOREVER, &producer) == 0);
	weave_point("attached");
	require(peal_producer_send(producer, "hello", 5, 0) == 0);
	weave_point("sent");
	if (stage.with_nonsense) {
		tx = &producer->hot.tx;
		__atomic_store_n(&peal__ring_frame(tx->data, tx->capacity_bytes,
		                                   tx->tail)
		                          ->commit,
		                 UINT32_MAX & ~UINT32_C(15), __ATOMIC_SEQ_CST);
		weave_point("nonsense");
		peal_consumer_notify(stage.consumer);
	}
	peal_producer_detach(producer);
}

/* ----------------------------------------------------------------------------- */

static void reset(void *object)
{
	struct pollfd work = {.fd = peal_consumer_fd(stage.consumer),
	                      .events = POLLIN};
	int quiet_count = 0;

	(void)object;
	/* Its user waits for that long at the door, and nobody would run. */
	if (stats_now().evicted_count != stage.before.evicted_count)
		scene_sleep_ns(PENALTY_NS);
	/* What the last one has left is given back, and every schedule begins
	 * alike, or there would be no end of them. */
	while (quiet_count < 3) {
		quiet_count = poll(&work, 1, 0) == 0 ? quiet_count + 1 : 0;
		require(peal_consumer_dispatch(stage.consumer) == 0);
		peal_consumer_wait(stage.consumer, 0);
	}
	stage.before = stats_now();
	stage.message_count = 0;
}

static void weave_them(bool with_nonsense, const char *name)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer_stats stats;
	struct weave weave = {
		.runs = {visit, consume_until_it_left},
		.reset = reset,
		.object = &stage,
		.preemption_max = (is_full_run ? 5U : 3U) - with_nonsense,
		.schedule_max = is_full_run ? 20000 : 2000,
		.seed = scene_seed,
	};

	stage = (struct stage){.with_nonsense = with_nonsense};
	options.name = NAME;
	options.wait_mode = PEAL_WAIT_FD;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.producer_max = 8;
	assert_int_equal(peal_consumer_open(&options, &stage.consumer), 0);
	weave_all(&weave, name, is_full_run ? 10000 : 200);
	stats = stats_now();
	print_message("%llu came, %llu went by themselves, %llu were evicted\n",
	              (unsigned long long)stats.attached_count,
	              (unsigned long long)stats.detached_count,
	              (unsigned long long)stats.evicted_count);
	assert_int_equal(stats.died_count, 0);
	if (!with_nonsense)
		assert_int_equal(stats.evicted_count, 0);
	else
		assert_true(stats.evicted_count > 0);
	assert_int_equal(peal_consumer_close(stage.consumer), 0);
}

static void visitor_is_let_in_heard_and_seen_off(void **state)
{
	(void)state;
	weave_them(false, "visit");
}

static void liar_is_let_in_heard_and_sent_away(void **state)
{
	(void)state;
	weave_them(true, "evict");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(visitor_is_let_in_heard_and_seen_off),
		cmocka_unit_test(liar_is_let_in_heard_and_sent_away),
	};

	is_full_run = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, weave_setup,
	                              scene_group_teardown) != 0;
}
