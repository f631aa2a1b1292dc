// SPDX-License-Identifier: GPL-2.0-or-later
// The real Slurm command for what a guest asked: pure, from the plan and an untrusted start message.
//
// Job, user and hosts are the plan's. Options come from slurmopt's tables. The command's environment is made here from
// nothing: what the guest's client had in its own reaches the step's tasks as VCLUSTER_PASS_<name>, out of the reach of
// the loader, of Slurm's client libraries and of SPANK plugins on this host.
#ifndef VCD_SLURMCMD_H
#define VCD_SLURMCMD_H

#include "guest/slurmopt.h"
#include "libvc/error.h"
#include "libvc/execmsg.h"
#include "vcd/plan.h"

#define SLURMCMD_NO_PATH "/var/empty" // srun must not look up the task's program on this host

struct slurmcmd_conf {
	const char *bin_dir;	// of srun, scancel...
	const char *slurm_conf; // SLURM_CONF; NULL: none
};

// Replaces argv, env, cwd and limits of the start message. VC_EUSER or VC_EDENIED with a message for the user.
int slurmcmd_build(const struct plan *plan, const struct slurmcmd_conf *conf, enum slurmopt_tool tool,
		   struct vc_exec_start *start, struct vc_error *err);

#endif
