// SPDX-License-Identifier: GPL-2.0-or-later
// One process of a session: fork and exec with identity, limits, directory and streams; killing its whole tree. No loop.
//
// spawn returns our ends of the streams, non-blocking, and waits until exec has succeeded or failed.
#ifndef GUEST_TASKPROC_H
#define GUEST_TASKPROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "libvc/execmsg.h"

struct taskproc_conf {
	struct vc_exec_start *start; // argv[0] is looked up in the start's PATH, then in `path`; gets PMI_FD, PMIX_SERVER_URI*
	const char *path;
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t group_count;
	const char *cwd;    // absolute
	const char *cgroup; // directory to put it in; NULL: none
};

struct taskproc {
	pid_t pid; // also its session and process group
	int in, out, err; // -1: none; with a terminal in and out are the same one, err is -1
	int pmi;	  // our end of the task's PMI socket; -1: none
	int pmix;	  // listens where the task looks for its PMIx server; -1: none
};

// -1: err says why, *ret_status is what a shell would exit with (127, 126, 1).
int taskproc_spawn(const struct taskproc_conf *conf, struct taskproc *ret, int *ret_status, struct vc_error *err);
// A connection to taskproc.pmix; -1 with errno: EAGAIN none came, EPERM: it was not a process of that user (it is closed).
int taskproc_accept_pmix(int listener, uid_t uid);
// Every process of the tree: of the cgroup, or of the session (and its descendants) where there is none.
void taskproc_kill_tree(pid_t pid, const char *cgroup, int signo);

// The directory, made empty for uid:gid with its missing parents. 1: made, 0: was there, -1: cannot be.
int taskproc_make_dir(const char *path, uid_t uid, gid_t gid, struct vc_error *err);
// Puts a batch script into dir (made): *ret_path is malloc'ed.
int taskproc_put_script(const char *dir, const char *name, const struct vc_exec_start *start, uid_t uid, gid_t gid,
			char **ret_path, struct vc_error *err);

#endif
