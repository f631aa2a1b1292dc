// SPDX-License-Identifier: GPL-2.0-or-later
// The site's hook: see viewhook.h.
#include "vcd/viewhook.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/vcd.h"

struct run { // the process; frees itself
	uv_process_t process;
	struct viewhook *hook; // NULL: gone meanwhile
	uint64_t until;	       // loop time
};

struct viewhook {
	struct vcd *vcd;
	char short_id[PLAN_SHORT_LEN + 1], host[VC_HOSTNAME_MAX + 1], first_host[VC_HOSTNAME_MAX + 1];
	uint32_t job;
	struct json_object *old, *new; // the last view that a hook was told, and the newest
	uint64_t epoch;		       // of the newest
	struct run *run;
};

static int write_view(const char *path, struct json_object *view, struct vc_error *err)
{
	size_t len;
	const char *text = vc_json_text(view, &len);
	vc_autofclose FILE *f = fopen(path, "we");
	if (!text || !f || fchmod(fileno(f), 0600) < 0 || fwrite(text, 1, len, f) != len)
		return vc_error_errno(err, "%s", path);
	return 0;
}

static void run_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void start(struct viewhook *h);

static void run_exited(uv_process_t *process, int64_t status, int signal)
{
	struct run *r = process->data;
	struct viewhook *h = r->hook;
	if (status || signal)
		vc_log_warning("view-hook: ended with %s %" PRId64, signal ? "signal" : "status", signal ? (int64_t)signal : status);
	uv_close((uv_handle_t *)process, run_closed);
	if (!h)
		return;
	h->run = NULL;
	start(h);
}

static int spawn(struct viewhook *h, const char *old, const char *new, struct vc_error *err)
{
	char vars[7][PATH_MAX + 32], *env[VC_ARRAY_LEN(vars) + 2] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
	struct run *r = calloc(1, sizeof(*r));
	char *argv[] = {h->vcd->conf->view_hook, NULL};
	if (!r)
		return vc_error_errno(err, "view-hook");
	snprintf(vars[0], sizeof(vars[0]), "VCLUSTER_JOB=%" PRIu32, h->job);
	snprintf(vars[1], sizeof(vars[1]), "VCLUSTER_CLUSTER=%s", h->short_id);
	snprintf(vars[2], sizeof(vars[2]), "VCLUSTER_EPOCH=%" PRIu64, h->epoch);
	snprintf(vars[3], sizeof(vars[3]), "VCLUSTER_HOST=%s", h->host);
	snprintf(vars[4], sizeof(vars[4]), "VCLUSTER_FIRST=%d", strcmp(h->host, h->first_host) == 0);
	snprintf(vars[5], sizeof(vars[5]), "VCLUSTER_OLD_VIEW=%s", old);
	snprintf(vars[6], sizeof(vars[6]), "VCLUSTER_NEW_VIEW=%s", new);
	for (size_t i = 0; i < VC_ARRAY_LEN(vars); i++)
		env[i + 1] = vars[i];
	uv_process_options_t options = {.exit_cb = run_exited, .file = argv[0], .args = argv, .env = env, .cwd = "/"};
	r->process.data = r;
	int rc = uv_spawn(&h->vcd->loop, &r->process, &options);
	if (rc < 0) {
		uv_close((uv_handle_t *)&r->process, run_closed);
		return vc_error_set(err, -rc, "view-hook %s: %s", argv[0], uv_strerror(rc));
	}
	r->hook = h;
	r->until = uv_now(&h->vcd->loop) + VIEWHOOK_MS;
	h->run = r;
	return 0;
}

// The first member that is of use is on the host that may act for all.
static void name_first(struct viewhook *h)
{
	struct json_object *members = NULL;
	h->first_host[0] = '\0';
	if (vc_json_array(h->new, "members", VC_MEMBERS_MAX, &members, NULL) < 0)
		return;
	for (size_t i = 0; i < json_object_array_length(members); i++) {
		const char *host, *state;
		struct json_object *m = json_object_array_get_idx(members, i);
		if (vc_json_str(m, "state", 16, &state, NULL) == 0 && strcmp(state, "gone") != 0 &&
		    vc_json_str(m, "host", VC_HOSTNAME_MAX, &host, NULL) == 0) {
			snprintf(h->first_host, sizeof(h->first_host), "%s", host);
			return;
		}
	}
}

static void start(struct viewhook *h)
{
	struct vc_error err = VC_ERROR_INIT;
	char dir[PATH_MAX / 2], old[PATH_MAX], new[PATH_MAX];
	if (h->run || h->old == h->new || !h->vcd->conf->view_hook[0] || h->vcd->stopping)
		return;
	name_first(h);
	snprintf(dir, sizeof(dir), "%s/" VIEWHOOK_DIR, h->vcd->conf->run_dir);
	snprintf(old, sizeof(old), "%s/%s.old.json", dir, h->short_id);
	snprintf(new, sizeof(new), "%s/%s.new.json", dir, h->short_id);
	if ((mkdir(dir, 0700) < 0 && errno != EEXIST) || write_view(old, h->old, &err) < 0 || write_view(new, h->new, &err) < 0 ||
	    spawn(h, old, new, &err) < 0)
		vc_log_warning("job %" PRIu32 ", view %" PRIu64 ": %s", h->job, h->epoch, err.code ? err.text : dir);
	json_object_put(h->old);
	h->old = json_object_get(h->new);
}

struct viewhook *viewhook_create(struct vcd *vcd, const struct sharework *work)
{
	struct viewhook *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	*h = (struct viewhook){.vcd = vcd, .job = work->plan->key.job};
	snprintf(h->short_id, sizeof(h->short_id), "%s", work->short_id);
	snprintf(h->host, sizeof(h->host), "%s", vcd->conf->host_name);
	return h;
}

void viewhook_view(struct viewhook *h, struct json_object *view, uint64_t epoch)
{
	if (!h->old)
		h->old = json_object_get(view);
	json_object_put(h->new);
	h->new = json_object_get(view);
	h->epoch = epoch;
	start(h);
}

void viewhook_tick(struct viewhook *h)
{
	if (h->run && uv_now(&h->vcd->loop) >= h->run->until)
		uv_process_kill(&h->run->process, SIGKILL);
}

void viewhook_destroy(struct viewhook *h)
{
	char path[PATH_MAX];
	static const char *const names[] = {"old", "new"};
	if (!h)
		return;
	for (size_t i = 0; !h->run && i < VC_ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/" VIEWHOOK_DIR "/%s.%s.json", h->vcd->conf->run_dir, h->short_id, names[i]);
		(void)unlink(path);
	}
	if (h->run) {
		h->run->hook = NULL;
		if (h->vcd->stopping) // it goes on without us
			uv_close((uv_handle_t *)&h->run->process, run_closed);
	}
	json_object_put(h->old);
	json_object_put(h->new);
	free(h);
}
