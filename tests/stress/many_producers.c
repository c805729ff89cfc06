/* SPDX-License-Identifier: MIT */
/*
 * Three hundred producers at once, of which one speaks; then thousands that
 * come and go.
 *
 *	100 processes with a producer each, 4 processes with 50 each
 *	one streams, the others are silent until they are asked: whoever is
 *	asked is heard at once, whether the consumer sleeps or is busy
 *
 *	./test_many_producers [--full]   20,000 messages and 500 that come and
 *	                                 go, or 2 M and 10,000
 */
#include "tests/scene.h"

#define NAME "crowd"
#define SINGLE_COUNT 100
#define GROUP_COUNT 4
#define GROUP_SIZE 50
#define PROCESS_COUNT (SINGLE_COUNT + GROUP_COUNT)
#define PRODUCER_COUNT (SINGLE_COUNT + GROUP_COUNT * GROUP_SIZE)
#define BUSY 0
#define VISITOR PRODUCER_COUNT /* all who come and go */
#define WARM_UP_COUNT 100
#define RSS_SLACK_BYTES (UINT64_C(512) << 10)
#define PATIENCE_NS (20 * SCENE_S)

struct board {
	uint64_t is_open, stop;
	uint64_t attached_count;
	uint64_t is_streaming; /* the busy one: send now */
	uint64_t asked, answered;
	struct scene_held held;
	struct peal_consumer_stats stats;
	uint64_t sent[PRODUCER_COUNT + 1], received[PRODUCER_COUNT + 1];
	char fault[200];
};

static struct board *board;
static int mouths[PROCESS_COUNT][2]; /* pipes: who is to speak */
static uint64_t busy_count = 20000;
static uint64_t visit_count = 500;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* consumer --------------------------------------------------------------- */

static int take(const struct peal_message *message)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp) ||
	    stamp.sender > VISITOR)
		return fault("a torn message");
	/* Of two connections the second may be heard first. */
	if (stamp.sender != VISITOR &&
	    stamp.sequence != board->received[stamp.sender] + 1)
		return fault("producer %u: %llu follows %llu", stamp.sender,
		             (unsigned long long)stamp.sequence,
		             (unsigned long long)board->received[stamp.sender]);
	scene_add(&board->received[stamp.sender], 1);
	return 0;
}

static int consume(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_message message;

	(void)arg;
	options.name = NAME;
	options.producer_max = PRODUCER_COUNT + 20;
	options.ring_default_bytes = 1 << 14;
	if (peal_consumer_open(&options, &consumer) < 0)
		return fault("open");
	scene_put(&board->is_open, 1);
	while (scene_get(&board->stop) == 0) {
		/* Questions are looked at without being rung for. */
		peal_consumer_wait(consumer, 2 * SCENE_MS);
		for (int i = 0;
		     i < 10000 && peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			if (take(&message) != 0)
				return 1;
			peal_consumer_release(consumer, &message);
		}
		if (scene_get(&board->asked) == board->answered)
			continue;
		board->held = scene_held();
		peal_consumer_stats(consumer, &board->stats);
		scene_put(&board->answered, board->asked);
	}
	return peal_consumer_close(consumer);
}

static bool ask(void)
{
	return scene_reach(&board->answered, scene_add(&board->asked, 1) + 1,
	                   PATIENCE_NS);
}

/* producers -------------------------------------------------------------- */

static int speak(struct peal_producer *producer, uint32_t number)
{
	uint8_t data[100];
	int error;

	scene_stamp_write(data, sizeof(data), number, board->sent[number] + 1);
	error = peal_producer_send(producer, data, sizeof(data), PATIENCE_NS);
	if (error < 0)
		return fault("producer %u: %d", number, error);
	scene_add(&board->sent[number], 1);
	return 0;
}

/* Stream while that is wanted; say one thing when we are told to. */
static int live(struct peal_producer **producers, uint32_t process,
                uint32_t first)
{
	uint32_t number;

	while (process == BUSY && scene_get(&board->stop) == 0)
		if (scene_get(&board->is_streaming) == 0)
			scene_sleep_ns(SCENE_MS);
		else if (speak(producers[0], BUSY) != 0)
			return 1;
	while (read(mouths[process][0], &number, sizeof(number)) ==
	       sizeof(number))
		if (speak(producers[number - first], number) != 0)
			return 1;
	return 0;
}

static int produce(void *arg)
{
	uint32_t process = (uint32_t)(uintptr_t)arg;
	bool is_single = process < SINGLE_COUNT;
	uint32_t count = is_single ? 1 : GROUP_SIZE;
	uint32_t first = is_single ? process
	                           : SINGLE_COUNT + (process - SINGLE_COUNT) *
	                                                    GROUP_SIZE;
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producers[GROUP_SIZE];

	options.name = NAME;
	for (uint32_t i = 0; i < count; i++) {
		int error = peal_producer_attach(&options, PATIENCE_NS,
		                                 &producers[i]);

		if (error < 0)
			return fault("attach: %d", error);
		scene_add(&board->attached_count, 1);
	}
	if (live(producers, process, first) != 0)
		return 1;
	for (uint32_t i = 0; i < count; i++)
		peal_producer_detach(producers[i]);
	return 0;
}

/* parent ----------------------------------------------------------------- */

static void ask_to_speak(uint32_t number)
{
	uint32_t process =
		number < SINGLE_COUNT
			? number
			: SINGLE_COUNT + (number - SINGLE_COUNT) / GROUP_SIZE;

	assert_int_equal(write(mouths[process][1], &number, sizeof(number)),
	                 sizeof(number));
}

/* Each of the silent ones in turn; the longest time until one was heard. */
static uint64_t let_everybody_speak(void)
{
	uint64_t longest_ns = 0;

	for (uint32_t i = BUSY + 1; i < PRODUCER_COUNT; i++) {
		uint64_t wanted = board->received[i] + 1, start_ns;

		ask_to_speak(i);
		assert_true(scene_reach(&board->sent[i], wanted, PATIENCE_NS));
		start_ns = scene_now_ns();
		assert_true(
			scene_reach(&board->received[i], wanted, PATIENCE_NS));
		if (scene_now_ns() - start_ns > longest_ns)
			longest_ns = scene_now_ns() - start_ns;
	}
	return longest_ns;
}

static void one_of_three_hundred_is_heard_and_so_is_any_other(void **state)
{
	uint64_t busy_ns, idle_longest_ns, busy_longest_ns;
	pid_t pids[PROCESS_COUNT];

	(void)state;
	for (uintptr_t i = 0; i < PROCESS_COUNT; i++) {
		assert_int_equal(pipe(mouths[i]), 0);
		pids[i] = scene_start(produce, (void *)i);
	}
	assert_true(scene_reach(&board->attached_count, PRODUCER_COUNT,
	                        3 * PATIENCE_NS));
	assert_true(ask());
	assert_int_equal(board->stats.attached_count, PRODUCER_COUNT);
	idle_longest_ns = let_everybody_speak();
	busy_ns = scene_now_ns();
	scene_put(&board->is_streaming, 1);
	busy_longest_ns = let_everybody_speak();
	assert_true(scene_reach(&board->received[BUSY], busy_count,
	                        6 * PATIENCE_NS));
	scene_put(&board->is_streaming, 0);
	busy_ns = scene_now_ns() - busy_ns;
	assert_true(scene_reach(&board->received[BUSY], board->sent[BUSY],
	                        PATIENCE_NS));
	assert_string_equal(board->fault, "");
	print_message("many_producers: %d attached, one sent %llu messages in "
	              "%.1f s, all heard; a silent one that spoke was heard "
	              "after %.1f ms at most, beside the busy one %.1f ms\n",
	              PRODUCER_COUNT, (unsigned long long)board->sent[BUSY],
	              (double)busy_ns / 1e9, (double)idle_longest_ns / 1e6,
	              (double)busy_longest_ns / 1e6);
	for (int i = 0; i < PROCESS_COUNT; i++)
		scene_kill(pids[i]);
	for (int i = 0; i < 500; i++) {
		assert_true(ask());
		if (board->stats.died_count == PRODUCER_COUNT)
			break;
		scene_sleep_ns(10 * SCENE_MS);
	}
	assert_int_equal(board->stats.died_count, PRODUCER_COUNT);
}

/* Attach, say something, and leave: with or without a word. */
static int visit(void *arg)
{
	uint64_t count = *(uint64_t *)arg;
	struct peal_failure failure;
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;

	options.name = NAME;
	for (uint64_t i = 0; i < count; i++) {
		options.ring_bytes = i % 3 == 0 ? 0 : UINT64_C(4096) << i % 5;
		options.ret_failure = &failure;
		if (peal_producer_attach(&options, PATIENCE_NS, &producer) < 0)
			return fault("visit: %s", failure.text);
		if (i % 2 == 0 && speak(producer, VISITOR) != 0)
			return 1;
		peal_producer_detach(producer);
	}
	return 0;
}

static struct scene_held visit_often(uint64_t count)
{
	uint64_t ended_count;
	int status;

	assert_true(ask());
	ended_count = board->stats.detached_count + count;
	status = scene_wait(scene_start(visit, &count), 20 * PATIENCE_NS);
	assert_string_equal(board->fault, "");
	assert_int_equal(status, 0);
	for (int i = 0; i < 500; i++) {
		assert_true(ask());
		if (board->stats.detached_count == ended_count)
			break;
		scene_sleep_ns(10 * SCENE_MS);
	}
	assert_int_equal(board->stats.detached_count, ended_count);
	scene_sleep_ns(10 * SCENE_MS); /* for the last one to be reaped */
	assert_true(ask());
	assert_string_equal(board->fault, "");
	assert_int_equal(board->received[VISITOR], board->sent[VISITOR]);
	return board->held;
}

static void thousands_come_and_go_and_leave_nothing(void **state)
{
	struct scene_held before, after;
	uint64_t start_ns;

	(void)state;
	before = visit_often(WARM_UP_COUNT);
	start_ns = scene_now_ns();
	after = visit_often(visit_count);
	start_ns = scene_now_ns() - start_ns;
	print_message("many_producers: %llu came and went in %.1f s; "
	              "descriptors %u -> %u, mappings %u -> %u, threads %u -> "
	              "%u, resident %llu -> %llu KiB\n",
	              (unsigned long long)visit_count, (double)start_ns / 1e9,
	              before.fds, after.fds, before.maps, after.maps,
	              before.threads, after.threads,
	              (unsigned long long)before.rss_bytes >> 10,
	              (unsigned long long)after.rss_bytes >> 10);
	assert_int_equal(after.fds, before.fds);
	assert_int_equal(after.maps, before.maps);
	assert_int_equal(after.threads, before.threads);
	if (!SCENE_IS_SANITIZED)
		assert_true(after.rss_bytes <
		            before.rss_bytes + RSS_SLACK_BYTES);
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	if (board == NULL || scene_group_setup(state) != 0)
		return -1;
	scene_start(consume, NULL);
	return scene_reach(&board->is_open, 1, PATIENCE_NS) ? 0 : -1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			one_of_three_hundred_is_heard_and_so_is_any_other),
		cmocka_unit_test(thousands_come_and_go_and_leave_nothing),
	};

	if (scene_is_full(argc, argv)) {
		busy_count = 2000000;
		visit_count = 10000;
	}
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
