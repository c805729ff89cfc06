/* SPDX-License-Identifier: MIT */
/*
 * What is measured, what it is compared with, and how close it should come.
 */
#include <peal/mpsc.h>

#include "link.h"
#include "table.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HEADER_BYTES 16

/* round-trip ------------------------------------------------------------- */

#define TALK                                                             \
	{                                                                \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES,     \
		.spin_mode = PEAL_SPIN_ALWAYS, .poll = BENCH_POLL_GENTLE \
	}
#define TALK_AT(percent)                                                  \
	{                                                                 \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES,      \
		.spin_mode = PEAL_SPIN_ALWAYS, .poll = BENCH_POLL_GENTLE, \
		.percentile = (percent)                                   \
	}
#define SAME_BYTES "bare ping-pong of the same bytes, in place"
#define WALKING "bare ping-pong of the same bytes, through a ring"

static const struct bench_row round_trip_rows[] = {
	{
		.what = "producer and consumer, 64 B",
		.measure = bench_talk,
		.work = TALK,
		.needs_two_cpus = true,
		.limits = {{SAME_BYTES, bench_limit_frames_in_place, TALK, 1.1,
                            1.1},
                           {WALKING, bench_limit_frames_walking, TALK, 1.1,
                            1.1},
                           {"bare ping-pong of one line", bench_limit_line,
                            TALK, 0, 0}},
	},
	{
		.what = "two rings, nobody could sleep, 64 B",
		.measure = bench_rings_talk,
		.work = TALK,
		.needs_two_cpus = true,
		.limits = {{SAME_BYTES, bench_limit_frames_in_place, TALK, 1.1,
                            1.1},
                           {WALKING, bench_limit_frames_walking, TALK, 1.1,
                            1.1}},
	},
	{
		.what = "producer and consumer, p99, each one timed",
		.measure = bench_talk,
		.work = TALK_AT(99),
		.needs_two_cpus = true,
		.limits = {{SAME_BYTES ", p99", bench_limit_frames_in_place,
                            TALK_AT(99), 0, 0}},
	},
};

/* one-way ---------------------------------------------------------------- */

#define FLOW(bytes, per_batch)                                             \
	{                                                                  \
		.payload_bytes = (bytes), .header_bytes = HEADER_BYTES,    \
		.ring_bytes = BENCH_RING_BYTES, .batch = (per_batch),      \
		.spin_mode = PEAL_SPIN_ADAPTIVE, .poll = BENCH_POLL_GENTLE \
	}
#define NAKED(bytes, per_batch)                                           \
	{                                                                 \
		.payload_bytes = (bytes), .ring_bytes = BENCH_RING_BYTES, \
		.batch = (per_batch), .poll = BENCH_POLL_GENTLE           \
	}
#define COPY "bare copy of the same bytes"
#define PAYLOAD_COPY "bare copy of the payload alone"

static const struct bench_row one_way_rows[] = {
	{
		.what = "64 B, one by one, the consumer may sleep",
		.measure = bench_stream,
		.work = FLOW(64, 1),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.goal_near = 45e6,
		.goal_far = 24e6,
		.limits = {{COPY ", one by one", bench_limit_copy_best,
                            FLOW(64, 1), 0, 0},
                           {PAYLOAD_COPY ", one by one", bench_limit_copy,
                            NAKED(64, 1), 0, 0},
                           {PAYLOAD_COPY ", batch 16", bench_limit_copy,
                            NAKED(64, 16), 0, 0}},
	},
	{
		.what = "64 B, one by one, bare ring, nobody could sleep",
		.measure = bench_rings_stream,
		.work = FLOW(64, 1),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.limits = {{COPY ", one by one", bench_limit_copy_best,
                            FLOW(64, 1), 0, 0}},
	},
	{
		.what = "64 B, batch 16",
		.measure = bench_stream,
		.work = FLOW(64, 16),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.limits = {{PAYLOAD_COPY ", batch 16", bench_limit_copy,
                            NAKED(64, 16), 0.9, 0.75},
                           {COPY ", batch 16", bench_limit_copy, FLOW(64, 16),
                            0.9, 0.75}},
	},
	{
		.what = "1 KiB, one by one",
		.measure = bench_stream,
		.work = FLOW(1024, 1),
		.unit = BENCH_BYTES,
		.needs_two_cpus = true,
		.limits = {{COPY ", one by one", bench_limit_copy_best,
                            FLOW(1024, 1), 0, 0}},
	},
	{
		.what = "1 KiB, batch 16",
		.measure = bench_stream,
		.work = FLOW(1024, 16),
		.unit = BENCH_BYTES,
		.needs_two_cpus = true,
		.limits = {{COPY ", batch 16", bench_limit_copy, FLOW(1024, 16),
                            0, 0}},
	},
	{
		.what = "64 KiB, one by one",
		.measure = bench_stream,
		.work = FLOW(65536, 1),
		.unit = BENCH_BYTES,
		.needs_two_cpus = true,
		.limits = {{COPY ", one by one", bench_limit_copy_best,
                            FLOW(65536, 1), 0.95, 0.85}},
	},
	{
		.what = "64 KiB, batch 16 (as many as the ring holds)",
		.measure = bench_stream,
		.work = FLOW(65536, 16),
		.unit = BENCH_BYTES,
		.needs_two_cpus = true,
		.limits = {{COPY ", batch 16", bench_limit_copy,
                            FLOW(65536, 16), 0.95, 0.85}},
	},
};

/* wake ------------------------------------------------------------------- */

#define WAKE(percent, same)                                            \
	{                                                              \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES,   \
		.spin_mode = PEAL_SPIN_NEVER, .percentile = (percent), \
		.sleeps = true, .same_cpu = (same)                     \
	}

static const struct bench_row wake_rows[] = {
	{
		.what = "both asleep, two processors, median",
		.measure = bench_talk,
		.work = WAKE(50, false),
		.needs_two_cpus = true,
		.limits = {{"bare futex ping-pong", bench_limit_futex,
                            WAKE(50, false), 1.15, 1.15}},
	},
	{
		.what = "both asleep, two processors, p99",
		.measure = bench_talk,
		.work = WAKE(99, false),
		.needs_two_cpus = true,
		.limits = {{"bare futex ping-pong, p99", bench_limit_futex,
                            WAKE(99, false), 0, 0}},
	},
	{
		.what = "both asleep, one processor, median",
		.measure = bench_talk,
		.work = WAKE(50, true),
		.limits = {{"bare futex ping-pong", bench_limit_futex,
                            WAKE(50, true), 0, 0}},
	},
};

/* publish ---------------------------------------------------------------- */

static const struct bench_row publish_rows[] = {
	{
		.what = "claim, write, publish, 64 B, alone",
		.measure = bench_put_alone,
		.work = TALK,
		.limits = {{"one exchange", bench_limit_exchange, TALK, 0, 0},
                           {"the same bytes and an exchange",
                            bench_limit_put_exchange, TALK, 0, 0},
                           {"the same bytes and a plain store", bench_limit_put,
                            TALK, 0, 0}},
	},
	{
		.what = "peek, read, release, 64 B, alone",
		.measure = bench_take_alone,
		.work = TALK,
		.limits = {{"one exchange", bench_limit_exchange, TALK, 0, 0}},
	},
	{
		.what = "claim, write, publish, 64 B, streaming",
		.measure = bench_put_streaming,
		.work = TALK,
		.needs_two_cpus = true,
		.limits = {{"the same bytes and a plain store, streaming",
                            bench_limit_put_streaming, TALK, 0, 0},
                           {"one exchange, alone", bench_limit_exchange, TALK,
                            0, 0}},
	},
};

/* idle ------------------------------------------------------------------- */

#define IDLE_TALK(count)                                             \
	{                                                            \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES, \
		.spin_mode = PEAL_SPIN_ALWAYS, .idle_count = (count) \
	}
#define IDLE_FLOW(count)                                             \
	{                                                            \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES, \
		.batch = 1, .spin_mode = PEAL_SPIN_ADAPTIVE,         \
		.idle_count = (count)                                \
	}
#define IDLE_ROWS(count)                                                      \
	{                                                                     \
		.what = "round trip beside " #count " idle producers",        \
		.measure = bench_talk,                                        \
		.work = IDLE_TALK(count),                                     \
		.needs_two_cpus = true,                                       \
		.limits = {{"the same, alone", bench_talk, IDLE_TALK(0), 0,   \
	                    0}},                                              \
	},                                                                    \
	{                                                                     \
		.what = "one way beside " #count " idle producers",           \
		.measure = bench_stream, .work = IDLE_FLOW(count),            \
		.unit = BENCH_MESSAGES, .needs_two_cpus = true,               \
		.limits = {{"the same, alone", bench_stream, IDLE_FLOW(0), 0, \
		            0}},                                              \
	}

static const struct bench_row idle_rows[] = {
	IDLE_ROWS(0),
	IDLE_ROWS(64),
	IDLE_ROWS(300),
	IDLE_ROWS(500),
};

/* call -------------------------------------------------------------------- */

#define DEEP(depth)                                                         \
	{                                                                   \
		.payload_bytes = 64, .header_bytes = HEADER_BYTES,          \
		.ring_bytes = BENCH_RING_BYTES, .batch = (depth),           \
		.spin_mode = PEAL_SPIN_ADAPTIVE, .poll = BENCH_POLL_GENTLE, \
	}
#define CALL_BESIDE(count)                                                  \
	{                                                                   \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES,        \
		.spin_mode = PEAL_SPIN_ADAPTIVE, .poll = BENCH_POLL_GENTLE, \
		.idle_count = (count)                                       \
	}
#define CALL_BY(whom)                                                       \
	{                                                                   \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES,        \
		.spin_mode = PEAL_SPIN_ADAPTIVE, .poll = BENCH_POLL_GENTLE, \
		.percentile = 99, .beside = (whom)                          \
	}
#define ONE_CPU                                                      \
	{                                                            \
		.payload_bytes = 64, .ring_bytes = BENCH_RING_BYTES, \
		.spin_mode = PEAL_SPIN_ADAPTIVE, .same_cpu = true    \
	}

static const struct bench_row call_rows[] = {
	{
		.what = "a call, 64 B, awake",
		.measure = bench_call,
		.work = CALL_BESIDE(0),
		.needs_two_cpus = true,
		.limits = {{SAME_BYTES, bench_limit_frames_in_place, TALK, 1.5,
                            1.5},
                           {WALKING, bench_limit_frames_walking, TALK, 0, 0},
                           {"producer and consumer", bench_talk, TALK, 0, 0}},
	},
	{
		.what = "a call, p99, each one timed",
		.measure = bench_call,
		.work = TALK_AT(99),
		.needs_two_cpus = true,
		.limits = {{SAME_BYTES ", p99", bench_limit_frames_in_place,
                            TALK_AT(99), 0, 0}},
	},
	{
		.what = "a call, p99.9, each one timed",
		.measure = bench_call,
		.work = TALK_AT(99.9),
		.needs_two_cpus = true,
		.limits = {{SAME_BYTES ", p99.9", bench_limit_frames_in_place,
                            TALK_AT(99.9), 3, 5}},
	},
	{
		.what = "a call to a sleeping server, median",
		.measure = bench_call,
		.work = WAKE(50, false),
		.needs_two_cpus = true,
		.limits = {{"bare futex ping-pong", bench_limit_futex,
                            WAKE(50, false), 1.15, 1.15}},
	},
	{
		.what = "calls, 16 in flight",
		.measure = bench_call_deep,
		.work = DEEP(16),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.goal_near = 20e6,
		.goal_far = 7e6,
		.limits = {{COPY ", one by one", bench_limit_copy_best,
                            FLOW(64, 1), 0, 0}},
	},
	{
		.what = "calls, 1 in flight",
		.measure = bench_call_deep,
		.work = DEEP(1),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.limits = {{COPY ", one by one", bench_limit_copy_best,
                            FLOW(64, 1), 0, 0}},
	},
	{
		.what = "a call, both on one processor",
		.measure = bench_call,
		.work = ONE_CPU,
		.limits = {{"bare futex ping-pong", bench_limit_futex,
                            WAKE(50, true), 0, 0}},
	},
	{
		.what = "a call, p99, beside a client that never reads",
		.measure = bench_call,
		.work = CALL_BY(BENCH_BESIDE_DEAF),
		.needs_two_cpus = true,
		.limits = {{"the same, beside a process that burns as much",
                            bench_call, CALL_BY(BENCH_BESIDE_STRANGER), 1.2,
                            1.2}},
	},
	{
		.what = "a call beside 500 idle clients",
		.measure = bench_call,
		.work = CALL_BESIDE(500),
		.needs_two_cpus = true,
		.limits = {{"the same, alone", bench_call, CALL_BESIDE(0), 1.15,
                            1.15}},
	},
};

/* crowd ------------------------------------------------------------------- */

#define CROWD(count, loose, aside)                                       \
	{                                                                \
		.payload_bytes = 64, .ring_bytes = 1 << 16,              \
		.spin_mode = PEAL_SPIN_ADAPTIVE, .crowd_count = (count), \
		.is_loose = (loose), .steps_aside = (aside)              \
	}

static const struct bench_row crowd_rows[] = {
	{
		.what = "8 clients on one processor",
		.measure = bench_crowd,
		.work = CROWD(8, false, false),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.limits = {{"one client there", bench_crowd,
                            CROWD(1, false, false), 0.9, 0.9}},
	},
	{
		.what = "8 clients wherever they are put",
		.measure = bench_crowd,
		.work = CROWD(8, true, false),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.goal_near = 3e6,
		.goal_far = 1e6,
		.limits = {{"one client there", bench_crowd,
                            CROWD(1, true, false), 0, 0}},
	},
	{
		.what = "8 clients that step aside",
		.measure = bench_crowd,
		.work = CROWD(8, true, true),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.goal_near = 3e6,
		.goal_far = 1e6,
		.limits = {{"one client there", bench_crowd,
                            CROWD(1, true, false), 0, 0}},
	},
	{
		.what = "2 clients wherever they are put",
		.measure = bench_crowd,
		.work = CROWD(2, true, false),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.limits = {{"one client there", bench_crowd,
                            CROWD(1, true, false), 0, 0}},
	},
	{
		.what = "2 clients that step aside",
		.measure = bench_crowd,
		.work = CROWD(2, true, true),
		.unit = BENCH_MESSAGES,
		.needs_two_cpus = true,
		.limits = {{"one client there", bench_crowd,
                            CROWD(1, true, false), 0, 0}},
	},
};

/* all of them ------------------------------------------------------------ */

const struct bench_section bench_sections[] = {
	{"round-trip", "a message there and one back, both sides spinning",
         round_trip_rows, COUNT(round_trip_rows)},
	{"one-way", "messages or payload in a second, 256 KiB of ring",
         one_way_rows, COUNT(one_way_rows)},
	{"wake", "a message there and one back, to a sleeper each time",
         wake_rows, COUNT(wake_rows)},
	{"publish", "what the producer pays while the consumer is awake",
         publish_rows, COUNT(publish_rows)},
	{"call", "a request there and its answer back", call_rows,
         COUNT(call_rows)},
	{"crowd", "more clients than processors, all calling", crowd_rows,
         COUNT(crowd_rows)},
	{"idle", "what producers cost that say nothing", idle_rows,
         COUNT(idle_rows)},
};
const size_t bench_section_count = COUNT(bench_sections);
