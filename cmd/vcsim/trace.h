// SPDX-License-Identifier: GPL-2.0-or-later
// Job traces: Standard Workload Format (version 2.2) in and out, and a seeded model that makes them.
#ifndef CMD_VCSIM_TRACE_H
#define CMD_VCSIM_TRACE_H

#include <stdint.h>
#include <stdio.h>

#include "libvc/error.h"

#define TRACE_JOBS_MAX 1000000	   // of one trace; the longest public ones have half of it
#define TRACE_SECONDS_MAX 1000000000L // of any time in a trace: thirty years
#define TRACE_GROUPS_MAX 16

struct trace_job {
	uint32_t id;
	uint32_t group; // from 0
	uint32_t hosts;
	int64_t submit_ms, run_ms;
	int64_t estimate_ms; // what the user said; never below run_ms
};

struct trace {
	struct trace_job *jobs; // by submit time
	size_t n;
};

// The model: each group submits by a Poisson process whose rate swings over the day by `swing` permille; out of phase, the
// groups' days are apart by an equal part of a day. Widths: a quarter serial, else 2^u, u uniform, mostly rounded to a power
// of two, at most max_hosts. Run times: log-normal (median 15 min), cut at 10 s and 8 h. Estimates: 1 to 5 times the run
// time, rounded up to 5 minutes. Jobs are drawn until their work is `load` permille of the pool's capacity; each group gets
// an equal part.
struct trace_model {
	uint64_t seed;
	uint32_t pool, groups, days;
	uint32_t load;	   // permille of pool x days
	uint32_t swing;	   // permille
	uint32_t max_hosts; // of a job
	int out_of_phase;
};

int trace_make(const struct trace_model *model, struct trace *ret, struct vc_error *err);
// Fields used: 1 job, 2 submit, 4 run time, 5 or 8 processors, 9 requested time, 13 group. Jobs that did not run are left out,
// wider ones than max_hosts are an error.
int trace_read(FILE *in, uint32_t groups, uint32_t max_hosts, struct trace *ret, struct vc_error *err);
int trace_write(const struct trace *trace, const char *comment, FILE *out, struct vc_error *err);
void trace_clear(struct trace *trace);

#endif
