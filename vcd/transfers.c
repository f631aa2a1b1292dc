// SPDX-License-Identifier: GPL-2.0-or-later
// Transfers on the loop: see transfers.h. Owns each struct transfer until its pipeline has ended and nobody waits.
//
// A pipeline's thread rings; the loop looks at its status, hands a complete image to a worker for publication, tells who
// waits, and ends pipelines that nobody needs. Whatever a callback does, a transfer is freed in the timer alone.
#include "vcd/transfers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/fault.h"
#include "vcd/image/holding.h"
#include "vcd/image/imgcache.h"
#include "vcd/image/store.h"
#include "vcd/images.h"
#include "vcd/pipe/chain.h"
#include "vcd/pipe/pipe_limits.h"
#include "vcd/pipe/pipe_link.h"
#include "vcd/transfers_int.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define TICK_MS 50		 // parked requests, idle transfers
#define PROGRESS_MS 500		 // between two reports to those who wait
#define PUBLISH_MS (5u * 60000)	 // for fsync of a large image on a busy disk

static uint64_t now_of(const struct transfers *t)
{
	return uv_now(&t->vcd->loop);
}

struct transfer *transfer_find(struct transfers *t, const char *digest)
{
	struct transfer *tr;
	LIST_FOREACH(tr, &t->list, link) {
		if (strcmp(tr->digest, digest) == 0 && !tr->stopping)
			return tr;
	}
	return NULL;
}

static void on_timer(uv_timer_t *timer);

struct transfer *transfer_make(struct transfers *t, const char *digest, struct vc_error *err)
{
	struct transfer *tr = calloc(1, sizeof(*tr));
	if (!tr) {
		vc_error_errno(err, "image %.12s", digest);
		return NULL;
	}
	tr->owner = t;
	tr->begun = now_of(t);
	snprintf(tr->digest, sizeof(tr->digest), "%s", digest);
	snprintf(tr->pin, sizeof(tr->pin), STORE_PASSING_PIN "%p", (void *)tr);
	TAILQ_INIT(&tr->wishes);
	TAILQ_INIT(&tr->parked);
	LIST_INSERT_HEAD(&t->list, tr, link);
	uv_timer_start(&t->timer, on_timer, TICK_MS, TICK_MS);
	return tr;
}

static int start_pipeline(struct transfer *tr, struct holding *holding, struct chain *chain, struct dialer *dialer,
			  struct vc_error *err)
{
	struct pipeline_args args = {.store = tr->owner->store, .holding = holding, .chain = chain, .ops = &transfer_dial_ops,
				     .ctx = dialer, .min_rate = tr->owner->vcd->conf->image_min_kib << 10};
	memcpy(args.digest, tr->digest, sizeof(args.digest));
	tr->pipeline = pipeline_start(&args, err);
	return tr->pipeline ? 0 : -1;
}

int transfer_serve(struct transfer *tr, struct vc_error *err)
{
	struct holding *holding = NULL;
	struct transfers *t = tr->owner;
	if (store_pin(t->store, tr->digest, tr->pin, err) < 0)
		return -1;
	tr->serving = true;
	struct dialer *dialer = dialer_create(t, tr->digest, NULL, NULL, 0, err);
	if (!dialer || holding_open(t->store, tr->digest, &holding, err) < 0) {
		dialer_destroy(dialer);
		return -1;
	}
	return start_pipeline(tr, holding, NULL, dialer, err);
}

// holding: of a repair, else NULL; taken.
static int start_fetch(struct transfer *tr, const struct transfer_args *args, struct holding *holding, struct vc_error *err)
{
	struct transfers *t = tr->owner;
	struct chain *chain = chain_create(args->head, args->hosts, args->n_hosts, t->vcd->conf->host_name,
					   t->vcd->conf->topology, err);
	if (!chain) {
		holding_close(holding);
		return -1;
	}
	if (holding)
		chain_restart(chain); // a repair: nobody who lacks it is about to get it
	size_t n = chain_length(chain);
	vc_autofree const char **hosts = calloc(n + 1, sizeof(*hosts));
	for (size_t i = 0; hosts && i < n; i++)
		hosts[i] = chain_host(chain, i);
	struct dialer *dialer = hosts ? dialer_create(t, tr->digest, args->trace, hosts, n, err)
				      : (vc_error_errno(err, "chain of hosts"), NULL);
	if (!dialer) {
		chain_destroy(chain);
		holding_close(holding);
		return -1;
	}
	return start_pipeline(tr, holding, chain, dialer, err);
}

// --- wishes -------------------------------------------------------------------------------------------------------------

struct transfer_wish *transfers_want(struct transfers *t, const struct transfer_args *args, struct vc_error *err)
{
	struct transfer_wish *wish = calloc(1, sizeof(*wish));
	struct transfer *tr = transfer_find(t, args->digest);
	if (wish && !tr)
		tr = transfer_make(t, args->digest, err);
	if (!wish || !tr) {
		free(wish);
		vc_error_set(err, ENOMEM, "image %.12s: out of memory", args->digest);
		return NULL;
	}
	if (!tr->pipeline && !store_has(t->store, tr->digest)) {
		tr->begun = now_of(t);
		if (start_fetch(tr, args, NULL, err) < 0) {
			free(wish);
			return NULL; // the timer frees tr
		}
		transfer_accept_parked(tr);
	}
	*wish = (struct transfer_wish){.transfer = tr, .progress = args->progress, .done = args->done, .ctx = args->ctx};
	TAILQ_INSERT_TAIL(&tr->wishes, wish, link);
	if (store_has(t->store, tr->digest))
		uv_async_send(t->async); // done() must not come from inside
	return wish;
}

static void stop_pipeline(struct transfer *tr);

// Whoever is served from a damaged copy asks the next host.
static int end_serving(struct transfers *t, const char *digest, struct vc_error *err)
{
	struct transfer *tr = transfer_find(t, digest);
	if (tr && tr->pipeline && !tr->serving)
		return vc_error_set(err, VC_EBUSY, "image %.12s is just being fetched or repaired", digest);
	if (tr && tr->pipeline)
		stop_pipeline(tr);
	return 0;
}

struct transfer_wish *transfers_repair(struct transfers *t, const struct transfer_args *args, struct holding *damaged, struct vc_error *err)
{
	struct transfer_wish *wish = calloc(1, sizeof(*wish));
	if (!wish)
		vc_error_errno(err, "image %.12s", args->digest);
	struct transfer *tr = wish && end_serving(t, args->digest, err) == 0 ? transfer_make(t, args->digest, err) : NULL;
	if (!tr || store_pin(t->store, tr->digest, tr->pin, err) < 0) {
		holding_close(damaged);
		free(wish);
		return NULL; // the timer frees tr
	}
	tr->repair = true;
	if (start_fetch(tr, args, damaged, err) < 0) {
		free(wish);
		return NULL;
	}
	*wish = (struct transfer_wish){.transfer = tr, .progress = args->progress, .done = args->done, .ctx = args->ctx};
	TAILQ_INSERT_TAIL(&tr->wishes, wish, link);
	return wish;
}

void transfer_cancel(struct transfer_wish *wish, bool go_on)
{
	if (!wish)
		return;
	wish->transfer->go_on = wish->transfer->go_on || go_on;
	TAILQ_REMOVE(&wish->transfer->wishes, wish, link);
	free(wish);
}

static void tell_done(struct transfer *tr, const struct vc_error *err)
{
	struct transfer_wish *wish;
	while ((wish = TAILQ_FIRST(&tr->wishes))) {
		TAILQ_REMOVE(&tr->wishes, wish, link);
		wish->done(wish->ctx, err ? NULL : &tr->result, err);
		free(wish);
	}
}

static void tell_progress(struct transfer *tr, const struct pipeline_status *s, uint64_t now)
{
	struct transfer_wish *wish, *next;
	struct transfer_progress p = {.bytes = s->bytes_in, .held = s->held, .total = s->total, .from = s->predecessor};
	if (now - tr->told < PROGRESS_MS)
		return;
	p.rate = (s->bytes_in - tr->told_bytes) * 1000 / (now - (tr->told > tr->begun ? tr->told : tr->begun) + 1);
	tr->told = now;
	tr->told_bytes = s->bytes_in;
	for (wish = TAILQ_FIRST(&tr->wishes); wish; wish = next) {
		next = TAILQ_NEXT(wish, link);
		if (wish->progress)
			wish->progress(wish->ctx, &p);
	}
}

// --- publication --------------------------------------------------------------------------------------------------------

struct publication {
	struct transfer *transfer;
	struct holding *holding;
	struct imgcache *cache;
	char digest[DIGEST_HEX_LEN];
	uint64_t begun; // ms: it cost the time since then
};

static int publish(void *ctx, struct vc_error *err)
{
	struct publication *pub = ctx;
	if (VC_FAULT("image-publish"))
		return vc_error_set(err, VC_EFAILED, "fault point image-publish");
	if (holding_publish(pub->holding, err) < 0)
		return -1;
	// What it cost decides how long it stays when others come; a cache that does not know it only adopts it later.
	(void)imgcache_fetched(pub->cache, pub->digest, (double)(pipe_now_ms() - pub->begun) / 1000, NULL);
	return 0;
}

static void published(void *ctx, const struct vc_error *err)
{
	struct publication *pub = ctx;
	struct transfer *tr = pub->transfer;
	struct transfers *t = tr->owner;
	struct vc_error why = VC_ERROR_INIT;
	tr->publishing = false;
	if (!err && store_pin(t->store, tr->digest, tr->pin, &why) < 0)
		err = &why;
	if (err) {
		vc_log_err("image %.12s: %s", tr->digest, err->text);
		tr->error = *err;
		return; // the next look ends it
	}
	tr->serving = true;
	tr->result.ms = now_of(t) - tr->begun;
	tr->result.publish_ms = now_of(t) - tr->complete_at;
	vc_log_info("image %.12s is here: %llu bytes came in %llu ms, %llu were here, %u hosts bypassed", tr->digest,
		    (unsigned long long)tr->result.bytes, (unsigned long long)tr->result.ms, (unsigned long long)tr->result.adopted,
		    tr->result.bypassed);
	tell_done(tr, NULL);
}

static void free_publication(void *ctx)
{
	free(ctx);
}

static void start_publication(struct transfer *tr, const struct pipeline_status *s)
{
	struct vc_error err = VC_ERROR_INIT;
	struct publication *pub = calloc(1, sizeof(*pub));
	if (!pub)
		return; // tried again at the next tick
	*pub = (struct publication){tr, pipeline_holding(tr->pipeline), images_cache(tr->owner->vcd->images), "",
				    pipe_now_ms() - (now_of(tr->owner) - tr->begun)};
	memcpy(pub->digest, tr->digest, sizeof(pub->digest));
	tr->complete_at = now_of(tr->owner);
	tr->result = (struct transfer_result){.bytes = s->bytes_in, .adopted = s->adopted, .bypassed = s->bypassed};
	struct work_args args = {.pool = WORK_GENERAL, .what = "publish image", .deadline_ms = PUBLISH_MS, .run = publish,
				 .done = published, .release = free_publication, .ctx = pub};
	tr->publishing = work_submit(tr->owner->vcd->work, &args, NULL, &err) == 0;
	if (!tr->publishing)
		free(pub);
}

// --- looking ------------------------------------------------------------------------------------------------------------

static void stop_pipeline(struct transfer *tr)
{
	tr->stopping = true;
	pipeline_stop(tr->pipeline);
}

static void report(struct transfer *tr, const struct pipeline_status *s)
{
	if (s->bad_host[0] && !tr->told_bad)
		vc_log_err("image %.12s: host %s sent bytes that are not those of the image: check its memory and disk",
			   tr->digest, s->bad_host);
	if (s->damaged && !tr->told_damaged)
		vc_log_err("image %.12s: this host's copy is damaged: %s", tr->digest, tr->repair ? "and cannot be repaired" :
			   "it is repaired when nobody is served from it; `vcctl image fsck --repair` does it at once");
	tr->told_bad = tr->told_bad || s->bad_host[0];
	tr->told_damaged = tr->told_damaged || s->damaged;
}

static bool is_needed(const struct transfer *tr, const struct pipeline_status *s)
{
	if (tr->publishing || !TAILQ_EMPTY(&tr->wishes) || s->successors)
		return true;
	if (!tr->serving)
		return tr->go_on;
	return s->idle_ms < PIPE_LINGER_MS;
}

static void look_at_pipeline(struct transfer *tr, uint64_t now)
{
	struct pipeline_status s;
	pipeline_status(tr->pipeline, &s);
	report(tr, &s);
	if (s.error.code && !tr->error.code)
		tr->error = s.error;
	if (tr->error.code)
		tell_done(tr, &tr->error);
	if (tr->serving && !TAILQ_EMPTY(&tr->wishes)) { // they came after it was here
		tr->result = (struct transfer_result){.bytes = 0};
		tell_done(tr, NULL);
	}
	if (s.phase == PIPELINE_ENDED && !tr->publishing) {
		pipeline_unref(vc_steal(&tr->pipeline));
		tr->stopping = true; // the next wish begins anew
		return;
	}
	if (s.phase == PIPELINE_COMPLETE && !tr->serving && !tr->publishing && !tr->error.code && !tr->stopping)
		start_publication(tr, &s);
	tell_progress(tr, &s, now);
	if (!tr->stopping && !tr->publishing && (tr->error.code || !is_needed(tr, &s)))
		stop_pipeline(tr);
}

static void transfer_free(struct transfer *tr)
{
	struct transfers *t = tr->owner;
	bool damaged = tr->told_damaged && !tr->repair && !t->stopped && t->damaged;
	char digest[DIGEST_HEX_LEN];
	memcpy(digest, tr->digest, sizeof(digest));
	if (tr->serving || tr->repair)
		store_unpin(tr->owner->store, tr->digest, tr->pin);
	LIST_REMOVE(tr, link);
	free(tr);
	if (damaged)
		t->damaged(t->damaged_ctx, digest);
}

static void look(struct transfers *t)
{
	struct transfer *tr, *next;
	uint64_t now = now_of(t);
	for (tr = LIST_FIRST(&t->list); tr; tr = next) {
		next = LIST_NEXT(tr, link);
		transfer_drop_parked(tr, t->stopped ? UINT64_MAX : now);
		if (tr->pipeline)
			look_at_pipeline(tr, now);
		if (!tr->pipeline && !TAILQ_EMPTY(&tr->wishes) && store_has(t->store, tr->digest))
			tell_done(tr, NULL);
		if (!tr->pipeline && TAILQ_EMPTY(&tr->wishes) && TAILQ_EMPTY(&tr->parked) && !tr->publishing)
			transfer_free(tr);
	}
}

static void on_closed_free(uv_handle_t *handle)
{
	free(handle);
}

static void close_when_empty(struct transfers *t)
{
	if (!t->stopped || !LIST_EMPTY(&t->list) || !t->timer_up)
		return;
	t->timer_up = false;
	bell_stop(t->bell);
	uv_close((uv_handle_t *)&t->timer, NULL);
	uv_close((uv_handle_t *)vc_steal(&t->async), on_closed_free);
}

static void on_timer(uv_timer_t *timer)
{
	struct transfers *t = timer->data;
	look(t);
	if (LIST_EMPTY(&t->list))
		uv_timer_stop(timer);
	close_when_empty(t);
}

static void on_async(uv_async_t *async)
{
	on_timer(&((struct transfers *)async->data)->timer);
}

// --- life ---------------------------------------------------------------------------------------------------------------

struct transfers *transfers_create(struct vcd *vcd, struct vc_error *err)
{
	struct transfers *t = calloc(1, sizeof(*t));
	uv_async_t *async = malloc(sizeof(*async));
	if (!t || !async || uv_async_init(&vcd->loop, async, on_async) < 0) {
		free(t);
		free(async);
		vc_error_set(err, ENOMEM, "transfers: out of memory");
		return NULL;
	}
	t->vcd = vcd;
	t->store = images_store(vcd->images);
	t->async = async;
	async->data = t;
	LIST_INIT(&t->list);
	uv_timer_init(&vcd->loop, &t->timer);
	t->timer.data = t;
	t->timer_up = true;
	t->bell = bell_create(async);
	if (t->bell && transfers_methods_register(t, err) == 0)
		return t;
	transfers_stop(t);
	uv_run(&vcd->loop, UV_RUN_NOWAIT);
	transfers_destroy(t);
	return NULL;
}

void transfers_on_damage(struct transfers *t, void (*fn)(void *ctx, const char *digest), void *ctx)
{
	t->damaged = fn;
	t->damaged_ctx = ctx;
}

void transfers_stop(struct transfers *t)
{
	struct transfer *tr;
	t->stopped = true;
	LIST_FOREACH(tr, &t->list, link) {
		struct transfer_wish *wish;
		while ((wish = TAILQ_FIRST(&tr->wishes)))
			transfer_cancel(wish, false);
		if (tr->pipeline && !tr->publishing && !tr->stopping)
			stop_pipeline(tr);
	}
	on_timer(&t->timer); // what goes on ends in the loop's next turns
}

void transfers_destroy(struct transfers *t)
{
	if (!t)
		return;
	if (t->bell)
		bell_unref(t->bell);
	free(t);
}
