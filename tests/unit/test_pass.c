/* SPDX-License-Identifier: MIT */
#include "tests/unit/region.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include "shm/pass.h"

/* More descriptors than peal ever takes; the kernel itself passes up to 253. */
#define MANY 10

struct pair {
	int ours, theirs;
};

static struct pair connect_pair(void)
{
	int ends[2] = {-1, -1};

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	return (struct pair){ends[0], ends[1]};
}

static void close_pair(struct pair pair)
{
	close(pair.ours);
	if (pair.theirs >= 0)
		close(pair.theirs);
}

/* What a peer may send that peal__pass_send() never would. */
static void send_raw(int socket_fd, const void *data, size_t data_bytes, int fd,
                     size_t fd_count)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(MANY * sizeof(int))];
	struct cmsghdr *header = (struct cmsghdr *)(void *)control;
	struct iovec part = {(void *)(uintptr_t)data, data_bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	int fds[MANY];

	for (size_t i = 0; i < MANY; i++)
		fds[i] = fd;
	memset(control, 0, sizeof(control));
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
	memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
	if (fd_count > 0) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	assert_int_equal(sendmsg(socket_fd, &message, MSG_NOSIGNAL),
	                 data_bytes);
}

static void packet_arrives_whole_and_alone(void **state)
{
	struct pair pair = connect_pair();
	char data[16] = "";
	size_t fd_count = PEAL__PASS_FD_MAX;
	int fds[PEAL__PASS_FD_MAX];

	(void)state;
	errno = OUR_ERRNO;
	assert_int_equal(peal__pass_send(pair.theirs, "first", 6, NULL, 0), 0);
	assert_int_equal(peal__pass_send(pair.theirs, "second", 7, NULL, 0), 0);
	assert_int_equal(peal__pass_receive(pair.ours, data, sizeof(data), NULL,
	                                    NULL),
	                 6);
	assert_string_equal(data, "first");
	assert_int_equal(peal__pass_receive(pair.ours, data, 7, fds, &fd_count),
	                 7);
	assert_string_equal(data, "second");
	assert_int_equal(fd_count, 0);
	assert_int_equal(errno, OUR_ERRNO);
	close_pair(pair);
}

static void passed_region_arrives_usable_and_close_on_exec(void **state)
{
	struct peal_shm_mapping writer, reader;
	struct pair pair = connect_pair();
	int sent = make(PAGE, 0, &writer), fds[PEAL__PASS_FD_MAX];
	size_t fd_count = 1;
	char byte;

	(void)state;
	assert_int_equal(peal__pass_send(pair.theirs, "r", 1, &sent, 1), 0);
	close(sent);
	assert_int_equal(
		peal__pass_receive(pair.ours, &byte, 1, fds, &fd_count), 1);
	assert_int_equal(fd_count, 1);
	assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(peal_shm_check(fds[0], PAGE), 0);
	reader = map_whole(fds[0], PAGE, 0);
	strcpy(writer.address, "through the socket");
	assert_string_equal(reader.address, "through the socket");
	peal_shm_unmap(&reader);
	peal_shm_unmap(&writer);
	close(fds[0]);
	close_pair(pair);
}

static void descriptors_arrive_in_their_order(void **state)
{
	int sent[PEAL__PASS_FD_MAX], came[PEAL__PASS_FD_MAX];
	struct pair pair = connect_pair();
	struct held before = count_held();
	char byte;

	(void)state;
	for (size_t count = 1; count <= PEAL__PASS_FD_MAX; count++) {
		size_t fd_count = PEAL__PASS_FD_MAX;

		for (size_t i = 0; i < count; i++)
			sent[i] = make((i + 1) * PAGE, 0, NULL);
		assert_int_equal(
			peal__pass_send(pair.theirs, "x", 1, sent, count), 0);
		assert_int_equal(peal__pass_receive(pair.ours, &byte, 1, came,
		                                    &fd_count),
		                 1);
		assert_int_equal(fd_count, count);
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(lseek(came[i], 0, SEEK_END),
			                 (i + 1) * PAGE);
			close(came[i]);
			close(sent[i]);
		}
	}
	assert_true(is_same(before, count_held()));
	close_pair(pair);
}

/* Is the peer's end of a pipe closed everywhere, in every process and queue? */
static bool is_hung_up(int reading_end)
{
	char byte;

	return read(reading_end, &byte, 1) == 0;
}

static void packet_that_is_too_long_is_refused(void **state)
{
	struct pair pair = connect_pair();
	struct held before = count_held();
	int pipe_ends[2], fds[PEAL__PASS_FD_MAX] = {-7, -7, -7, -7};
	size_t fd_count = PEAL__PASS_FD_MAX;
	char data[4] = "";

	(void)state;
	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	send_raw(pair.theirs, "12345", 5, pipe_ends[1], 2);
	close(pipe_ends[1]);
	errno = OUR_ERRNO;
	assert_int_equal(peal__pass_receive(pair.ours, data, 4, fds, &fd_count),
	                 -EPROTO);
	assert_int_equal(errno, OUR_ERRNO);
	assert_int_equal(fds[0], -7);
	assert_int_equal(fd_count, PEAL__PASS_FD_MAX);
	assert_true(is_hung_up(pipe_ends[0]));
	close(pipe_ends[0]);
	assert_true(is_same(before, count_held()));
	close_pair(pair);
}

static void descriptors_nobody_expects_are_closed_and_refused(void **state)
{
	/* How many come, how many are wanted; 99 is a NULL for the count. */
	static const struct {
		size_t came, wanted;
	} cases[] = {
		{1, 0}, {1, 99}, {MANY, 0}, {MANY, 99}, {2, 1}, {4, 1},
		{4, 3}, {5, 4},  {MANY, 4}, {MANY, 1},  {5, 3},
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(cases); i++) {
		struct pair pair = connect_pair();
		struct held before = count_held();
		int ends[2], fds[PEAL__PASS_FD_MAX] = {-7, -7, -7, -7};
		size_t fd_count = cases[i].wanted;
		char byte;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		send_raw(pair.theirs, "x", 1, ends[1], cases[i].came);
		close(ends[1]);
		assert_int_equal(peal__pass_receive(pair.ours, &byte, 1, fds,
		                                    fd_count == 99 ? NULL
		                                                   : &fd_count),
		                 -EPROTO);
		assert_int_equal(fds[0], -7);
		assert_int_equal(fd_count, cases[i].wanted);
		assert_true(is_hung_up(ends[0]));
		close(ends[0]);
		assert_true(is_same(before, count_held()));
		close_pair(pair);
	}
}

static void full_descriptor_table_is_emfile_and_nothing_stays(void **state)
{
	struct pair pair = connect_pair();
	int sent = make(1, 0, NULL), fds[PEAL__PASS_FD_MAX];
	size_t fd_count = PEAL__PASS_FD_MAX;
	struct held before = count_held();
	struct rlimit limit, little;
	int result, lowest;
	char byte;

	(void)state;
	for (size_t room = 0; room < 3; room++) {
		send_raw(pair.theirs, "x", 1, sent, 3);
		lowest = dup(sent);
		close(lowest);
		getrlimit(RLIMIT_NOFILE, &limit);
		little = limit;
		little.rlim_cur = (rlim_t)lowest + room;
		setrlimit(RLIMIT_NOFILE, &little);
		result =
			peal__pass_receive(pair.ours, &byte, 1, fds, &fd_count);
		setrlimit(RLIMIT_NOFILE, &limit);
		assert_int_equal(result, -EMFILE);
		assert_true(is_same(before, count_held()));
	}
	close(sent);
	close_pair(pair);
}

static void empty_queue_is_eagain(void **state)
{
	struct pair pair = connect_pair();
	char byte;

	(void)state;
	errno = OUR_ERRNO;
	assert_int_equal(peal__pass_receive(pair.ours, &byte, 1, NULL, NULL),
	                 -EAGAIN);
	assert_int_equal(errno, OUR_ERRNO);
	close_pair(pair);
}

static void full_queue_is_eagain_and_has_room_again(void **state)
{
	struct pair pair = connect_pair();
	int error = 0, sent = 0;
	char data[1024] = "";

	(void)state;
	errno = OUR_ERRNO;
	while (sent < 100000 && error == 0) {
		error = peal__pass_send(pair.theirs, data, sizeof(data), NULL,
		                        0);
		sent += error == 0;
	}
	assert_int_equal(error, -EAGAIN);
	assert_int_equal(errno, OUR_ERRNO);
	for (int i = 0; i < sent; i++)
		assert_int_equal(peal__pass_receive(pair.ours, data,
		                                    sizeof(data), NULL, NULL),
		                 sizeof(data));
	assert_int_equal(
		peal__pass_send(pair.theirs, data, sizeof(data), NULL, 0), 0);
	close_pair(pair);
}

static void peer_that_has_gone_is_econnreset(void **state)
{
	struct pair pair = connect_pair();
	char byte;

	(void)state;
	close(pair.theirs);
	pair.theirs = -1;
	errno = OUR_ERRNO;
	/* Twice, because the kernel has another word for it the second time. */
	for (int i = 0; i < 2; i++) {
		assert_int_equal(peal__pass_receive(pair.ours, &byte, 1, NULL,
		                                    NULL),
		                 -ECONNRESET);
		assert_int_equal(peal__pass_send(pair.ours, "x", 1, NULL, 0),
		                 -ECONNRESET);
	}
	assert_int_equal(errno, OUR_ERRNO);
	close_pair(pair);
}

static void last_words_arrive_although_the_peer_read_nothing(void **state)
{
	struct pair pair = connect_pair();
	int sent = make(1, 0, NULL), fds[1];
	size_t fd_count = 1;
	char data[16] = "";

	(void)state;
	assert_int_equal(peal__pass_send(pair.ours, "unread", 7, NULL, 0), 0);
	assert_int_equal(peal__pass_send(pair.theirs, "farewell", 9, &sent, 1),
	                 0);
	close(sent);
	close(pair.theirs);
	pair.theirs = -1;
	assert_int_equal(peal__pass_receive(pair.ours, data, sizeof(data), fds,
	                                    &fd_count),
	                 9);
	assert_string_equal(data, "farewell");
	assert_int_equal(fd_count, 1);
	close(fds[0]);
	assert_int_equal(peal__pass_receive(pair.ours, data, sizeof(data), fds,
	                                    &fd_count),
	                 -ECONNRESET);
	close_pair(pair);
}

static void empty_packet_with_descriptors_leaves_none_behind(void **state)
{
	struct pair pair = connect_pair();
	struct held before = count_held();
	int ends[2], fds[PEAL__PASS_FD_MAX];
	size_t fd_count = PEAL__PASS_FD_MAX;
	char byte;

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	send_raw(pair.theirs, "", 0, ends[1], 2);
	close(ends[1]);
	assert_int_equal(peal__pass_receive(pair.ours, &byte, 1, fds,
	                                    &fd_count),
	                 -ECONNRESET);
	assert_true(is_hung_up(ends[0]));
	close(ends[0]);
	assert_true(is_same(before, count_held()));
	close_pair(pair);
}

static void what_cannot_be_a_packet_is_einval(void **state)
{
	struct pair pair = connect_pair();
	int fds[PEAL__PASS_FD_MAX + 1] = {0};
	size_t fd_count = PEAL__PASS_FD_MAX + 1;
	char byte;

	(void)state;
	assert_int_equal(peal__pass_send(pair.theirs, "", 0, NULL, 0), -EINVAL);
	assert_int_equal(peal__pass_send(pair.theirs, "x", 1, fds, fd_count),
	                 -EINVAL);
	assert_int_equal(peal__pass_receive(pair.ours, &byte, 1, fds,
	                                    &fd_count),
	                 -EINVAL);
	assert_int_equal(peal__pass_receive(pair.ours, &byte, 0, NULL, NULL),
	                 -EINVAL);
	assert_int_equal(peal__pass_receive(-1, &byte, 1, NULL, NULL), -EBADF);
	assert_int_equal(peal__pass_send(-1, "x", 1, NULL, 0), -EBADF);
	close_pair(pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packet_arrives_whole_and_alone),
		cmocka_unit_test(
			passed_region_arrives_usable_and_close_on_exec),
		cmocka_unit_test(descriptors_arrive_in_their_order),
		cmocka_unit_test(packet_that_is_too_long_is_refused),
		cmocka_unit_test(
			descriptors_nobody_expects_are_closed_and_refused),
		cmocka_unit_test(
			full_descriptor_table_is_emfile_and_nothing_stays),
		cmocka_unit_test(empty_queue_is_eagain),
		cmocka_unit_test(full_queue_is_eagain_and_has_room_again),
		cmocka_unit_test(peer_that_has_gone_is_econnreset),
		cmocka_unit_test(
			last_words_arrive_although_the_peer_read_nothing),
		cmocka_unit_test(
			empty_packet_with_descriptors_leaves_none_behind),
		cmocka_unit_test(what_cannot_be_a_packet_is_einval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
