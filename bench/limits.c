/* SPDX-License-Identifier: MIT */
#include "limits.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The value of a word that ends a ping-pong. */
#define STOP UINT32_MAX

/*
 * One direction each. Two lines apart, since processors fetch lines in pairs.
 */
struct lines {
	_Alignas(128) uint32_t ping;
	_Alignas(128) uint32_t pong;
};

struct line_game {
	uint32_t *mine;
	const uint32_t *other;
	uint32_t number;
	enum bench_poll poll;
};

static int line_round(void *context)
{
	struct line_game *game = context;

	__atomic_store_n(game->mine, ++game->number, __ATOMIC_RELEASE);
	while (__atomic_load_n(game->other, __ATOMIC_ACQUIRE) != game->number)
		bench_poll(game->poll);
	return 0;
}

static int line_first(struct bench_side *side)
{
	struct bench_region region;
	int result = bench_region_map(side->fd, BENCH_RING_BYTES, &region);
	struct lines *lines = (void *)region.control;
	struct line_game game = {.poll = side->work->poll};

	if (result < 0)
		return bench_fail(side, result, "line");
	game.mine = &lines->ping;
	game.other = &lines->pong;
	bench_meet(side);
	result = bench_loop(side, line_round, NULL, &game);
	__atomic_store_n(&lines->ping, STOP, __ATOMIC_RELEASE);
	return result;
}

static int line_second(struct bench_side *side)
{
	struct bench_region region;
	int result = bench_region_map(side->fd, BENCH_RING_BYTES, &region);
	struct lines *lines = (void *)region.control;
	uint32_t number = 0;

	if (result < 0)
		return bench_fail(side, result, "line");
	bench_meet(side);
	for (;;) {
		uint32_t seen;

		while ((seen = __atomic_load_n(&lines->ping,
		                               __ATOMIC_ACQUIRE)) == number)
			bench_poll(side->work->poll);
		if (seen == STOP)
			return 0;
		number = seen;
		__atomic_store_n(&lines->pong, number, __ATOMIC_RELEASE);
	}
}

int bench_limit_line(const struct bench_setting *setting,
                     const struct bench_work *work,
                     struct bench_result *ret_result)
{
	return bench_over_region(setting, work, BENCH_RING_BYTES, line_first,
	                         line_second, ret_result);
}

/*
 * frames ------------------------------------------------------------------
 *
 * The bytes of a peal frame: a word that announces, 12 more bytes of header,
 * the payload. The word carries a number that never comes twice, so nothing has
 * to be zeroed. Half the data serves each direction; in place, @stride is 0.
 */
struct frame_game {
	uint8_t *out;
	uint8_t *in;
	uint64_t mask;
	uint64_t stride;
	uint64_t position;
	uint32_t number;
	enum bench_poll poll;
	size_t payload_bytes;
	uint8_t source[256];
	uint8_t target[256];
};

static inline void frame_put(struct frame_game *game, uint32_t number)
{
	uint8_t *frame = game->out + (game->position & game->mask);
	uint64_t id = number;
	uint32_t kind = 1;

	bench_touch(game->source);
	bench_copy(frame + 16, game->source, game->payload_bytes);
	memcpy(frame + 4, &kind, sizeof(kind));
	memcpy(frame + 8, &id, sizeof(id));
	__atomic_store_n((uint32_t *)(void *)frame, number, __ATOMIC_RELEASE);
}

static inline uint32_t frame_get(struct frame_game *game, uint32_t before)
{
	uint8_t *frame = game->in + (game->position & game->mask);
	uint32_t seen;

	while ((seen = __atomic_load_n((uint32_t *)(void *)frame,
	                               __ATOMIC_ACQUIRE)) == 0 ||
	       seen <= before)
		bench_poll(game->poll);
	if (seen != STOP) {
		bench_copy(game->target, frame + 16, game->payload_bytes);
		bench_touch(game->target);
	}
	return seen;
}

static int frame_round(void *context)
{
	struct frame_game *game = context;

	frame_put(game, ++game->number);
	frame_get(game, game->number - 1);
	game->position += game->stride;
	return 0;
}

static int frame_start(struct bench_side *side, struct frame_game *game)
{
	uint64_t half = side->work->ring_bytes;
	struct bench_region region;
	int result = bench_region_map(side->fd, 2 * half, &region);

	if (result < 0)
		return bench_fail(side, result, "frames");
	*game = (struct frame_game){
		.out = region.data + (side->is_second ? half : 0),
		.in = region.data + (side->is_second ? 0 : half),
		.mask = half - 1,
		.poll = side->work->poll,
		.payload_bytes = side->work->payload_bytes,
	};
	if (side->work->batch != 0) /* walking */
		game->stride = (game->payload_bytes + 31) & ~UINT64_C(15);
	bench_meet(side);
	return 0;
}

static int frame_first(struct bench_side *side)
{
	struct frame_game game;
	int result = frame_start(side, &game);

	if (result < 0)
		return result;
	result = bench_loop(side, frame_round, NULL, &game);
	frame_put(&game, STOP);
	return result;
}

static int frame_second(struct bench_side *side)
{
	struct frame_game game;
	int result = frame_start(side, &game);

	if (result < 0)
		return result;
	for (;;) {
		game.number = frame_get(&game, game.number);
		if (game.number == STOP)
			return 0;
		frame_put(&game, game.number);
		game.position += game.stride;
	}
}

int bench_limit_frames_in_place(const struct bench_setting *setting,
                                const struct bench_work *work,
                                struct bench_result *ret_result)
{
	struct bench_work in_place = *work;

	in_place.batch = 0;
	return bench_over_region(setting, &in_place, 2 * work->ring_bytes,
	                         frame_first, frame_second, ret_result);
}

int bench_limit_frames_walking(const struct bench_setting *setting,
                               const struct bench_work *work,
                               struct bench_result *ret_result)
{
	struct bench_work walking = *work;

	walking.batch = 1;
	return bench_over_region(setting, &walking, 2 * work->ring_bytes,
	                         frame_first, frame_second, ret_result);
}

/* futex ------------------------------------------------------------------ */

struct futex_game {
	uint32_t *mine;
	uint32_t *other;
	uint32_t number;
	uint64_t sleep_count;
};

static void futex_post(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Sleep until the word is not @before, and return what it is then. */
static uint32_t futex_await(struct futex_game *game, uint32_t before)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(game->other, __ATOMIC_SEQ_CST)) ==
	       before) {
		if (syscall(SYS_futex, game->other, FUTEX_WAIT, before, NULL,
		            NULL, 0) == 0)
			game->sleep_count++;
	}
	return seen;
}

static int futex_round(void *context)
{
	struct futex_game *game = context;

	bench_busy();
	futex_post(game->mine, ++game->number);
	futex_await(game, game->number - 1);
	return 0;
}

static int futex_start(struct bench_side *side, struct futex_game *game)
{
	struct bench_region region;
	int result = bench_region_map(side->fd, BENCH_RING_BYTES, &region);
	struct lines *lines = (void *)region.control;

	if (result < 0)
		return bench_fail(side, result, "futex");
	*game = (struct futex_game){
		.mine = side->is_second ? &lines->pong : &lines->ping,
		.other = side->is_second ? &lines->ping : &lines->pong,
	};
	bench_meet(side);
	return 0;
}

static int futex_first(struct bench_side *side)
{
	struct futex_game game;
	int result = futex_start(side, &game);

	if (result < 0)
		return result;
	result = bench_loop(side, futex_round, NULL, &game);
	bench_busy_subtract(side);
	side->shared->aside = (double)game.sleep_count / game.number;
	futex_post(game.mine, STOP);
	return result;
}

static int futex_second(struct bench_side *side)
{
	struct futex_game game;
	int result = futex_start(side, &game);

	if (result < 0)
		return result;
	for (;;) {
		game.number = futex_await(&game, game.number);
		if (game.number == STOP)
			return 0;
		bench_busy();
		futex_post(game.mine, game.number);
	}
}

int bench_limit_futex(const struct bench_setting *setting,
                      const struct bench_work *work,
                      struct bench_result *ret_result)
{
	return bench_over_region(setting, work, BENCH_RING_BYTES, futex_first,
	                         futex_second, ret_result);
}
