// SPDX-License-Identifier: GPL-2.0-or-later
// What is done about a guest that dirties its memory faster than it is copied. Pure.
#ifndef VCD_MOVEPOLICY_H
#define VCD_MOVEPOLICY_H

#include "libvc/error.h"

enum move_policy {
	MOVE_PRECOPY,  // rounds up to a cap, then it is stopped for the rest
	MOVE_CONVERGE, // the same, and its processors are slowed down meanwhile
	MOVE_COMPRESS, // the same, and pages that were sent before are sent as differences (xbzrle)
	MOVE_POLICIES
};

const char *move_policy_name(enum move_policy policy);
int move_policy_from_name(const char *name, enum move_policy *ret, struct vc_error *err);

#endif
