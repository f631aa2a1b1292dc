// SPDX-License-Identifier: GPL-2.0-or-later
// What the migration of a member of this host would cost: see sharemove.h. A worker measures, movepolicy.h reckons.
//
// A job of its own: it holds the share's work, not the share, which may end meanwhile.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "libvc/json.h"
#include "vcd/rpc.h"
#include "vcd/share_int.h"
#include "vcd/vcd.h"

struct estimate {
	struct rpc_request *req;
	struct sharework *work;
	uint32_t rank;
	enum move_policy policy;
	struct move_facts facts;
	char obstacle[200]; // to post-copy, of this host
};

int share_measure(const struct sharework *w, uint32_t rank, struct move_facts *ret, struct vc_error *err)
{
	struct hv_memory memory = {0};
	struct stat st;
	char path[4096], name[32];
	int n = snprintf(path, sizeof(path), "%s/%" PRIu32 ".qcow2", w->disk_dir, rank);
	if (n > 0 && (size_t)n < sizeof(path) && stat(path, &st) == 0)
		ret->disk = (uint64_t)st.st_blocks * 512;
	int rc = hv_measure(w->hv, sharework_domain(w, rank, name), &memory, err);
	ret->memory = memory.touched;
	ret->dirty_rate = memory.dirty_rate;
	return rc;
}

static int estimate_run(void *ctx, struct vc_error *err)
{
	struct estimate *e = ctx;
	return share_measure(e->work, e->rank, &e->facts, err);
}

static struct json_object *to_json(const struct move_facts *f, const struct move_estimate *e)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "memory_bytes", f->memory);
	vc_json_add_u64(obj, "disk_bytes", f->disk);
	vc_json_add_u64(obj, "dirty_bytes_s", f->dirty_rate);
	vc_json_add_str(obj, "policy", move_policy_name(e->policy));
	vc_json_add_u64(obj, "bandwidth_mib", f->bandwidth_mib ? f->bandwidth_mib : MOVE_LINK_MIB);
	vc_json_add_u64(obj, "bytes", e->bytes);
	vc_json_add_u64(obj, "downtime_ms", e->downtime_ms);
	vc_json_add_u64(obj, "total_ms", e->total_ms);
	vc_json_add_u64(obj, "rounds", e->rounds);
	vc_json_add_bool(obj, "forced", e->forced);
	return obj;
}

static void estimate_done(void *ctx, const struct vc_error *err)
{
	struct estimate *e = ctx;
	if (err) {
		rpc_reply_error(e->req, err);
		return;
	}
	struct move_estimate expected = move_estimate(e->policy, &e->facts);
	struct json_object *result = to_json(&e->facts, &expected);
	e->facts.can_postcopy = true;
	if (e->obstacle[0] && move_policy_choose(e->policy, &e->facts) == MOVE_POSTCOPY)
		vc_json_add_str(result, "no_postcopy", e->obstacle);
	rpc_reply(e->req, result);
}

static void estimate_release(void *ctx)
{
	struct estimate *e = ctx;
	sharework_unref(e->work);
	free(e);
}

int share_estimate(struct share *s, const struct share_migrate *args, struct rpc_request *req, struct vc_error *err)
{
	const struct member *m = share_member(s, args->rank);
	if (s->work->fake || !m || !m->running)
		return vc_error_set(err, VC_EBUSY, "member %" PRIu32 " of job %s does not run on host %s", args->rank, s->job, s->work->own_name);
	struct estimate *e = calloc(1, sizeof(*e));
	if (!e)
		return vc_error_errno(err, "estimate of a migration");
	*e = (struct estimate){.req = req, .work = sharework_ref(s->work), .rank = args->rank, .policy = args->policy,
			       .facts = {.bandwidth_mib = args->bandwidth_mib, .downtime_ms = args->downtime_ms, .rounds = args->rounds}};
	const char *obstacle = share_post_obstacle(s);
	e->facts.can_postcopy = !obstacle;
	if (obstacle)
		snprintf(e->obstacle, sizeof(e->obstacle), "host %.60s: %s", s->work->own_name, obstacle);
	struct work_args work = {.pool = WORK_HV, .what = "estimate of a migration", .deadline_ms = SHAREMOVE_MEASURE_MS,
				 .run = estimate_run, .done = estimate_done, .release = estimate_release, .ctx = e};
	if (work_submit(s->vcd->work, &work, NULL, err) == 0)
		return 0;
	estimate_release(e);
	return -1;
}
