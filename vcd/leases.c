// SPDX-License-Identifier: GPL-2.0-or-later
// The book of leases on the controller's loop: see leases.h.
#include "vcd/leases_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/fault.h"
#include "vcd/grow.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define ITEM_KIND "leases" // of the book's row in the state database
#define ITEM_KEY "book"

int64_t leases_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct lease_cluster *leases_cluster(struct leases *l, uint32_t job)
{
	for (struct lease_cluster *c = l->clusters; c; c = c->next) {
		if (c->job == job)
			return c;
	}
	return NULL;
}

struct lease_run *leases_run(struct leases *l, uint64_t lease)
{
	for (struct lease_run *r = l->runs; r; r = r->next) {
		if (r->lease == lease)
			return r;
	}
	struct lease_run *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	*r = (struct lease_run){.next = l->runs, .owner = l, .lease = lease};
	l->runs = r;
	return r;
}

uint32_t leases_live(const struct leases *l, uint32_t job)
{
	return leasebook_count(&l->book, job, LEASE_WANTED, LEASE_HELD);
}

// --- the row ------------------------------------------------------------------------------------------------------------

static struct json_object *cluster_to_json(const struct lease_cluster *c)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "job", c->job);
	vc_json_add_str(obj, "id", c->id);
	vc_json_add_u64(obj, "uid", c->uid);
	vc_json_add_u64(obj, "wanted", c->wanted);
	vc_json_add_str(obj, "policy", c->elastic.policy);
	vc_json_add_u64(obj, "weight", c->elastic.weight);
	vc_json_add_u64(obj, "reserve", c->elastic.reserve);
	vc_json_add_int(obj, "priority", c->priority);
	vc_json_add_bool(obj, "paused", c->paused);
	return obj;
}

static int save(struct leases *l, struct vc_error *err)
{
	vc_autojson struct json_object *obj = leasebook_to_json(&l->book);
	struct json_object *clusters = json_object_new_array();
	for (const struct lease_cluster *c = l->clusters; c; c = c->next)
		json_object_array_add(clusters, cluster_to_json(c));
	vc_json_add(obj, "clusters", clusters);
	if (VC_FAULT("leases-save"))
		return vc_error_set(err, VC_EFAILED, "fault point leases-save");
	return state_item_put(l->vcd->state, ITEM_KIND, ITEM_KEY, obj, err);
}

static int read_cluster(struct json_object *obj, struct lease_cluster *c, struct vc_error *err)
{
	const char *id, *policy;
	struct json_object *priority = NULL;
	uint32_t uid;
	if (vc_json_u32(obj, "job", UINT32_MAX, &c->job, err) < 0 || vc_json_str(obj, "id", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_u32(obj, "uid", UINT32_MAX, &uid, err) < 0 || vc_json_u32(obj, "wanted", VC_HOSTS_MAX, &c->wanted, err) < 0 ||
	    vc_json_str(obj, "policy", VC_NAME_MAX, &policy, err) < 0 ||
	    vc_json_u32(obj, "weight", VC_SPEC_WEIGHT_MAX, &c->elastic.weight, err) < 0 ||
	    vc_json_u32(obj, "reserve", VC_HOSTS_MAX, &c->elastic.reserve, err) < 0 ||
	    vc_json_bool_opt(obj, "paused", &c->paused, err) < 0)
		return -1;
	if (json_object_object_get_ex(obj, "priority", &priority))
		c->priority = json_object_get_int(priority);
	snprintf(c->id, sizeof(c->id), "%s", id);
	snprintf(c->elastic.policy, sizeof(c->elastic.policy), "%s", policy);
	c->uid = uid;
	return 0;
}

static int load_cluster(struct leases *l, struct json_object *obj, struct vc_error *err)
{
	struct lease_cluster *c = calloc(1, sizeof(*c));
	if (!c)
		return vc_error_errno(err, "leases");
	if (read_cluster(obj, c, err) < 0) {
		free(c);
		return -1;
	}
	c->next = l->clusters;
	l->clusters = c;
	return 0;
}

static int load(struct leases *l, struct vc_error *err)
{
	vc_autojson struct json_object *obj = NULL;
	struct json_object *clusters;
	if (state_item_get(l->vcd->state, ITEM_KIND, ITEM_KEY, &obj, err) < 0)
		return err->code == VC_ENOTFOUND ? 0 : -1;
	if (leasebook_from_json(obj, &l->book, err) < 0 || vc_json_array(obj, "clusters", LEASEBOOK_MAX, &clusters, err) < 0)
		return vc_error_wrap(err, "leases in the state database");
	for (size_t i = 0; i < json_object_array_length(clusters); i++) {
		if (load_cluster(l, json_object_array_get_idx(clusters, i), err) < 0)
			return vc_error_wrap(err, "leases in the state database");
	}
	return 0;
}

// --- what happened, for people ------------------------------------------------------------------------------------------

static void record(struct leases *l, const struct lease *lease, const struct lease_run *run)
{
	const struct lease_cluster *c = leases_cluster(l, lease->cluster);
	vc_autojson struct json_object *data = json_object_new_object();
	struct state_event e = {.cluster = c ? c->id : NULL, .host = lease->host[0] ? lease->host : NULL, .what = "lease", .data = data};
	struct vc_error err = VC_ERROR_INIT;
	vc_json_add_u64(data, "lease", lease->id);
	vc_json_add_u64(data, "job", lease->job);
	vc_json_add_str(data, "state", lease_state_name(lease->state));
	if (lease->end != LEASE_END_NONE)
		vc_json_add_str(data, "end", lease_end_name(lease->end));
	if (run->why[0])
		vc_json_add_str(data, "reason", run->why);
	vc_log_notice("job %u: lease %llu is %s%s%s%s%s (job %u%s%s)", lease->cluster, (unsigned long long)lease->id,
		      lease_state_name(lease->state), lease->end ? ", " : "", lease_end_name(lease->end), run->why[0] ? ": " : "",
		      run->why, lease->job, lease->host[0] ? " on " : "", lease->host);
	if (state_event_add(l->vcd->state, &e, &err) < 0)
		vc_log_warning("event not recorded: %s", err.text);
}

// --vcluster-on-preempt=kill: the program cannot lose a member, so the job ends with its first host.
static void follow_preemption(struct leases *l, const struct lease *lease)
{
	struct clusters_look look;
	if (lease->end != LEASE_END_PREEMPTED || !clusters_look(l->vcd->clusters, lease->cluster, &look) || look.over ||
	    look.plan->spec->on_preempt != VC_SPEC_PREEMPT_KILL)
		return;
	vc_log_notice("job %u: a host of it is preempted, and --vcluster-on-preempt=kill: the job is cancelled", lease->cluster);
	leases_cancel_job(l, lease->cluster);
}

// What others ended is not asked for again at once.
static void hold_back(struct leases *l, const struct lease *lease)
{
	struct lease_cluster *c = leases_cluster(l, lease->cluster);
	if (c && lease->state >= LEASE_RECLAIMING && lease->end != LEASE_END_NONE && lease->end != LEASE_END_RELEASED)
		c->hold_ms = uv_now(&l->vcd->loop) + LEASES_HOLD_MS;
}

static void tell_changes(struct leases *l)
{
	for (size_t i = 0; i < l->book.n; i++) {
		const struct lease *lease = &l->book.leases[i];
		struct lease_run *run = leases_run(l, lease->id);
		if (!run || (run->known && run->told == lease->state))
			continue;
		run->known = true;
		run->told = lease->state;
		record(l, lease, run);
		follow_preemption(l, lease);
		hold_back(l, lease);
	}
}

// --- runs and clusters that nobody needs any more ---------------------------------------------------------------------

static void forget_runs(struct leases *l)
{
	for (struct lease_run **p = &l->runs, *r; (r = *p);) {
		if (leasebook_find(&l->book, r->lease)) {
			p = &r->next;
			continue;
		}
		*p = r->next;
		grow_forget(l->vcd->clusters, r);
		free(r);
	}
}

static void forget_clusters(struct leases *l)
{
	for (struct lease_cluster **p = &l->clusters, *c; (c = *p);) {
		struct clusters_look look;
		bool here = clusters_look(l->vcd->clusters, c->job, &look) && !look.over && strcmp(look.id, c->id) == 0;
		if (here || leasebook_count(&l->book, c->job, LEASE_WANTED, LEASE_ENDED) > 0) {
			p = &c->next;
			continue;
		}
		*p = c->next;
		mover_free(c->mover);
		free(c);
	}
}

// --- changes ------------------------------------------------------------------------------------------------------------

void leases_settle(struct leases *l)
{
	struct vc_error err = VC_ERROR_INIT;
	if (save(l, &err) < 0) {
		if (!l->unsaved)
			vc_log_err("leases are not saved, and nothing is done for them until they are: %s", err.text);
		l->unsaved = true;
		return;
	}
	l->unsaved = false;
	struct lease_todo *todo = l->book.todo;
	size_t n = l->book.n_todo;
	l->book.todo = NULL;
	l->book.n_todo = 0;
	tell_changes(l);
	for (size_t i = 0; i < n; i++)
		leases_do(l, &todo[i]);
	free(todo);
	leases_submit_deferred(l);
	leases_answer(l);
}

void leases_event(struct leases *l, uint64_t lease, enum lease_event event, uint32_t job, const struct vc_error *why)
{
	struct vc_error err = VC_ERROR_INIT;
	struct lease_run *run = leases_run(l, lease);
	if (run && why)
		snprintf(run->why, sizeof(run->why), "%s", why->text);
	if (leasebook_event(&l->book, lease, event, job, leases_now(), &err) < 0)
		vc_log_err("lease %llu: %s", (unsigned long long)lease, err.text);
	leases_settle(l);
}

struct lease_cluster *leases_need_cluster(struct leases *l, const struct clusters_look *look, struct vc_error *err)
{
	struct lease_cluster *c = leases_cluster(l, look->job);
	if (c && strcmp(c->id, look->id) == 0)
		return c;
	if (c) { // of an earlier run of the job, whose leases are on their way out
		vc_error_set(err, VC_EBUSY, "job %u: the hosts of its former run are still being given back: try again", look->job);
		return NULL;
	}
	if (!(c = calloc(1, sizeof(*c)))) {
		vc_error_errno(err, "leases of job %u", look->job);
		return NULL;
	}
	*c = (struct lease_cluster){.next = l->clusters, .job = look->job, .uid = look->uid};
	memcpy(c->id, look->id, sizeof(c->id));
	if (look->plan && look->plan->spec)
		c->elastic = look->plan->spec->elastic;
	l->clusters = c;
	return c;
}

static int give_back(struct leases *l, const struct clusters_look *look, int64_t n, int64_t deadline_ms, struct vc_error *err)
{
	int64_t now = leases_now(), can = leases_live(l, look->job);
	if (n > can)
		return vc_error_set(err, VC_EUSER, "job %u can give back %lld hosts: the %u that it started with stay until its end",
				    look->job, (long long)can, look->own);
	return leasebook_give_back(&l->book, look->job, n, false, now + deadline_ms, now, err) < 0 ? -1 : 0;
}

int leases_change(struct leases *l, uint32_t job, int64_t n, int64_t deadline_ms, struct vc_error *err)
{
	struct clusters_look look;
	if (!clusters_look(l->vcd->clusters, job, &look) || look.over)
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster", job);
	if (!look.ready)
		return vc_error_set(err, VC_EBUSY, "the virtual cluster of job %u is not ready yet", job);
	struct lease_cluster *c = leases_need_cluster(l, &look, err);
	if (!c)
		return -1;
	int rc = n < 0 ? give_back(l, &look, -n, deadline_ms, err) : leasebook_want(&l->book, job, (uint32_t)n, leases_now(), err);
	if (rc == 0)
		c->wanted = look.own + leases_live(l, job);
	leases_settle(l);
	return rc;
}

// --- the tick ------------------------------------------------------------------------------------------------------------

static void see_ended_clusters(struct leases *l, struct vc_error *err)
{
	for (const struct lease_cluster *c = l->clusters; c; c = c->next) {
		struct clusters_look look;
		bool here = clusters_look(l->vcd->clusters, c->job, &look) && !look.over && strcmp(look.id, c->id) == 0;
		if (!here && leasebook_cluster_gone(&l->book, c->job, leases_now(), err) < 0)
			vc_log_err("leases of job %u: %s", c->job, err->text);
	}
}

// The cluster has dropped a host by itself: its hosts agreed that it is dead.
static void see_lost_hosts(struct leases *l, struct vc_error *err)
{
	for (size_t i = 0; i < l->book.n; i++) {
		const struct lease *lease = &l->book.leases[i];
		const struct lease_run *run = leases_run(l, lease->id);
		bool counted = lease->state == LEASE_HELD || lease->state == LEASE_RECLAIMING;
		if (!counted || !run || run->joining || run->leaving ||
		    grow_state(l->vcd->clusters, lease->cluster, lease->id) != GROW_NONE)
			continue;
		if (leasebook_event(&l->book, lease->id, LEASE_EV_HOST_LOST, 0, leases_now(), err) < 0)
			vc_log_err("lease %llu: %s", (unsigned long long)lease->id, err->text);
	}
}

static bool all_held(const struct leases *l)
{
	for (size_t i = 0; i < l->book.n; i++) {
		enum lease_state s = l->book.leases[i].state;
		if (s != LEASE_HELD && s != LEASE_ENDED)
			return false;
	}
	return true;
}

static bool any_live(const struct leases *l)
{
	for (size_t i = 0; i < l->book.n; i++) {
		if (l->book.leases[i].state != LEASE_ENDED)
			return true;
	}
	return false;
}

static void tick(uv_timer_t *timer)
{
	struct leases *l = timer->data;
	struct vc_error err = VC_ERROR_INIT;
	if (l->book.n == 0 && !l->clusters)
		return; // the common case costs nothing
	uint64_t count = l->book.count, since = uv_now(&l->vcd->loop) - l->look_ms;
	size_t n = l->book.n;
	see_ended_clusters(l, &err);
	see_lost_hosts(l, &err);
	if (leasebook_tick(&l->book, leases_now(), &err) < 0)
		vc_log_err("leases: %s", err.text);
	if (l->unsaved || l->book.count != count || l->book.n != n || l->book.n_todo)
		leases_settle(l);
	forget_runs(l);
	forget_clusters(l);
	leases_answer(l);
	if (any_live(l) && since >= (all_held(l) ? LEASES_HELD_MS : LEASES_BUSY_MS))
		leases_look(l);
}

// --- life ----------------------------------------------------------------------------------------------------------------

static void closed_timer(uv_handle_t *handle)
{
	free(handle);
}

static int start(struct leases *l, struct vc_error *err)
{
	if (!(l->slurmctl = slurmctl_create(err)) || load(l, err) < 0)
		return -1;
	if (!(l->tick = calloc(1, sizeof(*l->tick))))
		return vc_error_errno(err, "leases");
	uv_timer_init(&l->vcd->loop, l->tick);
	l->tick->data = l;
	uv_timer_start(l->tick, tick, LEASES_TICK_MS, LEASES_TICK_MS);
	if (l->book.n == 0)
		return 0;
	for (size_t i = 0; i < l->book.n; i++) { // the history has these states already
		struct lease_run *run = leases_run(l, l->book.leases[i].id);
		if (!run)
			return vc_error_errno(err, "leases");
		run->known = true;
		run->told = l->book.leases[i].state;
	}
	leases_settle(l); // what a crash may have lost is done again; a lease without a job waits for slurmctld's list
	leases_look(l);
	return 0;
}

struct leases *leases_create(struct vcd *vcd, struct vc_error *err)
{
	struct leases *l = calloc(1, sizeof(*l));
	if (!l) {
		vc_error_errno(err, "leases");
		return NULL;
	}
	l->vcd = vcd;
	if (leases_register(l, err) == 0 && sizer_create(l, err) == 0 && (!vcd->controller || start(l, err) == 0))
		return l;
	leases_stop(l);
	leases_destroy(l);
	return NULL;
}

void leases_stop(struct leases *l)
{
	if (!l)
		return;
	sizer_stop(l->sizer);
	leases_stop_work(l);
	leases_forget_waiters(l);
	for (struct lease_run *r = l->runs; r; r = r->next)
		grow_forget(l->vcd->clusters, r);
	if (l->tick)
		uv_close((uv_handle_t *)l->tick, closed_timer);
	l->tick = NULL;
}

void leases_destroy(struct leases *l)
{
	if (!l)
		return;
	for (struct lease_run *r; (r = l->runs);) {
		l->runs = r->next;
		free(r);
	}
	for (struct lease_cluster *c; (c = l->clusters);) {
		l->clusters = c->next;
		mover_free(c->mover);
		free(c);
	}
	sizer_destroy(l->sizer);
	leasebook_clear(&l->book);
	slurmctl_destroy(l->slurmctl);
	free(l);
}
