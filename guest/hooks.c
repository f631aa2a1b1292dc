// SPDX-License-Identifier: GPL-2.0-or-later
// Hooks of the job: see hooks.h.
#include "guest/hooks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/log.h"

#define PATH_OF(name) VC_GUEST_DIR "/" name

int hooks_prepare(const struct setup *s, struct vc_error *err)
{
	if (mkdir(PATH_OF(HOOKS_DIR), 0755) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", PATH_OF(HOOKS_DIR));
	if (chown(PATH_OF(HOOKS_DIR), s->owner.uid, s->owner.gid) < 0)
		return vc_error_errno(err, "%s", PATH_OF(HOOKS_DIR));
	return 0;
}

// --- in the child ------------------------------------------------------------------------------------------------

static int become_owner(const struct setup_owner *owner)
{
	vc_autofree gid_t *groups = calloc(owner->n_groups + 1, sizeof(*groups));
	int null = open("/dev/null", O_RDWR);
	signal(SIGCHLD, SIG_DFL); // the agent's handlers write to its loop
	signal(SIGTERM, SIG_DFL);
	for (size_t i = 0; groups && i < owner->n_groups; i++)
		groups[i] = owner->groups[i].gid;
	if (!groups || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || setsid() < 0 ||
	    setgroups(owner->n_groups, groups) < 0 || setgid(owner->gid) < 0 || setuid(owner->uid) < 0)
		return -1;
	close_range(3, ~0u, 0);
	if (chdir(owner->home) < 0 && chdir("/") < 0)
		return -1;
	return 0;
}

static void run_one(const char *path, char **env)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		char *argv[] = {(char *)path, NULL};
		execve(path, argv, env);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
}

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void run_all(char **env)
{
	struct dirent **list = NULL;
	int n = scandir(PATH_OF(HOOKS_DIR), &list, is_visible, alphasort);
	for (int i = 0; i < n; i++) {
		char path[sizeof(PATH_OF(HOOKS_DIR)) + 1 + sizeof(list[i]->d_name)];
		snprintf(path, sizeof(path), "%s/%s", PATH_OF(HOOKS_DIR), list[i]->d_name);
		if (access(path, X_OK) == 0)
			run_one(path, env);
	}
}

static void child(const struct setup *s, unsigned long long epoch)
{
	char home[VC_PATH_MAX + 8], user[VC_NAME_MAX + 8], job[32], rank[32], number[40];
	snprintf(home, sizeof(home), "HOME=%s", s->owner.home);
	snprintf(user, sizeof(user), "USER=%s", s->owner.user);
	snprintf(job, sizeof(job), "VCLUSTER_JOB=%u", s->job);
	snprintf(rank, sizeof(rank), "VCLUSTER_RANK=%u", s->rank);
	snprintf(number, sizeof(number), "VCLUSTER_EPOCH=%llu", epoch);
	char *env[] = {"PATH=/usr/local/bin:/usr/bin:/bin:" PATH_OF("bin"), home, user, job, rank, number,
		       "VCLUSTER_OLD_VIEW=" PATH_OF(HOOKS_OLD_VIEW), "VCLUSTER_NEW_VIEW=" PATH_OF("view.json"), NULL};
	if (become_owner(&s->owner) < 0)
		_exit(126);
	alarm(HOOKS_SECONDS); // ends this child; what it started loses its parent and is the owner's like any process
	run_all(env);
	_exit(0);
}

// --- in the agent ------------------------------------------------------------------------------------------------

static bool there_are_hooks(void)
{
	struct dirent **list = NULL;
	int n = scandir(PATH_OF(HOOKS_DIR), &list, is_visible, NULL);
	for (int i = 0; i < n; i++)
		free(list[i]);
	free(list);
	return n > 0;
}

void hooks_run(struct hooks *h, const struct setup *s, unsigned long long epoch)
{
	if (h->pid) {
		h->again = true;
		return;
	}
	if (!there_are_hooks())
		return;
	h->pid = fork();
	if (h->pid == 0)
		child(s, epoch);
	if (h->pid < 0) {
		vc_log_warning("hooks of view %llu: %s", epoch, strerror(errno));
		h->pid = 0;
	}
}

bool hooks_exited(struct hooks *h, pid_t pid, const struct setup *s, unsigned long long epoch)
{
	if (!h->pid || pid != h->pid)
		return false;
	h->pid = 0;
	if (h->again) {
		h->again = false;
		hooks_run(h, s, epoch);
	}
	return true;
}
