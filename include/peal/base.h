/* SPDX-License-Identifier: MIT */
/*
 * What every other header of peal stands on: version, errors, limits.
 *
 * Callers: any thread, any time.
 *
 * Errors: an int function returns 0 (or a count) or -errno; errno itself is
 *	left alone and outputs named ret_ are written only on success. Where a
 *	person needs more than a number, options carry a struct peal_failure.
 *
 *	NULL: what ends something (close, detach, unmap, drop) takes it and does
 *	nothing, and data may be NULL where its bytes are 0. What opens, attaches,
 *	connects, creates, maps or posts, and what tells numbers (stats, info,
 *	observers), is -EINVAL when its options, its callback or a ret_ is NULL,
 *	but for a ret_ that may be NULL, as its description then says. Any other
 *	NULL, handles, messages and requests above all, is a mistake of the
 *	program that nobody looks for: these are on the way of every message.
 *
 *	Options begin with their size, which the _INIT of their struct sets. A
 *	size of 0, or one less than that of the struct's first version, is
 *	-EINVAL; so is a field that is set and that the library is too old to
 *	know, and a size beyond 4,096. The sentences are "options.size is N;
 *	begin with the _INIT of this struct" and "the options set a field that
 *	peal N does not know". Where the size is noise, but not 0, so is
 *	ret_failure: then the number is all there is. A program that was built
 *	against an older header gets the defaults of the fields it does not know.
 *
 * Units: times are relative nanoseconds in a uint64_t. 0 never waits, but for
 *	a call that attaches again after a loss: it has 100 ms at least.
 *	PEAL_FOREVER has no limit. Sizes are bytes.
 */
#ifndef PEAL_BASE_H
#define PEAL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PEAL_API __attribute__((visibility("default")))
#define PEAL_MUST_CHECK __attribute__((warn_unused_result))
#define PEAL_LIKELY(x) __builtin_expect(!!(x), 1)
#define PEAL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#error "peal needs gcc or clang: its headers use the __atomic builtins"
#endif

#ifdef __cplusplus
#define PEAL_BEGIN_DECLS extern "C" {
#define PEAL_END_DECLS }
#else
#define PEAL_BEGIN_DECLS
#define PEAL_END_DECLS
#endif

/*
 * A function may have the name of the struct it fills, as stat(2) has. C++ finds
 * both, and with -Wshadow g++ says so at the declaration of the function.
 */
#if defined(__cplusplus) && !defined(__clang__)
#define PEAL__BEGIN_SAME_NAME          \
	_Pragma("GCC diagnostic push") \
		_Pragma("GCC diagnostic ignored \"-Wshadow\"")
#define PEAL__END_SAME_NAME _Pragma("GCC diagnostic pop")
#else
#define PEAL__BEGIN_SAME_NAME
#define PEAL__END_SAME_NAME
#endif

/*
 * Announcing: a store that must be followed, in the order of all processors, by
 * the load of somebody's bell. In C11 that is a seq_cst store and a seq_cst
 * load. On x86 the store would become an exchange on the very line that the
 * other side polls, which costs the round trip one more transfer of it; a
 * release store with a locked operation on our own stack behind it orders the
 * same and does not. ThreadSanitizer is given the C11 form.
 */
#if defined(__SANITIZE_THREAD__)
#define PEAL__THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PEAL__THREAD_SANITIZER 1
#endif
#endif

#if defined(__x86_64__) && !defined(PEAL__THREAD_SANITIZER)
#define PEAL__ANNOUNCE __ATOMIC_RELEASE
static inline void peal__announced(void)
{
	__asm__ volatile("lock; addl $0, -4(%%rsp)" ::: "memory", "cc");
}
#else
#define PEAL__ANNOUNCE __ATOMIC_SEQ_CST
static inline void peal__announced(void)
{
}
#endif

/*
 * The line of @address is about to be written: fetch it for that, without
 * waiting. The builtin fetches for reading on x86-64 as long as the compiler
 * may assume no more than its first processors, and a line that was fetched for
 * reading moves twice. All of them at least ignore the instruction.
 */
static inline void peal__prefetch_write(const void *address)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" ::"m"(*(const char *)address));
#else
	__builtin_prefetch(address, 1);
#endif
}

/*
 * The one load of a word that a peer can write, now or later: everything else
 * goes by the copy. Built for fuzzing, the word may be another one as soon as
 * it has been read, as if the peer had waited for just that; any other build
 * has the load alone.
 */
#ifdef PEAL_FUZZ
PEAL_BEGIN_DECLS
void peal__fuzz_loaded(const void *word, size_t bytes);
PEAL_END_DECLS
#define peal__load(pointer, order)                                \
	__extension__({                                           \
		__typeof__(*(pointer)) peal__copy =               \
			__atomic_load_n((pointer), (order));      \
		peal__fuzz_loaded((pointer), sizeof(peal__copy)); \
		peal__copy;                                       \
	})
#else
#define peal__load(pointer, order) __atomic_load_n((pointer), (order))
#endif

#define PEAL_VERSION_MAJOR 0
#define PEAL_VERSION_MINOR 1
#define PEAL_VERSION_PATCH 0

/* A timeout that never ends. */
#define PEAL_FOREVER UINT64_MAX

PEAL_BEGIN_DECLS

/*
 * One sentence for the person, beside the number for the program. The caller
 * owns it; a call that fails fills it, a call that succeeds leaves it alone.
 */
struct peal_failure {
	int code;       /* the -errno that was returned */
	char text[156]; /* always terminated */
};

/*
 * What an error of this library means, as one English phrase without a full
 * stop, for both signs of @error; never NULL, never freed. Codes that peal
 * does not use itself get the C library's text.
 */
PEAL_API const char *peal_strerror(int error);

/* "major.minor.patch" of the library that is running, not of the header. */
PEAL_API const char *peal_version(void);

PEAL_END_DECLS

#endif
