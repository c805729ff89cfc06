/* SPDX-License-Identifier: MIT */
/*
 * The litmus test that the doorbell stands on, played as a tournament:
 *
 *	publisher                       sleeper
 *	  publish (store the commit)      arm (store the bell)
 *	  load the bell                   load the commit
 *
 * In no round may both loads find nothing: the publisher would not ring, and
 * the sleeper would sleep. A processor holds stores back in a buffer of its own
 * while later loads go ahead, so without an order this happens in one round of
 * four. Both sides begin each round at the same time, hence the spinning.
 */
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "peal/doorbell.h"
#include "peal/ring.h"
#include "peal/shm.h"
#include "tests/unit/sanitizer.h"

#define ROUNDS (SLOW ? 100000 : 1500000)
#define TIME_NS (5 * PEAL__NS_PER_S)
#define RING_BYTES PEAL_RING_MIN_BYTES

struct litmus {
	struct peal_shm_mapping mapping;
	struct peal_ring_tx tx;
	struct peal_ring_rx rx;
	struct peal_ringer ringer;
	struct peal_sleeper sleeper;
	/* each on a line of its own, as in the real pages */
	_Alignas(64) uint64_t arm;
	_Alignas(64) uint32_t seq;
	_Alignas(64) uint64_t released;
	_Alignas(64) uint32_t publisher_round;
	uint32_t publisher_found;
	uint32_t is_over;
	_Alignas(64) uint32_t sleeper_round;
};

/* Wait until the other side is in this round; true: it is. */
static void meet(uint32_t *mine, const uint32_t *theirs, uint32_t round)
{
	uint32_t polls = 0;

	__atomic_store_n(mine, round, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(theirs, __ATOMIC_SEQ_CST) < round)
		if (++polls % 1024 == 0)
			sched_yield(); /* they may need our processor */
}

/*
 * One side learns later than the other that both are there, and by how much
 * moves about: so each begins a little later, in every combination. Meanwhile
 * it fetches the line of its load, which then overtakes the store if anything
 * lets it.
 */
static void begin_at(uint32_t place, const uint32_t *loaded_later)
{
	for (uint32_t i = 0; i <= place; i++)
		/* Relaxed: it is fetched, not looked at. */
		(void)__atomic_load_n(loaded_later, __ATOMIC_RELAXED);
}

static void *publish(void *argument)
{
	struct litmus *litmus = argument;
	void *data;

	for (uint32_t round = 1; round <= ROUNDS; round++) {
		if (peal_ring_claim(&litmus->tx, 0, 0, 0, &data) < 0)
			return argument;
		meet(&litmus->publisher_round, &litmus->sleeper_round,
		     2 * round - 1);
		begin_at(round % 37, (const uint32_t *)&litmus->arm);
		peal_ring_publish(&litmus->tx);
		litmus->publisher_found =
			peal__doorbell_armed(&litmus->ringer) != 0;
		meet(&litmus->publisher_round, &litmus->sleeper_round,
		     2 * round);
		if (litmus->is_over)
			break;
	}
	return NULL;
}

static void pin(pthread_t thread, size_t cpu)
{
	cpu_set_t set;

	/* Where that is forbidden the scheduler decides, and finds less. */
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(thread, sizeof(set), &set);
}

static bool has_two_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 &&
	       CPU_COUNT(&set) > 1;
}

static void open_litmus(struct litmus *litmus)
{
	const struct peal_shm_span span = {0, RING_BYTES, 2};
	struct peal_shm_options options = PEAL_SHM_OPTIONS_INIT;
	int fd;

	memset(litmus, 0, sizeof(*litmus));
	options.bytes = RING_BYTES;
	assert_int_equal(peal_shm_create(&options, &fd, NULL), 0);
	assert_int_equal(peal_shm_map(fd, &span, 1, PEAL_SHM_MAP_WRITE,
	                              &litmus->mapping),
	                 0);
	close(fd);
	peal_ring_tx_init(&litmus->tx, litmus->mapping.address, RING_BYTES, 0,
	                  &litmus->released);
	peal_ring_rx_init(&litmus->rx, litmus->mapping.address, RING_BYTES, 0,
	                  &litmus->released);
	litmus->ringer = (struct peal_ringer){.arm = &litmus->arm, .fd = -1};
	peal_doorbell_init(&litmus->sleeper, &litmus->arm, &litmus->seq,
	                   PEAL_DOORBELL_FUTEX);
}

static void publisher_and_sleeper_never_both_find_nothing(void **state)
{
	static struct litmus litmus;
	struct peal_message message;
	uint32_t lost = 0, unread = 0;
	uint64_t end_ns = peal__clock_ns() + TIME_NS;
	pthread_t thread;
	void *result;

	(void)state;
	if (!has_two_processors())
		CHECK_SKIP("on one processor a store is never late for the "
		           "other side");
	open_litmus(&litmus);
	assert_int_equal(pthread_create(&thread, NULL, publish, &litmus), 0);
	pin(thread, 1);
	pin(pthread_self(), 0);
	for (uint32_t round = 1; round <= ROUNDS; round++) {
		bool found;

		meet(&litmus.sleeper_round, &litmus.publisher_round,
		     2 * round - 1);
		begin_at(round % 41,
		         &peal__ring_frame(litmus.rx.data, RING_BYTES,
		                           litmus.rx.head)
		                  ->commit);
		peal_doorbell_arm(&litmus.sleeper);
		found = peal_ring_has_data(&litmus.rx);
		/* A busy machine plays fewer rounds, and one loss is enough. */
		if (lost != 0 ||
		    (round % 256 == 0 && peal__clock_ns() > end_ns))
			litmus.is_over = 1;
		meet(&litmus.sleeper_round, &litmus.publisher_round, 2 * round);
		lost += !found && !litmus.publisher_found;
		peal_doorbell_disarm(&litmus.sleeper);
		/* Every message is there by now. */
		if (peal_ring_peek(&litmus.rx, &message) == 0)
			peal_ring_release(&litmus.rx, &message);
		else
			unread++;
		peal_ring_tell(&litmus.rx);
		if (litmus.is_over) {
			print_message("round %u was the last\n", round);
			break;
		}
	}
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(unread, 0);
	assert_int_equal(lost, 0);
	peal_shm_unmap(&litmus.mapping);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(publisher_and_sleeper_never_both_find_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
