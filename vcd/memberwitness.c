// SPDX-License-Identifier: GPL-2.0-or-later
// The controller as witness: see memberwitness.h. Owns one struct agree_witness per cluster that ever asked, read from the
// database at its first question; records of clusters that are gone are removed then.
#include "vcd/memberwitness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/cluster.h"
#include "vcd/member/agree_wire.h"
#include "vcd/memberlink.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define RECORD "witness" // kind of the state database's items

struct entry {
	struct entry *next;
	char id[PLAN_ID_LEN + 1];
	struct agree_witness w;
};

struct memberwitness {
	struct vcd *vcd;
	struct memberlinks *links;
	memberwitness_answer_fn answer;
	void *ctx;
	struct entry *entries;
};

// --- the record: a promise as its message has it ----------------------------------------------------------------

static int save(struct memberwitness *m, const struct entry *e, struct vc_error *err)
{
	struct agree_msg record = {.type = AGREE_PROMISE, .epoch = e->w.epoch, .ballot = e->w.promised,
				   .voted_ballot = e->w.voted_ballot, .change = e->w.voted};
	vc_autobuf struct vc_buf bytes = VC_BUF_INIT(AGREE_WIRE_MAX);
	vc_autojson struct json_object *item = json_object_new_object();
	if (!item || agree_msg_encode(&record, &bytes) < 0 ||
	    vc_json_add_bytes(item, "data", vc_buf_head(&bytes), bytes.len) < 0)
		return vc_error_set(err, ENOMEM, "witness of cluster %.8s: out of memory", e->id);
	return state_item_put(m->vcd->state, RECORD, e->id, item, err);
}

static int load(struct memberwitness *m, struct entry *e, struct vc_error *err)
{
	vc_autojson struct json_object *item = NULL;
	vc_autofree uint8_t *data = NULL;
	struct agree_msg record;
	size_t len;
	if (state_item_get(m->vcd->state, RECORD, e->id, &item, err) < 0)
		return err->code == VC_ENOTFOUND ? 0 : -1;
	if (vc_json_bytes(item, "data", AGREE_WIRE_MAX, &data, &len, err) < 0 || agree_msg_decode(data, len, &record, err) < 0)
		return -1;
	e->w = (struct agree_witness){.epoch = record.epoch, .promised = record.ballot, .voted_ballot = record.voted_ballot,
				      .voted = hv_change_ref(record.change)};
	agree_msg_clear(&record);
	return 0;
}

// --- entries -----------------------------------------------------------------------------------------------------

static void free_entry(struct entry *e)
{
	agree_witness_clear(&e->w);
	free(e);
}

static void drop(struct memberwitness *m, struct entry *e)
{
	struct entry **at = &m->entries;
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	free_entry(e);
}

struct old_records {
	struct memberwitness *witness;
	char (*ids)[PLAN_ID_LEN + 1];
	size_t n;
};

static int note_old(const char *key, struct json_object *value, void *ctx)
{
	struct old_records *old = ctx;
	(void)value;
	if (strlen(key) == PLAN_ID_LEN && clusters_plan(old->witness->vcd->clusters, key))
		return 0;
	void *grown = reallocarray(old->ids, old->n + 1, sizeof(*old->ids));
	if (!grown)
		return 0;
	old->ids = grown;
	snprintf(old->ids[old->n++], sizeof(*old->ids), "%s", key);
	return 0;
}

static void forget_old(struct memberwitness *m)
{
	struct vc_error err = VC_ERROR_INIT;
	struct old_records old = {.witness = m};
	for (struct entry *next, *e = m->entries; e; e = next) {
		next = e->next;
		if (!clusters_plan(m->vcd->clusters, e->id))
			drop(m, e);
	}
	if (state_item_list(m->vcd->state, RECORD, note_old, &old, &err) < 0)
		vc_log_warning("witness: %s", err.text);
	for (size_t i = 0; i < old.n; i++)
		(void)state_item_remove(m->vcd->state, RECORD, old.ids[i], NULL);
	free(old.ids);
}

static struct entry *find(struct memberwitness *m, const char *id, struct vc_error *err)
{
	struct entry *e = m->entries;
	while (e && strcmp(e->id, id) != 0)
		e = e->next;
	if (e)
		return e;
	forget_old(m);
	e = calloc(1, sizeof(*e));
	if (!e) {
		vc_error_errno(err, "witness");
		return NULL;
	}
	snprintf(e->id, sizeof(e->id), "%s", id);
	if (load(m, e, err) < 0) {
		free_entry(e);
		return NULL;
	}
	e->next = m->entries;
	m->entries = e;
	return e;
}

// --- questions ---------------------------------------------------------------------------------------------------

void memberwitness_take(struct memberwitness *m, uint32_t from, const char *id, const struct agree_msg *msg)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct plan *plan = m->vcd->controller ? clusters_plan(m->vcd->clusters, id) : NULL;
	if (!plan || msg->from >= plan->n_hosts || memberlinks_number(m->links, plan->hosts[msg->from].name) != from)
		return;
	struct entry *e = find(m, id, &err);
	if (!e) {
		vc_log_err("witness of cluster %.8s: %s", id, err.text);
		return;
	}
	struct agree_msg answer;
	bool answers = agree_witness_recv(&e->w, msg, &answer);
	if (answers && save(m, e, &err) < 0) {
		vc_log_err("witness of cluster %.8s gives no answer: %s", id, err.text);
		drop(m, e); // what is in the database stands
		answers = false;
	}
	if (answers && answer.type == AGREE_ACCEPTED)
		vc_log_notice("cluster %.8s of job %" PRIu32 ": the witness grants the epoch after %" PRIu64 " to the side of host %s", id,
			      plan->key.job, answer.epoch, plan->hosts[msg->from].name);
	if (answers)
		m->answer(m->ctx, from, id, &answer);
	agree_msg_clear(&answer);
}

// --- life --------------------------------------------------------------------------------------------------------

struct memberwitness *memberwitness_create(struct vcd *vcd, struct memberlinks *links, memberwitness_answer_fn answer, void *ctx,
					   struct vc_error *err)
{
	struct memberwitness *m = calloc(1, sizeof(*m));
	if (!m) {
		vc_error_errno(err, "witness");
		return NULL;
	}
	*m = (struct memberwitness){.vcd = vcd, .links = links, .answer = answer, .ctx = ctx};
	return m;
}

void memberwitness_destroy(struct memberwitness *m)
{
	if (!m)
		return;
	while (m->entries)
		drop(m, m->entries);
	free(m);
}
