// SPDX-License-Identifier: GPL-2.0-or-later
// Who runs what in this guest: see tasks.h.
#include "guest/tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "guest/iofile.h"
#include "guest/members.h"
#include "guest/preload.h"
#include "guest/taskenv.h"
#include "guest/taskrun.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"

#define OPEN_BODY_MAX 65536u // bytes, VC_LINK_BODY_MAX
#define GROUPS_MAX 256u	     // as SETUP_GROUPS_MAX
#define SCRIPT_DIR VC_GUEST_DIR "/scripts"
#define CGROUP_ROOT "/sys/fs/cgroup"
#define CGROUP_DIR CGROUP_ROOT "/tasks"
#define RSH_SESSIONS_MAX 4096u // vcrsh sessions into one guest; an MPI launcher makes one per run
#define RSH_ORPHAN_MS 15000u   // a vcrsh that was killed is gone for good: do not hold its task as long as the host's

struct tasks {
	struct agent *a;
	struct taskrun *host, *rsh;
	struct preload preload;
	struct iofile_seen files; // that tasks of steps have emptied
};

// The far end of one vcrsh connection: a route of the rsh taskrun.
struct rsh_route {
	struct tasks *t;
	uid_t uid;
};

static int send_frame(void *ctx, void *route, struct vc_link_frame *frame)
{
	(void)ctx;
	return wire_send(route, frame);
}

// How many processes this guest's kernel has killed for want of memory.
static uint64_t oom_kills(void)
{
	char line[128];
	uint64_t n = 0;
	vc_autofclose FILE *f = fopen("/proc/vmstat", "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "oom_kill ", 9) == 0)
			(void)vc_parse_u64("oom_kill", line + 9, 0, UINT64_MAX, &n, NULL);
	}
	return n;
}

// --- who -------------------------------------------------------------------------------------------------------

static int copy_text(const char *what, const char *text, char *dst, size_t size, struct vc_error *err)
{
	if (strlen(text) >= size)
		return vc_error_set(err, VC_EPROTO, "%s is longer than %zu bytes", what, size - 1);
	memcpy(dst, text, strlen(text) + 1);
	return 0;
}

static int parse_groups(struct json_object *obj, struct taskrun_identity *id, struct vc_error *err)
{
	struct json_object *array = NULL;
	if (vc_json_array_opt(obj, "groups", GROUPS_MAX, &array, err) < 0)
		return -1;
	size_t n = array ? json_object_array_length(array) : 0;
	vc_autofree gid_t *groups = calloc(n + 1, sizeof(*groups));
	if (!groups)
		return vc_error_errno(err, "groups");
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(array, i);
		uint32_t gid;
		if (json_object_is_type(item, json_type_int) && json_object_get_int64(item) >= 0 &&
		    json_object_get_int64(item) < UINT32_MAX)
			gid = (uint32_t)json_object_get_int64(item);
		else if (vc_json_u32(item, "gid", UINT32_MAX - 1, &gid, err) < 0)
			return vc_error_wrap(err, "group %zu", i);
		groups[i] = gid;
	}
	id->groups = vc_steal(&groups);
	id->group_count = n;
	return 0;
}

static int identity_from_json(struct json_object *obj, struct taskrun_identity *ret, struct vc_error *err)
{
	struct taskrun_identity id = {0};
	const char *user, *home;
	uint32_t uid, gid;
	if (vc_json_u32(obj, "uid", UINT32_MAX - 1, &uid, err) < 0 || vc_json_u32(obj, "gid", UINT32_MAX - 1, &gid, err) < 0 ||
	    vc_json_str(obj, "user", sizeof(id.user) - 1, &user, err) < 0 ||
	    vc_json_str(obj, "home", sizeof(id.home) - 1, &home, err) < 0 ||
	    copy_text("user", user, id.user, sizeof(id.user), err) < 0 ||
	    copy_text("home", home, id.home, sizeof(id.home), err) < 0 || parse_groups(obj, &id, err) < 0)
		return -1;
	id.uid = uid;
	id.gid = gid;
	*ret = id;
	return 0;
}

static int host_authorize(void *ctx, void *route, uint64_t session, const char *body, size_t len,
			  struct taskrun_identity *ret, struct vc_error *err)
{
	struct tasks *t = ctx;
	(void)route;
	(void)session;
	if (!t->a->setup || t->a->stopping)
		return vc_error_set(err, VC_EBUSY, t->a->stopping ? "this guest is shutting down" : "this guest is not configured yet");
	if (len > OPEN_BODY_MAX)
		return vc_error_set(err, VC_EPROTO, "OPEN of %zu bytes", len);
	vc_autojson struct json_object *obj = vc_json_parse(body, len, err);
	if (!obj || identity_from_json(obj, ret, err) < 0)
		return -1;
	ret->data = (void *)(uintptr_t)oom_kills(); // so far: failed() compares
	return 0;
}

static int owner_identity(const struct setup_owner *o, struct taskrun_identity *ret, struct vc_error *err)
{
	struct taskrun_identity id = {.uid = o->uid, .gid = o->gid, .leave_children = true};
	if (copy_text("user", o->user, id.user, sizeof(id.user), err) < 0 ||
	    copy_text("home", o->home, id.home, sizeof(id.home), err) < 0)
		return -1;
	id.groups = calloc(o->n_groups + 1, sizeof(*id.groups));
	if (!id.groups)
		return vc_error_errno(err, "groups");
	for (size_t i = 0; i < o->n_groups; i++)
		id.groups[i] = o->groups[i].gid;
	id.group_count = o->n_groups;
	*ret = id;
	return 0;
}

static int rsh_authorize(void *ctx, void *route, uint64_t session, const char *body, size_t len,
			 struct taskrun_identity *ret, struct vc_error *err)
{
	struct tasks *t = ctx;
	const struct rsh_route *r = wire_ctx(route);
	(void)session;
	(void)body;
	(void)len;
	if (!t->a->setup || t->a->stopping)
		return vc_error_set(err, VC_EBUSY, "this guest is not ready");
	if (r->uid != 0)
		return owner_identity(&t->a->setup->owner, ret, err);
	*ret = (struct taskrun_identity){.user = "root", .home = "/root", .leave_children = true};
	return 0;
}

bool tasks_uid_allowed(const struct agent *a, uid_t uid)
{
	return uid == 0 || (a->setup && uid == a->setup->owner.uid);
}

// --- with what -------------------------------------------------------------------------------------------------

// A task that was killed for want of memory looks like any that was killed.
static void failed(void *ctx, uint64_t session, const struct taskrun_identity *id, int wstatus, char *ret_text, size_t size)
{
	struct tasks *t = ctx;
	struct sysinfo info;
	uint64_t killed = oom_kills() - (uint64_t)(uintptr_t)id->data;
	(void)session;
	(void)wstatus;
	if (!killed || sysinfo(&info) < 0)
		return;
	snprintf(ret_text, size, "%s ran out of memory (%" PRIu64 " MiB) while this task ran, and its kernel killed %" PRIu64
		 " process%s: ask for more with --mem or --vcluster-mem", setup_self(t->a->setup)->name,
		 (uint64_t)info.totalram * info.mem_unit >> 20, killed, killed == 1 ? "" : "es");
}

static int share_files(struct tasks *t, struct vc_exec_start *start, struct vc_error *err)
{
	const char *job = vc_exec_getenv(start, "SLURM_JOB_ID"), *step = vc_exec_getenv(start, "SLURM_STEP_ID");
	for (size_t i = 0; i < VC_ARRAY_LEN(start->files); i++) {
		struct vc_exec_file *f = &start->files[i];
		vc_autofree char *key = NULL;
		if (!f->path || !(f->flags & O_TRUNC))
			continue;
		if (asprintf(&key, "%s.%s %s %s", job ? job : "", step ? step : "", start->cwd ? start->cwd : "", f->path) < 0) {
			key = NULL;
			return vc_error_errno(err, "%s", f->path);
		}
		if (!iofile_first(&t->files, key))
			f->flags &= ~O_TRUNC;
	}
	return 0;
}

static int prepare(void *ctx, uint64_t session, const struct taskrun_identity *id, struct vc_exec_start *start,
		   struct vc_error *err)
{
	struct tasks *t = ctx;
	const struct view *view = members_view(t->a->members);
	struct taskenv facts = {
		.user = id->user,
		.home = id->home,
		.shell = access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh",
		.member = setup_self(t->a->setup)->name,
		.rank = t->a->setup->rank,
		.epoch = view ? view->epoch : 0,
		.size = view ? (uint32_t)view_size(view) : (uint32_t)t->a->setup->n_members,
		.site = t->a->setup->env,
		.preload = preload_value(&t->preload, t->a->setup->shared_cpus),
		.shared_cpus = t->a->setup->shared_cpus,
	};
	(void)session;
	return taskenv_apply(&facts, start, err) < 0 ? -1 : share_files(t, start, err);
}

static const struct taskrun_ops host_ops = {
	.send_frame = send_frame, .authorize = host_authorize, .prepare = prepare, .failed = failed};
static const struct taskrun_ops rsh_ops = {.send_frame = send_frame, .authorize = rsh_authorize, .prepare = prepare};

// --- life ------------------------------------------------------------------------------------------------------

static const char *make_cgroup(void)
{
	if (access(CGROUP_ROOT "/cgroup.controllers", R_OK) < 0)
		return NULL;
	return mkdir(CGROUP_DIR, 0755) == 0 || errno == EEXIST ? CGROUP_DIR : NULL;
}

struct tasks *tasks_create(struct agent *a, struct vc_error *err)
{
	vc_autofree struct tasks *t = calloc(1, sizeof(*t));
	if (!t || (mkdir(SCRIPT_DIR, 0711) < 0 && errno != EEXIST)) {
		vc_error_errno(err, SCRIPT_DIR);
		return NULL;
	}
	struct taskrun_config conf = {
		.loop = &a->loop, .script_dir = SCRIPT_DIR, .path = VC_GUEST_DIR "/bin:" TASKENV_PATH, .cgroup = make_cgroup()};
	if (preload_place(&t->preload, err) < 0)
		return NULL;
	conf.make_cwd = true;
	conf.mux.id_mask = VC_SESSION_FROM_GUEST; // the host's sessions have it clear
	t->a = a;
	t->host = taskrun_create(&conf, &host_ops, t, err);
	if (!t->host)
		return NULL;
	conf.script_dir = NULL;
	conf.mux.sessions_max = RSH_SESSIONS_MAX;
	conf.orphan_ms = RSH_ORPHAN_MS;
	t->rsh = taskrun_create(&conf, &rsh_ops, t, err);
	return t->rsh ? vc_steal(&t) : NULL;
}

void tasks_host_input(struct tasks *t, struct wire *w, struct vc_link_frame *frame)
{
	taskrun_input(t->host, w, frame);
}

void tasks_host_down(struct tasks *t, struct wire *w)
{
	taskrun_route_down(t->host, w);
}

void tasks_host_writable(struct tasks *t, struct wire *w)
{
	taskrun_route_writable(t->host, w);
}

void tasks_child_exited(struct tasks *t, pid_t pid, int wstatus)
{
	if (!taskrun_child_exited(t->host, pid, wstatus))
		taskrun_child_exited(t->rsh, pid, wstatus);
}

void tasks_kill(struct tasks *t, int signo)
{
	taskrun_kill_all(t->host, signo);
	taskrun_kill_all(t->rsh, signo);
}

size_t tasks_count(const struct tasks *t)
{
	return taskrun_count(t->host) + taskrun_count(t->rsh);
}

// --- vcrsh's routes --------------------------------------------------------------------------------------------

static void rsh_frame(void *ctx, struct wire *w, struct vc_link_frame *frame)
{
	struct rsh_route *r = ctx;
	taskrun_input(r->t->rsh, w, frame);
}

static void rsh_writable(void *ctx, struct wire *w)
{
	struct rsh_route *r = ctx;
	taskrun_route_writable(r->t->rsh, w);
}

static void rsh_end(void *ctx, struct wire *w, const struct vc_error *why)
{
	struct rsh_route *r = ctx;
	(void)why; // the tunnel has logged what is worth it
	taskrun_route_down(r->t->rsh, w);
	wire_destroy(w);
	free(r);
}

static const struct wire_ops rsh_wire_ops = {.on_frame = rsh_frame, .on_writable = rsh_writable, .on_end = rsh_end};

struct wire *tasks_rsh_begin(struct tasks *t, int fd, uid_t uid, struct vc_error *err)
{
	struct rsh_route *r = calloc(1, sizeof(*r));
	if (!r) {
		vc_error_errno(err, "vcrsh");
		close(fd);
		return NULL;
	}
	*r = (struct rsh_route){t, uid};
	struct wire *w = wire_create(t->a->wires, fd, NULL, &rsh_wire_ops, r, err);
	if (!w)
		free(r);
	return w;
}
