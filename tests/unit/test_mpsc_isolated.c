/* SPDX-License-Identifier: MIT */
/*
 * Producers of another user: no page of theirs is anybody else's, and they wake
 * by a byte on their own socket. As root only, since it takes two users.
 */
#include "tests/unit/mpsc_fixture.h"

#define ROUNDS 40

static const uint32_t allowed[] = {DIRECTORY_UID};

/* What the producer in the other process is to do, and how far it has come. */
struct board {
	uint32_t attached, go, full, done;
	uint32_t wait_mode;
	uint64_t turn;     /* rounds that the parent has begun */
	uint64_t woken_ns; /* when the child had its room */
	int32_t error;     /* of its attach, and the sentence */
	char text[sizeof(own.failure.text)];
};

static struct board *board;

static int begin_isolated(void **state)
{
	if (begin(state) != 0)
		return -1;
	if (board == NULL)
		board = shared_open(sizeof(*board));
	memset(board, 0, sizeof(*board));
	/* The other user has to find the socket. */
	return chmod(own.directory.path, 0755);
}

#define ISOLATED(test) \
	cmocka_unit_test_setup_teardown(test, begin_isolated, end)

/* The server that lets the other user in. */
static struct peal_consumer *open_for_them(uint32_t mode)
{
	struct peal_consumer_options options = consumer_options();

	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be two users");
	options.wait_mode = mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.socket_mode = 0666;
	options.allow_uid = allowed;
	options.allow_uid_count = 1;
	return open_with(&options);
}

/* In the child: become the other user and attach. NULL, with board->error. */
static struct peal_producer *attach_as_them(void)
{
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer = NULL;

	alarm(60);
	options.wait_mode = board->wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	board->error =
		directory_become_user()
			? peal_producer_attach(&options, PATIENCE_NS, &producer)
			: 1;
	memcpy(board->text, own.failure.text, sizeof(board->text));
	flag_set(&board->attached);
	return producer;
}

static pid_t start(int (*run)(void))
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(run());
	assert_true(pid > 0);
	return pid;
}

static void finish(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Let a server in fd mode admit while the child attaches. */
static void await_child(struct peal_consumer *consumer)
{
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	while (!flag_is_set(&board->attached)) {
		peal_consumer_wait(consumer, MS);
		assert_true(now_ns() < end_ns);
	}
	assert_int_equal(board->error, 0);
	await_attached(consumer, 1);
}

/* waking the consumer ------------------------------------------------------ */

/* One message for each turn, and only when the consumer sleeps. */
static int send_in_turns(void)
{
	struct peal_producer *producer = attach_as_them();

	if (producer == NULL)
		return 1;
	for (uint64_t turn = 1; turn <= ROUNDS; turn++) {
		uint64_t end_ns = now_ns() + PATIENCE_NS;

		while (__atomic_load_n(&board->turn, __ATOMIC_ACQUIRE) < turn) {
			if (now_ns() > end_ns)
				return 2;
			sched_yield();
		}
		sleep_ns(2 * MS); /* it is asleep by now, more often than not */
		if (peal_producer_send(producer, "theirs", 6, 0) != 0)
			return 3;
	}
	return peal_producer_detach(producer) == 0 ? 0 : 4;
}

static void message_of_another_user_wakes_a_sleeping_consumer(void **state)
{
	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++) {
		struct peal_consumer *consumer = open_for_them(mode);
		struct peal_message message;
		struct peal_peer_info info;
		uint64_t slept_ns = 0;
		pid_t pid;

		memset(board, 0, sizeof(*board));
		pid = start(send_in_turns);
		await_child(consumer);
		for (uint64_t turn = 1; turn <= ROUNDS; turn++) {
			uint64_t start_ns = now_ns();

			__atomic_store_n(&board->turn, turn, __ATOMIC_RELEASE);
			message = next_message(consumer);
			slept_ns += now_ns() - start_ns;
			assert_text(&message, "theirs");
			assert_int_equal(peal_consumer_peer_info(
						 consumer, message.peer, &info),
			                 0);
			assert_int_equal(info.uid, DIRECTORY_UID);
			assert_int_equal(info.gid, DIRECTORY_UID);
			assert_int_equal(info.pid, pid);
			peal_consumer_release(consumer, &message);
		}
		/* The longest single sleep of a futex is a second: without a
		 * wake it would have been the net that ended them. */
		assert_true(slept_ns < ROUNDS * SECOND / 2);
		finish(pid);
		await_gone(consumer, 1);
		peal_consumer_close(consumer);
	}
}

/* waking the producer ------------------------------------------------------ */

/* Fill the ring and wait for room, in each round. */
static int wait_for_room(void)
{
	struct peal_producer *producer = attach_as_them();

	if (producer == NULL)
		return 1;
	for (int i = 0; i < ROUNDS; i++) {
		int error;

		do
			error = peal_producer_send(producer, own.failure.text,
			                           100, 0);
		while (error == 0);
		if (error != -EAGAIN)
			return 2;
		flag_set(&board->full);
		error = peal_producer_send(producer, own.failure.text, 100,
		                           PATIENCE_NS);
		board->woken_ns = now_ns();
		flag_set(&board->done);
		if (error != 0)
			return 3;
		if (!flag_wait(&board->go))
			return 4;
		__atomic_store_n(&board->go, 0, __ATOMIC_RELAXED);
	}
	return peal_producer_detach(producer) == 0 ? 0 : 5;
}

/*
 * A producer looks at its server every 50 ms, and would find the room then. So
 * being woken shows in the times: most of them are far below that.
 */
static void assert_woken(struct peal_consumer *consumer)
{
	int woken_count = 0;
	pid_t pid = start(wait_for_room);

	await_child(consumer);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t released_ns;

		assert_true(flag_wait(&board->full));
		__atomic_store_n(&board->full, 0, __ATOMIC_RELAXED);
		sleep_ns(3 * MS); /* it is asleep by now, more often than not */
		released_ns = now_ns();
		drain(consumer);
		assert_true(flag_wait(&board->done));
		__atomic_store_n(&board->done, 0, __ATOMIC_RELAXED);
		woken_count += board->woken_ns < released_ns + 10 * MS;
		flag_set(&board->go);
	}
	assert_true(woken_count > ROUNDS / 2);
	finish(pid);
	drain(consumer);
	await_gone(consumer, 1);
	peal_consumer_close(consumer);
}

static void room_wakes_a_producer_of_another_user(void **state)
{
	(void)state;
	for (uint32_t mode = PEAL_WAIT_FUTEX; mode <= PEAL_WAIT_FD; mode++)
		for (uint32_t theirs = PEAL_WAIT_FUTEX; theirs <= PEAL_WAIT_FD;
		     theirs++) {
			struct peal_consumer *consumer = open_for_them(mode);

			memset(board, 0, sizeof(*board));
			board->wait_mode = theirs;
			assert_woken(consumer);
		}
}

/* what they get ------------------------------------------------------------ */

/* How many regions of this kind are mapped here. */
static int count_regions(const char *kind)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	int count = 0;

	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		count += strstr(line, kind) != NULL;
	if (file != NULL)
		fclose(file);
	return count;
}

/* The arm page, read-only, and a segment of its own: nothing else. */
static int look_at_what_we_got(void)
{
	struct peal_producer *producer = attach_as_them();

	if (producer == NULL)
		return 1;
	if (count_regions("memfd:peal-arm") != 1)
		return 2;
	if (count_regions("memfd:peal-segment") == 0)
		return 3;
	if (count_regions("memfd:peal-bell") != 0)
		return 4;
	if (count_regions("memfd:peal-status") != 0)
		return 5;
	return peal_producer_detach(producer) == 0 ? 0 : 6;
}

static void another_user_gets_no_page_that_others_write(void **state)
{
	struct peal_consumer *consumer = open_for_them(PEAL_WAIT_FUTEX);
	struct peal_producer *trusted;
	pid_t pid;

	(void)state;
	pid = start(look_at_what_we_got);
	await_child(consumer);
	finish(pid);
	/* The bell is what we would have seen: our own producer has it. */
	assert_int_equal(count_regions("memfd:peal-bell"), 1);
	trusted = attach();
	assert_int_equal(count_regions("memfd:peal-bell"), 2);
	peal_producer_detach(trusted);
	peal_consumer_close(consumer);
}

/* who is let in ------------------------------------------------------------ */

static int try_to_attach(void)
{
	return attach_as_them() == NULL ? 0 : 1;
}

static void assert_turned_away(const struct peal_consumer_options *options,
                               int expected, const char *sentence)
{
	struct peal_consumer *consumer = open_with(options);

	finish(start(try_to_attach));
	if (board->error != expected || strstr(board->text, sentence) == NULL)
		fail_msg("%d: '%s' does not say '%s'", board->error,
		         board->text, sentence);
	peal_consumer_close(consumer);
}

static void user_who_is_not_on_the_list_is_eacces(void **state)
{
	static const uint32_t others[] = {DIRECTORY_UID + 1, 0};
	struct peal_consumer_options options = consumer_options();

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be two users");
	/* The socket lets it in, the list does not. */
	options.socket_mode = 0666;
	assert_turned_away(&options, -EACCES, "user 12345 is not allowed");
	options.allow_uid = options.allow_gid = others;
	options.allow_uid_count = options.allow_gid_count = 2;
	assert_turned_away(&options, -EACCES, "allow_uid");
	/* The list lets it in, the socket does not. */
	options.socket_mode = 0600;
	options.allow_uid = allowed;
	options.allow_uid_count = 1;
	assert_turned_away(&options, -EACCES, "socket_mode");
}

static void group_on_the_list_is_let_in(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("it takes root to be two users");
	options.socket_mode = 0666;
	options.allow_gid = allowed;
	options.allow_gid_count = 1;
	consumer = open_with(&options);
	pid = start(send_in_turns);
	await_child(consumer);
	__atomic_store_n(&board->turn, ROUNDS, __ATOMIC_RELEASE);
	for (int i = 0; i < ROUNDS; i++)
		expect(consumer, "theirs");
	finish(pid);
	peal_consumer_close(consumer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ISOLATED(message_of_another_user_wakes_a_sleeping_consumer),
		ISOLATED(room_wakes_a_producer_of_another_user),
		ISOLATED(another_user_gets_no_page_that_others_write),
		ISOLATED(user_who_is_not_on_the_list_is_eacces),
		ISOLATED(group_on_the_list_is_let_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
