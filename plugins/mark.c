// SPDX-License-Identifier: GPL-2.0-or-later
// Marks: one file per vcluster job in a directory that only root writes. vcd makes and removes them as well; its own say
// which run of the job is here, "CLUSTER RESTART".
//
// A mark that is not root's is not believed to be one; a name is a decimal job id, so no path can be forged.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/parse.h"
#include "plugins/plugin.h"

#define MARK_MAX 128 // bytes, as in vcd/sharework.c

static void mark_path(const struct plugin_args *args, uint32_t job, char buf[VC_PATH_MAX])
{
	snprintf(buf, VC_PATH_MAX, "%s/%" PRIu32, args->marks, job);
}

// Beside the marks of clusters: vcd takes a name with a dot for nothing of its own.
static void lease_path(const struct plugin_args *args, uint32_t job, char buf[VC_PATH_MAX])
{
	snprintf(buf, VC_PATH_MAX, "%s/.lease-%" PRIu32, args->marks, job);
}

static bool is_mark(const char *path)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno != ENOENT && errno != ENOTDIR; // a mark that cannot be looked at counts: closed, not open
	return st.st_uid == 0 && S_ISREG(st.st_mode);
}

bool mark_exists(const struct plugin_args *args, uint32_t job)
{
	char path[VC_PATH_MAX];
	mark_path(args, job, path);
	return is_mark(path);
}

bool mark_is_lease(const struct plugin_args *args, uint32_t job)
{
	char path[VC_PATH_MAX];
	lease_path(args, job, path);
	return is_mark(path);
}

uint32_t mark_restart(const struct plugin_args *args, uint32_t job)
{
	char path[VC_PATH_MAX], text[MARK_MAX] = "";
	uint64_t n = 0;
	mark_path(args, job, path);
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (!mark_exists(args, job) || fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return 0;
	const char *space = strchr(text, ' ');
	text[strcspn(text, "\n")] = '\0';
	return space && vc_parse_u64("restart", space + 1, 0, UINT32_MAX, &n, NULL) == 0 ? (uint32_t)n : 0;
}

static int make_dir(const char *path, struct vc_error *err)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return vc_error_errno(err, "cannot make %s", path);
	return 0;
}

static int make_marks_dir(const struct plugin_args *args, struct vc_error *err)
{
	char path[VC_PATH_MAX];
	snprintf(path, sizeof(path), "%s", args->marks);
	char *slash = strrchr(path, '/');
	if (slash && slash > path) {
		*slash = '\0';
		if (make_dir(path, err) < 0)
			return -1;
	}
	return make_dir(args->marks, err);
}

static int make_mark(const struct plugin_args *args, const char *path, struct vc_error *err)
{
	if (make_marks_dir(args, err) < 0)
		return -1;
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	return fd < 0 ? vc_error_errno(err, "cannot make %s", path) : 0;
}

int mark_create(const struct plugin_args *args, uint32_t job, struct vc_error *err)
{
	char path[VC_PATH_MAX];
	mark_path(args, job, path);
	return make_mark(args, path, err);
}

int mark_create_lease(const struct plugin_args *args, uint32_t job, struct vc_error *err)
{
	char path[VC_PATH_MAX];
	lease_path(args, job, path);
	return make_mark(args, path, err);
}

void mark_remove_lease(const struct plugin_args *args, uint32_t job)
{
	char path[VC_PATH_MAX];
	lease_path(args, job, path);
	unlink(path);
}

void mark_remove(const struct plugin_args *args, uint32_t job)
{
	char path[VC_PATH_MAX];
	mark_path(args, job, path);
	unlink(path);
}
