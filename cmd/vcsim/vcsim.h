// SPDX-License-Identifier: GPL-2.0-or-later
// What vcsim's scenarios share: the options, and figures as lines or JSON.
#ifndef CMD_VCSIM_VCSIM_H
#define CMD_VCSIM_VCSIM_H

#include <json-c/json.h>
#include <stdbool.h>

#include "cmd/vcsim/pool.h"

struct vcsim_options {
	uint64_t seed;
	uint32_t load;	 // permille
	bool out_of_phase;
	uint32_t days, hosts, groups, own, reserve;
	uint32_t slack;	 // permille
	uint32_t cases;
	uint64_t migrate_ms;
	const char *policy; // NULL: the scenario's own
	const char *trace;  // SWF file; NULL: the model
	const char *csv, *svg, *swf, *records; // files to write; NULL: none
	bool json;
	struct elastic_params params;
	struct pool_costs costs;
};

// Figures of one run, printed in the order they were added.
struct figures {
	struct json_object *obj;
};
void figures_add(struct figures *f, const char *name, double value);
void figures_print(const struct figures *f, bool json);

int scenario_pool(const struct vcsim_options *o, struct figures *f, struct vc_error *err);
int scenario_violin(const struct vcsim_options *o, struct figures *f, struct vc_error *err);
int scenario_replay(const struct vcsim_options *o, struct figures *f, struct vc_error *err); // the records of --trace
int scenario_yield(const struct vcsim_options *o, struct figures *f, struct vc_error *err);
int write_plot(const struct vcsim_options *o, const struct plot *plot, struct vc_error *err); // to --csv and --svg

#endif
