// SPDX-License-Identifier: GPL-2.0-or-later
// The membership of this host: runs the pure core of vcd/member (detector, agreement) on the loop, with links to other vcds,
// a timer, and the state database. docs/membership.md.
//
// A cluster's share joins when it has its first view, and gets every later one through its ops. What must survive a crash is in
// the database before anything that depends on it is said; where that fails the cluster is given up here: this host then
// votes no more, and its guests' view becomes stale. Loop thread only.
#ifndef VCD_MEMBERSHIP_H
#define VCD_MEMBERSHIP_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/plan.h"

struct vcd;
struct membership;
struct membership_cluster;

#define MEMBERSHIP_TELL_MS 5000u // until the controller is told again of a view that it has not acknowledged

struct membership_ops {
	void (*view)(void *ctx, struct json_object *view, uint64_t epoch); // the hosts agreed on it; borrowed
	void (*removed)(void *ctx); // the others go on without this host
};

struct membership *membership_create(struct vcd *vcd, struct vc_error *err);
void membership_stop(struct membership *m);
void membership_destroy(struct membership *m); // after the loop has run dry

// plan stays the caller's, and must live as long. first: the plan was just confirmed by view 1; otherwise there must be a record
// of an earlier vcd (VC_ENOTFOUND). A later view than 1 is told through ops before this returns.
struct membership_cluster *membership_join(struct membership *m, const struct plan *plan, bool first,
					   const struct membership_ops *ops, void *ctx, struct vc_error *err);
void membership_leave(struct membership_cluster *c);		// NULL is fine; the record stays
int membership_forget(struct membership *m, const char *cluster, struct vc_error *err); // and goes; absent is fine

void membership_member_down(struct membership_cluster *c, uint32_t rank); // a member here has ended
// How long this host may call the current view valid, in ms; 0: not at all.
uint64_t membership_valid_ms(const struct membership_cluster *c);

#endif
