// SPDX-License-Identifier: GPL-2.0-or-later
// Clusters on the controller, from job.ensure to release: methods job.*, cluster.*, event.member.
//
// Each cluster is a state machine (cluster.c, table `phases`); what must survive a crash is in the state database
// before the step that needs it begins. Steps are idempotent calls to the hosts, so a restarted controller repeats
// the step it was in.
#ifndef VCD_CLUSTER_H
#define VCD_CLUSTER_H

#include "libvc/error.h"

struct vcd;
struct clusters;
struct plan;

// Registers the methods and takes the clusters of the state database back.
struct clusters *clusters_create(struct vcd *vcd, struct vc_error *err);
void clusters_stop(struct clusters *cs);    // cancels calls and timers; guests are left running
void clusters_destroy(struct clusters *cs); // after the loop has run dry; NULL is fine

// Of a cluster that runs here as the controller: borrowed; NULL: there is none of that id, or it is not formed.
const struct plan *clusters_plan(struct clusters *cs, const char *id);

#endif
