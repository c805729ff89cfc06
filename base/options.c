/* SPDX-License-Identifier: MIT */
#include "base/options.h"

#include <errno.h>
#include <string.h>

#include "base/failure.h"

#define OPTIONS_BYTES_MAX 4096

int peal__options_take(void *known, size_t known_bytes, size_t failure_offset,
                       const void *given)
{
	const unsigned char *bytes = given;
	struct peal_failure *failure = NULL;
	size_t given_bytes, least_bytes = failure_offset + sizeof(failure);
	bool is_plausible;

	if (given == NULL)
		return -EINVAL;
	memcpy(&given_bytes, given, sizeof(given_bytes));
	is_plausible = given_bytes >= least_bytes &&
	               given_bytes <= OPTIONS_BYTES_MAX;
	if (is_plausible || given_bytes == 0)
		memcpy(&failure, bytes + failure_offset, sizeof(failure));
	if (!is_plausible)
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

int peal__check_ranges(const struct peal__range *ranges, size_t count,
                       struct peal_failure *failure)
{
	for (size_t i = 0; i < count; i++)
		if (ranges[i].value < ranges[i].least ||
		    ranges[i].value > ranges[i].most)
			return peal__fail(
				failure, -EINVAL,
				"options.%s is %llu; it must be %llu to %llu",
				ranges[i].field,
				(unsigned long long)ranges[i].value,
				(unsigned long long)ranges[i].least,
				(unsigned long long)ranges[i].most);
	return 0;
}

int peal__check_power_of_two(const char *field, uint64_t value,
                             struct peal_failure *failure)
{
	if ((value & (value - 1)) == 0)
		return 0;
	return peal__fail(failure, -EINVAL,
	                  "options.%s is %llu, which is no power of two", field,
	                  (unsigned long long)value);
}
