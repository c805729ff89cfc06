/* SPDX-License-Identifier: MIT */
/*
 * The ring and its doorbell, woven at every hook: whoever is to be woken is,
 * whatever the order of the steps.
 *
 *	./test_weave_bell [--full]     some ten thousand schedules, or a million
 */
#include "tests/weave/weave.h"

#include "doorbell/spin.h"
#include "peal/ring.h"

#define NAME "woven"
#define RING_BYTES 4096
/* Two of them fill a ring of 4 KiB. */
#define BIG_BYTES 1500

static bool is_full_run;

/* ring and bell alone ---------------------------------------------------- */

/* The memory that would be shared, and both sides. */
struct bare {
	uint64_t arm;
	uint32_t seq;
	uint64_t released;
	_Alignas(64) uint8_t data[2 * RING_BYTES];
	uint32_t message_count;

	struct peal_ring_tx tx;
	struct peal_ringer ringer;
	struct peal_ring_rx rx;
	struct peal_sleeper sleeper;
	struct peal__spin spin;
	uint32_t asked; /* by notify */
};

static void reset_bare(void *object)
{
	struct bare *bare = object;

	memset(bare->data, 0, sizeof(bare->data));
	bare->arm = bare->released = bare->asked = 0;
	peal_ring_tx_init(&bare->tx, bare->data, RING_BYTES, 0,
	                  &bare->released);
	peal_ring_rx_init(&bare->rx, bare->data, RING_BYTES, 0,
	                  &bare->released);
	bare->ringer = (struct peal_ringer){
		.arm = &bare->arm, .seq = &bare->seq, .fd = -1};
	peal_doorbell_init(&bare->sleeper, &bare->arm, &bare->seq,
	                   PEAL_DOORBELL_FUTEX);
	peal__spin_init(&bare->spin, PEAL__SPIN_NEVER, 0);
}

static void publish_all(void *object)
{
	struct bare *bare = object;
	void *data;

	for (uint32_t i = 0; i < bare->message_count; i++) {
		if (peal_ring_claim(&bare->tx, 8, 0, 0, &data) < 0)
			abort();
		weave_point("claimed");
		peal_ring_publish(&bare->tx);
		weave_point("published");
		peal_doorbell_ring(&bare->ringer);
		weave_point("rung");
	}
}

static bool has_data(void *object)
{
	struct bare *bare = object;

	return peal_ring_has_data(&bare->rx);
}

static void sleep_at(struct bare *bare, bool (*look)(void *object))
{
	const struct peal__spin_look how = {
		.soon = look, .final = look, .object = bare};
	struct peal__spin_limit limit = {PEAL_FOREVER, 0, PEAL__NEVER, false};

	peal__spin_wait(&bare->spin, &bare->sleeper, &how, &limit);
}

static void take_all(void *object)
{
	struct bare *bare = object;
	struct peal_message message;
	uint32_t taken_count = 0;

	for (;;) {
		peal_doorbell_look(&bare->sleeper);
		weave_point("looked");
		while (peal_ring_peek(&bare->rx, &message) == 0) {
			taken_count++;
			weave_point("taken");
		}
		if (taken_count == bare->message_count)
			return;
		weave_point("found nothing");
		sleep_at(bare, has_data);
	}
}

static void notify_all(void *object)
{
	struct bare *bare = object;

	for (uint32_t i = 0; i < bare->message_count; i++) {
		__atomic_fetch_add(&bare->asked, 1, __ATOMIC_RELAXED);
		weave_point("asked");
		peal_doorbell_notify(&bare->arm, &bare->seq, -1);
		weave_point("notified");
	}
}

static bool never(void *object)
{
	(void)object;
	return false;
}

/* What a notify is about is seen in no ring: the bump has to tell it. */
static void heed_all(void *object)
{
	struct bare *bare = object;

	for (;;) {
		peal_doorbell_look(&bare->sleeper);
		weave_point("looked");
		if (__atomic_load_n(&bare->asked, __ATOMIC_RELAXED) ==
		    bare->message_count)
			return;
		weave_point("found nothing");
		sleep_at(bare, never);
	}
}

static void weave_bare(void (*ringer)(void *), void (*sleeper)(void *),
                       uint32_t message_count, uint32_t preemption_max,
                       uint64_t random_count, const char *name)
{
	struct bare *bare = aligned_alloc(64, sizeof(*bare));
	struct weave weave = {
		.runs = {ringer, sleeper},
		.reset = reset_bare,
		.object = bare,
		.preemption_max = preemption_max,
		.schedule_max = is_full_run ? 200000 : 6000,
		.seed = scene_seed,
	};

	assert_non_null(bare);
	bare->seq = 0;
	bare->message_count = message_count;
	weave_all(&weave, name, random_count);
	free(bare);
}

static void every_order_of_one_message_and_one_sleep_is_fine(void **state)
{
	(void)state;
	weave_bare(publish_all, take_all, 1, UINT32_MAX, 0, "one message");
	weave_bare(notify_all, heed_all, 1, UINT32_MAX, 0, "one notify");
}

static void several_messages_wake_a_sleeper_every_time(void **state)
{
	(void)state;
	weave_bare(publish_all, take_all, 3, is_full_run ? 4 : 3,
	           is_full_run ? 50000 : 1000, "three messages");
}

static void several_notifies_wake_a_sleeper_every_time(void **state)
{
	(void)state;
	weave_bare(notify_all, heed_all, 3, is_full_run ? 6 : 3,
	           is_full_run ? 50000 : 1000, "three notifies");
}

/* a whole consumer and a whole producer ----------------------------------- */

struct pair {
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	uint32_t message_count;
};

static void consume_all(void *object)
{
	struct pair *pair = object;
	struct peal_message message;
	uint32_t taken_count = 0;

	while (taken_count < pair->message_count) {
		while (peal_consumer_peek(pair->consumer, &message) == 0) {
			weave_point("peeked");
			peal_consumer_release(pair->consumer, &message);
			taken_count++;
		}
		if (taken_count < pair->message_count)
			peal_consumer_wait(pair->consumer, PEAL_FOREVER);
	}
	/* Whoever waits for room is told, though nothing more is taken. */
	peal_consumer_wait(pair->consumer, 0);
}

static void produce_all(void *object)
{
	struct pair *pair = object;
	void *data;

	for (uint32_t i = 0; i < pair->message_count; i++) {
		if (peal_producer_claim(pair->producer, BIG_BYTES, PEAL_FOREVER,
		                        &data) < 0)
			abort();
		weave_point("claimed");
		peal_producer_publish(pair->producer);
		weave_point("published");
	}
}

static void reset_pair(void *object)
{
	struct pair *pair = object;

	/* Everything of the schedule before was taken: tell it. */
	peal_consumer_wait(pair->consumer, 0);
}

/* The ring is full half of the time: each waits for the other. */
static void consumer_and_producer_never_both_sleep(void **state)
{
	struct peal_consumer_options consumer = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_producer_options producer = PEAL_PRODUCER_OPTIONS_INIT;
	struct pair pair = {.message_count = 4};
	struct weave weave = {
		.runs = {produce_all, consume_all},
		.reset = reset_pair,
		.object = &pair,
		.preemption_max = is_full_run ? 3 : 2,
		.schedule_max = is_full_run ? 100000 : 2000,
		.seed = scene_seed,
	};

	(void)state;
	consumer.name = producer.name = NAME;
	consumer.spin_mode = producer.spin_mode = PEAL_SPIN_NEVER;
	producer.ring_bytes = RING_BYTES;
	assert_int_equal(peal_consumer_open(&consumer, &pair.consumer), 0);
	assert_int_equal(
		peal_producer_attach(&producer, SCENE_S, &pair.producer), 0);
	weave_all(&weave, "consumer and producer", is_full_run ? 50000 : 1000);
	peal_producer_detach(pair.producer);
	peal_consumer_close(pair.consumer);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			every_order_of_one_message_and_one_sleep_is_fine),
		cmocka_unit_test(several_messages_wake_a_sleeper_every_time),
		cmocka_unit_test(several_notifies_wake_a_sleeper_every_time),
		cmocka_unit_test(consumer_and_producer_never_both_sleep),
	};

	is_full_run = scene_is_full(argc, argv);
	return cmocka_run_group_tests(tests, weave_setup,
	                              scene_group_teardown) != 0;
}
