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
#define DRY_RUN_MAX 5

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
	scene_put(&board->attempted, REQUEST_COUNT);
	places_watch();
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

static int run_life(void *arg, const char *what)
{
	int status;

	begin_life();
	scene_put(&board->hold, 0);
	scene_put(&board->send_away, 0);
	status = scene_wait(scene_start(live, arg), WATCH_NS);
	judge_life(status, what);
	return status;
}

static void killed_at_every_place(void **state)
{
	places_open(NULL);
	start_stage(scene_mode(state));
	places_kill_at_each(run_life, NULL, DIES_CLIENT, scene_mode(state),
	                    DRY_RUN_MAX, passing_max);
	end_stage();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TESTS_OF_MODES(killed_at_every_place),
	};

	if (scene_is_full(argc, argv))
		passing_max = 50;
	return cmocka_run_group_tests(tests, open_board,
	                              scene_group_teardown) != 0;
}
