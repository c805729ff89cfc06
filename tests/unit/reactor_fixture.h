/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the reactor share: a reactor whose thread is the test's own
 * and which serves when the test says so, raw clients, and handlers that do
 * what the first letter of a request tells them to.
 *
 *	e...  answer with the same bytes
 *	z     answer with nothing
 *	s...  answer with status 7
 *	f     fail with -EPERM
 *	d     drop
 *	k...  keep it open, in own.kept
 *	p...  answer in place
 */
#ifndef PEAL_TESTS_UNIT_REACTOR_FIXTURE_H
#define PEAL_TESTS_UNIT_REACTOR_FIXTURE_H

#include "tests/unit/mpsc_fixture.h"

#include "peal/reactor.h"
#include "reactor/reactor.h"
#include "tests/unit/raw_client.h"

#define KEPT_MAX 64

struct served {
	struct peal_reactor *reactor;
	struct peal_request *kept[KEPT_MAX];
	uint32_t kept_count;
	uint32_t handled_count;
	uint32_t opened_count, closed_count;
	int closed_reason;
	struct peal_peer opened; /* last */
};

static struct served served;

/* Of a reactor that has a thread of its own. */
static struct {
	pthread_t thread;
	int result;
} background;

static inline void serve(struct peal_request *request, void *arg)
{
	size_t bytes;
	const char *data = peal_request_data(request, &bytes);
	struct served *it = arg;
	void *place;

	__atomic_fetch_add(&it->handled_count, 1, __ATOMIC_RELAXED);
	switch (bytes == 0 ? 'e' : data[0]) {
	case 'e':
		peal_reply(request, data, bytes);
		break;
	case 'z':
		peal_reply(request, NULL, 0);
		break;
	case 's':
		peal_reply_status(request, 7, data, bytes);
		break;
	case 'f':
		peal_reply_error(request, -EPERM);
		break;
	case 'd':
		peal_request_drop(request);
		break;
	case 'p':
		if (peal_reply_claim(request, bytes + 10, &place) == 0) {
			memcpy(place, data, bytes);
			peal_reply_publish(request, bytes);
		}
		break;
	case 'k':
		if (peal_request_retain(request) == 0) {
			it->kept[it->kept_count % KEPT_MAX] = request;
			__atomic_fetch_add(&it->kept_count, 1,
			                   __ATOMIC_RELEASE);
		}
		break;
	}
}

static inline void on_opened(struct peal_reactor *reactor,
                             struct peal_peer peer, void *arg)
{
	struct served *it = arg;

	(void)reactor;
	it->opened = peer;
	__atomic_fetch_add(&it->opened_count, 1, __ATOMIC_RELEASE);
}

static inline void on_closed(struct peal_reactor *reactor,
                             struct peal_peer peer, int reason, void *arg)
{
	struct served *it = arg;

	(void)reactor;
	(void)peer;
	it->closed_reason = reason;
	__atomic_fetch_add(&it->closed_count, 1, __ATOMIC_RELEASE);
}

static inline struct peal_reactor_options usual_options(void)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;

	options.name = "served";
	options.on_request = serve;
	options.on_opened = on_opened;
	options.on_closed = on_closed;
	options.arg = &served;
	options.ret_failure = &own.failure;
	return options;
}

/* In a child: the number of the first thing that its parent's request lets it do. */
static inline int try_everything(void *arg)
{
	struct peal_request *request = arg;
	void *place;

	if (!peal_request_cancelled(request))
		return 1;
	if (peal_request_retain(request) != -ESTALE)
		return 2;
	if (peal_reply_claim(request, 4, &place) != -ESTALE)
		return 3;
	if (peal_reply_publish(request, 0) != -ESTALE)
		return 4;
	if (peal_reply(request, "from", 4) != -ESTALE)
		return 5;
	peal_request_drop(request);
	return 0;
}

static inline void open_reactor(const struct peal_reactor_options *options)
{
	served = (struct served){0};
	assert_int_equal(peal_reactor_open(options, &served.reactor), 0);
	/* On a busy machine a pass is to take all there is nevertheless. */
	served.reactor->take_ticks = INT64_MAX;
}

static inline void *run_in_background(void *arg)
{
	background.result = peal_reactor_run(arg);
	return NULL;
}

static inline void
open_in_background(const struct peal_reactor_options *options)
{
	open_reactor(options);
	assert_int_equal(pthread_create(&background.thread, NULL,
	                                run_in_background, served.reactor),
	                 0);
}

static inline void join_background(void)
{
	pthread_join(background.thread, NULL);
	assert_int_equal(background.result, 0);
}

/* For a reactor that has a thread of its own. */
static inline void await_word(const uint32_t *word, uint32_t least)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);

	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) < least &&
	       peal__clock_ns() < end_ns)
		sleep_ns(PEAL__NS_PER_MS);
	assert_true(__atomic_load_n(word, __ATOMIC_ACQUIRE) >= least);
}

/* The count-th request that such a reactor has kept. */
static inline struct peal_request *await_kept(uint32_t count)
{
	await_word(&served.kept_count, count);
	return served.kept[count - 1];
}

/* Serve until nothing is left to do. */
static inline void run(void)
{
	for (int i = 0; i < 3; i++)
		peal_reactor_run_once(served.reactor, 0);
}

static inline void run_until(const uint32_t *word, uint32_t value)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);

	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value &&
	       peal__clock_ns() < end_ns)
		peal_reactor_run_once(served.reactor, PEAL__NS_PER_MS);
	assert_int_equal(__atomic_load_n(word, __ATOMIC_ACQUIRE), value);
}

static inline void connect_raw(struct raw_client *raw, uint64_t flags)
{
	uint32_t opened_count = served.opened_count;

	assert_int_equal(raw_connect(raw, "served", 4096, flags), 0);
	run_until(&served.opened_count, opened_count + 1);
}

static inline void leave(struct raw_client *raw)
{
	uint32_t closed_count = served.closed_count;

	raw_close(raw, true);
	run_until(&served.closed_count, closed_count + 1);
}

static inline void close_reactor(void)
{
	uint64_t end_ns = peal__deadline_after(PATIENCE_NS);
	struct peal_reactor_stats stats;
	int error;

	assert_int_equal(peal_reactor_stats(served.reactor, &stats), 0);
	assert_int_equal(stats.received_count,
	                 stats.answered_count + stats.failed_count +
	                         stats.dropped_count + stats.running_count);
	/* A handler that has answered may not have returned yet. */
	while ((error = peal_reactor_close(served.reactor)) == -EBUSY &&
	       peal__clock_ns() < end_ns)
		sleep_ns(PEAL__NS_PER_MS);
	assert_int_equal(error, 0);
	assert_int_equal(served.opened_count, served.closed_count);
}

/* A reactor that has one client. */
static inline void open_reactor_for(struct raw_client *raw,
                                    const struct peal_reactor_options *options)
{
	open_reactor(options);
	connect_raw(raw, 0);
}

static inline void open_usual_for(struct raw_client *raw)
{
	struct peal_reactor_options options = usual_options();

	open_reactor_for(raw, &options);
}

static inline void leave_and_close(struct raw_client *raw)
{
	leave(raw);
	close_reactor();
}

static inline void hear(struct raw_client *raw, enum peal__frame type,
                        uint64_t id, int64_t extension, const char *text)
{
	struct peal_message message;
	struct peal__frame_parts parts;

	assert_int_equal(raw_hear(raw, &message, &parts), 0);
	assert_int_equal(parts.type, type);
	assert_int_equal(message.id, id);
	assert_int_equal((int64_t)parts.extension, extension);
	assert_int_equal(message.data_bytes, strlen(text));
	assert_memory_equal(message.data, text, strlen(text));
}

/* It asks, and has its answer in no time. */
static inline void ask_and_hear(struct raw_client *raw, uint64_t id,
                                const char *text)
{
	assert_int_equal(raw_ask(raw, id, text), 0);
	run();
	hear(raw, PEAL__FRAME_ANSWER, id, 0, text);
}

static inline void hear_nothing(struct raw_client *raw)
{
	assert_false(peal_ring_has_data(&raw->responses));
}

#endif
