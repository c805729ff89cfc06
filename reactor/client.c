/* SPDX-License-Identifier: MIT */
#include "reactor/client.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/failure.h"
#include "base/hooks.h"
#include "base/random.h"
#include "reactor/upcall.h"

#define TELL_SHARE 8 /* of the response ring, before it is told */
#define DOOR_RETRY_NS (20 * PEAL__NS_PER_US)

/* the door ------------------------------------------------------------------ */

struct peal__segment *peal__client_enter(struct peal_client *client)
{
	/* C1: pairs with C4: whoever shuts the door after this sees us in it.
	 * seq_cst, as all of these: see docs/ordering.md. */
	__atomic_fetch_add(&client->door_count, 1, __ATOMIC_SEQ_CST);
	/* C2: pairs with C3: and if it was shut before, we see that. */
	return __atomic_load_n(&client->door, __ATOMIC_SEQ_CST);
}

void peal__client_leave(struct peal_client *client)
{
	/* C5: pairs with C4: our accesses to the segment are done. */
	__atomic_fetch_sub(&client->door_count, 1, __ATOMIC_RELEASE);
}

static void open_door(struct peal_client *client, struct peal__segment *segment)
{
	/* C3: pairs with C2. */
	__atomic_store_n(&client->door, segment, __ATOMIC_SEQ_CST);
}

/* Nobody but us reaches the segment any more. */
static void shut_door(struct peal_client *client)
{
	const struct timespec retry = {.tv_nsec = DOOR_RETRY_NS};
	int saved_errno = errno;

	open_door(client, NULL);
	/* C4: pairs with C1 and C5. */
	while (__atomic_load_n(&client->door_count, __ATOMIC_SEQ_CST) != 0)
		nanosleep(&retry, NULL);
	errno = saved_errno;
}

/* connecting ---------------------------------------------------------------- */

static uint64_t some_id(void)
{
	uint64_t id = peal__random();

	return id == 0 ? 1 : id;
}

static int watch_socket(struct peal_client *client)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP};
	int saved_errno = errno, error = 0;

	if (client->epoll.fd >= 0 &&
	    epoll_ctl(client->epoll.fd, EPOLL_CTL_ADD,
	              client->producer->connection.socket.fd, &event) != 0)
		error = -errno;
	errno = saved_errno;
	return error;
}

/* Before it is closed, and when it has nothing more to say. */
static void unwatch_socket(struct peal_client *client)
{
	int fd = client->producer->connection.socket.fd;
	int saved_errno = errno;

	if (client->epoll.fd >= 0 && fd >= 0)
		epoll_ctl(client->epoll.fd, EPOLL_CTL_DEL, fd, NULL);
	errno = saved_errno;
}

/* Point everything at a new connection. */
static void take_connection(struct peal_client *client)
{
	const struct peal__connection *connection =
		&client->producer->connection;
	const struct peal__segment_shape *shape = &connection->shape;
	struct peal__segment *segment = connection->segment;

	peal_ring_rx_init(&client->rx,
	                  peal__segment_data(segment, shape,
	                                     PEAL__RING_RESPONSE),
	                  shape->rings[PEAL__RING_RESPONSE].bytes,
	                  shape->rings[PEAL__RING_RESPONSE].start,
	                  peal__segment_released(segment, PEAL__RING_RESPONSE));
	peal_ring_tx_init(&client->lane,
	                  peal__segment_data(segment, shape, PEAL__RING_LANE),
	                  shape->rings[PEAL__RING_LANE].bytes,
	                  shape->rings[PEAL__RING_LANE].start,
	                  peal__segment_released(segment, PEAL__RING_LANE));
	peal_doorbell_init(&client->sleeper, &segment->answers.arm,
	                   &segment->answers.seq,
	                   client->options.wait_mode == PEAL_WAIT_FD
	                           ? PEAL_DOORBELL_FD
	                           : PEAL_DOORBELL_FUTEX);
	client->tell_bytes = client->rx.capacity_bytes / TELL_SHARE;
	client->next_id = some_id();
	client->has_claim = false;
	client->serial++;
	client->is_readable = true;
	client->is_noted = false;
	client->is_recv_told = false;
	open_door(client, segment);
}

/* In fd mode: an eventfd that wakes, and what polls it and the socket. */
static int open_fds(struct peal_client *client)
{
	struct epoll_event event = {.events = EPOLLIN};

	if (client->options.wait_mode != PEAL_WAIT_FD)
		return 0;
	client->wake_event.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (client->wake_event.fd < 0)
		return -errno;
	peal__fork_watch(&client->wake_event);
	client->epoll.fd = epoll_create1(EPOLL_CLOEXEC);
	if (client->epoll.fd < 0)
		return -errno;
	peal__fork_watch(&client->epoll);
	client->owner.wake_fd = client->wake_event.fd;
	return epoll_ctl(client->epoll.fd, EPOLL_CTL_ADD, client->wake_event.fd,
	                 &event) == 0
	               ? 0
	               : -errno;
}

static void settle(void *object)
{
	struct peal_client *client = object;

	peal__upcall_flush(client);
	peal__client_settle(client);
}

static int open_producer(struct peal_client *client, const char *name,
                         uint64_t timeout_ns)
{
	const struct peal_client_options *known = &client->options;
	const struct peal_producer_options options = {
		.size = sizeof(options),
		.wait_mode = known->wait_mode,
		.spin_mode = known->spin_mode,
		.spin_ns = known->spin_ns,
		.wait_for_server = known->wait_for_server,
		.ret_failure = known->ret_failure,
	};
	const struct peal__wish wish = {
		.name = name,
		.role = PEAL__ROLE_CLIENT,
		.request_ring_bytes = known->request_ring_bytes,
		.response_ring_bytes = known->response_ring_bytes,
		.flags = known->order == PEAL_UNORDERED ? PEAL__HELLO_UNORDERED
	                                                : 0,
	};

	return peal__producer_open(&options, &wish, timeout_ns,
	                           &client->producer);
}

static struct peal_client *allocate(const struct peal_client_options *known)
{
	struct peal_client *client = calloc(1, sizeof(*client));

	if (client == NULL)
		return NULL;
	client->options = *known;
	client->options.name = NULL;
	client->wake_event.fd = client->epoll.fd = -1;
	client->inbox_end = &client->inbox;
	client->unsent_end = &client->unsent;
	client->owner = (struct peal__producer_owner){
		.object = client,
		.interrupt = peal__client_interrupt,
		.settle = settle,
		.wake_fd = -1,
	};
	peal__spin_init(&client->spin, (enum peal__spin_mode)known->spin_mode,
	                known->spin_ns);
	if (peal__flight_reserve(&client->flight, 1) < 0) {
		free(client);
		return NULL;
	}
	return client;
}

int peal_client_connect(const struct peal_client_options *options,
                        uint64_t timeout_ns, struct peal_client **ret_client)
{
	struct peal_client_options known = PEAL_CLIENT_OPTIONS_INIT;
	int saved_errno = errno;
	int error = peal__client_options_check(options, &known);
	struct peal_client *client;

	if (error < 0)
		return error;
	if (ret_client == NULL)
		return peal__fail(known.ret_failure, -EINVAL,
		                  "ret_client is NULL");
	client = allocate(&known);
	if (client == NULL) {
		errno = saved_errno;
		return peal__fail(known.ret_failure, -ENOMEM,
		                  "not enough memory");
	}
	error = open_producer(client, known.name, timeout_ns);
	client->options.ret_failure = NULL;
	if (error == 0) {
		client->producer->owner = &client->owner;
		error = open_fds(client);
		if (error == 0)
			error = watch_socket(client);
		if (error < 0)
			peal__fail(known.ret_failure, error,
			           "no descriptor to be had");
	}
	errno = saved_errno;
	if (error < 0) {
		peal_client_close(client);
		return error;
	}
	take_connection(client);
	*ret_client = client;
	return 0;
}

/* loss ---------------------------------------------------------------------- */

void peal__client_note_loss(struct peal_client *client)
{
	int error = client->producer->lost;

	if (client->is_noted)
		return;
	client->is_noted = true;
	open_door(client, NULL);
	unwatch_socket(client);
	for (struct peal__waiter *waiter = client->waiting; waiter != NULL;
	     waiter = waiter->outer) {
		if (waiter->is_done)
			continue;
		waiter->is_done = true;
		waiter->error = error;
	}
	peal__flight_lose(&client->flight, error);
	peal__upcall_forget(client);
}

int peal__client_lose(struct peal_client *client)
{
	int saved_errno = errno;

	client->is_readable = false;
	if (client->producer->lost == 0) {
		peal__producer_lose(client->producer, -EPROTO);
		shutdown(client->producer->connection.socket.fd, SHUT_RDWR);
		errno = saved_errno; /* it may have hung up */
	}
	return -EPROTO;
}

/* Answers that had come before the server went are still good. Pushes are not
 * delivered here, where no callback may run. */
static int save_answers(struct peal_client *client)
{
	int error;

	if (client->view.serial != 0 && client->view.note == NULL)
		peal__client_drop_view(client);
	client->is_saving = true;
	do
		error = peal__client_take(client, NULL, NULL);
	while (error == 1);
	client->is_saving = false;
	return error == -ENOMEM ? error : 0;
}

int peal__client_mend(struct peal_client *client, uint64_t timeout_ns)
{
	struct peal_producer *producer = client->producer;
	int error;

	if (peal__client_was_forked(client))
		return -ESTALE;
	if (!client->options.reconnect || !producer->told) {
		producer->told = true;
		return producer->lost;
	}
	error = save_answers(client);
	if (error < 0)
		return error;
	peal__client_note_loss(client);
	client->is_readable = false;
	shut_door(client);
	PEAL__HOOK("client: about to attach again");
	error = peal__producer_attach_again(producer, timeout_ns);
	if (error < 0)
		return error;
	/* A connection that no sleep would hear of is none. */
	error = watch_socket(client);
	if (error < 0) {
		peal__producer_leave(producer);
		return error;
	}
	take_connection(client);
	return 0;
}

/* notes --------------------------------------------------------------------- */

struct peal__note *peal__client_note(struct peal_client *client, size_t bytes)
{
	struct peal__note *note = client->free_notes;
	int saved_errno = errno;

	if (note != NULL)
		client->free_notes = note->next;
	else
		note = calloc(1, sizeof(*note));
	if (note != NULL && peal__buffer_reserve(&note->buffer, bytes) < 0) {
		peal__client_free_note(client, note);
		note = NULL;
	}
	if (note != NULL)
		note->next = NULL;
	errno = saved_errno;
	return note;
}

void peal__client_free_note(struct peal_client *client, struct peal__note *note)
{
	peal__buffer_rest(&note->buffer);
	note->next = client->free_notes;
	client->free_notes = note;
}

static void free_notes(struct peal__note *note)
{
	while (note != NULL) {
		struct peal__note *next = note->next;

		peal__buffer_free(&note->buffer);
		free(note);
		note = next;
	}
}

/* the rest ------------------------------------------------------------------ */

size_t peal_client_message_max(const struct peal_client *client)
{
	return peal_producer_message_max(client->producer) -
	       PEAL__FRAME_EXTENSION_BYTES;
}

int peal_client_stats(const struct peal_client *client,
                      struct peal_client_stats *ret_stats)
{
	const struct peal_producer_stats *sent = &client->producer->stats;

	if (ret_stats == NULL)
		return -EINVAL;
	if (peal__client_was_forked(client))
		return -ESTALE;
	*ret_stats = client->stats;
	ret_stats->in_flight_count = client->flight.sent_count +
	                             client->flight.lost_count +
	                             client->waiting_count;
	ret_stats->full_count = sent->full_count;
	ret_stats->reconnect_count = sent->reconnect_count;
	ret_stats->self = sent->self;
	return 0;
}

int peal_client_close(struct peal_client *client)
{
	int saved_errno = errno;

	if (client == NULL)
		return 0;
	if (client->producer != NULL && !peal__client_was_forked(client)) {
		shut_door(client);
		/* Its last chance before the good-bye. */
		peal__upcall_flush(client);
	}
	peal_producer_detach(client->producer);
	peal__fork_forget(&client->epoll, true);
	peal__fork_forget(&client->wake_event, true);
	if (client->view.note != NULL)
		peal__client_free_note(client, client->view.note);
	free_notes(client->inbox);
	free_notes(client->free_notes);
	peal__upcall_close(client);
	peal__flight_close(&client->flight);
	free(client);
	errno = saved_errno;
	return 0;
}
