// SPDX-License-Identifier: GPL-2.0-or-later
// sbcast SOURCE DEST in a guest: copies a file to the same path in every member, over the cluster's own network.
#ifndef GUEST_SBCAST_H
#define GUEST_SBCAST_H

#include <stdbool.h>
#include <sys/types.h>

#include "libvc/error.h"

struct sbcast_args {
	const char *source, *dest;
	bool force;
	bool preserve;
};

// Pure. Options that only tune Slurm's own transport are taken and ignored.
int sbcast_parse(char *const *argv, struct sbcast_args *ret, struct vc_error *err);
// Pure: the shell command that each member runs with the file on its standard input.
char *sbcast_command(const struct sbcast_args *args, mode_t mode, long long mtime, struct vc_error *err);

int sbcast_main(int argc, char **argv);

#endif
