// SPDX-License-Identifier: GPL-2.0-or-later
// The image store of this host and the methods image.*: see images.h.
#include "vcd/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/buildaway.h"
#include "vcd/buildhost.h"
#include "vcd/conf.h"
#include "vcd/image/imgcache.h"
#include "vcd/image/recipe.h"
#include "vcd/image/store.h"
#include "vcd/imgbuild.h"
#include "vcd/peer.h"
#include "vcd/prestage.h"
#include "vcd/rpc.h"
#include "vcd/vcd.h"

#define LOG_MS 10000		   // for another host to send the log of a build that it does
#define QUEUE_MAX 64		   // builds that wait for their turn; more are refused
#define AHEAD_MAX 8		   // builds of one user that nobody waits for yet

struct build_slot;

// Somebody who waits for a build: a request, or a cluster's wish.
struct images_wish {
	struct images_wish *next;
	struct build_slot *slot;
	struct rpc_request *req;
	uid_t owner;
	bool is_public;
	char name[IMAGE_NAME_MAX + 1];
	struct images_wish_args wish; // without a request
};

// One build, waiting for its turn (recipe), or under way (build or away).
struct build_slot {
	struct build_slot *next;
	struct images *images;
	struct recipe *recipe;
	struct imgbuild *build;	// here
	struct buildaway *away;	// on another host
	char config[DIGEST_HEX_LEN]; // the recipe's own key: who brings the same waits for this build
	bool shared;		     // not an import: knowing a tar's digest is not having the tar
	bool refresh;
	bool ahead;		     // for a job that is queued: goes on without anybody waiting
	time_t ahead_since;	     // its submission; 0: none
	uid_t ahead_for;
	bool stopping;
	uid_t owner;
	uint64_t max_mib;	     // of content, by the owner's space
	struct images_wish *waiters;
};

struct images {
	struct vcd *vcd;
	struct store *store;
	struct imgcache *cache;
	struct buildhost *buildhost;
	struct prestage *prestage;
	struct build_slot *builds; // the first ones first
	char last_builder[VC_HOSTNAME_MAX + 1];
	bool stopped;
};

struct imgcache *images_cache(struct images *im)
{
	return im->cache;
}

struct store *images_store(struct images *im)
{
	return im->store;
}

// A user may give an own image any name: what vcd.conf trusts by its name alone is root's image of that name,
// another owner's only as "UID/name".
static bool is_trusted(const struct images *im, const struct store_entry *e)
{
	char qualified[IMAGE_NAME_MAX + 16];
	snprintf(qualified, sizeof(qualified), "%lu/%s", (unsigned long)e->owner, e->name);
	return (e->owner == 0 && conf_image_trusted(im->vcd->conf, e->name)) || conf_image_trusted(im->vcd->conf, qualified);
}

int images_resolve(struct images *im, const char *name, uid_t uid, char ret_digest[PLAN_HEX64_LEN + 1], bool *ret_trusted,
		   struct vc_error *err)
{
	struct store_entry entry;
	struct vc_error why = VC_ERROR_INIT;
	if (store_lookup(im->store, name, uid, &entry, &why) < 0) {
		if (why.code != VC_ENOTFOUND)
			return vc_error_set(err, why.code, "%s", why.text);
		return vc_error_set(err, VC_EUSER, "there is no image '%s': `vcctl image list` shows yours and public ones, "
				    "`vcctl image build RECIPE` makes one", name);
	}
	memcpy(ret_digest, entry.digest, PLAN_HEX64_LEN + 1);
	*ret_trusted = is_trusted(im, &entry);
	return 0;
}

// --- waiters -------------------------------------------------------------------------------------------------------

static void wish_unlink(struct images_wish *w)
{
	for (struct images_wish **p = &w->slot->waiters; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
}

static struct json_object *built_json(const struct store_entry *e, bool cached)
{
	struct json_object *result = json_object_new_object();
	vc_json_add_str(result, "digest", e->digest);
	vc_json_add_str(result, "name", e->name);
	vc_json_add_u64(result, "size", e->size);
	vc_json_add_u64(result, "data_bytes", e->data_bytes);
	vc_json_add_bool(result, "cached", cached);
	return result;
}

// MiB of data that the user's images hold; an image with several names counts once for each.
static int used_mib(struct images *im, uid_t uid, uint64_t *ret, struct vc_error *err)
{
	vc_autofree struct store_entry *entries = NULL;
	size_t n = 0;
	uint64_t bytes = 0;
	if (store_list(im->store, uid, &entries, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		bytes += entries[i].owner == uid && entries[i].name[0] ? entries[i].data_bytes : 0;
	*ret = bytes >> 20;
	return 0;
}

// What a new image of the user may hold: *ret, at least 1.
static int check_space(struct images *im, uid_t uid, uint64_t *ret, struct vc_error *err)
{
	uint64_t used = 0, max = im->vcd->conf->image_user_mib;
	*ret = UINT64_MAX;
	if (uid == 0)
		return 0;
	if (used_mib(im, uid, &used, err) < 0)
		return -1;
	if (used >= max)
		return vc_error_set(err, VC_EUSER, "your images hold %llu MiB, the site allows %llu (image-space-per-user): remove one with "
				    "`vcctl image rm`", (unsigned long long)used, (unsigned long long)max);
	*ret = max - used;
	return 0;
}

// The image under the name that this waiter asked for, if this user may have one more.
static int name_it(struct images *im, const struct images_wish *w, const char *digest, const char *key, struct store_entry *ret,
		   struct vc_error *err)
{
	uint64_t max_mib;
	if (check_space(im, w->owner, &max_mib, err) < 0)
		return -1;
	struct store_name name = {.name = w->name, .key = key && key[0] ? key : NULL, .owner = w->owner, .is_public = w->is_public};
	return store_name(im->store, digest, &name, ret, err);
}

static void answer(struct images *im, struct images_wish *w, const struct store_entry *entry, const struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	struct store_entry named;
	struct images_found found = {.trusted = false};
	if (!w->req) {
		if (entry)
			memcpy(found.digest, entry->digest, sizeof(found.digest));
		w->wish.done(w->wish.ctx, entry ? &found : NULL, err);
	} else if (err) {
		rpc_reply_error(w->req, err);
	} else if (name_it(im, w, entry->digest, entry->key, &named, &why) < 0) {
		rpc_reply_error(w->req, &why);
	} else {
		rpc_reply(w->req, built_json(&named, false));
	}
}

static void build_done(void *ctx, const struct store_entry *entry, const struct vc_error *err)
{
	struct build_slot *slot = ctx;
	struct images_wish *w;
	slot->stopping = true; // nobody joins what is over
	if (entry && slot->ahead_since)
		prestage_want(slot->images->prestage, slot->ahead_for, entry->digest, slot->ahead_since);
	while ((w = slot->waiters)) {
		slot->waiters = w->next;
		if (entry || err)
			answer(slot->images, w, entry, err);
		free(w);
	}
}

static void build_progress(void *ctx, struct json_object *params)
{
	struct build_slot *slot = ctx;
	const char *stage = "", *text = "";
	char line[160];
	vc_json_str_opt(params, "stage", 16, &stage, NULL);
	vc_json_str_opt(params, "text", IMAGE_BUILD_LINE_MAX, &text, NULL);
	snprintf(line, sizeof(line), "builds the image: %s%s%.100s", stage, text[0] ? ": " : "", text);
	for (struct images_wish *w = slot->waiters; w; w = w->next) {
		if (w->req)
			rpc_notify(w->req, "image.progress", json_object_get(params));
		else if (w->wish.progress)
			w->wish.progress(w->wish.ctx, line);
	}
	json_object_put(params);
}

static void slot_free(struct build_slot *slot);

// Nobody needs it any more.
static void slot_abandon(struct build_slot *slot)
{
	if (slot->waiters || slot->ahead || slot->stopping)
		return;
	slot->stopping = true;
	if (slot->build)
		imgbuild_stop(slot->build);
	else if (slot->away)
		buildaway_stop(slot->away);
	else
		slot_free(slot);
}

static void waiter_gone(struct rpc_request *req, void *ctx)
{
	struct images_wish *w = ctx;
	struct build_slot *slot = w->slot;
	struct vc_error err = VC_ERROR_INIT;
	wish_unlink(w);
	free(w);
	vc_error_set(&err, VC_ECANCELED, "the caller went away");
	rpc_reply_error(req, &err);
	slot_abandon(slot);
}

void images_wish_cancel(struct images_wish *w)
{
	if (!w)
		return;
	struct build_slot *slot = w->slot;
	wish_unlink(w);
	free(w);
	slot_abandon(slot);
}

// --- builds --------------------------------------------------------------------------------------------------------

static void slot_free(struct build_slot *slot)
{
	for (struct build_slot **p = &slot->images->builds; *p; p = &(*p)->next) {
		if (*p == slot) {
			*p = slot->next;
			break;
		}
	}
	recipe_destroy(slot->recipe);
	free(slot);
}

static void start_next(struct images *im);

static void build_ended(void *ctx)
{
	struct build_slot *slot = ctx;
	struct images *im = slot->images;
	slot_free(slot);
	start_next(im);
}

static bool is_running(const struct build_slot *slot)
{
	return slot->build || slot->away;
}

static unsigned running(const struct images *im)
{
	unsigned n = 0;
	for (const struct build_slot *s = im->builds; s; s = s->next)
		n += is_running(s);
	return n;
}

static struct imgbuild_args args_of(struct build_slot *slot)
{
	return (struct imgbuild_args){.vcd = slot->images->vcd, .store = slot->images->store, .cache = slot->images->cache,
				      .recipe = slot->recipe, .refresh = slot->refresh, .max_mib = slot->max_mib, .owner = slot->owner,
				      .progress = build_progress, .done = build_done, .ended = build_ended, .ctx = slot};
}

// No other host builds it.
static void back_here(void *ctx, struct recipe *recipe)
{
	struct build_slot *slot = ctx;
	struct vc_error err = VC_ERROR_INIT;
	slot->away = NULL;
	slot->recipe = recipe;
	struct imgbuild_args args = args_of(slot);
	slot->build = imgbuild_start(&args, &err);
	if (slot->build) {
		slot->recipe = NULL;
		return;
	}
	build_done(slot, NULL, &err);
	build_ended(slot);
}

// What an import brings is here already, and is unpacked here.
static int slot_start(struct build_slot *slot, struct rpc_request *import, struct vc_error *err)
{
	struct images *im = slot->images;
	struct buildaway_args args = {.build = args_of(slot), .last = im->last_builder, .here = back_here};
	args.build.import = import;
	if (import || buildaway_is_here(im->vcd->conf))
		slot->build = imgbuild_start(&args.build, err);
	else
		slot->away = buildaway_start(&args, err);
	if (!is_running(slot))
		return -1;
	slot->recipe = NULL;
	return 0;
}

static void start_next(struct images *im)
{
	struct build_slot *next;
	for (struct build_slot *slot = im->builds; slot && !im->stopped; slot = next) {
		struct vc_error err = VC_ERROR_INIT;
		next = slot->next;
		if (is_running(slot) || slot->stopping)
			continue;
		if (running(im) >= im->vcd->conf->build_jobs)
			return;
		if (slot_start(slot, NULL, &err) < 0) {
			build_done(slot, NULL, &err);
			slot_free(slot);
		}
	}
}

static struct build_slot *find_slot(struct images *im, const char *config)
{
	for (struct build_slot *s = im->builds; s; s = s->next) {
		if (s->shared && !s->stopping && strcmp(s->config, config) == 0)
			return s;
	}
	return NULL;
}

// The user's own requests: builds for queued jobs and for jobs that start are not among them.
static int own_builds(struct images *im, uid_t uid, struct vc_error *err)
{
	const struct conf *conf = im->vcd->conf;
	unsigned own = 0;
	for (const struct build_slot *s = im->builds; s; s = s->next)
		own += s->owner == uid && !s->ahead && s->waiters && s->waiters->req;
	if (uid == 0 || own < conf->build_jobs_per_user)
		return 0;
	return vc_error_set(err, VC_EBUSY, "%u of your image builds are under way, the site allows %u to a user "
			    "(image-build-jobs-per-user): try again when one has ended", own, conf->build_jobs_per_user);
}

static int check_room(struct images *im, uid_t owner, bool ahead, struct vc_error *err)
{
	unsigned waiting = 0, own = 0;
	for (const struct build_slot *s = im->builds; s; s = s->next) {
		waiting += !is_running(s);
		own += s->ahead && s->owner == owner;
	}
	if (waiting >= QUEUE_MAX)
		return vc_error_set(err, VC_EBUSY, "%u image builds wait for their turn already: try again later", waiting);
	if (ahead && own >= AHEAD_MAX)
		return vc_error_set(err, VC_EBUSY, "%u images are built for queued jobs of yours already", own);
	return 0;
}

// A slot for this recipe, which it takes when it succeeds: at the end of the queue, without waiters.
static struct build_slot *slot_create(struct images *im, struct recipe *r, uid_t owner, struct vc_error *err)
{
	struct build_slot *slot = calloc(1, sizeof(*slot));
	if (!slot) {
		vc_error_errno(err, "build");
		return NULL;
	}
	*slot = (struct build_slot){.images = im, .owner = owner, .max_mib = UINT64_MAX, .shared = r->base != RECIPE_BASE_IMPORT};
	if (recipe_key(r, NULL, slot->config, err) < 0) {
		free(slot);
		return NULL;
	}
	slot->recipe = r;
	struct build_slot **end = &im->builds;
	while (*end)
		end = &(*end)->next;
	*end = slot;
	return slot;
}

static struct images_wish *wait_for(struct build_slot *slot, const struct images_wish *what, struct vc_error *err)
{
	struct images_wish *w = malloc(sizeof(*w));
	if (!w) {
		vc_error_errno(err, "build");
		return NULL;
	}
	*w = *what;
	w->slot = slot;
	w->next = NULL;
	struct images_wish **end = &slot->waiters;
	while (*end)
		end = &(*end)->next;
	*end = w;
	if (w->req)
		rpc_on_cancel(w->req, waiter_gone, w);
	return w;
}

// As a file system, made by whoever: it is mounted in members only.
static bool is_imported(struct images *im, const char *digest)
{
	vc_autofree char *text = NULL;
	struct json_object *build = NULL;
	bool imported = false;
	if (store_meta(im->store, digest, &text, NULL) < 0)
		return true; // it cannot be said what it is
	vc_autojson struct json_object *meta = vc_json_parse(text, strlen(text), NULL);
	if (json_object_object_get_ex(meta, "build", &build))
		(void)vc_json_bool_opt(build, "imported", &imported, NULL);
	return imported;
}

// The image that is to be built upon, as this user sees it; whatever digest came with the recipe does not count.
static int resolve_from(struct images *im, struct recipe *r, uid_t uid, struct vc_error *err)
{
	bool trusted;
	if (r->base != RECIPE_BASE_IMAGE)
		return 0;
	if (images_resolve(im, r->from, uid, r->from_digest, &trusted, err) < 0)
		return -1;
	return is_imported(im, r->from_digest) ? vc_error_set(err, VC_EUSER, "image '%s' was imported as a file system: nothing can be built upon it",
							      r->from) : 0;
}

// The build of this recipe that is under way or waiting, or a new one, which takes the recipe.
static struct build_slot *join_or_create(struct images *im, struct recipe **r, uid_t owner, bool refresh, struct vc_error *err)
{
	char config[DIGEST_HEX_LEN];
	if (recipe_key(*r, NULL, config, err) < 0)
		return NULL;
	struct build_slot *slot = find_slot(im, config);
	if (slot && (slot->refresh || !refresh))
		return slot;
	if (check_room(im, owner, false, err) < 0)
		return NULL;
	slot = slot_create(im, *r, owner, err);
	if (!slot)
		return NULL;
	*r = NULL;
	slot->refresh = refresh;
	return slot;
}

// --- image.build, image.import ---------------------------------------------------------------------------------------

// The same recipe has been built: its image gets the name.
static int answer_from_cache(struct images *im, const struct recipe *r, const struct images_wish *w, struct vc_error *err)
{
	char digest[DIGEST_HEX_LEN], key[DIGEST_HEX_LEN];
	struct store_entry entry;
	if (imgcache_find(im->cache, r, digest, key, err) < 0 || name_it(im, w, digest, key, &entry, err) < 0)
		return -1;
	rpc_reply(w->req, built_json(&entry, true));
	return 0;
}

static void fill_waiter(struct images_wish *w, struct rpc_request *req, const struct recipe *r)
{
	*w = (struct images_wish){.req = req, .owner = rpc_caller(req)->uid, .is_public = r->is_public};
	memcpy(w->name, r->name, strlen(r->name) + 1);
}

static int read_recipe(struct images *im, struct rpc_request *req, bool import, struct recipe **ret, struct vc_error *err)
{
	struct json_object *json = NULL;
	recipe_auto struct recipe *r = NULL;
	if (vc_json_obj(rpc_params(req), "recipe", &json, err) < 0 || recipe_from_json(json, &r, err) < 0)
		return -1;
	if (import != (r->base == RECIPE_BASE_IMPORT))
		return vc_error_set(err, VC_EUSER, "an import takes image.import, other recipes image.build");
	if (resolve_from(im, r, rpc_caller(req)->uid, err) < 0)
		return -1;
	*ret = vc_steal(&r);
	return 0;
}

static int image_build(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	struct images_wish w;
	bool refresh = false;
	uint64_t max_mib;
	recipe_auto struct recipe *r = NULL;
	if (vc_json_bool_opt(rpc_params(req), "refresh", &refresh, err) < 0 || read_recipe(im, req, false, &r, err) < 0)
		return -1;
	fill_waiter(&w, req, r);
	if (check_space(im, w.owner, &max_mib, err) < 0)
		return -1;
	if (!refresh && answer_from_cache(im, r, &w, NULL) == 0)
		return 0;
	struct build_slot *slot = own_builds(im, w.owner, err) < 0 ? NULL : join_or_create(im, &r, w.owner, refresh, err);
	if (slot && !slot->waiters)
		slot->max_mib = max_mib;
	if (!slot || !wait_for(slot, &w, err)) {
		if (slot)
			slot_abandon(slot);
		return -1;
	}
	start_next(im);
	return 0;
}

static int image_import(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	struct images_wish w;
	uint64_t max_mib;
	recipe_auto struct recipe *r = NULL;
	if (read_recipe(im, req, true, &r, err) < 0)
		return -1;
	if (running(im) >= im->vcd->conf->build_jobs)
		return vc_error_set(err, VC_EBUSY, "%u image builds are under way, the site allows %u (image-build-jobs): try again later",
				    running(im), im->vcd->conf->build_jobs);
	fill_waiter(&w, req, r);
	if (own_builds(im, w.owner, err) < 0 || check_space(im, w.owner, &max_mib, err) < 0)
		return -1;
	if (r->import_size >> 20 > max_mib)
		return vc_error_set(err, VC_EUSER, "the tar of %llu MiB is more than the %llu MiB that the site still allows you (image-space-per-user)",
				    (unsigned long long)(r->import_size >> 20), (unsigned long long)max_mib);
	struct build_slot *slot = slot_create(im, r, w.owner, err);
	if (!slot)
		return -1;
	r = NULL;
	slot->max_mib = max_mib;
	struct images_wish *waiter = wait_for(slot, &w, err);
	if (!waiter || slot_start(slot, req, err) < 0) {
		free(waiter); // the request is answered with our error
		slot_free(slot);
		return -1;
	}
	return 0;
}

// --- wishes ------------------------------------------------------------------------------------------------------------

static char **copy_packages(char *const *packages)
{
	size_t n = vc_strv_len(packages);
	vc_autostrv char **copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		if (!(copy[i] = strdup(packages[i])))
			return NULL;
	}
	return vc_steal(&copy);
}

// IMAGE with more packages, as a recipe. Its name is for its log: the image's, and the recipe's digest.
static int wish_recipe(struct images *im, const char *image, char *const *packages, uid_t uid, struct recipe **ret,
		       struct vc_error *err)
{
	char config[DIGEST_HEX_LEN];
	const char *slash = strchr(image, '/');
	recipe_auto struct recipe *r = calloc(1, sizeof(*r));
	if (!r)
		return vc_error_errno(err, "--vcluster-packages");
	r->base = RECIPE_BASE_IMAGE;
	r->from = strdup(image);
	r->packages = copy_packages(packages);
	if (!r->from || !r->packages)
		return vc_error_set(err, ENOMEM, "--vcluster-packages: out of memory");
	if (resolve_from(im, r, uid, err) < 0 || recipe_key(r, NULL, config, err) < 0)
		return -1;
	if (asprintf(&r->name, "%.40s.with-%.8s", slash ? slash + 1 : image, config) < 0) {
		r->name = NULL;
		return vc_error_set(err, ENOMEM, "--vcluster-packages: out of memory");
	}
	if (recipe_validate(r, err) < 0)
		return vc_error_wrap(err, "--vcluster-packages");
	*ret = vc_steal(&r);
	return 0;
}

int images_want(struct images *im, const struct images_wish_args *args, struct images_found *ret, struct images_wish **ret_wish,
		struct vc_error *err)
{
	struct images_wish w = {.owner = args->uid, .wish = *args};
	recipe_auto struct recipe *r = NULL;
	*ret = (struct images_found){.trusted = false};
	*ret_wish = NULL;
	if (!args->packages || !args->packages[0])
		return images_resolve(im, args->name, args->uid, ret->digest, &ret->trusted, err);
	if (wish_recipe(im, args->name, args->packages, args->uid, &r, err) < 0)
		return -1;
	if (imgcache_find(im->cache, r, ret->digest, NULL, NULL) == 0)
		return 0;
	struct build_slot *slot = join_or_create(im, &r, args->uid, false, err);
	if (!slot)
		return -1;
	// Started here and not by start_next(), which would tell of a failure by done().
	if (!is_running(slot) && running(im) < im->vcd->conf->build_jobs && slot_start(slot, NULL, err) < 0) {
		build_done(slot, NULL, err);
		slot_free(slot);
		return -1;
	}
	*ret_wish = wait_for(slot, &w, err);
	if (!*ret_wish) {
		slot_abandon(slot);
		return -1;
	}
	slot->ahead = false; // its job is here: from now on the build is for those who wait
	return 1;
}

static void build_ahead(struct images *im, struct build_slot *slot, uid_t uid)
{
	slot->ahead |= !slot->waiters;
	if (!slot->ahead_since) {
		slot->ahead_since = time(NULL);
		slot->ahead_for = uid;
	}
	start_next(im);
}

// A job is being submitted that is to need this image: while it is queued the image is built, and brought to its hosts.
static int image_want(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	const char *name, *state = "ready";
	vc_autostrv char **packages = NULL;
	recipe_auto struct recipe *r = NULL;
	char digest[DIGEST_HEX_LEN];
	uid_t uid = rpc_caller(req)->uid;
	bool trusted;
	if (vc_json_str(rpc_params(req), "image", IMAGE_FROM_MAX, &name, err) < 0 ||
	    vc_json_strv(rpc_params(req), "packages", VC_PACKAGES_MAX, IMAGE_PACKAGE_MAX, &packages, err) < 0)
		return -1;
	if (!packages[0]) {
		if (images_resolve(im, name, uid, digest, &trusted, err) < 0)
			return -1;
	} else if (wish_recipe(im, name, packages, uid, &r, err) < 0) {
		return -1;
	} else if (imgcache_find(im->cache, r, digest, NULL, NULL) < 0) {
		state = "building";
		if (check_room(im, uid, true, err) < 0)
			return -1;
		struct build_slot *slot = join_or_create(im, &r, uid, false, err);
		if (!slot)
			return -1;
		build_ahead(im, slot, uid);
		digest[0] = '\0';
	}
	if (digest[0])
		prestage_want(im->prestage, uid, digest, time(NULL));
	struct json_object *result = json_object_new_object();
	vc_json_add_str(result, "state", state);
	rpc_reply(req, result);
	return 0;
}

// --- clusters that stand on an image ----------------------------------------------------------------------------------------

// The pins of the controller's own share of the same cluster are others.
static const char *pin_of(const char *cluster, char ret[IMAGE_CLUSTER_ID_MAX + 1])
{
	snprintf(ret, IMAGE_CLUSTER_ID_MAX + 1, "controller-%.48s", cluster);
	return ret;
}

int images_hold(struct images *im, const char *digest, const char *cluster, struct vc_error *err)
{
	char pin[IMAGE_CLUSTER_ID_MAX + 1];
	return store_pin(im->store, digest, pin_of(cluster, pin), err);
}

void images_let_go(struct images *im, const char *digest, const char *cluster)
{
	char pin[IMAGE_CLUSTER_ID_MAX + 1];
	store_unpin(im->store, digest, pin_of(cluster, pin));
}

// --- names -----------------------------------------------------------------------------------------------------------

static struct json_object *entry_to_json(const struct images *im, const struct store_entry *e)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "name", e->name);
	vc_json_add_str(obj, "digest", e->digest);
	vc_json_add_u64(obj, "owner", e->owner);
	vc_json_add_str(obj, "visibility", e->is_public ? "public" : "private");
	vc_json_add_int(obj, "created", e->created);
	vc_json_add_u64(obj, "size", e->size);
	vc_json_add_u64(obj, "data_bytes", e->data_bytes);
	vc_json_add_u64(obj, "pins", e->pins);
	vc_json_add_bool(obj, "trusted", is_trusted(im, e));
	return obj;
}

static uid_t seen_as(const struct rpc_request *req)
{
	return rpc_caller_is_admin(req) ? 0 : rpc_caller(req)->uid;
}

static int image_list(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	vc_autofree struct store_entry *entries = NULL;
	size_t n = 0;
	if (store_list(im->store, seen_as(req), &entries, &n, err) < 0)
		return -1;
	struct json_object *result = json_object_new_object(), *array = json_object_new_array();
	for (size_t i = 0; i < n; i++)
		json_object_array_add(array, entry_to_json(im, &entries[i]));
	vc_json_add(result, "images", array);
	rpc_reply(req, result);
	return 0;
}

static int read_name(struct rpc_request *req, const char **ret, struct vc_error *err)
{
	return vc_json_str(rpc_params(req), "name", IMAGE_FROM_MAX, ret, err);
}

static int image_show(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	struct store_entry entry;
	const char *name;
	vc_autofree char *meta = NULL;
	if (read_name(req, &name, err) < 0 || store_lookup(im->store, name, rpc_caller(req)->uid, &entry, err) < 0 ||
	    store_meta(im->store, entry.digest, &meta, err) < 0)
		return -1;
	struct json_object *result = entry_to_json(im, &entry);
	vc_json_add(result, "meta", vc_json_parse(meta, strlen(meta), NULL));
	rpc_reply(req, result);
	return 0;
}

static int image_rm(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	struct store_entry entry;
	const char *name;
	if (read_name(req, &name, err) < 0 || store_lookup(im->store, name, rpc_caller(req)->uid, &entry, err) < 0)
		return -1;
	if (!rpc_caller_may(req, entry.owner))
		return vc_error_set(err, VC_EDENIED, "image '%s' belongs to uid %u: only its owner or an admin removes it", name,
				    entry.owner);
	if (store_remove(im->store, entry.name, entry.owner, err) < 0)
		return -1;
	rpc_reply(req, NULL);
	return 0;
}

static int reply_log(struct images *im, struct rpc_request *req, const char *name, struct vc_error *err)
{
	struct json_object *result = imgbuild_log_json(im->vcd, rpc_caller(req)->uid, name, err);
	if (!result)
		return -1;
	rpc_reply(req, result);
	return 0;
}

static void log_came(void *ctx, struct json_object *result, const struct vc_error *err)
{
	if (err)
		rpc_reply_error(ctx, err);
	else
		rpc_reply(ctx, json_object_get(result));
}

// The host that builds the user's image of that name now; NULL: none but this one.
static const char *builder_of(const struct images *im, uid_t uid, const char *name)
{
	for (const struct build_slot *s = im->builds; s; s = s->next) {
		if (s->away && s->owner == uid && strcmp(buildaway_name(s->away), name) == 0)
			return buildaway_host(s->away);
	}
	return NULL;
}

static int image_log(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	const char *name;
	if (read_name(req, &name, err) < 0 || recipe_check_name(name, err) < 0)
		return -1;
	const char *host = builder_of(im, rpc_caller(req)->uid, name);
	if (!host)
		return reply_log(im, req, name, err);
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_u64(params, "uid", rpc_caller(req)->uid);
	vc_json_add_str(params, "name", name);
	struct peer_args args = {.host = host, .method = "host.buildlog", .params = params, .timeout_ms = LOG_MS, .trace = rpc_trace(req),
				 .done = log_came, .ctx = req};
	return peer_call(im->vcd->peers, &args, err) ? 0 : -1;
}

static const struct rpc_method methods[] = {
	{"image.build", RPC_ANY, RPC_CONTROLLER, 0, image_build},
	{"image.import", RPC_ANY, RPC_CONTROLLER, RPC_DATA, image_import},
	{"image.want", RPC_ANY, RPC_CONTROLLER, 0, image_want},
	{"image.list", RPC_ANY, RPC_CONTROLLER, 0, image_list},
	{"image.show", RPC_ANY, RPC_CONTROLLER, 0, image_show},
	{"image.rm", RPC_ANY, RPC_CONTROLLER, 0, image_rm},
	{"image.log", RPC_ANY, RPC_CONTROLLER, 0, image_log},
};

// --- life ------------------------------------------------------------------------------------------------------------

struct images *images_create(struct vcd *vcd, struct vc_error *err)
{
	struct store_report report = {0};
	unsigned dropped = 0;
	struct images *im = calloc(1, sizeof(*im));
	if (!im) {
		vc_error_errno(err, "images");
		return NULL;
	}
	im->vcd = vcd;
	if (store_open(vcd->conf->image_dir, &im->store, &report, err) < 0 || imgbuild_clean(vcd, im->store, err) < 0 ||
	    imgcache_open(im->store, vcd->conf->image_cache_mib << 20, IMGCACHE_LEASE_S, &im->cache, &dropped, err) < 0 ||
	    !(im->buildhost = buildhost_create(vcd, im->store, im->cache, err)) ||
	    rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), im, err) < 0 ||
	    !(im->prestage = prestage_create(vcd, im->store, err))) {
		images_destroy(im);
		return NULL;
	}
	vc_log_info("%s: %u images; dropped %u leftovers, %u damaged images, %u names without image", vcd->conf->image_dir,
		    report.images, report.leftovers, report.damaged, report.lost_names);
	struct imgcache_usage usage = imgcache_usage(im->cache);
	vc_log_info("image cache: %u stages, %u images, %llu of %llu MiB; dropped %u leftovers, evicted %u", usage.stages, usage.images,
		    (unsigned long long)(usage.bytes >> 20), (unsigned long long)(usage.capacity >> 20), dropped, usage.evicted);
	return im;
}

void images_stop(struct images *im)
{
	if (!im)
		return;
	struct vc_error err = VC_ERROR_INIT;
	struct build_slot *next;
	vc_error_set(&err, VC_ECANCELED, "vcd stops");
	im->stopped = true;
	for (struct build_slot *slot = im->builds; slot; slot = next) {
		next = slot->next;
		if (slot->build) {
			imgbuild_stop(slot->build);
		} else if (slot->away) {
			buildaway_stop(slot->away);
		} else {
			build_done(slot, NULL, &err);
			slot_free(slot);
		}
	}
	buildhost_stop(im->buildhost);
	prestage_stop(im->prestage);
}

void images_destroy(struct images *im)
{
	if (!im)
		return;
	buildhost_destroy(im->buildhost);
	prestage_destroy(im->prestage);
	imgcache_close(im->cache);
	store_close(im->store);
	free(im);
}
