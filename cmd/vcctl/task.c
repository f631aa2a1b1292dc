// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl exec: one session over this process's own streams, ended as the command ended.
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/vcctl/session.h"
#include "libvc/cleanup.h"

int ctl_exec(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	char *shell[] = {"/bin/sh", "-l", NULL};
	bool command = n > 2;
	bool pty = ctl->pty || (!command && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
	struct target target;
	struct vc_exec_result result;
	vc_autofree char **argv = calloc((size_t)n + 1, sizeof(*argv));
	if (!argv)
		return vc_error_set(err, ENOMEM, "out of memory"), CTL_FAILED;
	for (int i = 2; i < n; i++)
		argv[i - 2] = args[i];
	if (target_find_one(ctl, args[0], args[1], &target, err) < 0)
		return ctl_fail(err);
	if (session_run(ctl, &target, command ? argv : shell, pty, &result, err) < 0)
		return result.status;
	session_ended(ctl, &target, &result);
	vc_execclient_die(&result);
}
