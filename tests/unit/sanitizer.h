/* SPDX-License-Identifier: MIT */
/*
 * Does this program run under a sanitizer? Then everything takes five to
 * twenty times as long, and a test that counts makes do with less.
 */
#ifndef PEAL_TESTS_UNIT_SANITIZER_H
#define PEAL_TESTS_UNIT_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#ifndef SLOW
#define SLOW 0
#endif

#endif
