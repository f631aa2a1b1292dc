// SPDX-License-Identifier: GPL-2.0-or-later
// Hosts that a cluster's other hosts found dead are told to Slurm as DOWN with a reason, where the site chose so (report-dead-hosts).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "vcd/cluster_int.h"
#include "vcd/conf.h"
#include "vcd/slurmctl.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define SLURMCTL_MS 60000 // slurmctld's own MessageTimeout is at most this on real sites

struct report { // belongs to the worker's job, outlives the cluster
	struct slurmctl *slurmctl;
	uint32_t job;
	char host[VC_HOSTNAME_MAX + 1];
	char reason[160];
};

// A host that Slurm has taken from the job was announced, or is known to be down: that is not news.
static bool still_in_job(const struct report *r, struct vc_error *err)
{
	struct slurmctl_job *job = NULL;
	bool found = false;
	if (slurmctl_load_job(r->slurmctl, r->job, &job, err) < 0)
		return false;
	for (size_t i = 0; i < job->n_hosts; i++)
		found = found || strcmp(job->hosts[i].name, r->host) == 0;
	slurmctl_job_destroy(job);
	return found;
}

static int report_run(void *ctx, struct vc_error *err)
{
	const struct report *r = ctx;
	if (!still_in_job(r, err))
		return err->code ? -1 : 0;
	return slurmctl_node_down(r->slurmctl, r->host, r->reason, err);
}

static void report_done(void *ctx, const struct vc_error *err)
{
	const struct report *r = ctx;
	if (err)
		vc_log_warning("job %u: host %s could not be reported to slurmctld: %s", r->job, r->host, err->text);
	else
		vc_log_notice("job %u: host %s is reported to slurmctld", r->job, r->host);
}

void cluster_report_gone(struct cluster *c, size_t host)
{
	struct vcd *vcd = c->owner->vcd;
	struct vc_error err = VC_ERROR_INIT;
	if (c->hosts[host].gone)
		return;
	c->hosts[host].gone = true;
	if (!vcd->conf->report_dead || c->phase != CLUSTER_READY)
		return;
	struct report *r = calloc(1, sizeof(*r));
	if (!r)
		return;
	*r = (struct report){.slurmctl = c->owner->slurmctl, .job = c->key.job};
	snprintf(r->host, sizeof(r->host), "%s", c->hosts[host].name);
	snprintf(r->reason, sizeof(r->reason), "vcd: silent to the other hosts of job %u's virtual cluster", c->key.job);
	struct work_args args = {.pool = WORK_GENERAL, .what = "report a dead host to slurmctld", .deadline_ms = SLURMCTL_MS,
				 .run = report_run, .done = report_done, .release = free, .ctx = r};
	if (work_submit(vcd->work, &args, NULL, &err) < 0) {
		vc_log_warning("job %u: %s", c->key.job, err.text);
		free(r);
	}
}
