/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shmctl.h"

/* A socket, and what is known of whoever listens there. */
struct row {
	char name[112];
	char path[112];
	const char *state;
	bool is_dead;
	bool has_uid;
	bool has_info; /* else @failure says why not */
	struct peal_server_info info;
	struct peal_failure failure;
};

struct rows {
	const struct request *request;
	struct row *rows;
	size_t count;
};

static void look(struct row *row, uint64_t timeout_ns)
{
	struct peal_observer *observer;
	struct stat status;
	int error;

	error = peal_observer_open(row->path, timeout_ns, &row->failure,
	                           &observer);
	if (error == 0) {
		row->has_info = peal_observer_server(observer, &row->info) == 0;
		row->has_uid = row->has_info;
		row->state = state_name(row->info.state);
		peal_observer_close(observer);
		return;
	}
	/* Who made the socket is the best guess left. */
	if (stat(row->path, &status) == 0) {
		row->info.uid = status.st_uid;
		row->has_uid = true;
	}
	/* Who hangs up may only have had enough of us. */
	row->is_dead = error == -ECONNREFUSED;
	if (row->is_dead)
		snprintf(row->failure.text, sizeof(row->failure.text),
		         "its server has died and left the socket behind");
	row->state = row->is_dead          ? "dead"
	             : error == -EACCES    ? "no-access"
	             : error == -ETIMEDOUT ? "silent"
	                                   : "unknown";
}

static int found(const char *name, const char *path, void *arg)
{
	struct rows *rows = arg;
	struct row *row;
	bool is_hidden = false;
	struct row *more =
		realloc(rows->rows, (rows->count + 1) * sizeof(*more));

	if (more == NULL)
		return -ENOMEM;
	rows->rows = more;
	/* A name means its first place; the others go by their paths. */
	for (size_t i = rows->count; i > 0 && !is_hidden; i--)
		is_hidden = strcmp(more[i - 1].name, name) == 0;
	row = &more[rows->count++];
	*row = (struct row){0};
	snprintf(row->name, sizeof(row->name), "%s", is_hidden ? path : name);
	snprintf(row->path, sizeof(row->path), "%s", path);
	look(row, rows->request->timeout_ns);
	return 0;
}

/* table ------------------------------------------------------------------- */

static void add_cells(struct table *table, const struct row *row)
{
	const struct peal_server_info *info = &row->info;
	struct text text;

	table_cell(table, "%s", row->name);
	table_number(table, row->has_info && info->pid != 0,
	             (uint64_t)info->pid);
	table_number(table, row->has_uid, info->uid);
	table_cell(table, "%s", row->state);
	table_number(table, row->has_info, info->client_count);
	table_number(table, row->has_info, info->message_count);
	table_cell(table, "%s",
	           row->has_info ? in_bytes(info->payload_bytes, &text) : "-");
	table_cell(table, "%s",
	           row->has_info ? in_time(info->age_ns, &text) : "-");
}

static void print_notes(const struct rows *rows)
{
	unsigned int dead_count = 0;

	for (size_t i = 0; i < rows->count; i++) {
		const struct row *row = &rows->rows[i];

		if (row->is_dead)
			dead_count++;
		else if (!row->has_info)
			print_line("%s: %s", row->name, row->failure.text);
	}
	if (dead_count == 0)
		return;
	if (dead_count == 1) {
		print_line("A dead server has left its socket behind. That is "
		           "harmless: the next server of");
		print_line("that name takes it over. To tidy up, remove:");
	} else {
		print_line("Dead servers have left their sockets behind. That "
		           "is harmless: the next server");
		print_line("of a name takes its socket over. To tidy up, "
		           "remove:");
	}
	for (size_t i = 0; i < rows->count; i++)
		if (rows->rows[i].is_dead)
			print_line("  %s  %s.lock", rows->rows[i].path,
			           rows->rows[i].path);
}

static void print_table(const struct rows *rows)
{
	static const char *const headings[] = {
		"<NAME",   "PID",      "UID",   "<STATE",
		"CLIENTS", "MESSAGES", "BYTES", "AGE",
	};
	struct table *table;

	if (rows->count == 0) {
		print_line("There is no server where this user's programs look "
		           "for one: $PEAL_RUNTIME_DIR,");
		print_line("$XDG_RUNTIME_DIR/peal, /tmp/peal-UID and "
		           "/run/peal.");
		return;
	}
	table = table_open(headings, sizeof(headings) / sizeof(headings[0]));
	for (size_t i = 0; i < rows->count; i++)
		add_cells(table, &rows->rows[i]);
	table_print_and_close(table);
	print_notes(rows);
}

/* JSON -------------------------------------------------------------------- */

static void write_row(const struct row *row)
{
	const struct peal_server_info *info = &row->info;
	const bool known = row->has_info;

	json_begin(NULL, '{');
	json_text("name", row->name);
	json_text("path", row->path);
	json_text("state", row->state);
	json_number_or_null("pid", known && info->pid != 0,
	                    (uint64_t)info->pid);
	json_number_or_null("uid", row->has_uid, info->uid);
	json_number_or_null("slot_max", known, info->slot_max);
	json_number_or_null("client_count", known, info->client_count);
	json_number_or_null("message_count", known, info->message_count);
	json_number_or_null("payload_bytes", known, info->payload_bytes);
	json_number_or_null("age_ns", known, info->age_ns);
	if (known)
		json_null("error");
	else
		json_text("error", row->failure.text);
	json_end('}');
}

static void write_json(const struct rows *rows)
{
	json_begin(NULL, '{');
	json_begin("servers", '[');
	for (size_t i = 0; i < rows->count; i++)
		write_row(&rows->rows[i]);
	json_end(']');
	json_end('}');
	json_end_document();
}

int list_run(const struct request *request)
{
	struct rows rows = {.request = request};
	int error = peal_observer_each(found, &rows);

	if (error == 0 && request->json)
		write_json(&rows);
	else if (error == 0)
		print_table(&rows);
	else
		print_error("cannot look for servers: %s",
		            peal_strerror(error));
	free(rows.rows);
	return error == 0 ? SHMCTL_FINE : SHMCTL_FAILED;
}
