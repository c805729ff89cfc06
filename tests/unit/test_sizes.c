/* SPDX-License-Identifier: MIT */
/*
 * The private structs that each message, request or connection touches have the
 * size that they were measured with. Growing one may be right; it is to be seen
 * and measured, and then written here. What is shared has its own assertions,
 * at the structs.
 */
#include "tests/check.h"

#include "mpsc/producer.h"
#include "mpsc/server.h"
#include "reactor/client.h"
#include "reactor/peer.h"
#include "reactor/reactor.h"

struct measure {
	const char *name;
	size_t bytes, bytes_max;
};

/* clang-format off */
#define MEASURE(type, bytes_max) {#type, sizeof(type), bytes_max}
/* clang-format on */

static void assert_sizes(const struct measure *sizes, size_t count)
{
	size_t grown = 0;

	for (size_t i = 0; i < count; i++) {
		print_message("%-32s %4zu of %4zu bytes\n", sizes[i].name,
		              sizes[i].bytes, sizes[i].bytes_max);
		if (sizes[i].bytes > sizes[i].bytes_max)
			grown++;
	}
	assert_int_equal(grown, 0);
}

static void what_each_message_touches_has_not_grown(void **state)
{
	static const struct measure sizes[] = {
		MEASURE(struct peal__scan_entry, 16), /* four in a line */
		MEASURE(struct peal__consumer_hot, 40),
		MEASURE(struct peal_ring_tx, 72),
		MEASURE(struct peal_ring_rx, 48),
		MEASURE(struct peal_ringer, 32),
		MEASURE(struct peal_sleeper, 32),
		MEASURE(struct peal_message, 48),
	};

	(void)state;
	assert_sizes(sizes, sizeof(sizes) / sizeof(sizes[0]));
}

static void what_each_request_touches_has_not_grown(void **state)
{
	static const struct measure sizes[] = {
		MEASURE(struct peal_request, 88),
		MEASURE(struct peal__running, 320),
	};

	(void)state;
	assert_sizes(sizes, sizeof(sizes) / sizeof(sizes[0]));
}

/* There are as many as a server may have clients. */
static void what_each_connection_takes_has_not_grown(void **state)
{
	static const struct measure sizes[] = {
		MEASURE(struct peal__slot, 272),
		MEASURE(struct peal__peer, 408),
		MEASURE(struct peal_producer, 632),
		MEASURE(struct peal_client, 744),
	};

	(void)state;
	assert_sizes(sizes, sizeof(sizes) / sizeof(sizes[0]));
}

/* It is compiled into programs: another size is another soname. */
static void what_is_inlined_into_programs_has_its_size(void **state)
{
	(void)state;
#ifdef __LP64__
	assert_int_equal(sizeof(struct peal__producer_hot), 152);
	assert_int_equal(sizeof(struct peal__consumer_hot), 40);
	assert_int_equal(sizeof(struct peal_ring_tx), 72);
	assert_int_equal(sizeof(struct peal_ring_rx), 48);
	assert_int_equal(sizeof(struct peal_message), 48);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_each_message_touches_has_not_grown),
		cmocka_unit_test(what_each_request_touches_has_not_grown),
		cmocka_unit_test(what_each_connection_takes_has_not_grown),
		cmocka_unit_test(what_is_inlined_into_programs_has_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
