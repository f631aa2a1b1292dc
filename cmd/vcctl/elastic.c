// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl resize, leases, elastic: the size of a running cluster, the jobs that hold its further hosts, and the policy that decides.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "vcd/elastic/elastic.h"

static const struct table_column columns[] = {
	{"LEASE", true, false}, {"JOBID", true, false}, {"STATE", false, false}, {"HOST", false, true},
	{"FOR", true, false},	{"END", false, false},	{"REASON", false, true},
};

static int add_lease(struct table *t, struct json_object *l)
{
	char lease[CTL_TEXT], job[CTL_TEXT], since[CTL_TEXT];
	const char *const cells[] = {ctl_text_u64(ctl_u64(l, "lease"), lease), ctl_u64(l, "job") ? ctl_text_u64(ctl_u64(l, "job"), job) : "",
				     ctl_str(l, "state"), ctl_str(l, "host"), ctl_text_ms(ctl_u64(l, "state_ms"), since),
				     ctl_str(l, "end"), ctl_str(l, "reason")};
	return table_add(t, cells);
}

static int print_leases(struct json_object *size, struct vc_error *err)
{
	table_auto struct table *t = table_create(columns, VC_ARRAY_LEN(columns));
	struct json_object *leases = ctl_get(size, "leases");
	for (size_t i = 0; t && i < ctl_len(leases); i++) {
		if (add_lease(t, json_object_array_get_idx(leases, i)) < 0)
			return vc_error_set(err, ENOMEM, "out of memory");
	}
	printf("%" PRIu64 " hosts of the job, %" PRIu64 " leased; %" PRIu64 " wanted", ctl_u64(size, "own"), ctl_u64(size, "held"),
	       ctl_u64(size, "size"));
	if (ctl_u64(size, "max"))
		printf(" of %" PRIu64 " to %" PRIu64, ctl_u64(size, "min"), ctl_u64(size, "max"));
	putchar('\n');
	if (t && table_rows(t))
		table_print(t, ctl_width(), stdout);
	return 0;
}

static int show(const struct ctl *ctl, struct json_object *size, struct vc_error *err)
{
	if (ctl->json)
		return ctl_print_json(size);
	return print_leases(size, err) < 0 ? CTL_FAILED : CTL_OK;
}

// "4": that many hosts; "+1", "-2": more or fewer.
static int put_change(struct json_object *params, const char *text, struct vc_error *err)
{
	uint64_t n;
	bool by = text[0] == '+' || text[0] == '-';
	if (vc_parse_u64("HOSTS", text + by, by ? 0 : 1, VC_HOSTS_MAX, &n, err) < 0)
		return -1;
	if (!by)
		return vc_json_add_u64(params, "hosts", n);
	return json_object_object_add(params, "by", json_object_new_int64(text[0] == '-' ? -(int64_t)n : (int64_t)n));
}

int ctl_resize(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	uint32_t job;
	(void)n;
	if (ctl_parse_job(args[0], &job, err) < 0)
		return CTL_USAGE;
	struct json_object *params = ctl_job_params(job);
	if (put_change(params, args[1], err) < 0) {
		json_object_put(params);
		return CTL_USAGE;
	}
	vc_json_add_bool(params, "dry_run", ctl->dry_run);
	vc_autojson struct json_object *size = ctl_call(ctl, "cluster.resize", params, err);
	return size ? show(ctl, size, err) : ctl_fail(err);
}

int ctl_leases(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	uint32_t job;
	(void)n;
	if (ctl_parse_job(args[0], &job, err) < 0)
		return CTL_USAGE;
	vc_autojson struct json_object *size = ctl_call(ctl, "lease.list", ctl_job_params(job), err);
	return size ? show(ctl, size, err) : ctl_fail(err);
}

// --- elastic --------------------------------------------------------------------------------------------------------------

static void print_actions(struct json_object *record, uint64_t job)
{
	struct json_object *decision = ctl_get(record, "decision"), *actions = ctl_get(decision, "actions");
	bool any = false;
	for (size_t i = 0; i < ctl_len(actions); i++) {
		struct json_object *a = json_object_array_get_idx(actions, i);
		if (ctl_u64(a, "cluster") != job)
			continue;
		any = true;
		printf("  %s by %" PRIu64 ": %s\n", ctl_str(a, "verb"), ctl_u64(a, "n"), ctl_str(a, "reason"));
	}
	if (!any)
		puts("  nothing to change");
}

static int print_elastic(const struct ctl *ctl, struct json_object *e)
{
	char age[CTL_TEXT];
	if (ctl->json)
		return ctl_print_json(e);
	struct json_object *decision = ctl_get(e, "decision"), *record = ctl_get(decision, "record");
	printf("policy %s%s, weight %" PRIu64 ", reserve %" PRIu64 ", load %.2f hosts, %" PRIu64 " busy\n", ctl_str(e, "policy"),
	       json_object_get_boolean(json_object_object_get(e, "paused")) ? " (paused)" : "", ctl_u64(e, "weight"),
	       ctl_u64(e, "reserve"), (double)ctl_u64(e, "load") / 1000, ctl_u64(e, "busy"));
	printf("Slurm has %" PRIu64 " idle hosts, its queue waits for %" PRIu64 "\n", ctl_u64(e, "idle"), ctl_u64(e, "queued"));
	if (!record) {
		puts("no decision yet");
		return CTL_OK;
	}
	printf("decision %s ago: %s\n", ctl_text_ms(ctl_u64(decision, "age_ms"), age), ctl_str(ctl_get(record, "decision"), "reason"));
	print_actions(record, ctl_u64(e, "job"));
	return CTL_OK;
}

// Each recorded decision is made again here, from what it came from: the same to the last digit, or not.
static int replay(const struct ctl *ctl, uint32_t job, struct vc_error *err)
{
	vc_autojson struct json_object *result = ctl_call(ctl, "event.list", ctl_job_params(job), err);
	struct json_object *events = result ? ctl_get(result, "events") : NULL;
	unsigned n = 0, differ = 0;
	if (!result)
		return ctl_fail(err);
	for (size_t i = 0; i < ctl_len(events); i++) {
		struct json_object *e = json_object_array_get_idx(events, i);
		bool same = false;
		if (strcmp(ctl_str(e, "what"), "decision") != 0)
			continue;
		n++;
		if (elastic_replay(ctl_get(e, "data"), &same, NULL, err) < 0)
			return CTL_FAILED;
		differ += !same;
	}
	printf(ctl->json ? "{\"decisions\": %u, \"differ\": %u}\n" : "%u decisions, %u differ when made again\n", n, differ);
	return differ ? CTL_FAILED : CTL_OK;
}

static int change(const struct ctl *ctl, uint32_t job, char **args, int n, struct vc_error *err)
{
	struct json_object *params = ctl_job_params(job);
	bool on = n < 2 || strcmp(args[1], "off") != 0;
	if (strcmp(args[0], "pause") == 0)
		vc_json_add_bool(params, "paused", on);
	else
		vc_json_add_str(params, "set", args[1]);
	vc_autojson struct json_object *e = ctl_call(ctl, "elastic.set", params, err);
	return e ? print_elastic(ctl, e) : ctl_fail(err);
}

int ctl_elastic(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	uint32_t job;
	if (ctl_parse_job(args[0], &job, err) < 0)
		return CTL_USAGE;
	if (strcmp(args[1], "show") == 0 && n == 2) {
		vc_autojson struct json_object *e = ctl_call(ctl, "elastic.show", ctl_job_params(job), err);
		return e ? print_elastic(ctl, e) : ctl_fail(err);
	}
	if (strcmp(args[1], "replay") == 0 && n == 2)
		return replay(ctl, job, err);
	if ((strcmp(args[1], "set") == 0 && n == 3) || strcmp(args[1], "pause") == 0)
		return change(ctl, job, args + 1, n - 1, err);
	vc_error_set(err, VC_EUSER, "elastic JOB takes show, set POLICY[,KEY=VALUE...], pause [off] or replay");
	return CTL_USAGE;
}
