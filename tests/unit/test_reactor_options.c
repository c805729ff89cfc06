/* SPDX-License-Identifier: MIT */
/*
 * Every option of a reactor: nonsense is -EINVAL and named, and what is taken
 * serves a request and ends, however odd.
 */
#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/reactor_fixture.h"

struct field {
	const char *name;
	size_t offset, bytes;
};

#define FIELD(name)                                                         \
	{                                                                   \
#name, offsetof(struct peal_reactor_options, name),         \
			sizeof(((struct peal_reactor_options *)NULL)->name) \
	}

/* All that are numbers, but worker_count: a thousand threads take a while. */
static const struct field numbers[] = {
	FIELD(wait_mode),
	FIELD(spin_mode),
	FIELD(spin_ns),
	FIELD(inline_mode),
	FIELD(turn_budget),
	FIELD(copy_requests),
	FIELD(at_cap),
	FIELD(client_max),
	FIELD(client_per_uid_max),
	FIELD(connect_rate_max),
	FIELD(in_flight_max),
	FIELD(in_flight_per_client_max),
	FIELD(queued_max_bytes),
	FIELD(ring_min_bytes),
	FIELD(ring_default_bytes),
	FIELD(ring_max_bytes),
	FIELD(segment_total_max_bytes),
	FIELD(idle_timeout_ns),
	FIELD(stall_timeout_ns),
	FIELD(memory_flags),
	FIELD(numa_node),
	FIELD(socket_mode),
	FIELD(listen_fd),
	FIELD(stop_signals_fd),
	FIELD(drain_ns),
};

static void set(struct peal_reactor_options *options, const struct field *field,
                uint64_t value)
{
	uint32_t narrow = (uint32_t)value;

	memcpy((char *)options + field->offset,
	       field->bytes == 4 ? (const void *)&narrow : &value,
	       field->bytes);
}

static void nonsense_is_einval_and_named(void **state)
{
	static const struct {
		struct field field;
		uint64_t value;
	} rows[] = {
		{FIELD(wait_mode), 2},
		{FIELD(spin_mode), 3},
		{FIELD(spin_ns), 50001},
		{FIELD(inline_mode), 3},
		{FIELD(worker_count), 1025},
		{FIELD(turn_budget), 0},
		{FIELD(turn_budget), 65537},
		{FIELD(copy_requests), 2},
		{FIELD(at_cap), 2},
		{FIELD(client_max), 0},
		{FIELD(client_max), 4097},
		{FIELD(client_per_uid_max), 4097},
		{FIELD(connect_rate_max), 1000001},
		{FIELD(in_flight_max), 0},
		{FIELD(in_flight_max), (1 << 20) + 1},
		{FIELD(in_flight_per_client_max), 0},
		{FIELD(in_flight_per_client_max), 65537},
		{FIELD(ring_min_bytes), 4095},
		{FIELD(ring_default_bytes), 5000},
		{FIELD(ring_default_bytes), 2048},
		{FIELD(ring_max_bytes), UINT64_C(1) << 31},
		{FIELD(memory_flags), 1U << 31},
		{FIELD(numa_node), 100000},
		{FIELD(socket_mode), 07777777},
		{FIELD(listen_fd), 1 << 20},
		{FIELD(stop_signals_fd), 1 << 20},
		{FIELD(stop_signals_fd), UINT32_MAX - 1},
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(rows); i++) {
		struct peal_reactor_options options = usual_options();
		struct peal_reactor *reactor = NULL;

		set(&options, &rows[i].field, rows[i].value);
		own.failure.text[0] = '\0';
		assert_int_equal(peal_reactor_open(&options, &reactor),
		                 -EINVAL);
		assert_null(reactor);
		if (strstr(own.failure.text, rows[i].field.name) == NULL)
			fail_msg("%s of %llu: %s", rows[i].field.name,
			         (unsigned long long)rows[i].value,
			         own.failure.text);
	}
}

/* 0 of a struct that was zeroed is as often /dev/null or a file. */
static void what_is_no_signalfd_is_einval_and_named(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_reactor *reactor = NULL;

	(void)state;
	options.stop_signals_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(options.stop_signals_fd >= 0);
	assert_int_equal(peal_reactor_open(&options, &reactor), -EINVAL);
	close(options.stop_signals_fd);
	assert_null(reactor);
	assert_non_null(strstr(own.failure.text, "no signalfd"));
}

static int refuse(void (*run_it)(void *work), void *work, void *arg)
{
	(void)run_it;
	(void)work;
	(void)arg;
	return -ENOBUFS;
}

static void what_does_not_go_together_is_einval(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct peal_reactor *reactor = NULL;

	(void)state;
	options.on_request = NULL;
	assert_int_equal(peal_reactor_open(&options, &reactor), -EINVAL);
	assert_non_null(strstr(own.failure.text, "on_request"));
	options = usual_options();
	options.worker_count = 1;
	options.executor = refuse;
	assert_int_equal(peal_reactor_open(&options, &reactor), -EINVAL);
	assert_non_null(strstr(own.failure.text, "worker_count"));
	options = usual_options();
	options.inline_mode = PEAL_INLINE_NEVER;
	assert_int_equal(peal_reactor_open(&options, &reactor), -EINVAL);
	assert_non_null(strstr(own.failure.text, "inline_mode"));
	options = usual_options();
	options.name = NULL;
	assert_int_equal(peal_reactor_open(&options, &reactor), -EINVAL);
	options = usual_options();
	options.size = 3;
	assert_int_equal(peal_reactor_open(&options, &reactor), -EINVAL);
	options = usual_options();
	assert_int_equal(peal_reactor_open(&options, NULL), -EINVAL);
	assert_int_equal(peal_reactor_open(NULL, &reactor), -EINVAL);
	assert_null(reactor);
}

/* It was taken, so it works: one request, unless it is sent away before. */
static void serve_one(struct peal_reactor *reactor)
{
	struct peal_message message;
	struct peal__frame_parts parts;
	struct raw_client raw;
	int error = -EAGAIN;

	served = (struct served){.reactor = reactor};
	if (raw_connect(&raw, "served", 4096, 0) != 0)
		return;
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	for (int i = 0; i < 2000 && error == -EAGAIN; i++) {
		peal_reactor_run_once(reactor, PEAL__NS_PER_MS);
		if (peal_ring_has_data(&raw.responses))
			error = raw_hear(&raw, &message, &parts);
		else if (served.closed_count > 0)
			error = 0;
	}
	assert_int_equal(error, 0);
	raw_close(&raw, true);
}

static void whatever_is_taken_serves_and_ends(void **state)
{
	static const uint64_t values[] = {
		0,          1,         2,          4096,
		8192,       65536,     INT32_MAX,  UINT32_MAX,
		1ULL << 40, INT64_MAX, UINT64_MAX, UINT64_MAX - 1,
	};
	uint32_t taken_count = 0;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(numbers); i++) {
		for (size_t j = 0; j < CHECK_COUNT(values); j++) {
			struct peal_reactor_options options = usual_options();
			struct peal_reactor *reactor = NULL;
			uint64_t value = values[j];
			int error;

			/* 0 to 2 are descriptors of this very process. */
			if (numbers[i].offset ==
			            offsetof(struct peal_reactor_options,
			                     stop_signals_fd) &&
			    value < 3)
				continue;
			set(&options, &numbers[i], value);
			error = peal_reactor_open(&options, &reactor);
			if (error == 0) {
				serve_one(reactor);
				assert_int_equal(peal_reactor_close(reactor),
				                 0);
				taken_count++;
			} else if (error != -EINVAL && error != -ENOMEM &&
			           error != -ENOTSUP && error != -EPERM) {
				fail_msg("%s of %llu: %s", numbers[i].name,
				         (unsigned long long)value,
				         peal_strerror(error));
			}
		}
	}
	assert_true(taken_count > 60);
}

static void as_many_workers_as_may_be_are_started_and_ended(void **state)
{
	struct peal_reactor_options options = usual_options();

	(void)state;
	options.worker_count = 1024;
	open_reactor(&options);
	serve_one(served.reactor);
	close_reactor();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nonsense_is_einval_and_named),
		TEST(what_is_no_signalfd_is_einval_and_named),
		TEST(what_does_not_go_together_is_einval),
		TEST(whatever_is_taken_serves_and_ends),
		TEST(as_many_workers_as_may_be_are_started_and_ended),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
