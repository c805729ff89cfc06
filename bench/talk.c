/* SPDX-License-Identifier: MIT */
/*
 * A message there and one back, through producers and consumers.
 *
 *	first  --"there"--> second     both write all bytes of the payload
 *	       <--"back"---            and read all bytes of it
 *
 * Both spin, or both sleep; and any number of other producers may be attached
 * to the second side that say nothing.
 */
#include "link.h"

struct talk {
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	size_t payload_bytes;
	bool sleeps;
	uint64_t round_count;
	uint8_t source[256];
	uint8_t target[256];
};

/* Read the next message. 1 for the last one, which is shorter. */
static inline int talk_receive(struct talk *talk)
{
	struct peal_message message;
	int result = bench_receive(talk->consumer, &message);

	if (result < 0)
		return result;
	if (message.data_bytes == talk->payload_bytes) {
		bench_copy(talk->target, message.data, talk->payload_bytes);
		bench_touch(talk->target);
	} else {
		result = 1;
	}
	peal_consumer_release(talk->consumer, &message);
	return result;
}

static inline int talk_send(struct talk *talk)
{
	if (talk->sleeps)
		bench_busy();
	return bench_send(talk->producer, talk->source, talk->payload_bytes);
}

static int talk_round(void *context)
{
	struct talk *talk = context;
	int result = talk_send(talk);

	talk->round_count++;
	return result < 0 ? result : talk_receive(talk);
}

static int attach_idle(struct bench_side *side)
{
	struct peal_producer *idle;
	int result = 0;

	/* They are left to the end of this process. */
	for (uint32_t i = 0; i < side->work->idle_count && result == 0; i++)
		result = bench_producer_attach(side, "there", 1 << 16, &idle);
	return result;
}

static int talk_open(struct bench_side *side, struct talk *talk)
{
	const char *mine = side->is_second ? "there" : "back";
	const char *other = side->is_second ? "back" : "there";
	int result;

	*talk = (struct talk){
		.payload_bytes = side->work->payload_bytes,
		.sleeps = side->work->sleeps,
	};
	result = bench_consumer_open(side, mine, &talk->consumer);
	if (result < 0)
		return result;
	bench_meet(side);
	if (!side->is_second)
		result = attach_idle(side);
	if (result == 0)
		result = bench_producer_attach(side, other, 0, &talk->producer);
	if (result < 0)
		return result;
	bench_meet(side);
	return 0;
}

static void talk_close(struct bench_side *side, struct talk *talk)
{
	/* The other side has read our last message when it is here. */
	bench_meet(side);
	peal_producer_detach(talk->producer);
	peal_consumer_close(talk->consumer);
}

static int talk_first(struct bench_side *side)
{
	struct peal_consumer_stats stats;
	struct talk talk;
	int result = talk_open(side, &talk);

	if (result < 0)
		return result;
	result = bench_loop(side, talk_round, NULL, &talk);
	if (result >= 0)
		result = peal_consumer_stats(talk.consumer, &stats);
	if (result >= 0)
		result = bench_send(talk.producer, talk.source, 1);
	if (result < 0)
		return bench_fail(side, result, "round trip");
	if (talk.sleeps)
		bench_busy_subtract(side);
	side->shared->aside =
		(double)stats.sleep_count / (double)talk.round_count;
	talk_close(side, &talk);
	return 0;
}

static int talk_second(struct bench_side *side)
{
	struct talk talk;
	int result = talk_open(side, &talk);

	if (result < 0)
		return result;
	while ((result = talk_receive(&talk)) == 0) {
		result = talk_send(&talk);
		if (result < 0)
			break;
	}
	if (result < 0)
		return bench_fail(side, result, "round trip");
	talk_close(side, &talk);
	return 0;
}

int bench_talk(const struct bench_setting *setting,
               const struct bench_work *work, struct bench_result *ret_result)
{
	return bench_pair(setting, work, -1, talk_first, talk_second,
	                  ret_result);
}
