// SPDX-License-Identifier: GPL-2.0-or-later
// Check and repair of images: see fsck.h. Owns each struct round: one host's work for one request, image after image.
//
// An image is read in a worker; with what does not match a transfer begins that writes into the places of those chunks.
#include "vcd/fsck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/fanout.h"
#include "vcd/image/holding.h"
#include "vcd/image/image_limits.h"
#include "vcd/image/store.h"
#include "vcd/images.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/slurmcheck.h"
#include "vcd/transfers.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define CHECK_MS (3600ull * 1000)     // to read one image of IMAGE_SIZE_MAX from a slow disk
#define NODES_MS 10000		      // for slurmctld to tell its nodes
#define FSCK_MS (24ull * 3600 * 1000) // of image.fsck as a whole: each image has a limit of its own

struct round {
	LIST_ENTRY(round) link;
	struct fsck *owner;
	struct rpc_request *req; // NULL: nobody asked, or the caller went away
	struct store_entry *images;
	size_t n, at;
	bool repair;
	char *head, **hosts; // whom to fetch from
	char pin[32];
	struct json_object *results, *result; // of all; of the image under way
	struct transfer_wish *wish;
	bool working; // a worker reads
};

struct fsck {
	struct vcd *vcd;
	struct store *store;
	LIST_HEAD(, round) rounds;
	bool stopped;
};

// --- a round ------------------------------------------------------------------------------------------------------------

static void round_free(struct round *r)
{
	LIST_REMOVE(r, link);
	transfer_cancel(r->wish, false);
	json_object_put(r->results);
	free(r->images);
	free(r->head);
	vc_strv_free(r->hosts);
	free(r);
}

static void next_image(struct round *r);

static void image_ends(struct round *r, const struct vc_error *err)
{
	if (err)
		vc_json_add_str(r->result, "error", err->text);
	store_unpin(r->owner->store, r->images[r->at].digest, r->pin);
	r->at++;
	next_image(r);
}

static void repaired(void *ctx, const struct transfer_result *result, const struct vc_error *err)
{
	struct round *r = ctx;
	(void)result;
	r->wish = NULL;
	if (!err) {
		vc_log_notice("image %.12s is repaired", r->images[r->at].digest);
		vc_json_add_bool(r->result, "repaired", true);
	}
	image_ends(r, err);
}

static bool has_source(const struct round *r, const char *self)
{
	bool other = r->head && strcmp(r->head, self) != 0;
	for (size_t i = 0; !other && r->hosts && r->hosts[i]; i++)
		other = strcmp(r->hosts[i], self) != 0;
	return other;
}

// Takes holding.
static int start_repair(struct round *r, struct holding *holding, struct vc_error *err)
{
	const char *self = r->owner->vcd->conf->host_name;
	struct transfer_args args = {.digest = r->images[r->at].digest, .head = r->head, .hosts = (const char *const *)r->hosts,
				     .done = repaired, .ctx = r};
	if (!has_source(r, self)) {
		holding_close(holding);
		return vc_error_set(err, VC_EUSER, "no other host was named to fetch it from");
	}
	while (r->hosts && r->hosts[args.n_hosts])
		args.n_hosts++;
	r->wish = transfers_repair(r->owner->vcd->transfers, &args, holding, err);
	return r->wish ? 0 : -1;
}

// --- looking ------------------------------------------------------------------------------------------------------------

struct look { // belongs to the worker's job
	struct round *round;
	struct store *store;
	char digest[DIGEST_HEX_LEN];
	struct holding *holding;
	struct holding_damage damage;
};

static int look_run(void *ctx, struct vc_error *err)
{
	struct look *l = ctx;
	if (holding_open_for_repair(l->store, l->digest, &l->holding, err) < 0)
		return -1;
	holding_check(l->holding, &l->damage);
	return 0;
}

static void tell_damage(struct round *r, const struct holding_damage *d)
{
	vc_log_err("image %.12s is damaged on this host: %zu chunks, the first at byte %llu of root.raw", r->images[r->at].digest, d->chunks,
		   (unsigned long long)d->first_byte);
	vc_json_add_u64(r->result, "first_byte", d->first_byte);
}

static void look_done(void *ctx, const struct vc_error *err)
{
	struct look *l = ctx;
	struct round *r = l->round;
	struct vc_error why = VC_ERROR_INIT;
	r->working = false;
	if (r->owner->stopped) {
		round_free(r);
		return;
	}
	vc_json_add_u64(r->result, "damaged", l->damage.chunks);
	if (!err && l->damage.chunks) {
		tell_damage(r, &l->damage);
		if (r->repair && start_repair(r, vc_steal(&l->holding), &why) == 0)
			return; // repaired() follows
		err = why.code ? &why : NULL;
	}
	image_ends(r, err);
}

static void look_release(void *ctx)
{
	struct look *l = ctx;
	holding_close(l->holding);
	free(l);
}

static int start_look(struct round *r, struct vc_error *err)
{
	struct look *l = calloc(1, sizeof(*l));
	if (!l)
		return vc_error_errno(err, "fsck");
	*l = (struct look){.round = r, .store = r->owner->store};
	memcpy(l->digest, r->images[r->at].digest, sizeof(l->digest));
	struct work_args args = {.pool = WORK_GENERAL, .what = "read an image again", .deadline_ms = CHECK_MS, .run = look_run,
				 .done = look_done, .release = look_release, .ctx = l};
	if (work_submit(r->owner->vcd->work, &args, NULL, err) == 0) {
		r->working = true;
		return 0;
	}
	look_release(l);
	return -1;
}

static void round_ends(struct round *r)
{
	if (r->req) {
		struct json_object *result = json_object_new_object();
		vc_json_add(result, "images", json_object_get(r->results));
		rpc_reply(r->req, result);
	}
	round_free(r);
}

static void next_image(struct round *r)
{
	struct vc_error err = VC_ERROR_INIT;
	if (r->at == r->n) {
		round_ends(r);
		return;
	}
	const struct store_entry *e = &r->images[r->at];
	r->result = json_object_new_object();
	vc_json_add_str(r->result, "digest", e->digest);
	vc_json_add_u64(r->result, "chunks", e->size / IMAGE_CHUNK);
	json_object_array_add(r->results, r->result);
	if (store_pin(r->owner->store, e->digest, r->pin, &err) < 0 || start_look(r, &err) < 0)
		image_ends(r, &err);
}

// The images of this store, each once; with digest that one alone.
static int list_images(struct round *r, const char *digest, struct vc_error *err)
{
	vc_autofree struct store_entry *all = NULL;
	size_t n = 0;
	if (store_list(r->owner->store, 0, &all, &n, err) < 0)
		return -1;
	r->images = calloc(n + 1, sizeof(*r->images));
	for (size_t i = 0; r->images && i < n; i++) {
		bool wanted = !digest || strcmp(all[i].digest, digest) == 0;
		for (size_t k = 0; wanted && k < r->n; k++)
			wanted = strcmp(all[i].digest, r->images[k].digest) != 0;
		if (wanted)
			r->images[r->n++] = all[i];
	}
	return r->images ? 0 : vc_error_errno(err, "fsck");
}

static struct round *round_create(struct fsck *f, bool repair, const char *head, const char *digest, struct vc_error *err)
{
	struct round *r = calloc(1, sizeof(*r));
	if (!r) {
		vc_error_errno(err, "fsck");
		return NULL;
	}
	*r = (struct round){.owner = f, .repair = repair, .head = head ? strdup(head) : NULL, .results = json_object_new_array()};
	snprintf(r->pin, sizeof(r->pin), "fsck-%p", (void *)r);
	LIST_INSERT_HEAD(&f->rounds, r, link);
	if (list_images(r, digest, err) == 0)
		return r;
	round_free(r);
	return NULL;
}

// --- damage that was found while serving ---------------------------------------------------------------------------------

static void repair(struct fsck *f, const char *digest, const char *head, char **hosts)
{
	struct vc_error err = VC_ERROR_INIT;
	struct round *r = round_create(f, true, head, digest, &err);
	if (!r) {
		vc_strv_free(hosts);
		vc_log_err("image %.12s: not repaired: %s", digest, err.text);
		return;
	}
	r->hosts = hosts;
	next_image(r);
}

// The controller knows no host that has it for sure: each is asked whether it has all of it.
struct search { // belongs to the worker's job
	struct fsck *owner;
	char digest[DIGEST_HEX_LEN];
	char **hosts;
};

static int search_run(void *ctx, struct vc_error *err)
{
	struct search *s = ctx;
	return slurmcheck_nodes(s->owner->vcd->slurmcheck, &s->hosts, err);
}

static void search_done(void *ctx, const struct vc_error *err)
{
	struct search *s = ctx;
	if (s->owner->stopped)
		return;
	if (err)
		vc_log_err("image %.12s: not repaired: %s; `vcctl image fsck --repair` takes the names of hosts", s->digest, err->text);
	else
		repair(s->owner, s->digest, NULL, vc_steal(&s->hosts));
}

static void search_release(void *ctx)
{
	struct search *s = ctx;
	vc_strv_free(s->hosts);
	free(s);
}

static void search_hosts(struct fsck *f, const char *digest)
{
	struct vc_error err = VC_ERROR_INIT;
	struct search *s = calloc(1, sizeof(*s));
	struct work_args args = {.pool = WORK_GENERAL, .what = "list of Slurm's nodes", .deadline_ms = NODES_MS, .run = search_run,
				 .done = search_done, .release = search_release, .ctx = s};
	if (s) {
		s->owner = f;
		memcpy(s->digest, digest, sizeof(s->digest));
	}
	if (s && work_submit(f->vcd->work, &args, NULL, &err) == 0)
		return;
	free(s);
	vc_log_err("image %.12s: not repaired: %s", digest, err.code ? err.text : "out of memory");
}

static void on_damage(void *ctx, const char *digest)
{
	struct fsck *f = ctx;
	const char *controller = peers_controller(f->vcd->peers);
	if (f->stopped)
		return;
	if (strcmp(controller, f->vcd->conf->host_name) == 0)
		search_hosts(f, digest);
	else
		repair(f, digest, controller, NULL);
}

// --- host.fsck ------------------------------------------------------------------------------------------------------------

static void caller_gone(struct rpc_request *req, void *ctx)
{
	struct round *r = ctx;
	r->req = NULL;
	r->n = r->at + 1; // the image under way is the last one
	rpc_reply_canceled(req);
}

static int host_fsck(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct fsck *f = ctx;
	struct json_object *params = rpc_params(req);
	const char *digest = NULL, *head;
	bool repair = false;
	vc_autostrv char **hosts = NULL;
	if (vc_json_str_opt(params, "digest", DIGEST_HEX_LEN - 1, &digest, err) < 0 ||
	    vc_json_bool_opt(params, "repair", &repair, err) < 0 || vc_json_str(params, "head", VC_HOSTNAME_MAX, &head, err) < 0 ||
	    vc_json_strv(params, "hosts", VC_HOSTS_MAX, VC_HOSTNAME_MAX, &hosts, err) < 0)
		return -1;
	if (digest && !digest_hex_valid(digest))
		return vc_error_set(err, VC_EPROTO, "host.fsck: not a digest");
	struct round *r = round_create(f, repair, head, digest, err);
	if (!r)
		return -1;
	r->hosts = vc_steal(&hosts);
	r->req = req;
	if (r->n) // else it ends at once
		rpc_on_cancel(req, caller_gone, r);
	next_image(r);
	return 0;
}

// --- image.fsck -----------------------------------------------------------------------------------------------------------

struct survey {
	struct rpc_request *req;
	struct fanout *fanout;
	char **hosts;
	struct json_object *results; // by host
};

static void survey_free(struct survey *s)
{
	vc_strv_free(s->hosts);
	json_object_put(s->results);
	free(s);
}

static void survey_host_done(void *ctx, size_t host, struct json_object *result, const struct vc_error *err)
{
	struct survey *s = ctx;
	struct json_object *obj = err ? json_object_new_object() : json_object_get(result);
	if (err)
		vc_json_add_str(obj, "error", err->text);
	vc_json_add(s->results, s->hosts[host], obj);
}

static void survey_done(void *ctx, const struct vc_error *err)
{
	struct survey *s = ctx;
	(void)err; // told by host
	struct json_object *result = json_object_new_object();
	vc_json_add(result, "hosts", json_object_get(s->results));
	rpc_reply(s->req, result);
	survey_free(s);
}

static void survey_canceled(struct rpc_request *req, void *ctx)
{
	struct survey *s = ctx;
	fanout_cancel(s->fanout);
	rpc_reply_canceled(req);
	survey_free(s);
}

static int survey_send(struct fsck *f, struct survey *s, size_t n, const char *digest, bool repair, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	if (vc_json_add_str(params, "head", f->vcd->conf->host_name) < 0 || vc_json_add_strv(params, "hosts", s->hosts) < 0 ||
	    vc_json_add_bool(params, "repair", repair) < 0 || (digest && vc_json_add_str(params, "digest", digest) < 0))
		return vc_error_set(err, ENOMEM, "image.fsck: out of memory");
	struct fanout_args args = {.method = "host.fsck", .hosts = (const char *const *)s->hosts, .n_hosts = n, .params = params,
				   .timeout_ms = FSCK_MS, .trace = rpc_trace(s->req), .keep_going = true, .host_done = survey_host_done,
				   .done = survey_done, .ctx = s};
	s->fanout = fanout_start(f->vcd, &args, err);
	return s->fanout ? 0 : -1;
}

static int image_fsck(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct fsck *f = ctx;
	struct store_entry entry = {.digest = ""};
	const char *name = NULL;
	bool repair = false;
	vc_autostrv char **hosts = NULL;
	size_t n = 0;
	if (vc_json_str_opt(rpc_params(req), "name", IMAGE_FROM_MAX, &name, err) < 0 ||
	    vc_json_bool_opt(rpc_params(req), "repair", &repair, err) < 0 || rpc_param_hosts(req, &hosts, &n, err) < 0 ||
	    (name && store_lookup(f->store, name, rpc_caller(req)->uid, &entry, err) < 0))
		return -1;
	struct survey *s = calloc(1, sizeof(*s));
	if (!s)
		return vc_error_errno(err, "image.fsck");
	*s = (struct survey){.req = req, .hosts = vc_steal(&hosts), .results = json_object_new_object()};
	if (survey_send(f, s, n, name ? entry.digest : NULL, repair, err) < 0) {
		survey_free(s);
		return -1;
	}
	rpc_on_cancel(req, survey_canceled, s);
	return 0;
}

static const struct rpc_method methods[] = {
	{"host.fsck", RPC_PEER, RPC_HOST, 0, host_fsck},
	{"image.fsck", RPC_ADMIN, RPC_CONTROLLER, 0, image_fsck},
};

// --- life -----------------------------------------------------------------------------------------------------------------

struct fsck *fsck_create(struct vcd *vcd, struct vc_error *err)
{
	struct fsck *f = calloc(1, sizeof(*f));
	if (!f) {
		vc_error_errno(err, "fsck");
		return NULL;
	}
	f->vcd = vcd;
	f->store = images_store(vcd->images);
	LIST_INIT(&f->rounds);
	transfers_on_damage(vcd->transfers, on_damage, f);
	if (rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), f, err) == 0)
		return f;
	free(f);
	return NULL;
}

void fsck_stop(struct fsck *f)
{
	struct round *r, *next;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "vcd stops");
	f->stopped = true;
	for (r = LIST_FIRST(&f->rounds); r; r = next) {
		next = LIST_NEXT(r, link);
		if (r->req)
			rpc_reply_error(r->req, &err);
		r->req = NULL;
		if (!r->working) // else look_done() does it
			round_free(r);
	}
}

void fsck_destroy(struct fsck *f)
{
	free(f);
}
