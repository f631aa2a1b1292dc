// SPDX-License-Identifier: GPL-2.0-or-later
// Elastic clusters of a simulated pool: decisions by the policy, leases by the daemon's book, and a Slurm that gives each
// lease a free host after a while. Hosts of one cluster are alike: only their number matters to its queue.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/vcsim/pool_int.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"

#define LEASE_JOB_BASE 1000000u // lease N is Slurm's job BASE + N
#define DECISIONS_IN_BOUND 3	// a load is seen at the next decision, is smoothed by one more, and the grid costs one

static uint32_t cluster_id(uint32_t queue)
{
	return queue + 1;
}

static uint32_t count(const struct pool *p, uint32_t queue, enum lease_state first, enum lease_state last)
{
	return leasebook_count(&p->book, cluster_id(queue), first, last);
}

uint32_t pool_size(const struct pool *p, uint32_t queue)
{
	return p->setup->own + count(p, queue, LEASE_HELD, LEASE_RECLAIMING);
}

// --- hosts ------------------------------------------------------------------------------------------------------------

static uint32_t pick_host(const struct pool *p, uint32_t queue)
{
	uint32_t found = UINT32_MAX;
	for (uint32_t h = 0; h < p->setup->hosts; h++) {
		if (p->hosts[h].taken)
			continue;
		if (p->hosts[h].images & 1u << queue)
			return h;
		if (found == UINT32_MAX)
			found = h;
	}
	return found;
}

static uint32_t host_index(const char *name)
{
	uint64_t index = 0;
	vc_parse_u64("host", name + 1, 0, VC_HOSTS_MAX, &index, NULL);
	return (uint32_t)index;
}

static struct lease_job job_of(const struct pool *p, uint64_t lease, enum lease_slurm state, uint32_t host)
{
	struct lease_job job = {.lease = lease, .job = LEASE_JOB_BASE + (uint32_t)lease, .state = state, .end_ms = p->now_ms};
	if (host != UINT32_MAX)
		snprintf(job.host, sizeof(job.host), "h%u", host);
	return job;
}

static int act(struct pool *p, struct vc_error *err);

static int tell(struct pool *p, uint64_t lease, enum lease_slurm state, uint32_t host, struct vc_error *err)
{
	const struct lease_job job = job_of(p, lease, state, host);
	// asked at 0: this is news of one job, not a complete list
	return leasebook_see(&p->book, &job, 1, 0, p->now_ms, err) < 0 ? -1 : act(p, err);
}

// --- capacities ---------------------------------------------------------------------------------------------------------

static int refresh(struct pool *p, uint32_t queue, struct vc_error *err)
{
	struct easy *e = &p->queues[queue];
	uint32_t held = p->setup->own + count(p, queue, LEASE_HELD, LEASE_HELD);
	e->capacity = held < p->caps[queue] ? held : p->caps[queue];
	e->expected = held + count(p, queue, LEASE_WANTED, LEASE_JOINING);
	// what a deadline has taken: the youngest jobs have least to lose
	for (uint32_t hard = pool_size(p, queue), job; e->busy > hard && (job = easy_youngest(e)) != UINT32_MAX;) {
		if (pool_kill(p, queue, job, err) < 0)
			return -1;
	}
	return 0;
}

// Hosts of the cluster that no job needs let reclaims go on.
int pool_hosts_freed(struct pool *p, uint32_t queue, struct vc_error *err)
{
	if (p->setup->mode != POOL_ELASTIC)
		return 0;
	uint32_t size = pool_size(p, queue), spare = size > p->queues[queue].busy ? size - p->queues[queue].busy : 0;
	for (size_t i = 0; i < p->book.n && spare > 0; i++) {
		const struct lease *l = &p->book.leases[i];
		if (l->cluster != cluster_id(queue) || l->state != LEASE_RECLAIMING)
			continue;
		spare--;
		if (leasebook_event(&p->book, l->id, LEASE_EV_EMPTY, 0, p->now_ms, err) < 0)
			return -1;
	}
	return act(p, err) < 0 ? -1 : refresh(p, queue, err);
}

// --- what the book wants done -----------------------------------------------------------------------------------------------

static int start_eligible(struct pool *p, struct vc_error *err)
{
	while (p->n_eligible > 0 && p->free_hosts > 0) {
		uint64_t id = p->eligible[0];
		memmove(p->eligible, p->eligible + 1, --p->n_eligible * sizeof(*p->eligible));
		const struct lease *l = leasebook_find(&p->book, id);
		uint32_t host = l ? pick_host(p, l->cluster - 1) : UINT32_MAX;
		if (host == UINT32_MAX)
			continue;
		p->hosts[host] = (struct pool_host){.taken = true, .images = p->hosts[host].images};
		p->free_hosts--;
		if (tell(p, id, LEASE_JOB_RUNNING, host, err) < 0)
			return -1;
	}
	return 0;
}

int pool_eligible(struct pool *p, uint32_t lease, struct vc_error *err)
{
	const struct lease *l = leasebook_find(&p->book, lease);
	if (!l || l->state != LEASE_PENDING)
		return 0; // given back before
	p->eligible[p->n_eligible++] = lease;
	return start_eligible(p, err);
}

static int do_submit(struct pool *p, const struct lease_todo *todo, struct vc_error *err)
{
	uint32_t lease = (uint32_t)todo->lease;
	p->result->grown++;
	return leasebook_event(&p->book, lease, LEASE_EV_ACCEPTED, LEASE_JOB_BASE + lease, p->now_ms, err) < 0
		       ? -1
		       : pool_at(p, p->now_ms + p->setup->costs.schedule_ms, POOL_ELIGIBLE, lease, 0, err);
}

static int do_join(struct pool *p, const struct lease_todo *todo, struct vc_error *err)
{
	uint32_t bit = 1u << (todo->cluster - 1);
	struct pool_host *h = &p->hosts[host_index(todo->host)];
	int64_t way = p->setup->costs.boot_ms + (h->images & bit ? 0 : p->setup->costs.install_ms);
	h->images |= bit;
	return pool_at(p, p->now_ms + way, POOL_JOINED, (uint32_t)todo->lease, 0, err);
}

static int do_cancel(struct pool *p, const struct lease_todo *todo, struct vc_error *err)
{
	if (!todo->host[0]) {
		for (size_t i = 0; i < p->n_eligible; i++) {
			if (p->eligible[i] != todo->lease)
				continue;
			memmove(p->eligible + i, p->eligible + i + 1, (--p->n_eligible - i) * sizeof(*p->eligible));
			break;
		}
		return tell(p, todo->lease, LEASE_JOB_CANCELLED, UINT32_MAX, err);
	}
	uint32_t host = host_index(todo->host);
	if (p->hosts[host].leaving)
		return 0;
	p->hosts[host].leaving = true;
	return pool_at(p, p->now_ms + p->setup->costs.release_ms, POOL_RELEASED, (uint32_t)todo->lease, host, err);
}

static int act(struct pool *p, struct vc_error *err)
{
	while (p->book.n_todo > 0) {
		struct lease_todo todo = p->book.todo[0];
		memmove(p->book.todo, p->book.todo + 1, --p->book.n_todo * sizeof(todo));
		int rc = todo.what == LEASE_SUBMIT   ? do_submit(p, &todo, err)
			 : todo.what == LEASE_JOIN   ? do_join(p, &todo, err)
			 : todo.what == LEASE_CANCEL ? do_cancel(p, &todo, err)
						     : 0; // drains and drops: refresh() counts again
		if (rc < 0)
			return -1;
	}
	return 0;
}

int pool_joined(struct pool *p, uint32_t lease, struct vc_error *err)
{
	const struct lease *l = leasebook_find(&p->book, lease);
	if (!l || l->state != LEASE_JOINING)
		return 0;
	uint32_t queue = l->cluster - 1;
	if (leasebook_event(&p->book, lease, LEASE_EV_JOINED, 0, p->now_ms, err) < 0 || act(p, err) < 0 ||
	    refresh(p, queue, err) < 0)
		return -1;
	return pool_schedule(p, queue, err);
}

int pool_released(struct pool *p, uint32_t lease, uint32_t host, struct vc_error *err)
{
	p->hosts[host].taken = p->hosts[host].leaving = false;
	p->free_hosts++;
	return tell(p, lease, LEASE_JOB_COMPLETED, host, err) < 0 ? -1 : start_eligible(p, err);
}

// --- decisions ------------------------------------------------------------------------------------------------------------

static void look(struct pool *p, uint32_t q)
{
	struct elastic_cluster *c = &p->clusters[q];
	const struct easy *e = &p->queues[q];
	c->size = p->setup->own + count(p, q, LEASE_JOINING, LEASE_RELEASING);
	c->leaving = count(p, q, LEASE_RECLAIMING, LEASE_RELEASING);
	c->coming = count(p, q, LEASE_WANTED, LEASE_PENDING);
	c->busy = e->busy;
	c->load = (int64_t)(e->busy + e->queued_hosts) * 1000;
	const struct trace_job *head = e->n_queue ? &p->trace->jobs[e->queue[0]] : NULL;
	c->head = head ? head->hosts : 0;
	c->waited_ms = head ? p->now_ms - head->submit_ms : 0;
	c->head_ms = head ? head->estimate_ms : 0;
}

// Which leases have work: those that joined first, as the cluster's queue fills its hosts in order.
static void mark_work(struct pool *p, uint32_t q)
{
	uint32_t busy = p->queues[q].busy > p->setup->own ? p->queues[q].busy - p->setup->own : 0;
	for (size_t i = 0; i < p->book.n; i++) {
		struct lease *l = &p->book.leases[i];
		if (l->cluster != cluster_id(q) || l->state < LEASE_HELD || l->state > LEASE_RECLAIMING)
			continue;
		l->work = busy > 0 ? LEASE_WORK_SOME : LEASE_WORK_NONE;
		busy -= busy > 0;
	}
}

static int follow(struct pool *p, const struct elastic_action *a, struct vc_error *err)
{
	uint32_t q = a->cluster - 1;
	if (a->verb == ELASTIC_CAP) {
		p->caps[q] = (uint32_t)a->n;
	} else if (a->verb == ELASTIC_GROW) {
		if (leasebook_want(&p->book, a->cluster, (uint32_t)a->n, p->now_ms, err) < 0)
			return -1;
	} else if (a->verb == ELASTIC_SHRINK || a->verb == ELASTIC_RECLAIM) {
		mark_work(p, q);
		int64_t n = leasebook_give_back(&p->book, a->cluster, a->n, a->verb == ELASTIC_SHRINK, p->now_ms + a->deadline_ms,
						p->now_ms, err);
		if (n < 0)
			return -1;
		*(a->verb == ELASTIC_SHRINK ? &p->result->shrunk : &p->result->reclaimed) += n;
	}
	return act(p, err) < 0 || pool_hosts_freed(p, q, err) < 0 ? -1 : 0;
}

static int follow_all(struct pool *p, const struct elastic_decision *d, struct vc_error *err)
{
	for (uint32_t q = 0; q < p->n_queues; q++)
		p->caps[q] = UINT32_MAX;
	for (size_t i = 0; i < d->n_actions; i++) {
		if (follow(p, &d->actions[i], err) < 0)
			return -1;
	}
	for (uint32_t q = 0; q < p->n_queues; q++) {
		if (pool_hosts_freed(p, q, err) < 0 || pool_schedule(p, q, err) < 0)
			return -1;
	}
	return 0;
}

static int record(const struct pool *p, const struct elastic_input *in, const struct elastic_decision *d, struct vc_error *err)
{
	if (!p->setup->records || d->n_actions == 0)
		return 0;
	vc_autojson struct json_object *obj = elastic_record(p->setup->policy, &p->state, in, p->now_ms, p->setup->seed, d);
	return fprintf(p->setup->records, "%s\n", vc_json_text(obj, NULL)) < 0 ? vc_error_errno(err, "records") : 0;
}

int pool_decide(struct pool *p, struct vc_error *err)
{
	struct elastic_decision d = {0};
	for (uint32_t q = 0; q < p->n_queues; q++)
		look(p, q);
	const struct elastic_input in = {.pool = p->setup->hosts, .idle = p->free_hosts, .params = p->setup->params,
					 .clusters = p->clusters, .n_clusters = p->n_queues};
	if (leasebook_tick(&p->book, p->now_ms, err) < 0 || act(p, err) < 0 ||
	    elastic_decide(p->setup->policy, &p->state, &in, p->now_ms, p->setup->seed, &d, err) < 0)
		return -1;
	p->result->decisions++;
	int rc = record(p, &in, &d, err) < 0 ? -1 : follow_all(p, &d, err);
	elastic_state_clear(&p->state);
	p->state = d.state;
	d.state = (struct elastic_state){0};
	elastic_decision_clear(&d);
	if (rc == 0 && leasebook_check(&p->book, p->setup->hosts, err) < 0)
		return -1;
	return rc < 0 ? -1 : pool_at(p, p->now_ms + p->setup->params.interval_ms, POOL_DECIDE, 0, 0, err);
}

// --- reservations ---------------------------------------------------------------------------------------------------------

static int64_t bound_ms(const struct pool_setup *s)
{
	const struct pool_costs *c = &s->costs;
	int64_t way = c->release_ms + c->schedule_ms + c->install_ms + c->boot_ms;
	return DECISIONS_IN_BOUND * s->params.interval_ms + s->params.deadline_ms + way;
}

// Since when the reservation's host number `level` is asked for and not there; the earliest of all levels. A load that goes up
// meanwhile asks for more hosts, with a time of their own.
static int64_t unmet_since(struct pool *p, uint32_t q)
{
	const struct easy *e = &p->queues[q];
	uint64_t could = e->busy + e->queued_hosts;
	int64_t earliest = p->now_ms;
	for (uint32_t level = 0; level < p->setup->reserve; level++) {
		int64_t *since = &p->unmet_ms[q * p->setup->reserve + level];
		smooth_since(since, level < could && level >= e->capacity, p->now_ms);
		earliest = *since >= 0 && *since < earliest ? *since : earliest;
	}
	return earliest;
}

void pool_watch_reservations(struct pool *p)
{
	p->result->violation_bound_s = (double)bound_ms(p->setup) / 1000;
	for (uint32_t q = 0; q < p->n_queues; q++) {
		int64_t from = unmet_since(p, q) + bound_ms(p->setup);
		from = from > p->judged_ms ? from : p->judged_ms;
		p->result->violation_s += p->now_ms > from ? (double)(p->now_ms - from) / 1000 : 0;
	}
	p->judged_ms = p->now_ms;
}

// --- begin and end --------------------------------------------------------------------------------------------------------

int pool_elastic_begin(struct pool *p, struct vc_error *err)
{
	const struct pool_setup *s = p->setup;
	p->hosts = calloc(s->hosts, sizeof(*p->hosts));
	p->eligible = calloc(LEASEBOOK_MAX, sizeof(*p->eligible));
	p->unmet_ms = calloc((size_t)s->groups * s->reserve + 1, sizeof(*p->unmet_ms));
	if (!p->hosts || !p->eligible || !p->unmet_ms)
		return vc_error_errno(err, "pool");
	if (s->own == 0 || s->own * s->groups > s->hosts || s->reserve * s->groups > s->hosts)
		return vc_error_set(err, VC_EUSER, "%u groups with %u hosts of their own and %u reserved do not fit on %u", s->groups,
				    s->own, s->reserve, s->hosts);
	for (size_t i = 0; i < (size_t)s->groups * s->reserve; i++)
		p->unmet_ms[i] = -1;
	for (uint32_t h = 0; h < s->own * s->groups; h++)
		p->hosts[h].taken = true;
	p->free_hosts = s->hosts - s->own * s->groups;
	for (uint32_t q = 0; q < p->n_queues; q++) {
		p->queues[q].capacity = p->queues[q].expected = s->own;
		p->caps[q] = UINT32_MAX;
		p->clusters[q] = (struct elastic_cluster){.id = cluster_id(q), .min = s->own, .max = s->hosts, .reserve = s->reserve,
							  .weight = 1};
	}
	return pool_at(p, 0, POOL_DECIDE, 0, 0, err);
}

void pool_elastic_end(struct pool *p)
{
	leasebook_clear(&p->book);
	elastic_state_clear(&p->state);
	free(p->hosts);
	free(p->eligible);
	free(p->unmet_ms);
}
