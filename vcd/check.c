// SPDX-License-Identifier: GPL-2.0-or-later
// Checks: see check.h. A run is one host.check: it waits for its worker checks and then replies; a site run asks all
// hosts and adds what it could not ask.
#include "vcd/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/cred.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define HOST_CHECK_MS (CHECK_TIMEOUT_MS + 10000) // for a whole host, as seen from the site
#define HOST_PING_MS 4000 // connecting included: a host that does not say that it is there by then is not asked more
#define CONTROLLER_PING_MS 10000 // connecting included; it answers within milliseconds
#define SKEW_MAX_MS 5000 // of a clock; credentials of munge live for minutes
#define DISK_FREE_PERCENT 5		 // below it overlays of a running cluster are at risk

struct entry {
	char name[64];
	enum check_thread thread;
	check_fn fn;
	void *ctx;
};

struct check {
	struct vcd *vcd;
	struct entry *entries;
	size_t n;
	int (*hosts)(void *ctx, char ***ret, struct vc_error *err);
	void *hosts_ctx;
};

struct check_report {
	struct json_object *findings;
	const char *host, *name;
	bool compute;
};

static const char *const level_names[] = {[CHECK_INFO] = "info", [CHECK_WARNING] = "warning", [CHECK_ERROR] = "error"};

static void add_finding(struct json_object *list, const char *host, const char *name, enum check_level level,
			const char *what, const char *do_)
{
	vc_autojson struct json_object *f = json_object_new_object();
	if (f && vc_json_add_str(f, "level", level_names[level]) == 0 && vc_json_add_str(f, "what", what) == 0 &&
	    vc_json_add_str(f, "where", host) == 0 && vc_json_add_str(f, "do", do_) == 0 &&
	    vc_json_add_str(f, "check", name) == 0)
		json_object_array_add(list, vc_steal(&f));
}

void check_finding(struct check_report *report, enum check_level level, const char *do_, const char *what_fmt, ...)
{
	char what[VC_ERROR_TEXT_MAX];
	va_list ap;
	va_start(ap, what_fmt);
	vsnprintf(what, sizeof(what), what_fmt, ap);
	va_end(ap);
	add_finding(report->findings, report->host, report->name, level, what, do_);
}

bool check_is_compute(const struct check_report *report)
{
	return report->compute;
}

// --- one host ---

struct host_run {
	struct rpc_request *req;
	struct json_object *findings;
	char host[VC_HOSTNAME_MAX + 1];
	bool compute;
	unsigned left;
};

struct worker_check {
	struct host_run *run;
	struct entry entry;
	char host[VC_HOSTNAME_MAX + 1];
	bool compute;
	struct json_object *findings; // run() writes it; done() reads it only after success
};

static void host_run_step(struct host_run *run)
{
	if (--run->left)
		return;
	struct json_object *result = json_object_new_object();
	if (vc_json_add(result, "findings", vc_steal(&run->findings)) < 0)
		vc_log_err("host.check: out of memory");
	rpc_reply(run->req, result);
	free(run);
}

static int worker_run(void *ctx, struct vc_error *err)
{
	struct worker_check *w = ctx;
	struct check_report report = {.findings = w->findings, .host = w->host, .name = w->entry.name,
				     .compute = w->compute};
	(void)err;
	w->entry.fn(&report, w->entry.ctx);
	return 0;
}

static void worker_done(void *ctx, const struct vc_error *err)
{
	struct worker_check *w = ctx;
	if (err)
		add_finding(w->run->findings, w->run->host, w->entry.name, CHECK_ERROR, err->text,
			    "look into the log of vcd on this host");
	for (size_t i = 0; !err && i < json_object_array_length(w->findings); i++)
		json_object_array_add(w->run->findings, json_object_get(json_object_array_get_idx(w->findings, i)));
	host_run_step(w->run);
}

static void worker_release(void *ctx)
{
	struct worker_check *w = ctx;
	json_object_put(w->findings);
	free(w);
}

static void start_worker(struct check *check, struct host_run *run, const struct entry *entry)
{
	char what[128];
	struct vc_error err = VC_ERROR_INIT;
	struct worker_check *w = calloc(1, sizeof(*w));
	if (!w)
		return;
	*w = (struct worker_check){.run = run, .entry = *entry, .compute = run->compute,
				   .findings = json_object_new_array()};
	snprintf(w->host, sizeof(w->host), "%s", run->host);
	snprintf(what, sizeof(what), "check %s", entry->name);
	struct work_args args = {.pool = WORK_GENERAL, .what = what, .deadline_ms = CHECK_TIMEOUT_MS, .run = worker_run,
				 .done = worker_done, .release = worker_release, .ctx = w};
	if (w->findings && work_submit(check->vcd->work, &args, NULL, &err) == 0) {
		run->left++;
		return;
	}
	add_finding(run->findings, run->host, entry->name, CHECK_ERROR, err.code ? err.text : "out of memory",
		    "look into the log of vcd on this host");
	worker_release(w);
}

static void controller_pinged(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct host_run *run = ctx;
	(void)result;
	if (err)
		add_finding(run->findings, run->host, "controller", CHECK_ERROR, err->text,
			    "start vcd on the controller's host; check the network and the port");
	host_run_step(run);
}

// That this host reaches the controller, which the controller's own question does not show.
static void ping_controller(struct check *check, struct host_run *run)
{
	struct vc_error err = VC_ERROR_INIT;
	struct peer_args args = {.host = peers_controller(check->vcd->peers), .method = "vcd.ping",
				 .timeout_ms = CONTROLLER_PING_MS, .again = true, .done = controller_pinged, .ctx = run};
	if (check->vcd->controller)
		return;
	run->left++;
	if (!peer_call(check->vcd->peers, &args, &err))
		controller_pinged(run, NULL, &err);
}

static int host_check(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct check *check = ctx;
	bool compute = !check->vcd->controller; // until we are told
	if (vc_json_bool_opt(rpc_params(req), "compute", &compute, err) < 0)
		return -1;
	struct host_run *run = calloc(1, sizeof(*run));
	struct json_object *findings = json_object_new_array();
	if (!run || !findings) {
		json_object_put(findings);
		free(run);
		return vc_error_set(err, ENOMEM, "host.check: out of memory");
	}
	*run = (struct host_run){.req = req, .findings = findings, .compute = compute, .left = 1};
	snprintf(run->host, sizeof(run->host), "%s", check->vcd->conf->host_name);
	for (size_t i = 0; i < check->n; i++) {
		struct entry *e = &check->entries[i];
		struct check_report report = {.findings = findings, .host = run->host, .name = e->name,
					      .compute = compute};
		if (e->thread == CHECK_ON_LOOP)
			e->fn(&report, e->ctx);
		else
			start_worker(check, run, e);
	}
	ping_controller(check, run);
	host_run_step(run);
	return 0;
}

// --- the site ---

struct site_run {
	struct check *check;
	struct rpc_request *req;
	struct json_object *findings, *hosts;
	char **nodes; // Slurm's; NULL: not known
	unsigned left;
};

struct site_host {
	struct site_run *run;
	int64_t asked_ms; // wall clock
	bool compute;	  // Slurm runs jobs there
	char host[VC_HOSTNAME_MAX + 1];
};

static int64_t wall_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void site_run_step(struct site_run *run)
{
	if (--run->left)
		return;
	struct json_object *result = json_object_new_object();
	if (vc_json_add(result, "findings", vc_steal(&run->findings)) < 0 || vc_json_add(result, "hosts", vc_steal(&run->hosts)) < 0)
		vc_log_err("site.check: out of memory");
	rpc_reply(run->req, result);
	vc_strv_free(run->nodes);
	free(run);
}

int64_t check_skew_ms(int64_t asked_ms, int64_t host_ms, int64_t answered_ms)
{
	if (host_ms < asked_ms)
		return host_ms - asked_ms;
	return host_ms > answered_ms ? host_ms - answered_ms : 0; // in between nothing can be said
}

static void site_host_done(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct site_host *h = ctx;
	struct json_object *list = NULL;
	struct vc_error bad = VC_ERROR_INIT;
	if (!err && vc_json_array(result, "findings", 100000, &list, &bad) < 0)
		err = &bad;
	if (err)
		add_finding(h->run->findings, h->host, "vcd", CHECK_ERROR, err->text,
			    "start vcd on that host; see that its munge key and clock are the site's");
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		json_object_array_add(h->run->findings, json_object_get(json_object_array_get_idx(list, i)));
	site_run_step(h->run);
	free(h);
}

static int call_host(struct site_host *h, const char *method, struct json_object *params, uint64_t limit_ms, peer_done_fn done,
		     struct vc_error *err)
{
	struct peer_args args = {.host = h->host, .method = method, .params = params, .timeout_ms = limit_ms,
				 .trace = rpc_trace(h->run->req), .done = done, .ctx = h};
	return peer_call(h->run->check->vcd->peers, &args, err) ? 0 : -1;
}

static void check_clock(struct site_host *h, struct json_object *result)
{
	uint64_t host_ms = 0;
	int64_t skew = 0;
	if (vc_json_u64(result, "time_ms", INT64_MAX, &host_ms, NULL) == 0)
		skew = check_skew_ms(h->asked_ms, (int64_t)host_ms, wall_ms());
	if (skew > SKEW_MAX_MS || skew < -SKEW_MAX_MS)
		add_finding(h->run->findings, h->host, "clock", CHECK_WARNING,
			    skew > 0 ? "its clock is ahead of the controller's by more than 5 s" : "its clock is behind the controller's by more than 5 s",
			    "synchronise the clocks (NTP): munge refuses credentials of another time");
}

// It is there: now the question that takes longer.
static void host_pinged(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct site_host *h = ctx;
	struct vc_error why = VC_ERROR_INIT;
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_bool(params, "compute", h->compute);
	if (!err)
		check_clock(h, result);
	if (err || call_host(h, "host.check", params, HOST_CHECK_MS, site_host_done, &why) < 0)
		site_host_done(h, NULL, err ? err : &why);
}

static void ask_host(struct site_run *run, const char *host)
{
	struct vc_error err = VC_ERROR_INIT;
	struct site_host *h = calloc(1, sizeof(*h));
	if (!h) {
		add_finding(run->findings, host, "vcd", CHECK_ERROR, "out of memory", "look into the log of vcd on the controller");
		return;
	}
	*h = (struct site_host){.run = run, .asked_ms = wall_ms()};
	h->compute = run->nodes ? vc_strv_has(run->nodes, host) : strcmp(host, run->check->vcd->conf->host_name) != 0;
	snprintf(h->host, sizeof(h->host), "%s", host);
	json_object_array_add(run->hosts, json_object_new_string(host));
	run->left++;
	if (call_host(h, "vcd.ping", NULL, HOST_PING_MS, host_pinged, &err) < 0)
		site_host_done(h, NULL, &err);
}

static void ask_hosts(struct site_run *run)
{
	const struct conf *conf = run->check->vcd->conf;
	for (char **h = run->nodes; h && *h; h++)
		ask_host(run, *h);
	if (!vc_strv_has(run->nodes, conf->host_name))
		ask_host(run, conf->host_name);
	for (size_t i = 0; i < conf->n_hosts; i++) {
		if (strcmp(conf->hosts[i].name, conf->host_name) != 0 && !vc_strv_has(run->nodes, conf->hosts[i].name))
			ask_host(run, conf->hosts[i].name);
	}
}

struct node_list {
	struct site_run *run;
	int (*hosts)(void *ctx, char ***ret, struct vc_error *err);
	void *ctx;
	char **names;
};

static int node_list_run(void *ctx, struct vc_error *err)
{
	struct node_list *list = ctx;
	return list->hosts(list->ctx, &list->names, err);
}

static void node_list_done(void *ctx, const struct vc_error *err)
{
	struct node_list *list = ctx;
	struct site_run *run = list->run;
	if (err)
		add_finding(run->findings, run->check->vcd->conf->host_name, "nodes", CHECK_ERROR, err->text,
			    "start slurmctld; only the hosts of vcd.conf were asked");
	else
		run->nodes = vc_steal(&list->names);
	ask_hosts(run);
	site_run_step(run);
}

static void node_list_release(void *ctx)
{
	struct node_list *list = ctx;
	vc_strv_free(list->names);
	free(list);
}

// False: nobody can be asked, or not now.
static bool list_nodes(struct site_run *run)
{
	struct check *check = run->check;
	struct vc_error err = VC_ERROR_INIT;
	struct node_list *list = check->hosts ? calloc(1, sizeof(*list)) : NULL;
	if (!list)
		return false;
	*list = (struct node_list){.run = run, .hosts = check->hosts, .ctx = check->hosts_ctx};
	struct work_args args = {.pool = WORK_GENERAL, .what = "list of Slurm's nodes", .deadline_ms = CHECK_TIMEOUT_MS,
				 .run = node_list_run, .done = node_list_done, .release = node_list_release, .ctx = list};
	if (work_submit(check->vcd->work, &args, NULL, &err) == 0)
		return true;
	add_finding(run->findings, check->vcd->conf->host_name, "nodes", CHECK_ERROR, err.text,
		    "look into the log of vcd on the controller");
	node_list_release(list);
	return false;
}

static int site_check(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct site_run *run = calloc(1, sizeof(*run));
	if (!run)
		return vc_error_errno(err, "site.check");
	*run = (struct site_run){.check = ctx, .req = req, .findings = json_object_new_array(), .hosts = json_object_new_array(), .left = 1};
	if (!run->findings || !run->hosts) {
		json_object_put(run->findings);
		json_object_put(run->hosts);
		free(run);
		return vc_error_set(err, ENOMEM, "site.check: out of memory");
	}
	if (!list_nodes(run)) {
		ask_hosts(run);
		site_run_step(run);
	}
	return 0;
}

// --- the daemon's own checks ---

// Encodes and decodes a credential: munged runs, has its key, and lets root decode.
static void check_munge(struct check_report *report, void *ctx)
{
	const char *socket = ctx;
	vc_autofree char *text = NULL;
	struct vc_cred cred = {0};
	struct vc_error err = VC_ERROR_INIT;
	if (vc_cred_encode(socket, geteuid(), "check", 5, &text, &err) < 0 || vc_cred_decode(socket, text, &cred, &err) < 0)
		check_finding(report, CHECK_ERROR, "start munged, and give it the site's munge.key", "%s", err.text);
	free(cred.payload);
}

static void check_disk(struct check_report *report, void *ctx)
{
	const struct vcd *vcd = ctx;
	struct statvfs vfs;
	const char *dirs[] = {vcd->conf->state_dir, vcd->conf->image_dir};
	for (size_t i = 0; i < VC_ARRAY_LEN(dirs); i++) {
		if (statvfs(dirs[i], &vfs) < 0)
			check_finding(report, CHECK_ERROR, "make the directory, or set another one in vcd.conf", "%s: %s", dirs[i],
				      strerror(errno));
		else if (vfs.f_bavail * 100 < vfs.f_blocks * DISK_FREE_PERCENT)
			check_finding(report, CHECK_WARNING, "free some space: overlays and images grow there",
				      "%s: less than %d %% is free", dirs[i], DISK_FREE_PERCENT);
	}
}

static void check_hung(struct check_report *report, void *ctx)
{
	const struct vcd *vcd = ctx;
	static const char *const pools[] = {[WORK_GENERAL] = "other work", [WORK_HV] = "libvirt calls"};
	for (int i = 0; i < WORK_POOLS; i++) {
		unsigned hung = work_stats(vcd->work, (enum work_pool)i).hung;
		if (hung)
			check_finding(report, CHECK_WARNING, "find out what hangs (libvirtd? a network file system?)",
				      "%u threads for %s hang", hung, pools[i]);
	}
}

// --- the module ---

static const struct rpc_method methods[] = {
	{"host.check", RPC_PEER, RPC_HOST, 0, host_check},
	{"site.check", RPC_ANY, RPC_CONTROLLER, 0, site_check},
};

int check_register(struct check *check, const char *name, enum check_thread thread, check_fn fn, void *ctx,
		   struct vc_error *err)
{
	struct entry *grown = reallocarray(check->entries, check->n + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "check %s", name);
	check->entries = grown;
	struct entry *e = &grown[check->n++];
	*e = (struct entry){.thread = thread, .fn = fn, .ctx = ctx};
	snprintf(e->name, sizeof(e->name), "%s", name);
	return 0;
}

struct check *check_create(struct vcd *vcd, struct vc_error *err)
{
	struct check *check = calloc(1, sizeof(*check));
	if (!check) {
		vc_error_errno(err, "checks");
		return NULL;
	}
	check->vcd = vcd;
	if (rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), check, err) == 0 &&
	    check_register(check, "munge", CHECK_IN_WORKER, check_munge, vcd->munge_socket, err) == 0 &&
	    check_register(check, "disk", CHECK_ON_LOOP, check_disk, vcd, err) == 0 &&
	    check_register(check, "workers", CHECK_ON_LOOP, check_hung, vcd, err) == 0)
		return check;
	check_destroy(check);
	return NULL;
}

void check_destroy(struct check *check)
{
	if (!check)
		return;
	free(check->entries);
	free(check);
}

void check_set_hosts(struct check *check, int (*hosts)(void *ctx, char ***ret, struct vc_error *err), void *ctx)
{
	check->hosts = hosts;
	check->hosts_ctx = ctx;
}
