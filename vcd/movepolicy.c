// SPDX-License-Identifier: GPL-2.0-or-later
// Names of policies: see movepolicy.h.
#include "vcd/movepolicy.h"

#include <string.h>

static const char *const names[] = {[MOVE_PRECOPY] = "pre-copy", [MOVE_CONVERGE] = "auto-converge", [MOVE_COMPRESS] = "compress"};

const char *move_policy_name(enum move_policy policy)
{
	return names[policy];
}

int move_policy_from_name(const char *name, enum move_policy *ret, struct vc_error *err)
{
	for (int i = 0; i < MOVE_POLICIES; i++) {
		if (strcmp(names[i], name) == 0) {
			*ret = (enum move_policy)i;
			return 0;
		}
	}
	if (strcmp(name, "post-copy") == 0)
		return vc_error_set(err, VC_EUSER, "post-copy is not there: a copy waits at its target for leave to run, which post-copy cannot");
	return vc_error_set(err, VC_EUSER, "'%.32s' is no policy of migration: pre-copy, auto-converge, compress", name);
}
