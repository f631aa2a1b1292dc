// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl list, show, watch, view: what the controller says about clusters, for people and as JSON.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

static int no_memory(struct vc_error *err)
{
	vc_error_set(err, ENOMEM, "out of memory");
	return CTL_FAILED;
}

static void print_clean(const char *text)
{
	table_print_clean(text, strlen(text), stdout);
}

// --- list --------------------------------------------------------------------------------------------------------

static const struct table_column list_columns[] = {
	{"JOBID", true, false},	  {"USER", false, true},  {"IMAGE", false, true}, {"PHASE", false, false},
	{"MEMBERS", true, false}, {"HOSTS", true, false}, {"TIME", true, false},  {"REASON", false, true},
};

static int add_cluster(struct table *t, struct json_object *c)
{
	char job[CTL_TEXT], user[CTL_TEXT], members[CTL_TEXT], hosts[CTL_TEXT], time[CTL_TEXT];
	const char *name = ctl_str(c, "user");
	const char *cells[] = {ctl_text_u64(ctl_u64(c, "job"), job),
			       *name ? name : ctl_text_user(ctl_u64(c, "uid"), user),
			       ctl_str(c, "image"),
			       ctl_str(c, "phase"),
			       ctl_text_u64(ctl_u64(c, "members"), members),
			       ctl_text_u64(ctl_u64(c, "n_hosts"), hosts),
			       ctl_text_ms(ctl_u64(c, "elapsed_ms"), time),
			       ctl_str(c, "reason")};
	return table_add(t, cells);
}

int ctl_list(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)args;
	(void)n;
	struct json_object *params = json_object_new_object();
	vc_json_add_bool(params, "all", ctl->all);
	vc_autojson struct json_object *result = ctl_call(ctl, "cluster.list", params, err);
	if (!result)
		return ctl_fail(err);
	if (ctl->json)
		return ctl_print_json(result);
	struct json_object *clusters = ctl_get(result, "clusters");
	table_auto struct table *t = table_create(list_columns, VC_ARRAY_LEN(list_columns));
	if (!t)
		return no_memory(err);
	for (size_t i = 0; i < ctl_len(clusters); i++)
		if (add_cluster(t, json_object_array_get_idx(clusters, i)) < 0)
			return no_memory(err);
	table_print(t, ctl_width(), stdout);
	return CTL_OK;
}

// --- show --------------------------------------------------------------------------------------------------------

static const struct table_column host_columns[] = {
	{"HOST", false, true}, {"PHASE", false, false}, {"TIME", true, false}, {"REASON", false, true}};

static const struct table_column member_columns[] = {
	{"RANK", true, false},	 {"NAME", false, true}, {"HOST", false, true},	 {"ADDRESS", false, false},
	{"STATE", false, false}, {"CPUS", true, false}, {"MEMORY", true, false}, {"SLOTS", true, false},
	{"CPUTIME", true, false}, {"PEAK", true, false}, // only where usage was recorded
};
#define USAGE_COLUMNS 2

static int print_hosts(struct json_object *cluster)
{
	struct json_object *hosts = ctl_get(cluster, "hosts");
	table_auto struct table *t = table_create(host_columns, VC_ARRAY_LEN(host_columns));
	if (!t)
		return -1;
	for (size_t i = 0; i < ctl_len(hosts); i++) {
		struct json_object *host = json_object_array_get_idx(hosts, i);
		char time[CTL_TEXT];
		if (!*ctl_str(host, "phase"))
			continue; // of a cluster that is over
		const char *cells[] = {ctl_str(host, "host"), ctl_str(host, "phase"),
				       ctl_text_ms(ctl_u64(host, "elapsed_ms"), time), ctl_str(host, "reason")};
		if (table_add(t, cells) < 0)
			return -1;
	}
	if (table_rows(t)) {
		putchar('\n');
		table_print(t, ctl_width(), stdout);
	}
	return 0;
}

static struct json_object *entry_of_rank(struct json_object *array, uint64_t rank)
{
	for (size_t i = 0; i < ctl_len(array); i++) {
		struct json_object *entry = json_object_array_get_idx(array, i);
		if (ctl_u64(entry, "rank") == rank)
			return entry;
	}
	return NULL;
}

// A member whose host's vcd is away runs on: that is no state of its own.
static const char *state_text(struct json_object *member)
{
	bool lost = false;
	(void)vc_json_bool_opt(member, "agent_lost", &lost, NULL);
	return lost ? "agent-lost" : ctl_str(member, "state");
}

// A member is known from the plan (sizes) and from the view (state); either may be missing.
static int add_member(struct table *t, struct json_object *plan, struct json_object *view, struct json_object *usage, bool over)
{
	struct json_object *any = view ? view : plan;
	bool gone = false;
	if (!view && vc_json_bool_opt(plan, "gone", &gone, NULL) == 0 && gone)
		return 0; // it was to come, and never was there
	char rank[CTL_TEXT], cpus[CTL_TEXT], memory[CTL_TEXT], slots[CTL_TEXT], time[CTL_TEXT], peak[CTL_TEXT];
	const char *cells[] = {ctl_text_u64(ctl_u64(any, "rank"), rank),
			       ctl_str(any, "name"),
			       ctl_str(any, "host"),
			       ctl_str(any, "addr"),
			       over ? "released" : view ? state_text(view) : "planned",
			       plan ? ctl_text_u64(ctl_u64(plan, "vcpus"), cpus) : "",
			       plan ? ctl_text_bytes(ctl_u64(plan, "mem_mib") << 20, memory) : "",
			       ctl_text_u64(ctl_u64(any, "slots"), slots),
			       usage ? ctl_text_ms(ctl_u64(usage, "cpu_ms"), time) : "",
			       usage ? ctl_text_bytes(ctl_u64(usage, "peak_kib") << 10, peak) : ""};
	return table_add(t, cells);
}

static int print_members(struct json_object *cluster)
{
	struct json_object *planned = ctl_get(ctl_get(cluster, "plan"), "members");
	struct json_object *viewed = ctl_get(ctl_get(cluster, "view"), "members");
	struct json_object *usage = ctl_get(cluster, "usage");
	bool over = strcmp(ctl_str(cluster, "phase"), "released") == 0;
	size_t columns = VC_ARRAY_LEN(member_columns) - (ctl_len(usage) ? 0 : USAGE_COLUMNS);
	table_auto struct table *t = table_create(member_columns, columns);
	if (!t)
		return -1;
	for (size_t i = 0; i < ctl_len(planned); i++) {
		struct json_object *member = json_object_array_get_idx(planned, i);
		uint64_t rank = ctl_u64(member, "rank");
		if (add_member(t, member, entry_of_rank(viewed, rank), entry_of_rank(usage, rank), over) < 0)
			return -1;
	}
	for (size_t i = 0; i < ctl_len(viewed); i++) {
		struct json_object *member = json_object_array_get_idx(viewed, i);
		uint64_t rank = ctl_u64(member, "rank");
		if (!entry_of_rank(planned, rank) && add_member(t, NULL, member, entry_of_rank(usage, rank), over) < 0)
			return -1;
	}
	if (table_rows(t)) {
		putchar('\n');
		table_print(t, ctl_width(), stdout);
	}
	return 0;
}

static void print_stages(struct json_object *cluster)
{
	struct json_object *stages = ctl_get(cluster, "stages");
	const char *before = "\nStages:";
	for (size_t i = 0; i < ctl_len(stages); i++) {
		struct json_object *stage = json_object_array_get_idx(stages, i);
		char time[CTL_TEXT];
		if (!ctl_u64(stage, "ms"))
			continue;
		printf("%s %s %s", before, ctl_str(stage, "stage"), ctl_text_ms(ctl_u64(stage, "ms"), time));
		before = ",";
	}
	if (*before == ',')
		putchar('\n');
}

// While the image is on its way.
static void print_transfer(struct json_object *transfer)
{
	char rate[CTL_TEXT];
	printf("Image: %" PRIu64 " of %" PRIu64 " hosts have it, %s/s together", ctl_u64(transfer, "hosts_done"),
	       ctl_u64(transfer, "hosts"), ctl_text_bytes(ctl_u64(transfer, "rate"), rate));
	if (*ctl_str(transfer, "slowest"))
		printf(", slowest %s with %" PRIu64 "%%", ctl_str(transfer, "slowest"), ctl_u64(transfer, "slowest_percent"));
	putchar('\n');
}

// All members together, when hosts recorded it: at the release.
static void print_usage(struct json_object *cluster)
{
	struct json_object *usage = ctl_get(cluster, "usage");
	char time[CTL_TEXT], peak[CTL_TEXT];
	uint64_t cpu_ms = 0, peak_kib = 0;
	for (size_t i = 0; i < ctl_len(usage); i++) {
		cpu_ms += ctl_u64(json_object_array_get_idx(usage, i), "cpu_ms");
		peak_kib += ctl_u64(json_object_array_get_idx(usage, i), "peak_kib");
	}
	if (ctl_len(usage))
		printf("Usage: %s of CPU time, %s of memory at most\n", ctl_text_ms(cpu_ms, time), ctl_text_bytes(peak_kib << 10, peak));
}

// Members on their way to other hosts.
static void print_moving(struct json_object *moves)
{
	for (size_t i = 0; i < ctl_len(moves); i++) {
		struct json_object *m = json_object_array_get_idx(moves, i);
		printf("Move: %s %s -> %s: %s", ctl_str(m, "name"), ctl_str(m, "from"), ctl_str(m, "to"), ctl_str(m, "state"));
		if (*ctl_str(m, "reason")) {
			fputs(", ", stdout);
			print_clean(ctl_str(m, "reason"));
		}
		putchar('\n');
	}
}

static void print_head(struct json_object *c)
{
	char phase[CTL_TEXT], total[CTL_TEXT];
	printf("Job %" PRIu64 "  user %s  image %s  cluster %s\n", ctl_u64(c, "job"), ctl_str(c, "user"), ctl_str(c, "image"),
	       ctl_str(c, "cluster"));
	bool over = strcmp(ctl_str(c, "phase"), "released") == 0;
	printf(over ? "Phase %s since %s, after %s\n" : "Phase %s for %s, %s since it was asked for\n", ctl_str(c, "phase"), ctl_text_ms(ctl_u64(c, "phase_ms"), phase),
	       ctl_text_ms(ctl_u64(c, "elapsed_ms"), total));
	if (*ctl_str(c, "reason")) {
		fputs("Reason: ", stdout);
		print_clean(ctl_str(c, "reason"));
		putchar('\n');
	}
	struct json_object *view = ctl_get(c, "view");
	if (view && !over)
		printf("View %" PRIu64 ", %zu members; mpirun takes those joining or active,\nsrun those of them on the job's own hosts\n",
		       ctl_u64(view, "epoch"), ctl_len(ctl_get(view, "members")));
	print_moving(ctl_get(ctl_get(c, "moving"), "moves"));
}

static struct json_object *show_job(const struct ctl *ctl, const char *text, struct vc_error *err)
{
	uint32_t job;
	if (ctl_parse_job(text, &job, err) < 0)
		return NULL;
	return ctl_call(ctl, "cluster.show", ctl_job_params(job), err);
}

int ctl_show(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	vc_autojson struct json_object *cluster = show_job(ctl, args[0], err);
	if (!cluster)
		return ctl_fail(err);
	if (ctl->json)
		return ctl_print_json(cluster);
	print_head(cluster);
	if (print_hosts(cluster) < 0 || print_members(cluster) < 0)
		return no_memory(err);
	if (ctl_get(cluster, "transfer"))
		print_transfer(ctl_get(cluster, "transfer"));
	print_stages(cluster);
	print_usage(cluster);
	return CTL_OK;
}

// --- view --------------------------------------------------------------------------------------------------------

static const struct table_column view_columns[] = {
	{"RANK", true, false},	 {"NAME", false, true},	      {"ADDRESS", false, false}, {"HOST", false, true}, {"SITE", false, true},
	{"STATE", false, false}, {"INCARNATION", true, false}, {"SLOTS", true, false},
};

static int print_view(const struct ctl *ctl, struct json_object *view)
{
	if (ctl->json && ctl->watch) {
		puts(vc_json_text(view, NULL));
		return fflush(stdout);
	}
	if (ctl->json)
		return ctl_print_json(view);
	struct json_object *members = ctl_get(view, "members");
	table_auto struct table *t = table_create(view_columns, VC_ARRAY_LEN(view_columns));
	for (size_t i = 0; t && i < ctl_len(members); i++) {
		struct json_object *m = json_object_array_get_idx(members, i);
		char rank[CTL_TEXT], incarnation[CTL_TEXT], slots[CTL_TEXT];
		const char *cells[] = {ctl_text_u64(ctl_u64(m, "rank"), rank), ctl_str(m, "name"), ctl_str(m, "addr"),
				       ctl_str(m, "host"), ctl_str(m, "site"), state_text(m),
				       ctl_text_u64(ctl_u64(m, "incarnation"), incarnation),
				       ctl_text_u64(ctl_u64(m, "slots"), slots)};
		if (table_add(t, cells) < 0)
			return -1;
	}
	if (!t)
		return -1;
	printf("view %" PRIu64 " of job %" PRIu64 ", digest %s\n", ctl_u64(view, "epoch"), ctl_u64(view, "job"),
	       ctl_str(view, "digest"));
	table_print(t, ctl_width(), stdout);
	return fflush(stdout);
}

// --- watch -------------------------------------------------------------------------------------------------------

struct watch {
	const struct ctl *ctl;
	bool views;	  // print views; otherwise phases
	uint64_t epoch;	  // of the last printed view
	struct json_object *last; // what was printed last, to tell what is new
};

static bool same_text(struct json_object *a, struct json_object *b, const char *key)
{
	return strcmp(ctl_str(a, key), ctl_str(b, key)) == 0;
}

static void print_change(struct json_object *cluster, const char *who, struct json_object *state)
{
	char time[CTL_TEXT];
	printf("%8s  %-10s %s", ctl_text_ms(ctl_u64(cluster, "elapsed_ms"), time), who, ctl_str(state, "phase"));
	if (*ctl_str(state, "reason")) {
		fputs(": ", stdout);
		print_clean(ctl_str(state, "reason"));
	}
	putchar('\n');
}

static void print_changes(struct watch *w, struct json_object *cluster)
{
	struct json_object *hosts = ctl_get(cluster, "hosts"), *before = ctl_get(w->last, "hosts");
	if (!w->last || !same_text(cluster, w->last, "phase") || !same_text(cluster, w->last, "reason"))
		print_change(cluster, "cluster", cluster);
	for (size_t i = 0; i < ctl_len(hosts); i++) {
		struct json_object *host = json_object_array_get_idx(hosts, i);
		struct json_object *was = i < ctl_len(before) ? json_object_array_get_idx(before, i) : NULL;
		if (!was || !same_text(host, was, "phase") || !same_text(host, was, "reason"))
			print_change(cluster, ctl_str(host, "host"), host);
	}
	struct json_object *transfer = ctl_get(cluster, "transfer");
	if (transfer && ctl_u64(transfer, "hosts_done") != ctl_u64(ctl_get(w->last, "transfer"), "hosts_done"))
		print_transfer(transfer);
	uint64_t epoch = ctl_u64(ctl_get(cluster, "view"), "epoch");
	if (epoch > w->epoch) {
		char time[CTL_TEXT];
		printf("%8s  view %" PRIu64 ", %zu members\n", ctl_text_ms(ctl_u64(cluster, "elapsed_ms"), time), epoch,
		       ctl_len(ctl_get(ctl_get(cluster, "view"), "members")));
		w->epoch = epoch;
	}
}

// Each notification is a whole cluster, under "cluster" or bare.
static int cluster_changed(void *ctx, const char *method, struct json_object *params)
{
	struct watch *w = ctx;
	if (strcmp(method, "cluster.changed") != 0)
		return 0;
	struct json_object *cluster = ctl_get(params, "cluster") ? ctl_get(params, "cluster") : params;
	if (w->views) {
		struct json_object *view = ctl_get(cluster, "view");
		if (!view || ctl_u64(view, "epoch") <= w->epoch)
			return 0;
		w->epoch = ctl_u64(view, "epoch");
		return print_view(w->ctl, view);
	}
	if (w->ctl->json)
		puts(vc_json_text(cluster, NULL));
	else
		print_changes(w, cluster);
	json_object_put(w->last);
	w->last = json_object_get(cluster);
	return fflush(stdout);
}

static int watch(const struct ctl *ctl, const char *job_text, bool views, struct vc_error *err)
{
	uint32_t job;
	if (ctl_parse_job(job_text, &job, err) < 0)
		return CTL_USAGE;
	struct watch w = {.ctl = ctl, .views = views};
	vc_autoclient struct vc_client *client = ctl_connect(ctl, err);
	vc_autojson struct json_object *params = ctl_job_params(job);
	int rc = client ? vc_client_call(client, "cluster.watch", params, CTL_FOREVER_MS, cluster_changed, &w, NULL, err) : -1;
	json_object_put(w.last);
	return rc < 0 ? ctl_fail(err) : CTL_OK;
}

int ctl_watch(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	return watch(ctl, args[0], false, err);
}

int ctl_view(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	if (ctl->watch)
		return watch(ctl, args[0], true, err);
	vc_autojson struct json_object *cluster = show_job(ctl, args[0], err);
	if (!cluster)
		return ctl_fail(err);
	struct json_object *view = ctl_get(cluster, "view");
	if (!view) {
		vc_error_set(err, VC_ENOTFOUND, "job %s has no view yet: its cluster is %s (vcctl show %s)", args[0],
			     ctl_str(cluster, "phase"), args[0]);
		return CTL_NOTFOUND;
	}
	if (print_view(ctl, view) < 0)
		return no_memory(err);
	return CTL_OK;
}
