// SPDX-License-Identifier: GPL-2.0-or-later
// What vcctl cp is asked to do, from its words. Pure.
#ifndef VCCTL_COPY_H
#define VCCTL_COPY_H

#include <stdbool.h>

#include "libvc/error.h"

// "JOB:MEMBER:PATH" in its parts, or a path of this host (job NULL). copy_side_clear() frees.
struct copy_side {
	char *job, *member;
	char *path;
};
int copy_side_parse(const char *text, struct copy_side *ret, struct vc_error *err);
void copy_side_clear(struct copy_side *side);

// The directory and the last name of a path: "a/b/" -> "a", "b"; "b" -> ".", "b". Refuses "", "/", "." and "..".
int copy_split(const char *path, char **ret_dir, char **ret_name, struct vc_error *err);

#endif
