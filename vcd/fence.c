// SPDX-License-Identifier: GPL-2.0-or-later
// Fencing of one share: see fence.h.
#include "vcd/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

struct fence {
	struct vcd *vcd;
	struct sharework *work;
	char path[PATH_MAX];
	struct action *under_way; // NULL: none
	bool armed;		  // the view was valid once
	bool acted;		  // machines are suspended or destroyed
	bool unsure;		  // whether they are: an earlier vcd, or vc-fence, may have done it
	uint64_t deadline;	  // told to vc-fence; boot-time ms; 0: nothing was
	bool renamed;		  // the file names other machines than there are now
	uint64_t not_before;	  // loop time of the next try
};

struct action { // belongs to the worker's job
	struct fence *fence; // NULL: it has gone meanwhile
	struct sharework *work;
	enum conf_fencing what;
	bool undo;
};

static uint64_t boot_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

// --- vc-fence's file ---------------------------------------------------------------------------------------------

static struct json_object *file_content(const struct fence *f, uint64_t deadline, enum conf_fencing what)
{
	struct json_object *obj = json_object_new_object(), *domains = json_object_new_array();
	char name[32];
	vc_json_add_u64(obj, "deadline_ms", deadline);
	vc_json_add_str(obj, "action", what == CONF_FENCE_DESTROY ? "destroy" : "suspend");
	for (size_t i = 0; i < f->work->n_members; i++)
		json_object_array_add(domains, json_object_new_string(sharework_domain(f->work, f->work->members[i]->rank, name)));
	vc_json_add(obj, "domains", domains);
	return obj;
}

static int write_file(const struct fence *f, struct json_object *content, struct vc_error *err)
{
	char tmp[PATH_MAX + 8];
	size_t len;
	const char *text = vc_json_text(content, &len);
	snprintf(tmp, sizeof(tmp), "%s.new", f->path);
	vc_autofclose FILE *out = fopen(tmp, "we");
	if (!text || !out || fwrite(text, 1, len, out) != len || fflush(out) != 0 || rename(tmp, f->path) < 0)
		return vc_error_errno(err, "%s", f->path);
	return 0;
}

static void keep_file(struct fence *f, uint64_t valid_ms, enum conf_fencing what)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t deadline = boot_ms() + valid_ms;
	if (f->deadline && !f->renamed && deadline < f->deadline + FENCE_WRITE_MS)
		return;
	vc_autojson struct json_object *content = file_content(f, deadline, what);
	if (write_file(f, content, &err) < 0)
		vc_log_warning("fencing: %s", err.text);
	else
		f->deadline = deadline, f->renamed = false;
}

static void drop_file(struct fence *f)
{
	if (f->deadline && unlink(f->path) < 0 && errno != ENOENT)
		vc_log_warning("%s: %s", f->path, strerror(errno));
	f->deadline = 0;
}

// --- actions -----------------------------------------------------------------------------------------------------

static int action_run(void *ctx, struct vc_error *err)
{
	struct action *a = ctx;
	if (!a->undo && a->what == CONF_FENCE_DESTROY)
		return sharework_kill_all(a->work, err);
	return sharework_pause_all(a->work, !a->undo, err);
}

static void action_done(void *ctx, const struct vc_error *err)
{
	struct action *a = ctx;
	struct fence *f = a->fence;
	if (err)
		vc_log_err("fencing of cluster %s: %s", a->work->short_id, err->text);
	if (!f)
		return;
	f->under_way = NULL;
	f->not_before = err ? uv_now(&f->vcd->loop) + FENCE_RETRY_MS : 0;
	if (err)
		return;
	f->acted = !a->undo;
	f->unsure = false;
	if (f->acted)
		drop_file(f);
}

static void action_release(void *ctx)
{
	struct action *a = ctx;
	sharework_unref(a->work);
	free(a);
}

static void act(struct fence *f, enum conf_fencing what, bool undo)
{
	struct vc_error err = VC_ERROR_INIT;
	if (f->under_way || uv_now(&f->vcd->loop) < f->not_before)
		return;
	struct action *a = calloc(1, sizeof(*a));
	if (!a)
		return;
	*a = (struct action){f, sharework_ref(f->work), what, undo};
	struct work_args args = {.pool = WORK_HV, .what = "fencing", .deadline_ms = f->vcd->conf->libvirt_timeout_ms, .run = action_run,
				 .done = action_done, .release = action_release, .ctx = a};
	if (!undo)
		vc_log_warning("cluster %s: its view is no longer valid here: machines are %s", f->work->short_id,
			       what == CONF_FENCE_DESTROY ? "destroyed" : "suspended");
	if (work_submit(f->vcd->work, &args, NULL, &err) == 0) {
		f->under_way = a;
		return;
	}
	vc_log_err("fencing of cluster %s: %s", f->work->short_id, err.text);
	action_release(a);
}

void fence_tick(struct fence *f, uint64_t valid_ms, bool removed, bool paused)
{
	enum conf_fencing what = f->vcd->conf->fencing;
	if (what == CONF_FENCE_MARK) {
		drop_file(f);
		return;
	}
	if (valid_ms && !removed) {
		f->armed = true;
		keep_file(f, valid_ms, what);
		if ((f->acted || f->unsure) && !paused && what == CONF_FENCE_SUSPEND)
			act(f, what, true);
	} else if (!f->acted && (removed || (f->armed && boot_ms() >= f->deadline))) {
		act(f, what, false);
	}
}

// --- life --------------------------------------------------------------------------------------------------------

static uint64_t old_deadline(const char *path)
{
	char text[FENCE_FILE_MAX];
	uint64_t deadline = boot_ms() + FENCE_AFTER_RESTART_MS;
	vc_autofclose FILE *in = fopen(path, "re");
	size_t n = in ? fread(text, 1, sizeof(text), in) : 0;
	vc_autojson struct json_object *obj = n ? vc_json_parse(text, n, NULL) : NULL;
	if (obj)
		(void)vc_json_u64(obj, "deadline_ms", INT64_MAX, &deadline, NULL);
	return deadline;
}

void fence_set_work(struct fence *f, struct sharework *work)
{
	f->work = work;
	f->renamed = true;
}

struct fence *fence_create(struct vcd *vcd, struct sharework *work, bool taken_back, struct vc_error *err)
{
	struct fence *f = calloc(1, sizeof(*f));
	char dir[PATH_MAX];
	if (!f) {
		vc_error_errno(err, "fencing");
		return NULL;
	}
	*f = (struct fence){.vcd = vcd, .work = work, .armed = taken_back, .unsure = taken_back};
	int n = snprintf(dir, sizeof(dir), "%s/" FENCE_DIR, vcd->conf->run_dir);
	int m = snprintf(f->path, sizeof(f->path), "%s/" FENCE_DIR "/%s", vcd->conf->run_dir, work->short_id);
	if (n < 0 || m < 0 || (size_t)m >= sizeof(f->path) || (mkdir(dir, 0700) < 0 && errno != EEXIST)) {
		vc_error_errno(err, "%.200s", dir);
		free(f);
		return NULL;
	}
	if (taken_back)
		f->deadline = old_deadline(f->path);
	return f;
}

void fence_destroy(struct fence *f, bool forget)
{
	if (!f)
		return;
	if (f->under_way)
		f->under_way->fence = NULL;
	if (forget)
		drop_file(f);
	free(f);
}

bool fence_is_watched(const char *run_dir)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/" FENCE_LOCK, run_dir);
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
}
