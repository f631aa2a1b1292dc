// SPDX-License-Identifier: GPL-2.0-or-later
// Policies that move members and share hosts among them (balance, pack, yield) on the controller: one decision for each cluster that
// asked for it, in the sizer's round. Its migrations go the way of `vcctl migrate` (clustermove.c); a host that pack has emptied goes
// back as its lease; shares are told to the members' hosts (host.share), when they have changed. Keeps what each member said last.
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
#include "vcd/peer.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define NEED_STEP 50	// thousandths of CPUs: shares are not set anew for less
#define SHARE_MS 20000	// host.share: libvirt's answer
#define WEIGHT_MIN 100	// thousandths of a CPU, of a member that needs nothing now: it has to notice work that comes

struct share { // as its host was told; weight 0: never
	int64_t weight, cap;
	uint32_t host;
};

struct mover {
	struct leases *owner;
	struct elastic_state state;
	struct json_object *last; // record of the last decision
	uint64_t last_ms;
	struct member_load *said; // by rank, in this round
	struct smooth *needs;	  // by rank, over rounds
	struct share *shares;	  // by rank
	uint32_t n_said;
	struct share_call *calls; // host.share under way
};

struct share_call {
	struct share_call *next;
	struct mover *mover;
	struct peer_call *call;
	uint32_t job;
};

static bool is_yield(const struct lease_cluster *c)
{
	return strcmp(c->elastic.policy, "yield") == 0;
}

bool mover_is_for(const struct lease_cluster *c)
{
	return strcmp(c->elastic.policy, "balance") == 0 || strcmp(c->elastic.policy, "pack") == 0 || is_yield(c);
}

void mover_free(struct mover *m)
{
	if (!m)
		return;
	while (m->calls) {
		struct share_call *call = m->calls;
		m->calls = call->next;
		peer_cancel(call->call);
		free(call);
	}
	elastic_state_clear(&m->state);
	json_object_put(m->last);
	free(m->said);
	free(m->needs);
	free(m->shares);
	free(m);
}

static int make_room(struct mover *m, uint32_t n)
{
	struct member_load *said = reallocarray(m->said, n + 1, sizeof(*said));
	m->said = said ? said : m->said;
	struct smooth *needs = reallocarray(m->needs, n + 1, sizeof(*needs));
	m->needs = needs ? needs : m->needs;
	struct share *shares = reallocarray(m->shares, n + 1, sizeof(*shares));
	m->shares = shares ? shares : m->shares;
	if (!said || !needs || !shares)
		return -1;
	for (uint32_t i = m->n_said; i < n; i++) {
		needs[i] = SMOOTH_INIT;
		shares[i] = (struct share){0};
	}
	m->n_said = n;
	return 0;
}

void mover_begin(struct leases *l, struct lease_cluster *c, const struct plan *plan)
{
	uint32_t n = 0;
	if (!c->mover && !(c->mover = calloc(1, sizeof(*c->mover))))
		return;
	struct mover *m = c->mover;
	m->owner = l;
	for (size_t i = 0; i < plan->n_members; i++)
		n = plan->members[i].rank >= n ? plan->members[i].rank + 1 : n;
	if (n > m->n_said && make_room(m, n) < 0)
		return; // as many as there were are heard
	memset(m->said, 0, m->n_said * sizeof(*m->said));
}

void mover_heard(struct lease_cluster *c, uint32_t rank, const struct member_load *load)
{
	if (c->mover && rank < c->mover->n_said)
		c->mover->said[rank] = *load;
}

static struct json_object *said_to_json(const struct member_load *s, const char *name)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "name", name);
	vc_json_add_u64(obj, "runnable", s->runnable);
	vc_json_add_u64(obj, "tasks", s->tasks);
	vc_json_add_u64(obj, "stall", s->stall);
	vc_json_add_u64(obj, "mem_free_mib", s->mem_free_mib);
	vc_json_add_u64(obj, "cpu", s->cpu);
	vc_json_add_u64(obj, "steal", s->steal);
	vc_json_add_u64(obj, "dirty_mib", s->dirty_mib);
	return obj;
}

struct json_object *mover_members(const struct lease_cluster *c, const struct plan *plan)
{
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; c->mover && i < plan->n_members; i++) {
		const struct plan_member *m = &plan->members[i];
		if (m->rank < c->mover->n_said && c->mover->said[m->rank].known)
			json_object_array_add(list, said_to_json(&c->mover->said[m->rank], m->name));
	}
	return list;
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

// What could run in this moment (the guest's own agent runs while it counts), or what was used and stolen since the last round; a
// member uses no more than its processors.
static int64_t need_of(const struct member_load *said, uint32_t vcpus)
{
	uint64_t runs = (said->runnable > 1 ? said->runnable - 1 : 0) * 1000, used = said->cpu + said->steal, most = (uint64_t)vcpus * 1000;
	uint64_t need = runs > used ? runs : used;
	return (int64_t)(need < most ? need : most);
}

static bool fill_member(const struct leases *l, const struct clusters_look *look, const struct mover *m, const struct plan_member *from,
			const uint32_t *index, struct elastic_member *to)
{
	const struct member_load *said = from->rank < m->n_said ? &m->said[from->rank] : NULL;
	const struct conf *conf = l->vcd->conf;
	const struct plan_limits limits = {conf->overhead_mib, conf->overhead_percent};
	if (!said || !said->known || from->to != PLAN_NOWHERE)
		return false;
	*to = (struct elastic_member){.cluster = look->job,
				      .rank = from->rank,
				      .host = index[from->host],
				      .need = need_of(said, from->vcpus),
				      .cpu = (int64_t)said->cpu,
				      .steal = (int64_t)said->steal,
				      .dirty_mib = (int64_t)said->dirty_mib,
				      .mem_mib = (int64_t)plan_guest_cost(&limits, from->mem_mib),
				      .fixed = look->plan->spec->n_mounts > 0,
				      .anchor = said->tasks > 0};
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
		lease->deadline_ms = now + sizer_params(l->sizer)->deadline_ms;
		if (leasebook_event(&l->book, lease->id, LEASE_EV_RECLAIM, 0, now, &err) < 0)
			vc_log_warning("job %u: %s", c->job, err.text);
		c->wanted = look->own + leases_live(l, c->job);
		return;
	}
}

// --- shares --------------------------------------------------------------------------------------------------------------

static void share_told(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct share_call *call = ctx;
	struct mover *m = call->mover;
	(void)result;
	for (struct share_call **p = &m->calls; *p; p = &(*p)->next) {
		if (*p == call) {
			*p = call->next;
			break;
		}
	}
	if (err) { // all of them again, in the next round
		vc_log_warning("job %u: shares of its members: %s", call->job, err->text);
		memset(m->shares, 0, m->n_said * sizeof(*m->shares));
	}
	free(call);
}

static void tell_host(struct mover *m, const struct lease_cluster *c, const char *host, struct json_object *members)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *params = json_object_new_object();
	struct share_call *call = calloc(1, sizeof(*call));
	vc_json_add_str(params, "cluster", c->id);
	vc_json_add(params, "members", members);
	if (!call)
		return;
	*call = (struct share_call){.next = m->calls, .mover = m, .job = c->job};
	const struct peer_args args = {.host = host, .method = "host.share", .params = params, .timeout_ms = SHARE_MS, .done = share_told, .ctx = call};
	call->call = peer_call(m->owner->vcd->peers, &args, &err);
	if (call->call) {
		m->calls = call;
		return;
	}
	vc_log_warning("job %u: shares of its members: %s", c->job, err.text);
	free(call);
}

// Who gets all that it needs has no cap, and its work may grow at once; weights hold in either case.
static struct share wanted_share(const struct elastic_member *m, int64_t n)
{
	struct share s = {.weight = n > WEIGHT_MIN ? n : WEIGHT_MIN, .cap = n < m->need ? n : 0, .host = m->host};
	return s;
}

static bool is_new(const struct share *told, const struct share *now)
{
	return told->weight != now->weight || told->cap != now->cap || told->host != now->host;
}

static struct json_object *share_to_json(uint32_t rank, const struct share *s)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "rank", rank);
	vc_json_add_int(obj, "weight", s->weight);
	vc_json_add_int(obj, "cap", s->cap);
	return obj;
}

static const struct elastic_member *find_member(const struct elastic_input *in, uint32_t rank)
{
	for (size_t i = 0; i < in->n_members; i++) {
		if (in->members[i].rank == rank)
			return &in->members[i];
	}
	return NULL;
}

// The new shares of the members of one host; those that move get theirs when they have arrived.
static void share_host(struct lease_cluster *c, const struct elastic_input *in, const struct elastic_decision *d, uint32_t host)
{
	struct mover *m = c->mover;
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < d->n_actions; i++) {
		const struct elastic_action *a = &d->actions[i];
		const struct elastic_member *member = a->verb == ELASTIC_SHARE ? find_member(in, a->rank) : NULL;
		if (!member || member->host != host || a->from != host || a->rank >= m->n_said)
			continue;
		const struct share s = wanted_share(member, a->n);
		if (!is_new(&m->shares[a->rank], &s))
			continue;
		m->shares[a->rank] = s;
		json_object_array_add(list, share_to_json(a->rank, &s));
	}
	if (json_object_array_length(list))
		tell_host(m, c, in->hosts[host].name, list);
	else
		json_object_put(list);
}

void mover_forget_shares(struct leases *l, struct lease_cluster *c)
{
	struct clusters_look look;
	struct mover *m = c->mover;
	const struct share free_share = {.weight = 1000};
	if (!m || !m->n_said || !clusters_look(l->vcd->clusters, c->job, &look) || !look.plan)
		return;
	m->owner = l;
	for (size_t h = 0; h < look.plan->n_hosts; h++) {
		struct json_object *list = json_object_new_array();
		for (size_t i = 0; i < look.plan->n_members; i++) {
			const struct plan_member *p = &look.plan->members[i];
			if (!p->gone && p->host == h)
				json_object_array_add(list, share_to_json(p->rank, &free_share));
		}
		if (json_object_array_length(list))
			tell_host(m, c, look.plan->hosts[h].name, list);
		else
			json_object_put(list);
	}
	memset(m->shares, 0, m->n_said * sizeof(*m->shares));
}

static bool only_shares(const struct elastic_decision *d)
{
	for (size_t i = 0; i < d->n_actions; i++) {
		if (d->actions[i].verb != ELASTIC_SHARE)
			return false;
	}
	return true;
}

static bool changes_shares(const struct mover *m, const struct elastic_input *in, const struct elastic_decision *d)
{
	for (size_t i = 0; i < d->n_actions; i++) {
		const struct elastic_action *a = &d->actions[i];
		const struct elastic_member *member = a->verb == ELASTIC_SHARE ? find_member(in, a->rank) : NULL;
		const struct share s = member ? wanted_share(member, a->n) : (struct share){0};
		if (member && a->rank < m->n_said && is_new(&m->shares[a->rank], &s))
			return true;
	}
	return false;
}

static void apply(struct leases *l, struct lease_cluster *c, const struct clusters_look *look, const struct elastic_input *in,
		  const struct elastic_decision *d)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct state_event e = {.cluster = c->id, .what = "decision", .data = c->mover->last};
	if (c->paused || d->n_actions == 0 || (only_shares(d) && !changes_shares(c->mover, in, d)))
		return;
	vc_log_notice("job %u: policy %s: %s", c->job, c->elastic.policy, d->reason);
	if (state_event_add(l->vcd->state, &e, &err) < 0)
		vc_log_warning("event not recorded: %s", err.text);
	migrate(l, c, in, d);
	for (uint32_t h = 0; h < in->n_hosts; h++)
		share_host(c, in, d, h);
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

// A share is set for a whole round: for what a member needs in the mean, not in one moment.
static void smooth_needs(struct mover *m, struct elastic_input *in)
{
	for (size_t i = 0; i < in->n_members; i++) {
		struct elastic_member *member = &in->members[i];
		struct smooth *s = &m->needs[member->rank];
		smooth_add(s, member->need, leases_now(), in->params.interval_ms, in->params.interval_ms);
		member->need = (s->value + NEED_STEP / 2) / NEED_STEP * NEED_STEP;
	}
}

void mover_decide(struct leases *l, struct lease_cluster *c, const struct clusters_look *look, const struct elastic_params *params)
{
	struct elastic_input in = {.params = *params};
	bool known = mover_is_for(c) && c->mover && fill_input(l, look, c->mover, &in);
	if (known && is_yield(c))
		smooth_needs(c->mover, &in);
	if (known)
		decide(l, c, look, &in);
	elastic_input_clear(&in);
}
