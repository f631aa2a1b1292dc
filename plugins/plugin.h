// SPDX-License-Identifier: GPL-2.0-or-later
// What the files of spank_vcluster.so share: its one state, and one function per SPANK hook and context.
//
// spank_vcluster.c is the dispatcher; submit.c serves srun, sbatch and salloc, remote.c slurmstepd, job_script.c the
// hosts' prolog and epilog. Contexts share no memory, some not even a call of slurm_spank_init.
#ifndef PLUGINS_PLUGIN_H
#define PLUGINS_PLUGIN_H

#include <stdbool.h>
#include <sys/types.h>

#include <slurm/spank.h>

#include "plugins/args.h"
#include "plugins/options.h"

struct plugin {
	struct plugin_args args;
	struct options options; // srun, sbatch, salloc
	bool asked;	 // slurmstepd: --vcluster was set for this step
	bool script_host; // slurmstepd: --vcluster-script=host
};

// To the user of srun, sbatch, salloc; to the task's standard error and slurmd's log in slurmstepd.
void plugin_say(const struct vc_error *err);

int submit_init(struct plugin *p);
int submit_option(struct plugin *p, enum vc_spec_opt opt, const char *value);
int submit_post_opt(struct plugin *p, spank_t sp);
int submit_local_user(struct plugin *p, spank_t sp);

void remote_option(struct plugin *p, enum vc_spec_opt opt, const char *value);
int remote_task(struct plugin *p, spank_t sp);

int job_script_prolog(const struct plugin *p, spank_t sp);
int job_script_epilog(const struct plugin *p, spank_t sp);

// A file `<job>` in args->marks says that a job is a vcluster job on this host.
bool mark_exists(const struct plugin_args *args, uint32_t job);
uint32_t mark_restart(const struct plugin_args *args, uint32_t job); // which run of it is on this host; 0 when unknown
int mark_create(const struct plugin_args *args, uint32_t job, struct vc_error *err);
bool mark_is_lease(const struct plugin_args *args, uint32_t job); // its job only holds this host for a cluster of another job
int mark_create_lease(const struct plugin_args *args, uint32_t job, struct vc_error *err);
void mark_remove_lease(const struct plugin_args *args, uint32_t job);
void mark_remove(const struct plugin_args *args, uint32_t job);

#endif
