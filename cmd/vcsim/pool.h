// SPDX-License-Identifier: GPL-2.0-or-later
// A pool of hosts in virtual time: groups' jobs from a trace, run by static partitions, by one shared queue, or by elastic
// clusters whose sizes a policy decides. The policy, its numbers and the leases are the daemon's own code.
//
// What a host costs on its way is charged: Slurm's scheduling, the image's installation where the host has not got it yet,
// the boot, and the release. A job whose host is taken at the deadline loses its work and starts again.
#ifndef CMD_VCSIM_POOL_H
#define CMD_VCSIM_POOL_H

#include <stdbool.h>

#include "cmd/vcsim/trace.h"
#include "vcd/elastic/elastic.h"
#include "vcd/elastic/plot.h"

enum pool_mode { POOL_STATIC, POOL_QUEUE, POOL_ELASTIC };

struct pool_costs {
	int64_t schedule_ms; // from a lease's submission to its start on a free host
	int64_t install_ms;  // of an image on a host that has not got it
	int64_t boot_ms;     // until the member is in the view
	int64_t release_ms;  // from a lease's end until the host is free
};

struct pool_setup {
	enum pool_mode mode;
	uint32_t hosts, groups;
	uint32_t own;	  // hosts of each group's primary job: its minimum (elastic)
	uint32_t reserve; // of each group (elastic)
	const struct elastic_policy *policy;
	struct elastic_params params;
	struct pool_costs costs;
	uint64_t seed;
	struct plot *sizes; // may be NULL: gets each group's size over time
	FILE *records;	    // may be NULL: gets each decision that changes a size as a line of JSON
};

struct pool_result {
	double slowdown;	 // mean bounded slowdown, of 10 s
	double slowdown_p95;
	double wait_s;		 // mean
	double utilisation;	 // useful work by capacity, until the last job ended
	double lost_share;	 // of the useful work, done twice after a reclaim
	double violation_s;	 // reservations not met beyond the bound
	double violation_bound_s;
	long grown, shrunk, reclaimed; // hosts
	long killed;		 // jobs
	long decisions;
};

int pool_run(const struct pool_setup *setup, const struct trace *trace, struct pool_result *ret, struct vc_error *err);
// A lower bound of the mean bounded slowdown of any schedule, with all jobs known before; see bound.c.
int pool_bound(const struct trace *trace, uint32_t hosts, double *ret, struct vc_error *err);

#define POOL_BOUNDED_MS 10000 // of the bounded slowdown: shorter run times count as this long

#endif
