/* SPDX-License-Identifier: MIT */
/* Very many messages: against a model, between threads, between processes. */
#include "tests/unit/dice.h"
#include "tests/unit/ring_fixture.h"

#include <pthread.h>

#include <signal.h>

#include "base/cpu.h"
#include "tests/unit/sanitizer.h"
#include "tests/unit/shared.h"

#define STEPS (SLOW ? 40000 : 300000)
#define MESSAGES (SLOW ? 50000 : 1000000)
#define MODEL_MAX (SMALL_RING / 16)

static struct ring ring;

static int open_ring(void **state)
{
	(void)state;
	ring_open(&ring, SMALL_RING, 0);
	return 0;
}

static int close_ring(void **state)
{
	(void)state;
	ring_close(&ring);
	return 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_ring, close_ring)

/* against a model -------------------------------------------------------- */

/* What a ring is: a queue of messages, of which some are not published yet,
 * and some are looked at but not given back. */
struct model {
	struct {
		uint64_t id, end;
		size_t bytes;
	} messages[2 * MODEL_MAX];
	size_t count;     /* messages, oldest first */
	size_t peeked;    /* the first so many have been peeked */
	size_t published; /* the first so many may be peeked */
	bool open;        /* the newest may be trimmed or aborted */
	uint64_t next_id;
	uint64_t claimed, refused,
		received; /* how often, for the test's sake */
};

static uint64_t used_by(const struct model *model)
{
	uint64_t used = 0;

	for (size_t i = 0; i < model->count; i++)
		used += peal_ring_frame_bytes(model->messages[i].bytes);
	return used;
}

static void step_claim(struct model *model, struct dice *dice)
{
	size_t largest = peal_ring_message_max(SMALL_RING);
	size_t bytes = (size_t)dice_below(
		dice, dice_below(dice, 20) == 0 ? largest + 1 : 200);
	bool fits = used_by(model) + peal_ring_frame_bytes(bytes) +
	                    PEAL_RING_SPARE_BYTES <=
	            SMALL_RING;

	assert_int_equal(ring_claim(&ring, bytes, model->next_id),
	                 fits ? 0 : -EAGAIN);
	model->refused += !fits;
	if (!fits)
		return;
	model->messages[model->count].id = model->next_id++;
	model->messages[model->count++].bytes = bytes;
	model->open = true;
	model->claimed++;
}

static void step_trim(struct model *model, struct dice *dice)
{
	size_t bytes = (size_t)dice_below(dice, 220);
	/* Nothing is open when there are none. */
	size_t i = model->count > 0 ? model->count - 1 : 0;
	size_t *newest = &model->messages[i].bytes;
	bool may = model->open && bytes <= *newest;

	assert_int_equal(peal_ring_trim(&ring.tx, bytes), may ? 0 : -EINVAL);
	if (may)
		*newest = bytes;
}

static void step_abort(struct model *model)
{
	assert_int_equal(peal_ring_abort(&ring.tx), model->open ? 0 : -EINVAL);
	if (model->open)
		model->count--;
	model->open = false;
}

static void step_publish(struct model *model)
{
	assert_int_equal(peal_ring_publish(&ring.tx),
	                 model->count - model->published);
	model->published = model->count;
	model->open = false;
}

static void step_peek(struct model *model)
{
	struct peal_message message;
	size_t i = model->peeked;

	assert_int_equal(peal_ring_has_data(&ring.rx), i < model->published);
	if (i == model->published) {
		assert_int_equal(peal_ring_peek(&ring.rx, &message), -EAGAIN);
		return;
	}
	assert_true(ring_peeks(&ring, model->messages[i].bytes,
	                       model->messages[i].id, &message));
	model->messages[i].end = message.peal__end;
	model->peeked++;
	model->received++;
}

static void step_release(struct model *model, struct dice *dice)
{
	size_t upto;

	if (model->peeked == 0)
		return;
	upto = (size_t)dice_below(dice, model->peeked);
	/* What is held has not been touched, whatever was claimed meanwhile. */
	for (size_t i = upto; i < model->peeked; i++) {
		uint64_t begin =
			model->messages[i].end -
			peal_ring_frame_bytes(model->messages[i].bytes);

		assert_true(ring_is_filled(ring.data + begin % SMALL_RING + 16,
		                           model->messages[i].bytes,
		                           model->messages[i].id));
	}
	ring_release(&ring, model->messages[upto].end);
	upto++;
	model->count -= upto;
	model->peeked -= upto;
	model->published -= upto;
	memmove(model->messages, model->messages + upto,
	        model->count * sizeof(model->messages[0]));
}

static void step(struct model *model, struct dice *dice)
{
	switch (dice_below(dice, 16)) {
	default:
		step_claim(model, dice);
		break;
	case 0:
		step_trim(model, dice);
		break;
	case 1:
		step_abort(model);
		break;
	case 2:
	case 3:
	case 4:
		step_publish(model);
		break;
	case 5:
	case 6:
	case 7:
	case 8:
	case 9:
		step_peek(model);
		break;
	case 10:
		step_release(model, dice);
		break;
	}
}

static void ring_is_a_queue_whatever_is_done_with_it(void **state)
{
	static const uint64_t starts[] = {0, 64, SMALL_RING - 64,
	                                  UINT64_MAX - (UINT64_C(1) << 20) + 1};
	struct dice dice = dice_with(dice_seed());
	static struct model model;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(starts); i++) {
		memset(&model, 0, sizeof(model));
		ring_restart(&ring, starts[i]);
		for (int k = 0; k < STEPS / (int)CHECK_COUNT(starts); k++)
			step(&model, &dice);
		/* It has been full and empty, or it has proved little. */
		assert_true(model.claimed > STEPS / 40);
		assert_true(model.refused > STEPS / 400);
		assert_true(model.received > STEPS / 40);
	}
}

/* two sides at the same time --------------------------------------------- */

/* Both sides roll the same dice and so know what must come. */
struct flow {
	struct ring *ring;
	uint64_t seed, message_count;
	uint32_t *stopped; /* one side has failed: the other one gives up */
};

/* In a batch all messages know how many follow. */
static uint64_t batch_of(struct dice *dice)
{
	return dice_below(dice, 4) == 0 ? 1 + dice_below(dice, 6) : 1;
}

static size_t size_of(struct dice *dice)
{
	return (size_t)dice_below(dice, dice_below(dice, 50) == 0 ? 600 : 100);
}

/* To yield would be to wait for a whole turn of whoever else is busy. */
static void wait_a_little(void)
{
	for (int i = 0; i < 100; i++)
		peal__cpu_pause();
	sleep_ns(20000);
}

static bool is_stopped(const struct flow *flow)
{
	/* Relaxed: it only ends a loop. */
	return __atomic_load_n(flow->stopped, __ATOMIC_RELAXED) != 0;
}

static int stop(const struct flow *flow, int status)
{
	__atomic_store_n(flow->stopped, 1, __ATOMIC_RELAXED);
	return status;
}

/* 0, or a number that says what went wrong. */
static int produce(const struct flow *flow)
{
	struct peal_ring_tx *tx = &flow->ring->tx;
	struct dice dice = dice_with(flow->seed);

	for (uint64_t id = 0; id < flow->message_count;) {
		uint64_t batch = batch_of(&dice), first = id;

		while (id < first + batch) {
			size_t bytes = size_of(&dice);
			void *data;

			/* A batch is far smaller than the ring. */
			while (peal_ring_claim(tx, bytes,
			                       (uint32_t)(first + batch - id),
			                       id, &data) != 0) {
				if (is_stopped(flow))
					return 1;
				wait_a_little();
			}
			ring_fill(data, bytes, id++);
		}
		if (peal_ring_publish(tx) != batch)
			return stop(flow, 2);
	}
	return 0;
}

static int consume(const struct flow *flow)
{
	struct peal_ring_rx *rx = &flow->ring->rx;
	struct dice dice = dice_with(flow->seed);
	uint64_t held = 0;

	for (uint64_t id = 0; id < flow->message_count;) {
		uint64_t batch = batch_of(&dice), first = id;

		for (; id < first + batch; id++) {
			struct peal_message message;
			size_t bytes = size_of(&dice);
			int error = peal_ring_peek(rx, &message);

			/* Where the first one is, there are all. */
			while (error == -EAGAIN && id == first) {
				if (is_stopped(flow))
					return 3;
				wait_a_little();
				error = peal_ring_peek(rx, &message);
			}
			if (error != 0)
				return stop(flow, 4);
			if (message.id != id || message.data_bytes != bytes ||
			    message.kind != first + batch - id)
				return stop(flow, 5);
			if (!ring_is_filled(message.data, bytes, id))
				return stop(flow, 6);
			peal_ring_release(rx, &message);
			if (++held % 3 == 0)
				peal_ring_tell(rx);
		}
		peal_ring_tell(rx);
	}
	return peal_ring_has_data(rx) ? stop(flow, 7) : 0;
}

static void *produce_in_thread(void *flow)
{
	return (void *)(intptr_t)produce(flow);
}

static int produce_in_child(void *flow)
{
	alarm(120); /* also when the parent has been killed */
	return produce(flow);
}

/* Large enough that the two sides seldom wait for each other. */
static void reopen_for_flow(void)
{
	ring_close(&ring);
	ring_open(&ring, 16 * SMALL_RING, NEAR_THE_END);
}

static void threads_pass_a_million_messages(void **state)
{
	uint32_t stopped = 0;
	struct flow flow = {&ring, dice_seed(), MESSAGES, &stopped};
	pthread_t thread;
	void *produced;
	int consumed;

	(void)state;
	reopen_for_flow();
	assert_int_equal(
		pthread_create(&thread, NULL, produce_in_thread, &flow), 0);
	consumed = consume(&flow);
	pthread_join(thread, &produced);
	assert_int_equal(consumed, 0);
	assert_null(produced);
}

static void processes_pass_a_million_messages(void **state)
{
	struct flow flow = {&ring, dice_seed(), MESSAGES, NULL};
	int consumed, status;
	pid_t pid;

	(void)state;
	reopen_for_flow();
	/* In the header page, which both of them map. */
	flow.stopped = (uint32_t *)(ring.released_word + 64);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(produce_in_child(&flow));
	assert_true(pid > 0);
	consumed = consume(&flow);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(consumed, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ring_is_a_queue_whatever_is_done_with_it),
		TEST(threads_pass_a_million_messages),
		TEST(processes_pass_a_million_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
