// SPDX-License-Identifier: GPL-2.0-or-later
// The method event.list: the history of one cluster, from the controller's state database. Owns nothing.
#ifndef VCD_HISTORYRPC_H
#define VCD_HISTORYRPC_H

#include "libvc/error.h"

struct vcd;

int history_register(struct vcd *vcd, struct vc_error *err);

#endif
