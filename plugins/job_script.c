// SPDX-License-Identifier: GPL-2.0-or-later
// The hosts' prolog and epilog of a job (context job_script): a process of its own, as root, with no state.
//
// Prolog: marks a vcluster job on this host, so that no later step can run outside its machines, and asks whether vcd
// answers. Epilog: waits until this host's share of the cluster is gone. Other jobs cost one look for a file.
// A prolog below 0 drains the host and holds the job, so it never fails: a vcd that is away is logged here and is
// reported to the user by the task. The epilog fails only when vcd says that it cannot remove the share.
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "libvc/spec.h"
#include "plugins/plugin.h"

struct job {
	uint32_t id;
	uint32_t restart;
};

// The names as job_prolog and job_epilog find them in their environment.
static int get_job(spank_t sp, struct job *ret)
{
	const char *restart = getenv("SLURM_RESTART_COUNT");
	uint64_t n = 0;
	if (spank_get_item(sp, S_JOB_ID, &ret->id) != ESPANK_SUCCESS)
		return -1;
	if (restart && *restart && vc_parse_u64("SLURM_RESTART_COUNT", restart, 0, UINT32_MAX, &n, NULL) < 0)
		return -1;
	ret->restart = (uint32_t)n;
	return 0;
}

static bool asked_for_cluster(void)
{
	return getenv("SPANK_" VC_SPEC_CONTROL_NAME) != NULL;
}

// Set by vcd at submission of a lease's job. Whoever forges it keeps his own job from running tasks, and gains nothing.
static bool is_lease(void)
{
	return !asked_for_cluster() && getenv("SPANK_VCLUSTER_LEASE") != NULL;
}

static struct vc_client *connect_vcd(const struct plugin *p, uint64_t timeout_ms, struct vc_error *err)
{
	const struct vc_client_opts opts = {.path = p->args.socket, .timeout_ms = timeout_ms};
	return vc_client_connect(&opts, err);
}

static int ping(const struct plugin *p, struct vc_error *err)
{
	vc_autoclient struct vc_client *vcd = connect_vcd(p, p->args.prolog_ms, err);
	return vcd ? vc_client_call(vcd, "vcd.ping", NULL, p->args.prolog_ms, NULL, NULL, NULL, err) : -1;
}

int job_script_prolog(const struct plugin *p, spank_t sp)
{
	struct job job;
	struct vc_error err = VC_ERROR_INIT;
	if (is_lease() && get_job(sp, &job) == 0) {
		if (mark_create_lease(&p->args, job.id, &err) < 0)
			slurm_error("vcluster: job %u: %s", job.id, err.text);
		return 0;
	}
	if (!asked_for_cluster() || get_job(sp, &job) < 0)
		return 0;
	if (mark_create(&p->args, job.id, &err) < 0 || ping(p, &err) < 0)
		slurm_error("vcluster: job %u: %s", job.id, err.text);
	return 0;
}

// method: share.release of a cluster's own job; lease.release, which vcd asks its controller for
static int release(const struct plugin *p, const char *method, const struct job *job, struct vc_error *err)
{
	vc_autojson struct json_object *params = json_object_new_object();
	if (!params || vc_json_add_u64(params, "job", job->id) < 0 || vc_json_add_u64(params, "restart", job->restart) < 0)
		return vc_error_set(err, ENOMEM, "%s: out of memory", method);
	vc_autoclient struct vc_client *vcd = connect_vcd(p, p->args.epilog_ms, err);
	return vcd ? vc_client_call(vcd, method, params, p->args.epilog_ms, NULL, NULL, NULL, err) : -1;
}

int job_script_epilog(const struct plugin *p, spank_t sp)
{
	struct job job;
	struct vc_error err = VC_ERROR_INIT;
	if (get_job(sp, &job) == 0 && mark_is_lease(&p->args, job.id)) {
		if (release(p, "lease.release", &job, &err) < 0)
			slurm_error("vcluster: job %u: this host's share is not released: %s", job.id, err.text);
		mark_remove_lease(&p->args, job.id);
		return 0;
	}
	if (get_job(sp, &job) < 0 || (!asked_for_cluster() && !mark_exists(&p->args, job.id)))
		return 0;
	if (release(p, "share.release", &job, &err) == 0) {
		mark_remove(&p->args, job.id);
		return 0;
	}
	// The mark stays: a vcd that comes back finds it and clears what it stands for.
	bool broken = err.code == VC_EHOST;
	slurm_error("vcluster: job %u: this host's share is not released: %s", job.id, err.text);
	return broken && p->args.drain ? -1 : 0;
}
