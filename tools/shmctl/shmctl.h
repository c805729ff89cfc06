/* SPDX-License-Identifier: MIT */
/*
 * shmctl: which servers there are, which clients they have, how full and how
 * slow.
 *
 *	main.c   subcommands as a table, options that all of them take
 *	list.c   the servers of this machine
 *	stat.c   one server and its slots
 *	print.c  tables for people: units, columns, nothing that moves a cursor
 *	json.c   the same for programs: raw numbers, one document a line
 *
 * Names and sentences may come from a server that is not to be trusted, so
 * everything that is printed goes through print.c or json.c.
 *
 * Callers: one thread.
 */
#ifndef SHMCTL_H
#define SHMCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <peal.h>

enum {
	SHMCTL_FINE = 0,
	SHMCTL_FAILED = 1, /* no such server, or it cannot be looked at */
	SHMCTL_MISUSED = 2,
};

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* What the options say. */
struct request {
	const char *name; /* of a server; NULL for list */
	bool json;
	uint64_t timeout_ns;
	uint64_t interval_ns; /* 0: one look */
	uint64_t look_count;  /* 0: for ever */
};

/* Each returns an exit code. */
int list_run(const struct request *request);
int stat_run(const struct request *request);

const char *state_name(uint32_t server_state);

/* print.c ----------------------------------------------------------------- */

/* "shmctl: " and one sentence, to stderr. */
void print_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line to stdout. */
void print_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Units for people; @text is returned. */
struct text {
	char bytes[32];
};
const char *in_bytes(uint64_t bytes, struct text *text);
const char *in_time(uint64_t ns, struct text *text);

/*
 * Rows of cells, in columns as wide as they need. A heading that begins with
 * '<' makes a column of words (left), all others are of numbers (right).
 */
struct table;
struct table *table_open(const char *const *headings, size_t column_count);
void table_cell(struct table *table, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* "-" if it is not known. */
void table_number(struct table *table, bool known, uint64_t number);
void table_print_and_close(struct table *table);

/* json.c ------------------------------------------------------------------ */

/* Keys are NULL inside an array. A document ends with json_end_document(). */
void json_begin(const char *key, char bracket);
void json_end(char bracket);
void json_text(const char *key, const char *value);
void json_number(const char *key, uint64_t value);
void json_null(const char *key);
void json_number_or_null(const char *key, bool known, uint64_t value);
void json_end_document(void);

#endif
