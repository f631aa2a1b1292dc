// SPDX-License-Identifier: GPL-2.0-or-later
// JSON-RPC messages: see message.h.
#include "libvc/message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "libvc/json.h"

#define CODE_PARSE (-32700)
#define CODE_METHOD (-32601)
#define CODE_PARAMS (-32602)
#define CODE_ERRNO (-32000) // VC_EBASE + n travels as this - n

bool vc_hex_valid(const char *s, size_t digits)
{
	return strlen(s) == digits && strspn(s, "0123456789abcdef") == digits;
}

void vc_trace_make(char ret[VC_TRACE_LEN + 1])
{
	uint64_t v = 0;
	if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		v = (uint64_t)(uintptr_t)ret; // only a label: a poor one does no harm
	snprintf(ret, VC_TRACE_LEN + 1, "%016llx", (unsigned long long)v);
}

static int code_of(int error_code)
{
	if (error_code == VC_EPROTO)
		return CODE_PARAMS;
	return error_code > VC_EBASE ? CODE_ERRNO - (error_code - VC_EBASE) : CODE_ERRNO;
}

struct json_object *vc_message_error_body(const struct vc_error *err)
{
	vc_autojson struct json_object *body = json_object_new_object();
	struct json_object *data = json_object_new_object();
	if (vc_json_add(body, "data", data) < 0)
		return NULL;
	if (vc_json_add_int(body, "code", code_of(err->code)) < 0 || vc_json_add_str(body, "message", err->text) < 0 ||
	    vc_json_add_str(data, "name", vc_error_name(err->code)) < 0 ||
	    (err->code < VC_EBASE && vc_json_add_int(data, "errno", err->code) < 0))
		return NULL;
	return vc_steal(&body);
}

static int code_from(int64_t code, struct json_object *data)
{
	uint64_t number = 0;
	if (code == CODE_METHOD)
		return VC_ENOTFOUND;
	if (code == CODE_PARAMS || (code <= -32600 && code >= CODE_PARSE))
		return VC_EPROTO;
	if (code < CODE_ERRNO && code >= CODE_ERRNO - (VC_EFAILED - VC_EBASE))
		return VC_EBASE + (int)(CODE_ERRNO - code);
	if (data && vc_json_u64_opt(data, "errno", VC_EBASE - 1, &number, NULL) == 0 && number)
		return (int)number;
	return VC_EFAILED;
}

void vc_message_error_read(struct json_object *body, struct vc_error *ret)
{
	struct json_object *data = NULL, *code = NULL;
	const char *message = "no reason given";
	if (json_object_is_type(body, json_type_object)) {
		json_object_object_get_ex(body, "code", &code);
		json_object_object_get_ex(body, "data", &data);
		if (!json_object_is_type(data, json_type_object))
			data = NULL;
		vc_json_str_opt(body, "message", SIZE_MAX, &message, NULL);
	}
	vc_error_set(ret, code_from(json_object_is_type(code, json_type_int) ? json_object_get_int64(code) : 0, data), "%s",
		     message);
}

static int parse_call(struct json_object *obj, struct vc_message *m, struct vc_error *err)
{
	const char *trace = "";
	uint64_t as = UINT64_MAX;
	if (vc_json_str(obj, "method", VC_METHOD_MAX, &m->method, err) < 0 ||
	    vc_json_str_opt(obj, "trace", VC_TRACE_LEN, &trace, err) < 0 ||
	    vc_json_u64_opt(obj, "as", UINT32_MAX - 1, &as, err) < 0)
		return -1;
	if (json_object_object_get_ex(obj, "params", &m->params) && !json_object_is_type(m->params, json_type_object))
		return vc_error_set(err, VC_EPROTO, "'params' must be an object");
	if (*trace && !vc_hex_valid(trace, VC_TRACE_LEN))
		return vc_error_set(err, VC_EPROTO, "'trace' must be %d hex digits", VC_TRACE_LEN);
	memcpy(m->trace, trace, strlen(trace) + 1);
	m->forwarded = as != UINT64_MAX;
	m->as = (uid_t)as;
	return 0;
}

static int parse_object(struct json_object *obj, struct vc_message *m, struct vc_error *err)
{
	struct json_object *error = NULL, *id = NULL;
	const char *version = NULL;
	if (vc_json_str(obj, "jsonrpc", 3, &version, err) < 0)
		return -1;
	if (strcmp(version, "2.0") != 0)
		return vc_error_set(err, VC_EPROTO, "'jsonrpc' must be \"2.0\"");
	bool has_id = json_object_object_get_ex(obj, "id", &id);
	if (has_id && vc_json_u64(obj, "id", INT64_MAX, &m->id, err) < 0)
		return -1;
	if (json_object_object_get_ex(obj, "method", NULL)) {
		m->kind = has_id ? VC_MESSAGE_REQUEST : VC_MESSAGE_NOTIFICATION;
		return parse_call(obj, m, err);
	}
	if (!has_id)
		return vc_error_set(err, VC_EPROTO, "'id' is missing");
	if (json_object_object_get_ex(obj, "error", &error)) {
		m->kind = VC_MESSAGE_ERROR;
		vc_message_error_read(error, &m->error);
		return 0;
	}
	m->kind = VC_MESSAGE_RESULT;
	if (!json_object_object_get_ex(obj, "result", &m->result))
		return vc_error_set(err, VC_EPROTO, "neither 'method' nor 'result' nor 'error'");
	return 0;
}

int vc_message_parse(const void *text, size_t len, struct vc_message *ret, struct vc_error *err)
{
	struct vc_message m = {0};
	m.obj = vc_json_parse(text, len, err);
	if (!m.obj)
		return -1;
	if (parse_object(m.obj, &m, err) < 0) {
		vc_message_clear(&m);
		return -1;
	}
	*ret = m;
	return 0;
}

void vc_message_clear(struct vc_message *m)
{
	json_object_put(m->obj);
	*m = (struct vc_message){0};
}

static struct json_object *message_new(void)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_str(obj, "jsonrpc", "2.0") < 0)
		return NULL;
	return vc_steal(&obj);
}

static struct json_object *object_or_empty(struct json_object *obj)
{
	return obj ? json_object_get(obj) : json_object_new_object();
}

struct json_object *vc_message_request(uint64_t id, const char *method, struct json_object *params, const char *trace,
				       const uid_t *as)
{
	vc_autojson struct json_object *obj = message_new();
	if (!obj || vc_json_add_u64(obj, "id", id) < 0 || vc_json_add_str(obj, "method", method) < 0 ||
	    vc_json_add(obj, "params", object_or_empty(params)) < 0 || vc_json_add_str(obj, "trace", trace) < 0 ||
	    (as && vc_json_add_u64(obj, "as", *as) < 0))
		return NULL;
	return vc_steal(&obj);
}

struct json_object *vc_message_notification(const char *method, struct json_object *params)
{
	vc_autojson struct json_object *obj = message_new();
	if (!obj || vc_json_add_str(obj, "method", method) < 0 ||
	    vc_json_add(obj, "params", object_or_empty(params)) < 0)
		return NULL;
	return vc_steal(&obj);
}

struct json_object *vc_message_result(uint64_t id, struct json_object *result)
{
	vc_autojson struct json_object *obj = message_new();
	if (!obj || vc_json_add_u64(obj, "id", id) < 0 || vc_json_add(obj, "result", object_or_empty(result)) < 0)
		return NULL;
	return vc_steal(&obj);
}

struct json_object *vc_message_error(uint64_t id, const struct vc_error *err)
{
	vc_autojson struct json_object *obj = message_new();
	if (!obj || vc_json_add_u64(obj, "id", id) < 0 || vc_json_add(obj, "error", vc_message_error_body(err)) < 0)
		return NULL;
	return vc_steal(&obj);
}
