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

int peal__options_take(void *known, size_t known_bytes, const void *given,
                       struct peal_failure *failure)
{
	const unsigned char *bytes = given;
	size_t given_bytes;

	if (given == NULL)
		return peal__fail(failure, -EINVAL, "options is NULL");
	memcpy(&given_bytes, given, sizeof(given_bytes));
	if (given_bytes < sizeof(given_bytes) || given_bytes > 4096)
		return peal__fail(
			failure, -EINVAL,
			"options.size is %zu; begin with the _INIT of "
			"this struct",
			given_bytes);
	for (size_t i = known_bytes; i < given_bytes; i++)
		if (bytes[i] != 0)
			return peal__fail(failure, -EINVAL,
			                  "the options set a field that peal "
			                  "%s does not know",
			                  peal_version());
	memcpy(known, given,
	       given_bytes < known_bytes ? given_bytes : known_bytes);
	return 0;
}
