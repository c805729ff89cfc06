/* SPDX-License-Identifier: MIT */
/*
 * One end of a ring in a memory file, for two programs of which one has 32 bits
 * and the other 64. It needs the ring and nothing that is made for one of them.
 *
 *	./ring_end write FD SEED COUNT
 *	./ring_end read FD SEED COUNT
 *
 * The file is a page for the released position, and the ring. 0, or 1 after
 * saying what was wrong.
 */
#include "peal/ring.h"

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096
#define RING_BYTES 65536
#define LENGTHS 3000

/* Before the position needs more than 32 bits, and soon after. */
#define START (UINT64_C(0x100000000) - 1024)

struct end {
	uint8_t *data;
	uint64_t *released_word;
	uint64_t seed;
	uint64_t count;
};

static bool map(struct end *end, int fd)
{
	uint8_t *base = mmap(NULL, PAGE_BYTES + 2 * RING_BYTES, PROT_NONE,
	                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		return false;
	end->released_word = (uint64_t *)(void *)base;
	end->data = base + PAGE_BYTES;
	return mmap(base, PAGE_BYTES, PROT_READ | PROT_WRITE,
	            MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED &&
	       mmap(end->data, RING_BYTES, PROT_READ | PROT_WRITE,
	            MAP_SHARED | MAP_FIXED, fd, PAGE_BYTES) != MAP_FAILED &&
	       mmap(end->data + RING_BYTES, RING_BYTES, PROT_READ | PROT_WRITE,
	            MAP_SHARED | MAP_FIXED, fd, PAGE_BYTES) != MAP_FAILED;
}

/* The same in both: ids of 64 bits, lengths from none to some thousand bytes. */
static uint64_t id_of(const struct end *end, uint64_t number)
{
	uint64_t x = end->seed + number * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ (x >> 31);
}

static int write_all(struct end *end)
{
	struct peal_ring_tx tx;

	peal_ring_tx_init(&tx, end->data, RING_BYTES, START,
	                  end->released_word);
	for (uint64_t i = 0; i < end->count; i++) {
		uint64_t id = id_of(end, i);
		size_t bytes = (size_t)(id % LENGTHS);
		void *data = NULL;

		while (peal_ring_claim(&tx, bytes, (uint32_t)(id >> 32), id,
		                       &data) < 0)
			sched_yield();
		memset(data, (int)(id & 0xff), bytes);
		peal_ring_publish(&tx);
	}
	return 0;
}

static bool is_right(const struct peal_message *message, uint64_t id)
{
	const uint8_t *bytes = message->data;

	if (message->id != id || message->kind != (uint32_t)(id >> 32) ||
	    message->data_bytes != id % LENGTHS)
		return false;
	for (size_t i = 0; i < message->data_bytes; i++)
		if (bytes[i] != (id & 0xff))
			return false;
	return true;
}

static int read_all(struct end *end)
{
	struct peal_ring_rx rx;

	peal_ring_rx_init(&rx, end->data, RING_BYTES, START,
	                  end->released_word);
	for (uint64_t i = 0; i < end->count; i++) {
		struct peal_message message;

		while (peal_ring_peek(&rx, &message) < 0)
			sched_yield();
		if (!is_right(&message, id_of(end, i))) {
			printf("message %llu is not what was sent\n",
			       (unsigned long long)i);
			return 1;
		}
		peal_ring_release(&rx, &message);
		peal_ring_tell(&rx);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct end end = {0};

	if (argc != 5)
		return 2;
	end.seed = strtoull(argv[3], NULL, 10);
	end.count = strtoull(argv[4], NULL, 10);
	if (!map(&end, (int)strtol(argv[2], NULL, 10))) {
		perror("mmap");
		return 2;
	}
	return strcmp(argv[1], "write") == 0 ? write_all(&end) : read_all(&end);
}
