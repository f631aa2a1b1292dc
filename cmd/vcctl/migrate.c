// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl migrate, evacuate, rebalance: one call of the controller, which answers when the members are where they are to be.
#include <inttypes.h>
#include <string.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"

static int add_number(struct json_object *params, const char *key, const char *option, const char *text, struct vc_error *err)
{
	uint64_t value;
	if (!text)
		return 0;
	if (vc_parse_u64(option, text, 1, 1u << 20, &value, err) < 0)
		return -1;
	return vc_json_add_u64(params, key, value);
}

static int add_options(const struct ctl *ctl, struct json_object *params, struct vc_error *err)
{
	if (ctl->policy)
		vc_json_add_str(params, "policy", ctl->policy);
	if (ctl->to)
		vc_json_add_str(params, "to", ctl->to);
	vc_json_add_bool(params, "dry_run", ctl->dry_run);
	if (add_number(params, "bandwidth_mib", "--bandwidth", ctl->bandwidth, err) < 0 ||
	    add_number(params, "downtime_ms", "--downtime", ctl->downtime, err) < 0 ||
	    add_number(params, "rounds", "--rounds", ctl->rounds, err) < 0)
		return -1;
	return 0;
}

// By rank, or by name ("vc123-0").
static int add_ranks(struct json_object *params, uint32_t job, char **args, int n, struct vc_error *err)
{
	struct json_object *list = json_object_new_array();
	char prefix[32];
	vc_json_add(params, "ranks", list);
	int len = snprintf(prefix, sizeof(prefix), "vc%" PRIu32 "-", job);
	for (int i = 0; i < n; i++) {
		const char *text = strncmp(args[i], prefix, (size_t)len) == 0 ? args[i] + len : args[i];
		uint64_t rank;
		if (vc_parse_u64("member", text, 0, VC_MEMBERS_MAX - 1, &rank, err) < 0)
			return -1;
		json_object_array_add(list, json_object_new_int64((int64_t)rank));
	}
	return 0;
}

static int on_notify(void *ctx, const char *method, struct json_object *params)
{
	const struct ctl *ctl = ctx;
	(void)method;
	if (ctl->json)
		return 0;
	fprintf(stderr, "member %" PRIu64 " to %s: ", ctl_u64(params, "rank"), ctl_str(params, "to"));
	table_print_clean(ctl_str(params, "reason"), strlen(ctl_str(params, "reason")), stderr);
	fputc('\n', stderr);
	return 0;
}

static struct json_object *call(const struct ctl *ctl, const char *method, struct json_object *params, struct vc_error *err)
{
	struct json_object *result = NULL;
	vc_autoclient struct vc_client *c = ctl_connect(ctl, err);
	if (!c || vc_client_call(c, method, params, CTL_FOREVER_MS, on_notify, (void *)ctl, &result, err) < 0)
		return NULL;
	return result;
}

static void print_numbers(struct json_object *numbers)
{
	char total[CTL_TEXT], memory[CTL_TEXT], disk[CTL_TEXT];
	if (!numbers || !json_object_object_length(numbers))
		return;
	printf(" in %s, stopped for %" PRIu64 " ms, %s of memory, %s of disk", ctl_text_ms(ctl_u64(numbers, "total_ms"), total),
	       ctl_u64(numbers, "downtime_ms"), ctl_text_bytes(ctl_u64(numbers, "memory_bytes"), memory),
	       ctl_text_bytes(ctl_u64(numbers, "disk_bytes"), disk));
	printf(", by %s", ctl_str(numbers, "policy"));
	if (ctl_get(numbers, "no_postcopy"))
		printf(" (no post-copy: %s)", ctl_str(numbers, "no_postcopy"));
}

static void print_expected(struct json_object *move)
{
	struct json_object *e = ctl_get(move, "expected");
	char bytes[CTL_TEXT], total[CTL_TEXT], dirty[CTL_TEXT];
	printf(", wave %" PRIu64, ctl_u64(move, "wave") + 1);
	if (!e) {
		printf(", at most %" PRIu64 " MiB of memory and what its disk holds of its own", ctl_u64(move, "memory_mib"));
		return;
	}
	printf(", about %s in %s at %" PRIu64 " MiB/s, stopped for about %" PRIu64 " ms%s; %s, as it dirties %s/s",
	       ctl_text_bytes(ctl_u64(e, "bytes"), bytes), ctl_text_ms(ctl_u64(e, "total_ms"), total), ctl_u64(e, "bandwidth_mib"),
	       ctl_u64(e, "downtime_ms"), json_object_get_boolean(ctl_get(e, "forced")) ? " (it does not converge by itself)" : "",
	       ctl_str(e, "policy"), ctl_text_bytes(ctl_u64(e, "dirty_bytes_s"), dirty));
	if (*ctl_str(e, "no_postcopy"))
		printf("; no post-copy: %s", ctl_str(e, "no_postcopy"));
}

static void print_move(struct json_object *move)
{
	const char *reason = ctl_str(move, "reason");
	printf("%s %s -> %s: %s", ctl_str(move, "name"), ctl_str(move, "from"), ctl_str(move, "to"), ctl_str(move, "state"));
	if (strcmp(ctl_str(move, "state"), "planned") == 0)
		print_expected(move);
	print_numbers(ctl_get(move, "numbers"));
	if (*reason && strcmp(ctl_str(move, "state"), "moved") != 0) {
		fputs(": ", stdout);
		table_print_clean(reason, strlen(reason), stdout);
	}
	putchar('\n');
}

// The number of members that are not where they were to be.
static size_t print_moves(struct json_object *result, bool quiet)
{
	struct json_object *moves = ctl_get(result, "moves"), *refused = ctl_get(result, "refused");
	size_t bad = ctl_len(refused);
	for (size_t i = 0; i < ctl_len(moves); i++) {
		struct json_object *move = json_object_array_get_idx(moves, i);
		bad += strcmp(ctl_str(move, "state"), "failed") == 0;
		if (!quiet)
			print_move(move);
	}
	for (size_t i = 0; !quiet && i < ctl_len(refused); i++) {
		struct json_object *r = json_object_array_get_idx(refused, i);
		printf("%s stays: ", ctl_str(r, "name"));
		table_print_clean(ctl_str(r, "reason"), strlen(ctl_str(r, "reason")), stdout);
		putchar('\n');
	}
	if (!quiet && !ctl_len(moves) && !ctl_len(refused) && !*ctl_str(result, "reason"))
		puts("nothing moves");
	return bad;
}

static int migrate(struct ctl *ctl, struct json_object *params, struct vc_error *err)
{
	vc_autojson struct json_object *result = add_options(ctl, params, err) == 0 ? call(ctl, "cluster.migrate", params, err) : NULL;
	if (!result)
		return ctl_fail(err);
	size_t bad = print_moves(result, ctl->json);
	if (ctl->json)
		ctl_print_json(result);
	return bad ? CTL_FAILED : CTL_OK;
}

int ctl_migrate(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	uint32_t job;
	if (ctl_parse_job(args[0], &job, err) < 0)
		return CTL_USAGE;
	vc_autojson struct json_object *params = ctl_job_params(job);
	if (add_ranks(params, job, args + 1, n - 1, err) < 0)
		return CTL_USAGE;
	return migrate(ctl, params, err);
}

int ctl_rebalance(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	uint32_t job;
	(void)n;
	if (ctl_parse_job(args[0], &job, err) < 0)
		return CTL_USAGE;
	vc_autojson struct json_object *params = ctl_job_params(job);
	vc_json_add_bool(params, "balance", true);
	return migrate(ctl, params, err);
}

int ctl_evacuate(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	size_t bad = 0;
	(void)n;
	vc_json_add_str(params, "host", args[0]);
	vc_autojson struct json_object *result = add_options(ctl, params, err) == 0 ? call(ctl, "cluster.evacuate", params, err) : NULL;
	if (!result)
		return ctl_fail(err);
	struct json_object *clusters = ctl_get(result, "clusters");
	for (size_t i = 0; i < ctl_len(clusters); i++) {
		struct json_object *c = json_object_array_get_idx(clusters, i);
		if (!ctl->json)
			printf("job %" PRIu64 ": %s\n", ctl_u64(c, "job"), ctl_str(c, "reason"));
		bad += *ctl_str(c, "reason") != '\0';
		bad += print_moves(c, ctl->json);
	}
	if (ctl->json)
		ctl_print_json(result);
	else if (!ctl_len(clusters))
		puts("no member is there");
	return bad ? CTL_FAILED : CTL_OK;
}
