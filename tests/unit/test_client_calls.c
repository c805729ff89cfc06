/* SPDX-License-Identifier: MIT */
/* Pushes, calls from the server, and calls inside of calls. */
#include "tests/unit/client_fixture.h"

#include "peal/reactor.h"

static struct server server;

struct scene {
	struct peal_client *client;
	struct peal_request *open;
	uint64_t sent_id;
	uint32_t push_count;
	uint32_t request_count;
	bool is_nested; /* callbacks call */
	int how;        /* to answer: see on_request() */
	int error;      /* the first one in a callback: the line */
};

static struct scene scene;

#define SAY(condition)                                \
	do {                                          \
		if (!(condition) && scene.error == 0) \
			scene.error = __LINE__;       \
	} while (0)

static bool is_text(const struct peal_message *message, const char *text)
{
	return message->data_bytes == strlen(text) &&
	       memcmp(message->data, text, message->data_bytes) == 0;
}

static void call_inside(void)
{
	struct peal_message answer;
	uint64_t id;

	SAY(call_text(scene.client, "echo inside", PATIENCE_NS, &answer) == 0);
	SAY(is_text(&answer, "echo inside"));
	SAY(peal_client_send(scene.client, "echo sent", 9, PEAL_FOREVER,
	                     PATIENCE_NS, &id) == 0);
	SAY(peal_client_recv(scene.client, PATIENCE_NS, &answer) == 0);
	SAY(answer.id == id && is_text(&answer, "echo sent"));
}

static void on_push(const struct peal_message *push, void *arg)
{
	SAY(arg == &scene && push->id == 0);
	scene.push_count++;
	if (scene.is_nested)
		call_inside();
	/* The copy is still there. */
	SAY(push->data_bytes >= 4 && memcmp(push->data, "news", 4) == 0);
}

static void on_request(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);
	static char large[PEAL_RING_MIN_BYTES * 8];
	void *to;

	SAY(arg == &scene);
	scene.request_count++;
	if (scene.is_nested)
		call_inside();
	SAY(bytes == 12 && memcmp(data, "who are you?", 12) == 0);
	SAY(!peal_request_cancelled(request));
	SAY(!peal_request_is_one_way(request));
	SAY(peal_request_deadline_ns(request) == PEAL_FOREVER);
	switch (scene.how) {
	case 0:
		SAY(peal_reply(request, "me", 2) == 0);
		break;
	case 1:
		SAY(peal_reply_error(request, 5) == -EINVAL);
		SAY(peal_reply_error(request, -ENXIO) == 0);
		break;
	case 2:
		SAY(peal_reply_claim(request, 100, &to) == 0);
		memcpy(to, "claimed", 7);
		SAY(peal_reply_publish(request, 101) == -EINVAL);
		SAY(peal_reply_publish(request, 7) == 0);
		break;
	case 3:
		SAY(peal_reply(request, large, sizeof(large)) == -EMSGSIZE);
		SAY(peal_reply_claim(request, sizeof(large), &to) == -EMSGSIZE);
		peal_request_drop(request);
		break;
	case 4:
		SAY(peal_request_retain(request) == 0);
		scene.open = request;
		break;
	default:
		SAY(peal_reply_status(request, -7, data, bytes) == 0);
	}
}

static struct peal_client *scene_open(void)
{
	struct peal_client_options options = client_options();

	scene = (struct scene){0};
	server_start(&server);
	options.on_push = on_push;
	options.on_request = on_request;
	options.arg = &scene;
	scene.client = client_with(&options);
	return scene.client;
}

static void scene_close(void)
{
	if (scene.error != 0)
		fail_msg("a callback failed in line %d", scene.error);
	peal_client_close(scene.client);
	server_stop(&server);
}

static void pushes_are_delivered_before_the_answer_behind_them(void **state)
{
	struct peal_client *client = scene_open();

	(void)state;
	for (uint32_t i = 1; i <= 100; i++) {
		expect_answer(client, "push 3", "pushed");
		assert_int_equal(scene.push_count, 3 * i);
	}
	assert_int_equal(client_stats(client).push_count, 300);
	assert_int_equal(client_stats(client).push_dropped_count, 0);
	scene_close();
}

static void callbacks_may_call_send_and_receive(void **state)
{
	struct peal_client *client = scene_open();

	(void)state;
	scene.is_nested = true;
	expect_answer(client, "push 5", "pushed");
	assert_int_equal(scene.push_count, 5);
	expect_answer(client, "call", "me");
	assert_int_equal(client_stats(client).in_flight_count, 0);
	scene_close();
}

static void recv_delivers_pushes(void **state)
{
	struct peal_client *client = scene_open();
	struct peal_message answer;

	(void)state;
	send_request(client, "push 2");
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_text(&answer, "pushed");
	assert_int_equal(scene.push_count, 2);
	scene_close();
}

static void server_is_answered_while_the_client_waits_in_a_call(void **state)
{
	struct peal_client *client = scene_open();

	(void)state;
	for (int i = 0; i < 1000; i++)
		expect_answer(client, "call", "me");
	scene.how = 1;
	expect_answer(client, "error", "-6"); /* ENXIO */
	scene.how = 2;
	expect_answer(client, "call", "claimed");
	scene.how = 3;
	expect_answer(client, "error", "-5"); /* EIO */
	scene.how = 5;
	expect_answer(client, "error", "-7");
	assert_int_equal(client_stats(client).request_count, 1004);
	scene_close();
}

static void request_of_the_server_may_be_answered_later(void **state)
{
	struct peal_client *client = scene_open();
	struct peal_message answer;
	uint64_t id;

	(void)state;
	scene.how = 4;
	id = send_request(client, "call");
	while (scene.open == NULL)
		assert_int_equal(peal_client_recv(client, MS, &answer),
		                 -ETIMEDOUT);
	assert_int_equal(peal_reply(scene.open, "later", 5), 0);
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.id, id);
	assert_text(&answer, "later");
	/* And one that is never answered is freed with the client. */
	scene.open = NULL;
	assert_int_equal(call_text(client, "call", 20 * MS, &answer),
	                 -ETIMEDOUT);
	assert_non_null(scene.open);
	scene_close();
}

static void server_calls_a_client_without_handler(void **state)
{
	struct peal_client *client;

	(void)state;
	server_start(&server);
	client = client_open();
	expect_answer(client, "error", "-38"); /* ENOSYS */
	peal_client_close(client);
	server_stop(&server);
}

static void answers_that_do_not_fit_the_lane_go_later(void **state)
{
	static char large[4000];
	struct peal_client *client = scene_open();
	struct peal_request *open[8];
	struct peal_message answer;

	(void)state;
	scene.how = 4;
	for (int i = 0; i < 8; i++) {
		scene.open = NULL;
		send_request(client, "call");
		while (scene.open == NULL)
			assert_int_equal(peal_client_recv(client, MS, &answer),
			                 -ETIMEDOUT);
		open[i] = scene.open;
	}
	flag_set(&server.is_lane_deaf);
	for (int i = 0; i < 8; i++)
		assert_int_equal(peal_reply(open[i], large, 3000), 0);
	assert_int_equal(peal_client_recv(client, 5 * MS, &answer), -ETIMEDOUT);
	__atomic_store_n(&server.is_lane_deaf, 0, __ATOMIC_RELEASE);
	peal_consumer_notify(server.consumer);
	/* The server answers its last request with each of them: that is one
	 * answer, and then one to a request that nobody has sent. */
	assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer), 0);
	assert_int_equal(answer.data_bytes, 3000);
	scene_close();
}

static void frames_that_make_no_sense_end_the_connection(void **state)
{
	static const char *const texts[] = {"junk 0",    "junk 1",   "junk 2",
	                                    "junk 3",    "junk 4",   "junk 5",
	                                    "junk 7",    "junk 512", "junk 259",
	                                    "zero 3",    "zero 6",   "junk 260",
	                                    "junk 65535"};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(texts); i++) {
		struct peal_client *client = scene_open();
		struct peal_message answer;
		uint64_t id = send_request(client, "keep");

		assert_int_equal(call_text(client, texts[i], PATIENCE_NS,
		                           &answer),
		                 -EPROTO);
		assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
		                 0);
		assert_int_equal(answer.id, id);
		assert_int_equal(answer.kind, PEAL_FAILED);
		assert_int_equal(answer.status, -EPROTO);
		assert_int_equal(peal_client_recv(client, PATIENCE_NS, &answer),
		                 -EPROTO);
		assert_int_equal(call_text(client, "echo", 0, &answer),
		                 -EPROTO);
		assert_int_equal(client_stats(client).in_flight_count, 0);
		scene_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pushes_are_delivered_before_the_answer_behind_them),
		TEST(callbacks_may_call_send_and_receive),
		TEST(recv_delivers_pushes),
		TEST(server_is_answered_while_the_client_waits_in_a_call),
		TEST(request_of_the_server_may_be_answered_later),
		TEST(server_calls_a_client_without_handler),
		TEST(answers_that_do_not_fit_the_lane_go_later),
		TEST(frames_that_make_no_sense_end_the_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
