/* SPDX-License-Identifier: MIT */
/*
 * kill -9 of a producer, at any moment, under load.
 *
 *	parent     starts producers, kills one at random, starts another
 *	producers  stream numbered messages of any size, one by one and in
 *	           batches, and block when their ring is full
 *	consumer   checks every byte and every number
 *
 * What was published is known from the producer itself: it stores its numbers
 * on the board, before a publish what will be visible after it, and when
 * publish has returned what is. So the newest number received must be one of
 * the two: everything that was published, and of the batch that death
 * interrupted all or nothing.
 *
 *	./test_kill_producer [--full]     100 kills, or 1,000
 */
#include "tests/slots.h"

#define PRODUCER_COUNT 4
#define LIFE_MAX 8192
#define HELD_MAX 8
#define BATCH_MAX 12
#define STOP_SENDER UINT32_MAX
#define NAME "words"

/* One life of one producer. */
struct life {
	uint64_t attempted; /* visible once the publish under way is done */
	uint64_t published; /* visible for certain */
	uint64_t received;
	struct peal_peer peer;
	uint32_t is_attached;
	uint32_t is_batch_split; /* the batch under way may be seen in part */
};

struct board {
	uint64_t is_open, is_ready;
	uint64_t stop;
	uint64_t message_count;
	char fault[200];
	struct peal_consumer_stats stats;
	struct scene_held before, after;
	uint32_t client_count, free_count, status_free_count;
	uint64_t generations_moved;
	struct life lives[LIFE_MAX];
};

static struct board *board;
static int kill_count = 100;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* producer --------------------------------------------------------------- */

struct sender {
	struct peal_producer *producer;
	struct life *life;
	uint32_t number; /* of this life */
	uint64_t sequence;
	uint64_t chance;
};

/* Small ones, and now and then one that takes a quarter of the ring. */
static size_t choose_bytes(struct sender *sender)
{
	uint64_t chance = scene_random(&sender->chance);
	size_t max = peal_producer_message_max(sender->producer) / 4;
	size_t bytes = sizeof(struct scene_stamp);

	if (chance % 16 == 0)
		return bytes + (chance >> 8) % (max - bytes);
	return bytes + (chance >> 8) % 200;
}

static int send_one(struct sender *sender)
{
	uint8_t data[1 << 16];
	size_t bytes = choose_bytes(sender);
	int error;

	if (bytes > sizeof(data))
		bytes = sizeof(data);
	scene_stamp_write(data, bytes, sender->number, sender->sequence + 1);
	scene_put(&sender->life->attempted, sender->sequence + 1);
	error = peal_producer_send(sender->producer, data, bytes, PEAL_FOREVER);
	if (error < 0)
		return error;
	scene_put(&sender->life->published, ++sender->sequence);
	return 0;
}

/* Several claims, some trimmed and the last perhaps given up; one publish. */
static int send_claims(struct sender *sender)
{
	uint64_t chance = scene_random(&sender->chance), count = 0;
	uint64_t wanted = 1 + chance % BATCH_MAX;
	int error;

	while (count < wanted) {
		size_t bytes = choose_bytes(sender);
		void *data;

		error = peal_producer_claim(sender->producer, bytes + 100,
		                            count == 0 ? PEAL_FOREVER : 0,
		                            &data);
		if (error == -EAGAIN)
			break;
		if (error < 0)
			return error;
		if (count > 0 && (chance >> count) % 8 == 0) {
			peal_producer_abort(sender->producer);
			break;
		}
		peal_producer_trim(sender->producer, bytes);
		scene_stamp_write(data, bytes, sender->number,
		                  sender->sequence + ++count);
	}
	scene_put(&sender->life->attempted, sender->sequence + count);
	error = peal_producer_publish(sender->producer);
	if (error != (int)count)
		return error < 0 ? error : -EPROTO;
	sender->sequence += count;
	scene_put(&sender->life->published, sender->sequence);
	return 0;
}

/* This call may publish in parts, when the ring is full in between. */
static int send_batch(struct sender *sender)
{
	uint8_t data[BATCH_MAX][256];
	struct peal_part parts[BATCH_MAX];
	uint64_t count = 1 + scene_random(&sender->chance) % BATCH_MAX;
	int sent;

	for (uint64_t i = 0; i < count; i++) {
		parts[i] = (struct peal_part){data[i], 24 + i * 20};
		scene_stamp_write(data[i], parts[i].data_bytes, sender->number,
		                  sender->sequence + i + 1);
	}
	scene_put(&sender->life->is_batch_split, 1);
	scene_put(&sender->life->attempted, sender->sequence + count);
	sent = peal_producer_send_batch(sender->producer, parts, count,
	                                PEAL_FOREVER);
	if (sent != (int)count)
		return sent < 0 ? sent : -EPROTO;
	sender->sequence += count;
	scene_put(&sender->life->published, sender->sequence);
	scene_put(&sender->life->is_batch_split, 0);
	return 0;
}

/* One life: until it is killed or, one in four, until it detaches. */
static int produce(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct sender sender = {.life = arg};
	struct peal_failure failure;
	uint64_t turns = UINT64_MAX;
	int error;

	sender.number = (uint32_t)(sender.life - board->lives);
	sender.chance = scene_seed + sender.number;
	options.name = NAME;
	options.ret_failure = &failure;
	options.ring_bytes = UINT64_C(4096) << scene_random(&sender.chance) % 7;
	options.spin_mode = (uint32_t)scene_random(&sender.chance) % 3;
	if (sender.number == 0 || scene_random(&sender.chance) % 4 == 0)
		turns = scene_random(&sender.chance) % 2000;
	error = peal_producer_attach(&options, 10 * SCENE_S, &sender.producer);
	if (error < 0)
		return fault("attach: %d, %s", error, failure.text);
	scene_put(&sender.life->is_attached, 1);
	for (; turns > 0; turns--) {
		uint64_t chance = scene_random(&sender.chance);

		error = chance % 4 == 0   ? send_claims(&sender)
		        : chance % 4 == 1 ? send_batch(&sender)
		                          : send_one(&sender);
		if (error < 0)
			return fault("send: %d", error);
		if (chance >> 32 & 0x3ff)
			continue;
		scene_sleep_ns((chance >> 16) % (200 * SCENE_US));
	}
	return peal_producer_detach(sender.producer) == 0 ? 0 : 30;
}

/* consumer --------------------------------------------------------------- */

/* 0, 1 to stop, -1 with what is wrong on the board. */
static int check_message(const struct peal_message *message)
{
	struct scene_stamp stamp;
	struct life *life;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp))
		return fault("a torn message of %zu bytes from slot %u",
		             message->data_bytes, message->peer.slot_index);
	board->message_count++;
	if (stamp.sender == STOP_SENDER)
		return 1;
	life = &board->lives[stamp.sender % LIFE_MAX];
	if (stamp.sequence != life->received + 1)
		return fault("life %u: message %llu follows %llu", stamp.sender,
		             (unsigned long long)stamp.sequence,
		             (unsigned long long)life->received);
	if (stamp.sequence > scene_get(&life->attempted))
		return fault("life %u: message %llu was not published yet",
		             stamp.sender, (unsigned long long)stamp.sequence);
	if (life->received > 0 &&
	    (life->peer.generation != message->peer.generation ||
	     life->peer.slot_index != message->peer.slot_index))
		return fault("life %u changed its slot", stamp.sender);
	life->peer = message->peer;
	scene_put(&life->received, stamp.sequence);
	return 0;
}

/* Take what there is, holding a few messages before they are released. */
static int drain(struct peal_consumer *consumer, uint64_t *chance)
{
	struct peal_message held[HELD_MAX];
	size_t count = 0;
	int result = 0;

	while (result == 0 && peal_consumer_peek(consumer, &held[count]) == 0) {
		result = check_message(&held[count++]);
		if (count < HELD_MAX && scene_random(chance) % 4 != 0)
			continue;
		for (size_t i = 0; i < count; i++)
			peal_consumer_release(consumer, &held[i]);
		count = 0;
	}
	for (size_t i = 0; i < count; i++)
		peal_consumer_release(consumer, &held[i]);
	return result;
}

/* Nobody is attached any more: did everything come back? */
static bool is_empty(struct peal_consumer *consumer)
{
	board->free_count = slots_free_count(consumer);
	board->status_free_count = 0;
	for (uint32_t i = 0; i < consumer->slot_max; i++)
		board->status_free_count +=
			scene_get(&consumer->status_slots[i].state) ==
			PEAL__STATUS_SLOT_FREE;
	board->client_count = scene_get(&consumer->status->client_count);
	return board->free_count == consumer->slot_max &&
	       board->status_free_count == consumer->slot_max &&
	       board->client_count == 0;
}

static int drain_until_empty(struct peal_consumer *consumer, uint64_t *chance)
{
	uint64_t end_ns = scene_now_ns() + 5 * SCENE_S;

	do {
		peal_consumer_wait(consumer, 5 * SCENE_MS);
		if (drain(consumer, chance) < 0)
			return -1;
	} while (!is_empty(consumer) && scene_now_ns() < end_ns);
	return 0;
}

static int consume_all(struct peal_consumer *consumer)
{
	uint64_t chance = scene_seed, use_count;
	int result = 0;

	/* The first life detaches by itself: what was set up once is there. */
	while (peal_consumer_stats(consumer, &board->stats) == 0 &&
	       board->stats.detached_count == 0 && result == 0) {
		peal_consumer_wait(consumer, 5 * SCENE_MS);
		result = drain(consumer, &chance);
	}
	if (drain_until_empty(consumer, &chance) < 0)
		return 1;
	use_count = slots_use_count(consumer);
	board->before = scene_held();
	scene_put(&board->is_ready, 1);
	while (result == 0) {
		peal_consumer_wait(consumer, PEAL_FOREVER);
		result = drain(consumer, &chance);
	}
	if (result < 0 || drain_until_empty(consumer, &chance) < 0)
		return 1;
	board->after = scene_held();
	board->generations_moved = slots_use_count(consumer) - use_count;
	peal_consumer_stats(consumer, &board->stats);
	return 0;
}

static int consume(void *arg)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;

	(void)arg;
	options.name = NAME;
	options.producer_max = 16;
	if (peal_consumer_open(&options, &consumer) < 0)
		return 2;
	scene_put(&board->is_open, 1);
	if (consume_all(consumer) != 0)
		return 1;
	peal_consumer_close(consumer);
	return 0;
}

/* parent ----------------------------------------------------------------- */

static int send_stop(void)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	uint8_t data[sizeof(struct scene_stamp)];
	struct peal_producer *producer;

	options.name = NAME;
	if (peal_producer_attach(&options, 10 * SCENE_S, &producer) < 0)
		return -1;
	scene_stamp_write(data, sizeof(data), STOP_SENDER, 1);
	if (peal_producer_send(producer, data, sizeof(data), SCENE_S) < 0)
		return -1;
	return peal_producer_detach(producer);
}

struct sums {
	uint32_t lives, killed, detached, died_attaching, died_in_batch,
		saw_batch;
	uint64_t received;
};

/* How a life ended; a wrong end is a fault. */
static int judge_life(const struct life *life, struct sums *sums)
{
	if (life->received < life->published ||
	    life->received > life->attempted)
		return fault("life %td: %llu received, %llu published, %llu "
		             "attempted",
		             life - board->lives,
		             (unsigned long long)life->received,
		             (unsigned long long)life->published,
		             (unsigned long long)life->attempted);
	if (life->received != life->published &&
	    life->received != life->attempted && !life->is_batch_split)
		return fault("life %td: half a batch", life - board->lives);
	sums->received += life->received;
	sums->died_attaching += !life->is_attached;
	sums->died_in_batch += life->attempted != life->published;
	sums->saw_batch += life->received != life->published;
	return 0;
}

/* Kill one at a time, and keep so many running. */
static int kill_them(struct sums *sums)
{
	uint64_t chance = scene_seed;
	pid_t pids[PRODUCER_COUNT];
	uint32_t next = 1;

	for (int i = 0; i < PRODUCER_COUNT; i++)
		pids[i] = scene_start(produce, &board->lives[next++]);
	while ((int)sums->killed < kill_count && next < LIFE_MAX) {
		int i = (int)(scene_random(&chance) % PRODUCER_COUNT), status;

		scene_sleep_ns(scene_random(&chance) % (2 * SCENE_MS));
		status = scene_kill(pids[i]);
		if (board->fault[0] != '\0')
			return -1;
		sums->killed += status == CHECK_KILLED_BY + SIGKILL;
		sums->detached += status == 0;
		if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
			return fault("producer ended with %d", status);
		pids[i] = scene_start(produce, &board->lives[next++]);
	}
	for (int i = 0; i < PRODUCER_COUNT; i++)
		scene_kill(pids[i]);
	sums->lives = next;
	return 0;
}

static void killed_producers_lose_nothing_that_they_published(void **state)
{
	struct sums sums = {0};
	pid_t consumer;
	uint64_t start_ns;
	int result;

	(void)state;
	board = scene_board(sizeof(*board));
	assert_non_null(board);
	consumer = scene_start(consume, NULL);
	assert_true(scene_reach(&board->is_open, 1, 10 * SCENE_S));
	assert_int_equal(scene_wait(scene_start(produce, &board->lives[0]),
	                            20 * SCENE_S),
	                 0);
	assert_true(scene_reach(&board->is_ready, 1, 10 * SCENE_S));
	start_ns = scene_now_ns();
	result = kill_them(&sums);
	start_ns = scene_now_ns() - start_ns;
	if (result == 0)
		assert_int_equal(send_stop(), 0);
	result = scene_wait(consumer, 20 * SCENE_S);
	assert_string_equal(board->fault, "");
	assert_int_equal(result, 0);
	for (uint32_t i = 0; i < sums.lives; i++)
		judge_life(&board->lives[i], &sums);
	assert_string_equal(board->fault, "");
	print_message("kill_producer: %u kills in %.1f s (%u while attaching, "
	              "%u while publishing, of which %u were seen), %u left "
	              "by themselves; %llu messages, none lost, none torn\n",
	              sums.killed, (double)start_ns / 1e9, sums.died_attaching,
	              sums.died_in_batch, sums.saw_batch, sums.detached,
	              (unsigned long long)sums.received);
}

/* The same run, looked at from the other side. */
static void and_leave_nothing_behind(void **state)
{
	const struct peal_consumer_stats *stats = &board->stats;

	(void)state;
	print_message("attached %llu = detached %llu + died %llu + evicted "
	              "%llu; refused %llu; generations %llu\n",
	              (unsigned long long)stats->attached_count,
	              (unsigned long long)stats->detached_count,
	              (unsigned long long)stats->died_count,
	              (unsigned long long)stats->evicted_count,
	              (unsigned long long)stats->refused_count,
	              (unsigned long long)board->generations_moved);
	assert_int_equal(board->client_count, 0);
	assert_int_equal(board->free_count, 16);
	assert_int_equal(board->status_free_count, 16);
	assert_int_equal(stats->attached_count, stats->detached_count +
	                                                stats->died_count +
	                                                stats->evicted_count);
	assert_int_equal(stats->evicted_count, 0);
	assert_int_equal(stats->dropped_bytes, 0);
	assert_int_equal(stats->message_count, board->message_count);
	/* The warming up is in attached_count, and not in the generations. */
	assert_true(board->generations_moved >= stats->attached_count - 1);
	assert_int_equal(board->after.fds, board->before.fds);
	assert_int_equal(board->after.maps, board->before.maps);
	assert_int_equal(board->after.threads, board->before.threads);
	assert_string_equal(scene_names(), "");
	assert_string_equal(scene_list("/dev/shm", "peal"), "");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(killed_producers_lose_nothing_that_they_published),
		cmocka_unit_test(and_leave_nothing_behind),
	};

	if (scene_is_full(argc, argv))
		kill_count = 1000;
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
