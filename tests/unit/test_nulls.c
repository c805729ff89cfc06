/* SPDX-License-Identifier: MIT */
/*
 * The rule of peal/base.h about NULL, for every function of the library that it
 * says something of: what ends takes it, what opens and what tells refuses it,
 * and there is no data where there are no bytes.
 */
#include "tests/unit/mpsc_fixture.h"

#include "peal.h"

static struct peal_reactor *reactor;
static struct peal_client *client;
static uint32_t pushed_count;

static void serve(struct peal_request *request, void *arg)
{
	size_t bytes;
	const char *data = peal_request_data(request, &bytes);

	(void)arg;
	/* The bytes alone may be what is asked for, and nothing may be. */
	if (peal_request_data(request, NULL) != data)
		peal_reply_error(request, -EPROTO);
	else if (bytes == 0)
		peal_reply(request, NULL, 0);
	else
		peal_reply_status(request, 1, NULL, 0);
}

static void take_push(const struct peal_message *push, void *arg)
{
	(void)arg;
	pushed_count += push->data_bytes == 0;
}

static void *run_reactor(void *arg)
{
	peal_reactor_run(arg);
	return NULL;
}

static void push_nothing(void *arg)
{
	(void)arg;
	if (peal_reactor_push_all(reactor, NULL, 0) != 1)
		abort();
	if (peal_reactor_call(reactor, (struct peal_peer){0, 0}, NULL, 0, 0,
	                      NULL, NULL) != -EINVAL)
		abort();
}

static void open_all(void)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;

	options.name = wish.name = "nulls";
	options.on_request = serve;
	wish.on_push = take_push;
	assert_int_equal(peal_reactor_open(&options, &reactor), 0);
	assert_int_equal(peal_client_connect(&wish, PATIENCE_NS, &client), 0);
}

static void close_all(void)
{
	assert_int_equal(peal_client_close(client), 0);
	assert_int_equal(peal_reactor_close(reactor), 0);
}

static void null_is_fine_for_what_ends_something(void **state)
{
	(void)state;
	assert_int_equal(peal_consumer_close(NULL), 0);
	assert_int_equal(peal_producer_detach(NULL), 0);
	assert_int_equal(peal_reactor_close(NULL), 0);
	assert_int_equal(peal_client_close(NULL), 0);
	peal_observer_close(NULL);
	peal_shm_unmap(NULL);
	peal_request_drop(NULL);
}

static void what_opens_refuses_null(void **state)
{
	struct peal_consumer_options consumer = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_producer_options producer = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_reactor_options for_reactor = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_client_options for_client = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_shm_options shm = PEAL_SHM_OPTIONS_INIT;
	struct peal_shm_span span = {0, 4096, 1};
	struct peal_shm_mapping mapping;
	struct peal_consumer *made_consumer;
	struct peal_producer *made_producer;
	struct peal_reactor *made_reactor;
	struct peal_observer *observer;
	struct peal_client *made_client;
	int fd;

	(void)state;
	consumer.name = producer.name = for_reactor.name = "nulls";
	for_client.name = "nulls";
	for_reactor.on_request = serve;
	shm.bytes = 4096;
	assert_int_equal(peal_consumer_open(NULL, &made_consumer), -EINVAL);
	assert_int_equal(peal_consumer_open(&consumer, NULL), -EINVAL);
	assert_int_equal(peal_producer_attach(NULL, 0, &made_producer),
	                 -EINVAL);
	assert_int_equal(peal_producer_attach(&producer, 0, NULL), -EINVAL);
	assert_int_equal(peal_reactor_open(NULL, &made_reactor), -EINVAL);
	assert_int_equal(peal_reactor_open(&for_reactor, NULL), -EINVAL);
	assert_int_equal(peal_client_connect(NULL, 0, &made_client), -EINVAL);
	assert_int_equal(peal_client_connect(&for_client, 0, NULL), -EINVAL);
	assert_int_equal(peal_observer_open(NULL, 0, NULL, &observer), -EINVAL);
	assert_int_equal(peal_observer_open("nulls", 0, NULL, NULL), -EINVAL);
	assert_int_equal(peal_observer_each(NULL, NULL), -EINVAL);
	assert_int_equal(peal_shm_create(NULL, &fd, NULL), -EINVAL);
	assert_int_equal(peal_shm_create(&shm, NULL, NULL), -EINVAL);
	assert_int_equal(peal_shm_map(0, NULL, 1, 0, &mapping), -EINVAL);
	assert_int_equal(peal_shm_map(0, &span, 1, 0, NULL), -EINVAL);
}

static void what_tells_numbers_refuses_null(void **state)
{
	struct peal_server_info server;
	struct peal_slot_info slot;
	struct peal_client_stats stats;
	struct peal_observer *observer;
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();

	(void)state;
	open_all();
	assert_int_equal(peal_client_stats(client, &stats), 0);
	assert_int_equal(peal_consumer_stats(consumer, NULL), -EINVAL);
	assert_int_equal(peal_consumer_peer_info(consumer, stats.self, NULL),
	                 -EINVAL);
	assert_int_equal(peal_producer_stats(producer, NULL), -EINVAL);
	assert_int_equal(peal_client_stats(client, NULL), -EINVAL);
	assert_int_equal(peal_reactor_stats(reactor, NULL), -EINVAL);
	assert_int_equal(peal_reactor_peer_info(reactor, stats.self, NULL),
	                 -EINVAL);
	assert_int_equal(peal_reactor_post(reactor, NULL, NULL), -EINVAL);
	assert_int_equal(
		peal_observer_open("nulls", PATIENCE_NS, NULL, &observer), 0);
	assert_int_equal(peal_observer_server(observer, NULL), -EINVAL);
	assert_int_equal(peal_observer_slot(observer, 0, NULL), -EINVAL);
	assert_int_equal(peal_observer_server(NULL, &server), -EINVAL);
	assert_int_equal(peal_observer_slot(NULL, 0, &slot), -EINVAL);
	assert_int_equal(peal_observer_refresh(NULL, 0), -EINVAL);
	peal_observer_close(observer);
	close_all();
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void no_bytes_need_no_data(void **state)
{
	struct peal_part nothing = {NULL, 0};
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer = attach();
	struct peal_message message;
	pthread_t thread;
	uint64_t end_ns = now_ns() + PATIENCE_NS;

	(void)state;
	assert_int_equal(peal_producer_send(producer, NULL, 0, 0), 0);
	assert_int_equal(peal_producer_sendv(producer, &nothing, 1, 0), 0);
	assert_int_equal(peal_producer_sendv(producer, NULL, 0, 0), 0);
	assert_int_equal(peal_producer_send_batch(producer, &nothing, 1, 0), 1);
	for (int i = 0; i < 4; i++)
		assert_int_equal(next_message(consumer).data_bytes, 0);
	open_all();
	assert_int_equal(pthread_create(&thread, NULL, run_reactor, reactor),
	                 0);
	assert_int_equal(
		peal_client_call(client, NULL, 0, PATIENCE_NS, &message), 0);
	assert_int_equal(message.status, 0);
	assert_int_equal(
		peal_client_call(client, "x", 1, PATIENCE_NS, &message), 0);
	assert_int_equal(message.status, 1);
	assert_int_equal(peal_client_tell(client, NULL, 0, PATIENCE_NS), 0);
	assert_int_equal(peal_client_send(client, NULL, 0, PEAL_FOREVER,
	                                  PATIENCE_NS, NULL),
	                 0);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &message), 0);
	assert_int_equal(peal_reactor_post(reactor, push_nothing, NULL), 0);
	while (pushed_count == 0 && now_ns() < end_ns)
		assert_int_equal(peal_client_recv(client, MS, &message),
		                 -ETIMEDOUT);
	assert_int_equal(pushed_count, 1);
	peal_reactor_stop(reactor, SECOND);
	pthread_join(thread, NULL);
	close_all();
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(null_is_fine_for_what_ends_something),
		TEST(what_opens_refuses_null),
		TEST(what_tells_numbers_refuses_null),
		TEST(no_bytes_need_no_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
