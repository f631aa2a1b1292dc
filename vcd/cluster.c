// SPDX-License-Identifier: GPL-2.0-or-later
// One cluster's life on the controller: a table of phases, each entered by one function and left by its outcome.
//
// A phase's work is one fan-out to the hosts or one job in a worker; its end calls step_ok() or cluster_fail().
// cluster_release() wins over both. Nothing here blocks.
#include "vcd/cluster_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/fanout.h"
#include "vcd/fault.h"
#include "vcd/images.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define SLURMCTL_TIMEOUT_MS 60000 // slurmctld's own MessageTimeout is at most this on real sites
#define TELL_TIMEOUT_MS 10000	  // host.fail: a host that does not hear it asks the controller later
#define STEP_TRIES_MAX 5		  // a vcd that is restarted is back after one or two
#define STEP_RETRY_MS 2000		  // between them
#define RELEASE_RETRY_MS 15000	  // a host that was away when its cluster ended

static int enter_waiting(struct cluster *c, struct vc_error *err);
static int enter_loading(struct cluster *c, struct vc_error *err);
static int enter_looking(struct cluster *c, struct vc_error *err);
static int enter_building(struct cluster *c, struct vc_error *err);
static int enter_preparing(struct cluster *c, struct vc_error *err);
static int enter_booting(struct cluster *c, struct vc_error *err);
static int enter_forming(struct cluster *c, struct vc_error *err);
static int enter_staging(struct cluster *c, struct vc_error *err);
static int enter_ready(struct cluster *c, struct vc_error *err);
static int enter_failing(struct cluster *c, struct vc_error *err);
static int enter_telling(struct cluster *c, struct vc_error *err);
static int enter_failed(struct cluster *c, struct vc_error *err);
static int enter_releasing(struct cluster *c, struct vc_error *err);
static int enter_released(struct cluster *c, struct vc_error *err);

// A phase whose `next` is itself stays until something from outside ends it.
// stage: the one of the start with which it ends.
static const struct {
	const char *name;
	int (*enter)(struct cluster *c, struct vc_error *err);
	enum cluster_phase next;
	enum start_stage stage;
} phases[CLUSTER_PHASES] = {
	[CLUSTER_WAITING] = {"waiting", enter_waiting, CLUSTER_LOADING, START_RESOLVE},
	[CLUSTER_LOADING] = {"loading", enter_loading, CLUSTER_LOOKING, START_RESOLVE},
	[CLUSTER_LOOKING] = {"looking", enter_looking, CLUSTER_BUILDING, START_RESOLVE},
	[CLUSTER_BUILDING] = {"building", enter_building, CLUSTER_PREPARING, START_BUILD},
	[CLUSTER_PREPARING] = {"preparing", enter_preparing, CLUSTER_BOOTING, START_DEFINE},
	[CLUSTER_BOOTING] = {"booting", enter_booting, CLUSTER_FORMING, START_BOOT},
	[CLUSTER_FORMING] = {"forming", enter_forming, CLUSTER_STAGING, START_FORM},
	[CLUSTER_STAGING] = {"staging", enter_staging, CLUSTER_READY, START_FORM},
	[CLUSTER_READY] = {"ready", enter_ready, CLUSTER_READY, START_STAGES},
	[CLUSTER_FAILING] = {"failing", enter_failing, CLUSTER_TELLING, START_STAGES},
	[CLUSTER_TELLING] = {"telling", enter_telling, CLUSTER_FAILED, START_STAGES},
	[CLUSTER_FAILED] = {"failed", enter_failed, CLUSTER_FAILED, START_STAGES},
	[CLUSTER_RELEASING] = {"releasing", enter_releasing, CLUSTER_RELEASED, START_STAGES},
	[CLUSTER_RELEASED] = {"released", enter_released, CLUSTER_RELEASED, START_STAGES},
};

const char *cluster_phase_name(enum cluster_phase phase)
{
	return phases[phase].name;
}

int cluster_phase_from_name(const char *name, enum cluster_phase *ret)
{
	for (int i = 0; i < CLUSTER_PHASES; i++) {
		if (strcmp(phases[i].name, name) == 0) {
			*ret = (enum cluster_phase)i;
			return 0;
		}
	}
	return -1;
}

bool cluster_starting(const struct cluster *c)
{
	return c->phase < CLUSTER_READY || c->phase == CLUSTER_FAILING || c->phase == CLUSTER_TELLING;
}

struct vc_log_ctx cluster_log(const struct cluster *c)
{
	return (struct vc_log_ctx){.job = c->key_text, .trace = c->trace};
}

#define log_cluster(level, c, ...)                                  \
	do {                                                        \
		const struct vc_log_ctx log_ctx_ = cluster_log(c);  \
		vc_log_ctx(level, &log_ctx_, __VA_ARGS__);          \
	} while (0)

static uint64_t loop_ms(const struct cluster *c)
{
	return uv_now(&c->owner->vcd->loop);
}

static void closed_timer(uv_handle_t *handle)
{
	free(handle);
}

struct cluster *cluster_create(struct clusters *cs, const struct plan_key *key, const char *spec_text, struct vc_error *err)
{
	struct cluster *c = calloc(1, sizeof(*c));
	uv_timer_t *timer = calloc(1, sizeof(*timer)), *retry = calloc(1, sizeof(*retry));
	char *text = strdup(spec_text);
	uint8_t id[PLAN_ID_LEN / 2], trace[8];
	if (!c || !timer || !retry || !text) {
		free(c);
		free(timer);
		free(retry);
		free(text);
		vc_error_errno(err, "job %u", key->job);
		return NULL;
	}
	randombytes_buf(id, sizeof(id));
	randombytes_buf(trace, sizeof(trace));
	sodium_bin2hex(c->id, sizeof(c->id), id, sizeof(id));
	sodium_bin2hex(c->trace, sizeof(c->trace), trace, sizeof(trace));
	c->owner = cs;
	c->key = *key;
	c->uid = (uid_t)-1; // nobody's until slurmctld has said whose
	c->spec_text = text;
	plan_key_text(key, c->key_text, sizeof(c->key_text));
	uv_timer_init(&cs->vcd->loop, timer);
	uv_timer_init(&cs->vcd->loop, retry);
	timer->data = retry->data = c;
	c->deadline = timer;
	c->retry = retry;
	c->ensured_ms = c->phase_ms = uv_now(&cs->vcd->loop);
	c->next = cs->list;
	cs->list = c;
	return c;
}

static void stop_work(struct cluster *c)
{
	fanout_cancel(c->fanout);
	c->fanout = NULL;
	free(c->called);
	c->called = NULL;
	fanout_cancel(c->pausing);
	c->pausing = NULL;
	fanout_cancel(c->facts);
	c->facts = NULL;
	cluster_moves_stop(c);
	images_wish_cancel(vc_steal(&c->wish));
	if (c->work)
		work_cancel(c->work);
	c->work = NULL;
	c->checking = false;
	uv_timer_stop(c->deadline);
	uv_timer_stop(c->retry);
}

void cluster_destroy(struct cluster *c)
{
	if (!c)
		return;
	for (struct cluster **p = &c->owner->list; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	stop_work(c);
	grow_end(c, NULL);
	uv_close((uv_handle_t *)c->deadline, closed_timer);
	uv_close((uv_handle_t *)c->retry, closed_timer);
	if (c->plan && c->plan->image_digest[0])
		images_let_go(c->owner->vcd->images, c->plan->image_digest, c->id);
	for (size_t i = 0; i < c->n_hosts; i++)
		free(c->hosts[i].name);
	free(c->hosts);
	plan_destroy(c->plan);
	json_object_put(c->plan_json);
	json_object_put(c->usage);
	json_object_put(c->saved_moves);
	view_destroy(c->view);
	free(c->spec_text);
	free(c);
}

int cluster_set_hosts(struct cluster *c, struct vc_error *err)
{
	struct cluster_host *hosts = calloc(c->plan->n_hosts, sizeof(*hosts));
	if (!hosts)
		return vc_error_errno(err, "hosts");
	c->hosts = hosts;
	for (size_t i = 0; i < c->plan->n_hosts; i++) {
		hosts[i].name = strdup(c->plan->hosts[i].name);
		if (!hosts[i].name)
			return vc_error_errno(err, "hosts");
		c->n_hosts = i + 1;
	}
	return 0;
}

static void host_phase(struct cluster *c, size_t i, const char *phase, const char *reason)
{
	struct cluster_host *h = &c->hosts[i];
	if (strcmp(h->phase, phase) != 0)
		h->since_ms = loop_ms(c);
	snprintf(h->phase, sizeof(h->phase), "%s", phase);
	snprintf(h->reason, sizeof(h->reason), "%s", reason ? reason : "");
}

static void record_event(struct cluster *c)
{
	vc_autojson struct json_object *data = json_object_new_object();
	struct vc_error err = VC_ERROR_INIT;
	vc_json_add_str(data, "phase", cluster_phase_name(c->phase));
	vc_json_add_str(data, "reason", c->reason.text[0] ? c->reason.text : NULL);
	struct state_event e = {.cluster = c->id, .what = "phase", .data = data};
	if (state_event_add(c->owner->vcd->state, &e, &err) < 0)
		log_cluster(VC_LOG_WARNING, c, "event not recorded: %s", err.text);
}

static void enter(struct cluster *c)
{
	struct vc_error err = VC_ERROR_INIT, why = VC_ERROR_INIT;
	bool last_resort = c->phase >= CLUSTER_FAILING; // a failed write must not keep hosts from being cleaned
	if (cluster_save(c, &err) < 0) {
		log_cluster(VC_LOG_ERR, c, "state not saved: %s", err.text);
		if (!last_resort) {
			cluster_fail(c, &err);
			return;
		}
	}
	record_event(c);
	clusters_notify(c);
	if (VC_FAULT(phases[c->phase].name))
		vc_error_set(&why, VC_EFAILED, "fault point %s", phases[c->phase].name);
	if (why.code || phases[c->phase].enter(c, &why) < 0)
		cluster_fail(c, &why);
}

static void account_phase(struct cluster *c, uint64_t ms)
{
	static const struct cluster_host no_host;
	const struct cluster_host *h = c->n_hosts ? &c->hosts[c->last_host] : &no_host;
	if (phases[c->phase].stage != START_STAGES)
		start_times_add(&c->stages, ms, phases[c->phase].stage, &h->told, &h->before);
	for (size_t i = 0; i < c->n_hosts; i++)
		c->hosts[i].before = c->hosts[i].told;
}

static void go_to(struct cluster *c, enum cluster_phase phase)
{
	uint64_t now = loop_ms(c);
	account_phase(c, now - c->phase_ms);
	log_cluster(VC_LOG_INFO, c, "%s after %llu ms in %s", phases[phase].name, (unsigned long long)(now - c->phase_ms),
		    phases[c->phase].name);
	c->phase = phase;
	c->phase_ms = now;
	c->tries = 0;
	if (phase == CLUSTER_READY && !c->start_ms)
		c->start_ms = cluster_elapsed_ms(c);
	enter(c);
}

static void step_ok(struct cluster *c)
{
	enum cluster_phase next = phases[c->phase].next;
	if (next == CLUSTER_LOOKING && !(c->plan && c->plan->spec->stage_in))
		next = phases[next].next;
	go_to(c, next);
}

void cluster_begin(struct cluster *c)
{
	enter(c);
}

void cluster_fail(struct cluster *c, const struct vc_error *err)
{
	log_cluster(VC_LOG_WARNING, c, "failed while %s: %s", phases[c->phase].name, err->text);
	stop_work(c);
	if (c->phase >= CLUSTER_RELEASING)
		return; // the sweep tries a release again
	if (!c->reason.text[0])
		c->reason = *err;
	if (c->phase >= CLUSTER_FAILING) // cleaning up went wrong: the reason stands, the release will try again
		go_to(c, CLUSTER_FAILED);
	else
		go_to(c, CLUSTER_FAILING);
}

void cluster_release(struct cluster *c)
{
	struct vc_error why = VC_ERROR_INIT;
	if (c->phase >= CLUSTER_RELEASING)
		return;
	stop_work(c);
	vc_error_set(&why, VC_ECANCELED, "the virtual cluster of job %u is being released", c->key.job);
	grow_end(c, &why);
	go_to(c, CLUSTER_RELEASING);
}

// --- the start's deadline ------------------------------------------------------------------------------------------

static void start_deadline(uv_timer_t *timer)
{
	struct cluster *c = timer->data;
	struct vc_error err = VC_ERROR_INIT;
	const char *host = "", *what = "", *reason = "";
	for (size_t i = 0; i < c->n_hosts; i++) {
		if (!c->hosts[i].done) {
			host = c->hosts[i].name;
			what = c->hosts[i].phase;
			reason = c->hosts[i].reason;
			break;
		}
	}
	vc_error_set(&err, VC_ETIMEDOUT, "the cluster was not ready within %llu s, while %s%s%s%s%s%s%s (ensure-timeout of vcd.conf)",
		     (unsigned long long)(c->owner->vcd->conf->ensure_timeout_ms / 1000), phases[c->phase].name,
		     host[0] ? ": host " : "", host, what[0] ? " is " : "", what, reason[0] ? ": " : "", reason);
	cluster_fail(c, &err);
}

static uint64_t start_left_ms(const struct cluster *c)
{
	uint64_t limit = c->owner->vcd->conf->ensure_timeout_ms, spent = loop_ms(c) - c->ensured_ms;
	return spent >= limit ? 1 : limit - spent;
}

static void arm_start_deadline(struct cluster *c)
{
	if (!uv_is_active((uv_handle_t *)c->deadline))
		uv_timer_start(c->deadline, start_deadline, start_left_ms(c), 0);
}

// --- waiting, loading ----------------------------------------------------------------------------------------------

static int enter_waiting(struct cluster *c, struct vc_error *err)
{
	(void)err;
	struct cluster *older = clusters_older(c);
	arm_start_deadline(c);
	if (older)
		cluster_release(older); // its end calls cluster_begin() again
	else
		step_ok(c);
	return 0;
}

struct load { // belongs to the worker's job
	struct cluster *cluster;
	struct slurmctl *slurmctl;
	uint32_t job_id;
	struct slurmctl_job *job;
	struct plan_owner owner;
};

static int load_run(void *ctx, struct vc_error *err)
{
	struct load *load = ctx;
	if (slurmctl_load_job(load->slurmctl, load->job_id, &load->job, err) < 0)
		return -1;
	return slurmctl_owner(load->job->uid, load->job->gid, &load->owner, err);
}

static void load_done(void *ctx, const struct vc_error *err)
{
	struct load *load = ctx;
	struct cluster *c = load->cluster;
	struct vc_error why = VC_ERROR_INIT;
	c->work = NULL;
	if (err)
		cluster_fail(c, err);
	else if (clusterplan_make(c, load->job, &load->owner, &why) < 0)
		cluster_fail(c, &why);
	else
		step_ok(c);
}

static void load_release(void *ctx)
{
	struct load *load = ctx;
	struct plan *holder = plan_create(); // frees an owner as plans do
	if (holder) {
		holder->owner = load->owner;
		plan_destroy(holder);
	}
	slurmctl_job_destroy(load->job);
	free(load);
}

static int enter_loading(struct cluster *c, struct vc_error *err)
{
	struct load *load = calloc(1, sizeof(*load));
	if (!load)
		return vc_error_errno(err, "job %u", c->key.job);
	arm_start_deadline(c);
	load->cluster = c;
	load->slurmctl = c->owner->slurmctl;
	load->job_id = c->key.job;
	struct work_args args = {.pool = WORK_GENERAL,
				 .what = "ask slurmctld for the job",
				 .deadline_ms = SLURMCTL_TIMEOUT_MS,
				 .run = load_run,
				 .done = load_done,
				 .release = load_release,
				 .ctx = load};
	if (work_submit(c->owner->vcd->work, &args, &c->work, err) < 0) {
		load_release(load);
		return -1;
	}
	return 0;
}

// --- the image -----------------------------------------------------------------------------------------------------

static void image_is_known(struct cluster *c, const struct images_found *image)
{
	struct vc_error err = VC_ERROR_INIT;
	if (clusterplan_set_image(c, image, &err) < 0)
		cluster_fail(c, &err);
	else
		step_ok(c);
}

static void image_done(void *ctx, const struct images_found *image, const struct vc_error *err)
{
	struct cluster *c = ctx;
	struct vc_error why = VC_ERROR_INIT;
	c->wish = NULL;
	if (image) {
		image_is_known(c, image);
		return;
	}
	vc_error_set(&why, err->code, "image '%s' with --vcluster-packages: %s", c->plan->spec->image, err->text);
	cluster_fail(c, &why);
}

static void image_progress(void *ctx, const char *text)
{
	struct cluster *c = ctx;
	for (size_t i = 0; i < c->n_hosts; i++)
		host_phase(c, i, "waits for the image", text);
	clusters_notify(c);
}

static int enter_building(struct cluster *c, struct vc_error *err)
{
	struct images_found found;
	arm_start_deadline(c);
	if (!c->plan) { // of a controller that was restarted: a plan is saved when it has its image
		go_to(c, CLUSTER_LOADING);
		return 0;
	}
	struct images_wish_args args = {.name = c->plan->spec->image,
					.packages = c->plan->spec->packages,
					.uid = c->plan->owner.uid,
					.done = image_done,
					.progress = image_progress,
					.ctx = c};
	int rc = images_want(c->owner->vcd->images, &args, &found, &c->wish, err);
	if (rc == 0)
		image_is_known(c, &found);
	return rc < 0 ? -1 : 0;
}

// --- steps on the hosts --------------------------------------------------------------------------------------------

// What host.release told; asked twice, a host tells the same again.
static void add_usage(struct cluster *c, struct json_object *result)
{
	struct json_object *list = NULL;
	if (!json_object_object_get_ex(result, "usage", &list) || !json_object_is_type(list, json_type_array))
		return;
	if (!c->usage)
		c->usage = json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		uint32_t rank, known;
		size_t at = 0, n = json_object_array_length(c->usage);
		if (vc_json_u32(item, "rank", VC_MEMBERS_MAX - 1, &rank, NULL) < 0)
			continue;
		while (at < n && vc_json_u32(json_object_array_get_idx(c->usage, at), "rank", UINT32_MAX, &known, NULL) == 0 && known != rank)
			at++;
		if (at == n)
			json_object_array_add(c->usage, json_object_get(item));
	}
}

static void take_stages(struct cluster_host *h, struct json_object *result)
{
	struct json_object *stages = NULL;
	if (json_object_object_get_ex(result, "stages", &stages))
		start_times_from_json(&h->told, stages);
}

static void step_host_done(void *ctx, size_t number, struct json_object *result, const struct vc_error *err)
{
	struct cluster *c = ctx;
	size_t i = c->called[number];
	c->hosts[i].done = !err;
	c->last_host = i;
	if (!err) {
		add_usage(c, result);
		take_stages(&c->hosts[i], result);
	}
	host_phase(c, i, err ? "failed" : "done", err ? err->text : NULL);
	clusters_notify(c);
}

static void step_host_notify(void *ctx, size_t number, const char *method, struct json_object *params)
{
	struct cluster *c = ctx;
	size_t i = c->called[number];
	const char *phase = method, *reason = NULL;
	vc_json_str_opt(params, "phase", 63, &phase, NULL);
	vc_json_str_opt(params, "reason", 255, &reason, NULL);
	(void)vc_json_u64_opt(params, "held", INT64_MAX, &c->hosts[i].held, NULL);
	(void)vc_json_u64_opt(params, "total", INT64_MAX, &c->hosts[i].total, NULL);
	(void)vc_json_u64_opt(params, "rate", INT64_MAX, &c->hosts[i].rate, NULL);
	host_phase(c, i, phase, reason);
	clusters_notify(c);
}

static void retry_step(uv_timer_t *timer)
{
	struct cluster *c = timer->data;
	struct vc_error err = VC_ERROR_INIT;
	if (phases[c->phase].enter(c, &err) < 0)
		cluster_fail(c, &err);
}

// A host whose vcd is restarted, or away for a moment, breaks the call but not the job: steps are idempotent.
static void step_done(void *ctx, const struct vc_error *err)
{
	struct cluster *c = ctx;
	c->fanout = NULL;
	if (!err) {
		step_ok(c);
	} else if (err->code == VC_EHOST && ++c->tries < STEP_TRIES_MAX) {
		log_cluster(VC_LOG_NOTICE, c, "%s: %s; trying again in %d s", phases[c->phase].name, err->text, STEP_RETRY_MS / 1000);
		uv_timer_start(c->retry, retry_step, STEP_RETRY_MS, 0);
	} else {
		cluster_fail(c, err);
	}
}

static int call_hosts(struct cluster *c, const char *method, struct json_object *params, uint64_t timeout_ms, bool keep_going,
		      void (*done)(void *ctx, const struct vc_error *err), struct vc_error *err)
{
	vc_autofree const char **names = calloc(c->n_hosts + 1, sizeof(*names));
	size_t n = 0;
	free(c->called);
	c->called = calloc(c->n_hosts + 1, sizeof(*c->called));
	if (!names || !c->called)
		return vc_error_errno(err, "%s", method);
	for (size_t i = 0; i < c->n_hosts; i++) {
		if (c->hosts[i].left) // that host may be another's now
			continue;
		c->called[n] = i;
		names[n++] = c->hosts[i].name;
		c->hosts[i].done = false;
		host_phase(c, i, phases[c->phase].name, NULL);
	}
	struct fanout_args args = {.method = method,
				   .hosts = names,
				   .n_hosts = n,
				   .params = params,
				   .timeout_ms = timeout_ms,
				   .trace = c->trace,
				   .keep_going = keep_going,
				   .host_done = step_host_done,
				   .host_notify = step_host_notify,
				   .done = done,
				   .ctx = c};
	c->fanout = fanout_start(c->owner->vcd, &args, err);
	return c->fanout ? 0 : -1;
}

static struct json_object *id_params(const struct cluster *c)
{
	struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "cluster", c->id);
	return params;
}

// A host whose vcd is of an earlier release knows no such method, and says what is missing when it stages.
static void looked(void *ctx, const struct vc_error *err)
{
	step_done(ctx, err && err->code == VC_ENOTFOUND ? NULL : err);
}

// A file that is not there is said before an image is built or a machine started for it.
static int enter_looking(struct cluster *c, struct vc_error *err)
{
	if (!c->plan) { // of a controller that was restarted
		go_to(c, CLUSTER_LOADING);
		return 0;
	}
	vc_autojson struct json_object *params = id_params(c);
	arm_start_deadline(c);
	vc_json_add_str(params, "user", c->plan->owner.user);
	vc_json_add_strv(params, "files", c->plan->spec->stage_in);
	return call_hosts(c, "host.look", params, start_left_ms(c), false, looked, err);
}

static int enter_preparing(struct cluster *c, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	arm_start_deadline(c);
	vc_json_add(params, "plan", json_object_get(c->plan_json));
	return call_hosts(c, "host.prepare", params, start_left_ms(c), false, step_done, err);
}

static int enter_booting(struct cluster *c, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(c);
	arm_start_deadline(c);
	return call_hosts(c, "host.boot", params, start_left_ms(c), false, step_done, err);
}

// View 1 is the plan.
static struct view *first_view(const struct cluster *c, struct vc_error *err)
{
	view_auto struct view *view = view_create(c->id, c->key.job, err);
	for (size_t i = 0; view && i < c->plan->n_members; i++) {
		const struct plan_member *m = &c->plan->members[i];
		struct view_member vm = {.rank = m->rank, .state = VIEW_ACTIVE, .incarnation = 1, .slots = m->slots, .site = "default"};
		snprintf(vm.name, sizeof(vm.name), "%s", m->name);
		snprintf(vm.addr, sizeof(vm.addr), "%s", m->addr);
		snprintf(vm.host, sizeof(vm.host), "%s", c->plan->hosts[m->host].name);
		if (view_add(view, &vm, err) < 0)
			return NULL;
	}
	if (!view || view_seal(view, 1, err) < 0)
		return NULL;
	return vc_steal(&view);
}

static int publish_view(struct cluster *c, bool keep_going, uint64_t timeout_ms,
			void (*done)(void *ctx, const struct vc_error *err), struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(c);
	vc_json_add(params, "view", view_to_json(c->view));
	return call_hosts(c, "host.view", params, timeout_ms, keep_going, done, err);
}

static int enter_forming(struct cluster *c, struct vc_error *err)
{
	arm_start_deadline(c);
	if (!c->view)
		c->view = first_view(c, err);
	if (!c->view || cluster_save(c, err) < 0)
		return -1;
	return publish_view(c, false, start_left_ms(c), step_done, err);
}

static int enter_staging(struct cluster *c, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(c);
	if (!c->plan->spec->stage_in) {
		step_ok(c);
		return 0;
	}
	arm_start_deadline(c);
	vc_json_add_u64(params, "job", c->key.job);
	return call_hosts(c, "host.stage", params, start_left_ms(c), false, step_done, err);
}

static bool host_is_in_view(const struct cluster *c, const char *host)
{
	for (size_t i = 0; i < c->view->n_members; i++) {
		if (c->view->members[i].state != VIEW_GONE && strcmp(c->view->members[i].host, host) == 0)
			return true;
	}
	return false;
}

// For the history: how large the cluster is from now on.
static void record_view(struct cluster *c)
{
	vc_autojson struct json_object *data = json_object_new_object();
	struct state_event e = {.cluster = c->id, .what = "view", .data = data};
	struct vc_error err = VC_ERROR_INIT;
	uint64_t hosts = 0;
	for (size_t i = 0; i < c->plan->n_hosts; i++)
		hosts += host_is_in_view(c, c->plan->hosts[i].name);
	vc_json_add_u64(data, "epoch", c->view->epoch);
	vc_json_add_u64(data, "hosts", hosts);
	vc_json_add_u64(data, "members", view_size(c->view));
	if (state_event_add(c->owner->vcd->state, &e, &err) < 0)
		log_cluster(VC_LOG_WARNING, c, "event not recorded: %s", err.text);
}

static int enter_ready(struct cluster *c, struct vc_error *err)
{
	(void)err;
	record_view(c);
	uv_timer_stop(c->deadline);
	clusters_answer(c);
	grow_begin(c);
	cluster_moves_resume(c);
	return 0;
}

// --- failure -------------------------------------------------------------------------------------------------------

static void ignore_hosts_done(void *ctx, const struct vc_error *err)
{
	struct cluster *c = ctx;
	c->fanout = NULL;
	if (err)
		log_cluster(VC_LOG_WARNING, c, "while %s: %s", phases[c->phase].name, err->text);
	step_ok(c);
}

static int enter_failing(struct cluster *c, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(c);
	if (c->n_hosts == 0) {
		step_ok(c);
		return 0;
	}
	return call_hosts(c, "host.release", params, c->owner->vcd->conf->release_timeout_ms, true, ignore_hosts_done, err);
}

static int enter_telling(struct cluster *c, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	if (c->n_hosts == 0) {
		step_ok(c);
		return 0;
	}
	vc_json_add_str(params, "slurm", c->key.slurm);
	vc_json_add_u64(params, "job", c->key.job);
	vc_json_add_u64(params, "restart", c->key.restart);
	vc_json_add_u64(params, "uid", c->uid);
	vc_json_add_str(params, "reason", c->reason.text);
	return call_hosts(c, "host.fail", params, TELL_TIMEOUT_MS, true, ignore_hosts_done, err);
}

static int enter_failed(struct cluster *c, struct vc_error *err)
{
	(void)err;
	uv_timer_stop(c->deadline);
	clusters_answer(c);
	return 0;
}

// --- release -------------------------------------------------------------------------------------------------------

static void retry_release(uv_timer_t *timer)
{
	struct cluster *c = timer->data;
	struct vc_error err = VC_ERROR_INIT;
	if (!c->fanout && enter_releasing(c, &err) < 0) {
		log_cluster(VC_LOG_WARNING, c, "release: %s", err.text);
		uv_timer_start(c->deadline, retry_release, RELEASE_RETRY_MS, 0);
	}
}

static void release_done(void *ctx, const struct vc_error *err)
{
	struct cluster *c = ctx;
	c->fanout = NULL;
	if (!err) {
		step_ok(c);
		return;
	}
	log_cluster(VC_LOG_WARNING, c, "release: %s; trying again in %d s", err->text, RELEASE_RETRY_MS / 1000);
	c->reason = *err;
	clusters_answer(c); // EpilogSlurmctld does not wait for a dead host
	uv_timer_start(c->deadline, retry_release, RELEASE_RETRY_MS, 0);
}

static int enter_releasing(struct cluster *c, struct vc_error *err)
{
	vc_autojson struct json_object *params = id_params(c);
	if (c->n_hosts == 0) {
		step_ok(c);
		return 0;
	}
	vc_json_add_str(params, "slurm", c->key.slurm); // a host forgets a failure by key
	vc_json_add_u64(params, "job", c->key.job);
	vc_json_add_u64(params, "restart", c->key.restart);
	return call_hosts(c, "host.release", params, c->owner->vcd->conf->release_timeout_ms, true, release_done, err);
}

static int enter_released(struct cluster *c, struct vc_error *err)
{
	(void)err;
	clusters_answer(c);
	clusters_forget(c);
	return 0;
}

// --- the job behind the cluster --------------------------------------------------------------------------------------

static int check_run(void *ctx, struct vc_error *err)
{
	struct load *load = ctx;
	return slurmctl_load_job(load->slurmctl, load->job_id, &load->job, err);
}

static bool job_is_over(const struct cluster *c, const struct slurmctl_job *job)
{
	return job->state >= SLURMCTL_ENDING || job->state == SLURMCTL_PENDING || job->restart > c->key.restart;
}

static bool job_has_host(const struct slurmctl_job *job, const char *name)
{
	for (size_t i = 0; i < job->n_hosts; i++) {
		if (strcmp(job->hosts[i].name, name) == 0)
			return true;
	}
	return false;
}

// All members that it had have moved away: it has a vote all the same.
static bool is_empty(const struct cluster *c, size_t host)
{
	for (size_t i = 0; i < c->plan->n_members; i++) {
		if (c->plan->members[i].host == host)
			return false;
	}
	return true;
}

static void hosts_told(void *ctx, const struct vc_error *err)
{
	struct cluster *c = ctx;
	c->facts = NULL;
	if (err) // the hosts that are left have heard it
		log_cluster(VC_LOG_DEBUG, c, "member.fact: %s", err->text);
}

static void note_taken_hosts(struct cluster *c, const struct slurmctl_job *job)
{
	for (size_t i = 0; c->phase == CLUSTER_READY && job->n_hosts && i < c->n_hosts; i++)
		c->hosts[i].taken = !c->plan->hosts[i].lease && !job_has_host(job, c->hosts[i].name);
}

static bool host_was_dropped(void *ctx, const struct plan_host *host)
{
	const struct cluster *c = ctx;
	int i = plan_host_index(c->plan, host->name);
	return !host->gone && i >= 0 && cluster_host_is_taken(c, (size_t)i) && !host_is_in_view(c, host->name);
}

// Hosts that Slurm took and that the view has let go do not come back: what is left of the cluster there goes (cluster.host).
static void forget_dropped_hosts(struct cluster *c)
{
	struct vc_error err = VC_ERROR_INIT;
	bool some = false;
	for (size_t i = 0; c->phase == CLUSTER_READY && i < c->plan->n_hosts; i++)
		some |= host_was_dropped(c, &c->plan->hosts[i]);
	struct plan *next = some ? plan_shrink(c->plan, host_was_dropped, c, &err) : NULL;
	if (some && (!next || cluster_use_plan(c, next, &err) < 0))
		log_cluster(VC_LOG_WARNING, c, "hosts that Slurm took: %s", err.text); // the sweep tries again
}

// A job may go on with fewer hosts: --no-kill when one has failed, scontrol update. Its hosts make the view.
static void drop_lost_hosts(struct cluster *c, const struct slurmctl_job *job)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *params = json_object_new_object(), *lost = json_object_new_array();
	vc_autofree const char **names = calloc(c->n_hosts + 1, sizeof(*names));
	if (c->phase != CLUSTER_READY || c->facts || !job->n_hosts || !names)
		return;
	for (size_t i = 0; i < c->n_hosts; i++) {
		names[i] = c->hosts[i].name;
		if (c->hosts[i].taken && (host_is_in_view(c, names[i]) || (is_empty(c, i) && !c->hosts[i].gone)))
			json_object_array_add(lost, json_object_new_string(names[i]));
	}
	if (json_object_array_length(lost) == 0)
		return;
	vc_json_add_str(params, "cluster", c->id);
	vc_json_add_str(params, "event", "leave");
	vc_json_add(params, "hosts", json_object_get(lost));
	log_cluster(VC_LOG_NOTICE, c, "Slurm has taken from the job: %s", vc_json_text(lost, NULL));
	struct fanout_args args = {.method = "member.fact", .hosts = names, .n_hosts = c->n_hosts, .params = params,
				   .timeout_ms = TELL_TIMEOUT_MS, .trace = c->trace, .keep_going = true, .done = hosts_told, .ctx = c};
	c->facts = fanout_start(c->owner->vcd, &args, &err);
	if (!c->facts)
		log_cluster(VC_LOG_WARNING, c, "member.fact: %s", err.text);
}

static void check_done(void *ctx, const struct vc_error *err)
{
	struct load *load = ctx;
	struct cluster *c = load->cluster;
	c->work = NULL;
	c->checking = false;
	if (err && err->code != VC_ENOTFOUND)
		return; // slurmctld is away: clusters that run keep running
	if (err || job_is_over(c, load->job)) {
		log_cluster(VC_LOG_NOTICE, c, "its job has ended: releasing");
		cluster_release(c);
		return;
	}
	cluster_follow_suspension(c, load->job->suspended);
	note_taken_hosts(c, load->job);
	drop_lost_hosts(c, load->job);
	forget_dropped_hosts(c);
	if (c->check_again)
		cluster_job_changed(c);
}

void cluster_check_job(struct cluster *c)
{
	struct vc_error err = VC_ERROR_INIT;
	struct load *load = NULL;
	if (c->work || c->checking || c->phase >= CLUSTER_RELEASING || !(load = calloc(1, sizeof(*load))))
		return;
	load->cluster = c;
	load->slurmctl = c->owner->slurmctl;
	load->job_id = c->key.job;
	struct work_args args = {.pool = WORK_GENERAL,
				 .what = "ask slurmctld whether the job is still there",
				 .deadline_ms = SLURMCTL_TIMEOUT_MS,
				 .run = check_run,
				 .done = check_done,
				 .release = load_release,
				 .ctx = load};
	if (work_submit(c->owner->vcd->work, &args, &c->work, &err) < 0) {
		log_cluster(VC_LOG_WARNING, c, "%s", err.text);
		load_release(load);
		return;
	}
	c->checking = true;
}

void cluster_job_changed(struct cluster *c)
{
	c->check_again = c->checking;
	if (!c->checking)
		cluster_check_job(c);
}

// --- views after the first ------------------------------------------------------------------------------------------

// What a host saw; the view that comes of it is the hosts' own (docs/membership.md), and is told by event.view.
int cluster_member_event(struct cluster *c, uint32_t rank, const char *event, const char *reason, struct vc_error *err)
{
	vc_autojson struct json_object *data = json_object_new_object();
	struct state_event e = {.cluster = c->id, .what = "member", .data = data};
	if (c->phase != CLUSTER_READY)
		return 0; // a start that loses a member fails by its own step
	log_cluster(VC_LOG_NOTICE, c, "member %u is %s: %s", rank, event, reason);
	vc_json_add_u64(data, "rank", rank);
	vc_json_add_str(data, "event", event);
	vc_json_add_str(data, "reason", reason);
	return state_event_add(c->owner->vcd->state, &e, err);
}

// Members move by agreement of their hosts.
static void follow_moves(struct cluster *c)
{
	bool moved = false;
	for (size_t i = 0; i < c->plan->n_members; i++) {
		struct plan_member *m = &c->plan->members[i];
		const struct view_member *v = view_member_by_rank(c->view, m->rank);
		int host = v ? plan_host_index(c->plan, v->host) : -1;
		if (host < 0 || (uint32_t)host == m->host)
			continue;
		m->host = (uint32_t)host;
		moved = true;
	}
	if (!moved)
		return;
	json_object_put(c->plan_json);
	c->plan_json = plan_to_json(c->plan);
}

int cluster_take_view(struct cluster *c, struct view **view, struct vc_error *err)
{
	if (strcmp((*view)->cluster, c->id) != 0)
		return vc_error_set(err, VC_EPROTO, "a view of another cluster");
	if (!c->view || (*view)->epoch <= c->view->epoch)
		return 0;
	log_cluster(VC_LOG_NOTICE, c, "view %llu, %zu members of use", (unsigned long long)(*view)->epoch, view_size(*view));
	view_destroy(c->view);
	c->view = vc_steal(view);
	follow_moves(c);
	if (cluster_save(c, err) < 0)
		return -1;
	record_view(c);
	clusters_notify(c);
	return 0;
}
