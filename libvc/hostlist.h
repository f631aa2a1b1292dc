// SPDX-License-Identifier: GPL-2.0-or-later
// Slurm's host lists: "n[1-3,07],login" to names and back. Pure and bounded.
#ifndef LIBVC_HOSTLIST_H
#define LIBVC_HOSTLIST_H

#include <stddef.h>

#include "libvc/error.h"

// Names in the order written, duplicates kept, as a NULL-terminated vector (vc_strv_free). At most max names; one
// bracket per name; VC_EUSER names the item. *ret_n may be NULL.
int vc_hostlist_expand(const char *list, size_t max, char ***ret, size_t *ret_n, struct vc_error *err);
// "n[1-3],login": neighbours with one prefix and width are joined, order kept. free()
char *vc_hostlist_compress(char *const *names, struct vc_error *err);

#endif
