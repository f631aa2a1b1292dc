// SPDX-License-Identifier: GPL-2.0-or-later
// What pool.c (clock, jobs) and leases.c (hosts that move) share; nobody else.
#ifndef CMD_VCSIM_POOL_INT_H
#define CMD_VCSIM_POOL_INT_H

#include "cmd/vcsim/easy.h"
#include "cmd/vcsim/pool.h"
#include "vcd/elastic/leasebook.h"

enum pool_what { POOL_SUBMIT, POOL_FINISH, POOL_DECIDE, POOL_ELIGIBLE, POOL_JOINED, POOL_RELEASED, POOL_SAMPLE };

struct pool_event {
	int64_t at_ms;
	uint64_t order; // among events of one time
	enum pool_what what;
	uint32_t which; // job, lease
	uint32_t turn;	// of a job that was started again; host
};

struct pool_job {
	int64_t started_ms, ended_ms;
	uint32_t turn;
};

struct pool_host {
	bool taken;
	bool leaving;
	uint32_t images; // bit per group: installed
};

struct pool {
	const struct pool_setup *setup;
	const struct trace *trace;
	struct pool_result *result;
	int64_t now_ms;
	size_t left; // jobs
	double lost; // host milliseconds
	struct pool_event *events;
	size_t n_events, room_events;
	uint64_t order;
	struct easy queues[TRACE_GROUPS_MAX];
	uint32_t n_queues;
	struct pool_job *jobs;
	// leases.c
	struct leasebook book;
	struct elastic_state state;
	struct elastic_cluster clusters[TRACE_GROUPS_MAX];
	struct pool_host *hosts;
	uint32_t free_hosts;
	uint32_t caps[TRACE_GROUPS_MAX]; // hosts that a cluster may start new work on
	uint64_t *eligible; // leases whose job may start, in their order
	size_t n_eligible;
	int64_t *unmet_ms; // queue x host of its reservation -> since when it is asked for and not there; -1: it is
	int64_t judged_ms; // until when that has been judged
};

int pool_at(struct pool *p, int64_t at_ms, enum pool_what what, uint32_t which, uint32_t turn, struct vc_error *err);
int pool_schedule(struct pool *p, uint32_t queue, struct vc_error *err);
int pool_kill(struct pool *p, uint32_t queue, uint32_t job, struct vc_error *err);

int pool_elastic_begin(struct pool *p, struct vc_error *err);
void pool_elastic_end(struct pool *p);
int pool_decide(struct pool *p, struct vc_error *err);
int pool_eligible(struct pool *p, uint32_t lease, struct vc_error *err);
int pool_joined(struct pool *p, uint32_t lease, struct vc_error *err);
int pool_released(struct pool *p, uint32_t lease, uint32_t host, struct vc_error *err);
int pool_hosts_freed(struct pool *p, uint32_t queue, struct vc_error *err); // a job ended: a reclaim may go on
uint32_t pool_size(const struct pool *p, uint32_t queue);
void pool_watch_reservations(struct pool *p);

#endif
