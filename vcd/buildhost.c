// SPDX-License-Identifier: GPL-2.0-or-later
// Builds for the controller: see buildhost.h. Steps: [fetch the image that is built upon] -> build -> reply.
#include "vcd/buildhost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/image/recipe.h"
#include "vcd/image/store.h"
#include "vcd/imgbuild.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/transfers.h"
#include "vcd/vcd.h"

#define BUILDS_MAX 64 // under way; as many as image-build-jobs of the controller may be

struct hosted {
	LIST_ENTRY(hosted) link;
	struct buildhost *owner;
	struct rpc_request *req; // NULL: answered
	struct recipe *recipe;	 // NULL: the build has it
	struct transfer_wish *wish;
	struct imgbuild *build;
	bool refresh;
	uid_t uid;
	uint64_t max_mib;
};

struct buildhost {
	struct vcd *vcd;
	struct store *store;
	struct imgcache *cache;
	LIST_HEAD(, hosted) builds;
	unsigned n;
};

static void hosted_free(struct hosted *h)
{
	LIST_REMOVE(h, link);
	h->owner->n--;
	transfer_cancel(h->wish, false);
	recipe_destroy(h->recipe);
	free(h);
}

static void answer(struct hosted *h, struct json_object *result, const struct vc_error *err)
{
	rpc_finish(vc_steal(&h->req), result, err);
}

// --- the build ----------------------------------------------------------------------------------------------------------

static void build_progress(void *ctx, struct json_object *params)
{
	struct hosted *h = ctx;
	if (h->req)
		rpc_notify(h->req, "image.progress", params);
	else
		json_object_put(params);
}

static void build_done(void *ctx, const struct store_entry *entry, const struct vc_error *err)
{
	struct json_object *result = entry ? json_object_new_object() : NULL;
	if (entry) {
		vc_json_add_str(result, "digest", entry->digest);
		vc_json_add_str(result, "key", entry->key);
	}
	answer(ctx, result, err);
}

static void build_ended(void *ctx)
{
	hosted_free(ctx);
}

static int begin(struct hosted *h, struct vc_error *err)
{
	struct imgbuild_args args = {.vcd = h->owner->vcd, .store = h->owner->store, .cache = h->owner->cache, .recipe = h->recipe,
				     .refresh = h->refresh, .max_mib = h->max_mib, .owner = h->uid, .progress = build_progress,
				     .done = build_done, .ended = build_ended, .ctx = h};
	h->build = imgbuild_start(&args, err);
	if (h->build)
		h->recipe = NULL;
	return h->build ? 0 : -1;
}

// --- the image that is built upon ----------------------------------------------------------------------------------------

static void parent_is_here(void *ctx, const struct transfer_result *result, const struct vc_error *err)
{
	struct hosted *h = ctx;
	struct vc_error why = VC_ERROR_INIT;
	(void)result;
	h->wish = NULL;
	if (!err && begin(h, &why) == 0)
		return;
	answer(h, NULL, err ? err : &why);
	hosted_free(h);
}

static int fetch_parent(struct hosted *h, struct vc_error *err)
{
	const char *self = h->owner->vcd->conf->host_name;
	struct transfer_args args = {.digest = h->recipe->from_digest, .head = rpc_caller(h->req)->host, .hosts = &self, .n_hosts = 1,
				     .trace = rpc_trace(h->req), .done = parent_is_here, .ctx = h};
	h->wish = transfers_want(h->owner->vcd->transfers, &args, err);
	return h->wish ? 0 : -1;
}

// --- host.build -----------------------------------------------------------------------------------------------------------

static void canceled(struct rpc_request *req, void *ctx)
{
	struct hosted *h = ctx;
	h->req = NULL;
	rpc_reply_canceled(req);
	if (h->build)
		imgbuild_stop(h->build); // build_ended() frees h
	else
		hosted_free(h);
}

static bool has_program(const char *name)
{
	static const char *const dirs[] = {"/usr/bin", "/usr/sbin", "/bin", "/sbin"};
	for (size_t i = 0; i < VC_ARRAY_LEN(dirs); i++) {
		char path[64];
		snprintf(path, sizeof(path), "%s/%s", dirs[i], name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

// A host without them is none that builds: the controller asks the next one.
static int check_programs(const struct recipe *r, struct vc_error *err)
{
	static const char *const programs[] = {"mke2fs", "resize2fs", "mmdebstrap"};
	for (size_t i = 0; i < VC_ARRAY_LEN(programs); i++) {
		if ((r->base == RECIPE_BASE_DEBIAN || i < 2) && !has_program(programs[i]))
			return vc_error_set(err, VC_EHOST, "%s is not installed on this host: it cannot build images", programs[i]);
	}
	return access(VC_LIBEXECDIR "/vc-build", X_OK) < 0 ? vc_error_set(err, VC_EHOST, "there is no " VC_LIBEXECDIR "/vc-build") : 0;
}

static int read_params(struct hosted *h, struct vc_error *err)
{
	struct json_object *params = rpc_params(h->req), *recipe = NULL;
	uint64_t uid = 0;
	if (vc_json_obj(params, "recipe", &recipe, err) < 0 || recipe_from_json(recipe, &h->recipe, err) < 0 ||
	    vc_json_u64(params, "uid", UINT32_MAX - 1, &uid, err) < 0 || vc_json_u64(params, "max_mib", UINT32_MAX, &h->max_mib, err) < 0 ||
	    vc_json_bool_opt(params, "refresh", &h->refresh, err) < 0)
		return -1;
	h->uid = (uid_t)uid;
	if (h->recipe->base == RECIPE_BASE_IMPORT || (h->recipe->base == RECIPE_BASE_IMAGE && !h->recipe->from_digest[0]))
		return vc_error_set(err, VC_EPROTO, "host.build: what is built upon is not said");
	return check_programs(h->recipe, err);
}

static int start(struct hosted *h, struct vc_error *err)
{
	if (read_params(h, err) < 0)
		return -1;
	bool far = h->recipe->base == RECIPE_BASE_IMAGE && !store_has(h->owner->store, h->recipe->from_digest);
	return far ? fetch_parent(h, err) : begin(h, err);
}

static int from_controller(const struct buildhost *b, const struct rpc_request *req, struct vc_error *err)
{
	const char *controller = peers_controller(b->vcd->peers);
	if (strcmp(rpc_caller(req)->host, controller) == 0)
		return 0;
	return vc_error_set(err, VC_EDENIED, "%s is for the controller, %s", rpc_method_name(req), controller);
}

static int host_build(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct buildhost *b = ctx;
	if (from_controller(b, req, err) < 0)
		return -1;
	if (b->n >= BUILDS_MAX)
		return vc_error_set(err, VC_EBUSY, "%u builds are under way on this host", b->n);
	struct hosted *h = calloc(1, sizeof(*h));
	if (!h)
		return vc_error_errno(err, "host.build");
	h->owner = b;
	h->req = req;
	LIST_INSERT_HEAD(&b->builds, h, link);
	b->n++;
	if (start(h, err) < 0) {
		hosted_free(h);
		return -1;
	}
	rpc_on_cancel(req, canceled, h);
	return 0;
}

static int host_buildlog(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct buildhost *b = ctx;
	const char *name;
	uint64_t uid;
	if (from_controller(b, req, err) < 0 || vc_json_u64(rpc_params(req), "uid", UINT32_MAX - 1, &uid, err) < 0 ||
	    vc_json_str(rpc_params(req), "name", IMAGE_NAME_MAX, &name, err) < 0 || recipe_check_name(name, err) < 0)
		return -1;
	struct json_object *result = imgbuild_log_json(b->vcd, (uid_t)uid, name, err);
	if (!result)
		return -1;
	rpc_reply(req, result);
	return 0;
}

static const struct rpc_method methods[] = {
	{"host.build", RPC_PEER, RPC_HOST, 0, host_build},
	{"host.buildlog", RPC_PEER, RPC_HOST, 0, host_buildlog},
};

// --- life -----------------------------------------------------------------------------------------------------------------

struct buildhost *buildhost_create(struct vcd *vcd, struct store *store, struct imgcache *cache, struct vc_error *err)
{
	struct buildhost *b = calloc(1, sizeof(*b));
	if (!b) {
		vc_error_errno(err, "builds for the controller");
		return NULL;
	}
	*b = (struct buildhost){.vcd = vcd, .store = store, .cache = cache};
	LIST_INIT(&b->builds);
	if (rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), b, err) == 0)
		return b;
	free(b);
	return NULL;
}

void buildhost_stop(struct buildhost *b)
{
	struct hosted *h, *next;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "vcd stops");
	for (h = LIST_FIRST(&b->builds); h; h = next) {
		next = LIST_NEXT(h, link);
		answer(h, NULL, &err);
		if (h->build)
			imgbuild_stop(h->build);
		else
			hosted_free(h);
	}
}

void buildhost_destroy(struct buildhost *b)
{
	free(b);
}
