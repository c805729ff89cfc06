/* SPDX-License-Identifier: MIT */
/*
 * A client killed at every place of the library that has a name; the server
 * goes on for the others: tests/death/answerer.h.
 *
 *	./test_kill_client_at_hooks [--full]   up to 3 passings, or 50
 */
#include "tests/death/answerer.h"
#include "tests/death/places.h"

#define SENT_COUNT 3
#define REQUEST_COUNT (2 + SENT_COUNT + 2) /* of live(), at most */
/* In attach, ring and sleep; told, woken, attached again, in the socket's mode
 * prepared. */
#define PLACE_COUNT 14

static struct plan *plan;
static uint64_t passing_max = 3;

/* The server sends us away after this call; the next one is told, or answered
 * by the new connection. */
static int be_sent_away(struct peal_client *client, uint64_t sequence)
{
	uint64_t end_ns = scene_now_ns() + WATCH_NS;
	uint32_t life = (uint32_t)board->life;
	uint8_t data[MESSAGE_BYTES];
	struct peal_message answer;
	int error;

	scene_put(&board->send_away, 1);
	if (call(client, life, sequence) != 0)
		return -1;
	scene_stamp_write(data, sizeof(data), life, sequence + 1);
	do
		error = peal_client_call(client, data, sizeof(data), WATCH_NS,
		                         &answer);
	while (error == -ECONNRESET && scene_now_ns() < end_ns);
	return error < 0 ? fault("connecting again: %d", error)
	                 : check_answer(&answer, life, sequence + 1);
}

static int send_and_recv(struct peal_client *client, uint64_t first)
{
	uint32_t life = (uint32_t)board->life;
	uint8_t data[MESSAGE_BYTES];
	struct peal_message answer;

	for (uint64_t i = 0; i < SENT_COUNT; i++) {
		scene_stamp_write(data, sizeof(data), life, first + i);
		if (peal_client_send(client, data, sizeof(data), PEAL_FOREVER,
		                     WATCH_NS, NULL) != 0)
			return fault("send");
	}
	for (uint64_t i = 0; i < SENT_COUNT; i++)
		if (peal_client_recv(client, WATCH_NS, &answer) != 0 ||
		    check_answer(&answer, life, first + i) != 0)
			return fault("recv");
	return 0;
}

/* Everything a client does. */
static int live(void *arg)
{
	struct peal_client *client;
	struct peal_message answer;
	uint64_t sequence = 1;

	(void)arg;
	places_watch(plan);
	client = connect_client();
	if (client == NULL)
		return 1;
	for (; sequence <= 2; sequence++) {
		scene_sleep_ns(SCENE_MS); /* it sleeps by now */
		if (call(client, (uint32_t)board->life, sequence) != 0)
			return 2;
	}
	if (send_and_recv(client, sequence) != 0)
		return 3;
	sequence += SENT_COUNT;
	peal_client_wake(client);
	if (peal_client_recv(client, WATCH_NS, &answer) != -ECANCELED)
		return fault("not woken") != 0;
	if (wait_mode == PEAL_WAIT_FD && peal_client_prepare(client) == 0)
		peal_client_dispatch(client);
	if (be_sent_away(client, sequence) != 0)
		return 4;
	return peal_client_close(client);
}

/* the parent -------------------------------------------------------------- */

static int run_life(const char *what)
{
	int status;

	begin_life(REQUEST_COUNT);
	scene_put(&board->hold, 0);
	scene_put(&board->send_away, 0);
	status = scene_wait(scene_start(live, NULL), WATCH_NS);
	judge_life(status, what);
	return status;
}

static void kill_at_every_place(uint32_t mode)
{
	static struct plan dry;
	char what[100];
	int kill_count = 0;

	start_stage(mode);
	places_plan(plan, NULL, 0);
	assert_int_equal(run_life("a dry run"), 0);
	dry = *plan;
	for (uint32_t i = 0; i < dry.place_count; i++) {
		uint64_t last = dry.places[i].passings;

		print_message("  %-28s passed %llu times\n", dry.places[i].name,
		              (unsigned long long)last);
		if (last > passing_max)
			last = passing_max;
		for (uint64_t passing = 1; passing <= last; passing++) {
			snprintf(what, sizeof(what), "killed at '%s', %llu",
			         dry.places[i].name,
			         (unsigned long long)passing);
			places_plan(plan, dry.places[i].name, passing);
			kill_count += run_life(what) != 0;
		}
	}
	print_message("kill_client_at_hooks: %u places, %d kills; the others "
	              "were answered, nothing was held\n",
	              dry.place_count, kill_count);
	assert_true(dry.place_count >= PLACE_COUNT);
	assert_true(kill_count >= (int)dry.place_count);
	end_stage();
}

static void killed_at_every_place_of_futex_mode(void **state)
{
	(void)state;
	kill_at_every_place(PEAL_WAIT_FUTEX);
}

static void killed_at_every_place_of_fd_mode(void **state)
{
	(void)state;
	kill_at_every_place(PEAL_WAIT_FD);
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	plan = scene_board(sizeof(*plan));
	return board != NULL && plan != NULL ? scene_group_setup(state) : -1;
}

#define TEST(name) cmocka_unit_test_teardown(name, scene_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(killed_at_every_place_of_futex_mode),
		TEST(killed_at_every_place_of_fd_mode),
	};

	if (scene_is_full(argc, argv))
		passing_max = 50;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
