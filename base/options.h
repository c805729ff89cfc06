/* SPDX-License-Identifier: MIT */
/*
 * Structs of options that users fill in: they begin with their size, so that a
 * program built against another version of the header is understood.
 *
 * Callers: any thread.
 *
 * Errors: -EINVAL with a sentence that names the field.
 */
#ifndef PEAL_BASE_OPTIONS_H
#define PEAL_BASE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "peal/base.h"

/*
 * Copy an options struct of the caller's, which begins with its own size, over
 * the defaults at @known. A caller built against an older header leaves the
 * newer fields at their defaults; one built against a newer header is refused
 * when it sets a field that this library has not got.
 *
 * Where to complain is itself a field, @failure_offset bytes from the beginning.
 * It is the last one of the first version, so no header has a struct that ends
 * before it. Who has forgotten the size may be told so; a size that is noise
 * comes with a pointer that is noise.
 *
 * 0 or -EINVAL with a sentence.
 */
int peal__options_take(void *known, size_t known_bytes, size_t failure_offset,
                       const void *given);

/* A field that must lie between two values. */
struct peal__range {
	const char *field;
	uint64_t value, least, most;
};
int peal__check_ranges(const struct peal__range *ranges, size_t count,
                       struct peal_failure *failure);
int peal__check_power_of_two(const char *field, uint64_t value,
                             struct peal_failure *failure);

#endif
