// SPDX-License-Identifier: GPL-2.0-or-later
// Tasks' connections: see task.h.
#include "vcd/task.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "libvc/taskref.h"
#include "vcd/conf.h"
#include "vcd/console.h"
#include "vcd/glink.h"
#include "vcd/host.h"
#include "vcd/peer.h"
#include "vcd/pollio.h"
#include "vcd/rpc.h"
#include "vcd/share.h"
#include "vcd/taskaway.h"
#include "vcd/tunnel.h"
#include "vcd/vcd.h"

#define TICK_MS 500u
#define STATUS_MS 10000u // cluster.status of the controller
#define LOCAL_TASKS_MAX 65536u
#define RESET_BODY_MAX 1500u

enum task_kind { KIND_TASK, KIND_SCRIPT, KIND_EXEC, KIND_CONSOLE };
static const char *const kind_names[] = {"task", "script", "exec", "console"};

struct task {
	struct glink_route route; // first: the links know tasks by it
	struct task *next;
	struct tasks *tasks;
	struct glink *link; // NULL: the guest is gone, or the session is over
	struct pollio *io;  // NULL: the client is away
	uid_t uid;	    // whose connection began it
	uint32_t job, restart;
	bool step; // slurmstepd's: a task or a batch script
	char *open_body;    // JSON of OPEN
	bool open_due;	    // the guest has not been heard of in this session
	unsigned attaching; // connections on their way here
	uint64_t away_since; // loop time
};

struct tasks {
	struct vcd *vcd;
	struct host *host;
	uv_timer_t timer;
	struct task *list;
	unsigned n;
	bool stopped;
};

// What a task.attach asks for.
struct attach {
	uint32_t job, restart;
	enum task_kind kind;
	bool has_rank;
	uint32_t rank, local, tasks;
	uint64_t session;
	bool resume, root, layout;
};

// --- parameters -----------------------------------------------------------------------------------------------

static int parse_kind(struct json_object *params, enum task_kind *ret, struct vc_error *err)
{
	const char *text;
	if (vc_json_str(params, "kind", 16, &text, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(kind_names); i++) {
		if (strcmp(text, kind_names[i]) == 0) {
			*ret = (enum task_kind)i;
			return 0;
		}
	}
	return vc_error_set(err, VC_EPROTO, "'%s' is no kind of task", text);
}

static int parse_session(struct json_object *params, uint64_t *ret, struct vc_error *err)
{
	const char *text;
	char *end;
	if (vc_json_str(params, "session", 16, &text, err) < 0)
		return -1;
	if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
		return vc_error_set(err, VC_EPROTO, "'session' must be 16 hex digits");
	*ret = strtoull(text, &end, 16);
	if (*ret == VC_SESSION_RPC || *ret & VC_SESSION_FROM_GUEST)
		return vc_error_set(err, VC_EPROTO, "session %s is not one that a client may choose", text);
	return 0;
}

static int parse_place(struct json_object *params, struct attach *a, struct vc_error *err)
{
	struct json_object *rank = NULL;
	a->has_rank = json_object_object_get_ex(params, "rank", &rank) && rank;
	if (a->has_rank)
		return vc_json_u32(params, "rank", VC_MEMBERS_MAX - 1, &a->rank, err);
	if (a->kind == KIND_SCRIPT) {
		a->has_rank = true; // the batch script belongs to member 0
		return 0;
	}
	if (vc_json_u32(params, "tasks", LOCAL_TASKS_MAX, &a->tasks, err) < 0 ||
	    vc_json_u32(params, "local", LOCAL_TASKS_MAX, &a->local, err) < 0)
		return -1;
	return a->local < a->tasks ? 0 : vc_error_set(err, VC_EPROTO, "'local' is outside 'tasks'");
}

static int parse(struct json_object *params, struct attach *a, struct vc_error *err)
{
	if (vc_json_u32(params, "job", UINT32_MAX, &a->job, err) < 0 ||
	    vc_json_u32(params, "restart", UINT32_MAX, &a->restart, err) < 0 || parse_kind(params, &a->kind, err) < 0 ||
	    parse_place(params, a, err) < 0 || vc_json_bool_opt(params, "resume", &a->resume, err) < 0 ||
	    vc_json_bool_opt(params, "layout", &a->layout, err) < 0 ||
	    vc_json_bool_opt(params, "root", &a->root, err) < 0)
		return -1;
	return a->kind == KIND_CONSOLE ? 0 : parse_session(params, &a->session, err);
}

// --- the client's side ----------------------------------------------------------------------------------------

static void forget(struct task *t)
{
	struct tasks *ts = t->tasks;
	if (t->attaching || t->io || t->link)
		return;
	for (struct task **at = &ts->list; *at; at = &(*at)->next) {
		if (*at != t)
			continue;
		*at = t->next;
		ts->n--;
		break;
	}
	free(t->open_body);
	free(t);
}

static void leave_guest(struct task *t)
{
	if (t->link)
		glink_route_remove(t->link, &t->route);
	t->link = NULL;
}

static bool client_may_send(const struct task *t, const struct vc_link_frame *frame)
{
	static const bool allowed[] = {[VC_LINK_DATA] = true, [VC_LINK_ACK] = true, [VC_LINK_EOF] = true, [VC_LINK_RESUME] = true,
				       [VC_LINK_RESET] = true};
	return frame->session == t->route.session && frame->type < VC_ARRAY_LEN(allowed) && allowed[frame->type];
}

static void client_frame(void *ctx, struct vc_link_frame *frame)
{
	struct task *t = ctx;
	if (!client_may_send(t, frame)) {
		vc_log_warning("task session %016" PRIx64 ": a frame of type %u for session %016" PRIx64 " from uid %u: cut off",
			       t->route.session, frame->type, frame->session, (unsigned)t->uid);
		pollio_close(t->io);
		t->io = NULL;
		t->away_since = uv_now(&t->tasks->vcd->loop);
		return;
	}
	if (!t->link)
		return;
	glink_forward(t->link, frame); // lost while the link is down: RESUME follows
	if (frame->type == VC_LINK_RESET)
		leave_guest(t);
	else if (glink_blocked(t->link))
		pollio_pause(t->io, true);
}

static void client_nothing(void *ctx)
{
	(void)ctx;
}

static void client_broken(void *ctx, const struct vc_error *err)
{
	struct task *t = ctx;
	vc_log_debug("task session %016" PRIx64 ": client: %s", t->route.session, err->text);
	t->io = NULL;
	t->away_since = uv_now(&t->tasks->vcd->loop);
	forget(t); // unless the session goes on
}

static const struct pollio_ops client_ops = {
	.frame = client_frame,
	.up = client_nothing,
	.down = client_nothing,
	.writable = client_nothing,
	.broken = client_broken,
};

static void send_reset(const struct task *t, const char *code, const char *message,
		       int (*send)(void *to, struct vc_link_frame *frame), void *to)
{
	vc_autojson struct json_object *body = json_object_new_object();
	size_t len;
	vc_json_add_str(body, "code", code);
	vc_json_add_str(body, "message", message);
	const char *text = vc_json_text(body, &len);
	struct vc_link_frame frame = {.type = VC_LINK_RESET, .session = t->route.session, .len = (uint32_t)len, .body = (uint8_t *)text};
	if (text && len <= RESET_BODY_MAX)
		(void)send(to, &frame); // who is not there any more need not be told
}

static int to_client(void *to, struct vc_link_frame *frame)
{
	return pollio_forward(to, frame);
}

static int to_guest(void *to, struct vc_link_frame *frame)
{
	return glink_send(to, frame);
}

// --- the guest's side -----------------------------------------------------------------------------------------

static void send_open(struct task *t)
{
	struct vc_link_frame frame = {.type = VC_LINK_OPEN, .session = t->route.session, .body = (uint8_t *)t->open_body};
	frame.len = (uint32_t)strlen(t->open_body);
	if (t->link && t->open_due && glink_is_up(t->link))
		(void)glink_send(t->link, &frame); // said again at the next up
}

static void guest_frame(struct glink_route *route, struct vc_link_frame *frame)
{
	struct task *t = (struct task *)route;
	bool over = frame->type == VC_LINK_RESET;
	t->open_due = false;
	if (t->io && pollio_forward(t->io, frame) < 0) {
		pollio_close(t->io); // it does not read: it may come back and resume
		t->io = NULL;
		t->away_since = uv_now(&t->tasks->vcd->loop);
	}
	if (over) {
		leave_guest(t);
		forget(t);
	}
}

static void guest_up(struct glink_route *route)
{
	struct task *t = (struct task *)route;
	send_open(t);
	if (t->io)
		pollio_hello(t->io);
}

static void guest_drained(struct glink_route *route)
{
	struct task *t = (struct task *)route;
	if (t->io)
		pollio_pause(t->io, false);
}

static void guest_gone(struct glink_route *route, const char *code, const char *message)
{
	struct task *t = (struct task *)route;
	t->link = NULL;
	if (t->io && code) {
		send_reset(t, code, message, to_client, t->io); // the client closes when it has read it
	} else {
		pollio_close(t->io);
		t->io = NULL;
	}
	forget(t);
}

// --- attach ---------------------------------------------------------------------------------------------------

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

// The descriptor of a stream that is given up.
static int take_descriptor(uv_stream_t *stream)
{
	uv_os_fd_t fd = -1;
	int copy = uv_fileno((uv_handle_t *)stream, &fd) == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	uv_close((uv_handle_t *)stream, free_handle);
	return copy;
}

static void feed(struct pollio *io, const struct vc_buf *pending)
{
	size_t room;
	uint8_t *space = vc_link_space(pollio_link(io), &room);
	if (!pending->len || pending->len > room)
		return;
	memcpy(space, vc_buf_head(pending), pending->len);
	vc_link_commit(pollio_link(io), pending->len);
	pollio_tick(io);
}

static void on_taken(void *ctx, uv_stream_t *stream, struct vc_buf *pending)
{
	struct task *t = ctx;
	struct vc_error err = VC_ERROR_INIT;
	t->attaching--;
	if (!stream) {
		forget(t);
		return;
	}
	int fd = take_descriptor(stream);
	pollio_close(t->io); // the client has come back before its old connection was missed
	t->io = fd < 0 ? NULL : pollio_create(&t->tasks->vcd->loop, fd, NULL, &client_ops, t, &err);
	if (!t->io) {
		vc_log_warning("task session %016" PRIx64 ": %s", t->route.session, fd < 0 ? "no descriptor" : err.text);
		t->away_since = uv_now(&t->tasks->vcd->loop);
	} else if (!t->link) {
		send_reset(t, "member-down", "the member ended", to_client, t->io);
	} else {
		send_open(t);
		feed(t->io, pending);
	}
	forget(t);
}

static struct json_object *open_body(const struct plan *plan, const struct attach *a, uint32_t rank)
{
	struct json_object *body = json_object_new_object(), *groups = json_object_new_array();
	const struct plan_owner *o = &plan->owner;
	vc_json_add_str(body, "kind", kind_names[a->kind]);
	vc_json_add_u64(body, "uid", a->root ? 0 : o->uid);
	vc_json_add_u64(body, "gid", a->root ? 0 : o->gid);
	vc_json_add_str(body, "user", a->root ? "root" : o->user);
	vc_json_add_str(body, "home", a->root ? "/root" : o->home);
	for (size_t i = 0; !a->root && i < o->n_groups; i++) {
		struct json_object *item = json_object_new_object();
		vc_json_add_u64(item, "gid", o->groups[i].gid);
		vc_json_add_str(item, "name", o->groups[i].name);
		json_object_array_add(groups, item);
	}
	vc_json_add(body, "groups", groups);
	vc_json_add_u64(body, "rank", rank);
	return body;
}

static struct task *new_task(struct tasks *ts, struct glink *link, const struct attach *a, struct json_object *body, uid_t uid,
			     struct vc_error *err)
{
	struct task *t = calloc(1, sizeof(*t));
	const char *text = vc_json_text(body, NULL);
	if (!t || !text || !(t->open_body = strdup(text))) {
		free(t);
		vc_error_set(err, ENOMEM, "task of job %" PRIu32, a->job);
		return NULL;
	}
	t->route = (struct glink_route){.session = a->session, .frame = guest_frame, .up = guest_up, .drained = guest_drained, .gone = guest_gone};
	if (glink_route_add(link, &t->route, err) < 0) {
		free(t->open_body);
		free(t);
		return NULL;
	}
	t->tasks = ts;
	t->link = link;
	t->uid = uid;
	t->job = a->job;
	t->restart = a->restart;
	t->step = a->kind == KIND_TASK || a->kind == KIND_SCRIPT;
	t->open_due = true; // a guest that has the session goes on with it; one that never got OPEN needs it
	t->away_since = uv_now(&ts->vcd->loop);
	t->next = ts->list;
	ts->list = t;
	ts->n++;
	return t;
}

// A session that is known here goes on for the same user only; one that is not may be of a former vcd.
static struct task *find_or_make(struct tasks *ts, struct share *s, struct glink *link, const struct attach *a, uint32_t rank,
				 struct rpc_request *req, struct vc_error *err)
{
	uid_t uid = rpc_caller(req)->uid;
	struct task *t = (struct task *)glink_route_find(link, a->session);
	if (t && t->uid == uid)
		return t;
	if (t) {
		vc_error_set(err, VC_EDENIED, "session %016" PRIx64 " belongs to another user", a->session);
		return NULL;
	}
	vc_autojson struct json_object *body = open_body(share_plan(s), a, rank);
	return new_task(ts, link, a, body, uid, err);
}

// The members of each host: what PMI and PMIx need to know about the other tasks of the step.
static int add_layout(struct json_object *result, const struct plan *plan)
{
	vc_autojson struct json_object *layout = json_object_new_object();
	for (size_t i = 0; i < plan->n_hosts; i++) {
		if (vc_json_add(layout, plan->hosts[i].name, json_object_new_array()) < 0)
			return -1;
	}
	for (size_t i = 0; i < plan->n_members; i++) {
		const struct plan_member *m = &plan->members[i];
		struct json_object *list = NULL;
		if (vc_json_array(layout, plan->hosts[m->home].name, VC_MEMBERS_MAX, &list, NULL) < 0 ||
		    json_object_array_add(list, json_object_new_string(m->name)) < 0)
			return -1;
	}
	return vc_json_add(result, "layout", vc_steal(&layout));
}

// A word that only the cluster's owner and its hosts know: by it PMIx servers know the ranks of their step.
static int add_token(struct json_object *result, const struct plan *plan)
{
	static const char context[] = "vcluster pmix 1";
	uint8_t key[crypto_generichash_BYTES_MIN];
	char text[2 * sizeof(key) + 1];
	crypto_generichash(key, sizeof(key), (const uint8_t *)plan->secret, strlen(plan->secret), (const uint8_t *)context,
			   sizeof(context) - 1);
	return vc_json_add_str(result, "token", sodium_bin2hex(text, sizeof(text), key, sizeof(key)));
}

// The host's CPU behind each processor of the machine, where each has its own.
static void add_cpus(struct json_object *result, const struct sharework *w, const struct plan_member *m)
{
	uint32_t cpus[PLAN_CPUS_MAX];
	struct json_object *list = sharework_cpus(w, m, cpus) >= m->vcpus ? json_object_new_array() : NULL;
	for (uint32_t i = 0; list && i < m->vcpus; i++)
		json_object_array_add(list, json_object_new_int64(cpus[i]));
	if (list)
		vc_json_add(result, "cpus", list);
}

static struct json_object *attach_result(const struct tasks *ts, const struct sharework *w, const struct plan_member *m,
					 const struct attach *a)
{
	const struct plan *plan = w->plan;
	struct json_object *result = json_object_new_object();
	vc_json_add_u64(result, "rank", m->rank);
	vc_json_add_str(result, "name", m->name);
	vc_json_add_str(result, "cluster", plan->id);
	vc_json_add_strv(result, "env_filter", ts->vcd->conf->env_filter);
	if (a->layout && add_layout(result, plan) == 0)
		(void)add_token(result, plan); // without them only PMI and PMIx do not work, and say so
	add_cpus(result, w, m);
	if (a->kind == KIND_SCRIPT && plan->spec->stage_out)
		vc_json_add_strv(result, "stage_out", plan->spec->stage_out);
	return result;
}

static int join(struct tasks *ts, struct share *s, const struct attach *a, const struct plan_member *m, struct rpc_request *req,
		struct vc_error *err)
{
	struct glink *link = share_link(s, m->rank, err);
	struct task *t = link ? find_or_make(ts, s, link, a, m->rank, req, err) : NULL;
	if (!t)
		return -1;
	struct json_object *result = attach_result(ts, share_work(s), m, a);
	t->attaching++;
	if (tunnel_take(ts->vcd, req, result, on_taken, t, err) == 0)
		return 0;
	json_object_put(result);
	t->attaching--;
	if (!t->io && t->open_due)
		leave_guest(t);
	forget(t);
	return -1;
}

static int join_console(struct tasks *ts, struct share *s, const struct attach *a, const struct plan_member *m, struct rpc_request *req,
			struct vc_error *err)
{
	char path[108];
	if (sharework_socket(share_work(s), m->rank, "console", path, sizeof(path), err) < 0)
		return -1;
	struct json_object *result = attach_result(ts, share_work(s), m, a);
	if (console_attach(ts->vcd, path, req, result, err) == 0)
		return 0;
	json_object_put(result);
	return -1;
}

// Slurm's tasks of this host belong to the members that began here, wherever they are now.
static const struct plan_member *nth_of_home(const struct sharework *w, const struct attach *a)
{
	uint32_t n = 0, k = 0;
	for (size_t i = 0; i < w->plan->n_members; i++)
		n += w->plan->members[i].home == w->self;
	uint32_t want = n ? vc_task_member_index(a->local, a->tasks, n) : 0;
	for (size_t i = 0; i < w->plan->n_members; i++) {
		if (w->plan->members[i].home == w->self && k++ == want)
			return &w->plan->members[i];
	}
	return NULL;
}

static const struct plan_member *choose_member(struct share *s, const struct attach *a, struct rpc_request *req,
					       struct vc_error *err)
{
	const struct sharework *w = share_work(s);
	const struct plan_member *m = a->has_rank ? plan_member_by_rank(w->plan, a->rank) : nth_of_home(w, a);
	if (m && sharework_comes(w, m)) {
		vc_error_set(err, VC_EBUSY, "member %s of job %" PRIu32 " is on its way to host %s", m->name, a->job, w->own_name);
		return NULL;
	}
	if (m && (m->host == w->self || (rpc_is_local(req) && m->home == w->self && a->kind != KIND_CONSOLE)))
		return m;
	if (m) // it may have just moved on: whose session goes on tries again
		vc_error_set(err, a->resume || rpc_caller(req)->peer ? VC_EBUSY : VC_EUSER, "member %s of job %" PRIu32 " is on host %s: attach there", m->name, a->job,
			     w->plan->hosts[m->host].name);
	else
		vc_error_set(err, VC_EUSER, "job %" PRIu32 " has no member %" PRIu32, a->job, a->rank);
	return NULL;
}

static int check_phase(struct share *s, const struct attach *a, struct vc_error *err)
{
	switch (share_phase(s)) {
	case SHARE_UP:
		if (share_is_paused(s) && !a->resume)
			return vc_error_set(err, VC_EBUSY, "job %" PRIu32 " is suspended, and its machines are paused", a->job);
		return 0;
	case SHARE_FAILED:
		*err = *share_error(s);
		return -1;
	case SHARE_RELEASING:
		return vc_error_set(err, VC_ECANCELED, "the virtual cluster of job %" PRIu32 " is being released", a->job);
	default:
		return vc_error_set(err, VC_EBUSY, "the virtual cluster of job %" PRIu32 " is still %s", a->job,
				    share_phase_name(share_phase(s)));
	}
}

// --- a job without a cluster here -----------------------------------------------------------------------------

struct question {
	struct rpc_request *req;
	uint32_t job;
};

static void status_known(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct question *q = ctx;
	struct vc_error answer = VC_ERROR_INIT;
	const char *state = "unknown", *reason = "";
	if (err) {
		vc_error_set(&answer, err->code, "job %" PRIu32 " has no virtual cluster on this host, and the controller says: %s", q->job,
			     err->text);
	} else {
		(void)vc_json_str_opt(result, "state", 64, &state, NULL);
		(void)vc_json_str_opt(result, "reason", VC_ERROR_TEXT_MAX, &reason, NULL);
		bool failed = strcmp(state, "failed") == 0, early = !failed && strncmp(state, "releas", 6) != 0;
		vc_error_set(&answer, early ? VC_EBUSY : VC_EUSER, "the virtual cluster of job %" PRIu32 " %s %s%s%s", q->job,
			     failed ? "has" : "is", state, reason[0] ? ": " : "", reason);
	}
	rpc_reply_error(q->req, &answer);
	free(q);
}

static int ask_controller(struct tasks *ts, const struct attach *a, struct rpc_request *req, struct vc_error *err)
{
	struct question *q = calloc(1, sizeof(*q));
	vc_autojson struct json_object *params = json_object_new_object();
	if (!q || vc_json_add_str(params, "slurm", ts->vcd->conf->cluster_name) < 0 || vc_json_add_u64(params, "job", a->job) < 0) {
		free(q);
		return vc_error_set(err, ENOMEM, "job %" PRIu32, a->job);
	}
	*q = (struct question){req, a->job};
	struct peer_args args = {.host = peers_controller(ts->vcd->peers), .method = "cluster.status", .params = params,
				 .timeout_ms = STATUS_MS, .trace = rpc_trace(req), .done = status_known, .ctx = q};
	if (peer_call(ts->vcd->peers, &args, err))
		return 0;
	free(q);
	return -1;
}

static int explain_absence(struct tasks *ts, const struct attach *a, struct rpc_request *req, struct vc_error *err)
{
	uid_t owner = 0;
	char job[16];
	const char *reason = host_failure(ts->host, a->job, a->restart, &owner);
	if (!reason)
		return ask_controller(ts, a, req, err);
	snprintf(job, sizeof(job), "%" PRIu32, a->job);
	if (rpc_require_owner(req, owner, job, err) < 0)
		return -1;
	return vc_error_set(err, VC_EUSER, "the virtual cluster of job %s failed: %s", job, reason);
}

// --- the method -----------------------------------------------------------------------------------------------

static int attach_here(struct tasks *ts, struct share *s, const struct attach *a, struct rpc_request *req, struct vc_error *err)
{
	char job[16];
	snprintf(job, sizeof(job), "%" PRIu32, a->job);
	if (rpc_require_owner(req, share_plan(s)->owner.uid, job, err) < 0 || check_phase(s, a, err) < 0)
		return -1;
	if (a->root && !rpc_caller_is_admin(req))
		return vc_error_set(err, VC_EDENIED, "job %s: only admins may be root in its members", job);
	if (a->root && a->kind != KIND_EXEC)
		return vc_error_set(err, VC_EPROTO, "'root' is for kind exec");
	const struct plan_member *m = choose_member(s, a, req, err);
	if (!m)
		return -1;
	rpc_set_job(req, job);
	const struct sharework *w = share_work(s);
	if (m->host != w->self)
		return taskaway_attach(ts->vcd, req, w->plan->hosts[m->host].name, m->rank, attach_result(ts, w, m, a), err);
	return a->kind == KIND_CONSOLE ? join_console(ts, s, a, m, req, err) : join(ts, s, a, m, req, err);
}

static int attach(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct tasks *ts = ctx;
	struct attach a = {0};
	if (parse(rpc_params(req), &a, err) < 0 || host_require_ready(ts->host, err) < 0)
		return -1;
	struct share *s = host_find_job(ts->host, a.job);
	if (!s || share_plan(s)->key.restart < a.restart)
		return explain_absence(ts, &a, req, err);
	if (share_plan(s)->key.restart > a.restart)
		return vc_error_set(err, VC_ESTALE, "job %" PRIu32 " was restarted: this task belongs to its earlier run", a.job);
	uid_t owner;
	if (share_phase(s) != SHARE_UP && host_failure(ts->host, a.job, a.restart, &owner)) // on another host
		return explain_absence(ts, &a, req, err);
	return attach_here(ts, s, &a, req, err);
}

static const struct rpc_method methods[] = {{"task.attach", RPC_OWNER, RPC_HOST, RPC_DATA, attach}};

// --- clients that went away, life -----------------------------------------------------------------------------

static uint64_t grace(const struct tasks *ts)
{
	uint64_t ms = ts->vcd->conf->task_grace_ms;
	return ms < TASK_CLIENT_MS ? ms : TASK_CLIENT_MS;
}

static void on_tick(uv_timer_t *timer)
{
	struct tasks *ts = timer->data;
	uint64_t now = uv_now(&ts->vcd->loop);
	for (struct task *next, *t = ts->list; t; t = next) {
		next = t->next;
		if (t->io || t->attaching || now - t->away_since < grace(ts) || !t->link || !glink_is_up(t->link))
			continue;
		vc_log_debug("task session %016" PRIx64 ": its client is gone", t->route.session);
		send_reset(t, "lost", "the task's client on the host ended", to_guest, t->link);
		leave_guest(t);
		forget(t);
	}
}

struct tasks *tasks_create(struct vcd *vcd, struct host *host, struct vc_error *err)
{
	struct tasks *ts = calloc(1, sizeof(*ts));
	if (!ts) {
		vc_error_errno(err, "tasks");
		return NULL;
	}
	ts->vcd = vcd;
	ts->host = host;
	if (rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), ts, err) < 0) {
		free(ts);
		return NULL;
	}
	uv_timer_init(&vcd->loop, &ts->timer);
	ts->timer.data = ts;
	uv_timer_start(&ts->timer, on_tick, TICK_MS, TICK_MS);
	return ts;
}

void tasks_stop(struct tasks *ts)
{
	if (!ts || ts->stopped)
		return;
	ts->stopped = true;
	uv_close((uv_handle_t *)&ts->timer, NULL);
	for (struct task *next, *t = ts->list; t; t = next) {
		next = t->next;
		pollio_close(t->io);
		t->io = NULL;
		forget(t);
	}
}

void tasks_destroy(struct tasks *ts)
{
	if (!ts)
		return;
	while (ts->list) { // whose connection never came
		struct task *t = ts->list;
		t->attaching = 0;
		t->link = NULL;
		forget(t);
	}
	free(ts);
}

unsigned tasks_count(const struct tasks *ts)
{
	return ts->n;
}

bool tasks_has_steps(const struct tasks *ts, uint32_t job, uint32_t restart)
{
	for (const struct task *t = ts->list; t; t = t->next) {
		if (t->step && t->job == job && t->restart == restart && (t->io || t->attaching))
			return true;
	}
	return false;
}
