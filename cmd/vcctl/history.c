// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl events, plot: what happened to a cluster, and the sizes of clusters over time as SVG.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/elastic/plot.h"

static struct json_object *load_events(const struct ctl *ctl, const char *text, struct vc_error *err)
{
	uint32_t job;
	if (ctl_parse_job(text, &job, err) < 0)
		return NULL;
	return ctl_call(ctl, "event.list", ctl_job_params(job), err);
}

// --- events -------------------------------------------------------------------------------------------------------------

static const struct table_column columns[] = {{"TIME", false, false}, {"WHAT", false, false}, {"HOST", false, true}, {"DETAILS", false, true}};

static const char *text_ms(uint64_t ms, char buf[CTL_TEXT])
{
	time_t t = (time_t)(ms / 1000);
	struct tm tm;
	size_t n = localtime_r(&t, &tm) ? strftime(buf, CTL_TEXT, "%Y-%m-%dT%H:%M:%S", &tm) : 0;
	snprintf(buf + n, CTL_TEXT - n, ".%03" PRIu64, ms % 1000);
	return buf;
}

// "state held, job 12, reason ...": what the event says, in its own order; records of decisions only by their reason
static void fill_details(struct json_object *data, char *buf, size_t len)
{
	size_t n = 0;
	buf[0] = '\0';
	if (!data)
		return;
	json_object_object_foreach(data, key, value)
	{
		enum json_type type = json_object_get_type(value);
		if (type == json_type_object || type == json_type_array || type == json_type_null || n >= len)
			continue;
		n += (size_t)snprintf(buf + n, len - n, "%s%s %s", n ? ", " : "", key, json_object_get_string(value));
	}
}

static int add_event(struct table *t, struct json_object *e)
{
	char time[CTL_TEXT], details[512];
	fill_details(ctl_get(e, "data"), details, sizeof(details));
	return table_add(t, (const char *const[]){text_ms(ctl_u64(e, "time_ms"), time), ctl_str(e, "what"), ctl_str(e, "host"), details});
}

int ctl_events(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	vc_autojson struct json_object *result = load_events(ctl, args[0], err);
	if (!result)
		return ctl_fail(err);
	if (ctl->json)
		return ctl_print_json(result);
	table_auto struct table *t = table_create(columns, VC_ARRAY_LEN(columns));
	struct json_object *events = ctl_get(result, "events");
	for (size_t i = 0; t && i < ctl_len(events); i++) {
		if (add_event(t, json_object_array_get_idx(events, i)) < 0)
			return CTL_FAILED;
	}
	if (t)
		table_print(t, ctl_width(), stdout);
	return CTL_OK;
}

// --- plot ---------------------------------------------------------------------------------------------------------------

// A cluster's size in hosts: each view tells it; with its release it is 0.
static int add_size(struct plot *p, size_t series, struct json_object *e, double start_s, struct vc_error *err)
{
	struct json_object *data = ctl_get(e, "data");
	double at = (double)ctl_u64(e, "time_ms") / 1000 - start_s;
	if (strcmp(ctl_str(e, "what"), "view") == 0)
		return plot_add(p, series, at, (double)ctl_u64(data, "hosts"), err);
	if (strcmp(ctl_str(e, "what"), "phase") == 0 && strcmp(ctl_str(data, "phase"), "releasing") == 0)
		return plot_add(p, series, at, 0, err);
	return 0;
}

static int add_cluster(struct plot *p, const char *job, struct json_object *events, double start_s, struct vc_error *err)
{
	char name[CTL_TEXT];
	snprintf(name, sizeof(name), "job %s", job);
	int series = plot_series(p, name, err);
	if (series < 0)
		return -1;
	for (size_t i = 0; i < ctl_len(events); i++) {
		if (add_size(p, (size_t)series, json_object_array_get_idx(events, i), start_s, err) < 0)
			return -1;
	}
	return 0;
}

static double first_time(struct json_object **histories, int n)
{
	double first = 0;
	for (int i = 0; i < n; i++) {
		struct json_object *events = ctl_get(histories[i], "events");
		double at = ctl_len(events) ? (double)ctl_u64(json_object_array_get_idx(events, 0), "time_ms") / 1000 : 0;
		if (at > 0 && (first == 0 || at < first))
			first = at;
	}
	return first;
}

static int draw(const struct ctl *ctl, char **jobs, struct json_object **histories, int n, struct vc_error *err)
{
	struct plot p;
	double start = first_time(histories, n);
	int rc = plot_init(&p, "sizes of virtual clusters", "hosts", err);
	for (int i = 0; rc == 0 && i < n; i++)
		rc = add_cluster(&p, jobs[i], ctl_get(histories[i], "events"), start, err);
	if (rc == 0)
		rc = ctl->csv ? plot_csv(&p, stdout, err) : plot_svg(&p, stdout, err);
	plot_clear(&p);
	return rc;
}

int ctl_plot(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	vc_autofree struct json_object **histories = calloc((size_t)n + 1, sizeof(struct json_object *));
	int status = CTL_OK;
	if (!histories)
		return CTL_FAILED;
	for (int i = 0; status == CTL_OK && i < n; i++) {
		if (!(histories[i] = load_events(ctl, args[i], err)))
			status = ctl_fail(err);
	}
	if (status == CTL_OK && draw(ctl, args, histories, n, err) < 0)
		status = CTL_FAILED;
	for (int i = 0; i < n; i++)
		json_object_put(histories[i]);
	return status;
}
