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

static uint64_t kill_max = 50; /* of each operation */

/* what the victim does ------------------------------------------------------ */

static int begin(void)
{
	return steps_begin() == 0 ? 0 : fault("not traced");
}

static int connect_and_close(void *arg)
{
	struct peal_client *client;

	(void)arg;
	if (begin() != 0)
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
	if (client == NULL || begin() != 0 ||
	    call(client, (uint32_t)board->life, 1) != 0)
		return 1;
	steps_end();
	return peal_client_close(client);
}

static int send_some(struct peal_client *client)
{
	uint8_t data[MESSAGE_BYTES];
	int error = 0;

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
	if (arg == NULL && begin() != 0)
		return 2;
	if (send_some(client) != 0)
		return fault("send");
	scene_put(&board->hold, 0);
	if (arg == NULL)
		steps_end();
	else if (begin() != 0)
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
	if (client == NULL || send_some(client) != 0 || begin() != 0)
		return 1;
	peal_client_close(client);
	steps_end();
	return 0;
}

/* the parent ---------------------------------------------------------------- */

struct operation {
	const char *name;
	int (*live)(void *arg);
	const char *arg;
	uint64_t request_count;
	void (*unblock)(void);
};

static void let_go(void)
{
	scene_put(&board->hold, 0);
}

static bool run_to(const void *of, uint64_t target, struct steps *steps)
{
	const struct operation *operation = of;
	uint64_t use_count = board->use_count;
	char what[200];
	bool was_killed;
	pid_t victim;
	int status;

	begin_life(operation->request_count);
	victim =
		scene_start(operation->live, (void *)(uintptr_t)operation->arg);
	was_killed = steps_run(victim, victim, target, steps);
	/* Of the dead the requests are held for ever, but for the cancel. */
	if (!was_killed)
		let_go();
	status = scene_wait(victim, WATCH_NS);
	snprintf(what, sizeof(what), "%s, killed %s", operation->name,
	         steps_describe(steps));
	judge_life(status, what);
	if (operation->live != connect_and_close && use_count != 0 &&
	    board->use_count == use_count)
		fail_msg("%s: the slot has its old generation", what);
	return was_killed;
}

static void kill_in_mode(uint32_t mode)
{
	static const struct operation operations[] = {
		{"connect", connect_and_close, NULL, 0, NULL},
		{"call", ask_and_sleep, NULL, 1, let_go},
		{"send", send_and_recv, NULL, SENT_COUNT, NULL},
		{"receive", send_and_recv, "second half", SENT_COUNT, NULL},
		{"close", send_and_close, NULL, SENT_COUNT, NULL},
	};
	static struct steps steps;

	start_stage(mode);
	for (size_t i = 0; i < CHECK_COUNT(operations); i++) {
		steps.unblock = operations[i].unblock;
		steps_try_some(operations[i].name, &operations[i], run_to,
		               &steps, kill_max, 50);
	}
	print_message("%llu requests were cancelled while they ran, %llu "
	              "dropped, %llu never read\n",
	              (unsigned long long)board->cancelled_count,
	              (unsigned long long)board->stats.dropped_count,
	              (unsigned long long)board->stats.unread_count);
	assert_true(board->cancelled_count > 0);
	end_stage();
}

static void killed_at_any_instruction_in_futex_mode(void **state)
{
	(void)state;
	kill_in_mode(PEAL_WAIT_FUTEX);
}

static void killed_at_any_instruction_in_fd_mode(void **state)
{
	(void)state;
	kill_in_mode(PEAL_WAIT_FD);
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

#define TEST(name) cmocka_unit_test_teardown(name, scene_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(killed_at_any_instruction_in_futex_mode),
		TEST(killed_at_any_instruction_in_fd_mode),
	};
	const char *refusal = steps_refusal();

	if (refusal != NULL) {
		printf("skipped: %s\n", refusal);
		return 77;
	}
	if (scene_is_full(argc, argv))
		kill_max = STEPS_NEVER;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
