/* SPDX-License-Identifier: MIT */
/*
 * What a client may do to the memory that it was given: nothing of it touches
 * the server, or anybody else.
 *
 *	./test_hostile_client [--full]    2,000 flipped bytes, or 10,000
 *	./test_hostile_client_reactor     the same, of a client of a reactor
 */
#include "tests/hostile/stranger.h"

#include <linux/falloc.h>
#include <pthread.h>

#define FLIPS_PER_LIFE 40
#define WILD_COUNT 20000
#define PUNCH_NS (300 * SCENE_MS)

static uint32_t flip_count = 2000;

/* Everything that is sealed away from whoever holds this descriptor. */
static void assert_fixed_size(int fd)
{
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(errno, EPERM);
}

static void assert_read_only(int fd)
{
	char path[64];
	void *address;
	int again;

	assert_fixed_size(fd);
	assert_null(raw_map(fd, 4096, PROT_READ | PROT_WRITE, 0));
	assert_int_equal(errno, EPERM);
	address = raw_map(fd, 4096, PROT_READ, 0);
	assert_non_null(address);
	assert_int_equal(mprotect(address, 4096, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	munmap(address, 4096);
	assert_int_equal(pwrite(fd, "x", 1, 64), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fallocate(fd,
	                           FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	                           0, 4096),
	                 -1);
	assert_int_equal(errno, EPERM);
	/* Opened anew it is another description, of the same sealed file. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again < 0)
		return;
	assert_null(raw_map(again, 4096, PROT_READ | PROT_WRITE, 0));
	assert_int_equal(pwrite(again, "x", 1, 64), -1);
	close(again);
}

static void
client_cannot_resize_its_segment_nor_write_the_arm_page(void **state)
{
	struct raw raw;

	(void)state;
	assert_int_equal(raw_enter(&raw), 0);
	/* No bell page for a stranger. */
	assert_int_equal(raw.fd_count, stranger_is_me ? 2 : 3);
	assert_read_only(raw.fds[0]);
	for (size_t i = 1; i < raw.fd_count; i++)
		assert_fixed_size(raw.fds[i]);
	assert_int_equal(raw_publish(&raw, 100), 0);
	raw_close(&raw);
	assert_true(stage_is_well());
}

static void observer_cannot_write_the_status_region(void **state)
{
	struct raw raw;

	(void)state;
	assert_int_equal(raw_connect(&raw), 0);
	assert_int_equal(raw_greet(&raw, PEAL__ROLE_OBSERVER),
	                 PEAL__WIRE_WELCOME);
	assert_int_equal(raw.fd_count, 1);
	assert_read_only(raw.fds[0]);
	raw_close(&raw);
	assert_true(stage_is_well());
}

/* In a process of another user: its status is the line that was wrong. */
static int be_a_stranger(void *arg)
{
	struct raw raw;

	(void)arg;
	if (setgid(STAGE_STRANGER_UID) != 0 || setuid(STAGE_STRANGER_UID) != 0)
		return 77;
	if (raw_enter(&raw) != 0)
		return 1;
	if (raw.fd_count != 2 || raw.bell_page != NULL ||
	    (raw.packet.welcome.flags & PEAL__WELCOME_TRUSTED) != 0)
		return 2;
	/* It rings by a byte on its own socket. */
	for (int i = 0; i < 50; i++) {
		if (raw_publish(&raw, 50) != 0)
			return 3;
		raw_read(&raw);
		scene_sleep_ns(SCENE_MS);
	}
	return scene_reach(&stage_board->other_count, 50, STAGE_PATIENCE_NS)
	               ? 0
	               : 4;
}

static void stranger_gets_no_page_that_others_sleep_on(void **state)
{
	int status;

	(void)state;
	if (geteuid() != 0)
		CHECK_SKIP("only root can become somebody else");
	status =
		scene_wait(scene_start(be_a_stranger, NULL), STAGE_PATIENCE_NS);
	if (status == 77)
		CHECK_SKIP("another user cannot be had here");
	assert_int_equal(status, 0);
	assert_true(stage_is_well());
}

struct puncher {
	struct raw *raw;
	uint64_t end_ns;
	int wrong_line;
};

/* The sizes of all are fixed; the arm page stays as it is. 0 or a line. */
static int punch_all(const struct raw *raw, uint64_t noise)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	for (size_t i = 0; i < raw->fd_count; i++) {
		bool may_write = i > 0;
		struct stat status;

		if (fstat(raw->fds[i], &status) != 0 ||
		    ftruncate(raw->fds[i], 0) == 0 ||
		    ftruncate(raw->fds[i], 2 * status.st_size) == 0)
			return __LINE__;
		if ((fallocate(raw->fds[i], punch, 0, status.st_size) == 0) !=
		    may_write)
			return __LINE__;
		/* Into the bell, and now and then into the ring. */
		if (i == 1 && noise % 64 != 0)
			continue;
		if ((pwrite(raw->fds[i], &noise, sizeof(noise),
		            (off_t)(noise >> 8) % status.st_size & ~7) > 0) !=
		    may_write)
			return __LINE__;
	}
	return 0;
}

/* Until it has been long enough. */
static void *punch_holes(void *arg)
{
	struct puncher *puncher = arg;
	uint64_t chance = scene_seed + puncher->end_ns;

	while (puncher->wrong_line == 0 && scene_now_ns() < puncher->end_ns)
		puncher->wrong_line =
			punch_all(puncher->raw, scene_random(&chance) >> 8);
	return NULL;
}

static void holes_punched_into_a_ring_hurt_its_owner_only(void **state)
{
	uint64_t end_ns = scene_now_ns() + PUNCH_NS;
	uint32_t lives = 0;

	(void)state;
	while (scene_now_ns() < end_ns) {
		uint64_t pause_ns = scene_now_ns() + PUNCH_NS / 6;
		struct puncher puncher;
		pthread_t thread;
		struct raw raw;

		puncher = (struct puncher){&raw, pause_ns, 0};
		assert_int_equal(raw_enter(&raw), 0);
		assert_int_equal(pthread_create(&thread, NULL, punch_holes,
		                                &puncher),
		                 0);
		while (!raw_is_closed(&raw) && scene_now_ns() < pause_ns)
			raw_publish(&raw, 200);
		pthread_join(thread, NULL);
		assert_int_equal(puncher.wrong_line, 0);
		raw_close(&raw);
		lives++;
	}
	assert_true(stage_is_well());
	print_message("  holes: %u lives\n", lives);
}

static void
mapping_and_unmapping_ones_own_segment_is_nobodys_business(void **state)
{
	struct raw raw;
	void *moved;

	(void)state;
	assert_int_equal(raw_enter(&raw), 0);
	for (int i = 0; i < 8; i++)
		raw_publish(&raw, 300);
	/* Away with the second copy, the pages elsewhere, others in between. */
	munmap(raw.ring + raw.ring_bytes, raw.ring_bytes);
	moved = mremap(raw.segment, raw.page_bytes, raw.page_bytes,
	               MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	if (moved != MAP_FAILED)
		munmap(moved, raw.page_bytes);
	assert_ptr_not_equal(
		mmap(raw.ring, raw.ring_bytes, PROT_READ | PROT_WRITE,
	             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		MAP_FAILED);
	memset(raw.ring, 0xff, raw.ring_bytes);
	raw_close(&raw);
	assert_true(stage_is_well());
}

/* Let the server look at what was done to it. */
static void let_it_look(void)
{
	uint64_t before = scene_get(&stage_board->received);
	uint64_t end_ns = scene_now_ns() + 2 * SCENE_MS;

	while (scene_get(&stage_board->received) < before + 3 &&
	       scene_now_ns() < end_ns)
		;
}

/* A byte of the header page, or of the ring; more often one that matters. */
static void flip_a_byte(struct raw *raw, uint64_t *chance)
{
	uint64_t dice = scene_random(chance);
	uint8_t *base = (uint8_t *)raw->segment;
	size_t at = dice % (raw->page_bytes + raw->ring_bytes);

	if (dice >> 60 < 6) /* of the words in use */
		at = dice % sizeof(struct peal__segment);
	else if (dice >> 60 < 12) /* of a header that is about to be read */
		at = raw->page_bytes + ((raw->tx.first + (dice >> 8) % 16) &
		                        (raw->ring_bytes - 1));
	__atomic_fetch_xor(base + at, (uint8_t)(1 + (dice >> 16) % 255),
	                   __ATOMIC_RELAXED);
}

static void flipped_bytes_end_at_most_the_connection_they_came_by(void **state)
{
	uint64_t chance = scene_seed;
	uint32_t flips = 0, lives = 0, evicted = 0;

	(void)state;
	while (flips < flip_count) {
		struct raw raw;
		uint32_t last = flips + FLIPS_PER_LIFE;

		assert_int_equal(raw_enter(&raw), 0);
		for (; flips < last && !raw_is_closed(&raw); flips++) {
			for (uint64_t i = scene_random(&chance) % 4; i > 0; i--)
				raw_publish(&raw, scene_random(&chance) % 500);
			flip_a_byte(&raw, &chance);
			peal_doorbell_ring(&raw.bell);
			let_it_look();
		}
		evicted += raw_is_closed(&raw);
		raw_close(&raw);
		lives++;
	}
	assert_true(stage_is_well());
	print_message("hostile_client: %u bytes flipped in %u lives, of which "
	              "%u were ended by the server; %llu messages of the "
	              "neighbour arrived, %llu of the attacker\n",
	              flips, lives, evicted,
	              (unsigned long long)stage_board->received,
	              (unsigned long long)stage_board->other_count);
	assert_int_equal(stage_board->stats.attached_count,
	                 stage_board->stats.detached_count +
	                         stage_board->stats.died_count +
	                         stage_board->stats.evicted_count + 1);
}

/* Every word that the server looks at, set to whatever. */
static void make_wild(struct raw *raw, uint64_t *chance)
{
	struct peal__segment *segment = raw->segment;
	uint64_t *words[] = {
		&segment->space.arm,        &segment->space.want,
		&segment->answers.arm,      &segment->answers.want,
		&segment->request_released, &segment->response_released,
		&segment->word.position,    &segment->word.full_count,
		&segment->word.blocked_ns,  &segment->lane_released,
		&segment->response_want,    &segment->cancelled[raw->id % 256],
	};
	uint64_t dice = scene_random(chance);
	uint64_t *word = words[(dice >> 20) % CHECK_COUNT(words)];
	/* Of answers that it has not read it could say so, and lose them: then
	 * it would be parked, and nothing of it looked at. */
	bool is_near = dice % 4 == 2 && word != &segment->response_released;
	uint64_t value = dice % 4 == 0   ? UINT64_MAX
	                 : dice % 4 == 1 ? dice & 7
	                 : is_near       ? *word + 16
	                                 : dice;

	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	__atomic_store_n(&segment->word.cpu, (int32_t)(dice >> 32),
	                 __ATOMIC_RELAXED);
	__atomic_store_n(&segment->space.seq, (uint32_t)dice, __ATOMIC_RELAXED);
}

/* A client that does not say that it has read its answers is not looked at. */
static void read_as_if_honest(struct raw *raw)
{
	raw_read(raw);
	if (raw->responses.capacity_bytes == 0)
		return;
	peal_ring_settle(&raw->responses);
	peal_doorbell_ring(&raw->bell);
}

/* Who is heard to the end is attached, and its words are looked at. */
static void assert_heard(struct raw *raw, uint64_t count)
{
	uint64_t end_ns = scene_now_ns() + STAGE_PATIENCE_NS;

	while (scene_get(&stage_board->other_count) < count) {
		assert_false(raw_is_closed(raw));
		assert_true(scene_now_ns() < end_ns);
		read_as_if_honest(raw);
		scene_sleep_ns(10 * SCENE_US);
	}
	assert_int_equal(scene_get(&stage_board->other_count), count);
}

static void wild_words_cost_the_server_nothing(void **state)
{
	uint64_t chance = scene_seed + 1, start_ns = scene_now_ns();
	uint64_t heard, released;
	struct raw raw;

	(void)state;
	assert_int_equal(raw_enter(&raw), 0);
	heard = scene_get(&stage_board->other_count);
	/* How much room there is will not be read where anything may stand. */
	released = raw.tx.first;
	raw.tx.released_word = &released;
	/* No wild word is the id of a request, which would cancel it. */
	raw.id = UINT64_C(1) << 40;
	for (int i = 0; i < WILD_COUNT; i++) {
		make_wild(&raw, &chance);
		if (raw_publish(&raw, 100) < 0) {
			assert_heard(&raw, heard);
			released = raw.tx.first;
			assert_int_equal(raw_publish(&raw, 100), 0);
		}
		heard++;
		if (i % 64 == 0)
			let_it_look();
	}
	assert_heard(&raw, heard);
	start_ns = scene_now_ns() - start_ns;
	raw_close(&raw);
	assert_true(stage_is_well());
	assert_int_equal(stage_board->stats.evicted_count, 0);
	print_message("  wild words: 20000 in %.0f ms\n",
	              (double)start_ns / 1e6);
}

struct scribbler {
	struct raw *raw;
	uint64_t stop, count;
};

/* Goes on publishing, whatever has become of the socket. */
static void *go_on_publishing(void *arg)
{
	struct scribbler *scribbler = arg;

	while (scene_get(&scribbler->stop) == 0)
		if (raw_publish(scribbler->raw, 64) == 0)
			scene_add(&scribbler->count, 1);
	return NULL;
}

static void ring_of_one_that_left_is_drained_within_its_size(void **state)
{
	static struct scribbler scribbler;
	static struct raw raw;
	pthread_t thread;

	(void)state;
	assert_int_equal(raw_enter(&raw), 0);
	scribbler = (struct scribbler){.raw = &raw};
	assert_int_equal(
		pthread_create(&thread, NULL, go_on_publishing, &scribbler), 0);
	scene_sleep_ns(20 * SCENE_MS);
	/* The socket goes, and the writer does not. */
	shutdown(raw.socket, SHUT_RDWR);
	for (int i = 0; i < 500; i++) {
		assert_true(stage_ask());
		if (stage_board->stats.died_count == 1 &&
		    stage_board->free_count == STAGE_SLOTS - 1)
			break;
		scene_sleep_ns(10 * SCENE_MS);
	}
	assert_int_equal(stage_board->free_count, STAGE_SLOTS - 1);
	assert_int_equal(stage_board->stats.died_count, 1);
	scene_put(&scribbler.stop, 1);
	pthread_join(thread, NULL);
	raw_close(&raw);
	assert_true(stage_is_well());
}

/* What a producer must not say: each ends it, and it learns why. */
static void live_client_that_talks_nonsense_is_told_and_evicted(void **state)
{
	union peal__packet hello = {.hello = raw_hello(stage_role)};
	union peal__packet other = hello, strange = hello;
	char huge[400] = {0};
	const struct {
		const void *data;
		size_t bytes;
		int code;
	} lies[] = {
		{&hello, sizeof(hello.hello), -EPROTO},
		{&strange, 40, -EPROTO},
		{&other, sizeof(other.hello), -EPROTONOSUPPORT},
		{huge, sizeof(huge), -EPROTO},
	};

	(void)state;
	other.head.major++;
	for (size_t i = 0; i < CHECK_COUNT(lies); i++) {
		uint64_t heard;
		struct raw raw;

		assert_int_equal(raw_enter(&raw), 0);
		heard = scene_get(&stage_board->other_count);
		assert_int_equal(raw_publish(&raw, 100), 0);
		assert_int_equal(raw_send(&raw, lies[i].data, lies[i].bytes),
		                 0);
		assert_int_equal(raw_receive(&raw, STAGE_PATIENCE_NS),
		                 PEAL__WIRE_ERROR);
		assert_int_equal(raw.packet.error.code, lies[i].code);
		assert_int_equal(raw_receive(&raw, STAGE_PATIENCE_NS),
		                 -ECONNRESET);
		/* What it had published before is not lost; requests are. */
		if (stage_role == PEAL__ROLE_PRODUCER)
			assert_true(scene_reach(&stage_board->other_count,
			                        heard + 1, STAGE_PATIENCE_NS));
		raw_close(&raw);
		assert_true(stage_is_well());
		assert_int_equal(stage_board->stats.evicted_count, i + 1);
		assert_int_equal(stage_board->stats.died_count, 0);
	}
}

#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)

static int attack_in_mode(uint32_t wait_mode)
{
	const struct CMUnitTest tests[] = {
		TEST(client_cannot_resize_its_segment_nor_write_the_arm_page),
		TEST(observer_cannot_write_the_status_region),
		TEST(stranger_gets_no_page_that_others_sleep_on),
		TEST(holes_punched_into_a_ring_hurt_its_owner_only),
		TEST(mapping_and_unmapping_ones_own_segment_is_nobodys_business),
		TEST(flipped_bytes_end_at_most_the_connection_they_came_by),
		TEST(wild_words_cost_the_server_nothing),
		TEST(ring_of_one_that_left_is_drained_within_its_size),
		TEST(live_client_that_talks_nonsense_is_told_and_evicted),
	};

	stage_wait_mode = wait_mode;
	return cmocka_run_group_tests(tests, stage_group_setup,
	                              scene_group_teardown);
}

/* The server reads from another socket then, and copies what it reads. */
static int attack_as_a_stranger_in_mode(uint32_t wait_mode)
{
	const struct CMUnitTest tests[] = {
		STRANGERS_TEST(
			client_cannot_resize_its_segment_nor_write_the_arm_page),
		STRANGERS_TEST(holes_punched_into_a_ring_hurt_its_owner_only),
		STRANGERS_TEST(
			mapping_and_unmapping_ones_own_segment_is_nobodys_business),
		STRANGERS_TEST(
			flipped_bytes_end_at_most_the_connection_they_came_by),
		STRANGERS_TEST(wild_words_cost_the_server_nothing),
		STRANGERS_TEST(
			ring_of_one_that_left_is_drained_within_its_size),
		STRANGERS_TEST(
			live_client_that_talks_nonsense_is_told_and_evicted),
	};

	stage_wait_mode = wait_mode;
	return stranger_run(tests);
}

int main(int argc, char **argv)
{
	/* The same program under another name: see tests/meson.build. */
	const bool is_reactor = strstr(argv[0], "reactor") != NULL;
	const bool is_full = scene_is_full(argc, argv);
	int failed = 0;

	if (is_reactor) {
		stage_be_reactor();
		flip_count = 1000;
	}
	if (is_full)
		flip_count = 10000;
	failed += attack_in_mode(PEAL_WAIT_FUTEX);
	if (is_full || !is_reactor)
		failed += attack_in_mode(PEAL_WAIT_FD);
	/* Without --full each has one mode, and the two programs have both. */
	if (is_full || !is_reactor)
		failed += attack_as_a_stranger_in_mode(PEAL_WAIT_FUTEX);
	if (is_full || is_reactor)
		failed += attack_as_a_stranger_in_mode(PEAL_WAIT_FD);
	return failed != 0;
}
