/* SPDX-License-Identifier: MIT */
/*
 * What every measurement needs: clocks, a processor to stand on, and numbers
 * that a moving host does not spoil.
 *
 * Units: a time stamp is in ticks of the processor's own counter; a measured
 *	time is in nanoseconds as a double.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define BENCH_LINE_BYTES 64
#define BENCH_RUNS_MAX 1000
/* As peal's default ring, so that both sides of a ratio use the same cache. */
#define BENCH_RING_BYTES ((uint64_t)256 << 10)

/* What the person asked for. */
struct bench_setting {
	int cpu[2];
	unsigned run_count;
	double seconds; /* of one measurement */
	bool json;
	char directory[64]; /* where sockets live; ours, removed at the end */
};

/* How a loop waits for the other processor to write something. */
enum bench_poll {
	BENCH_POLL_TIGHT,  /* load, load, load */
	BENCH_POLL_GENTLE, /* one time stamp between two loads */
};

/* Who is there besides, on the first processor. */
enum bench_beside {
	BENCH_BESIDE_NOBODY,
	BENCH_BESIDE_DEAF,     /* a client that asks and never reads */
	BENCH_BESIDE_STRANGER, /* a process that takes as much time */
};

static inline bool bench_has_two_cpus(const struct bench_setting *setting)
{
	return setting->cpu[0] != setting->cpu[1];
}

/* What one measurement does; each kind reads the fields that it needs. */
struct bench_work {
	size_t payload_bytes;
	size_t header_bytes; /* of a bare frame: what peal writes besides */
	uint64_t ring_bytes;
	uint32_t batch;
	double percentile; /* 0: the median of blocks */
	uint32_t idle_count;
	uint32_t crowd_count; /* clients that ask at once */
	uint32_t spin_mode;
	enum bench_poll poll;
	enum bench_beside beside;
	bool by_word;     /* of a bare copy: see copy.c */
	bool sleeps;      /* both sides are to be asleep when they are rung */
	bool same_cpu;    /* both processes on the first processor */
	bool is_loose;    /* all go where the scheduler puts them */
	bool steps_aside; /* clients leave the server's processor */
};

static inline uint64_t bench_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t bench_ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t ticks;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#else
	return bench_now_ns();
#endif
}

static inline void bench_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

static inline void bench_poll(enum bench_poll poll)
{
	if (poll == BENCH_POLL_GENTLE) {
		uint64_t ticks = bench_ticks();

		__asm__ volatile("" ::"r"(ticks));
	}
}

/* The compiler must not know what lies at @memory, nor that nobody reads it. */
static inline void bench_touch(const void *memory)
{
	__asm__ volatile("" ::"r"(memory) : "memory");
}

/* A copy as a program that knows its message would write it. */
static inline void bench_copy(void *to, const void *from, size_t bytes)
{
	if (bytes == 64)
		memcpy(to, from, 64);
	else
		memcpy(to, from, bytes);
}

/* Nanoseconds in one tick; measured once, which takes 20 ms. */
double bench_tick_ns(void);

/*
 * Work for BENCH_BUSY_NS: before a wake is sent, so that whoever is to be woken
 * has had the time to fall asleep. Without it two processes that wake each
 * other were seen to stay awake in turn for whole runs, in half a microsecond.
 */
#define BENCH_BUSY_NS 20000
void bench_busy(void);

/* Stay on @cpu. 0 or -errno. */
int bench_pin(int cpu);
/* To both processors of the setting. */
int bench_unpin(const struct bench_setting *setting);

/* The processors that this process may use, at most @cpu_max, and how many. */
int bench_usable_cpus(int *ret_cpus, int cpu_max);

/* Sort, and take what lies at @percent (50 is the median). */
double bench_percentile(double *values, size_t count, double percent);
uint32_t bench_percentile_u32(uint32_t *values, size_t count, double percent);

#endif
