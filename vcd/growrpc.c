// SPDX-License-Identifier: GPL-2.0-or-later
// Methods around parts: cluster.grow and cluster.shrink (admins', answered at the end), cluster.host (a host asks how things stand).
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/cluster_int.h"
#include "vcd/elastic/params.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define SLURMCTL_MS 60000	// slurmctld's own MessageTimeout is at most this on real sites
#define DEADLINE_MAX_MS 86400000u // of a shrink: a day

struct call { // one request; alive until its reply, and until its worker has ended
	struct clusters *cs;
	struct rpc_request *req; // NULL: answered
	uint32_t job, from;
	uint64_t lease;
	struct slurmctl *slurmctl;
	struct slurmctl_job *found;
};

static void free_call(void *ctx)
{
	struct call *call = ctx;
	slurmctl_job_destroy(call->found);
	free(call);
}

static void reply(struct call *call, const struct vc_error *err)
{
	if (err)
		rpc_reply_error(call->req, err);
	else
		rpc_reply(call->req, NULL);
	call->req = NULL;
}

static void part_done(void *ctx, const struct vc_error *err)
{
	struct call *call = ctx;
	reply(call, err);
	free_call(call);
}

static void part_canceled(struct rpc_request *req, void *ctx)
{
	struct call *call = ctx;
	rpc_reply_canceled(req);
	grow_forget(call->cs, call);
	free_call(call);
}

static struct call *new_call(struct rpc_request *req, struct clusters *cs, struct vc_error *err)
{
	struct call *call = calloc(1, sizeof(*call));
	if (!call) {
		vc_error_errno(err, "%s", rpc_method_name(req));
		return NULL;
	}
	*call = (struct call){.cs = cs, .req = req, .slurmctl = cs->slurmctl};
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &call->job, err) == 0 &&
	    vc_json_u64(rpc_params(req), "lease", INT64_MAX, &call->lease, err) == 0)
		return call;
	free(call);
	return NULL;
}

// --- cluster.grow ------------------------------------------------------------------------------------------------

static int load_run(void *ctx, struct vc_error *err)
{
	struct call *call = ctx;
	return slurmctl_load_job(call->slurmctl, call->from, &call->found, err);
}

static int start_growing(struct call *call, struct call *owned, struct vc_error *err)
{
	const struct cluster *c = clusters_find_job(call->cs, call->job);
	const struct slurmctl_job *job = call->found;
	if (c && job->uid != c->uid)
		return vc_error_set(err, VC_EDENIED, "job %u is not of the user whose virtual cluster job %u has", call->from, call->job);
	if (job->state != SLURMCTL_RUNNING && job->state != SLURMCTL_CONFIGURING)
		return vc_error_set(err, VC_EUSER, "job %u is %s: it has no hosts to give", call->from, slurmctl_state_name(job->state));
	struct grow_args args = {.job = call->job, .lease = call->lease, .hosts = job->hosts, .n_hosts = job->n_hosts,
				 .done = part_done, .ctx = owned};
	return grow_start(call->cs, &args, err);
}

static void load_done(void *ctx, const struct vc_error *err)
{
	struct call *call = ctx;
	struct vc_error why = VC_ERROR_INIT;
	struct call *owned = calloc(1, sizeof(*owned)); // the worker's own one ends with the worker
	if (!call->req) {
		free(owned);
		return;
	}
	rpc_on_cancel(call->req, NULL, NULL);
	if (err || !owned) {
		struct vc_error memory = VC_ERROR_INIT;
		if (!err)
			vc_error_errno(&memory, "cluster.grow");
		reply(call, err ? err : &memory);
		free(owned);
		return;
	}
	*owned = (struct call){.cs = call->cs, .req = call->req, .job = call->job, .lease = call->lease};
	if (start_growing(call, owned, &why) < 0) {
		reply(call, &why);
		free(owned);
		return;
	}
	call->req = NULL;
	rpc_on_cancel(owned->req, part_canceled, owned);
}

static void load_canceled(struct rpc_request *req, void *ctx)
{
	struct call *call = ctx;
	rpc_reply_canceled(req);
	call->req = NULL;
}

static int cluster_grow(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct clusters *cs = ctx;
	struct call *call = new_call(req, cs, err);
	if (!call)
		return -1;
	struct work_args args = {.pool = WORK_GENERAL, .what = "ask slurmctld for the job whose hosts join", .deadline_ms = SLURMCTL_MS,
				 .run = load_run, .done = load_done, .release = free_call, .ctx = call};
	if (vc_json_u32(rpc_params(req), "from", UINT32_MAX, &call->from, err) < 0 ||
	    work_submit(cs->vcd->work, &args, NULL, err) < 0) {
		free_call(call);
		return -1;
	}
	rpc_on_cancel(req, load_canceled, call);
	return 0;
}

// --- cluster.shrink ----------------------------------------------------------------------------------------------

static int cluster_shrink(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	const char *reason = "an admin asked for it";
	struct call *call = new_call(req, ctx, err);
	if (!call)
		return -1;
	struct shrink_args args = {.job = call->job, .lease = call->lease, .done = part_done, .ctx = call};
	if (vc_json_u64_opt(rpc_params(req), "deadline_ms", DEADLINE_MAX_MS, &args.deadline_ms, err) < 0 ||
	    vc_json_str_opt(rpc_params(req), "reason", VC_ERROR_TEXT_MAX, &reason, err) < 0) {
		free_call(call);
		return -1;
	}
	const struct elastic_params params = elastic_params_standard();
	args.reason = reason;
	args.slack = (struct grow_slack){params.mem_slack, params.squeeze};
	if (grow_shrink(ctx, &args, err) < 0) {
		free_call(call);
		return -1;
	}
	rpc_on_cancel(req, part_canceled, call);
	return 0;
}

// --- cluster.host ------------------------------------------------------------------------------------------------

static int note_released(const struct state_cluster *row, void *ctx)
{
	*(bool *)ctx = strcmp(row->phase, "released") == 0;
	return 1;
}

// NULL with VC_ENOTFOUND: nothing is known of it. *ret_over: it has ended.
static struct cluster *find_cluster(struct clusters *cs, const char *id, bool *ret_over, struct vc_error *err)
{
	struct cluster *c = cs->list;
	while (c && strcmp(c->id, id) != 0)
		c = c->next;
	*ret_over = false;
	if (!c && state_cluster_get(cs->vcd->state, id, note_released, ret_over, NULL) < 0)
		*ret_over = false;
	if (!c && !*ret_over)
		vc_error_set(err, VC_ENOTFOUND, "no cluster %s", id);
	return c;
}

static int cluster_host(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	const char *id;
	uint64_t version;
	bool over;
	if (vc_json_str(rpc_params(req), "cluster", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_u64(rpc_params(req), "version", INT64_MAX, &version, err) < 0)
		return -1;
	const struct cluster *c = find_cluster(ctx, id, &over, err);
	if (!c && !over)
		return -1;
	int host = c && c->plan ? plan_host_index(c->plan, rpc_caller(req)->host) : -1;
	// what starts or ends has its own calls under way to its hosts
	bool stays = c && (c->phase != CLUSTER_READY || (host >= 0 && grow_host_stays(c, (size_t)host)));
	struct json_object *result = json_object_new_object();
	vc_json_add_bool(result, "stays", stays);
	if (stays && host >= 0 && c->phase == CLUSTER_READY && c->plan->version > version)
		vc_json_add(result, "plan", json_object_get(c->plan_json));
	rpc_reply(req, result);
	return 0;
}

int growrpc_register(struct clusters *cs, struct vc_error *err)
{
	static const struct rpc_method methods[] = {
		{"cluster.grow", RPC_ADMIN, RPC_CONTROLLER, 0, cluster_grow},
		{"cluster.shrink", RPC_ADMIN, RPC_CONTROLLER, 0, cluster_shrink},
		{"cluster.host", RPC_PEER, RPC_CONTROLLER, 0, cluster_host},
	};
	return rpc_register(cs->vcd->rpc, methods, VC_ARRAY_LEN(methods), cs, err);
}
