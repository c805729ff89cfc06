/* SPDX-License-Identifier: MIT */
/*
 * What somebody may say at the door: nothing of it keeps others out, or costs
 * the server a descriptor, a seat, or its time.
 *
 *	./test_hostile_door [--full]      floods of 2,000 packets, or 50,000
 *	./test_hostile_door_reactor       the same, at the door of a reactor
 *
 * As our own user, and as another one who may come in.
 */
#include "tests/hostile/stranger.h"

#define CROWD_MAX 200 /* more than there are seats and places to wait */

static int flood_count = 2000;
static int crowd_count = 40; /* more than there are seats */

/* How the server answers a first packet: the code of its ERROR, or WELCOME. */
static int answer_to(const void *data, size_t bytes)
{
	struct raw raw;
	int type;

	assert_int_equal(raw_connect(&raw), 0);
	if (bytes > 0)
		assert_int_equal(raw_send(&raw, data, bytes), 0);
	type = raw_receive(&raw, STAGE_PATIENCE_NS);
	if (type == PEAL__WIRE_ERROR) {
		assert_true(strlen(raw.packet.error.text) > 10);
		type = raw.packet.error.code;
		/* And then it hangs up. */
		assert_int_equal(raw_receive(&raw, STAGE_PATIENCE_NS),
		                 -ECONNRESET);
	}
	raw_close(&raw);
	return type;
}

static void wrong_hello_is_refused_with_a_sentence(void **state)
{
	const struct {
		size_t offset;
		uint64_t value;
		size_t bytes;
		int answer;
	} lies[] = {
		{offsetof(struct peal__wire_head, magic), 7, 4, -EPROTO},
		{offsetof(struct peal__wire_head, major), 2, 2,
	         -EPROTONOSUPPORT},
		{offsetof(struct peal__wire_head, major), 0, 2,
	         -EPROTONOSUPPORT},
		{offsetof(struct peal__wire_head, type), 0, 4, -EPROTO},
		{offsetof(struct peal__wire_head, type), PEAL__WIRE_WELCOME, 4,
	         -EPROTO},
		{offsetof(struct peal__wire_head, type), 99, 4, -EPROTO},
		{offsetof(struct peal__wire_head, bytes), 119, 4, -EPROTO},
		{offsetof(struct peal__wire_head, bytes), UINT32_MAX, 4,
	         -EPROTO},
		{offsetof(struct peal__hello, abi), 1, 4, -EPROTONOSUPPORT},
		{offsetof(struct peal__hello, role),
	         stage_role == PEAL__ROLE_CLIENT ? PEAL__ROLE_PRODUCER
	                                         : PEAL__ROLE_CLIENT,
	         4, -EPROTONOSUPPORT},
		{offsetof(struct peal__hello, role), 0, 4, -EPROTONOSUPPORT},
		{offsetof(struct peal__hello, role), UINT32_MAX, 4,
	         -EPROTONOSUPPORT},
		{offsetof(struct peal__hello, request_ring_bytes), 4097, 8,
	         -EINVAL},
		{offsetof(struct peal__hello, request_ring_bytes), 2048, 8,
	         -EMSGSIZE},
		{offsetof(struct peal__hello, request_ring_bytes), 1 << 25, 8,
	         -EMSGSIZE},
		{offsetof(struct peal__hello, request_ring_bytes),
	         UINT64_C(1) << 63, 8, -EMSGSIZE},
		{offsetof(struct peal__hello, request_ring_bytes), UINT64_MAX,
	         8, -EMSGSIZE},
		/* A later minor version is none of our business. */
		{offsetof(struct peal__wire_head, minor), 9, 2,
	         PEAL__WIRE_WELCOME},
	};
	uint64_t before;

	(void)state;
	assert_true(stage_ask());
	before = stage_board->stats.refused_count;
	for (size_t i = 0; i < CHECK_COUNT(lies); i++) {
		struct peal__hello hello = raw_hello(stage_role);

		memcpy((char *)&hello + lies[i].offset, &lies[i].value,
		       lies[i].bytes);
		assert_int_equal(answer_to(&hello, sizeof(hello)),
		                 lies[i].answer);
	}
	assert_true(stage_is_well());
	/* The last one was welcome, and left by itself. */
	assert_int_equal(stage_board->stats.refused_count - before,
	                 CHECK_COUNT(lies) - 1);
}

static void hello_of_any_other_length_is_refused(void **state)
{
	struct {
		struct peal__hello hello;
		char more[400];
	} packet = {.hello = raw_hello(stage_role)};

	(void)state;
	for (size_t bytes = 1; bytes < sizeof(packet.hello); bytes++)
		assert_int_equal(answer_to(&packet, bytes), -EPROTO);
	/* It says 120, and is longer. */
	assert_int_equal(answer_to(&packet, sizeof(packet.hello) + 8), -EPROTO);
	/* What a later minor version appended is passed over. */
	packet.hello.head.bytes = sizeof(packet.hello) + 8;
	assert_int_equal(answer_to(&packet, sizeof(packet.hello) + 8),
	                 PEAL__WIRE_WELCOME);
	/* Longer than any packet. */
	assert_true(answer_to(&packet, sizeof(packet)) < 0);
	assert_true(stage_is_well());
}

static void empty_packet_ends_the_connection(void **state)
{
	struct raw raw;

	(void)state;
	assert_int_equal(raw_connect(&raw), 0);
	assert_int_equal(send(raw.socket, "", 0, MSG_NOSIGNAL), 0);
	assert_true(raw_receive(&raw, STAGE_PATIENCE_NS) < 0);
	raw_close(&raw);
	assert_true(stage_is_well());
}

static void assert_turned_away_after_a_second(struct raw *raw,
                                              uint64_t start_ns)
{
	uint64_t took_ns;

	assert_int_equal(raw_receive(raw, STAGE_PATIENCE_NS), PEAL__WIRE_ERROR);
	took_ns = scene_now_ns() - start_ns;
	assert_int_equal(raw->packet.error.code, -ETIMEDOUT);
	assert_in_range(took_ns / SCENE_MS, 900, 8000);
	raw_close(raw);
}

static void silence_is_refused_after_a_second(void **state)
{
	struct raw silent, undecided;
	uint64_t start_ns = scene_now_ns();

	(void)state;
	assert_int_equal(raw_connect(&silent), 0);
	assert_int_equal(raw_connect(&undecided), 0);
	/* This one has a slot, and memory, and never becomes ready. */
	assert_int_equal(raw_greet(&undecided, stage_role), PEAL__WIRE_WELCOME);
	assert_turned_away_after_a_second(&silent, start_ns);
	assert_turned_away_after_a_second(&undecided, start_ns);
	assert_true(stage_is_well());
	assert_int_equal(stage_board->stats.refused_count, 2);
}

/* The same packet again and again, until the server has had enough. */
static void flood(struct raw *raw, const void *data, size_t bytes)
{
	for (int i = 0; i < flood_count && !raw_is_closed(raw); i++)
		while (raw_send(raw, data, bytes) == -EAGAIN &&
		       !raw_is_closed(raw))
			scene_sleep_ns(20 * SCENE_US);
}

static void floods_end_the_connection_they_come_by(void **state)
{
	static const enum peal__wire_type types[] = {
		PEAL__WIRE_HELLO, PEAL__WIRE_READY,  PEAL__WIRE_WELCOME,
		PEAL__WIRE_ERROR, PEAL__WIRE_STATUS,
	};
	struct raw raw;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(types); i++) {
		union peal__packet packet = {.bytes = {0}};
		size_t bytes;

		packet.hello = raw_hello(stage_role);
		bytes = peal__wire_seal(&packet, types[i]);
		/* At the door, and when it is in already. */
		assert_int_equal(raw_connect(&raw), 0);
		flood(&raw, &packet, bytes);
		assert_true(raw_is_closed(&raw));
		raw_close(&raw);
		assert_int_equal(raw_enter(&raw), 0);
		flood(&raw, &packet, bytes);
		assert_true(raw_is_closed(&raw));
		raw_close(&raw);
	}
	assert_true(stage_is_well());
}

/* What may be said often, and is heard every time. */
static void floods_that_are_allowed_stall_nobody(void **state)
{
	union peal__packet bye = {.bytes = {0}}, question = {.bytes = {0}};
	size_t bye_bytes = peal__wire_seal(&bye, PEAL__WIRE_BYE);
	size_t question_bytes = peal__wire_seal(&question, PEAL__WIRE_STATUS);
	struct raw raw, observer;

	(void)state;
	assert_int_equal(raw_enter(&raw), 0);
	flood(&raw, &bye, bye_bytes);
	assert_int_equal(raw_publish(&raw, 8), 0);
	flood(&raw, "W", 1);
	/* One that asks and asks, and never listens. */
	assert_int_equal(raw_connect(&observer), 0);
	assert_int_equal(raw_greet(&observer, PEAL__ROLE_OBSERVER),
	                 PEAL__WIRE_WELCOME);
	flood(&observer, &question, question_bytes);
	raw_close(&observer);
	raw_close(&raw);
	assert_true(stage_is_well());
	assert_int_equal(stage_board->stats.detached_count, 1);
}

static void observer_that_rings_is_sent_away(void **state)
{
	struct raw raw;

	(void)state;
	assert_int_equal(raw_connect(&raw), 0);
	assert_int_equal(raw_greet(&raw, PEAL__ROLE_OBSERVER),
	                 PEAL__WIRE_WELCOME);
	assert_int_equal(raw_send(&raw, "W", 1), 0);
	assert_true(raw_receive(&raw, STAGE_PATIENCE_NS) == PEAL__WIRE_ERROR);
	raw_close(&raw);
	assert_true(stage_is_well());
}

/* Descriptors with every kind of packet; none stays with the server. */
static void descriptors_that_are_sent_along_are_not_kept(void **state)
{
	struct peal__hello hello = raw_hello(stage_role);
	union peal__packet packet = {.bytes = {0}};
	size_t bytes = peal__wire_seal(&packet, PEAL__WIRE_BYE);
	int fds[] = {0, 1, 2, 0}, refused_count = 0;
	struct raw raw;

	(void)state;
	for (size_t count = 1; count <= CHECK_COUNT(fds); count++) {
		assert_int_equal(raw_connect(&raw), 0);
		refused_count += peal__pass_send(raw.socket, &hello,
		                                 sizeof(hello), fds,
		                                 count) == -EPERM;
		raw_receive(&raw, 100 * SCENE_MS);
		raw_close(&raw);
		assert_int_equal(raw_enter(&raw), 0);
		for (int i = 0; i < 20; i++) {
			peal__pass_send(raw.socket, "W", 1, fds, count);
			peal__pass_send(raw.socket, &packet, bytes, fds, count);
		}
		raw_close(&raw);
	}
	assert_true(stage_is_well());
	print_message("  descriptors: the kernel refused %d of %zu\n",
	              refused_count, CHECK_COUNT(fds));
}

static void welcome_that_is_never_read_costs_one_seat_for_a_second(void **state)
{
	struct peal__hello hello = raw_hello(stage_role);
	struct raw raw[STAGE_SLOTS - 1], last;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(raw); i++) {
		assert_int_equal(raw_connect(&raw[i]), 0);
		assert_int_equal(raw_send(&raw[i], &hello, sizeof(hello)), 0);
	}
	scene_sleep_ns(20 * SCENE_MS);
	/* All slots are promised. */
	assert_int_equal(raw_connect(&last), 0);
	assert_int_equal(raw_greet(&last, stage_role), -EBUSY);
	raw_close(&last);
	/* And after a second they are not. */
	assert_int_equal(raw_enter(&last), 0);
	raw_close(&last);
	for (size_t i = 0; i < CHECK_COUNT(raw); i++)
		raw_close(&raw[i]);
	assert_true(stage_is_well());
}

/* Somebody who comes late, and is as honest as can be. 0 or -errno. */
static int come_and_go(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_client_options asks = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_producer *producer;
	struct peal_message answer;
	struct peal_client *client;
	int error;

	options.name = asks.name = STAGE_NAME;
	if (stage_role == PEAL__ROLE_CLIENT) {
		error = peal_client_connect(&asks, 20 * SCENE_S, &client);
		if (error < 0)
			return error;
		error = peal_client_call(client, "hello", 5, STAGE_PATIENCE_NS,
		                         &answer);
		peal_client_close(client);
		/* The stage fails one of sixteen, on purpose. */
		return error == -EPERM ? 0 : error;
	}
	error = peal_producer_attach(&options, 20 * SCENE_S, &producer);
	if (error < 0)
		return error;
	error = peal_producer_send(producer, "hello", 5, STAGE_PATIENCE_NS);
	peal_producer_detach(producer);
	return error;
}

static void crowd_at_the_door_does_not_keep_others_out_for_long(void **state)
{
	static struct raw crowd[CROWD_MAX];
	uint64_t start_ns;
	int reached = 0, error;

	(void)state;
	for (int i = 0; i < crowd_count; i++)
		reached += raw_connect(&crowd[i]) == 0;
	start_ns = scene_now_ns();
	/* It is of the same user, who has all the connections that one has. */
	while ((error = come_and_go()) == -EBUSY &&
	       scene_now_ns() - start_ns < 20 * SCENE_S)
		scene_sleep_ns(SCENE_MS);
	assert_int_equal(error, 0);
	start_ns = scene_now_ns() - start_ns;
	for (int i = 0; i < crowd_count; i++)
		raw_close(&crowd[i]);
	assert_true(stage_is_well());
	print_message("  crowd: %d silent ones before us, attached after %.1f "
	              "s\n",
	              reached, (double)start_ns / 1e9);
	assert_true(reached > STAGE_SEATS);
}

/* the longest of its waits ------------------------------------------------ */

#define WAIT_COUNT 20
#define WAIT_NS (20 * SCENE_MS)

static int measure_waits(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_message message;
	uint64_t start_ns;

	(void)arg;
	options.name = STAGE_NAME;
	options.wait_mode = stage_wait_mode;
	options.spin_ns = 50 * SCENE_US;
	if (peal_consumer_open(&options, &consumer) < 0)
		return 2;
	scene_put(&stage_board->is_open, 1);
	for (int i = 0; i < WAIT_COUNT || stage_board->received == 0; i++) {
		start_ns = scene_now_ns();
		peal_consumer_wait(consumer, WAIT_NS);
		start_ns = scene_now_ns() - start_ns;
		if (start_ns > stage_board->sent)
			scene_put(&stage_board->sent, start_ns);
		while (peal_consumer_peek(consumer, &message) == 0) {
			stage_board->received++;
			peal_consumer_release(consumer, &message);
		}
	}
	return peal_consumer_close(consumer);
}

/* Every byte moved the bell, a spin ended, and began again without end. */
static void wait_ends_in_time_under_a_flood_of_wakes(void **state)
{
	struct raw raw;
	pid_t server;
	uint64_t end_ns, count = 0;
	int status;

	(void)state;
	memset(stage_board, 0, sizeof(*stage_board));
	server = scene_start(measure_waits, NULL);
	assert_true(scene_reach(&stage_board->is_open, 1, STAGE_PATIENCE_NS));
	assert_int_equal(raw_enter(&raw), 0);
	assert_int_equal(raw_publish(&raw, 100), 0);
	end_ns = scene_now_ns() + STAGE_PATIENCE_NS;
	while ((status = scene_wait(server, 0)) == SCENE_TIMED_OUT &&
	       scene_now_ns() < end_ns)
		for (int i = 0; i < 2000; i++)
			count += raw_send(&raw, "W", 1) == 0;
	raw_close(&raw);
	print_message("  wakes: %llu, the longest wait of 20 ms took %.1f ms\n",
	              (unsigned long long)count,
	              (double)stage_board->sent / 1e6);
	assert_int_equal(status, 0);
	/* A flood lasts as long as the wait does, so it would be without end. */
	assert_true(stage_board->sent < STAGE_PATIENCE_NS / 2);
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

static int attack_in_mode(uint32_t wait_mode)
{
	const struct CMUnitTest tests[] = {
		TEST(wrong_hello_is_refused_with_a_sentence),
		TEST(hello_of_any_other_length_is_refused),
		TEST(empty_packet_ends_the_connection),
		TEST(silence_is_refused_after_a_second),
		TEST(floods_end_the_connection_they_come_by),
		TEST(floods_that_are_allowed_stall_nobody),
		TEST(observer_that_rings_is_sent_away),
		TEST(descriptors_that_are_sent_along_are_not_kept),
		TEST(welcome_that_is_never_read_costs_one_seat_for_a_second),
		TEST(crowd_at_the_door_does_not_keep_others_out_for_long),
	};

	stage_wait_mode = wait_mode;
	return cmocka_run_group_tests(tests, stage_group_setup,
	                              scene_group_teardown);
}

static int attack_as_a_stranger_in_mode(uint32_t wait_mode)
{
	const struct CMUnitTest tests[] = {
		STRANGERS_TEST(wrong_hello_is_refused_with_a_sentence),
		STRANGERS_TEST(hello_of_any_other_length_is_refused),
		STRANGERS_TEST(empty_packet_ends_the_connection),
		STRANGERS_TEST(silence_is_refused_after_a_second),
		STRANGERS_TEST(floods_end_the_connection_they_come_by),
		STRANGERS_TEST(floods_that_are_allowed_stall_nobody),
		STRANGERS_TEST(observer_that_rings_is_sent_away),
		STRANGERS_TEST(descriptors_that_are_sent_along_are_not_kept),
		STRANGERS_TEST(
			welcome_that_is_never_read_costs_one_seat_for_a_second),
		STRANGERS_TEST(
			crowd_at_the_door_does_not_keep_others_out_for_long),
	};

	stage_wait_mode = wait_mode;
	return stranger_run(tests);
}

/* A wait that is a consumer's own. */
static int flood_in_mode(uint32_t wait_mode)
{
	const struct CMUnitTest waits[] = {
		SCENE_TEST(wait_ends_in_time_under_a_flood_of_wakes),
	};

	stage_wait_mode = wait_mode;
	return cmocka_run_group_tests(waits, stage_group_setup,
	                              scene_group_teardown);
}

int main(int argc, char **argv)
{
	/* The same program under another name: see tests/meson.build. */
	const bool is_reactor = strstr(argv[0], "reactor") != NULL;
	const bool is_full = scene_is_full(argc, argv);
	int failed = 0;

	if (is_reactor)
		stage_be_reactor();
	if (is_full)
		flood_count = 50000, crowd_count = CROWD_MAX;
	/* In fd mode the door is the reactor's own thread. */
	failed += attack_in_mode(PEAL_WAIT_FD);
	if (is_full || !is_reactor)
		failed += attack_in_mode(PEAL_WAIT_FUTEX);
	if (!is_reactor) {
		failed += flood_in_mode(PEAL_WAIT_FUTEX);
		failed += flood_in_mode(PEAL_WAIT_FD);
	}
	/* Without --full each has one mode, and the two programs have both. */
	if (is_full || !is_reactor)
		failed += attack_as_a_stranger_in_mode(PEAL_WAIT_FUTEX);
	if (is_full || is_reactor)
		failed += attack_as_a_stranger_in_mode(PEAL_WAIT_FD);
	return failed != 0;
}
