// SPDX-License-Identifier: GPL-2.0-or-later
// The methods lease.* and cluster.resize: what users, the hooks of a lease's job and its step ask. See leases_int.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/elastic/params.h"
#include "vcd/grow.h"
#include "vcd/host.h"
#include "vcd/leases_int.h"
#include "vcd/share.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define DEADLINE_MAX_MS (24 * 3600000L) // no reclaim waits longer

// --- waiting ------------------------------------------------------------------------------------------------------------

static void unlink_waiter(struct lease_waiter *w)
{
	for (struct lease_waiter **p = &w->owner->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			return;
		}
	}
}

static void waiter_canceled(struct rpc_request *req, void *ctx)
{
	struct lease_waiter *w = ctx;
	struct leases *l = w->owner;
	bool prolog = w->what == LEASE_WAIT_HELD;
	unlink_waiter(w);
	free(w);
	rpc_reply_canceled(req);
	if (prolog)
		leases_look(l); // scancel kills vc-prolog: its job may be over
}

static int wait_for(struct leases *l, struct rpc_request *req, enum lease_wait what, uint64_t lease, uint32_t job, struct vc_error *err)
{
	struct lease_waiter *w = calloc(1, sizeof(*w));
	if (!w)
		return vc_error_errno(err, "lease");
	*w = (struct lease_waiter){.next = l->waiters, .owner = l, .req = req, .lease = lease, .job = job, .what = what};
	l->waiters = w;
	rpc_on_cancel(req, waiter_canceled, w);
	return 0;
}

void leases_forget_waiters(struct leases *l)
{
	for (struct lease_waiter *w; (w = l->waiters);) {
		l->waiters = w->next;
		free(w); // vcd stops: their callers have been told by the server
	}
}

static bool wait_is_over(struct leases *l, const struct lease_waiter *w, const struct lease *lease)
{
	const struct lease_run *run = lease ? leases_run(l, w->lease) : NULL;
	if (!lease || lease->state == LEASE_ENDED)
		return !run || !run->leaving || w->what != LEASE_WAIT_GONE;
	if (w->what == LEASE_WAIT_HELD)
		return lease->state >= LEASE_HELD || (lease->job && lease->job != w->job);
	if (w->what == LEASE_WAIT_END)
		return run && run->quit_ms;
	return lease->state == LEASE_RELEASING && run && !run->leaving && !run->joining &&
	       grow_state(l->vcd->clusters, lease->cluster, lease->id) == GROW_NONE;
}

static struct json_object *wait_result(struct leases *l, const struct lease_waiter *w, const struct lease *lease)
{
	struct json_object *result = json_object_new_object();
	const struct lease_run *run = lease ? leases_run(l, w->lease) : NULL;
	bool mine = lease && (w->what != LEASE_WAIT_HELD || lease->job == w->job);
	vc_json_add_str(result, "state", mine ? lease_state_name(lease->state) : "ended");
	vc_json_add_str(result, "end", mine ? lease_end_name(lease->end) : "");
	vc_json_add_str(result, "reason", !mine ? "this job is not the one of its lease" : run ? run->why : "");
	return result;
}

void leases_answer(struct leases *l)
{
	struct lease_waiter *next;
	for (struct lease_waiter *w = l->waiters; w; w = next) {
		const struct lease *lease = leasebook_find(&l->book, w->lease);
		next = w->next;
		if (!wait_is_over(l, w, lease))
			continue;
		struct json_object *result = wait_result(l, w, lease);
		unlink_waiter(w);
		rpc_reply(w->req, result);
		free(w);
	}
}

// --- the job's hooks and its step ------------------------------------------------------------------------------------

static const struct lease *find_job(const struct leases *l, uint32_t job)
{
	for (size_t i = 0; job && i < l->book.n; i++) {
		if (l->book.leases[i].job == job)
			return &l->book.leases[i];
	}
	return NULL;
}

// PrologSlurmctld of a job that says it is a lease's. Nothing of that is believed: slurmctld is asked whose it is, and only the
// job that belongs to the registered lease's owner and carries its cluster's id brings a host.
static int lease_ensure(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	uint64_t lease;
	uint32_t job;
	if (vc_json_u64(rpc_params(req), "lease", UINT64_MAX, &lease, err) < 0 ||
	    vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	if (!leasebook_find(&l->book, lease))
		return vc_error_set(err, VC_EDENIED, "job %u: there is no lease %llu", job, (unsigned long long)lease);
	if (wait_for(l, req, LEASE_WAIT_HELD, lease, job, err) < 0)
		return -1;
	leases_look(l);
	return 0;
}

// The job has ended, on one host or as a whole: answered when nothing of the cluster is left on its host.
static int lease_release(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	uint32_t job;
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	const struct lease *lease = find_job(l, job);
	if (!lease) {
		rpc_reply(req, NULL);
		return 0;
	}
	if (wait_for(l, req, LEASE_WAIT_GONE, lease->id, job, err) < 0)
		return -1;
	leases_look(l);
	return 0;
}

static int param_lease(struct rpc_request *req, struct leases *l, const struct lease **ret, struct vc_error *err)
{
	uint64_t id;
	uint32_t job;
	char text[16];
	if (vc_json_u64(rpc_params(req), "lease", UINT64_MAX, &id, err) < 0 ||
	    vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	const struct lease *lease = leasebook_find(&l->book, id);
	const struct lease_cluster *c = leases_cluster(l, job);
	if (!lease || !c || lease->cluster != job)
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no lease %llu", job, (unsigned long long)id);
	snprintf(text, sizeof(text), "%u", job);
	if (rpc_require_owner(req, c->uid, text, err) < 0)
		return -1;
	*ret = lease;
	return 0;
}

static int lease_wait(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	const struct lease *lease = NULL;
	if (param_lease(req, l, &lease, err) < 0 || wait_for(l, req, LEASE_WAIT_END, lease->id, lease->job, err) < 0)
		return -1;
	leases_answer(l);
	return 0;
}

static int lease_term(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	const struct lease *lease = NULL;
	if (param_lease(req, l, &lease, err) < 0)
		return -1;
	struct lease_run *run = leases_run(l, lease->id);
	if (run)
		run->term = true;
	leases_look(l);
	rpc_reply(req, NULL);
	return 0;
}

// On the lease's host, for its step while the controller is away.
static int lease_here(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	const struct leases *l = ctx;
	uint32_t job;
	char text[16];
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0 || host_require_ready(l->vcd->host, err) < 0)
		return -1;
	struct share *s = host_find_job(l->vcd->host, job);
	snprintf(text, sizeof(text), "%u", job);
	if (s && rpc_require_owner(req, share_plan(s)->owner.uid, text, err) < 0)
		return -1;
	struct json_object *result = json_object_new_object();
	vc_json_add_u64(result, "valid_ms", s ? share_valid_ms(s) : 0);
	rpc_reply(req, result);
	return 0;
}

// --- people ------------------------------------------------------------------------------------------------------------

static int param_cluster(struct rpc_request *req, struct leases *l, struct clusters_look *look, struct vc_error *err)
{
	uint32_t job;
	char text[16];
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	if (!clusters_look(l->vcd->clusters, job, look))
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster", job);
	snprintf(text, sizeof(text), "%u", job);
	return rpc_require_owner(req, look->uid, text, err);
}

static int check_planned(const struct clusters_look *look, struct vc_error *err)
{
	return look->plan ? 0 : vc_error_set(err, VC_EBUSY, "the virtual cluster of job %u is not planned yet", look->job);
}

static int check_running(const struct clusters_look *look, struct vc_error *err)
{
	if (!look->over && look->ready)
		return 0;
	return vc_error_set(err, VC_EBUSY, "the virtual cluster of job %u is not running: see vcctl show %u", look->job, look->job);
}

static int param_hosts(struct rpc_request *req, struct leases *l, struct clusters_look *look, uint32_t *ret, struct vc_error *err)
{
	return param_cluster(req, l, look, err) < 0 ? -1 : vc_json_u32(rpc_params(req), "hosts", VC_HOSTS_MAX, ret, err);
}

static int param_deadline(struct rpc_request *req, const struct leases *l, uint64_t *ret_ms, struct vc_error *err)
{
	*ret_ms = (uint64_t)sizer_params(l->sizer)->deadline_ms;
	return vc_json_u64_opt(rpc_params(req), "deadline_ms", DEADLINE_MAX_MS, ret_ms, err);
}

static struct json_object *lease_to_json(struct leases *l, const struct lease *lease)
{
	struct json_object *obj = json_object_new_object();
	const struct lease_run *run = leases_run(l, lease->id);
	int64_t now = leases_now();
	vc_json_add_u64(obj, "lease", lease->id);
	vc_json_add_u64(obj, "job", lease->job);
	vc_json_add_str(obj, "state", lease_state_name(lease->state));
	vc_json_add_str(obj, "host", lease->host);
	vc_json_add_str(obj, "end", lease_end_name(lease->end));
	vc_json_add_str(obj, "reason", run ? run->why : "");
	vc_json_add_u64(obj, "state_ms", now > lease->since_ms ? (uint64_t)(now - lease->since_ms) : 0);
	if (lease->state == LEASE_RECLAIMING && lease->deadline_ms >= 0)
		vc_json_add_u64(obj, "deadline_ms", lease->deadline_ms > now ? (uint64_t)(lease->deadline_ms - now) : 0);
	return obj;
}

static struct json_object *size_to_json(struct leases *l, const struct clusters_look *look)
{
	struct json_object *obj = json_object_new_object(), *list = json_object_new_array();
	const struct lease_cluster *c = leases_cluster(l, look->job);
	for (size_t i = 0; i < l->book.n; i++) {
		if (l->book.leases[i].cluster == look->job)
			json_object_array_add(list, lease_to_json(l, &l->book.leases[i]));
	}
	vc_json_add_u64(obj, "job", look->job);
	vc_json_add_u64(obj, "own", look->own);
	vc_json_add_u64(obj, "held", leasebook_count(&l->book, look->job, LEASE_HELD, LEASE_RECLAIMING));
	vc_json_add_u64(obj, "size", look->own + leases_live(l, look->job));
	vc_json_add_u64(obj, "wanted", c ? c->wanted : 0);
	vc_json_add_u64(obj, "min", look->plan->spec->size_min);
	vc_json_add_u64(obj, "max", look->plan->spec->size_max);
	vc_json_add(obj, "leases", list);
	return obj;
}

static int lease_list(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct clusters_look look;
	if (param_cluster(req, ctx, &look, err) < 0 || check_planned(&look, err) < 0)
		return -1;
	rpc_reply(req, size_to_json(ctx, &look));
	return 0;
}

static int check_size(const struct clusters_look *look, uint32_t size, struct vc_error *err)
{
	const struct vc_spec *spec = look->plan->spec;
	if (spec->size_max && (size < spec->size_min || size > spec->size_max))
		return vc_error_set(err, VC_EUSER, "%u hosts are outside --vcluster-size=%u-%u of job %u", size, spec->size_min,
				    spec->size_max, look->job);
	if (size > VC_HOSTS_MAX)
		return vc_error_set(err, VC_EUSER, "%u hosts are more than %d", size, VC_HOSTS_MAX);
	if (size < look->own)
		return vc_error_set(err, VC_EUSER, "job %u started with %u hosts, which stay until its end: %u is less", look->job, look->own, size);
	return 0;
}

// {hosts: N} or {by: -1}
static int param_change(struct rpc_request *req, struct leases *l, const struct clusters_look *look, int64_t *ret, struct vc_error *err)
{
	struct json_object *by = NULL;
	int64_t now = (int64_t)look->own + leases_live(l, look->job);
	uint32_t hosts;
	if (json_object_object_get_ex(rpc_params(req), "by", &by)) {
		if (!json_object_is_type(by, json_type_int) || json_object_get_int64(by) > VC_HOSTS_MAX ||
		    json_object_get_int64(by) < -now)
			return vc_error_set(err, VC_EUSER, "'by' is no change of a cluster of %lld hosts", (long long)now);
		*ret = json_object_get_int64(by);
	} else {
		if (vc_json_u32(rpc_params(req), "hosts", VC_HOSTS_MAX, &hosts, err) < 0)
			return -1;
		*ret = hosts - now;
	}
	return check_size(look, (uint32_t)(now + *ret), err);
}

static int cluster_resize(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	struct clusters_look look;
	int64_t change = 0;
	bool dry = false;
	uint64_t deadline;
	if (param_cluster(req, l, &look, err) < 0 || check_running(&look, err) < 0 || param_change(req, l, &look, &change, err) < 0 ||
	    vc_json_bool_opt(rpc_params(req), "dry_run", &dry, err) < 0 || param_deadline(req, l, &deadline, err) < 0)
		return -1;
	if (!dry && change && leases_change(l, look.job, change, (int64_t)deadline, err) < 0)
		return -1;
	struct json_object *result = size_to_json(l, &look);
	json_object_object_add(result, "change", json_object_new_int64(change));
	vc_json_add_bool(result, "dry_run", dry);
	rpc_reply(req, result);
	return 0;
}

// One lease, or any k, given back by a deadline.
static int lease_reclaim(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	struct clusters_look look;
	uint32_t n;
	uint64_t deadline;
	if (param_hosts(req, l, &look, &n, err) < 0 || param_deadline(req, l, &deadline, err) < 0 ||
	    leases_change(l, look.job, -(int64_t)n, (int64_t)deadline, err) < 0)
		return -1;
	rpc_reply(req, size_to_json(l, &look));
	return 0;
}

// k more hosts: a lease for each.
static int lease_request(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	struct clusters_look look;
	uint32_t n;
	if (param_hosts(req, l, &look, &n, err) < 0 || check_running(&look, err) < 0 ||
	    check_size(&look, look.own + leases_live(l, look.job) + n, err) < 0 || (n && leases_change(l, look.job, n, 0, err) < 0))
		return -1;
	rpc_reply(req, size_to_json(l, &look));
	return 0;
}

// Up to k hosts that have no work, as far as the last round of a policy knew; none that has.
static int lease_offer(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	struct clusters_look look;
	uint32_t n;
	uint64_t deadline;
	int64_t now = leases_now();
	if (param_hosts(req, l, &look, &n, err) < 0 || param_deadline(req, l, &deadline, err) < 0)
		return -1;
	struct lease_cluster *c = leases_cluster(l, look.job);
	if (!c || look.over || !look.ready)
		return vc_error_set(err, VC_EBUSY, "job %u has no hosts of leases", look.job);
	uint32_t size = look.own + leases_live(l, look.job), least = look.plan->spec->size_min;
	uint32_t most = size > least ? size - least : 0;
	int64_t given = leasebook_give_back(&l->book, look.job, n < most ? n : most, true, now + (int64_t)deadline, now, err);
	if (given > 0)
		c->wanted = look.own + leases_live(l, look.job);
	leases_settle(l);
	if (given < 0)
		return -1;
	struct json_object *result = size_to_json(l, &look);
	vc_json_add_u64(result, "given", (uint64_t)given);
	rpc_reply(req, result);
	return 0;
}

// The primary was given more time: its leases get it now, and not only when slurmctld is looked at the next time.
static int lease_renew(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct leases *l = ctx;
	struct clusters_look look;
	if (param_cluster(req, l, &look, err) < 0 || check_planned(&look, err) < 0)
		return -1;
	leases_look(l);
	rpc_reply(req, size_to_json(l, &look));
	return 0;
}

static const struct rpc_method methods[] = {
	{"cluster.resize", RPC_OWNER, RPC_CONTROLLER, 0, cluster_resize},
	{"lease.list", RPC_OWNER, RPC_CONTROLLER, 0, lease_list},
	{"lease.reclaim", RPC_OWNER, RPC_CONTROLLER, 0, lease_reclaim},
	{"lease.request", RPC_OWNER, RPC_CONTROLLER, 0, lease_request},
	{"lease.offer", RPC_OWNER, RPC_CONTROLLER, 0, lease_offer},
	{"lease.renew", RPC_OWNER, RPC_CONTROLLER, 0, lease_renew},
	{"lease.ensure", RPC_SLURM, RPC_CONTROLLER, 0, lease_ensure},
	{"lease.release", RPC_SLURM, RPC_CONTROLLER, 0, lease_release},
	{"lease.wait", RPC_OWNER, RPC_CONTROLLER, 0, lease_wait},
	{"lease.here", RPC_OWNER, RPC_HOST, 0, lease_here},
	{"lease.term", RPC_OWNER, RPC_CONTROLLER, 0, lease_term},
};

int leases_register(struct leases *l, struct vc_error *err)
{
	return rpc_register(l->vcd->rpc, methods, VC_ARRAY_LEN(methods), l, err);
}
