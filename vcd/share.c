// SPDX-License-Identifier: GPL-2.0-or-later
// A cluster's share of this host: see share.h. The blocking part of each step is in sharework.c.
#include "vcd/share_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/fault.h"
#include "vcd/fence.h"
#include "vcd/glink.h"
#include "vcd/gslurm.h"
#include "vcd/host.h"
#include "vcd/hv.h"
#include "vcd/membership.h"
#include "vcd/rpc.h"
#include "vcd/share_int.h"
#include "vcd/image/store.h"
#include "vcd/peer.h"
#include "vcd/startstage.h"
#include "vcd/state.h"
#include "vcd/transfers.h"
#include "vcd/viewhook.h"
#include "vcd/vcd.h"
#include "vcd/vsock.h"
#include "vcd/work.h"

#define FILES_LIMIT_MS 60000u		 // overlays, directories, links: milliseconds on a healthy host
#define RESIZE_MS 1000u			 // between two guest.resize of one guest
#define RUNNABLE_MAX (1u << 20)		 // processes; more than a guest can have
#define CONFIGURE_MS 20000u		 // guest.configure and guest.view: milliseconds, seconds in an overloaded guest
#define RETRY_MS 1000u			 // between two tries to undo a step
#define RENEW_MS 5000u			 // between two guest.renew: several may be lost within a view's validity
#define LINK_LOST_MS 20000u		 // of a guest's link that is down: a reset takes eight seconds at most, and guests may be slow
#define FIRST_VALID_MS 10000u		 // of view 1: until the hosts have confirmed each other; no host is removed sooner than 3 s

struct step {
	const char *name;
	// 0: done, 1: step_done() follows, -1: failed; undo also 2: step_done() has been called
	int (*run)(struct share *s, struct vc_error *err);
	int (*undo)(struct share *s, struct vc_error *err);
	enum start_stage stage; // of the start to which its time belongs
};

static void walk(struct share *s);

static uint64_t now(const struct share *s)
{
	return uv_now(&s->vcd->loop);
}

// --- phases ---------------------------------------------------------------------------------------------------

static const char *const phase_names[] = {
	[SHARE_PREPARING] = "preparing", [SHARE_PREPARED] = "prepared", [SHARE_BOOTING] = "booting",
	[SHARE_UP] = "up",		 [SHARE_FAILED] = "failed",	[SHARE_RELEASING] = "releasing",
};

const char *share_phase_name(enum share_phase phase)
{
	return phase_names[phase];
}

// Most views of a large cluster are read by nobody before the next: none is made before it is asked for.
struct json_object *share_view_json(struct share *s)
{
	struct json_object *made = s->view_is_old && s->membership ? membership_view(s->membership) : NULL;
	if (made) {
		json_object_put(s->view);
		s->view = made;
		s->view_is_old = false;
	}
	return s->view_is_old ? NULL : s->view;
}

static int save_plan(struct share *s, const struct plan *plan, struct vc_error *err)
{
	struct state_share row = {.job = plan->key.job, .restart = plan->key.restart, .phase = phase_names[s->phase]};
	vc_autojson struct json_object *json = plan_to_json(plan), *extra = json_object_new_object();
	if (!json || !extra)
		return vc_error_set(err, ENOMEM, "share of job %s", s->job);
	struct json_object *view = share_view_json(s);
	if (view)
		vc_json_add(extra, "view", json_object_get(view));
	snprintf(row.cluster, sizeof(row.cluster), "%s", plan->id);
	snprintf(row.slurm, sizeof(row.slurm), "%s", plan->key.slurm);
	row.plan = json;
	row.extra = extra;
	return state_share_put(s->vcd->state, &row, err);
}

int share_save(struct share *s, struct vc_error *err)
{
	return save_plan(s, s->work->plan, err);
}

// The database is behind, not wrong, when this fails: the next phase is saved again.
static void set_phase(struct share *s, enum share_phase phase)
{
	struct vc_error err = VC_ERROR_INIT;
	if (s->phase == phase)
		return;
	s->phase = phase;
	vc_log_ctx(VC_LOG_INFO, &s->log, "cluster %s: %s", s->work->short_id, phase_names[phase]);
	if ((s->begun || s->taken_back) && share_save(s, &err) < 0)
		vc_log_ctx(VC_LOG_ERR, &s->log, "cluster %s: %s", s->work->short_id, err.text);
}

// --- waiting requests -----------------------------------------------------------------------------------------

static struct waiter *unlink_waiter(struct waiter *w)
{
	struct waiter **at = &w->share->waiters;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	return w;
}

static void fail_waiter(struct waiter *w, const struct vc_error *err)
{
	unlink_waiter(w);
	rpc_reply_error(w->req, err);
	free(w);
}

static struct json_object *boot_result(struct share *s)
{
	struct json_object *result = json_object_new_object(), *list = json_object_new_array();
	for (size_t i = 0; i < s->n_members; i++) {
		const struct member *m = s->members[i];
		struct json_object *item = json_object_new_object();
		vc_json_add_u64(item, "rank", m->plan->rank);
		uint64_t ms = m->ready_ms > s->boot_began ? m->ready_ms - s->boot_began : 0;
		vc_json_add(item, "seconds", json_object_new_double((double)ms / 1000));
		json_object_array_add(list, item);
	}
	vc_json_add(result, "members", list);
	vc_json_add(result, "stages", start_times_to_json(&s->times, -1));
	return result;
}

static struct json_object *prepare_result(struct share *s)
{
	struct json_object *result = json_object_new_object();
	vc_json_add(result, "stages", start_times_to_json(&s->times, -1));
	return result;
}

static struct json_object *result_of(struct share *s, enum goal goal)
{
	return goal == GOAL_UP ? boot_result(s) : goal == GOAL_PREPARED ? prepare_result(s) : NULL;
}

static bool view_is_everywhere(const struct share *s, uint64_t epoch)
{
	for (size_t i = 0; i < s->n_members; i++) {
		const struct member *m = s->members[i];
		if (!m->down && !m->move && m->epoch < epoch)
			return false;
	}
	return true;
}

static bool goal_reached(struct share *s, const struct waiter *w)
{
	switch (w->goal) {
	case GOAL_PREPARED:
		return s->phase == SHARE_PREPARED || s->phase == SHARE_BOOTING || s->phase == SHARE_UP;
	case GOAL_UP:
		return s->phase == SHARE_UP;
	case GOAL_VIEW:
		return view_is_everywhere(s, w->epoch);
	case GOAL_PLAN:
		return sharegrow_version(s->grow) >= w->epoch;
	case GOAL_IDLE:
		return sharegrow_is_idle(s->grow);
	case GOAL_GONE:
		break;
	}
	return false;
}

void share_answer(struct share *s)
{
	for (struct waiter *next, *w = s->waiters; w; w = next) {
		next = w->next;
		if (!goal_reached(s, w))
			continue;
		unlink_waiter(w);
		rpc_reply(w->req, result_of(s, w->goal));
		free(w);
	}
}

static void fail_waiters(struct share *s, const struct vc_error *err, bool also_release)
{
	for (struct waiter *next, *w = s->waiters; w; w = next) {
		next = w->next;
		if (also_release || w->goal != GOAL_GONE)
			fail_waiter(w, err);
	}
}

static void on_cancel(struct rpc_request *req, void *ctx)
{
	struct vc_error err = VC_ERROR_INIT;
	(void)req;
	vc_error_set(&err, VC_ECANCELED, "the caller went away");
	fail_waiter(ctx, &err);
}

void share_add_waiter(struct share *s, struct rpc_request *req, enum goal goal, uint64_t epoch, uint64_t limit_ms)
{
	struct waiter *w = calloc(1, sizeof(*w));
	struct vc_error err = VC_ERROR_INIT;
	if (!w) {
		vc_error_errno(&err, "share of job %s", s->job);
		rpc_reply_error(req, &err);
		return;
	}
	*w = (struct waiter){.next = s->waiters, .share = s, .req = req, .goal = goal, .epoch = epoch, .deadline = now(s) + limit_ms};
	s->waiters = w;
	rpc_set_job(req, s->job);
	rpc_on_cancel(req, on_cancel, w); // may take it away at once
}

static void progress_of(struct share *s, const char *what, const char *reason, const struct transfer_progress *p)
{
	vc_log_ctx(VC_LOG_DEBUG, &s->log, "cluster %s: %s %s", s->work->short_id, what, reason);
	for (struct waiter *w = s->waiters; w; w = w->next) {
		struct json_object *params = json_object_new_object();
		vc_json_add_str(params, "host", s->work->own_name);
		vc_json_add_str(params, "phase", what);
		vc_json_add_str(params, "reason", reason);
		if (p) {
			vc_json_add_u64(params, "held", p->held);
			vc_json_add_u64(params, "total", p->total);
			vc_json_add_u64(params, "rate", p->rate);
		}
		rpc_notify(w->req, "host.progress", params);
	}
}

static void progress(struct share *s, const char *what, const char *reason)
{
	progress_of(s, what, reason, NULL);
}

// --- the runner -----------------------------------------------------------------------------------------------

static void step_done(struct share *s, const struct vc_error *err);

struct job {
	struct share *share;
	struct sharework *work;
	int (*run)(struct sharework *w, struct vc_error *err);
};

static int job_run(void *ctx, struct vc_error *err)
{
	struct job *job = ctx;
	return job->run(job->work, err);
}

static void job_done(void *ctx, const struct vc_error *err)
{
	struct job *job = ctx;
	step_done(job->share, err);
}

static void job_release(void *ctx)
{
	struct job *job = ctx;
	sharework_unref(job->work);
	free(job);
}

// 1: under way. -1: it could not even be queued.
static int in_worker(struct share *s, enum work_pool pool, const char *what, uint64_t limit_ms,
		     int (*run)(struct sharework *w, struct vc_error *err), struct vc_error *err)
{
	struct job *job = calloc(1, sizeof(*job));
	if (!job)
		return vc_error_errno(err, "%s", what);
	*job = (struct job){s, sharework_ref(s->work), run};
	struct work_args args = {.pool = pool, .what = what, .deadline_ms = limit_ms, .run = job_run, .done = job_done,
				 .release = job_release, .ctx = job};
	if (work_submit(s->vcd->work, &args, NULL, err) == 0)
		return 1;
	job_release(job);
	return -1;
}

static void fail(struct share *s, const struct vc_error *err)
{
	if (s->phase == SHARE_FAILED || s->phase == SHARE_RELEASING)
		return;
	s->error = *err;
	vc_log_ctx(VC_LOG_WARNING, &s->log, "cluster %s failed on this host: %s", s->work->short_id, err->text);
	set_phase(s, SHARE_FAILED);
	fail_waiters(s, err, false);
}

// --- step: persist --------------------------------------------------------------------------------------------

static int run_persist(struct share *s, struct vc_error *err)
{
	if (share_save(s, err) < 0)
		return -1;
	return sharework_mark(s->vcd->conf->run_dir, s->work->plan, err);
}

static int undo_persist(struct share *s, struct vc_error *err)
{
	sharegrow_stop(s->grow);
	membership_leave(vc_steal(&s->membership));
	fence_destroy(vc_steal(&s->fence), true);
	viewhook_destroy(vc_steal(&s->hook));
	if (sharework_unmark(s->vcd->conf->run_dir, s->work->plan, err) < 0 ||
	    membership_forget(s->vcd->membership, s->work->plan->id, err) < 0)
		return -1;
	return state_share_remove(s->vcd->state, s->work->plan->id, err);
}

// --- steps: image, network, disks -----------------------------------------------------------------------------

static int pin_image(struct share *s, struct vc_error *err)
{
	static const struct transfer_progress all = {.held = 1, .total = 1};
	s->idle = false;
	progress_of(s, "image", "is here", &all);
	return in_worker(s, WORK_GENERAL, "pin image", FILES_LIMIT_MS, sharework_image, err);
}

static void image_here(void *ctx, const struct transfer_result *result, const struct vc_error *err)
{
	struct share *s = ctx;
	struct vc_error why = VC_ERROR_INIT;
	s->wish = NULL;
	s->came_at = result && now(s) > result->publish_ms ? now(s) - result->publish_ms : now(s);
	if (err) {
		vc_error_set(&why, err->code, "fetch image %s: %s", s->work->plan->image_name, err->text);
		step_done(s, &why);
		return;
	}
	if (pin_image(s, &why) < 0)
		step_done(s, &why);
}

static void image_progress(void *ctx, const struct transfer_progress *p)
{
	char text[VC_HOSTNAME_MAX + 96];
	snprintf(text, sizeof(text), "%zu of %zu chunks, %.1f MiB/s, from %s", p->held, p->total, (double)p->rate / 1048576,
		 *p->from ? p->from : "nobody yet");
	progress_of(ctx, "image", text, p);
}

// The chain is that of the cluster's hosts, with the controller as its head.
static int run_image(struct share *s, struct vc_error *err)
{
	const struct plan *plan = s->work->plan;
	if (store_has(s->work->store, plan->image_digest))
		return pin_image(s, err);
	vc_autofree const char **hosts = calloc(plan->n_hosts + 1, sizeof(*hosts));
	if (!hosts)
		return vc_error_errno(err, "fetch image %s", plan->image_name);
	size_t n = 0;
	for (size_t i = 0; i < plan->n_hosts; i++) {
		if (!plan->hosts[i].gone)
			hosts[n++] = plan->hosts[i].name;
	}
	struct transfer_args args = {.digest = plan->image_digest, .head = peers_controller(s->vcd->peers), .hosts = hosts,
				     .n_hosts = n, .trace = s->work->trace, .progress = image_progress,
				     .done = image_here, .ctx = s};
	s->wish = transfers_want(s->vcd->transfers, &args, err);
	s->idle = s->wish != NULL;
	return s->wish ? 1 : -1;
}

static int undo_image(struct share *s, struct vc_error *err)
{
	transfer_cancel(vc_steal(&s->wish), false);
	return in_worker(s, WORK_GENERAL, "unpin image", FILES_LIMIT_MS, sharework_unpin, err);
}

static int run_network(struct share *s, struct vc_error *err)
{
	return in_worker(s, WORK_GENERAL, "network", FILES_LIMIT_MS, sharework_network, err);
}

static int undo_network(struct share *s, struct vc_error *err)
{
	if (sharegrow_is_at_network(s->grow)) // it would make again what is removed now
		return vc_error_set(err, VC_EBUSY, "it is just following a later plan");
	return in_worker(s, WORK_GENERAL, "remove network", FILES_LIMIT_MS, sharework_no_network, err);
}

static int run_disks(struct share *s, struct vc_error *err)
{
	return in_worker(s, WORK_GENERAL, "disks", FILES_LIMIT_MS, sharework_disks, err);
}

static int undo_disks(struct share *s, struct vc_error *err)
{
	return in_worker(s, WORK_GENERAL, "remove disks", FILES_LIMIT_MS, sharework_no_disks, err);
}

// --- step: domains --------------------------------------------------------------------------------------------

struct start {
	struct share *share;
	struct sharework *work;
	const struct sharework_machine *machine;
	struct member *member;
	const struct plan_member *plan;
};

static int start_run(void *ctx, struct vc_error *err)
{
	struct start *st = ctx;
	return sharework_start(st->work, st->machine, st->plan, err);
}

static void start_done(void *ctx, const struct vc_error *err)
{
	struct start *st = ctx;
	struct share *s = st->share;
	if (err && !s->start_error.code)
		s->start_error = *err;
	if (!err)
		st->member->running = true;
	if (--s->starting == 0)
		step_done(s, s->start_error.code ? &s->start_error : NULL);
}

static void start_release(void *ctx)
{
	struct start *st = ctx;
	st->work->starts--;
	sharework_unref(st->work);
	free(st);
}

static int submit_start(struct share *s, struct member *m, const struct sharework_machine *machine, struct vc_error *err)
{
	struct start *st = calloc(1, sizeof(*st));
	if (!st)
		return vc_error_errno(err, "member %s", m->plan->name);
	*st = (struct start){s, sharework_ref(s->work), machine, m, m->plan};
	st->work->starts++;
	struct work_args args = {.pool = WORK_HV, .what = "libvirt, start of a domain", .deadline_ms = s->vcd->conf->libvirt_timeout_ms,
				 .run = start_run, .done = start_done, .release = start_release, .ctx = st};
	if (work_submit(s->vcd->work, &args, NULL, err) == 0)
		return 0;
	start_release(st);
	return -1;
}

// Of an adopted share that was up, what does not run has ended: it is reported, not started again.
static bool needs_start(const struct share *s, const struct member *m)
{
	return !m->running && !m->down && !s->adopted && !sharework_comes(s->work, m->plan);
}

static int run_domains(struct share *s, struct vc_error *err)
{
	const struct sharework_machine *machine = NULL;
	int rc = host_machine(s->host, &machine, err);
	if (rc != 0) {
		if (rc > 0)
			progress(s, "hypervisor", "finding out whether KVM boots a kernel on this host");
		s->idle = rc > 0;
		return rc;
	}
	if (!s->adopted)
		set_phase(s, SHARE_BOOTING);
	s->start_error = VC_ERROR_INIT;
	s->starting = 0;
	for (size_t i = 0; i < s->n_members; i++) {
		if (!needs_start(s, s->members[i]))
			continue;
		if (submit_start(s, s->members[i], machine, &s->start_error) < 0)
			break;
		s->starting++;
	}
	if (s->starting)
		return 1;
	if (s->start_error.code && err)
		*err = s->start_error;
	return s->start_error.code ? -1 : 0;
}

// The end of the domains, with a last look at what they have used.
struct ending {
	struct share *share;
	struct sharework *work;
	struct hv_usage *usage; // of each member; zeros: unknown
};

static int ending_run(void *ctx, struct vc_error *err)
{
	struct ending *e = ctx;
	char name[32];
	for (size_t i = 0; i < e->work->n_members; i++)
		(void)hv_usage(e->work->hv, sharework_domain(e->work, e->work->members[i]->rank, name), &e->usage[i], NULL);
	return sharework_kill_all(e->work, err);
}

static void ending_done(void *ctx, const struct vc_error *err)
{
	struct ending *e = ctx;
	struct share *s = e->share;
	struct vc_error busy = VC_ERROR_INIT;
	if (!err && e->work->starts) { // libvirt may still make a domain of it
		vc_error_set(&busy, VC_EBUSY, "libvirt has not come back from the start of a domain");
		err = &busy;
	}
	for (size_t i = 0; !err && i < e->work->n_members; i++) {
		if (!e->usage[i].cpu_ms)
			continue;
		struct json_object *item = json_object_new_object();
		vc_json_add_u64(item, "rank", e->work->members[i]->rank);
		vc_json_add_u64(item, "cpu_ms", e->usage[i].cpu_ms);
		vc_json_add_u64(item, "rss_kib", e->usage[i].rss_kib);
		vc_json_add_u64(item, "peak_kib", e->usage[i].peak_kib);
		if (!s->usage)
			s->usage = json_object_new_array();
		json_object_array_add(s->usage, item);
	}
	step_done(s, err);
}

static void ending_release(void *ctx)
{
	struct ending *e = ctx;
	sharework_unref(e->work);
	free(e->usage);
	free(e);
}

static int undo_domains(struct share *s, struct vc_error *err)
{
	struct ending *e = calloc(1, sizeof(*e));
	struct hv_usage *usage = calloc(s->n_members + 1, sizeof(*usage));
	if (!e || !usage) {
		free(e);
		free(usage);
		return vc_error_set(err, ENOMEM, "destroy domains: out of memory");
	}
	*e = (struct ending){s, sharework_ref(s->work), usage};
	s->work->ending = true;
	struct work_args args = {.pool = WORK_HV, .what = "destroy domains", .deadline_ms = s->vcd->conf->libvirt_timeout_ms * 2,
				 .run = ending_run, .done = ending_done, .release = ending_release, .ctx = e};
	if (work_submit(s->vcd->work, &args, NULL, err) == 0)
		return 1;
	ending_release(e);
	return -1;
}

// --- guests ---------------------------------------------------------------------------------------------------

static void push_view(struct member *m);

static bool all_ready(const struct share *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		if (!s->members[i]->configured && !s->members[i]->down)
			return false;
	}
	return true;
}

static bool in_guests_step(const struct share *s);

// A guest that is not as it should be: while booting the cluster fails, later its member is down.
static void guest_failed(struct member *m, const struct vc_error *err)
{
	struct share *s = m->share;
	if (in_guests_step(s))
		step_done(s, err);
	else
		vc_log_ctx(VC_LOG_WARNING, &s->log, "member %s: %s", m->plan->name, err->text);
}

static void member_ready(struct member *m)
{
	struct share *s = m->share;
	m->configured = true;
	if (!m->ready_ms)
		m->ready_ms = now(s);
	push_view(m);
	if (in_guests_step(s) && all_ready(s))
		step_done(s, NULL);
}

static void configured(void *ctx, struct json_object *result, const struct vc_error *err)
{
	(void)result;
	if (!err)
		member_ready(ctx);
	else if (err->code != ENOTCONN && err->code != VC_ECANCELED) // the next hello tries again
		guest_failed(ctx, err);
}

static struct json_object *configure_params(struct member *m)
{
	const struct plan *plan = m->share->work->plan;
	struct json_object *params = plan_to_json(plan), *mounts = json_object_new_array();
	uint32_t cpus[PLAN_CPUS_MAX];
	for (size_t i = 0; i < plan->spec->n_mounts; i++) {
		struct json_object *item = json_object_new_object();
		char tag[24];
		snprintf(tag, sizeof(tag), "vcm%zu", i);
		vc_json_add_str(item, "tag", tag);
		vc_json_add_str(item, "dst", plan->spec->mounts[i].dst);
		vc_json_add_bool(item, "ro", plan->spec->mounts[i].ro);
		json_object_array_add(mounts, item);
	}
	vc_json_add_u64(params, "rank", m->plan->rank);
	vc_json_add(params, "mounts", mounts);
	vc_json_add_bool(params, "shared_cpus", sharework_cpus(m->share->work, m->plan, cpus) < m->plan->vcpus);
	return params;
}

static void on_hello(void *ctx, struct json_object *params)
{
	struct member *m = ctx;
	struct vc_error err = VC_ERROR_INIT;
	bool done = false;
	uint64_t epoch = 0;
	(void)vc_json_bool_opt(params, "configured", &done, NULL);
	(void)vc_json_u64_opt(params, "epoch", UINT32_MAX, &epoch, NULL);
	m->epoch = done ? epoch : 0;
	if (done) {
		member_ready(m);
		share_answer(m->share);
		return;
	}
	progress(m->share, "guest", m->plan->name);
	if (glink_call(m->link, "guest.configure", configure_params(m), CONFIGURE_MS, configured, m, &err) < 0)
		guest_failed(m, &err);
}

static void on_down(void *ctx)
{
	struct member *m = ctx;
	m->telling = false;
}

static void on_load(void *ctx, struct json_object *params)
{
	struct member *m = ctx;
	if (vc_json_u64(params, "tasks", INT64_MAX, &m->tasks, NULL) < 0 ||
	    vc_json_u64_opt(params, "runnable", RUNNABLE_MAX, &m->runnable, NULL) < 0)
		return;
	double pressure = -1;
	struct json_object *value = NULL;
	if (json_object_object_get_ex(params, "cpu_some_avg10", &value))
		pressure = json_object_get_double(value);
	m->pressure = pressure >= 0 && pressure <= 100 ? (int32_t)(pressure * 10) : -1;
	m->mem_free_kib = 0;
	(void)vc_json_u64_opt(params, "mem_kib", INT64_MAX, &m->mem_free_kib, NULL);
	m->load_at = now(m->share);
	share_answer(m->share);
}

// A program asks for another size. Whose cluster it is, this host knows: the guest says a number only, and not too often.
static void on_resize(void *ctx, struct json_object *params)
{
	struct member *m = ctx;
	uint32_t hosts;
	if (vc_json_u32(params, "hosts", VC_HOSTS_MAX, &hosts, NULL) < 0 || now(m->share) - m->resize_at < RESIZE_MS)
		return;
	m->resize_at = now(m->share);
	host_resize(m->share->host, m->share->work->plan, hosts);
}

static const struct glink_ops link_ops = {.hello = on_hello, .load = on_load, .resize = on_resize, .down = on_down};

static int sink_send(void *ctx, void *route, struct vc_link_frame *frame)
{
	(void)ctx;
	return glink_send(route, frame);
}

static void sink_frame(void *ctx, struct glink *g, struct vc_link_frame *frame)
{
	struct share *s = ctx;
	if (s->gslurm)
		gslurm_input(s->gslurm, g, frame);
}

static void sink_down(void *ctx, struct glink *g)
{
	struct share *s = ctx;
	if (s->gslurm)
		gslurm_route_down(s->gslurm, g);
}

static void sink_writable(void *ctx, struct glink *g)
{
	struct share *s = ctx;
	if (s->gslurm)
		gslurm_route_writable(s->gslurm, g);
}

static int open_gslurm(struct share *s, struct vc_error *err)
{
	static const struct gslurm_ops ops = {.send_frame = sink_send};
	struct gslurm_config conf = {.loop = &s->vcd->loop, .plan = s->work->plan};
	if (!s->gslurm)
		s->gslurm = gslurm_create(&conf, &ops, s, err);
	return s->gslurm ? 0 : -1;
}

int share_open_link(struct member *m, struct vc_error *err)
{
	struct share *s = m->share;
	struct glink_sink sink = {sink_frame, sink_down, sink_writable, s};
	char path[108];
	if (m->link || m->down || sharework_comes(s->work, m->plan))
		return 0;
	if (sharework_socket(s->work, m->plan->rank, "link", path, sizeof(path), err) < 0)
		return -1;
	m->link = glink_create(&s->vcd->loop, path, m->plan->name, &link_ops, m, err);
	if (m->link)
		glink_set_sink(m->link, &sink);
	return m->link ? 0 : -1;
}

static int open_links(struct share *s, struct vc_error *err)
{
	if (s->work->no_guests)
		return 0;
	if (open_gslurm(s, err) < 0)
		return -1;
	for (size_t i = 0; i < s->n_members; i++) {
		if (share_open_link(s->members[i], err) < 0)
			return -1;
	}
	return 0;
}

static int run_guests(struct share *s, struct vc_error *err)
{
	if (open_links(s, err) < 0)
		return -1;
	s->boot_limit = now(s) + s->vcd->conf->boot_timeout_ms;
	for (size_t i = 0; s->work->no_guests && i < s->n_members; i++)
		s->members[i]->configured = true;
	// an adopted share is up whether its guests answer or not
	s->idle = !s->adopted && !all_ready(s);
	return s->idle ? 1 : 0;
}

static void gslurm_gone(void *arg)
{
	struct share *s = arg;
	s->gslurm_closing = false;
	step_done(s, NULL);
}

static void close_links(struct share *s, const char *code, const char *message)
{
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = s->members[i];
		glink_close(vc_steal(&m->link), code, message);
		m->configured = m->telling = false;
	}
}

static int undo_guests(struct share *s, struct vc_error *err)
{
	(void)err;
	close_links(s, "released", "the virtual cluster is being released");
	if (!s->gslurm)
		return s->gslurm_closing ? 1 : 0;
	s->gslurm_closing = true;
	s->busy = true; // done may come from inside
	gslurm_destroy(vc_steal(&s->gslurm), gslurm_gone, s);
	return s->gslurm_closing ? 1 : 2;
}

// --- the table ------------------------------------------------------------------------------------------------

static const struct step steps[] = {
	{"plan", run_persist, undo_persist, START_DEFINE},
	{"image", run_image, undo_image, START_PUBLISH}, // behind the transfer
	{"network", run_network, undo_network, START_DEFINE},
	{"disks", run_disks, undo_disks, START_DEFINE},
	{"domains", run_domains, undo_domains, START_DEFINE}, // the first step of booting
	{"guests", run_guests, undo_guests, START_BOOT},
};
enum { STEPS_PREPARED = 4, STEPS_UP = VC_ARRAY_LEN(steps) };

static bool in_guests_step(const struct share *s)
{
	return s->busy && !s->undoing && s->begun == STEPS_UP;
}

static size_t goal_steps(const struct share *s)
{
	return s->goal == GOAL_UP ? STEPS_UP : STEPS_PREPARED;
}

static void step_ended(struct share *s)
{
	uint64_t from = s->step_began, transfer = s->came_at > from ? s->came_at - from : 0;
	s->times.ms[START_TRANSFER] += transfer;
	s->times.ms[steps[s->begun - 1].stage] += now(s) - from - transfer;
	s->came_at = 0;
}

static void run_failed(struct share *s, const struct vc_error *err)
{
	if (s->adopted)
		vc_log_ctx(VC_LOG_ERR, &s->log, "cluster %s was taken back, but: %s", s->work->short_id, err->text);
	else
		fail(s, err);
}

static void undo_failed(struct share *s, size_t step, const struct vc_error *err)
{
	vc_log_ctx(VC_LOG_WARNING, &s->log, "release of cluster %s, %s: %s; trying again", s->work->short_id, steps[step].name,
		   err->text);
	s->error = *err;
	s->retry_at = now(s) + RETRY_MS;
}

static void reached(struct share *s)
{
	if (s->phase == SHARE_FAILED || s->phase == SHARE_RELEASING)
		return;
	if (s->begun == STEPS_UP)
		set_phase(s, SHARE_UP);
	else if (s->begun == STEPS_PREPARED && s->goal == GOAL_PREPARED)
		set_phase(s, SHARE_PREPARED);
	share_answer(s);
}

// 0: a step ended at once; 1: one is under way, or there is nothing to do.
static int forward(struct share *s)
{
	struct vc_error err = VC_ERROR_INIT;
	if (s->phase == SHARE_FAILED || s->begun >= goal_steps(s)) {
		reached(s);
		return 1;
	}
	const struct step *step = &steps[s->begun++];
	progress(s, step->name, "");
	if (VC_FAULT(step->name))
		vc_error_set(&err, VC_EFAILED, "fault point %s", step->name);
	s->busy = true;
	s->idle = false;
	s->step_began = now(s);
	int rc = err.code ? -1 : step->run(s, &err);
	if (rc == 1)
		return 1;
	s->busy = false;
	step_ended(s);
	if (rc < 0)
		run_failed(s, &err);
	return 0;
}

static bool undo_fault(const struct step *step)
{
	char point[32];
	snprintf(point, sizeof(point), "undo-%s", step->name);
	return VC_FAULT(point);
}

static int backward(struct share *s)
{
	struct vc_error err = VC_ERROR_INIT;
	if (s->taken_back)
		s->begun = STEPS_UP;
	s->taken_back = false;
	if (s->begun == 0 || s->retry_at)
		return 1;
	const struct step *step = &steps[s->begun - 1];
	s->busy = s->undoing = true;
	s->idle = false;
	int rc = undo_fault(step) ? vc_error_set(&err, VC_EFAILED, "fault point undo-%s", step->name) : step->undo(s, &err);
	if (rc >= 1)
		return rc == 1 ? 1 : 0; // 2: step_done() was called from inside
	s->busy = s->undoing = false;
	if (rc < 0)
		undo_failed(s, s->begun - 1, &err);
	else
		s->begun--;
	return 0;
}

static void gone(struct share *s)
{
	for (struct waiter *w; (w = s->waiters);) {
		unlink_waiter(w);
		rpc_reply(w->req, share_usage(s));
		free(w);
	}
	vc_log_ctx(VC_LOG_INFO, &s->log, "cluster %s: released, nothing is left of it on this host", s->work->short_id);
	host_share_gone(s->host, s);
}

static void walk(struct share *s)
{
	if (s->in_walk || s->stopped)
		return;
	s->in_walk = true;
	while (!s->busy && (s->goal == GOAL_GONE ? backward(s) : forward(s)) == 0)
		;
	s->in_walk = false;
	if (!s->busy && s->goal == GOAL_GONE && s->begun == 0)
		gone(s);
}

static void step_done(struct share *s, const struct vc_error *err)
{
	bool undoing = s->undoing;
	if (!s->busy)
		return;
	s->busy = s->undoing = false;
	if (!undoing)
		step_ended(s);
	if (undoing && err)
		undo_failed(s, s->begun - 1, err);
	else if (undoing)
		s->begun--;
	else if (err)
		run_failed(s, err);
	walk(s);
}

// --- the view -------------------------------------------------------------------------------------------------

// What is known of a member here, for the others: by each tick, and at once when what it waits for has come.
static void tell_membership(struct member *m)
{
	const struct share *s = m->share;
	if (!s->membership || s->phase != SHARE_UP || s->paused || !m->running || m->down || m->move)
		m->linked_at = 0;
	else if (s->work->no_guests || (m->configured && m->link && glink_is_up(m->link)) || !m->linked_at)
		m->linked_at = now(s);
	if (!m->linked_at)
		return;
	bool linked = now(s) - m->linked_at < LINK_LOST_MS;
	if (m->configured || !linked)
		membership_member_runs(s->membership, m->plan->rank, m->epoch, linked);
}

struct telling {
	struct member *member;
	uint64_t epoch; // of the view that was sent: a later one may have come meanwhile
};

static void view_told(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct telling *t = ctx;
	struct member *m = t->member;
	(void)result;
	m->telling = false;
	if (!err)
		m->epoch = t->epoch;
	else if (err->code != ENOTCONN && err->code != VC_ECANCELED)
		vc_log_ctx(VC_LOG_WARNING, &m->share->log, "member %s: %s", m->plan->name, err->text);
	m->tell_at = err ? now(m->share) + RETRY_MS : 0;
	free(t);
	push_view(m);
	tell_membership(m); // it may be active by that
	share_answer(m->share);
}

uint64_t share_valid_ms(const struct share *s)
{
	uint64_t ms = s->membership && !s->removed ? membership_valid_ms(s->membership) : 0;
	uint64_t first = s->first_valid > now(s) && !s->removed ? s->first_valid - now(s) : 0;
	return ms > first ? ms : first;
}

static void push_view(struct member *m)
{
	struct share *s = m->share;
	struct vc_error err = VC_ERROR_INIT;
	if (s->work->no_guests)
		m->epoch = s->epoch;
	if (m->epoch >= s->epoch || m->telling || !m->configured || !m->link || now(s) < m->tell_at)
		return;
	struct json_object *view = share_view_json(s);
	if (!view)
		return;
	struct json_object *params = json_object_new_object();
	struct telling *t = calloc(1, sizeof(*t));
	uint64_t known = s->removed ? 1 : share_valid_ms(s), valid = known;
	if (!valid && !m->epoch) // of a host that has come later, and is not confirmed yet; otherwise what was said of an earlier one holds
		valid = 1;
	if (!t || vc_json_add(params, "view", json_object_get(view)) < 0 || (valid && vc_json_add_u64(params, "valid_ms", valid) < 0)) {
		json_object_put(params);
		free(t);
		return; // the tick tries again
	}
	*t = (struct telling){m, s->epoch};
	m->telling = true;
	m->renew_at = known ? now(s) + RENEW_MS : 0;
	if (glink_call(m->link, "guest.view", params, CONFIGURE_MS, view_told, t, &err) < 0) {
		m->telling = false;
		free(t);
	}
}

static void renewed(void *ctx, struct json_object *result, const struct vc_error *err)
{
	const struct member *m = ctx;
	(void)result;
	if (err) // the next one may come through
		vc_log_ctx(VC_LOG_DEBUG, &m->share->log, "member %s: %s", m->plan->name, err->text);
}

// Its host confirms the view of a guest, or, once it was removed, takes that back. A paused machine does not answer.
static void renew(struct member *m)
{
	struct share *s = m->share;
	struct vc_error err = VC_ERROR_INIT;
	uint64_t valid = s->removed ? 1 : share_valid_ms(s);
	if (!s->membership || !valid || !m->link || !m->epoch || m->epoch < s->epoch || m->telling || s->paused || now(s) < m->renew_at)
		return;
	struct json_object *params = json_object_new_object();
	m->renew_at = now(s) + RENEW_MS;
	vc_json_add_u64(params, "epoch", m->epoch);
	vc_json_add_u64(params, "valid_ms", valid);
	if (glink_call(m->link, "guest.renew", params, CONFIGURE_MS, renewed, m, &err) < 0)
		renewed(m, NULL, &err);
}

// old: the last view that was made here
static void tell_hook(struct share *s, struct json_object *old)
{
	struct json_object *view = s->vcd->conf->view_hook[0] ? share_view_json(s) : NULL;
	if (!view)
		return;
	if (!s->hook && (s->hook = viewhook_create(s->vcd, s->work)) && old)
		viewhook_view(s->hook, old, s->epoch);
	if (s->hook)
		viewhook_view(s->hook, view, s->epoch);
}

static void spread_view(struct share *s, struct json_object *old)
{
	tell_hook(s, old);
	share_moves_follow(s);
	for (size_t i = 0; i < s->n_members; i++) {
		push_view(s->members[i]);
		if (s->members[i]->down && s->membership) // said while it was on its way, it was not heard
			membership_member_down(s->membership, s->members[i]->plan->rank);
		tell_membership(s->members[i]);
	}
}

// NULL: the one that the hosts agreed on; while the share joins them it is told what there is before it can ask for it
static void take_view(struct share *s, struct json_object *view, uint64_t epoch)
{
	vc_autojson struct json_object *old = json_object_get(s->view);
	if (view) {
		json_object_put(s->view);
		s->view = json_object_get(view);
	}
	s->view_is_old = !view;
	s->epoch = epoch;
	if (s->membership)
		spread_view(s, old);
}

static void on_agreed(void *ctx, uint64_t epoch)
{
	struct share *s = ctx;
	if (epoch > s->epoch) // it is in the membership's record: the share's own row is not written again
		take_view(s, NULL, epoch);
	share_answer(s);
}

static void on_removed(void *ctx)
{
	struct share *s = ctx;
	vc_log_ctx(VC_LOG_WARNING, &s->log, "cluster %s: its members here are no longer part of it", s->work->short_id);
	s->removed = true;
	for (size_t i = 0; i < s->n_members; i++)
		s->members[i]->renew_at = 0; // their view is stale at once
	sharegrow_removed(s->grow);
}

static void on_returned(void *ctx)
{
	struct share *s = ctx;
	s->removed = false;
	for (size_t i = 0; i < s->n_members; i++)
		s->members[i]->renew_at = 0;
}

static void on_lacks_plan(void *ctx)
{
	struct share *s = ctx;
	sharegrow_lacks_plan(s->grow);
}

// From here on the hosts make the views.
int share_join(struct share *s, enum membership_begin begin, struct vc_error *err)
{
	static const struct membership_ops ops = {
		.view = on_agreed, .removed = on_removed, .returned = on_returned, .lacks_plan = on_lacks_plan};
	if (!s->fence && !(s->fence = fence_create(s->vcd, s->work, begin == MEMBERSHIP_AGAIN, err)))
		return -1;
	if (begin == MEMBERSHIP_FIRST)
		s->first_valid = now(s) + FIRST_VALID_MS;
	s->membership = membership_join(s->vcd->membership, s->work->plan, begin, &ops, s, err);
	if (s->membership && s->view_is_old) {
		vc_autojson struct json_object *old = json_object_get(s->view);
		spread_view(s, old);
	}
	if (s->membership && membership_is_removed(s->membership))
		on_removed(s);
	return s->membership ? 0 : -1;
}

int share_view(struct share *s, struct json_object *view, struct rpc_request *req, struct vc_error *err)
{
	uint64_t epoch;
	if (vc_json_u64(view, "epoch", UINT32_MAX, &epoch, err) < 0)
		return -1;
	if (s->phase != SHARE_UP)
		return vc_error_set(err, VC_EBUSY, "the cluster is %s on host %s, not up", phase_names[s->phase], s->work->own_name);
	if (!s->membership && share_join(s, MEMBERSHIP_FIRST, err) < 0)
		return -1;
	if (epoch > s->epoch)
		take_view(s, view, epoch);
	if (share_save(s, err) < 0)
		return -1;
	share_add_waiter(s, req, GOAL_VIEW, s->epoch, CONFIGURE_MS);
	share_answer(s);
	return 0;
}

// --- requests -------------------------------------------------------------------------------------------------

static void want(struct share *s, struct rpc_request *req, enum goal goal)
{
	struct vc_error err = VC_ERROR_INIT;
	if (s->phase == SHARE_FAILED || s->phase == SHARE_RELEASING) {
		if (s->phase == SHARE_FAILED)
			err = s->error;
		else
			vc_error_set(&err, VC_ECANCELED, "the cluster of job %s is being released", s->job);
		rpc_reply_error(req, &err);
		return;
	}
	if (s->goal < goal)
		s->goal = goal;
	share_add_waiter(s, req, goal, s->epoch, s->vcd->conf->ensure_timeout_ms);
	walk(s);
	share_answer(s);
}

void share_prepare(struct share *s, struct rpc_request *req)
{
	want(s, req, GOAL_PREPARED);
}

void share_boot(struct share *s, struct rpc_request *req)
{
	if (!s->boot_began)
		s->boot_began = now(s);
	want(s, req, GOAL_UP);
}

void share_release(struct share *s, struct rpc_request *req)
{
	struct vc_error err = VC_ERROR_INIT;
	if (s->goal != GOAL_GONE) {
		bool idle = s->busy && s->idle;
		s->goal = GOAL_GONE;
		s->adopted = false;
		share_moves_stop(s);
		set_phase(s, SHARE_RELEASING);
		vc_error_set(&err, VC_ECANCELED, "the cluster of job %s is being released", s->job);
		fail_waiters(s, &err, false);
		if (idle)
			s->busy = false;
	}
	if (req)
		share_add_waiter(s, req, GOAL_GONE, s->epoch, s->vcd->conf->release_timeout_ms);
	walk(s); // may free s
}

void share_end(struct share *s, struct rpc_request *req)
{
	uint64_t limit = s->vcd->conf->release_timeout_ms;
	if (s->phase != SHARE_UP || !host_has_steps(s->host, s->work->plan)) {
		share_release(s, req);
		return;
	}
	share_add_waiter(s, req, GOAL_GONE, s->epoch, limit);
	if (!s->end_by)
		s->end_by = now(s) + limit;
}

// --- a suspended job --------------------------------------------------------------------------------------------

struct pausing { // belongs to the worker's job; the request outlives a share that is released meanwhile
	struct sharework *work;
	struct rpc_request *req;
	bool pause;
};

static int pausing_run(void *ctx, struct vc_error *err)
{
	struct pausing *p = ctx;
	return sharework_pause_all(p->work, p->pause, err);
}

static void pausing_done(void *ctx, const struct vc_error *err)
{
	struct pausing *p = ctx;
	if (err)
		rpc_reply_error(p->req, err);
	else
		rpc_reply(p->req, NULL);
}

static void pausing_release(void *ctx)
{
	struct pausing *p = ctx;
	sharework_unref(p->work);
	free(p);
}

int share_pause(struct share *s, bool pause, struct rpc_request *req, struct vc_error *err)
{
	if (s->phase != SHARE_UP)
		return vc_error_set(err, VC_EBUSY, "the cluster is %s on host %s, not up", phase_names[s->phase], s->work->own_name);
	struct pausing *p = calloc(1, sizeof(*p));
	if (!p)
		return vc_error_errno(err, "pause");
	*p = (struct pausing){sharework_ref(s->work), req, pause};
	struct work_args args = {.pool = WORK_HV, .what = pause ? "pause domains" : "resume domains",
				 .deadline_ms = s->vcd->conf->libvirt_timeout_ms, .run = pausing_run, .done = pausing_done,
				 .release = pausing_release, .ctx = p};
	if (work_submit(s->vcd->work, &args, NULL, err) < 0) {
		pausing_release(p);
		return -1;
	}
	s->paused = pause;
	return 0;
}

bool share_is_paused(const struct share *s)
{
	return s->paused;
}

// --- what happens by itself -----------------------------------------------------------------------------------

void share_machine_ready(struct share *s, const struct vc_error *err)
{
	if (!s->busy || !s->idle || steps[s->begun - 1].run != run_domains)
		return;
	if (err) {
		step_done(s, err);
		return;
	}
	s->busy = false;
	s->begun--; // again, now with the machine
	walk(s);
}

struct member *share_member(struct share *s, uint32_t rank)
{
	for (size_t i = 0; i < s->n_members; i++) {
		if (s->members[i]->plan->rank == rank)
			return s->members[i];
	}
	return NULL;
}

void share_member_stopped(struct share *s, struct member *m, const char *reason)
{
	struct vc_error err = VC_ERROR_INIT;
	char tail[SHAREWORK_TAIL];
	if (m->down || m->move || s->goal == GOAL_GONE) // of one on its way sharemove.c knows
		return;
	m->down = true;
	m->running = false;
	sharework_console_tail(s->work, m->plan->rank, tail, sizeof(tail));
	vc_error_set(&err, VC_EFAILED, "member %s stopped: %s%s%s", m->plan->name, reason,
		     tail[0] ? "; its console's last lines: " : "", tail);
	vc_log_ctx(VC_LOG_WARNING, &s->log, "%s", err.text);
	glink_close(vc_steal(&m->link), "member-down", err.text);
	if (s->phase != SHARE_UP) {
		guest_failed(m, &err);
		return;
	}
	host_member_event(s->host, s->work->plan, m->plan->rank, "down", err.text);
	if (s->membership)
		membership_member_down(s->membership, m->plan->rank);
	share_answer(s);
}

void share_domain_stopped(struct share *s, uint32_t rank, const char *reason)
{
	struct member *m = share_member(s, rank);
	if (m && (s->phase == SHARE_UP || in_guests_step(s)))
		share_member_stopped(s, m, reason);
}

static bool runs(const struct share *s, const struct member *m, char *const *running)
{
	char name[32];
	sharework_domain(s->work, m->plan->rank, name);
	for (size_t i = 0; running[i]; i++) {
		if (strcmp(running[i], name) == 0)
			return true;
	}
	return false;
}

void share_poll_begins(struct share *s)
{
	s->polled = s->phase == SHARE_UP || in_guests_step(s);
}

void share_domains_seen(struct share *s, char *const *running)
{
	if (!s->polled) // its domains may have started after the list was made
		return;
	for (size_t i = 0; i < s->n_members; i++) {
		struct member *m = s->members[i];
		if (m->running && !m->down && !runs(s, m, running))
			share_domain_stopped(s, m->plan->rank, "its domain is gone");
	}
}

static void boot_too_long(struct share *s)
{
	struct vc_error err = VC_ERROR_INIT;
	char tail[SHAREWORK_TAIL];
	const struct member *late = s->members[0];
	for (size_t i = 0; i < s->n_members; i++) {
		if (!s->members[i]->configured && !s->members[i]->down)
			late = s->members[i];
	}
	sharework_console_tail(s->work, late->plan->rank, tail, sizeof(tail));
	vc_error_set(&err, VC_ETIMEDOUT, "member %s did not come up within %" PRIu64 " s; its console's last lines: %s", late->plan->name,
		     s->vcd->conf->boot_timeout_ms / 1000, tail[0] ? tail : "(none)");
	step_done(s, &err);
}

static void expire_waiters(struct share *s)
{
	struct vc_error err = VC_ERROR_INIT;
	for (struct waiter *next, *w = s->waiters; w; w = next) {
		next = w->next;
		if (now(s) < w->deadline)
			continue;
		vc_error_set(&err, VC_ETIMEDOUT, "job %s on host %s: still %s%s%s", s->job, s->work->own_name, phase_names[s->phase],
			     s->error.code ? ": " : "", s->error.code ? s->error.text : "");
		fail_waiter(w, &err);
	}
}

void share_tick(struct share *s)
{
	expire_waiters(s);
	for (size_t i = 0; i < s->n_members; i++) {
		push_view(s->members[i]);
		renew(s->members[i]);
		tell_membership(s->members[i]);
	}
	share_moves_tick(s);
	if (s->hook)
		viewhook_tick(s->hook);
	if (s->fence && s->goal != GOAL_GONE)
		fence_tick(s->fence, share_valid_ms(s), s->removed, s->paused);
	if (in_guests_step(s) && now(s) > s->boot_limit)
		boot_too_long(s);
	if (s->end_by && s->goal != GOAL_GONE && (now(s) >= s->end_by || !host_has_steps(s->host, s->work->plan))) {
		share_release(s, NULL); // may free s
	} else if (s->retry_at && now(s) >= s->retry_at) {
		s->retry_at = 0;
		walk(s); // may free s
	} else {
		sharegrow_tick(s->grow); // may free s
	}
}

// --- life -----------------------------------------------------------------------------------------------------

static struct member *new_member(struct share *s, const struct plan_member *plan)
{
	struct member *m = calloc(1, sizeof(*m));
	if (m)
		*m = (struct member){.share = s, .plan = plan};
	return m;
}

static void free_members(struct member **members, size_t n)
{
	for (size_t i = 0; members && i < n; i++) {
		share_move_free(members[i]);
		free(members[i]);
	}
	free(members);
}

static struct member **new_members(struct share *s, const struct sharework *work)
{
	struct member **members = calloc(work->n_members + 1, sizeof(*members));
	for (size_t i = 0; members && i < work->n_members; i++) {
		if ((members[i] = new_member(s, work->members[i])))
			continue;
		free_members(members, i);
		members = NULL;
	}
	return members;
}

// Members that are in both keep what is known of them.
static void take_members(struct share *s, struct sharework *work, struct member **members)
{
	for (size_t i = 0; i < work->n_members; i++) {
		for (size_t k = 0; k < s->n_members; k++) {
			if (s->members[k]->plan->rank != work->members[i]->rank)
				continue;
			struct member *kept = s->members[k];
			s->members[k] = members[i];
			members[i] = kept;
			break;
		}
	}
	for (size_t k = 0; k < s->n_members; k++)
		glink_close(vc_steal(&s->members[k]->link), NULL, "the member has moved");
	free_members(s->members, s->n_members);
	s->members = members;
	s->n_members = work->n_members;
	for (size_t i = 0; i < s->n_members; i++)
		members[i]->plan = work->members[i];
	sharegrow_keep(s->grow, s->work);
	s->work = work;
	if (s->fence)
		fence_set_work(s->fence, work);
}

static struct plan *plan_with(const struct plan *plan, uint32_t rank, uint32_t host, uint32_t to, struct vc_error *err)
{
	vc_autojson struct json_object *json = plan_to_json(plan);
	struct plan *new = plan_from_json(json, err);
	for (size_t i = 0; new && i < new->n_members; i++) {
		if (new->members[i].rank != rank)
			continue;
		new->members[i].host = host;
		new->members[i].to = to;
	}
	return new;
}

int share_replan(struct share *s, uint32_t rank, uint32_t host, uint32_t to, struct vc_error *err)
{
	struct plan *plan = plan_with(s->work->plan, rank, host, to, err);
	struct sharework *work = plan ? sharework_replan(s->vcd, s->work, plan, err) : NULL;
	struct member **members = work ? new_members(s, work) : NULL;
	if (members && save_plan(s, work->plan, err) == 0) {
		take_members(s, work, members);
		return 0;
	}
	free_members(members, members ? work->n_members : 0);
	sharework_unref(work);
	return err && err->code ? -1 : vc_error_set(err, ENOMEM, "share of job %s: out of memory", s->job);
}

bool share_knows_machine(struct share *s, const struct sharework_machine **ret, struct vc_error *err)
{
	int rc = host_machine(s->host, ret, err);
	if (rc > 0)
		vc_error_set(err, VC_EBUSY, "host %s still finds out how it starts guests", s->work->own_name);
	return rc == 0;
}

struct share *share_create(struct host *host, struct sharework *work, struct vc_error *err)
{
	struct share *s = calloc(1, sizeof(*s));
	struct member **members = s ? new_members(s, work) : NULL;
	if (!members) {
		vc_error_errno(err, "share of job %u", work->plan->key.job);
		free(s);
		sharework_unref(work);
		return NULL;
	}
	*s = (struct share){.host = host, .vcd = host_vcd(host), .work = work, .members = members, .n_members = work->n_members};
	s->goal = GOAL_PREPARED;
	snprintf(s->job, sizeof(s->job), "%" PRIu32, work->plan->key.job);
	s->log.job = s->job;
	s->log.trace = work->trace[0] ? work->trace : NULL;
	if ((s->grow = sharegrow_create(s)))
		return s;
	vc_error_errno(err, "share of job %s", s->job);
	share_destroy(s);
	return NULL;
}

static void restore_view(struct share *s, struct json_object *extra)
{
	struct json_object *view = NULL;
	if (!extra || !json_object_object_get_ex(extra, "view", &view) || !view)
		return;
	if (vc_json_u64(view, "epoch", UINT32_MAX, &s->epoch, NULL) < 0)
		return;
	s->view = json_object_get(view);
	if ((s->hook = viewhook_create(s->vcd, s->work)))
		viewhook_view(s->hook, view, s->epoch);
}

void share_take_back(struct share *s, const char *phase, struct json_object *extra, char *const *running)
{
	struct vc_error err = VC_ERROR_INIT;
	for (size_t i = 0; i < s->n_members; i++)
		s->members[i]->running = runs(s, s->members[i], running);
	restore_view(s, extra);
	s->taken_back = true;
	if (strcmp(phase, "releasing") == 0 || strcmp(phase, "failed") == 0) {
		share_release(s, NULL);
		return;
	}
	sharegrow_taken_back(s->grow);
	if (strcmp(phase, "booting") == 0)
		s->goal = GOAL_UP;
	if (strcmp(phase, "up") == 0) {
		s->goal = GOAL_UP;
		s->adopted = true;
		s->phase = SHARE_UP;
		if (open_links(s, &err) < 0) // at once: vcexecs come back before the steps are through
			vc_log_ctx(VC_LOG_ERR, &s->log, "%s", err.text);
		if (share_join(s, MEMBERSHIP_AGAIN, &err) < 0 && (s->view || err.code != VC_ENOTFOUND))
			vc_log_ctx(VC_LOG_ERR, &s->log, "%s", err.text);
	}
	share_moves_take_back(s);
	for (size_t i = 0; s->adopted && i < s->n_members; i++) {
		if (!s->members[i]->running)
			share_member_stopped(s, s->members[i], "it ended while vcd was away");
	}
	walk(s);
}

void share_stop(struct share *s)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "vcd on host %s stops", s->work->own_name);
	s->stopped = true;
	sharegrow_stop(s->grow);
	share_moves_stop(s);
	membership_leave(vc_steal(&s->membership));
	fence_destroy(vc_steal(&s->fence), false);
	viewhook_destroy(vc_steal(&s->hook));
	transfer_cancel(vc_steal(&s->wish), false);
	fail_waiters(s, &err, true);
	for (size_t i = 0; i < s->n_members; i++)
		glink_close(vc_steal(&s->members[i]->link), NULL, "vcd stops");
	if (s->gslurm)
		gslurm_destroy(vc_steal(&s->gslurm), NULL, NULL);
}

void share_destroy(struct share *s)
{
	if (!s)
		return;
	json_object_put(s->view);
	json_object_put(s->usage);
	sharegrow_destroy(s->grow);
	free_members(s->members, s->n_members);
	sharework_unref(s->work);
	free(s);
}

// --- what others ask ------------------------------------------------------------------------------------------

enum share_phase share_phase(const struct share *s)
{
	return s->phase;
}

const struct vc_error *share_error(const struct share *s)
{
	return &s->error;
}

struct sharework *share_work(struct share *s)
{
	return s->work;
}

struct share *share_next(const struct share *s)
{
	return s->next;
}

void share_set_next(struct share *s, struct share *next)
{
	s->next = next;
}

struct glink *share_link(struct share *s, uint32_t rank, struct vc_error *err)
{
	struct member *m = share_member(s, rank);
	if (!m)
		vc_error_set(err, VC_EUSER, "member %" PRIu32 " of job %s is not on host %s", rank, s->job, s->work->own_name);
	else if (m->down)
		vc_error_set(err, VC_EFAILED, "member %s of job %s is down", m->plan->name, s->job);
	else if (!m->link)
		vc_error_set(err, VC_EBUSY, "member %s of job %s is not up: the cluster is %s", m->plan->name, s->job, phase_names[s->phase]);
	else
		return m->link;
	return NULL;
}

bool share_take_link(struct share *s, uint32_t cid, int fd)
{
	for (size_t i = 0; i < s->n_members; i++) {
		if (vsock_cid(s->work->plan->net.vni, i) != cid)
			continue;
		if (s->members[i]->link)
			glink_take(s->members[i]->link, fd);
		else
			close(fd); // it has just started, or ends: it tries again
		return true;
	}
	return false;
}

static const char *member_state(const struct member *m)
{
	if (m->down)
		return "down";
	if (m->move)
		return sharework_comes(m->share->work, m->plan) ? "coming" : "leaving";
	if (m->configured)
		return m->link && !glink_is_up(m->link) ? "link-lost" : "up";
	return m->running ? "booting" : "absent";
}

struct json_object *share_usage(const struct share *s)
{
	if (!s->usage)
		return NULL;
	struct json_object *result = json_object_new_object();
	vc_json_add(result, "usage", json_object_get(s->usage));
	return result;
}

struct json_object *share_inventory(struct share *s)
{
	const struct plan *plan = s->work->plan;
	struct json_object *obj = json_object_new_object(), *list = json_object_new_array();
	vc_json_add_str(obj, "cluster", plan->id);
	vc_json_add_str(obj, "slurm", plan->key.slurm);
	vc_json_add_u64(obj, "job", plan->key.job);
	vc_json_add_u64(obj, "restart", plan->key.restart);
	vc_json_add_str(obj, "phase", phase_names[s->phase]);
	vc_json_add_u64(obj, "epoch", s->epoch);
	for (size_t i = 0; i < s->n_members; i++) {
		struct json_object *item = json_object_new_object();
		vc_json_add_u64(item, "rank", s->members[i]->plan->rank);
		vc_json_add_str(item, "state", member_state(s->members[i]));
		json_object_array_add(list, item);
	}
	vc_json_add(obj, "members", list);
	return obj;
}
