/* SPDX-License-Identifier: MIT */
/*
 * Room in the lane that comes while a client gets ready to block in a loop is
 * not slept through. Needs -Dhooks=true: by chance it never comes then.
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
	static const char *const places[] = {"prepare: about to",
	                                     "prepare: armed"};
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			lane_that_is_read_during_prepare_is_not_slept_through,
			begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
