// SPDX-License-Identifier: GPL-2.0-or-later
// Sizes by policy, on the controller: loads and Slurm's pool in, a decision of vcd/elastic, leases out. Methods elastic.*.
//
// One round each `interval`, only while there are clusters that it is for: it asks the hosts for their guests' loads and slurmctld
// for idle hosts and its queue, decides, acts, and records each decision that does something with all that it came from, so that
// it replays. A round whose input is not complete does nothing. Clusters of one policy are decided together.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/elastic/elastic.h"
#include "vcd/fanout.h"
#include "vcd/leases_int.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define LOAD_MS 5000 // host.load: libvirt has 3 s of it; a host that does not answer counts as it did
#define LOAD_MAX UINT32_MAX

enum { SIZER_STATIC, SIZER_COD, SIZER_POLICIES };
static const char *const policy_names[SIZER_POLICIES] = {"static", "cod"};

struct pool_call { // belongs to the worker's job
	struct sizer *sizer;
	struct slurmctl *slurmctl;
	struct slurmlease_pool pool;
};

struct sizer {
	struct leases *l;
	struct elastic_params params;
	struct elastic_state states[SIZER_POLICIES];
	struct json_object *last[SIZER_POLICIES]; // record of the last decision
	uint64_t last_ms[SIZER_POLICIES];
	struct slurmlease_pool pool;
	struct work_job *work;
	struct fanout *fanout;
	char **hosts; // that are asked in this round
	size_t n_hosts;
	uv_timer_t *timer;
};

static int policy_of(const struct lease_cluster *c)
{
	return strcmp(c->elastic.policy, "cod") == 0 ? SIZER_COD : SIZER_STATIC;
}

// --- whom it is for -------------------------------------------------------------------------------------------------

// Elastic clusters have an entry from the moment they run; static ones that never were resized are nobody's business.
static void meet(void *ctx, const struct clusters_look *look)
{
	struct sizer *s = ctx;
	const struct vc_spec *spec = look->plan->spec;
	struct vc_error err = VC_ERROR_INIT;
	bool elastic = spec->elastic.policy[0] || spec->size_min > look->own;
	if (elastic && !leases_cluster(s->l, look->job) && !leases_need_cluster(s->l, look, &err))
		vc_log_warning("job %u: %s", look->job, err.text);
}

static bool runs(const struct sizer *s, const struct lease_cluster *c, struct clusters_look *look)
{
	return clusters_look(s->l->vcd->clusters, c->job, look) && look->ready && strcmp(look->id, c->id) == 0;
}

// --- loads -----------------------------------------------------------------------------------------------------------

static int read_load(struct json_object *m, uint32_t *ret_rank, struct member_load *ret)
{
	const struct {
		const char *key;
		uint64_t max, *to;
	} fields[] = {{"runnable", LOAD_MAX, &ret->runnable}, {"tasks", LOAD_MAX, &ret->tasks},
		      {"pressure", 1000, &ret->stall},	      {"mem_free_mib", LOAD_MAX, &ret->mem_free_mib},
		      {"cpu", LOAD_MAX, &ret->cpu},	      {"steal", LOAD_MAX, &ret->steal},
		      {"dirty_mib", LOAD_MAX, &ret->dirty_mib}};
	*ret = (struct member_load){.known = true};
	for (size_t i = 0; i < VC_ARRAY_LEN(fields); i++) {
		if (vc_json_u64_opt(m, fields[i].key, fields[i].max, fields[i].to, NULL) < 0)
			return -1;
	}
	return vc_json_u32(m, "rank", VC_MEMBERS_MAX - 1, ret_rank, NULL);
}

// Its part in thousandths of a host's worth: what could run, what was used and stolen, against the processors of one host of its
// cluster; what of its memory is used, against the memory of the members of one host.
static void add_load(struct elastic_cluster *to, const struct member_load *load, const struct plan_member *m, uint32_t vms)
{
	int64_t per_host = (int64_t)m->vcpus * vms, most = (int64_t)m->vcpus * 1000, used = (int64_t)(load->cpu + load->steal);
	int64_t steal = used > most ? (int64_t)load->steal * most / used : (int64_t)load->steal;
	per_host = per_host ? per_host : 1;
	// the guest's own agent runs while it counts
	to->load += (int64_t)(load->runnable > 1 ? load->runnable - 1 : 0) * 1000 / per_host;
	to->steal += steal / per_host;
	to->cpu += ((used > most ? most : used) - steal) / per_host;
	to->stall += (int64_t)load->stall / vms;
	if (load->mem_free_mib && load->mem_free_mib < m->mem_mib)
		to->mem += (int64_t)((m->mem_mib - load->mem_free_mib) * 1000 / m->mem_mib) / vms;
}

// Slurm starts tasks on the primary job's hosts only: a member that has its tasks from there is anchored to where it is now.
static enum lease_work work_of(const struct plan *plan, const struct plan_member *m, const struct member_load *load)
{
	if (!load->tasks)
		return LEASE_WORK_NONE;
	return plan->hosts[m->home].lease ? LEASE_WORK_SOME : LEASE_WORK_ANCHOR;
}

static enum lease_work add_member(struct sizer *s, struct lease_cluster *c, struct json_object *m)
{
	struct clusters_look look;
	struct member_load load;
	uint32_t rank;
	if (!runs(s, c, &look) || read_load(m, &rank, &load) < 0)
		return LEASE_WORK_NONE;
	const struct plan_member *planned = plan_member_by_rank(look.plan, rank);
	if (!planned || planned->gone)
		return LEASE_WORK_NONE;
	mover_heard(c, rank, &load);
	add_load(&c->loads, &load, planned, look.plan->spec->vms ? look.plan->spec->vms : 1);
	return work_of(look.plan, planned, &load);
}

static struct lease_cluster *by_id(const struct sizer *s, const char *id)
{
	for (struct lease_cluster *c = s->l->clusters; c; c = c->next) {
		if (strcmp(c->id, id) == 0)
			return c;
	}
	return NULL;
}

static void set_work(struct sizer *s, const struct lease_cluster *c, const char *host, enum lease_work work)
{
	for (size_t i = 0; i < s->l->book.n; i++) {
		struct lease *lease = &s->l->book.leases[i];
		if (lease->cluster == c->job && strcmp(lease->host, host) == 0)
			lease->work = work;
	}
}

static void host_told(void *ctx, size_t i, struct json_object *result, const struct vc_error *err)
{
	struct sizer *s = ctx;
	struct json_object *shares = NULL, *members = NULL;
	if (err || vc_json_array(result, "shares", VC_HOSTS_MAX, &shares, NULL) < 0)
		return;
	for (size_t k = 0; k < json_object_array_length(shares); k++) {
		struct json_object *share = json_object_array_get_idx(shares, k);
		const char *id = "";
		enum lease_work most = LEASE_WORK_NONE;
		(void)vc_json_str_opt(share, "cluster", PLAN_ID_LEN, &id, NULL);
		struct lease_cluster *c = by_id(s, id);
		if (!c || vc_json_array(share, "members", VC_MEMBERS_MAX, &members, NULL) < 0)
			continue;
		for (size_t j = 0; j < json_object_array_length(members); j++) {
			enum lease_work work = add_member(s, c, json_object_array_get_idx(members, j));
			most = work > most ? work : most;
		}
		c->loads.busy += most != LEASE_WORK_NONE;
		set_work(s, c, s->hosts[i], most);
	}
}

// --- the input -----------------------------------------------------------------------------------------------------------

static void fill_cluster(struct sizer *s, const struct lease_cluster *c, const struct clusters_look *look, struct elastic_cluster *ret)
{
	const struct leasebook *book = &s->l->book;
	const struct vc_spec *spec = look->plan->spec;
	uint32_t leaving = leasebook_count(book, c->job, LEASE_RECLAIMING, LEASE_RELEASING);
	uint32_t size = look->own + leasebook_count(book, c->job, LEASE_HELD, LEASE_HELD) + leaving;
	uint32_t max = spec->size_max ? spec->size_max : c->wanted ? c->wanted : look->own;
	*ret = (struct elastic_cluster){
		.id = c->job,
		.min = spec->size_min > look->own ? spec->size_min : look->own,
		.max = max > look->own ? max : look->own,
		.reserve = c->elastic.reserve,
		.priority = c->priority,
		.weight = c->elastic.weight ? c->elastic.weight : 1,
		.wanted = c->wanted,
		.size = size,
		.leaving = leaving,
		.coming = leasebook_count(book, c->job, LEASE_WANTED, LEASE_JOINING),
		.busy = c->loads.busy,
		.load = c->loads.load,
		.cpu = c->loads.cpu,
		.steal = c->loads.steal,
		.stall = c->loads.stall,
		.mem = c->loads.mem,
	};
}

static int by_id_order(const void *a, const void *b)
{
	const struct elastic_cluster *p = a, *q = b;
	return p->id < q->id ? -1 : p->id > q->id;
}

static int fill_input(struct sizer *s, int policy, struct elastic_input *in, struct vc_error *err)
{
	size_t n = 0;
	for (const struct lease_cluster *c = s->l->clusters; c; c = c->next)
		n++;
	*in = (struct elastic_input){.params = s->params, .queued = s->pool.queued};
	in->clusters = calloc(n + 1, sizeof(*in->clusters));
	if (!in->clusters)
		return vc_error_errno(err, "policy");
	uint32_t sizes = 0, joining = 0;
	for (const struct lease_cluster *c = s->l->clusters; c; c = c->next) {
		struct clusters_look look;
		if (policy_of(c) != policy || !runs(s, c, &look))
			continue;
		fill_cluster(s, c, &look, &in->clusters[in->n_clusters]);
		sizes += in->clusters[in->n_clusters++].size;
		joining += leasebook_count(&s->l->book, c->job, LEASE_JOINING, LEASE_JOINING);
	}
	qsort(in->clusters, in->n_clusters, sizeof(*in->clusters), by_id_order);
	in->idle = s->pool.idle + joining; // a host that is on its way in is Slurm's no more, and not here yet
	in->pool = in->idle + sizes;
	return 0;
}

// --- decisions ------------------------------------------------------------------------------------------------------------

static void record(struct sizer *s, const struct lease_cluster *c, struct json_object *decision)
{
	struct vc_error err = VC_ERROR_INIT;
	struct state_event e = {.cluster = c->id, .what = "decision", .data = decision};
	if (state_event_add(s->l->vcd->state, &e, &err) < 0)
		vc_log_warning("event not recorded: %s", err.text);
}

static int act(struct sizer *s, const struct lease_cluster *c, const struct elastic_action *a, struct vc_error *err)
{
	int64_t now = leases_now();
	switch (a->verb) {
	case ELASTIC_GROW:
		return leasebook_want(&s->l->book, c->job, (uint32_t)a->n, now, err);
	case ELASTIC_SHRINK:
		return leasebook_give_back(&s->l->book, c->job, a->n, true, now + s->params.deadline_ms, now, err) < 0 ? -1 : 0;
	case ELASTIC_RECLAIM:
		return leasebook_give_back(&s->l->book, c->job, a->n, false, now + a->deadline_ms, now, err) < 0 ? -1 : 0;
	default: // caps are for whoever starts work in the cluster: its owner's programs, which read the view
		return 0;
	}
}

// Does the actions of one decision. A cluster that is paused, or whose last lease others ended just now, is left alone.
static void apply(struct sizer *s, const struct elastic_decision *d, struct json_object *decision)
{
	uint32_t recorded = 0;
	for (size_t i = 0; i < d->n_actions; i++) {
		const struct elastic_action *a = &d->actions[i];
		struct lease_cluster *c = leases_cluster(s->l, a->cluster);
		struct vc_error err = VC_ERROR_INIT;
		bool held = c && a->verb == ELASTIC_GROW && uv_now(&s->l->vcd->loop) < c->hold_ms;
		if (!c || c->paused || held || a->verb == ELASTIC_CAP)
			continue;
		vc_log_notice("job %u: policy %s: %s by %lld: %s", a->cluster, c->elastic.policy[0] ? c->elastic.policy : "static",
			      elastic_verb_name(a->verb), (long long)a->n, a->reason);
		if (recorded != a->cluster)
			record(s, c, decision);
		recorded = a->cluster;
		if (act(s, c, a, &err) < 0)
			vc_log_warning("job %u: %s", a->cluster, err.text);
	}
	leases_settle(s->l);
}

static void decide(struct sizer *s, int policy)
{
	const struct elastic_policy *p = elastic_policy_find(policy_names[policy], NULL);
	struct elastic_input in;
	struct elastic_decision d;
	struct vc_error err = VC_ERROR_INIT;
	int64_t now = leases_now();
	if (fill_input(s, policy, &in, &err) == 0 && in.n_clusters == 0) {
		elastic_input_clear(&in);
		return;
	}
	if (elastic_decide(p, &s->states[policy], &in, now, (uint64_t)now, &d, &err) < 0) {
		vc_log_err("policy %s: %s", p->name, err.text);
		elastic_input_clear(&in);
		return;
	}
	json_object_put(s->last[policy]);
	s->last[policy] = elastic_record(p, &s->states[policy], &in, now, (uint64_t)now, &d);
	s->last_ms[policy] = uv_now(&s->l->vcd->loop);
	apply(s, &d, s->last[policy]);
	elastic_state_clear(&s->states[policy]);
	s->states[policy] = d.state;
	d.state = (struct elastic_state){0};
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

// --- a round -----------------------------------------------------------------------------------------------------------

static void loads_told(void *ctx, const struct vc_error *err)
{
	struct sizer *s = ctx;
	s->fanout = NULL;
	if (err)
		vc_log_debug("host.load: %s", err->text);
	for (int i = 0; i < SIZER_POLICIES; i++)
		decide(s, i);
	for (struct lease_cluster *c = s->l->clusters; c; c = c->next) {
		struct clusters_look look;
		if (runs(s, c, &look))
			mover_decide(s->l, c, &look, &s->params);
	}
	if (s->l->book.n_todo)
		leases_settle(s->l);
}

static void free_hosts(struct sizer *s)
{
	for (size_t i = 0; i < s->n_hosts; i++)
		free(s->hosts[i]);
	free(s->hosts);
	s->hosts = NULL;
	s->n_hosts = 0;
}

static int add_host(struct sizer *s, const char *name)
{
	for (size_t i = 0; i < s->n_hosts; i++) {
		if (strcmp(s->hosts[i], name) == 0)
			return 0;
	}
	char **grown = reallocarray(s->hosts, s->n_hosts + 1, sizeof(*grown));
	if (!grown)
		return -1;
	s->hosts = grown;
	s->hosts[s->n_hosts] = strdup(name);
	return s->hosts[s->n_hosts] ? (s->n_hosts++, 0) : -1;
}

static int collect_hosts(struct sizer *s)
{
	free_hosts(s);
	for (struct lease_cluster *c = s->l->clusters; c; c = c->next) {
		struct clusters_look look;
		c->loads = (struct elastic_cluster){0};
		bool decides = policy_of(c) != SIZER_STATIC || mover_is_for(c);
		// a size that is kept asks for no load, but which hosts have work is for who gives some back
		if (!runs(s, c, &look) || (!decides && leasebook_count(&s->l->book, c->job, LEASE_HELD, LEASE_HELD) == 0))
			continue;
		mover_begin(s->l, c, look.plan);
		for (size_t i = 0; i < look.plan->n_hosts; i++) {
			if (!look.plan->hosts[i].gone && add_host(s, look.plan->hosts[i].name) < 0)
				return -1;
		}
	}
	return 0;
}

static void ask_loads(struct sizer *s)
{
	struct vc_error err = VC_ERROR_INIT;
	struct json_object *params = json_object_new_object();
	struct fanout_args args = {.method = "host.load", .params = params, .timeout_ms = LOAD_MS, .keep_going = true,
				   .host_done = host_told, .done = loads_told, .ctx = s};
	if (collect_hosts(s) == 0 && s->n_hosts == 0) {
		loads_told(s, NULL);
	} else {
		args.hosts = (const char *const *)s->hosts;
		args.n_hosts = s->n_hosts;
		s->fanout = fanout_start(s->l->vcd, &args, &err);
		if (!s->fanout)
			vc_log_warning("host.load: %s", err.text);
	}
	json_object_put(params);
}

static int pool_run(void *ctx, struct vc_error *err)
{
	struct pool_call *call = ctx;
	return slurmlease_look_pool(call->slurmctl, &call->pool, err);
}

static void pool_done(void *ctx, const struct vc_error *err)
{
	struct pool_call *call = ctx;
	struct sizer *s = call->sizer;
	s->work = NULL;
	if (err) { // sizes stay while slurmctld is away
		vc_log_warning("elastic policies: %s", err->text);
		return;
	}
	s->pool = call->pool;
	ask_loads(s);
}

static void begin_round(uv_timer_t *timer)
{
	struct sizer *s = timer->data;
	struct vc_error err = VC_ERROR_INIT;
	if (s->work || s->fanout)
		return; // the last one is not over
	clusters_each(s->l->vcd->clusters, meet, s);
	if (!s->l->clusters)
		return; // nothing is asked of anybody
	struct pool_call *call = calloc(1, sizeof(*call));
	if (!call)
		return;
	*call = (struct pool_call){s, s->l->slurmctl, s->pool};
	struct work_args args = {.pool = WORK_GENERAL, .what = "ask slurmctld for idle hosts", .deadline_ms = LEASES_SLURM_MS,
				 .run = pool_run, .done = pool_done, .release = free, .ctx = call};
	if (work_submit(s->l->vcd->work, &args, &s->work, &err) < 0) {
		vc_log_warning("elastic policies: %s", err.text);
		free(call);
	}
}

// --- methods ------------------------------------------------------------------------------------------------------------

static int param_entry(struct rpc_request *req, struct leases *l, struct lease_cluster **ret, struct vc_error *err)
{
	uint32_t job;
	char text[16];
	struct clusters_look look;
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	snprintf(text, sizeof(text), "%u", job);
	if (!clusters_look(l->vcd->clusters, job, &look) || !look.ready)
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster that runs", job);
	if (rpc_require_owner(req, look.uid, text, err) < 0)
		return -1;
	*ret = leases_need_cluster(l, &look, err);
	return *ret ? 0 : -1;
}

static struct json_object *entry_to_json(const struct sizer *s, const struct lease_cluster *c)
{
	struct json_object *obj = json_object_new_object(), *decision = json_object_new_object();
	int policy = policy_of(c);
	struct clusters_look look;
	vc_json_add_u64(obj, "job", c->job);
	vc_json_add_str(obj, "policy", mover_is_for(c) ? c->elastic.policy : policy_names[policy]);
	vc_json_add_u64(obj, "weight", c->elastic.weight ? c->elastic.weight : 1);
	vc_json_add_u64(obj, "reserve", c->elastic.reserve);
	vc_json_add_int(obj, "priority", c->priority);
	vc_json_add_bool(obj, "paused", c->paused);
	vc_json_add_u64(obj, "wanted", c->wanted);
	vc_json_add_int(obj, "load", c->loads.load);
	vc_json_add_int(obj, "cpu", c->loads.cpu);
	vc_json_add_int(obj, "steal", c->loads.steal);
	vc_json_add_int(obj, "stall", c->loads.stall);
	vc_json_add_int(obj, "mem", c->loads.mem);
	vc_json_add_u64(obj, "busy", c->loads.busy);
	vc_json_add_u64(obj, "idle", s->pool.idle);
	vc_json_add_u64(obj, "queued", s->pool.queued);
	uint64_t last_ms = s->last_ms[policy];
	struct json_object *last = mover_is_for(c) ? mover_last(c, &last_ms) : s->last[policy];
	if (last) {
		vc_json_add_u64(decision, "age_ms", uv_now(&s->l->vcd->loop) - last_ms);
		vc_json_add(decision, "record", json_object_get(last));
	}
	vc_json_add(obj, "decision", decision);
	if (clusters_look(s->l->vcd->clusters, c->job, &look) && look.plan)
		vc_json_add(obj, "members", mover_members(c, look.plan));
	return obj;
}

static int elastic_show(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct sizer *s = ctx;
	struct lease_cluster *c = NULL;
	if (param_entry(req, s->l, &c, err) < 0)
		return -1;
	rpc_reply(req, entry_to_json(s, c));
	return 0;
}

// {set: "cod,weight=2"}, {priority}: admins, {paused}
static int elastic_set(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct sizer *s = ctx;
	struct lease_cluster *c = NULL;
	struct json_object *priority = NULL;
	const char *text = "";
	if (param_entry(req, s->l, &c, err) < 0 || vc_json_str_opt(rpc_params(req), "set", VC_SPEC_MAX, &text, err) < 0)
		return -1;
	struct vc_spec_elastic e = c->elastic;
	bool paused = c->paused;
	if ((text[0] && vc_spec_parse_elastic("elastic set", text, &e, err) < 0) ||
	    vc_json_bool_opt(rpc_params(req), "paused", &paused, err) < 0)
		return -1;
	if (json_object_object_get_ex(rpc_params(req), "priority", &priority)) {
		if (!rpc_caller_is_admin(req))
			return vc_error_set(err, VC_EDENIED, "a cluster's priority is for admins");
		c->priority = json_object_get_int(priority);
	}
	if (text[0])
		c->wanted = 0; // the policy's again
	if (strcmp(c->elastic.policy, "yield") == 0 && strcmp(e.policy, "yield") != 0)
		mover_forget_shares(s->l, c);
	c->elastic = e;
	c->paused = paused;
	leases_settle(s->l);
	rpc_reply(req, entry_to_json(s, c));
	return 0;
}

static const struct rpc_method methods[] = {
	{"elastic.show", RPC_OWNER, RPC_CONTROLLER, 0, elastic_show},
	{"elastic.set", RPC_OWNER, RPC_CONTROLLER, 0, elastic_set},
};

// --- life ----------------------------------------------------------------------------------------------------------------

static void closed_timer(uv_handle_t *handle)
{
	free(handle);
}

int sizer_create(struct leases *l, struct vc_error *err)
{
	struct sizer *s = calloc(1, sizeof(*s));
	if (!s)
		return vc_error_errno(err, "policies");
	l->sizer = s;
	s->l = l;
	s->params = elastic_params_standard();
	for (char **p = l->vcd->conf->elastic_params; p && *p; p++) {
		if (elastic_param_set(&s->params, *p, err) < 0)
			return vc_error_wrap(err, "elastic-params of vcd.conf");
	}
	if (rpc_register(l->vcd->rpc, methods, VC_ARRAY_LEN(methods), s, err) < 0)
		return -1;
	if (!l->vcd->controller)
		return 0;
	if (!(s->timer = calloc(1, sizeof(*s->timer))))
		return vc_error_errno(err, "policies");
	uv_timer_init(&l->vcd->loop, s->timer);
	s->timer->data = s;
	uv_timer_start(s->timer, begin_round, (uint64_t)s->params.interval_ms, (uint64_t)s->params.interval_ms);
	return 0;
}

const struct elastic_params *sizer_params(const struct sizer *s)
{
	return &s->params;
}

void sizer_stop(struct sizer *s)
{
	if (!s)
		return;
	fanout_cancel(s->fanout);
	s->fanout = NULL;
	if (s->work)
		work_cancel(s->work);
	s->work = NULL;
	if (s->timer)
		uv_close((uv_handle_t *)s->timer, closed_timer);
	s->timer = NULL;
}

void sizer_destroy(struct sizer *s)
{
	if (!s)
		return;
	free_hosts(s);
	for (int i = 0; i < SIZER_POLICIES; i++) {
		elastic_state_clear(&s->states[i]);
		json_object_put(s->last[i]);
	}
	free(s);
}
