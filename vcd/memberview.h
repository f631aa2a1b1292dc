// SPDX-License-Identifier: GPL-2.0-or-later
// The view that guests read, out of what the hosts agreed on and the plan, which has the names. Pure.
#ifndef VCD_MEMBERVIEW_H
#define VCD_MEMBERVIEW_H

#include "vcd/member/hostview.h"
#include "vcd/plan.h"

// View 1 of hosts: the plan that every one of them has. NULL only without memory (hostview's own way is to abort).
struct hostview *memberview_first(const struct plan *plan);
bool memberview_has_all(const struct plan *plan, const struct hostview *hosts); // its members are in the plan
// VC_ENOTFOUND: it has a member that this plan does not have: a later plan does.
struct view *memberview_make(const struct plan *plan, const struct hostview *hosts, struct vc_error *err);

#endif
