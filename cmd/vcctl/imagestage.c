// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl image stage: puts an image on hosts before a job needs it, and shows how it gets there.
#include <inttypes.h>
#include <string.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/json.h"
#include "libvc/limits.h"

static int print_progress(void *ctx, const char *method, struct json_object *params)
{
	const struct ctl *ctl = ctx;
	char bytes[CTL_TEXT], rate[CTL_TEXT];
	if (ctl->json || strcmp(method, "image.progress") != 0)
		return 0;
	fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " chunks, %s came, %s/s, from %s\n", ctl_str(params, "host"), ctl_u64(params, "held"),
		ctl_u64(params, "total"), ctl_text_bytes(ctl_u64(params, "bytes"), bytes), ctl_text_bytes(ctl_u64(params, "rate"), rate),
		ctl_str(params, "from"));
	return 0;
}

static const struct table_column columns[] = {
	{.title = "HOST"}, {.title = "RECEIVED", .right = true}, {.title = "ADOPTED", .right = true}, {.title = "AFTER", .right = true}, {.title = "RESULT"},
};

static int add_host(struct table *t, const char *host, struct json_object *r, bool *failed)
{
	char bytes[CTL_TEXT], adopted[CTL_TEXT], after[CTL_TEXT];
	const char *error = ctl_str(r, "error");
	*failed = *failed || *error;
	const char *cells[] = {host, ctl_text_bytes(ctl_u64(r, "bytes"), bytes), ctl_text_bytes(ctl_u64(r, "adopted"), adopted),
			       ctl_text_ms(ctl_u64(r, "after_ms"), after), *error ? error : "ok"};
	return table_add(t, cells);
}

// 1 when a host failed.
static int print_hosts(const struct ctl *ctl, struct json_object *result)
{
	bool failed = false;
	table_auto struct table *t = table_create(columns, VC_ARRAY_LEN(columns));
	json_object_object_foreach(ctl_get(result, "hosts"), host, r) {
		if (!t || add_host(t, host, r, &failed) < 0)
			return CTL_FAILED;
	}
	if (ctl->json)
		ctl_print_json(result);
	else
		table_print(t, ctl_width(), stdout);
	return failed ? CTL_FAILED : CTL_OK;
}

int ctl_image_stage(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	vc_autostrv char **hosts = NULL;
	vc_autojson struct json_object *params = json_object_new_object(), *result = NULL;
	if (vc_hostlist_expand(args[1], VC_HOSTS_MAX, &hosts, NULL, err) < 0)
		return CTL_USAGE;
	if (vc_json_add_str(params, "name", args[0]) < 0 || vc_json_add_strv(params, "hosts", hosts) < 0)
		return CTL_FAILED;
	vc_autoclient struct vc_client *client = ctl_connect(ctl, err);
	if (!client || vc_client_call(client, "image.stage", params, CTL_BUILD_MS, print_progress, ctl, &result, err) < 0)
		return ctl_fail(err);
	return print_hosts(ctl, result);
}
