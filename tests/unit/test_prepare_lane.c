/* SPDX-License-Identifier: MIT */
/*
 * Room in the lane that comes while a client gets ready to block in a loop, or to
 * sleep for room in its other ring, is not slept through. Needs -Dhooks=true: by chance it never comes then.
 */
#include "tests/unit/full_lane.h"

#include "base/hooks.h"
#include "peal/client.h"
#include "reactor/client.h"

static struct {
	const char *place;
	uint32_t happened_count;
} event;

/* The server reads the lane there, once. */
static void read_lane_at(const char *place)
{
	if (event.place == NULL || strcmp(place, event.place) != 0)
		return;
	event.place = NULL; /* it passes hooks of its own */
	event.happened_count++;
	run();
}

static void receive_all(struct peal_client *client)
{
	struct peal_message message;

	while (peal_client_recv(client, 0, &message) == 0)
		continue;
}

static void lane_that_is_read_during_prepare_is_not_slept_through(void **state)
{
	static const char *const places[] = {"client prepares: about to",
	                                     "client prepares: armed"};
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;

	(void)state;
	options.on_opened = call_often;
	wish.name = "served";
	wish.wait_mode = PEAL_WAIT_FD;
	wish.on_request = answer_at_length;
	for (size_t i = 0; i < CHECK_COUNT(places); i++) {
		answer_count = event.happened_count = 0;
		open_reactor(&options);
		assert_int_equal(
			peal_client_connect(&wish, PATIENCE_NS, &client), 0);
		run_until(&served.opened_count, 1);
		receive_all(client);
		assert_non_null(client->unsent);
		event.place = places[i];
		peal__hook = read_lane_at;
		assert_true(peal_client_prepare(client) == 1 ||
		            is_readable(peal_client_fd(client), 0));
		peal__hook = NULL;
		assert_int_equal(event.happened_count, 1);
		while (answer_count < CALLS) {
			uint32_t before = answer_count;

			assert_int_equal(peal_client_dispatch(client), 0);
			receive_all(client);
			run();
			assert_true(answer_count > before);
		}
		peal_client_close(client);
		run_until(&served.closed_count, 1);
		close_reactor();
	}
}

static struct peal_request *kept;

static void keep(struct peal_request *request, void *arg)
{
	(void)arg;
	kept = request;
}

static void lane_that_is_read_before_a_sleep_for_room_is_filled(void **state)
{
	static const char *const places[] = {"sleep: about to", "sleep: armed"};
	struct peal_reactor_options options = usual_options();
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	char text[LONG_BYTES] = "e";
	struct peal_client *client;

	(void)state;
	options.on_opened = call_often;
	options.on_request = keep;
	options.in_flight_per_client_max = 1;
	wish.name = "served";
	wish.spin_mode = PEAL_SPIN_NEVER;
	wish.request_ring_bytes = 4096;
	wish.on_request = answer_at_length;
	for (size_t i = 0; i < CHECK_COUNT(places); i++) {
		uint32_t heard_count;

		answer_count = event.happened_count = 0;
		open_reactor(&options);
		assert_int_equal(
			peal_client_connect(&wish, PATIENCE_NS, &client), 0);
		run_until(&served.opened_count, 1);
		/* One is being served, and the ring is full of the next. */
		assert_int_equal(peal_client_send(client, "e", 1, PEAL_FOREVER,
		                                  0, NULL),
		                 0);
		run();
		receive_all(client);
		while (peal_client_send(client, text, sizeof(text),
		                        PEAL_FOREVER, 0, NULL) == 0)
			continue;
		assert_non_null(client->unsent);
		event.place = places[i];
		peal__hook = read_lane_at;
		assert_int_equal(peal_client_send(client, text, sizeof(text),
		                                  PEAL_FOREVER, 20 * MS, NULL),
		                 -ETIMEDOUT);
		peal__hook = NULL;
		assert_int_equal(event.happened_count, 1);
		heard_count = answer_count;
		run();
		assert_true(answer_count > heard_count);
		peal_reply(kept, NULL, 0);
		peal_client_close(client);
		run_until(&served.closed_count, 1);
		close_reactor();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			lane_that_is_read_during_prepare_is_not_slept_through,
			begin, end),
		cmocka_unit_test_setup_teardown(
			lane_that_is_read_before_a_sleep_for_room_is_filled,
			begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
