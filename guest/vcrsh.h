// SPDX-License-Identifier: GPL-2.0-or-later
// vcrsh HOST COMMAND...: the launch agent of MPI libraries, called as rsh and ssh are.
#ifndef GUEST_VCRSH_H
#define GUEST_VCRSH_H

#include <stdbool.h>

#include "libvc/error.h"
#include "libvc/execclient.h"

struct vcrsh_args {
	const char *host; // points into argv
	char *command;	  // the words joined with blanks, as rsh does; NULL: an interactive shell
	bool no_stdin;	  // -n
	bool tty;	  // -t
};

// Pure. Options of rsh and ssh that change nothing here are taken and ignored.
int vcrsh_parse(char *const *argv, struct vcrsh_args *ret, struct vc_error *err);

// Runs a command with the user's shell on a member; this process's streams are the command's.
int vcrsh_run(const struct vcrsh_args *args, struct vc_exec_result *ret, struct vc_error *err);

int vcrsh_main(int argc, char **argv);

#endif
