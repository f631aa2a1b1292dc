// SPDX-License-Identifier: GPL-2.0-or-later
// Watching one run in the sandbox: see run.h.
#include "cmd/build/run.h"

#include <errno.h>
#include <fts.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"

#define TICK_MS 500		  // how often limits are looked at
#define DISK_RESERVE (256u << 20) // bytes that a build leaves free on its file system
#define FULL_BYTES (2u << 20)	  // less than this free after a failure: full, as the kernel takes room in runs
#define WALK_SHARE 20		  // a walk over the tree may cost 1/20 of the time

uint64_t run_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int run_tree_usage(const char *path, uint64_t *ret_bytes, uint64_t *ret_files, struct vc_error *err)
{
	char *const paths[] = {(char *)path, NULL};
	uint64_t bytes = 0, files = 0;
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	if (!fts)
		return vc_error_errno(err, "%s", path);
	for (FTSENT *e = fts_read(fts); e; e = fts_read(fts)) {
		if (e->fts_info == FTS_DP || e->fts_info == FTS_NS)
			continue;
		files++;
		bytes += (uint64_t)e->fts_statp->st_blocks * 512;
	}
	fts_close(fts);
	*ret_bytes = bytes;
	*ret_files = files;
	return 0;
}

struct watch {
	struct run_env *env;
	uint64_t next_walk_ms;
};

static int check_size(struct watch *w, uint64_t now, struct vc_error *err)
{
	uint64_t bytes = 0, files = 0;
	if (w->env->limits.mounted)
		return 0;
	if (now < w->next_walk_ms || w->env->limits.tree_bytes == UINT64_MAX)
		return 0;
	if (run_tree_usage("tree", &bytes, &files, err) < 0)
		return -1;
	w->next_walk_ms = now + TICK_MS + (run_now_ms() - now) * WALK_SHARE;
	if (bytes <= w->env->limits.tree_bytes)
		return 0;
	return vc_error_set(err, VC_EUSER, "the image grew above its limit of %llu MiB: set size in the recipe, up to the site's limit",
			    (unsigned long long)(w->env->limits.tree_bytes >> 20));
}

static int check_limits(struct watch *w, struct vc_error *err)
{
	uint64_t now = run_now_ms();
	struct statvfs vfs;
	if (now > w->env->limits.deadline_ms)
		return vc_error_set(err, VC_EUSER, "the build's time limit is over");
	if (w->env->limits.tree_bytes != UINT64_MAX && statvfs(".", &vfs) == 0 &&
	    (uint64_t)vfs.f_bavail * vfs.f_frsize < DISK_RESERVE)
		return vc_error_set(err, VC_EHOST, "less than %u MiB are free where images are built", DISK_RESERVE >> 20);
	return check_size(w, now, err);
}

// Until the sandbox has ended and its output is read. A limit gives -1 with the reason.
static int watch_it(struct watch *w, struct sandbox *s, struct vc_error *err)
{
	struct pollfd p[2] = {{.fd = s->out, .events = POLLIN}, {.fd = s->pidfd, .events = POLLIN}};
	bool ended = false;
	while (p[0].fd >= 0) {
		char buf[16 << 10];
		int n = poll(p, 2, ended ? 0 : TICK_MS);
		if (n < 0 && errno != EINTR)
			return vc_error_errno(err, "poll");
		ssize_t got = n > 0 && p[0].revents ? read(s->out, buf, sizeof(buf)) : -1;
		if (got > 0)
			report_output(w->env->report, buf, (size_t)got);
		if (got == 0 || (got < 0 && ended))
			p[0].fd = -1;
		if (n > 0 && p[1].revents) {
			ended = true; // the first process is gone, and with it all others: what is written is in the pipe
			p[1].fd = -1;
		}
		if (!ended && check_limits(w, err) < 0)
			return -1;
	}
	return 0;
}

static int judge(struct run_env *env, int status, struct vc_error *err)
{
	const char *cause = env->report->cause;
	struct statvfs vfs;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	// Whatever a program says of it, and most say little: a full file system is why it failed.
	if (env->limits.mounted && statvfs("tree", &vfs) == 0 && (uint64_t)vfs.f_bavail * vfs.f_frsize < FULL_BYTES)
		return vc_error_set(err, VC_EUSER, "%s%sthe image grew above its limit of %llu MiB: set size in the recipe, up to the "
				    "site's limit", cause, cause[0] ? "; " : "", (unsigned long long)(env->limits.disk_bytes >> 20));
	if (WIFSIGNALED(status))
		return vc_error_set(err, VC_EUSER, "killed by signal %d (out of memory?)", WTERMSIG(status));
	if (cause[0])
		return vc_error_set(err, VC_EUSER, "%s", cause);
	return vc_error_set(err, VC_EUSER, "exit status %d", WEXITSTATUS(status));
}

int run_in_sandbox(struct run_env *env, const char *what, const struct sandbox_spec *spec, struct vc_error *err)
{
	struct sandbox s;
	struct watch w = {.env = env};
	pid_t relay = -1;
	int status = 0;
	report_forget_cause(env->report);
	if (check_limits(&w, err) < 0 || sandbox_start(spec, &s, err) < 0)
		return vc_error_wrap(err, "%s", what);
	int rc = s.listener >= 0 ? relay_start(s.listener, &env->mirror, &relay, err) : 0;
	if (rc == 0)
		rc = watch_it(&w, &s, err);
	relay_stop(relay);
	if (sandbox_finish(&s, rc < 0, &status, rc < 0 ? NULL : err) < 0)
		rc = -1;
	if (rc == 0)
		rc = judge(env, status, err);
	return rc < 0 ? vc_error_wrap(err, "%s", what) : 0;
}
