/* SPDX-License-Identifier: MIT */
#include "base/hooks.h"

#include "peal/base.h"

#ifdef PEAL_HOOKS
PEAL_API void (*peal__hook)(const char *place);
#endif
