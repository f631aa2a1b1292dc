// SPDX-License-Identifier: GPL-2.0-or-later
// The membership view in this guest: VC_GUEST_DIR/{view,view.json,hostfile,hostfile.hydra,hostfile.plain}.
//
// Owns the view that was published last and the writer of the mapped file. Host files are replaced by rename, then the
// mapped view changes: who wakes on a new epoch finds host files at least as new.
#ifndef GUEST_MEMBERS_H
#define GUEST_MEMBERS_H

#include <stdint.h>

#include "libvc/error.h"
#include "vcd/member/view.h"

struct members;

struct members *members_create(void);
void members_destroy(struct members *m);

// Takes the view on success. valid_ms 0: as long as the view before it; the first one: for ever, as nobody renews it.
int members_publish(struct members *m, struct view *view, uint64_t valid_ms, struct vc_error *err);
unsigned long long members_epoch(const struct members *m); // 0: no view
int members_renew(struct members *m, uint64_t epoch, uint64_t valid_ms, struct vc_error *err);
const struct view *members_view(const struct members *m); // NULL before the first

#endif
