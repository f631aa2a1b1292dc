// SPDX-License-Identifier: GPL-2.0-or-later
// From what slurmctld says of a job and what its user asked for to the cluster's plan. No I/O but the state database.
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "libvc/cleanup.h"
#include "vcd/cluster_int.h"
#include "vcd/conf.h"
#include "vcd/images.h"
#include "vcd/slurmctl.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define VXLAN_OVERHEAD 50      // bytes: outer Ethernet, IPv4, UDP, VXLAN
#define UNDERLAY_MTU_DEFAULT 1500 // bytes, where vcd.conf sets no mtu

static int check_job(const struct cluster *c, const struct slurmctl_job *job, struct vc_error *err)
{
	if (job->restart != c->key.restart)
		return vc_error_set(err, VC_ESTALE, "job %u has been restarted %u times, this call is for restart %u", c->key.job,
				    job->restart, c->key.restart);
	if (job->het)
		return vc_error_set(err, VC_EUSER, "job %u is a heterogeneous job: --vcluster does not support those, submit its "
				    "parts as jobs of their own", c->key.job);
	if (job->state != SLURMCTL_CONFIGURING && job->state != SLURMCTL_RUNNING)
		return vc_error_set(err, VC_ECANCELED, "job %u is %s", c->key.job, slurmctl_state_name(job->state));
	if (strcmp(job->cluster, c->key.slurm) != 0)
		return vc_error_set(err, VC_EHOST, "slurmctld's cluster is '%s', the call is for '%s'", job->cluster, c->key.slurm);
	return 0;
}

static int copy_hosts(struct plan *plan, const struct slurmctl_job *job, struct vc_error *err)
{
	plan->hosts = calloc(job->n_hosts, sizeof(*plan->hosts));
	if (!plan->hosts)
		return vc_error_errno(err, "hosts");
	for (size_t i = 0; i < job->n_hosts; i++) {
		const struct plan_host *from = &job->hosts[i];
		struct plan_host *to = &plan->hosts[i];
		*to = *from;
		plan->n_hosts = i + 1;
		to->name = strdup(from->name);
		to->addr = strdup(from->addr);
		to->cpu_ids = calloc(from->n_cpu_ids ? from->n_cpu_ids : 1, sizeof(*to->cpu_ids));
		if (!to->name || !to->addr || !to->cpu_ids)
			return vc_error_errno(err, "hosts");
		if (from->n_cpu_ids)
			memcpy(to->cpu_ids, from->cpu_ids, from->n_cpu_ids * sizeof(*to->cpu_ids));
	}
	return 0;
}

static int fill_net(struct cluster *c, struct plan *plan, struct vc_error *err)
{
	const struct conf *conf = c->owner->vcd->conf;
	snprintf(plan->net.network, sizeof(plan->net.network), "%s", conf->network);
	plan->net.prefix = conf->network_prefix;
	plan->net.mtu = conf->mtu ? conf->mtu : UNDERLAY_MTU_DEFAULT - VXLAN_OVERHEAD;
	if (!c->vni && state_vni_free(c->owner->vcd->state, conf->vni_min, conf->vni_max, &c->vni, err) < 0)
		return -1;
	plan->net.vni = c->vni;
	return 0;
}

static void fill_secret(struct plan *plan)
{
	uint8_t secret[PLAN_HEX64_LEN / 2];
	randombytes_buf(secret, sizeof(secret));
	sodium_bin2hex(plan->secret, sizeof(plan->secret), secret, sizeof(secret));
	sodium_memzero(secret, sizeof(secret));
}

static int fill_plan(struct cluster *c, const struct slurmctl_job *job, struct plan *plan, struct vc_error *err)
{
	const struct conf *conf = c->owner->vcd->conf;
	const struct plan_limits limits = {conf->overhead_mib, conf->overhead_percent};
	memcpy(plan->id, c->id, sizeof(plan->id));
	plan->key = c->key;
	plan->spec = vc_spec_from_text(c->spec_text, err);
	if (!plan->spec || copy_hosts(plan, job, err) < 0)
		return -1;
	if (!plan->spec->image)
		return vc_error_set(err, VC_EUSER, "job %u: no image was named: use --vcluster=IMAGE", c->key.job);
	fill_secret(plan);
	snprintf(plan->image_name, sizeof(plan->image_name), "%s", plan->spec->image);
	if (fill_net(c, plan, err) < 0)
		return -1;
	return plan_make(plan, &limits, err);
}

int clusterplan_make(struct cluster *c, const struct slurmctl_job *job, struct plan_owner *owner, struct vc_error *err)
{
	if (c->key.slurm[0] == '\0')
		snprintf(c->key.slurm, sizeof(c->key.slurm), "%s", job->cluster);
	c->uid = job->uid;
	if (check_job(c, job, err) < 0)
		return -1;
	plan_auto struct plan *plan = plan_create();
	if (!plan)
		return vc_error_errno(err, "plan");
	plan->owner = *owner; // ownership moves
	*owner = (struct plan_owner){0};
	if (fill_plan(c, job, plan, err) < 0)
		return -1;
	c->plan = vc_steal(&plan);
	return cluster_set_hosts(c, err);
}

int clusterplan_set_image(struct cluster *c, const struct images_found *image, struct vc_error *err)
{
	struct plan *plan = c->plan;
	if (plan->spec->n_mounts && !image->trusted)
		return vc_error_set(err, VC_EUSER, "--vcluster-mount: image '%s'%s is not one that the site trusts with host "
				    "directories (trusted-images of vcd.conf)", plan->spec->image,
				    plan->spec->packages ? " with more packages" : "");
	if (images_hold(c->owner->vcd->images, image->digest, c->id, err) < 0)
		return vc_error_wrap(err, "image '%s'", plan->spec->image);
	memcpy(plan->image_digest, image->digest, sizeof(plan->image_digest));
	plan->image_trusted = image->trusted;
	c->plan_json = plan_to_json(plan);
	return c->plan_json ? 0 : vc_error_errno(err, "plan");
}
