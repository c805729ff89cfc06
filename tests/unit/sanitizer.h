/* SPDX-License-Identifier: MIT */
/*
 * Does this program run under a sanitizer? Then everything takes five to
 * twenty times as long, and a test that counts makes do with less.
 */
#ifndef PEAL_TESTS_UNIT_SANITIZER_H
#define PEAL_TESTS_UNIT_SANITIZER_H

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#elif __has_feature(address_sanitizer)
#define SLOW 1
#endif
#endif
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif

#if THREAD_SANITIZER || defined(__SANITIZE_ADDRESS__)
#undef SLOW
#define SLOW 1
#endif
#ifndef SLOW
#define SLOW 0
#endif

/* ThreadSanitizer keeps a signal back until the thread makes a call that it
 * knows to block, and futex(2) is none of these. */
#define SKIP_WHERE_SIGNALS_WAIT()                                     \
	do {                                                          \
		if (THREAD_SANITIZER)                                 \
			CHECK_SKIP("ThreadSanitizer delays signals"); \
	} while (0)

#endif
