// SPDX-License-Identifier: GPL-2.0-or-later
// EASY backfilling: see easy.h.
#include "cmd/vcsim/easy.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void easy_clear(struct easy *e)
{
	free(e->queue);
	free(e->running);
	*e = (struct easy){0};
}

static const struct trace_job *job_of(const struct easy *e, uint32_t job)
{
	return &e->trace->jobs[job];
}

static int room(void **items, size_t n, size_t *room, size_t size, struct vc_error *err)
{
	if (n < *room)
		return 0;
	size_t more = *room ? *room * 2 : 64;
	void *grown = reallocarray(*items, more, size);
	if (!grown)
		return vc_error_errno(err, "queue");
	*items = grown;
	*room = more;
	return 0;
}

static int insert(struct easy *e, size_t at, uint32_t job, struct vc_error *err)
{
	if (room((void **)&e->queue, e->n_queue, &e->room_queue, sizeof(*e->queue), err) < 0)
		return -1;
	memmove(e->queue + at + 1, e->queue + at, (e->n_queue - at) * sizeof(*e->queue));
	e->queue[at] = job;
	e->n_queue++;
	e->queued_hosts += job_of(e, job)->hosts;
	return 0;
}

int easy_submit(struct easy *e, uint32_t job, struct vc_error *err)
{
	return insert(e, e->n_queue, job, err);
}

int easy_requeue(struct easy *e, uint32_t job, struct vc_error *err)
{
	return insert(e, 0, job, err);
}

static int start_at(struct easy *e, size_t at, int64_t now_ms, easy_start_fn start, void *ctx, struct vc_error *err)
{
	uint32_t job = e->queue[at];
	const struct trace_job *j = job_of(e, job);
	if (room((void **)&e->running, e->n_running, &e->room_running, sizeof(*e->running), err) < 0)
		return -1;
	memmove(e->queue + at, e->queue + at + 1, (e->n_queue - at - 1) * sizeof(*e->queue));
	e->n_queue--;
	e->queued_hosts -= j->hosts;
	e->busy += j->hosts;
	// by estimated end
	size_t k = e->n_running++;
	for (; k > 0 && e->running[k - 1].ends_ms > now_ms + j->estimate_ms; k--)
		e->running[k] = e->running[k - 1];
	e->running[k] = (struct easy_running){job, now_ms, now_ms + j->estimate_ms};
	return start(ctx, job, err);
}

static uint32_t free_hosts(const struct easy *e)
{
	return e->capacity > e->busy ? e->capacity - e->busy : 0;
}

// When the head can start, and how many hosts are left over then.
static int64_t reservation(const struct easy *e, uint32_t hosts, int64_t *ret_extra)
{
	int64_t expected = e->expected > e->capacity ? e->expected : e->capacity;
	int64_t free = expected - e->busy;
	int64_t when = 0;
	for (size_t i = 0; i < e->n_running && free < hosts; i++) {
		free += job_of(e, e->running[i].job)->hosts;
		when = e->running[i].ends_ms;
	}
	*ret_extra = free > hosts ? free - hosts : 0;
	return free >= hosts ? when : INT64_MAX;
}

static int backfill(struct easy *e, int64_t now_ms, easy_start_fn start, void *ctx, struct vc_error *err)
{
	int64_t extra, when = reservation(e, job_of(e, e->queue[0])->hosts, &extra);
	for (size_t i = 1; i < e->n_queue && free_hosts(e) > 0;) {
		const struct trace_job *j = job_of(e, e->queue[i]);
		bool in_time = now_ms + j->estimate_ms <= when;
		if (j->hosts > free_hosts(e) || (!in_time && j->hosts > extra)) {
			i++;
			continue;
		}
		extra -= in_time ? 0 : j->hosts;
		if (start_at(e, i, now_ms, start, ctx, err) < 0)
			return -1;
	}
	return 0;
}

int easy_schedule(struct easy *e, int64_t now_ms, easy_start_fn start, void *ctx, struct vc_error *err)
{
	while (e->n_queue > 0 && job_of(e, e->queue[0])->hosts <= free_hosts(e)) {
		if (start_at(e, 0, now_ms, start, ctx, err) < 0)
			return -1;
	}
	return e->n_queue > 1 && free_hosts(e) > 0 ? backfill(e, now_ms, start, ctx, err) : 0;
}

void easy_finish(struct easy *e, uint32_t job)
{
	for (size_t i = 0; i < e->n_running; i++) {
		if (e->running[i].job != job)
			continue;
		memmove(e->running + i, e->running + i + 1, (e->n_running - i - 1) * sizeof(*e->running));
		e->n_running--;
		e->busy -= job_of(e, job)->hosts;
		return;
	}
}

uint32_t easy_youngest(const struct easy *e)
{
	size_t best = 0;
	for (size_t i = 1; i < e->n_running; i++) {
		if (e->running[i].started_ms >= e->running[best].started_ms)
			best = i;
	}
	return e->n_running ? e->running[best].job : UINT32_MAX;
}
