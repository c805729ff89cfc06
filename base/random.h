/* SPDX-License-Identifier: MIT */
/*
 * Numbers nobody can foretell: first epochs, generations, ring starts, nonces.
 *
 * Callers: any thread.
 */
#ifndef PEAL_BASE_RANDOM_H
#define PEAL_BASE_RANDOM_H

#include <stdint.h>

/* 64 random bits from the kernel; errno is left alone. */
uint64_t peal__random(void);

#endif
