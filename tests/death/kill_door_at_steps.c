/* SPDX-License-Identifier: MIT */
/*
 * A consumer killed at every instruction of what it does at its door, where its
 * own thread does that, in fd mode: tests/death/senders.h says who lives on.
 *
 *	guest   attaches, detaches, hangs up or sends nonsense, as it is told;
 *	        whatever becomes of the consumer, no call of it hangs
 *
 *	./test_kill_door_at_steps [--full]   a sample, or every boundary
 */
#include "tests/death/sample.h"
#include "tests/death/senders.h"

#include <sys/socket.h>

#define KILL_MAX 8 /* of each operation */
#define GUEST VISITOR
#define GUEST_SEQUENCE 7 /* other visitors send 1 */

enum { ATTACH, DETACH, HANG_UP, SEND_NONSENSE };

static struct {
	uint64_t command, asked, done;
} * guest;

/* the guest's process --------------------------------------------------------- */

static void attach(struct peal_producer **producer)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	int error;

	options.name = NAME;
	options.wait_mode = wait_mode;
	error = peal_producer_attach(&options, WATCH_NS, producer);
	if (error == -ETIMEDOUT)
		fault("the guest hung");
	if (error < 0)
		*producer = NULL;
}

static void obey(struct peal_producer **producer, uint64_t command)
{
	uint8_t data[sizeof(struct scene_stamp)];

	if (command == ATTACH) {
		attach(producer);
	} else if (*producer == NULL) {
		return; /* turned away by a death */
	} else if (command == DETACH) {
		peal_producer_detach(*producer);
		*producer = NULL;
	} else if (command == HANG_UP) {
		shutdown((*producer)->connection.socket.fd, SHUT_RDWR);
	} else {
		scene_stamp_write(data, sizeof(data), GUEST, GUEST_SEQUENCE);
		if (peal_producer_send(*producer, data, sizeof(data), 0) == 0)
			send_nonsense(*producer);
	}
}

static int be_guest(void *arg)
{
	struct peal_producer *producer = NULL;

	(void)arg;
	for (uint64_t i = 1; scene_reach(&guest->asked, i, 1000 * SCENE_S);
	     i++) {
		obey(&producer, scene_get(&guest->command));
		scene_put(&guest->done, i);
	}
	return 0;
}

static void ask_guest(uint64_t command)
{
	scene_put(&guest->command, command);
	scene_add(&guest->asked, 1);
}

static bool guest_has_done(void)
{
	return scene_get(&guest->done) == scene_get(&guest->asked);
}

static void await_guest(void)
{
	if (!scene_reach(&guest->done, guest->asked, WATCH_NS))
		fault("the guest does not come back");
}

/* what the victim does --------------------------------------------------------- */

static struct peal_consumer_stats stats_of(struct peal_consumer *consumer)
{
	struct peal_consumer_stats stats = {0};

	if (peal_consumer_stats(consumer, &stats) < 0)
		fault("no counters");
	return stats;
}

static int hear_all(struct peal_consumer *consumer)
{
	struct peal_message message;
	uint32_t sender = 0;

	while (peal_consumer_peek(consumer, &message) == 0) {
		if (take(&message, &sender) != 0)
			return -1;
		peal_consumer_release(consumer, &message);
	}
	return 0;
}

/* Somebody is at the door, or will be in a moment. */
static bool is_knocked(const struct peal_consumer *consumer, int timeout_ms)
{
	struct pollfd door = {.fd = peal_consumer_fd(consumer),
	                      .events = POLLIN};

	return poll(&door, 1, timeout_ms) == 1;
}

static void knocked(struct peal_consumer *consumer)
{
	is_knocked(consumer, 1000);
	scene_sleep_ns(SCENE_MS); /* what it says next is there as well */
}

/* All senders are there, and nobody says anything any more. */
static struct peal_consumer *open_and_rest(void)
{
	struct peal_consumer *consumer = open_consumer();
	uint64_t end_ns = scene_now_ns() + WATCH_NS;
	bool is_quiet, was_hushed = false;

	while (consumer != NULL && board->fault[0] == '\0') {
		if (scene_now_ns() > end_ns)
			fault("the senders do not come to rest");
		if (stats_of(consumer).attached_count > SENDER_COUNT)
			scene_put(&board->hush, HUSH_ALL);
		is_quiet = peal_consumer_wait(consumer, 2 * SCENE_MS) != 0 &&
		           !is_knocked(consumer, 3);
		if (hear_all(consumer) != 0)
			break;
		if (board->hush == HUSH_ALL && is_quiet && was_hushed)
			return consumer;
		was_hushed = board->hush == HUSH_ALL;
	}
	return NULL;
}

/* Each takes what the one before has left to be done. */
static void open_the_door(struct peal_consumer *consumer, int times)
{
	while (times-- > 0)
		peal_consumer_dispatch(consumer);
}

static struct peal_consumer *open_and_admit(void)
{
	struct peal_consumer *consumer = open_and_rest();
	uint64_t end_ns = scene_now_ns() + WATCH_NS, before;

	if (consumer == NULL)
		return NULL;
	before = stats_of(consumer).attached_count;
	ask_guest(ATTACH);
	while ((!guest_has_done() ||
	        stats_of(consumer).attached_count == before) &&
	       scene_now_ns() < end_ns)
		peal_consumer_wait(consumer, SCENE_MS / 2);
	return consumer;
}

static int end(struct peal_consumer *consumer, bool is_as_expected)
{
	if (!is_as_expected)
		fault("the guest was not what it should be: asked %llu",
		      (unsigned long long)guest->command);
	/* Or it waits for us as long as it may. */
	while (!guest_has_done())
		peal_consumer_wait(consumer, SCENE_MS);
	return peal_consumer_close(consumer);
}

static int accept_and_grant(void *arg)
{
	struct peal_consumer *consumer = open_and_rest();

	(void)arg;
	if (consumer == NULL)
		return 1;
	ask_guest(ATTACH);
	knocked(consumer);
	if (steps_begin() != 0)
		return 2;
	open_the_door(consumer, 3);
	steps_end();
	return end(consumer, true);
}

static int go_live(void *arg)
{
	struct peal_consumer *consumer = open_and_rest();
	uint64_t end_ns = scene_now_ns() + WATCH_NS, before;
	bool is_waiting;

	(void)arg;
	if (consumer == NULL)
		return 1;
	before = stats_of(consumer).attached_count;
	ask_guest(ATTACH);
	knocked(consumer);
	/* Welcomed, it says that it is ready, and its call is over. */
	do
		open_the_door(consumer, 2);
	while (!scene_reach(&guest->done, guest->asked, 50 * SCENE_MS) &&
	       scene_now_ns() < end_ns);
	/* Unless it was so slow that it is heard already. */
	is_waiting = stats_of(consumer).attached_count == before;
	if (steps_begin() != 0)
		return 2;
	open_the_door(consumer, 2);
	peal_consumer_wait(consumer, 0);
	steps_end();
	return end(consumer, !is_waiting || stats_of(consumer).attached_count ==
	                                            before + 1);
}

/* It detaches or hangs up, and everything that was its own is given back. */
static int let_it_go(void *arg)
{
	struct peal_consumer *consumer = open_and_admit();
	struct peal_consumer_stats before, after;

	if (consumer == NULL)
		return 1;
	before = stats_of(consumer);
	ask_guest((uintptr_t)arg);
	await_guest();
	knocked(consumer);
	if (steps_begin() != 0)
		return 2;
	open_the_door(consumer, 2);
	peal_consumer_wait(consumer, 0);
	open_the_door(consumer, 2);
	steps_end();
	after = stats_of(consumer);
	return end(consumer,
	           after.detached_count + after.died_count ==
	                   before.detached_count + before.died_count + 1);
}

/* Its message, and not one that somebody else was about to send. */
static bool hear_guest(struct peal_consumer *consumer,
                       struct peal_message *message)
{
	uint64_t end_ns = scene_now_ns() + WATCH_NS;
	struct scene_stamp stamp;

	while (scene_now_ns() < end_ns) {
		peal_consumer_wait(consumer, SCENE_MS);
		if (peal_consumer_peek(consumer, message) != 0)
			continue;
		if (scene_stamp_read(message->data, message->data_bytes,
		                     &stamp) &&
		    stamp.sender == GUEST && stamp.sequence == GUEST_SEQUENCE)
			return true;
		peal_consumer_release(consumer, message);
	}
	return false;
}

/* Nonsense follows on what is still held. */
static int send_it_away(void *arg)
{
	struct peal_consumer *consumer = open_and_admit();
	struct peal_message held, none;
	uint64_t before;

	(void)arg;
	if (consumer == NULL)
		return 1;
	before = stats_of(consumer).evicted_count;
	ask_guest(SEND_NONSENSE);
	await_guest();
	if (!hear_guest(consumer, &held))
		return fault("nothing was sent") != 0;
	if (steps_begin() != 0)
		return 2;
	(void)!peal_consumer_peek(consumer, &none);
	open_the_door(consumer, 2);
	peal_consumer_release(consumer, &held);
	open_the_door(consumer, 2);
	steps_end();
	return end(consumer, stats_of(consumer).evicted_count == before + 1);
}

/* the parent ------------------------------------------------------------------ */

static void begin_with_guest(uint32_t mode)
{
	guest = scene_board(sizeof(*guest));
	if (guest == NULL)
		abort();
	begin_share(mode);
	scene_start(be_guest, NULL);
}

static bool run_to(const struct steps_operation *operation, uint64_t target,
                   struct steps *steps)
{
	bool was_killed;
	int status;
	pid_t victim;

	scene_put(&board->told.kill_ns, 0);
	steps->kill_ns = &board->told.kill_ns;
	victim = scene_start(operation->live, operation->arg);
	was_killed = steps_run(victim, victim, target, steps);
	status = scene_wait(victim, WATCH_NS);
	await_guest();
	ask_guest(DETACH);
	await_guest();
	scene_put(&board->hush, HUSH_NOBODY);
	examine_life(status);
	return was_killed;
}

static void killed_at_any_instruction_of_the_door(void **state)
{
	static const struct steps_operation operations[] = {
		{.name = "accept and grant", .live = accept_and_grant},
		{.name = "go live", .live = go_live},
		{.name = "detached and reaped",
	         .live = let_it_go,
	         .arg = (void *)DETACH},
		{.name = "hung up and reaped",
	         .live = let_it_go,
	         .arg = (void *)HANG_UP},
		{.name = "evict and reap", .live = send_it_away},
	};
	static const struct steps_stage stage = {
		.operations = operations,
		.count = CHECK_COUNT(operations),
		.begin = begin_with_guest,
		.live = run_to,
		.end = end_share,
		.what_is_wrong = found_fault,
	};

	(void)state;
	steps_try_all(&stage, PEAL_WAIT_FD);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(killed_at_any_instruction_of_the_door),
	};

	if (!steps_prepare(KILL_MAX, argc, argv))
		return 77;
	return cmocka_run_group_tests(tests, open_board,
	                              scene_group_teardown) != 0;
}
