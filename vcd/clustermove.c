// SPDX-License-Identifier: GPL-2.0-or-later
// Members that move, as the controller sees it: methods cluster.migrate and cluster.evacuate.
//
// The plan is moveplan's; each step is one host.migrate at the member's host, which leads and decides (docs/mobility.md). What is
// still to be done is in the state database, so that a controller that was restarted goes on: a step that is under way, or
// over, is joined. One set of moves per cluster at a time. Where members are is told by their hosts' views.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/cluster_int.h"
#include "vcd/conf.h"
#include "vcd/fault.h"
#include "vcd/movepolicy.h"
#include "vcd/moveplan.h"
#include "vcd/peer.h"
#include "vcd/sharemove.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define CALL_MS (SHAREMOVE_LIMIT_MS + 120000u) // host.migrate: libvirt's part, and the words around it
#define ESTIMATE_MS 40000u // host.estimate, of a loaded host

enum item_state { ITEM_PLANNED, ITEM_MOVING, ITEM_MOVED, ITEM_FAILED };
static const char *const state_names[] = {"planned", "moving", "moved", "failed"};

struct item {
	struct clustermove *owner;
	uint32_t rank, from, to, wave;
	enum item_state state;
	struct peer_call *call;
	struct json_object *numbers, *expected; // what the source told of it, and of what it would cost; NULL: nothing yet
	char text[VC_ERROR_TEXT_MAX + 1]; // its progress, or why it failed
};

struct clustermove {
	struct cluster *cluster;
	struct rpc_request *req; // NULL: nobody waits any more
	struct evacuation *evacuation;
	cluster_moved_fn done; // of cluster_move_off(); NULL: nobody
	void *done_ctx;
	struct item *items;
	size_t n, asked; // sources that have not told yet what a move would cost
	bool dry;
	uint32_t wave;
	struct json_object *options; // of host.migrate: policy, bandwidth_mib, downtime_ms, rounds
	struct json_object *refused;
};

// One cluster.evacuate: over all clusters of the host.
struct evacuation {
	struct rpc_request *req; // NULL: nobody waits, or any more
	char *host;		 // to be logged; NULL: told to the caller
	struct json_object *clusters;
	unsigned left;
};

// What is asked for.
struct wish {
	uint32_t *ranks;
	size_t n_ranks;
	const char *to;	  // NULL: anywhere
	const char *leave; // all members of this host; NULL: ranks
	uint64_t lease;	   // all members of the hosts of this one; 0: ranks
	const struct grow_slack *slack; // of the hosts that take them; NULL: memory counts alone, all of it
	const struct clusters_place *places; // members with a host each; NULL: none
	size_t n_places;
	bool balance, dry;
	uint32_t at_once; // migrations from or to one host
};

static struct vcd *vcd_of(const struct cluster *c)
{
	return c->owner->vcd;
}

// --- the plan -------------------------------------------------------------------------------------------------

static bool is_wanted(const struct wish *w, const struct plan *plan, const struct plan_member *m)
{
	if (w->leave)
		return strcmp(plan->hosts[m->host].name, w->leave) == 0;
	if (w->lease)
		return plan->hosts[m->host].lease == w->lease && !plan->hosts[m->host].gone;
	for (size_t i = 0; i < w->n_ranks; i++) {
		if (w->ranks[i] == m->rank)
			return true;
	}
	return false;
}

static bool is_gone(const struct cluster *c, uint32_t rank)
{
	const struct view_member *v = view_member_by_rank(c->view, rank);
	return !v || v->state == VIEW_GONE;
}

static const char *why_fixed(const struct cluster *c, const struct plan_member *m)
{
	if (is_gone(c, m->rank))
		return "is gone";
	if (c->plan->spec->n_mounts)
		return "has a --vcluster-mount: QEMU cannot migrate a machine with a virtiofs device";
	return NULL;
}

static void fill_members(const struct cluster *c, const struct wish *w, uint32_t to, struct moveplan_host *hosts,
			 struct moveplan_member *members)
{
	const struct conf *conf = vcd_of(c)->conf;
	struct plan_limits limits = {conf->overhead_mib, conf->overhead_percent};
	for (size_t i = 0; i < c->plan->n_members; i++) {
		const struct plan_member *m = &c->plan->members[i];
		members[i] = (struct moveplan_member){.rank = m->rank, .host = m->host, .mem_mib = plan_guest_cost(&limits, m->mem_mib),
						      .vcpus = m->vcpus, .to = to, .fixed = why_fixed(c, m)};
		members[i].moves = !w->balance && is_wanted(w, c->plan, m) && !((w->leave || w->lease) && is_gone(c, m->rank));
		hosts[m->host].used_mib += members[i].mem_mib;
		hosts[m->host].vcpus += m->vcpus;
	}
}

// false: a host, or a member, is not of this cluster.
static bool use_places(const struct cluster *c, const struct wish *w, struct moveplan_member *members)
{
	for (size_t i = 0; i < w->n_places; i++) {
		const struct plan_member *m = plan_member_by_rank(c->plan, w->places[i].rank);
		int to = plan_host_index(c->plan, w->places[i].host);
		if (!m || to < 0)
			return false;
		members[m - c->plan->members].moves = true;
		members[m - c->plan->members].to = (uint32_t)to;
	}
	return true;
}

static struct moveplan_host look_at_host(const struct cluster *c, const struct wish *w, size_t h)
{
	const struct plan_host *host = &c->plan->hosts[h];
	bool leaves = (w->leave && strcmp(host->name, w->leave) == 0) || (w->lease && host->lease == w->lease);
	struct moveplan_host to = {.name = host->name, .mem_mib = plan_host_share_mib(host), .cpus = host->cpus,
				   .closed = c->hosts[h].gone || leaves || grow_host_goes(c, h)};
	if (w->slack) {
		to.mem_mib = to.mem_mib * (uint64_t)(1000 - w->slack->mem) / 1000;
		to.vcpus_max = (uint32_t)((int64_t)host->cpus * w->slack->squeeze / 1000);
	}
	return to;
}

static struct moveplan *make_plan(const struct cluster *c, const struct wish *w, struct vc_error *err)
{
	const struct plan *plan = c->plan;
	int to = w->to ? plan_host_index(plan, w->to) : 0;
	vc_autofree struct moveplan_host *hosts = calloc(plan->n_hosts + 1, sizeof(*hosts));
	vc_autofree struct moveplan_member *members = calloc(plan->n_members + 1, sizeof(*members));
	if (!hosts || !members)
		return vc_error_errno(err, "plan of migrations"), NULL;
	if (to < 0)
		return vc_error_set(err, VC_EUSER, "host %.64s is not one of job %u: a member moves to another host of its own job", w->to,
				    c->key.job), NULL;
	for (size_t h = 0; h < plan->n_hosts; h++)
		hosts[h] = look_at_host(c, w, h);
	fill_members(c, w, w->to ? (uint32_t)to : MOVEPLAN_ANYWHERE, hosts, members);
	if (!use_places(c, w, members))
		return vc_error_set(err, VC_ENOTFOUND, "job %u has other members or hosts than the policy knew", c->key.job), NULL;
	if (w->balance)
		moveplan_balance(hosts, plan->n_hosts, members, plan->n_members);
	return moveplan_make(hosts, plan->n_hosts, members, plan->n_members, w->at_once, err);
}

// --- as JSON --------------------------------------------------------------------------------------------------

static void name_member(const struct cluster *c, struct json_object *obj, uint32_t rank)
{
	const struct plan_member *m = plan_member_by_rank(c->plan, rank);
	vc_json_add_u64(obj, "rank", rank);
	if (m)
		vc_json_add_str(obj, "name", m->name);
}

static struct json_object *item_to_json(const struct cluster *c, const struct item *it)
{
	struct json_object *obj = json_object_new_object();
	const struct plan_member *m = plan_member_by_rank(c->plan, it->rank);
	name_member(c, obj, it->rank);
	vc_json_add_str(obj, "from", c->plan->hosts[it->from].name);
	vc_json_add_str(obj, "to", c->plan->hosts[it->to].name);
	vc_json_add_u64(obj, "wave", it->wave);
	vc_json_add_str(obj, "state", state_names[it->state]);
	vc_json_add_str(obj, "reason", it->text);
	if (m)
		vc_json_add_u64(obj, "memory_mib", m->mem_mib);
	if (it->numbers)
		vc_json_add(obj, "numbers", json_object_get(it->numbers));
	if (it->expected)
		vc_json_add(obj, "expected", json_object_get(it->expected));
	return obj;
}

static struct json_object *to_json(const struct clustermove *mv)
{
	struct json_object *obj = json_object_new_object(), *list = json_object_new_array();
	vc_json_add_u64(obj, "job", mv->cluster->key.job);
	for (size_t i = 0; i < mv->n; i++)
		json_object_array_add(list, item_to_json(mv->cluster, &mv->items[i]));
	vc_json_add(obj, "moves", list);
	vc_json_add(obj, "refused", json_object_get(mv->refused));
	return obj;
}

struct json_object *cluster_moves_to_json(const struct cluster *c)
{
	return c->move && !c->move->dry ? to_json(c->move) : NULL;
}

// For the database: what has still to be done.
struct json_object *cluster_moves_save(const struct cluster *c)
{
	struct json_object *obj = json_object_new_object(), *list = json_object_new_array();
	for (size_t i = 0; i < c->move->n; i++) {
		const struct item *it = &c->move->items[i];
		if (it->state > ITEM_MOVING || c->move->dry)
			continue;
		struct json_object *item = json_object_new_object();
		vc_json_add_u64(item, "rank", it->rank);
		vc_json_add_str(item, "from", c->plan->hosts[it->from].name);
		vc_json_add_str(item, "to", c->plan->hosts[it->to].name);
		json_object_array_add(list, item);
	}
	vc_json_add(obj, "list", list);
	vc_json_add(obj, "options", json_object_get(c->move->options));
	return obj;
}

// --- life -----------------------------------------------------------------------------------------------------

static void evacuated(struct evacuation *e, struct json_object *result)
{
	if (result && e->host)
		vc_log_notice("host %s drains: %s", e->host, json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN));
	if (result)
		json_object_array_add(e->clusters, result);
	if (--e->left)
		return;
	if (e->req) {
		struct json_object *answer = json_object_new_object();
		vc_json_add(answer, "clusters", json_object_get(e->clusters));
		rpc_finish(e->req, answer, NULL);
	}
	json_object_put(e->clusters);
	free(e->host);
	free(e);
}

static void destroy(struct clustermove *mv)
{
	mv->cluster->move = NULL;
	for (size_t i = 0; i < mv->n; i++) {
		peer_cancel(mv->items[i].call);
		json_object_put(mv->items[i].numbers);
		json_object_put(mv->items[i].expected);
	}
	free(mv->items);
	json_object_put(mv->options);
	json_object_put(mv->refused);
	free(mv);
}

static size_t count_moved(const struct clustermove *mv)
{
	size_t n = 0;
	for (size_t i = 0; i < mv->n; i++)
		n += mv->items[i].state == ITEM_MOVED;
	return n;
}

static void answer(struct clustermove *mv, const struct vc_error *err)
{
	cluster_moved_fn done = vc_steal(&mv->done);
	if (done)
		done(mv->done_ctx, count_moved(mv));
	rpc_finish(vc_steal(&mv->req), err ? NULL : to_json(mv), err);
	if (mv->evacuation)
		evacuated(vc_steal(&mv->evacuation), to_json(mv));
}

void cluster_moves_stop(struct cluster *c)
{
	struct vc_error err = VC_ERROR_INIT;
	if (!c->move)
		return;
	vc_error_set(&err, VC_ECANCELED, "the virtual cluster of job %u ends", c->key.job);
	answer(c->move, &err);
	destroy(c->move);
}

static void save(struct cluster *c)
{
	struct vc_error err = VC_ERROR_INIT;
	struct vc_log_ctx log = cluster_log(c);
	if (cluster_save(c, &err) < 0)
		vc_log_ctx(VC_LOG_ERR, &log, "state not saved: %s", err.text);
}

static void canceled(struct rpc_request *req, void *ctx)
{
	struct clustermove *mv = ctx;
	mv->req = NULL; // the moves go on
	rpc_reply_canceled(req);
}

static void evacuation_canceled(struct rpc_request *req, void *ctx)
{
	struct evacuation *e = ctx;
	e->req = NULL;
	rpc_reply_canceled(req);
}

// --- steps ----------------------------------------------------------------------------------------------------

static void next_wave(struct clustermove *mv);

static void record(const struct item *it)
{
	const struct cluster *c = it->owner->cluster;
	vc_autojson struct json_object *data = item_to_json(c, it);
	struct state_event e = {.cluster = c->id, .what = "migration", .data = data};
	(void)state_event_add(vcd_of(c)->state, &e, NULL); // history only
}

static void item_done(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct item *it = ctx;
	struct clustermove *mv = it->owner;
	struct vc_log_ctx log = cluster_log(mv->cluster);
	it->call = NULL;
	(void)VC_FAULT("move-done");
	it->state = err ? ITEM_FAILED : ITEM_MOVED;
	it->numbers = err ? NULL : json_object_get(result);
	snprintf(it->text, sizeof(it->text), "%s", err ? err->text : "");
	vc_log_ctx(err ? VC_LOG_WARNING : VC_LOG_NOTICE, &log, "member %u %s%s", it->rank, err ? "was not moved: " : "has moved", it->text);
	record(it);
	save(mv->cluster);
	clusters_notify(mv->cluster);
	for (size_t i = 0; i < mv->n; i++) {
		if (mv->items[i].state == ITEM_MOVING)
			return;
	}
	mv->wave++;
	next_wave(mv);
}

static void item_notify(void *ctx, const char *method, struct json_object *params)
{
	struct item *it = ctx;
	const char *text = "";
	(void)method;
	(void)vc_json_str_opt(params, "reason", sizeof(it->text) - 1, &text, NULL);
	snprintf(it->text, sizeof(it->text), "%s", text);
	clusters_notify(it->owner->cluster);
	if (it->owner->req)
		rpc_notify(it->owner->req, "cluster.moving", item_to_json(it->owner->cluster, it));
}

static struct json_object *params_of(const struct item *it)
{
	struct json_object *params = json_object_new_object();
	json_object_object_foreach(it->owner->options, key, value) {
		vc_json_add(params, key, json_object_get(value));
	}
	vc_json_add_str(params, "cluster", it->owner->cluster->id);
	vc_json_add_u64(params, "rank", it->rank);
	return params;
}

static int begin(struct item *it, struct vc_error *err)
{
	const struct cluster *c = it->owner->cluster;
	vc_autojson struct json_object *params = params_of(it);
	(void)VC_FAULT("move-step");
	vc_json_add_str(params, "to", c->plan->hosts[it->to].name);
	struct peer_args args = {.host = c->plan->hosts[it->from].name, .method = "host.migrate", .params = params, .timeout_ms = CALL_MS,
				 .trace = c->trace, .again = true, .notify = item_notify, .done = item_done, .ctx = it};
	it->call = peer_call(vcd_of(c)->peers, &args, err);
	it->state = it->call ? ITEM_MOVING : ITEM_FAILED;
	return it->call ? 0 : -1;
}

static void next_wave(struct clustermove *mv)
{
	struct vc_error err = VC_ERROR_INIT;
	size_t begun = 0, left = 0;
	for (size_t i = 0; i < mv->n; i++) {
		struct item *it = &mv->items[i];
		left += it->state == ITEM_PLANNED && it->wave > mv->wave;
		if (it->state != ITEM_PLANNED || it->wave != mv->wave)
			continue;
		if (begin(it, &err) == 0)
			begun++;
		else
			snprintf(it->text, sizeof(it->text), "%s", err.text);
	}
	if (begun)
		return;
	if (left) {
		mv->wave++;
		next_wave(mv); // as deep as there are waves without a step that could begin
		return;
	}
	struct cluster *c = mv->cluster;
	answer(mv, NULL);
	destroy(mv);
	save(c);
	clusters_notify(c);
}

static struct clustermove *new_move(struct cluster *c, size_t n, struct json_object *options)
{
	struct clustermove *mv = calloc(1, sizeof(*mv));
	if (!mv || !(mv->items = calloc(n + 1, sizeof(*mv->items)))) {
		free(mv);
		return NULL;
	}
	mv->cluster = c;
	mv->n = n;
	mv->options = json_object_get(options);
	mv->refused = json_object_new_array();
	for (size_t i = 0; i < n; i++)
		mv->items[i].owner = mv;
	return mv;
}

static struct clustermove *from_plan(struct cluster *c, const struct moveplan *p, struct json_object *options)
{
	struct clustermove *mv = new_move(c, p->n_steps, options);
	for (size_t i = 0; mv && i < p->n_steps; i++) {
		const struct moveplan_step *s = &p->steps[i];
		mv->items[i].rank = c->plan->members[s->member].rank;
		mv->items[i].from = s->from;
		mv->items[i].to = s->to;
		mv->items[i].wave = s->wave;
	}
	for (size_t i = 0; mv && i < p->n_refusals; i++) {
		struct json_object *obj = json_object_new_object();
		name_member(c, obj, c->plan->members[p->refusals[i].member].rank);
		vc_json_add_str(obj, "reason", p->refusals[i].why);
		json_object_array_add(mv->refused, obj);
	}
	return mv;
}

static int check_ready(const struct cluster *c, struct vc_error *err)
{
	if (c->phase != CLUSTER_READY || !c->view)
		return vc_error_set(err, VC_EBUSY, "the virtual cluster of job %u is %s, not ready", c->key.job, cluster_phase_name(c->phase));
	if (c->suspended == CLUSTER_SUSPENDED)
		return vc_error_set(err, VC_EBUSY, "job %u is suspended, and its machines are paused", c->key.job);
	if (c->move)
		return vc_error_set(err, VC_EBUSY, c->move->dry ? "a dry run for job %u is being made: try again" :
				    "members of job %u are moving already (vcctl show)", c->key.job);
	return 0;
}

// NULL with err; else its moves, which have not begun.
static struct clustermove *plan_moves(struct cluster *c, const struct wish *w, struct json_object *options, struct vc_error *err)
{
	if (check_ready(c, err) < 0)
		return NULL;
	struct moveplan *p = make_plan(c, w, err);
	struct clustermove *mv = p ? from_plan(c, p, options) : NULL;
	if (p && !mv)
		vc_error_errno(err, "job %u", c->key.job);
	moveplan_destroy(p);
	return mv;
}

static void start(struct clustermove *mv)
{
	mv->cluster->move = mv;
	save(mv->cluster);
	next_wave(mv);
}

// --- a dry run ------------------------------------------------------------------------------------------------

static void over(struct clustermove *mv)
{
	struct cluster *c = mv->cluster;
	answer(mv, NULL);
	destroy(mv);
	clusters_notify(c);
}

static void estimated(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct item *it = ctx;
	it->call = NULL;
	it->expected = json_object_get(result);
	if (err)
		snprintf(it->text, sizeof(it->text), "%s", err->text);
	if (--it->owner->asked == 0)
		over(it->owner);
}

static void ask_expected(struct item *it)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct cluster *c = it->owner->cluster;
	vc_autojson struct json_object *params = params_of(it);
	struct peer_args args = {.host = c->plan->hosts[it->from].name, .method = "host.estimate", .params = params, .timeout_ms = ESTIMATE_MS,
				 .trace = c->trace, .done = estimated, .ctx = it};
	it->call = peer_call(vcd_of(c)->peers, &args, &err);
	if (it->call)
		it->owner->asked++;
	else
		snprintf(it->text, sizeof(it->text), "%s", err.text);
}

// Nothing moves, and until the sources have answered nothing else of this cluster does.
static void start_dry(struct clustermove *mv)
{
	mv->dry = true;
	mv->cluster->move = mv;
	for (size_t i = 0; i < mv->n; i++)
		ask_expected(&mv->items[i]);
	if (!mv->asked)
		over(mv);
}

// --- a controller that was restarted --------------------------------------------------------------------------

static int load_item(const struct cluster *c, struct json_object *obj, struct item *it)
{
	const char *from, *to;
	if (vc_json_u32(obj, "rank", VC_MEMBERS_MAX - 1, &it->rank, NULL) < 0 || vc_json_str(obj, "from", VC_HOSTNAME_MAX, &from, NULL) < 0 ||
	    vc_json_str(obj, "to", VC_HOSTNAME_MAX, &to, NULL) < 0)
		return -1;
	int source = plan_host_index(c->plan, from), target = plan_host_index(c->plan, to);
	it->from = (uint32_t)source;
	it->to = (uint32_t)target;
	return source < 0 || target < 0 ? -1 : 0;
}

// One after the other: what ran side by side before may not fit any more.
void cluster_moves_resume(struct cluster *c)
{
	struct json_object *saved = vc_steal(&c->saved_moves), *list = NULL, *options = NULL;
	vc_autojson struct json_object *hold = saved;
	if (!saved || c->move || c->phase != CLUSTER_READY || vc_json_array(saved, "list", VC_MEMBERS_MAX, &list, NULL) < 0 ||
	    vc_json_obj(saved, "options", &options, NULL) < 0 || !json_object_array_length(list))
		return;
	struct clustermove *mv = new_move(c, json_object_array_length(list), options);
	for (size_t i = 0; mv && i < mv->n; i++) {
		mv->items[i].wave = (uint32_t)i;
		if (load_item(c, json_object_array_get_idx(list, i), &mv->items[i]) < 0)
			mv->items[i].state = ITEM_FAILED;
	}
	if (mv)
		start(mv);
}

// --- the methods ----------------------------------------------------------------------------------------------

static int read_options(struct json_object *params, struct json_object **ret, uint32_t *ret_at_once, struct vc_error *err)
{
	static const char *const numbers[] = {"bandwidth_mib", "downtime_ms", "rounds"};
	const char *policy = "auto";
	enum move_policy ignored;
	vc_autojson struct json_object *options = json_object_new_object();
	if (vc_json_str_opt(params, "policy", 32, &policy, err) < 0 || move_policy_from_name(policy, &ignored, err) < 0)
		return -1;
	vc_json_add_str(options, "policy", policy);
	for (size_t i = 0; i < VC_ARRAY_LEN(numbers); i++) {
		uint64_t value = 0;
		if (vc_json_u64_opt(params, numbers[i], 1u << 20, &value, err) < 0)
			return -1;
		if (value)
			vc_json_add_u64(options, numbers[i], value);
	}
	uint64_t bandwidth = 0;
	(void)vc_json_u64_opt(options, "bandwidth_mib", UINT64_MAX, &bandwidth, NULL);
	*ret_at_once = move_at_once(bandwidth);
	*ret = vc_steal(&options);
	return 0;
}

static int read_ranks(const struct cluster *c, struct json_object *params, struct wish *w, struct vc_error *err)
{
	struct json_object *list = NULL;
	if (vc_json_array(params, "ranks", VC_MEMBERS_MAX, &list, err) < 0)
		return -1;
	w->n_ranks = json_object_array_length(list);
	w->ranks = calloc(w->n_ranks + 1, sizeof(*w->ranks));
	if (!w->ranks)
		return vc_error_errno(err, "ranks");
	for (size_t i = 0; i < w->n_ranks; i++) {
		int64_t rank = json_object_get_int64(json_object_array_get_idx(list, i));
		if (rank < 0 || rank >= VC_MEMBERS_MAX || !plan_member_by_rank(c->plan, (uint32_t)rank))
			return vc_error_set(err, VC_ENOTFOUND, "job %u has no member %lld", c->key.job, (long long)rank);
		w->ranks[i] = (uint32_t)rank;
	}
	return w->n_ranks ? 0 : vc_error_set(err, VC_EUSER, "name the members of job %u that are to move", c->key.job);
}

static int read_wish(const struct cluster *c, struct json_object *params, struct wish *w, struct vc_error *err)
{
	if (vc_json_str_opt(params, "to", VC_HOSTNAME_MAX, &w->to, err) < 0 ||
	    vc_json_bool_opt(params, "balance", &w->balance, err) < 0 || vc_json_bool_opt(params, "dry_run", &w->dry, err) < 0)
		return -1;
	return w->balance ? 0 : read_ranks(c, params, w, err);
}

int cluster_migrate(struct cluster *c, struct rpc_request *req, struct vc_error *err)
{
	vc_autojson struct json_object *options = NULL;
	struct wish w = {0};
	struct clustermove *mv = NULL;
	if (check_ready(c, err) == 0 && read_options(rpc_params(req), &options, &w.at_once, err) == 0 && read_wish(c, rpc_params(req), &w, err) == 0)
		mv = plan_moves(c, &w, options, err);
	free(w.ranks);
	if (!mv)
		return -1;
	if (!mv->n) {
		rpc_reply(req, to_json(mv));
		destroy(mv);
		return 0;
	}
	mv->req = req;
	rpc_on_cancel(req, canceled, mv);
	if (w.dry)
		start_dry(mv);
	else
		start(mv);
	return 0;
}

int clusters_move(struct clusters *cs, uint32_t job, const struct clusters_place *places, size_t n, struct vc_error *err)
{
	struct cluster *c = clusters_find_job(cs, job);
	vc_autojson struct json_object *none = json_object_new_object(), *options = NULL;
	struct wish w = {.places = places, .n_places = n};
	if (!c)
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster", job);
	if (read_options(none, &options, &w.at_once, err) < 0)
		return -1;
	struct clustermove *mv = plan_moves(c, &w, options, err);
	if (!mv)
		return -1;
	if (mv->n) {
		start(mv);
		return 0;
	}
	vc_error_set(err, VC_EBUSY, "no member can move: %s", json_object_to_json_string(mv->refused));
	destroy(mv);
	return -1;
}

static void log_refused(const struct clustermove *mv)
{
	struct vc_log_ctx log = cluster_log(mv->cluster);
	if (json_object_array_length(mv->refused))
		vc_log_ctx(VC_LOG_INFO, &log, "members that cannot move: %s", json_object_to_json_string_ext(mv->refused, JSON_C_TO_STRING_PLAIN));
}

int cluster_move_off(struct cluster *c, uint64_t lease, const struct grow_slack *slack, cluster_moved_fn done, void *ctx, size_t *ret_n,
		     struct vc_error *err)
{
	vc_autojson struct json_object *none = json_object_new_object(), *options = NULL;
	struct wish w = {.lease = lease, .slack = slack};
	if (read_options(none, &options, &w.at_once, err) < 0)
		return -1;
	struct clustermove *mv = plan_moves(c, &w, options, err);
	if (!mv)
		return -1;
	log_refused(mv);
	*ret_n = mv->n;
	if (!mv->n) {
		destroy(mv);
		return 0;
	}
	mv->done = done;
	mv->done_ctx = ctx;
	start(mv);
	return 0;
}

void cluster_moves_forget(struct cluster *c, void *ctx)
{
	if (c->move && c->move->done_ctx == ctx)
		c->move->done = NULL;
}

static bool has_members(const struct cluster *c, const char *host)
{
	for (size_t i = 0; c->plan && i < c->plan->n_members; i++) {
		if (strcmp(c->plan->hosts[c->plan->members[i].host].name, host) == 0)
			return true;
	}
	return false;
}

static struct json_object *refusal(const struct cluster *c, const struct vc_error *err)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "job", c->key.job);
	vc_json_add_str(obj, "reason", err->text);
	return obj;
}

static void evacuate_cluster(struct evacuation *e, struct cluster *c, const struct wish *w, struct json_object *options)
{
	struct vc_error err = VC_ERROR_INIT;
	struct clustermove *mv = plan_moves(c, w, options, &err);
	e->left++;
	if (!mv || !mv->n) {
		evacuated(e, mv ? to_json(mv) : refusal(c, &err));
		if (mv)
			destroy(mv);
		return;
	}
	mv->evacuation = e;
	if (w->dry)
		start_dry(mv);
	else
		start(mv);
}

static void evacuate_all(struct evacuation *e, struct clusters *cs, const struct wish *w, struct json_object *options)
{
	for (struct cluster *c = cs->list; c; c = c->next) {
		if (has_members(c, w->leave) && c->phase < CLUSTER_FAILING)
			evacuate_cluster(e, c, w, options);
	}
	evacuated(e, NULL);
}

int cluster_evacuate(struct clusters *cs, struct rpc_request *req, struct vc_error *err)
{
	vc_autojson struct json_object *options = NULL;
	struct wish w = {0};
	struct json_object *params = rpc_params(req);
	if (vc_json_str(params, "host", VC_HOSTNAME_MAX, &w.leave, err) < 0 || vc_json_bool_opt(params, "dry_run", &w.dry, err) < 0 ||
	    read_options(params, &options, &w.at_once, err) < 0)
		return -1;
	struct evacuation *e = calloc(1, sizeof(*e));
	if (!e)
		return vc_error_errno(err, "evacuate");
	*e = (struct evacuation){.req = req, .clusters = json_object_new_array(), .left = 1};
	rpc_on_cancel(req, evacuation_canceled, e);
	evacuate_all(e, cs, &w, options);
	return 0;
}

void clusters_evacuate(struct clusters *cs, const char *host)
{
	vc_autojson struct json_object *options = json_object_new_object();
	struct wish w = {.leave = host, .at_once = move_at_once(0)};
	struct evacuation *e = calloc(1, sizeof(*e));
	if (!e || !(e->host = strdup(host))) {
		free(e);
		return; // at the next drain
	}
	e->clusters = json_object_new_array();
	e->left = 1;
	evacuate_all(e, cs, &w, options);
}
