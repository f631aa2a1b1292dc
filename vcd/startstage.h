// SPDX-License-Identifier: GPL-2.0-or-later
// How long each stage of a cluster's start took, for a host and for the cluster. Pure.
//
// A host measures what it does itself (transfer to boot). The cluster's stages follow the host that ended last in each phase, since
// that is the one that everybody waited for; together they are the time from job.ensure to ready.
#ifndef VCD_STARTSTAGE_H
#define VCD_STARTSTAGE_H

#include <json-c/json.h>
#include <stdint.h>

enum start_stage {
	START_RESOLVE,	// what the job is, who runs where, which image
	START_BUILD,	// of the image
	START_TRANSFER, // to the hosts
	START_PUBLISH,	// in their stores
	START_DEFINE,	// network, disks, domains
	START_BOOT,	// until the guests' agents are configured
	START_FORM,	// view 1 in each guest, and the files of --vcluster-stage-in
	START_STAGES
};

struct start_times {
	uint64_t ms[START_STAGES];
};

uint64_t start_times_sum(const struct start_times *t);
// A phase took ms and ended with `last`. now and before: what the host that ended last tells of itself, and told before the phase. Its
// stages get what it says, `last` the rest (messages, the controller's own work): all of ms is accounted for.
void start_times_add(struct start_times *t, uint64_t ms, enum start_stage last, const struct start_times *now,
		     const struct start_times *before);
// [{"stage", "ms"}, ...]; wait_ms: a last one named "wait", unless it is negative.
struct json_object *start_times_to_json(const struct start_times *t, int64_t wait_ms);
void start_times_from_json(struct start_times *t, struct json_object *array); // what is missing or odd stays 0: it is only shown

#endif
