// SPDX-License-Identifier: GPL-2.0-or-later
// The method table and requests: see rpc.h. Owns the table and the list of open requests.
#include "vcd/rpc_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/peer.h"
#include "vcd/vcd.h"

#define FORWARD_TIMEOUT_MS (24ull * 3600 * 1000) // the caller's own limit or its end comes first; this one bounds a leak

struct entry {
	struct rpc_method method;
	void *ctx;
};

struct rpc {
	struct vcd *vcd;
	struct entry *table; // sorted by name
	size_t n;
	LIST_HEAD(, rpc_request) open;
};

struct rpc *rpc_create(struct vcd *vcd, struct vc_error *err)
{
	struct rpc *rpc = calloc(1, sizeof(*rpc));
	if (!rpc) {
		vc_error_errno(err, "method table");
		return NULL;
	}
	rpc->vcd = vcd;
	LIST_INIT(&rpc->open);
	return rpc;
}

void rpc_destroy(struct rpc *rpc)
{
	if (!rpc)
		return;
	free(rpc->table);
	free(rpc);
}

struct vcd *rpc_vcd(struct rpc *rpc)
{
	return rpc->vcd;
}

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->method.name, ((const struct entry *)b)->method.name);
}

static const struct entry *find_entry(const struct rpc *rpc, const char *name)
{
	struct entry key = {.method.name = name};
	return rpc->n ? bsearch(&key, rpc->table, rpc->n, sizeof(key), compare_entries) : NULL;
}

int rpc_register(struct rpc *rpc, const struct rpc_method *methods, size_t n, void *ctx, struct vc_error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (find_entry(rpc, methods[i].name))
			return vc_error_set(err, VC_EFAILED, "method %s is registered twice", methods[i].name);
		struct entry *grown = reallocarray(rpc->table, rpc->n + 1, sizeof(*grown));
		if (!grown)
			return vc_error_errno(err, "method table");
		rpc->table = grown;
		rpc->table[rpc->n++] = (struct entry){.method = methods[i], .ctx = ctx};
		qsort(rpc->table, rpc->n, sizeof(*rpc->table), compare_entries);
	}
	return 0;
}

static struct json_object *method_to_json(const struct rpc_method *m)
{
	static const char *const roles[] = {
		[RPC_ANY] = "any", [RPC_OWNER] = "owner", [RPC_ADMIN] = "admin", [RPC_SLURM] = "slurm", [RPC_ROOT] = "root", [RPC_PEER] = "peer",
	};
	vc_autojson struct json_object *obj = json_object_new_object();
	if (vc_json_add_str(obj, "method", m->name) < 0 || vc_json_add_str(obj, "role", roles[m->role]) < 0 ||
	    vc_json_add_str(obj, "on", m->where == RPC_CONTROLLER ? "C" : "H") < 0)
		return NULL;
	return vc_steal(&obj);
}

struct json_object *rpc_list(const struct rpc *rpc)
{
	vc_autojson struct json_object *list = json_object_new_array();
	for (size_t i = 0; list && i < rpc->n; i++) {
		struct json_object *item = method_to_json(&rpc->table[i].method);
		if (!item || json_object_array_add(list, item) < 0) {
			json_object_put(item);
			return NULL;
		}
	}
	return vc_steal(&list);
}

// --- who may ---

static bool role_allows(const struct conf *conf, enum rpc_role role, const struct rpc_caller *caller)
{
	switch (role) {
	case RPC_ANY:
	case RPC_OWNER:
		return true;
	case RPC_ADMIN:
		return caller->peer || conf_is_admin(conf, caller->uid);
	case RPC_SLURM:
		return caller->peer || caller->uid == 0 || caller->uid == conf->slurm_uid;
	case RPC_ROOT:
		return caller->uid == 0;
	case RPC_PEER:
		return caller->peer;
	}
	return false;
}

static int check_role(struct rpc *rpc, const struct rpc_method *method, const struct rpc_caller *caller, struct vc_error *err)
{
	static const char *const needs[] = {
		[RPC_ANY] = "", [RPC_OWNER] = "", [RPC_ADMIN] = "an admin of vcd.conf", [RPC_SLURM] = "SlurmUser or root",
		[RPC_ROOT] = "root", [RPC_PEER] = "another vcd",
	};
	if (role_allows(rpc->vcd->conf, method->role, caller))
		return 0;
	return vc_error_set(err, VC_EDENIED, "%s is for %s, not for uid %u", method->name, needs[method->role], caller->uid);
}

bool rpc_caller_is_admin(const struct rpc_request *req)
{
	return req->caller.peer || conf_is_admin(req->rpc->vcd->conf, req->caller.uid);
}

bool rpc_caller_may(const struct rpc_request *req, uid_t owner)
{
	return req->caller.uid == owner || rpc_caller_is_admin(req);
}

int rpc_require_owner(const struct rpc_request *req, uid_t owner, const char *job, struct vc_error *err)
{
	if (rpc_caller_may(req, owner))
		return 0;
	return vc_error_set(err, VC_EDENIED, "job %s belongs to uid %u, not to uid %u", job, owner, req->caller.uid);
}

// --- a request's life ---

static struct rpc_request *request_create(struct rpc *rpc, const struct entry *entry, const struct rpc_call *call,
					  struct vc_error *err)
{
	struct rpc_request *req = calloc(1, sizeof(*req));
	struct json_object *params = call->params ? json_object_get(call->params) : json_object_new_object();
	if (!req || !params) {
		json_object_put(params);
		free(req);
		vc_error_set(err, ENOMEM, "%s: out of memory", call->method);
		return NULL;
	}
	*req = (struct rpc_request){.rpc = rpc, .method = &entry->method, .method_ctx = entry->ctx, .ops = call->ops,
				    .origin = call->origin, .wire = call->wire, .id = call->id, .params = params,
				    .caller = call->caller, .started_ms = uv_now(&rpc->vcd->loop)};
	if (*call->trace)
		memcpy(req->trace, call->trace, sizeof(req->trace));
	else
		vc_trace_make(req->trace);
	req->log.trace = req->trace;
	LIST_INSERT_HEAD(&rpc->open, req, link);
	return req;
}

void rpc_end(struct rpc_request *req)
{
	if (req->origin && req->ops->ended)
		req->ops->ended(req);
	LIST_REMOVE(req, link);
	json_object_put(req->params);
	free(req->job);
	free(req);
}

static void log_end(const struct rpc_request *req, const struct vc_error *err)
{
	unsigned long long ms = uv_now(&req->rpc->vcd->loop) - req->started_ms;
	const char *name = req->method->name, *host = req->caller.host;
	if (err)
		vc_log_ctx(VC_LOG_INFO, &req->log, "%s for uid %u of %s failed after %llu ms: %s: %s", name, req->caller.uid,
			   host, ms, vc_error_name(err->code), err->text);
	else
		vc_log_ctx(VC_LOG_DEBUG, &req->log, "%s for uid %u of %s: %llu ms", name, req->caller.uid, host, ms);
}

void rpc_reply(struct rpc_request *req, struct json_object *result)
{
	log_end(req, NULL);
	if (req->origin)
		req->ops->reply(req, result, NULL);
	json_object_put(result);
	rpc_end(req);
}

void rpc_reply_error(struct rpc_request *req, const struct vc_error *err)
{
	log_end(req, err);
	if (req->origin)
		req->ops->reply(req, NULL, err);
	rpc_end(req);
}

void rpc_notify(struct rpc_request *req, const char *method, struct json_object *params)
{
	vc_autojson struct json_object *p = params ? params : json_object_new_object();
	if (req->origin && !req->canceled && p)
		req->ops->notify(req, method, p);
}

void rpc_on_cancel(struct rpc_request *req, void (*cb)(struct rpc_request *req, void *ctx), void *ctx)
{
	req->cancel = cb;
	req->cancel_ctx = ctx;
	if (req->canceled && !req->stop_told) {
		req->stop_told = true;
		cb(req, ctx);
	}
}

void rpc_cancel(struct rpc_request *req)
{
	if (req->canceled)
		return;
	req->canceled = true;
	if (!req->cancel)
		return;
	req->stop_told = true;
	req->cancel(req, req->cancel_ctx);
}

// A cancel callback may end requests: search from the start after each.
static struct rpc_request *next_live(struct rpc *rpc, bool orphans)
{
	struct rpc_request *req;
	LIST_FOREACH(req, &rpc->open, link) {
		if (!req->canceled && (!orphans || !req->origin))
			return req;
	}
	return NULL;
}

void rpc_cancel_all(struct rpc *rpc)
{
	struct rpc_request *req;
	while ((req = next_live(rpc, false)))
		rpc_cancel(req);
}

// First no reply can reach the origin any more, then they are told.
void rpc_origin_gone(struct rpc *rpc, void *origin)
{
	struct rpc_request *req;
	LIST_FOREACH(req, &rpc->open, link) {
		if (req->origin == origin) {
			req->origin = NULL;
			req->wire = NULL;
		}
	}
	while ((req = next_live(rpc, true)))
		rpc_cancel(req);
}

struct rpc_request *rpc_find(struct rpc *rpc, void *origin, uint64_t id)
{
	struct rpc_request *req;
	LIST_FOREACH(req, &rpc->open, link) {
		if (req->origin == origin && req->id == id)
			return req;
	}
	return NULL;
}

// --- dispatch ---

static void forward_done(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct rpc_request *req = ctx;
	req->forward = NULL;
	if (err)
		rpc_reply_error(req, err);
	else
		rpc_reply(req, json_object_get(result));
}

static void forward_notify(void *ctx, const char *method, struct json_object *params)
{
	rpc_notify(ctx, method, json_object_get(params));
}

static void forward_cancel(struct rpc_request *req, void *ctx)
{
	(void)ctx;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "%s: canceled", req->method->name);
	peer_cancel(vc_steal(&req->forward));
	rpc_reply_error(req, &err);
}

static int forward(struct rpc_request *req, struct vc_error *err)
{
	struct vcd *vcd = req->rpc->vcd;
	const char *controller = peers_controller(vcd->peers);
	if (req->caller.forwarded)
		return vc_error_set(err, VC_EHOST, "%s is not the controller: 'controller' in vcd.conf differs between hosts",
				    vcd->conf->host_name);
	if (req->method->flags & RPC_DATA)
		return vc_error_set(err, VC_EUSER, "%s moves data: run it on the controller's host, %s", req->method->name,
				    controller);
	struct peer_args args = {.host = controller, .method = req->method->name, .params = req->params,
				 .timeout_ms = FORWARD_TIMEOUT_MS, .trace = req->trace, .forward = !req->caller.peer,
				 .as_uid = req->caller.uid, .notify = forward_notify, .done = forward_done, .ctx = req};
	req->forward = peer_call(vcd->peers, &args, err);
	if (!req->forward)
		return -1;
	rpc_on_cancel(req, forward_cancel, NULL);
	return 0;
}

int rpc_dispatch(struct rpc *rpc, const struct rpc_call *call, struct rpc_request **ret_req, struct vc_error *err)
{
	const struct entry *entry = find_entry(rpc, call->method);
	*ret_req = NULL;
	if (!entry)
		return vc_error_set(err, VC_ENOTFOUND, "vcd of %s has no method '%s'", rpc->vcd->conf->host_name, call->method);
	if (rpc->vcd->stopping)
		return vc_error_set(err, VC_ECANCELED, "vcd of %s is stopping", rpc->vcd->conf->host_name);
	struct vc_error denied = VC_ERROR_INIT;
	if (check_role(rpc, &entry->method, &call->caller, &denied) < 0) {
		vc_log_notice("refused: %s (from host %s)", denied.text, call->caller.host);
		return vc_error_set(err, denied.code, "%s", denied.text);
	}
	struct rpc_request *req = request_create(rpc, entry, call, err);
	if (!req)
		return -1;
	*ret_req = req;
	struct vc_error why = VC_ERROR_INIT;
	int rc;
	if (entry->method.where == RPC_CONTROLLER && !rpc->vcd->controller)
		rc = forward(req, &why);
	else
		rc = entry->method.handler(req, entry->ctx, &why);
	if (rc < 0)
		rpc_reply_error(req, &why);
	return 0;
}

// --- what handlers ask ---

struct json_object *rpc_params(const struct rpc_request *req)
{
	return req->params;
}

int rpc_param_hosts(const struct rpc_request *req, char ***ret, size_t *ret_n, struct vc_error *err)
{
	if (vc_json_strv(req->params, "hosts", VC_HOSTS_MAX, VC_HOSTNAME_MAX, ret, err) < 0)
		return -1;
	for (*ret_n = 0; (*ret)[*ret_n]; (*ret_n)++)
		;
	return *ret_n ? 0 : vc_error_set(err, VC_EUSER, "%s: on which hosts?", rpc_method_name(req));
}

const char *rpc_method_name(const struct rpc_request *req)
{
	return req->method->name;
}

const struct rpc_caller *rpc_caller(const struct rpc_request *req)
{
	return &req->caller;
}

const char *rpc_trace(const struct rpc_request *req)
{
	return req->trace;
}

const struct vc_log_ctx *rpc_log(const struct rpc_request *req)
{
	return &req->log;
}

void rpc_set_job(struct rpc_request *req, const char *job)
{
	free(req->job);
	req->job = strdup(job);
	req->log.job = req->job; // without memory the line only lacks the job
}

bool rpc_canceled(const struct rpc_request *req)
{
	return req->canceled;
}

void rpc_reply_canceled(struct rpc_request *req)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "given up by the caller");
	rpc_reply_error(req, &err);
}
