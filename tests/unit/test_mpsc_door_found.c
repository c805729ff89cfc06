/* SPDX-License-Identifier: MIT */
/* What was wrong with the door, and what it costs whom. */
#include "tests/unit/mpsc_fixture.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "mpsc/attach.h"
#include "mpsc/seat.h"

/* listeners --------------------------------------------------------------- */

/* A listener that was shut down has nobody, and stays readable for ever. */
static void listener_that_fails_is_left_alone_for_a_while(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct peal_consumer_options options = consumer_options();
	struct peal_consumer *consumer;
	uint64_t end_ns;
	int count = 0;

	(void)state;
	options.wait_mode = PEAL_WAIT_FD;
	options.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/given",
	         own.directory.path);
	assert_int_equal(bind(options.listen_fd, (struct sockaddr *)&address,
	                      sizeof(address)),
	                 0);
	assert_int_equal(listen(options.listen_fd, 1), 0);
	consumer = open_with(&options);
	assert_int_equal(shutdown(options.listen_fd, SHUT_RD), 0);
	end_ns = now_ns() + 250 * MS;
	while (now_ns() < end_ns) {
		count += is_readable(peal_consumer_fd(consumer), 10);
		assert_int_equal(peal_consumer_dispatch(consumer), 0);
	}
	/* Twice in 100 ms: the listener, and the time that it is left alone. */
	assert_in_range(count, 1, 10);
	peal_consumer_close(consumer);
	close(options.listen_fd);
	unlink(address.sun_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(listener_that_fails_is_left_alone_for_a_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
