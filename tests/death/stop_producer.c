/* SPDX-License-Identifier: MIT */
/*
 * SIGSTOP: who is stopped is not dead, and stalls nobody but itself.
 *
 *	a producer stopped anywhere: the others go on, closing does not hang,
 *	and after SIGCONT it goes on where it was
 *	a consumer stopped: every call with a limit ends at its limit, and
 *	after SIGCONT everybody goes on
 *
 *	./test_stop_producer [--full]     40 stops under load, or 400
 */
#include "tests/scene.h"

#define NAME "words"
#define SENDER_COUNT 3
#define VICTIM 0 /* the one that is stopped */
#define CLAIM_COUNT 5

struct board {
	uint64_t is_open;
	uint64_t stop;      /* everybody: it is over */
	uint64_t hold;      /* the consumer takes nothing meanwhile */
	uint64_t step;      /* of the victim, or of the one that calls */
	uint64_t close;     /* the consumer: close now */
	uint64_t closed_ns; /* how long that took */
	uint32_t wait_mode;
	uint64_t sent[SENDER_COUNT];
	uint64_t received[SENDER_COUNT];
	char fault[200];
};

static struct board *board;
static int stop_count = 40;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* the consumer's process ------------------------------------------------- */

static int take(const struct peal_message *message)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp) ||
	    stamp.sender >= SENDER_COUNT)
		return fault("a torn message");
	if (stamp.sequence != board->received[stamp.sender] + 1)
		return fault("sender %u: message %llu follows %llu",
		             stamp.sender, (unsigned long long)stamp.sequence,
		             (unsigned long long)board->received[stamp.sender]);
	scene_put(&board->received[stamp.sender], stamp.sequence);
	return 0;
}

static int consume(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_message message;
	uint64_t start_ns;

	(void)arg;
	options.name = NAME;
	options.wait_mode = board->wait_mode;
	if (peal_consumer_open(&options, &consumer) < 0)
		return fault("open");
	scene_put(&board->is_open, 1);
	while (scene_get(&board->close) == 0) {
		peal_consumer_wait(consumer, 5 * SCENE_MS);
		while (scene_get(&board->hold) == 0 &&
		       scene_get(&board->close) == 0 &&
		       peal_consumer_peek(consumer, &message) == 0) {
			if (take(&message) != 0)
				return 1;
			peal_consumer_release(consumer, &message);
		}
	}
	start_ns = scene_now_ns();
	peal_consumer_close(consumer);
	scene_put(&board->closed_ns, scene_now_ns() - start_ns + 1);
	return 0;
}

static pid_t start_consumer(uint32_t wait_mode)
{
	pid_t pid;

	memset(board, 0, sizeof(*board));
	board->wait_mode = wait_mode;
	pid = scene_start(consume, NULL);
	return scene_reach(&board->is_open, 1, 10 * SCENE_S) ? pid : -1;
}

/* the producers' processes ----------------------------------------------- */

static struct peal_producer *attach(uint64_t ring_bytes)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;

	options.name = NAME;
	options.ring_bytes = ring_bytes;
	if (peal_producer_attach(&options, 10 * SCENE_S, &producer) == 0)
		return producer;
	fault("attach");
	return NULL;
}

static int send_next(struct peal_producer *producer, uint32_t sender,
                     uint64_t timeout_ns)
{
	uint8_t data[300];
	uint64_t sequence = board->sent[sender] + 1;
	size_t bytes = sizeof(struct scene_stamp) + sequence % 200;
	int error;

	scene_stamp_write(data, bytes, sender, sequence);
	error = peal_producer_send(producer, data, bytes, timeout_ns);
	if (error == 0)
		scene_put(&board->sent[sender], sequence);
	return error;
}

/* Streams, and every fourth time holds claims for a while. */
static int stream(void *arg)
{
	uint32_t sender = (uint32_t)(uintptr_t)arg;
	struct peal_producer *producer = attach(8192);
	int error = producer == NULL ? -1 : 0;

	while (error == 0 && scene_get(&board->stop) == 0) {
		uint64_t sequence = board->sent[sender] + 1;
		size_t bytes = 24 + sequence % 100;
		void *data;

		if (sequence % 4 != 0) {
			error = send_next(producer, sender, PEAL_FOREVER);
			continue;
		}
		error = peal_producer_claim(producer, bytes, PEAL_FOREVER,
		                            &data);
		if (error < 0)
			break;
		scene_stamp_write(data, bytes, sender, sequence);
		if (peal_producer_publish(producer) == 1)
			scene_put(&board->sent[sender], sequence);
	}
	if (error < 0)
		return fault("sender %u: %d", sender, error);
	return peal_producer_detach(producer);
}

/* Stops itself with claims in hand, and publishes them when it goes on. */
static int stop_with_claims(void *arg)
{
	struct peal_producer *producer = attach(8192);
	int error;
	void *data;

	(void)arg;
	if (producer == NULL)
		return 1;
	for (uint64_t i = 1; i <= CLAIM_COUNT; i++) {
		error = peal_producer_claim(producer, 100, SCENE_S, &data);
		if (error < 0)
			return fault("claim: %d", error);
		scene_stamp_write(data, 100, VICTIM, i);
	}
	scene_put(&board->step, 1);
	raise(SIGSTOP);
	if (peal_producer_publish(producer) != CLAIM_COUNT)
		return fault("publish");
	return peal_producer_detach(producer);
}

/* Fills its ring, and is stopped by its parent while it waits for room. */
static int fill_and_wait(void *arg)
{
	struct peal_producer *producer = attach(4096);
	int error;

	(void)arg;
	if (producer == NULL)
		return 1;
	while (send_next(producer, VICTIM, 0) == 0)
		;
	scene_put(&board->step, 1);
	do
		error = send_next(producer, VICTIM, PEAL_FOREVER);
	while (error == 0);
	if (error != -ESHUTDOWN)
		return fault("waited, and got %d", error);
	return peal_producer_detach(producer);
}

/* Every call with a limit, while the consumer is stopped. */
static int call_with_limits(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer = attach(4096), *second;
	uint64_t start_ns = scene_now_ns(), took_ns;
	int error;

	(void)arg;
	if (producer == NULL)
		return 1;
	scene_put(&board->step, 1);
	if (!scene_reach(&board->step, 2, 10 * SCENE_S))
		return fault("the consumer was not stopped");
	while ((error = send_next(producer, VICTIM, 0)) == 0)
		;
	if (error != -EAGAIN)
		return fault("full, and got %d", error);
	start_ns = scene_now_ns();
	error = send_next(producer, VICTIM, 120 * SCENE_MS);
	took_ns = scene_now_ns() - start_ns;
	if (error != -ETIMEDOUT || took_ns < 120 * SCENE_MS ||
	    took_ns > 2 * SCENE_S)
		return fault("waited %llu ns, and got %d",
		             (unsigned long long)took_ns, error);
	options.name = NAME;
	/* More of them than its backlog takes: none hangs. */
	for (int i = 0; i < 150; i++) {
		uint64_t limit_ns = i == 0 ? 120 * SCENE_MS : SCENE_MS;

		start_ns = scene_now_ns();
		error = peal_producer_attach(&options, limit_ns, &second);
		took_ns = scene_now_ns() - start_ns;
		if (error != -ETIMEDOUT || took_ns > limit_ns + SCENE_S)
			return fault("attach %d took %llu ns and got %d", i,
			             (unsigned long long)took_ns, error);
	}
	scene_put(&board->step, 3);
	error = send_next(producer, VICTIM, 10 * SCENE_S);
	if (error == 0)
		error = peal_producer_attach(&options, 10 * SCENE_S, &second);
	if (error < 0)
		return fault("after it went on: %d", error);
	peal_producer_detach(second);
	return peal_producer_detach(producer);
}

/* the parent ------------------------------------------------------------- */

static void end_consumer(pid_t consumer)
{
	scene_put(&board->close, 1);
	assert_int_equal(scene_wait(consumer, 10 * SCENE_S), 0);
	assert_true(board->closed_ns < SCENE_S);
	assert_string_equal(board->fault, "");
	assert_string_equal(scene_names(), "");
}

/* Both others send and are heard while the victim stands still. */
static bool others_go_on(void)
{
	uint64_t before[SENDER_COUNT];

	for (uint32_t i = VICTIM + 1; i < SENDER_COUNT; i++)
		before[i] = scene_get(&board->received[i]);
	for (uint32_t i = VICTIM + 1; i < SENDER_COUNT; i++)
		if (!scene_reach(&board->received[i], before[i] + 200,
		                 10 * SCENE_S))
			return false;
	return true;
}

static void stopped_producer_stalls_nobody_else(void **state)
{
	pid_t consumer = start_consumer(PEAL_WAIT_FUTEX), pids[SENDER_COUNT];
	uint64_t chance = scene_seed, longest_ns = 0, total = 0;

	(void)state;
	for (uintptr_t i = 0; i < SENDER_COUNT; i++)
		pids[i] = scene_start(stream, (void *)i);
	for (uint32_t i = 0; i < SENDER_COUNT; i++)
		assert_true(scene_reach(&board->sent[i], 1, 10 * SCENE_S));
	for (int i = 0; i < stop_count; i++) {
		uint64_t victim_sent, start_ns;

		scene_sleep_ns(scene_random(&chance) % (3 * SCENE_MS));
		kill(pids[VICTIM], SIGSTOP);
		start_ns = scene_now_ns();
		assert_true(others_go_on());
		if (scene_now_ns() - start_ns > longest_ns)
			longest_ns = scene_now_ns() - start_ns;
		victim_sent = scene_get(&board->sent[VICTIM]);
		kill(pids[VICTIM], SIGCONT);
		assert_true(scene_reach(&board->sent[VICTIM], victim_sent + 1,
		                        10 * SCENE_S));
	}
	scene_put(&board->stop, 1);
	for (uint32_t i = 0; i < SENDER_COUNT; i++) {
		assert_int_equal(scene_wait(pids[i], 10 * SCENE_S), 0);
		assert_true(scene_reach(&board->received[i], board->sent[i],
		                        10 * SCENE_S));
		total += board->sent[i];
	}
	end_consumer(consumer);
	print_message("stop_producer: %d stops, %llu messages, none lost; 400 "
	              "messages of the others took %.1f ms at most\n",
	              stop_count, (unsigned long long)total,
	              (double)longest_ns / 1e6);
}

static void stopped_producer_publishes_its_claims_later(void **state)
{
	pid_t consumer = start_consumer(PEAL_WAIT_FUTEX);
	pid_t victim = scene_start(stop_with_claims, NULL);
	pid_t other;
	int status;

	(void)state;
	assert_true(scene_reach(&board->step, 1, 10 * SCENE_S));
	assert_int_equal(waitpid(victim, &status, WUNTRACED), victim);
	assert_true(WIFSTOPPED(status));
	other = scene_start(stream, (void *)(uintptr_t)1);
	assert_true(scene_reach(&board->received[1], 1000, 10 * SCENE_S));
	assert_int_equal(board->received[VICTIM], 0);
	kill(victim, SIGCONT);
	assert_int_equal(scene_wait(victim, 10 * SCENE_S), 0);
	assert_true(scene_reach(&board->received[VICTIM], CLAIM_COUNT,
	                        10 * SCENE_S));
	scene_put(&board->stop, 1);
	assert_int_equal(scene_wait(other, 10 * SCENE_S), 0);
	end_consumer(consumer);
}

static void close_past_a_stopped_one(uint32_t wait_mode)
{
	pid_t consumer = start_consumer(wait_mode), victim;

	scene_put(&board->hold, 1);
	victim = scene_start(fill_and_wait, NULL);
	assert_true(scene_reach(&board->step, 1, 10 * SCENE_S));
	scene_sleep_ns(5 * SCENE_MS);
	kill(victim, SIGSTOP);
	/* Its ring is full: take half of it, and be rung for nobody. */
	scene_put(&board->hold, 0);
	assert_true(scene_reach(&board->received[VICTIM], 10, 10 * SCENE_S));
	end_consumer(consumer);
	kill(victim, SIGCONT);
	assert_int_equal(scene_wait(victim, 10 * SCENE_S), 0);
	assert_string_equal(board->fault, "");
}

static void consumer_closes_while_a_producer_is_stopped(void **state)
{
	(void)state;
	close_past_a_stopped_one(PEAL_WAIT_FUTEX);
	close_past_a_stopped_one(PEAL_WAIT_FD);
}

static void stop_the_consumer(uint32_t wait_mode)
{
	pid_t consumer = start_consumer(wait_mode);
	pid_t caller = scene_start(call_with_limits, NULL);

	assert_true(scene_reach(&board->step, 1, 10 * SCENE_S));
	kill(consumer, SIGSTOP);
	scene_put(&board->step, 2);
	if (!scene_reach(&board->step, 3, 20 * SCENE_S))
		fault("a call hangs");
	assert_string_equal(board->fault, "");
	kill(consumer, SIGCONT);
	assert_int_equal(scene_wait(caller, 20 * SCENE_S), 0);
	assert_true(scene_reach(&board->received[VICTIM], board->sent[VICTIM],
	                        10 * SCENE_S));
	end_consumer(consumer);
}

static void stopped_consumer_lets_no_call_hang(void **state)
{
	(void)state;
	stop_the_consumer(PEAL_WAIT_FUTEX);
	stop_the_consumer(PEAL_WAIT_FD);
}

static int setup(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(stopped_producer_stalls_nobody_else),
		SCENE_TEST(stopped_producer_publishes_its_claims_later),
		SCENE_TEST(consumer_closes_while_a_producer_is_stopped),
		SCENE_TEST(stopped_consumer_lets_no_call_hang),
	};

	if (scene_is_full(argc, argv))
		stop_count = 400;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
