// SPDX-License-Identifier: GPL-2.0-or-later
// Named fault points for tests; nothing is compiled in without --enable-fault-points.
//
// VC_FAULT("host-boot-started") does what the environment variable VC_FAULTS or the file run-dir/faults (read at each
// point) says for that name: "NAME=crash" (SIGKILL to itself), "NAME=stop" (SIGSTOP to itself: goes on at SIGCONT),
// "NAME=hold" (blocks as long as the list says so), "NAME=fail" (the macro is true). Several are separated by commas or
// newlines.
//
// The points: a cluster's phases on the controller (cluster.c), after each was saved; the steps of a host's share
// (share.c) before they run, and "undo-STEP" before they are undone; "pin" in the worker of the step image; around the
// calls of libvirt (hv.c) "hv-connect", "hv-look" and "hv-create" (of a start), "hv-created" (fail: the answer got lost),
// "hv-kill"; of leases "leases-save" before the book is saved, "lease-submitted" when slurmctld has taken a job;
// of a member that moves "move-step" and "move-done" on the controller, "move-ask" (the target), "move-copy", "move-decide",
// "move-decided" and "move-told" at its source, "move-come", "move-arrive" (a worker) and "move-run" at its target.
#ifndef VCD_FAULT_H
#define VCD_FAULT_H

#include <stdbool.h>

#ifdef VC_FAULT_POINTS
bool fault_hit(const char *name);
void fault_set_dir(const char *run_dir);
#define VC_FAULT(name) fault_hit(name)
#else
#define VC_FAULT(name) false
static inline void fault_set_dir(const char *run_dir)
{
	(void)run_dir;
}
#endif

#endif
