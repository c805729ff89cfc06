/* SPDX-License-Identifier: MIT */
/*
 * Whoever gets -EMSGSIZE can ask how much would have been right: a byte more than
 * each limit is refused, and the limit itself arrives.
 */
#include "tests/unit/mpsc_fixture.h"

#include "peal.h"

static struct {
	struct peal_reactor *reactor;
	struct peal_peer peer;
	size_t reply_max, message_max, upcall_max;
	int too_large, too_large_claim, too_large_push, too_large_call;
	int too_large_upcall, upcall_error;
	size_t upcall_bytes, pushed_bytes;
	uint32_t answered_count;
	char bytes[1 << 17];
} limits;

static void on_upcall_answer(int error, const struct peal_message *answer,
                             void *arg)
{
	(void)arg;
	limits.upcall_error = error;
	limits.upcall_bytes = error == 0 ? answer->data_bytes : 0;
	__atomic_fetch_add(&limits.answered_count, 1, __ATOMIC_RELEASE);
}

/* "p": push as much as there can be; "c": call; else answer so. */
static void serve(struct peal_request *request, void *arg)
{
	struct peal_peer peer = peal_request_peer(request);
	const char *data = peal_request_data(request, NULL);
	size_t most = peal_reactor_message_max(limits.reactor, peer);
	void *place;

	(void)arg;
	limits.message_max = most;
	limits.reply_max = peal_reply_max(request);
	if (data[0] == 'p') {
		limits.too_large_push = peal_reactor_push(
			limits.reactor, peer, limits.bytes, most + 1);
		if (peal_reactor_push(limits.reactor, peer, limits.bytes,
		                      most) < 0)
			abort();
	} else if (data[0] == 'c') {
		limits.too_large_call = peal_reactor_call(
			limits.reactor, peer, limits.bytes, most + 1,
			PEAL_FOREVER, on_upcall_answer, NULL);
		if (peal_reactor_call(limits.reactor, peer, "?", 1,
		                      PEAL_FOREVER, on_upcall_answer, NULL) < 0)
			abort();
	} else {
		limits.too_large =
			peal_reply(request, limits.bytes, limits.reply_max + 1);
		limits.too_large_claim =
			peal_reply_claim(request, limits.reply_max + 1, &place);
		peal_reply(request, limits.bytes, limits.reply_max);
		return;
	}
	peal_reply(request, NULL, 0);
}

static void take_push(const struct peal_message *push, void *arg)
{
	(void)arg;
	limits.pushed_bytes = push->data_bytes;
}

static void answer_upcall(struct peal_request *request, void *arg)
{
	(void)arg;
	limits.upcall_max = peal_reply_max(request);
	limits.too_large_upcall =
		peal_reply(request, limits.bytes, limits.upcall_max + 1);
	peal_reply(request, limits.bytes, limits.upcall_max);
}

static void on_opened(struct peal_reactor *reactor, struct peal_peer peer,
                      void *arg)
{
	(void)reactor;
	(void)arg;
	limits.peer = peer;
}

static void *run_reactor(void *arg)
{
	peal_reactor_run(arg);
	return NULL;
}

static void reactor_and_client_tell_their_limits(void **state)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_message answer;
	struct peal_client *client;
	pthread_t thread;
	uint64_t end_ns = now_ns() + PATIENCE_NS;
	size_t most;

	(void)state;
	options.name = wish.name = "limits";
	options.on_request = serve;
	options.on_opened = on_opened;
	wish.on_push = take_push;
	wish.on_request = answer_upcall;
	wish.request_ring_bytes = 1 << 14;
	wish.response_ring_bytes = 1 << 16;
	assert_int_equal(peal_reactor_open(&options, &limits.reactor), 0);
	assert_int_equal(
		pthread_create(&thread, NULL, run_reactor, limits.reactor), 0);
	assert_int_equal(peal_client_connect(&wish, PATIENCE_NS, &client), 0);
	most = peal_client_message_max(client);
	assert_int_equal(peal_client_call(client, limits.bytes, most + 1,
	                                  PATIENCE_NS, &answer),
	                 -EMSGSIZE);
	assert_int_equal(peal_client_call(client, limits.bytes, most,
	                                  PATIENCE_NS, &answer),
	                 0);
	assert_int_equal(answer.data_bytes, limits.reply_max);
	assert_int_equal(limits.reply_max, (1 << 16) - 40);
	assert_int_equal(limits.too_large, -EMSGSIZE);
	assert_int_equal(limits.too_large_claim, -EMSGSIZE);
	assert_int_equal(peal_client_call(client, "p", 1, PATIENCE_NS, &answer),
	                 0);
	assert_int_equal(limits.too_large_push, -EMSGSIZE);
	assert_int_equal(limits.pushed_bytes, limits.message_max);
	assert_int_equal(peal_client_call(client, "c", 1, PATIENCE_NS, &answer),
	                 0);
	while (__atomic_load_n(&limits.answered_count, __ATOMIC_ACQUIRE) == 0 &&
	       now_ns() < end_ns)
		assert_int_equal(peal_client_recv(client, MS, &answer),
		                 -ETIMEDOUT);
	assert_int_equal(limits.too_large_call, -EMSGSIZE);
	assert_int_equal(limits.too_large_upcall, -EMSGSIZE);
	assert_int_equal(limits.upcall_error, 0);
	assert_int_equal(limits.upcall_bytes, limits.upcall_max);
	/* Nobody's, and nobody else's thread. */
	assert_int_equal(peal_reactor_message_max(limits.reactor, limits.peer),
	                 0);
	peal_client_close(client);
	peal_reactor_stop(limits.reactor, SECOND);
	pthread_join(thread, NULL);
	assert_int_equal(peal_reactor_close(limits.reactor), 0);
}

static void ring_that_is_not_given_is_told_with_its_limits(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer;

	(void)state;
	options.ring_bytes = UINT64_C(64) << 20;
	assert_int_equal(peal_producer_attach(&options, PATIENCE_NS, &producer),
	                 -EMSGSIZE);
	assert_string_equal(own.failure.text,
	                    "ring_bytes is 67108864; this server allows 4096 "
	                    "to 16777216, its ring_min_bytes and "
	                    "ring_max_bytes");
	peal_consumer_close(consumer);
}

static void producer_tells_its_limit(void **state)
{
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	size_t most = peal_producer_message_max(producer);
	void *place;

	(void)state;
	assert_int_equal(peal_producer_claim(producer, most + 1, 0, &place),
	                 -EMSGSIZE);
	assert_int_equal(peal_producer_send(producer, limits.bytes, most + 1,
	                                    0),
	                 -EMSGSIZE);
	assert_int_equal(peal_producer_send(producer, limits.bytes, most, 0),
	                 0);
	assert_int_equal(next_message(consumer).data_bytes, most);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reactor_and_client_tell_their_limits),
		TEST(ring_that_is_not_given_is_told_with_its_limits),
		TEST(producer_tells_its_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
