// SPDX-License-Identifier: GPL-2.0-or-later
// What a guest may ask of Slurm's commands: options by table, parsed into a request or refused with a reason.
//
// Pure. The guest's client parses to find what it does itself (files for standard streams); the host's vcd parses
// again, since a guest's word is worth nothing, and builds the real command from the parsed request only.
#ifndef GUEST_SLURMOPT_H
#define GUEST_SLURMOPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "libvc/error.h"

#define SLURMOPT_OPTIONS_MAX 64 // options of one command line; more is no person's
#define SLURMOPT_VALUE_MAX 4096 // bytes of one option's value

enum slurmopt_tool { SLURMOPT_SRUN, SLURMOPT_SCANCEL, SLURMOPT_SQUEUE, SLURMOPT_SCONTROL, SLURMOPT_TOOLS };

// What becomes of an option.
enum slurmopt_fate {
	SLURMOPT_PASS,	 // to the real command
	SLURMOPT_CLIENT, // the guest's client acts on it; the host never sees it
	SLURMOPT_HOST,	 // vcd acts on it: a list of members, the environment, programs
	SLURMOPT_IGNORE, // true here anyway
	SLURMOPT_REFUSE, // `why` says the reason
};

struct slurmopt_option {
	const char *name; // long name
	char letter;	  // 0: none
	char arg;	  // '0' none, '1' wanted, '?' only as --name=value
	enum slurmopt_fate fate;
	bool (*valid)(const char *value); // NULL: any text of SLURMOPT_VALUE_MAX bytes
	const char *why;		  // of a refusal; what is wanted, for a value that is not valid
};

struct slurmopt_given {
	const struct slurmopt_option *option;
	const char *value; // NULL: none; points into argv
};

struct slurmopt_request {
	enum slurmopt_tool tool;
	struct slurmopt_given given[SLURMOPT_OPTIONS_MAX];
	size_t n_given;
	char *const *rest; // the program and its arguments, or operands; points into argv
	size_t n_rest;
};

// -1 with VC_ENOTFOUND for a name that is no tool of ours.
int slurmopt_tool_from_name(const char *name, enum slurmopt_tool *ret, struct vc_error *err);
const char *slurmopt_tool_name(enum slurmopt_tool tool);

// argv[0] is the tool's name. A refused, unknown or malformed option is VC_EUSER with a message for the user.
int slurmopt_parse(enum slurmopt_tool tool, char *const *argv, struct slurmopt_request *ret, struct vc_error *err);

// The command line of what was parsed: program, options of those fates (bits 1 << fate) as --name=value, extra (may be
// NULL), then rest. free with vc_strv_free().
char **slurmopt_rebuild(const struct slurmopt_request *r, const char *program, unsigned fates, char *const *extra,
			struct vc_error *err);

// What --help says: every option of the table, with its value, then those that are refused, and why. brief: --usage, one line.
void slurmopt_help(enum slurmopt_tool tool, bool brief, FILE *out);

// Last value of an option, or NULL; "" when it was given without a value.
const char *slurmopt_get(const struct slurmopt_request *r, const char *name);

#endif
