// SPDX-License-Identifier: GPL-2.0-or-later
// Members that leave this host: see sharemove.h. What both ends of a migration need is here as well; the target's is in
// sharecome.c.
//
// A struct share_move is owned by its share. Its member points to it while it is here; after the decision the member is
// gone and the move goes on alone until the target has answered.
#include "vcd/sharemove.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/fault.h"
#include "vcd/host.h"
#include "vcd/membership.h"
#include "vcd/net.h"
#include "vcd/rpc.h"
#include "vcd/share_int.h"
#include "vcd/vcd.h"

#define FILES_LIMIT_MS 60000u

static uint64_t now(const struct share *s)
{
	return uv_now(&s->vcd->loop);
}

// --- life -----------------------------------------------------------------------------------------------------

const char *share_host_name(const struct share *s, uint32_t host)
{
	return s->work->plan->hosts[host].name;
}

struct share_move *share_move_find(struct share *s, uint32_t rank)
{
	struct share_move *mv = s->moves;
	while (mv && mv->rank != rank)
		mv = mv->next;
	return mv;
}

struct share_move *share_move_new(struct share *s, uint32_t rank, uint32_t other, enum move_stage stage, struct vc_error *err)
{
	struct share_move *mv = calloc(1, sizeof(*mv));
	if (!mv) {
		vc_error_errno(err, "migration of member %" PRIu32, rank);
		return NULL;
	}
	*mv = (struct share_move){.next = s->moves, .share = s, .member = share_member(s, rank), .rank = rank, .other = other,
				  .stage = stage, .began = now(s), .heard_at = now(s)};
	s->moves = mv;
	if (mv->member)
		mv->member->move = mv;
	return mv;
}

void share_move_free(struct member *m)
{
	if (m && m->move)
		m->move->member = NULL;
}

void share_move_answer(struct share_move *mv, struct json_object *result, const struct vc_error *err)
{
	rpc_finish(vc_steal(&mv->req), result, err);
}

static void destroy(struct share_move *mv)
{
	struct vc_error gone = VC_ERROR_INIT;
	vc_error_set(&gone, VC_ECANCELED, "the migration of member %" PRIu32 " is over", mv->rank);
	struct share_move **at = &mv->share->moves;
	while (*at != mv)
		at = &(*at)->next;
	*at = mv->next;
	if (mv->member)
		mv->member->move = NULL;
	peer_cancel(mv->call);
	if (mv->job)
		work_cancel(mv->job);
	if (mv->looking)
		work_cancel(mv->looking);
	if (mv->cutting)
		work_cancel(mv->cutting);
	rpc_finish(vc_steal(&mv->asker), NULL, &gone);
	rpc_finish(vc_steal(&mv->req), NULL, mv->why.code ? &mv->why : &gone); // who joined while the target was told to drop its copy
	relay_destroy(mv->relay);
	json_object_put(mv->result);
	free(mv->xml);
	free(mv);
}

void share_move_end(struct share_move *mv, const struct vc_error *err)
{
	share_move_answer(mv, NULL, err);
	destroy(mv);
}

void share_moves_stop(struct share *s)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "the migration was given up: %s", s->stopped ? "vcd stops" : "the cluster is being released");
	while (s->moves)
		share_move_end(s->moves, &err);
}

static void canceled(struct rpc_request *req, void *ctx)
{
	struct share_move *mv = ctx;
	mv->req = NULL; // the migration goes on: who asked can ask again
	rpc_reply_canceled(req);
}

void share_move_wait(struct share_move *mv, struct rpc_request *req)
{
	mv->req = req;
	rpc_on_cancel(req, canceled, mv);
}

// --- workers and calls ----------------------------------------------------------------------------------------

struct move_job *move_job_new(struct share_move *mv, struct vc_error *err)
{
	struct share *s = mv->share;
	struct move_job *j = calloc(1, sizeof(*j));
	if (!j) {
		vc_error_errno(err, "migration");
		return NULL;
	}
	j->move = mv;
	j->work = sharework_ref(s->work);
	j->member = plan_member_by_rank(s->work->plan, mv->rank);
	sharework_domain(s->work, mv->rank, j->name);
	return j;
}

static int job_run(void *ctx, struct vc_error *err)
{
	struct move_job *j = ctx;
	return j->run_fn(j, err);
}

static void job_done(void *ctx, const struct vc_error *err)
{
	struct move_job *j = ctx;
	j->move->job = NULL;
	j->done_fn(j->move, j, err);
}

static void job_release(void *ctx)
{
	struct move_job *j = ctx;
	sharework_unref(j->work);
	free(j->xml);
	free(j);
}

int move_job_start(struct move_job *j, enum work_pool pool, uint64_t limit_ms, struct vc_error *err)
{
	struct work_args args = {.pool = pool, .what = "migration", .deadline_ms = limit_ms, .run = job_run, .done = job_done,
				 .release = job_release, .ctx = j};
	if (work_submit(j->move->share->vcd->work, &args, &j->move->job, err) == 0)
		return 0;
	job_release(j);
	return -1;
}

static int call(struct share_move *mv, const char *method, struct json_object *params, uint64_t limit_ms, peer_done_fn done,
		struct vc_error *err)
{
	struct share *s = mv->share;
	vc_json_add_str(params, "cluster", s->work->plan->id);
	vc_json_add_u64(params, "rank", mv->rank);
	vc_json_add_str(params, "from", s->work->own_name);
	struct peer_args args = {.host = share_host_name(s, mv->other), .method = method, .params = params, .timeout_ms = limit_ms,
				 .trace = s->work->trace, .done = done, .ctx = mv};
	mv->call = peer_call(s->vcd->peers, &args, err);
	return mv->call ? 0 : -1;
}

int share_move_call(struct share_move *mv, const char *method, uint64_t limit_ms, peer_done_fn done, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	return call(mv, method, params, limit_ms, done, err);
}

int share_move_ask(struct share_move *mv, bool complete, uint64_t limit_ms, peer_done_fn done, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_bool(params, "complete", complete);
	return call(mv, "host.moving", params, limit_ms, done, err);
}

int share_net_move(struct move_job *j, uint32_t host, struct vc_error *err)
{
	const struct plan *plan = j->work->plan;
	struct net_move move = {.id = plan->id, .rank = j->member->rank, .mac = j->member->mac,
				.addr = host == j->work->self ? NULL : plan->hosts[host].addr};
	return j->work->fake ? 0 : net_move(&move, err);
}

// --- source: it goes on here ----------------------------------------------------------------------------------

static void dropped(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct share_move *mv = ctx;
	(void)result;
	mv->call = NULL;
	if (err) // it asks by itself, and hears the same
		vc_log_ctx(VC_LOG_INFO, &mv->share->log, "host.drop: %s", err->text);
	destroy(mv);
}

// The member runs here, and that is written down: the target is told to destroy its copy.
static void stays(struct share_move *mv, const struct vc_error *why)
{
	struct share *s = mv->share;
	struct vc_error err = VC_ERROR_INIT, text = VC_ERROR_INIT;
	relay_destroy(vc_steal(&mv->relay));
	if (mv->job)
		work_cancel(vc_steal(&mv->job)); // it is still measured
	sharework_no_road(s->work, mv->rank);
	if (share_replan(s, mv->rank, s->work->self, PLAN_NOWHERE, &err) < 0) {
		vc_log_ctx(VC_LOG_ERR, &s->log, "member %" PRIu32 " stays, but that cannot be written down: %s", mv->rank, err.text);
		mv->stage = MOVE_SETTLING; // again
		mv->retry_at = now(s) + SHAREMOVE_RETRY_MS;
		return;
	}
	vc_error_set(&text, why->code, "member %" PRIu32 " stays on host %s: %s", mv->rank, s->work->own_name, why->text);
	vc_log_ctx(VC_LOG_WARNING, &s->log, "%s", text.text);
	if (mv->member) {
		mv->member->move = NULL; // its end is an event again
		mv->member = NULL;
	}
	mv->why = text;
	share_move_answer(mv, NULL, &text);
	if (share_move_call(mv, "host.drop", SHAREMOVE_TELL_MS, dropped, &err) < 0)
		destroy(mv);
}

// --- source: it is there --------------------------------------------------------------------------------------

static void tell(struct share_move *mv);

static void count_sent(struct share_move *mv)
{
	for (unsigned i = 0; mv->relay && i < RELAY_STREAMS; i++)
		mv->sent[i] = relay_sent(mv->relay, i);
}

static struct json_object *with_numbers(struct share_move *mv)
{
	struct json_object *obj = vc_steal(&mv->result);
	if (mv->stopped_at)
		vc_json_add_u64(obj, "downtime_ms", mv->told_at - mv->stopped_at);
	if (mv->missed_postcopy)
		vc_json_add_str(obj, "no_postcopy", mv->obstacle);
	vc_json_add_u64(obj, "memory_bytes", mv->sent[RELAY_MEMORY]);
	vc_json_add_u64(obj, "disk_bytes", mv->sent[RELAY_DISK]);
	vc_json_add_u64(obj, "total_ms", now(mv->share) - mv->began);
	vc_json_add_u64(obj, "rounds", mv->progress.iteration);
	vc_json_add_bool(obj, "forced", mv->forced);
	vc_json_add_str(obj, "policy", move_policy_name(mv->policy));
	return obj;
}

// There is none any more, and everybody is told.
static void lost(struct share_move *mv, const struct vc_error *err)
{
	struct share *s = mv->share;
	host_member_event(s->host, s->work->plan, mv->rank, "down", err->text);
	if (s->membership)
		membership_member_down(s->membership, mv->rank);
	mv->why = VC_ERROR_INIT;
	vc_error_set(&mv->why, VC_EFAILED, "member %" PRIu32 " is lost with its copy on host %s: %s", mv->rank, share_host_name(s, mv->other),
		     err->text);
	mv->lost = true;
}

// It runs there, or nowhere, and nothing of it is here.
static void may_end(struct share_move *mv)
{
	if ((!mv->result && !mv->lost) || !mv->left)
		return;
	if (mv->lost)
		share_move_answer(mv, NULL, &mv->why);
	else
		share_move_answer(mv, with_numbers(mv), NULL);
	destroy(mv);
}

static void told(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct share_move *mv = ctx;
	struct share *s = mv->share;
	mv->call = NULL;
	(void)VC_FAULT("move-told");
	if (!err) {
		vc_log_ctx(VC_LOG_NOTICE, &s->log, "member %" PRIu32 " runs on host %s now, %" PRIu64 " ms after it was asked for", mv->rank,
			   share_host_name(s, mv->other), now(s) - mv->began);
		mv->result = result ? json_object_get(result) : json_object_new_object();
		mv->told_at = now(s);
		may_end(mv);
		return;
	}
	vc_log_ctx(VC_LOG_WARNING, &s->log, "member %" PRIu32 " waits on host %s: %s", mv->rank, share_host_name(s, mv->other), err->text);
	if (err->code == VC_ENOTFOUND || err->code == VC_EFAILED || (s->membership && membership_host_is_gone(s->membership, mv->other))) {
		lost(mv, err);
		may_end(mv);
		return;
	}
	mv->retry_at = now(s) + SHAREMOVE_RETRY_MS;
}

static void tell(struct share_move *mv)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_bool(params, "postcopy", mv->policy == MOVE_POSTCOPY);
	mv->retry_at = 0;
	if (call(mv, "host.arrived", params, SHAREMOVE_TELL_MS, told, &err) < 0)
		mv->retry_at = now(mv->share) + SHAREMOVE_RETRY_MS;
}

static int leave_run(struct move_job *j, struct vc_error *err)
{
	sharework_no_road(j->work, j->member->rank);
	if (hv_kill(j->work->hv, j->name, err) < 0) // of a post-copy that failed: half of it is here
		return -1;
	int a = share_net_move(j, j->member->host, err), b = sharework_no_member(j->work, j->member->rank, err);
	return a < 0 || b < 0 ? -1 : 0;
}

static void leave_done(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	(void)j;
	if (err)
		vc_log_ctx(VC_LOG_WARNING, &mv->share->log, "what member %" PRIu32 " has left here: %s", mv->rank, err->text);
	mv->left = true;
	may_end(mv);
}

// libvirt is not at it any more.
static void leave(struct share_move *mv)
{
	struct vc_error err = VC_ERROR_INIT;
	relay_destroy(vc_steal(&mv->relay));
	struct move_job *j = move_job_new(mv, &err);
	if (j) {
		j->run_fn = leave_run;
		j->done_fn = leave_done;
	}
	if (j && move_job_start(j, WORK_HV, FILES_LIMIT_MS, &err) == 0)
		return;
	vc_log_ctx(VC_LOG_WARNING, &mv->share->log, "%s", err.text);
	mv->left = true;
	may_end(mv);
}

static void answer_asker(struct share_move *mv)
{
	struct json_object *where = json_object_new_object();
	vc_json_add_str(where, "where", share_where(mv->share, mv->rank));
	rpc_finish(vc_steal(&mv->asker), where, NULL);
}

static void open_way(struct share *s, uint32_t rank);

// From this write on the member is the target's.
void share_move_decide(struct share_move *mv)
{
	struct share *s = mv->share;
	struct vc_error err = VC_ERROR_INIT;
	struct member *m = mv->member;
	mv->stage = MOVE_DECIDING;
	(void)VC_FAULT("move-decide");
	mv->member = NULL;
	if (m)
		m->move = NULL;
	if (share_replan(s, mv->rank, mv->other, PLAN_NOWHERE, &err) < 0) {
		vc_log_ctx(VC_LOG_ERR, &s->log, "member %" PRIu32 " has left, but that cannot be written down: %s", mv->rank, err.text);
		mv->member = m;
		if (m)
			m->move = mv;
		mv->retry_at = now(s) + SHAREMOVE_RETRY_MS;
		return;
	}
	(void)VC_FAULT("move-decided");
	mv->stage = MOVE_TELLING;
	if (mv->relay)
		relay_pass(mv->relay, RELAY_LIBVIRT);
	count_sent(mv);
	answer_asker(mv);
	tell(mv);
	open_way(s, mv->rank);
	if (!mv->job)
		leave(mv);
}

// --- source: libvirt ------------------------------------------------------------------------------------------

static int settle_run(struct move_job *j, struct vc_error *err)
{
	return hv_settle(j->work->hv, j->name, &j->here, err);
}

static void copy_again(struct share_move *mv);

static void settle_done(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	if (err) {
		vc_log_ctx(VC_LOG_WARNING, &mv->share->log, "member %" PRIu32 ": %s", mv->rank, err->text);
		mv->retry_at = now(mv->share) + SHAREMOVE_RETRY_MS;
		return;
	}
	if (!mv->why.code)
		vc_error_set(&why, VC_ECANCELED, "vcd was restarted during its migration");
	if (j->here && mv->again)
		copy_again(mv);
	else if (j->here)
		stays(mv, mv->why.code ? &mv->why : &why);
	else
		share_move_decide(mv);
}

static void settle(struct share_move *mv)
{
	struct vc_error err = VC_ERROR_INIT;
	struct move_job *j = move_job_new(mv, &err);
	mv->stage = MOVE_SETTLING;
	mv->retry_at = 0;
	if (j) {
		j->run_fn = settle_run;
		j->done_fn = settle_done;
	}
	if (!j || move_job_start(j, WORK_HV, FILES_LIMIT_MS, &err) < 0)
		mv->retry_at = now(mv->share) + SHAREMOVE_RETRY_MS;
}

static int copy_run(struct move_job *j, struct vc_error *err)
{
	return hv_migrate(j->work->hv, &j->args, err);
}

void share_move_copied(struct share_move *mv)
{
	if (mv->why.code)
		settle(mv);
	else
		share_move_decide(mv);
}

static void copy_done(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	(void)j;
	if (mv->stage == MOVE_TELLING && err && mv->policy == MOVE_POSTCOPY) {
		vc_log_ctx(VC_LOG_WARNING, &mv->share->log, "member %" PRIu32 ": post-copy: %s", mv->rank, err->text);
		mv->failed = true;
		mv->retry_at = now(mv->share) + SHAREMOVE_RETRY_MS;
		return;
	}
	if (mv->stage == MOVE_TELLING) { // it was decided meanwhile
		leave(mv);
		return;
	}
	if (mv->stage != MOVE_COPYING) // nor could that be written down yet
		return;
	mv->why = err ? *err : (struct vc_error)VC_ERROR_INIT;
	mv->copied = true;
	if (!mv->cutting)
		share_move_copied(mv);
}

// Of a post-copy: while the memory goes on it is not over. Then the target knows how it ended.
static void after_failure(struct share_move *mv)
{
	if (share_post_goes_on(mv)) {
		mv->retry_at = now(mv->share) + SHAREMOVE_RETRY_MS;
		return;
	}
	mv->failed = false;
	json_object_put(vc_steal(&mv->result));
	if (!mv->call)
		tell(mv);
	leave(mv);
}

// --- source: the target has a complete copy -------------------------------------------------------------------

// libvirt here still waits for the answer of its last step, or takes the domain down already. While the stream of its words is
// open it cannot have taken the step for failed; its QEMU is killed, so that it cannot do so later either.
struct cut { // belongs to its job
	struct share_move *move;
	struct sharework *work;
	struct relay *relay;
	char name[32];
};

static int end_here(void *ctx, struct vc_error *err)
{
	const struct cut *c = ctx;
	return hv_kill_process(c->name, err);
}

static int cut_run(void *ctx, struct vc_error *err)
{
	struct cut *c = ctx;
	return hv_is_stopped(c->work->hv, c->name, err) < 0 ? -1 : relay_while_open(c->relay, RELAY_LIBVIRT, end_here, c, err);
}

static void cut_done(void *ctx, const struct vc_error *err)
{
	const struct cut *c = ctx;
	struct share_move *mv = c->move;
	mv->cutting = NULL;
	if (!err) {
		share_move_decide(mv);
		return;
	}
	vc_log_ctx(VC_LOG_DEBUG, &mv->share->log, "member %" PRIu32 ": %s", mv->rank, err->text);
	answer_asker(mv);
	if (mv->copied)
		share_move_copied(mv);
}

static void cut_release(void *ctx)
{
	struct cut *c = ctx;
	sharework_unref(c->work);
	relay_unref(c->relay);
	free(c);
}

static void asker_canceled(struct rpc_request *req, void *ctx)
{
	struct share_move *mv = ctx;
	mv->asker = NULL;
	rpc_reply_canceled(req);
}

bool share_complete(struct share *s, uint32_t rank, struct rpc_request *req)
{
	struct share_move *mv = share_move_find(s, rank);
	struct cut *c = NULL;
	if (!mv || mv->stage != MOVE_COPYING || mv->policy == MOVE_POSTCOPY || !mv->job || mv->cutting || mv->asker || !(c = calloc(1, sizeof(*c))))
		return false;
	*c = (struct cut){.move = mv, .work = sharework_ref(s->work), .relay = relay_ref(mv->relay)};
	sharework_domain(s->work, rank, c->name);
	struct work_args args = {.pool = WORK_HV, .what = "end of a migration", .deadline_ms = s->vcd->conf->libvirt_timeout_ms,
				 .run = cut_run, .done = cut_done, .release = cut_release, .ctx = c};
	if (work_submit(s->vcd->work, &args, &mv->cutting, NULL) < 0) {
		cut_release(c);
		return false;
	}
	mv->asker = req;
	rpc_on_cancel(req, asker_canceled, mv);
	return true;
}

static int open_relay(struct share_move *mv, struct vc_error *err)
{
	struct share *s = mv->share;
	char dir[108];
	if (sharework_road(s->work, mv->rank, dir, sizeof(dir), err) < 0)
		return -1;
	struct relay_args args = {.host = share_host_name(s, mv->other), .cluster = s->work->plan->id, .rank = mv->rank, .dir = dir,
				  .user = s->work->qemu_uid, .hold_after = mv->policy == MOVE_POSTCOPY ? share_post_head(mv) : 0,
				  .trace = s->work->trace};
	mv->relay = relay_create(s->vcd, &args, err);
	return mv->relay ? 0 : -1;
}

static int start_copy(struct share_move *mv, struct vc_error *err)
{
	struct move_job *j = open_relay(mv, err) == 0 ? move_job_new(mv, err) : NULL;
	if (!j)
		return -1;
	j->xml = vc_steal(&mv->xml);
	for (unsigned i = 0; i < RELAY_STREAMS; i++)
		(void)sharework_road_socket(j->work, mv->rank, relay_stream_names[i], j->sockets[i], sizeof(j->sockets[i]));
	j->args = (struct hv_migration){.name = j->name, .xml = j->xml, .libvirt = j->sockets[0], .memory = j->sockets[1],
					.disk = j->sockets[2], .policy = mv->policy, .bandwidth_mib = mv->bandwidth_mib,
					.downtime_ms = mv->downtime_ms};
	j->run_fn = copy_run;
	j->done_fn = copy_done;
	mv->stage = MOVE_COPYING;
	mv->look_at = now(mv->share) + (mv->policy == MOVE_POSTCOPY ? 0 : SHAREMOVE_PROGRESS_MS);
	return move_job_start(j, WORK_HV, SHAREMOVE_LIMIT_MS, err);
}

// By what was measured, and what both hosts can do.
static void choose(struct share_move *mv)
{
	struct move_facts *f = &mv->facts;
	if (mv->policy != MOVE_AUTO)
		return;
	f->bandwidth_mib = mv->bandwidth_mib;
	f->can_postcopy = true;
	bool wanted = move_policy_choose(MOVE_AUTO, f) == MOVE_POSTCOPY;
	f->can_postcopy = mv->can_postcopy;
	mv->policy = move_policy_choose(MOVE_AUTO, f);
	mv->missed_postcopy = wanted && mv->policy != MOVE_POSTCOPY;
	vc_log_ctx(VC_LOG_INFO, &mv->share->log, "member %" PRIu32 " dirties %" PRIu64 " MiB/s: %s%s%s", mv->rank, f->dirty_rate >> 20,
		   move_policy_name(mv->policy), mv->missed_postcopy ? "; no post-copy: " : "", mv->missed_postcopy ? mv->obstacle : "");
}

// The target is ready, and how it is done is known.
static void may_copy(struct share_move *mv)
{
	struct vc_error why = VC_ERROR_INIT;
	if (!mv->xml || mv->job)
		return;
	(void)VC_FAULT("move-copy");
	choose(mv);
	if (mv->policy == MOVE_POSTCOPY && !mv->can_postcopy)
		vc_error_set(&why, VC_EFAILED, "no post-copy: %s", mv->obstacle);
	if (why.code || start_copy(mv, &why) < 0)
		stays(mv, &why);
}

static int measure_run(struct move_job *j, struct vc_error *err)
{
	return share_measure(j->work, j->member->rank, &j->facts, err);
}

static void measured(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	if (err)
		vc_log_ctx(VC_LOG_INFO, &mv->share->log, "member %" PRIu32 ": %s", mv->rank, err->text);
	mv->facts = j->facts;
	may_copy(mv);
}

// Beside the target's preparations.
static int start_measure(struct share_move *mv, struct vc_error *err)
{
	struct move_job *j = move_job_new(mv, err);
	if (!j)
		return -1;
	j->run_fn = measure_run;
	j->done_fn = measured;
	return move_job_start(j, WORK_HV, SHAREMOVE_MEASURE_MS, err);
}

// The target's word, "" where it can; then this host's.
static void take_obstacle(struct share_move *mv, const char *target)
{
	const struct share *s = mv->share;
	const char *own = share_post_obstacle(s), *what = target[0] ? target : own;
	mv->can_postcopy = !what;
	if (what)
		snprintf(mv->obstacle, sizeof(mv->obstacle), "host %.60s: %s", target[0] ? share_host_name(s, mv->other) : s->work->own_name, what);
}

static void target_ready(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct share_move *mv = ctx;
	struct vc_error why = VC_ERROR_INIT;
	const char *xml = NULL, *obstacle = "its vcd does not say whether it can";
	mv->call = NULL;
	if (!err)
		(void)vc_json_str_opt(result, "no_postcopy", sizeof(mv->obstacle), &obstacle, NULL);
	take_obstacle(mv, obstacle);
	if (err)
		vc_error_set(&why, err->code, "host %s: %s", share_host_name(mv->share, mv->other), err->text);
	else if (vc_json_str(result, "xml", VC_RPC_BODY_MAX, &xml, &why) == 0 && !(mv->xml = strdup(xml)))
		vc_error_errno(&why, "migration");
	if (why.code)
		stays(mv, &why);
	else
		may_copy(mv);
}

static void copy_again(struct share_move *mv)
{
	struct vc_error why = VC_ERROR_INIT;
	mv->again = mv->copied = mv->switched = false;
	mv->stopped_at = 0;
	mv->why = VC_ERROR_INIT;
	mv->policy = MOVE_PRECOPY;
	mv->stage = MOVE_ASKING;
	if (share_move_call(mv, "host.incoming", SHAREMOVE_ASK_MS, target_ready, &why) < 0)
		stays(mv, &why);
}

// --- source: the request --------------------------------------------------------------------------------------

static int check_devices(struct share *s, struct vc_error *err)
{
	const struct sharework_machine *machine = NULL;
	if (s->work->plan->spec->n_mounts)
		return vc_error_set(err, VC_EUSER, "job %s has a --vcluster-mount: QEMU cannot migrate a machine with a virtiofs device", s->job);
	if (s->work->fake)
		return vc_error_set(err, VC_EUSER, "the test hypervisor migrates nothing");
	if (!share_knows_machine(s, &machine, err))
		return -1;
	if (machine->vsock)
		return vc_error_set(err, VC_EUSER, "guest links of host %s are vsock, which does not move: set guest-link = virtio-serial in vcd.conf",
				    s->work->own_name);
	return 0;
}

static int check_member(struct share *s, const struct member *m, int to, const struct share_migrate *args, struct vc_error *err)
{
	const struct plan_member *known = plan_member_by_rank(s->work->plan, args->rank);
	if (!known || to < 0)
		return vc_error_set(err, VC_EUSER, "job %s has no member %" PRIu32 ", or no host %s", s->job, args->rank, args->to);
	if (share_member_is_gone(s, args->rank))
		return vc_error_set(err, VC_EFAILED, "member %s is gone", known->name);
	if (!m || known->host != s->work->self)
		return vc_error_set(err, VC_EUSER, "member %s is on host %s", known->name, share_host_name(s, known->host));
	if ((uint32_t)to == s->work->self)
		return vc_error_set(err, VC_EUSER, "member %s is on host %s already", known->name, args->to);
	if (m->down || !m->running)
		return vc_error_set(err, VC_EFAILED, "member %s is down", known->name);
	if (s->phase != SHARE_UP || s->paused || !s->membership)
		return vc_error_set(err, VC_EBUSY, "job %s on host %s: %s", s->job, s->work->own_name,
				    s->phase != SHARE_UP ? share_phase_name(s->phase) : s->paused ? "it is suspended" : "its hosts agree on no view");
	return check_devices(s, err);
}

// True: it was under way, or is over, and the request is taken care of.
static bool joins(struct share *s, uint32_t rank, int to, struct rpc_request *req)
{
	struct share_move *mv = share_move_find(s, rank);
	const struct plan_member *m = plan_member_by_rank(s->work->plan, rank);
	if (mv && !mv->req && (int)mv->other == to && mv->stage <= MOVE_TELLING) {
		share_move_wait(mv, req);
		return true;
	}
	if (mv || !m || (int)m->host != to || m->host == s->work->self || share_member_is_gone(s, rank))
		return false;
	rpc_reply(req, NULL);
	return true;
}

static int start(struct share *s, const struct share_migrate *args, uint32_t to, struct rpc_request *req, struct vc_error *err)
{
	if (share_replan(s, args->rank, s->work->self, to, err) < 0)
		return -1;
	struct share_move *mv = share_move_new(s, args->rank, to, MOVE_ASKING, err);
	if (!mv)
		return -1; // a restart of vcd, or the next migration, finds the member here
	mv->policy = args->policy;
	mv->bandwidth_mib = args->bandwidth_mib;
	mv->downtime_ms = args->downtime_ms;
	mv->rounds = args->rounds ? args->rounds : MOVE_ROUNDS;
	share_move_wait(mv, req);
	vc_log_ctx(VC_LOG_NOTICE, &s->log, "member %" PRIu32 " is to move to host %s", mv->rank, args->to);
	struct vc_error why = VC_ERROR_INIT;
	(void)VC_FAULT("move-ask");
	if (((mv->policy == MOVE_AUTO || mv->policy == MOVE_POSTCOPY) && start_measure(mv, &why) < 0) ||
	    share_move_call(mv, "host.incoming", SHAREMOVE_ASK_MS, target_ready, &why) < 0)
		stays(mv, &why);
	return 0;
}

int share_migrate(struct share *s, const struct share_migrate *args, struct rpc_request *req, struct vc_error *err)
{
	int to = plan_host_index(s->work->plan, args->to);
	struct member *m = share_member(s, args->rank);
	if (joins(s, args->rank, to, req))
		return 0;
	if (share_move_find(s, args->rank))
		return vc_error_set(err, VC_EBUSY, "member %" PRIu32 " of job %s is being migrated already", args->rank, s->job);
	if (check_member(s, m, to, args, err) < 0)
		return -1;
	return start(s, args, (uint32_t)to, req, err);
}

const char *share_where(struct share *s, uint32_t rank)
{
	const struct share_move *mv = share_move_find(s, rank);
	const struct plan_member *m = plan_member_by_rank(s->work->plan, rank);
	if (mv && mv->stage < MOVE_TELLING)
		return "leaving";
	if (m && sharework_comes(s->work, m))
		return "coming";
	return m && m->host == s->work->self ? "here" : "moved";
}

// --- progress -------------------------------------------------------------------------------------------------

struct look { // belongs to its job
	struct share_move *move;
	struct sharework *work;
	char name[32];
	struct relay *relay; // with post
	bool force, post; // it is stopped for the rest; it goes on at the target, when that is due
	bool switched;
	struct hv_progress progress;
};

static int look_run(void *ctx, struct vc_error *err)
{
	struct look *l = ctx;
	if (l->force)
		return hv_force_end(l->work->hv, l->name, err);
	if (l->post)
		return share_post_try(l->relay, l->work->hv, l->name, &l->switched, err);
	return hv_progress(l->work->hv, l->name, &l->progress, err);
}

static void tell_progress(struct share_move *mv)
{
	const struct hv_progress *p = &mv->progress;
	struct json_object *params = json_object_new_object();
	char text[200];
	snprintf(text, sizeof(text), "round %" PRIu64 ", %" PRIu64 " of %" PRIu64 " MiB of memory left, %" PRIu64 " MiB of disk sent, dirties %" PRIu64 " MiB/s%s",
		 p->iteration, p->remaining >> 20, p->total >> 20, mv->sent[RELAY_DISK] >> 20, p->dirty_rate >> 20,
		 mv->forced ? ", stopped for the rest" : "");
	vc_json_add_str(params, "host", mv->share->work->own_name);
	vc_json_add_str(params, "phase", "migrating");
	vc_json_add_str(params, "reason", text);
	if (mv->req)
		rpc_notify(mv->req, "host.progress", params);
	else
		json_object_put(params);
}

static void look_done(void *ctx, const struct vc_error *err)
{
	struct look *l = ctx;
	struct share_move *mv = l->move;
	mv->looking = NULL;
	mv->switched |= l->switched;
	if (err && l->post && mv->relay && mv->stage == MOVE_COPYING) {
		vc_log_ctx(VC_LOG_WARNING, &mv->share->log, "member %" PRIu32 ": no post-copy: %s", mv->rank, err->text);
		share_post_give_up(mv);
	}
	if (err || l->force || l->post)
		return;
	mv->progress = l->progress;
	count_sent(mv);
	if (l->progress.active)
		tell_progress(mv);
}

static void look_release(void *ctx)
{
	struct look *l = ctx;
	if (l->relay)
		relay_unref(l->relay);
	sharework_unref(l->work);
	free(l);
}

static void look(struct share_move *mv)
{
	struct share *s = mv->share;
	struct look *l = calloc(1, sizeof(*l));
	if (!l)
		return;
	l->move = mv;
	l->work = sharework_ref(s->work);
	l->force = mv->policy != MOVE_POSTCOPY && !mv->forced && mv->progress.iteration > mv->rounds;
	l->post = mv->policy == MOVE_POSTCOPY && !mv->switched && mv->relay;
	l->relay = l->post ? relay_ref(mv->relay) : NULL;
	mv->forced |= l->force;
	sharework_domain(s->work, mv->rank, l->name);
	struct work_args args = {.pool = WORK_HV, .what = "look at a migration", .deadline_ms = s->vcd->conf->libvirt_timeout_ms,
				 .run = look_run, .done = look_done, .release = look_release, .ctx = l};
	if (work_submit(s->vcd->work, &args, &mv->looking, NULL) < 0)
		look_release(l);
}

// --- time, restarts -------------------------------------------------------------------------------------------

static void tick_source(struct share_move *mv)
{
	struct share *s = mv->share;
	if (mv->stage == MOVE_COPYING && !mv->looking && now(s) >= mv->look_at) {
		mv->look_at = now(s) + (mv->policy == MOVE_POSTCOPY && !mv->switched ? 0 : SHAREMOVE_PROGRESS_MS);
		look(mv);
	}
	if (mv->stage == MOVE_COPYING && mv->relay && relay_is_holding(mv->relay, RELAY_LIBVIRT))
		share_post_check(mv);
	if (!mv->retry_at || now(s) < mv->retry_at)
		return;
	mv->retry_at = 0;
	if (mv->stage == MOVE_TELLING && mv->failed)
		after_failure(mv);
	else if (mv->stage == MOVE_TELLING)
		tell(mv);
	else if (mv->stage == MOVE_DECIDING)
		share_move_decide(mv);
	else if (mv->stage == MOVE_SETTLING)
		settle(mv); // may free mv
}

void share_moves_tick(struct share *s)
{
	for (struct share_move *next, *mv = s->moves; mv; mv = next) {
		next = mv->next;
		if (mv->stage <= MOVE_TELLING)
			tick_source(mv);
		else
			share_come_tick(mv);
	}
}

void share_moves_take_back(struct share *s)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct plan *plan = s->work->plan;
	for (size_t i = 0; i < plan->n_members; i++) {
		const struct plan_member *m = &plan->members[i];
		bool out = m->host == s->work->self && m->to != PLAN_NOWHERE, in = sharework_comes(s->work, m);
		if (!out && !in)
			continue;
		struct share_move *mv = share_move_new(s, m->rank, out ? m->to : m->host, out ? MOVE_SETTLING : MOVE_WAITING, &err);
		if (!mv)
			vc_log_ctx(VC_LOG_ERR, &s->log, "%s", err.text);
		else if (out)
			mv->retry_at = now(s);
		else
			share_come_take_back(mv);
	}
}

// --- members of other hosts -----------------------------------------------------------------------------------

struct follow {
	struct sharework *work;
	uint32_t rank;
};

static int follow_run(void *ctx, struct vc_error *err)
{
	struct follow *f = ctx;
	struct move_job j = {.work = f->work, .member = plan_member_by_rank(f->work->plan, f->rank)};
	return share_net_move(&j, j.member->host, err);
}

static void follow_done(void *ctx, const struct vc_error *err)
{
	const struct follow *f = ctx;
	if (err)
		vc_log_warning("cluster %s: the way to member %" PRIu32 ": %s", f->work->short_id, f->rank, err->text);
}

static void follow_release(void *ctx)
{
	struct follow *f = ctx;
	sharework_unref(f->work);
	free(f);
}

// To where the plan has the member.
static void open_way(struct share *s, uint32_t rank)
{
	struct vc_error err = VC_ERROR_INIT;
	struct follow *f = calloc(1, sizeof(*f));
	if (!f)
		return;
	*f = (struct follow){sharework_ref(s->work), rank};
	struct work_args args = {.pool = WORK_GENERAL, .what = "way to a member", .deadline_ms = FILES_LIMIT_MS, .run = follow_run,
				 .done = follow_done, .release = follow_release, .ctx = f};
	if (work_submit(s->vcd->work, &args, NULL, &err) < 0) {
		vc_log_ctx(VC_LOG_ERR, &s->log, "member %" PRIu32 ": %s", rank, err.text);
		follow_release(f);
	}
}

static void follow(struct share *s, uint32_t rank, uint32_t host)
{
	struct vc_error err = VC_ERROR_INIT;
	if (share_replan(s, rank, host, PLAN_NOWHERE, &err) == 0)
		open_way(s, rank);
	else
		vc_log_ctx(VC_LOG_ERR, &s->log, "member %" PRIu32 ": %s", rank, err.text);
}

// Members that neither came from here nor came here.
void share_moves_follow(struct share *s)
{
	for (size_t i = 0; i < s->work->plan->n_members; i++) {
		const struct plan_member *m = &s->work->plan->members[i];
		uint32_t self = s->work->self, host = membership_member_host(s->membership, m->rank);
		if (host < s->work->plan->n_hosts && host != m->host && m->host != self && host != self && m->to != self)
			follow(s, m->rank, host);
	}
}
