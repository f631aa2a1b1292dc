// SPDX-License-Identifier: GPL-2.0-or-later
// The site's hook: the executable that vcd.conf's `view-hook` names runs on each host of a cluster at each new view, as root.
//
// One run per cluster at a time; views that come meanwhile make one more run, from the last view told to the newest. A run that takes
// too long is killed. Nothing waits for it.
#ifndef VCD_VIEWHOOK_H
#define VCD_VIEWHOOK_H

#include <json-c/json.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/sharework.h"

#define VIEWHOOK_DIR "views" // below run-dir: <8>.old.json, <8>.new.json while a hook runs
#define VIEWHOOK_MS 60000u   // of one run

struct vcd;
struct viewhook;

struct viewhook *viewhook_create(struct vcd *vcd, const struct sharework *work); // NULL: no memory
void viewhook_view(struct viewhook *h, struct json_object *view, uint64_t epoch); // a new one; the first is nothing's change
void viewhook_tick(struct viewhook *h); // limits
void viewhook_destroy(struct viewhook *h); // a run under way goes on; NULL is fine

#endif
