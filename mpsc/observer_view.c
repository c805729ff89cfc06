/* SPDX-License-Identifier: MIT */
#include "mpsc/observer_view.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/read.h"
#include "mpsc/wire.h"
#include "shm/region.h"

#define ROW_TRIES 8
#define SLOT_MAX 4096
#define PART_BYTES_MAX 4096 /* of the server's part, and of a slot */

/* A part may have been appended to by a later version, in whole lines. */
static bool is_part(uint32_t bytes, size_t least_bytes)
{
	return bytes >= least_bytes && bytes <= PART_BYTES_MAX &&
	       bytes % PEAL__LINE == 0;
}

static uint64_t bytes_of(const struct peal__status_server *header)
{
	return header->server_bytes +
	       (uint64_t)header->slot_max * header->slot_bytes;
}

/*
 * What is written once is read once, into private memory, and only the copy is
 * checked and used. Sealed sizes are what makes the check hold.
 */
static int check_header(int fd, uint64_t status_bytes,
                        struct peal__status_server *ret_header)
{
	struct peal__status_server header;
	uint64_t page_bytes;

	if (status_bytes < sizeof(header) ||
	    peal_shm_check(fd, status_bytes) != 0)
		return -EPROTO;
	if (peal__region_page_bytes(fd, &page_bytes) != 0 ||
	    page_bytes != peal_shm_page_bytes(0))
		return -EPROTO;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    header.magic != PEAL__STATUS_MAGIC)
		return -EPROTO;
	if (header.version != PEAL__LAYOUT_VERSION)
		return -EPROTONOSUPPORT;
	if (header.slot_max < 1 || header.slot_max > SLOT_MAX ||
	    !is_part(header.slot_bytes, sizeof(struct peal__status_slot)) ||
	    !is_part(header.server_bytes, sizeof(header)) ||
	    memchr(header.name, '\0', sizeof(header.name)) == NULL ||
	    peal_shm_check(fd, bytes_of(&header)) != 0)
		return -EPROTO;
	*ret_header = header;
	return 0;
}

int peal__view_open(int fd, uint64_t status_bytes, struct peal__view *ret_view)
{
	const uint64_t page_bytes = peal_shm_page_bytes(0);
	struct peal_shm_span span = {.copies = 1};
	struct peal__status_server header;
	struct peal__view view;
	int error = check_header(fd, status_bytes, &header);

	if (error != 0)
		return error;
	span.bytes =
		(bytes_of(&header) + page_bytes - 1) / page_bytes * page_bytes;
	error = peal_shm_map(fd, &span, 1, PEAL_SHM_MAP_DONT_FORK,
	                     &view.mapping);
	if (error != 0)
		return error == -ENOMEM ? error : -EPROTO;
	view.server = view.mapping.address;
	view.slots = (const unsigned char *)view.mapping.address +
	             header.server_bytes;
	view.slot_bytes = header.slot_bytes;
	view.slot_max = header.slot_max;
	view.role = header.role;
	view.opened_ns = header.opened_ns;
	memcpy(view.name, header.name, sizeof(view.name));
	*ret_view = view;
	return 0;
}

void peal__view_close(struct peal__view *view)
{
	peal_shm_unmap(&view->mapping);
}

bool peal__view_is_closed(const struct peal__view *view)
{
	return peal__read_once(&view->server->state) == PEAL__STATUS_CLOSED;
}

static const struct peal__status_slot *row_at(const struct peal__view *view,
                                              uint32_t slot_index)
{
	return (const struct peal__status_slot
	                *)(const void *)(view->slots +
	                                 (size_t)slot_index * view->slot_bytes);
}

static uint64_t since(uint64_t now_ns, uint64_t then_ns)
{
	return then_ns < now_ns ? now_ns - then_ns : 0;
}

/* The counters of connections that have ended, and of those there are. */
static void sum_messages(const struct peal__view *view,
                         struct peal_server_info *info)
{
	info->message_count =
		peal__read_once(&view->server->past_message_count);
	info->payload_bytes =
		peal__read_once(&view->server->past_payload_bytes);
	for (uint32_t i = 0; i < view->slot_max; i++) {
		const struct peal__status_slot *row = row_at(view, i);

		if (peal__read_once(&row->state) == PEAL__STATUS_SLOT_FREE)
			continue;
		info->message_count += peal__read_once(&row->message_count);
		info->payload_bytes += peal__read_once(&row->payload_bytes);
	}
}

static void read_reactor(const struct peal__status_server *server,
                         uint64_t now_ns, struct peal_server_info *info)
{
	uint64_t shown_ns = peal__read_once(&server->shown_ns);

	info->is_reactor = 1;
	info->worker_count = peal__read_once(&server->worker_count);
	info->busy_count = peal__read_once(&server->busy_count);
	info->is_paused = peal__read_once(&server->is_paused);
	info->running_count = peal__read_once(&server->running_count);
	info->answered_count = peal__read_once(&server->answered_count);
	info->failed_count = peal__read_once(&server->failed_count);
	info->dropped_count = peal__read_once(&server->dropped_count);
	info->mean_handler_ns = peal__read_once(&server->mean_handler_ns);
	info->shown_ns = shown_ns == 0 ? PEAL_NEVER_LOOKED
	                               : since(now_ns, shown_ns);
}

void peal__view_server(const struct peal__view *view,
                       struct peal_server_info *info)
{
	const struct peal__status_server *server = view->server;
	uint64_t now_ns = peal__clock_ns();
	uint64_t looked_ns = peal__read_once(&server->looked_ns);

	memcpy(info->name, view->name, sizeof(info->name));
	info->slot_max = view->slot_max;
	info->client_count = peal__read_once(&server->client_count);
	info->age_ns = since(now_ns, view->opened_ns);
	info->looked_ns = looked_ns == 0 ? PEAL_NEVER_LOOKED
	                                 : since(now_ns, looked_ns);
	info->attached_count = peal__read_once(&server->attached_count);
	info->detached_count = peal__read_once(&server->detached_count);
	info->died_count = peal__read_once(&server->died_count);
	info->evicted_count = peal__read_once(&server->evicted_count);
	info->refused_count = peal__read_once(&server->refused_count);
	info->dropped_bytes = peal__read_once(&server->dropped_bytes);
	info->sleep_count = peal__read_once(&server->sleep_count);
	sum_messages(view, info);
	if (view->role == PEAL__ROLE_CLIENT)
		read_reactor(server, now_ns, info);
}

/* Every word of a row, each read once. */
static struct peal_slot_info read_row(const struct peal__status_slot *row)
{
	uint64_t now_ns = peal__clock_ns(), active_ns, attached_ns, oldest_ns;
	struct peal_slot_info info = {0};

	info.generation = peal__read_once(&row->generation);
	info.state = peal__read_once(&row->state);
	info.pid = peal__read_once(&row->pid);
	info.uid = peal__read_once(&row->uid);
	info.gid = peal__read_once(&row->gid);
	info.ring_bytes = peal__read_once(&row->ring_bytes);
	attached_ns = peal__read_once(&row->attached_ns);
	info.message_count = peal__read_once(&row->message_count);
	info.payload_bytes = peal__read_once(&row->payload_bytes);
	active_ns = peal__read_once(&row->active_ns);
	info.client_fill_bytes = peal__read_once(&row->client_fill_bytes);
	info.client_full_count = peal__read_once(&row->client_full_count);
	info.client_blocked_ns = peal__read_once(&row->client_blocked_ns);
	oldest_ns = peal__read_once(&row->oldest_ns);
	info.oldest_ns = oldest_ns == 0 ? 0 : since(now_ns, oldest_ns);
	info.queued_bytes = peal__read_once(&row->queued_bytes);
	info.running_count = peal__read_once(&row->running_count);
	info.queued_count = peal__read_once(&row->queued_count);
	info.parked = peal__read_once(&row->parked);
	info.turn = peal__read_once(&row->turn);
	info.age_ns = since(now_ns, attached_ns);
	/* A connection without a message so far has been idle all its life. */
	info.idle_ns = since(now_ns,
	                     active_ns > attached_ns ? active_ns : attached_ns);
	return info;
}

int peal__view_slot(const struct peal__view *view, uint32_t slot_index,
                    struct peal_slot_info *ret_info)
{
	const struct peal__status_slot *row;
	struct peal_slot_info info;
	int tries = 0;

	if (slot_index >= view->slot_max)
		return -EINVAL;
	row = row_at(view, slot_index);
	/* A row of two connections would blame one for the other. */
	do {
		if (tries++ == ROW_TRIES)
			return -ESTALE;
		info = read_row(row);
	} while (info.generation != peal__read_once(&row->generation));
	info.slot_index = slot_index;
	switch (info.state) {
	case PEAL__STATUS_SLOT_FREE:
		return -ESTALE;
	case PEAL__STATUS_SLOT_LIVE:
		info.state = PEAL_SLOT_LIVE;
		break;
	case PEAL__STATUS_SLOT_DRAINING:
		info.state = PEAL_SLOT_DRAINING;
		break;
	default:
		return -EPROTO;
	}
	*ret_info = info;
	return 0;
}
