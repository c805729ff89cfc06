/* SPDX-License-Identifier: MIT */
/*
 * Millions of messages between processes that sleep whenever they can, in both
 * directions, without the net: one lost wake, and everything stands still.
 *
 *	producers --4 KiB rings--> consumer
 *	pause, and block for room  pauses, and sleeps for messages
 *	            ^                   |
 *	            +---- watchdog -----+  nothing moved for 10 s: a wake was
 *	                                   lost, and it says where everybody is
 *
 * Unlike the weaving tests this one has store buffers, caches and a scheduler.
 * It means something in a build with -Dbounded_sleep=false only.
 *
 *	./test_lost_wake [--full]   20,000 messages for each way to wait, or 1 M
 */
#include "tests/scene.h"

#include <sched.h>

#define NAME "words"
#define SENDER_MAX 4
#define LAST_BYTES 1100 /* of no other message */
#define FULL_BYTES 1300
#define FULL_COUNT 3 /* of them fill a ring of 4 KiB */
#define STILL_NS (10 * SCENE_S)

enum pace {
	BY_CHANCE,
	/* The first sender never lets the consumer rest. */
	BESIDE_A_BUSY_ONE,
	/* One sender, and a message just when the one before was taken: while
	 * the consumer goes to sleep. */
	IN_STEP,
	/* The other way round: room comes back while the sender, whose ring
	 * is full, goes to sleep. */
	ROOM_IN_STEP,
};

/* One way in which everybody waits. */
struct way {
	const char *name;
	uint32_t spin_mode;
	uint64_t spin_ns;
	uint32_t wait_mode;
	bool has_one_cpu;
	enum pace pace;
	uint32_t ring_bytes;
};

struct board {
	uint64_t is_open;
	uint64_t sent[SENDER_MAX];
	uint64_t received[SENDER_MAX];
	uint64_t is_blocked[SENDER_MAX];
	uint64_t consumer_waits;
	uint64_t sleep_count;
	char fault[200];
};

static struct board *board;
static uint64_t message_count = 20000;
static struct way way;
static uint32_t sender_count;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* Of the processors we may use the @index-th, or the last there is. */
static void stay_on_cpu(int index)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof(all), &all) != 0)
		return;
	for (size_t cpu = 0; cpu < CPU_SETSIZE && index >= 0; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		index--;
	}
	sched_setaffinity(0, sizeof(one), &one);
}

/* Whoever keeps step must not be put where the other one runs. */
static void choose_cpu(bool is_consumer)
{
	if (way.has_one_cpu)
		stay_on_cpu(0);
	else if (way.pace >= IN_STEP)
		stay_on_cpu(is_consumer ? 0 : 1);
}

/*
 * From nothing to a sleep, so that every moment of the other's is hit. Now one
 * side is the slower one, now the other: both sleep in turn.
 */
static void pause_a_while(uint64_t *chance, uint64_t count, bool is_consumer)
{
	uint64_t dice = scene_random(chance);
	bool is_slow = (count / 256 % 2 != 0) == is_consumer;

	if (!is_slow)
		return;
	if (dice % 32 == 0)
		scene_sleep_ns(1 + (dice >> 8) % (20 * SCENE_US));
	else if (dice % 32 == 1)
		sched_yield();
	else
		for (uint64_t i = (dice >> 8) % 3000; i > 0; i--)
			__asm__ volatile("" ::: "memory");
}

static bool is_busy_sender(uint32_t sender)
{
	return way.pace == BESIDE_A_BUSY_ONE && sender == 0;
}

/* Some time, about what it takes to fall asleep. Both sides do it, so that
 * either may be the earlier one by a little. */
static void hit_any_moment(uint64_t *chance)
{
	for (uint64_t i = scene_random(chance) % 3000; i > 0; i--)
		__asm__ volatile("" ::: "memory");
}

static void wait_for_the_consumer_to_tire(uint64_t *chance, uint64_t sent)
{
	while (scene_get(&board->received[0]) != sent)
		;
	hit_any_moment(chance);
}

/* Its ring is full with this one, and it is sending another. */
static void wait_for_the_sender_to_tire(uint64_t *chance)
{
	uint64_t full = board->received[0] + FULL_COUNT - 1;

	if (full >= message_count) /* there will not be so many */
		return;
	while (scene_get(&board->sent[0]) != full ||
	       scene_get(&board->is_blocked[0]) == 0)
		;
	hit_any_moment(chance);
}

/* The busy one goes on until the others are done. */
static bool is_done(uint32_t sender, uint64_t sent)
{
	if (!is_busy_sender(sender))
		return sent >= message_count;
	for (uint32_t i = 1; i < sender_count; i++)
		if (scene_get(&board->sent[i]) < message_count)
			return false;
	return true;
}

static int produce(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	uint32_t sender = (uint32_t)(uintptr_t)arg;
	uint64_t chance = scene_seed + sender, sent = 0;
	struct peal_producer *producer;
	uint8_t data[FULL_BYTES];
	int error;

	choose_cpu(false);
	options.name = NAME;
	options.ring_bytes = is_busy_sender(sender) ? 1 << 18 : way.ring_bytes;
	options.spin_mode = way.spin_mode;
	options.spin_ns = way.spin_ns;
	options.wait_mode = way.wait_mode;
	if (peal_producer_attach(&options, 10 * SCENE_S, &producer) < 0)
		return fault("attach");
	for (bool is_last = false; !is_last;) {
		size_t bytes = 24 + scene_random(&chance) % 1000;

		is_last = is_done(sender, sent + 1);
		if (is_busy_sender(sender) || way.pace == IN_STEP)
			bytes = 24;
		if (way.pace == ROOM_IN_STEP)
			bytes = FULL_BYTES;
		if (way.pace == IN_STEP)
			wait_for_the_consumer_to_tire(&chance, sent);
		if (is_last)
			bytes = LAST_BYTES;
		scene_stamp_write(data, bytes, sender, sent + 1);
		scene_put(&board->is_blocked[sender], 1);
		error = peal_producer_send(producer, data, bytes, PEAL_FOREVER);
		scene_put(&board->is_blocked[sender], 0);
		if (error < 0)
			return fault("send: %d", error);
		scene_put(&board->sent[sender], ++sent);
		if (way.pace < IN_STEP && !is_busy_sender(sender))
			pause_a_while(&chance, sent, false);
	}
	return peal_producer_detach(producer);
}

static uint32_t ended_count; /* whose last message was taken */

static int take(const struct peal_message *message)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp) ||
	    stamp.sender >= sender_count ||
	    stamp.sequence != board->received[stamp.sender] + 1)
		return fault("a message is torn, or out of its order");
	scene_put(&board->received[stamp.sender], stamp.sequence);
	ended_count += stamp.bytes == LAST_BYTES;
	return 0;
}

static int consume_all(struct peal_consumer *consumer)
{
	uint64_t chance = scene_seed + SENDER_MAX, taken_count = 0;
	struct peal_consumer_stats stats;
	struct peal_message message;

	while (ended_count < sender_count) {
		scene_put(&board->consumer_waits, 1);
		if (peal_consumer_wait(consumer, PEAL_FOREVER) < 0)
			return fault("wait");
		scene_put(&board->consumer_waits, 0);
		while (peal_consumer_peek(consumer, &message) == 0) {
			if (take(&message) != 0)
				return 1;
			if (way.pace == ROOM_IN_STEP)
				wait_for_the_sender_to_tire(&chance);
			peal_consumer_release(consumer, &message);
			if (way.pace == ROOM_IN_STEP)
				peal_consumer_wait(consumer, 0);
			if (way.pace == IN_STEP)
				hit_any_moment(&chance);
			if (way.pace == BY_CHANCE)
				pause_a_while(&chance, taken_count++, true);
		}
	}
	peal_consumer_stats(consumer, &stats);
	board->sleep_count = stats.sleep_count;
	return 0;
}

static int consume(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;

	(void)arg;
	choose_cpu(true);
	options.name = NAME;
	options.spin_mode = way.spin_mode;
	options.spin_ns = way.spin_ns;
	options.wait_mode = way.wait_mode;
	if (peal_consumer_open(&options, &consumer) < 0)
		return fault("open");
	scene_put(&board->is_open, 1);
	if (consume_all(consumer) != 0)
		return 1;
	return peal_consumer_close(consumer);
}

/* The sum of all that can only grow while anybody can go on. */
static uint64_t progress(uint32_t first)
{
	uint64_t sum = 0;

	for (uint32_t i = first; i < sender_count; i++)
		sum += scene_get(&board->sent[i]) +
		       scene_get(&board->received[i]);
	return sum;
}

static void print_where_everybody_is(void)
{
	print_message("  the consumer %s\n",
	              board->consumer_waits != 0 ? "waits" : "is awake");
	for (uint32_t i = 0; i < sender_count; i++)
		print_message("  sender %u: sent %llu, received %llu%s\n", i,
		              (unsigned long long)board->sent[i],
		              (unsigned long long)board->received[i],
		              board->is_blocked[i] != 0 ? ", is sending" : "");
}

/* Until all have ended; how they did, or that nothing moves any more. */
static int watch(pid_t consumer)
{
	/* A busy one's progress hides that of the others. */
	uint32_t first = is_busy_sender(0) ? 1 : 0;
	uint64_t before = progress(first), moved_ns = scene_now_ns();
	int status;

	while ((status = scene_wait(consumer, 50 * SCENE_MS)) ==
	       SCENE_TIMED_OUT) {
		if (progress(first) != before) {
			before = progress(first);
			moved_ns = scene_now_ns();
		} else if (scene_now_ns() - moved_ns > STILL_NS) {
			fault("nothing has moved for 10 s");
			print_where_everybody_is();
			return -1;
		}
	}
	return status;
}

static void run_way(const struct way *chosen)
{
	pid_t consumer, senders[SENDER_MAX];
	uint64_t start_ns, total = 0;
	int status;

	way = *chosen;
	sender_count = way.pace < IN_STEP ? 3 : 1;
	memset(board, 0, sizeof(*board));
	start_ns = scene_now_ns();
	consumer = scene_start(consume, NULL);
	assert_true(scene_reach(&board->is_open, 1, 10 * SCENE_S));
	for (uintptr_t i = 0; i < sender_count; i++)
		senders[i] = scene_start(produce, (void *)i);
	status = watch(consumer);
	assert_string_equal(board->fault, "");
	assert_int_equal(status, 0);
	for (uint32_t i = 0; i < sender_count; i++) {
		assert_int_equal(scene_wait(senders[i], 10 * SCENE_S), 0);
		assert_int_equal(board->received[i], board->sent[i]);
		total += board->sent[i];
	}
	print_message("lost_wake: %-34s %9llu messages, %8llu sleeps of the "
	              "consumer, %5.1f s, none lost\n",
	              way.name, (unsigned long long)total,
	              (unsigned long long)board->sleep_count,
	              (double)(scene_now_ns() - start_ns) / 1e9);
}

static void no_wake_is_lost(void **state)
{
	const struct way *chosen = *state;
	cpu_set_t all;

	if (chosen->pace >= IN_STEP &&
	    (sched_getaffinity(0, sizeof(all), &all) != 0 ||
	     CPU_COUNT(&all) < 2))
		CHECK_SKIP("two that keep step need two processors");
	run_way(chosen);
}

#define NEVER PEAL_SPIN_NEVER
#define SOON PEAL_SPIN_ADAPTIVE
#define FUTEX PEAL_WAIT_FUTEX
#define FD PEAL_WAIT_FD
#define WAY(index)                                                       \
	{                                                                \
		ways[index].name, no_wake_is_lost, NULL, scene_teardown, \
			&ways[index]                                     \
	}

int main(int argc, char **argv)
{
	static struct way ways[] = {
		{"never_spins", NEVER, 0, FUTEX, false, BY_CHANCE, 4096},
		{"never_spins_on_one_cpu", NEVER, 0, FUTEX, true, BY_CHANCE,
	         4096},
		{"spins_0_us", SOON, 0, FUTEX, false, BY_CHANCE, 4096},
		{"spins_2_us", SOON, 2000, FUTEX, false, BY_CHANCE, 4096},
		{"spins_50_us", SOON, 50000, FUTEX, false, BY_CHANCE, 4096},
		{"spins_50_us_on_one_cpu", SOON, 50000, FUTEX, true, BY_CHANCE,
	         4096},
		{"never_spins_with_large_rings", NEVER, 0, FUTEX, false,
	         BY_CHANCE, 1 << 16},
		{"never_spins_beside_a_busy_one", NEVER, 0, FUTEX, false,
	         BESIDE_A_BUSY_ONE, 4096},
		{"never_spins_in_fd_mode", NEVER, 0, FD, false, BY_CHANCE,
	         4096},
		{"spins_2_us_in_fd_mode", SOON, 2000, FD, false, BY_CHANCE,
	         4096},
		{"never_spins_in_step", NEVER, 0, FUTEX, false, IN_STEP, 4096},
		{"never_spins_in_step_in_fd_mode", NEVER, 0, FD, false, IN_STEP,
	         4096},
		{"never_spins_for_room_in_step", NEVER, 0, FUTEX, false,
	         ROOM_IN_STEP, 4096},
		{"never_spins_for_room_in_step_in_fd_mode", NEVER, 0, FD, false,
	         ROOM_IN_STEP, 4096},
		{"never_spins_in_fd_mode_beside_a_busy_one", NEVER, 0, FD,
	         false, BESIDE_A_BUSY_ONE, 4096},
	};
	const struct CMUnitTest tests[] = {
		WAY(0),  WAY(1),  WAY(2),  WAY(3),  WAY(4),
		WAY(5),  WAY(6),  WAY(7),  WAY(8),  WAY(9),
		WAY(10), WAY(11), WAY(12), WAY(13), WAY(14),
	};

	board = scene_board(sizeof(*board));
	if (board == NULL)
		return 1;
	if (scene_is_full(argc, argv))
		message_count = 1000000;
#ifndef PEAL_NO_BOUNDED_SLEEP
	print_message("this build has the net under lost wakes\n");
#endif
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
