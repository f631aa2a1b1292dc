// SPDX-License-Identifier: GPL-2.0-or-later
// Images on hosts before their jobs: see prestage.h.
#include "vcd/prestage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/fanout.h"
#include "vcd/image/store.h"
#include "vcd/slurmcheck.h"
#include "vcd/slurmctl.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define WANTS_MAX 256u		 // of all users; further jobs get their image when they start
#define WANTS_PER_USER 16u
#define TICK_MS 1000u		 // whose turn it is
#define FIRST_LOOK_MS 5000u	 // from the plugin's word until slurmctld has the job and has planned it
#define LOOK_MAX_MS 300000u	 // the interval doubles up to this
#define SLURM_MS 30000u		 // slurmctld's answer
#define STAGE_MS (30u * 60 * 1000) // one chain
#define SUBMIT_S 20		 // a job is submitted that long after the plugin's word, at most
#define CLOCKS_S 5		 // that slurmctld's clock may be behind

struct want {
	struct want *next;
	struct prestage *owner;
	uid_t uid;
	char digest[DIGEST_HEX_LEN];
	char pin[32];
	time_t from, to;	// when its jobs were submitted
	uint64_t look_at, wait_ms; // of the loop's clock
	char **hosts;		// that have it, or get it
	struct work_job *look;
	struct fanout *chain;
};

struct prestage {
	struct vcd *vcd;
	struct store *store;
	struct want *wants;
	uv_timer_t timer;
	bool stopped;
};

static void want_free(struct want *w)
{
	if (w->look)
		work_cancel(w->look);
	if (w->chain) {
		fanout_cancel(w->chain);
		store_unpin(w->owner->store, w->digest, w->pin);
	}
	vc_strv_free(w->hosts);
	free(w);
}

static void forget(struct prestage *p, struct want *w)
{
	for (struct want **at = &p->wants; *at; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
	want_free(w);
	if (!p->wants)
		uv_timer_stop(&p->timer);
}

// --- one chain to the hosts that are new -------------------------------------------------------------------------------------

static void chain_host_done(void *ctx, size_t host, struct json_object *result, const struct vc_error *err)
{
	const struct want *w = ctx;
	(void)host;
	(void)result;
	if (err)
		vc_log_info("image %.12s for queued jobs of uid %u: %s", w->digest, (unsigned)w->uid, err->text);
}

static void chain_done(void *ctx, const struct vc_error *err)
{
	struct want *w = ctx;
	(void)err; // told by host; the job's start tries again
	w->chain = NULL;
	store_unpin(w->owner->store, w->digest, w->pin);
}

static int start_chain(struct want *w, char *const *hosts, size_t n, struct vc_error *err)
{
	struct vcd *vcd = w->owner->vcd;
	vc_autojson struct json_object *params = json_object_new_object();
	if (vc_json_add_str(params, "digest", w->digest) < 0 || vc_json_add_str(params, "head", vcd->conf->host_name) < 0 ||
	    vc_json_add_strv(params, "hosts", hosts) < 0)
		return vc_error_set(err, ENOMEM, "host.image: out of memory");
	struct fanout_args args = {.method = "host.image", .hosts = (const char *const *)hosts, .n_hosts = n, .params = params,
				   .timeout_ms = STAGE_MS, .keep_going = true, .host_done = chain_host_done, .done = chain_done, .ctx = w};
	if (store_pin(w->owner->store, w->digest, w->pin, err) < 0)
		return -1;
	w->chain = fanout_start(vcd, &args, err);
	if (!w->chain)
		store_unpin(w->owner->store, w->digest, w->pin);
	return w->chain ? 0 : -1;
}

// The names in `planned` that the want has not had yet move to *fresh; both end with NULL.
static int take_fresh(struct want *w, char **planned, char **fresh)
{
	size_t had = vc_strv_len(w->hosts), n = 0;
	char **all = reallocarray(w->hosts, had + vc_strv_len(planned) + 1, sizeof(*all));
	if (!all)
		return -1;
	w->hosts = all;
	w->hosts[had] = NULL;
	for (char **name = planned; *name; name++) {
		if (vc_strv_has(w->hosts, *name) || !(fresh[n] = strdup(*name)))
			continue;
		w->hosts[had] = fresh[n++];
		w->hosts[++had] = NULL;
	}
	return (int)n;
}

static void stage(struct want *w, char **planned)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char **fresh = calloc(vc_strv_len(planned) + 1, sizeof(*fresh)); // the strings are the want's
	int n = fresh ? take_fresh(w, planned, fresh) : -1;
	if (n <= 0)
		return; // where there was no memory the next look finds them again
	if (start_chain(w, fresh, (size_t)n, &err) < 0)
		vc_log_info("image %.12s for queued jobs of uid %u: %s", w->digest, (unsigned)w->uid, err.text);
	else
		vc_log_info("image %.12s goes to %d hosts that Slurm plans for queued jobs of uid %u", w->digest, n, (unsigned)w->uid);
}

// --- what Slurm plans --------------------------------------------------------------------------------------------------------

struct look { // belongs to its job
	struct want *want;
	const struct slurmcheck *slurm;
	struct slurmctl_queue queue;
};

static int look_run(void *ctx, struct vc_error *err)
{
	struct look *l = ctx;
	return slurmcheck_queue(l->slurm, &l->queue, err);
}

static void look_done(void *ctx, const struct vc_error *err)
{
	struct look *l = ctx;
	struct want *w = l->want;
	w->look = NULL;
	if (err)
		vc_log_info("image %.12s for queued jobs of uid %u: %s", w->digest, (unsigned)w->uid, err->text);
	else if (l->queue.jobs == 0 && !w->chain && time(NULL) > w->to)
		forget(w->owner, w); // they run, or are gone
	else if (!w->chain)
		stage(w, l->queue.hosts);
}

static void look_release(void *ctx)
{
	struct look *l = ctx;
	vc_strv_free(l->queue.hosts);
	free(l);
}

static void look(struct want *w)
{
	struct vcd *vcd = w->owner->vcd;
	struct vc_error err = VC_ERROR_INIT;
	struct look *l = calloc(1, sizeof(*l));
	struct work_args args = {.pool = WORK_GENERAL, .what = "hosts of queued jobs", .deadline_ms = SLURM_MS, .run = look_run,
				 .done = look_done, .release = look_release, .ctx = l};
	w->look_at = uv_now(&vcd->loop) + w->wait_ms;
	w->wait_ms = w->wait_ms >= LOOK_MAX_MS / 2 ? LOOK_MAX_MS : w->wait_ms * 2;
	if (!l)
		return;
	*l = (struct look){.want = w, .slurm = vcd->slurmcheck, .queue = {.uid = w->uid, .from = w->from, .to = w->to}};
	if (work_submit(vcd->work, &args, &w->look, &err) < 0)
		look_release(l); // the next turn
}

static void tick(uv_timer_t *timer)
{
	struct prestage *p = timer->data;
	uint64_t now = uv_now(&p->vcd->loop);
	for (struct want *w = p->wants; w; w = w->next) {
		if (!w->look && now >= w->look_at)
			look(w);
	}
}

// --- wants -------------------------------------------------------------------------------------------------------------------

static struct want *find(struct prestage *p, uid_t uid, const char *digest, unsigned *ret_own, unsigned *ret_all)
{
	*ret_own = *ret_all = 0;
	for (struct want *w = p->wants; w; w = w->next) {
		if (w->uid == uid && strcmp(w->digest, digest) == 0)
			return w;
		*ret_own += w->uid == uid;
		++*ret_all;
	}
	return NULL;
}

void prestage_want(struct prestage *p, uid_t uid, const char *digest, time_t when)
{
	unsigned own, all;
	if (p->stopped)
		return;
	struct want *w = find(p, uid, digest, &own, &all);
	if (!w) {
		if (own >= WANTS_PER_USER || all >= WANTS_MAX || !(w = calloc(1, sizeof(*w))))
			return;
		*w = (struct want){.next = p->wants, .owner = p, .uid = uid, .from = when - CLOCKS_S};
		snprintf(w->digest, sizeof(w->digest), "%s", digest);
		snprintf(w->pin, sizeof(w->pin), STORE_PASSING_PIN "%p", (void *)w);
		if (!p->wants)
			uv_timer_start(&p->timer, tick, TICK_MS, TICK_MS);
		p->wants = w;
	}
	uint64_t look_at = uv_now(&p->vcd->loop) + FIRST_LOOK_MS;
	w->to = time(NULL) + SUBMIT_S;
	w->wait_ms = 2 * FIRST_LOOK_MS;
	if (!w->look_at || w->look_at > look_at)
		w->look_at = look_at;
}

struct prestage *prestage_create(struct vcd *vcd, struct store *store, struct vc_error *err)
{
	struct prestage *p = calloc(1, sizeof(*p));
	if (!p) {
		vc_error_errno(err, "images of queued jobs");
		return NULL;
	}
	p->vcd = vcd;
	p->store = store;
	uv_timer_init(&vcd->loop, &p->timer);
	p->timer.data = p;
	return p;
}

void prestage_stop(struct prestage *p)
{
	if (!p || p->stopped)
		return;
	p->stopped = true;
	while (p->wants)
		forget(p, p->wants);
	uv_close((uv_handle_t *)&p->timer, NULL);
}

void prestage_destroy(struct prestage *p)
{
	free(p);
}
