// SPDX-License-Identifier: GPL-2.0-or-later
// Fault points: see fault.h. Compiled empty without --enable-fault-points. The directory is process-wide, as the
// environment is that is read beside it: a fault point may stand where no context is at hand.
#include "vcd/fault.h"

#ifdef VC_FAULT_POINTS

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"

#define FAULTS_MAX 4096 // bytes of the list

static char faults_path[PATH_MAX];

void fault_set_dir(const char *run_dir)
{
	snprintf(faults_path, sizeof(faults_path), "%s/faults", run_dir);
}

// Finds "NAME=" in list and returns what follows, NULL when it is not there.
static const char *find_action(const char *list, const char *name)
{
	size_t len = strlen(name);
	for (const char *p = list; p && *p; p = strpbrk(p, ",\n")) {
		p += strspn(p, ",\n ");
		if (strncmp(p, name, len) == 0 && p[len] == '=')
			return p + len + 1;
	}
	return NULL;
}

static bool act(const char *name, const char *action)
{
	vc_log_warning("fault point %s: %.8s", name, action);
	if (strncmp(action, "crash", 5) == 0)
		kill(getpid(), SIGKILL);
	if (strncmp(action, "stop", 4) == 0)
		raise(SIGSTOP);
	if (strncmp(action, "hang", 4) == 0) {
		for (;;)
			pause();
	}
	return strncmp(action, "fail", 4) == 0;
}

bool fault_hit(const char *name)
{
	char list[FAULTS_MAX] = "";
	const char *env = getenv("VC_FAULTS"), *action = env ? find_action(env, name) : NULL;
	vc_autoclose int fd = action || !*faults_path ? -1 : open(faults_path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, list, sizeof(list) - 1) > 0)
		action = find_action(list, name);
	return action && act(name, action);
}

#endif
