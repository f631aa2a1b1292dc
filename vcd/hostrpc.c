// SPDX-License-Identifier: GPL-2.0-or-later
// The methods host.* and share.release, and the gate before them: which cluster may use this host now.
//
// A host is never overcommitted: a cluster whose processors or memory are still those of one that is being released
// waits, with the reason shown; one that cannot fit is refused with the numbers.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/host_int.h"
#include "vcd/hv.h"
#include "vcd/leftover.h"
#include "vcd/rpc.h"
#include "vcd/share.h"
#include "vcd/vcd.h"
#include "vcd/work.h"


struct admission {
	struct admission *next;
	struct host *host;
	struct rpc_request *req;
	struct sharework *work;
	uint64_t deadline; // loop time
	const struct share *blocker; // told already
};

// --- what is remembered ---------------------------------------------------------------------------------------

static bool key_matches(const struct plan_key *a, const struct plan_key *b)
{
	return a->job == b->job && a->restart == b->restart && (!a->slurm[0] || !b->slurm[0] || strcmp(a->slurm, b->slurm) == 0);
}

static void remember_released(struct host *h, const char *id, uint64_t version, const struct plan_key *key)
{
	if (!h->released)
		h->released = calloc(HOST_RELEASED_MAX, sizeof(*h->released));
	if (!h->released)
		return;
	struct released *r = &h->released[h->next_released++ % HOST_RELEASED_MAX];
	json_object_put(r->usage);
	memset(r, 0, sizeof(*r));
	snprintf(r->id, sizeof(r->id), "%s", id ? id : "");
	r->version = version;
	if (key)
		r->key = *key;
	if (h->n_released < HOST_RELEASED_MAX)
		h->n_released++;
}

static struct released *find_released(struct host *h, const char *id)
{
	for (size_t i = 1; id && i <= h->n_released; i++) { // the newest first: a cluster may come and go more than once
		struct released *r = &h->released[(h->next_released - i) % HOST_RELEASED_MAX];
		if (strcmp(r->id, id) == 0)
			return r;
	}
	return NULL;
}

void host_remember_usage(struct host *h, struct share *s)
{
	struct released *r = find_released(h, share_plan(s)->id);
	if (r && !r->usage)
		r->usage = share_usage(s);
}

static bool was_released(const struct host *h, const struct plan *plan)
{
	for (size_t i = 0; i < h->n_released; i++) {
		const struct released *r = &h->released[i];
		if (r->id[0] ? strcmp(r->id, plan->id) == 0 && plan->version <= r->version : key_matches(&r->key, &plan->key))
			return true;
	}
	return false;
}

static struct failure *find_failure(struct host *h, uint32_t job, uint32_t restart)
{
	for (size_t i = 0; i < h->n_failures; i++) {
		if (h->failures[i].key.job == job && h->failures[i].key.restart == restart)
			return &h->failures[i];
	}
	return NULL;
}

const char *host_failure(struct host *h, uint32_t job, uint32_t restart, uid_t *ret_uid)
{
	const struct failure *f = find_failure(h, job, restart);
	if (!f)
		return NULL;
	*ret_uid = f->uid;
	return f->reason;
}

static void forget_failure(struct host *h, const struct plan_key *key)
{
	struct failure *f = find_failure(h, key->job, key->restart);
	if (f)
		memset(f, 0, sizeof(*f));
}

// --- admission ------------------------------------------------------------------------------------------------

static uint64_t sum_vcpus(const struct sharework *w)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < w->n_members; i++)
		sum += w->members[i]->vcpus;
	return sum;
}

// Within what Slurm gave to this job here. One vCPU each may share CPUs: plan_make() does that when Slurm gave fewer CPUs
// than members.
static int check_allocation(const struct sharework *w, struct vc_error *err)
{
	const struct plan_host *host = &w->plan->hosts[w->self];
	uint64_t cpus = sum_vcpus(w), mem = sharework_mem_mib(w);
	if (host->cpus && cpus > host->cpus && cpus > w->n_members)
		return vc_error_set(err, VC_EUSER, "the members on host %s need %" PRIu64 " CPUs, Slurm allocated %" PRIu32, host->name,
				    cpus, host->cpus);
	if (host->mem_mib && mem > host->mem_mib)
		return vc_error_set(err, VC_EUSER,
				    "the members on host %s need %" PRIu64 " MiB with the hypervisor's own, Slurm allocated %" PRIu64 " MiB",
				    host->name, mem, host->mem_mib);
	return 0;
}

static bool same_cpus(const struct sharework *a, const struct sharework *b)
{
	const struct plan_host *x = &a->plan->hosts[a->self], *y = &b->plan->hosts[b->self];
	for (size_t i = 0; i < x->n_cpu_ids; i++) {
		for (size_t j = 0; j < y->n_cpu_ids; j++) {
			if (x->cpu_ids[i] == y->cpu_ids[j])
				return true;
		}
	}
	return false;
}

// 0: there is room. 1: there will be when *ret_blocker is gone. -1: there is not.
static int check_room(struct host *h, const struct sharework *w, const struct share **ret_blocker, struct vc_error *err)
{
	uint64_t used = 0, need = sharework_mem_mib(w);
	*ret_blocker = NULL;
	for (struct share *s = h->shares; s; s = share_next(s)) {
		used += sharework_mem_mib(share_work(s));
		if (share_phase(s) != SHARE_RELEASING && share_phase(s) != SHARE_FAILED)
			continue;
		*ret_blocker = s;
		if (same_cpus(w, share_work(s))) // Slurm gave them away before its machines were gone: a limit of the epilog
			return 1;
	}
	if (w->fake || used + need <= h->mem_mib)
		return 0;
	if (*ret_blocker)
		return 1;
	return vc_error_set(err, VC_EBUSY,
			    "host %s has %" PRIu64 " MiB of memory, clusters on it use %" PRIu64 ", this one needs %" PRIu64
			    ": give the job memory (--mem) that Slurm counts",
			    w->own_name, h->mem_mib, used, need);
}

static void drop_admission(struct admission *a)
{
	struct admission **at = &a->host->waiting;
	while (*at && *at != a)
		at = &(*at)->next;
	if (*at)
		*at = a->next;
	sharework_unref(a->work);
	free(a);
}

static void refuse(struct admission *a, const struct vc_error *err)
{
	rpc_reply_error(a->req, err);
	drop_admission(a);
}

static void tell_waiting(struct admission *a, const struct share *blocker)
{
	char reason[128];
	struct json_object *params = json_object_new_object();
	snprintf(reason, sizeof(reason), "waiting until job %" PRIu32 " has left this host", share_plan((struct share *)blocker)->key.job);
	vc_json_add_str(params, "host", a->work->own_name);
	vc_json_add_str(params, "phase", "waiting");
	vc_json_add_str(params, "reason", reason);
	rpc_notify(a->req, "host.progress", params);
	vc_log_ctx(VC_LOG_INFO, rpc_log(a->req), "cluster %s: %s", a->work->short_id, reason);
	a->blocker = blocker;
}

// True: the admission is over, one way or the other.
static bool try_admission(struct admission *a)
{
	struct host *h = a->host;
	struct vc_error err = VC_ERROR_INIT;
	const struct share *blocker;
	int rc = check_room(h, a->work, &blocker, &err);
	if (rc > 0) {
		if (a->blocker != blocker)
			tell_waiting(a, blocker);
		return false;
	}
	struct share *s = rc == 0 ? host_add_share(h, sharework_ref(a->work), &err) : NULL;
	if (!s) {
		refuse(a, &err);
		return true;
	}
	struct rpc_request *req = a->req;
	drop_admission(a);
	share_prepare(s, req);
	return true;
}

void host_admit_waiting(struct host *h)
{
	struct vc_error err = VC_ERROR_INIT;
	for (struct admission *next, *a = h->waiting; a && !h->stopped; a = next) {
		next = a->next;
		if (!try_admission(a) && uv_now(&h->vcd->loop) > a->deadline) {
			vc_error_set(&err, VC_ETIMEDOUT, "host %s: another cluster did not leave in time", a->work->own_name);
			refuse(a, &err);
		}
	}
}

// Only ever called for one that waits: whoever replies takes it off the list first.
static void on_cancel(struct rpc_request *req, void *ctx)
{
	struct host *h = ctx;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "the caller went away");
	for (struct admission *a = h->waiting; a; a = a->next) {
		if (a->req == req) {
			refuse(a, &err);
			return;
		}
	}
}

static int wait_for_admission(struct host *h, struct sharework *work, struct rpc_request *req, struct vc_error *err)
{
	struct admission *a = calloc(1, sizeof(*a)), **last = &h->waiting;
	if (!a) {
		sharework_unref(work);
		return vc_error_errno(err, "host.prepare");
	}
	*a = (struct admission){.host = h, .req = req, .work = work,
				.deadline = uv_now(&h->vcd->loop) + h->vcd->conf->ensure_timeout_ms};
	while (*last)
		last = &(*last)->next;
	*last = a;
	if (!try_admission(a))
		rpc_on_cancel(req, on_cancel, h);
	return 0;
}

// --- host.prepare ---------------------------------------------------------------------------------------------

// Late calls of an earlier incarnation of the job are refused; an earlier one that is still here goes.
static int check_incarnation(struct host *h, const struct plan *plan, struct vc_error *err)
{
	if (was_released(h, plan))
		return vc_error_set(err, VC_ESTALE, "cluster %.8s of job %" PRIu32 " was released already", plan->id, plan->key.job);
	for (struct share *next, *s = h->shares; s; s = next) {
		const struct plan_key *key = &share_plan(s)->key;
		next = share_next(s);
		if (key->job != plan->key.job || strcmp(key->slurm, plan->key.slurm) != 0)
			continue;
		if (key->restart > plan->key.restart)
			return vc_error_set(err, VC_ESTALE, "job %" PRIu32 " was restarted: restart count %" PRIu32 " is over", plan->key.job,
					    plan->key.restart);
		share_release(s, NULL);
	}
	return 0;
}

// Of an earlier time in the cluster, which this host may not know to be over.
static bool is_outdated(struct share *s, const struct plan *plan)
{
	const struct sharework *w = share_work(s);
	const struct plan_member *m = w->n_members ? plan_member_by_rank(plan, w->members[0]->rank) : NULL;
	return !m || m->gone;
}

static int prepare(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *h = ctx;
	struct json_object *obj = NULL;
	if (vc_json_obj(rpc_params(req), "plan", &obj, err) < 0)
		return -1;
	struct plan *plan = plan_from_json(obj, err);
	if (!plan)
		return -1;
	struct share *here = host_find_cluster(h, plan->id);
	if (here && is_outdated(here, plan)) {
		share_release(here, NULL);
		vc_error_set(err, VC_EBUSY, "what cluster %.8s had on host %s before goes first", plan->id, h->vcd->conf->host_name);
		plan_destroy(plan);
		return -1;
	}
	if (here) {
		plan_destroy(plan);
		share_prepare(here, req);
		return 0;
	}
	struct sharework *work = sharework_create(h->vcd, plan, rpc_trace(req), err);
	if (!work)
		return -1;
	if (check_incarnation(h, work->plan, err) < 0 || check_allocation(work, err) < 0) {
		sharework_unref(work);
		return -1;
	}
	return wait_for_admission(h, work, req, err);
}

// --- the other methods ----------------------------------------------------------------------------------------

static struct share *param_cluster(struct host *h, struct rpc_request *req, struct vc_error *err)
{
	const char *id;
	if (vc_json_str(rpc_params(req), "cluster", PLAN_ID_LEN, &id, err) < 0)
		return NULL;
	struct share *s = host_find_cluster(h, id);
	if (!s)
		vc_error_set(err, VC_ENOTFOUND, "cluster %s is not on host %s", id, h->vcd->conf->host_name);
	return s;
}

static int boot(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct share *s = param_cluster(ctx, req, err);
	if (!s)
		return -1;
	share_boot(s, req);
	return 0;
}

static int view(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct json_object *obj = NULL;
	struct share *s = param_cluster(ctx, req, err);
	if (!s || vc_json_obj(rpc_params(req), "view", &obj, err) < 0)
		return -1;
	return share_view(s, obj, req, err);
}

static int next_plan(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct json_object *obj = NULL;
	struct share *s = param_cluster(ctx, req, err);
	if (!s || vc_json_obj(rpc_params(req), "plan", &obj, err) < 0)
		return -1;
	struct plan *plan = plan_from_json(obj, err);
	return plan ? share_next_plan(s, plan, req, err) : -1;
}

static int join_cluster(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct share *s = param_cluster(ctx, req, err);
	if (!s || share_ask_in(s, err) < 0)
		return -1;
	rpc_reply(req, NULL);
	return 0;
}

static int leave_cluster(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	uint64_t limit_ms;
	struct share *s = param_cluster(ctx, req, err);
	if (!s || vc_json_u64(rpc_params(req), "limit_ms", UINT32_MAX, &limit_ms, err) < 0)
		return -1;
	return share_leave(s, limit_ms, req, err);
}

static int pause_cluster(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	bool pause = false;
	struct share *s = param_cluster(ctx, req, err);
	if (!s || vc_json_bool_opt(rpc_params(req), "pause", &pause, err) < 0)
		return -1;
	return share_pause(s, pause, req, err);
}

static int param_key(struct rpc_request *req, struct plan_key *ret, struct vc_error *err)
{
	struct json_object *params = rpc_params(req);
	const char *slurm = "";
	if (vc_json_u32(params, "job", UINT32_MAX, &ret->job, err) < 0 ||
	    vc_json_u32(params, "restart", UINT32_MAX, &ret->restart, err) < 0 ||
	    vc_json_str_opt(params, "slurm", VC_NAME_MAX, &slurm, err) < 0)
		return -1;
	snprintf(ret->slurm, sizeof(ret->slurm), "%s", slurm);
	return 0;
}

static int fail_cluster(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *h = ctx;
	struct failure f = {0};
	const char *reason;
	uint32_t uid;
	if (param_key(req, &f.key, err) < 0 || vc_json_str(rpc_params(req), "reason", VC_RPC_BODY_MAX, &reason, err) < 0 ||
	    vc_json_u32(rpc_params(req), "uid", UINT32_MAX, &uid, err) < 0)
		return -1;
	f.uid = uid;
	snprintf(f.reason, sizeof(f.reason), "%s", reason);
	if (!h->failures && !(h->failures = calloc(HOST_FAILURES_MAX, sizeof(*h->failures))))
		return vc_error_errno(err, "host.fail");
	forget_failure(h, &f.key);
	h->failures[h->next_failure++ % HOST_FAILURES_MAX] = f;
	if (h->n_failures < HOST_FAILURES_MAX)
		h->n_failures++;
	rpc_reply(req, NULL);
	return 0;
}

static struct share *find_key(struct host *h, const struct plan_key *key)
{
	struct share *s = h->shares;
	while (s && !key_matches(&share_plan(s)->key, key))
		s = share_next(s);
	return s;
}

static bool admission_is(const struct admission *a, const char *id, const struct plan_key *key)
{
	return id ? strcmp(a->work->plan->id, id) == 0 : key_matches(&a->work->plan->key, key);
}

typedef void (*release_fn)(struct share *s, struct rpc_request *req);

// By its id or its key: one of them is NULL.
static void release_cluster(struct host *h, const char *id, uint64_t version, const struct plan_key *key, struct rpc_request *req,
			    release_fn fn)
{
	struct vc_error err = VC_ERROR_INIT;
	struct share *s = id ? host_find_cluster(h, id) : find_key(h, key);
	vc_error_set(&err, VC_ECANCELED, "the cluster is being released");
	for (struct admission *next, *a = h->waiting; a; a = next) {
		next = a->next;
		if (admission_is(a, id, key))
			refuse(a, &err);
	}
	if (s) {
		forget_failure(h, &share_plan(s)->key);
		remember_released(h, share_plan(s)->id, version, NULL);
		fn(s, req);
		return;
	}
	struct released *known = find_released(h, id);
	if (!known)
		remember_released(h, id, version, key);
	else if (known->version < version)
		known->version = version;
	if (key)
		forget_failure(h, key);
	rpc_reply(req, known && known->usage ? json_object_get(known->usage) : NULL);
}

static int release(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct plan_key key = {0};
	const char *id = NULL;
	uint64_t version = UINT64_MAX;
	if (vc_json_str_opt(rpc_params(req), "cluster", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_u64_opt(rpc_params(req), "version", INT64_MAX, &version, err) < 0 || (!id && param_key(req, &key, err) < 0))
		return -1;
	release_cluster(ctx, id, version, id ? NULL : &key, req, version == UINT64_MAX ? share_end : share_release);
	return 0;
}

// The host's epilog: Slurm has ended what the job had here.
static int share_release_method(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct plan_key key = {0};
	if (param_key(req, &key, err) < 0)
		return -1;
	release_cluster(ctx, NULL, UINT64_MAX, &key, req, share_release);
	return 0;
}

// --- host.inventory -------------------------------------------------------------------------------------------

struct inventory {
	struct host *host;
	struct rpc_request *req;
	struct leftover_args args;
	char *run_dir, *state_dir;
	char **items;
};

static int inventory_run(void *ctx, struct vc_error *err)
{
	struct inventory *inv = ctx;
	return leftover_scan(&inv->args, &inv->items, err);
}

static void inventory_done(void *ctx, const struct vc_error *err)
{
	struct inventory *inv = ctx;
	if (err) {
		rpc_reply_error(inv->req, err);
		return;
	}
	struct json_object *result = json_object_new_object(), *list = json_object_new_array();
	for (struct share *s = inv->host->shares; s; s = share_next(s))
		json_object_array_add(list, share_inventory(s));
	vc_json_add(result, "clusters", list);
	vc_json_add_strv(result, "leftovers", inv->items);
	rpc_reply(inv->req, result);
}

static void inventory_release(void *ctx)
{
	struct inventory *inv = ctx;
	vc_strv_free(inv->items);
	free(inv->run_dir);
	free(inv->state_dir);
	free(inv);
}

static int inventory(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *h = ctx;
	struct inventory *inv = calloc(1, sizeof(*inv));
	if (!inv)
		return vc_error_errno(err, "inventory");
	*inv = (struct inventory){.host = h, .req = req, .run_dir = strdup(h->run_dir), .state_dir = strdup(h->state_dir)};
	inv->args = (struct leftover_args){h->hv, h->roster, inv->run_dir, inv->state_dir, false};
	struct work_args args = {.pool = WORK_HV, .what = "inventory", .deadline_ms = h->vcd->conf->libvirt_timeout_ms,
				 .run = inventory_run, .done = inventory_done, .release = inventory_release, .ctx = inv};
	if (inv->run_dir && inv->state_dir && work_submit(h->vcd->work, &args, NULL, err) == 0)
		return 0;
	inventory_release(inv);
	return -1;
}

// --- the gate: requests that come before the state of an earlier vcd was taken back wait for that ---------------

typedef int (*handler_fn)(struct rpc_request *req, void *ctx, struct vc_error *err);

static const struct {
	const char *name;
	handler_fn handler;
} handlers[] = {
	{"host.prepare", prepare}, {"host.boot", boot},		  {"host.view", view},	   {"host.fail", fail_cluster},
	{"host.pause", pause_cluster}, {"host.plan", next_plan}, {"host.join", join_cluster}, {"host.leave", leave_cluster},
	{"host.load", host_load}, {"host.share", host_share},
	{"host.migrate", host_migrate}, {"host.estimate", host_estimate}, {"host.incoming", host_incoming},
	{"host.arrived", host_arrived}, {"host.drop", host_drop}, {"host.moving", host_moving},
	{"host.release", release}, {"host.inventory", inventory}, {"share.release", share_release_method},
};

static int call_handler(struct host *h, struct rpc_request *req, struct vc_error *err)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(handlers); i++) {
		if (strcmp(rpc_method_name(req), handlers[i].name) == 0)
			return handlers[i].handler(req, h, err);
	}
	return vc_error_set(err, VC_ENOTFOUND, "no method %s", rpc_method_name(req));
}

struct early {
	struct early *next;
	struct rpc_request *req;
	uint64_t deadline; // loop time
};

static struct rpc_request *take_early(struct host *h, struct early **at)
{
	struct early *e = *at;
	struct rpc_request *req = e->req;
	*at = e->next;
	free(e);
	h->n_early--;
	return req;
}

static void early_canceled(struct rpc_request *req, void *ctx)
{
	struct host *h = ctx;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "the caller went away");
	for (struct early **at = &h->early; *at; at = &(*at)->next) {
		if ((*at)->req == req) {
			rpc_reply_error(take_early(h, at), &err);
			return;
		}
	}
}

static int gate(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *h = ctx;
	if (h->ready)
		return call_handler(h, req, err);
	struct early *e = h->n_early < HOST_EARLY_MAX ? calloc(1, sizeof(*e)) : NULL, **last = &h->early;
	if (!e)
		return host_require_ready(h, err);
	*e = (struct early){.req = req, .deadline = uv_now(&h->vcd->loop) + HOST_EARLY_MS};
	while (*last)
		last = &(*last)->next;
	*last = e;
	h->n_early++;
	rpc_on_cancel(req, early_canceled, h);
	return 0;
}

void host_serve_early(struct host *h)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t now = uv_now(&h->vcd->loop);
	while (h->early && (h->ready || h->early->deadline <= now)) {
		struct rpc_request *req = take_early(h, &h->early);
		rpc_on_cancel(req, NULL, NULL);
		if (h->ready ? call_handler(h, req, &err) < 0 : host_require_ready(h, &err) < 0)
			rpc_reply_error(req, &err);
	}
}

// --- life -----------------------------------------------------------------------------------------------------

static const struct rpc_method methods[] = {
	{"host.prepare", RPC_PEER, RPC_HOST, 0, gate},	 {"host.boot", RPC_PEER, RPC_HOST, 0, gate},
	{"host.view", RPC_PEER, RPC_HOST, 0, gate},	 {"host.fail", RPC_PEER, RPC_HOST, 0, gate},
	{"host.pause", RPC_PEER, RPC_HOST, 0, gate},	 {"host.plan", RPC_PEER, RPC_HOST, 0, gate},
	{"host.join", RPC_PEER, RPC_HOST, 0, gate},	 {"host.leave", RPC_PEER, RPC_HOST, 0, gate},
	{"host.release", RPC_PEER, RPC_HOST, 0, gate},	 {"host.inventory", RPC_PEER, RPC_HOST, 0, gate},
	{"host.load", RPC_PEER, RPC_HOST, 0, gate},	 {"host.share", RPC_PEER, RPC_HOST, 0, gate},
	{"share.release", RPC_ROOT, RPC_HOST, 0, gate},
	{"host.migrate", RPC_PEER, RPC_HOST, 0, gate},	 {"host.incoming", RPC_PEER, RPC_HOST, 0, gate},
	{"host.arrived", RPC_PEER, RPC_HOST, 0, gate},	 {"host.drop", RPC_PEER, RPC_HOST, 0, gate},
	{"host.estimate", RPC_PEER, RPC_HOST, 0, gate},
	{"host.moving", RPC_PEER, RPC_HOST, 0, gate},	 {"host.stream", RPC_PEER, RPC_HOST, RPC_DATA, host_stream},
};

int host_methods_register(struct host *h, struct vc_error *err)
{
	return rpc_register(h->vcd->rpc, methods, VC_ARRAY_LEN(methods), h, err);
}

void host_methods_stop(struct host *h)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "vcd stops");
	while (h->waiting)
		refuse(h->waiting, &err);
	while (h->early)
		rpc_reply_error(take_early(h, &h->early), &err);
}
