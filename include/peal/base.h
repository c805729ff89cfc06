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
 * Units: times are relative nanoseconds in a uint64_t. 0 never waits,
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
	int code;	/* the -errno that was returned */
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
