// SPDX-License-Identifier: GPL-2.0-or-later
// The --vcluster options as they come in: from the environment's defaults, then from the command line.
//
// Keeps the text of each option until all are known, then builds one spec. No Slurm in here.
// Precedence: command line, else VCLUSTER_OPT_..., else the built-in default. A default alone asks for nothing: without
// an image the other defaults are ignored, also bad ones, so that plain jobs never notice them.
#ifndef PLUGINS_OPTIONS_H
#define PLUGINS_OPTIONS_H

#include <stdbool.h>

#include "libvc/spec.h"

struct options {
	char *value[VC_SPEC_OPTS];    // NULL: not set; list entries joined with ','
	bool given[VC_SPEC_OPTS];     // on the command line
	char *inherited[VC_SPEC_OPTS]; // a good default from the environment
	char *bad[VC_SPEC_OPTS];      // why a default from the environment is not good
};

void options_clear(struct options *o);
// Reads one default; value NULL is none.
int options_default(struct options *o, enum vc_spec_opt opt, const char *value, struct vc_error *err);
// One callback of Slurm's; validated at once, so that the message comes with the option.
int options_take(struct options *o, enum vc_spec_opt opt, const char *value, struct vc_error *err);
// *ret_spec is NULL when no virtual cluster is asked for.
int options_build(const struct options *o, struct vc_spec **ret_spec, struct vc_error *err);

#endif
