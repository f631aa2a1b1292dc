// SPDX-License-Identifier: GPL-2.0-or-later
// srun, scancel, squeue, scontrol in a guest: clients whose request the host's vcd turns into the real command.
#ifndef GUEST_SLURMTOOL_H
#define GUEST_SLURMTOOL_H

#include "libvc/error.h"

// What a file name of --output, --error, --input becomes: job and user patterns are filled in; those of a step or a
// task are an error, since one stream carries all tasks. NULL in *ret_path: the stream as it is ("all").
int slurmtool_file(const char *option, const char *pattern, const char *job, const char *user, char **ret_path,
		   struct vc_error *err);

int slurmtool_main(int argc, char **argv);

#endif
