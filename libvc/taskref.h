// SPDX-License-Identifier: GPL-2.0-or-later
// Which task a vcexec process stands for: handed over by the SPANK plugin through environment variables.
//
// The plugin only replaces argv[0] of a task (Slurm's argument vector has no room for more), so everything else goes
// this way: VCEXEC_TASK holds the reference, VCEXEC_PROGRAM the program that argv[0] named, VCEXEC_SOCKET vcd's socket where it
// is not the default. Without VCEXEC_PROGRAM (programs of --multi-prog files) the vector is `vcexec -- PROGRAM ARGUMENTS`.
// VCEXEC_ONE_PROGRAM says that the srun of the step had no --multi-prog, or a guest's own srun made it: the task's words are a
// command, whatever they look like, and never a --multi-prog file. vcexec passes none of them into the guest. They are the user's own to forge: vcd decides by the peer's uid.
#ifndef LIBVC_TASKREF_H
#define LIBVC_TASKREF_H

#include <stdint.h>

#include "libvc/error.h"

#define VC_TASKREF_ENV "VCEXEC_TASK"
#define VC_TASKREF_PROGRAM_ENV "VCEXEC_PROGRAM"
#define VC_TASKREF_SOCKET_ENV "VCEXEC_SOCKET"
#define VC_TASKREF_ONE_PROGRAM_ENV "VCEXEC_ONE_PROGRAM"
#define VC_TASKREF_LEN 128 // bytes of the text, with its end

enum vc_task_kind {
	VC_TASK_STEP,	// one task of a job step: `task`
	VC_TASK_SCRIPT, // the batch script; VCEXEC_PROGRAM is its file on this host: `script`
};

struct vc_taskref {
	uint32_t job;
	uint32_t restart;
	enum vc_task_kind kind;
	uint32_t local; // this task's number among the step's tasks on this host
	uint32_t tasks; // how many those are
};

// "job=123 restart=0 kind=task local=2 tasks=4"
const char *vc_taskref_format(const struct vc_taskref *ref, char buf[VC_TASKREF_LEN]);
int vc_taskref_parse(const char *text, struct vc_taskref *ret, struct vc_error *err);

// Which of the host's members takes task `local` of `tasks` on this host: blocks of tasks, as even as they get, where
// there are more tasks than members; else one member each.
static inline uint32_t vc_task_member_index(uint32_t local, uint32_t tasks, uint32_t members)
{
	return tasks <= members ? local : (uint32_t)((uint64_t)local * members / tasks);
}

#endif
