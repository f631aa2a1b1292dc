// SPDX-License-Identifier: GPL-2.0-or-later
// The image store of this host and the methods image.*: see images.h.
#include "vcd/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/image/recipe.h"
#include "vcd/image/store.h"
#include "vcd/imgbuild.h"
#include "vcd/imgserve.h"
#include "vcd/rpc.h"
#include "vcd/vcd.h"

#define LOG_TAIL_MAX (256u << 10) // bytes of a build's log that image.log returns: its end

struct images {
	struct vcd *vcd;
	struct store *store;
	struct image_slot {
		struct image_slot *next;
		struct images *images;
		struct imgbuild *build;
		uid_t owner;
	} *builds;
	unsigned n_builds;
};

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

// --- builds and imports --------------------------------------------------------------------------------------------

static void build_ended(void *ctx)
{
	struct image_slot *slot = ctx;
	struct images *im = slot->images;
	for (struct image_slot **p = &im->builds; *p; p = &(*p)->next) {
		if (*p == slot) {
			*p = slot->next;
			break;
		}
	}
	im->n_builds--;
	free(slot);
}

static int check_builds(const struct images *im, uid_t uid, struct vc_error *err)
{
	const struct conf *conf = im->vcd->conf;
	unsigned own = 0;
	if (im->n_builds >= conf->build_jobs)
		return vc_error_set(err, VC_EBUSY, "%u image builds are under way, the site allows %u (image-build-jobs): try again later",
				    im->n_builds, conf->build_jobs);
	for (const struct image_slot *slot = im->builds; slot; slot = slot->next)
		own += slot->owner == uid;
	if (uid != 0 && own >= conf->build_jobs_per_user)
		return vc_error_set(err, VC_EBUSY, "%u of your image builds are under way, the site allows %u to a user "
				    "(image-build-jobs-per-user): try again when one has ended", own, conf->build_jobs_per_user);
	return 0;
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
		bytes += entries[i].owner == uid ? entries[i].data_bytes : 0;
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

static int start_build(struct images *im, struct rpc_request *req, bool import, struct vc_error *err)
{
	struct json_object *json = NULL;
	struct recipe *recipe = NULL;
	uid_t owner = rpc_caller(req)->uid;
	uint64_t max_mib;
	if (check_builds(im, owner, err) < 0 || check_space(im, owner, &max_mib, err) < 0)
		return -1;
	if (vc_json_obj(rpc_params(req), "recipe", &json, err) < 0 || recipe_from_json(json, &recipe, err) < 0)
		return -1;
	if (import && recipe->import_size >> 20 > max_mib) {
		vc_error_set(err, VC_EUSER, "the tar of %llu MiB is more than the %llu MiB that the site still allows you (image-space-per-user)",
			     (unsigned long long)(recipe->import_size >> 20), (unsigned long long)max_mib);
		recipe_destroy(recipe);
		return -1;
	}
	struct image_slot *slot = calloc(1, sizeof(*slot));
	if (!slot || import != (recipe->base == RECIPE_BASE_IMPORT)) {
		free(slot);
		recipe_destroy(recipe);
		return vc_error_set(err, VC_EUSER, "an import takes image.import, other recipes image.build");
	}
	*slot = (struct image_slot){.next = im->builds, .images = im, .owner = owner};
	struct imgbuild_args args = {.vcd = im->vcd,
				     .store = im->store,
				     .recipe = recipe,
				     .owner = owner,
				     .max_mib = max_mib,
				     .req = req,
				     .import = import,
				     .ended = build_ended,
				     .ctx = slot};
	slot->build = imgbuild_start(&args, err);
	if (!slot->build) {
		free(slot);
		recipe_destroy(recipe);
		return -1;
	}
	im->builds = slot;
	im->n_builds++;
	return 0;
}

static int image_build(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	return start_build(ctx, req, false, err);
}

static int image_import(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	return start_build(ctx, req, true, err);
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
	return vc_json_str(rpc_params(req), "name", IMAGE_NAME_MAX + 12, ret, err);
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

static int read_tail(const char *path, char **ret, struct vc_error *err)
{
	struct stat st;
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return vc_error_set(err, VC_ENOTFOUND, "there is no log of a build of that name of yours");
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	off_t from = st.st_size > (off_t)LOG_TAIL_MAX ? st.st_size - (off_t)LOG_TAIL_MAX : 0;
	vc_autofree char *text = malloc(LOG_TAIL_MAX + 1);
	ssize_t n = text ? pread(fd, text, LOG_TAIL_MAX, from) : -1;
	if (n < 0)
		return vc_error_errno(err, "%s", path);
	text[n] = '\0';
	*ret = vc_steal(&text);
	return 0;
}

static int image_log(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	const char *name;
	vc_autofree char *text = NULL;
	if (read_name(req, &name, err) < 0 || recipe_check_name(name, err) < 0)
		return -1;
	vc_autofree char *path = imgbuild_log_path(im->vcd, rpc_caller(req)->uid, name);
	if (!path || read_tail(path, &text, err) < 0)
		return -1;
	struct json_object *result = json_object_new_object();
	vc_json_add_bytes(result, "log", text, strlen(text)); // a package's output need not be UTF-8
	rpc_reply(req, result);
	return 0;
}

static int image_fetch(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct images *im = ctx;
	const char *digest;
	if (vc_json_str(rpc_params(req), "digest", PLAN_HEX64_LEN, &digest, err) < 0)
		return -1;
	if (!digest_hex_valid(digest) || !store_has(im->store, digest))
		return vc_error_set(err, VC_ENOTFOUND, "no image with digest %.64s here", digest);
	return imgserve_start(im->vcd, im->store, digest, req, err);
}

static const struct rpc_method methods[] = {
	{"image.build", RPC_ANY, RPC_CONTROLLER, 0, image_build},
	{"image.import", RPC_ANY, RPC_CONTROLLER, RPC_DATA, image_import},
	{"image.list", RPC_ANY, RPC_CONTROLLER, 0, image_list},
	{"image.show", RPC_ANY, RPC_CONTROLLER, 0, image_show},
	{"image.rm", RPC_ANY, RPC_CONTROLLER, 0, image_rm},
	{"image.log", RPC_ANY, RPC_CONTROLLER, 0, image_log},
	{"image.fetch", RPC_PEER, RPC_HOST, RPC_DATA, image_fetch},
};

// --- life ------------------------------------------------------------------------------------------------------------

struct images *images_create(struct vcd *vcd, struct vc_error *err)
{
	struct store_report report = {0};
	struct images *im = calloc(1, sizeof(*im));
	if (!im) {
		vc_error_errno(err, "images");
		return NULL;
	}
	im->vcd = vcd;
	if (store_open(vcd->conf->image_dir, &im->store, &report, err) < 0 || imgbuild_clean(vcd, im->store, err) < 0 ||
	    rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), im, err) < 0) {
		images_destroy(im);
		return NULL;
	}
	vc_log_info("%s: %u images; dropped %u leftovers, %u damaged images, %u names without image", vcd->conf->image_dir,
		    report.images, report.leftovers, report.damaged, report.lost_names);
	return im;
}

void images_stop(struct images *im)
{
	if (!im)
		return;
	for (struct image_slot *slot = im->builds; slot; slot = slot->next)
		imgbuild_stop(slot->build);
}

void images_destroy(struct images *im)
{
	if (!im)
		return;
	store_close(im->store);
	free(im);
}
