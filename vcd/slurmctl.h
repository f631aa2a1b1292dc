// SPDX-License-Identifier: GPL-2.0-or-later
// What vcd asks slurmctld, through libslurm. Every function blocks: call them in a worker (WORK_GENERAL).
#ifndef VCD_SLURMCTL_H
#define VCD_SLURMCTL_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "libvc/error.h"
#include "vcd/plan.h"

enum slurmctl_state {
	SLURMCTL_PENDING,
	SLURMCTL_CONFIGURING,
	SLURMCTL_RUNNING, // suspended jobs too: their allocation stands
	SLURMCTL_ENDING,  // completing
	SLURMCTL_ENDED,
};

// One job as slurmctld knows it. hosts are filled for allocated jobs only; their addr is the NodeAddr.
struct slurmctl_job {
	char cluster[VC_NAME_MAX + 1];
	uint32_t job;
	uint32_t restart;
	enum slurmctl_state state;
	bool suspended; // and RUNNING
	bool het;
	uid_t uid;
	gid_t gid;
	struct plan_host *hosts;
	size_t n_hosts;
};

// The context; initialises libslurm once.
struct slurmctl;
struct slurmctl *slurmctl_create(struct vc_error *err);
void slurmctl_destroy(struct slurmctl *ctl);

// VC_ENOTFOUND when slurmctld does not know the job (any more); VC_EHOST when it does not answer.
int slurmctl_load_job(struct slurmctl *ctl, uint32_t job, struct slurmctl_job **ret, struct vc_error *err);
void slurmctl_job_destroy(struct slurmctl_job *job);
// The owner's name, home and groups from the system's databases (blocks: may ask LDAP).
int slurmctl_owner(uid_t uid, gid_t gid, struct plan_owner *ret, struct vc_error *err);
// Sets a node DOWN, as `scontrol update` does.
int slurmctl_node_down(struct slurmctl *ctl, const char *node, const char *reason, struct vc_error *err);
// The names of all nodes, NULL-terminated (vc_strv_free).
int slurmctl_list_nodes(struct slurmctl *ctl, char ***ret, struct vc_error *err);
int slurmctl_list_draining(struct slurmctl *ctl, char ***ret, struct vc_error *err); // of them, those that are to be drained

// The jobs of a user that wait in the queue and were submitted from..to: how many, and the hosts that Slurm plans for them
// or that they ask for by name (NULL-terminated, each once; vc_strv_free).
struct slurmctl_queue {
	uid_t uid;	 // asked
	time_t from, to;
	unsigned jobs;	 // answered
	char **hosts;
};
int slurmctl_load_queue(struct slurmctl *ctl, struct slurmctl_queue *queue, struct vc_error *err);

// What of slurm.conf concerns slurm-vcluster, as slurmctld uses it. Strings may be empty, never NULL.
struct slurmctl_setup {
	char *prolog, *epilog;	    // PrologSlurmctld, EpilogSlurmctld
	char *plugin_dir;	    // PluginDir: directories with ':' between
	char *plugstack;	    // PlugStackConfig
	char *job_submit;	    // JobSubmitPlugins
	char *version;		    // slurmctld's, "22.05.8"
	unsigned kill_wait_s;	    // KillWait: from SIGTERM to SIGKILL
	unsigned batch_start_s;	    // BatchStartTimeout, which slurmctld counts from the allocation on
	bool allocation_prolog;	    // PrologFlags has Alloc or Contain
};
int slurmctl_load_setup(struct slurmctl *ctl, struct slurmctl_setup *ret, struct vc_error *err);
void slurmctl_setup_clear(struct slurmctl_setup *setup);
const char *slurmctl_state_name(enum slurmctl_state state);

#endif
