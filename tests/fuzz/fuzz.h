/* SPDX-License-Identifier: MIT */
/*
 * What the fuzzers share: an input that is read from both ends, and the
 * accessor that changes a shared word as soon as the library has read it.
 *
 *	input    [ the script: what happens, in order ---> ... <--- the lies ]
 *
 * The script is taken from the front: one byte chooses a step, the next ones
 * say what it is about. The lies are taken from the back, one byte for every
 * word that the library reads and a peer could write (peal__load()): most
 * leave the word alone, some put another value there, for whoever reads it
 * once more. So one byte more in the script does not move all the lies. An
 * input that is used up has only zeroes: nothing more happens.
 *
 * The library maps a page where it likes, perhaps read-only; the fuzzer has a
 * mapping of its own to write through. fuzz_watch() says which is which. A
 * range that was forbidden must not be read any more.
 *
 * Callers: one thread. A broken promise is fuzz_broken(): it prints the
 *	sentence and aborts, which libFuzzer takes for a find.
 */
#ifndef PEAL_TESTS_FUZZ_FUZZ_H
#define PEAL_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_RANGE_MAX 16
#define FUZZ_COUNT(array) (sizeof(array) / sizeof((array)[0]))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

_Noreturn static inline void fuzz_broken(const char *sentence)
{
	fprintf(stderr, "BROKEN: %s\n", sentence);
	abort();
}

#define FUZZ_MUST(condition, sentence)         \
	do {                                   \
		if (!(condition))              \
			fuzz_broken(sentence); \
	} while (0)

/* the input --------------------------------------------------------------- */

static struct {
	const uint8_t *data;
	size_t front, back; /* what is left lies between them */
} fuzz_input;

static inline void fuzz_begin(const uint8_t *data, size_t bytes)
{
	fuzz_input.data = data;
	fuzz_input.front = 0;
	fuzz_input.back = bytes;
}

static inline bool fuzz_is_over(void)
{
	return fuzz_input.front >= fuzz_input.back;
}

static inline uint8_t fuzz_byte(void)
{
	return fuzz_is_over() ? 0 : fuzz_input.data[fuzz_input.front++];
}

static inline uint8_t fuzz_lie(void)
{
	return fuzz_is_over() ? 0 : fuzz_input.data[--fuzz_input.back];
}

/* A byte that means one of @count things. */
static inline uint32_t fuzz_choice(uint32_t count)
{
	return fuzz_byte() % count;
}

/* Up to @bytes of the script; returns how many there were. */
static inline size_t fuzz_bytes(void *to, size_t bytes)
{
	size_t left = fuzz_input.back - fuzz_input.front;

	if (bytes > left)
		bytes = left;
	if (bytes > 0)
		memcpy(to, fuzz_input.data + fuzz_input.front, bytes);
	fuzz_input.front += bytes;
	return bytes;
}

/* What a word may become: near what it was, at an edge, or anything. */
static inline uint64_t fuzz_other(uint64_t word, uint8_t (*next)(void))
{
	static const uint64_t edges[] = {
		0,
		1,
		15,
		16,
		17,
		32,
		4064,
		4080,
		4096,
		4112,
		8192,
		0x3fffffff,
		0x40000010,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		UINT64_C(1) << 62,
		UINT64_C(1) << 63,
		UINT64_MAX - 15,
		UINT64_MAX,
	};
	uint8_t how = next();
	uint64_t value = 0;

	switch (how & 7) {
	case 0:
		return word + 16 * (uint64_t)(1 + (how >> 3));
	case 1:
		return word - 16 * (uint64_t)(1 + (how >> 3));
	case 2:
		return word ^ UINT64_C(1) << (2 * (how >> 3));
	case 3:
	case 4:
		return edges[next() % FUZZ_COUNT(edges)];
	case 5:
		return next();
	case 6:
		return (uint64_t)next() << 8 | next();
	default:
		for (int i = 0; i < 8; i++)
			value = value << 8 | next();
		return value;
	}
}

/* the accessor ------------------------------------------------------------- */

struct fuzz_range {
	uintptr_t theirs; /* where the library has it mapped */
	size_t bytes;
	uint8_t *mine;
	bool is_hostile; /* else nobody lies there */
	const char *forbidden;
};

static struct fuzz_range fuzz_ranges[FUZZ_RANGE_MAX];
static size_t fuzz_range_count;
static uint64_t fuzz_lie_count;

static inline void fuzz_watch_nothing(void)
{
	fuzz_range_count = 0;
}

static inline struct fuzz_range *fuzz_watch(const void *theirs, void *mine,
                                            size_t bytes, bool is_hostile)
{
	struct fuzz_range *range = &fuzz_ranges[fuzz_range_count++];

	FUZZ_MUST(fuzz_range_count <= FUZZ_RANGE_MAX, "too many ranges");
	*range = (struct fuzz_range){
		.theirs = (uintptr_t)theirs,
		.bytes = bytes,
		.mine = mine,
		.is_hostile = is_hostile,
	};
	return range;
}

static inline void fuzz_change(void *word, size_t bytes)
{
	uint64_t before = 0, after;

	memcpy(&before, word, bytes);
	after = fuzz_other(before, fuzz_lie);
	memcpy(word, &after, bytes);
	fuzz_lie_count++;
}

/* The library has just read @word, by way of peal__load(). */
void peal__fuzz_loaded(const void *word, size_t bytes);

void peal__fuzz_loaded(const void *word, size_t bytes)
{
	uintptr_t at = (uintptr_t)word;

	for (size_t i = 0; i < fuzz_range_count; i++) {
		const struct fuzz_range *range = &fuzz_ranges[i];

		if (at < range->theirs || at - range->theirs >= range->bytes)
			continue;
		if (range->forbidden != NULL)
			fuzz_broken(range->forbidden);
		if (range->is_hostile && fuzz_lie() >= 0xc0)
			fuzz_change(range->mine + (at - range->theirs), bytes);
		return;
	}
}

/* Look at every byte, as a user would. */
static inline uint64_t fuzz_look_at(const void *data, size_t bytes)
{
	const volatile uint8_t *byte = data;
	uint64_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum = sum * 31 + byte[i];
	return sum;
}

#endif
