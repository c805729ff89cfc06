/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <peal/client.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEY_COUNT 10000
#define LANE_MAX 7
#define PATIENCE_NS UINT64_C(10000000000)
#define SLOW_NS 100000

enum { IN_PROCESS, SOCKET, PEAL, WAY_COUNT };
static const struct way *const ways[] = {&in_process_way, &socket_way,
                                         &peal_way};

struct bench {
	const char *name;
	char directory[64]; /* of the store */
	char path[96];      /* of the socket */
	uint64_t cell_ns;
	char *workers;            /* of kv serve, or NULL */
	bool is_spinning;         /* a client that is alone */
	pid_t servers[WAY_COUNT]; /* 0: it has none */
	struct store *store;
	struct fork *fork;
};

struct result {
	double reads_per_s;
	double cpu_us; /* a read, of both sides */
};

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now = {0, 0};

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* the ways ----------------------------------------------------------------- */

static int open_in_process(struct lane *lane)
{
	(void)lane;
	return 0;
}

static int send_in_process(struct lane *lane, const struct kv_request *request)
{
	struct kv_answer answer = {.status = KV_OK};

	fork_read(lane->fork, request, &answer);
	fork_end_read(lane->fork);
	return answer.bytes == BENCH_VALUE_BYTES ? 0 : -1;
}

static int recv_in_process(struct lane *lane)
{
	(void)lane;
	return 0;
}

static void close_in_process(struct lane *lane)
{
	(void)lane;
}

const struct way in_process_way = {"in-process", open_in_process,
                                   send_in_process, recv_in_process,
                                   close_in_process};

static int open_peal(struct lane *lane)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_client *client;

	options.name = lane->name;
	options.order = lane->depth > 1 ? PEAL_UNORDERED : PEAL_ORDERED;
	options.step_aside = 1; /* more lanes than processors */
	if (lane->spins)
		options.spin_mode = PEAL_SPIN_ALWAYS;
	if (peal_client_connect(&options, PATIENCE_NS, &client) < 0)
		return -1;
	lane->connection = client;
	return 0;
}

static int send_peal(struct lane *lane, const struct kv_request *request)
{
	struct peal_client *client = lane->connection;
	size_t bytes = kv_format(request, NULL, 0);
	uint64_t id;
	void *data;

	if (peal_client_claim(client, bytes, PATIENCE_NS, &data) < 0)
		return -1;
	kv_format(request, data, bytes);
	return peal_client_publish(client, bytes, PEAL_FOREVER, &id);
}

static int recv_peal(struct lane *lane)
{
	struct peal_message answer;

	if (peal_client_recv(lane->connection, PATIENCE_NS, &answer) < 0)
		return -1;
	return answer.kind == PEAL_ANSWERED && answer.status == KV_OK &&
	                       answer.data_bytes == BENCH_VALUE_BYTES
	               ? 0
	               : -1;
}

static void close_peal(struct lane *lane)
{
	peal_client_close(lane->connection);
}

const struct way peal_way = {"peal", open_peal, send_peal, recv_peal,
                             close_peal};

/* one cell ----------------------------------------------------------------- */

static void name_key(struct kv_request *request, char key[16], uint64_t number)
{
	request->key_bytes = (size_t)sprintf(
		key, "key%06u", (unsigned int)(number % KEY_COUNT));
	request->key = (const uint8_t *)key;
}

/* Keeps lane->depth reads in flight until the time is over. */
static void read_much(struct lane *lane)
{
	struct kv_request request = {
		.op = KV_GET, .fork = KV_MAIN, .rounds = lane->rounds};
	unsigned int in_flight = 0;
	bool is_over = false;
	char key[16];

	do {
		while (in_flight < lane->depth && !is_over) {
			lane->seed = lane->seed * 6364136223846793005 + 1;
			name_key(&request, key, lane->seed >> 33);
			if (lane->way->send(lane, &request) < 0) {
				lane->has_failed = true;
				return;
			}
			in_flight++;
		}
		if (lane->way->recv(lane) < 0) {
			lane->has_failed = true;
			return;
		}
		in_flight--;
		/* The clock costs less than a read, but not nothing. */
		if (++lane->read_count % 8 == 0 || lane->rounds > 0)
			is_over = clock_ns(CLOCK_MONOTONIC) >= lane->end_ns;
	} while (in_flight > 0 || !is_over);
}

static void *run_lane(void *arg)
{
	struct lane *lane = arg;

	if (lane->way->open(lane) < 0) {
		lane->has_failed = true;
		return NULL;
	}
	read_much(lane);
	lane->way->close(lane);
	return NULL;
}

static uint64_t cpu_ns(pid_t server)
{
	clockid_t clock;

	if (server == 0 || clock_getcpuclockid(server, &clock) != 0)
		return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + clock_ns(clock);
}

static int measure(const struct bench *bench, int way, unsigned int depth,
                   unsigned int lane_count, uint32_t rounds,
                   struct result *ret_result)
{
	struct lane lanes[LANE_MAX];
	pthread_t threads[LANE_MAX];
	uint64_t began_ns = clock_ns(CLOCK_MONOTONIC), read_count = 0;
	uint64_t began_cpu_ns = cpu_ns(bench->servers[way]);
	bool has_failed = false;

	for (unsigned int i = 0; i < lane_count; i++) {
		lanes[i] = (struct lane){
			.way = ways[way],
			.fork = bench->fork,
			.name = way == SOCKET ? bench->path : bench->name,
			.depth = depth,
			.spins = bench->is_spinning && depth == 1 &&
		                 lane_count == 1,
			.rounds = rounds,
			.seed = i + 1,
			.end_ns = began_ns + bench->cell_ns,
		};
		if (pthread_create(&threads[i], NULL, run_lane, &lanes[i]) != 0)
			abort();
	}
	for (unsigned int i = 0; i < lane_count; i++) {
		pthread_join(threads[i], NULL);
		read_count += lanes[i].read_count;
		has_failed = has_failed || lanes[i].has_failed;
	}
	if (has_failed || read_count == 0) {
		fprintf(stderr, "kv: a read by %s failed\n", ways[way]->name);
		return -1;
	}
	ret_result->reads_per_s =
		(double)read_count * 1e9 /
		(double)(clock_ns(CLOCK_MONOTONIC) - began_ns);
	ret_result->cpu_us =
		(double)(cpu_ns(bench->servers[way]) - began_cpu_ns) / 1e3 /
		(double)read_count;
	return 0;
}

/* the table ---------------------------------------------------------------- */

static int print_row(const struct bench *bench, unsigned int depth,
                     unsigned int lane_count, uint32_t rounds)
{
	struct result results[WAY_COUNT];

	for (int way = 0; way < WAY_COUNT; way++)
		if (measure(bench, way, depth, lane_count, rounds,
		            &results[way]) < 0)
			return -1;
	printf("%5u %6u", lane_count, depth);
	for (int way = 0; way < WAY_COUNT; way++)
		printf(" %10.0f", results[way].reads_per_s);
	for (int way = 0; way < WAY_COUNT; way++)
		printf(" %10.2f", results[way].cpu_us);
	printf(" %9.2fx %9.2fx\n",
	       results[PEAL].reads_per_s / results[SOCKET].reads_per_s,
	       results[PEAL].reads_per_s / results[IN_PROCESS].reads_per_s);
	fflush(stdout);
	return 0;
}

static int print_table(const struct bench *bench, uint32_t rounds)
{
	static const unsigned int depths[] = {1, 2, 4, 8, 16};
	static const unsigned int lane_counts[] = {2, 4, 7};
	struct result alone;
	int error = measure(bench, IN_PROCESS, 1, 1, rounds, &alone);

	if (error < 0)
		return error;
	printf("\nreads of %.1f us\n"
	       "                        reads/s                      "
	       "CPU us a read                   peal /\n"
	       "conns flight in-process     socket       peal "
	       "in-process     socket       peal     socket in-process\n",
	       1e6 / alone.reads_per_s);
	for (size_t i = 0; error == 0 && i < sizeof(depths) / sizeof(int); i++)
		error = print_row(bench, depths[i], 1, rounds);
	for (size_t i = 0; error == 0 && i < sizeof(lane_counts) / sizeof(int);
	     i++)
		error = print_row(bench, 1, lane_counts[i], rounds);
	return error;
}

/* set up ------------------------------------------------------------------- */

static int fill(struct bench *bench)
{
	struct store_options options = {.directory = bench->directory,
	                                .is_volatile = true};
	uint8_t value[BENCH_VALUE_BYTES];
	struct kv_request request = {.op = KV_BEGIN};
	struct kv_answer answer = {.status = KV_OK};
	struct fork *fork;
	char key[16];

	if (store_open(&options, &bench->store) < 0)
		return -1;
	memset(value, 'v', sizeof(value));
	fork = store_find(bench->store, KV_MAIN, &answer);
	fork_write(fork, &request, &answer);
	request = (struct kv_request){
		.op = KV_PUT, .value = value, .value_bytes = sizeof(value)};
	for (uint64_t i = 0; i < KEY_COUNT; i++) {
		name_key(&request, key, i);
		fork_write(fork, &request, &answer);
	}
	request.op = KV_COMMIT;
	fork_write(fork, &request, &answer);
	store_close(bench->store);
	return answer.status == KV_OK ? 0 : -1;
}

static void start_servers(struct bench *bench)
{
	static char serve[] = "serve", fast[] = "-n", workers[] = "-w";
	char *name = (char *)bench->name;
	char *arguments[] = {serve, fast, bench->directory, name, NULL,
	                     NULL,  NULL};
	int count = 4;

	if (bench->workers != NULL) {
		arguments[2] = workers;
		arguments[3] = bench->workers;
		arguments[4] = bench->directory;
		arguments[5] = name;
		count = 6;
	}
	fflush(NULL);
	bench->servers[PEAL] = fork();
	if (bench->servers[PEAL] == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever ends us */
		optind = 0;
		_exit(serve_command(count, arguments));
	}
	bench->servers[SOCKET] = fork();
	if (bench->servers[SOCKET] == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(socket_serve(bench->directory, bench->path));
	}
}

static int await_servers(const struct bench *bench)
{
	int error = -1;

	for (int way = SOCKET; way <= PEAL; way++) {
		struct lane lane = {.name = way == SOCKET ? bench->path
		                                          : bench->name};

		for (int i = 0; i < 1000; i++) {
			error = ways[way]->open(&lane);
			if (error == 0 ||
			    waitpid(bench->servers[way], NULL, WNOHANG) != 0)
				break;
			usleep(5000);
		}
		if (error < 0)
			return -1;
		ways[way]->close(&lane);
	}
	return 0;
}

/* How often to hash so that a read takes SLOW_NS. The shortest of many tries,
 * since others use the processors as well. */
static uint32_t calibrate(const struct bench *bench)
{
	struct lane lane = {.fork = bench->fork};
	struct kv_request request = {
		.op = KV_GET, .fork = KV_MAIN, .rounds = 1000};
	uint64_t best_ns = SLOW_NS * 1000;
	char key[16];

	name_key(&request, key, 0);
	for (int i = 0; i < 100; i++) {
		uint64_t began_ns = clock_ns(CLOCK_MONOTONIC), ns;

		send_in_process(&lane, &request);
		ns = clock_ns(CLOCK_MONOTONIC) - began_ns;
		if (ns < best_ns && ns > 0)
			best_ns = ns;
	}
	return (uint32_t)(SLOW_NS * UINT64_C(1000) / best_ns);
}

static int run(struct bench *bench)
{
	struct store_options options = {.directory = bench->directory};
	struct kv_answer answer;
	int error;

	if (store_open(&options, &bench->store) < 0)
		return -1;
	bench->fork = store_find(bench->store, KV_MAIN, &answer);
	error = print_table(bench, 0);
	if (error == 0)
		error = print_table(bench, calibrate(bench));
	store_close(bench->store);
	return error;
}

int bench_command(int argc, char **argv)
{
	struct bench bench = {.cell_ns = 100000000};
	char command[128];
	int option, error;

	while ((option = getopt(argc, argv, "+m:sw:")) != -1) {
		if (option == 'w')
			bench.workers = optarg;
		else if (option == 's')
			bench.is_spinning = true;
		else if (option == 'm' && atoi(optarg) > 0)
			bench.cell_ns = (uint64_t)atoi(optarg) * 1000000;
		else
			return usage("bench");
	}
	if (argc - optind != 1)
		return usage("bench");
	bench.name = argv[optind];
	strcpy(bench.directory, "/tmp/kv-bench.XXXXXX");
	if (mkdtemp(bench.directory) == NULL) {
		perror("kv: /tmp");
		return 1;
	}
	snprintf(bench.path, sizeof(bench.path), "%s/kv.socket",
	         bench.directory);
	error = fill(&bench);
	if (error == 0) {
		start_servers(&bench);
		error = await_servers(&bench);
		if (error == 0)
			error = run(&bench);
		for (int way = SOCKET; way <= PEAL; way++) {
			kill(bench.servers[way], SIGTERM);
			waitpid(bench.servers[way], NULL, 0);
		}
	}
	snprintf(command, sizeof(command), "rm -rf %s", bench.directory);
	return system(command) != 0 || error < 0;
}
