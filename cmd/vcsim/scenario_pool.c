// SPDX-License-Identifier: GPL-2.0-or-later
// Scenario pool: groups' jobs on one pool (Cluster-on-Demand's eight days), by a policy, by static partitions, by one shared
// queue, and the offline bound. All four see the same jobs.
#include <stdio.h>
#include <string.h>

#include "cmd/vcsim/vcsim.h"
#include "libvc/cleanup.h"

static int load_trace(const struct vcsim_options *o, struct trace *ret, struct vc_error *err)
{
	uint32_t widest = o->hosts / o->groups; // what a static partition can run at all
	if (o->trace) {
		vc_autofclose FILE *in = fopen(o->trace, "re");
		if (!in)
			return vc_error_errno(err, "%s", o->trace);
		return trace_read(in, o->groups, widest, ret, err) < 0 ? vc_error_wrap(err, "%s", o->trace) : 0;
	}
	const struct trace_model model = {.seed = o->seed, .pool = o->hosts, .groups = o->groups, .days = o->days, .load = o->load,
					  .swing = 800, .max_hosts = widest, .out_of_phase = o->out_of_phase};
	return trace_make(&model, ret, err);
}

static int save_trace(const struct vcsim_options *o, const struct trace *trace, struct vc_error *err)
{
	char note[128];
	if (!o->swf)
		return 0;
	vc_autofclose FILE *out = fopen(o->swf, "we");
	if (!out)
		return vc_error_errno(err, "%s", o->swf);
	snprintf(note, sizeof(note), "seed %llu, load %u permille, %u groups %s phase, %u hosts, %u days",
		 (unsigned long long)o->seed, o->load, o->groups, o->out_of_phase ? "out of" : "in", o->hosts, o->days);
	return trace_write(trace, note, out, err);
}

static void add_result(struct figures *f, const char *name, const struct pool_result *r)
{
	char key[64];
	const struct {
		const char *name;
		double value;
	} rows[] = {{"slowdown", r->slowdown}, {"slowdown_p95", r->slowdown_p95}, {"wait_s", r->wait_s}, {"utilisation", r->utilisation}};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		snprintf(key, sizeof(key), "%s_%s", name, rows[i].name);
		figures_add(f, key, rows[i].value);
	}
}

static int baseline(struct pool_setup setup, enum pool_mode mode, const char *name, const struct trace *trace, struct figures *f,
		    double *ret_slowdown, struct vc_error *err)
{
	struct pool_result r;
	setup.mode = mode;
	setup.sizes = NULL;
	setup.records = NULL;
	if (pool_run(&setup, trace, &r, err) < 0)
		return vc_error_wrap(err, "%s", name);
	add_result(f, name, &r);
	*ret_slowdown = r.slowdown;
	return 0;
}

static int start_plot(const struct vcsim_options *o, struct plot *plot, struct vc_error *err)
{
	if (plot_init(plot, "Sizes of the groups' clusters", "hosts", err) < 0)
		return -1;
	for (uint32_t g = 0; g < o->groups; g++) {
		char name[32];
		snprintf(name, sizeof(name), "group %u", g + 1);
		if (plot_series(plot, name, err) < 0)
			return -1;
	}
	return 0;
}

static void add_elastic(struct figures *f, const struct pool_result *r)
{
	add_result(f, "elastic", r);
	figures_add(f, "reservation_violation_s", r->violation_s);
	figures_add(f, "reservation_bound_s", r->violation_bound_s);
	figures_add(f, "hosts_grown", (double)r->grown);
	figures_add(f, "hosts_shrunk", (double)r->shrunk);
	figures_add(f, "hosts_reclaimed", (double)r->reclaimed);
	figures_add(f, "jobs_killed", (double)r->killed);
	figures_add(f, "work_lost", r->lost_share);
	figures_add(f, "decisions", (double)r->decisions);
}

static int compare(const struct vcsim_options *o, const struct trace *trace, struct plot *plot, struct figures *f,
		   struct vc_error *err)
{
	struct pool_setup setup = {.mode = POOL_ELASTIC, .hosts = o->hosts, .groups = o->groups, .own = o->own, .reserve = o->reserve,
				   .policy = elastic_policy_find(o->policy ? o->policy : "cod", err), .params = o->params,
				   .costs = o->costs, .seed = o->seed, .sizes = o->csv || o->svg ? plot : NULL};
	vc_autofclose FILE *records = o->records ? fopen(o->records, "we") : NULL;
	if (o->records && !records)
		return vc_error_errno(err, "%s", o->records);
	setup.records = records;
	struct pool_result r;
	double statically = 1, shared = 1, bound = 1;
	if (!setup.policy || pool_run(&setup, trace, &r, err) < 0)
		return -1;
	figures_add(f, "jobs", (double)trace->n);
	add_elastic(f, &r);
	if (baseline(setup, POOL_STATIC, "static", trace, f, &statically, err) < 0 ||
	    baseline(setup, POOL_QUEUE, "easy", trace, f, &shared, err) < 0 || pool_bound(trace, o->hosts, &bound, err) < 0)
		return -1;
	figures_add(f, "bound_slowdown", bound);
	figures_add(f, "slowdown_vs_static", r.slowdown / statically);
	figures_add(f, "slowdown_vs_easy", r.slowdown / shared);
	return write_plot(o, plot, err);
}

int scenario_pool(const struct vcsim_options *o, struct figures *f, struct vc_error *err)
{
	struct trace trace = {0};
	struct plot plot = {0};
	int rc = load_trace(o, &trace, err);
	if (rc == 0)
		rc = save_trace(o, &trace, err);
	if (rc == 0)
		rc = start_plot(o, &plot, err);
	if (rc == 0)
		rc = compare(o, &trace, &plot, f, err);
	plot_clear(&plot);
	trace_clear(&trace);
	return rc;
}
