/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shmctl.h"

/* A ring that is this full has a producer that soon has to wait. */
#define NEARLY_FULL_PERCENT 75

/* One look at a server. */
struct look {
	struct peal_server_info server;
	struct peal_slot_info *slots;
	uint32_t slot_count;
	uint64_t taken_ns;
};

const char *state_name(uint32_t server_state)
{
	switch (server_state) {
	case PEAL_SERVER_ALIVE:
		return "alive";
	case PEAL_SERVER_SILENT:
		return "silent";
	case PEAL_SERVER_STOPPED:
		return "stopped";
	case PEAL_SERVER_CLOSED:
		return "closed";
	default:
		return "unknown";
	}
}

static const char *slot_state_name(uint32_t slot_state)
{
	return slot_state == PEAL_SLOT_DRAINING ? "draining" : "live";
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* 0 or -errno. */
static int take_look(struct peal_observer *observer, struct look *look)
{
	int error = peal_observer_server(observer, &look->server);

	if (error < 0)
		return error;
	look->slot_count = 0;
	look->taken_ns = clock_ns();
	look->slots = calloc(look->server.slot_max, sizeof(*look->slots));
	if (look->slots == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < look->server.slot_max; i++) {
		error = peal_observer_slot(observer, i,
		                           &look->slots[look->slot_count]);
		if (error == 0)
			look->slot_count++;
		else if (error != -ESTALE && error != -EINVAL)
			return error;
	}
	return 0;
}

/* table ------------------------------------------------------------------- */

static void print_reactor(const struct peal_server_info *server)
{
	struct text text;

	print_line("requests  %" PRIu64 " running%s; %" PRIu64
	           " answered, %" PRIu64 " failed, %" PRIu64 " dropped",
	           server->running_count,
	           server->is_paused ? ", as many as may be" : "",
	           server->answered_count, server->failed_count,
	           server->dropped_count);
	if (server->worker_count > 0)
		print_line("workers   %" PRIu32 " of %" PRIu32 " busy",
		           server->busy_count, server->worker_count);
	if (server->mean_handler_ns > 0)
		print_line("handlers  take %s in the mean",
		           in_time(server->mean_handler_ns, &text));
	if (server->shown_ns != PEAL_NEVER_LOOKED)
		print_line("          as of %s ago",
		           in_time(server->shown_ns, &text));
}

static void print_server(const struct peal_server_info *server)
{
	struct text text, more;

	print_line("server    %s, uid %" PRIu32, server->name, server->uid);
	if (server->pid != 0)
		print_line("pid       %" PRId32, server->pid);
	print_line("state     %s; open for %s", state_name(server->state),
	           in_time(server->age_ns, &text));
	print_line("clients   %" PRIu32 " now, in %" PRIu32 " slots; %" PRIu64
	           " came, %" PRIu64 " left, %" PRIu64 " died, %" PRIu64
	           " evicted, %" PRIu64 " refused",
	           server->client_count, server->slot_max,
	           server->attached_count, server->detached_count,
	           server->died_count, server->evicted_count,
	           server->refused_count);
	print_line("messages  %" PRIu64 ", %s; %s lost in rings of the evicted",
	           server->message_count,
	           in_bytes(server->payload_bytes, &text),
	           in_bytes(server->dropped_bytes, &more));
	print_line("sleeps    %" PRIu64, server->sleep_count);
	if (server->is_reactor)
		print_reactor(server);
}

/* A server may show any numbers; what they give need not fit into one. */
static uint64_t in_number(double value)
{
	return value < (double)UINT64_MAX ? (uint64_t)value : UINT64_MAX;
}

static uint64_t fill_percent(const struct peal_slot_info *slot)
{
	if (slot->ring_bytes == 0)
		return 0;
	return in_number((double)slot->client_fill_bytes * 100 /
	                 (double)slot->ring_bytes);
}

/* Messages a second of this slot since the look before, if it was there. */
static bool find_rate(const struct peal_slot_info *slot,
                      const struct look *before, uint64_t taken_ns,
                      uint64_t *ret_rate)
{
	for (uint32_t i = 0; i < before->slot_count; i++) {
		const struct peal_slot_info *old = &before->slots[i];

		if (old->slot_index != slot->slot_index ||
		    old->generation != slot->generation)
			continue;
		if (taken_ns <= before->taken_ns ||
		    slot->message_count < old->message_count)
			return false;
		*ret_rate = in_number(
			(double)(slot->message_count - old->message_count) *
			(double)NS_PER_S /
			(double)(taken_ns - before->taken_ns));
		return true;
	}
	return false;
}

/* One reason of them, the one that lasts. */
static const char *parked_name(uint32_t parked)
{
	if (parked & PEAL_PARKED_RESPONSE)
		return "unread";
	if (parked & PEAL_PARKED_CAP)
		return "cap";
	return parked & PEAL_PARKED_TURN ? "turn" : "-";
}

static const char *turn_name(uint32_t turn)
{
	switch (turn) {
	case PEAL_TURN_WAITING:
		return "waits";
	case PEAL_TURN_HOLDING:
		return "holds";
	default:
		return "-";
	}
}

static void add_reactor_cells(struct table *table,
                              const struct peal_slot_info *slot)
{
	struct text text;

	table_cell(table, "%" PRIu32, slot->running_count);
	table_cell(table, "%s",
	           slot->oldest_ns == 0 ? "-"
	                                : in_time(slot->oldest_ns, &text));
	table_cell(table, "%" PRIu32, slot->queued_count);
	table_cell(table, "%s", parked_name(slot->parked));
	table_cell(table, "%s", turn_name(slot->turn));
}

static void add_cells(struct table *table, const struct peal_slot_info *slot,
                      const struct look *look, const struct look *before)
{
	struct text text;
	uint64_t rate = 0;
	bool has_rate = find_rate(slot, before, look->taken_ns, &rate);

	table_cell(table, "%" PRIu32, slot->slot_index);
	table_number(table, slot->pid > 0, (uint64_t)slot->pid);
	table_cell(table, "%" PRIu32, slot->uid);
	table_cell(table, "%s", slot_state_name(slot->state));
	table_cell(table, "%08" PRIx32, slot->generation);
	table_cell(table, "%s", in_bytes(slot->ring_bytes, &text));
	table_cell(table, "%" PRIu64, slot->message_count);
	table_number(table, has_rate, rate);
	table_cell(table, "%s", in_bytes(slot->payload_bytes, &text));
	table_cell(table, "%s", in_time(slot->age_ns, &text));
	table_cell(table, "%s", in_time(slot->idle_ns, &text));
	if (look->server.is_reactor)
		add_reactor_cells(table, slot);
	table_cell(table, "%" PRIu64 "%%", fill_percent(slot));
	table_cell(table, "%" PRIu64, slot->client_full_count);
	table_cell(table, "%s", in_time(slot->client_blocked_ns, &text));
}

/* What somebody who asks "why is it slow?" should see first. */
static void print_notes(const struct look *look, uint64_t timeout_ns)
{
	const struct peal_server_info *server = &look->server;
	struct text text;

	if (server->state == PEAL_SERVER_STOPPED)
		print_line("The server is stopped, by a signal or a debugger: "
		           "these are its last numbers.");
	if (server->state == PEAL_SERVER_SILENT)
		print_line("The server did not answer within %s: these are "
		           "the last numbers it wrote.",
		           in_time(timeout_ns, &text));
	for (uint32_t i = 0; i < look->slot_count; i++) {
		const struct peal_slot_info *slot = &look->slots[i];

		if (slot->parked & PEAL_PARKED_RESPONSE)
			print_line("Slot %" PRIu32
			           " does not read its answers: %" PRIu32
			           " of them wait.",
			           slot->slot_index, slot->queued_count);
		if (slot->parked & PEAL_PARKED_CAP)
			print_line("Slot %" PRIu32
			           " has as many requests in flight as it "
			           "may; the oldest one is %s old.",
			           slot->slot_index,
			           in_time(slot->oldest_ns, &text));
		if (fill_percent(slot) < NEARLY_FULL_PERCENT)
			continue;
		print_line("Slot %" PRIu32
		           " is nearly full: its messages are not taken "
		           "as fast as they come (last one %s ago).",
		           slot->slot_index, in_time(slot->idle_ns, &text));
	}
}

static void print_look(const struct look *look, const struct look *before,
                       uint64_t timeout_ns)
{
	static const char *const headings[] = {
		"SLOT",  "PID",   "UID", "<STATE", "GEN",   "RING",  "MSGS",
		"MSG/S", "BYTES", "AGE", "IDLE",   "~FILL", "~FULL", "~BLOCKED",
	};
	static const char *const reactor_headings[] = {
		"SLOT",  "PID",   "UID",    "<STATE",   "GEN",
		"RING",  "MSGS",  "MSG/S",  "BYTES",    "AGE",
		"IDLE",  "RUN",   "OLDEST", "QUEUED",   "<PARKED",
		"<TURN", "~FILL", "~FULL",  "~BLOCKED",
	};
	const bool is_reactor = look->server.is_reactor != 0;
	const uint64_t looked_ns = look->server.looked_ns;
	struct table *table;
	struct text text;

	print_server(&look->server);
	if (look->slot_count > 0) {
		print_line("%s", "");
		table = is_reactor ? table_open(reactor_headings,
		                                sizeof(reactor_headings) /
		                                        sizeof(headings[0]))
		                   : table_open(headings,
		                                sizeof(headings) /
		                                        sizeof(headings[0]));
		for (uint32_t i = 0; i < look->slot_count; i++)
			add_cells(table, &look->slots[i], look, before);
		table_print_and_close(table);
		if (looked_ns == PEAL_NEVER_LOOKED)
			print_line("~ is the client's own word; nobody has "
			           "asked for it yet.");
		else
			print_line("~ is the client's own word, of %s ago.",
			           in_time(looked_ns, &text));
	}
	print_notes(look, timeout_ns);
}

/* JSON -------------------------------------------------------------------- */

static void write_slot(const struct peal_slot_info *slot, bool is_reactor)
{
	json_begin(NULL, '{');
	json_number("slot_index", slot->slot_index);
	json_number("generation", slot->generation);
	json_text("state", slot_state_name(slot->state));
	json_number_or_null("pid", slot->pid > 0, (uint64_t)slot->pid);
	json_number("uid", slot->uid);
	json_number("gid", slot->gid);
	json_number("ring_bytes", slot->ring_bytes);
	json_number("age_ns", slot->age_ns);
	json_number("idle_ns", slot->idle_ns);
	json_number("message_count", slot->message_count);
	json_number("payload_bytes", slot->payload_bytes);
	if (is_reactor) {
		json_begin("reactor", '{');
		json_number("running_count", slot->running_count);
		json_number_or_null("oldest_ns", slot->oldest_ns > 0,
		                    slot->oldest_ns);
		json_number("queued_count", slot->queued_count);
		json_number("queued_bytes", slot->queued_bytes);
		json_number("parked_cap", !!(slot->parked & PEAL_PARKED_CAP));
		json_number("parked_unread",
		            !!(slot->parked & PEAL_PARKED_RESPONSE));
		json_number("parked_turn", !!(slot->parked & PEAL_PARKED_TURN));
		json_text("turn", slot->turn == PEAL_TURN_FREE
		                          ? "free"
		                          : turn_name(slot->turn));
		json_end('}');
	}
	json_begin("client_says", '{');
	json_number("fill_bytes", slot->client_fill_bytes);
	json_number("full_count", slot->client_full_count);
	json_number("blocked_ns", slot->client_blocked_ns);
	json_end('}');
	json_end('}');
}

static void write_reactor(const struct peal_server_info *server)
{
	json_begin("reactor", '{');
	json_number("running_count", server->running_count);
	json_number("answered_count", server->answered_count);
	json_number("failed_count", server->failed_count);
	json_number("dropped_count", server->dropped_count);
	json_number("worker_count", server->worker_count);
	json_number("busy_count", server->busy_count);
	json_number("is_paused", server->is_paused);
	json_number_or_null("mean_handler_ns", server->mean_handler_ns > 0,
	                    server->mean_handler_ns);
	json_number_or_null("shown_ns", server->shown_ns != PEAL_NEVER_LOOKED,
	                    server->shown_ns);
	json_end('}');
}

static void write_look(const struct look *look)
{
	const struct peal_server_info *server = &look->server;

	json_begin(NULL, '{');
	json_text("name", server->name);
	json_number_or_null("pid", server->pid != 0, (uint64_t)server->pid);
	json_number("uid", server->uid);
	json_text("state", state_name(server->state));
	json_number("slot_max", server->slot_max);
	json_number("client_count", server->client_count);
	json_number("age_ns", server->age_ns);
	json_number_or_null("looked_ns", server->looked_ns != PEAL_NEVER_LOOKED,
	                    server->looked_ns);
	json_number("message_count", server->message_count);
	json_number("payload_bytes", server->payload_bytes);
	json_number("attached_count", server->attached_count);
	json_number("detached_count", server->detached_count);
	json_number("died_count", server->died_count);
	json_number("evicted_count", server->evicted_count);
	json_number("refused_count", server->refused_count);
	json_number("dropped_bytes", server->dropped_bytes);
	json_number("sleep_count", server->sleep_count);
	if (server->is_reactor)
		write_reactor(server);
	json_begin("slots", '[');
	for (uint32_t i = 0; i < look->slot_count; i++)
		write_slot(&look->slots[i], server->is_reactor != 0);
	json_end(']');
	json_end('}');
	json_end_document();
}

/* looking ----------------------------------------------------------------- */

static void pause_for(uint64_t ns)
{
	const struct timespec time = {
		.tv_sec = (time_t)(ns / NS_PER_S),
		.tv_nsec = (long)(ns % NS_PER_S),
	};

	nanosleep(&time, NULL);
}

/* One look, printed; 0 or -errno. @before becomes this one. */
static int look_once(const struct request *request,
                     struct peal_observer *observer, struct look *before)
{
	struct look look = {0};
	int error = take_look(observer, &look);

	if (error < 0) {
		free(look.slots);
		return error;
	}
	if (request->json)
		write_look(&look);
	else
		print_look(&look, before, request->timeout_ns);
	fflush(stdout);
	free(before->slots);
	*before = look;
	return 0;
}

static int look_on(const struct request *request,
                   struct peal_observer *observer)
{
	struct look before = {0};
	struct peal_server_info server;
	int error = peal_observer_server(observer, &server);

	/* A server that did not answer a moment ago is not asked again. */
	if (error == 0 && server.state == PEAL_SERVER_ALIVE)
		peal_observer_refresh(observer, request->timeout_ns);
	for (uint64_t i = 1; error == 0; i++) {
		error = look_once(request, observer, &before);
		if (error < 0 || request->interval_ns == 0 ||
		    i == request->look_count)
			break;
		if (before.server.state == PEAL_SERVER_CLOSED) {
			print_error("the server '%s' has gone", request->name);
			free(before.slots);
			return SHMCTL_FAILED;
		}
		pause_for(request->interval_ns);
		peal_observer_refresh(observer, request->timeout_ns);
		if (!request->json)
			print_line("%s", "");
	}
	free(before.slots);
	if (error == 0)
		return SHMCTL_FINE;
	print_error("the status of '%s' cannot be read: %s", request->name,
	            peal_strerror(error));
	return SHMCTL_FAILED;
}

int stat_run(const struct request *request)
{
	static const char field[] = "options."; /* of a program, not of ours */
	struct peal_failure failure;
	struct peal_observer *observer;
	int error, code;

	error = peal_observer_open(request->name, request->timeout_ns, &failure,
	                           &observer);
	if (error == -EINVAL) {
		print_error("no server can have the name '%s': %s",
		            request->name,
		            strncmp(failure.text, field, strlen(field)) == 0
		                    ? failure.text + strlen(field)
		                    : failure.text);
		return SHMCTL_FAILED;
	}
	if (error < 0) {
		print_error("%s", failure.text);
		return SHMCTL_FAILED;
	}
	code = look_on(request, observer);
	peal_observer_close(observer);
	return code;
}
