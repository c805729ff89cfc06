/* SPDX-License-Identifier: MIT */
/* Whoever comes before the server: is it told so at once, or does it wait? */
#include "tests/unit/mpsc_fixture.h"

#include "peal.h"

/* The longest that "at once" may take on a busy machine. */
#define SOON_NS (10 * SECOND)

static uint32_t is_over;

static struct peal_producer_options waiting_options(void)
{
	struct peal_producer_options options = producer_options();

	options.wait_for_server = 1;
	own.failure = (struct peal_failure){7, "untouched"};
	return options;
}

/* A server that comes when somebody is waiting for it, or seems to be. */
static void *come_late(void *arg)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer **ret_consumer = arg;

	options.ret_failure = NULL;
	sleep_ns(60 * MS);
	if (peal_consumer_open(&options, ret_consumer) != 0)
		*ret_consumer = NULL;
	return NULL;
}

static void without_the_option_nobody_is_waited_for(void **state)
{
	struct peal_producer_options options = producer_options();
	struct peal_client_options wish = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_producer *producer;
	struct peal_client *client;
	uint64_t start_ns = now_ns();

	(void)state;
	wish.name = "words";
	assert_int_equal(peal_producer_attach(&options, PEAL_FOREVER,
	                                      &producer),
	                 -ECONNREFUSED);
	assert_int_equal(peal_client_connect(&wish, PEAL_FOREVER, &client),
	                 -ECONNREFUSED);
	assert_true(now_ns() - start_ns < SOON_NS);
}

static void producer_waits_for_the_server_to_come_up(void **state)
{
	struct peal_producer_options options = waiting_options();
	struct peal_consumer *consumer = NULL;
	struct peal_producer *producer;
	pthread_t thread;
	int error;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, come_late, &consumer),
	                 0);
	errno = OUR_ERRNO;
	error = peal_producer_attach(&options, PATIENCE_NS, &producer);
	assert_int_equal(errno, OUR_ERRNO);
	pthread_join(thread, NULL);
	assert_int_equal(error, 0);
	/* Looks that found nobody are no failure. */
	assert_int_equal(own.failure.code, 7);
	assert_string_equal(own.failure.text, "untouched");
	assert_int_equal(send_text(producer, "here"), 0);
	expect(consumer, "here");
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void answer(struct peal_request *request, void *arg)
{
	(void)arg;
	peal_reply(request, "here", 4);
}

static void *serve_late(void *arg)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_reactor *reactor;

	options.name = "words";
	options.on_request = answer;
	sleep_ns(60 * MS);
	if (peal_reactor_open(&options, &reactor) != 0)
		return arg;
	while (!flag_is_set(&is_over))
		peal_reactor_run_once(reactor, MS);
	peal_reactor_close(reactor);
	return NULL;
}

static void client_waits_for_the_server_to_come_up(void **state)
{
	struct peal_client_options options = PEAL_CLIENT_OPTIONS_INIT;
	struct peal_message message;
	struct peal_client *client;
	pthread_t thread;
	void *result;
	int error;

	(void)state;
	is_over = 0;
	options.name = "words";
	options.wait_for_server = 1;
	assert_int_equal(pthread_create(&thread, NULL, serve_late, &is_over),
	                 0);
	error = peal_client_connect(&options, PATIENCE_NS, &client);
	if (error == 0)
		error = peal_client_call(client, "?", 1, PATIENCE_NS, &message);
	flag_set(&is_over);
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(error, 0);
	assert_text(&message, "here");
	peal_client_close(client);
}

static void wait_ends_with_its_time_and_says_who_was_missing(void **state)
{
	struct peal_producer_options options = waiting_options();
	struct peal_producer *producer = NULL;
	uint64_t start_ns = now_ns();

	(void)state;
	assert_int_equal(peal_producer_attach(&options, 0, &producer),
	                 -ECONNREFUSED);
	assert_true(now_ns() - start_ns < SOON_NS);
	start_ns = now_ns();
	assert_int_equal(peal_producer_attach(&options, 70 * MS, &producer),
	                 -ECONNREFUSED);
	assert_true(now_ns() - start_ns >= 70 * MS);
	assert_true(now_ns() - start_ns < SOON_NS);
	assert_null(producer);
	assert_int_equal(own.failure.code, -ECONNREFUSED);
	assert_non_null(strstr(own.failure.text, "'words'"));
}

static void what_waiting_cannot_mend_is_told_at_once(void **state)
{
	struct peal_producer_options options = waiting_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer;
	uint64_t start_ns = now_ns();

	(void)state;
	options.ring_bytes = UINT64_C(64) << 20; /* more than it gives */
	assert_int_equal(peal_producer_attach(&options, PEAL_FOREVER,
	                                      &producer),
	                 -EMSGSIZE);
	options = waiting_options();
	options.name = "no/such/directory/\xff";
	options.ring_bytes = 3;
	assert_int_equal(peal_producer_attach(&options, PEAL_FOREVER,
	                                      &producer),
	                 -EINVAL);
	options = waiting_options();
	options.wait_for_server = 2;
	assert_int_equal(peal_producer_attach(&options, PEAL_FOREVER,
	                                      &producer),
	                 -EINVAL);
	assert_non_null(strstr(own.failure.text, "wait_for_server"));
	assert_true(now_ns() - start_ns < SOON_NS);
	peal_consumer_close(consumer);
}

/* A server that lets people in and answers nobody, until it dies. */
static int let_in_and_die(void *arg)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;

	options.wait_mode = PEAL_WAIT_FD;
	if (peal_consumer_open(&options, &consumer) != 0)
		return 1;
	flag_set(arg);
	sleep_ns(60 * MS);
	raise(SIGKILL);
	return 2;
}

struct succession {
	uint32_t *is_open;
	int first; /* how it ended */
	struct peal_consumer *second;
};

static void *reign(void *arg)
{
	struct succession *succession = arg;

	succession->first = check_in_child(let_in_and_die, succession->is_open);
	return come_late(&succession->second);
}

static void server_that_dies_before_it_answers_is_not_the_last_one(void **state)
{
	struct peal_producer_options options = waiting_options();
	struct succession succession = {.is_open = shared_open(4)};
	struct peal_producer *producer;
	pthread_t thread;
	int error;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, reign, &succession), 0);
	assert_true(flag_wait(succession.is_open));
	error = peal_producer_attach(&options, PATIENCE_NS, &producer);
	pthread_join(thread, NULL);
	assert_int_equal(succession.first, CHECK_KILLED_BY + SIGKILL);
	assert_int_equal(error, 0);
	assert_int_equal(send_text(producer, "here"), 0);
	expect(succession.second, "here");
	peal_producer_detach(producer);
	peal_consumer_close(succession.second);
	munmap(succession.is_open, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_the_option_nobody_is_waited_for),
		TEST(producer_waits_for_the_server_to_come_up),
		TEST(client_waits_for_the_server_to_come_up),
		TEST(wait_ends_with_its_time_and_says_who_was_missing),
		TEST(what_waiting_cannot_mend_is_told_at_once),
		TEST(server_that_dies_before_it_answers_is_not_the_last_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
