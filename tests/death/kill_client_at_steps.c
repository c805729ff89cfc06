/* SPDX-License-Identifier: MIT */
/*
 * A client killed at every instruction of what it does with a server, which
 * goes on for the others: tests/death/answerer.h.
 *
 *	./test_kill_client_at_steps [--full]   a sample, or every boundary
 */
#include "tests/death/answerer.h"
#include "tests/death/sample.h"

#define SENT_COUNT 3
#define SECOND_HALF ((void *)1) /* of send_and_recv() is stepped */

#define KILL_MAX 50 /* of each operation */

/* what the victim does ------------------------------------------------------ */

static int connect_and_close(void *arg)
{
	struct peal_client *client;

	(void)arg;
	if (steps_begin() != 0)
		return 1;
	client = connect_client();
	steps_end();
	return client == NULL ? 2 : peal_client_close(client);
}

/* Ask, sleep for the answer, take it. */
static int ask_and_sleep(void *arg)
{
	struct peal_client *client = connect_client();

	(void)arg;
	scene_put(&board->attempted, 1);
	if (client == NULL || steps_begin() != 0 ||
	    call(client, (uint32_t)board->life, 1) != 0)
		return 1;
	steps_end();
	return peal_client_close(client);
}

static int send_some(struct peal_client *client)
{
	uint8_t data[MESSAGE_BYTES];
	int error = 0;

	scene_put(&board->attempted, SENT_COUNT);
	for (uint64_t i = 1; i <= SENT_COUNT && error == 0; i++) {
		scene_stamp_write(data, sizeof(data), (uint32_t)board->life, i);
		error = peal_client_send(client, data, sizeof(data),
		                         PEAL_FOREVER, 0, NULL);
	}
	return error;
}

static int recv_all(struct peal_client *client)
{
	struct peal_message answer;

	for (uint64_t i = 1; i <= SENT_COUNT; i++)
		if (peal_client_recv(client, WATCH_NS, &answer) != 0 ||
		    check_answer(&answer, (uint32_t)board->life, i) != 0)
			return fault("recv");
	return 0;
}

static int send_and_recv(void *arg)
{
	struct peal_client *client = connect_client();

	if (client == NULL)
		return 1;
	/* Either half of it is stepped. */
	if (arg == NULL && steps_begin() != 0)
		return 2;
	if (send_some(client) != 0)
		return fault("send");
	scene_put(&board->hold, 0);
	if (arg == NULL)
		steps_end();
	else if (steps_begin() != 0)
		return 3;
	if (recv_all(client) != 0)
		return 4;
	steps_end();
	return peal_client_close(client);
}

static int send_and_close(void *arg)
{
	struct peal_client *client = connect_client();

	(void)arg;
	if (client == NULL || send_some(client) != 0 || steps_begin() != 0)
		return 1;
	peal_client_close(client);
	steps_end();
	return 0;
}

/* the parent ---------------------------------------------------------------- */

static void let_go(void)
{
	scene_put(&board->hold, 0);
}

static bool run_to(const struct steps_operation *operation, uint64_t target,
                   struct steps *steps)
{
	uint64_t use_count = board->use_count;
	bool was_killed;
	pid_t victim;

	begin_life();
	victim = scene_start(operation->live, operation->arg);
	was_killed = steps_run(victim, victim, target, steps);
	/* Of the dead the requests are held for ever, but for the cancel. */
	if (!was_killed)
		let_go();
	examine_life(scene_wait(victim, WATCH_NS));
	if (operation->live != connect_and_close && use_count != 0 &&
	    board->use_count == use_count)
		fault("the slot has its old generation");
	return was_killed;
}

static void tell_of_requests(void)
{
	print_message("%llu requests were cancelled while they ran, %llu "
	              "dropped, %llu never read\n",
	              (unsigned long long)board->cancelled_count,
	              (unsigned long long)board->stats.dropped_count,
	              (unsigned long long)board->stats.unread_count);
	if (board->cancelled_count == 0)
		fault("no request was cancelled while it ran");
}

static void killed_at_any_instruction(void **state)
{
	static const struct steps_operation operations[] = {
		{.name = "connect", .live = connect_and_close},
		{.name = "call", .live = ask_and_sleep, .unblock = let_go},
		{.name = "send", .live = send_and_recv},
		{.name = "receive", .live = send_and_recv, .arg = SECOND_HALF},
		{.name = "close", .live = send_and_close},
	};
	static const struct steps_stage stage = {
		.operations = operations,
		.count = CHECK_COUNT(operations),
		.begin = begin_share,
		.live = run_to,
		.end = tell_of_requests,
		.what_is_wrong = found_fault,
	};

	steps_try_all(&stage, scene_mode(state));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TESTS_OF_MODES(killed_at_any_instruction),
	};

	if (!steps_prepare(KILL_MAX, argc, argv))
		return 77;
	return cmocka_run_group_tests(tests, open_board,
	                              scene_group_teardown) != 0;
}
