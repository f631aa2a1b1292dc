// SPDX-License-Identifier: GPL-2.0-or-later
// Fault points: see fault.h. Compiled empty without --enable-fault-points. The directory is process-wide, as the
// environment is that is read beside it: a fault point may stand where no context is at hand.
#include "vcd/fault.h"

#ifdef VC_FAULT_POINTS

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"

#define FAULTS_MAX 4096 // bytes of the list
#define HOLD_POLL_MS 20

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

// What the environment or the file say of name now; buf holds it.
static const char *look_up(const char *name, char buf[FAULTS_MAX])
{
	const char *env = getenv("VC_FAULTS"), *action = env ? find_action(env, name) : NULL;
	vc_autoclose int fd = action || !*faults_path ? -1 : open(faults_path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, FAULTS_MAX - 1);
	buf[n > 0 ? n : 0] = '\0';
	return action ? action : find_action(buf, name);
}

static void hold(const char *name)
{
	char list[FAULTS_MAX];
	const char *action;
	do {
		poll(NULL, 0, HOLD_POLL_MS);
		action = look_up(name, list);
	} while (action && strncmp(action, "hold", 4) == 0);
}

static bool act(const char *name, const char *action)
{
	vc_log_warning("fault point %s: %.*s", name, (int)strcspn(action, ",\n"), action);
	if (strncmp(action, "crash", 5) == 0)
		kill(getpid(), SIGKILL);
	if (strncmp(action, "stop", 4) == 0)
		raise(SIGSTOP);
	if (strncmp(action, "hold", 4) == 0)
		hold(name);
	return strncmp(action, "fail", 4) == 0;
}

bool fault_hit(const char *name)
{
	char list[FAULTS_MAX];
	const char *action = look_up(name, list);
	return action && act(name, action);
}

#endif
