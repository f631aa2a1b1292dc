// SPDX-License-Identifier: GPL-2.0-or-later
// Methods of transfers: image.pull, host.image, image.stage. See transfers.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "libvc/session.h"
#include "vcd/conf.h"
#include "vcd/fanout.h"
#include "vcd/image/image_limits.h"
#include "vcd/image/store.h"
#include "vcd/transfers_int.h"
#include "vcd/vcd.h"

#define STAGE_MS (24ull * 3600 * 1000) // of image.stage as a whole: each host has limits of its own, this bounds the sum

// --- image.pull: a successor ----------------------------------------------------------------------------------------------

struct pull {
	struct transfers *transfers;
	char digest[DIGEST_HEX_LEN];
	char host[VC_HOSTNAME_MAX + 1];
};

static void pull_taken(void *ctx, int fd, struct vc_session *session)
{
	struct pull *pull = ctx;
	struct transfer *tr = transfer_find(pull->transfers, pull->digest);
	if (fd >= 0 && tr && tr->pipeline && !pull->transfers->stopped) {
		pipeline_add(tr->pipeline, fd, session, pull->host);
	} else if (fd >= 0) {
		vc_cleanup_close(&fd);
		vc_session_destroy(session);
	}
	free(pull);
}

static int accept_pull(struct transfer *tr, struct rpc_request *req, struct vc_error *err)
{
	struct pull *pull = calloc(1, sizeof(*pull));
	if (!pull)
		return vc_error_errno(err, "image.pull");
	pull->transfers = tr->owner;
	memcpy(pull->digest, tr->digest, sizeof(pull->digest));
	snprintf(pull->host, sizeof(pull->host), "%s", rpc_caller(req)->host);
	if (rpc_take_session(req, json_object_new_object(), pull_taken, pull, err) == 0)
		return 0;
	free(pull);
	return -1;
}

static void unpark(struct transfer *tr, struct parked *p)
{
	TAILQ_REMOVE(&tr->parked, p, link);
	free(p);
}

static int not_here(const char *digest, struct vc_error *err)
{
	return vc_error_set(err, VC_ENOTFOUND, "image %.12s is neither here nor on its way", digest);
}

void transfer_accept_parked(struct transfer *tr)
{
	struct parked *p;
	while ((p = TAILQ_FIRST(&tr->parked))) {
		struct vc_error err = VC_ERROR_INIT;
		struct rpc_request *req = p->req;
		unpark(tr, p);
		if (accept_pull(tr, req, &err) < 0)
			rpc_reply_error(req, &err);
	}
}

void transfer_drop_parked(struct transfer *tr, uint64_t now)
{
	struct parked *p, *next;
	struct vc_error err = VC_ERROR_INIT;
	not_here(tr->digest, &err);
	for (p = TAILQ_FIRST(&tr->parked); p; p = next) {
		struct rpc_request *req = p->req;
		next = TAILQ_NEXT(p, link);
		if (p->until > now && now != UINT64_MAX)
			continue;
		unpark(tr, p);
		rpc_reply_error(req, &err);
	}
}

// The successor went away while it waited.
static void park_canceled(struct rpc_request *req, void *ctx)
{
	struct transfer *tr = ctx;
	struct parked *p;
	TAILQ_FOREACH(p, &tr->parked, link) {
		if (p->req == req)
			p->until = 0; // the next look answers it
	}
}

static int park(struct transfers *t, const char *digest, struct rpc_request *req, uint64_t wait_ms, struct vc_error *err)
{
	struct transfer *tr = transfer_find(t, digest);
	struct parked *p = calloc(1, sizeof(*p));
	if (p && !tr)
		tr = transfer_make(t, digest, err);
	if (!p || !tr) {
		free(p);
		return vc_error_set(err, ENOMEM, "image.pull: out of memory");
	}
	*p = (struct parked){.req = req, .until = uv_now(&t->vcd->loop) + wait_ms};
	TAILQ_INSERT_TAIL(&tr->parked, p, link);
	rpc_on_cancel(req, park_canceled, tr);
	return 0;
}

// It fetches, from whoever might ask it now.
static bool is_at_tail(struct transfer *tr)
{
	struct pipeline_status s;
	pipeline_status(tr->pipeline, &s);
	return s.at_tail && s.phase == PIPELINE_FETCHING;
}

static int image_pull(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct transfers *t = ctx;
	const char *digest;
	bool complete = false;
	uint64_t wait_ms = 0;
	if (vc_json_str(rpc_params(req), "digest", DIGEST_HEX_LEN - 1, &digest, err) < 0 ||
	    vc_json_bool_opt(rpc_params(req), "complete", &complete, err) < 0 ||
	    vc_json_u64_opt(rpc_params(req), "wait_ms", UINT32_MAX, &wait_ms, err) < 0)
		return -1;
	if (!digest_hex_valid(digest))
		return vc_error_set(err, VC_EPROTO, "image.pull: not a digest");
	struct transfer *tr = transfer_find(t, digest);
	bool here = store_has(t->store, digest);
	if (complete && !here)
		return not_here(digest, err);
	if (tr && tr->pipeline && is_at_tail(tr))
		return not_here(digest, err);
	if (tr && tr->pipeline)
		return accept_pull(tr, req, err);
	if (!here && !wait_ms)
		return not_here(digest, err);
	if (!here)
		return park(t, digest, req, wait_ms < TRANSFER_PARK_MAX_MS ? wait_ms : TRANSFER_PARK_MAX_MS, err);
	if (!tr && !(tr = transfer_make(t, digest, err)))
		return -1;
	return transfer_serve(tr, err) < 0 ? -1 : accept_pull(tr, req, err);
}

// --- host.image: this host is to have it ------------------------------------------------------------------------------------

struct host_image {
	struct rpc_request *req;
	struct transfer_wish *wish;
};

static void host_image_progress(void *ctx, const struct transfer_progress *p)
{
	struct host_image *hi = ctx;
	struct json_object *params = json_object_new_object();
	vc_json_add_u64(params, "bytes", p->bytes);
	vc_json_add_u64(params, "held", p->held);
	vc_json_add_u64(params, "total", p->total);
	vc_json_add_u64(params, "rate", p->rate);
	vc_json_add_str(params, "from", p->from);
	rpc_notify(hi->req, "image.progress", params);
}

static struct json_object *result_json(const struct transfer_result *r)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "bytes", r->bytes);
	vc_json_add_u64(obj, "adopted", r->adopted);
	vc_json_add_u64(obj, "ms", r->ms);
	vc_json_add_u64(obj, "bypassed", r->bypassed);
	return obj;
}

static void host_image_done(void *ctx, const struct transfer_result *result, const struct vc_error *err)
{
	struct host_image *hi = ctx;
	if (err)
		rpc_reply_error(hi->req, err);
	else
		rpc_reply(hi->req, result_json(result));
	free(hi);
}

static void host_image_canceled(struct rpc_request *req, void *ctx)
{
	struct host_image *hi = ctx;
	transfer_cancel(hi->wish, true); // whoever asked may be gone because its vcd is; the hosts behind count on this one
	rpc_reply_canceled(req);
	free(hi);
}

static int host_image(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct transfers *t = ctx;
	vc_autostrv char **hosts = NULL;
	struct transfer_args args = {.trace = rpc_trace(req), .progress = host_image_progress, .done = host_image_done};
	if (vc_json_str(rpc_params(req), "digest", DIGEST_HEX_LEN - 1, &args.digest, err) < 0 ||
	    vc_json_str(rpc_params(req), "head", VC_HOSTNAME_MAX, &args.head, err) < 0 ||
	    rpc_param_hosts(req, &hosts, &args.n_hosts, err) < 0)
		return -1;
	if (!digest_hex_valid(args.digest))
		return vc_error_set(err, VC_EPROTO, "host.image: not a digest");
	struct host_image *hi = calloc(1, sizeof(*hi));
	if (!hi)
		return vc_error_errno(err, "host.image");
	args.hosts = (const char *const *)hosts;
	args.ctx = hi;
	hi->req = req;
	hi->wish = transfers_want(t, &args, err);
	if (!hi->wish) {
		free(hi);
		return -1;
	}
	rpc_on_cancel(req, host_image_canceled, hi);
	return 0;
}

// --- image.stage: an admin wants it on hosts ----------------------------------------------------------------------------------

struct stage {
	struct transfers *transfers;
	struct rpc_request *req;
	struct fanout *fanout;
	char digest[DIGEST_HEX_LEN];
	char pin[32];
	uint64_t begun;
	char **hosts;
	struct json_object *results; // by host
};

static void stage_free(struct stage *s)
{
	store_unpin(s->transfers->store, s->digest, s->pin);
	vc_strv_free(s->hosts);
	json_object_put(s->results);
	free(s);
}

static void stage_host_done(void *ctx, size_t host, struct json_object *result, const struct vc_error *err)
{
	struct stage *s = ctx;
	struct json_object *obj = err ? json_object_new_object() : json_object_get(result);
	if (err)
		vc_json_add_str(obj, "error", err->text);
	vc_json_add_u64(obj, "after_ms", uv_now(&s->transfers->vcd->loop) - s->begun);
	vc_json_add(s->results, s->hosts[host], obj);
}

static void stage_host_notify(void *ctx, size_t host, const char *method, struct json_object *params)
{
	struct stage *s = ctx;
	struct json_object *copy = NULL;
	if (json_object_deep_copy(params, &copy, NULL) < 0)
		return;
	vc_json_add_str(copy, "host", s->hosts[host]);
	rpc_notify(s->req, method, copy);
}

static void stage_done(void *ctx, const struct vc_error *err)
{
	struct stage *s = ctx;
	(void)err; // told by host
	struct json_object *result = json_object_new_object();
	vc_json_add_str(result, "digest", s->digest);
	vc_json_add_u64(result, "ms", uv_now(&s->transfers->vcd->loop) - s->begun);
	vc_json_add(result, "hosts", json_object_get(s->results));
	rpc_reply(s->req, result);
	stage_free(s);
}

static void stage_canceled(struct rpc_request *req, void *ctx)
{
	struct stage *s = ctx;
	fanout_cancel(s->fanout);
	rpc_reply_canceled(req);
	stage_free(s);
}

static int stage_send(struct stage *s, size_t n, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	if (vc_json_add_str(params, "digest", s->digest) < 0 ||
	    vc_json_add_str(params, "head", s->transfers->vcd->conf->host_name) < 0 || vc_json_add_strv(params, "hosts", s->hosts) < 0)
		return vc_error_set(err, ENOMEM, "image.stage: out of memory");
	struct fanout_args args = {.method = "host.image", .hosts = (const char *const *)s->hosts, .n_hosts = n, .params = params, .timeout_ms = STAGE_MS,
				   .trace = rpc_trace(s->req), .keep_going = true, .host_done = stage_host_done,
				   .host_notify = stage_host_notify, .done = stage_done, .ctx = s};
	s->fanout = fanout_start(s->transfers->vcd, &args, err);
	return s->fanout ? 0 : -1;
}

static int image_stage(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct transfers *t = ctx;
	struct store_entry entry;
	vc_autostrv char **hosts = NULL;
	const char *name;
	size_t n = 0;
	if (vc_json_str(rpc_params(req), "name", IMAGE_FROM_MAX, &name, err) < 0 ||
	    rpc_param_hosts(req, &hosts, &n, err) < 0 || store_lookup(t->store, name, rpc_caller(req)->uid, &entry, err) < 0)
		return -1;
	struct stage *s = calloc(1, sizeof(*s));
	if (!s)
		return vc_error_errno(err, "image.stage");
	*s = (struct stage){.transfers = t, .req = req, .begun = uv_now(&t->vcd->loop), .hosts = vc_steal(&hosts),
			    .results = json_object_new_object()};
	memcpy(s->digest, entry.digest, sizeof(s->digest));
	snprintf(s->pin, sizeof(s->pin), "stage-%p", (void *)s);
	if (!s->results || store_pin(t->store, s->digest, s->pin, err) < 0 || stage_send(s, n, err) < 0) {
		stage_free(s);
		return -1;
	}
	rpc_on_cancel(req, stage_canceled, s);
	return 0;
}

static const struct rpc_method methods[] = {
	{"image.pull", RPC_PEER, RPC_HOST, 0, image_pull},
	{"host.image", RPC_PEER, RPC_HOST, 0, host_image},
	{"image.stage", RPC_ADMIN, RPC_CONTROLLER, 0, image_stage},
};

int transfers_methods_register(struct transfers *t, struct vc_error *err)
{
	return rpc_register(t->vcd->rpc, methods, VC_ARRAY_LEN(methods), t, err);
}
