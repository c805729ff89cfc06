/* SPDX-License-Identifier: MIT */
/*
 * More clients than processors, each calling as fast as it can:
 *
 *	first   forks @crowd_count clients and adds up what they did
 *	second  the server
 *
 * The clients share the first processor, or all go where the scheduler puts
 * them.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "link.h"

#define CROWD_MAX 64
#define WARM_UP_SHARE 4

struct member {
	_Alignas(128) uint64_t count;
};

struct crowd {
	uint32_t ready_count;
	uint32_t phase; /* 0: come, 1: warm up, 2: count, 3: go */
	uint32_t failed_count;
	struct member members[CROWD_MAX];
};

static uint32_t phase_of(const struct crowd *crowd)
{
	return __atomic_load_n(&crowd->phase, __ATOMIC_ACQUIRE);
}

static int ask_on_and_on(struct bench_side *side, struct crowd *crowd,
                         struct member *member)
{
	size_t bytes = side->work->payload_bytes;
	struct peal_client *client;
	struct peal_message answer;
	uint8_t source[4096] = {0};
	uint64_t count = 0;
	int result =
		bench_client_connect(side, side->work->ring_bytes, &client);

	if (result < 0)
		return result;
	__atomic_fetch_add(&crowd->ready_count, 1, __ATOMIC_RELEASE);
	while (phase_of(crowd) == 0)
		usleep(1000);
	while (phase_of(crowd) < 3) {
		result = peal_client_call(client, source, bytes,
		                          BENCH_PATIENCE_NS, &answer);
		if (result < 0 || answer.data_bytes != bytes)
			return bench_fail(side, result < 0 ? result : -EPROTO,
			                  "call");
		bench_touch(answer.data);
		if (phase_of(crowd) == 2)
			__atomic_store_n(&member->count, ++count,
			                 __ATOMIC_RELAXED);
	}
	peal_client_close(client);
	return 0;
}

static pid_t start_member(struct bench_side *side, struct crowd *crowd,
                          uint32_t index)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (ask_on_and_on(side, crowd, &crowd->members[index]) == 0)
		_exit(0);
	__atomic_fetch_add(&crowd->failed_count, 1, __ATOMIC_RELEASE);
	_exit(1);
}

static void enter(struct crowd *crowd, uint32_t phase, double seconds)
{
	__atomic_store_n(&crowd->phase, phase, __ATOMIC_RELEASE);
	usleep((useconds_t)(seconds * 1e6));
}

static void conduct(struct bench_side *side, struct crowd *crowd,
                    uint32_t count)
{
	double seconds = side->setting->seconds;
	uint64_t begin_ns, least = UINT64_MAX, most = 0, sum = 0;

	while (__atomic_load_n(&crowd->ready_count, __ATOMIC_ACQUIRE) < count &&
	       __atomic_load_n(&crowd->failed_count, __ATOMIC_ACQUIRE) == 0)
		usleep(1000);
	enter(crowd, 1, seconds / WARM_UP_SHARE);
	begin_ns = bench_now_ns();
	enter(crowd, 2, seconds);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t done = __atomic_load_n(&crowd->members[i].count,
		                                __ATOMIC_RELAXED);

		sum += done;
		least = done < least ? done : least;
		most = done > most ? done : most;
	}
	side->shared->value =
		(double)sum * 1e9 / (double)(bench_now_ns() - begin_ns);
	side->shared->aside = most == 0 ? 0 : (double)least / (double)most;
	enter(crowd, 3, 0);
}

static int crowd_first(struct bench_side *side)
{
	uint32_t count = side->work->crowd_count;
	pid_t pids[CROWD_MAX];
	struct crowd *crowd = mmap(NULL, sizeof(*crowd), PROT_READ | PROT_WRITE,
	                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct peal_client *client;
	int result = 0;

	if (crowd == MAP_FAILED)
		return bench_fail(side, -errno, "no memory");
	if (side->work->is_loose)
		result = bench_unpin(side->setting);
	if (result < 0)
		return bench_fail(side, result, "cannot leave the processor");
	bench_meet(side);
	for (uint32_t i = 0; i < count; i++)
		pids[i] = start_member(side, crowd, i);
	conduct(side, crowd, count);
	for (uint32_t i = 0; i < count; i++) {
		int status = 1;

		if (pids[i] > 0)
			waitpid(pids[i], &status, 0);
		if (status != 0)
			result = -EIO;
	}
	if (result < 0) {
		if (side->shared->error[0] == '\0')
			bench_say(side, result, "a client has failed");
		return result;
	}
	result = bench_client_connect(side, side->work->ring_bytes, &client);
	return result < 0 ? result : bench_server_stop(side, client);
}

int bench_crowd(const struct bench_setting *setting,
                const struct bench_work *work, struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, crowd_first, bench_server_second,
	                  ret_result);
}
