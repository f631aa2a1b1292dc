// SPDX-License-Identifier: GPL-2.0-or-later
// Members that come to this host: see sharemove.h.
//
// The copy's tap, overlay and sockets are made when the source says that it comes. It runs when the source says that it is
// gone there; what waits for too long asks.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/fault.h"
#include "vcd/host.h"
#include "vcd/membership.h"
#include "vcd/rpc.h"
#include "vcd/share_int.h"
#include "vcd/vcd.h"

#define FILES_LIMIT_MS 60000u
#define WHERE_MS 10000u // host.moving
#define TORN "its post-copy failed, and the rest of its memory did not come"

struct stop { // belongs to its job
	struct sharework *work;
	char name[32];
	bool kill;
};

// where Debian's libvirtd and the modular daemon listen
static const char *const libvirt_sockets[] = {"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"};

static uint64_t now(const struct share *s)
{
	return uv_now(&s->vcd->loop);
}

static int start_job(struct share_move *mv, enum work_pool pool, int (*run)(struct move_job *j, struct vc_error *err),
		     void (*done)(struct share_move *mv, struct move_job *j, const struct vc_error *err),
		     const struct sharework_machine *machine, struct vc_error *err)
{
	struct move_job *j = move_job_new(mv, err);
	if (!j)
		return -1;
	j->run_fn = run;
	j->done_fn = done;
	j->machine = machine;
	j->arrival = mv->policy == MOVE_POSTCOPY ? HV_RUNS : mv->share->paused ? HV_COMPLETE : HV_RUN;
	return move_job_start(j, pool, FILES_LIMIT_MS, err);
}

// --- away with the copy ---------------------------------------------------------------------------------------

static int drop_run(struct move_job *j, struct vc_error *err)
{
	if (hv_kill(j->work->hv, j->name, err) < 0)
		return -1;
	sharework_no_road(j->work, j->member->rank);
	int a = share_net_move(j, j->member->host, err), b = sharework_no_member(j->work, j->member->rank, err);
	return a < 0 || b < 0 ? -1 : 0;
}

static void drop_done(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	struct share *s = mv->share;
	struct vc_error why = VC_ERROR_INIT;
	(void)j;
	if (!err && share_replan(s, mv->rank, mv->other, PLAN_NOWHERE, &why) == 0) {
		vc_log_ctx(VC_LOG_NOTICE, &s->log, "member %" PRIu32 " does not come: its copy is destroyed", mv->rank);
		share_move_end(mv, NULL);
		return;
	}
	vc_log_ctx(VC_LOG_WARNING, &s->log, "copy of member %" PRIu32 ": %s", mv->rank, err ? err->text : why.text);
	share_move_answer(mv, NULL, err ? err : &why);
	mv->retry_at = now(s) + SHAREMOVE_RETRY_MS;
}

static void drop(struct share_move *mv)
{
	struct vc_error err = VC_ERROR_INIT;
	mv->stage = MOVE_DROPPING;
	mv->retry_at = 0;
	if (start_job(mv, WORK_HV, drop_run, drop_done, NULL, &err) < 0)
		mv->retry_at = now(mv->share) + SHAREMOVE_RETRY_MS;
}

int share_drop(struct share *s, uint32_t rank, struct rpc_request *req, struct vc_error *err)
{
	struct share_move *mv = share_move_find(s, rank);
	const struct plan_member *m = plan_member_by_rank(s->work->plan, rank);
	if (m && m->host == s->work->self)
		return vc_error_set(err, VC_EBUSY, "member %s runs on host %s", m->name, s->work->own_name);
	if (!mv || mv->stage < MOVE_WAITING) {
		rpc_reply(req, NULL);
		return 0;
	}
	if (mv->stage == MOVE_RUNNING || mv->req)
		return vc_error_set(err, VC_EBUSY, "member %" PRIu32 " is being dealt with", rank);
	share_move_wait(mv, req);
	if (mv->job)
		work_cancel(vc_steal(&mv->job));
	drop(mv);
	return 0;
}

// --- it runs here from now on ---------------------------------------------------------------------------------

static int run_run(struct move_job *j, struct vc_error *err)
{
	(void)VC_FAULT("move-arrive");
	if (share_net_move(j, j->work->self, err) < 0 || hv_arrive(j->work->hv, j->name, j->arrival, &j->torn, err) < 0)
		return -1;
	(void)hv_progress_done(j->work->hv, j->name, &j->progress, NULL); // numbers for people
	return 0;
}

static struct json_object *numbers(const struct hv_progress *p)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "downtime_ms", p->downtime_ms);
	return obj;
}

static int stop_run(void *ctx, struct vc_error *err)
{
	struct stop *t = ctx;
	return t->kill ? hv_kill(t->work->hv, t->name, err) : hv_pause(t->work->hv, t->name, true, err);
}

static void stop_done(void *ctx, const struct vc_error *err)
{
	struct stop *t = ctx;
	if (err)
		vc_log_warning("cluster %s: domain %s runs on: %s", t->work->short_id, t->name, err->text);
}

static void stop_release(void *ctx)
{
	struct stop *t = ctx;
	sharework_unref(t->work);
	free(t);
}

static void stop_member(struct share *s, uint32_t rank, bool kill)
{
	struct stop *t = calloc(1, sizeof(*t));
	if (!t)
		return;
	t->kill = kill;
	t->work = sharework_ref(s->work);
	sharework_domain(s->work, rank, t->name);
	struct work_args args = {.pool = WORK_HV, .what = "stop a domain", .deadline_ms = s->vcd->conf->libvirt_timeout_ms, .run = stop_run,
				 .done = stop_done, .release = stop_release, .ctx = t};
	if (work_submit(s->vcd->work, &args, NULL, NULL) < 0)
		stop_release(t);
}

// Half of its memory is here, and the rest comes no more. It would run until it touches that, and libvirt (9.0) does not pause it while
// it is at it: it is ended.
void share_domain_torn(struct share *s, uint32_t rank)
{
	struct member *m = share_member(s, rank);
	struct share_move *mv = share_move_find(s, rank);
	if (mv && mv->stage >= MOVE_WAITING)
		mv->torn = true; // told when it is known to be here
	if (!m || m->move || m->down)
		return;
	stop_member(s, rank, true);
	share_member_stopped(s, m, TORN);
}

static void runs_here(struct share_move *mv, const struct move_job *j)
{
	struct share *s = mv->share;
	struct vc_error err = VC_ERROR_INIT;
	struct member *m = share_member(s, mv->rank);
	bool torn = j->torn || mv->torn;
	vc_log_ctx(VC_LOG_NOTICE, &s->log, "member %" PRIu32 " has come from host %s", mv->rank, share_host_name(s, mv->other));
	sharework_no_road(s->work, mv->rank);
	if (torn)
		vc_error_set(&err, VC_EFAILED, "member %s: " TORN, m->plan->name);
	share_move_answer(mv, numbers(&j->progress), torn ? &err : NULL);
	m->running = true;
	m->move = NULL;
	mv->member = NULL;
	s->polled = false; // a list that is being made may be older
	share_move_end(mv, NULL);
	if (share_open_link(m, &err) < 0)
		vc_log_ctx(VC_LOG_ERR, &s->log, "member %s: %s", m->plan->name, err.text);
	if (s->membership)
		membership_member_moved(s->membership, m->plan->rank);
	if (torn)
		share_domain_torn(s, m->plan->rank);
	else if (s->paused && j->arrival == HV_RUNS)
		stop_member(s, m->plan->rank, false);
}

static void run_done(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	struct share *s = mv->share;
	struct vc_error why = VC_ERROR_INIT;
	(void)VC_FAULT("move-run");
	if (!err && share_replan(s, mv->rank, s->work->self, PLAN_NOWHERE, &why) == 0) {
		runs_here(mv, j);
		return;
	}
	err = err ? err : &why;
	vc_log_ctx(VC_LOG_WARNING, &s->log, "member %" PRIu32 " cannot run here: %s", mv->rank, err->text);
	share_move_answer(mv, NULL, err);
	if (err->code == VC_ENOTFOUND) {
		drop(mv); // nothing came: what was made for it goes
		return;
	}
	mv->stage = MOVE_WAITING; // the source says it again
	mv->heard_at = now(s);
}

static void run(struct share_move *mv)
{
	struct vc_error err = VC_ERROR_INIT;
	mv->stage = MOVE_RUNNING;
	if (start_job(mv, WORK_HV, run_run, run_done, NULL, &err) < 0) {
		share_move_answer(mv, NULL, &err);
		mv->stage = MOVE_WAITING;
	}
}

int share_arrived(struct share *s, uint32_t rank, bool postcopy, struct rpc_request *req, struct vc_error *err)
{
	struct share_move *mv = share_move_find(s, rank);
	const struct plan_member *m = plan_member_by_rank(s->work->plan, rank);
	if (m && m->host == s->work->self) {
		const struct member *here = share_member(s, rank);
		if (here && here->down)
			return vc_error_set(err, VC_EFAILED, "member %s is down", m->name);
		rpc_reply(req, NULL);
		return 0;
	}
	if (!mv || mv->stage < MOVE_WAITING || mv->stage == MOVE_DROPPING)
		return vc_error_set(err, VC_ENOTFOUND, "no copy of member %" PRIu32 " came to host %s", rank, s->work->own_name);
	if (mv->req)
		return vc_error_set(err, VC_EBUSY, "member %" PRIu32 " is being dealt with", rank);
	share_move_wait(mv, req);
	mv->policy = postcopy ? MOVE_POSTCOPY : mv->policy;
	if (mv->stage == MOVE_WAITING) {
		if (mv->job)
			work_cancel(vc_steal(&mv->job));
		peer_cancel(vc_steal(&mv->call));
		run(mv);
	}
	return 0;
}

// --- it is to come --------------------------------------------------------------------------------------------

static int prepare_run(struct move_job *j, struct vc_error *err)
{
	char dir[108];
	// of an earlier try
	if (hv_kill(j->work->hv, j->name, err) < 0 || sharework_no_member(j->work, j->member->rank, err) < 0)
		return -1;
	if (sharework_network(j->work, err) < 0 || sharework_disk(j->work, j->member->rank, err) < 0 ||
	    sharework_road(j->work, j->member->rank, dir, sizeof(dir), err) < 0)
		return -1;
	j->xml = sharework_xml(j->work, j->machine, j->member, err);
	return j->xml ? 0 : -1;
}

static void prepare_done(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	struct json_object *result = json_object_new_object();
	const char *obstacle = share_post_obstacle(mv->share);
	if (!err)
		vc_json_add_str(result, "xml", j->xml);
	vc_json_add_str(result, "no_postcopy", obstacle ? obstacle : "");
	mv->heard_at = now(mv->share);
	share_move_answer(mv, result, err);
	if (err)
		drop(mv);
}

static int prepare(struct share_move *mv, struct rpc_request *req, const struct sharework_machine *machine, struct vc_error *err)
{
	if (start_job(mv, WORK_HV, prepare_run, prepare_done, machine, err) < 0) {
		drop(mv);
		return -1;
	}
	share_move_wait(mv, req);
	return 0;
}

int share_incoming(struct share *s, uint32_t rank, const char *from, struct rpc_request *req, struct vc_error *err)
{
	const struct sharework_machine *machine = NULL;
	const struct plan_member *m = plan_member_by_rank(s->work->plan, rank);
	struct share_move *mv = share_move_find(s, rank);
	int source = plan_host_index(s->work->plan, from);
	if (!m || source < 0 || m->host != (uint32_t)source || (mv && (mv->stage != MOVE_WAITING || mv->req)))
		return vc_error_set(err, VC_EBUSY, "member %" PRIu32 " of job %s is not on host %s for host %s, or is being dealt with", rank, s->job,
				    from, s->work->own_name);
	if (s->phase != SHARE_UP || s->paused || !s->membership || s->removed)
		return vc_error_set(err, VC_EBUSY, "the cluster of job %s is %s", s->job,
				    s->paused ? "suspended" : s->removed ? "cut off from its other hosts" : share_phase_name(s->phase));
	if (!share_knows_machine(s, &machine, err) || share_replan(s, rank, m->host, s->work->self, err) < 0)
		return -1;
	if (!mv && !(mv = share_move_new(s, rank, (uint32_t)source, MOVE_WAITING, err)))
		return -1;
	(void)VC_FAULT("move-come");
	mv->torn = false;
	if (mv->job)
		work_cancel(vc_steal(&mv->job));
	mv->heard_at = now(s);
	return prepare(mv, req, machine, err);
}

// --- it is complete -------------------------------------------------------------------------------------------

static void where_known(void *ctx, struct json_object *result, const struct vc_error *err);

static int complete_run(struct move_job *j, struct vc_error *err)
{
	return hv_arrive(j->work->hv, j->name, HV_COMPLETE, &j->torn, err);
}

// The source need not wait for its libvirt, which still has to take the domain down there.
static void complete_done(struct share_move *mv, struct move_job *j, const struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	(void)j;
	if (!err && mv->stage == MOVE_WAITING && !mv->call && !mv->req && share_move_ask(mv, true, WHERE_MS, where_known, &why) == 0)
		return;
	vc_log_ctx(VC_LOG_DEBUG, &mv->share->log, "copy of member %" PRIu32 ": %s", mv->rank, err ? err->text : why.text);
}

void share_domain_paused(struct share *s, uint32_t rank)
{
	struct vc_error err = VC_ERROR_INIT;
	struct share_move *mv = share_move_find(s, rank);
	if (mv && mv->stage == MOVE_COPYING && mv->policy == MOVE_POSTCOPY) {
		mv->stopped_at = now(s);
		share_post_check(mv);
		return;
	}
	if (!mv || mv->stage != MOVE_WAITING || mv->job || mv->call || mv->req)
		return;
	if (start_job(mv, WORK_HV, complete_run, complete_done, NULL, &err) < 0)
		vc_log_ctx(VC_LOG_DEBUG, &s->log, "copy of member %" PRIu32 ": %s", rank, err.text);
}

// --- its streams ----------------------------------------------------------------------------------------------

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr.sun_path))
		return -1;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -1;
	return vc_steal_fd(&fd);
}

static int connect_libvirt(void)
{
	int fd = -1;
	for (size_t i = 0; fd < 0 && i < VC_ARRAY_LEN(libvirt_sockets); i++)
		fd = connect_to(libvirt_sockets[i]);
	return fd;
}

int share_stream(struct share *s, uint32_t rank, const char *what, struct vc_error *err)
{
	struct share_move *mv = share_move_find(s, rank);
	char path[108];
	if (!mv || mv->stage != MOVE_WAITING)
		return vc_error_set(err, VC_ENOTFOUND, "member %" PRIu32 " of job %s does not come to host %s", rank, s->job, s->work->own_name);
	for (unsigned i = 0; i < RELAY_STREAMS; i++) {
		if (strcmp(relay_stream_names[i], what) != 0)
			continue;
		int fd = -1;
		if (i == 0)
			fd = connect_libvirt();
		else if (sharework_road_socket(s->work, rank, what, path, sizeof(path)) == 0)
			fd = connect_to(path);
		mv->heard_at = now(s);
		return fd >= 0 ? fd : vc_error_errno(err, "stream '%s' of member %" PRIu32 " on host %s", what, rank, s->work->own_name);
	}
	return vc_error_set(err, VC_EPROTO, "'%.32s' is no stream of a migration", what);
}

// --- time -----------------------------------------------------------------------------------------------------

static void where_known(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct share_move *mv = ctx;
	const char *where = "";
	mv->call = NULL;
	mv->heard_at = now(mv->share);
	if (!err && vc_json_str(result, "where", 32, &where, NULL) == 0 && strcmp(where, "moved") == 0)
		run(mv);
	else if ((!err && strcmp(where, "here") == 0) || (err && err->code == VC_ENOTFOUND))
		drop(mv);
}

// The view calls it gone: its source is no more, and a copy that was never told to run is nobody.
bool share_member_is_gone(struct share *s, uint32_t rank)
{
	struct json_object *list = NULL;
	struct json_object *view = share_view_json(s);
	if (!view || vc_json_array(view, "members", VC_MEMBERS_MAX, &list, NULL) < 0)
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		const char *state = "";
		uint32_t r;
		if (vc_json_u32(item, "rank", VC_MEMBERS_MAX - 1, &r, NULL) == 0 && r == rank && vc_json_str(item, "state", 16, &state, NULL) == 0)
			return strcmp(state, "gone") == 0;
	}
	return false;
}

static void wait_for_leave(struct share_move *mv)
{
	struct share *s = mv->share;
	struct vc_error err = VC_ERROR_INIT;
	if (mv->job || mv->call || mv->req)
		return;
	if (share_member_is_gone(s, mv->rank))
		drop(mv);
	else if (now(s) >= mv->heard_at + SHAREMOVE_SILENCE_MS && share_move_ask(mv, false, WHERE_MS, where_known, &err) < 0)
		mv->heard_at = now(s);
}

void share_come_tick(struct share_move *mv)
{
	if (mv->stage == MOVE_WAITING)
		wait_for_leave(mv);
	else if (mv->stage == MOVE_DROPPING && mv->retry_at && now(mv->share) >= mv->retry_at)
		drop(mv);
}

void share_come_take_back(struct share_move *mv)
{
	mv->heard_at = 0; // asks at once
}
