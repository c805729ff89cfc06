/* SPDX-License-Identifier: MIT */
/*
 * Clients that do not behave like one process that comes, works and goes: they
 * stop, fork, exec, leak, come back thousands of times, and send what takes
 * long to close.
 *
 *	./test_hostile_others [--full]    0.1 s for each attack, or 3
 */
#include "tests/hostile/attack.h"

#include <netinet/in.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

#define LIVES_AT_ONCE 3

static int churn_count = 500;

/* clients that do not behave like one process -------------------------------------- */

/* Asks and asks, reads nothing, and goes on when it is let. */
static int ask_and_stop(void)
{
	struct raw raw;

	if (raw_enter(&raw) != 0)
		return ATTACK_WRONG;
	for (int i = 0; i < 200; i++) {
		void *data;

		if (peal_ring_claim(
			    &raw.tx, 60, stage_role == PEAL__ROLE_CLIENT,
			    stage_role == PEAL__ROLE_CLIENT ? ++raw.id : 0,
			    &data) < 0)
			break;
		memset(data, 0x5a, 60);
		peal_ring_publish(&raw.tx);
		peal_doorbell_ring(&raw.bell);
	}
	/* It says that it sleeps, and for what will never come. */
	raw.segment->space.want = UINT64_MAX / 2;
	raw.segment->answers.want = UINT64_MAX / 2;
	raw.segment->space.arm = raw.segment->answers.arm = 4 << 2 | 1;
	raise(SIGSTOP);
	return 0;
}

static void stopped_client_with_full_rings_stalls_itself_only(void **state)
{
	struct attack attack = {OWN, ask_and_stop};
	pid_t pids[LIVES_AT_ONCE];
	uint64_t before;
	int status;

	(void)state;
	for (int i = 0; i < LIVES_AT_ONCE; i++) {
		pids[i] = scene_start(run_attack, &attack);
		assert_int_equal(waitpid(pids[i], &status, WUNTRACED), pids[i]);
		assert_true(WIFSTOPPED(status));
	}
	before = scene_get(&stage_board->received);
	assert_true(scene_reach(&stage_board->received, before + 200,
	                        STAGE_PATIENCE_NS));
	/* A stopped one is not dead. */
	assert_true(stage_ask());
	assert_int_equal(stage_board->free_count,
	                 STAGE_SLOTS - 1 - LIVES_AT_ONCE);
	for (int i = 0; i < LIVES_AT_ONCE; i++)
		assert_int_equal(scene_kill(pids[i]),
		                 CHECK_KILLED_BY + SIGKILL);
	assert_true(stage_is_well());
}

/* What it had lives on in a child, which goes on as if nothing were. */
static int fork_and_leave(void)
{
	struct raw raw;
	uint64_t end_ns;

	if (raw_enter(&raw) != 0)
		return ATTACK_WRONG;
	raw_publish(&raw, 100);
	if (fork() != 0)
		_exit(0);
	end_ns = scene_now_ns() + 2 * STAGE_PATIENCE_NS;
	while (scene_get(&stage_board->window) == 0 && scene_now_ns() < end_ns)
		raw_publish(&raw, 100);
	scene_put(&stage_board->window, 2);
	_exit(0);
}

static void client_whose_child_goes_on_is_dead_all_the_same(void **state)
{
	struct attack attack = {OWN, fork_and_leave};

	(void)state;
	assert_int_equal(scene_wait(scene_start(run_attack, &attack),
	                            STAGE_PATIENCE_NS),
	                 0);
	/* Its socket is open as ever, and its slot is free. */
	assert_true(stage_is_well());
	assert_int_equal(stage_board->stats.died_count, 1);
	scene_put(&stage_board->window, 1);
	assert_true(scene_reach(&stage_board->window, 2, STAGE_PATIENCE_NS));
	assert_true(stage_is_well());
}

/* It becomes another program, which has never heard of peal. */
static int exec_another(void)
{
	struct raw raw;

	if (raw_enter(&raw) != 0)
		return ATTACK_WRONG;
	for (int i = 0; i < 20; i++)
		raw_publish(&raw, 100);
	fcntl(raw.socket, F_SETFD, 0);
	for (size_t i = 0; i < raw.fd_count; i++)
		fcntl(raw.fds[i], F_SETFD, 0);
	execl("/bin/sleep", "sleep", "0.2", (char *)NULL);
	return ATTACK_WRONG;
}

static void client_that_executes_another_program_costs_one_slot(void **state)
{
	(void)state;
	attack_as_everybody(exec_another);
}

/* A new one gets its own answers, and none of who was there before. */
static bool hears_its_own(struct raw *raw)
{
	struct peal__frame_parts parts;
	struct peal_message message;

	while (raw->responses.capacity_bytes > 0 &&
	       peal_ring_peek(&raw->responses, &message) == 0) {
		peal_ring_release(&raw->responses, &message);
		if (peal__frame_take(&message, &parts) < 0)
			return false;
		if ((parts.type == PEAL__FRAME_ANSWER ||
		     parts.type == PEAL__FRAME_FAILED) &&
		    message.id != raw->id)
			return false;
	}
	return true;
}

static int come_and_go(void)
{
	int count = 0;

	for (int i = 0; i < 20 * churn_count && count < churn_count; i++) {
		struct raw raw;
		int error = raw_attach(&raw);

		if (error != 0) {
			raw_close(&raw);
			/* Their slots are not back yet, or it was too slow. */
			scene_sleep_ns(100 * SCENE_US);
			continue;
		}
		/* An id that nobody else has. */
		raw.id = (uint64_t)getpid() << 32 | (uint64_t)count << 8;
		raw_publish(&raw, 40);
		if (count % 8 == 0)
			scene_sleep_ns(50 * SCENE_US);
		if (!hears_its_own(&raw))
			return ATTACK_WRONG;
		if (count % 2 == 0)
			raw_send_type(&raw, PEAL__WIRE_BYE);
		raw_close(&raw);
		count++;
	}
	return count == churn_count ? 0 : ATTACK_WRONG;
}

/* Slots, descriptors and mappings that nobody gives back but the kernel. */
static int leak(void)
{
	static struct raw raw[LIVES_AT_ONCE];
	uint64_t end_ns = scene_now_ns() + attack_ns / 2;

	for (int i = 0; i < LIVES_AT_ONCE; i++) {
		if (raw_enter(&raw[i]) != 0)
			return ATTACK_WRONG;
		while (raw_publish(&raw[i], 200) == 0 &&
		       scene_now_ns() < end_ns)
			;
	}
	return 0;
}

static void clients_that_come_and_go_thousands_of_times_leave_nothing(void **s)
{
	(void)s;
	attack_as_each(come_and_go);
	attack_as_each(leak);
	attack_was_by_everybody();
}

/* a descriptor whose close would take long ------------------------------------------- */

#define LINGER_S 4

/* A socket with data that nobody reads, and seconds to get rid of them. */
static int lingering_socket(int ret_others[2])
{
	const struct linger linger = {1, LINGER_S};
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t bytes = sizeof(address);
	static char data[1 << 16];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ret_others[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ret_others[0] < 0 ||
	    bind(ret_others[0], (struct sockaddr *)&address, sizeof(address)) !=
	            0 ||
	    listen(ret_others[0], 1) != 0 ||
	    getsockname(ret_others[0], (struct sockaddr *)&address, &bytes) !=
	            0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return -1;
	ret_others[1] = accept(ret_others[0], NULL, NULL);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	return fd;
}

static int pass_lingering(void)
{
	int others[2], fd, error;
	struct raw raw;

	if (raw_enter(&raw) != 0)
		return ATTACK_WRONG;
	fd = lingering_socket(others);
	if (fd < 0)
		return ATTACK_WRONG;
	error = peal__pass_send(raw.socket, "W", 1, &fd, 1);
	if (error != 0 && error != -EPERM)
		return ATTACK_WRONG;
	if (error == 0) {
		scene_add(&stage_board->passed_count, 1);
	} else {
		/* Then it is we who would wait. */
		struct linger none = {1, 0};

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	}
	/* The receiver's copy is the last one. It must not be made to wait. */
	close(fd);
	raw_publish(&raw, 10);
	/* As long as the other end lives, so long may its close take. */
	if (error == 0)
		scene_sleep_ns(LINGER_S * SCENE_S);
	raw_close(&raw);
	close(others[0]);
	close(others[1]);
	return 0;
}

static bool kernel_can_refuse(void)
{
	int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), value;
	socklen_t bytes = sizeof(value);
	bool can = getsockopt(probe, SOL_SOCKET, SO_PASSRIGHTS, &value,
	                      &bytes) == 0;

	close(probe);
	return can;
}

/*
 * The kernel takes no descriptor for the server, where it can refuse one. Where
 * it cannot, who reads the sockets may have to wait: in futex mode that is the
 * thread at the door, and nobody's messages are any later for it.
 */
static void lingering_socket_that_is_sent_along_blocks_nobody(void **state)
{
	bool can_refuse = kernel_can_refuse();

	(void)state;
	if (!can_refuse && stage_wait_mode == PEAL_WAIT_FD)
		CHECK_SKIP("this kernel refuses no descriptors, and in fd mode "
		           "the server's own thread reads the sockets");
	scene_put(&stage_board->longest_ns, 0);
	attack_as_each(pass_lingering);
	print_message("  lingering: %llu came through, the neighbour waited "
	              "%.1f ms at most\n",
	              (unsigned long long)stage_board->passed_count,
	              (double)stage_board->longest_ns / 1e6);
	/* Whoever closed one would have taken as long as it lingers. */
	assert_in_range(stage_board->longest_ns, 1, (LINGER_S - 1) * SCENE_S);
	if (can_refuse)
		assert_int_equal(stage_board->passed_count, 0);
	attack_was_by_everybody();
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(stopped_client_with_full_rings_stalls_itself_only),
		TEST(client_whose_child_goes_on_is_dead_all_the_same),
		TEST(client_that_executes_another_program_costs_one_slot),
		TEST(clients_that_come_and_go_thousands_of_times_leave_nothing),
		TEST(lingering_socket_that_is_sent_along_blocks_nobody),
	};
	size_t count = 2;
	int failed = 0;

	if (scene_is_full(argc, argv)) {
		attack_ns = 3 * SCENE_S;
		churn_count = 10000;
		attack_patience_ns = 6 * STAGE_PATIENCE_NS;
		count = CHECK_COUNT(attack_stages);
	}
	for (size_t i = 0; i < count; i++) {
		attack_stages[i].be();
		stage_wait_mode = attack_stages[i].wait_mode;
		failed += cmocka_run_group_tests(tests, stage_group_setup,
		                                 scene_group_teardown);
	}
	return failed != 0;
}
