/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>

#include "shmctl.h"

/* Does the next value of this object or array follow another one? */
static bool comma_is_due;

/*
 * Bytes outside of ASCII are escaped one by one: a hostile name need not be
 * UTF-8, the document must.
 */
static void write_text(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		unsigned char byte = (unsigned char)*text;

		if (byte == '"' || byte == '\\')
			printf("\\%c", byte);
		else if (byte < 0x20 || byte >= 0x7f)
			printf("\\u%04x", (unsigned int)byte);
		else
			putchar(byte);
	}
	putchar('"');
}

static void begin_value(const char *key)
{
	if (comma_is_due)
		putchar(',');
	comma_is_due = true;
	if (key == NULL)
		return;
	write_text(key);
	putchar(':');
}

void json_begin(const char *key, char bracket)
{
	begin_value(key);
	putchar(bracket);
	comma_is_due = false;
}

void json_end(char bracket)
{
	putchar(bracket);
	comma_is_due = true;
}

void json_text(const char *key, const char *value)
{
	begin_value(key);
	write_text(value);
}

void json_number(const char *key, uint64_t value)
{
	begin_value(key);
	printf("%" PRIu64, value);
}

void json_null(const char *key)
{
	begin_value(key);
	fputs("null", stdout);
}

void json_number_or_null(const char *key, bool known, uint64_t value)
{
	if (known)
		json_number(key, value);
	else
		json_null(key);
}

void json_end_document(void)
{
	putchar('\n');
	comma_is_due = false;
}
