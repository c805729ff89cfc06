/* SPDX-License-Identifier: MIT */
/* What a callback does to the call or recv that runs it. */
#include "tests/unit/client_fixture.h"

#include <sched.h>

#include "peal/reactor.h"
#include "reactor/client.h"

static struct {
	struct server server;
	struct peal_client *client;
	int claim_error;
	uint32_t push_count;
} scene;

/* a claim is left ---------------------------------------------------------- */

static void claim_and_leave(const struct peal_message *push, void *arg)
{
	void *data;

	(void)push;
	(void)arg;
	scene.claim_error = peal_client_claim(scene.client, 8, 0, &data);
}

static void *listen_again(void *argument)
{
	__atomic_store_n(&scene.server.is_deaf, 0, __ATOMIC_RELEASE);
	peal_consumer_notify(scene.server.consumer);
	return argument;
}

static void claim_that_a_push_leaves_is_not_published_by_the_call(void **state)
{
	struct peal_client_options options = client_options();
	static const char large[2500] = "empty";
	struct peal_message answer;
	struct later later;
	uint64_t pushed, kept;
	void *data;

	(void)state;
	memset(&scene, 0, sizeof(scene));
	server_start(&scene.server);
	options.on_push = claim_and_leave;
	scene.client = client_with(&options);
	pushed = send_request(scene.client, "push 1");
	/* Both are there, and nobody has looked; then the ring gets full. */
	while (__atomic_load_n(&scene.server.request_count, __ATOMIC_ACQUIRE) <
	       1)
		sched_yield();
	flag_set(&scene.server.is_deaf);
	sleep_ns(50 * MS); /* it may have looked before, and take one more */
	assert_int_equal(peal_client_send(scene.client, large, 2000,
	                                  PEAL_FOREVER, SECOND, &kept),
	                 0);
	later_start(&later, 50 * MS, listen_again, NULL);
	assert_int_equal(peal_client_call(scene.client, large, sizeof(large),
	                                  PATIENCE_NS, &answer),
	                 0);
	assert_int_equal(answer.data_bytes, 0);
	later_join(&later);
	assert_int_equal(scene.claim_error, 0);
	assert_int_equal(peal_client_publish(scene.client, 8, PEAL_FOREVER,
	                                     &kept),
	                 -EINVAL);
	assert_int_equal(peal_client_recv(scene.client, PATIENCE_NS, &answer),
	                 0);
	assert_int_equal(answer.id, pushed);
	assert_int_equal(peal_client_recv(scene.client, PATIENCE_NS, &answer),
	                 0);
	assert_int_equal(peal_client_recv(scene.client, 0, &answer), -EAGAIN);
	assert_int_equal(client_stats(scene.client).sent_count, 3);
	assert_int_equal(client_stats(scene.client).answered_count, 3);
	assert_int_equal(peal_client_claim(scene.client, 8, 0, &data), 0);
	peal_client_close(scene.client);
	server_stop(&scene.server);
	/* It counts a request once it is done with it. */
	assert_int_equal(scene.server.request_count, 3);
}

/* pushes without end ------------------------------------------------------- */

static void be_slow(const struct peal_message *push, void *arg)
{
	(void)push;
	(void)arg;
	scene.push_count++;
	sleep_ns(MS);
}

/* There is always another one, for four seconds. */
static void *push_without_end(void *argument)
{
	uint64_t end_ns = now_ns() + 4 * SECOND;

	while (now_ns() < end_ns && !flag_is_set(argument)) {
		server_send(&scene.server, PEAL__FRAME_PUSH, 0, NULL, "news",
		            4);
		sleep_ns(50000);
	}
	return NULL;
}

static void *wake_it(void *argument)
{
	peal_client_wake(scene.client);
	return argument;
}

static void pushes_without_end_hold_nobody_past_time_or_wake(void **state)
{
	struct peal_client_options options = client_options();
	struct peal_message answer;
	struct later flood, wake;
	uint32_t is_over = 0;
	uint64_t start_ns;

	(void)state;
	memset(&scene, 0, sizeof(scene));
	server_start(&scene.server);
	options.on_push = be_slow;
	scene.client = client_with(&options);
	expect_answer(scene.client, "echo", "echo");
	later_start(&flood, 0, push_without_end, &is_over);
	sleep_ns(20 * MS);
	start_ns = now_ns();
	assert_int_equal(call_text(scene.client, "keep", 50 * MS, &answer),
	                 -ETIMEDOUT);
	assert_int_equal(peal_client_recv(scene.client, 50 * MS, &answer),
	                 -ETIMEDOUT);
	assert_int_equal(peal_client_recv(scene.client, 0, &answer), -EAGAIN);
	later_start(&wake, 50 * MS, wake_it, NULL);
	assert_int_equal(call_text(scene.client, "keep", PEAL_FOREVER, &answer),
	                 -ECANCELED);
	later_join(&wake);
	later_start(&wake, 50 * MS, wake_it, NULL);
	assert_int_equal(peal_client_recv(scene.client, PEAL_FOREVER, &answer),
	                 -ECANCELED);
	later_join(&wake);
	assert_true(now_ns() - start_ns < 3 * SECOND);
	assert_true(scene.push_count > 100);
	flag_set(&is_over);
	later_join(&flood);
	peal_client_close(scene.client);
	server_stop(&scene.server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(claim_that_a_push_leaves_is_not_published_by_the_call),
		TEST(pushes_without_end_hold_nobody_past_time_or_wake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
