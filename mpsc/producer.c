/* SPDX-License-Identifier: MIT */
#include "peal/mpsc.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/failure.h"
#include "base/hooks.h"
#include "base/read.h"
#include "doorbell/lifeline.h"
#include "doorbell/spin.h"
#include "mpsc/attach.h"
#include "mpsc/connect.h"
#include "mpsc/options.h"
#include "mpsc/wire.h"
#include "shm/pass.h"

/* How long a producer sleeps before it looks whether its server is there. */
#define SLEEP_MAX_NS (50 * PEAL__NS_PER_MS)
/* Claims between two such looks at a server that has no lifeline. */
#define CLAIMS_PER_LOOK 64
/* Reconnecting may take so long, whatever the timeout of the call. */
#define RECONNECT_NS (100 * PEAL__NS_PER_MS)
/* Messages between two looks at which processor we run on. */
#define MESSAGES_PER_CPU 64

struct peal_producer {
	/* hot */
	struct peal_ring_tx tx;
	struct peal_ringer bell;
	const uint32_t *lifeline;
	uint64_t *position_word;
	uint64_t claimed_bytes; /* payload, of all claims not given up */
	struct peal_producer_stats stats;
	uint32_t good_generation; /* fork_generation; another when lost */
	uint32_t fork_generation;
	uint32_t claims_to_look;
	int32_t cpu;
	int lost; /* why there is no connection any more; 0: there is */

	/* waiting for room */
	struct peal_sleeper sleeper;
	struct peal__spin spin;

	struct peal__connection connection;
	struct peal_producer_options options; /* the name is ours */
	bool told; /* of the loss */
};

static bool was_forked(const struct peal_producer *producer)
{
	return PEAL_UNLIKELY(producer->fork_generation !=
			     peal__fork_generation());
}

/* Connected, and not in a forked child: one comparison tells both. */
static inline bool is_good(const struct peal_producer *producer)
{
	return PEAL_LIKELY(producer->good_generation ==
			   peal__fork_generation());
}

/* Why it is not. */
static int what_is_wrong(const struct peal_producer *producer)
{
	return was_forked(producer) ? -ESTALE : producer->lost;
}

/* Point everything at a new connection. */
static void take_connection(struct peal_producer *producer)
{
	const struct peal__connection *connection = &producer->connection;
	struct peal__segment *segment = connection->segment;

	peal_ring_tx_init(&producer->tx, connection->request_data,
			  connection->request_ring_bytes,
			  connection->request_start,
			  &segment->request_released);
	/* A new bell: what was rung at the old one counts for nothing. */
	producer->bell = (struct peal_ringer){
		.arm = &connection->arm_page->arm,
		.seq = connection->bell_page == NULL
			       ? NULL
			       : &connection->bell_page->seq,
		.fd = connection->socket.fd,
	};
	producer->lifeline = &connection->arm_page->lifeline;
	producer->position_word = &segment->word.position;
	producer->claimed_bytes = producer->stats.payload_bytes;
	producer->claims_to_look = CLAIMS_PER_LOOK;
	producer->cpu = -1;
	producer->lost = 0;
	producer->good_generation = producer->fork_generation;
	producer->told = false;
	producer->stats.self = connection->self;
	peal_doorbell_init(&producer->sleeper, &segment->space.arm,
			   &segment->space.seq,
			   producer->options.wait_mode == PEAL_WAIT_FD
				   ? PEAL_DOORBELL_FD
				   : PEAL_DOORBELL_FUTEX);
}

int peal_producer_attach(const struct peal_producer_options *options,
			 uint64_t timeout_ns,
			 struct peal_producer **ret_producer)
{
	struct peal_producer_options known = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_producer *producer = NULL;
	int saved_errno = errno;
	int error = peal__producer_options_check(options, &known);

	if (error < 0)
		return error;
	producer = calloc(1, sizeof(*producer));
	if (producer != NULL)
		producer->options = known;
	if (producer == NULL ||
	    (producer->options.name = strdup(known.name)) == NULL) {
		free(producer);
		errno = saved_errno;
		return peal__fail(known.ret_failure, -ENOMEM,
				  "not enough memory");
	}
	producer->options.ret_failure = NULL;
	producer->fork_generation = peal__fork_generation();
	peal__spin_init(&producer->spin, (enum peal__spin_mode)known.spin_mode,
			known.spin_ns);
	error = peal__attach(known.name, known.ring_bytes,
			     peal__deadline_after(timeout_ns),
			     known.ret_failure, &producer->connection);
	errno = saved_errno;
	if (error < 0) {
		free((void *)(uintptr_t)producer->options.name);
		free(producer);
		return error;
	}
	take_connection(producer);
	*ret_producer = producer;
	return 0;
}

int peal_producer_detach(struct peal_producer *producer)
{
	int saved_errno = errno;
	bool forked;

	if (producer == NULL)
		return 0;
	forked = was_forked(producer);
	peal__connection_close(&producer->connection, producer->lost == 0,
			       forked);
	free((void *)(uintptr_t)producer->options.name);
	free(producer);
	errno = saved_errno;
	return 0;
}

/* The connection is over: claims are void, and what nobody released is lost. */
static int lose(struct peal_producer *producer, int error)
{
	producer->lost = error;
	producer->good_generation = ~producer->fork_generation;
	/* What it had released since we last looked is not lost. */
	peal__ring_make_room(&producer->tx, 0);
	producer->stats.lost_bytes +=
		producer->tx.first - producer->tx.released;
	return error;
}

/* Is the server there? 0, -ECONNRESET, -ESHUTDOWN. One system call. */
static int look_at_server(struct peal_producer *producer)
{
	uint64_t arm;

	if (producer->lost != 0)
		return producer->lost;
	producer->claims_to_look = CLAIMS_PER_LOOK;
	/* B10: pairs with B9 in peal_consumer_close(). */
	arm = __atomic_load_n(producer->bell.arm, __ATOMIC_ACQUIRE);
	if ((arm & PEAL_DOORBELL_MODE_MASK) == PEAL_DOORBELL_CLOSED)
		return lose(producer, -ESHUTDOWN);
	if (peal__lifeline_is_cut(producer->lifeline) ||
	    peal__has_hung_up(producer->connection.socket.fd))
		return lose(producer, -ECONNRESET);
	return 0;
}

/* After a loss the first call tells it; with reconnect the next one mends it. */
static int mend(struct peal_producer *producer, uint64_t timeout_ns)
{
	int saved_errno = errno, error;

	if (!producer->options.reconnect || !producer->told) {
		producer->told = true;
		return producer->lost;
	}
	peal__connection_close(&producer->connection, false, false);
	if (timeout_ns < RECONNECT_NS)
		timeout_ns = RECONNECT_NS;
	error = peal__attach(producer->options.name,
			     producer->options.ring_bytes,
			     peal__deadline_after(timeout_ns), NULL,
			     &producer->connection);
	errno = saved_errno;
	if (error < 0)
		return error;
	take_connection(producer);
	producer->stats.reconnect_count++;
	return 0;
}

/* The server has no lifeline, or its lifeline was cut. */
static __attribute__((noinline)) int
check_closely(struct peal_producer *producer, uint32_t lifeline)
{
	int error;

	if (lifeline == 0 && --producer->claims_to_look > 0)
		return 0;
	error = look_at_server(producer);
	if (error < 0)
		producer->told = true;
	return error;
}

/*
 * What every call that writes begins with. A server with a lifeline is looked
 * at by one load from the line that publish loads anyway; one without, every
 * so many claims.
 */
static inline int check(struct peal_producer *producer, uint64_t timeout_ns)
{
	uint32_t lifeline;

	if (!is_good(producer))
		return was_forked(producer) ? -ESTALE
					    : mend(producer, timeout_ns);
	lifeline = peal__read_once(producer->lifeline);
	/* Held is neither 0 nor marked: one comparison tells both. */
	if (PEAL_LIKELY(lifeline - 1 < FUTEX_OWNER_DIED - 1))
		return 0;
	return check_closely(producer, lifeline);
}

static bool has_room(void *object)
{
	const struct peal_producer *producer = object;
	uint64_t want = peal__read_once(&producer->connection.segment->space.want);
	/* R8: pairs with R2 and R6; seq_cst because it is the second look. */
	uint64_t released = __atomic_load_n(producer->tx.released_word,
					    __ATOMIC_SEQ_CST);

	return (int64_t)(released - want) >= 0;
}

/* In fd mode the consumer rings with a byte on the socket. */
static int sleep_in_poll(void *object, uint64_t deadline_ns)
{
	struct peal_producer *producer = object;
	struct pollfd poll_fd = {.fd = producer->connection.socket.fd,
				 .events = POLLIN | POLLRDHUP};
	int saved_errno = errno;
	int count = poll(&poll_fd, 1, peal__deadline_to_poll_ms(deadline_ns));

	errno = saved_errno;
	return count != 0 ? 0 : -ETIMEDOUT;
}

/* Take what lies on the socket: wake bytes, or the server's last words. */
static void read_socket(struct peal_producer *producer)
{
	union peal__packet packet;
	int got;

	do
		got = peal__pass_receive(producer->connection.socket.fd,
					 &packet, sizeof(packet), NULL, NULL);
	while (got >= 0);
}

/* How far the consumer must have released before so much is free. */
static void wish(struct peal_producer *producer, uint64_t frame_bytes)
{
	/* Relaxed: arming, B2, is what makes it count. */
	peal__write_once(&producer->connection.segment->space.want,
			 producer->tx.tail + frame_bytes +
				 PEAL_RING_SPARE_BYTES -
				 producer->tx.capacity_bytes);
}

static int wait_for_room(struct peal_producer *producer, size_t bytes,
			 uint64_t timeout_ns)
{
	const struct peal__spin_look look = {
		.soon = has_room,
		.final = has_room,
		.sleep = producer->options.wait_mode == PEAL_WAIT_FD
				 ? sleep_in_poll
				 : NULL,
		.object = producer,
		.peer_cpu = &producer->connection.arm_page->cpu,
	};
	struct peal__spin_limit limit = {timeout_ns, 0, SLEEP_MAX_NS};
	uint64_t frame_bytes = peal_ring_frame_bytes(bytes);
	int result;

	wish(producer, frame_bytes);
	for (;;) {
		peal_doorbell_look(&producer->sleeper);
		result = peal__spin_wait(&producer->spin, &producer->sleeper,
					 &look, &limit);
		if (producer->options.wait_mode == PEAL_WAIT_FD)
			read_socket(producer);
		if (peal__ring_make_room(&producer->tx, frame_bytes))
			return 0;
		if (look_at_server(producer) < 0) {
			producer->told = true;
			return producer->lost;
		}
		if (result == -ETIMEDOUT)
			return result;
	}
}

/* A full ring: look whether somebody is still there to empty it, and wait. */
static __attribute__((noinline)) int
claim_full(struct peal_producer *producer, size_t bytes, uint64_t timeout_ns,
	   void **ret_data)
{
	struct peal__client_word *word = &producer->connection.segment->word;
	uint64_t start_ns = peal__clock_ns();
	int error = -EAGAIN;

	if (look_at_server(producer) < 0) {
		producer->told = true;
		return producer->lost;
	}
	if (timeout_ns > 0 && producer->tx.claim_count == 0) {
		error = wait_for_room(producer, bytes, timeout_ns);
		if (producer->lost != 0)
			return error;
		producer->stats.blocked_ns += peal__clock_ns() - start_ns;
		peal__write_once(&word->blocked_ns,
				 producer->stats.blocked_ns);
	}
	if (error == 0)
		return peal_ring_claim(&producer->tx, bytes, 0, 0, ret_data);
	producer->stats.full_count++;
	peal__write_once(&word->full_count, producer->stats.full_count);
	return error;
}

static inline int claim(struct peal_producer *producer, size_t bytes,
			uint64_t timeout_ns, void **ret_data)
{
	int error = check(producer, timeout_ns);

	if (PEAL_UNLIKELY(error < 0))
		return error;
	error = peal_ring_claim(&producer->tx, bytes, 0, 0, ret_data);
	if (PEAL_UNLIKELY(error == -EAGAIN))
		error = claim_full(producer, bytes, timeout_ns, ret_data);
	if (PEAL_LIKELY(error == 0))
		producer->claimed_bytes += bytes;
	return error;
}

int peal_producer_claim(struct peal_producer *producer, size_t bytes,
			uint64_t timeout_ns, void **ret_data)
{
	return claim(producer, bytes, timeout_ns, ret_data);
}

int peal_producer_trim(struct peal_producer *producer, size_t bytes)
{
	uint32_t before = producer->tx.last_word;
	int error;

	if (!is_good(producer))
		return what_is_wrong(producer);
	error = peal_ring_trim(&producer->tx, bytes);
	if (error == 0)
		producer->claimed_bytes -= before - producer->tx.last_word;
	return error;
}

int peal_producer_abort(struct peal_producer *producer)
{
	uint32_t newest = producer->tx.last_word - PEAL_RING_HEADER_BYTES;
	int error;

	if (!is_good(producer))
		return what_is_wrong(producer);
	error = peal_ring_abort(&producer->tx);
	if (error == 0)
		producer->claimed_bytes -= newest;
	return error;
}

/* Where we run, for a consumer that would spin on our processor in vain. */
static void show_cpu(struct peal_producer *producer)
{
	int32_t cpu = peal__cpu_current();

	if (cpu == producer->cpu)
		return;
	producer->cpu = cpu;
	peal__write_once(&producer->connection.segment->word.cpu, cpu);
}

/* There are claims, and a connection. */
static inline uint32_t publish(struct peal_producer *producer)
{
	uint32_t count = peal_ring_publish(&producer->tx);

	PEAL__HOOK("publish: committed");
	peal_doorbell_ring(&producer->bell);
	/* For eyes only, on a line that nobody waits for. */
	peal__write_once(producer->position_word, producer->tx.tail);
	producer->stats.payload_bytes = producer->claimed_bytes;
	producer->stats.message_count += count;
	if (PEAL_UNLIKELY(producer->stats.message_count % MESSAGES_PER_CPU <
			  count))
		show_cpu(producer);
	return count;
}

int peal_producer_publish(struct peal_producer *producer)
{
	if (!is_good(producer))
		return what_is_wrong(producer);
	if (PEAL_UNLIKELY(producer->tx.claim_count == 0))
		return -EINVAL;
	return (int)publish(producer);
}

int peal_producer_send(struct peal_producer *producer, const void *data,
		       size_t bytes, uint64_t timeout_ns)
{
	void *to;
	int error = claim(producer, bytes, timeout_ns, &to);

	if (PEAL_UNLIKELY(error < 0))
		return error;
	if (bytes > 0)
		memcpy(to, data, bytes);
	publish(producer);
	return 0;
}

int peal_producer_sendv(struct peal_producer *producer,
			const struct peal_part *parts, size_t part_count,
			uint64_t timeout_ns)
{
	size_t bytes = 0;
	uint8_t *to;
	void *data;
	int error;

	for (size_t i = 0; i < part_count; i++)
		if (__builtin_add_overflow(bytes, parts[i].data_bytes, &bytes))
			return -EMSGSIZE;
	error = claim(producer, bytes, timeout_ns, &data);
	if (error < 0)
		return error;
	to = data;
	for (size_t i = 0; i < part_count; i++) {
		if (parts[i].data_bytes > 0)
			memcpy(to, parts[i].data, parts[i].data_bytes);
		to += parts[i].data_bytes;
	}
	publish(producer);
	return 0;
}

int peal_producer_send_batch(struct peal_producer *producer,
			     const struct peal_part *messages,
			     size_t message_count, uint64_t timeout_ns)
{
	size_t sent = 0;
	int error = 0;
	void *data;

	if (message_count > INT32_MAX)
		return -EINVAL;
	while (sent < message_count) {
		size_t bytes = messages[sent].data_bytes;

		error = claim(producer, bytes, timeout_ns, &data);
		/* Full with claims in hand: publish them, then wait. */
		if (error == -EAGAIN && producer->tx.claim_count > 0 &&
		    timeout_ns > 0) {
			publish(producer);
			continue;
		}
		if (error < 0)
			break;
		if (bytes > 0)
			memcpy(data, messages[sent].data, bytes);
		sent++;
	}
	if (producer->lost == 0 && producer->tx.claim_count > 0)
		publish(producer);
	return sent > 0 ? (int)sent : error;
}

size_t peal_producer_message_max(const struct peal_producer *producer)
{
	return peal_ring_message_max(producer->tx.capacity_bytes);
}

int peal_producer_fd(const struct peal_producer *producer)
{
	if (was_forked(producer))
		return -ESTALE;
	if (producer->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	return producer->lost != 0 ? producer->lost
				   : producer->connection.socket.fd;
}

int peal_producer_prepare(struct peal_producer *producer, size_t bytes)
{
	uint64_t frame_bytes = peal_ring_frame_bytes(bytes);

	if (was_forked(producer))
		return -ESTALE;
	if (producer->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	if (producer->lost != 0)
		return 1;
	if (bytes > peal_producer_message_max(producer))
		return -EMSGSIZE;
	peal_doorbell_look(&producer->sleeper);
	if (peal__ring_make_room(&producer->tx, frame_bytes))
		return 1;
	wish(producer, frame_bytes);
	peal_doorbell_arm(&producer->sleeper);
	if (!has_room(producer) && !peal_doorbell_changed(&producer->sleeper))
		return 0;
	peal_doorbell_disarm(&producer->sleeper);
	return 1;
}

int peal_producer_dispatch(struct peal_producer *producer)
{
	int saved_errno = errno;

	if (was_forked(producer))
		return -ESTALE;
	if (producer->options.wait_mode != PEAL_WAIT_FD)
		return -EINVAL;
	if (producer->lost == 0) {
		peal_doorbell_disarm(&producer->sleeper);
		read_socket(producer);
		look_at_server(producer);
	}
	errno = saved_errno;
	return producer->lost;
}

int peal_producer_stats(const struct peal_producer *producer,
			struct peal_producer_stats *ret_stats)
{
	if (was_forked(producer))
		return -ESTALE;
	*ret_stats = producer->stats;
	return 0;
}
