/* SPDX-License-Identifier: MIT */
/*
 * Sixty-four processes load one server: producers, and clients that call and are
 * called. They are stopped, go on, and are killed, at any moment; two programs
 * that know nothing of all this burn the processors.
 *
 *	parent --starts, stops, kills--> 24 producers --> consumer  \  one
 *	   |                             40 clients  <--> reactor   /  process
 *	   +--watches: who has not got ahead for long, and is not stopped, sleeps
 *	   |  for ever: a wake was lost
 *	   +--stops all but one, now and then: a wake of the server that is lost
 *	      by that one is made up for by no other
 *
 * Every byte of every message is checked, and every number, in both directions.
 * The server spins for 0, 2 or 50 us, its guests as chance has it, on both
 * processors and on one. Afterwards the server holds no more than before. In a
 * build without the bounded sleep nothing hides a lost wake.
 *
 *	./test_load [--full]        2 seconds for each of three servers, or 2
 *	                            minutes
 *	./test_load --minutes N     N minutes for all three, with a line now and
 *	                            then (tests/soak)
 */
#include "tests/stress/load_people.h"
#include "tests/stress/load_server.h"

#include <fcntl.h>
#include <sched.h>

#define PRODUCER_PLACES 24
#define HOGS 2
#define STILL_NS (60 * SCENE_S) /* also on a busy machine */
#define STEP_NS (4 * SCENE_MS)
#define PROGRESS_NS (10 * SCENE_S)
#define STEPS_BETWEEN 8 /* times that somebody is alone */
#define STEPS_ALONE 24
/* Pools grow to what was ever in flight at a time, and what is queued for those
 * who are stopped leaves holes. */
#define RSS_SLACK_BYTES (UINT64_C(2) << 20)
#define WARM_UP_MAX_NS (120 * SCENE_S)

/* Two of them are stopped but never killed, to see whether they grow. */
#define ELDERS 2
#define ELDER_SLACK_BYTES (UINT64_C(1) << 19)
static const uint32_t elders[ELDERS] = {0, PRODUCER_PLACES};
static struct scene_held elder_held[ELDERS];
static uint64_t elder_progress[ELDERS]; /* before they were born */

static struct {
	pid_t pid;
	uint32_t life;
	bool is_stopped;
	uint64_t go_on_ns;
	uint64_t progress, moved_ns;
} people[PEOPLE];

static pid_t server;
static uint32_t life_count;
static uint64_t kill_count, stop_count, alone_count, chance;
static uint64_t duration_ns = 1700 * SCENE_MS, warm_up_ns = 400 * SCENE_MS;
static bool tells_progress;

/* processors --------------------------------------------------------------- */

static cpu_set_t all_cpus, cpus; /* cpus: in use now */

static void put_threads_on(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	DIR *stream;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	stream = opendir(path);
	while (stream != NULL && (entry = readdir(stream)) != NULL)
		if (entry->d_name[0] != '.')
			sched_setaffinity(atoi(entry->d_name), sizeof(cpus),
			                  &cpus);
	if (stream != NULL)
		closedir(stream);
}

/* Everybody but us, who would not get ahead with it. */
static void use_processors(bool one)
{
	bool is_first = true;

	cpus = all_cpus;
	for (size_t cpu = 0; one && cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &cpus) && !is_first)
			CPU_CLR(cpu, &cpus);
		else if (CPU_ISSET(cpu, &cpus))
			is_first = false;
	}
	for (size_t i = 0; i < scene_child_count; i++)
		put_threads_on(scene_children[i]);
}

/* Whoever watches the others comes before them. */
static bool step_back(void)
{
	errno = 0;
	return nice(3) != -1 || errno == 0;
}

static int burn(void *arg)
{
	(void)arg;
	step_back();
	while (scene_get(&board->is_open) != 0)
		;
	return 0;
}

static int serve_behind(void *arg)
{
	return step_back() ? serve(arg) : 1;
}

static int live_behind(void *arg)
{
	sched_setaffinity(0, sizeof(cpus), &cpus);
	return step_back() ? live(arg) : 1;
}

/* lives -------------------------------------------------------------------- */

static void give_birth(uint32_t place)
{
	uint32_t life = life_count++;

	assert_true(life_count < LIFE_MAX);
	board->is_producer[life] = place < PRODUCER_PLACES;
	people[place].life = life;
	people[place].is_stopped = false;
	people[place].moved_ns = scene_now_ns();
	people[place].pid = scene_start(
		live_behind, (void *)((uintptr_t)life * PEOPLE + place));
	assert_true(people[place].pid > 0);
}

static void disturb_somebody(void)
{
	uint64_t dice = scene_random(&chance);
	uint32_t place = (uint32_t)(dice >> 8) % PEOPLE;

	if (dice % 4 == 0 && place != elders[0] && place != elders[1]) {
		kill(people[place].pid, SIGKILL);
		assert_int_equal(scene_wait(people[place].pid, STILL_NS),
		                 CHECK_KILLED_BY + SIGKILL);
		kill_count++;
		give_birth(place);
	} else if (dice % 4 == 1 && !people[place].is_stopped) {
		kill(people[place].pid, SIGSTOP);
		people[place].is_stopped = true;
		people[place].go_on_ns =
			scene_now_ns() + (dice >> 16) % (30 * SCENE_MS);
		stop_count++;
	}
}

static void let_go_on(bool all)
{
	uint64_t now_ns = scene_now_ns();

	for (uint32_t place = 0; place < PEOPLE; place++) {
		if (!people[place].is_stopped ||
		    (!all && people[place].go_on_ns > now_ns))
			continue;
		kill(people[place].pid, SIGCONT);
		people[place].is_stopped = false;
		people[place].moved_ns = now_ns;
	}
}

/* Has somebody not got ahead for long? */
static void look_for_the_lost(void)
{
	uint64_t now_ns = scene_now_ns();

	for (uint32_t place = 0; place < PEOPLE; place++) {
		uint64_t progress = scene_get(&board->progress[place]);

		if (progress != people[place].progress) {
			people[place].progress = progress;
			people[place].moved_ns = now_ns;
		} else if (!people[place].is_stopped &&
		           now_ns - people[place].moved_ns > STILL_NS) {
			fault("a %s, life %u, has not got ahead for a minute: a "
			      "wake was lost",
			      place < PRODUCER_PLACES ? "producer" : "client",
			      people[place].life);
		}
	}
}

/* Everybody else is stopped, wherever he is, until this one has got ahead. */
static void leave_alone(uint32_t lone)
{
	uint64_t goal, start_ns = scene_now_ns();

	let_go_on(true);
	scene_put(&board->alone, lone + 1);
	for (uint32_t place = 0; place < PEOPLE; place++) {
		if (place == lone)
			continue;
		kill(people[place].pid, SIGSTOP);
		people[place].is_stopped = true;
	}
	goal = scene_get(&board->progress[lone]) + STEPS_ALONE;
	while (scene_get(&board->progress[lone]) < goal &&
	       board->fault[0] == '\0') {
		if (scene_now_ns() - start_ns > STILL_NS)
			fault("a %s, life %u, alone with the server, has not "
			      "got ahead for a minute: a wake was lost",
			      lone < PRODUCER_PLACES ? "producer" : "client",
			      people[lone].life);
		scene_sleep_ns(SCENE_MS / 4);
	}
	scene_put(&board->alone, 0);
	alone_count++;
	let_go_on(true);
}

static void tell_progress(uint64_t start_ns)
{
	print_message(
		"load: %-22s %4llu s: %llu messages, %llu calls, %llu "
		"pushes, %llu calls of the server; %llu killed, %llu "
		"stopped\n",
		way.name,
		(unsigned long long)((scene_now_ns() - start_ns) / SCENE_S),
		(unsigned long long)board->message_count,
		(unsigned long long)board->call_count,
		(unsigned long long)board->push_count,
		(unsigned long long)board->upcall_count,
		(unsigned long long)kill_count, (unsigned long long)stop_count);
	fflush(NULL);
}

/* Whoever has got ahead so far has come to the end of its attach. */
static bool have_elders_begun(void)
{
	for (int i = 0; i < ELDERS; i++)
		if (scene_get(&board->progress[elders[i]]) <
		    elder_progress[i] + 100)
			return false;
	return true;
}

static void remember_elders(void)
{
	for (int i = 0; i < ELDERS; i++)
		elder_held[i] = scene_held_by(people[elders[i]].pid);
}

static void look_at_elders(void)
{
	for (int i = 0; i < ELDERS; i++) {
		const struct scene_held *before = &elder_held[i];
		struct scene_held after = scene_held_by(people[elders[i]].pid);

		if (tells_progress)
			print_message(
				"load: a %s: descriptors %u -> %u, "
				"mappings %u -> %u, resident %llu -> "
				"%llu KiB\n",
				i == 0 ? "producer" : "client", before->fds,
				after.fds, before->maps, after.maps,
				(unsigned long long)before->rss_bytes >> 10,
				(unsigned long long)after.rss_bytes >> 10);
		assert_int_equal(after.fds, before->fds);
		assert_int_equal(after.threads, before->threads);
		if (SCENE_IS_SANITIZED)
			continue;
		assert_true(after.rss_bytes <
		            before->rss_bytes + ELDER_SLACK_BYTES);
	}
}

/* On a busy machine it may take longer than that. */
static bool has_some_of_each(void)
{
	return scene_get(&board->message_count) > 0 &&
	       scene_get(&board->call_count) > 0 &&
	       scene_get(&board->push_count) > 0 &&
	       scene_get(&board->upcall_answered_count) > 0 && alone_count > 0;
}

static bool is_enough(uint64_t took_ns, uint64_t ns)
{
	return board->fault[0] != '\0' || took_ns > ns + STILL_NS ||
	       (took_ns >= ns && has_some_of_each());
}

static void load_for(uint64_t ns)
{
	uint64_t start_ns = scene_now_ns(), told_ns = start_ns;
	bool has_one = false, has_elders = false;
	uint64_t step = 0;

	for (int i = 0; i < ELDERS; i++)
		elder_progress[i] = scene_get(&board->progress[elders[i]]);
	for (uint32_t place = 0; place < PEOPLE; place++)
		give_birth(place);
	while (!is_enough(scene_now_ns() - start_ns, ns)) {
		/* Both processors and one, half of the time each. */
		bool wants_one = (scene_now_ns() - start_ns) * 4 / ns % 2 != 0;

		if (wants_one != has_one)
			use_processors(wants_one);
		has_one = wants_one;
		if (!has_elders && scene_now_ns() - start_ns > ns / 4 &&
		    have_elders_begun()) {
			remember_elders();
			has_elders = true;
		}
		disturb_somebody();
		let_go_on(false);
		look_for_the_lost();
		if (++step % STEPS_BETWEEN == 0)
			leave_alone((uint32_t)(scene_random(&chance) % PEOPLE));
		scene_sleep_ns(STEP_NS);
		if (tells_progress && scene_now_ns() - told_ns > PROGRESS_NS) {
			tell_progress(start_ns);
			told_ns = scene_now_ns();
		}
	}
	if (has_elders && board->fault[0] == '\0')
		look_at_elders();
	let_go_on(true);
	use_processors(false);
}

/* All come to an end by themselves, while the server lives. */
static void end_all_lives(void)
{
	scene_put(&board->people_stop, 1);
	for (uint32_t place = 0; place < PEOPLE; place++) {
		int status = scene_wait(people[place].pid, STILL_NS);

		if (status == SCENE_TIMED_OUT)
			fault("a %s, life %u, does not come to an end: a wake "
			      "was lost",
			      place < PRODUCER_PLACES ? "producer" : "client",
			      people[place].life);
		assert_string_equal(board->fault, "");
		if (status != 0)
			fail_msg("a %s, life %u, ended with %d",
			         place < PRODUCER_PLACES ? "producer"
			                                 : "client",
			         people[place].life, status);
	}
	scene_put(&board->people_stop, 0);
}

/* counting ----------------------------------------------------------------- */

/* Everything that was published has arrived, and nothing else. */
static bool has_all(uint32_t life)
{
	uint32_t sent = scene_get(&board->sent[life]);
	uint32_t received = scene_get(&board->received[life]);

	/* Of a killed client nobody knows which were under way. */
	if (!board->is_producer[life] && !board->is_complete[life])
		return true;
	/* Of a killed producer the last may not have been noted. */
	return received == sent ||
	       (!board->is_complete[life] && received == sent + 1);
}

static void wait_for_all_that_was_sent(void)
{
	uint64_t end_ns = scene_now_ns() + STILL_NS;

	for (uint32_t life = 0; life < life_count;) {
		if (has_all(life)) {
			life++;
			continue;
		}
		if (scene_now_ns() > end_ns)
			fail_msg("life %u sent %u, received were %u", life,
			         board->sent[life], board->received[life]);
		scene_sleep_ns(SCENE_MS);
	}
	while (scene_get(&board->peer_count) != 0 ||
	       scene_get(&board->upcall_ended_count) !=
	               scene_get(&board->upcall_count)) {
		if (scene_now_ns() > end_ns)
			fail_msg("%llu clients are left; of %llu calls of the "
			         "server %llu have ended",
			         (unsigned long long)board->peer_count,
			         (unsigned long long)board->upcall_count,
			         (unsigned long long)board->upcall_ended_count);
		scene_sleep_ns(SCENE_MS);
	}
}

static struct scene_held held_by_server(uint32_t fds)
{
	uint64_t end_ns = scene_now_ns() + STILL_NS;
	struct scene_held held;

	/* Admission lets go a moment later. */
	do {
		scene_sleep_ns(20 * SCENE_MS);
		held = scene_held_by(server);
	} while (held.fds != fds && scene_now_ns() < end_ns);
	return held;
}

/* Of each kind there was something, and of those who came to an end by themselves
 * everything arrived, in both directions. */
static void look_at_sums(void)
{
	uint64_t clients = 0, producers = 0, sent = 0;

	for (uint32_t life = 0; life < life_count; life++) {
		if (!board->is_complete[life])
			continue;
		producers += board->is_producer[life];
		clients += !board->is_producer[life];
		sent += board->sent[life];
	}
	assert_true(producers >= PRODUCER_PLACES);
	assert_true(clients >= PEOPLE - PRODUCER_PLACES);
	assert_int_equal(board->farewell_count, clients);
	assert_true(sent >= PEOPLE);
	assert_true(board->message_count > 0);
	assert_true(board->call_count > 0);
	assert_true(board->push_count > 0);
	assert_true(board->push_count <= board->pushed_count);
	assert_true(board->upcall_answered_count > 0);
	assert_true(board->upcall_ended_count >= board->upcall_failed_count);
	/* A client that was killed may have answered in vain. */
	assert_true(board->upcall_answered_count >=
	            board->upcall_ended_count - board->upcall_failed_count);
	assert_true(board->upcall_ended_count > board->upcall_failed_count);
	assert_true(alone_count > 0);
}

static struct scene_held load_and_look(uint64_t ns, uint32_t fds)
{
	load_for(ns);
	assert_string_equal(board->fault, "");
	end_all_lives();
	wait_for_all_that_was_sent();
	assert_string_equal(board->fault, "");
	look_at_sums();
	return held_by_server(fds);
}

static void tell_and_compare(const struct scene_held *before,
                             const struct scene_held *after, uint32_t fds,
                             uint64_t ns)
{
	print_message(
		"load: %-22s %llu messages, %llu calls, %llu of %llu pushes, "
		"%llu calls of the server (%llu to the dead), %u lives, %llu "
		"killed, %llu stopped, %llu alone, %llu late, %.1f s; "
		"descriptors %u -> %u, mappings "
		"%u -> %u, threads %u -> %u, resident %llu -> %llu KiB\n",
		way.name, (unsigned long long)board->message_count,
		(unsigned long long)board->call_count,
		(unsigned long long)board->push_count,
		(unsigned long long)board->pushed_count,
		(unsigned long long)board->upcall_count,
		(unsigned long long)board->upcall_failed_count, life_count,
		(unsigned long long)kill_count, (unsigned long long)stop_count,
		(unsigned long long)alone_count,
		(unsigned long long)board->late_count, (double)ns / 1e9,
		before->fds, after->fds, before->maps, after->maps,
		before->threads, after->threads,
		(unsigned long long)before->rss_bytes >> 10,
		(unsigned long long)after->rss_bytes >> 10);
	assert_int_equal(before->fds, fds);
	assert_int_equal(after->fds, fds);
	assert_int_equal(after->threads, before->threads);
	if (SCENE_IS_SANITIZED)
		return;
	assert_int_equal(after->maps, before->maps);
	assert_true(after->rss_bytes < before->rss_bytes + RSS_SLACK_BYTES);
}

static void load_loses_nothing_and_leaves_nothing(void **state)
{
	struct scene_held before, after;
	uint32_t fds_alone;
	uint64_t start_ns = scene_now_ns();
	int stop_pipe[2];

	way = *(const struct way *)*state;
	cpus = all_cpus;
	memset(board, 0, sizeof(*board));
	memset(people, 0, sizeof(people));
	life_count = 0;
	kill_count = stop_count = alone_count = 0;
	chance = scene_seed;
	assert_int_equal(pipe2(stop_pipe, O_CLOEXEC), 0);
	server = scene_start(serve_behind, (void *)(intptr_t)stop_pipe[0]);
	assert_true(scene_reach(&board->is_open, 1, 10 * SCENE_S));
	for (int i = 0; i < HOGS; i++)
		assert_true(scene_start(burn, NULL) > 0);
	fds_alone = scene_held_by(server).fds;
	before = load_and_look(warm_up_ns, fds_alone);
	after = load_and_look(duration_ns, fds_alone);
	tell_and_compare(&before, &after, fds_alone, scene_now_ns() - start_ns);
	assert_int_equal(write(stop_pipe[1], "x", 1), 1);
	assert_int_equal(scene_wait(server, STILL_NS), 0);
	assert_string_equal(board->fault, "");
	close(stop_pipe[0]);
	close(stop_pipe[1]);
}

#define WAY(index)                                                             \
	{                                                                      \
		ways[index].name, load_loses_nothing_and_leaves_nothing, NULL, \
			scene_teardown, &ways[index]                           \
	}

static void choose_duration(int argc, char **argv)
{
	if (scene_is_full(argc, argv))
		duration_ns = 120 * SCENE_S;
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], "--minutes") != 0)
			continue;
		duration_ns = strtoull(argv[i + 1], NULL, 10) * 20 * SCENE_S;
		tells_progress = true;
	}
	/* The server is as large as it gets when this is over. */
	if (duration_ns > 10 * SCENE_S) {
		warm_up_ns = duration_ns / 4 < WARM_UP_MAX_NS ? duration_ns / 4
		                                              : WARM_UP_MAX_NS;
		duration_ns -= warm_up_ns;
	}
}

int main(int argc, char **argv)
{
	static struct way ways[] = {
		{"server_spins_0_us", 0, PEAL_WAIT_FUTEX, 0},
		{"server_spins_2_us", 2 * SCENE_US, PEAL_WAIT_FD, 0},
		{"server_spins_50_us", 50 * SCENE_US, PEAL_WAIT_FUTEX, 2},
	};
	const struct CMUnitTest tests[] = {
		WAY(0),
		WAY(1),
		WAY(2),
	};

	board = scene_board(sizeof(*board));
	if (board == NULL ||
	    sched_getaffinity(0, sizeof(all_cpus), &all_cpus) != 0)
		return 1;
	choose_duration(argc, argv);
#ifndef PEAL_NO_BOUNDED_SLEEP
	print_message("this build has the net under lost wakes\n");
#endif
	return cmocka_run_group_tests(tests, scene_group_setup,
	                              scene_group_teardown) != 0;
}
