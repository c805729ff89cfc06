/* SPDX-License-Identifier: MIT */
/*
 * How soon a user may come in again: the reckoning itself, with a clock of the
 * test's, and a door that goes by it.
 */
#include "tests/unit/by_hand.h"

#include <sys/stat.h>

#include "mpsc/pace.h"

#define NOW (UINT64_C(1000) * SECOND)
#define NONSENSE_NS (20 * MS)

/* the reckoning ----------------------------------------------------------------- */

static void without_a_rate_nobody_waits(void **state)
{
	struct peal__pace pace;

	(void)state;
	peal__pace_init(&pace, 0);
	for (int i = 0; i < 100000; i++)
		assert_int_equal(peal__pace_enter(&pace, 7, NOW), NOW);
}

static void a_burst_comes_at_once_and_the_rest_at_the_rate(void **state)
{
	struct peal__pace pace;

	(void)state;
	peal__pace_init(&pace, 10);
	for (int i = 0; i < 10; i++)
		assert_int_equal(peal__pace_enter(&pace, 7, NOW), NOW);
	for (uint64_t i = 1; i <= 10; i++)
		assert_int_equal(peal__pace_enter(&pace, 7, NOW),
		                 NOW + i * 100 * MS);
	/* And nobody waits for longer than a second, or is held against it. */
	for (int i = 0; i < 100; i++)
		assert_int_equal(peal__pace_enter(&pace, 7, NOW),
		                 PEAL__PACE_TURNED_AWAY);
	assert_int_equal(peal__pace_enter(&pace, 7, NOW + 100 * MS),
	                 NOW + 1100 * MS);
	/* Who stays away for long enough has a burst again. */
	for (int i = 0; i < 10; i++)
		assert_int_equal(peal__pace_enter(&pace, 7, NOW + 9 * SECOND),
		                 NOW + 9 * SECOND);
}

static void once_a_second_is_a_rate_too(void **state)
{
	struct peal__pace pace;

	(void)state;
	peal__pace_init(&pace, 1);
	assert_int_equal(peal__pace_enter(&pace, 7, NOW), NOW);
	assert_int_equal(peal__pace_enter(&pace, 7, NOW), NOW + SECOND);
	assert_int_equal(peal__pace_enter(&pace, 7, NOW),
	                 PEAL__PACE_TURNED_AWAY);
	peal__pace_init(&pace, PEAL__PACE_RATE_MAX);
	for (int i = 0; i < PEAL__PACE_RATE_MAX; i++)
		assert_int_equal(peal__pace_enter(&pace, 7, NOW), NOW);
	assert_int_equal(peal__pace_enter(&pace, 7, NOW), NOW + 1000);
}

static void each_user_has_its_own(void **state)
{
	struct peal__pace pace;

	(void)state;
	peal__pace_init(&pace, 1);
	peal__pace_punish(&pace, 8, NOW);
	for (uint32_t uid = 9; uid < 8 + PEAL__PACE_USERS; uid++)
		assert_int_equal(peal__pace_enter(&pace, uid, NOW), NOW);
	assert_int_equal(peal__pace_enter(&pace, 8, NOW), NOW + NONSENSE_NS);
}

/* It uses up the burst, adds up, and turns nobody away. */
static void nonsense_costs_a_rest(void **state)
{
	static const uint32_t rates[] = {0, 1, 50};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(rates); i++) {
		struct peal__pace pace;

		peal__pace_init(&pace, rates[i]);
		peal__pace_punish(&pace, 7, NOW);
		peal__pace_punish(&pace, 7, NOW);
		assert_int_equal(peal__pace_enter(&pace, 7, NOW),
		                 NOW + 2 * NONSENSE_NS);
		peal__pace_init(&pace, rates[i]);
		for (int j = 0; j < 1000; j++)
			peal__pace_punish(&pace, 7, NOW);
		assert_int_equal(peal__pace_enter(&pace, 7, NOW), NOW + SECOND);
		assert_int_equal(peal__pace_enter(&pace, 7, NOW + 4 * SECOND),
		                 NOW + 4 * SECOND);
	}
}

/* the door ---------------------------------------------------------------------- */

/* How long the server takes to answer an attach of ours. */
static uint64_t attach_takes_ns(void)
{
	uint64_t start_ns = now_ns();

	peal_producer_detach(attach());
	return now_ns() - start_ns;
}

static void talk_nonsense(void)
{
	union peal__packet packet = {0};
	int fd = hand_connect();

	/* A HELLO is expected. */
	hand_send(fd, &packet, PEAL__WIRE_BYE);
	assert_int_equal(hand_await(fd, &packet), PEAL__WIRE_ERROR);
	close(fd);
}

/* It would come again at once, thousands of times a second, and each time the
 * others would pay for a segment. */
static void who_was_sent_away_for_nonsense_waits_at_the_door(void **state)
{
	struct peal_consumer *consumer = open_consumer();

	(void)state;
	for (int i = 0; i < 10; i++)
		talk_nonsense();
	/* Less the time from the server's clock to ours. */
	assert_true(attach_takes_ns() >= NONSENSE_NS / 2);
	await_gone(consumer, 1);
	assert_int_equal(stats_of(consumer).refused_count, 10);
	peal_consumer_close(consumer);
}

static void producer_that_talks_nonsense_makes_its_user_wait(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	union peal__packet packet = {
		.hello = {.abi = PEAL__WIRE_ABI, .role = PEAL__ROLE_PRODUCER}};
	uint64_t start_ns;
	int fd = hand_connect();

	(void)state;
	/* Live, and then a word that nobody understands. */
	hand_send(fd, &packet, PEAL__WIRE_HELLO);
	assert_int_equal(hand_await(fd, &packet), PEAL__WIRE_WELCOME);
	hand_send(fd, &packet, PEAL__WIRE_READY);
	await_attached(consumer, 1);
	start_ns = now_ns();
	hand_send(fd, &packet, PEAL__WIRE_HELLO);
	assert_int_equal(hand_await(fd, &packet), PEAL__WIRE_ERROR);
	close(fd);
	peal_producer_detach(attach());
	assert_true(now_ns() - start_ns >= NONSENSE_NS);
	peal_consumer_close(consumer);
}

static void corrupt_ring_makes_its_user_wait(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	struct peal_message none;
	uint64_t start_ns;

	(void)state;
	await_attached(consumer, 1);
	spoil(producer, 5);
	start_ns = now_ns();
	assert_int_equal(peal_consumer_peek(consumer, &none), -EAGAIN);
	await_gone(consumer, 1);
	peal_producer_detach(attach());
	assert_true(now_ns() - start_ns >= NONSENSE_NS);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static int attach_as_another(void *unused)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;

	(void)unused;
	if (setgid(4321) != 0 || setuid(4321) != 0)
		return 2;
	return peal_producer_attach(&options, SECOND / 2, &producer) == 0 ? 0
	                                                                  : 1;
}

static void users_do_not_wait_for_each_other(void **state)
{
	static const uint32_t other = 4321;
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be several users");
	assert_int_equal(chmod(own.directory.path, 0755), 0);
	options.socket_mode = 0666;
	options.allow_uid = &other;
	options.allow_uid_count = 1;
	options.attach_rate_max = 1;
	consumer = open_with(&options);
	peal_producer_detach(attach());
	assert_int_equal(check_in_child(attach_as_another, NULL), 0);
	assert_true(attach_takes_ns() > SECOND / 2);
	peal_consumer_close(consumer);
}

static void who_comes_too_often_waits_and_then_is_refused(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_producer *producer;
	struct peal_consumer *consumer;
	uint64_t start_ns = now_ns();
	int waiting[2];

	(void)state;
	options.attach_rate_max = 2;
	consumer = open_with(&options);
	for (int i = 0; i < 4; i++)
		peal_producer_detach(attach());
	/* Two at once, and then one every half second. */
	assert_true(now_ns() - start_ns >= SECOND);
	for (size_t i = 0; i < CHECK_COUNT(waiting); i++)
		waiting[i] = hand_connect();
	assert_int_equal(peal_producer_attach(&others, PATIENCE_NS, &producer),
	                 -EBUSY);
	assert_non_null(strstr(own.failure.text, "attach_rate_max"));
	/* It is counted after it was told. */
	while (stats_of(consumer).refused_count == 0)
		sleep_ns(MS);
	/* Those who give up at the door leave nothing there. */
	for (size_t i = 0; i < CHECK_COUNT(waiting); i++)
		close(waiting[i]);
	sleep_ns(SECOND);
	peal_producer_detach(attach());
	peal_consumer_close(consumer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_rate_nobody_waits),
		cmocka_unit_test(
			a_burst_comes_at_once_and_the_rest_at_the_rate),
		cmocka_unit_test(once_a_second_is_a_rate_too),
		cmocka_unit_test(each_user_has_its_own),
		cmocka_unit_test(nonsense_costs_a_rest),
		TEST(who_was_sent_away_for_nonsense_waits_at_the_door),
		TEST(producer_that_talks_nonsense_makes_its_user_wait),
		TEST(corrupt_ring_makes_its_user_wait),
		TEST(users_do_not_wait_for_each_other),
		TEST(who_comes_too_often_waits_and_then_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
