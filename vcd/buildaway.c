// SPDX-License-Identifier: GPL-2.0-or-later
// A build on another host: see buildaway.h. Steps: who may -> ping -> host.build -> host.buildlog -> fetch -> cache.
#include "vcd/buildaway.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/image/imgcache.h"
#include "vcd/image/store.h"
#include "vcd/peer.h"
#include "vcd/slurmcheck.h"
#include "vcd/transfers.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define NODES_MS 10000	    // for slurmctld to tell its nodes
#define PING_MS 3000	    // for a host's vcd to answer
#define LOG_MS 10000	    // for a build's log, which is in a file there
#define PARENT_MS 1800000   // for the host to fetch what is built upon, besides the build's own limit
#define CACHE_MS 60000	    // to write down what was built
#define CANDIDATES_MAX 16u  // hosts that are asked; when none of them can, a further one hardly will

struct buildaway {
	struct buildaway_args args;
	struct vcd *vcd;
	char **hosts;
	size_t at;
	bool named, building; // by vcd.conf; host.build is under way
	struct peer_call *call;
	struct transfer_wish *wish;
	bool working, stopped; // a worker has it
	struct vc_error error; // of the last host, or of the build
	struct store_entry entry;
};

bool buildaway_is_here(const struct conf *conf)
{
	return conf->build_hosts && conf->build_hosts[0] && strcmp(conf->build_hosts[0], conf->host_name) == 0;
}

const char *buildaway_name(const struct buildaway *b)
{
	return b->args.build.recipe->name;
}

const char *buildaway_host(const struct buildaway *b)
{
	return b->building ? b->hosts[b->at] : NULL;
}

static void away_free(void *ctx)
{
	struct buildaway *b = ctx;
	vc_strv_free(b->hosts);
	recipe_destroy(b->args.build.recipe);
	free(b);
}

// --- the end ------------------------------------------------------------------------------------------------------------

static void end(struct buildaway *b, const struct vc_error *err)
{
	const struct imgbuild_args *build = &b->args.build;
	if (err)
		vc_log_notice("image %s: build failed: %s", build->recipe->name, err->text);
	build->done(build->ctx, err ? NULL : &b->entry, err);
	build->ended(build->ctx);
}

static void end_and_free(struct buildaway *b, const struct vc_error *err)
{
	end(b, err);
	away_free(b);
}

void buildaway_stop(struct buildaway *b)
{
	struct vc_error err = VC_ERROR_INIT;
	if (b->stopped)
		return;
	b->stopped = true;
	vc_error_set(&err, VC_ECANCELED, "image %s: the build was canceled", b->args.build.recipe->name);
	peer_cancel(vc_steal(&b->call)); // the host kills its build
	transfer_cancel(vc_steal(&b->wish), false);
	if (!b->working)
		end_and_free(b, &err);
}

// --- the image comes here -------------------------------------------------------------------------------------------------

static int cache_run(void *ctx, struct vc_error *err)
{
	struct buildaway *b = ctx;
	const struct imgbuild_args *build = &b->args.build;
	static const struct imgcache_parent none;
	struct json_object *what = NULL;
	struct vc_error why = VC_ERROR_INIT;
	vc_autofree char *meta = NULL;
	char key[DIGEST_HEX_LEN], digest[DIGEST_HEX_LEN];
	memcpy(key, b->entry.key, sizeof(key));
	memcpy(digest, b->entry.digest, sizeof(digest));
	if (store_find(build->store, digest, &b->entry, err) < 0 || store_meta(build->store, digest, &meta, err) < 0)
		return -1;
	memcpy(b->entry.key, key, sizeof(b->entry.key));
	vc_autojson struct json_object *obj = vc_json_parse(meta, strlen(meta), err);
	if (!obj)
		return -1;
	if (!json_object_object_get_ex(obj, "build", &what) ||
	    imgcache_keep(build->cache, build->recipe, &none, NULL, what, &b->entry, &why) < 0)
		vc_log_warning("image %s: not in the cache by its recipe: %s", build->recipe->name, why.text);
	return 0;
}

static void cached(void *ctx, const struct vc_error *err)
{
	struct buildaway *b = ctx;
	struct vc_error why = VC_ERROR_INIT;
	if (b->stopped)
		vc_error_set(&why, VC_ECANCELED, "image %s: the build was canceled", b->args.build.recipe->name);
	else if (!err)
		vc_log_info("image %s: built on %s, published as %s", b->args.build.recipe->name, b->hosts[b->at], b->entry.digest);
	end(b, b->stopped ? &why : err);
}

static void fetched(void *ctx, const struct transfer_result *result, const struct vc_error *err)
{
	struct buildaway *b = ctx;
	struct vc_error why = VC_ERROR_INIT;
	struct work_args work = {.pool = WORK_GENERAL, .what = "cache an image", .deadline_ms = CACHE_MS, .run = cache_run, .done = cached,
				 .release = away_free, .ctx = b};
	(void)result;
	b->wish = NULL;
	if (!err && work_submit(b->vcd->work, &work, NULL, &why) == 0)
		b->working = true;
	else
		end_and_free(b, err ? err : &why);
}

static void fetch(struct buildaway *b)
{
	const char *self = b->vcd->conf->host_name;
	struct transfer_args args = {.digest = b->entry.digest, .head = b->hosts[b->at], .hosts = &self, .n_hosts = 1, .done = fetched,
				     .ctx = b};
	struct vc_error err = VC_ERROR_INIT;
	b->wish = transfers_want(b->vcd->transfers, &args, &err);
	if (!b->wish)
		end_and_free(b, &err);
}

// --- its log --------------------------------------------------------------------------------------------------------------

static void write_log(struct buildaway *b, struct json_object *result)
{
	const struct imgbuild_args *build = &b->args.build;
	vc_autofree uint8_t *text = NULL;
	size_t len = 0;
	vc_autofree char *path = imgbuild_log_path(b->vcd, build->owner, build->recipe->name);
	vc_autoclose int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
	if (fd < 0 || vc_json_bytes(result, "log", IMGBUILD_LOG_MAX, &text, &len, NULL) < 0 || write(fd, text, len) != (ssize_t)len)
		vc_log_warning("image %s: the log of its build on %s could not be kept", build->recipe->name, b->hosts[b->at]);
}

static void log_came(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct buildaway *b = ctx;
	b->call = NULL;
	if (result)
		write_log(b, result);
	else
		vc_log_notice("image %s: no log from %s: %s", b->args.build.recipe->name, b->hosts[b->at], err->text);
	if (b->error.code)
		end_and_free(b, &b->error);
	else
		fetch(b);
}

static int ask(struct buildaway *b, const char *method, struct json_object *params, uint64_t ms, peer_notify_fn notify, peer_done_fn done,
	       struct vc_error *err)
{
	struct peer_args args = {.host = b->hosts[b->at], .method = method, .params = params, .timeout_ms = ms, .notify = notify, .done = done,
				 .ctx = b};
	b->call = peer_call(b->vcd->peers, &args, err);
	return b->call ? 0 : -1;
}

static void fetch_log(struct buildaway *b)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_u64(params, "uid", b->args.build.owner);
	vc_json_add_str(params, "name", b->args.build.recipe->name);
	if (ask(b, "host.buildlog", params, LOG_MS, NULL, log_came, &err) < 0)
		log_came(b, NULL, &err);
}

// --- the build ------------------------------------------------------------------------------------------------------------

static void next_host(struct buildaway *b);

static void progress(void *ctx, const char *method, struct json_object *params)
{
	struct buildaway *b = ctx;
	struct json_object *copy = NULL;
	if (strcmp(method, "image.progress") == 0 && json_object_deep_copy(params, &copy, NULL) == 0)
		b->args.build.progress(b->args.build.ctx, copy);
}

static int read_built(struct buildaway *b, struct json_object *result, struct vc_error *err)
{
	const char *digest, *key;
	if (vc_json_str(result, "digest", DIGEST_HEX_LEN - 1, &digest, err) < 0 ||
	    vc_json_str(result, "key", DIGEST_HEX_LEN - 1, &key, err) < 0)
		return -1;
	if (!digest_hex_valid(digest))
		return vc_error_set(err, VC_EPROTO, "host.build: not a digest");
	memcpy(b->entry.digest, digest, sizeof(b->entry.digest));
	memcpy(b->entry.key, key, strlen(key) + 1);
	return 0;
}

static void built(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct buildaway *b = ctx;
	b->call = NULL;
	b->error = (struct vc_error)VC_ERROR_INIT;
	if (err && err->code == VC_EHOST) { // it is gone, or none that builds
		vc_log_notice("image %s: not built on %s: %s", b->args.build.recipe->name, b->hosts[b->at], err->text);
		b->error = *err;
		b->building = false;
		b->at++;
		next_host(b);
		return;
	}
	if (err)
		b->error = *err;
	else if (read_built(b, result, &b->error) == 0)
		snprintf(b->args.last, VC_HOSTNAME_MAX + 1, "%s", b->hosts[b->at]);
	fetch_log(b);
}

static int send_build(struct buildaway *b, struct vc_error *err)
{
	const struct imgbuild_args *build = &b->args.build;
	struct json_object *recipe = recipe_to_json(build->recipe, err);
	if (!recipe)
		return -1;
	vc_autojson struct json_object *params = json_object_new_object();
	int rc = vc_json_add(params, "recipe", recipe);
	rc |= vc_json_add_bool(params, "refresh", build->refresh);
	rc |= vc_json_add_u64(params, "uid", build->owner);
	rc |= vc_json_add_u64(params, "max_mib", build->max_mib < UINT32_MAX ? build->max_mib : UINT32_MAX);
	if (rc < 0)
		return vc_error_set(err, ENOMEM, "host.build: out of memory");
	b->building = true;
	return ask(b, "host.build", params, b->vcd->conf->build_timeout_ms + PARENT_MS, progress, built, err);
}

static void pinged(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct buildaway *b = ctx;
	(void)result;
	b->call = NULL;
	b->error = err ? *err : (struct vc_error)VC_ERROR_INIT;
	if (!err && send_build(b, &b->error) == 0)
		return;
	vc_log_notice("image %s: not built on %s: %s", b->args.build.recipe->name, b->hosts[b->at], b->error.text);
	b->building = false;
	b->at++;
	next_host(b);
}

// --- who ------------------------------------------------------------------------------------------------------------------

static void build_here(struct buildaway *b)
{
	struct buildaway_args args = b->args;
	if (b->at)
		vc_log_notice("image %s: no other host could build it: this one does", args.build.recipe->name);
	b->args.build.recipe = NULL;
	away_free(b);
	args.here(args.build.ctx, args.build.recipe);
}

static void none_left(struct buildaway *b)
{
	struct vc_error err = VC_ERROR_INIT;
	if (!b->named) {
		build_here(b);
		return;
	}
	vc_error_set(&err, VC_EHOST, "image %s: no host of image-build-hosts can build it; the last one said: %.400s",
		     b->args.build.recipe->name, b->error.text);
	end_and_free(b, &err);
}

static void next_host(struct buildaway *b)
{
	const char *host = b->hosts[b->at];
	if (!host) {
		none_left(b);
	} else if (strcmp(host, b->vcd->conf->host_name) == 0) {
		build_here(b);
	} else if (ask(b, "vcd.ping", NULL, PING_MS, NULL, pinged, &b->error) < 0) {
		b->at++;
		next_host(b);
	}
}

struct node_list { // belongs to the worker's job
	struct buildaway *away;
	const struct slurmcheck *slurm; // NULL: the hosts are known, and only the loop's next turn is wanted
	char **names;
};

static int nodes_run(void *ctx, struct vc_error *err)
{
	struct node_list *list = ctx;
	return list->slurm ? slurmcheck_nodes(list->slurm, &list->names, err) : 0;
}

static void nodes_free(void *ctx)
{
	struct node_list *list = ctx;
	vc_strv_free(list->names);
	free(list);
}

// Without this host, the last one first, and not too many.
static void order_nodes(struct buildaway *b, char *const *names)
{
	size_t n = 0;
	for (int turn = 0; turn < 2; turn++) {
		for (size_t i = 0; names && names[i] && n < CANDIDATES_MAX; i++) {
			bool last = strcmp(names[i], b->args.last) == 0, self = strcmp(names[i], b->vcd->conf->host_name) == 0;
			if (!self && last == (turn == 0) && (b->hosts[n] = strdup(names[i])))
				n++;
		}
	}
}

static void nodes_done(void *ctx, const struct vc_error *err)
{
	struct node_list *list = ctx;
	struct buildaway *b = list->away;
	struct vc_error why = VC_ERROR_INIT;
	b->working = false;
	if (b->stopped) {
		vc_error_set(&why, VC_ECANCELED, "image %s: the build was canceled", b->args.build.recipe->name);
		end_and_free(b, &why);
		return;
	}
	if (err)
		vc_log_notice("image %s: %s", b->args.build.recipe->name, err->text);
	if (!b->named)
		order_nodes(b, err ? NULL : list->names); // none: this host builds
	next_host(b);
}

static int find_hosts(struct buildaway *b, struct vc_error *err)
{
	struct node_list *list = calloc(1, sizeof(*list));
	struct work_args work = {.pool = WORK_GENERAL, .what = "list of Slurm's nodes", .deadline_ms = NODES_MS, .run = nodes_run,
				 .done = nodes_done, .release = nodes_free, .ctx = list};
	if (!list)
		return vc_error_errno(err, "Slurm's nodes");
	*list = (struct node_list){.away = b, .slurm = b->named ? NULL : b->vcd->slurmcheck};
	b->working = work_submit(b->vcd->work, &work, NULL, err) == 0;
	if (!b->working)
		free(list);
	return b->working ? 0 : -1;
}

static int take_named(struct buildaway *b, char *const *names, struct vc_error *err)
{
	for (size_t i = 0; names[i] && i < CANDIDATES_MAX; i++) {
		if (!(b->hosts[i] = strdup(names[i])))
			return vc_error_errno(err, "image-build-hosts");
	}
	b->named = true;
	return 0;
}

struct buildaway *buildaway_start(const struct buildaway_args *args, struct vc_error *err)
{
	struct buildaway *b = calloc(1, sizeof(*b));
	if (!b || !(b->hosts = calloc(CANDIDATES_MAX + 1, sizeof(*b->hosts)))) {
		vc_error_errno(err, "build");
		free(b);
		return NULL;
	}
	char *const *names = args->build.vcd->conf->build_hosts;
	b->args = *args;
	b->vcd = args->build.vcd;
	if ((!names || !names[0] || take_named(b, names, err) == 0) && find_hosts(b, err) == 0)
		return b;
	b->args.build.recipe = NULL; // still the caller's
	away_free(b);
	return NULL;
}
