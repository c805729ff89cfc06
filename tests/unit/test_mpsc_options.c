/* SPDX-License-Identifier: MIT */
/* Every field at nonsense values: -EINVAL, and a sentence that names it. */
#include "tests/unit/mpsc_fixture.h"

#include <limits.h>
#include <sys/socket.h>

/* Nothing was opened, and it was said why in a sentence with this word. */
static void assert_refused(int error, int expected, const char *named)
{
	if (error != expected || own.failure.code != expected ||
	    strstr(own.failure.text, named) == NULL)
		fail_msg("%d (%d): '%s' does not say '%s'", error,
		         own.failure.code, own.failure.text, named);
	/* A sentence that was cut has not been understood. */
	assert_true(strlen(own.failure.text) < sizeof(own.failure.text) - 1);
	own.failure = (struct peal_failure){0, ""};
}

/* numbers ---------------------------------------------------------------- */

#define CONSUMER(field)                                \
	offsetof(struct peal_consumer_options, field), \
		sizeof(((struct peal_consumer_options *)NULL)->field), #field
#define PRODUCER(field)                                \
	offsetof(struct peal_producer_options, field), \
		sizeof(((struct peal_producer_options *)NULL)->field), #field

struct nonsense {
	size_t offset, bytes;
	const char *field;
	uint64_t value;
};

static const struct nonsense of_consumers[] = {
	{CONSUMER(size), 0},
	{CONSUMER(wait_mode), 2},
	{CONSUMER(wait_mode), UINT32_MAX},
	{CONSUMER(spin_mode), 3},
	{CONSUMER(spin_mode), UINT32_MAX},
	{CONSUMER(spin_ns), 50001},
	{CONSUMER(spin_ns), UINT64_MAX},
	{CONSUMER(producer_max), 0},
	{CONSUMER(producer_max), 4097},
	{CONSUMER(producer_max), UINT32_MAX},
	{CONSUMER(producer_per_uid_max), 4097},
	{CONSUMER(attach_rate_max), 1000001},
	{CONSUMER(turn_budget), 0},
	{CONSUMER(turn_budget), 65537},
	{CONSUMER(ring_min_bytes), 0},
	{CONSUMER(ring_min_bytes), 4095},
	{CONSUMER(ring_min_bytes), UINT64_MAX},
	{CONSUMER(ring_default_bytes), 0},
	{CONSUMER(ring_default_bytes), 2048},
	{CONSUMER(ring_default_bytes), 12288},
	{CONSUMER(ring_default_bytes), UINT64_C(32) << 20},
	{CONSUMER(ring_max_bytes), 0},
	{CONSUMER(ring_max_bytes), (UINT64_C(1) << 30) + 1},
	{CONSUMER(ring_max_bytes), UINT64_MAX},
	{CONSUMER(segment_total_max_bytes), 0},
	{CONSUMER(segment_total_max_bytes), 4095},
	{CONSUMER(memory_flags), 8},
	{CONSUMER(memory_flags), UINT32_MAX},
	{CONSUMER(numa_node), (uint32_t)-2},
	{CONSUMER(numa_node), (uint32_t)INT_MIN},
	{CONSUMER(numa_node), 1023},
	{CONSUMER(numa_node), INT_MAX},
	{CONSUMER(socket_mode), 01000},
	{CONSUMER(socket_mode), UINT32_MAX},
	{CONSUMER(allow_uid_count), 4097},
	{CONSUMER(allow_uid_count), SIZE_MAX},
	{CONSUMER(allow_gid_count), 4097},
	{CONSUMER(listen_fd), (uint32_t)-2},
	{CONSUMER(listen_fd), 1000}, /* not open */
};

static const struct nonsense of_producers[] = {
	{PRODUCER(size), 0},
	{PRODUCER(ring_bytes), 1},
	{PRODUCER(ring_bytes), 2048},
	{PRODUCER(ring_bytes), 12288},
	{PRODUCER(ring_bytes), (UINT64_C(1) << 30) + 1},
	{PRODUCER(ring_bytes), UINT64_C(1) << 31},
	{PRODUCER(ring_bytes), UINT64_MAX},
	{PRODUCER(wait_mode), 2},
	{PRODUCER(spin_mode), 3},
	{PRODUCER(spin_ns), 50001},
	{PRODUCER(reconnect), 2},
};

static void set(void *options, const struct nonsense *nonsense)
{
	/* Little endian: the low bytes of the value come first. */
	memcpy((char *)options + nonsense->offset, &nonsense->value,
	       nonsense->bytes);
}

static void consumer_option_that_makes_no_sense_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(of_consumers); i++) {
		struct peal_consumer_options options = consumer_options();
		struct peal_consumer *consumer = (void *)&options;
		char named[80];

		snprintf(named, sizeof(named), "options.%s",
		         of_consumers[i].field);
		set(&options, &of_consumers[i]);
		errno = OUR_ERRNO;
		assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
		               named);
		assert_int_equal(errno, OUR_ERRNO);
		assert_ptr_equal(consumer, &options);
		assert_int_equal(directory_count(&own.directory), 0);
	}
}

/* The rings are too small by default, and nobody has set them. */
static void huge_pages_alone_name_the_fields_they_ask_for(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer = (void *)&options;
	const char *sentence =
		"options.memory_flags has PEAL_MEMORY_HUGE: ring_min_bytes and "
		"ring_default_bytes must be at least 2097152";

	(void)state;
	options.memory_flags = PEAL_MEMORY_HUGE;
	assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
	               sentence);
	options.ring_min_bytes = 2 << 20;
	assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
	               sentence);
	/* The smallest that are large enough. */
	options.ring_default_bytes = 2 << 20;
	assert_int_equal(peal_consumer_open(&options, &consumer), 0);
	peal_consumer_close(consumer);
}

/* 65534, unless somebody has changed it. */
static uint32_t overflow_id(const char *which)
{
	char path[64];
	unsigned int id = 65534;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/kernel/%s", which);
	file = fopen(path, "r");
	if (file != NULL && fscanf(file, "%u", &id) != 1)
		id = 65534;
	if (file != NULL)
		fclose(file);
	return id;
}

static void user_who_is_never_let_in_cannot_be_on_the_list(void **state)
{
	const uint32_t uids[] = {1000, overflow_id("overflowuid")};
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;

	(void)state;
	options.allow_uid = uids;
	options.allow_uid_count = 2;
	errno = OUR_ERRNO;
	assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
	               "options.allow_uid has user");
	assert_int_equal(errno, OUR_ERRNO);
	options.allow_uid_count = 1;
	assert_int_equal(peal_consumer_open(&options, &consumer), 0);
	peal_consumer_close(consumer);
}

/* It would stand for the groups of every namespace. */
static void group_that_may_be_any_cannot_be_on_the_list(void **state)
{
	const uint32_t gids[] = {1000, overflow_id("overflowgid")};
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;

	(void)state;
	options.allow_gid = gids;
	options.allow_gid_count = 2;
	errno = OUR_ERRNO;
	assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
	               "options.allow_gid has group");
	assert_int_equal(errno, OUR_ERRNO);
	options.allow_gid_count = 1;
	assert_int_equal(peal_consumer_open(&options, &consumer), 0);
	peal_consumer_close(consumer);
}

static void producer_option_that_makes_no_sense_is_named(void **state)
{
	struct peal_consumer *consumer = open_consumer();

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(of_producers); i++) {
		struct peal_producer_options options = producer_options();
		struct peal_producer *producer = (void *)&options;
		char named[80];

		snprintf(named, sizeof(named), "options.%s",
		         of_producers[i].field);
		set(&options, &of_producers[i]);
		errno = OUR_ERRNO;
		assert_refused(peal_producer_attach(&options, PATIENCE_NS,
		                                    &producer),
		               -EINVAL, named);
		assert_int_equal(errno, OUR_ERRNO);
		assert_ptr_equal(producer, &options);
	}
	assert_int_equal(stats_of(consumer).refused_count, 0);
	peal_consumer_close(consumer);
}

static void nonsense_without_a_place_for_the_sentence_is_einval(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer;
	struct peal_producer *producer;

	(void)state;
	options.ret_failure = NULL;
	options.turn_budget = 0;
	assert_int_equal(peal_consumer_open(&options, &consumer), -EINVAL);
	others.ret_failure = NULL;
	others.spin_mode = 9;
	assert_int_equal(peal_producer_attach(&others, 0, &producer), -EINVAL);
	others = producer_options();
	others.ret_failure = NULL;
	assert_int_equal(peal_producer_attach(&others, 0, &producer),
	                 -ECONNREFUSED);
}

static void missing_arguments_are_einval(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *producer;

	(void)state;
	assert_int_equal(peal_consumer_open(NULL, &consumer), -EINVAL);
	assert_int_equal(peal_producer_attach(NULL, 0, &producer), -EINVAL);
	options.name = "others";
	assert_refused(peal_consumer_open(&options, NULL), -EINVAL,
	               "ret_consumer");
	assert_refused(peal_producer_attach(&others, PATIENCE_NS, NULL),
	               -EINVAL, "ret_producer");
	assert_int_equal(peal_consumer_close(NULL), 0);
	assert_int_equal(peal_producer_detach(NULL), 0);
	peal_consumer_close(consumer);
}

/* Its own field cannot be trusted to be where it should be. */
static void options_of_nonsense_size_are_not_followed(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	struct peal_consumer *consumer;
	struct peal_producer *producer;

	(void)state;
	options.ret_failure = (struct peal_failure *)16; /* not a place */
	others.ret_failure = (struct peal_failure *)16;
	for (size_t size = 1; size < 5000; size += 4900) {
		options.size = size;
		others.size = size;
		assert_int_equal(peal_consumer_open(&options, &consumer),
		                 -EINVAL);
		assert_int_equal(peal_producer_attach(&others, 0, &producer),
		                 -EINVAL);
	}
}

/* A program that was built against a later header. */
static void later_fields_are_refused_when_they_are_set(void **state)
{
	struct {
		struct peal_consumer_options known;
		uint64_t later;
	} options = {consumer_options(), 1};
	struct peal_consumer *consumer;

	(void)state;
	options.known.size = sizeof(options);
	assert_refused(peal_consumer_open(&options.known, &consumer), -EINVAL,
	               "does not know");
	options.later = 0;
	assert_int_equal(peal_consumer_open(&options.known, &consumer), 0);
	peal_consumer_close(consumer);
}

/* lists ------------------------------------------------------------------ */

static void list_without_its_members_is_named(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;

	(void)state;
	options.allow_uid_count = 1;
	assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
	               "options.allow_uid");
	options = consumer_options();
	options.allow_gid_count = 1;
	assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
	               "allow_gid");
}

/* names ------------------------------------------------------------------ */

static void bad_name_is_named_by_both(void **state)
{
	static const char *const names[] = {
		NULL,
		"",
		"a b",
		"\xc3\xa4",
		".hidden",
		"a.lock",
		"n123456789n123456789n123456789n123456789n123456789n12345678901"
		"n1234",
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(names); i++) {
		struct peal_consumer_options options = consumer_options();
		struct peal_producer_options others = producer_options();
		struct peal_consumer *consumer;
		struct peal_producer *producer;

		options.name = others.name = names[i];
		assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
		               "options.name");
		assert_refused(peal_producer_attach(&others, 0, &producer),
		               -EINVAL, "options.name");
	}
}

static void server_in_a_missing_directory_has_a_sentence(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	char path[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/not/words", own.directory.path);
	options.name = path;
	assert_refused(peal_consumer_open(&options, &consumer), -ENOENT, path);
}

/* a listener that was given ----------------------------------------------- */

static void descriptor_that_does_not_listen_is_named(void **state)
{
	int fds[] = {
		open("/dev/null", O_RDWR | O_CLOEXEC),
		socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
	};

	(void)state;
	/* The first one is none of its kind, though it listens. */
	listen(fds[2], 1);
	for (size_t i = 0; i < CHECK_COUNT(fds); i++) {
		struct peal_consumer_options options = consumer_options();
		struct peal_consumer *consumer;

		options.listen_fd = fds[i];
		assert_refused(peal_consumer_open(&options, &consumer), -EINVAL,
		               "options.listen_fd");
		assert_int_equal(close(fds[i]), 0);
	}
}

static void success_leaves_the_failure_alone(void **state)
{
	struct peal_consumer *consumer;
	struct peal_producer *producer;

	(void)state;
	own.failure = (struct peal_failure){17, "untouched"};
	errno = OUR_ERRNO;
	consumer = open_consumer();
	producer = attach();
	assert_int_equal(peal_producer_detach(producer), 0);
	assert_int_equal(peal_consumer_close(consumer), 0);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(own.failure.code, 17);
	assert_string_equal(own.failure.text, "untouched");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(huge_pages_alone_name_the_fields_they_ask_for),
		TEST(user_who_is_never_let_in_cannot_be_on_the_list),
		TEST(group_that_may_be_any_cannot_be_on_the_list),
		TEST(consumer_option_that_makes_no_sense_is_named),
		TEST(producer_option_that_makes_no_sense_is_named),
		TEST(nonsense_without_a_place_for_the_sentence_is_einval),
		TEST(missing_arguments_are_einval),
		TEST(options_of_nonsense_size_are_not_followed),
		TEST(later_fields_are_refused_when_they_are_set),
		TEST(list_without_its_members_is_named),
		TEST(bad_name_is_named_by_both),
		TEST(server_in_a_missing_directory_has_a_sentence),
		TEST(descriptor_that_does_not_listen_is_named),
		TEST(success_leaves_the_failure_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
