// SPDX-License-Identifier: GPL-2.0-or-later
// Fences between members, and requests: see ops.h.
#include "cmd/pmix/ops.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/pmix/ctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/link.h"

// How many fences a set of ranks has had: each of them gets the same name on all members.
struct series {
	struct series *next;
	char *set;
	unsigned count;
};

void op_free(struct op *op)
{
	if (!op)
		return;
	free(op->data);
	free(op->ranks);
	free(op);
}

static void release_data(void *data)
{
	free(data);
}

// libpmix gets what came from here, and behind it what came from elsewhere.
static void op_end(struct op *op, pmix_status_t status, const void *others, size_t len)
{
	char *all = status == PMIX_SUCCESS && op->collect ? malloc(op->len + len + 1) : NULL;
	if (all && op->len)
		memcpy(all, op->data, op->len);
	if (all && len)
		memcpy(all + op->len, others, len);
	op->done(status, all, all ? op->len + len : 0, op->done_arg, all ? release_data : NULL, all);
	op_free(op);
}

static void op_begin(struct ops *o, struct op *op)
{
	op->id = ++o->last_id;
	op->next = o->list;
	o->list = op;
}

static struct op *take_op(struct ops *o, uint64_t id)
{
	for (struct op **at = &o->list; *at; at = &(*at)->next) {
		struct op *op = *at;
		if (op->id != id)
			continue;
		*at = op->next;
		return op;
	}
	return NULL;
}

static unsigned count_fence(struct ops *o, const char *set)
{
	for (struct series *e = o->series; e; e = e->next) {
		if (strcmp(e->set, set) == 0)
			return ++e->count;
	}
	struct series *e = calloc(1, sizeof(*e));
	if (!e || !(e->set = strdup(set))) {
		free(e);
		return 0;
	}
	e->next = o->series;
	o->series = e;
	return ++e->count;
}

static struct json_object *rank_list(const uint32_t *ranks, uint32_t n)
{
	struct json_object *list = json_object_new_array();
	for (uint32_t i = 0; list && i < n; i++)
		json_object_array_add(list, json_object_new_int64(ranks[i]));
	return list;
}

// What each rank here that takes part is told: join Slurm's fence. set: the ranks; NULL: all.
static struct json_object *fence_message(const struct op *op, struct json_object *set)
{
	struct json_object *msg = json_object_new_object();
	vc_json_add_str(msg, "type", "fence");
	vc_json_add_u64(msg, "id", op->id);
	vc_json_add_bool(msg, "collect", op->collect);
	if (set)
		vc_json_add(msg, "ranks", json_object_get(set));
	return msg;
}

// The lowest of them carries what the ranks here say, reads what other members' say, and answers.
static int tell_lead(struct ops *o, const struct op *op, struct json_object *set, const char *name, const uint32_t *leads, uint32_t n,
		     uint32_t mine)
{
	char key[64];
	struct json_object *msg = fence_message(op, set);
	snprintf(key, sizeof(key), "vc.fence.%08x.%u.%u", vc_crc32c(0, name, strlen(name)), op->n, count_fence(o, name));
	vc_json_add_str(msg, "key", key);
	vc_json_add(msg, "leads", rank_list(leads, n));
	if (op->collect)
		vc_json_add_bytes(msg, "data", op->data ? op->data : "", op->len);
	return o->tell(o->ctx, mine, msg);
}

static int tell_fence(struct ops *o, const struct op *op, const uint32_t *leads, uint32_t n, uint32_t mine)
{
	vc_autojson struct json_object *set = op->ranks ? rank_list(op->ranks, op->n) : NULL;
	const char *name = set ? vc_json_text(set, NULL) : "all";
	int rc = name ? tell_lead(o, op, set, name, leads, n, mine) : -1;
	uint32_t all = op->ranks ? op->n : o->step->ranks;
	for (uint32_t i = 0; rc == 0 && i < all; i++) {
		uint32_t r = op->ranks ? op->ranks[i] : i;
		if (r < o->step->ranks && o->step->member[r] == o->member && r != mine)
			rc = o->tell(o->ctx, r, fence_message(op, set));
	}
	return rc;
}

void ops_fence(struct ops *o, struct op *op)
{
	uint32_t n = 0, mine = STEP_NONE;
	vc_autofree uint32_t *leads = step_leads(o->step, op->ranks, op->n, &n);
	for (uint32_t i = 0; leads && i < n; i++) {
		if (o->step->member[leads[i]] == o->member)
			mine = leads[i];
	}
	if (!leads || mine == STEP_NONE) {
		op_end(op, PMIX_ERR_BAD_PARAM, NULL, 0);
	} else if (n == 1) { // no other member takes part
		op_end(op, PMIX_SUCCESS, NULL, 0);
	} else {
		op_begin(o, op);
		if (tell_fence(o, op, leads, n, mine) < 0)
			op_end(take_op(o, op->id), PMIX_ERR_LOST_CONNECTION, NULL, 0);
	}
}

void ops_get(struct ops *o, struct op *op, uint32_t rank)
{
	struct json_object *msg = json_object_new_object();
	op_begin(o, op);
	vc_json_add_str(msg, "type", "get");
	vc_json_add_u64(msg, "id", op->id);
	vc_json_add_u64(msg, "rank", rank);
	if (o->tell(o->ctx, STEP_NONE, msg) < 0)
		op_end(take_op(o, op->id), PMIX_ERR_NOT_FOUND, NULL, 0);
}

int ops_answer(struct ops *o, struct json_object *msg, struct vc_error *err)
{
	uint64_t id;
	int status;
	vc_autofree uint8_t *data = NULL;
	size_t len = 0;
	if (vc_json_u64(msg, "id", UINT64_MAX, &id, err) < 0 || vc_json_int(msg, "status", INT32_MIN, INT32_MAX, &status, err) < 0 ||
	    (json_object_object_get_ex(msg, "data", NULL) && vc_json_bytes(msg, "data", CTL_MESSAGE_MAX, &data, &len, err) < 0))
		return -1;
	struct op *op = take_op(o, id);
	if (op)
		op_end(op, status, data, len);
	return 0;
}

void ops_clear(struct ops *o)
{
	while (o->list)
		op_end(take_op(o, o->list->id), PMIX_ERR_LOST_CONNECTION, NULL, 0);
	while (o->series) {
		struct series *e = o->series;
		o->series = e->next;
		free(e->set);
		free(e);
	}
}
