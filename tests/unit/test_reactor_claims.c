/* SPDX-License-Identifier: MIT */
/*
 * An answer that was claimed in place, in the response ring, belongs to the
 * reactor's thread and to the handler. What becomes of it when the request goes
 * to another thread before it is published.
 */
#include "tests/unit/reactor_fixture.h"

#define REQUESTS 100

static struct {
	struct peal_request *request;
	pthread_t thread;
	bool is_waited_for; /* by the handler */
	bool has_thread;
	int publish_error, claim_error, late_error;
	uint32_t done_count;
} handed;

static int begin_claims(void **state)
{
	memset(&handed, 0, sizeof(handed));
	return begin(state);
}

#define CLAIMS(test) cmocka_unit_test_setup_teardown(test, begin_claims, end)

static void done(void)
{
	__atomic_fetch_add(&handed.done_count, 1, __ATOMIC_RELEASE);
	peal_reactor_notify(served.reactor);
}

/* What the handler has claimed is not this thread's; a claim of its own is. */
static void *publish_and_claim(void *request)
{
	void *place;

	handed.publish_error = peal_reply_publish(request, 4);
	handed.claim_error = peal_reply_claim(request, 5, &place);
	if (handed.claim_error == 0) {
		memcpy(place, "other", 5);
		handed.late_error = peal_reply_publish(request, 5);
	}
	done();
	return NULL;
}

static void *publish_and_reply(void *request)
{
	handed.publish_error = peal_reply_publish(request, 4);
	handed.late_error = peal_reply(request, "reply", 5);
	done();
	return NULL;
}

/* "c" or "r", by what the thread does. */
static void claim_and_hand_over(struct peal_request *request, void *arg)
{
	const char *data = peal_request_data(request, NULL);
	void *place;

	(void)arg;
	if (data[0] == 'e') {
		peal_reply(request, "e", 1);
		return;
	}
	if (peal_reply_claim(request, 4, &place) != 0)
		return;
	memcpy(place, "mine", 4);
	handed.has_thread = pthread_create(&handed.thread, NULL,
	                                   data[0] == 'c' ? publish_and_claim
	                                                  : publish_and_reply,
	                                   request) == 0;
	if (handed.has_thread && handed.is_waited_for)
		pthread_join(handed.thread, NULL);
}

static void ask_and_hand_over(struct raw_client *raw, uint64_t id,
                              const char *text, const char *answer)
{
	uint32_t done_count = handed.done_count;

	handed.publish_error = handed.late_error = 1;
	assert_int_equal(raw_ask(raw, id, text), 0);
	run_until(&handed.done_count, done_count + 1);
	assert_true(handed.has_thread);
	if (!handed.is_waited_for)
		pthread_join(handed.thread, NULL);
	run();
	assert_int_equal(handed.publish_error, -EINVAL);
	assert_int_equal(handed.claim_error, 0);
	assert_int_equal(handed.late_error, 0);
	hear(raw, PEAL__FRAME_ANSWER, id, 0, answer);
	/* And the ring is whole. */
	assert_int_equal(raw_ask(raw, id + 1, "e"), 0);
	run();
	hear(raw, PEAL__FRAME_ANSWER, id + 1, 0, "e");
}

static void other_thread_cannot_publish_what_was_claimed_in_place(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = claim_and_hand_over;
	open_reactor_for(&raw, &options);
	for (int waits = 0; waits < 2; waits++) {
		handed.is_waited_for = waits != 0;
		for (uint64_t i = 0; i < REQUESTS; i++)
			ask_and_hand_over(&raw, 1 + 4 * i, "c", "other");
		for (uint64_t i = 0; i < REQUESTS; i++)
			ask_and_hand_over(&raw, 3 + 4 * i, "r", "reply");
	}
	leave_and_close(&raw);
}

static void claim_and_keep(struct peal_request *request, void *arg)
{
	void *place;

	(void)arg;
	if (peal_reply_claim(request, 4, &place) == 0)
		memcpy(place, "mine", 4);
	handed.request = request;
}

static void claim_in_place_ends_with_its_handler(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = claim_and_keep;
	open_reactor_for(&raw, &options);
	assert_int_equal(raw_ask(&raw, 1, "k"), 0);
	run();
	hear_nothing(&raw);
	assert_int_equal(peal_reply_publish(handed.request, 4), -EINVAL);
	assert_int_equal(peal_reply(handed.request, "late", 4), 0);
	run();
	hear(&raw, PEAL__FRAME_ANSWER, 1, 0, "late");
	leave_and_close(&raw);
}

/* The frame of a status has 8 bytes more before the answer. */
static void claim_and_reply_with_a_status(struct peal_request *request,
                                          void *arg)
{
	char *place;

	(void)arg;
	if (peal_reply_claim(request, 26, (void **)&place) != 0)
		return;
	memcpy(place, "abcdefghijklmnopqrstuvwxyz", 26);
	handed.late_error = peal_reply_status(request, 7, place, 26);
}

static void reply_of_what_was_claimed_in_place_arrives_whole(void **state)
{
	struct peal_reactor_options options = usual_options();
	struct raw_client raw;

	(void)state;
	options.on_request = claim_and_reply_with_a_status;
	open_reactor_for(&raw, &options);
	handed.late_error = 1;
	assert_int_equal(raw_ask(&raw, 1, "e"), 0);
	run();
	assert_int_equal(handed.late_error, 0);
	hear(&raw, PEAL__FRAME_ANSWER, 1, 7, "abcdefghijklmnopqrstuvwxyz");
	leave_and_close(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLAIMS(other_thread_cannot_publish_what_was_claimed_in_place),
		CLAIMS(claim_in_place_ends_with_its_handler),
		CLAIMS(reply_of_what_was_claimed_in_place_arrives_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
