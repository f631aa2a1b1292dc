// SPDX-License-Identifier: GPL-2.0-or-later
// The host's methods for members that move: host.migrate and host.estimate at the source; host.incoming, host.stream, host.arrived and
// host.drop at the target; host.moving at the source again. What they do is in sharemove.c and sharecome.c.
#include <inttypes.h>
#include <string.h>

#include "libvc/json.h"
#include "vcd/host_int.h"
#include "vcd/plan.h"
#include "vcd/rpc.h"
#include "vcd/share.h"
#include "vcd/sharemove.h"
#include "vcd/tunnel.h"
#include "vcd/vcd.h"

static struct share *param_member(struct host *h, struct rpc_request *req, uint32_t *ret_rank, struct vc_error *err)
{
	struct json_object *params = rpc_params(req);
	const char *id;
	if (vc_json_str(params, "cluster", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_u32(params, "rank", VC_MEMBERS_MAX - 1, ret_rank, err) < 0)
		return NULL;
	struct share *s = host_find_cluster(h, id);
	if (!s)
		vc_error_set(err, VC_ENOTFOUND, "cluster %.8s is not on this host", id);
	return s;
}

static int param_how(struct json_object *params, struct share_migrate *ret, struct vc_error *err)
{
	const char *policy = "auto";
	if (vc_json_str_opt(params, "policy", 32, &policy, err) < 0 || move_policy_from_name(policy, &ret->policy, err) < 0 ||
	    vc_json_u64_opt(params, "bandwidth_mib", 1u << 20, &ret->bandwidth_mib, err) < 0 ||
	    vc_json_u64_opt(params, "downtime_ms", 1u << 20, &ret->downtime_ms, err) < 0 ||
	    vc_json_u64_opt(params, "rounds", 1u << 20, &ret->rounds, err) < 0)
		return -1;
	return 0;
}

int host_migrate(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct json_object *params = rpc_params(req);
	struct share_migrate args = {0};
	struct share *s = param_member(ctx, req, &args.rank, err);
	if (!s || vc_json_str(params, "to", VC_HOSTNAME_MAX, &args.to, err) < 0 || param_how(params, &args, err) < 0)
		return -1;
	return share_migrate(s, &args, req, err);
}

int host_estimate(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct share_migrate args = {0};
	struct share *s = param_member(ctx, req, &args.rank, err);
	return s && param_how(rpc_params(req), &args, err) == 0 ? share_estimate(s, &args, req, err) : -1;
}

// Whether the memory of one more member is there.
static int check_room(struct host *h, struct share *s, uint32_t rank, struct vc_error *err)
{
	const struct plan_member *m = plan_member_by_rank(share_plan(s), rank);
	uint64_t used = 0, need = m ? sharework_member_mem_mib(share_work(s), m) : 0;
	if (m && sharework_comes(share_work(s), m))
		return 0; // counted already
	for (struct share *at = h->shares; at; at = share_next(at))
		used += sharework_mem_mib(share_work(at));
	if (used + need <= h->mem_mib)
		return 0;
	return vc_error_set(err, VC_EBUSY, "it has %" PRIu64 " MiB of memory, clusters on it use %" PRIu64 ", the member needs %" PRIu64,
			    h->mem_mib, used, need);
}

int host_incoming(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	uint32_t rank;
	struct share *s = param_member(ctx, req, &rank, err);
	if (!s || check_room(ctx, s, rank, err) < 0)
		return -1;
	return share_incoming(s, rank, rpc_caller(req)->host, req, err);
}

int host_arrived(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	uint32_t rank;
	struct share *s = param_member(ctx, req, &rank, err);
	bool postcopy = false;
	if (!s || vc_json_bool_opt(rpc_params(req), "postcopy", &postcopy, err) < 0)
		return -1;
	return share_arrived(s, rank, postcopy, req, err);
}

int host_drop(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	uint32_t rank;
	struct share *s = param_member(ctx, req, &rank, err);
	return s ? share_drop(s, rank, req, err) : -1;
}

int host_moving(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	uint32_t rank;
	struct share *s = param_member(ctx, req, &rank, err);
	bool complete = false;
	if (!s || vc_json_bool_opt(rpc_params(req), "complete", &complete, err) < 0)
		return -1;
	if (complete && share_complete(s, rank, req))
		return 0;
	struct json_object *result = json_object_new_object();
	vc_json_add_str(result, "where", share_where(s, rank));
	rpc_reply(req, result);
	return 0;
}

int host_stream(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *h = ctx;
	const char *what;
	uint32_t rank;
	if (host_require_ready(h, err) < 0)
		return -1;
	struct share *s = param_member(h, req, &rank, err);
	if (!s || vc_json_str(rpc_params(req), "what", 32, &what, err) < 0)
		return -1;
	int fd = share_stream(s, rank, what, err);
	if (fd < 0)
		return -1;
	return tunnel_connect(h->vcd, req, json_object_new_object(), fd, err);
}
