/* SPDX-License-Identifier: MIT */
/*
 * What tests share in which servers die, one after the other:
 *
 *	caller     one call at a time
 *	pipeliner  a few requests at once: each id comes back once, answered
 *	           or lost
 *	stranger   another caller, of another user; only where we are root
 *	victim     a new process each time
 *	heir       opens the name after it: all are answered, nothing is left,
 *	           and they hold what they held at first
 *
 * A request and its answer are the same stamp, a push has a stamp of PUSHER.
 */
#ifndef PEAL_TESTS_DEATH_ASKERS_H
#define PEAL_TESTS_DEATH_ASKERS_H

#include "tests/death/heir.h"

#include <sys/stat.h>

#include "peal/client.h"

#define NAME "mortal"
#define PUSHER ASKER_COUNT
#define STRANGER_UID 12345
#define DEPTH 4
#define MESSAGE_BYTES 100

enum { CALLER, PIPELINER, STRANGER, ASKER_COUNT };

/* Ask nothing anew for now; then one of them asks once. */
enum { HUSH_NOBODY, HUSH_ALL, HUSH_ALL_BUT_ONE_CALL };

struct board {
	uint64_t over;
	uint64_t hush;
	uint64_t who; /* it is that asks once */
	uint64_t is_idle[ASKER_COUNT];
	uint64_t stop; /* the heir: close */
	uint64_t push_count;
	struct told told; /* that a request was lost */
	uint64_t answered[ASKER_COUNT];
	uint64_t replied; /* by the victim's worker */
	struct scene_held held[ASKER_COUNT];
	char fault[200];
};

static struct board *board;
static uint32_t wait_mode; /* of everybody in this part */
static uint32_t asker_count = ASKER_COUNT;

#define fault(...) scene_fault(board->fault, sizeof(board->fault), __VA_ARGS__)

/* clients' processes ------------------------------------------------------ */

struct asker {
	struct peal_client *client;
	uint32_t number;
	bool is_connected; /* and answered */
	bool has_called;   /* once, where all others are to be quiet */
	uint64_t sequence;
	uint64_t last_push, reconnect_count;
	struct {
		uint64_t id, sequence;
	} flying[DEPTH];
	uint32_t flying_count;
};

/* On one connection they follow each other, wherever they begin. */
static void note_push(const struct peal_message *push, void *arg)
{
	struct asker *asker = arg;
	struct scene_stamp stamp = {0};
	struct peal_client_stats stats = {0};

	if (peal_client_stats(asker->client, &stats) < 0 ||
	    asker->reconnect_count != stats.reconnect_count)
		asker->last_push = 0;
	asker->reconnect_count = stats.reconnect_count;
	if (!scene_stamp_read(push->data, push->data_bytes, &stamp) ||
	    stamp.sender != PUSHER)
		fault("a torn push");
	else if (asker->last_push != 0 &&
	         stamp.sequence != asker->last_push + 1)
		fault("push %llu follows %llu",
		      (unsigned long long)stamp.sequence,
		      (unsigned long long)asker->last_push);
	asker->last_push = stamp.sequence;
	scene_add(&board->push_count, 1);
}

/* A request that was sent has ended so: was it in time, and for a reason? */
static void note_loss(const struct asker *asker, int error)
{
	if (error == -ECONNRESET && !told_now(&board->told))
		fault("client %u: told of a death that did not happen",
		      asker->number);
}

static uint64_t sent_count(const struct asker *asker)
{
	struct peal_client_stats stats = {0};

	if (peal_client_stats(asker->client, &stats) < 0)
		fault("no counters");
	return stats.sent_count;
}

static void check_held(const struct asker *asker)
{
	char why[SCENE_WHY_BYTES];

	if (!scene_holds_the_same(&board->held[asker->number], why))
		fault("client %u holds %s", asker->number, why);
}

static int check_answer(struct asker *asker, const struct peal_message *answer,
                        uint64_t sequence)
{
	struct scene_stamp stamp;

	if (!scene_stamp_read(answer->data, answer->data_bytes, &stamp) ||
	    stamp.sender != asker->number || stamp.sequence != sequence)
		return fault("client %u: not the answer to %llu", asker->number,
		             (unsigned long long)sequence);
	if (!asker->is_connected)
		check_held(asker);
	asker->is_connected = true;
	scene_add(&board->answered[asker->number], 1);
	return 0;
}

static bool is_absence(int error)
{
	return error == -ECONNRESET || error == -ESHUTDOWN ||
	       error == -ENOENT || error == -ECONNREFUSED;
}

/* There is no server, or no longer: come again. */
static int pause_after(struct asker *asker, int error)
{
	if (!is_absence(error))
		return fault("client %u: %d", asker->number, error);
	asker->is_connected = false;
	scene_put(&board->is_idle[asker->number], 0);
	scene_sleep_ns(SCENE_MS / 2);
	return 0;
}

static int call_once(struct asker *asker)
{
	uint8_t data[MESSAGE_BYTES];
	struct peal_message answer;
	uint64_t before = sent_count(asker);
	int error;

	scene_stamp_write(data, sizeof(data), asker->number, ++asker->sequence);
	error = peal_client_call(asker->client, data, sizeof(data), WATCH_NS,
	                         &answer);
	if (error == 0)
		return check_answer(asker, &answer, asker->sequence);
	/* Or the loss came before, or it could not connect again. */
	if (sent_count(asker) != before)
		note_loss(asker, error);
	return pause_after(asker, error);
}

static int take_one(struct asker *asker)
{
	struct peal_message answer;
	int error = peal_client_recv(asker->client, WATCH_NS, &answer);
	uint32_t at = 0;

	if (error < 0)
		return fault("client %u: %u requests have not ended when recv "
		             "says %d",
		             asker->number, asker->flying_count, error);
	while (at < asker->flying_count && asker->flying[at].id != answer.id)
		at++;
	if (at == asker->flying_count)
		return fault("an answer to nothing, or a second one");
	if (answer.kind == PEAL_ANSWERED)
		error = check_answer(asker, &answer,
		                     asker->flying[at].sequence);
	else if (!is_absence(answer.status))
		error = fault("failed with %d", answer.status);
	else
		note_loss(asker, answer.status);
	asker->flying[at] = asker->flying[--asker->flying_count];
	return error;
}

static int call_many(struct asker *asker)
{
	uint8_t data[MESSAGE_BYTES];
	int error = 0;

	while (asker->flying_count < DEPTH && error == 0) {
		uint64_t *id = &asker->flying[asker->flying_count].id;

		asker->flying[asker->flying_count].sequence = ++asker->sequence;
		scene_stamp_write(data, sizeof(data), asker->number,
		                  asker->sequence);
		error = peal_client_send(asker->client, data, sizeof(data),
		                         PEAL_FOREVER, WATCH_NS, id);
		asker->flying_count += error == 0;
	}
	while (asker->flying_count > 0)
		if (take_one(asker) < 0)
			return -1;
	return error < 0 && error != -EAGAIN ? pause_after(asker, error) : 0;
}

/* Ask nothing; asleep at the bell, for pushes, as long as there is a server. */
static void idle(struct asker *asker)
{
	struct peal_message answer;
	int error;

	scene_put(&board->is_idle[asker->number], 1);
	/* Who may have to ask does not sleep for long. */
	error = peal_client_recv(asker->client,
	                         scene_get(&board->who) == asker->number
	                                 ? SCENE_MS
	                                 : 20 * SCENE_MS,
	                         &answer);
	if (error == 0)
		fault("client %u: an answer to nothing", asker->number);
	else if (error != -ETIMEDOUT)
		pause_after(asker, error);
}

/* May it ask now, or is it to be quiet? */
static bool is_to_ask(struct asker *asker)
{
	uint64_t hush = scene_get(&board->hush);

	if (hush == HUSH_NOBODY) {
		asker->has_called = false;
		scene_put(&board->is_idle[asker->number], 0);
	}
	/* Only who is connected may be quiet, or it would never be. */
	if (hush == HUSH_NOBODY || !asker->is_connected)
		return true;
	if (hush == HUSH_ALL || asker->has_called ||
	    scene_get(&board->who) != asker->number)
		return false;
	asker->has_called = true;
	return true;
}

static bool become(uint32_t uid)
{
	return setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0 &&
	       prctl(PR_SET_DUMPABLE, 1) == 0 &&
	       prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
}

static int ask_for_ever(void *arg)
{
	struct asker asker = {.number = (uint32_t)(uintptr_t)arg};
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	int error;

	if (asker.number == STRANGER && !become(STRANGER_UID))
		return fault("cannot be another user");
	options.name = NAME;
	options.wait_mode = wait_mode;
	options.on_push = note_push;
	options.arg = &asker;
	options.reconnect = 1;
	options.spin_mode = PEAL_SPIN_NEVER;
	while ((error = peal_client_connect(&options, WATCH_NS,
	                                    &asker.client)) < 0)
		if (pause_after(&asker, error) < 0)
			return 1;
	while (scene_get(&board->over) == 0)
		if (!is_to_ask(&asker))
			idle(&asker);
		else if ((asker.number == PIPELINER ? call_many(&asker)
		                                    : call_once(&asker)) < 0)
			return 2;
	return peal_client_close(asker.client);
}

/* servers' processes ------------------------------------------------------ */

static void echo(struct peal_request *request, void *arg)
{
	struct scene_stamp stamp;
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	if (!scene_stamp_read(data, bytes, &stamp) ||
	    stamp.sender >= ASKER_COUNT)
		fault("a torn request");
	peal_reply(request, data, bytes);
}

static struct peal_reactor *open_reactor(void (*serve)(struct peal_request *,
                                                       void *),
                                         uint32_t worker_count)
{
	static const uint32_t stranger = STRANGER_UID;
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_reactor *reactor;
	struct peal_failure failure;

	options.name = NAME;
	options.wait_mode = wait_mode;
	options.socket_mode = 0666;
	options.allow_uid = &stranger;
	options.allow_uid_count = 1;
	options.on_request = serve;
	options.worker_count = worker_count;
	options.inline_mode = worker_count > 0 ? PEAL_INLINE_NEVER
	                                       : PEAL_INLINE_AUTO;
	options.spin_mode = PEAL_SPIN_NEVER;
	options.client_max = 8;
	/* Its tables are looked through when it is closed, row by row. */
	options.in_flight_max = 64;
	options.in_flight_per_client_max = 16;
	options.ring_default_bytes = PEAL_RING_MIN_BYTES;
	options.ret_failure = &failure;
	if (peal_reactor_open(&options, &reactor) == 0)
		return reactor;
	fault("open: %s", failure.text);
	return NULL;
}

static int close_reactor(struct peal_reactor *reactor)
{
	while (peal_reactor_close(reactor) == -EBUSY)
		scene_sleep_ns(SCENE_MS);
	return 0;
}

static int inherit(void *arg)
{
	struct peal_reactor *reactor = open_reactor(echo, 0);

	(void)arg;
	if (reactor == NULL)
		return 1;
	while (scene_get(&board->stop) == 0)
		peal_reactor_run_once(reactor, SCENE_MS);
	return close_reactor(reactor);
}

/* the parent -------------------------------------------------------------- */

static int open_board(void **state)
{
	board = scene_board(sizeof(*board));
	return board != NULL ? scene_group_setup(state) : -1;
}

static void start_askers(uint32_t mode)
{
	memset(board, 0, sizeof(*board));
	wait_mode = mode;
	if (geteuid() != 0) {
		print_message("no client of another user: we are not root\n");
		asker_count = STRANGER;
	} else if (chmod(scene_directory, 0711) != 0) {
		fault("the stranger has no way to the socket");
	}
	for (uintptr_t i = 0; i < asker_count; i++)
		scene_start(ask_for_ever, (void *)i);
}

/* After a victim that has ended so: is all as it must be? */
static void examine_life(int status)
{
	uint64_t before[ASKER_COUNT];
	const char *why;
	pid_t heir;

	if (status != 0 && status != CHECK_KILLED_BY + SIGKILL)
		fault("the victim ended with %d", status);
	memcpy(before, board->answered, sizeof(before));
	scene_put(&board->stop, 0);
	heir = scene_start(inherit, NULL);
	for (uint32_t i = 0; i < asker_count; i++)
		if (!scene_reach_unless(board->fault, &board->answered[i],
		                        before[i] + DEPTH, WATCH_NS))
			fault("client %u is not answered by the heir", i);
	scene_put(&board->stop, 1);
	why = heir_fault(heir);
	if (why != NULL)
		fault("%s", why);
	if (board->told.max_ns > FAR_ABOVE_NS)
		fault("told after %.0f ms", (double)board->told.max_ns / 1e6);
}

static inline void judge_life(int status, const char *what)
{
	examine_life(status);
	if (board->fault[0] != '\0')
		fail_msg("%s: %s", what, board->fault);
}

/* Of a share of those that are stepped: with a board of its own. */
static inline void begin_share(uint32_t mode)
{
	board = scene_board(sizeof(*board));
	if (board == NULL)
		abort();
	start_askers(mode);
}

static inline const char *found_fault(void)
{
	return board->fault;
}

#endif
