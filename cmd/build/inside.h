// SPDX-License-Identifier: GPL-2.0-or-later
// What a build runs in its sandbox: sandbox_fn functions with their arguments. Each says what went wrong as the
// last line of standard error and returns an exit status.
#ifndef CMD_BUILD_INSIDE_H
#define CMD_BUILD_INSIDE_H

#include <stdint.h>

#include "vcd/image/recipe.h"

struct inside_exec {
	char **argv;
};
int inside_exec(void *arg); // struct inside_exec: becomes the program

int inside_take_lists(void *arg); // NULL: apt's lists of the image go to SANDBOX_APT
int inside_prepare_packages(void *arg); // NULL: checks for apt, keeps services from starting
int inside_files(void *arg);		// const struct recipe
int inside_lock(void *arg);		// NULL: release digests and package versions to SANDBOX_RESULT_FD
int inside_finish(void *arg);		// NULL: removes caches and identity

#endif
