// SPDX-License-Identifier: GPL-2.0-or-later
// The environment that a task finds in a guest: the caller's own, plus what this cluster and its MPI launchers need.
//
// Pure. What the user has set wins over every default of ours, but for the facts about the cluster itself. Variables,
// directory, files and --multi-prog text of a guest's `srun` come back through the host's real srun in variables of these
// names; what they say is done here, and they are gone.
#ifndef GUEST_TASKENV_H
#define GUEST_TASKENV_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/execmsg.h"

#define TASKENV_PASS "VCLUSTER_PASS_" // + name: a variable that must not be one of a process on the host
#define TASKENV_CWD "VCLUSTER_CWD"    // the directory in the guest
#define TASKENV_PROGRAMS "VCLUSTER_PROGRAMS" // text of a --multi-prog file: the task's argv[0] is that file's name
#define TASKENV_STDIN "VCLUSTER_STDIN"	     // "<" and a pattern of guest/iofile.h, or a task's number
#define TASKENV_STDOUT "VCLUSTER_STDOUT"     // ">" or ">>", and a pattern
#define TASKENV_STDERR "VCLUSTER_STDERR"
#define TASKENV_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct taskenv {
	const char *user, *home, *shell;
	const char *member; // this guest's name
	uint32_t rank;	    // this guest's
	uint64_t epoch;	    // of the current view; 0: none yet
	uint32_t size;	    // members that are joining or active
	char *const *site;  // "K=V" of the host's configuration, defaults; may be NULL
	const char *preload; // the default of LD_PRELOAD: guest/preload.h; may be NULL
	bool shared_cpus;    // this guest's processors have no CPUs of their own: ranks that wait must not spin
};

int taskenv_apply(const struct taskenv *facts, struct vc_exec_start *start, struct vc_error *err);

#endif
