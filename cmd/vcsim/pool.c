// SPDX-License-Identifier: GPL-2.0-or-later
// The simulation of a pool: see pool.h. This file has the clock, the jobs and the figures; leases.c has what moves hosts.
#include <stdlib.h>
#include <string.h>

#include "cmd/vcsim/pool_int.h"
#include "libvc/cleanup.h"

#define SAMPLE_MS 600000		 // of the sizes over time
#define STUCK_MS (60 * 24 * 3600000L) // after the last submission: a pool that works off nothing for so long never will

// --- the clock --------------------------------------------------------------------------------------------------------

static bool earlier(const struct pool_event *a, const struct pool_event *b)
{
	return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

int pool_at(struct pool *p, int64_t at_ms, enum pool_what what, uint32_t which, uint32_t turn, struct vc_error *err)
{
	if (p->n_events == p->room_events) {
		size_t more = p->room_events ? p->room_events * 2 : 1024;
		struct pool_event *grown = reallocarray(p->events, more, sizeof(*grown));
		if (!grown)
			return vc_error_errno(err, "events");
		p->events = grown;
		p->room_events = more;
	}
	struct pool_event e = {at_ms, p->order++, what, which, turn};
	size_t i = p->n_events++;
	for (; i > 0 && earlier(&e, &p->events[(i - 1) / 2]); i = (i - 1) / 2)
		p->events[i] = p->events[(i - 1) / 2];
	p->events[i] = e;
	return 0;
}

static struct pool_event next_event(struct pool *p)
{
	struct pool_event first = p->events[0], last = p->events[--p->n_events];
	size_t i = 0, child;
	for (; (child = 2 * i + 1) < p->n_events; i = child) {
		if (child + 1 < p->n_events && earlier(&p->events[child + 1], &p->events[child]))
			child++;
		if (!earlier(&p->events[child], &last))
			break;
		p->events[i] = p->events[child];
	}
	p->events[i] = last;
	return first;
}

// --- jobs -------------------------------------------------------------------------------------------------------------

static uint32_t queue_of(const struct pool *p, uint32_t job)
{
	return p->setup->mode == POOL_QUEUE ? 0 : p->trace->jobs[job].group;
}

static int start_job(void *ctx, uint32_t job, struct vc_error *err)
{
	struct pool *p = ctx;
	p->jobs[job].started_ms = p->now_ms;
	return pool_at(p, p->now_ms + p->trace->jobs[job].run_ms, POOL_FINISH, job, p->jobs[job].turn, err);
}

int pool_schedule(struct pool *p, uint32_t queue, struct vc_error *err)
{
	return easy_schedule(&p->queues[queue], p->now_ms, start_job, p, err);
}

int pool_kill(struct pool *p, uint32_t queue, uint32_t job, struct vc_error *err)
{
	easy_finish(&p->queues[queue], job);
	p->jobs[job].turn++; // its end is void
	p->result->killed++;
	p->lost += (double)(p->now_ms - p->jobs[job].started_ms) * p->trace->jobs[job].hosts;
	return easy_requeue(&p->queues[queue], job, err);
}

static int submit(struct pool *p, uint32_t job, struct vc_error *err)
{
	uint32_t q = queue_of(p, job);
	if (easy_submit(&p->queues[q], job, err) < 0 || pool_schedule(p, q, err) < 0)
		return -1;
	return job + 1 < p->trace->n ? pool_at(p, p->trace->jobs[job + 1].submit_ms, POOL_SUBMIT, job + 1, 0, err) : 0;
}

static int finish(struct pool *p, uint32_t job, uint32_t turn, struct vc_error *err)
{
	if (p->jobs[job].turn != turn)
		return 0;
	uint32_t q = queue_of(p, job);
	p->jobs[job].ended_ms = p->now_ms;
	p->left--;
	easy_finish(&p->queues[q], job);
	return pool_hosts_freed(p, q, err) < 0 ? -1 : pool_schedule(p, q, err);
}

static int sample(struct pool *p, struct vc_error *err)
{
	for (uint32_t q = 0; p->setup->sizes && q < p->n_queues; q++) {
		double size = p->setup->mode == POOL_ELASTIC ? pool_size(p, q) : p->queues[q].capacity;
		if (plot_add(p->setup->sizes, q, (double)p->now_ms / 1000, size, err) < 0)
			return -1;
	}
	return p->setup->sizes ? pool_at(p, p->now_ms + SAMPLE_MS, POOL_SAMPLE, 0, 0, err) : 0;
}

static int happen(struct pool *p, const struct pool_event *e, struct vc_error *err)
{
	switch (e->what) {
	case POOL_SUBMIT: return submit(p, e->which, err);
	case POOL_FINISH: return finish(p, e->which, e->turn, err);
	case POOL_DECIDE: return pool_decide(p, err);
	case POOL_ELIGIBLE: return pool_eligible(p, e->which, err);
	case POOL_JOINED: return pool_joined(p, e->which, err);
	case POOL_RELEASED: return pool_released(p, e->which, e->turn, err);
	case POOL_SAMPLE: return sample(p, err);
	}
	return 0;
}

// --- begin, run, figures ------------------------------------------------------------------------------------------------

static int begin(struct pool *p, struct vc_error *err)
{
	p->n_queues = p->setup->mode == POOL_QUEUE ? 1 : p->setup->groups;
	p->jobs = calloc(p->trace->n + 1, sizeof(*p->jobs));
	if (!p->jobs)
		return vc_error_errno(err, "pool");
	for (uint32_t q = 0; q < p->n_queues; q++) {
		p->queues[q].trace = p->trace;
		p->queues[q].capacity = p->setup->hosts / p->n_queues + (q < p->setup->hosts % p->n_queues);
	}
	if (p->setup->mode == POOL_ELASTIC && pool_elastic_begin(p, err) < 0)
		return -1;
	if (pool_at(p, 0, POOL_SAMPLE, 0, 0, err) < 0)
		return -1;
	return p->trace->n ? pool_at(p, p->trace->jobs[0].submit_ms, POOL_SUBMIT, 0, 0, err) : 0;
}

static int run(struct pool *p, struct vc_error *err)
{
	p->left = p->trace->n;
	while (p->left > 0) {
		if (p->n_events == 0)
			return vc_error_set(err, VC_EFAILED, "%zu jobs can never start", p->left);
		struct pool_event e = next_event(p);
		p->now_ms = e.at_ms;
		if (p->now_ms > p->trace->jobs[p->trace->n - 1].submit_ms + STUCK_MS)
			return vc_error_set(err, VC_EFAILED, "%zu jobs did not start in time", p->left);
		if (happen(p, &e, err) < 0)
			return -1;
		if (p->setup->mode == POOL_ELASTIC)
			pool_watch_reservations(p);
	}
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static int figures(struct pool *p, struct vc_error *err)
{
	vc_autofree double *slowdowns = calloc(p->trace->n + 1, sizeof(*slowdowns));
	if (!slowdowns)
		return vc_error_errno(err, "figures");
	struct pool_result *r = p->result;
	double work = 0, n = (double)p->trace->n;
	for (size_t i = 0; i < p->trace->n; i++) {
		const struct trace_job *j = &p->trace->jobs[i];
		double bounded = (double)(j->run_ms > POOL_BOUNDED_MS ? j->run_ms : POOL_BOUNDED_MS);
		double flow = (double)(p->jobs[i].ended_ms - j->submit_ms);
		slowdowns[i] = flow > bounded ? flow / bounded : 1;
		r->slowdown += slowdowns[i] / n;
		r->wait_s += (flow - (double)j->run_ms) / 1000 / n;
		work += (double)j->run_ms * j->hosts;
	}
	qsort(slowdowns, p->trace->n, sizeof(*slowdowns), by_value);
	r->slowdown_p95 = p->trace->n ? slowdowns[p->trace->n * 95 / 100] : 1;
	r->utilisation = p->now_ms ? work / ((double)p->now_ms * p->setup->hosts) : 0;
	r->lost_share = work > 0 ? p->lost / work : 0;
	return 0;
}

static void end(struct pool *p)
{
	for (uint32_t q = 0; q < p->n_queues; q++)
		easy_clear(&p->queues[q]);
	pool_elastic_end(p);
	free(p->jobs);
	free(p->events);
}

int pool_run(const struct pool_setup *setup, const struct trace *trace, struct pool_result *ret, struct vc_error *err)
{
	if (setup->groups == 0 || setup->groups > TRACE_GROUPS_MAX || setup->hosts == 0 || setup->hosts > VC_HOSTS_MAX)
		return vc_error_set(err, VC_EUSER, "1 to %d groups on 1 to %d hosts", TRACE_GROUPS_MAX, VC_HOSTS_MAX);
	struct pool p = {.setup = setup, .trace = trace, .result = ret};
	*ret = (struct pool_result){0};
	int rc = begin(&p, err);
	if (rc == 0)
		rc = run(&p, err);
	if (rc == 0)
		rc = figures(&p, err);
	end(&p);
	return rc;
}
