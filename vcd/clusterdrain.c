// SPDX-License-Identifier: GPL-2.0-or-later
// A host that is being drained in Slurm is evacuated, where vcd.conf says so (drain-evacuates).
//
// What slurmctld says decides; it is asked at the sweep. Once per drain: what could not move then is in the log with its
// reason, and `vcctl evacuate` tries again. A host that drains has no new jobs; its members go to other hosts of their jobs.
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "vcd/cluster_int.h"
#include "vcd/conf.h"
#include "vcd/slurmctl.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define LOOK_MS 30000u // slurmctld's answer

struct drain_look { // belongs to its job
	struct clusters *owner;
	struct slurmctl *slurmctl;
	char **names;
};

static int look_run(void *ctx, struct vc_error *err)
{
	struct drain_look *l = ctx;
	return slurmctl_list_draining(l->slurmctl, &l->names, err);
}

static void look_done(void *ctx, const struct vc_error *err)
{
	struct drain_look *l = ctx;
	struct clusters *cs = l->owner;
	cs->drain_look = NULL;
	if (err) {
		vc_log_warning("hosts that drain: %s", err->text); // the next sweep asks again
		return;
	}
	for (char **name = l->names; *name; name++) {
		if (!vc_strv_has(cs->drained, *name))
			clusters_evacuate(cs, *name);
	}
	vc_strv_free(cs->drained);
	cs->drained = vc_steal(&l->names);
}

static void look_release(void *ctx)
{
	struct drain_look *l = ctx;
	vc_strv_free(l->names);
	free(l);
}

void clusters_follow_drain(struct clusters *cs)
{
	struct vc_error err = VC_ERROR_INIT;
	if (!cs->vcd->conf->drain_evacuates || !cs->list || cs->drain_look)
		return;
	struct drain_look *l = calloc(1, sizeof(*l));
	if (!l)
		return; // the next sweep asks again
	*l = (struct drain_look){.owner = cs, .slurmctl = cs->slurmctl};
	struct work_args args = {.pool = WORK_GENERAL, .what = "hosts that drain", .deadline_ms = LOOK_MS, .run = look_run,
				 .done = look_done, .release = look_release, .ctx = l};
	if (work_submit(cs->vcd->work, &args, &cs->drain_look, &err) == 0)
		return;
	vc_log_warning("%s", err.text);
	look_release(l);
}

void clusters_drain_stop(struct clusters *cs)
{
	if (cs->drain_look)
		work_cancel(vc_steal(&cs->drain_look));
	vc_strv_free(cs->drained);
	cs->drained = NULL;
}
