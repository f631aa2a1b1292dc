// SPDX-License-Identifier: GPL-2.0-or-later
// A share's part in a cluster that grows and shrinks: plans after the first, joining, announced leaving, and coming back.
//
// Owns what plans were before, as workers, fencing and tasks may still read them, and the question to the controller (cluster.host):
// is this host still of the cluster, and is there a later plan? It is asked after a restart, when a view names members
// that the plan here does not have, and when the others went on without this host.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/host.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/share_int.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define NETWORK_MS 60000u // links and filter: milliseconds on a healthy host
#define NETWORK_RETRY_MS 1000u
#define ASK_MS 5000u	  // cluster.host: the controller answers at once, or is away
#define INVALID_MS 15000u  // of a view: the host is cut off, or nobody is left to agree with
#define ASK_AGAIN_MS 2000u // between two questions while the answer matters

struct network { // belongs to the worker's job
	struct sharegrow *grow; // NULL: the share has gone meanwhile
	struct sharework *work;
};

struct sharegrow {
	struct share *share;
	struct sharework **old;
	size_t n_old;
	uint64_t version;	 // of the plan that the network follows
	struct network *network; // under way
	uint64_t network_at;	 // loop time: not before
	bool asks;		 // the controller's answer is waited for
	struct peer_call *call;
	uint64_t ask_at; // loop time: not before
	uint64_t leaves_at; // loop time: its members are announced as leaving
	uint64_t valid_at; // loop time: the view here was last known to be valid
};

static uint64_t now(const struct sharegrow *g)
{
	return uv_now(&g->share->vcd->loop);
}

static const struct plan *plan_of(const struct sharegrow *g)
{
	return g->share->work->plan;
}

uint64_t sharegrow_version(const struct sharegrow *g)
{
	return g->version;
}

// --- the network follows the plan --------------------------------------------------------------------------------

static int network_run(void *ctx, struct vc_error *err)
{
	struct network *n = ctx;
	return sharework_network(n->work, err);
}

static void network_done(void *ctx, const struct vc_error *err)
{
	struct network *n = ctx;
	struct sharegrow *g = n->grow;
	if (!g)
		return;
	g->network = NULL;
	if (err) {
		vc_log_ctx(VC_LOG_WARNING, &g->share->log, "cluster %s, network of plan %" PRIu64 ": %s; trying again", n->work->short_id,
			   n->work->plan->version, err->text);
		g->network_at = now(g) + NETWORK_RETRY_MS;
		return;
	}
	g->version = n->work->plan->version;
	if (g->share->membership)
		membership_plan(g->share->membership, plan_of(g));
	share_answer(g->share);
}

static void network_release(void *ctx)
{
	struct network *n = ctx;
	sharework_unref(n->work);
	free(n);
}

static void follow_plan(struct sharegrow *g)
{
	struct share *s = g->share;
	struct vc_error err = VC_ERROR_INIT;
	if (g->network || g->version >= plan_of(g)->version || now(g) < g->network_at || s->goal == GOAL_GONE || s->stopped)
		return;
	struct network *n = calloc(1, sizeof(*n));
	if (!n)
		return; // the tick tries again
	*n = (struct network){g, sharework_ref(s->work)};
	struct work_args args = {.pool = WORK_GENERAL, .what = "network", .deadline_ms = NETWORK_MS, .run = network_run,
				 .done = network_done, .release = network_release, .ctx = n};
	if (work_submit(s->vcd->work, &args, NULL, &err) == 0) {
		g->network = n;
		return;
	}
	vc_log_ctx(VC_LOG_WARNING, &s->log, "%s", err.text);
	network_release(n);
}

bool sharegrow_is_at_network(const struct sharegrow *g)
{
	return g->network != NULL;
}

// --- plans -------------------------------------------------------------------------------------------------------

static void use_work(struct share *s, struct sharework *work)
{
	s->work = work;
	for (size_t i = 0; i < s->n_members; i++)
		s->members[i]->plan = work->members[i];
}

// Members that have moved, or are on their way, are where this host knows them: the controller hears of it later.
static void carry_places(const struct plan *from, struct plan *to)
{
	for (size_t i = 0; i < to->n_members; i++) {
		const struct plan_member *m = plan_member_by_rank(from, to->members[i].rank);
		if (!m || m->host >= to->n_hosts || (m->to != PLAN_NOWHERE && m->to >= to->n_hosts))
			continue;
		to->members[i].host = m->host;
		to->members[i].to = m->to;
	}
}

static int replace_work(struct sharegrow *g, struct sharework *work, struct vc_error *err)
{
	struct share *s = g->share;
	struct sharework **old = reallocarray(g->old, g->n_old + 1, sizeof(*old)), *before = s->work;
	if (!old)
		return vc_error_errno(err, "plan");
	g->old = old;
	use_work(s, work);
	if (share_save(s, err) < 0) {
		use_work(s, before);
		return -1;
	}
	g->old[g->n_old++] = before;
	return 0;
}

void sharegrow_keep(struct sharegrow *g, struct sharework *old)
{
	struct sharework **list = reallocarray(g->old, g->n_old + 1, sizeof(*list));
	if (!list)
		return; // stays in memory
	g->old = list;
	g->old[g->n_old++] = old;
}

static int take_plan(struct sharegrow *g, struct plan *plan, struct vc_error *err)
{
	struct share *s = g->share;
	bool same = strcmp(plan->id, plan_of(g)->id) == 0, newer = plan->version > plan_of(g)->version;
	bool can = (s->phase == SHARE_UP || s->phase == SHARE_PREPARED) && !s->work->starts;
	if (!same || !newer || !can) {
		plan_destroy(plan);
		if (!same)
			return vc_error_set(err, VC_EPROTO, "a plan of another cluster");
		return newer ? vc_error_set(err, VC_EBUSY, "the cluster is %s on host %s", share_phase_name(s->phase), s->work->own_name) : 0;
	}
	carry_places(plan_of(g), plan);
	struct sharework *work = sharework_next(s->vcd, s->work, plan, err);
	if (!work)
		return -1;
	if (replace_work(g, work, err) == 0) {
		vc_log_ctx(VC_LOG_INFO, &s->log, "cluster %s: plan %" PRIu64 ", %zu members", work->short_id, work->plan->version,
			   work->plan->n_members);
		return 0;
	}
	sharework_unref(work);
	return -1;
}

int share_next_plan(struct share *s, struct plan *plan, struct rpc_request *req, struct vc_error *err)
{
	struct sharegrow *g = s->grow;
	if (take_plan(g, plan, err) < 0)
		return -1;
	if (req)
		share_add_waiter(s, req, GOAL_PLAN, plan_of(g)->version, NETWORK_MS);
	follow_plan(g);
	share_answer(s);
	return 0;
}

// --- coming and going --------------------------------------------------------------------------------------------

int share_ask_in(struct share *s, struct vc_error *err)
{
	if (s->phase != SHARE_UP)
		return vc_error_set(err, VC_EBUSY, "the cluster is %s on host %s, not up", share_phase_name(s->phase), s->work->own_name);
	return s->membership ? 0 : share_join(s, MEMBERSHIP_JOIN, err);
}

int share_leave(struct share *s, uint64_t limit_ms, struct rpc_request *req, struct vc_error *err)
{
	struct sharegrow *g = s->grow;
	if (!s->membership)
		return vc_error_set(err, VC_ENOTFOUND, "cluster %s has no membership on host %s", s->work->short_id, s->work->own_name);
	for (size_t i = 0; i < s->n_members; i++)
		membership_member_leaves(s->membership, s->members[i]->plan->rank);
	if (!g->leaves_at)
		g->leaves_at = now(g);
	share_add_waiter(s, req, GOAL_IDLE, 0, limit_ms);
	share_answer(s);
	return 0;
}

bool sharegrow_is_idle(const struct sharegrow *g)
{
	const struct share *s = g->share;
	for (size_t i = 0; i < s->n_members && !s->work->no_guests; i++) {
		const struct member *m = s->members[i];
		if (!m->down && (m->load_at <= g->leaves_at || m->tasks > 0))
			return false;
	}
	return true;
}

static bool some_member_runs(const struct share *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		if (s->members[i]->running && !s->members[i]->down)
			return true;
	}
	return false;
}

static void end(struct sharegrow *g, const char *why)
{
	struct share *s = g->share;
	vc_log_ctx(VC_LOG_NOTICE, &s->log, "cluster %s: %s: what is left of it here goes", s->work->short_id, why);
	g->asks = false;
	share_release(s, NULL); // s may be gone
}

static void stays(struct sharegrow *g, struct json_object *result)
{
	struct share *s = g->share;
	struct json_object *obj = NULL;
	struct vc_error err = VC_ERROR_INIT;
	struct plan *plan = vc_json_obj(result, "plan", &obj, NULL) == 0 ? plan_from_json(obj, &err) : NULL;
	if ((obj && !plan) || (plan && share_next_plan(s, plan, NULL, &err) < 0))
		vc_log_ctx(VC_LOG_WARNING, &s->log, "cluster.host: %s", err.text);
	if (s->removed && !some_member_runs(s)) {
		end(g, "it went on without this host, where no member runs any more");
		return;
	}
	if (s->removed && s->membership)
		membership_ask_in(s->membership);
	g->asks = s->removed || (s->membership && membership_lacks_plan(s->membership)); // until it is in again, and knows all
}

static void answered(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct sharegrow *g = ctx;
	bool here = false;
	g->call = NULL;
	g->ask_at = now(g) + ASK_AGAIN_MS;
	if (err && err->code == VC_ENOTFOUND && g->share->removed)
		end(g, "the controller does not know it any more");
	else if (err)
		g->asks &= err->code != VC_ENOTFOUND;
	else if (vc_json_bool_opt(result, "stays", &here, NULL) < 0 || !here)
		end(g, "this host is not of it any more");
	else
		stays(g, result);
}

static void ask(struct sharegrow *g)
{
	struct share *s = g->share;
	struct vc_error err = VC_ERROR_INIT;
	if (!g->asks || g->call || now(g) < g->ask_at || s->goal == GOAL_GONE || s->stopped)
		return;
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "cluster", plan_of(g)->id);
	vc_json_add_u64(params, "version", plan_of(g)->version);
	struct peer_args args = {.host = peers_controller(s->vcd->peers), .method = "cluster.host", .params = params,
				 .timeout_ms = ASK_MS, .trace = s->work->trace, .done = answered, .ctx = g};
	g->call = peer_call(s->vcd->peers, &args, &err);
	if (!g->call)
		g->ask_at = now(g) + ASK_AGAIN_MS;
}

void sharegrow_taken_back(struct sharegrow *g)
{
	g->asks = true;
}

void sharegrow_removed(struct sharegrow *g)
{
	g->asks = true;
}

void sharegrow_lacks_plan(struct sharegrow *g)
{
	g->asks = true;
}

void sharegrow_tick(struct sharegrow *g)
{
	struct share *s = g->share;
	if (!s->membership || s->phase != SHARE_UP || membership_valid_ms(s->membership) > 0)
		g->valid_at = now(g);
	g->asks |= now(g) - g->valid_at > INVALID_MS;
	follow_plan(g);
	ask(g);
}

// --- life --------------------------------------------------------------------------------------------------------

struct sharegrow *sharegrow_create(struct share *s)
{
	struct sharegrow *g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	*g = (struct sharegrow){.share = s, .version = s->work->plan->version, .valid_at = uv_now(&s->vcd->loop)}; // the steps make the network of this one
	return g;
}

void sharegrow_stop(struct sharegrow *g)
{
	peer_cancel(vc_steal(&g->call));
	if (g->network)
		g->network->grow = NULL;
	g->network = NULL;
	g->asks = false;
}

void sharegrow_destroy(struct sharegrow *g)
{
	if (!g)
		return;
	sharegrow_stop(g);
	for (size_t i = 0; i < g->n_old; i++)
		sharework_unref(g->old[i]);
	free(g->old);
	free(g);
}
