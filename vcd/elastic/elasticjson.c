// SPDX-License-Identifier: GPL-2.0-or-later
// Elastic decisions as JSON, with all that they came from, and back: `vcctl elastic JOB replay` and the event log.
//
// Each struct is a table of fields, so that writing and reading cannot differ.
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/elastic/elastic.h"

#define VALUE_MAX 1000000000000000L // of any number in a record; products of two loads stay in 128 bits

enum field_type { FIELD_U32, FIELD_I32, FIELD_I64, FIELD_BOOL, FIELD_NAME };
struct field {
	const char *key;
	enum field_type type;
	size_t offset;
};
#define FIELD(type, strct, member) {#member, type, offsetof(struct strct, member)}

static const struct field cluster_fields[] = {
	FIELD(FIELD_U32, elastic_cluster, id),	     FIELD(FIELD_U32, elastic_cluster, min),
	FIELD(FIELD_U32, elastic_cluster, max),	     FIELD(FIELD_U32, elastic_cluster, reserve),
	FIELD(FIELD_I32, elastic_cluster, priority), FIELD(FIELD_U32, elastic_cluster, weight),
	FIELD(FIELD_U32, elastic_cluster, wanted),   FIELD(FIELD_U32, elastic_cluster, size),
	FIELD(FIELD_U32, elastic_cluster, leaving),  FIELD(FIELD_U32, elastic_cluster, coming),
	FIELD(FIELD_U32, elastic_cluster, busy),     FIELD(FIELD_I64, elastic_cluster, load),
	FIELD(FIELD_I64, elastic_cluster, cpu),	     FIELD(FIELD_I64, elastic_cluster, steal),
	FIELD(FIELD_I64, elastic_cluster, stall),    FIELD(FIELD_I64, elastic_cluster, mem),
	FIELD(FIELD_U32, elastic_cluster, head),     FIELD(FIELD_I64, elastic_cluster, waited_ms),
	FIELD(FIELD_I64, elastic_cluster, head_ms),
};
static const struct field host_fields[] = {
	FIELD(FIELD_NAME, elastic_host, name),	     FIELD(FIELD_I64, elastic_host, cpu),
	FIELD(FIELD_I64, elastic_host, mem_mib),     FIELD(FIELD_BOOL, elastic_host, releasable),
	FIELD(FIELD_BOOL, elastic_host, leaving),
};
static const struct field member_fields[] = {
	FIELD(FIELD_U32, elastic_member, cluster), FIELD(FIELD_U32, elastic_member, rank),
	FIELD(FIELD_U32, elastic_member, host),	   FIELD(FIELD_I64, elastic_member, need),
	FIELD(FIELD_I64, elastic_member, cpu),	   FIELD(FIELD_I64, elastic_member, steal),
	FIELD(FIELD_I64, elastic_member, dirty_mib),
	FIELD(FIELD_I64, elastic_member, mem_mib), FIELD(FIELD_BOOL, elastic_member, fixed),
	FIELD(FIELD_BOOL, elastic_member, anchor),
};
static const struct field input_fields[] = {
	FIELD(FIELD_U32, elastic_input, pool),
	FIELD(FIELD_U32, elastic_input, idle),
	FIELD(FIELD_U32, elastic_input, queued),
};
#define NAMED(key, type, strct, member) {key, type, offsetof(struct strct, member)}
static const struct field cluster_state_fields[] = {
	FIELD(FIELD_U32, elastic_cluster_state, id),
	NAMED("load", FIELD_I64, elastic_cluster_state, load.value),
	NAMED("load_at", FIELD_I64, elastic_cluster_state, load.at_ms),
	NAMED("mem", FIELD_I64, elastic_cluster_state, mem.value),
	NAMED("mem_at", FIELD_I64, elastic_cluster_state, mem.at_ms),
	NAMED("direction", FIELD_I32, elastic_cluster_state, gate.direction),
	NAMED("changed_ms", FIELD_I64, elastic_cluster_state, gate.changed_ms),
	NAMED("reversed_ms", FIELD_I64, elastic_cluster_state, gate.reversed_ms[0]),
	NAMED("reversed_before_ms", FIELD_I64, elastic_cluster_state, gate.reversed_ms[1]),
	FIELD(FIELD_I64, elastic_cluster_state, under_ms),
};
static const struct field host_state_fields[] = {
	FIELD(FIELD_NAME, elastic_host_state, name),
	NAMED("load", FIELD_I64, elastic_host_state, load.value),
	NAMED("load_at", FIELD_I64, elastic_host_state, load.at_ms),
	FIELD(FIELD_I64, elastic_host_state, over_ms),
	FIELD(FIELD_I64, elastic_host_state, under_ms),
};

// --- one object --------------------------------------------------------------------------------------------------------

static int64_t load_number(const struct field *f, const void *base)
{
	const char *at = (const char *)base + f->offset;
	uint32_t u;
	int32_t i;
	int64_t l;
	switch (f->type) {
	case FIELD_U32: memcpy(&u, at, sizeof(u)); return u;
	case FIELD_I32: memcpy(&i, at, sizeof(i)); return i;
	default: memcpy(&l, at, sizeof(l)); return l;
	}
}

static void add_field(struct json_object *obj, const struct field *f, const void *base)
{
	const char *at = (const char *)base + f->offset;
	if (f->type == FIELD_NAME)
		vc_json_add_str(obj, f->key, at);
	else if (f->type == FIELD_BOOL)
		vc_json_add_bool(obj, f->key, *(const bool *)at);
	else
		vc_json_add_int(obj, f->key, load_number(f, base));
}

static struct json_object *to_json(const struct field *fields, size_t n, const void *base)
{
	struct json_object *obj = json_object_new_object();
	for (size_t i = 0; i < n; i++)
		add_field(obj, &fields[i], base);
	return obj;
}

static int number(struct json_object *obj, const char *key, int64_t min, int64_t max, int64_t *ret, struct vc_error *err)
{
	struct json_object *value = NULL;
	if (!json_object_object_get_ex(obj, key, &value) || !json_object_is_type(value, json_type_int))
		return vc_error_set(err, VC_EPROTO, "'%s' is missing or no number", key);
	int64_t n = json_object_get_int64(value);
	if (n < min || n > max)
		return vc_error_set(err, VC_EPROTO, "'%s' is outside %lld to %lld", key, (long long)min, (long long)max);
	*ret = n;
	return 0;
}

static int read_number(struct json_object *obj, const struct field *f, char *at, struct vc_error *err)
{
	static const int64_t mins[] = {[FIELD_U32] = 0, [FIELD_I32] = INT32_MIN, [FIELD_I64] = -1};
	static const int64_t maxes[] = {[FIELD_U32] = UINT32_MAX, [FIELD_I32] = INT32_MAX, [FIELD_I64] = VALUE_MAX};
	int64_t n;
	if (number(obj, f->key, mins[f->type], maxes[f->type], &n, err) < 0)
		return -1;
	if (f->type == FIELD_I64)
		memcpy(at, &n, sizeof(n));
	else if (f->type == FIELD_U32)
		memcpy(at, &(uint32_t){(uint32_t)n}, sizeof(uint32_t));
	else
		memcpy(at, &(int32_t){(int32_t)n}, sizeof(int32_t));
	return 0;
}

static int read_field(struct json_object *obj, const struct field *f, void *base, struct vc_error *err)
{
	char *at = (char *)base + f->offset;
	const char *name;
	if (f->type == FIELD_BOOL)
		return vc_json_bool_opt(obj, f->key, (bool *)at, err);
	if (f->type != FIELD_NAME)
		return read_number(obj, f, at, err);
	if (vc_json_str(obj, f->key, VC_NAME_MAX, &name, err) < 0)
		return -1;
	memcpy(at, name, strlen(name) + 1);
	return 0;
}

static int from_json(struct json_object *obj, const struct field *fields, size_t n, void *base, struct vc_error *err)
{
	if (!json_object_is_type(obj, json_type_object))
		return vc_error_set(err, VC_EPROTO, "an object was expected");
	for (size_t i = 0; i < n; i++) {
		if (read_field(obj, &fields[i], base, err) < 0)
			return -1;
	}
	return 0;
}

// --- arrays of them ---------------------------------------------------------------------------------------------------

static void add_array(struct json_object *obj, const char *key, const struct field *fields, size_t n_fields, const void *items,
		      size_t n, size_t size)
{
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; i < n; i++)
		json_object_array_add(array, to_json(fields, n_fields, (const char *)items + i * size));
	vc_json_add(obj, key, array);
}

static int read_array(struct json_object *obj, const char *key, const struct field *fields, size_t n_fields, void **ret,
		      size_t *ret_n, size_t size, struct vc_error *err)
{
	struct json_object *array;
	if (vc_json_array(obj, key, VC_MEMBERS_MAX, &array, err) < 0)
		return -1;
	size_t n = json_object_array_length(array);
	char *items = calloc(n + 1, size);
	if (!items)
		return vc_error_errno(err, "%s", key);
	*ret = items;
	*ret_n = n;
	for (size_t i = 0; i < n; i++) {
		if (from_json(json_object_array_get_idx(array, i), fields, n_fields, items + i * size, err) < 0)
			return vc_error_wrap(err, "%s %zu", key, i);
	}
	return 0;
}

#define ADD_ARRAY(obj, key, fields, items, n) add_array(obj, key, fields, VC_ARRAY_LEN(fields), items, n, sizeof(*(items)))
#define READ_ARRAY(obj, key, fields, items, n, err) \
	read_array(obj, key, fields, VC_ARRAY_LEN(fields), (void **)(items), n, sizeof(**(items)), err)

struct json_object *elastic_state_to_json(const struct elastic_state *state)
{
	struct json_object *obj = json_object_new_object();
	ADD_ARRAY(obj, "clusters", cluster_state_fields, state->clusters, state->n_clusters);
	ADD_ARRAY(obj, "hosts", host_state_fields, state->hosts, state->n_hosts);
	return obj;
}

int elastic_state_from_json(struct json_object *obj, struct elastic_state *ret, struct vc_error *err)
{
	struct elastic_state s = {0};
	if (READ_ARRAY(obj, "clusters", cluster_state_fields, &s.clusters, &s.n_clusters, err) < 0 ||
	    READ_ARRAY(obj, "hosts", host_state_fields, &s.hosts, &s.n_hosts, err) < 0) {
		elastic_state_clear(&s);
		return vc_error_wrap(err, "state");
	}
	*ret = s;
	return 0;
}

struct json_object *elastic_input_to_json(const struct elastic_input *in)
{
	struct json_object *obj = to_json(input_fields, VC_ARRAY_LEN(input_fields), in);
	struct json_object *params = json_object_new_object();
	for (size_t i = 0; i < ELASTIC_PARAMS; i++)
		vc_json_add_int(params, elastic_param_table[i].name, elastic_param_get(&in->params, &elastic_param_table[i]));
	vc_json_add(obj, "params", params);
	ADD_ARRAY(obj, "clusters", cluster_fields, in->clusters, in->n_clusters);
	ADD_ARRAY(obj, "hosts", host_fields, in->hosts, in->n_hosts);
	ADD_ARRAY(obj, "members", member_fields, in->members, in->n_members);
	return obj;
}

static int read_params(struct json_object *obj, struct elastic_params *ret, struct vc_error *err)
{
	struct json_object *params;
	if (vc_json_obj(obj, "params", &params, err) < 0)
		return -1;
	for (size_t i = 0; i < ELASTIC_PARAMS; i++) {
		const struct elastic_param *p = &elastic_param_table[i];
		int64_t value;
		if (number(params, p->name, p->min, p->max, &value, err) < 0)
			return -1;
		elastic_param_put(ret, p, value);
	}
	return 0;
}

int elastic_input_from_json(struct json_object *obj, struct elastic_input *ret, struct vc_error *err)
{
	struct elastic_input in = {0};
	if (from_json(obj, input_fields, VC_ARRAY_LEN(input_fields), &in, err) < 0 || read_params(obj, &in.params, err) < 0 ||
	    READ_ARRAY(obj, "clusters", cluster_fields, &in.clusters, &in.n_clusters, err) < 0 ||
	    READ_ARRAY(obj, "hosts", host_fields, &in.hosts, &in.n_hosts, err) < 0 ||
	    READ_ARRAY(obj, "members", member_fields, &in.members, &in.n_members, err) < 0) {
		elastic_input_clear(&in);
		return vc_error_wrap(err, "input");
	}
	*ret = in;
	return 0;
}

// --- decisions --------------------------------------------------------------------------------------------------------

static struct json_object *action_to_json(const struct elastic_action *a)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "verb", elastic_verb_name(a->verb));
	vc_json_add_u64(obj, "cluster", a->cluster);
	vc_json_add_u64(obj, "rank", a->rank);
	vc_json_add_int(obj, "n", a->n);
	vc_json_add_int(obj, "deadline_ms", a->deadline_ms);
	vc_json_add_u64(obj, "from", a->from);
	vc_json_add_u64(obj, "to", a->to);
	vc_json_add_str(obj, "reason", a->reason);
	return obj;
}

static struct json_object *decision_to_json(const struct elastic_decision *d)
{
	struct json_object *obj = json_object_new_object(), *actions = json_object_new_array();
	for (size_t i = 0; i < d->n_actions; i++)
		json_object_array_add(actions, action_to_json(&d->actions[i]));
	vc_json_add(obj, "actions", actions);
	vc_json_add_str(obj, "reason", d->reason);
	vc_json_add(obj, "state", elastic_state_to_json(&d->state));
	return obj;
}

struct json_object *elastic_record(const struct elastic_policy *policy, const struct elastic_state *state,
				   const struct elastic_input *in, int64_t now_ms, uint64_t seed,
				   const struct elastic_decision *d)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "policy", policy->name);
	vc_json_add_int(obj, "now_ms", now_ms);
	vc_json_add_u64(obj, "seed", seed);
	vc_json_add(obj, "state", elastic_state_to_json(state));
	vc_json_add(obj, "input", elastic_input_to_json(in));
	vc_json_add(obj, "decision", decision_to_json(d));
	return obj;
}

static int decide_again(struct json_object *record, struct elastic_state *state, struct elastic_input *in,
			struct elastic_decision *ret, struct vc_error *err)
{
	const char *name;
	uint64_t seed;
	int64_t now_ms;
	struct json_object *state_json, *in_json;
	if (vc_json_str(record, "policy", VC_NAME_MAX, &name, err) < 0 || number(record, "now_ms", 0, INT64_MAX, &now_ms, err) < 0 ||
	    vc_json_u64(record, "seed", UINT64_MAX, &seed, err) < 0 || vc_json_obj(record, "state", &state_json, err) < 0 ||
	    vc_json_obj(record, "input", &in_json, err) < 0)
		return -1;
	const struct elastic_policy *policy = elastic_policy_find(name, err);
	if (!policy || elastic_state_from_json(state_json, state, err) < 0 || elastic_input_from_json(in_json, in, err) < 0)
		return -1;
	return elastic_decide(policy, state, in, now_ms, seed, ret, err);
}

int elastic_replay(struct json_object *record, bool *ret_same, struct json_object **ret, struct vc_error *err)
{
	struct elastic_state state = {0};
	struct elastic_input in = {0};
	struct elastic_decision d = {0};
	struct json_object *recorded;
	int rc = vc_json_obj(record, "decision", &recorded, err);
	if (rc == 0)
		rc = decide_again(record, &state, &in, &d, err);
	if (rc == 0) {
		struct json_object *again = decision_to_json(&d);
		*ret_same = json_object_equal(again, recorded);
		if (ret)
			*ret = again;
		else
			json_object_put(again);
	}
	elastic_state_clear(&state);
	elastic_input_clear(&in);
	elastic_decision_clear(&d);
	return rc < 0 ? vc_error_wrap(err, "record") : 0;
}
