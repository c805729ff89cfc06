/* SPDX-License-Identifier: MIT */
/*
 * A server killed at every instruction of an answer and of a push, on the
 * thread that gives it: tests/death/askers.h says what its clients see.
 *
 *	./test_kill_server_at_steps [--full]   a sample, or every boundary
 */
#include "tests/death/askers.h"
#include "tests/death/sample.h"

#include <pthread.h>

#define KILL_MAX 8 /* of each operation */

static uint64_t *stepped; /* the thread of the victim's that is stepped, or 0 */

/* what the victim does ------------------------------------------------------ */

#define WARM_COUNT 10 /* requests before, so that nothing is done at first */

static struct {
	uint32_t begun_count, replied_count; /* of requests */
	bool is_handler_stepped, is_handler_late;
	uint32_t is_begun;
} own;

static void begin(void)
{
	__atomic_store_n(&own.is_begun, 1, __ATOMIC_RELEASE);
	scene_put(stepped, (uint64_t)syscall(SYS_gettid));
	if (steps_begin() != 0)
		fault("not traced");
}

static void serve(struct peal_request *request, void *arg)
{
	(void)arg;
	__atomic_add_fetch(&own.begun_count, 1, __ATOMIC_RELEASE);
	/* The reactor is to have gone on before there is an answer. */
	if (own.is_handler_late)
		scene_sleep_ns(SCENE_MS / 2);
	if (own.is_handler_stepped)
		begin();
	echo(request, NULL);
	__atomic_add_fetch(&own.replied_count, 1, __ATOMIC_RELEASE);
}

static void serve_on_worker(struct peal_request *request, void *arg)
{
	serve(request, arg);
	if (own.is_begun != 0)
		steps_end();
}

static uint32_t replied_count(void)
{
	return __atomic_load_n(&own.replied_count, __ATOMIC_ACQUIRE);
}

static bool all_are_idle(void)
{
	for (uint32_t i = 0; i < asker_count; i++)
		if (scene_get(&board->is_idle[i]) == 0)
			return false;
	return true;
}

/* Until some requests have come, and then nobody has anything to ask: each
 * victim finds the same to be done. */
static struct peal_reactor *open_and_warm(uint32_t worker_count)
{
	struct peal_reactor *reactor = open_reactor(
		worker_count > 0 ? serve_on_worker : serve, worker_count);
	uint64_t end_ns = scene_now_ns() + WATCH_NS;

	while (reactor != NULL && board->fault[0] == '\0' &&
	       scene_now_ns() < end_ns) {
		peal_reactor_run_once(reactor, SCENE_MS);
		if (scene_get(&board->hush) != HUSH_ALL &&
		    replied_count() >= WARM_COUNT)
			scene_put(&board->hush, HUSH_ALL);
		if (scene_get(&board->hush) == HUSH_ALL && all_are_idle())
			break;
	}
	/* What is not a request, and until the last one sleeps. */
	for (int i = 0; reactor != NULL && i < 3; i++)
		peal_reactor_run_once(reactor, SCENE_MS / 2);
	return reactor;
}

/* One of them asks once. */
static void be_asked_by(uint64_t who)
{
	scene_put(&board->who, who);
	scene_put(&board->hush, HUSH_ALL_BUT_ONE_CALL);
}

/* From the reply in a handler on to the ring at the end of the turn. */
static int reply_here(void *arg)
{
	struct peal_reactor *reactor = open_and_warm(0);
	uint32_t before = replied_count();

	own.is_handler_stepped = true;
	be_asked_by((uintptr_t)arg);
	while (reactor != NULL && replied_count() == before)
		peal_reactor_run_once(reactor, PEAL_FOREVER);
	steps_end();
	return reactor == NULL ? 1 : close_reactor(reactor);
}

/* A reply on a worker's thread, up to the ring of the reactor's bell. */
static int reply_on_worker(void *arg)
{
	struct peal_reactor *reactor = open_and_warm(1);
	uint32_t before = replied_count();

	own.is_handler_stepped = true;
	be_asked_by((uintptr_t)arg);
	while (reactor != NULL && replied_count() == before)
		peal_reactor_run_once(reactor, SCENE_MS);
	return reactor == NULL ? 1 : close_reactor(reactor);
}

/* What a worker has answered goes out, on the reactor's thread. */
static int send_for_worker(void *arg)
{
	struct peal_reactor *reactor = open_and_warm(1);
	uint32_t before = replied_count();
	uint64_t end_ns = scene_now_ns() + WATCH_NS;

	if (reactor == NULL)
		return 1;
	own.is_handler_late = true;
	be_asked_by((uintptr_t)arg);
	while (__atomic_load_n(&own.begun_count, __ATOMIC_ACQUIRE) == before &&
	       scene_now_ns() < end_ns)
		peal_reactor_run_once(reactor, 0);
	while (replied_count() == before && scene_now_ns() < end_ns)
		scene_sleep_ns(50 * SCENE_US);
	begin();
	peal_reactor_run_once(reactor, 0);
	steps_end();
	return close_reactor(reactor);
}

static int push_to_all(void *arg)
{
	struct peal_reactor *reactor = open_and_warm(0);
	uint8_t data[MESSAGE_BYTES];

	(void)arg;
	if (reactor == NULL)
		return 1;
	begin();
	for (uint64_t i = 1; i <= 2; i++) {
		scene_stamp_write(data, sizeof(data), PUSHER, i);
		peal_reactor_push_all(reactor, data, sizeof(data));
	}
	peal_reactor_run_once(reactor, 0);
	steps_end();
	return close_reactor(reactor);
}

static int stop_and_close(void *arg)
{
	struct peal_reactor *reactor = open_and_warm(0);

	(void)arg;
	if (reactor == NULL)
		return 1;
	begin();
	peal_reactor_stop(reactor, SCENE_S);
	peal_reactor_run(reactor);
	close_reactor(reactor);
	steps_end();
	return 0;
}

/* A thread that says who it is long before it is traced. */
static void *begin_late(void *arg)
{
	(void)arg;
	scene_put(stepped, (uint64_t)syscall(SYS_gettid));
	scene_sleep_ns(20 * SCENE_MS);
	own.is_begun = steps_begin() == 0;
	steps_end();
	return NULL;
}

static int be_traced_late(void *arg)
{
	pthread_t thread;

	(void)arg;
	if (pthread_create(&thread, NULL, begin_late, NULL) != 0)
		return 1;
	pthread_join(thread, NULL);
	return own.is_begun == 1 ? 0 : 2;
}

/* the parent ---------------------------------------------------------------- */

static bool run_to(const struct steps_operation *operation, uint64_t target,
                   struct steps *steps)
{
	bool was_killed = false;
	pid_t victim;

	scene_put(stepped, 0);
	scene_put(&board->told.kill_ns, 0);
	steps->kill_ns = &board->told.kill_ns;
	victim = scene_start(operation->live, operation->arg);
	if (scene_reach_unless(board->fault, stepped, 1, WATCH_NS)) {
		was_killed = steps_run(victim, (pid_t)*stepped, target, steps);
	} else {
		fault("no request has come");
		kill(victim, SIGKILL);
	}
	scene_put(&board->hush, HUSH_NOBODY);
	examine_life(scene_wait(victim, WATCH_NS));
	return was_killed;
}

static int open_boards(void **state)
{
	stepped = scene_board(sizeof(*stepped));
	return stepped != NULL ? open_board(state) : -1;
}

static void a_thread_is_awaited_until_it_is_traced(void **state)
{
	static struct steps steps;
	pid_t victim;

	(void)state;
	scene_put(stepped, 0);
	victim = scene_start(be_traced_late, NULL);
	assert_true(scene_reach(stepped, 1, WATCH_NS));
	assert_false(steps_run(victim, (pid_t)*stepped, STEPS_NEVER, &steps));
	assert_int_equal(steps.kind, STEPS_OVER);
	assert_int_equal(scene_wait(victim, WATCH_NS), 0);
}

static void begin_with_askers(uint32_t mode)
{
	stepped = scene_board(sizeof(*stepped));
	if (stepped == NULL)
		abort();
	begin_share(mode);
}

static void tell_of_losses(void)
{
	const char *why;

	print_message("%llu pushes\n", (unsigned long long)board->push_count);
	why = told_fault(&board->told, LATE_PERCENT_OF_MANY);
	if (why != NULL)
		fault("%s", why);
	if (board->push_count == 0)
		fault("nothing was pushed");
}

static const struct steps_operation operations[] = {
	{.name = "reply on the reactor's thread",
         .live = reply_here,
         .arg = (void *)CALLER},
	{.name = "reply on a worker",
         .live = reply_on_worker,
         .arg = (void *)CALLER},
	{.name = "send what a worker has replied",
         .live = send_for_worker,
         .arg = (void *)CALLER},
	{.name = "push to all", .live = push_to_all},
	{.name = "stop and close", .live = stop_and_close},
	/* Where there is one. */
	{.name = "reply to a stranger",
         .live = reply_here,
         .arg = (void *)STRANGER},
	{.name = "send what a worker has replied to a stranger",
         .live = send_for_worker,
         .arg = (void *)STRANGER},
};

static void killed_at_any_instruction_of_an_answer(void **state)
{
	struct steps_stage stage = {
		.operations = operations,
		.count = CHECK_COUNT(operations),
		.begin = begin_with_askers,
		.live = run_to,
		.end = tell_of_losses,
		.what_is_wrong = found_fault,
	};

	if (geteuid() != 0)
		stage.count -= 2;
	steps_try_all(&stage, scene_mode(state));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		SCENE_TEST(a_thread_is_awaited_until_it_is_traced),
		SCENE_TESTS_OF_MODES(killed_at_any_instruction_of_an_answer),
	};

	if (!steps_prepare(KILL_MAX, argc, argv))
		return 77;
	return cmocka_run_group_tests(tests, open_boards,
	                              scene_group_teardown) != 0;
}
