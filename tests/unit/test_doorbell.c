/* SPDX-License-Identifier: MIT */
/* Arming a bell, and ringing it. */
#include "tests/unit/bell_fixture.h"

#include <signal.h>

/* The bytes on the socket: how many there were, each a wake. */
static int wake_bytes(void)
{
	unsigned char bytes[2];
	int count = 0;

	while (recv(ends[1], bytes, sizeof(bytes), 0) == 1) {
		assert_int_equal(bytes[0], PEAL__DOORBELL_WAKE_BYTE);
		count++;
	}
	return count;
}

/* arming ----------------------------------------------------------------- */

static void arming_tells_the_mode_and_is_never_zero(void **state)
{
	(void)state;
	for (uint32_t mode = 1; mode <= 2; mode++) {
		peal_doorbell_init(&sleeper, arm, seq, mode);
		assert_int_equal(*arm, 0);
		peal_doorbell_arm(&sleeper);
		assert_int_not_equal(*arm, 0);
		assert_int_equal(*arm & PEAL_DOORBELL_MODE_MASK, mode);
		peal_doorbell_disarm(&sleeper);
		assert_int_equal(*arm, 0);
	}
}

static void armings_never_repeat(void **state)
{
	uint64_t before = 0;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		peal_doorbell_arm(&sleeper);
		assert_true(*arm > before);
		before = *arm;
		peal_doorbell_disarm(&sleeper);
	}
}

static void epochs_start_at_random_and_far_from_their_end(void **state)
{
	uint64_t epochs[16];

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(epochs); i++) {
		peal_doorbell_init(&sleeper, arm, seq, PEAL_DOORBELL_FUTEX);
		epochs[i] = sleeper.epoch;
		/* More sleeps than anybody lives to see are left. */
		assert_true(sleeper.epoch < UINT64_C(1) << 61);
		for (size_t k = 0; k < i; k++)
			assert_int_not_equal(epochs[k], epochs[i]);
	}
}

/* ringing ---------------------------------------------------------------- */

static void sleeper_that_is_awake_is_not_rung(void **state)
{
	(void)state;
	peal_doorbell_ring(&ringer);
	assert_int_equal(*seq, 1000);
	assert_int_equal(ringer.my_last, 0);
	assert_int_equal(wake_bytes(), 0);
}

static void armed_bell_is_rung_once_for_each_arming(void **state)
{
	(void)state;
	for (uint32_t sleep = 1; sleep <= 5; sleep++) {
		peal_doorbell_arm(&sleeper);
		for (int i = 0; i < 3; i++) {
			peal_doorbell_ring(&ringer);
			assert_int_equal(*seq, 1000 + sleep);
			assert_int_equal(ringer.my_last, *arm);
		}
		peal_doorbell_disarm(&sleeper);
		peal_doorbell_ring(&ringer);
		assert_int_equal(*seq, 1000 + sleep);
	}
	assert_int_equal(errno, OUR_ERRNO);
}

/* It is not the first ringer that disarms: that one may die halfway. */
static void every_ringer_rings_the_same_arming(void **state)
{
	struct peal_ringer other = ringer;

	(void)state;
	peal_doorbell_arm(&sleeper);
	peal_doorbell_ring(&ringer);
	peal_doorbell_ring(&other);
	assert_int_equal(*seq, 1002);
	assert_int_not_equal(*arm, 0);
}

static void
ringer_of_another_connection_does_not_take_an_epoch_for_its_own(void **state)
{
	(void)state;
	/* What an old server's sleep was called means nothing to a new one. */
	ringer.my_last = (sleeper.epoch << 2) | PEAL_DOORBELL_FUTEX;
	peal_doorbell_arm(&sleeper);
	peal_doorbell_ring(&ringer);
	assert_int_equal(*seq, 1001);
}

static void bell_moves_also_when_nobody_waits(void **state)
{
	(void)state;
	/* The sleeper is between arming and FUTEX_WAIT: the bump is what ends
	 * a wait that begins after the wake. */
	peal_doorbell_look(&sleeper);
	peal_doorbell_arm(&sleeper);
	assert_false(peal_doorbell_changed(&sleeper));
	peal__doorbell_ring_armed(&ringer, *arm);
	assert_int_equal(*seq, 1001);
	assert_true(peal_doorbell_changed(&sleeper));
	assert_int_equal(peal_doorbell_wait(&sleeper, PEAL_FOREVER), 0);
	assert_int_equal(errno, OUR_ERRNO);
}

static void bell_of_a_closed_server_is_not_rung(void **state)
{
	(void)state;
	*arm = UINT64_C(77) << 2 | PEAL_DOORBELL_CLOSED;
	peal_doorbell_ring(&ringer);
	assert_int_equal(*seq, 1000);
	assert_int_equal(wake_bytes(), 0);
	ringer.seq = NULL;
	ringer.my_last = 0;
	peal_doorbell_ring(&ringer);
	assert_int_equal(wake_bytes(), 0);
}

static void seq_may_wrap(void **state)
{
	(void)state;
	*seq = UINT32_MAX;
	peal_doorbell_look(&sleeper);
	peal_doorbell_arm(&sleeper);
	peal_doorbell_ring(&ringer);
	assert_int_equal(*seq, 0);
	assert_true(peal_doorbell_changed(&sleeper));
	assert_int_equal(peal_doorbell_wait(&sleeper, PEAL_FOREVER), 0);
}

/* ringing by a socket ---------------------------------------------------- */

static void sleeper_in_epoll_is_rung_by_one_byte(void **state)
{
	(void)state;
	peal_doorbell_init(&sleeper, arm, seq, PEAL_DOORBELL_FD);
	for (int sleep = 0; sleep < 3; sleep++) {
		peal_doorbell_arm(&sleeper);
		peal_doorbell_ring(&ringer);
		peal_doorbell_ring(&ringer);
		assert_int_equal(wake_bytes(), 1);
		peal_doorbell_disarm(&sleeper);
	}
	assert_int_equal(*seq, 1000);
}

static void ringer_without_the_futex_word_rings_by_a_byte(void **state)
{
	(void)state;
	ringer.seq = NULL;
	peal_doorbell_arm(&sleeper);
	peal_doorbell_ring(&ringer);
	peal_doorbell_ring(&ringer);
	assert_int_equal(wake_bytes(), 1);
	assert_int_equal(ringer.my_last, *arm);
}

static void full_socket_has_been_rung_already(void **state)
{
	int count = 0;

	(void)state;
	while (send(ends[0], "W", 1, MSG_DONTWAIT) == 1)
		count++;
	assert_true(count > 0);
	errno = OUR_ERRNO;
	peal_doorbell_init(&sleeper, arm, seq, PEAL_DOORBELL_FD);
	peal_doorbell_arm(&sleeper);
	peal_doorbell_ring(&ringer);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(ringer.my_last, *arm);
	assert_int_equal(wake_bytes(), count);
}

static void byte_that_could_not_be_sent_is_sent_the_next_time(void **state)
{
	int fd = ringer.fd;

	(void)state;
	peal_doorbell_init(&sleeper, arm, seq, PEAL_DOORBELL_FD);
	peal_doorbell_arm(&sleeper);
	/* No memory for it is not to be had by asking; no descriptor is. */
	ringer.fd = 1 << 20;
	peal_doorbell_ring(&ringer);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_not_equal(ringer.my_last, *arm);
	ringer.fd = fd;
	peal_doorbell_ring(&ringer);
	assert_int_equal(wake_bytes(), 1);
	assert_int_equal(ringer.my_last, *arm);
}

static void ringing_a_socket_that_was_closed_kills_nobody(void **state)
{
	int stream[2];

	(void)state;
	signal(SIGPIPE, SIG_DFL);
	peal_doorbell_init(&sleeper, arm, seq, PEAL_DOORBELL_FD);
	peal_doorbell_arm(&sleeper);
	close(ends[1]);
	ends[1] = -1;
	peal_doorbell_ring(&ringer);
	assert_int_equal(errno, OUR_ERRNO);
	/* Nobody is there to be rung again. */
	assert_int_equal(ringer.my_last, *arm);
	/* Linux raises no SIGPIPE for this kind of socket, but for that one. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
	close(stream[1]);
	ringer.fd = stream[0];
	ringer.my_last = 0;
	errno = OUR_ERRNO;
	peal_doorbell_ring(&ringer);
	assert_int_equal(errno, OUR_ERRNO);
	close(stream[0]);
	/* Nor does one that is no descriptor at all. */
	ringer.fd = -1;
	ringer.my_last = 0;
	peal_doorbell_ring(&ringer);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(*seq, 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(arming_tells_the_mode_and_is_never_zero),
		TEST(armings_never_repeat),
		TEST(epochs_start_at_random_and_far_from_their_end),
		TEST(sleeper_that_is_awake_is_not_rung),
		TEST(armed_bell_is_rung_once_for_each_arming),
		TEST(every_ringer_rings_the_same_arming),
		TEST(ringer_of_another_connection_does_not_take_an_epoch_for_its_own),
		TEST(bell_moves_also_when_nobody_waits),
		TEST(bell_of_a_closed_server_is_not_rung),
		TEST(seq_may_wrap),
		TEST(sleeper_in_epoll_is_rung_by_one_byte),
		TEST(ringer_without_the_futex_word_rings_by_a_byte),
		TEST(full_socket_has_been_rung_already),
		TEST(byte_that_could_not_be_sent_is_sent_the_next_time),
		TEST(ringing_a_socket_that_was_closed_kills_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
