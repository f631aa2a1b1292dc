// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl check, vcctl ping.
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

static bool is_problem(struct json_object *finding)
{
	return strcmp(ctl_str(finding, "level"), "info") != 0;
}

static int severity(struct json_object *finding)
{
	static const char *const names[] = {"error", "warning", "info"};
	size_t i = 0;
	while (i < VC_ARRAY_LEN(names) && strcmp(ctl_str(finding, "level"), names[i]) != 0)
		i++;
	return (int)i;
}

// The worst first, then host by host.
static int by_level(const void *a, const void *b)
{
	struct json_object *left = *(struct json_object *const *)a, *right = *(struct json_object *const *)b;
	int diff = severity(left) - severity(right);
	return diff ? diff : strcmp(ctl_str(left, "where"), ctl_str(right, "where"));
}

static void print_line(const char *prefix, const char *text)
{
	fputs(prefix, stdout);
	table_print_clean(text, strlen(text), stdout);
	putchar('\n');
}

static void print_finding(struct json_object *finding)
{
	printf("%s", ctl_str(finding, "level"));
	print_line(" on ", *ctl_str(finding, "where") ? ctl_str(finding, "where") : "this host");
	print_line("  ", ctl_str(finding, "what"));
	if (*ctl_str(finding, "do"))
		print_line("  do: ", ctl_str(finding, "do"));
}

// A vcd that does not answer is itself what check is there to find.
static struct json_object *unreachable(struct vc_error *err)
{
	struct json_object *result = json_object_new_object(), *array = json_object_new_array(),
			   *finding = json_object_new_object();
	vc_json_add_str(finding, "level", "error");
	vc_json_add_str(finding, "what", err->text);
	vc_json_add_str(finding, "where", "this host");
	vc_json_add_str(finding, "do", "start vcd here (systemctl start vcd), or run vcctl where it runs");
	json_object_array_add(array, finding);
	vc_json_add(result, "findings", array);
	*err = VC_ERROR_INIT;
	return result;
}

int ctl_check(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)args;
	(void)n;
	vc_autojson struct json_object *result = ctl_call(ctl, "site.check", NULL, err);
	if (!result && ctl_fail(err) != CTL_UNREACHABLE)
		return ctl_fail(err);
	if (!result)
		result = unreachable(err);
	struct json_object *findings = ctl_get(result, "findings");
	size_t problems = 0;
	if (findings)
		json_object_array_sort(findings, by_level);
	for (size_t i = 0; i < ctl_len(findings); i++) {
		struct json_object *finding = json_object_array_get_idx(findings, i);
		problems += is_problem(finding);
		if (!ctl->json)
			print_finding(finding);
	}
	if (ctl->json)
		ctl_print_json(result);
	else
		printf(problems ? "%zu problems\n" : "no problems\n", problems);
	return problems ? CTL_FAILED : CTL_OK;
}

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int ctl_ping(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)args;
	(void)n;
	uint64_t start = now_us();
	vc_autojson struct json_object *result = ctl_call(ctl, "vcd.ping", NULL, err);
	if (!result)
		return ctl_fail(err);
	uint64_t us = now_us() - start;
	if (ctl->json)
		return ctl_print_json(result);
	struct json_object *controller = NULL;
	json_object_object_get_ex(result, "controller", &controller);
	printf("%s: vcd %s%s, %" PRIu64 ".%" PRIu64 " ms\n", ctl_str(result, "host"), ctl_str(result, "version"),
	       json_object_get_boolean(controller) ? ", controller" : "", us / 1000, us % 1000 / 100);
	return CTL_OK;
}
