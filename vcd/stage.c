// SPDX-License-Identifier: GPL-2.0-or-later
// Files into the members of this host: see stage.h. A staging owns its request and its processes until all have ended.
#include "vcd/stage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/host.h"
#include "vcd/rpc.h"
#include "vcd/share.h"
#include "vcd/vcd.h"

#define SAID_MAX 800 // bytes of a process's standard error that go into the reason
#define SAYS "vcluster: " // what vc-stage's own words begin with

struct stage_process {
	struct staging *staging;
	uv_process_t process;
	uv_pipe_t err;
	int open_handles;
	bool started;
	int64_t status;
	int signal;
	char said[SAID_MAX + 1];
	size_t said_len;
	char chunk[512];
};

struct staging {
	struct rpc_request *req;
	size_t n, running;
	bool canceled;
	struct stage_process *processes;
};

static void kill_all(struct staging *st)
{
	for (size_t i = 0; i < st->n; i++) {
		if (st->processes[i].started && uv_is_active((uv_handle_t *)&st->processes[i].process))
			uv_process_kill(&st->processes[i].process, SIGTERM);
	}
}

static int outcome(const struct staging *st, struct vc_error *err)
{
	if (st->canceled)
		return vc_error_set(err, VC_ECANCELED, "staging was given up");
	for (size_t i = 0; i < st->n; i++) {
		const struct stage_process *p = &st->processes[i];
		const char *said = strncmp(p->said, SAYS, strlen(SAYS)) == 0 ? p->said + strlen(SAYS) : p->said;
		if (p->status || p->signal)
			return vc_error_set(err, VC_EUSER, "--vcluster-stage-in: %s", *said ? said : "vc-stage could not be run");
	}
	return 0;
}

static void handle_closed(uv_handle_t *handle)
{
	struct stage_process *p = handle->data;
	struct staging *st = p->staging;
	struct vc_error err = VC_ERROR_INIT;
	if (--p->open_handles > 0 || --st->running > 0)
		return;
	if (outcome(st, &err) < 0)
		rpc_reply_error(st->req, &err);
	else
		rpc_reply(st->req, NULL);
	free(st->processes);
	free(st);
}

static void process_exit(uv_process_t *process, int64_t status, int signal)
{
	struct stage_process *p = process->data;
	p->status = status;
	p->signal = signal;
	uv_close((uv_handle_t *)process, handle_closed);
}

static void err_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct stage_process *p = handle->data;
	(void)size;
	*buf = uv_buf_init(p->chunk, sizeof(p->chunk));
}

// Keeps the beginning: the cause comes first; lines become one.
static void err_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct stage_process *p = stream->data;
	if (n < 0) {
		if (!uv_is_closing((uv_handle_t *)stream))
			uv_close((uv_handle_t *)stream, handle_closed);
		return;
	}
	for (ssize_t i = 0; i < n && p->said_len < SAID_MAX; i++)
		p->said[p->said_len++] = buf->base[i] == '\n' ? ' ' : buf->base[i];
	p->said[p->said_len] = '\0';
}

static int spawn(struct vcd *vcd, struct stage_process *p, char **argv)
{
	static char *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->err}};
	uv_process_options_t options = {
		.exit_cb = process_exit, .file = argv[0], .args = argv, .env = env, .cwd = "/", .stdio_count = 3, .stdio = stdio};
	uv_pipe_init(&vcd->loop, &p->err, 0);
	p->err.data = p->process.data = p;
	p->open_handles = 2;
	int rc = uv_spawn(&vcd->loop, &p->process, &options);
	if (rc < 0) {
		snprintf(p->said, sizeof(p->said), "%s: %s", argv[0], uv_strerror(rc));
		p->status = 127;
		uv_close((uv_handle_t *)&p->process, handle_closed);
		uv_close((uv_handle_t *)&p->err, handle_closed);
		return rc;
	}
	p->started = true;
	return uv_read_start((uv_stream_t *)&p->err, err_alloc, err_read);
}

// head, then the files; its failure to start is that process's outcome.
static int add_process(struct vcd *vcd, struct staging *st, char *const *head, size_t n_head, char *const *files, struct vc_error *err)
{
	size_t n = vc_strv_len(files);
	vc_autofree char **argv = calloc(n_head + n + 1, sizeof(*argv));
	if (!argv)
		return vc_error_errno(err, "host.stage");
	memcpy(argv, head, n_head * sizeof(*argv));
	memcpy(argv + n_head, files, n * sizeof(*argv));
	struct stage_process *p = &st->processes[st->n++];
	p->staging = st;
	st->running++;
	spawn(vcd, p, argv);
	return 0;
}

static int start_member(struct vcd *vcd, struct staging *st, const struct plan *plan, const struct plan_member *m, struct vc_error *err)
{
	char as[VC_NAME_MAX + 8], job[24], restart[24], rank[24];
	snprintf(as, sizeof(as), "--as=%s", plan->owner.user);
	snprintf(job, sizeof(job), "--job=%u", plan->key.job);
	snprintf(restart, sizeof(restart), "--restart=%u", plan->key.restart);
	snprintf(rank, sizeof(rank), "--rank=%u", m->rank);
	char *const head[] = {VC_LIBEXECDIR "/vc-stage", as, job, restart, rank, "in"};
	return add_process(vcd, st, head, VC_ARRAY_LEN(head), plan->spec->stage_in, err);
}

static void caller_gone(struct rpc_request *req, void *ctx)
{
	struct staging *st = ctx;
	(void)req;
	st->canceled = true;
	kill_all(st); // answered when they have ended
}

static struct staging *staging_create(struct rpc_request *req, size_t n, struct vc_error *err)
{
	struct staging *st = calloc(1, sizeof(*st));
	struct stage_process *processes = calloc(n, sizeof(*processes));
	if (!st || !processes) {
		free(st);
		free(processes);
		vc_error_errno(err, "host.stage");
		return NULL;
	}
	st->req = req;
	st->processes = processes;
	return st;
}

// It is answered when its processes have ended; -1: there are none.
static int staging_began(struct staging *st, size_t wanted)
{
	if (st->n == 0) {
		free(st->processes);
		free(st);
		return -1;
	}
	st->canceled = st->n < wanted;
	if (st->canceled)
		kill_all(st);
	rpc_on_cancel(st->req, caller_gone, st);
	return 0;
}

static int start(struct vcd *vcd, struct share *s, struct rpc_request *req, struct vc_error *err)
{
	const struct sharework *w = share_work(s);
	struct staging *st = staging_create(req, w->n_members, err);
	if (!st)
		return -1;
	for (size_t i = 0; i < w->n_members; i++) {
		if (start_member(vcd, st, w->plan, w->members[i], err) < 0)
			break;
	}
	return staging_began(st, w->n_members);
}

// Before there is a share: can the user read them here?
static int host_look(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct vcd *vcd = host_vcd(ctx);
	const char *user;
	char as[VC_NAME_MAX + 8];
	vc_autostrv char **files = NULL;
	if (vc_json_str(rpc_params(req), "user", VC_NAME_MAX, &user, err) < 0 ||
	    vc_json_strv(rpc_params(req), "files", VC_STAGE_FILES_MAX, VC_PATH_MAX, &files, err) < 0)
		return -1;
	struct staging *st = staging_create(req, 1, err);
	if (!st)
		return -1;
	snprintf(as, sizeof(as), "--as=%s", user);
	char *const head[] = {VC_LIBEXECDIR "/vc-stage", as, "check"};
	(void)add_process(vcd, st, head, VC_ARRAY_LEN(head), files, err);
	return staging_began(st, 1);
}

static int host_stage(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *host = ctx;
	const char *id;
	uint32_t job;
	if (vc_json_str(rpc_params(req), "cluster", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_u32(rpc_params(req), "job", UINT32_MAX, &job, err) < 0)
		return -1;
	struct share *s = host_find_job(host, job);
	if (!s || strcmp(share_plan(s)->id, id) != 0)
		return vc_error_set(err, VC_ENOTFOUND, "cluster %s is not on this host", id);
	if (!share_plan(s)->spec->stage_in) {
		rpc_reply(req, NULL);
		return 0;
	}
	return start(host_vcd(host), s, req, err);
}

static const struct rpc_method methods[] = {
	{"host.look", RPC_PEER, RPC_HOST, 0, host_look},
	{"host.stage", RPC_PEER, RPC_HOST, 0, host_stage},
};

int stage_register(struct vcd *vcd, struct host *host, struct vc_error *err)
{
	return rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), host, err);
}
