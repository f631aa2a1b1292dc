// SPDX-License-Identifier: GPL-2.0-or-later
// Tasks in this guest: two taskruns, one for the host's sessions, one for other guests' vcrsh. Two domains of trust:
// a session of the one cannot be resumed through the other.
#ifndef GUEST_TASKS_H
#define GUEST_TASKS_H

#include <sys/types.h>

#include "guest/agent.h"

struct tasks;

struct tasks *tasks_create(struct agent *a, struct vc_error *err);

void tasks_host_input(struct tasks *t, struct wire *w, struct vc_link_frame *frame);
void tasks_host_down(struct tasks *t, struct wire *w);
void tasks_host_writable(struct tasks *t, struct wire *w);

// vcrsh: the wire's sessions run as uid, root or the job's owner until it ends.
struct wire *tasks_rsh_begin(struct tasks *t, int fd, uid_t uid, struct vc_error *err); // takes fd

void tasks_child_exited(struct tasks *t, pid_t pid, int wstatus);
void tasks_kill(struct tasks *t, int signo);
size_t tasks_count(const struct tasks *t);

// May this uid of this guest's kernel ask for anything? Root and the job's owner.
bool tasks_uid_allowed(const struct agent *a, uid_t uid);

#endif
