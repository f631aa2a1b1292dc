// SPDX-License-Identifier: GPL-2.0-or-later
// A job that Slurm suspends (scontrol suspend, preemption, gang scheduling): its machines are paused on all hosts until
// it goes on. Slurm itself stops only what it started, the tasks' vcexecs.
//
// What slurmctld says decides; when it is asked: vcexec's word that it is being stopped or continued (job.changed), and
// the sweep, which also finds jobs without a task. Idempotent: a host pauses what runs and resumes what was paused so.
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/cluster_int.h"
#include "vcd/conf.h"
#include "vcd/fanout.h"
#include "vcd/vcd.h"

static void pause_done(void *ctx, const struct vc_error *err)
{
	struct cluster *c = ctx;
	struct vc_log_ctx log = cluster_log(c);
	c->pausing = NULL;
	if (err) {
		vc_log_ctx(VC_LOG_WARNING, &log, "%s: %s", c->suspended == CLUSTER_SUSPENDED ? "pause" : "resume", err->text);
		c->suspended = CLUSTER_SUSPENSION_UNKNOWN; // the sweep tries again
		return;
	}
	clusters_notify(c);
	cluster_check_job(c); // it may have changed meanwhile
}

void cluster_follow_suspension(struct cluster *c, bool suspended)
{
	enum cluster_suspension want = suspended ? CLUSTER_SUSPENDED : CLUSTER_NOT_SUSPENDED;
	struct vc_error err = VC_ERROR_INIT;
	struct vc_log_ctx log = cluster_log(c);
	if (c->phase != CLUSTER_READY || c->pausing || c->suspended == want)
		return;
	vc_autojson struct json_object *params = json_object_new_object();
	vc_autofree const char **names = calloc(c->n_hosts, sizeof(*names));
	if (!names || vc_json_add_str(params, "cluster", c->id) < 0 || vc_json_add_bool(params, "pause", suspended) < 0)
		return; // the sweep tries again
	size_t n = 0;
	for (size_t i = 0; i < c->n_hosts; i++) {
		if (!c->hosts[i].left)
			names[n++] = c->hosts[i].name;
	}
	struct fanout_args args = {.method = "host.pause",
				   .hosts = names,
				   .n_hosts = n,
				   .params = params,
				   .timeout_ms = c->owner->vcd->conf->libvirt_timeout_ms,
				   .trace = c->trace,
				   .keep_going = true,
				   .done = pause_done,
				   .ctx = c};
	if (suspended || c->suspended == CLUSTER_SUSPENDED)
		vc_log_ctx(VC_LOG_INFO, &log, "its job is %s: its machines are %s", suspended ? "suspended" : "resumed",
			   suspended ? "paused" : "resumed");
	c->suspended = want;
	c->pausing = fanout_start(c->owner->vcd, &args, &err);
	if (!c->pausing) {
		vc_log_ctx(VC_LOG_WARNING, &log, "%s", err.text);
		c->suspended = CLUSTER_SUSPENSION_UNKNOWN;
	}
}
