/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shmctl.h"

#define COLUMN_MAX 24
#define CELL_BYTES 112
#define GAP "  "

struct table {
	const char *const *headings;
	size_t column_count;
	size_t widths[COLUMN_MAX];
	char (*cells)[CELL_BYTES];
	size_t cell_count, room;
};

/* Control characters would let a hostile name repaint the terminal. */
static void make_plain(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
}

static void print_sentence(FILE *file, const char *before, const char *format,
                           va_list arguments)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, arguments);
	make_plain(text);
	fprintf(file, "%s%s\n", before, text);
}

void print_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_sentence(stderr, "shmctl: ", format, arguments);
	va_end(arguments);
}

void print_line(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_sentence(stdout, "", format, arguments);
	va_end(arguments);
}

const char *in_bytes(uint64_t bytes, struct text *text)
{
	static const char units[] = "KMGTPE";
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(text->bytes, sizeof(text->bytes), "%" PRIu64 "B",
		         bytes);
		return text->bytes;
	}
	/* 1023.95 would be printed as 1024.0 of its unit. */
	for (value /= 1024; value >= 1023.95; value /= 1024)
		unit++;
	snprintf(text->bytes, sizeof(text->bytes), "%.1f%ciB", value,
	         units[unit]);
	return text->bytes;
}

const char *in_time(uint64_t ns, struct text *text)
{
	char *out = text->bytes;
	const size_t room = sizeof(text->bytes);
	uint64_t seconds = ns / NS_PER_S;

	if (ns < 1000)
		snprintf(out, room, "%" PRIu64 "ns", ns);
	else if (ns < NS_PER_MS)
		snprintf(out, room, "%" PRIu64 "us", ns / 1000);
	else if (ns < NS_PER_S)
		snprintf(out, room, "%" PRIu64 "ms", ns / NS_PER_MS);
	else if (seconds < 60)
		snprintf(out, room, "%" PRIu64 ".%" PRIu64 "s", seconds,
		         ns / (NS_PER_S / 10) % 10);
	else if (seconds < 3600)
		snprintf(out, room, "%" PRIu64 "m%02" PRIu64 "s", seconds / 60,
		         seconds % 60);
	else if (seconds < 86400)
		snprintf(out, room, "%" PRIu64 "h%02" PRIu64 "m",
		         seconds / 3600, seconds / 60 % 60);
	else
		snprintf(out, room, "%" PRIu64 "d%02" PRIu64 "h",
		         seconds / 86400, seconds / 3600 % 24);
	return out;
}

/* table ------------------------------------------------------------------- */

static bool is_left(const struct table *table, size_t column)
{
	return table->headings[column][0] == '<';
}

static const char *heading(const struct table *table, size_t column)
{
	return table->headings[column] + (is_left(table, column) ? 1 : 0);
}

/* There is nothing a tool could do without memory. */
static void *must_have(void *memory)
{
	if (memory != NULL)
		return memory;
	print_error("not enough memory");
	exit(SHMCTL_FAILED);
}

struct table *table_open(const char *const *headings, size_t column_count)
{
	struct table *table = must_have(calloc(1, sizeof(*table)));

	table->headings = headings;
	table->column_count = column_count;
	for (size_t i = 0; i < column_count; i++)
		table->widths[i] = strlen(heading(table, i));
	return table;
}

void table_cell(struct table *table, const char *format, ...)
{
	size_t column = table->cell_count % table->column_count, width;
	va_list arguments;
	char *cell;

	if (table->cell_count == table->room) {
		table->room = table->room == 0 ? 64 : table->room * 2;
		table->cells = must_have(
			realloc(table->cells, table->room * CELL_BYTES));
	}
	cell = table->cells[table->cell_count++];
	va_start(arguments, format);
	vsnprintf(cell, CELL_BYTES, format, arguments);
	va_end(arguments);
	make_plain(cell);
	width = strlen(cell);
	if (width > table->widths[column])
		table->widths[column] = width;
}

void table_number(struct table *table, bool known, uint64_t number)
{
	if (known)
		table_cell(table, "%" PRIu64, number);
	else
		table_cell(table, "-");
}

static void print_cell(const struct table *table, size_t column,
                       const char *text)
{
	const bool last = column + 1 == table->column_count;
	const int width = (int)table->widths[column];

	if (!is_left(table, column))
		printf("%*s", width, text);
	else if (last)
		fputs(text, stdout);
	else
		printf("%-*s", width, text);
	fputs(last ? "\n" : GAP, stdout);
}

void table_print_and_close(struct table *table)
{
	for (size_t i = 0; i < table->column_count; i++)
		print_cell(table, i, heading(table, i));
	for (size_t i = 0; i < table->cell_count; i++)
		print_cell(table, i % table->column_count, table->cells[i]);
	free(table->cells);
	free(table);
}
