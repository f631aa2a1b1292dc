// SPDX-License-Identifier: GPL-2.0-or-later
// The jobs of leases: submitting, listing and cancelling them through libslurm. Every function blocks: call them in a worker.
//
// vcd runs as root, so slurmctld takes a batch job for another uid from it (from SlurmUser too; from nobody else): the job is
// the primary's owner's, with his account, limits, fair share and accounting. What it is made of is the primary's job as
// slurmctld knows it, so a user gets nothing by it that sbatch would not give. Its comment says whose lease it is.
#ifndef VCD_SLURMLEASE_H
#define VCD_SLURMLEASE_H

#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "vcd/elastic/leasebook.h"
#include "vcd/plan.h"
#include "vcd/slurmctl.h"

#define SLURMLEASE_NAME "vcluster-lease"	  // of its job
#define SLURMLEASE_CONTROL_NAME "VCLUSTER_LEASE" // job control variable, as VC_SPEC_CONTROL_NAME: "CLUSTER LEASE PRIMARY"

struct slurmlease_args {
	uint32_t primary; // job id
	uid_t uid;	  // that it must have
	const char *cluster; // id
	uint64_t lease;
	uint32_t cpus;	  // on its host, as the primary has on its own
	const char *exclude; // hosts that are in the cluster already, or in any lease: "n1,n2"
	const char *exclude_least; // without those that leave another cluster: what is excluded where no other host is left; NULL: the same
};

// VC_EUSER: slurmctld refused it, and says why. VC_EHOST: no answer, it may have been taken.
int slurmlease_submit(struct slurmctl *ctl, const struct slurmlease_args *args, uint32_t *ret_job, struct vc_error *err);

// Whose leases to look for: jobs of this uid that carry this cluster's id.
struct slurmlease_owner {
	uid_t uid;
	char cluster[PLAN_ID_LEN + 1];
	uint32_t primary;
};
// All jobs that carry a lease of one of these clusters and belong to its owner; *ret is the caller's. Leases whose primary was given more
// time get it, too. -1: not all is known.
int slurmlease_list(struct slurmctl *ctl, const struct slurmlease_owner *owners, size_t n, struct lease_job **ret, size_t *ret_n,
		    struct vc_error *err);

// What Slurm could give, and what waits in its queue; cached between calls, which transfer nothing where nothing changed.
struct slurmlease_pool {
	uint32_t idle;	 // hosts that run nothing and may be given out
	uint32_t queued; // hosts that pending jobs other than leases wait for
	int64_t nodes_at, jobs_at; // of the last changes; 0 at first
};
int slurmlease_look_pool(struct slurmctl *ctl, struct slurmlease_pool *pool, struct vc_error *err);

// The job ends, whatever it is doing. One that is gone is fine.
int slurmlease_cancel(struct slurmctl *ctl, uint32_t job, struct vc_error *err);

#endif
