// SPDX-License-Identifier: GPL-2.0-or-later
// task.attach: joins a local client (vcexec, vcctl) with a session of a guest, and relays its frames.
//
// Who the task is comes from the plan and the kernel's word about the peer, never from the client. No stream state is
// kept: after a restart of vcd both ends resume. A client that goes away for longer than task-grace has its task ended.
#ifndef VCD_TASK_H
#define VCD_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

struct host;
struct plan;
struct tasks;
struct vcd;

#define TASK_CLIENT_MS 3000u // a client that died is taken for gone after this, when task-grace is not shorter

struct tasks *tasks_create(struct vcd *vcd, struct host *host, struct vc_error *err);
void tasks_stop(struct tasks *t); // after the links: clients are cut off and come back to the next vcd
void tasks_destroy(struct tasks *t);
unsigned tasks_count(const struct tasks *t);
// Whether processes of slurmstepd (not of vcctl) are attached for that run of the job.
bool tasks_has_steps(const struct tasks *t, uint32_t job, uint32_t restart);

#endif
