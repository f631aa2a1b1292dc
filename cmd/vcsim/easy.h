// SPDX-License-Identifier: GPL-2.0-or-later
// One queue in front of some hosts: first come first served with EASY backfilling, the same for every mode of vcsim.
//
// The head of the queue gets a reservation for when enough hosts will be free by the running jobs' estimates; a later job
// may start before it if it ends by then, or leaves enough hosts for it.
#ifndef CMD_VCSIM_EASY_H
#define CMD_VCSIM_EASY_H

#include <stdint.h>

#include "cmd/vcsim/trace.h"

struct easy_running {
	uint32_t job; // index into the trace
	int64_t started_ms, ends_ms; // by its estimate
};

struct easy {
	const struct trace *trace;
	uint32_t capacity; // hosts that it may use now
	uint32_t expected; // hosts that it will have, for the reservation: capacity, or more where growth is under way
	uint32_t busy;
	uint64_t queued_hosts; // of all waiting jobs
	uint32_t *queue;
	size_t n_queue, room_queue;
	struct easy_running *running;
	size_t n_running, room_running;
};

void easy_clear(struct easy *e);
int easy_submit(struct easy *e, uint32_t job, struct vc_error *err);
int easy_requeue(struct easy *e, uint32_t job, struct vc_error *err); // at the head: it has waited before
// Starts what may start now; calls `start` for each.
typedef int (*easy_start_fn)(void *ctx, uint32_t job, struct vc_error *err);
int easy_schedule(struct easy *e, int64_t now_ms, easy_start_fn start, void *ctx, struct vc_error *err);
void easy_finish(struct easy *e, uint32_t job);
// The job that started last; UINT32_MAX: none runs.
uint32_t easy_youngest(const struct easy *e);

#endif
