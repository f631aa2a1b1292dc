// SPDX-License-Identifier: GPL-2.0-or-later
// Calls, fields of answers and texts that several verbs need: see vcctl.h.
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"

struct vc_client *ctl_connect(const struct ctl *ctl, struct vc_error *err)
{
	struct vc_client_opts opts = {.path = ctl->socket};
	return vc_client_connect(&opts, err);
}

int ctl_find_host(const struct ctl *ctl, const char *name, struct ctl_host *ret, struct vc_error *err)
{
	vc_autoclient struct vc_client *client = ctl_connect(ctl, err);
	if (!client)
		return -1;
	*ret = (struct ctl_host){0};
	snprintf(ret->name, sizeof(ret->name), "%s", name);
	if (strcmp(name, vc_client_server_host(client)) == 0)
		return 0;
	vc_autojson struct json_object *params = json_object_new_object(), *result = NULL;
	vc_json_add_str(params, "host", name);
	if (vc_client_call(client, "vcd.address", params, CTL_CALL_MS, NULL, NULL, &result, err) < 0)
		return -1;
	snprintf(ret->addr, sizeof(ret->addr), "%s", ctl_str(result, "addr"));
	ret->port = (int)ctl_u64(result, "port");
	return 0;
}

struct vc_client *ctl_connect_host(const struct ctl *ctl, const struct ctl_host *host, struct vc_error *err)
{
	if (!host->port)
		return ctl_connect(ctl, err);
	struct vc_client_opts opts = {.server_host = host->name};
	return vc_client_connect_tcp(host->addr, host->port, &opts, err);
}

struct vc_client *ctl_connect_controller(const struct ctl *ctl, struct vc_error *err)
{
	struct ctl_host host;
	vc_autojson struct json_object *ping = ctl_call(ctl, "vcd.ping", NULL, err);
	if (!ping || ctl_find_host(ctl, ctl_str(ping, "active_controller"), &host, err) < 0)
		return NULL;
	return ctl_connect_host(ctl, &host, err);
}

struct json_object *ctl_call(const struct ctl *ctl, const char *method, struct json_object *params, struct vc_error *err)
{
	vc_autojson struct json_object *owned = params;
	vc_autoclient struct vc_client *client = ctl_connect(ctl, err);
	struct json_object *result = NULL;
	if (!client || vc_client_call(client, method, owned, CTL_CALL_MS, NULL, NULL, &result, err) < 0)
		return NULL;
	return result;
}

int ctl_fail(const struct vc_error *err)
{
	switch (err->code) {
	case VC_ENOTFOUND:
		return CTL_NOTFOUND;
	case VC_EDENIED:
	case VC_EAUTH:
		return CTL_DENIED;
	case VC_ETIMEDOUT:
	case VC_ECANCELED:
	case ENOENT:
	case ECONNREFUSED:
	case ETIMEDOUT:
		return CTL_UNREACHABLE;
	default:
		return CTL_FAILED;
	}
}

int ctl_parse_job(const char *text, uint32_t *ret, struct vc_error *err)
{
	uint64_t job;
	if (vc_parse_u64("JOB", text, 1, UINT32_MAX, &job, err) < 0)
		return -1;
	*ret = (uint32_t)job;
	return 0;
}

struct json_object *ctl_job_params(uint32_t job)
{
	struct json_object *params = json_object_new_object();
	vc_json_add_u64(params, "job", job);
	return params;
}

const char *ctl_str(struct json_object *obj, const char *key)
{
	struct json_object *value;
	if (!json_object_object_get_ex(obj, key, &value) || !json_object_is_type(value, json_type_string))
		return "";
	return json_object_get_string(value);
}

uint64_t ctl_u64(struct json_object *obj, const char *key)
{
	struct json_object *value;
	return json_object_object_get_ex(obj, key, &value) ? json_object_get_uint64(value) : 0;
}

struct json_object *ctl_get(struct json_object *obj, const char *key)
{
	struct json_object *value;
	if (!json_object_object_get_ex(obj, key, &value))
		return NULL;
	return json_object_is_type(value, json_type_object) || json_object_is_type(value, json_type_array) ? value : NULL;
}

size_t ctl_len(struct json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

const char *ctl_text_ms(uint64_t ms, char buf[CTL_TEXT])
{
	uint64_t s = ms / 1000;
	if (s < 60)
		snprintf(buf, CTL_TEXT, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
	else if (s < 3600)
		snprintf(buf, CTL_TEXT, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, CTL_TEXT, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		snprintf(buf, CTL_TEXT, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
	return buf;
}

const char *ctl_text_bytes(uint64_t n, char buf[CTL_TEXT])
{
	static const char units[] = "BKMGTPE";
	unsigned unit = 0;
	double value = (double)n;
	for (; value >= 1024 && unit + 2 < sizeof(units); unit++)
		value /= 1024;
	snprintf(buf, CTL_TEXT, unit && value < 100 ? "%.1f%c" : "%.0f%c", value, units[unit]);
	return buf;
}

const char *ctl_text_u64(uint64_t n, char buf[CTL_TEXT])
{
	snprintf(buf, CTL_TEXT, "%" PRIu64, n);
	return buf;
}

const char *ctl_text_time(uint64_t seconds, char buf[CTL_TEXT])
{
	time_t t = (time_t)seconds;
	struct tm tm;
	if (!seconds || !localtime_r(&t, &tm) || !strftime(buf, CTL_TEXT, "%Y-%m-%dT%H:%M", &tm))
		snprintf(buf, CTL_TEXT, "-");
	return buf;
}

const char *ctl_text_user(uint64_t uid, char buf[CTL_TEXT])
{
	const struct passwd *pw = getpwuid((uid_t)uid);
	if (pw)
		snprintf(buf, CTL_TEXT, "%.*s", CTL_TEXT - 1, pw->pw_name);
	else
		ctl_text_u64(uid, buf);
	return buf;
}

int ctl_print_json(struct json_object *obj)
{
	puts(json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
							 JSON_C_TO_STRING_NOSLASHESCAPE));
	return CTL_OK;
}

size_t ctl_width(void)
{
	return table_terminal_width(STDOUT_FILENO);
}
