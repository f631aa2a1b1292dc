// SPDX-License-Identifier: GPL-2.0-or-later
// Fills a start message from this process: see execclient.h. Reads /proc-free process state and one file, owns nothing.
#include "libvc/execclient.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"

extern char **environ;

static bool filtered(const char *entry, char *const *filter)
{
	size_t len = strcspn(entry, "=");
	vc_autofree char *name = strndup(entry, len);
	for (size_t i = 0; name && filter && filter[i]; i++) {
		if (fnmatch(filter[i], name, 0) == 0)
			return true;
	}
	return false;
}

static char **copy_vector(char *const *v, char *const *filter)
{
	size_t count = 0, n = 0;
	while (v && v[count])
		count++;
	vc_autostrv char **copy = calloc(count + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < count; i++) {
		if (filter && filtered(v[i], filter))
			continue;
		copy[n] = strdup(v[i]);
		if (!copy[n++])
			return NULL;
	}
	return vc_steal(&copy);
}

char **vc_exec_env_filter(char *const *v, char *const *filter)
{
	return copy_vector(v, filter);
}

static int collect_rlimits(struct vc_exec_start *st)
{
	st->rlimits = calloc(RLIM_NLIMITS, sizeof(*st->rlimits));
	for (int i = 0; st->rlimits && i < (int)RLIM_NLIMITS; i++) {
		struct rlimit l;
		if (getrlimit((__rlimit_resource_t)i, &l) == 0)
			st->rlimits[st->rlimit_count++] = (struct vc_exec_rlimit){i, l.rlim_cur, l.rlim_max};
	}
	return st->rlimits ? 0 : -1;
}

int vc_exec_start_from_self(struct vc_exec_start *start, char *const *argv, char *const *filter, struct vc_error *err)
{
	struct vc_exec_start st = {0};
	mode_t mask = umask(0);
	umask(mask);
	st.umask = mask;
	st.argv = copy_vector(argv, NULL);
	st.env = copy_vector(environ, filter);
	st.cwd = get_current_dir_name();
	if (st.cwd && st.cwd[0] != '/') { // "(unreachable)...": another root
		free(st.cwd);
		st.cwd = strdup("/");
	}
	if (!st.argv || !st.env || !st.cwd || collect_rlimits(&st) < 0) {
		vc_error_errno(err, "cannot describe this process to the task's machine");
		vc_exec_start_clear(&st);
		return -1;
	}
	*start = st;
	return 0;
}

int vc_exec_start_script(struct vc_exec_start *start, const char *path, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	vc_autofree uint8_t *script = malloc(VC_SCRIPT_MAX + 1);
	size_t len = 0;
	ssize_t n = -1;
	if (fd < 0 || !script)
		return vc_error_errno(err, "cannot read the batch script %s", path);
	while (len <= VC_SCRIPT_MAX && (n = read(fd, script + len, VC_SCRIPT_MAX + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return vc_error_errno(err, "cannot read the batch script %s", path);
	if (len > VC_SCRIPT_MAX)
		return vc_error_set(err, VC_EUSER, "the batch script %s is longer than %u bytes", path, VC_SCRIPT_MAX);
	start->script = vc_steal(&script);
	start->script_len = len;
	return 0;
}
