/* SPDX-License-Identifier: MIT */
/*
 * Named places in the algorithms at which a test may stop, kill or interleave.
 *
 * They exist in builds with -Dhooks=true only; everywhere else PEAL__HOOK() is
 * nothing at all. A test sets peal__hook and is called with the name of each
 * place that a thread reaches, on that thread.
 *
 * Callers: set peal__hook before a second thread starts; a hook must not call
 *	back into the object it interrupted.
 */
#ifndef PEAL_BASE_HOOKS_H
#define PEAL_BASE_HOOKS_H

#ifdef PEAL_HOOKS
#ifdef __cplusplus
extern "C" {
#endif
extern void (*peal__hook)(const char *place);
#ifdef __cplusplus
}
#endif
#define PEAL__HOOK(place)                  \
	do {                               \
		if (peal__hook)            \
			peal__hook(place); \
	} while (0)
#else
#define PEAL__HOOK(place) ((void)0)
#endif

#endif
