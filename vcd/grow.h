// SPDX-License-Identifier: GPL-2.0-or-later
// Growing and shrinking of a running cluster, on the controller. A *part* is what one lease brought to it: hosts, and members on them.
//
// Growing: the plan gets the part's hosts and new ranks (never used before), the hosts prepare and boot them as at a start, all
// hosts of the cluster get the plan, the new hosts join the agreement (docs/membership.md), and the part is held once the view
// has its members as active. Shrinking: members that fit on the hosts that stay migrate there, in at most half of the time; the
// others are announced as leaving; by the deadline, or once they run no task, the hosts leave the view; then they give back all they have. Each step is saved before it begins: a restarted controller goes on with it.
// Loop thread only.
#ifndef VCD_GROW_H
#define VCD_GROW_H

#include <stdint.h>

#include "libvc/error.h"
#include "vcd/plan.h"

struct clusters;

#define GROW_NO_LEASE 0 // the primary job's hosts: no part

enum grow_state {
	GROW_NONE,    // the cluster has no such part (any more)
	GROW_JOINING, // on its way into the view
	GROW_HELD,    // in the view
	GROW_LEAVING, // on its way out, also after a grow that failed
};

// Once, from the loop, never from inside the call that it belongs to; not after clusters_stop(). err NULL: done.
typedef void (*grow_done_fn)(void *ctx, const struct vc_error *err);

struct grow_args {
	uint32_t job;	// the primary's; its newest incarnation
	uint64_t lease; // not GROW_NO_LEASE
	// As slurmctl_load_job() told of the lease's job; copied. Their `lease` and `gone` are ignored.
	const struct plan_host *hosts;
	size_t n_hosts;
	grow_done_fn done; // may be NULL
	void *ctx;
};
// The same lease again joins what is under way; is done at once when the part is held; VC_EBUSY while it leaves. Fails at once with
// VC_ENOTFOUND (no such cluster), VC_EBUSY (it is not ready), VC_EUSER (does not fit, or a host is in the cluster already: its
// text is for the user). When it fails later, all that was begun is undone first, and then done() tells why.
int grow_start(struct clusters *cs, const struct grow_args *args, struct vc_error *err);

// What hosts that stay may be filled to by members of those that go: both in thousandths.
struct grow_slack {
	int64_t mem;	 // of a host's memory, that stays free
	int64_t squeeze; // virtual processors per CPU
};

struct shrink_args {
	uint32_t job;
	uint64_t lease;
	uint64_t deadline_ms; // from now: its members may go on until then; 0: they leave at once
	const char *reason;   // for logs and events
	struct grow_slack slack;
	grow_done_fn done;    // the hosts have nothing of the cluster any more, or are dead; may be NULL
	void *ctx;
};
// From GROW_JOINING it ends that grow (whose done() gets VC_ECANCELED). Again: joins, with the earlier of both deadlines. VC_ENOTFOUND: no such
// cluster or part: nothing to do.
int grow_shrink(struct clusters *cs, const struct shrink_args *args, struct vc_error *err);

enum grow_state grow_state(struct clusters *cs, uint32_t job, uint64_t lease);
// Callbacks with this ctx are not called any more; what is under way goes on.
void grow_forget(struct clusters *cs, void *ctx);

#endif
