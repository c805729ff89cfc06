/* SPDX-License-Identifier: MIT */
/*
 * What the hardware and the kernel allow, with nothing in between: the least
 * that any transport must do, measured with bare loads, stores and futexes
 * between two processes. None of this uses peal.
 *
 *	line        one cache line each way carries a counter
 *	frames      the bytes of one peal frame each way, in place, or walking
 *		    through a ring as peal's frames do
 *	futex       both sides really sleep
 *	copy        copy in from a private buffer, copy out to a private buffer,
 *		    through a ring of the same size; nobody could be woken
 *	store       the price of one store, and of one exchange
 *
 * Callers: the benchmark's parent process; each call forks what it needs.
 */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include "pair.h"

typedef int bench_measure_fn(const struct bench_setting *setting,
                             const struct bench_work *work,
                             struct bench_result *ret_result);

/* Nanoseconds of one round trip. */
bench_measure_fn bench_limit_line;
bench_measure_fn bench_limit_frames_in_place;
bench_measure_fn bench_limit_frames_walking;
bench_measure_fn bench_limit_futex; /* aside: sleeps in a round trip */

/* Messages in a second. */
bench_measure_fn bench_limit_copy;
bench_measure_fn bench_limit_copy_best; /* single messages with a header */

/* Nanoseconds of one; "alone" is without any reader. */
bench_measure_fn bench_limit_exchange;      /* of one hot word, alone */
bench_measure_fn bench_limit_put;           /* a message, plain store, alone */
bench_measure_fn bench_limit_put_exchange;  /* a message, exchange, alone */
bench_measure_fn bench_limit_put_streaming; /* plain store, read at once */

/*
 * Memory that two forked processes may map: a control page, and data that is
 * mapped twice in a row. Kept apart from peal_shm on purpose.
 */
struct bench_region {
	uint8_t *control; /* one page */
	uint8_t *data;
	uint64_t bytes;
};

#define BENCH_CONTROL_BYTES 4096

int bench_region_map(int fd, uint64_t bytes, struct bench_region *ret_region);

/* bench_pair() over such memory, new and zeroed, of @bytes of data. */
int bench_over_region(const struct bench_setting *setting,
                      const struct bench_work *work, uint64_t bytes,
                      bench_side_fn *first, bench_side_fn *second,
                      struct bench_result *ret_result);

#endif
