// SPDX-License-Identifier: GPL-2.0-or-later
// What members here use, and what they may use: methods host.load and host.share of the elastic policies (docs/elasticity.md).
//
// A guest speaks for itself: runnable processes, CPU pressure, memory. What its domain used, what was stolen from it and how fast it
// dirties its memory is libvirt's word, asked for all domains at once in a worker. Without libvirt's answer the guests' is
// given alone.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/host_int.h"
#include "vcd/plan.h"
#include "vcd/rpc.h"
#include "vcd/share.h"
#include "vcd/share_int.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define LOAD_OLD_MS 30000u // six of a guest's messages
#define STATS_MS 3000u	   // libvirt's answer: milliseconds; the controller's call waits 5 s
#define CPU_MAX 1000000u   // thousandths of CPUs of one member

// --- what they use ----------------------------------------------------------------------------------------------------

static uint64_t now(const struct share *s)
{
	return uv_now(&s->vcd->loop);
}

static uint32_t rate(uint64_t before, uint64_t after, uint64_t elapsed)
{
	uint64_t n = after > before ? (after - before) * 1000 / elapsed : 0;
	return n > CPU_MAX ? CPU_MAX : (uint32_t)n;
}

// Counters that go back are a new domain's.
static void take_stats(struct member *m, const struct hv_stats *s)
{
	struct member_use *u = &m->use;
	uint64_t at = now(m->share), elapsed = at - u->at;
	bool goes_on = u->at && elapsed && s->cpu_ms >= u->cpu_ms;
	if (goes_on) {
		u->cpu = rate(u->cpu_ms, s->cpu_ms, elapsed);
		u->steal = rate(u->delay_ms, s->delay_ms, elapsed);
	}
	u->rated = goes_on;
	u->at = at;
	u->cpu_ms = s->cpu_ms;
	u->delay_ms = s->delay_ms;
	u->dirty_mib = s->dirty_mib;
}

static void take_all(struct share *s, const struct hv_stats *list, size_t n)
{
	char name[32];
	for (size_t i = 0; i < s->n_members; i++) {
		for (size_t k = 0; k < n; k++) {
			if (strcmp(sharework_domain(s->work, s->members[i]->plan->rank, name), list[k].name) == 0)
				take_stats(s->members[i], &list[k]);
		}
	}
}

static struct json_object *member_to_json(const struct member *m)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "rank", m->plan->rank);
	vc_json_add_u64(obj, "runnable", m->runnable);
	vc_json_add_u64(obj, "tasks", m->tasks);
	if (m->mem_free_kib)
		vc_json_add_u64(obj, "mem_free_mib", m->mem_free_kib / 1024);
	if (m->pressure >= 0)
		vc_json_add_u64(obj, "pressure", (uint64_t)m->pressure);
	if (m->use.rated && now(m->share) - m->use.at < LOAD_OLD_MS) {
		vc_json_add_u64(obj, "cpu", m->use.cpu);
		vc_json_add_u64(obj, "steal", m->use.steal);
		vc_json_add_u64(obj, "dirty_mib", m->use.dirty_mib);
	}
	return obj;
}

// What its guests said last, if that is not old: a guest speaks for itself only, and no further than its own members' share.
static struct json_object *share_to_json(const struct share *s)
{
	struct json_object *obj = json_object_new_object(), *list = json_object_new_array();
	vc_json_add_str(obj, "cluster", s->work->plan->id);
	for (size_t i = 0; i < s->n_members; i++) {
		const struct member *m = s->members[i];
		if (m->load_at && now(s) - m->load_at <= LOAD_OLD_MS)
			json_object_array_add(list, member_to_json(m));
	}
	vc_json_add(obj, "members", list);
	return obj;
}

struct load_call { // belongs to the worker's job
	struct host *host;
	struct hv *hv;
	struct rpc_request *req;
	struct hv_stats *list;
	size_t n;
};

static int load_run(void *ctx, struct vc_error *err)
{
	struct load_call *call = ctx;
	return hv_stats(call->hv, &call->list, &call->n, err);
}

static void load_done(void *ctx, const struct vc_error *err)
{
	struct load_call *call = ctx;
	struct json_object *result = json_object_new_object(), *list = json_object_new_array();
	if (err)
		vc_log_debug("host.load: %s", err->text);
	for (struct share *s = call->host->shares; s; s = share_next(s)) {
		if (share_phase(s) != SHARE_UP)
			continue;
		if (!err)
			take_all(s, call->list, call->n);
		json_object_array_add(list, share_to_json(s));
	}
	vc_json_add(result, "shares", list);
	rpc_reply(call->req, result);
}

static void load_release(void *ctx)
{
	struct load_call *call = ctx;
	free(call->list);
	free(call);
}

int host_load(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *h = ctx;
	struct load_call *call = calloc(1, sizeof(*call));
	if (!call)
		return vc_error_errno(err, "host.load");
	*call = (struct load_call){.host = h, .hv = h->hv, .req = req};
	struct work_args args = {.pool = WORK_HV, .what = "statistics of domains", .deadline_ms = STATS_MS, .run = load_run,
				 .done = load_done, .release = load_release, .ctx = call};
	if (work_submit(h->vcd->work, &args, NULL, err) == 0)
		return 0;
	load_release(call);
	return -1;
}

// --- what they may use ------------------------------------------------------------------------------------------------

struct share_call { // belongs to the worker's job
	struct sharework *work;
	struct rpc_request *req;
	size_t n;
	struct member_cpu {
		uint32_t rank;
		struct hv_cpu cpu;
	} members[];
};

static int share_run(void *ctx, struct vc_error *err)
{
	struct share_call *call = ctx;
	char name[32];
	for (size_t i = 0; i < call->n; i++) {
		if (hv_set_cpu(call->work->hv, sharework_domain(call->work, call->members[i].rank, name), &call->members[i].cpu, err) < 0)
			return -1;
	}
	return 0;
}

static void share_done(void *ctx, const struct vc_error *err)
{
	const struct share_call *call = ctx;
	rpc_finish(call->req, err ? NULL : json_object_new_object(), err);
}

static void share_free(void *ctx)
{
	struct share_call *call = ctx;
	sharework_unref(call->work);
	free(call);
}

static int read_share(struct json_object *obj, struct member_cpu *ret, struct vc_error *err)
{
	return vc_json_u32(obj, "rank", VC_MEMBERS_MAX - 1, &ret->rank, err) < 0 || vc_json_u32(obj, "weight", CPU_MAX, &ret->cpu.weight, err) < 0
		       ? -1
		       : vc_json_u32(obj, "cap", CPU_MAX, &ret->cpu.cap, err);
}

// Only members of that cluster that this host has are named by sharework_domain(); one that has moved is no error.
int host_share(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct host *h = ctx;
	const char *id;
	struct json_object *list = NULL;
	if (vc_json_str(rpc_params(req), "cluster", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_array(rpc_params(req), "members", VC_MEMBERS_MAX, &list, err) < 0)
		return -1;
	struct share *s = host_find_cluster(h, id);
	if (!s || share_phase(s) != SHARE_UP)
		return vc_error_set(err, VC_ENOTFOUND, "cluster %.8s is not up on this host", id);
	size_t n = json_object_array_length(list);
	struct share_call *call = calloc(1, sizeof(*call) + n * sizeof(call->members[0]));
	if (!call)
		return vc_error_errno(err, "host.share");
	*call = (struct share_call){.work = sharework_ref(share_work(s)), .req = req, .n = n};
	struct work_args args = {.pool = WORK_HV, .what = "shares of domains", .deadline_ms = h->vcd->conf->libvirt_timeout_ms,
				 .run = share_run, .done = share_done, .release = share_free, .ctx = call};
	for (size_t i = 0; i < n; i++) {
		if (read_share(json_object_array_get_idx(list, i), &call->members[i], err) < 0) {
			share_free(call);
			return -1;
		}
	}
	if (work_submit(h->vcd->work, &args, NULL, err) == 0)
		return 0;
	share_free(call);
	return -1;
}
