// SPDX-License-Identifier: GPL-2.0-or-later
// Policies that move members (balance, pack) on the controller: one decision for each cluster that asked for it, in the sizer's
// round. Its migrations go the way of `vcctl migrate` (clustermove.c); a host that pack has emptied goes back as its lease.
//
// A cluster is decided about by itself: its members may run on its own hosts only. Nothing is decided while one of its members did
// not say what it does, while members move, or while a host comes. Owns what the policy remembers, until the cluster ends.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/elastic/elastic.h"
#include "vcd/leases_int.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

struct said { // of one member, in this round
	bool known;
	uint64_t runnable, tasks;
};

struct mover {
	struct elastic_state state;
	struct json_object *last; // record of the last decision
	uint64_t last_ms;
	struct said *said; // by rank
	uint32_t n_said;
};

bool mover_is_for(const struct lease_cluster *c)
{
	return strcmp(c->elastic.policy, "balance") == 0 || strcmp(c->elastic.policy, "pack") == 0;
}

void mover_free(struct mover *m)
{
	if (!m)
		return;
	elastic_state_clear(&m->state);
	json_object_put(m->last);
	free(m->said);
	free(m);
}

void mover_begin(struct lease_cluster *c, const struct plan *plan)
{
	uint32_t n = 0;
	if (!mover_is_for(c) || (!c->mover && !(c->mover = calloc(1, sizeof(*c->mover)))))
		return;
	for (size_t i = 0; i < plan->n_members; i++)
		n = plan->members[i].rank >= n ? plan->members[i].rank + 1 : n;
	free(c->mover->said);
	c->mover->said = calloc(n + 1, sizeof(*c->mover->said));
	c->mover->n_said = c->mover->said ? n : 0;
}

void mover_heard(struct lease_cluster *c, uint32_t rank, uint64_t runnable, uint64_t tasks)
{
	if (c->mover && rank < c->mover->n_said)
		c->mover->said[rank] = (struct said){true, runnable, tasks};
}

struct json_object *mover_last(const struct lease_cluster *c, uint64_t *ret_ms)
{
	*ret_ms = c->mover ? c->mover->last_ms : 0;
	return c->mover ? c->mover->last : NULL;
}

// --- the input -----------------------------------------------------------------------------------------------------------

static const struct lease *lease_of(const struct leases *l, uint64_t id)
{
	for (size_t i = 0; id && i < l->book.n; i++) {
		if (l->book.leases[i].id == id)
			return &l->book.leases[i];
	}
	return NULL;
}

// Where Slurm does not count memory, neither does the policy.
static void fill_host(const struct leases *l, const struct plan_host *from, struct elastic_host *to)
{
	const struct lease *lease = lease_of(l, from->lease);
	uint64_t mem = plan_host_share_mib(from);
	*to = (struct elastic_host){.cpu = (int64_t)from->cpus * 1000, .mem_mib = mem ? (int64_t)mem : INT32_MAX};
	to->releasable = lease && lease->state == LEASE_HELD;
	to->leaving = lease && lease->state != LEASE_HELD;
	snprintf(to->name, sizeof(to->name), "%s", from->name);
}

// The guest's own agent runs while it counts; a member uses no more than its processors.
static int64_t need_of(const struct said *said, uint32_t vcpus)
{
	uint64_t runs = said->runnable > 1 ? said->runnable - 1 : 0;
	return (int64_t)(runs < vcpus ? runs : vcpus) * 1000;
}

static bool fill_member(const struct leases *l, const struct clusters_look *look, const struct mover *m, const struct plan_member *from,
			const uint32_t *index, struct elastic_member *to)
{
	const struct conf *conf = l->vcd->conf;
	const struct plan_limits limits = {conf->overhead_mib, conf->overhead_percent};
	bool known = from->rank < m->n_said && m->said[from->rank].known, settled = from->to == PLAN_NOWHERE;
	if (!known || !settled)
		return false;
	*to = (struct elastic_member){.cluster = look->job,
				      .rank = from->rank,
				      .host = index[from->host],
				      .need = need_of(&m->said[from->rank], from->vcpus),
				      .mem_mib = (int64_t)plan_guest_cost(&limits, from->mem_mib),
				      .fixed = look->plan->spec->n_mounts > 0,
				      .anchor = m->said[from->rank].tasks > 0};
	return true;
}

// false: not complete, or out of memory.
static bool fill_input(const struct leases *l, const struct clusters_look *look, const struct mover *m, struct elastic_input *in)
{
	const struct plan *plan = look->plan;
	vc_autofree uint32_t *index = calloc(plan->n_hosts + 1, sizeof(*index));
	in->hosts = calloc(plan->n_hosts + 1, sizeof(*in->hosts));
	in->members = calloc(plan->n_members + 1, sizeof(*in->members));
	if (!index || !in->hosts || !in->members || leasebook_count(&l->book, look->job, LEASE_JOINING, LEASE_JOINING) > 0)
		return false;
	for (size_t i = 0; i < plan->n_hosts; i++) {
		index[i] = (uint32_t)in->n_hosts;
		if (!plan->hosts[i].gone)
			fill_host(l, &plan->hosts[i], &in->hosts[in->n_hosts++]);
	}
	for (size_t i = 0; i < plan->n_members; i++) {
		const struct plan_member *from = &plan->members[i];
		if (!from->gone && !fill_member(l, look, m, from, index, &in->members[in->n_members++]))
			return false;
	}
	return in->n_members > 0;
}

// --- what it decided -----------------------------------------------------------------------------------------------------

static void migrate(struct leases *l, const struct lease_cluster *c, const struct elastic_input *in, const struct elastic_decision *d)
{
	vc_autofree struct clusters_place *places = calloc(d->n_actions + 1, sizeof(*places));
	struct vc_error err = VC_ERROR_INIT;
	size_t n = 0;
	for (size_t i = 0; places && i < d->n_actions; i++) {
		if (d->actions[i].verb == ELASTIC_MIGRATE)
			places[n++] = (struct clusters_place){d->actions[i].rank, in->hosts[d->actions[i].to].name};
	}
	if (n > 0 && clusters_move(l->vcd->clusters, c->job, places, n, &err) < 0)
		vc_log_warning("job %u: policy %s: %s", c->job, c->elastic.policy, err.text);
}

static bool is_empty(const struct elastic_input *in, uint32_t host)
{
	for (size_t i = 0; i < in->n_members; i++) {
		if (in->members[i].host == host)
			return false;
	}
	return true;
}

// A host that still has members goes by a later decision, when they have moved. Never below the minimum.
static void release(struct leases *l, struct lease_cluster *c, const struct clusters_look *look, const char *host)
{
	struct vc_error err = VC_ERROR_INIT;
	int64_t now = leases_now();
	for (size_t i = 0; i < l->book.n; i++) {
		struct lease *lease = &l->book.leases[i];
		bool is_it = lease->cluster == c->job && lease->state == LEASE_HELD && strcmp(lease->host, host) == 0;
		if (!is_it || look->own + leases_live(l, c->job) <= look->plan->spec->size_min)
			continue;
		lease->deadline_ms = now + elastic_params_standard().deadline_ms;
		if (leasebook_event(&l->book, lease->id, LEASE_EV_RECLAIM, 0, now, &err) < 0)
			vc_log_warning("job %u: %s", c->job, err.text);
		c->wanted = look->own + leases_live(l, c->job);
		return;
	}
}

static void apply(struct leases *l, struct lease_cluster *c, const struct clusters_look *look, const struct elastic_input *in,
		  const struct elastic_decision *d)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct state_event e = {.cluster = c->id, .what = "decision", .data = c->mover->last};
	if (c->paused || d->n_actions == 0)
		return;
	vc_log_notice("job %u: policy %s: %s", c->job, c->elastic.policy, d->reason);
	if (state_event_add(l->vcd->state, &e, &err) < 0)
		vc_log_warning("event not recorded: %s", err.text);
	migrate(l, c, in, d);
	for (size_t i = 0; i < d->n_actions; i++) {
		if (d->actions[i].verb == ELASTIC_RELEASE && is_empty(in, d->actions[i].from))
			release(l, c, look, in->hosts[d->actions[i].from].name);
	}
}

static void decide(struct leases *l, struct lease_cluster *c, const struct clusters_look *look, const struct elastic_input *in)
{
	const struct elastic_policy *policy = elastic_policy_find(c->elastic.policy, NULL);
	struct mover *m = c->mover;
	struct elastic_decision d;
	struct vc_error err = VC_ERROR_INIT;
	int64_t now = leases_now();
	if (elastic_decide(policy, &m->state, in, now, (uint64_t)now, &d, &err) < 0) {
		vc_log_err("job %u: policy %s: %s", c->job, policy->name, err.text);
		return;
	}
	json_object_put(m->last);
	m->last = elastic_record(policy, &m->state, in, now, (uint64_t)now, &d);
	m->last_ms = uv_now(&l->vcd->loop);
	apply(l, c, look, in, &d);
	elastic_state_clear(&m->state);
	m->state = d.state;
	d.state = (struct elastic_state){0};
	elastic_decision_clear(&d);
}

void mover_decide(struct leases *l, struct lease_cluster *c, const struct clusters_look *look, const struct elastic_params *params)
{
	struct elastic_input in = {.params = *params};
	if (mover_is_for(c) && c->mover && fill_input(l, look, c->mover, &in))
		decide(l, c, look, &in);
	elastic_input_clear(&in);
}
