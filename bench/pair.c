/* SPDX-License-Identifier: MIT */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void bench_say(struct bench_side *side, int error, const char *what)
{
	snprintf(side->shared->error, sizeof(side->shared->error), "%s: %s",
	         what, peal_strerror(error));
}

void bench_meet(struct bench_side *side)
{
	uint32_t wanted = 2 * ++side->meeting_count;

	__atomic_fetch_add(&side->shared->arrived_count, 1, __ATOMIC_ACQ_REL);
	/* A peer that has failed never comes; the parent then ends us. The wait
	 * may be long, and a library's own thread may need this processor. */
	for (uint32_t i = 0; __atomic_load_n(&side->shared->arrived_count,
	                                     __ATOMIC_ACQUIRE) < wanted;
	     i++) {
		if (i < 1000)
			sched_yield();
		else
			usleep(50);
	}
}

uint32_t *bench_samples(struct bench_side *side)
{
	size_t bytes = BENCH_SAMPLES_MAX * sizeof(uint32_t);
	uint32_t *samples = malloc(bytes);

	/* Touched now, so that no page fault is measured. */
	if (samples == NULL)
		bench_say(side, -ENOMEM, "no room for the samples");
	else
		memset(samples, 1, bytes);
	return samples;
}

void bench_samples_result(struct bench_side *side, uint32_t *samples,
                          size_t count, uint32_t steps_per_sample)
{
	double percent = side->work->percentile;
	uint32_t ticks;

	ticks = bench_percentile_u32(samples, count,
	                             percent > 0 ? percent : 50);
	side->shared->value =
		(double)ticks * bench_tick_ns() / steps_per_sample;
	free(samples);
}

void bench_meter_start(struct bench_side *side, struct bench_meter *meter)
{
	double slice_ns = side->setting->seconds * 1e9 / BENCH_SLICES_MAX;

	if (slice_ns < 1e6)
		slice_ns = 1e6;
	meter->slice_ticks = (uint64_t)(slice_ns / bench_tick_ns());
	meter->mask = side->work->payload_bytes > 4096 ? 15 : 255;
	meter->count = meter->total = meter->slice_count = 0;
	meter->begin = bench_ticks();
}

void bench_meter_slice(struct bench_meter *meter)
{
	uint64_t now = bench_ticks();
	double ns;

	if (now - meter->begin < meter->slice_ticks)
		return;
	ns = (double)(now - meter->begin) * bench_tick_ns();
	if (meter->slice_count < BENCH_SLICES_MAX)
		meter->rates[meter->slice_count++] =
			(double)meter->count * 1e9 / ns;
	meter->total += meter->count;
	meter->count = 0;
	meter->begin = now;
}

void bench_meter_result(struct bench_side *side, struct bench_meter *meter)
{
	uint32_t warm = meter->slice_count / 4;
	double ns = (double)(bench_ticks() - meter->begin) * bench_tick_ns();

	/* Too short for a single slice: then the part of one that there is. */
	if (meter->slice_count == 0)
		side->shared->value = (double)meter->count * 1e9 / ns;
	else
		side->shared->value = bench_percentile(
			meter->rates + warm, meter->slice_count - warm, 50);
	meter->total += meter->count;
}

static _Noreturn void run_side(struct bench_side *side, bench_side_fn *fn,
                               pid_t parent)
{
	int cpu = side->setting->cpu[side->is_second && !side->work->same_cpu];
	int result;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	result = bench_pin(cpu);
	if (result < 0)
		bench_fail(side, result, "cannot pin to a processor");
	else
		result = fn(side);
	_exit(result < 0 ? 1 : 0);
}

/* A process, and a pipe whose other end it holds until it ends. */
struct child {
	pid_t pid;
	int pipe;
};

static int start_child(struct bench_side *side, bench_side_fn *fn,
                       struct child *ret_child)
{
	pid_t parent = getpid();
	int ends[2];
	int error;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return -errno;
	ret_child->pid = fork();
	if (ret_child->pid == 0)
		run_side(side, fn, parent);
	error = errno;
	close(ends[1]);
	if (ret_child->pid < 0) {
		close(ends[0]);
		return -error;
	}
	ret_child->pipe = ends[0];
	return 0;
}

/*
 * Wait for all of them without taking processor time from them. One that fails
 * is not waited for by the others.
 */
static int wait_children(struct child *children, size_t count, int timeout_ms)
{
	struct pollfd fds[2];
	size_t living = count;
	int status, result = 0;

	for (size_t i = 0; i < count; i++)
		fds[i] = (struct pollfd){.fd = children[i].pipe};
	while (living > 0 && result == 0) {
		int ready = poll(fds, count, timeout_ms);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0) {
			result = -ETIMEDOUT;
			break;
		}
		for (size_t i = 0; i < count; i++) {
			if (fds[i].fd < 0 || fds[i].revents == 0)
				continue;
			waitpid(children[i].pid, &status, 0);
			children[i].pid = -1;
			if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
				result = -EIO;
			fds[i].fd = -1;
			living--;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (children[i].pid > 0) {
			kill(children[i].pid, SIGKILL);
			waitpid(children[i].pid, &status, 0);
		}
		close(children[i].pipe);
	}
	return result;
}

static int run_sides(const struct bench_setting *setting,
                     const struct bench_work *work, int fd,
                     bench_side_fn *const *fns, size_t count,
                     struct bench_shared *shared)
{
	int timeout_ms = 20000 + (int)(setting->seconds * 20000);
	struct child children[2];
	int result = 0;
	size_t started = 0;

	for (; started < count; started++) {
		struct bench_side side = {
			.setting = setting,
			.work = work,
			.shared = shared,
			.is_second = started == 1,
			.fd = fd,
		};

		result = start_child(&side, fns[started], &children[started]);
		if (result < 0)
			break;
	}
	/* One that was started must not wait for one that was not. */
	if (result < 0 && started > 0)
		wait_children(children, started, 0);
	return result < 0 ? result
	                  : wait_children(children, started, timeout_ms);
}

int bench_pair(const struct bench_setting *setting,
               const struct bench_work *work, int fd, bench_side_fn *first,
               bench_side_fn *second, struct bench_result *ret_result)
{
	bench_side_fn *const fns[] = {first, second};
	size_t count = second != NULL ? 2 : 1;
	struct bench_shared *shared;
	int result;

	/* The children are to inherit it rather than each measure it. */
	bench_tick_ns();
	fflush(stdout);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
	              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return -errno;
	result = run_sides(setting, work, fd, fns, count, shared);
	if (result < 0) {
		shared->error[sizeof(shared->error) - 1] = '\0';
		fprintf(stderr, "peal_bench: %s\n",
		        shared->error[0] != '\0' ? shared->error
		        : result == -EIO ? "a process ended in the middle"
		                         : peal_strerror(result));
	} else {
		ret_result->value = shared->value;
		ret_result->aside = shared->aside;
	}
	munmap(shared, sizeof(*shared));
	return result;
}
