/* SPDX-License-Identifier: MIT */
#include "schedule.h"

#include <errno.h>
#include <stdlib.h>

struct place {
	struct place *next;
	struct peal_request *request;
	uint64_t client;
};

/* The generation of the client in each slot, or 0. */
static atomic_uint_least32_t present[SCHEDULE_CLIENT_MAX];

/* Never 0: it is what nobody is called. */
static uint64_t client_of(struct peal_peer peer)
{
	return (uint64_t)peer.generation << 32 | (peer.slot_index + 1);
}

void schedule_client_opened(struct peal_peer peer)
{
	if (peer.slot_index < SCHEDULE_CLIENT_MAX)
		atomic_store(&present[peer.slot_index], peer.generation);
}

void schedule_client_closed(struct peal_peer peer)
{
	if (peer.slot_index < SCHEDULE_CLIENT_MAX)
		atomic_store(&present[peer.slot_index], 0);
}

static bool is_present(uint64_t client)
{
	uint32_t slot_index = (uint32_t)client - 1;

	return slot_index < SCHEDULE_CLIENT_MAX &&
	       atomic_load(&present[slot_index]) == client >> 32;
}

int schedule(struct line *line, struct peal_request *request, bool is_read)
{
	uint64_t client = client_of(peal_request_peer(request));
	struct place *place;
	bool is_closing;

	/* No lock: a client that may know of its open write is the holder since
	 * before it was told. */
	if (is_read && atomic_load(&line->holder) != client)
		return SCHEDULE_NOW;
	place = malloc(sizeof(*place));
	if (place == NULL || peal_request_retain(request) < 0) {
		free(place);
		peal_reply_error(request, -ENOMEM);
		return SCHEDULE_LATER;
	}
	*place = (struct place){NULL, request, client};
	pthread_mutex_lock(&line->mutex);
	is_closing = line->is_closing;
	if (!is_closing) {
		*line->end = place;
		line->end = &place->next;
		pthread_cond_signal(&line->changed);
	}
	pthread_mutex_unlock(&line->mutex);
	if (is_closing) {
		free(place);
		peal_reply_error(request, -ESHUTDOWN);
	}
	return SCHEDULE_LATER;
}

/* Out of the line: the first that may run, or whose client has gone. */
static struct place *take(struct line *line)
{
	uint64_t holder = atomic_load(&line->holder);
	struct place **link = &line->first, *place;

	while ((place = *link) != NULL && holder != 0 &&
	       place->client != holder && is_present(place->client))
		link = &place->next;
	if (place == NULL)
		return NULL;
	*link = place->next;
	if (line->end == &place->next)
		line->end = link;
	return place;
}

/* What nobody wants any more must not change anything. */
static int run_unless_unwanted(struct line *line, struct place *place, int held)
{
	struct peal_request *request = place->request;

	if (!is_present(place->client))
		peal_request_drop(request);
	else if (peal_request_cancelled(request))
		peal_reply_error(request, -ECANCELED);
	else if (peal_request_deadline_ns(request) == 0)
		peal_reply_error(request, -ETIMEDOUT);
	else
		return line->run(request, line->arg);
	return held;
}

/* With the lock held, which is given back while a request runs. */
static void run_place(struct line *line, struct place *place)
{
	uint64_t holder = atomic_load(&line->holder);
	int held = holder == place->client ? LINE_HELD : LINE_FREE;

	if (holder != 0 && held == LINE_FREE) {
		/* A client has gone while it waited for another one. */
		peal_request_drop(place->request);
		free(place);
		return;
	}
	/* Before its answer can be out; and before is_present() is asked, so
	 * that line_forget_client() finds who goes after that. */
	atomic_store(&line->holder, place->client);
	pthread_mutex_unlock(&line->mutex);
	held = run_unless_unwanted(line, place, held);
	free(place);
	pthread_mutex_lock(&line->mutex);
	if (held == LINE_FREE) {
		atomic_store(&line->holder, 0);
		line->is_abandoned = false;
	}
}

static void *run_line(void *arg)
{
	struct line *line = arg;
	struct place *place;

	pthread_mutex_lock(&line->mutex);
	while (!line->is_closing) {
		if (line->is_abandoned) {
			line->abandon(line->arg);
			line->is_abandoned = false;
			atomic_store(&line->holder, 0);
		}
		place = take(line);
		if (place != NULL)
			run_place(line, place);
		else
			pthread_cond_wait(&line->changed, &line->mutex);
	}
	if (atomic_load(&line->holder) != 0)
		line->abandon(line->arg);
	atomic_store(&line->holder, 0);
	while ((place = take(line)) != NULL) {
		peal_reply_error(place->request, -ESHUTDOWN);
		free(place);
	}
	pthread_mutex_unlock(&line->mutex);
	return NULL;
}

int line_open(struct line *line)
{
	line->end = &line->first;
	pthread_mutex_init(&line->mutex, NULL);
	pthread_cond_init(&line->changed, NULL);
	return -pthread_create(&line->thread, NULL, run_line, line);
}

void line_forget_client(struct line *line, struct peal_peer peer)
{
	pthread_mutex_lock(&line->mutex);
	if (atomic_load(&line->holder) == client_of(peer))
		line->is_abandoned = true;
	/* Even if not: its requests can leave the line. */
	pthread_cond_signal(&line->changed);
	pthread_mutex_unlock(&line->mutex);
}

void line_close(struct line *line)
{
	pthread_mutex_lock(&line->mutex);
	line->is_closing = true;
	pthread_cond_signal(&line->changed);
	pthread_mutex_unlock(&line->mutex);
	pthread_join(line->thread, NULL);
}

void line_free(struct line *line)
{
	pthread_cond_destroy(&line->changed);
	pthread_mutex_destroy(&line->mutex);
}
