// SPDX-License-Identifier: GPL-2.0-or-later
// vcexec's side of PMIx: starts the task's vc-pmix, learns from it what the task's environment needs, and connects the
// task to its member's PMIx server once it wants to speak.
#ifndef VCEXEC_PMIX_H
#define VCEXEC_PMIX_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "libvc/execmsg.h"

struct vcexec_pmix {
	pid_t pid; // of vc-pmix; 0: none
	int fd;	   // its other end
	uint16_t port; // of the member's PMIx server on this host
};

bool vcexec_pmix_wanted(void); // slurmstepd offers PMIx to this task
// reply: of task.attach, with layout, token and name. Puts what the task needs into start.
int vcexec_pmix_start(struct vcexec_pmix *p, struct json_object *reply, struct vc_exec_start *start, struct vc_error *err);
int vcexec_pmix_connect(void *p); // for vc_execclient: a connection to the server, or -1
void vcexec_pmix_end(struct vcexec_pmix *p); // the task has ended: Slurm is told before this process ends

#endif
