/* SPDX-License-Identifier: MIT */
/*
 * Every struct of options begins with its size: what becomes of a wrong one is
 * the same for all of them, and what peal/base.h says.
 */
#include "tests/unit/mpsc_fixture.h"

#include "peal.h"

/* More than any of them has, so that it can pretend to come from a later header,
 * and zero where that would have fields. */
union any {
	size_t size;
	struct peal_shm_options shm;
	struct peal_consumer_options consumer;
	struct peal_producer_options producer;
	struct peal_reactor_options reactor;
	struct peal_client_options client;
	unsigned char bytes[8192];
};

/* The handle of a struct that was taken; nobody opens one here. */
union handle {
	struct peal_consumer *consumer;
	struct peal_producer *producer;
	struct peal_reactor *reactor;
	struct peal_client *client;
	int fd;
};

static int create_shm(const union any *any, union handle *handle)
{
	return peal_shm_create(&any->shm, &handle->fd, NULL);
}

static int open_consumer_with(const union any *any, union handle *handle)
{
	return peal_consumer_open(&any->consumer, &handle->consumer);
}

static int attach_producer(const union any *any, union handle *handle)
{
	return peal_producer_attach(&any->producer, 0, &handle->producer);
}

static int open_reactor_with(const union any *any, union handle *handle)
{
	return peal_reactor_open(&any->reactor, &handle->reactor);
}

static int connect_client(const union any *any, union handle *handle)
{
	return peal_client_connect(&any->client, 0, &handle->client);
}

static const struct peal_shm_options shm = PEAL_SHM_OPTIONS_INIT;
static const struct peal_consumer_options consumer = PEAL_CONSUMER_OPTIONS_INIT;
static const struct peal_producer_options producer = PEAL_PRODUCER_OPTIONS_INIT;
static const struct peal_reactor_options reactor = PEAL_REACTOR_OPTIONS_INIT;
static const struct peal_client_options client = PEAL_CLIENT_OPTIONS_INIT;

/* As initialised each is refused for want of a name, a handler or bytes: that
 * its size is taken shows in what the sentence is about. */
static const struct {
	const char *name;
	const void *initial;
	size_t bytes, failure_offset;
	int (*open)(const union any *any, union handle *handle);
	const char *next_complaint;
} kinds[] = {
	{"shm", &shm, sizeof(shm),
         offsetof(struct peal_shm_options, ret_failure), create_shm,
         "options.bytes"},
	{"consumer", &consumer, sizeof(consumer),
         offsetof(struct peal_consumer_options, ret_failure),
         open_consumer_with, "options.name"},
	{"producer", &producer, sizeof(producer),
         offsetof(struct peal_producer_options, ret_failure), attach_producer,
         "options.name"},
	{"reactor", &reactor, sizeof(reactor),
         offsetof(struct peal_reactor_options, ret_failure), open_reactor_with,
         "options.on_request"},
	{"client", &client, sizeof(client),
         offsetof(struct peal_client_options, ret_failure), connect_client,
         "options.name"},
};

/* Refused, and what it complained of; "" for nothing. */
static const char *complaint(size_t kind, size_t size, const void *place,
                             const union any *later)
{
	union any any;
	union handle handle;

	memset(&any, 0, sizeof(any));
	memset(&handle, 0, sizeof(handle));
	own.failure = (struct peal_failure){0, ""};
	if (later != NULL)
		any = *later;
	memcpy(&any, kinds[kind].initial, kinds[kind].bytes);
	any.size = size;
	memcpy(any.bytes + kinds[kind].failure_offset, &place, sizeof(place));
	assert_int_equal(kinds[kind].open(&any, &handle), -EINVAL);
	return own.failure.text;
}

static void expect_complaint(size_t kind, size_t size, const union any *later,
                             const char *about)
{
	const char *text = complaint(kind, size, &own.failure, later);

	if (strstr(text, about) == NULL)
		fail_msg("%s of size %zu: %s", kinds[kind].name, size, text);
}

static void size_of_zero_is_told(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(kinds); i++)
		expect_complaint(i, 0, NULL,
		                 "options.size is 0; begin with the _INIT of "
		                 "this struct");
}

/* Not even its ret_failure is where it should be: here it is no place at all. */
static void size_that_is_noise_is_einval_and_nothing_is_followed(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(kinds); i++) {
		const size_t sizes[] = {
			1,
			sizeof(size_t),
			kinds[i].failure_offset,
			kinds[i].failure_offset + sizeof(void *) - 1,
			4097,
			SIZE_MAX,
		};

		for (size_t j = 0; j < CHECK_COUNT(sizes); j++)
			assert_string_equal(
				complaint(i, sizes[j], (void *)16, NULL), "");
	}
}

static void size_of_this_header_is_taken(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(kinds); i++)
		expect_complaint(i, kinds[i].bytes, NULL,
		                 kinds[i].next_complaint);
}

static void
size_of_a_later_header_is_taken_unless_it_asks_for_more(void **state)
{
	union any later;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(kinds); i++) {
		memset(&later, 0, sizeof(later));
		expect_complaint(i, 4096, &later, kinds[i].next_complaint);
		later.bytes[4095] = 1;
		expect_complaint(i, 4096, &later,
		                 "the options set a field that peal");
		expect_complaint(i, 4095, &later, kinds[i].next_complaint);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(size_of_zero_is_told),
		TEST(size_that_is_noise_is_einval_and_nothing_is_followed),
		TEST(size_of_this_header_is_taken),
		TEST(size_of_a_later_header_is_taken_unless_it_asks_for_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
