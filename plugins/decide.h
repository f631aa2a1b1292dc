// SPDX-License-Identifier: GPL-2.0-or-later
// What becomes of one task on a host: runs as it is, is turned into vcexec, or is refused. Pure, one table.
#ifndef PLUGINS_DECIDE_H
#define PLUGINS_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

struct task_facts {
	bool asked;	  // --vcluster is set for this step
	bool marked;	  // this host knows the job as a vcluster job
	bool script_host; // --vcluster-script=host
	bool batch;	  // the batch script
	bool het;	  // a part of a heterogeneous job
	bool container;	  // srun --container
	bool bcast;	  // the program's name is still to be made up by --bcast
	bool multiprog;	  // Slurm may take the program from a --multi-prog file
	bool wrapped;	  // and every program there is vcexec already
	bool no_program;  // no argument vector, or an empty one
	bool lease;	  // the job of a lease on this host: its one step is vc-lease
	bool lease_step;  // and the program is that one
	bool no_vcexec;	  // vcexec is not installed on this host
};

enum task_action {
	TASK_PLAIN,   // not ours
	TASK_REPLACE, // put vcexec into argv[0], Slurm does the rest
	TASK_READY,   // as TASK_REPLACE, but vcexec's own arguments say what to run
	TASK_EXEC,    // execve vcexec here and now: Slurm might not look at argv[0]
	TASK_REFUSE,
};

// *ret_why: of a refusal, for the user; a constant.
enum task_action task_decide(const struct task_facts *facts, const char **ret_why);

#endif
