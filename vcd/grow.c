// SPDX-License-Identifier: GPL-2.0-or-later
// Parts of a running cluster: see grow.h. Each part is a state machine, a table of phases as the cluster's own (cluster.c).
//
// A phase is saved before its work begins; work is one fan-out to hosts, idempotent, or waiting for a view. Parts of one cluster
// go their ways side by side: only the plan is common, and it changes at once, on the loop.
#include "vcd/grow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/cluster_int.h"
#include "vcd/conf.h"
#include "vcd/elastic/params.h"
#include "vcd/fanout.h"
#include "vcd/fault.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define PART_TRIES_MAX 5      // as an earlier share that goes first
#define PART_RETRY_MS 2000    // between them
#define TELL_MS 70000	      // host.plan: the network of a host under load
#define TELL_OTHERS_MS 5000   // hosts that do not answer by then ask for the plan when they are back
#define CALL_MS 10000	      // host.join, host.leave, member.fact: no work behind them
#define JOIN_LIMIT_MS 120000  // until the hosts agree on the view with the new members: seconds as a rule
#define MOVE_AGAIN_MS 250     // between two looks while members move off
#define MOVED_LIMIT_MS 5000   // until the hosts' view tells where members that have moved are
#define LEAVE_AGAIN_MS 1000   // between two looks, or tries, while hosts leave the view
#define LEAVE_LIMIT_MS 30000  // no view comes: the others lack a quorum; the hosts are given back all the same
#define UNSEEN_MS 3000	      // members that are in no view for so long, of a host that nobody calls gone: it never was in

enum part_phase {
	PART_PREPARING, // its hosts: image, network
	PART_BOOTING,
	PART_STAGING,
	PART_TELLING, // all hosts: the plan
	PART_JOINING, // the hosts agree
	PART_HELD,
	PART_MOVING,   // members that fit elsewhere go there
	PART_LEAVING,  // announced; until the deadline
	PART_DROPPING, // the hosts agree on a view without it
	PART_RELEASING,
	PART_FORGETTING, // the other hosts: the plan without it
	PART_PHASES
};

struct part_waiter {
	struct part_waiter *next;
	bool grow; // it waits for HELD; otherwise for the end
	grow_done_fn done;
	void *ctx;
};

struct grow_part {
	struct grow_part *next;
	struct cluster *cluster;
	uint64_t lease;
	enum part_phase phase;
	bool asked_in;	     // its hosts may be in the agreement
	int64_t deadline_ms; // wall clock, as it outlives vcd
	struct vc_error reason;
	struct grow_slack slack;
	size_t rest;	     // PART_MOVING: members that will be left on its hosts
	uint64_t moved_ms;   // loop time when they had moved; 0: not yet
	struct fanout *fanout;
	size_t *called; // hosts of the plan, by the fan-out's numbers
	bool own_failed;
	size_t own_pending; // calls to its own hosts
	struct vc_error own_error;
	unsigned tries;
	uint64_t since_ms; // loop time
	uv_timer_t *timer;
	struct part_waiter *waiters;
};

static int enter_preparing(struct grow_part *p, struct vc_error *err);
static int enter_booting(struct grow_part *p, struct vc_error *err);
static int enter_staging(struct grow_part *p, struct vc_error *err);
static int enter_telling(struct grow_part *p, struct vc_error *err);
static int enter_joining(struct grow_part *p, struct vc_error *err);
static int enter_held(struct grow_part *p, struct vc_error *err);
static int enter_moving(struct grow_part *p, struct vc_error *err);
static int enter_leaving(struct grow_part *p, struct vc_error *err);
static int enter_dropping(struct grow_part *p, struct vc_error *err);
static int enter_releasing(struct grow_part *p, struct vc_error *err);
static int enter_forgetting(struct grow_part *p, struct vc_error *err);

static const struct {
	const char *name;
	int (*enter)(struct grow_part *p, struct vc_error *err);
	enum grow_state state;
} phases[PART_PHASES] = {
	[PART_PREPARING] = {"grow-preparing", enter_preparing, GROW_JOINING},
	[PART_BOOTING] = {"grow-booting", enter_booting, GROW_JOINING},
	[PART_STAGING] = {"grow-staging", enter_staging, GROW_JOINING},
	[PART_TELLING] = {"grow-telling", enter_telling, GROW_JOINING},
	[PART_JOINING] = {"grow-joining", enter_joining, GROW_JOINING},
	[PART_HELD] = {"grow-held", enter_held, GROW_HELD},
	[PART_MOVING] = {"shrink-moving", enter_moving, GROW_LEAVING},
	[PART_LEAVING] = {"shrink-leaving", enter_leaving, GROW_LEAVING},
	[PART_DROPPING] = {"shrink-dropping", enter_dropping, GROW_LEAVING},
	[PART_RELEASING] = {"shrink-releasing", enter_releasing, GROW_LEAVING},
	[PART_FORGETTING] = {"shrink-forgetting", enter_forgetting, GROW_LEAVING},
};

#define log_part(level, p, fmt, ...)                                                                          \
	do {                                                                                                  \
		const struct vc_log_ctx log_ctx_ = cluster_log((p)->cluster);                                  \
		vc_log_ctx(level, &log_ctx_, "lease %" PRIu64 ": " fmt, (p)->lease, __VA_ARGS__);              \
	} while (0)

static uint64_t loop_ms(const struct grow_part *p)
{
	return uv_now(&p->cluster->owner->vcd->loop);
}

static int64_t wall_ms(void)
{
	struct timeval now;
	gettimeofday(&now, NULL);
	return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

// --- waiters -----------------------------------------------------------------------------------------------------

static int add_waiter(struct grow_part *p, bool grow, grow_done_fn done, void *ctx, struct vc_error *err)
{
	struct part_waiter *w = done ? calloc(1, sizeof(*w)) : NULL;
	if (!done)
		return 0;
	if (!w)
		return vc_error_errno(err, "lease %" PRIu64, p->lease);
	*w = (struct part_waiter){.next = p->waiters, .grow = grow, .done = done, .ctx = ctx};
	p->waiters = w;
	return 0;
}

// Those of that kind; they may call back into this module.
static void answer(struct grow_part *p, bool grow, const struct vc_error *err)
{
	struct part_waiter *due = NULL;
	for (struct part_waiter **at = &p->waiters; *at;) {
		struct part_waiter *w = *at;
		if (w->grow != grow) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = due;
		due = w;
	}
	while (due) {
		struct part_waiter *w = due;
		due = w->next;
		w->done(w->ctx, err);
		free(w);
	}
}

void grow_forget(struct clusters *cs, void *ctx)
{
	for (struct cluster *c = cs->list; c; c = c->next) {
		for (struct grow_part *p = c->parts; p; p = p->next) {
			for (struct part_waiter **at = &p->waiters; *at;) {
				struct part_waiter *w = *at;
				if (w->ctx == ctx) {
					*at = w->next;
					free(w);
				} else {
					at = &w->next;
				}
			}
		}
	}
}

// --- parts -------------------------------------------------------------------------------------------------------

static struct grow_part *find_part(const struct cluster *c, uint64_t lease)
{
	struct grow_part *p = c->parts;
	while (p && p->lease != lease)
		p = p->next;
	return p;
}

static struct grow_part *add_part(struct cluster *c, uint64_t lease, struct vc_error *err)
{
	struct grow_part *p = calloc(1, sizeof(*p));
	uv_timer_t *timer = calloc(1, sizeof(*timer));
	if (!p || !timer) {
		free(p);
		free(timer);
		vc_error_errno(err, "lease %" PRIu64, lease);
		return NULL;
	}
	uv_timer_init(&c->owner->vcd->loop, timer);
	timer->data = p;
	const struct elastic_params params = elastic_params_standard();
	*p = (struct grow_part){.next = c->parts, .cluster = c, .lease = lease, .timer = timer, .slack = {params.mem_slack, params.squeeze}};
	c->parts = p;
	return p;
}

static void closed_timer(uv_handle_t *handle)
{
	free(handle);
}

static void stop_part(struct grow_part *p)
{
	fanout_cancel(p->fanout);
	p->fanout = NULL;
	free(p->called);
	p->called = NULL;
	uv_timer_stop(p->timer);
	cluster_moves_forget(p->cluster, p);
	p->moved_ms = 0;
}

static void remove_part(struct grow_part *p)
{
	struct grow_part **at = &p->cluster->parts;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	stop_part(p);
	uv_close((uv_handle_t *)p->timer, closed_timer);
	while (p->waiters) {
		struct part_waiter *w = p->waiters;
		p->waiters = w->next;
		free(w);
	}
	free(p);
}

static bool is_own(const struct grow_part *p, size_t host)
{
	const struct plan_host *h = &p->cluster->plan->hosts[host];
	return h->lease == p->lease && !h->gone;
}

// --- the plan ----------------------------------------------------------------------------------------------------

static int add_hosts(struct cluster *c, const struct plan *plan, struct vc_error *err)
{
	struct cluster_host *hosts = reallocarray(c->hosts, plan->n_hosts, sizeof(*hosts));
	if (!hosts)
		return vc_error_errno(err, "hosts");
	c->hosts = hosts;
	for (size_t i = c->n_hosts; i < plan->n_hosts; i++) {
		hosts[i] = (struct cluster_host){.name = strdup(plan->hosts[i].name)};
		if (!hosts[i].name)
			return vc_error_errno(err, "hosts");
		c->n_hosts = i + 1;
	}
	return 0;
}

static void drop_hosts(struct cluster *c, size_t from)
{
	while (c->n_hosts > from)
		free(c->hosts[--c->n_hosts].name);
}

// Takes the plan in every case. What is saved is the plan with the parts as they are now.
int cluster_use_plan(struct cluster *c, struct plan *plan, struct vc_error *err)
{
	struct json_object *json = plan_to_json(plan), *old_json = c->plan_json;
	struct plan *old = c->plan;
	int rc = json ? add_hosts(c, plan, err) : vc_error_set(err, ENOMEM, "plan");
	c->plan = plan;
	c->plan_json = json;
	if (rc < 0 || cluster_save(c, err) < 0) {
		drop_hosts(c, old->n_hosts);
		c->plan = old;
		c->plan_json = old_json;
		json_object_put(json);
		plan_destroy(plan);
		return -1;
	}
	for (size_t i = 0; i < plan->n_hosts; i++) {
		bool back = i < old->n_hosts && old->hosts[i].gone && !plan->hosts[i].gone;
		if (back)
			c->hosts[i].gone = c->hosts[i].left = false;
	}
	json_object_put(old_json);
	plan_destroy(old);
	return 0;
}

// --- steps -------------------------------------------------------------------------------------------------------

static void record_event(const struct grow_part *p)
{
	vc_autojson struct json_object *data = json_object_new_object();
	struct vc_error err = VC_ERROR_INIT;
	vc_json_add_u64(data, "lease", p->lease);
	vc_json_add_str(data, "phase", phases[p->phase].name);
	vc_json_add_str(data, "reason", p->reason.text[0] ? p->reason.text : NULL);
	struct state_event e = {.cluster = p->cluster->id, .what = "lease", .data = data};
	if (state_event_add(p->cluster->owner->vcd->state, &e, &err) < 0)
		log_part(VC_LOG_WARNING, p, "event not recorded: %s", err.text);
}

static void go_to(struct grow_part *p, enum part_phase phase);

// On its way in: what was begun is undone. On its way out: the next phase comes all the same.
static void fail(struct grow_part *p, const struct vc_error *err)
{
	stop_part(p);
	log_part(VC_LOG_WARNING, p, "%s: %s", phases[p->phase].name, err->text);
	if (p->phase > PART_HELD) {
		if (p->phase < PART_FORGETTING)
			go_to(p, p->phase + 1);
		return;
	}
	p->reason = *err;
	go_to(p, p->asked_in ? PART_DROPPING : PART_RELEASING);
}

static void enter(struct grow_part *p)
{
	struct vc_error err = VC_ERROR_INIT;
	if (VC_FAULT(phases[p->phase].name))
		vc_error_set(&err, VC_EFAILED, "fault point %s", phases[p->phase].name);
	if (err.code || phases[p->phase].enter(p, &err) < 0)
		fail(p, &err);
}

static void go_to(struct grow_part *p, enum part_phase phase)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t now = loop_ms(p);
	stop_part(p);
	log_part(VC_LOG_INFO, p, "%s after %" PRIu64 " ms in %s", phases[phase].name, now - p->since_ms, phases[p->phase].name);
	p->phase = phase;
	p->since_ms = now;
	p->tries = 0;
	if (cluster_save(p->cluster, &err) < 0) // a restart would do an earlier phase again
		log_part(VC_LOG_ERR, p, "state not saved: %s", err.text);
	record_event(p);
	clusters_notify(p->cluster);
	enter(p);
}

static void step_ok(struct grow_part *p)
{
	go_to(p, p->phase + 1);
}

static void retry(uv_timer_t *timer)
{
	enter(timer->data);
}

// What stands in the way there may be gone in a moment. A host that cannot be reached was tried for long already (peer.c).
static bool may_retry(const struct vc_error *err)
{
	return err->code == VC_EBUSY || err->code == VC_ECANCELED || err->code == VC_ENOTFOUND;
}

static void host_done(void *ctx, size_t i, struct json_object *result, const struct vc_error *err)
{
	struct grow_part *p = ctx;
	size_t host = p->called[i];
	(void)result;
	p->own_pending -= is_own(p, host);
	p->cluster->hosts[host].left = p->phase == PART_RELEASING && !err;
	if (!err)
		return;
	if (!is_own(p, host)) {
		log_part(VC_LOG_WARNING, p, "host %s: %s", p->cluster->hosts[host].name, err->text); // it asks for the plan itself
	} else if (!p->own_failed) {
		p->own_failed = true;
		p->own_error = *err;
		vc_error_wrap(&p->own_error, "host %s", p->cluster->hosts[host].name);
	}
}

static void host_notify(void *ctx, size_t i, const char *method, struct json_object *params)
{
	struct grow_part *p = ctx;
	struct cluster_host *h = &p->cluster->hosts[p->called[i]];
	const char *phase = method, *reason = "";
	vc_json_str_opt(params, "phase", sizeof(h->phase) - 1, &phase, NULL);
	vc_json_str_opt(params, "reason", sizeof(h->reason) - 1, &reason, NULL);
	snprintf(h->phase, sizeof(h->phase), "%s", phase);
	snprintf(h->reason, sizeof(h->reason), "%s", reason);
	h->since_ms = loop_ms(p);
	clusters_notify(p->cluster);
}

static void fanout_done(void *ctx, const struct vc_error *err)
{
	struct grow_part *p = ctx;
	(void)err; // of any host: host_done() has told which
	p->fanout = NULL;
	if (!p->own_failed) {
		step_ok(p);
	} else if (may_retry(&p->own_error) && ++p->tries < PART_TRIES_MAX) {
		log_part(VC_LOG_NOTICE, p, "%s: %s; trying again", phases[p->phase].name, p->own_error.text);
		uv_timer_start(p->timer, retry, PART_RETRY_MS, 0);
	} else {
		fail(p, &p->own_error);
	}
}

// all: the other hosts that are in the cluster as well.
static int call_hosts(struct grow_part *p, const char *method, struct json_object *params, uint64_t timeout_ms, bool all,
		      void (*done)(void *ctx, const struct vc_error *err), struct vc_error *err)
{
	struct cluster *c = p->cluster;
	vc_autofree const char **names = calloc(c->n_hosts + 1, sizeof(*names));
	size_t n = 0;
	free(p->called);
	p->own_pending = 0;
	p->called = calloc(c->n_hosts + 1, sizeof(*p->called));
	if (!names || !p->called)
		return vc_error_errno(err, "%s", method);
	for (size_t i = 0; i < c->n_hosts; i++) {
		if (!is_own(p, i) && (!all || c->plan->hosts[i].gone || c->hosts[i].gone))
			continue;
		p->own_pending += is_own(p, i);
		p->called[n] = i;
		names[n++] = c->hosts[i].name;
	}
	p->own_failed = false;
	p->own_error = VC_ERROR_INIT;
	struct fanout_args args = {.method = method, .hosts = names, .n_hosts = n, .params = params, .timeout_ms = timeout_ms,
				   .trace = c->trace, .keep_going = true, .host_done = host_done, .host_notify = host_notify,
				   .done = done, .ctx = p};
	p->fanout = fanout_start(c->owner->vcd, &args, err);
	return p->fanout ? 0 : -1;
}

static struct json_object *id_params(const struct grow_part *p)
{
	struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "cluster", p->cluster->id);
	return params;
}

// --- the way in --------------------------------------------------------------------------------------------------

static int enter_preparing(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add(params, "plan", json_object_get(p->cluster->plan_json));
	return call_hosts(p, "host.prepare", params, p->cluster->owner->vcd->conf->ensure_timeout_ms, false, fanout_done, err);
}

static int enter_booting(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(p);
	return call_hosts(p, "host.boot", params, p->cluster->owner->vcd->conf->ensure_timeout_ms, false, fanout_done, err);
}

static int enter_staging(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(p);
	if (!p->cluster->plan->spec->stage_in) {
		step_ok(p);
		return 0;
	}
	vc_json_add_u64(params, "job", p->cluster->key.job);
	return call_hosts(p, "host.stage", params, p->cluster->owner->vcd->conf->ensure_timeout_ms, false, fanout_done, err);
}

static void others_too_long(uv_timer_t *timer)
{
	struct grow_part *p = timer->data;
	if (p->own_pending || !p->fanout) {
		uv_timer_start(timer, others_too_long, TELL_OTHERS_MS, 0);
		return;
	}
	fanout_cancel(vc_steal(&p->fanout));
	fanout_done(p, NULL);
}

static int enter_telling(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(p);
	vc_json_add(params, "plan", json_object_get(p->cluster->plan_json));
	if (call_hosts(p, "host.plan", params, TELL_MS, true, fanout_done, err) < 0)
		return -1;
	uv_timer_start(p->timer, others_too_long, TELL_OTHERS_MS, 0);
	return 0;
}

// The view's members on hosts of this part that are in state `state`, or that are not gone.
static size_t in_view(const struct grow_part *p, bool active_only)
{
	const struct cluster *c = p->cluster;
	size_t n = 0;
	for (size_t i = 0; i < c->view->n_members; i++) {
		const struct view_member *m = &c->view->members[i];
		const struct plan_member *planned = plan_member_by_rank(c->plan, m->rank);
		if (planned && !planned->gone && is_own(p, planned->host))
			n += active_only ? m->state == VIEW_ACTIVE : m->state != VIEW_GONE;
	}
	return n;
}

static size_t planned(const struct grow_part *p)
{
	size_t n = 0;
	for (size_t i = 0; i < p->cluster->plan->n_members; i++) {
		const struct plan_member *m = &p->cluster->plan->members[i];
		n += !m->gone && is_own(p, m->host);
	}
	return n;
}

static void join_too_long(uv_timer_t *timer)
{
	struct grow_part *p = timer->data;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ETIMEDOUT, "%zu of %zu new members were in the view within %d s: see 'vcctl check' for what its hosts wait for",
		     in_view(p, true), planned(p), JOIN_LIMIT_MS / 1000);
	fail(p, &err);
}

static void asked_in(void *ctx, const struct vc_error *err)
{
	struct grow_part *p = ctx;
	if (p->own_failed) {
		fanout_done(ctx, err);
		return;
	}
	p->fanout = NULL;
	uv_timer_start(p->timer, join_too_long, JOIN_LIMIT_MS, 0);
	if (in_view(p, true) == planned(p))
		step_ok(p);
}

static int enter_joining(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(p);
	p->asked_in = true;
	if (cluster_save(p->cluster, err) < 0)
		return -1;
	return call_hosts(p, "host.join", params, CALL_MS, false, asked_in, err);
}

static void tell_held(uv_timer_t *timer)
{
	answer(timer->data, true, NULL);
}

static int enter_held(struct grow_part *p, struct vc_error *err)
{
	(void)err;
	uv_timer_start(p->timer, tell_held, 0, 0);
	return 0;
}

// --- the way out -------------------------------------------------------------------------------------------------

static size_t members_here(const struct grow_part *p)
{
	size_t n = 0;
	for (size_t i = 0; i < p->cluster->plan->n_members; i++)
		n += !p->cluster->plan->members[i].gone && is_own(p, p->cluster->plan->members[i].host);
	return n;
}

// Half of the time is for those that stay after all.
static bool time_to_move_is_over(const struct grow_part *p)
{
	return p->deadline_ms - wall_ms() <= (int64_t)(loop_ms(p) - p->since_ms);
}

static void look_moved(uv_timer_t *timer)
{
	struct grow_part *p = timer->data;
	bool told = p->moved_ms && (members_here(p) <= p->rest || loop_ms(p) - p->moved_ms > MOVED_LIMIT_MS);
	if (told || time_to_move_is_over(p))
		step_ok(p);
	else
		uv_timer_start(timer, look_moved, MOVE_AGAIN_MS, 0);
}

static void moved_off(void *ctx, size_t moved)
{
	struct grow_part *p = ctx;
	p->moved_ms = loop_ms(p);
	p->rest -= moved < p->rest ? moved : p->rest;
	uv_timer_start(p->timer, look_moved, 0, 0); // this may come from inside
}

static int enter_moving(struct grow_part *p, struct vc_error *err)
{
	size_t n = 0;
	p->rest = members_here(p);
	if (p->rest == 0 || time_to_move_is_over(p)) {
		step_ok(p);
		return 0;
	}
	if (cluster_move_off(p->cluster, p->lease, &p->slack, moved_off, p, &n, err) < 0) {
		if (err->code != VC_EBUSY)
			return -1; // they leave the view
		uv_timer_start(p->timer, retry, MOVE_AGAIN_MS, 0);
	} else if (n == 0) {
		step_ok(p);
	} else {
		log_part(VC_LOG_NOTICE, p, "%zu of its %zu members move to the hosts that stay", n, p->rest);
		uv_timer_start(p->timer, look_moved, MOVE_AGAIN_MS, 0);
	}
	return 0;
}

static void deadline_passed(uv_timer_t *timer)
{
	go_to(timer->data, PART_DROPPING);
}

static void no_task_is_left(void *ctx, const struct vc_error *err)
{
	struct grow_part *p = ctx;
	p->fanout = NULL;
	if (err) // it cannot be spared longer than it is there
		log_part(VC_LOG_WARNING, p, "%s", err->text);
	go_to(p, PART_DROPPING);
}

static int enter_leaving(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(p);
	int64_t left = p->deadline_ms - wall_ms();
	if (left <= 0) {
		go_to(p, PART_DROPPING);
		return 0;
	}
	vc_json_add_u64(params, "limit_ms", (uint64_t)left);
	if (call_hosts(p, "host.leave", params, (uint64_t)left + CALL_MS, false, no_task_is_left, err) < 0)
		return -1;
	uv_timer_start(p->timer, deadline_passed, (uint64_t)left, 0);
	return 0;
}

static bool all_gone(const struct grow_part *p)
{
	for (size_t i = 0; i < p->cluster->n_hosts; i++) {
		if (is_own(p, i) && !p->cluster->hosts[i].gone)
			return false;
	}
	return in_view(p, false) == 0;
}

static bool is_out(const struct grow_part *p)
{
	return all_gone(p) || (in_view(p, false) == 0 && loop_ms(p) - p->since_ms > UNSEEN_MS);
}

static void look_again(uv_timer_t *timer)
{
	struct grow_part *p = timer->data;
	if (is_out(p)) {
		step_ok(p);
	} else if (loop_ms(p) - p->since_ms > LEAVE_LIMIT_MS) {
		log_part(VC_LOG_WARNING, p, "the cluster's hosts made no view without it within %d s: its hosts are given back all the same",
			 LEAVE_LIMIT_MS / 1000);
		step_ok(p);
	} else {
		enter(p);
	}
}

static void dropped(void *ctx, const struct vc_error *err)
{
	struct grow_part *p = ctx;
	(void)err;
	p->fanout = NULL;
	uv_timer_start(p->timer, look_again, LEAVE_AGAIN_MS, 0);
}

static int enter_dropping(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(p), *list = json_object_new_array();
	for (size_t i = 0; i < p->cluster->n_hosts; i++) {
		if (is_own(p, i))
			json_object_array_add(list, json_object_new_string(p->cluster->hosts[i].name));
	}
	vc_json_add_str(params, "event", "leave");
	vc_json_add(params, "hosts", json_object_get(list));
	return call_hosts(p, "member.fact", params, CALL_MS, true, dropped, err);
}

static int enter_releasing(struct grow_part *p, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(p);
	vc_json_add_u64(params, "version", p->cluster->plan->version);
	return call_hosts(p, "host.release", params, p->cluster->owner->vcd->conf->release_timeout_ms, false, fanout_done, err);
}

static void part_is_over(struct grow_part *p)
{
	struct vc_error reason = p->reason, err = VC_ERROR_INIT;
	struct cluster *c = p->cluster;
	if (reason.code)
		answer(p, true, &reason);
	answer(p, false, NULL);
	remove_part(p);
	if (cluster_save(c, &err) < 0) { // a restart finds it in its last phase once more
		const struct vc_log_ctx log = cluster_log(c);
		vc_log_ctx(VC_LOG_ERR, &log, "state not saved: %s", err.text);
	}
	clusters_notify(c);
}

static void forgotten(void *ctx, const struct vc_error *err)
{
	struct grow_part *p = ctx;
	(void)err; // who did not hear it asks
	p->fanout = NULL;
	part_is_over(p);
}

static void forgotten_enough(uv_timer_t *timer)
{
	part_is_over(timer->data);
}

// Its members may have moved to other hosts, and stay.
static bool has_hosts(const struct grow_part *p)
{
	for (size_t i = 0; i < p->cluster->n_hosts; i++) {
		if (is_own(p, i))
			return true;
	}
	return false;
}

static bool goes(void *ctx, const struct plan_host *host)
{
	const struct grow_part *p = ctx;
	return host->lease == p->lease;
}

static void try_forgetting(uv_timer_t *timer)
{
	struct grow_part *p = timer->data;
	struct vc_error err = VC_ERROR_INIT;
	if (enter_forgetting(p, &err) == 0)
		return;
	log_part(VC_LOG_WARNING, p, "%s", err.text);
	uv_timer_start(p->timer, try_forgetting, PART_RETRY_MS, 0);
}

static int enter_forgetting(struct grow_part *p, struct vc_error *err)
{
	struct plan *next = has_hosts(p) ? plan_shrink(p->cluster->plan, goes, p, err) : NULL;
	if (has_hosts(p) && (!next || cluster_use_plan(p->cluster, next, err) < 0)) {
		uv_timer_start(p->timer, try_forgetting, PART_RETRY_MS, 0);
		return 0;
	}
	vc_autojson struct json_object *params = id_params(p);
	vc_json_add(params, "plan", json_object_get(p->cluster->plan_json));
	uv_timer_start(p->timer, forgotten_enough, TELL_OTHERS_MS, 0);
	if (call_hosts(p, "host.plan", params, TELL_MS, true, forgotten, err) < 0)
		uv_timer_start(p->timer, try_forgetting, PART_RETRY_MS, 0);
	return 0;
}

// --- calls -------------------------------------------------------------------------------------------------------

static struct cluster *running_cluster(struct clusters *cs, uint32_t job, struct vc_error *err)
{
	struct cluster *c = clusters_find_job(cs, job);
	if (!c || c->phase > CLUSTER_READY) {
		vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster that runs", job);
		return NULL;
	}
	if (c->phase == CLUSTER_READY)
		return c;
	vc_error_set(err, VC_EBUSY, "the virtual cluster of job %u is not ready yet: it is %s", job, cluster_phase_name(c->phase));
	return NULL;
}

static int begin_part(struct cluster *c, const struct grow_args *args, struct vc_error *err)
{
	const struct conf *conf = c->owner->vcd->conf;
	const struct plan_limits limits = {conf->overhead_mib, conf->overhead_percent};
	struct plan *next = plan_grow(c->plan, args->hosts, args->n_hosts, args->lease, &limits, err);
	struct grow_part *p = next ? add_part(c, args->lease, err) : NULL;
	if (!p) {
		plan_destroy(next);
		return -1;
	}
	p->since_ms = loop_ms(p);
	if (add_waiter(p, true, args->done, args->ctx, err) < 0) {
		plan_destroy(next);
		remove_part(p);
		return -1;
	}
	if (cluster_use_plan(c, next, err) < 0) { // with the part in it
		remove_part(p);
		return -1;
	}
	log_part(VC_LOG_NOTICE, p, "grows by %zu hosts, %zu members", args->n_hosts, planned(p));
	record_event(p);
	uv_timer_start(p->timer, retry, 0, 0); // done() never comes from inside
	return 0;
}

int grow_start(struct clusters *cs, const struct grow_args *args, struct vc_error *err)
{
	struct cluster *c = running_cluster(cs, args->job, err);
	struct grow_part *p = c ? find_part(c, args->lease) : NULL;
	if (!c)
		return -1;
	if (args->lease == GROW_NO_LEASE || args->n_hosts == 0)
		return vc_error_set(err, VC_EUSER, "a cluster grows by the hosts of a lease: none was named");
	if (!p)
		return begin_part(c, args, err);
	if (p->phase > PART_HELD || p->reason.code)
		return vc_error_set(err, VC_EBUSY, "lease %" PRIu64 " of job %u is on its way out", args->lease, args->job);
	if (add_waiter(p, true, args->done, args->ctx, err) < 0)
		return -1;
	if (p->phase == PART_HELD)
		uv_timer_start(p->timer, tell_held, 0, 0);
	return 0;
}

static enum part_phase first_out(const struct grow_part *p, uint64_t deadline_ms)
{
	if (!p->asked_in)
		return PART_RELEASING;
	if (!deadline_ms)
		return PART_DROPPING;
	return p->phase == PART_LEAVING ? PART_LEAVING : PART_MOVING;
}

static void begin_out(uv_timer_t *timer)
{
	struct grow_part *p = timer->data;
	int64_t left = p->deadline_ms - wall_ms();
	if (p->reason.code)
		answer(p, true, &p->reason);
	go_to(p, first_out(p, left > 0 ? (uint64_t)left : 0));
}

int grow_shrink(struct clusters *cs, const struct shrink_args *args, struct vc_error *err)
{
	struct cluster *c = running_cluster(cs, args->job, err);
	struct grow_part *p = c ? find_part(c, args->lease) : NULL;
	int64_t deadline = wall_ms() + (int64_t)args->deadline_ms;
	if (c && !p)
		vc_error_set(err, VC_ENOTFOUND, "job %u has no hosts of lease %" PRIu64, args->job, args->lease);
	if (!p || add_waiter(p, false, args->done, args->ctx, err) < 0)
		return -1;
	if (p->phase > PART_LEAVING)
		return 0;
	if (p->phase < PART_LEAVING || deadline < p->deadline_ms)
		p->deadline_ms = deadline;
	if (p->phase < PART_HELD && !p->reason.code)
		vc_error_set(&p->reason, VC_ECANCELED, "the hosts were taken back: %s", args->reason ? args->reason : "no reason was told");
	log_part(VC_LOG_NOTICE, p, "its hosts leave within %" PRIu64 " ms: %s", args->deadline_ms, args->reason ? args->reason : "");
	p->slack = args->slack;
	stop_part(p);
	uv_timer_start(p->timer, begin_out, 0, 0);
	return 0;
}

enum grow_state grow_state(struct clusters *cs, uint32_t job, uint64_t lease)
{
	const struct cluster *c = clusters_find_job(cs, job);
	const struct grow_part *p = c ? find_part(c, lease) : NULL;
	return p ? phases[p->phase].state : GROW_NONE;
}

// --- for the cluster ---------------------------------------------------------------------------------------------

void grow_view_changed(struct cluster *c)
{
	for (struct grow_part *next, *p = c->parts; p; p = next) {
		next = p->next;
		if (p->phase == PART_JOINING && !p->fanout && in_view(p, true) == planned(p))
			step_ok(p);
		else if ((p->phase == PART_DROPPING && !p->fanout && is_out(p)) || (p->phase == PART_LEAVING && all_gone(p)))
			step_ok(p);
		else if (p->phase == PART_MOVING && all_gone(p))
			go_to(p, PART_DROPPING);
	}
}

bool grow_host_goes(const struct cluster *c, size_t host)
{
	const struct plan_host *h = &c->plan->hosts[host];
	const struct grow_part *p = h->lease ? find_part(c, h->lease) : NULL;
	return h->gone || cluster_host_is_taken(c, host) || (h->lease && (!p || p->phase > PART_HELD));
}

bool grow_host_stays(const struct cluster *c, size_t host)
{
	const struct plan_host *h = &c->plan->hosts[host];
	const struct grow_part *p = h->lease ? find_part(c, h->lease) : NULL;
	return !h->gone && !cluster_host_is_taken(c, host) && (!h->lease || (p && p->phase < PART_DROPPING));
}

void grow_begin(struct cluster *c)
{
	for (struct grow_part *p = c->parts; p; p = p->next) {
		p->since_ms = loop_ms(p);
		if (!p->fanout && !uv_is_active((uv_handle_t *)p->timer))
			uv_timer_start(p->timer, retry, 0, 0);
	}
}

void grow_end(struct cluster *c, const struct vc_error *why)
{
	while (c->parts) {
		struct grow_part *p = c->parts;
		stop_part(p);
		if (why) {
			answer(p, true, why);
			answer(p, false, why);
		}
		remove_part(p);
	}
}

struct json_object *grow_to_json(const struct cluster *c)
{
	struct json_object *list = json_object_new_array();
	for (const struct grow_part *p = c->parts; p; p = p->next) {
		struct json_object *obj = json_object_new_object();
		vc_json_add_u64(obj, "lease", p->lease);
		vc_json_add_str(obj, "phase", phases[p->phase].name);
		vc_json_add_bool(obj, "asked_in", p->asked_in);
		vc_json_add_u64(obj, "deadline_ms", (uint64_t)p->deadline_ms);
		vc_json_add_str(obj, "reason", p->reason.text[0] ? p->reason.text : NULL);
		json_object_array_add(list, obj);
	}
	return list;
}

static int part_from_json(struct cluster *c, struct json_object *obj, struct vc_error *err)
{
	uint64_t lease, deadline = 0;
	const char *name, *reason = NULL;
	bool asked = false;
	if (vc_json_u64(obj, "lease", INT64_MAX, &lease, err) < 0 || vc_json_str(obj, "phase", VC_NAME_MAX, &name, err) < 0 ||
	    vc_json_u64_opt(obj, "deadline_ms", INT64_MAX, &deadline, err) < 0 || vc_json_bool_opt(obj, "asked_in", &asked, err) < 0 ||
	    vc_json_str_opt(obj, "reason", VC_ERROR_TEXT_MAX, &reason, err) < 0)
		return -1;
	for (int i = 0; i < PART_PHASES; i++) {
		if (strcmp(phases[i].name, name) != 0)
			continue;
		struct grow_part *p = add_part(c, lease, err);
		if (!p)
			return -1;
		p->phase = (enum part_phase)i;
		p->asked_in = asked;
		p->deadline_ms = (int64_t)deadline;
		if (reason)
			vc_error_set(&p->reason, VC_EFAILED, "%s", reason);
		return 0;
	}
	return vc_error_set(err, VC_EFAILED, "phase '%s' of a lease is unknown", name);
}

int grow_from_json(struct cluster *c, struct json_object *list, struct vc_error *err)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		if (part_from_json(c, json_object_array_get_idx(list, i), err) < 0)
			return -1;
	}
	return 0;
}
