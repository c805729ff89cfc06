/* SPDX-License-Identifier: MIT */
#include "base/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int peal__fail(struct peal_failure *failure, int code, const char *format, ...)
{
	int saved_errno = errno;
	va_list arguments;

	if (failure == NULL)
		return code;
	failure->code = code;
	va_start(arguments, format);
	vsnprintf(failure->text, sizeof(failure->text), format, arguments);
	va_end(arguments);
	errno = saved_errno;
	return code;
}
