// SPDX-License-Identifier: GPL-2.0-or-later
// JSON access: see json.h.
#include "libvc/json.h"

#include <errno.h>
#include <string.h>

#include "libvc/parse.h"

#define JSON_DEPTH_MAX 32 // nesting of a message; ours needs at most 6

struct json_object *vc_json_parse(const char *text, size_t len, struct vc_error *err)
{
	if (len > INT32_MAX) {
		vc_error_set(err, VC_EPROTO, "JSON text of %zu bytes is too long", len);
		return NULL;
	}
	struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (!tok) {
		vc_error_set(err, ENOMEM, "JSON parser: out of memory");
		return NULL;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	errno = 0; // without memory the parser says nothing, and may leave out a part
	struct json_object *obj = json_tokener_parse_ex(tok, text, (int)len);
	bool no_memory = errno == ENOMEM;
	enum json_tokener_error jerr = json_tokener_get_error(tok);
	size_t end = json_tokener_get_parse_end(tok);
	json_tokener_free(tok);
	for (; obj && end < len; end++) {
		if (!strchr(" \t\r\n", text[end]) || !text[end])
			break;
	}
	if (obj && !no_memory && jerr == json_tokener_success && end == len)
		return obj;
	json_object_put(obj);
	if (no_memory) {
		vc_error_set(err, ENOMEM, "JSON parser: out of memory");
		return NULL;
	}
	vc_error_set(err, VC_EPROTO, "JSON at byte %zu: %s", end,
		     jerr == json_tokener_success ? "unexpected data" : json_tokener_error_desc(jerr));
	return NULL;
}

static const char *const type_names[] = {
	[json_type_null] = "null",     [json_type_boolean] = "true or false", [json_type_double] = "a number",
	[json_type_int] = "a number",  [json_type_object] = "an object",      [json_type_array] = "an array",
	[json_type_string] = "a string",
};

// 1: found with the type; 0: absent or null and optional; -1: error.
static int get(struct json_object *obj, const char *key, json_type type, bool optional, struct json_object **ret,
	       struct vc_error *err)
{
	struct json_object *value = NULL;
	if (!json_object_is_type(obj, json_type_object))
		return vc_error_set(err, VC_EPROTO, "'%s' asked of something that is not an object", key);
	if (!json_object_object_get_ex(obj, key, &value) || !value) {
		if (optional)
			return 0;
		return vc_error_set(err, VC_EPROTO, "'%s' is missing", key);
	}
	if (!json_object_is_type(value, type))
		return vc_error_set(err, VC_EPROTO, "'%s' must be %s", key, type_names[type]);
	*ret = value;
	return 1;
}

static int get_str(struct json_object *obj, const char *key, bool optional, size_t max_len, const char **ret,
		   struct vc_error *err)
{
	struct json_object *value = NULL;
	int rc = get(obj, key, json_type_string, optional, &value, err);
	if (rc <= 0)
		return rc;
	const char *s = json_object_get_string(value);
	size_t len = (size_t)json_object_get_string_len(value);
	if (len > max_len)
		return vc_error_set(err, VC_EPROTO, "'%s' has %zu bytes, more than %zu", key, len, max_len);
	if (strlen(s) != len)
		return vc_error_set(err, VC_EPROTO, "'%s' holds a zero byte", key);
	*ret = s;
	return 0;
}

int vc_json_str(struct json_object *obj, const char *key, size_t max_len, const char **ret, struct vc_error *err)
{
	return get_str(obj, key, false, max_len, ret, err);
}

int vc_json_str_opt(struct json_object *obj, const char *key, size_t max_len, const char **ret, struct vc_error *err)
{
	return get_str(obj, key, true, max_len, ret, err);
}

static int get_u64(struct json_object *obj, const char *key, bool optional, uint64_t max, uint64_t *ret,
		   struct vc_error *err)
{
	struct json_object *value = NULL;
	int rc = get(obj, key, json_type_int, optional, &value, err);
	if (rc <= 0)
		return rc;
	uint64_t u = json_object_get_uint64(value);
	if (u > max || (json_object_get_int64(value) < 0 && u <= INT64_MAX))
		return vc_error_set(err, VC_EPROTO, "'%s' is outside 0 to %llu", key, (unsigned long long)max);
	*ret = u;
	return 0;
}

int vc_json_u64(struct json_object *obj, const char *key, uint64_t max, uint64_t *ret, struct vc_error *err)
{
	return get_u64(obj, key, false, max, ret, err);
}

int vc_json_u64_opt(struct json_object *obj, const char *key, uint64_t max, uint64_t *ret, struct vc_error *err)
{
	return get_u64(obj, key, true, max, ret, err);
}

int vc_json_u32(struct json_object *obj, const char *key, uint32_t max, uint32_t *ret, struct vc_error *err)
{
	uint64_t u = 0;
	if (get_u64(obj, key, false, max, &u, err) < 0)
		return -1;
	*ret = (uint32_t)u;
	return 0;
}

int vc_json_int(struct json_object *obj, const char *key, int min, int max, int *ret, struct vc_error *err)
{
	struct json_object *value = NULL;
	if (get(obj, key, json_type_int, false, &value, err) < 0)
		return -1;
	int64_t i = json_object_get_int64(value);
	if (i < min || i > max)
		return vc_error_set(err, VC_EPROTO, "'%s' is outside %d to %d", key, min, max);
	*ret = (int)i;
	return 0;
}

int vc_json_bool_opt(struct json_object *obj, const char *key, bool *ret, struct vc_error *err)
{
	struct json_object *value = NULL;
	int rc = get(obj, key, json_type_boolean, true, &value, err);
	if (rc > 0)
		*ret = json_object_get_boolean(value);
	return rc < 0 ? -1 : 0;
}

int vc_json_obj(struct json_object *obj, const char *key, struct json_object **ret, struct vc_error *err)
{
	return get(obj, key, json_type_object, false, ret, err) < 0 ? -1 : 0;
}

static int get_array(struct json_object *obj, const char *key, bool optional, size_t max_items,
		     struct json_object **ret, struct vc_error *err)
{
	struct json_object *value = NULL;
	int rc = get(obj, key, json_type_array, optional, &value, err);
	if (rc <= 0)
		return rc;
	if (json_object_array_length(value) > max_items)
		return vc_error_set(err, VC_EPROTO, "'%s' has more than %zu items", key, max_items);
	*ret = value;
	return 0;
}

int vc_json_array(struct json_object *obj, const char *key, size_t max_items, struct json_object **ret, struct vc_error *err)
{
	return get_array(obj, key, false, max_items, ret, err);
}

int vc_json_array_opt(struct json_object *obj, const char *key, size_t max_items, struct json_object **ret, struct vc_error *err)
{
	return get_array(obj, key, true, max_items, ret, err);
}

int vc_json_strv(struct json_object *obj, const char *key, size_t max_items, size_t max_len, char ***ret, struct vc_error *err)
{
	struct json_object *array = NULL;
	if (get_array(obj, key, false, max_items, &array, err) < 0)
		return -1;
	size_t n = json_object_array_length(array);
	vc_autostrv char **items = calloc(n + 1, sizeof(*items));
	if (!items)
		return vc_error_errno(err, "'%s'", key);
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(array, i);
		if (!json_object_is_type(item, json_type_string) ||
		    (size_t)json_object_get_string_len(item) > max_len ||
		    strlen(json_object_get_string(item)) != (size_t)json_object_get_string_len(item))
			return vc_error_set(err, VC_EPROTO, "'%s' item %zu must be a string of at most %zu bytes", key,
					    i, max_len);
		items[i] = strdup(json_object_get_string(item));
		if (!items[i])
			return vc_error_errno(err, "'%s'", key);
	}
	*ret = vc_steal(&items);
	return 0;
}

int vc_json_add(struct json_object *obj, const char *key, struct json_object *value)
{
	if (!obj || !value || json_object_object_add(obj, key, value) < 0) {
		json_object_put(value);
		return -1;
	}
	return 0;
}

int vc_json_add_str(struct json_object *obj, const char *key, const char *value)
{
	if (!value || vc_is_utf8(value))
		return value ? vc_json_add(obj, key, json_object_new_string(value)) : 0;
	vc_autofree char *copy = strdup(value);
	for (char *p = copy; p && *p;) {
		size_t n = vc_utf8_len(p);
		if (!n)
			*p = '?';
		p += n ? n : 1;
	}
	return vc_json_add(obj, key, copy ? json_object_new_string(copy) : NULL);
}

int vc_json_add_u64(struct json_object *obj, const char *key, uint64_t value)
{
	return vc_json_add(obj, key, json_object_new_uint64(value));
}

int vc_json_add_int(struct json_object *obj, const char *key, int64_t value)
{
	return vc_json_add(obj, key, json_object_new_int64(value));
}

int vc_json_add_bool(struct json_object *obj, const char *key, bool value)
{
	return vc_json_add(obj, key, json_object_new_boolean(value));
}

int vc_json_add_strv(struct json_object *obj, const char *key, char *const *values)
{
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; array && values && values[i]; i++)
		json_object_array_add(array, json_object_new_string(values[i]));
	return vc_json_add(obj, key, array);
}

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int vc_json_add_bytes(struct json_object *obj, const char *key, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t out_len = (len + 2) / 3 * 4;
	vc_autofree char *out = malloc(out_len + 1);
	if (!out)
		return -1;
	char *o = out;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < len ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < len ? p[i + 2] : 0);
		*o++ = b64[v >> 18];
		*o++ = b64[v >> 12 & 63];
		*o++ = i + 1 < len ? b64[v >> 6 & 63] : '=';
		*o++ = i + 2 < len ? b64[v & 63] : '=';
	}
	return vc_json_add(obj, key, json_object_new_string_len(out, (int)out_len));
}

static int b64_value(char c)
{
	const char *p = c ? strchr(b64, c) : NULL;
	return p ? (int)(p - b64) : -1;
}

static int b64_decode(const char *s, size_t len, uint8_t *out, size_t *ret_len)
{
	size_t n = 0;
	if (len % 4)
		return -1;
	for (size_t i = 0; i < len; i += 4) {
		int pad = i + 4 == len ? (s[i + 3] == '=') + (s[i + 3] == '=' && s[i + 2] == '=') : 0;
		uint32_t v = 0;
		for (int j = 0; j < 4; j++) {
			int d = j >= 4 - pad ? 0 : b64_value(s[i + (size_t)j]);
			if (d < 0)
				return -1;
			v = v << 6 | (uint32_t)d;
		}
		for (int j = 0; j < 3 - pad; j++)
			out[n++] = (uint8_t)(v >> (16 - 8 * j));
	}
	*ret_len = n;
	return 0;
}

int vc_json_bytes(struct json_object *obj, const char *key, size_t max_len, uint8_t **ret, size_t *ret_len, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, (max_len + 2) / 3 * 4, &s, err) < 0)
		return -1;
	size_t len = strlen(s);
	vc_autofree uint8_t *out = malloc(len / 4 * 3 + 1);
	if (!out)
		return vc_error_errno(err, "'%s'", key);
	if (b64_decode(s, len, out, ret_len) < 0)
		return vc_error_set(err, VC_EPROTO, "'%s' is not base64", key);
	out[*ret_len] = '\0'; // callers may treat text as a string
	*ret = vc_steal(&out);
	return 0;
}

const char *vc_json_text(struct json_object *obj, size_t *ret_len)
{
	// json-c does not tell when its buffer could not grow: the text then lacks a part, and only errno knows.
	int saved = errno;
	errno = 0;
	const char *text = json_object_to_json_string_length(obj, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, ret_len);
	if (errno == ENOMEM)
		return NULL;
	errno = saved;
	return text;
}
