// SPDX-License-Identifier: GPL-2.0-or-later
// Clusters on the controller, from job.ensure to release: methods job.*, cluster.*, event.member.
//
// Each cluster is a state machine (cluster.c, table `phases`); what must survive a crash is in the state database
// before the step that needs it begins. Steps are idempotent calls to the hosts, so a restarted controller repeats
// the step it was in.
#ifndef VCD_CLUSTER_H
#define VCD_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "vcd/plan.h"

struct vcd;
struct clusters;

// Registers the methods and takes the clusters of the state database back.
struct clusters *clusters_create(struct vcd *vcd, struct vc_error *err);
void clusters_stop(struct clusters *cs);    // cancels calls and timers; guests are left running
void clusters_destroy(struct clusters *cs); // after the loop has run dry; NULL is fine

// Of a cluster that runs here as the controller: borrowed; NULL: there is none of that id, or it is not formed.
const struct plan *clusters_plan(struct clusters *cs, const char *id);

// A cluster as the leases' module sees it: the newest run of a job. Pointers are borrowed, and good until the loop's next turn.
struct clusters_look {
	uint32_t job;
	char id[PLAN_ID_LEN + 1];
	uid_t uid;
	bool ready, over;
	const struct plan *plan; // NULL: not made yet
	uint32_t own;		 // hosts of the primary job that are in the view
};
bool clusters_look(struct clusters *cs, uint32_t job, struct clusters_look *ret); // false: there is none
// A member and the host that it is to run on.
struct clusters_place {
	uint32_t rank;
	const char *host;
};
// Moves members of a running cluster, as cluster.migrate does; nobody waits for it. -1: none moves, err says why.
int clusters_move(struct clusters *cs, uint32_t job, const struct clusters_place *places, size_t n, struct vc_error *err);
// Each cluster that runs: ready, and not on its way out.
void clusters_each(struct clusters *cs, void (*fn)(void *ctx, const struct clusters_look *look), void *ctx);

#endif
