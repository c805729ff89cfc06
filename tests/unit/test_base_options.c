/* SPDX-License-Identifier: MIT */
/* Structs of options that begin with their size. */
#include "tests/check.h"

#include <errno.h>
#include <string.h>

#include "base/options.h"

struct options {
	size_t size;
	uint64_t old_field;
	struct peal_failure *ret_failure; /* the end of the first version */
	uint64_t new_field;
};

struct options_of_the_future {
	struct options known;
	uint64_t field;
};

static const struct options defaults = {sizeof(struct options), 7, NULL, 8};

static int take_options(struct options *known, const void *given)
{
	return peal__options_take(known, sizeof(*known),
	                          offsetof(struct options, ret_failure), given);
}

static void options_of_our_own_size_are_taken(void **state)
{
	struct options known = defaults;
	struct peal_failure failure = {1, "untouched"};
	struct options given = {sizeof(given), 1, &failure, 2};

	(void)state;
	assert_int_equal(take_options(&known, &given), 0);
	assert_int_equal(known.old_field, 1);
	assert_int_equal(known.new_field, 2);
	assert_ptr_equal(known.ret_failure, &failure);
	assert_string_equal(failure.text, "untouched");
}

static void
options_of_an_older_header_leave_new_fields_at_defaults(void **state)
{
	struct options known = defaults;
	struct options given = {offsetof(struct options, new_field), 1, NULL,
	                        2};

	(void)state;
	assert_int_equal(take_options(&known, &given), 0);
	assert_int_equal(known.old_field, 1);
	assert_int_equal(known.new_field, 8);
}

static void
options_of_a_newer_header_are_taken_while_it_asks_nothing_new(void **state)
{
	struct options known = defaults;
	struct options_of_the_future given = {{sizeof(given), 1, NULL, 2}, 0};

	(void)state;
	assert_int_equal(take_options(&known, &given), 0);
	assert_int_equal(known.new_field, 2);
}

static void options_with_a_field_we_do_not_know_are_refused(void **state)
{
	struct options known = defaults;
	struct peal_failure failure = {0, ""};
	struct options_of_the_future given = {{sizeof(given), 1, &failure, 2},
	                                      1};

	(void)state;
	assert_int_equal(take_options(&known, &given), -EINVAL);
	assert_memory_equal(&known, &defaults, sizeof(known));
	assert_int_equal(failure.code, -EINVAL);
	assert_non_null(strstr(failure.text, peal_version()));
}

/* Nor is the pointer looked at, which is no more plausible; but for the size of
 * who has forgotten it. */
static void options_without_a_plausible_size_are_refused(void **state)
{
	static const size_t sizes[] = {
		0,
		1,
		sizeof(size_t),
		offsetof(struct options, ret_failure) + sizeof(void *) - 1,
		4097,
		SIZE_MAX,
	};

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(sizes); i++) {
		struct options known = defaults;
		struct peal_failure failure = {0, ""};
		struct options given = {sizes[i], 1, &failure, 2};

		assert_int_equal(take_options(&known, &given), -EINVAL);
		assert_memory_equal(&known, &defaults, sizeof(known));
		if (sizes[i] == 0)
			assert_non_null(strstr(failure.text, "options.size is "
			                                     "0"));
		else
			assert_string_equal(failure.text, "");
	}
}

static void options_that_are_null_are_refused(void **state)
{
	struct options known = defaults;

	(void)state;
	assert_int_equal(take_options(&known, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_of_our_own_size_are_taken),
		cmocka_unit_test(
			options_of_an_older_header_leave_new_fields_at_defaults),
		cmocka_unit_test(
			options_of_a_newer_header_are_taken_while_it_asks_nothing_new),
		cmocka_unit_test(
			options_with_a_field_we_do_not_know_are_refused),
		cmocka_unit_test(options_without_a_plausible_size_are_refused),
		cmocka_unit_test(options_that_are_null_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
