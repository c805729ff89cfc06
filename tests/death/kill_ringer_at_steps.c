/* SPDX-License-Identifier: MIT */
/*
 * Ring and bell alone, with one side killed at every instruction. Nobody
 * watches for deaths here: what is left has to be enough.
 *
 *	ringer   publishes to a sleeper and rings it; another ringer comes
 *	         after it, and the sleeper takes what both have published
 *	sleeper  arms, sleeps and wakes; a ringer rings it once in vain, and
 *	         whoever sleeps at this bell next is woken as always
 *	reader   peeks, releases, settles; what it did not release is there
 *
 *	./test_kill_ringer_at_steps     every boundary, always: they are few
 */
#include "tests/death/steps.h"

#include "peal/doorbell.h"
#include "peal/ring.h"

#define DRY_RUNS 3
#define TRIES 10      /* to reach a boundary */
#define MISSED_MAX 10 /* percent of the boundaries that may be nobody's end */
#define RING_BYTES 4096
#define BATCH_MAX 2
#define MESSAGE_BYTES 100
#define WATCH_NS (10 * SCENE_S)

enum { VICTIM, OTHER, SENDER_COUNT };

/* Shared: two rings and the bell of who reads them, and what was seen. */
static struct stage {
	_Alignas(64) uint8_t data[SENDER_COUNT][2 * RING_BYTES];
	_Alignas(64) uint64_t arm;
	_Alignas(64) uint32_t seq;
	_Alignas(64) uint64_t released[SENDER_COUNT];
	uint64_t taken_count[SENDER_COUNT];
	uint64_t batch; /* messages that the victim publishes at once */
	char fault[200];
} * stage;

#define fault(...) scene_fault(stage->fault, sizeof(stage->fault), __VA_ARGS__)

/* who rings --------------------------------------------------------------- */

static struct peal_ringer ringer_of_stage(void)
{
	return (struct peal_ringer){
		.arm = &stage->arm, .seq = &stage->seq, .fd = -1};
}

/* What this sender's ring begins with. */
static int publish(uint32_t sender, uint64_t count)
{
	struct peal_ringer ringer = ringer_of_stage();
	struct peal_ring_tx tx;
	void *data;

	peal_ring_tx_init(&tx, stage->data[sender], RING_BYTES, 0,
	                  &stage->released[sender]);
	if (sender == VICTIM && steps_begin() != 0)
		return fault("not traced");
	for (uint64_t i = 1; i <= count; i++) {
		if (peal_ring_claim(&tx, MESSAGE_BYTES, 0, 0, &data) < 0)
			return fault("claim");
		scene_stamp_write(data, MESSAGE_BYTES, sender, i);
	}
	peal_ring_publish(&tx);
	peal_doorbell_ring(&ringer);
	steps_end();
	return 0;
}

static int publish_as_victim(void *arg)
{
	(void)arg;
	return publish(VICTIM, stage->batch) == 0 ? 0 : 1;
}

/* who sleeps -------------------------------------------------------------- */

static void take(struct peal_ring_rx *rx, uint32_t sender)
{
	struct peal_message message;
	struct scene_stamp stamp;

	while (peal_ring_peek(rx, &message) == 0) {
		if (!scene_stamp_read(message.data, message.data_bytes,
		                      &stamp) ||
		    stamp.sender != sender ||
		    stamp.sequence != stage->taken_count[sender] + 1)
			fault("a torn message of %u", sender);
		peal_ring_release(rx, &message);
		scene_add(&stage->taken_count[sender], 1);
	}
	peal_ring_settle(rx);
}

/* Until the other one's message has come; no sleep of it has an end. */
static void sleep_and_take(bool is_victim)
{
	struct peal_ring_rx rx[SENDER_COUNT];
	struct peal_sleeper sleeper;

	for (uint32_t i = 0; i < SENDER_COUNT; i++)
		peal_ring_rx_init(&rx[i], stage->data[i], RING_BYTES, 0,
		                  &stage->released[i]);
	peal_doorbell_init(&sleeper, &stage->arm, &stage->seq,
	                   PEAL_DOORBELL_FUTEX);
	if (is_victim && steps_begin() != 0)
		fault("not traced");
	while (stage->taken_count[OTHER] == 0) {
		peal_doorbell_look(&sleeper);
		for (uint32_t i = 0; i < SENDER_COUNT; i++)
			take(&rx[i], i);
		if (stage->taken_count[OTHER] != 0)
			break;
		peal_doorbell_arm(&sleeper);
		if (!peal_ring_has_data(&rx[VICTIM]) &&
		    !peal_ring_has_data(&rx[OTHER]) &&
		    !peal_doorbell_changed(&sleeper))
			peal_doorbell_wait(&sleeper, PEAL_FOREVER);
		peal_doorbell_disarm(&sleeper);
	}
	steps_end();
}

static int be_the_sleeper(void *arg)
{
	sleep_and_take(arg != NULL);
	return stage->fault[0] != '\0';
}

/* the parent -------------------------------------------------------------- */

static void reset(uint64_t batch)
{
	memset(stage, 0, sizeof(*stage));
	stage->batch = batch;
}

static void expect_nothing_wrong(const struct steps *steps, const char *name)
{
	if (stage->fault[0] != '\0')
		fail_msg("%s: %s", steps_describe(name, steps), stage->fault);
}

static pid_t start_sleeper(void)
{
	pid_t pid = scene_start(be_the_sleeper, NULL);
	uint64_t end_ns = scene_now_ns() + WATCH_NS;

	while ((scene_get(&stage->arm) == 0 || !steps_is_asleep(pid)) &&
	       scene_now_ns() < end_ns)
		scene_sleep_ns(20 * SCENE_US);
	return pid;
}

static bool is_visible(uint32_t sender)
{
	return __atomic_load_n((uint32_t *)(void *)stage->data[sender],
	                       __ATOMIC_ACQUIRE) != 0;
}

/* One ringer dies at @target. False when it came to its end before. */
static bool ring_and_die(uint64_t batch, uint64_t target, struct steps *steps)
{
	pid_t sleeper, victim;
	uint64_t expected;
	bool was_killed;
	int status;

	reset(batch);
	sleeper = start_sleeper();
	victim = scene_start(publish_as_victim, NULL);
	was_killed = steps_run(victim, victim, target, steps);
	status = scene_wait(victim, WATCH_NS);
	if (status != (was_killed ? CHECK_KILLED_BY + SIGKILL : 0))
		fault("the ringer ended with %d", status);
	expected = is_visible(VICTIM) ? batch : 0;
	/* Who has rung to the end needs nobody. */
	if (!was_killed &&
	    (expected != batch ||
	     !scene_reach(&stage->taken_count[VICTIM], batch, WATCH_NS)))
		fault("the sleeper was not woken by a ring");
	publish(OTHER, 1);
	status = scene_wait(sleeper, WATCH_NS);
	if (status != 0)
		fault("after the next ring the sleeper %s",
		      status == SCENE_TIMED_OUT ? "sleeps on" : "failed");
	if (stage->taken_count[VICTIM] != expected)
		fault("%llu messages arrived, %llu were visible",
		      (unsigned long long)stage->taken_count[VICTIM],
		      (unsigned long long)expected);
	return was_killed;
}

static void wake_the_victim(void)
{
	publish(OTHER, 1);
}

/* One sleeper dies at @target, and another one sleeps at its bell. */
static bool sleep_and_die(uint64_t batch, uint64_t target, struct steps *steps)
{
	struct peal_ringer ringer;
	uint32_t before;
	pid_t victim, heir;
	bool was_killed;
	int status;

	reset(batch);
	ringer = ringer_of_stage();
	victim = scene_start(be_the_sleeper, stage);
	steps->unblock = wake_the_victim;
	was_killed = steps_run(victim, victim, target, steps);
	steps->unblock = NULL;
	status = scene_wait(victim, WATCH_NS);
	if (status != (was_killed ? CHECK_KILLED_BY + SIGKILL : 0))
		fault("the sleeper ended with %d", status);
	before = stage->seq;
	peal_doorbell_ring(&ringer);
	peal_doorbell_ring(&ringer);
	if (stage->seq - before > 1 ||
	    (stage->seq != before) != (stage->arm != 0))
		fault("rung %u times in vain", stage->seq - before);
	/* Whatever the dead one has taken, the next one begins anew. */
	memset(stage->data, 0, sizeof(stage->data));
	memset(stage->taken_count, 0, sizeof(stage->taken_count));
	stage->arm = 0;
	heir = start_sleeper();
	publish(OTHER, 1);
	/* With the ringer's memory of the dead one as well. */
	peal_doorbell_ring(&ringer);
	status = scene_wait(heir, WATCH_NS);
	if (status != 0)
		fault("the next sleeper ended with %d", status);
	return was_killed;
}

/* Takes one of two messages, tells, takes the other, settles and rings. */
static int read_as_victim(void *arg)
{
	struct peal_ringer ringer = ringer_of_stage();
	struct peal_ring_rx rx;
	struct peal_message message;

	(void)arg;
	peal_ring_rx_init(&rx, stage->data[OTHER], RING_BYTES, 0,
	                  &stage->released[OTHER]);
	if (steps_begin() != 0)
		return 1;
	for (int i = 0; i < BATCH_MAX; i++) {
		if (peal_ring_peek(&rx, &message) != 0)
			return 2;
		peal_ring_release(&rx, &message);
		if (i == 0)
			peal_ring_tell(&rx);
	}
	peal_ring_settle(&rx);
	peal_doorbell_ring(&ringer);
	steps_end();
	return 0;
}

/* What was not released is whole, and the writer's room is what it is told. */
static void check_the_rest(void)
{
	struct peal_ring_tx tx;
	struct peal_ring_rx rx;
	struct peal_message message;
	struct scene_stamp stamp;
	uint64_t frame = peal_ring_frame_bytes(MESSAGE_BYTES);
	uint64_t released = stage->released[OTHER];
	void *data;

	if (released % frame != 0 || released > BATCH_MAX * frame) {
		fault("released is %llu", (unsigned long long)released);
		return;
	}
	peal_ring_rx_init(&rx, stage->data[OTHER], RING_BYTES, 0,
	                  &stage->released[OTHER]);
	rx.head = rx.released = rx.told = released;
	for (uint64_t i = released / frame; i < BATCH_MAX; i++)
		if (peal_ring_peek(&rx, &message) != 0 ||
		    !scene_stamp_read(message.data, message.data_bytes,
		                      &stamp) ||
		    stamp.sequence != i + 1)
			fault("message %llu is not there any more",
			      (unsigned long long)i);
	peal_ring_tx_init(&tx, stage->data[OTHER], RING_BYTES, 0,
	                  &stage->released[OTHER]);
	tx.first = tx.tail = BATCH_MAX * frame;
	if (peal_ring_claim(&tx, RING_BYTES - 2 * frame - 32, 0, 0, &data) < 0)
		fault("there is no room for what is free");
	if (tx.released > released)
		fault("room for what was not released");
}

/* One reader dies at @target, which its writer waits for: the bell is armed. */
static bool read_and_die(uint64_t batch, uint64_t target, struct steps *steps)
{
	uint32_t before;
	bool was_killed;
	pid_t victim;
	int status;

	(void)batch;
	reset(BATCH_MAX);
	publish(OTHER, BATCH_MAX);
	stage->arm = 77 << 2 | PEAL_DOORBELL_FUTEX;
	before = stage->seq;
	victim = scene_start(read_as_victim, NULL);
	was_killed = steps_run(victim, victim, target, steps);
	status = scene_wait(victim, WATCH_NS);
	if (status != (was_killed ? CHECK_KILLED_BY + SIGKILL : 0))
		fault("the reader ended with %d", status);
	if (!was_killed && stage->seq == before)
		fault("the writer was not rung");
	check_the_rest();
	return was_killed;
}

/* Every boundary of one operation; each has to be the end of somebody. */
static void kill_at_every_step(const char *name, uint64_t batch,
                               bool (*run)(uint64_t batch, uint64_t target,
                                           struct steps *steps))
{
	static struct steps steps = {.everywhere = true};
	uint64_t missed_count = 0, life_count = 0, count = UINT64_MAX;
	bool was_killed;

	/* The shortest: who is disturbed has to look again and again. */
	for (int i = 0; i < DRY_RUNS; i++) {
		run(batch, STEPS_NEVER, &steps);
		expect_nothing_wrong(&steps, name);
		assert_int_equal(steps.kind, STEPS_OVER);
		if (steps.count < count)
			count = steps.count;
	}
	for (uint64_t target = 1; target <= count; target++) {
		was_killed = false;
		/* A life may be a little shorter than the dry run. */
		for (int i = 0; i < TRIES && !was_killed; i++) {
			was_killed = run(batch, target, &steps);
			expect_nothing_wrong(&steps, name);
			life_count++;
		}
		missed_count += !was_killed;
	}
	print_message("steps: %s: %llu boundaries, %u of system calls; %llu of "
	              "them never reached, %llu lives\n",
	              name, (unsigned long long)count, steps.call_count,
	              (unsigned long long)missed_count,
	              (unsigned long long)life_count);
	assert_true(missed_count * 100 <= count * MISSED_MAX);
	assert_true(steps.call_count > 0);
}

static void ringer_killed_anywhere_leaves_a_bell_that_others_ring(void **state)
{
	(void)state;
	kill_at_every_step("publish and ring", 1, ring_and_die);
}

static void batch_is_seen_whole_or_not_at_all(void **state)
{
	(void)state;
	kill_at_every_step("publish two and ring", 2, ring_and_die);
}

static void sleeper_killed_anywhere_costs_a_ringer_one_wake(void **state)
{
	(void)state;
	kill_at_every_step("arm, sleep and disarm", 0, sleep_and_die);
}

static void reader_killed_anywhere_leaves_what_it_did_not_release(void **state)
{
	(void)state;
	kill_at_every_step("release, tell and settle", 0, read_and_die);
}

static int setup(void **state)
{
	stage = scene_board(sizeof(*stage));
	return stage != NULL ? scene_group_setup(state) : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(
			ringer_killed_anywhere_leaves_a_bell_that_others_ring),
		SCENE_TEST(batch_is_seen_whole_or_not_at_all),
		SCENE_TEST(sleeper_killed_anywhere_costs_a_ringer_one_wake),
		SCENE_TEST(
			reader_killed_anywhere_leaves_what_it_did_not_release),
	};

	if (!steps_are_allowed())
		return 77;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
