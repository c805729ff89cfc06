/* SPDX-License-Identifier: MIT */
/*
 * Caps, and clients that do not read: what is taken, what waits in its ring, and
 * what is refused.
 */
#include "tests/unit/reactor_fixture.h"

#include <sys/socket.h>
#include <sys/un.h>

static void stall_leaves_requests_in_the_ring(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.in_flight_per_client_max = 2;
	open_reactor_for(&raw, &options);
	for (uint64_t i = 1; i <= 4; i++)
		assert_int_equal(raw_ask(&raw, i, "k"), 0);
	run();
	assert_int_equal(served.kept_count, 2);
	assert_false(peal__reactor_has_work(served.reactor));
	assert_int_equal(peal_reactor_run_once(served.reactor, 1), -ETIMEDOUT);
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	run();
	assert_int_equal(served.kept_count, 3);
	for (int i = 1; i < 4; i++) {
		assert_int_equal(peal_reply(served.kept[i], "", 0), 0);
		run();
	}
	for (uint64_t i = 1; i <= 4; i++)
		hear(&raw, PEAL__FRAME_ANSWER, i, 0, "");
	leave_and_close(&raw);
}

static void reject_fails_what_is_too_much_in_order(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.in_flight_per_client_max = 2;
	options.at_cap = PEAL_AT_CAP_REJECT;
	open_reactor_for(&raw, &options);
	for (uint64_t i = 1; i <= 6; i++)
		assert_int_equal(raw_ask(&raw, i, "k"), 0);
	run();
	assert_int_equal(served.kept_count, 2);
	hear_nothing(&raw);
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	assert_int_equal(peal_reply(served.kept[1], "", 0), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "");
	hear(&raw, PEAL__FRAME_ANSWER, 2, 0, "");
	hear(&raw, PEAL__FRAME_FAILED, 3, -EBUSY, "");
	hear(&raw, PEAL__FRAME_FAILED, 4, -EBUSY, "");
	assert_int_equal(served.kept_count, 4);
	assert_int_equal(peal_reply(served.kept[2], "", 0), 0);
	assert_int_equal(peal_reply(served.kept[3], "", 0), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 5, 0, "");
	hear(&raw, PEAL__FRAME_ANSWER, 6, 0, "");
	leave_and_close(&raw);
}

static void total_cap_stops_all_and_lets_go_again(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client a, b;

	(void)state;
	options.in_flight_max = 1;
	open_reactor(&options);
	connect_raw(&a, 0);
	connect_raw(&b, 0);
	assert_int_equal(raw_ask(&a, 1, "k"), 0);
	run();
	assert_int_equal(raw_ask(&b, 2, "e"), 0);
	assert_int_equal(peal_reactor_run_once(served.reactor, 1), -ETIMEDOUT);
	hear_nothing(&b);
	assert_int_equal(peal_reply(served.kept[0], "", 0), 0);
	run();
	hear(&a, PEAL__FRAME_ANSWER, 1, 0, "");
	hear(&b, PEAL__FRAME_ANSWER, 2, 0, "e");
	leave(&a);
	leave(&b);
	close_reactor();
}

static void full_response_ring_parks_its_client_alone(void **state)
{
	struct peal_reactor_options options = usual_options();
	static char text[1000] = "e";
	struct peal_message message;
	struct peal__frame_parts parts;
	struct raw_client slow, fine;
	uint64_t asked = 0;

	(void)state;
	memset(text + 1, 'x', sizeof(text) - 2);
	open_reactor(&options);
	connect_raw(&slow, 0);
	connect_raw(&fine, 0);
	while (raw_ask(&slow, asked + 1, text) == 0) {
		asked++;
		run();
	}
	assert_true(asked > 5);
	/* Its ring of 4 KiB is full, and one more answer waits. */
	assert_true(served.handled_count <= 5);
	assert_false(peal__reactor_has_work(served.reactor));
	for (uint64_t i = 1; i < 20; i++) {
		ask_and_hear(&fine, i, "e fine");
	}
	for (uint64_t i = 1; i <= asked; i++) {
		assert_int_equal(raw_hear(&slow, &message, &parts), 0);
		assert_int_equal(message.id, i);
		assert_int_equal(message.data_bytes, sizeof(text) - 1);
		run();
	}
	leave(&slow);
	leave(&fine);
	close_reactor();
}

static void push_beyond_the_cap_of_bytes_is_refused(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	struct peal_message message;
	struct peal__frame_parts parts;
	static const char text[512] = "news";
	int sent = 0, error;

	(void)state;
	options.queued_max_bytes = 2048;
	open_reactor_for(&raw, &options);
	while ((error = peal_reactor_push(served.reactor, served.opened, text,
	                                  sizeof(text))) == 0)
		sent++;
	assert_int_equal(error, -EAGAIN);
	assert_true(sent > 8);
	for (; sent > 0; sent--) {
		assert_int_equal(raw_hear(&raw, &message, &parts), 0);
		run();
	}
	hear_nothing(&raw);
	leave_and_close(&raw);
}

/* Refusals wait for their turn. Then they once took the places of others, and
 * nobody was heard any more when they were many. */
static void refusals_that_wait_are_not_in_the_way_of_others(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client greedy[2], other;

	(void)state;
	options.in_flight_max = 4;
	options.in_flight_per_client_max = 3;
	options.at_cap = PEAL_AT_CAP_REJECT;
	open_reactor_for(&greedy[0], &options);
	connect_raw(&greedy[1], 0);
	connect_raw(&other, 0);
	for (uint64_t i = 1; i <= 20; i++)
		assert_int_equal(raw_ask(&greedy[0], i, "k"), 0);
	run();
	assert_int_equal(served.kept_count, 3);
	assert_true(served.reactor->in_flight > 4);
	ask_and_hear(&other, 1, "e");
	for (uint64_t i = 1; i <= 20; i++)
		assert_int_equal(raw_ask(&greedy[1], i, "k"), 0);
	run();
	assert_int_equal(served.kept_count, 4);
	assert_true(served.reactor->in_flight > 8);
	assert_int_equal(raw_ask(&other, 2, "e"), 0);
	run();
	hear(&other, PEAL__FRAME_FAILED, 2, -EBUSY, "");
	for (int i = 0; i < 2; i++)
		leave(&greedy[i]);
	for (uint32_t i = 0; i < served.kept_count; i++)
		assert_int_equal(peal_reply(served.kept[i], "", 0), 0);
	run();
	assert_int_equal(served.reactor->in_flight, 0);
	assert_int_equal(served.reactor->refused_count, 0);
	leave_and_close(&other);
}

static void assert_turned_away(const char *name, int expected,
                               const char *sentence)
{
	const struct peal__wish wish = {name, PEAL__ROLE_CLIENT, 4096, 4096, 0};
	struct peal__connection connection;

	own.failure = (struct peal_failure){0, ""};
	assert_int_equal(peal__attach(&wish,
	                              peal__deadline_after(PEAL__NS_PER_S),
	                              &own.failure, &connection),
	                 expected);
	if (strstr(own.failure.text, sentence) == NULL)
		fail_msg("'%s' does not say '%s'", own.failure.text, sentence);
}

static void connect_in_silence(int *fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/served",
	         own.directory.path);
	assert_int_equal(
		connect(*fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

/* It was the consumer's, which a reactor's user has not got. */
static void cap_of_a_user_is_told_by_its_name(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;
	int fds[8];

	(void)state;
	options.client_per_uid_max = 1;
	open_reactor_for(&raw, &options);
	assert_turned_away("served", -EBUSY,
	                   "slots that one user may have; raise "
	                   "client_per_uid_max");
	for (size_t i = 0; i < CHECK_COUNT(fds); i++)
		connect_in_silence(&fds[i]);
	assert_turned_away("served", -EBUSY,
	                   "connections that one user may have; raise "
	                   "client_per_uid_max");
	for (size_t i = 0; i < CHECK_COUNT(fds); i++)
		close(fds[i]);
	leave_and_close(&raw);
}

static void client_of_a_consumer_is_told_what_to_be(void **state)
{
	struct peal_consumer *consumer = open_consumer();

	(void)state;
	assert_turned_away("words", -EPROTONOSUPPORT,
	                   "attach to it as a producer");
	peal_consumer_close(consumer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(stall_leaves_requests_in_the_ring),
		TEST(reject_fails_what_is_too_much_in_order),
		TEST(refusals_that_wait_are_not_in_the_way_of_others),
		TEST(total_cap_stops_all_and_lets_go_again),
		TEST(full_response_ring_parks_its_client_alone),
		TEST(push_beyond_the_cap_of_bytes_is_refused),
		TEST(cap_of_a_user_is_told_by_its_name),
		TEST(client_of_a_consumer_is_told_what_to_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
