// SPDX-License-Identifier: GPL-2.0-or-later
// The arguments of the plugin's line in plugstack.conf: a table; one that is not in it is an error, never ignored.
#ifndef PLUGINS_ARGS_H
#define PLUGINS_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

struct plugin_args {
	const char *socket;  // socket=PATH: the local vcd
	const char *vcexec;  // vcexec=PATH: what runs a task in its guest; the same on all hosts
	const char *marks;   // marks=DIR: one file per vcluster job on this host
	uint64_t prolog_ms;  // prolog-timeout=TIME: how long job_prolog asks whether vcd answers
	uint64_t epilog_ms;  // epilog-timeout=TIME: how long job_epilog waits for this host's share to be gone
	bool drain;	     // drain=yes|no: whether a share that vcd cannot remove drains the host
};

// Strings point into argv, which Slurm keeps as long as the plugin. *ret is set only on success.
int plugin_args_parse(int argc, char *const argv[], struct plugin_args *ret, struct vc_error *err);

#endif
