// SPDX-License-Identifier: GPL-2.0-or-later
// The controller's leases with a fake slurmctld, fake clusters and fake requests (labelled fakes, in this file only); the state
// database is real, in memory, so a second struct leases on it is a restarted controller.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/cluster.h"
#include "vcd/conf.h"
#include "vcd/elastic/params.h"
#include "vcd/fanout.h"
#include "vcd/grow.h"
#include "vcd/host.h"
#include "vcd/leases_int.h"
#include "vcd/peer.h"
#include "vcd/share.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define PRIMARY 100
#define OWNER 2001

// --- fakes -----------------------------------------------------------------------------------------------------------

struct rpc_request {
	struct json_object *params;
	uid_t uid;
	struct json_object *result;
	struct vc_error err;
	int replies;
};

struct work_job {
	struct work_args args;
	bool used;
};

static struct world {
	struct vcd vcd;
	struct conf conf;
	struct plan plan;
	struct plan_host host;
	struct plan_member member;
	struct vc_spec *spec;
	bool over;
	struct rpc_method methods[32];
	void *ctx[32];
	size_t n_methods;
	struct work_job jobs[64];
	size_t n_jobs;
	// slurmctld
	struct lease_job list[8];
	size_t n_list;
	uint32_t next_job;
	int submitted, cancelled;
	uint32_t cancelled_job;
	char excluded[256];
	int fail_code; // of a submission
	// the cluster
	grow_done_fn grown, shrunk;
	void *grown_ctx, *shrunk_ctx;
	int grows, shrinks;
	uint64_t shrink_ms;
	enum grow_state part;
	size_t n_moved; // of the last clusters_move()
	uint32_t moved;
	char moved_to[16];
	int n_shares; // calls of host.share
	char shares[512], shares_host[16];
	peer_done_fn shares_done;
	void *shares_ctx;
} w;

int rpc_register(struct rpc *rpc, const struct rpc_method *methods, size_t n, void *ctx, struct vc_error *err)
{
	(void)rpc, (void)err;
	for (size_t i = 0; i < n; i++) {
		w.ctx[w.n_methods] = ctx;
		w.methods[w.n_methods++] = methods[i];
	}
	return 0;
}
struct json_object *rpc_params(const struct rpc_request *req)
{
	return req->params;
}
bool rpc_caller_is_admin(const struct rpc_request *req)
{
	return req->uid == 0;
}
int rpc_require_owner(const struct rpc_request *req, uid_t owner, const char *job, struct vc_error *err)
{
	return req->uid == 0 || req->uid == owner ? 0 : vc_error_set(err, VC_EDENIED, "job %s is not yours", job);
}
void rpc_reply(struct rpc_request *req, struct json_object *result)
{
	req->replies++;
	req->result = result;
}
void rpc_reply_canceled(struct rpc_request *req)
{
	req->replies++;
}
void rpc_on_cancel(struct rpc_request *req, void (*cb)(struct rpc_request *req, void *ctx), void *ctx)
{
	(void)req, (void)cb, (void)ctx;
}
int work_submit(struct work *work, const struct work_args *args, struct work_job **ret_job, struct vc_error *err)
{
	(void)work, (void)err;
	assert_true(w.n_jobs < VC_ARRAY_LEN(w.jobs));
	struct work_job *job = &w.jobs[w.n_jobs++];
	*job = (struct work_job){.args = *args, .used = true};
	if (ret_job)
		*ret_job = job;
	return 0;
}
void work_cancel(struct work_job *job)
{
	job->used = false;
	job->args.release(job->args.ctx);
}
struct slurmctl *slurmctl_create(struct vc_error *err)
{
	(void)err;
	return (struct slurmctl *)calloc(1, 1);
}
void slurmctl_destroy(struct slurmctl *ctl)
{
	free(ctl);
}
int slurmctl_load_job(struct slurmctl *ctl, uint32_t id, struct slurmctl_job **ret, struct vc_error *err)
{
	(void)ctl, (void)err;
	struct slurmctl_job *job = calloc(1, sizeof(*job));
	job->job = id;
	job->uid = OWNER;
	job->hosts = calloc(1, sizeof(*job->hosts));
	job->n_hosts = 1;
	for (size_t i = 0; i < w.n_list; i++) {
		if (w.list[i].job == id)
			job->hosts[0].name = strdup(w.list[i].host);
	}
	*ret = job;
	return 0;
}
void slurmctl_job_destroy(struct slurmctl_job *job)
{
	if (!job)
		return;
	free(job->hosts[0].name);
	free(job->hosts);
	free(job);
}
int slurmlease_submit(struct slurmctl *ctl, const struct slurmlease_args *args, uint32_t *ret_job, struct vc_error *err)
{
	(void)ctl;
	assert_int_equal(args->uid, OWNER);
	assert_int_equal(args->primary, PRIMARY);
	snprintf(w.excluded, sizeof(w.excluded), "%s", args->exclude);
	if (w.fail_code == VC_EUSER)
		return vc_error_set(err, VC_EUSER, "the limit of jobs is reached");
	*ret_job = w.next_job++;
	w.submitted++;
	w.list[w.n_list++] = (struct lease_job){.lease = args->lease, .job = *ret_job, .state = LEASE_JOB_PENDING};
	return w.fail_code ? vc_error_set(err, w.fail_code, "no answer") : 0;
}
int slurmlease_list(struct slurmctl *ctl, const struct slurmlease_owner *owners, size_t n, struct lease_job **ret, size_t *ret_n,
		    struct vc_error *err)
{
	(void)ctl, (void)err;
	*ret = calloc(w.n_list + 1, sizeof(**ret));
	*ret_n = n && owners[0].uid == OWNER ? w.n_list : 0;
	memcpy(*ret, w.list, *ret_n * sizeof(**ret));
	return 0;
}
int slurmlease_look_pool(struct slurmctl *ctl, struct slurmlease_pool *pool, struct vc_error *err)
{
	(void)ctl, (void)pool, (void)err;
	return 0;
}
int slurmlease_cancel(struct slurmctl *ctl, uint32_t job, struct vc_error *err)
{
	(void)ctl, (void)err;
	w.cancelled++;
	w.cancelled_job = job;
	return 0;
}
bool clusters_look(struct clusters *cs, uint32_t job, struct clusters_look *ret)
{
	(void)cs;
	*ret = (struct clusters_look){.job = job, .id = "c1", .uid = OWNER, .ready = !w.over, .over = w.over, .plan = &w.plan, .own = 1};
	return job == PRIMARY;
}
void clusters_each(struct clusters *cs, void (*fn)(void *ctx, const struct clusters_look *look), void *ctx)
{
	(void)cs, (void)fn, (void)ctx;
}
int clusters_move(struct clusters *cs, uint32_t job, const struct clusters_place *places, size_t n, struct vc_error *err)
{
	(void)cs, (void)job, (void)err;
	w.n_moved = n;
	w.moved = places[0].rank;
	snprintf(w.moved_to, sizeof(w.moved_to), "%s", places[0].host);
	return 0;
}
struct peer_call *peer_call(struct peers *peers, const struct peer_args *args, struct vc_error *err)
{
	(void)peers, (void)err;
	assert_string_equal(args->method, "host.share");
	w.n_shares++;
	w.shares_done = args->done;
	w.shares_ctx = args->ctx;
	snprintf(w.shares_host, sizeof(w.shares_host), "%s", args->host);
	snprintf(w.shares, sizeof(w.shares), "%s", json_object_to_json_string_ext(args->params, JSON_C_TO_STRING_PLAIN));
	return (struct peer_call *)&w;
}
void peer_cancel(struct peer_call *call)
{
	(void)call;
}
int grow_start(struct clusters *cs, const struct grow_args *args, struct vc_error *err)
{
	(void)cs, (void)err;
	w.grows++;
	w.grown = args->done;
	w.grown_ctx = args->ctx;
	return 0;
}
int grow_shrink(struct clusters *cs, const struct shrink_args *args, struct vc_error *err)
{
	(void)cs, (void)err;
	w.shrinks++;
	w.shrink_ms = args->deadline_ms;
	if (args->done) {
		w.shrunk = args->done;
		w.shrunk_ctx = args->ctx;
	}
	return 0;
}
enum grow_state grow_state(struct clusters *cs, uint32_t job, uint64_t lease)
{
	(void)cs, (void)job, (void)lease;
	return w.part;
}
void grow_forget(struct clusters *cs, void *ctx)
{
	(void)cs, (void)ctx;
}
struct fanout *fanout_start(struct vcd *vcd, const struct fanout_args *args, struct vc_error *err)
{
	(void)vcd, (void)args, (void)err;
	return NULL;
}
void fanout_cancel(struct fanout *f)
{
	(void)f;
}
int host_require_ready(struct host *h, struct vc_error *err)
{
	(void)h, (void)err;
	return 0;
}
struct share *host_find_job(struct host *h, uint32_t job)
{
	(void)h, (void)job;
	return NULL;
}
struct sharework *share_work(struct share *s)
{
	(void)s;
	return NULL;
}
uint64_t share_valid_ms(const struct share *s)
{
	(void)s;
	return 0;
}

// --- the stage --------------------------------------------------------------------------------------------------------

static struct leases *start_vcd(void)
{
	struct vc_error err = VC_ERROR_INIT;
	w.n_methods = 0;
	struct leases *l = leases_create(&w.vcd, &err);
	if (!l)
		fail_msg("%s", err.text);
	return l;
}

static void stop_vcd(struct leases *l)
{
	leases_stop(l);
	uv_run(&w.vcd.loop, UV_RUN_DEFAULT);
	leases_destroy(l);
	w.n_jobs = 0;
}

static int setup(void **state)
{
	w = (struct world){.next_job = 200};
	uv_loop_init(&w.vcd.loop);
	w.vcd.conf = &w.conf;
	w.vcd.controller = true;
	w.vcd.state = state_open(":memory:", NULL);
	w.spec = vc_spec_create();
	w.spec->size_min = 1;
	w.spec->size_max = 3;
	w.host = (struct plan_host){.name = (char *)"n1", .cpus = 2};
	w.plan = (struct plan){.spec = w.spec, .hosts = &w.host, .n_hosts = 1, .members = &w.member, .n_members = 1};
	*state = start_vcd();
	return 0;
}

static int teardown(void **state)
{
	stop_vcd(*state);
	state_close(w.vcd.state);
	vc_spec_destroy(w.spec);
	return uv_loop_close(&w.vcd.loop);
}

// What workers have to do, and what follows from it, until nothing is left.
static void work(void)
{
	for (size_t i = 0; i < w.n_jobs; i++) {
		struct work_job job = w.jobs[i];
		struct vc_error err = VC_ERROR_INIT;
		if (!job.used)
			continue;
		w.jobs[i].used = false;
		int rc = job.args.run(job.args.ctx, &err);
		job.args.done(job.args.ctx, rc < 0 ? &err : NULL);
		job.args.release(job.args.ctx);
	}
	w.n_jobs = 0;
}

static int call(struct rpc_request *req, uid_t uid, const char *method, const char *params)
{
	*req = (struct rpc_request){.uid = uid, .params = vc_json_parse(params, strlen(params), NULL)};
	for (size_t i = 0; i < w.n_methods; i++) {
		if (strcmp(w.methods[i].name, method) == 0)
			return w.methods[i].handler(req, w.ctx[i], &req->err);
	}
	fail_msg("no method %s", method);
	return -1;
}

static void done(struct rpc_request *req)
{
	json_object_put(req->params);
	json_object_put(req->result);
}

static void ask(const char *method, const char *params)
{
	struct rpc_request req;
	if (call(&req, OWNER, method, params) < 0)
		fail_msg("%s: %s", method, req.err.text);
	done(&req);
	work();
}

static struct lease *lease(struct leases *l, uint64_t id)
{
	struct lease *found = leasebook_find(&l->book, id);
	assert_non_null(found);
	return found;
}

static void job_gets(size_t i, enum lease_slurm state, const char *host)
{
	w.list[i].state = state;
	snprintf(w.list[i].host, sizeof(w.list[i].host), "%s", host);
}

static void look(struct leases *l)
{
	leases_look(l);
	work();
}

static void tell_grown(const struct vc_error *err)
{
	w.part = err ? GROW_NONE : GROW_HELD;
	w.grown(w.grown_ctx, err);
	work();
}

static void hold_one(struct leases *l)
{
	ask("cluster.resize", "{\"job\":100,\"by\":1}");
	assert_int_equal(lease(l, 1)->state, LEASE_PENDING);
	job_gets(0, LEASE_JOB_CONFIGURING, "n2");
	look(l);
	assert_int_equal(lease(l, 1)->state, LEASE_JOINING);
	assert_int_equal(w.grows, 1);
	tell_grown(NULL);
	assert_int_equal(lease(l, 1)->state, LEASE_HELD);
	job_gets(0, LEASE_JOB_RUNNING, "n2");
}

// --- tests --------------------------------------------------------------------------------------------------------------

static void test_grow_and_shrink(void **state)
{
	struct leases *l = *state;
	struct rpc_request step;
	hold_one(l);
	assert_string_equal(w.excluded, "n1");
	assert_int_equal(call(&step, OWNER, "lease.wait", "{\"job\":100,\"lease\":1}"), 0);
	ask("cluster.resize", "{\"job\":100,\"hosts\":1,\"deadline_ms\":5000}");
	assert_int_equal(lease(l, 1)->state, LEASE_RECLAIMING);
	assert_in_range(w.shrink_ms, 4000, 5000);
	assert_int_equal(step.replies, 0);
	w.part = GROW_NONE;
	w.shrunk(w.shrunk_ctx, NULL);
	work();
	// its step ends by itself: nothing is cancelled
	assert_int_equal(lease(l, 1)->state, LEASE_RELEASING);
	assert_int_equal(step.replies, 1);
	assert_int_equal(w.cancelled, 0);
	job_gets(0, LEASE_JOB_COMPLETED, "");
	look(l);
	assert_int_equal(lease(l, 1)->state, LEASE_ENDED);
	assert_int_equal(lease(l, 1)->end, LEASE_END_RELEASED);
	done(&step);
}

static void test_who_may(void **state)
{
	(void)state;
	static const struct {
		uid_t uid;
		const char *params;
		int code;
		const char *text;
	} rows[] = {
		{2002, "{\"job\":100,\"by\":1}", VC_EDENIED, "not yours"},
		{OWNER, "{\"job\":100,\"by\":3}", VC_EUSER, "outside --vcluster-size=1-3"},
		{OWNER, "{\"job\":100,\"hosts\":0}", VC_EUSER, "0 hosts are outside"},
		{OWNER, "{\"job\":100,\"by\":-2}", VC_EUSER, "no change"},
		{OWNER, "{\"job\":100,\"by\":\"1\"}", VC_EUSER, "no change"},
		{OWNER, "{\"job\":101,\"by\":1}", VC_ENOTFOUND, "no virtual cluster"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct rpc_request req;
		assert_int_equal(call(&req, rows[i].uid, "cluster.resize", rows[i].params), -1);
		assert_int_equal(req.err.code, rows[i].code);
		assert_contains(req.err.text, rows[i].text);
		done(&req);
	}
	assert_int_equal(w.submitted, 0);
}

static void test_dry_run(void **state)
{
	(void)state;
	ask("cluster.resize", "{\"job\":100,\"by\":1,\"dry_run\":true}");
	assert_int_equal(w.submitted, 0);
}

// The next job of a cluster excludes the host of the one before, so it is submitted when that has one.
static void test_one_at_a_time(void **state)
{
	struct leases *l = *state;
	ask("cluster.resize", "{\"job\":100,\"by\":2}");
	assert_int_equal(w.submitted, 1);
	job_gets(0, LEASE_JOB_CONFIGURING, "n2");
	look(l);
	work();
	assert_int_equal(w.submitted, 2);
	assert_string_equal(w.excluded, "n1,n2");
	ask("cluster.resize", "{\"job\":100,\"hosts\":1}");
	assert_int_equal(lease(l, 2)->state, LEASE_RELEASING);
}

static void test_clash(void **state)
{
	struct leases *l = *state;
	ask("cluster.resize", "{\"job\":100,\"by\":2}");
	job_gets(0, LEASE_JOB_CONFIGURING, "n2");
	look(l);
	job_gets(1, LEASE_JOB_CONFIGURING, "n2"); // although it was excluded
	look(l);
	assert_int_equal(w.cancelled_job, w.list[1].job);
	assert_int_equal(lease(l, 2)->state, LEASE_RELEASING);
	assert_int_equal(w.submitted, 3);
}

static void test_request_and_offer(void **state)
{
	struct leases *l = *state;
	struct rpc_request req;
	hold_one(l);
	assert_int_equal(call(&req, OWNER, "lease.request", "{\"job\":100,\"hosts\":5000}"), -1);
	done(&req);
	assert_int_equal(call(&req, 2002, "lease.request", "{\"job\":100,\"hosts\":1}"), -1);
	assert_int_equal(req.err.code, VC_EDENIED);
	done(&req);
	ask("lease.request", "{\"job\":100,\"hosts\":1}");
	assert_int_equal(w.submitted, 2);
	lease(l, 1)->work = LEASE_WORK_SOME;
	assert_int_equal(call(&req, OWNER, "lease.offer", "{\"job\":100,\"hosts\":2}"), 0); // the one that did not come; not the one with work
	assert_contains(vc_json_text(req.result, NULL), "\"given\":1");
	done(&req);
	assert_int_equal(lease(l, 1)->state, LEASE_HELD);
	assert_int_equal(leases_cluster(l, PRIMARY)->wanted, 2);
	ask("lease.renew", "{\"job\":100}");
}

static void test_refused(void **state)
{
	struct leases *l = *state;
	w.fail_code = VC_EUSER;
	ask("cluster.resize", "{\"job\":100,\"by\":1}");
	assert_int_equal(lease(l, 1)->state, LEASE_ENDED);
	assert_int_equal(lease(l, 1)->end, LEASE_END_REFUSED);
	struct rpc_request req;
	assert_int_equal(call(&req, OWNER, "lease.list", "{\"job\":100}"), 0);
	assert_contains(vc_json_text(req.result, NULL), "the limit of jobs is reached");
	done(&req);
}

// slurmctld took the job, its answer got lost, and the controller died: the job is found before another is submitted.
static void test_restart_finds_job(void **state)
{
	struct leases *l = *state;
	w.fail_code = VC_EHOST;
	struct rpc_request req;
	assert_int_equal(call(&req, OWNER, "cluster.resize", "{\"job\":100,\"by\":1}"), 0);
	done(&req);
	assert_int_equal(w.jobs[0].args.run(w.jobs[0].args.ctx, &req.err), -1); // and nothing after it
	stop_vcd(l);
	w.fail_code = 0;
	*state = l = start_vcd();
	work();
	assert_int_equal(lease(l, 1)->state, LEASE_PENDING);
	assert_int_equal(lease(l, 1)->job, 200);
	look(l);
	assert_int_equal(w.submitted, 1);
}

// It died before: then it is submitted, once.
static void test_restart_submits(void **state)
{
	struct leases *l = *state;
	struct rpc_request req;
	assert_int_equal(call(&req, OWNER, "cluster.resize", "{\"job\":100,\"by\":1}"), 0);
	done(&req);
	stop_vcd(l);
	*state = l = start_vcd();
	for (int i = 0; i < 3; i++)
		look(l);
	assert_int_equal(w.submitted, 1);
	assert_int_equal(lease(l, 1)->state, LEASE_PENDING);
}

static int count_event(const struct state_event *e, void *ctx)
{
	*(size_t *)ctx += strcmp(e->what, "lease") == 0;
	return 0;
}

static void test_restart_joins(void **state)
{
	struct leases *l = *state;
	ask("cluster.resize", "{\"job\":100,\"by\":1}");
	job_gets(0, LEASE_JOB_CONFIGURING, "n2");
	look(l);
	stop_vcd(l);
	*state = l = start_vcd();
	work();
	assert_int_equal(w.grows, 2);
	tell_grown(NULL);
	assert_int_equal(lease(l, 1)->state, LEASE_HELD);
	size_t told = 0;
	assert_int_equal(state_event_list(w.vcd.state, "c1", 0, count_event, &told, NULL), 0);
	assert_int_equal(told, 4); // submitted, pending, joining, held: a restart tells nothing twice
}

static void test_preempted(void **state)
{
	struct leases *l = *state;
	hold_one(l);
	w.list[0].state = LEASE_JOB_ENDING_SOON;
	w.list[0].end_ms = leases_now() + 20000;
	ask("lease.term", "{\"job\":100,\"lease\":1}");
	assert_int_equal(lease(l, 1)->state, LEASE_RECLAIMING);
	assert_int_equal(lease(l, 1)->end, LEASE_END_PREEMPTED);
	assert_in_range(w.shrink_ms, 15000, 20000);
	assert_int_equal(w.cancelled, 0);
}

static void test_preempted_kills(void **state)
{
	struct leases *l = *state;
	w.spec->on_preempt = VC_SPEC_PREEMPT_KILL;
	hold_one(l);
	w.list[0].state = LEASE_JOB_ENDING_SOON;
	w.list[0].end_ms = leases_now() + 20000;
	look(l);
	assert_int_equal(w.cancelled_job, PRIMARY);
}

// SIGTERM of the step without a reason in slurmctld: its owner's wish.
static void test_signalled(void **state)
{
	struct leases *l = *state;
	hold_one(l);
	ask("lease.term", "{\"job\":100,\"lease\":1}");
	assert_int_equal(lease(l, 1)->state, LEASE_RECLAIMING);
	assert_int_equal(lease(l, 1)->end, LEASE_END_RELEASED);
}

static void test_ensure(void **state)
{
	struct leases *l = *state;
	struct rpc_request prolog, forged;
	ask("cluster.resize", "{\"job\":100,\"by\":1}");
	job_gets(0, LEASE_JOB_CONFIGURING, "n2");
	assert_int_equal(call(&prolog, 0, "lease.ensure", "{\"job\":200,\"lease\":1}"), 0);
	assert_int_equal(call(&forged, 0, "lease.ensure", "{\"job\":300,\"lease\":1}"), 0);
	work();
	assert_int_equal(prolog.replies, 0);
	assert_int_equal(forged.replies, 1);
	assert_contains(vc_json_text(forged.result, NULL), "not the one of its lease");
	tell_grown(NULL);
	assert_int_equal(prolog.replies, 1);
	assert_contains(vc_json_text(prolog.result, NULL), "held");
	done(&prolog);
	done(&forged);
	assert_int_equal(call(&forged, 0, "lease.ensure", "{\"job\":300,\"lease\":9}"), -1);
	assert_int_equal(forged.err.code, VC_EDENIED);
	done(&forged);
	assert_int_equal(lease(l, 1)->job, 200);
}

static void test_join_fails(void **state)
{
	struct leases *l = *state;
	struct vc_error err = VC_ERROR_INIT;
	ask("cluster.resize", "{\"job\":100,\"by\":1}");
	job_gets(0, LEASE_JOB_CONFIGURING, "n2");
	look(l);
	vc_error_set(&err, VC_EHOST, "no room");
	tell_grown(&err);
	assert_int_equal(lease(l, 1)->state, LEASE_RELEASING);
	assert_int_equal(lease(l, 1)->end, LEASE_END_FAILED);
	assert_int_equal(w.cancelled_job, 200); // no step listens yet
}

static void test_release_waits_for_host(void **state)
{
	struct leases *l = *state;
	struct rpc_request epilog;
	hold_one(l);
	job_gets(0, LEASE_JOB_COMPLETING, "n2");
	assert_int_equal(call(&epilog, 0, "lease.release", "{\"job\":200}"), 0);
	work();
	assert_int_equal(lease(l, 1)->state, LEASE_RELEASING);
	assert_int_equal(w.shrink_ms, 0);
	assert_int_equal(epilog.replies, 0);
	w.part = GROW_NONE;
	w.shrunk(w.shrunk_ctx, NULL);
	assert_int_equal(epilog.replies, 1);
	done(&epilog);
	assert_int_equal(call(&epilog, 0, "lease.release", "{\"job\":999}"), 0); // nobody's
	assert_int_equal(epilog.replies, 1);
	done(&epilog);
}

static void test_elastic_set(void **state)
{
	struct leases *l = *state;
	struct rpc_request req;
	ask("elastic.set", "{\"job\":100,\"set\":\"cod,weight=3\",\"paused\":true}");
	const struct lease_cluster *c = leases_cluster(l, PRIMARY);
	assert_string_equal(c->elastic.policy, "cod");
	assert_int_equal(c->elastic.weight, 3);
	assert_int_equal(call(&req, OWNER, "elastic.set", "{\"job\":100,\"priority\":9}"), -1);
	assert_int_equal(req.err.code, VC_EDENIED);
	done(&req);
	assert_int_equal(call(&req, OWNER, "elastic.set", "{\"job\":100,\"set\":\"best\"}"), -1);
	assert_contains(req.err.text, "there is no policy");
	done(&req);
	assert_int_equal(call(&req, 2002, "elastic.show", "{\"job\":100}"), -1);
	done(&req);
	// a restarted controller knows it
	hold_one(l);
	stop_vcd(l);
	*state = l = start_vcd();
	c = leases_cluster(l, PRIMARY);
	assert_true(c->paused);
	assert_int_equal(c->elastic.weight, 3);
	assert_int_equal(c->wanted, 2);
}

// A cluster of two hosts, n2 of lease 1, with two members that are where `at` says and run `runnable` processes each.
static void decide_moves(struct leases *l, const char *policy, const uint32_t at[2], const int runnable[2])
{
	char n1[] = "n1", n2[] = "n2";
	struct plan_host hosts[] = {{.name = n1, .cpus = 1, .mem_mib = 4096}, {.name = n2, .cpus = 1, .mem_mib = 4096, .lease = 1}};
	struct plan_member members[] = {{.rank = 0, .host = at[0], .to = PLAN_NOWHERE, .vcpus = 1, .mem_mib = 256},
					{.rank = 1, .host = at[1], .to = PLAN_NOWHERE, .vcpus = 1, .mem_mib = 256}};
	struct plan plan = {.hosts = hosts, .n_hosts = 2, .members = members, .n_members = 2, .spec = w.spec};
	const struct clusters_look look = {.job = PRIMARY, .id = "c1", .uid = OWNER, .ready = true, .plan = &plan, .own = 1};
	struct lease_cluster *c = leases_cluster(l, PRIMARY);
	struct elastic_params params = elastic_params_standard();
	params.rise_ms = params.fall_ms = params.shrink_hold_ms = 0;
	snprintf(c->elastic.policy, sizeof(c->elastic.policy), "%s", policy);
	w.n_moved = 0;
	mover_begin(l, c, &plan);
	for (uint32_t i = 0; i < 2; i++) {
		if (runnable[i] >= 0)
			mover_heard(c, i, &(struct member_load){.known = true, .runnable = (uint64_t)runnable[i]});
	}
	mover_decide(l, c, &look, &params);
	leases_settle(l);
}

static void test_members_move_by_policy(void **state)
{
	struct leases *l = *state;
	uint64_t ms;
	hold_one(l);
	decide_moves(l, "balance", (const uint32_t[]){0, 0}, (const int[]){2, -1}); // one did not say
	assert_null(mover_last(leases_cluster(l, PRIMARY), &ms));
	decide_moves(l, "balance", (const uint32_t[]){0, 0}, (const int[]){2, 2});
	assert_int_equal(w.n_moved, 1);
	assert_string_equal(w.moved_to, "n2");
	assert_non_null(mover_last(leases_cluster(l, PRIMARY), &ms));
	decide_moves(l, "balance", (const uint32_t[]){0, 1}, (const int[]){2, 2});
	assert_int_equal(w.n_moved, 0);
	leases_cluster(l, PRIMARY)->paused = true;
	decide_moves(l, "balance", (const uint32_t[]){0, 0}, (const int[]){2, 2});
	assert_int_equal(w.n_moved, 0);
}

static void test_pack_gives_an_emptied_host_back(void **state)
{
	struct leases *l = *state;
	hold_one(l);
	decide_moves(l, "pack", (const uint32_t[]){0, 1}, (const int[]){1, 1});
	assert_int_equal(w.n_moved, 1);
	assert_int_equal(w.moved, 1);
	assert_string_equal(w.moved_to, "n1");
	assert_int_equal(lease(l, 1)->state, LEASE_HELD); // its member is still on its way
	decide_moves(l, "pack", (const uint32_t[]){0, 0}, (const int[]){1, 1});
	assert_int_equal(lease(l, 1)->state, LEASE_RECLAIMING);
	assert_int_equal(leases_cluster(l, PRIMARY)->wanted, 1);
}

// Two members on one host of one CPU: the shares are told once, and again when they change, after an error, and when yield is left.
static void test_yield_sets_shares(void **state)
{
	struct leases *l = *state;
	const struct vc_error no = {.code = VC_EHOST, .text = "libvirt is away"};
	hold_one(l);
	decide_moves(l, "yield", (const uint32_t[]){0, 0}, (const int[]){2, 1}); // 1 CPU, and nothing
	assert_int_equal(w.n_moved, 0);
	assert_int_equal(w.n_shares, 1);
	assert_string_equal(w.shares_host, "n1");
	assert_contains(w.shares, "{\"rank\":0,\"weight\":1000,\"cap\":0},{\"rank\":1,\"weight\":100,\"cap\":0}");
	decide_moves(l, "yield", (const uint32_t[]){0, 0}, (const int[]){2, 1});
	assert_int_equal(w.n_shares, 1);
	w.shares_done(w.shares_ctx, NULL, &no);
	decide_moves(l, "yield", (const uint32_t[]){0, 0}, (const int[]){2, 1});
	assert_int_equal(w.n_shares, 2);
	w.shares_done(w.shares_ctx, NULL, NULL);
	ask("elastic.set", "{\"job\":100,\"set\":\"static\"}");
	assert_int_equal(w.n_shares, 3);
	assert_contains(w.shares, "\"weight\":1000,\"cap\":0}");
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_grow_and_shrink), test(test_who_may), test(test_dry_run), test(test_one_at_a_time), test(test_clash),
		test(test_refused), test(test_request_and_offer), test(test_restart_finds_job), test(test_restart_submits), test(test_restart_joins),
		test(test_preempted), test(test_preempted_kills), test(test_signalled), test(test_ensure), test(test_join_fails),
		test(test_release_waits_for_host), test(test_elastic_set), test(test_members_move_by_policy),
		test(test_pack_gives_an_emptied_host_back), test(test_yield_sets_shares),
	};
	return cmocka_run_group_tests_name("leases", tests, NULL, NULL);
}
