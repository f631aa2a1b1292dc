// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl exec, vcctl console: one session over this process's own streams, ended as the command ended.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/vcctl/session.h"
#include "libvc/cleanup.h"

static int one_target(const struct ctl *ctl, char **args, struct target *ret, struct vc_error *err)
{
	vc_autofree struct target *targets = NULL;
	size_t n;
	if (strcmp(args[1], TARGET_ALL) == 0)
		return vc_error_set(err, VC_EUSER, "one member at a time: srun --jobid=%s reaches them all", args[0]);
	if (target_find(ctl, args[0], args[1], &targets, &n, err) < 0)
		return -1;
	*ret = targets[0];
	return 0;
}

static int run_and_die(const struct ctl *ctl, char **args, const char *kind, char *const *argv, bool pty, struct vc_error *err)
{
	struct target target;
	struct vc_exec_result result;
	if (one_target(ctl, args, &target, err) < 0)
		return ctl_fail(err);
	if (session_run(ctl, &target, kind, argv, pty, &result, err) < 0)
		return result.status;
	vc_execclient_die(&result);
}

int ctl_exec(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	char *shell[] = {"/bin/sh", "-l", NULL};
	bool command = n > 2;
	bool pty = ctl->pty || (!command && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
	vc_autofree char **argv = calloc((size_t)n + 1, sizeof(*argv));
	if (!argv)
		return vc_error_set(err, ENOMEM, "out of memory"), CTL_FAILED;
	for (int i = 2; i < n; i++)
		argv[i - 2] = args[i];
	return run_and_die(ctl, args, "exec", command ? argv : shell, pty, err);
}

int ctl_console(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	char *const argv[] = {"console", NULL};
	return run_and_die(ctl, args, "console", argv, true, err);
}
