/* SPDX-License-Identifier: MIT */
/* Who comes in, who does not, and what it is told. */
#include "tests/unit/mpsc_fixture.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "mpsc/wire.h"

/* Attach and be turned away, with a sentence that says this. */
static void assert_turned_away(const struct peal_producer_options *options,
                               int expected, const char *sentence)
{
	struct peal_producer *producer = (void *)&own;
	int error;

	own.failure = (struct peal_failure){0, ""};
	errno = OUR_ERRNO;
	error = peal_producer_attach(options, PATIENCE_NS, &producer);
	if (error != expected || own.failure.code != expected ||
	    strstr(own.failure.text, sentence) == NULL)
		fail_msg("%d (%d): '%s' does not say '%s'", error,
		         own.failure.code, own.failure.text, sentence);
	assert_int_equal(errno, OUR_ERRNO);
	assert_ptr_equal(producer, &own);
}

/* names ------------------------------------------------------------------ */

static void attach_to_nobody_is_refused(void **state)
{
	struct peal_producer_options options = producer_options();
	char path[100];

	(void)state;
	/* And in which directories: the server's may be another one. */
	snprintf(path, sizeof(path), "the name 'words' in %s",
	         own.directory.path);
	assert_turned_away(&options, -ECONNREFUSED, path);
	snprintf(path, sizeof(path), "%s/words", own.directory.path);
	options.name = path;
	assert_turned_away(&options, -ECONNREFUSED, path);
	options.name = "/not/there/at/all";
	assert_turned_away(&options, -ECONNREFUSED, options.name);
	/* Where that is too much for one sentence it is left out whole. */
	options.name = "words";
	memset(path, 'd', sizeof(path));
	path[0] = '/';
	path[90] = '\0';
	setenv("PEAL_RUNTIME_DIR", path, 1);
	assert_turned_away(&options, -ECONNREFUSED,
	                   "the name 'words'; 'shmctl list' shows");
	setenv("PEAL_RUNTIME_DIR", own.directory.path, 1);
}

static void attach_to_what_a_dead_server_left_is_refused(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct peal_producer_options options = producer_options();
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/words",
	         own.directory.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	close(fd);
	assert_turned_away(&options, -ECONNREFUSED, "words");
	unlink(address.sun_path);
	/* A file that never was a socket has no server either. */
	directory_write(address.sun_path, "");
	assert_turned_away(&options, -ECONNREFUSED, "words");
	unlink(address.sun_path);
}

static void server_is_found_by_its_name_and_by_its_path(void **state)
{
	struct peal_producer_options options = producer_options();
	struct peal_consumer *consumer = open_consumer();
	struct peal_producer *by_name = attach(), *by_path;
	char path[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/words", own.directory.path);
	options.name = path;
	by_path = attach_with(&options);
	assert_int_equal(send_text(by_name, "a"), 0);
	expect(consumer, "a");
	assert_int_equal(send_text(by_path, "b"), 0);
	expect(consumer, "b");
	peal_producer_detach(by_name);
	peal_producer_detach(by_path);
	peal_consumer_close(consumer);
}

static void second_server_of_a_name_gets_eaddrinuse(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer = open_consumer(), *second = NULL;
	struct peal_producer *producer;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(peal_consumer_open(&options, &second),
		                 -EADDRINUSE);
		assert_int_equal(own.failure.code, -EADDRINUSE);
		assert_non_null(strstr(own.failure.text, "words"));
		assert_null(second);
	}
	/* The first one has not noticed. */
	producer = attach();
	assert_int_equal(send_text(producer, "still here"), 0);
	expect(consumer, "still here");
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
	second = open_consumer();
	peal_consumer_close(second);
}

static void socket_has_the_mode_that_was_asked_for(void **state)
{
	static const mode_t modes[] = {0600, 0666, 0, 0640};
	struct stat status;
	char path[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/words", own.directory.path);
	for (size_t i = 0; i < CHECK_COUNT(modes); i++) {
		struct peal_consumer_options options = consumer_options();
		struct peal_consumer *consumer;

		options.socket_mode = modes[i];
		consumer = open_with(&options);
		assert_int_equal(stat(path, &status), 0);
		assert_true(S_ISSOCK(status.st_mode));
		assert_int_equal(status.st_mode & 0777, modes[i]);
		peal_consumer_close(consumer);
		assert_int_equal(directory_count(&own.directory), 0);
	}
}

static void regular_file_in_the_place_of_the_socket_is_left_alone(void **state)
{
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	char path[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/words", own.directory.path);
	directory_write(path, "mine");
	assert_int_equal(peal_consumer_open(&options, &consumer), -EEXIST);
	assert_non_null(strstr(own.failure.text, path));
	/* And nothing is left of the attempt. */
	assert_int_equal(directory_count(&own.directory), 1);
	assert_int_equal(unlink(path), 0);
}

static void listener_that_was_given_stays_the_callers(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct peal_consumer_options options = consumer_options();
	struct peal_producer_options others = producer_options();
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/given",
	         own.directory.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	assert_int_equal(listen(fd, 8), 0);
	others.name = "given";
	/* A label may be anything that is a name, or nothing. */
	for (int i = 0; i < 2; i++) {
		struct peal_consumer *consumer;
		struct peal_producer *producer;

		options.listen_fd = fd;
		options.name = i == 0 ? "label" : NULL;
		consumer = open_with(&options);
		assert_int_equal(directory_count(&own.directory), 1);
		producer = attach_with(&others);
		assert_int_equal(send_text(producer, "through it"), 0);
		expect(consumer, "through it");
		peal_producer_detach(producer);
		peal_consumer_close(consumer);
		/* Open, and its file where it was: the next one takes it.
		 * That it does not block is what stays. */
		assert_true(fcntl(fd, F_GETFD) >= 0);
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
		assert_int_equal(directory_count(&own.directory), 1);
	}
	close(fd);
	unlink(address.sun_path);
}

/* caps ------------------------------------------------------------------- */

static void slot_cap_is_ebusy(void **state)
{
	struct peal_producer_options others = producer_options();
	struct peal_consumer_options options = consumer_options();
	struct peal_producer *producers[3];
	struct peal_consumer *consumer;

	(void)state;
	options.producer_max = 3;
	consumer = open_with(&options);
	for (int i = 0; i < 3; i++)
		producers[i] = attach();
	for (int i = 0; i < 3; i++)
		assert_turned_away(&others, -EBUSY, "producer_max");
	while (stats_of(consumer).refused_count < 3)
		sched_yield();
	assert_int_equal(stats_of(consumer).refused_count, 3);
	/* One goes, one may come. */
	peal_producer_detach(producers[1]);
	await_attached(consumer, 3);
	await_gone(consumer, 1);
	producers[1] = attach();
	for (int i = 0; i < 3; i++)
		peal_producer_detach(producers[i]);
	peal_consumer_close(consumer);
}

static void cap_of_a_user_is_ebusy(void **state)
{
	struct peal_producer_options others = producer_options();
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	struct peal_producer *producer;

	(void)state;
	options.producer_per_uid_max = 1;
	consumer = open_with(&options);
	producer = attach();
	assert_turned_away(&others, -EBUSY, "producer_per_uid_max");
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

static void cap_of_memory_is_ebusy(void **state)
{
	struct peal_producer_options others = producer_options();
	struct peal_consumer_options options = consumer_options();
	struct peal_producer *first, *second;
	struct peal_consumer *consumer;

	(void)state;
	options.segment_total_max_bytes = 24 << 10;
	consumer = open_with(&options);
	others.ring_bytes = 16 << 10;
	first = attach_with(&others);
	assert_turned_away(&others, -EBUSY, "segment_total_max_bytes");
	others.ring_bytes = 8 << 10;
	second = attach_with(&others);
	/* The cap is reached, and not a byte less was counted than allowed:
	 * what was left once wrapped, and then there was no cap any more. */
	others.ring_bytes = 4 << 10;
	for (int i = 0; i < 3; i++)
		assert_turned_away(&others, -EBUSY, "segment_total_max_bytes");
	/* What is given back may be had again. */
	peal_producer_detach(first);
	peal_producer_detach(second);
	await_attached(consumer, 2);
	await_gone(consumer, 2);
	others.ring_bytes = 16 << 10;
	first = attach_with(&others);
	peal_producer_detach(first);
	peal_consumer_close(consumer);
}

static void ring_beyond_what_the_server_allows_is_emsgsize(void **state)
{
	struct peal_producer_options others = producer_options();
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	struct peal_producer *producer;

	(void)state;
	options.ring_min_bytes = 8 << 10;
	options.ring_default_bytes = 16 << 10;
	options.ring_max_bytes = 32 << 10;
	consumer = open_with(&options);
	others.ring_bytes = 64 << 10;
	assert_turned_away(&others, -EMSGSIZE, "8192 to 32768");
	others.ring_bytes = 4 << 10;
	assert_turned_away(&others, -EMSGSIZE, "ring_bytes is 4096");
	others.ring_bytes = 32 << 10;
	producer = attach_with(&others);
	assert_int_equal(peal_producer_message_max(producer), (32 << 10) - 32);
	peal_producer_detach(producer);
	others.ring_bytes = 0;
	producer = attach_with(&others);
	assert_int_equal(peal_producer_message_max(producer), (16 << 10) - 32);
	peal_producer_detach(producer);
	peal_consumer_close(consumer);
}

/* servers that are none -------------------------------------------------- */

/* What a stranger at the socket does with who connects. */
struct stranger {
	int listen_fd;
	bool (*answer)(int fd, union peal__packet *hello);
};

static void *stranger_run(void *argument)
{
	struct stranger *stranger = argument;
	int fd = accept(stranger->listen_fd, NULL, NULL);
	union peal__packet hello;
	bool hold;

	if (recv(fd, &hello, sizeof(hello), 0) < 0)
		return stranger;
	hold = stranger->answer(fd, &hello);
	/* Until the other one has gone, or at once. */
	if (hold && recv(fd, &hello, sizeof(hello), 0) < 0)
		hold = false;
	close(fd);
	return NULL;
}

static void meet(bool (*answer)(int fd, union peal__packet *hello),
                 uint64_t timeout_ns, int expected, const char *sentence)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct peal_producer_options options = producer_options();
	struct peal_producer *producer = NULL;
	struct stranger stranger = {.answer = answer};
	struct later later;
	int error;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/words",
	         own.directory.path);
	stranger.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(stranger.listen_fd, (struct sockaddr *)&address,
	                      sizeof(address)),
	                 0);
	assert_int_equal(listen(stranger.listen_fd, 1), 0);
	later_start(&later, 0, stranger_run, &stranger);
	error = peal_producer_attach(&options, timeout_ns, &producer);
	assert_null(later_join(&later));
	close(stranger.listen_fd);
	unlink(address.sun_path);
	if (error != expected || strstr(own.failure.text, sentence) == NULL)
		fail_msg("%d: '%s' does not say '%s'", error, own.failure.text,
		         sentence);
	assert_null(producer);
}

static bool say_nothing(int fd, union peal__packet *hello)
{
	(void)fd;
	(void)hello;
	return true;
}

static bool hang_up(int fd, union peal__packet *hello)
{
	(void)fd;
	(void)hello;
	return false;
}

static bool send_back(int fd, union peal__packet *hello)
{
	return send(fd, hello, hello->head.bytes, MSG_NOSIGNAL) > 0;
}

static bool say_noise(int fd, union peal__packet *hello)
{
	memset(hello, 0x5a, sizeof(*hello));
	return send(fd, hello, 100, MSG_NOSIGNAL) == 100;
}

static bool say_major_two(int fd, union peal__packet *hello)
{
	hello->head.major = 2;
	return send(fd, hello, hello->head.bytes, MSG_NOSIGNAL) > 0;
}

/* A WELCOME in which all is well, but no descriptor comes with it. */
static bool welcome_without_descriptors(int fd, union peal__packet *hello)
{
	union peal__packet packet = {.welcome = {.head = hello->head,
	                                         .nonce = hello->hello.nonce,
	                                         .page_bytes = 4096,
	                                         .request_ring_bytes = 4096}};

	packet.head.type = PEAL__WIRE_WELCOME;
	packet.head.bytes = sizeof(packet.welcome);
	return send(fd, &packet, sizeof(packet.welcome), MSG_NOSIGNAL) > 0;
}

static bool refuse_in_person(int fd, union peal__packet *hello)
{
	union peal__packet packet = {
		.error = {hello->head, -EBUSY, "Come back on Monday."}};

	packet.head.type = PEAL__WIRE_ERROR;
	packet.head.bytes = sizeof(packet.error);
	/* A wake byte before it says nothing. */
	return send(fd, "W", 1, MSG_NOSIGNAL) == 1 &&
	       send(fd, &packet, sizeof(packet.error), MSG_NOSIGNAL) > 0;
}

static void server_that_does_not_answer_is_etimedout(void **state)
{
	(void)state;
	meet(say_nothing, 50 * MS, -ETIMEDOUT, "does not answer");
	meet(say_nothing, 0, -ETIMEDOUT, "does not answer");
}

static void server_that_hangs_up_is_econnreset(void **state)
{
	(void)state;
	meet(hang_up, PATIENCE_NS, -ECONNRESET, "closed the connection");
}

static void server_that_makes_no_sense_is_eproto(void **state)
{
	(void)state;
	meet(send_back, PATIENCE_NS, -EPROTO, "makes no sense");
	meet(say_noise, PATIENCE_NS, -EPROTO, "makes no sense");
	meet(welcome_without_descriptors, PATIENCE_NS, -EPROTO,
	     "makes no sense");
}

static void server_of_another_major_version_is_eprotonosupport(void **state)
{
	(void)state;
	meet(say_major_two, PATIENCE_NS, -EPROTONOSUPPORT, "major version");
}

static void sentence_of_the_server_reaches_the_person(void **state)
{
	(void)state;
	meet(refuse_in_person, PATIENCE_NS, -EBUSY, "Come back on Monday.");
}

static void socket_of_another_kind_is_eproto(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct peal_producer_options options = producer_options();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/words",
	         own.directory.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_turned_away(&options, -EPROTO, "not one of peal's");
	close(fd);
	unlink(address.sun_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(attach_to_nobody_is_refused),
		TEST(attach_to_what_a_dead_server_left_is_refused),
		TEST(server_is_found_by_its_name_and_by_its_path),
		TEST(second_server_of_a_name_gets_eaddrinuse),
		TEST(socket_has_the_mode_that_was_asked_for),
		TEST(regular_file_in_the_place_of_the_socket_is_left_alone),
		TEST(listener_that_was_given_stays_the_callers),
		TEST(slot_cap_is_ebusy),
		TEST(cap_of_a_user_is_ebusy),
		TEST(cap_of_memory_is_ebusy),
		TEST(ring_beyond_what_the_server_allows_is_emsgsize),
		TEST(server_that_does_not_answer_is_etimedout),
		TEST(server_that_hangs_up_is_econnreset),
		TEST(server_that_makes_no_sense_is_eproto),
		TEST(server_of_another_major_version_is_eprotonosupport),
		TEST(sentence_of_the_server_reaches_the_person),
		TEST(socket_of_another_kind_is_eproto),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
