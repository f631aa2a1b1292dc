// SPDX-License-Identifier: GPL-2.0-or-later
// vcsim: the elastic policies in virtual time. Options, and one scenario per run; see vcsim(1).
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/vcsim/vcsim.h"
#include "libvc/cleanup.h"
#include "libvc/parse.h"

// --- scenarios ------------------------------------------------------------------------------------------------------------

static const struct {
	const char *name;
	int (*run)(const struct vcsim_options *o, struct figures *f, struct vc_error *err);
	const char *about;
} scenarios[] = {
	{"pool", scenario_pool, "groups' jobs on one pool, against static partitions and one shared queue"},
	{"violin", scenario_violin, "five environments on two hosts, with and without migration"},
	{"yield", scenario_yield, "placement for the greatest least yield, against the exact optimum"},
	{"replay", scenario_replay, "decides again what --save-records wrote to the file --trace, and compares"},
};

// --- options ------------------------------------------------------------------------------------------------------------

enum { OPT_SEED = 256, OPT_LOAD, OPT_PHASE, OPT_DAYS, OPT_HOSTS, OPT_GROUPS, OPT_OWN, OPT_RESERVE, OPT_SLACK, OPT_CASES, OPT_POLICY,
       OPT_TRACE, OPT_CSV, OPT_SVG, OPT_SWF, OPT_JSON, OPT_SET, OPT_COST, OPT_RECORDS, OPT_HELP };

static const struct option long_options[] = {
	{"seed", required_argument, NULL, OPT_SEED},	   {"load", required_argument, NULL, OPT_LOAD},
	{"phase", required_argument, NULL, OPT_PHASE},	   {"days", required_argument, NULL, OPT_DAYS},
	{"hosts", required_argument, NULL, OPT_HOSTS},	   {"groups", required_argument, NULL, OPT_GROUPS},
	{"own", required_argument, NULL, OPT_OWN},	   {"reserve", required_argument, NULL, OPT_RESERVE},
	{"slack", required_argument, NULL, OPT_SLACK},	   {"cases", required_argument, NULL, OPT_CASES},
	{"policy", required_argument, NULL, OPT_POLICY},   {"trace", required_argument, NULL, OPT_TRACE},
	{"csv", required_argument, NULL, OPT_CSV},	   {"svg", required_argument, NULL, OPT_SVG},
	{"save-trace", required_argument, NULL, OPT_SWF},  {"json", no_argument, NULL, OPT_JSON},
	{"save-records", required_argument, NULL, OPT_RECORDS},
	{"set", required_argument, NULL, OPT_SET},	   {"cost", required_argument, NULL, OPT_COST},
	{"help", no_argument, NULL, OPT_HELP},		   {0},
};

// Numbers, by the option's value.
static const struct {
	int option;
	const char *name;
	size_t offset;
	uint64_t min, max;
} numbers[] = {
	{OPT_DAYS, "--days", offsetof(struct vcsim_options, days), 1, 366},
	{OPT_HOSTS, "--hosts", offsetof(struct vcsim_options, hosts), 1, VC_HOSTS_MAX},
	{OPT_GROUPS, "--groups", offsetof(struct vcsim_options, groups), 1, TRACE_GROUPS_MAX},
	{OPT_OWN, "--own", offsetof(struct vcsim_options, own), 1, VC_HOSTS_MAX},
	{OPT_RESERVE, "--reserve", offsetof(struct vcsim_options, reserve), 0, VC_HOSTS_MAX},
	{OPT_CASES, "--cases", offsetof(struct vcsim_options, cases), 1, 1000000},
};

// Costs of transitions. As measured on this project's two-core reference machine, see docs/elasticity.md.
static const struct {
	const char *name;
	size_t offset;
	uint64_t standard;
} costs[] = {
	{"schedule", offsetof(struct pool_costs, schedule_ms), 3000}, // slurmctld's scheduling and vc-prolog
	{"install", offsetof(struct pool_costs, install_ms), 40000},  // a whole image over the pipeline; the slowest that is published
	{"boot", offsetof(struct pool_costs, boot_ms), 10000},	       // four full Debian guests at once under emulation
	{"release", offsetof(struct pool_costs, release_ms), 3000},    // shutdown, network, epilog
};

#define WAY_MAX_MS 3600000 // of any cost
#define MIGRATE_MS 2000	   // standard cost of a live migration of a small guest

static int usage(FILE *out)
{
	fputs("Example: vcsim pool --load 0.7 --phase out --svg sizes.svg\n\nUsage: vcsim SCENARIO [OPTIONS]\n", out);
	for (size_t i = 0; i < VC_ARRAY_LEN(scenarios); i++)
		fprintf(out, "  %-8s %s\n", scenarios[i].name, scenarios[i].about);
	fputs("Options: --seed N, --policy NAME, --set NAME=VALUE (a number of the policies), --cost NAME=TIME (schedule, install, boot,\n"
	      "release, migrate), --json, --csv FILE, --svg FILE; pool: --load SHARE, --phase in|out, --days N, --hosts N, --groups N,\n"
	      "--own N, --reserve N, --trace FILE.swf, --save-trace FILE.swf, --save-records FILE; yield: --slack SHARE, --cases N. See vcsim(1).\n",
	      out);
	return out == stderr ? 2 : 0;
}

static int set_cost(struct vcsim_options *o, const char *text, struct vc_error *err)
{
	const char *equals = strchr(text, '=');
	size_t len = equals ? (size_t)(equals - text) : 0;
	for (size_t i = 0; equals && i < VC_ARRAY_LEN(costs); i++) {
		uint64_t ms;
		if (strlen(costs[i].name) != len || strncmp(costs[i].name, text, len) != 0)
			continue;
		if (vc_parse_duration_ms("--cost", equals + 1, WAY_MAX_MS, &ms, err) < 0)
			return -1;
		memcpy((char *)&o->costs + costs[i].offset, &(int64_t){(int64_t)ms}, sizeof(int64_t));
		return 0;
	}
	if (equals && strncmp(text, "migrate=", 8) == 0)
		return vc_parse_duration_ms("--cost", equals + 1, WAY_MAX_MS, &o->migrate_ms, err);
	return vc_error_set(err, VC_EUSER, "--cost wants schedule, install, boot, release or migrate=TIME, not '%s'", text);
}

// "0.7" -> 700
static int set_share(const char *name, const char *text, uint32_t *ret, struct vc_error *err)
{
	struct elastic_params p = elastic_params_standard();
	char setting[64];
	if ((size_t)snprintf(setting, sizeof(setting), "high=%s", text) >= sizeof(setting) || !strchr(text, '.') ||
	    elastic_param_set(&p, setting, NULL) < 0)
		return vc_error_set(err, VC_EUSER, "%s wants a share as 0.7, not '%s'", name, text);
	*ret = (uint32_t)p.high;
	return 0;
}

static int set_number(struct vcsim_options *o, int option, const char *text, struct vc_error *err)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(numbers); i++) {
		uint64_t value;
		if (numbers[i].option != option)
			continue;
		if (vc_parse_u64(numbers[i].name, text, numbers[i].min, numbers[i].max, &value, err) < 0)
			return -1;
		memcpy((char *)o + numbers[i].offset, &(uint32_t){(uint32_t)value}, sizeof(uint32_t));
		return 0;
	}
	return vc_error_set(err, VC_EUSER, "wrong option");
}

static int set_phase(struct vcsim_options *o, const char *text, struct vc_error *err)
{
	o->out_of_phase = strcmp(text, "out") == 0;
	return o->out_of_phase || strcmp(text, "in") == 0 ? 0 : vc_error_set(err, VC_EUSER, "--phase is in or out");
}

static int set_option(struct vcsim_options *o, int option, const char *text, struct vc_error *err)
{
	switch (option) {
	case OPT_SEED: return vc_parse_u64("--seed", text, 0, UINT32_MAX, &o->seed, err);
	case OPT_LOAD: return set_share("--load", text, &o->load, err);
	case OPT_SLACK: return set_share("--slack", text, &o->slack, err);
	case OPT_PHASE: return set_phase(o, text, err);
	case OPT_SET: return elastic_param_set(&o->params, text, err);
	case OPT_COST: return set_cost(o, text, err);
	case OPT_POLICY: o->policy = text; return 0;
	case OPT_TRACE: o->trace = text; return 0;
	case OPT_CSV: o->csv = text; return 0;
	case OPT_SVG: o->svg = text; return 0;
	case OPT_SWF: o->swf = text; return 0;
	case OPT_RECORDS: o->records = text; return 0;
	case OPT_JSON: o->json = true; return 0;
	default: return set_number(o, option, text, err);
	}
}

static struct vcsim_options standard(void)
{
	struct vcsim_options o = {.seed = 1, .load = 700, .days = 8, .hosts = 80, .groups = 3, .own = 4, .reserve = 8, .slack = 300,
				  .cases = 500, .migrate_ms = MIGRATE_MS, .params = elastic_params_standard()};
	for (size_t i = 0; i < VC_ARRAY_LEN(costs); i++)
		memcpy((char *)&o.costs + costs[i].offset, &(int64_t){(int64_t)costs[i].standard}, sizeof(int64_t));
	return o;
}

static int run(const char *name, const struct vcsim_options *o, struct vc_error *err)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(scenarios); i++) {
		if (strcmp(scenarios[i].name, name) != 0)
			continue;
		vc_autojson struct json_object *obj = json_object_new_object();
		struct figures f = {obj};
		if (scenarios[i].run(o, &f, err) < 0)
			return -1;
		figures_print(&f, o->json);
		return 0;
	}
	return vc_error_set(err, VC_EUSER, "there is no scenario '%s': pool, violin, yield or replay", name);
}

int main(int argc, char **argv)
{
	struct vcsim_options o = standard();
	struct vc_error err = VC_ERROR_INIT;
	for (int option; (option = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
		if (option == OPT_HELP || option == 'h')
			return usage(stdout);
		if (option == '?')
			return usage(stderr);
		if (set_option(&o, option, optarg, &err) < 0) {
			fprintf(stderr, "vcsim: %s\n", err.text);
			return 2;
		}
	}
	if (optind != argc - 1)
		return usage(stderr);
	if (run(argv[optind], &o, &err) < 0) {
		fprintf(stderr, "vcsim: %s\n", err.text);
		return err.code == VC_EUSER ? 2 : 1;
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
