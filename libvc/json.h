// SPDX-License-Identifier: GPL-2.0-or-later
// Typed, bounded access to json-c objects that came from outside, and writers that fail loudly.
//
// Getters return -1 with VC_EPROTO and the key's name when a key is missing or has another type or size.
// The _opt forms leave *ret as it is when the key is absent or null. Strings stay owned by the object.
#ifndef LIBVC_JSON_H
#define LIBVC_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/cleanup.h"
#include "libvc/error.h"

// Parses exactly one value; depth at most 32, no trailing bytes but white space, valid UTF-8.
struct json_object *vc_json_parse(const char *text, size_t len, struct vc_error *err);

int vc_json_str(struct json_object *obj, const char *key, size_t max_len, const char **ret, struct vc_error *err);
int vc_json_str_opt(struct json_object *obj, const char *key, size_t max_len, const char **ret, struct vc_error *err);
int vc_json_u64(struct json_object *obj, const char *key, uint64_t max, uint64_t *ret, struct vc_error *err);
int vc_json_u64_opt(struct json_object *obj, const char *key, uint64_t max, uint64_t *ret, struct vc_error *err);
int vc_json_u32(struct json_object *obj, const char *key, uint32_t max, uint32_t *ret, struct vc_error *err);
int vc_json_int(struct json_object *obj, const char *key, int min, int max, int *ret, struct vc_error *err);
int vc_json_bool_opt(struct json_object *obj, const char *key, bool *ret, struct vc_error *err);
int vc_json_obj(struct json_object *obj, const char *key, struct json_object **ret, struct vc_error *err);
int vc_json_array(struct json_object *obj, const char *key, size_t max_items, struct json_object **ret, struct vc_error *err);
int vc_json_array_opt(struct json_object *obj, const char *key, size_t max_items, struct json_object **ret, struct vc_error *err);
// An array of strings as a NULL-terminated vector (vc_strv_free).
int vc_json_strv(struct json_object *obj, const char *key, size_t max_items, size_t max_len, char ***ret, struct vc_error *err);

// Adders: abort-free, return -1 without memory, also for an obj that could not be made (NULL). They take ownership of `value` in every case.
int vc_json_add(struct json_object *obj, const char *key, struct json_object *value);
// NULL adds nothing. Bytes that are not UTF-8 become '?': no receiver would take the text.
int vc_json_add_str(struct json_object *obj, const char *key, const char *value);
int vc_json_add_u64(struct json_object *obj, const char *key, uint64_t value);
int vc_json_add_int(struct json_object *obj, const char *key, int64_t value);
int vc_json_add_bool(struct json_object *obj, const char *key, bool value);
int vc_json_add_strv(struct json_object *obj, const char *key, char *const *values);

// Bytes that need not be UTF-8 (arguments, environment, paths) travel as base64.
int vc_json_add_bytes(struct json_object *obj, const char *key, const void *data, size_t len);
int vc_json_bytes(struct json_object *obj, const char *key, size_t max_len, uint8_t **ret, size_t *ret_len, struct vc_error *err);

// Compact text owned by the object; NULL (ENOMEM) without memory.
const char *vc_json_text(struct json_object *obj, size_t *ret_len);

#endif
