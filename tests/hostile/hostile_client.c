/* SPDX-License-Identifier: MIT */
/*
 * What a client may do to the memory that it was given: nothing of it touches
 * the server, or anybody else.
 *
 *	./test_hostile_client [--full]    2,000 flipped bytes, or 10,000
 *	./test_hostile_client_reactor     the same, of a client of a reactor
 */
#include "tests/hostile/stage_reactor.h"

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
	assert_int_equal(raw_attach(&raw), 0);
	assert_int_equal(raw.fd_count, 3);
	assert_read_only(raw.fds[0]);
	assert_fixed_size(raw.fds[1]);
	assert_fixed_size(raw.fds[2]);
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
	if (raw_attach(&raw) != 0)
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

/* Punches until it is told to stop. */
static void *punch_holes(void *arg)
{
	struct raw *raw = arg;
	off_t bytes = (off_t)(raw->page_bytes + raw->ring_bytes);
	uint64_t end_ns = scene_now_ns() + PUNCH_NS;

	while (scene_now_ns() < end_ns)
		fallocate(raw->fds[1],
		          FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes);
	return NULL;
}

static void holes_punched_into_a_ring_hurt_its_owner_only(void **state)
{
	uint64_t end_ns = scene_now_ns() + PUNCH_NS;
	uint32_t lives = 0;

	(void)state;
	while (scene_now_ns() < end_ns) {
		pthread_t thread;
		struct raw raw;

		assert_int_equal(raw_attach(&raw), 0);
		assert_int_equal(
			pthread_create(&thread, NULL, punch_holes, &raw), 0);
		while (!raw_is_closed(&raw) && scene_now_ns() < end_ns)
			raw_publish(&raw, 200);
		pthread_join(thread, NULL);
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
	assert_int_equal(raw_attach(&raw), 0);
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

		assert_int_equal(raw_attach(&raw), 0);
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
	uint64_t value = dice % 4 == 0   ? UINT64_MAX
	                 : dice % 4 == 1 ? dice & 7
	                 : dice % 4 == 2 ? *words[dice >> 8 & 7] + 16
	                                 : dice;

	__atomic_store_n(words[(dice >> 20) % CHECK_COUNT(words)], value,
	                 __ATOMIC_SEQ_CST);
	__atomic_store_n(&segment->word.cpu, (int32_t)(dice >> 32),
	                 __ATOMIC_RELAXED);
	__atomic_store_n(&segment->space.seq, (uint32_t)dice, __ATOMIC_RELAXED);
}

static void wild_words_cost_the_server_nothing(void **state)
{
	uint64_t chance = scene_seed + 1, start_ns = scene_now_ns();
	struct raw raw;

	(void)state;
	assert_int_equal(raw_attach(&raw), 0);
	for (int i = 0; i < WILD_COUNT; i++) {
		make_wild(&raw, &chance);
		/* What it was told last counts, not what it wrote there. */
		if (raw_publish(&raw, 100) < 0)
			raw.tx.released = raw.tx.first;
		if (i % 8 == 0)
			let_it_look();
	}
	start_ns = scene_now_ns() - start_ns;
	raw_close(&raw);
	assert_true(stage_is_well());
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
	assert_int_equal(raw_attach(&raw), 0);
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
		uint64_t heard = scene_get(&stage_board->other_count);
		struct raw raw;

		assert_int_equal(raw_attach(&raw), 0);
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

int main(int argc, char **argv)
{
	static const uint32_t modes[] = {PEAL_WAIT_FUTEX, PEAL_WAIT_FD};
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
	size_t mode_count = CHECK_COUNT(modes);
	int failed = 0;

	/* The same program under another name: see tests/meson.build. */
	if (strstr(argv[0], "reactor") != NULL) {
		stage_be_reactor();
		flip_count = 1000;
		mode_count = 1;
	}
	if (scene_is_full(argc, argv)) {
		flip_count = 10000;
		mode_count = CHECK_COUNT(modes);
	}
	for (size_t i = 0; i < mode_count; i++) {
		stage_wait_mode = modes[i];
		failed += cmocka_run_group_tests(tests, stage_group_setup,
		                                 scene_group_teardown);
	}
	return failed != 0;
}
