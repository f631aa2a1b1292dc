// SPDX-License-Identifier: GPL-2.0-or-later
// The controller's table of clusters, and the methods job.*, cluster.* and event.member.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/check.h"
#include "vcd/cluster_int.h"
#include "vcd/conf.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define SWEEP_MS 30000	 // how often clusters without a waiting vc-prolog are checked against slurmctld
#define LIST_OLD_MAX 200 // released clusters that cluster.list shows with all=true

// --- waiters -------------------------------------------------------------------------------------------------------

static void waiter_unlink(struct cluster_waiter *w)
{
	for (struct cluster_waiter **p = &w->cluster->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
}

static bool someone_waits(const struct cluster *c, enum cluster_wait what)
{
	for (const struct cluster_waiter *w = c->waiters; w; w = w->next) {
		if (w->what == what)
			return true;
	}
	return false;
}

static void waiter_canceled(struct rpc_request *req, void *ctx)
{
	struct cluster_waiter *w = ctx;
	struct cluster *c = w->cluster;
	struct vc_error err = VC_ERROR_INIT;
	bool ensure = w->what == CLUSTER_WAIT_READY;
	waiter_unlink(w);
	free(w);
	vc_error_set(&err, VC_ECANCELED, "the caller went away");
	rpc_reply_error(req, &err);
	// scancel kills vc-prolog: if its job is over, hosts are free at once; otherwise slurmctld repeats the call
	if (ensure && cluster_starting(c) && !someone_waits(c, CLUSTER_WAIT_READY))
		cluster_check_job(c);
}

static int add_waiter(struct cluster *c, struct rpc_request *req, enum cluster_wait what, struct vc_error *err)
{
	struct cluster_waiter *w = calloc(1, sizeof(*w));
	if (!w)
		return vc_error_errno(err, "job %u", c->key.job);
	*w = (struct cluster_waiter){.next = c->waiters, .cluster = c, .req = req, .what = what};
	c->waiters = w;
	rpc_on_cancel(req, waiter_canceled, w);
	return 0;
}

static void answer_ensure(const struct cluster *c, struct rpc_request *req)
{
	struct json_object *result = json_object_new_object();
	vc_json_add_str(result, "state", c->phase == CLUSTER_READY ? "ready" : "failed");
	vc_json_add_str(result, "cluster", c->id);
	if (c->phase != CLUSTER_READY)
		vc_json_add_str(result, "reason", c->reason.text[0] ? c->reason.text : "the job was released");
	rpc_reply(req, result);
}

static bool wait_is_over(const struct cluster *c, enum cluster_wait what)
{
	if (what == CLUSTER_WAIT_READY)
		return !cluster_starting(c);
	return what == CLUSTER_WAIT_RELEASED ? c->phase >= CLUSTER_RELEASING : c->phase == CLUSTER_RELEASED;
}

static void answer(struct cluster *c, struct cluster_waiter *w)
{
	struct vc_error err = c->reason;
	if (w->what == CLUSTER_WAIT_READY)
		answer_ensure(c, w->req);
	else if (w->what == CLUSTER_WAIT_RELEASED && c->phase != CLUSTER_RELEASED)
		rpc_reply_error(w->req, &err);
	else
		rpc_reply(w->req, NULL);
}

void clusters_answer(struct cluster *c)
{
	struct cluster_waiter *next;
	for (struct cluster_waiter *w = c->waiters; w; w = next) {
		next = w->next;
		if (!wait_is_over(c, w->what))
			continue;
		waiter_unlink(w);
		answer(c, w);
		free(w);
	}
}

void clusters_notify(struct cluster *c)
{
	for (struct cluster_waiter *w = c->waiters; w; w = w->next) {
		if (w->what == CLUSTER_WAIT_CHANGES)
			rpc_notify(w->req, "cluster.changed", cluster_to_json(c, true));
		if (w->what != CLUSTER_WAIT_READY)
			continue;
		struct json_object *params = json_object_new_object();
		vc_json_add_str(params, "phase", cluster_phase_name(c->phase));
		rpc_notify(w->req, "job.progress", params);
	}
}

// --- the table -----------------------------------------------------------------------------------------------------

static bool same_job(const struct plan_key *a, const struct plan_key *b)
{
	return a->job == b->job && strcmp(a->slurm, b->slurm) == 0;
}

static struct cluster *find_key(struct clusters *cs, const struct plan_key *key)
{
	for (struct cluster *c = cs->list; c; c = c->next) {
		if (plan_key_equal(&c->key, key))
			return c;
	}
	return NULL;
}

struct cluster *clusters_find_job(struct clusters *cs, uint32_t job)
{
	struct cluster *found = NULL;
	for (struct cluster *c = cs->list; c; c = c->next) {
		if (c->key.job == job && (!found || c->key.restart > found->key.restart))
			found = c;
	}
	return found;
}

static struct cluster *find_id(struct clusters *cs, const char *id)
{
	for (struct cluster *c = cs->list; c; c = c->next) {
		if (strcmp(c->id, id) == 0)
			return c;
	}
	return NULL;
}

const struct plan *clusters_plan(struct clusters *cs, const char *id)
{
	const struct cluster *c = cs ? find_id(cs, id) : NULL;
	return c && c->view && c->phase < CLUSTER_FAILING ? c->plan : NULL;
}

static uint32_t own_hosts(const struct cluster *c)
{
	uint32_t n = 0;
	for (size_t i = 0; c->plan && i < c->plan->n_hosts; i++)
		n += c->plan->hosts[i].lease == GROW_NO_LEASE && !c->plan->hosts[i].gone;
	return n;
}

static void look_at(const struct cluster *c, struct clusters_look *ret)
{
	*ret = (struct clusters_look){.job = c->key.job, .uid = c->uid, .ready = c->phase == CLUSTER_READY, .over = c->phase >= CLUSTER_FAILING,
				      .plan = c->plan, .own = own_hosts(c)};
	memcpy(ret->id, c->id, sizeof(ret->id));
}

bool clusters_look(struct clusters *cs, uint32_t job, struct clusters_look *ret)
{
	const struct cluster *c = cs ? clusters_find_job(cs, job) : NULL;
	if (c)
		look_at(c, ret);
	return c;
}

void clusters_each(struct clusters *cs, void (*fn)(void *ctx, const struct clusters_look *look), void *ctx)
{
	for (const struct cluster *c = cs->list; c; c = c->next) {
		struct clusters_look look;
		look_at(c, &look);
		if (look.ready)
			fn(ctx, &look);
	}
}

struct cluster *clusters_older(const struct cluster *c)
{
	for (struct cluster *o = c->owner->list; o; o = o->next) {
		if (o != c && same_job(&o->key, &c->key) && o->key.restart < c->key.restart)
			return o;
	}
	return NULL;
}

void clusters_forget(struct cluster *c)
{
	struct clusters *cs = c->owner;
	struct plan_key key = c->key;
	cluster_destroy(c);
	for (struct cluster *o = cs->list; o; o = o->next) {
		if (o->phase == CLUSTER_WAITING && same_job(&o->key, &key)) {
			cluster_begin(o);
			return;
		}
	}
}

// --- methods -------------------------------------------------------------------------------------------------------

static int read_key(struct rpc_request *req, struct plan_key *key, struct vc_error *err)
{
	struct json_object *params = rpc_params(req);
	const char *slurm;
	if (vc_json_str(params, "slurm", VC_NAME_MAX, &slurm, err) < 0 ||
	    vc_json_u32(params, "job", UINT32_MAX, &key->job, err) < 0 ||
	    vc_json_u32(params, "restart", UINT32_MAX, &key->restart, err) < 0)
		return -1;
	snprintf(key->slurm, sizeof(key->slurm), "%s", slurm);
	char text[VC_NAME_MAX + 32];
	rpc_set_job(req, plan_key_text(key, text, sizeof(text)));
	return 0;
}

static int refuse_stale(struct clusters *cs, const struct plan_key *key, struct vc_error *err)
{
	int64_t last = -1;
	if (state_cluster_last_restart(cs->vcd->state, key->slurm, key->job, &last, err) < 0)
		return -1;
	if (last > (int64_t)key->restart)
		return vc_error_set(err, VC_ESTALE, "job %u: restart %u is over, restart %lld has been seen", key->job,
				    key->restart, (long long)last);
	return 0;
}

static int job_ensure(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct clusters *cs = ctx;
	struct plan_key key = {0};
	const char *spec;
	if (read_key(req, &key, err) < 0 || vc_json_str(rpc_params(req), "spec", VC_SPEC_MAX, &spec, err) < 0 ||
	    refuse_stale(cs, &key, err) < 0)
		return -1;
	struct cluster *c = find_key(cs, &key);
	if (c && !cluster_starting(c)) {
		answer_ensure(c, req);
		return 0;
	}
	bool is_new = !c;
	if (is_new && !(c = cluster_create(cs, &key, spec, err)))
		return -1;
	if (add_waiter(c, req, CLUSTER_WAIT_READY, err) < 0) {
		if (is_new)
			cluster_destroy(c);
		return -1;
	}
	if (is_new)
		cluster_begin(c);
	return 0;
}

// A requeue counts the restart before EpilogSlurmctld runs for what was there before it.
static void release_older(struct clusters *cs, const struct plan_key *key)
{
	struct cluster *c = cs->list;
	while (c) {
		bool older = same_job(&c->key, key) && c->key.restart < key->restart && c->phase < CLUSTER_RELEASING;
		if (older)
			cluster_release(c); // the list may be another one now
		c = older ? cs->list : c->next;
	}
}

static int job_release(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct plan_key key = {0};
	if (read_key(req, &key, err) < 0)
		return -1;
	release_older(ctx, &key);
	struct cluster *c = find_key(ctx, &key);
	if (!c) {
		rpc_reply(req, NULL);
		return 0;
	}
	if (add_waiter(c, req, CLUSTER_WAIT_RELEASED, err) < 0)
		return -1;
	cluster_release(c);
	return 0;
}

struct list_ctx {
	struct rpc_request *req;
	struct clusters *cs;
	struct json_object *array;
};

static int list_old(const struct state_cluster *row, void *ctx)
{
	struct list_ctx *list = ctx;
	if (strcmp(row->phase, "released") != 0 || !rpc_caller_may(list->req, row->uid))
		return 0;
	json_object_array_add(list->array, cluster_row_to_json(row, false));
	return 0;
}

static int cluster_list(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct clusters *cs = ctx;
	bool all = false;
	if (vc_json_bool_opt(rpc_params(req), "all", &all, err) < 0)
		return -1;
	struct json_object *result = json_object_new_object(), *array = json_object_new_array();
	vc_json_add(result, "clusters", array);
	for (struct cluster *c = cs->list; c; c = c->next) {
		if (rpc_caller_may(req, c->uid))
			json_object_array_add(array, cluster_to_json(c, false));
	}
	struct list_ctx list = {req, cs, array};
	if (all && state_cluster_list(cs->vcd->state, false, LIST_OLD_MAX, list_old, &list, err) < 0) {
		json_object_put(result);
		return -1;
	}
	rpc_reply(req, result);
	return 0;
}

static int require_job(struct rpc_request *req, struct clusters *cs, struct cluster **ret, struct vc_error *err)
{
	uint32_t job;
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	struct cluster *c = clusters_find_job(cs, job);
	if (!c)
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster", job);
	if (c->uid == (uid_t)-1 && !rpc_caller_may(req, 0))
		return vc_error_set(err, VC_EBUSY, "the virtual cluster of job %u has just been asked for: try again", job);
	char text[16];
	snprintf(text, sizeof(text), "%u", job);
	if (rpc_require_owner(req, c->uid, text, err) < 0)
		return -1;
	*ret = c;
	return 0;
}

struct old_ctx {
	uint32_t job;
	uid_t uid;
	struct json_object *found;
};

static int show_old(const struct state_cluster *row, void *ctx)
{
	struct old_ctx *old = ctx;
	if (row->job != old->job || strcmp(row->phase, "released") != 0)
		return 0;
	old->uid = row->uid;
	old->found = cluster_row_to_json(row, true);
	return 1;
}

// One that is over, from the state database: the latest of that job.
static int show_released(struct rpc_request *req, struct clusters *cs, uint32_t job, struct vc_error *err)
{
	struct old_ctx old = {.job = job};
	char text[16];
	snprintf(text, sizeof(text), "%u", job);
	if (state_cluster_list(cs->vcd->state, false, 0, show_old, &old, err) < 0)
		return -1;
	if (!old.found)
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster", job);
	if (rpc_require_owner(req, old.uid, text, err) < 0) {
		json_object_put(old.found);
		return -1;
	}
	rpc_reply(req, old.found);
	return 0;
}

static int cluster_show(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct cluster *c = NULL;
	uint32_t job;
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	if (!clusters_find_job(ctx, job))
		return show_released(req, ctx, job, err);
	if (require_job(req, ctx, &c, err) < 0)
		return -1;
	rpc_reply(req, cluster_to_json(c, true));
	return 0;
}

static int cluster_watch(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct cluster *c = NULL;
	if (require_job(req, ctx, &c, err) < 0 || add_waiter(c, req, CLUSTER_WAIT_CHANGES, err) < 0)
		return -1;
	rpc_notify(req, "cluster.changed", cluster_to_json(c, true));
	return 0;
}

static int cluster_status(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	uint32_t job;
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	struct cluster *c = clusters_find_job(ctx, job);
	if (!c)
		return vc_error_set(err, VC_ENOTFOUND, "the controller has no virtual cluster for job %u", job);
	struct json_object *result = json_object_new_object();
	vc_json_add_str(result, "state", cluster_phase_name(c->phase));
	vc_json_add_str(result, "reason", c->reason.text);
	vc_json_add_u64(result, "restart", c->key.restart);
	vc_json_add_u64(result, "uid", c->uid);
	rpc_reply(req, result);
	return 0;
}

static int migrate(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct cluster *c = NULL;
	return require_job(req, ctx, &c, err) < 0 ? -1 : cluster_migrate(c, req, err);
}

static int evacuate(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	return cluster_evacuate(ctx, req, err);
}

static bool host_has_member(const struct cluster *c, const char *host, uint32_t rank)
{
	const struct plan_member *m = c->plan ? plan_member_by_rank(c->plan, rank) : NULL;
	return m && strcmp(c->plan->hosts[m->host].name, host) == 0;
}

static int job_changed(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct cluster *c = NULL;
	if (require_job(req, ctx, &c, err) < 0)
		return -1;
	cluster_job_changed(c);
	rpc_reply(req, NULL);
	return 0;
}

static int event_member(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct json_object *params = rpc_params(req);
	const char *id, *event, *reason = "";
	uint32_t rank;
	if (vc_json_str(params, "cluster", PLAN_ID_LEN, &id, err) < 0 || vc_json_str(params, "event", 32, &event, err) < 0 ||
	    vc_json_u32(params, "rank", VC_MEMBERS_MAX - 1, &rank, err) < 0 ||
	    vc_json_str_opt(params, "reason", VC_ERROR_TEXT_MAX, &reason, err) < 0)
		return -1;
	struct cluster *c = find_id(ctx, id);
	if (!c)
		return vc_error_set(err, VC_ENOTFOUND, "no cluster %s", id);
	if (!host_has_member(c, rpc_caller(req)->host, rank))
		return vc_error_set(err, VC_EDENIED, "member %u of %s is not on host %s", rank, c->key_text, rpc_caller(req)->host);
	if (cluster_member_event(c, rank, event, reason, err) < 0)
		return -1;
	rpc_reply(req, NULL);
	return 0;
}

// A view that the cluster's hosts agreed on.
static int event_view(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	const char *id;
	struct json_object *obj = NULL;
	if (vc_json_str(rpc_params(req), "cluster", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_obj(rpc_params(req), "view", &obj, err) < 0)
		return -1;
	struct cluster *c = find_id(ctx, id);
	if (!c || !c->plan)
		return vc_error_set(err, VC_ENOTFOUND, "no cluster %s", id);
	if (plan_host_index(c->plan, rpc_caller(req)->host) < 0)
		return vc_error_set(err, VC_EDENIED, "host %s is not of %s", rpc_caller(req)->host, c->key_text);
	vc_autostrv char **gone = NULL;
	view_auto struct view *view = view_from_json(obj, err);
	if (!view || vc_json_strv(rpc_params(req), "gone", VC_HOSTS_MAX, VC_HOSTNAME_MAX, &gone, err) < 0 ||
	    cluster_take_view(c, &view, err) < 0)
		return -1;
	for (size_t i = 0; gone[i]; i++) {
		int host = plan_host_index(c->plan, gone[i]);
		if (host >= 0 && (size_t)host < c->n_hosts)
			cluster_report_gone(c, (size_t)host);
	}
	grow_view_changed(c);
	rpc_reply(req, NULL);
	return 0;
}

static const struct rpc_method methods[] = {
	{"job.ensure", RPC_SLURM, RPC_CONTROLLER, 0, job_ensure},
	{"job.release", RPC_SLURM, RPC_CONTROLLER, 0, job_release},
	{"job.changed", RPC_OWNER, RPC_CONTROLLER, 0, job_changed},
	{"cluster.list", RPC_ANY, RPC_CONTROLLER, 0, cluster_list},
	{"cluster.show", RPC_OWNER, RPC_CONTROLLER, 0, cluster_show},
	{"cluster.watch", RPC_OWNER, RPC_CONTROLLER, 0, cluster_watch},
	{"cluster.migrate", RPC_OWNER, RPC_CONTROLLER, 0, migrate},
	{"cluster.evacuate", RPC_ADMIN, RPC_CONTROLLER, 0, evacuate},
	{"cluster.status", RPC_PEER, RPC_CONTROLLER, 0, cluster_status},
	{"event.member", RPC_PEER, RPC_CONTROLLER, 0, event_member},
	{"event.view", RPC_PEER, RPC_CONTROLLER, 0, event_view},
};

// --- life ----------------------------------------------------------------------------------------------------------

static void sweep(uv_timer_t *timer)
{
	struct clusters *cs = timer->data;
	for (struct cluster *c = cs->list; c; c = c->next) {
		if (!someone_waits(c, CLUSTER_WAIT_READY))
			cluster_check_job(c);
	}
	clusters_follow_drain(cs);
}

static int take_back_row(const struct state_cluster *row, void *ctx)
{
	struct clusters *cs = ctx;
	struct vc_error err = VC_ERROR_INIT;
	if (!cluster_load(cs, row, &err))
		vc_log_err("cluster %s of job %u is not taken back: %s", row->id, row->job, err.text);
	return 0;
}

static int take_back(struct clusters *cs, struct vc_error *err)
{
	if (state_cluster_list(cs->vcd->state, true, 0, take_back_row, cs, err) < 0)
		return -1;
	struct cluster *next;
	for (struct cluster *c = cs->list; c; c = next) {
		next = c->next;
		cluster_begin(c);
	}
	return 0;
}

// --- check ---------------------------------------------------------------------------------------------------------

struct row_check {
	struct clusters *cs;
	struct check_report *report;
};

static int check_row(const struct state_cluster *row, void *ctx)
{
	struct row_check *c = ctx;
	if (!find_id(c->cs, row->id))
		check_finding(c->report, CHECK_WARNING, "restart vcd on the controller: it releases clusters whose job is over",
			      "database row of cluster %s (job %u, %s) belongs to no cluster", row->id, row->job, row->phase);
	return 0;
}

static void check_rows(struct check_report *report, void *ctx)
{
	struct clusters *cs = ctx;
	struct vc_error err = VC_ERROR_INIT;
	struct row_check c = {cs, report};
	if (cs->vcd->controller && state_cluster_list(cs->vcd->state, true, 0, check_row, &c, &err) < 0)
		check_finding(report, CHECK_ERROR, "see state-dir of vcd.conf and its disk", "%s", err.text);
}

static void closed_timer(uv_handle_t *handle)
{
	free(handle);
}

static int start_sweep(struct clusters *cs, struct vc_error *err)
{
	cs->sweep = calloc(1, sizeof(*cs->sweep));
	if (!cs->sweep)
		return vc_error_errno(err, "clusters");
	uv_timer_init(&cs->vcd->loop, cs->sweep);
	cs->sweep->data = cs;
	uv_timer_start(cs->sweep, sweep, SWEEP_MS, SWEEP_MS);
	return 0;
}

struct clusters *clusters_create(struct vcd *vcd, struct vc_error *err)
{
	struct clusters *cs = calloc(1, sizeof(*cs));
	if (!cs) {
		vc_error_errno(err, "clusters");
		return NULL;
	}
	cs->vcd = vcd;
	if (rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), cs, err) < 0 || growrpc_register(cs, err) < 0 ||
	    check_register(vcd->check, "clusters", CHECK_ON_LOOP, check_rows, cs, err) < 0)
		goto fail;
	if (!vcd->controller)
		return cs; // other hosts forward these methods
	cs->slurmctl = slurmctl_create(err);
	if (!cs->slurmctl || start_sweep(cs, err) < 0 || take_back(cs, err) < 0)
		goto fail;
	return cs;
fail:
	clusters_stop(cs);
	clusters_destroy(cs);
	return NULL;
}

void clusters_stop(struct clusters *cs)
{
	if (!cs)
		return;
	while (cs->list) {
		struct cluster_waiter *w;
		while ((w = cs->list->waiters)) { // vcd stops: their callers have been told by the server
			waiter_unlink(w);
			free(w);
		}
		cluster_destroy(cs->list);
	}
	clusters_drain_stop(cs);
	if (cs->sweep)
		uv_close((uv_handle_t *)cs->sweep, closed_timer);
	cs->sweep = NULL;
}

void clusters_destroy(struct clusters *cs)
{
	if (!cs)
		return;
	slurmctl_destroy(cs->slurmctl);
	free(cs);
}
