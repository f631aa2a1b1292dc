// SPDX-License-Identifier: GPL-2.0-or-later
// This host's image store, and on the controller the methods image.*: names, builds, imports, serving to hosts.
//
// Builds run as children (vc-build) with their own work directory; a build whose callers have all gone away is
// killed. The store's work is done in workers (WORK_GENERAL), the tables here on the loop thread.
#ifndef VCD_IMAGES_H
#define VCD_IMAGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "vcd/plan.h"

struct vcd;
struct images;
struct store;

struct images *images_create(struct vcd *vcd, struct vc_error *err);
void images_stop(struct images *im); // kills builds
void images_destroy(struct images *im);

struct store *images_store(struct images *im);
// The image that `name` means for this user: an own one first, then a public one. VC_EUSER when there is none.
int images_resolve(struct images *im, const char *name, uid_t uid, char ret_digest[PLAN_HEX64_LEN + 1], bool *ret_trusted,
		   struct vc_error *err);

#endif
