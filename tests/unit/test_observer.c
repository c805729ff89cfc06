/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_server.h"

/* what is seen ------------------------------------------------------------- */

static void observer_shows_what_the_region_says(void **state)
{
	struct peal_server_info info;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	errno = FAKE_ERRNO;
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_int_equal(errno, FAKE_ERRNO);
	assert_string_equal(info.name, FAKE_NAME);
	assert_int_equal(info.pid, getpid());
	assert_int_equal(info.uid, geteuid());
	assert_int_equal(info.state, PEAL_SERVER_ALIVE);
	assert_int_equal(info.slot_max, FAKE_SLOT_MAX);
	assert_int_equal(info.client_count, 3);
	assert_int_equal(info.attached_count, 9);
	assert_int_equal(info.detached_count, 3);
	assert_int_equal(info.died_count, 2);
	assert_int_equal(info.evicted_count, 1);
	assert_int_equal(info.refused_count, 7);
	assert_int_equal(info.dropped_bytes, 17);
	assert_int_equal(info.sleep_count, 23);
	assert_true(info.age_ns >= 5 * PEAL__NS_PER_S);
	assert_true(info.age_ns < 5 * PEAL__NS_PER_S + FAKE_PATIENCE_NS);
	assert_true(info.looked_ns >= PEAL__NS_PER_S);
	assert_true(info.looked_ns < PEAL__NS_PER_S + FAKE_PATIENCE_NS);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void message_count_is_of_connections_past_and_present(void **state)
{
	struct peal_server_info info;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	/* What a free slot still holds has been counted as past. */
	fake.slots[0].message_count = 100000;
	fake.slots[0].payload_bytes = 100000;
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_int_equal(info.message_count, 1023);
	assert_int_equal(info.payload_bytes, 50630);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void slot_shows_its_row(void **state)
{
	struct peal_slot_info info;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(peal_observer_slot(observer, 1, &info), 0);
	assert_int_equal(info.slot_index, 1);
	assert_int_equal(info.generation, 77);
	assert_int_equal(info.state, PEAL_SLOT_LIVE);
	assert_int_equal(info.pid, 4711);
	assert_int_equal(info.uid, 1001);
	assert_int_equal(info.gid, 1002);
	assert_int_equal(info.ring_bytes, 4096);
	assert_int_equal(info.message_count, 20);
	assert_int_equal(info.payload_bytes, 600);
	assert_true(info.age_ns >= 4 * PEAL__NS_PER_S);
	assert_true(info.idle_ns >= 2 * PEAL__NS_PER_S);
	assert_true(info.idle_ns < info.age_ns);
	assert_int_equal(info.client_fill_bytes, 3000);
	assert_int_equal(info.client_full_count, 5);
	assert_int_equal(info.client_blocked_ns, 12345);
	assert_int_equal(peal_observer_slot(observer, 3, &info), 0);
	assert_int_equal(info.state, PEAL_SLOT_DRAINING);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void slot_that_is_free_is_estale_and_output_is_left_alone(void **state)
{
	struct peal_slot_info info = {.generation = 5};
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(peal_observer_slot(observer, 0, &info), -ESTALE);
	assert_int_equal(peal_observer_slot(observer, FAKE_SLOT_MAX, &info),
	                 -EINVAL);
	assert_int_equal(peal_observer_slot(observer, UINT32_MAX, &info),
	                 -EINVAL);
	fake.slots[1].state = 99;
	assert_int_equal(peal_observer_slot(observer, 1, &info), -EPROTO);
	assert_int_equal(info.generation, 5);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void slot_without_a_message_is_idle_since_it_attached(void **state)
{
	struct peal_slot_info info;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.slots[1].active_ns = 0;
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(peal_observer_slot(observer, 1, &info), 0);
	assert_int_equal(info.idle_ns, info.age_ns);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void age_by_a_clock_of_the_future_is_zero(void **state)
{
	struct peal_server_info server;
	struct peal_slot_info slot;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.region->opened_ns = UINT64_MAX;
	fake.region->looked_ns = UINT64_MAX - 1;
	fake.slots[1].attached_ns = UINT64_MAX;
	fake.slots[1].active_ns = UINT64_MAX;
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(peal_observer_server(observer, &server), 0);
	assert_int_equal(server.age_ns, 0);
	assert_int_equal(server.looked_ns, 0);
	assert_int_equal(peal_observer_slot(observer, 1, &slot), 0);
	assert_int_equal(slot.age_ns, 0);
	assert_int_equal(slot.idle_ns, 0);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void clients_that_were_never_looked_at_are_told_apart(void **state)
{
	struct peal_server_info info;
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake.region->looked_ns = 0;
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(peal_observer_server(observer, &info), 0);
	assert_true(info.looked_ns == PEAL_NEVER_LOOKED);
	peal_observer_close(observer);
	fake_close(&fake);
}

/* misuse ------------------------------------------------------------------- */

static void name_without_a_server_is_econnrefused(void **state)
{
	struct peal_failure failure = {0, ""};
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	assert_int_equal(peal_observer_open("/nonexistent/words",
	                                    FAKE_PATIENCE_NS, &failure,
	                                    &observer),
	                 -ECONNREFUSED);
	assert_non_null(strstr(failure.text, "no server listens at"));
	/* The socket that a dead server left says the same. */
	fake_open(&fake);
	close(fake.listen_fd);
	assert_int_equal(peal_observer_open(fake.path, FAKE_PATIENCE_NS,
	                                    &failure, &observer),
	                 -ECONNREFUSED);
	fake.listen_fd = -1;
	fake_close(&fake);
}

static void arguments_that_make_no_sense_are_einval(void **state)
{
	struct peal_observer *observer;
	struct peal_server_info server;
	struct peal_slot_info slot;

	(void)state;
	assert_int_equal(peal_observer_open("words", 0, NULL, NULL), -EINVAL);
	assert_int_equal(peal_observer_open(NULL, 0, NULL, &observer), -EINVAL);
	assert_int_equal(peal_observer_open("", 0, NULL, &observer), -EINVAL);
	assert_int_equal(peal_observer_open("a b", 0, NULL, &observer),
	                 -EINVAL);
	assert_int_equal(peal_observer_server(NULL, &server), -EINVAL);
	assert_int_equal(peal_observer_slot(NULL, 0, &slot), -EINVAL);
	assert_int_equal(peal_observer_refresh(NULL, 0), -EINVAL);
	assert_int_equal(peal_observer_each(NULL, NULL), -EINVAL);
	peal_observer_close(NULL);
}

/* refresh ------------------------------------------------------------------ */

static void refresh_asks_the_server(void **state)
{
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(fake.asked_count, 0);
	for (uint32_t i = 1; i < 4; i++) {
		assert_int_equal(
			peal_observer_refresh(observer, FAKE_PATIENCE_NS), 0);
		assert_int_equal(fake.asked_count, i);
	}
	assert_int_equal(fake.hello_count, 1);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void set_mute(struct fake *fake, uint32_t is_mute)
{
	/* Relaxed: the packet that follows orders it. */
	__atomic_store_n(&fake->is_mute, is_mute, __ATOMIC_RELAXED);
}

static void refresh_that_is_not_answered_puts_no_second_question(void **state)
{
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	set_mute(&fake, 1);
	for (int i = 0; i < 4; i++)
		assert_int_equal(peal_observer_refresh(observer, FAKE_SHORT_NS),
		                 -ETIMEDOUT);
	assert_int_equal(fake_state(observer), PEAL_SERVER_SILENT);
	fake_stop(&fake);
	assert_int_equal(fake.asked_count, 1);
	assert_int_equal(fake.hello_count, 1);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void server_that_answers_again_is_alive_again(void **state)
{
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	observer = fake_look(&fake, FAKE_SHORT_NS);
	assert_int_equal(peal_observer_refresh(observer, FAKE_SHORT_NS),
	                 -ETIMEDOUT);
	assert_int_equal(fake_state(observer), PEAL_SERVER_SILENT);
	/* It wakes up and finds our first HELLO. */
	fake_start(&fake);
	assert_int_equal(peal_observer_refresh(observer, FAKE_PATIENCE_NS), 0);
	assert_int_equal(fake_state(observer), PEAL_SERVER_ALIVE);
	assert_int_equal(fake.hello_count, 2);
	assert_int_equal(fake.asked_count, 1);
	fake.region->sleep_count = 24;
	assert_int_equal(peal_observer_refresh(observer, FAKE_PATIENCE_NS), 0);
	peal_observer_close(observer);
	fake_close(&fake);
}

/* It was taken for a dead one, and never asked again. */
static void server_that_hung_up_and_lives_is_asked_again(void **state)
{
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	fake_stop(&fake);
	assert_int_equal(fake_state(observer), PEAL_SERVER_SILENT);
	assert_int_equal(peal_observer_refresh(observer, FAKE_SHORT_NS),
	                 -ETIMEDOUT);
	assert_int_equal(fake_state(observer), PEAL_SERVER_SILENT);
	fake_start(&fake);
	assert_int_equal(peal_observer_refresh(observer, FAKE_PATIENCE_NS), 0);
	assert_int_equal(fake_state(observer), PEAL_SERVER_ALIVE);
	peal_observer_close(observer);
	fake_close(&fake);
}

static void server_that_says_it_closed_is_closed(void **state)
{
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	fake.region->state = PEAL__STATUS_CLOSED;
	assert_int_equal(fake_state(observer), PEAL_SERVER_CLOSED);
	peal_observer_close(observer);
	fake_close(&fake);
}

/* fork --------------------------------------------------------------------- */

static int use_in_child(void *arg)
{
	struct peal_observer *observer = arg;
	struct peal_server_info server;
	struct peal_slot_info slot;

	if (peal_observer_server(observer, &server) != -ESTALE)
		return __LINE__ % 256;
	if (peal_observer_slot(observer, 1, &slot) != -ESTALE)
		return __LINE__ % 256;
	if (peal_observer_refresh(observer, 0) != -ESTALE)
		return __LINE__ % 256;
	peal_observer_close(observer);
	return 0;
}

static void observer_is_estale_in_a_forked_child_and_good_here(void **state)
{
	struct peal_observer *observer;
	struct fake fake;

	(void)state;
	fake_open(&fake);
	fake_start(&fake);
	observer = fake_look(&fake, FAKE_PATIENCE_NS);
	assert_int_equal(check_in_child(use_in_child, observer), 0);
	assert_int_equal(peal_observer_refresh(observer, FAKE_PATIENCE_NS), 0);
	assert_int_equal(fake_state(observer), PEAL_SERVER_ALIVE);
	peal_observer_close(observer);
	fake_close(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(observer_shows_what_the_region_says),
		FAKE_TEST(message_count_is_of_connections_past_and_present),
		FAKE_TEST(slot_shows_its_row),
		FAKE_TEST(slot_that_is_free_is_estale_and_output_is_left_alone),
		FAKE_TEST(slot_without_a_message_is_idle_since_it_attached),
		FAKE_TEST(age_by_a_clock_of_the_future_is_zero),
		FAKE_TEST(clients_that_were_never_looked_at_are_told_apart),
		FAKE_TEST(name_without_a_server_is_econnrefused),
		FAKE_TEST(arguments_that_make_no_sense_are_einval),
		FAKE_TEST(refresh_asks_the_server),
		FAKE_TEST(refresh_that_is_not_answered_puts_no_second_question),
		FAKE_TEST(server_that_answers_again_is_alive_again),
		FAKE_TEST(server_that_hung_up_and_lives_is_asked_again),
		FAKE_TEST(server_that_says_it_closed_is_closed),
		FAKE_TEST(observer_is_estale_in_a_forked_child_and_good_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
