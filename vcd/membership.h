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
	void (*view)(void *ctx, uint64_t epoch); // the hosts agreed on it: membership_view()
	void (*removed)(void *ctx); // the others go on without this host
	void (*returned)(void *ctx); // and now with it again
	void (*lacks_plan)(void *ctx); // a view has members that the plan here does not have: it waits for membership_plan()
};

enum membership_begin {
	MEMBERSHIP_FIRST, // the plan was just confirmed by view 1
	MEMBERSHIP_AGAIN, // there must be a record of an earlier vcd (VC_ENOTFOUND)
	MEMBERSHIP_JOIN,  // the cluster runs, and this host asks to come in
};

struct membership *membership_create(struct vcd *vcd, struct vc_error *err);
void membership_stop(struct membership *m);
void membership_destroy(struct membership *m); // after the loop has run dry

// plan stays the caller's, and must live as long. A later view than 1 is told through ops before this returns. A record of an
// earlier vcd is used in every case.
struct membership_cluster *membership_join(struct membership *m, const struct plan *plan, enum membership_begin begin,
					   const struct membership_ops *ops, void *ctx, struct vc_error *err);
void membership_leave(struct membership_cluster *c);		// NULL is fine; the record stays
int membership_forget(struct membership *m, const char *cluster, struct vc_error *err); // and goes; absent is fine

void membership_plan(struct membership_cluster *c, const struct plan *plan); // the next one; as above
struct json_object *membership_view(const struct membership_cluster *c); // the last one told through ops, made anew; NULL: none, or no memory
uint32_t membership_member_host(const struct membership_cluster *c, uint32_t rank); // in it, by index in the plan; UINT32_MAX: none
bool membership_lacks_plan(const struct membership_cluster *c); // its newest view is not told yet
bool membership_host_is_gone(const struct membership_cluster *c, uint32_t host); // by its index in the plan, in the view
bool membership_is_removed(const struct membership_cluster *c); // also of a record of an earlier vcd
void membership_ask_in(struct membership_cluster *c); // after `removed`: it is to come back

void membership_member_down(struct membership_cluster *c, uint32_t rank); // a member here has ended
void membership_member_leaves(struct membership_cluster *c, uint32_t rank); // it is announced
// A member here runs, and has the view of that epoch (0: none); linked: its agent answers. It comes into the view where it is not;
// called again and again.
void membership_member_runs(struct membership_cluster *c, uint32_t rank, uint64_t epoch, bool linked);
void membership_member_moved(struct membership_cluster *c, uint32_t rank); // a member runs here from now on
// How long this host may call the current view valid, in ms; 0: not at all.
uint64_t membership_valid_ms(const struct membership_cluster *c);

#endif
