// SPDX-License-Identifier: GPL-2.0-or-later
// Checks images in the stores of hosts, and fetches damaged chunks again: methods image.fsck (an admin asks the controller), host.fsck
// (the controller asks a host). A copy that turns out damaged while it is served is repaired without being asked.
#ifndef VCD_FSCK_H
#define VCD_FSCK_H

#include "libvc/error.h"

struct fsck;
struct vcd;

struct fsck *fsck_create(struct vcd *vcd, struct vc_error *err);
void fsck_stop(struct fsck *f); // before the transfers
void fsck_destroy(struct fsck *f);

#endif
