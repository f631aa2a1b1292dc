// SPDX-License-Identifier: GPL-2.0-or-later
// A share's part in the migration of a member to another host of its job, at the source and at the target.
//
// The source leads: it writes down that the member is on its way, asks the target to get ready (host.incoming), has libvirt
// carry memory and disk over relayed unix sockets, writes down that the member is there (that write is the decision), and
// only then gives the target's copy leave to run (host.arrived). Before the decision any failure leaves the member running
// here and the copy is destroyed; after it the target is told until it has answered. A copy without leave never runs: a
// target that has waited too long asks the source (host.moving). With post-copy the decision comes before the rest of the memory
// (sharepost.c), and the member is lost where that does not come. Either vcd may be killed at any time and finds in its
// database where it was.
#ifndef VCD_SHAREMOVE_H
#define VCD_SHAREMOVE_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/hv.h"

struct rpc_request;
struct share;

#define SHAREMOVE_LIMIT_MS 3600000u // of one migration: 360 GiB at 100 MiB/s
#define SHAREMOVE_ASK_MS 60000u	    // host.incoming: a tap and an overlay on a loaded host
#define SHAREMOVE_TELL_MS 20000u    // host.arrived, host.drop
#define SHAREMOVE_RETRY_MS 1000u    // between two tries of them
#define SHAREMOVE_SILENCE_MS 15000u // a copy that has waited so long without a stream asks the source
#define SHAREMOVE_PROGRESS_MS 1000u // between two looks at QEMU's numbers
#define SHAREMOVE_SWITCH_MS 20u     // the same, until post-copy begins
#define SHAREMOVE_SWITCH_LOOKS 40u  // of a worker, one after the other
#define SHAREMOVE_HEAD_MIN (8u << 20) // bytes of memory that are sent before, at least
#define SHAREMOVE_MEASURE_MS 30000u // of the dirty rate: a second, on a loaded host more

struct share_migrate {
	uint32_t rank;
	const char *to;
	enum move_policy policy;
	uint64_t bandwidth_mib, downtime_ms, rounds; // 0: no limit, MOVE_DOWNTIME_MS, MOVE_ROUNDS
};

// Requests: 0: it is answered when that has ended.
int share_migrate(struct share *s, const struct share_migrate *args, struct rpc_request *req, struct vc_error *err);
int share_estimate(struct share *s, const struct share_migrate *args, struct rpc_request *req, struct vc_error *err); // moveestimate.c
int share_incoming(struct share *s, uint32_t rank, const char *from, struct rpc_request *req, struct vc_error *err);
int share_arrived(struct share *s, uint32_t rank, bool postcopy, struct rpc_request *req, struct vc_error *err);
int share_drop(struct share *s, uint32_t rank, struct rpc_request *req, struct vc_error *err);
// Of a member that is coming here: the socket for one of its streams (libvc names in relay.h). A descriptor, or -1.
int share_stream(struct share *s, uint32_t rank, const char *what, struct vc_error *err);
void share_domain_paused(struct share *s, uint32_t rank); // libvirt says so: perhaps a copy that has come and is complete, or a switch
void share_domain_torn(struct share *s, uint32_t rank);	  // and so: half of its memory is here, and the rest does not come
// host.moving of a target whose copy is complete. True: it is answered when that has been decided.
bool share_complete(struct share *s, uint32_t rank, struct rpc_request *req);
// "here", "leaving", "moved" (to another host), "coming".
const char *share_where(struct share *s, uint32_t rank);

#endif
