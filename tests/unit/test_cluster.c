// SPDX-License-Identifier: GPL-2.0-or-later
// The controller's state machine with fake hosts, fake slurmctld and fake requests (labelled fakes, in this file only).
#include "tests/unit/test.h"

#include <stdio.h>

#include <sodium.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/check.h"
#include "vcd/cluster.h"
#include "vcd/conf.h"
#include "vcd/images.h"
#include "vcd/member/view.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/grow.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define LEASE_JOB 8

// --- fakes -----------------------------------------------------------------------------------------------------------

struct rpc_request {
	struct json_object *params;
	struct rpc_caller caller;
	struct json_object *result;
	struct vc_error err;
	int replies;
	void (*cancel)(struct rpc_request *req, void *ctx);
	void *cancel_ctx;
};

struct peer_call {
	struct peer_args args;
	char host[64], method[64];
	char *params;
	bool used, canceled;
};

struct work_job {
	struct work_args args;
	bool used, canceled;
};

static struct world {
	struct vcd vcd;
	struct conf conf;
	struct clusters *clusters;
	struct rpc_method methods[32];
	size_t n_methods;
	void *methods_ctx;
	struct peer_call calls[64];
	size_t n_calls;
	struct work_job jobs[16];
	size_t n_jobs;
	enum slurmctl_state job_state;
	uint32_t job_restart;
	bool job_suspended;
	size_t job_hosts; // 0: both
	bool job_het, job_unknown;
	char phases[512]; // every phase that was saved, in order
	int64_t last_restart;
	struct images_wish_args wish; // of the build that is waited for
	int wishes_canceled;
	char node_down[64]; // what slurmctld was told
	int held; // images
	int fail_code; // of answer_calls(); 0: VC_EUSER
	const char *answer; // of hosts; NULL: none
} w;

int check_register(struct check *check, const char *name, enum check_thread thread, check_fn fn, void *ctx, struct vc_error *err)
{
	(void)check, (void)name, (void)thread, (void)fn, (void)ctx, (void)err;
	return 0;
}

void check_finding(struct check_report *report, enum check_level level, const char *do_, const char *what_fmt, ...)
{
	(void)report, (void)level, (void)do_, (void)what_fmt;
}

int rpc_register(struct rpc *rpc, const struct rpc_method *methods, size_t n, void *ctx, struct vc_error *err)
{
	(void)rpc;
	(void)err;
	for (size_t i = 0; i < n; i++)
		w.methods[w.n_methods++] = methods[i];
	w.methods_ctx = ctx;
	return 0;
}
struct json_object *rpc_params(const struct rpc_request *req)
{
	return req->params;
}
const struct rpc_caller *rpc_caller(const struct rpc_request *req)
{
	return &req->caller;
}
bool rpc_caller_may(const struct rpc_request *req, uid_t owner)
{
	return req->caller.uid == 0 || req->caller.uid == owner;
}
int rpc_require_owner(const struct rpc_request *req, uid_t owner, const char *job, struct vc_error *err)
{
	return rpc_caller_may(req, owner) ? 0 : vc_error_set(err, VC_EDENIED, "job %s is not yours", job);
}
void rpc_set_job(struct rpc_request *req, const char *job)
{
	(void)req;
	(void)job;
}
void rpc_reply(struct rpc_request *req, struct json_object *result)
{
	req->replies++;
	req->result = result;
}
void rpc_reply_error(struct rpc_request *req, const struct vc_error *err)
{
	req->replies++;
	req->err = *err;
}
void rpc_reply_canceled(struct rpc_request *req)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ECANCELED, "canceled");
	rpc_reply_error(req, &err);
}
const char *rpc_method_name(const struct rpc_request *req)
{
	(void)req;
	return "method";
}
void rpc_notify(struct rpc_request *req, const char *method, struct json_object *params)
{
	(void)req;
	(void)method;
	json_object_put(params);
}
void rpc_on_cancel(struct rpc_request *req, void (*cb)(struct rpc_request *req, void *ctx), void *ctx)
{
	req->cancel = cb;
	req->cancel_ctx = ctx;
}

struct peer_call *peer_call(struct peers *peers, const struct peer_args *args, struct vc_error *err)
{
	(void)peers;
	(void)err;
	struct peer_call *call = &w.calls[w.n_calls++];
	assert_true(w.n_calls < VC_ARRAY_LEN(w.calls));
	call->args = *args;
	call->used = true;
	snprintf(call->host, sizeof(call->host), "%s", args->host);
	snprintf(call->method, sizeof(call->method), "%s", args->method);
	call->params = strdup(vc_json_text(args->params, NULL));
	return call;
}
void peer_cancel(struct peer_call *call)
{
	call->canceled = true;
}

int work_submit(struct work *work, const struct work_args *args, struct work_job **ret_job, struct vc_error *err)
{
	(void)work;
	(void)err;
	struct work_job *job = &w.jobs[w.n_jobs++];
	assert_true(w.n_jobs < VC_ARRAY_LEN(w.jobs));
	*job = (struct work_job){.args = *args, .used = true};
	if (ret_job)
		*ret_job = job;
	return 0;
}
void work_cancel(struct work_job *job)
{
	job->canceled = true;
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
const char *slurmctl_state_name(enum slurmctl_state state)
{
	(void)state;
	return "in some state";
}
void slurmctl_job_destroy(struct slurmctl_job *job)
{
	for (size_t i = 0; job && i < job->n_hosts; i++) {
		free(job->hosts[i].name);
		free(job->hosts[i].addr);
	}
	if (job)
		free(job->hosts);
	free(job);
}
int slurmctl_node_down(struct slurmctl *ctl, const char *node, const char *reason, struct vc_error *err)
{
	(void)ctl, (void)err;
	assert_contains(reason, "silent");
	assert_string_equal(w.node_down, "");
	snprintf(w.node_down, sizeof(w.node_down), "%s", node);
	return 0;
}
int slurmctl_list_draining(struct slurmctl *ctl, char ***ret, struct vc_error *err)
{
	(void)ctl;
	(void)err;
	return (*ret = calloc(1, sizeof(**ret))) ? 0 : -1;
}

int slurmctl_load_job(struct slurmctl *ctl, uint32_t job_id, struct slurmctl_job **ret, struct vc_error *err)
{
	(void)ctl;
	if (w.job_unknown)
		return vc_error_set(err, VC_ENOTFOUND, "no such job");
	struct slurmctl_job *job = calloc(1, sizeof(*job));
	strcpy(job->cluster, "lab");
	job->job = job_id;
	job->restart = w.job_restart;
	job->state = w.job_state;
	job->suspended = w.job_suspended;
	job->het = w.job_het;
	job->uid = 2001;
	job->hosts = calloc(2, sizeof(*job->hosts));
	if (job_id == LEASE_JOB) { // one that brings a host to a cluster that runs
		job->state = SLURMCTL_RUNNING;
		job->hosts[job->n_hosts++] = (struct plan_host){.name = strdup("n3"), .addr = strdup("10.77.0.3"), .cpus = 2, .mem_mib = 1000};
		*ret = job;
		return 0;
	}
	for (job->n_hosts = 0; job->n_hosts < (w.job_hosts ? w.job_hosts : 2); job->n_hosts++)
		job->hosts[job->n_hosts] = (struct plan_host){.name = strdup(job->n_hosts ? "n2" : "n1"),
							      .addr = strdup("10.77.0.1"), .cpus = 2, .mem_mib = 1000};
	*ret = job;
	return 0;
}
int slurmctl_owner(uid_t uid, gid_t gid, struct plan_owner *ret, struct vc_error *err)
{
	(void)err;
	*ret = (struct plan_owner){.uid = uid, .gid = gid, .user = strdup("alice"), .home = strdup("/home/alice")};
	ret->groups = calloc(1, sizeof(*ret->groups));
	return 0;
}
int images_want(struct images *im, const struct images_wish_args *args, struct images_found *ret, struct images_wish **ret_wish,
		struct vc_error *err)
{
	(void)im;
	*ret_wish = NULL;
	if (strcmp(args->name, "nosuch") == 0)
		return vc_error_set(err, VC_EUSER, "there is no image '%s'", args->name);
	*ret = (struct images_found){.trusted = false};
	memset(ret->digest, 'd', PLAN_HEX64_LEN);
	if (!args->packages)
		return 0;
	w.wish = *args;
	*ret_wish = (struct images_wish *)&w.wish;
	return 1;
}
int images_hold(struct images *im, const char *digest, const char *cluster, struct vc_error *err)
{
	(void)im, (void)digest, (void)cluster, (void)err;
	w.held++;
	return 0;
}
void images_let_go(struct images *im, const char *digest, const char *cluster)
{
	(void)im, (void)digest, (void)cluster;
	w.held--;
}
void images_wish_cancel(struct images_wish *wish)
{
	w.wishes_canceled += wish != NULL;
}

int state_cluster_put(struct state *s, const struct state_cluster *c, struct vc_error *err)
{
	(void)s;
	(void)err;
	size_t n = strlen(w.phases);
	snprintf(w.phases + n, sizeof(w.phases) - n, "%s ", c->phase);
	return 0;
}
int state_event_add(struct state *s, const struct state_event *e, struct vc_error *err)
{
	(void)s;
	(void)e;
	(void)err;
	return 0;
}
int state_cluster_get(struct state *s, const char *id, state_cluster_fn fn, void *ctx, struct vc_error *err)
{
	(void)s, (void)id, (void)fn, (void)ctx;
	return vc_error_set(err, VC_ENOTFOUND, "no such cluster");
}
int state_vni_free(struct state *s, uint32_t min, uint32_t max, uint32_t *ret, struct vc_error *err)
{
	(void)s;
	(void)max;
	(void)err;
	*ret = min;
	return 0;
}
int state_cluster_last_restart(struct state *s, const char *slurm, uint32_t job, int64_t *ret, struct vc_error *err)
{
	(void)s;
	(void)slurm;
	(void)job;
	(void)err;
	*ret = w.last_restart;
	return 0;
}
int state_cluster_list(struct state *s, bool live, unsigned limit, state_cluster_fn fn, void *ctx, struct vc_error *err)
{
	(void)s;
	(void)live;
	(void)limit;
	(void)fn;
	(void)ctx;
	(void)err;
	return 0;
}

// --- driving -----------------------------------------------------------------------------------------------------------

static int setup(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.last_restart = -1;
	w.job_state = SLURMCTL_CONFIGURING;
	w.conf = (struct conf){.network = "10.42.0.0", .network_prefix = 16, .vni_min = 4096, .vni_max = 5000,
			       .ensure_timeout_ms = 100000, .release_timeout_ms = 10000};
	w.vcd.conf = &w.conf;
	w.vcd.controller = true;
	uv_loop_init(&w.vcd.loop);
	w.clusters = clusters_create(&w.vcd, NULL);
	return w.clusters ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	clusters_stop(w.clusters);
	uv_run(&w.vcd.loop, UV_RUN_DEFAULT);
	clusters_destroy(w.clusters);
	for (size_t i = 0; i < w.n_calls; i++)
		free(w.calls[i].params);
	for (size_t i = 0; i < w.n_jobs; i++) {
		if (w.jobs[i].used)
			w.jobs[i].args.release(w.jobs[i].args.ctx);
	}
	return uv_loop_close(&w.vcd.loop);
}

static int call_method(const char *name, struct rpc_request *req, const char *params)
{
	req->params = vc_json_parse(params, strlen(params), NULL);
	assert_non_null(req->params);
	for (size_t i = 0; i < w.n_methods; i++) {
		if (strcmp(w.methods[i].name, name) == 0)
			return w.methods[i].handler(req, w.methods_ctx, &req->err);
	}
	fail_msg("no method %s", name);
	return -1;
}

static void clear_request(struct rpc_request *req)
{
	json_object_put(req->params);
	json_object_put(req->result);
}
#define autorequest __attribute__((cleanup(clear_request))) struct rpc_request

// Lets the worker do its newest job.
static void run_work(void)
{
	struct work_job *job = &w.jobs[w.n_jobs - 1];
	struct vc_error err = VC_ERROR_INIT;
	assert_true(job->used && !job->canceled);
	int rc = job->args.run(job->args.ctx, &err);
	job->used = false;
	job->args.done(job->args.ctx, rc < 0 ? &err : NULL);
	job->args.release(job->args.ctx);
}

// Answers every open call of a method; with a message all fail, or only the host named.
static size_t answer_calls(const char *method, const char *fail_host, const char *message)
{
	size_t answered = 0;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, w.fail_code ? w.fail_code : VC_EUSER, "%s", message ? message : "");
	for (size_t i = 0; i < w.n_calls; i++) {
		struct peer_call *call = &w.calls[i];
		if (!call->used || call->canceled || strcmp(call->method, method) != 0)
			continue;
		call->used = false;
		answered++;
		vc_autojson struct json_object *result = w.answer ? json_tokener_parse(w.answer) : NULL;
		call->args.done(call->args.ctx, result, fail_host && strcmp(fail_host, call->host) == 0 ? &err : NULL);
	}
	return answered;
}

#define ENSURE "{\"slurm\":\"lab\",\"job\":7,\"restart\":0,\"spec\":\"" SPEC "\"}"
#define SPEC "{\\\"v\\\":1,\\\"image\\\":\\\"mpich\\\",\\\"vms\\\":2}"

static const char *result_str(const struct rpc_request *req, const char *key)
{
	const char *s = "";
	assert_int_equal(req->replies, 1);
	if (req->result)
		vc_json_str_opt(req->result, key, 4096, &s, NULL);
	return s;
}

static void start_to_ready(struct rpc_request *req)
{
	assert_int_equal(call_method("job.ensure", req, ENSURE), 0);
	run_work();
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 2);
	assert_int_equal(answer_calls("host.boot", NULL, NULL), 2);
	assert_int_equal(req->replies, 0);
	assert_int_equal(answer_calls("host.view", NULL, NULL), 2);
}

// --- tests -------------------------------------------------------------------------------------------------------------

static void test_ready_and_release(void **state)
{
	(void)state;
	autorequest ensure = {0}, again = {0}, release = {0}, twice = {0};
	start_to_ready(&ensure);
	assert_string_equal(result_str(&ensure, "state"), "ready");
	assert_string_equal(w.phases, "waiting loading building preparing booting forming forming staging ready ");
	assert_int_equal(call_method("job.ensure", &again, ENSURE), 0); // idempotent
	assert_string_equal(result_str(&again, "state"), "ready");
	assert_int_equal(call_method("job.release", &release, ENSURE), 0);
	assert_int_equal(release.replies, 0);
	assert_int_equal(w.held, 1);
	assert_int_equal(answer_calls("host.release", NULL, NULL), 2);
	assert_int_equal(w.held, 0);
	assert_int_equal(release.replies, 1);
	assert_int_equal(release.err.code, 0);
	assert_int_equal(call_method("job.release", &twice, ENSURE), 0);
	assert_int_equal(twice.replies, 1);
}

static void tell_progress(const char *host, const char *text)
{
	vc_autojson struct json_object *params = json_tokener_parse(text);
	for (size_t i = 0; i < w.n_calls; i++) {
		struct peer_call *call = &w.calls[i];
		if (call->used && !call->canceled && strcmp(call->host, host) == 0)
			call->args.notify(call->args.ctx, "host.progress", params);
	}
}

// The text of a member of what cluster.show tells.
static const char *shown(const char *key)
{
	static char text[4096];
	struct json_object *value = NULL;
	autorequest show = {0};
	assert_int_equal(call_method("cluster.show", &show, "{\"job\":7}"), 0);
	assert_true(json_object_object_get_ex(show.result, key, &value));
	snprintf(text, sizeof(text), "%s", json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
	return text;
}

static void let_time_pass(uint64_t ms)
{
	uint64_t end = uv_now(&w.vcd.loop) + ms;
	while (uv_now(&w.vcd.loop) < end)
		uv_update_time(&w.vcd.loop);
}

static uint64_t sum_of(struct json_object *stages)
{
	uint64_t sum = 0, ms;
	for (size_t i = 0; i < json_object_array_length(stages); i++) {
		assert_int_equal(vc_json_u64(json_object_array_get_idx(stages, i), "ms", UINT32_MAX, &ms, NULL), 0);
		sum += ms;
	}
	return sum;
}

static void test_progress_and_stages(void **state)
{
	(void)state;
	autorequest ensure = {0}, show = {0};
	struct json_object *stages = NULL, *hosts = NULL;
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE), 0);
	let_time_pass(3);
	run_work();
	tell_progress("n1", "{\"phase\":\"image\",\"held\":5,\"total\":10,\"rate\":1000}");
	tell_progress("n2", "{\"phase\":\"image\",\"held\":9,\"total\":10,\"rate\":500}");
	assert_string_equal(shown("transfer"), "{\"hosts_done\":0,\"hosts\":2,\"rate\":1500,\"slowest\":\"n1\",\"slowest_percent\":50}");
	tell_progress("n2", "{\"phase\":\"image\",\"held\":10,\"total\":10}");
	assert_string_equal(shown("transfer"), "{\"hosts_done\":1,\"hosts\":2,\"rate\":1000,\"slowest\":\"n1\",\"slowest_percent\":50}");
	let_time_pass(20);
	w.answer = "{\"stages\":[{\"stage\":\"transfer\",\"ms\":12},{\"stage\":\"publish\",\"ms\":2}]}";
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 2);
	let_time_pass(4);
	assert_int_equal(answer_calls("host.boot", NULL, NULL), 2);
	assert_int_equal(answer_calls("host.view", NULL, NULL), 2);
	assert_int_equal(call_method("cluster.show", &show, "{\"job\":7}"), 0);
	assert_true(json_object_object_get_ex(show.result, "stages", &stages) && json_object_object_get_ex(show.result, "hosts", &hosts));
	assert_contains(json_object_to_json_string_ext(stages, JSON_C_TO_STRING_PLAIN), "{\"stage\":\"transfer\",\"ms\":12},{\"stage\":\"publish\",\"ms\":2}");
	assert_in_range(sum_of(stages), 27, 10000);
	for (size_t i = 0; i < 2; i++) {
		struct json_object *of_host = NULL;
		assert_true(json_object_object_get_ex(json_object_array_get_idx(hosts, i), "stages", &of_host));
		assert_int_equal(sum_of(of_host), sum_of(stages));
	}
}

// A requeue counts up before EpilogSlurmctld runs.
static void test_release_of_next_run(void **state)
{
	(void)state;
	autorequest ensure = {0}, release = {0};
	start_to_ready(&ensure);
	assert_int_equal(call_method("job.release", &release, "{\"slurm\":\"lab\",\"job\":7,\"restart\":1}"), 0);
	assert_int_equal(answer_calls("host.release", NULL, NULL), 2);
}

static void ask_whether_suspended(bool suspended)
{
	autorequest changed = {0};
	w.job_suspended = suspended;
	assert_int_equal(call_method("job.changed", &changed, "{\"job\":7}"), 0);
	assert_int_equal(changed.replies, 1);
	run_work();
}

static void assert_paused(bool pause)
{
	assert_contains(w.calls[w.n_calls - 1].params, pause ? "\"pause\":true" : "\"pause\":false");
}

static void test_suspension(void **state)
{
	(void)state;
	autorequest ensure = {0};
	start_to_ready(&ensure);
	w.job_state = SLURMCTL_RUNNING;
	ask_whether_suspended(false);
	assert_int_equal(answer_calls("host.pause", NULL, NULL), 0);
	ask_whether_suspended(true);
	assert_paused(true);
	w.job_suspended = false; // while the hosts pause
	assert_int_equal(answer_calls("host.pause", NULL, NULL), 2);
	run_work(); // it looks again
	assert_paused(false);
	assert_int_equal(answer_calls("host.pause", NULL, NULL), 2);
	run_work();
	ask_whether_suspended(true);
	assert_int_equal(answer_calls("host.pause", "n2", "no libvirt"), 2);
	ask_whether_suspended(true); // a host that failed is told again
	assert_paused(true);
	assert_int_equal(answer_calls("host.pause", NULL, NULL), 2);
	run_work();
}

// --no-kill: the job goes on without one of its hosts.
static void test_lost_host_is_told_to_hosts(void **state)
{
	(void)state;
	autorequest ensure = {0}, changed = {0};
	autorequest before = {.caller = {.peer = true, .host = "n2"}}, after = {.caller = {.peer = true, .host = "n2"}};
	char ask[128];
	start_to_ready(&ensure);
	snprintf(ask, sizeof(ask), "{\"cluster\":\"%s\",\"version\":1}", result_str(&ensure, "cluster"));
	assert_int_equal(call_method("cluster.host", &before, ask), 0);
	assert_contains(vc_json_text(before.result, NULL), "\"stays\":true");
	w.job_state = SLURMCTL_RUNNING;
	w.job_hosts = 1;
	assert_int_equal(call_method("job.changed", &changed, "{\"job\":7}"), 0);
	run_work();
	const char *fact = w.calls[w.n_calls - 1].params; // the hosts make the view of it
	assert_contains(fact, "\"hosts\":[\"n2\"]");
	assert_int_equal(call_method("cluster.host", &after, ask), 0); // its vcd may live: it does not come back
	assert_contains(vc_json_text(after.result, NULL), "\"stays\":false");
	assert_int_equal(answer_calls("member.fact", NULL, NULL), 2);
	assert_int_equal(answer_calls("host.view", NULL, NULL), 0);
}

static void test_concurrent_ensures_join(void **state)
{
	(void)state;
	autorequest first = {0}, second = {0};
	assert_int_equal(call_method("job.ensure", &first, ENSURE), 0);
	assert_int_equal(call_method("job.ensure", &second, ENSURE), 0);
	assert_int_equal(w.n_jobs, 1); // one start, not two
	run_work();
	answer_calls("host.prepare", NULL, NULL);
	answer_calls("host.boot", NULL, NULL);
	answer_calls("host.view", NULL, NULL);
	assert_string_equal(result_str(&first, "state"), "ready");
	assert_string_equal(result_str(&second, "state"), "ready");
}

static void test_host_failure(void **state)
{
	(void)state;
	autorequest ensure = {0}, release = {0};
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE), 0);
	run_work();
	answer_calls("host.prepare", NULL, NULL);
	answer_calls("host.boot", "n2", "the guest did not boot");
	assert_int_equal(ensure.replies, 0); // first the hosts are cleaned and told
	assert_int_equal(answer_calls("host.release", NULL, NULL), 2);
	assert_int_equal(answer_calls("host.fail", NULL, NULL), 2);
	assert_string_equal(result_str(&ensure, "state"), "failed");
	assert_string_equal(result_str(&ensure, "reason"), "host n2: the guest did not boot");
	assert_int_equal(call_method("job.release", &release, ENSURE), 0);
	assert_int_equal(answer_calls("host.release", NULL, NULL), 2);
	assert_int_equal(release.replies, 1);
}

// A vcd that is killed during a step breaks the call; the step is repeated on all hosts.
static void test_host_away_for_a_moment(void **state)
{
	(void)state;
	autorequest ensure = {0};
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE), 0);
	run_work();
	w.fail_code = VC_EHOST;
	answer_calls("host.prepare", "n2", "the session broke");
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 0); // after a moment, not at once
	uint64_t end = uv_hrtime() + 10 * 1000000000ull;
	while (w.calls[w.n_calls - 1].used == false && uv_hrtime() < end)
		uv_run(&w.vcd.loop, UV_RUN_ONCE);
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 2);
	answer_calls("host.boot", NULL, NULL);
	answer_calls("host.view", NULL, NULL);
	assert_string_equal(result_str(&ensure, "state"), "ready");
}

static void test_user_mistakes(void **state)
{
	(void)state;
	static const struct {
		const char *spec, *reason;
		bool het;
	} rows[] = {
		{"{\\\"v\\\":1,\\\"image\\\":\\\"nosuch\\\"}", "no image 'nosuch'", false},
		{"{\\\"v\\\":1,\\\"image\\\":\\\"mpich\\\",\\\"mem_mib\\\":900,\\\"vms\\\":2}", "Slurm allocated 1000 MiB", false},
		{"{\\\"v\\\":1}", "image", false},
		{"garbage", "JSON", false},
		{SPEC, "heterogeneous", true},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		char params[512];
		autorequest ensure = {0};
		w.job_het = rows[i].het;
		snprintf(params, sizeof(params), "{\"slurm\":\"lab\",\"job\":%zu,\"restart\":0,\"spec\":\"%s\"}", i + 100, rows[i].spec);
		assert_int_equal(call_method("job.ensure", &ensure, params), 0);
		run_work();
		answer_calls("host.release", NULL, NULL);
		answer_calls("host.fail", NULL, NULL);
		assert_string_equal(result_str(&ensure, "state"), "failed");
		assert_contains(result_str(&ensure, "reason"), rows[i].reason);
		assert_int_equal(answer_calls("host.prepare", NULL, NULL), 0);
	}
}

#define MORE "{\\\"v\\\":1,\\\"image\\\":\\\"mpich\\\",\\\"packages\\\":[\\\"jq\\\"]}"
#define ENSURE_MORE "{\"slurm\":\"lab\",\"job\":9,\"restart\":0,\"spec\":\"" MORE "\"}"

static void test_start_waits_for_the_image(void **state)
{
	(void)state;
	struct images_found found = {.trusted = false};
	autorequest ensure = {0};
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE_MORE), 0);
	run_work();
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 0);
	assert_string_equal(w.wish.packages[0], "jq");
	w.wish.progress(w.wish.ctx, "builds the image");
	memset(found.digest, 'e', PLAN_HEX64_LEN);
	w.wish.done(w.wish.ctx, &found, NULL);
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 2);
	assert_contains(w.phases, "building preparing");
	assert_int_equal(w.wishes_canceled, 0);
}

static void test_an_image_that_cannot_be_built_fails_the_job(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	autorequest ensure = {0};
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE_MORE), 0);
	run_work();
	vc_error_set(&err, VC_EUSER, "E: Unable to locate package jq");
	w.wish.done(w.wish.ctx, NULL, &err);
	answer_calls("host.release", NULL, NULL);
	answer_calls("host.fail", NULL, NULL);
	assert_string_equal(result_str(&ensure, "state"), "failed");
	assert_contains(result_str(&ensure, "reason"), "Unable to locate package jq");
}

static void test_scancel_during_a_build(void **state)
{
	(void)state;
	autorequest ensure = {0}, release = {0};
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE_MORE), 0);
	run_work();
	assert_int_equal(call_method("job.release", &release, ENSURE_MORE), 0);
	assert_int_equal(w.wishes_canceled, 1);
	answer_calls("host.release", NULL, NULL);
	assert_int_equal(release.replies, 1);
}

static void test_scancel_during_boot(void **state)
{
	(void)state;
	autorequest ensure = {0}, release = {0};
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE), 0);
	run_work();
	answer_calls("host.prepare", NULL, NULL);
	ensure.cancel(&ensure, ensure.cancel_ctx); // slurmctld kills vc-prolog
	assert_int_equal(ensure.replies, 1);
	w.job_state = SLURMCTL_ENDING;
	run_work(); // the look at the job's state
	size_t boots = answer_calls("host.boot", NULL, NULL);
	assert_int_equal(boots, 0); // canceled
	assert_int_equal(call_method("job.release", &release, ENSURE), 0);
	assert_int_equal(answer_calls("host.release", NULL, NULL), 2);
	assert_int_equal(release.replies, 1);
}

static void test_lost_prolog_but_job_lives(void **state)
{
	(void)state;
	autorequest ensure = {0}, again = {0};
	assert_int_equal(call_method("job.ensure", &ensure, ENSURE), 0);
	run_work();
	ensure.cancel(&ensure, ensure.cancel_ctx); // slurmctld restarts
	run_work();
	answer_calls("host.prepare", NULL, NULL);
	assert_int_equal(call_method("job.ensure", &again, ENSURE), 0); // it repeats the call, which joins
	answer_calls("host.boot", NULL, NULL);
	answer_calls("host.view", NULL, NULL);
	assert_string_equal(result_str(&again, "state"), "ready");
}

static void test_restart_waits_for_older(void **state)
{
	(void)state;
	autorequest first = {0}, second = {0}, late = {0};
	start_to_ready(&first);
	w.job_restart = 1;
	static const char requeued[] = "{\"slurm\":\"lab\",\"job\":7,\"restart\":1,\"spec\":\"" SPEC "\"}";
	assert_int_equal(call_method("job.ensure", &second, requeued), 0);
	assert_int_equal(w.n_jobs, 1); // it does not start before the old one is gone
	assert_int_equal(answer_calls("host.release", NULL, NULL), 2);
	assert_int_equal(w.n_jobs, 2);
	run_work();
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 2);
	w.last_restart = 1;
	assert_int_equal(call_method("job.ensure", &late, ENSURE), -1);
	assert_int_equal(late.err.code, VC_ESTALE);
}

static void test_dead_host_does_not_hold_the_epilog(void **state)
{
	(void)state;
	autorequest ensure = {0}, release = {0};
	start_to_ready(&ensure);
	assert_int_equal(call_method("job.release", &release, ENSURE), 0);
	assert_int_equal(answer_calls("host.release", "n2", "no route"), 2);
	assert_int_equal(release.replies, 1);
	assert_contains(release.err.text, "n2");
}

// The view that the hosts agreed on: only theirs, only a newer one.
static void test_hosts_tell_their_view(void **state)
{
	(void)state;
	autorequest ensure = {0}, liar = {.caller = {.peer = true, .host = "n9"}}, event = {.caller = {.peer = true, .host = "n1"}},
		    late = {.caller = {.peer = true, .host = "n2"}}, show = {0}, other = {.caller = {.uid = 2002}};
	start_to_ready(&ensure);
	call_method("cluster.show", &show, "{\"job\":7}");
	struct json_object *first = NULL;
	assert_int_equal(vc_json_obj(show.result, "view", &first, NULL), 0);
	view_auto struct view *view = view_from_json(first, NULL);
	struct view_event gone = {.kind = VIEW_FAIL, .rank = 1};
	view_auto struct view *next = view_apply(view, &gone, 1, NULL);
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "cluster", result_str(&ensure, "cluster"));
	vc_json_add(params, "view", view_to_json(next));
	vc_json_add(params, "gone", vc_json_parse("[\"n2\"]", 6, NULL));
	w.conf.report_dead = true;
	const char *text = vc_json_text(params, NULL);
	assert_int_equal(call_method("event.view", &liar, text), -1);
	assert_int_equal(liar.err.code, VC_EDENIED);
	assert_int_equal(call_method("event.view", &event, text), 0);
	assert_int_equal(call_method("event.view", &late, text), 0); // the same again is nothing new
	autorequest again = {0};
	assert_int_equal(call_method("cluster.show", &again, "{\"job\":7}"), 0);
	text = vc_json_text(again.result, NULL);
	assert_contains(text, "\"epoch\":2");
	run_work();
	assert_string_equal(w.node_down, "n2"); // once, although two hosts told
	assert_contains(text, "\"state\":\"gone\"");
	assert_null(strstr(text, "secret"));
	assert_int_equal(call_method("cluster.show", &other, "{\"job\":7}"), -1);
	assert_int_equal(other.err.code, VC_EDENIED);
}

static void test_member_event(void **state)
{
	(void)state;
	autorequest ensure = {0}, event = {.caller = {.peer = true, .host = "n1"}}, liar = {.caller = {.peer = true, .host = "n2"}};
	start_to_ready(&ensure);
	char params[256];
	snprintf(params, sizeof(params), "{\"cluster\":\"%s\",\"rank\":1,\"event\":\"down\",\"reason\":\"crashed\"}",
		 result_str(&ensure, "cluster"));
	assert_int_equal(call_method("event.member", &liar, params), -1);
	assert_int_equal(liar.err.code, VC_EDENIED);
	assert_int_equal(call_method("event.member", &event, params), 0);
	assert_int_equal(answer_calls("host.view", NULL, NULL), 0); // the view is the hosts' to make
}

// --- growing and shrinking ---------------------------------------------------------------------------------------------

// What a host of the cluster tells: the view of the plan as it is now, in which some members are in this state.
static void tell_view(uint64_t epoch, uint32_t first, const char *state_name, const char *gone)
{
	autorequest show = {0}, event = {.caller = {.peer = true, .host = "n1"}};
	struct json_object *plan = NULL, *list = NULL;
	assert_int_equal(call_method("cluster.show", &show, "{\"job\":7}"), 0);
	assert_int_equal(vc_json_obj(show.result, "plan", &plan, NULL), 0);
	assert_int_equal(vc_json_array(plan, "members", 100, &list, NULL), 0);
	view_auto struct view *view = view_create(result_str(&show, "cluster"), 7, NULL);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		const char *name, *addr, *host;
		assert_int_equal(vc_json_str(m, "name", 63, &name, NULL) | vc_json_str(m, "addr", 15, &addr, NULL) | vc_json_str(m, "host", 63, &host, NULL), 0);
		struct view_member vm = {.rank = (uint32_t)i, .incarnation = 1, .slots = 1, .site = "default", .state = VIEW_ACTIVE};
		snprintf(vm.name, sizeof(vm.name), "%s", name);
		snprintf(vm.addr, sizeof(vm.addr), "%s", addr);
		snprintf(vm.host, sizeof(vm.host), "%s", host);
		for (int k = 0; i >= first && k < VIEW_STATES; k++)
			vm.state = strcmp(view_state_name((enum view_state)k), state_name) == 0 ? (enum view_state)k : vm.state;
		assert_int_equal(view_add(view, &vm, NULL), 0);
	}
	assert_int_equal(view_seal(view, epoch, NULL), 0);
	vc_autojson struct json_object *params = json_object_new_object(), *names = json_object_new_array();
	if (gone)
		json_object_array_add(names, json_object_new_string(gone));
	vc_json_add_str(params, "cluster", result_str(&show, "cluster"));
	vc_json_add(params, "view", view_to_json(view));
	vc_json_add(params, "gone", json_object_get(names));
	assert_int_equal(call_method("event.view", &event, vc_json_text(params, NULL)), 0);
}

static void turn(void)
{
	uv_run(&w.vcd.loop, UV_RUN_NOWAIT);
}

#define GROW "{\"job\":7,\"lease\":5,\"from\":8}"

static void grow_to_held(struct rpc_request *grow)
{
	assert_int_equal(call_method("cluster.grow", grow, GROW), 0);
	run_work();
	turn();
	assert_contains(w.calls[w.n_calls - 1].params, "\"lease\":5");
	assert_int_equal(answer_calls("host.prepare", NULL, NULL), 1); // n3's alone
	assert_int_equal(answer_calls("host.boot", NULL, NULL), 1);
	assert_int_equal(answer_calls("host.plan", "n2", "no answer"), 3); // who does not hear it asks later
	assert_int_equal(answer_calls("host.join", NULL, NULL), 1);
	tell_view(2, 4, "joining", NULL);
	turn();
	assert_int_equal(grow->replies, 0);
	tell_view(3, 4, "active", NULL);
	turn();
}

static void test_grow_and_shrink(void **state)
{
	(void)state;
	autorequest ensure = {0}, grow = {0}, again = {0}, shrink = {0}, host = {.caller = {.peer = true, .host = "n3"}}, release = {0};
	autorequest after = {.caller = {.peer = true, .host = "n3"}};
	char ask[128];
	start_to_ready(&ensure);
	snprintf(ask, sizeof(ask), "{\"cluster\":\"%s\",\"version\":1}", result_str(&ensure, "cluster"));
	grow_to_held(&grow);
	assert_int_equal(grow.replies, 1);
	assert_int_equal(grow.err.code, 0);
	assert_int_equal(grow_state(w.clusters, 7, 5), GROW_HELD);
	assert_int_equal(call_method("cluster.grow", &again, GROW), 0); // it is there
	run_work();
	assert_int_equal(again.replies, 0);
	turn();
	assert_int_equal(again.err.code, 0);
	assert_int_equal(call_method("cluster.host", &host, ask), 0);
	assert_contains(vc_json_text(host.result, NULL), "\"stays\":true,\"plan\"");

	assert_int_equal(call_method("cluster.shrink", &shrink, "{\"job\":7,\"lease\":5,\"deadline_ms\":60000}"), 0);
	turn();
	assert_contains(w.calls[w.n_calls - 1].params, "\"limit_ms\":");
	assert_int_equal(answer_calls("member.fact", NULL, NULL), 0); // not before the deadline, nor while tasks run there
	autorequest at_once = {0};
	assert_int_equal(call_method("cluster.shrink", &at_once, "{\"job\":7,\"lease\":5}"), 0);
	turn();
	assert_int_equal(answer_calls("member.fact", NULL, NULL), 3);
	tell_view(4, 4, "gone", "n3");
	assert_int_equal(answer_calls("host.release", NULL, NULL), 1);
	assert_int_equal(answer_calls("host.plan", NULL, NULL), 2);
	assert_int_equal(shrink.replies, 1);
	assert_int_equal(at_once.err.code, 0);
	assert_int_equal(grow_state(w.clusters, 7, 5), GROW_NONE);
	assert_int_equal(call_method("cluster.host", &after, ask), 0);
	assert_contains(vc_json_text(after.result, NULL), "\"stays\":false");
	assert_int_equal(call_method("job.release", &release, ENSURE), 0);
	assert_int_equal(answer_calls("host.release", NULL, NULL), 2); // n3 may be another's
}

// What cannot come in is undone before it is told, and the hosts that are there have not heard of it but for the plan.
static void test_grow_fails(void **state)
{
	(void)state;
	autorequest ensure = {0}, grow = {0}, canceled = {0}, shrink = {0};
	start_to_ready(&ensure);
	assert_int_equal(call_method("cluster.grow", &grow, GROW), 0);
	run_work();
	turn();
	assert_int_equal(answer_calls("host.prepare", "n3", "no space on its disk"), 1);
	assert_int_equal(grow.replies, 0);
	assert_int_equal(answer_calls("host.release", NULL, NULL), 1);
	assert_int_equal(answer_calls("host.plan", NULL, NULL), 2);
	assert_int_equal(grow.replies, 1);
	assert_contains(grow.err.text, "host n3: no space on its disk");
	assert_int_equal(call_method("cluster.grow", &canceled, GROW), 0); // the same lease once more, then its end comes first
	run_work();
	turn();
	assert_int_equal(call_method("cluster.shrink", &shrink, "{\"job\":7,\"lease\":5,\"reason\":\"preempted\"}"), 0);
	turn();
	assert_contains(canceled.err.text, "preempted");
	assert_int_equal(answer_calls("host.release", NULL, NULL), 1);
	assert_int_equal(answer_calls("host.plan", NULL, NULL), 2);
	assert_int_equal(shrink.replies, 1);
}

static void test_cluster_ends_while_it_grows(void **state)
{
	(void)state;
	autorequest ensure = {0}, grow = {0}, release = {0};
	start_to_ready(&ensure);
	assert_int_equal(call_method("cluster.grow", &grow, GROW), 0);
	run_work();
	turn();
	assert_int_equal(call_method("job.release", &release, ENSURE), 0);
	assert_int_equal(grow.err.code, VC_ECANCELED);
	assert_int_equal(answer_calls("host.release", NULL, NULL), 3);
	assert_int_equal(release.replies, 1);
}

int main(void)
{
	if (sodium_init() < 0)
		return 1;
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_ready_and_release), T(test_progress_and_stages), T(test_concurrent_ensures_join), T(test_host_failure), T(test_host_away_for_a_moment), T(test_user_mistakes),
		T(test_release_of_next_run), T(test_suspension), T(test_lost_host_is_told_to_hosts),
		T(test_start_waits_for_the_image), T(test_an_image_that_cannot_be_built_fails_the_job), T(test_scancel_during_a_build),
		T(test_scancel_during_boot), T(test_lost_prolog_but_job_lives), T(test_restart_waits_for_older),
		T(test_dead_host_does_not_hold_the_epilog), T(test_hosts_tell_their_view), T(test_member_event),
		T(test_grow_and_shrink), T(test_grow_fails), T(test_cluster_ends_while_it_grows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
