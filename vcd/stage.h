// SPDX-License-Identifier: GPL-2.0-or-later
// host.look: whether a job's --vcluster-stage-in files are there, before anything is built or booted. host.stage: the job's --vcluster-stage-in files go into all members on this host, as the job's user, before it starts.
//
// One vc-stage process per member; what they print on standard error is the failure's reason. They are killed when the
// controller gives the call up.
#ifndef VCD_STAGE_H
#define VCD_STAGE_H

#include "libvc/error.h"

struct host;
struct vcd;

int stage_register(struct vcd *vcd, struct host *host, struct vc_error *err);

#endif
