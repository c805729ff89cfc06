/* SPDX-License-Identifier: MIT */
/*
 * A consumer killed at every place of the library that has a name, on its own
 * thread and on that of admission, from before it has its name until it has
 * given it back.
 *
 *	producers  one blocks in a tiny ring, one sends now and then: they are
 *	           told -ECONNRESET, or -ESHUTDOWN when it was closing
 *	visitor    attaches, sends and detaches, again and again
 *	victim     opens, takes messages, closes; dies on the way
 *	heir       opens the name after it: everybody is heard, nothing is left
 *
 *	./test_kill_consumer_at_hooks [--full]   up to 2 passings, or 20
 */
#include "tests/death/places.h"

#define NAME "words"
#define SENDER_COUNT 2
#define VISITOR SENDER_COUNT
#define WATCH_NS (10 * SCENE_S)
#define FAR_ABOVE_NS (SCENE_IS_SANITIZED ? 3 * SCENE_S : SCENE_S)
#define TAKEN_COUNT 80
#define VISIT_COUNT 2
#define PLACE_COUNT 16 /* that every life should pass */
#define DRY_RUN_MAX 20
#define PEEKS_MAX 8 /* between two looks at the rest of the world */

enum { FILLS, SENDS_SLOWLY };

struct board {
	uint64_t round; /* of the heir that is open, else 0 */
	uint64_t stop;  /* the heir: close */
	uint64_t over;  /* everybody: it is over */
	uint64_t told_max_ns, told_count, shut_down_count;
	uint64_t heard[SENDER_COUNT + 1]; /* the last round it was heard in */
	char fault[200];
	struct plan plan;
};

static struct board *board;
static uint64_t passing_max = 2;
static uint32_t wait_mode; /* of everybody in this part */

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* producers' processes --------------------------------------------------- */

static void note_told(int error)
{
	uint64_t kill_ns = scene_get(&board->plan.kill_ns);
	uint64_t late_ns = scene_now_ns() - kill_ns;

	scene_add(error == -ESHUTDOWN ? &board->shut_down_count
	                              : &board->told_count,
	          1);
	/* An heir closes in peace. */
	if (error == -ECONNRESET && late_ns > scene_get(&board->told_max_ns))
		scene_put(&board->told_max_ns, late_ns);
	if (kill_ns == 0 && error == -ECONNRESET)
		fault("told of a death that did not happen");
}

static int send_for_ever(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	uint32_t sender = (uint32_t)(uintptr_t)arg;
	struct peal_producer *producer = NULL;
	uint64_t sequence = 0;
	bool is_connected = false;
	uint8_t data[400];
	int error;

	options.name = NAME;
	options.ring_bytes = 4096;
	options.reconnect = 1;
	options.wait_mode = wait_mode;
	while (scene_get(&board->over) == 0) {
		size_t bytes = sender == FILLS ? sizeof(data) : 40;

		scene_stamp_write(data, bytes, sender, sequence + 1);
		error = producer == NULL
		                ? peal_producer_attach(&options, WATCH_NS,
		                                       &producer)
		                : peal_producer_send(producer, data, bytes,
		                                     WATCH_NS);
		if (error == -ETIMEDOUT)
			return fault("sender %u hung", sender);
		if (is_connected &&
		    (error == -ECONNRESET || error == -ESHUTDOWN))
			note_told(error);
		is_connected = error == 0;
		sequence += is_connected;
		if (error < 0 || sender == SENDS_SLOWLY)
			scene_sleep_ns(SCENE_MS / 2);
	}
	return 0;
}

/* So that the door has something to do as well. */
static int visit_for_ever(void *arg)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer;
	uint8_t data[sizeof(struct scene_stamp)];

	(void)arg;
	options.name = NAME;
	while (scene_get(&board->over) == 0) {
		if (peal_producer_attach(&options, WATCH_NS, &producer) == 0) {
			scene_stamp_write(data, sizeof(data), VISITOR, 1);
			if (peal_producer_send(producer, data, sizeof(data),
			                       0) == 0)
				scene_sleep_ns(SCENE_MS);
			peal_producer_detach(producer);
		}
		scene_sleep_ns(SCENE_MS);
	}
	return 0;
}

/* consumers' processes --------------------------------------------------- */

static int take(const struct peal_message *message, uint32_t *ret_sender)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(message->data, message->data_bytes, &stamp) ||
	    stamp.sender > VISITOR)
		return fault("a torn message");
	*ret_sender = stamp.sender;
	return 0;
}

static struct peal_consumer *open_consumer(void)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_consumer *consumer;
	struct peal_failure failure;

	options.name = NAME;
	options.wait_mode = wait_mode;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.ret_failure = &failure;
	if (peal_consumer_open(&options, &consumer) == 0)
		return consumer;
	fault("open: %s", failure.text);
	return NULL;
}

/* Until so many messages came and so many visitors went; then it closes. */
static int live(void *arg)
{
	uint32_t taken_count = 0, sender;
	struct peal_consumer_stats stats = {0};
	struct peal_consumer *consumer;
	struct peal_message message;

	(void)arg;
	places_watch(&board->plan);
	consumer = open_consumer();
	if (consumer == NULL)
		return 1;
	while (taken_count < TAKEN_COUNT ||
	       stats.detached_count < VISIT_COUNT) {
		peal_consumer_wait(consumer, PEAL_FOREVER);
		for (int i = 0; i < PEEKS_MAX &&
		                peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			if (take(&message, &sender) != 0)
				return 1;
			/* So slow that a ring is full. */
			if (sender == FILLS)
				scene_sleep_ns(50 * SCENE_US);
			peal_consumer_release(consumer, &message);
			taken_count++;
		}
		peal_consumer_stats(consumer, &stats);
	}
	return peal_consumer_close(consumer);
}

static int inherit(void *arg)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_message message;
	uint64_t round = (uintptr_t)arg;
	uint32_t sender;

	if (consumer == NULL)
		return 1;
	while (scene_get(&board->stop) == 0) {
		peal_consumer_wait(consumer, SCENE_MS);
		for (int i = 0; i < PEEKS_MAX &&
		                peal_consumer_peek(consumer, &message) == 0;
		     i++) {
			if (take(&message, &sender) != 0)
				return 1;
			scene_put(&board->heard[sender], round);
			peal_consumer_release(consumer, &message);
		}
	}
	return peal_consumer_close(consumer);
}

/* the parent ------------------------------------------------------------- */

/* The heir of whoever lived before: all are heard, and nothing is left. */
static void run_heir(uint64_t round)
{
	pid_t heir;
	int status;

	scene_put(&board->stop, 0);
	heir = scene_start(inherit, (void *)(uintptr_t)round);
	for (uint32_t i = 0; i <= VISITOR; i++)
		if (!scene_reach(&board->heard[i], round, WATCH_NS))
			fault("sender %u was not heard by the heir", i);
	scene_put(&board->stop, 1);
	status = scene_wait(heir, WATCH_NS);
	if (status != 0)
		fault("the heir ended with %d", status);
	if (strcmp(scene_names(), "") != 0)
		fault("left behind: %s", scene_names());
}

/* One victim, and its heir; returns how the victim ended. */
static int run_life(const char *what)
{
	static uint64_t round;
	int status = scene_wait(scene_start(live, NULL), 2 * WATCH_NS);

	if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
		fault("the victim ended with %d", status);
	for (const char *const *name =
	             (const char *const[]){"", NAME ".lock ",
	                                   NAME ".lock " NAME "~peal ",
	                                   NAME " " NAME ".lock ", NULL};
	     strcmp(scene_names(), *name) != 0;)
		if (*++name == NULL) {
			fault("left behind: %s", scene_names());
			break;
		}
	run_heir(++round);
	if (board->told_max_ns > FAR_ABOVE_NS)
		fault("told after %.0f ms", (double)board->told_max_ns / 1e6);
	if (board->fault[0] != '\0')
		fail_msg("%s: %s", what, board->fault);
	return status;
}

static int kill_at_place(const char *place, uint64_t last)
{
	char what[100];
	int kill_count = 0;

	if (last > passing_max)
		last = passing_max;
	for (uint64_t passing = 1; passing <= last; passing++) {
		snprintf(what, sizeof(what), "killed at '%s', %llu", place,
		         (unsigned long long)passing);
		places_plan(&board->plan, place, passing);
		kill_count += run_life(what) != 0;
	}
	return kill_count;
}

static void kill_at_every_place(uint32_t mode)
{
	static struct plan dry;
	int kill_count = 0;

	memset(board, 0, sizeof(*board));
	wait_mode = mode;
	for (uintptr_t i = 0; i < SENDER_COUNT; i++)
		scene_start(send_for_ever, (void *)i);
	scene_start(visit_for_ever, NULL);
	memset(&dry, 0, sizeof(dry));
	/* On a busy machine one life may have no time to sleep. */
	for (int i = 0; i < DRY_RUN_MAX && dry.place_count < PLACE_COUNT; i++) {
		places_plan(&board->plan, NULL, 0);
		assert_int_equal(run_life("a dry run"), 0);
		places_merge(&dry, &board->plan);
	}
	for (uint32_t i = 0; i < dry.place_count; i++) {
		print_message("  %-28s passed %llu times\n", dry.places[i].name,
		              (unsigned long long)dry.places[i].passings);
		kill_count += kill_at_place(dry.places[i].name,
		                            dry.places[i].passings);
	}
	scene_put(&board->over, 1);
	print_message("kill_consumer_at_hooks: %u places, %d kills; told of "
	              "%llu deaths and %llu closes, at most %.1f ms after the "
	              "kill; every name inherited, nothing left\n",
	              dry.place_count, kill_count,
	              (unsigned long long)board->told_count,
	              (unsigned long long)board->shut_down_count,
	              (double)board->told_max_ns / 1e6);
	assert_true(dry.place_count >= PLACE_COUNT);
	assert_true(kill_count >= (int)dry.place_count);
	scene_kill_all();
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
	return board != NULL ? scene_group_setup(state) : -1;
}

#define TEST(name) cmocka_unit_test_teardown(name, scene_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(killed_at_every_place_of_futex_mode),
		TEST(killed_at_every_place_of_fd_mode),
	};

	if (scene_is_full(argc, argv))
		passing_max = 20;
	return cmocka_run_group_tests(tests, setup, scene_group_teardown) != 0;
}
