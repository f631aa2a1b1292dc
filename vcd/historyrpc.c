// SPDX-License-Identifier: GPL-2.0-or-later
// See historyrpc.h.
#include "vcd/historyrpc.h"

#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/rpc.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define EVENTS_LIMIT 20000 // of one answer, the newest: an event each 10 s for two days; bounds a frame

struct found {
	uint32_t job;
	uid_t uid;
	char id[STATE_ID_LEN + 1];
};

// Rows come newest first: the last run of the job.
static int find_row(const struct state_cluster *row, void *ctx)
{
	struct found *f = ctx;
	if (row->job != f->job)
		return 0;
	f->uid = row->uid;
	memcpy(f->id, row->id, sizeof(f->id));
	return 1;
}

static int add_event(const struct state_event *e, void *ctx)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "time_ms", (uint64_t)e->time_ms);
	vc_json_add_str(obj, "what", e->what);
	if (e->host)
		vc_json_add_str(obj, "host", e->host);
	if (e->data)
		vc_json_add(obj, "data", json_object_get(e->data));
	return json_object_array_add(ctx, obj);
}

static int event_list(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct vcd *vcd = ctx;
	struct found f = {.uid = (uid_t)-1};
	uint64_t limit = EVENTS_LIMIT;
	char text[16];
	if (vc_json_u32(rpc_params(req), "job", UINT32_MAX, &f.job, err) < 0 ||
	    vc_json_u64_opt(rpc_params(req), "limit", EVENTS_LIMIT, &limit, err) < 0 ||
	    state_cluster_list(vcd->state, false, 0, find_row, &f, err) < 0)
		return -1;
	if (!f.id[0])
		return vc_error_set(err, VC_ENOTFOUND, "job %u has no virtual cluster", f.job);
	snprintf(text, sizeof(text), "%u", f.job);
	if (rpc_require_owner(req, f.uid, text, err) < 0)
		return -1;
	vc_autojson struct json_object *result = json_object_new_object(), *list = json_object_new_array();
	if (!list || vc_json_add_str(result, "cluster", f.id) < 0 ||
	    state_event_list(vcd->state, f.id, (unsigned)limit, add_event, list, err) < 0 ||
	    vc_json_add(result, "events", json_object_get(list)) < 0)
		return -1;
	rpc_reply(req, vc_steal(&result));
	return 0;
}

static const struct rpc_method methods[] = {{"event.list", RPC_OWNER, RPC_CONTROLLER, 0, event_list}};

int history_register(struct vcd *vcd, struct vc_error *err)
{
	return rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), vcd, err);
}
