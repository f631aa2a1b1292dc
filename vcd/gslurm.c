// SPDX-License-Identifier: GPL-2.0-or-later
// A share's Slurm commands: see gslurm.h. The sessions are taskrun's; who and what is decided here.
#include "vcd/gslurm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/taskrun.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/slurmcmd.h"

#define OPEN_BODY_MAX 4096u // bytes; {kind, tool, uid}

struct gslurm {
	const struct plan *plan;
	struct slurmcmd_conf cmd;
	char *bin_dir, *slurm_conf;
	char job[VC_NAME_MAX];
	struct taskrun *tr;
	const struct gslurm_ops *ops;
	void *ctx;
	void (*done)(void *arg);
	void *done_arg;
};

static int send_frame(void *ctx, void *route, struct vc_link_frame *frame)
{
	struct gslurm *g = ctx;
	return g->ops->send_frame(g->ctx, route, frame);
}

static int parse_open(const char *body, size_t len, enum slurmopt_tool *ret, struct vc_error *err)
{
	const char *kind, *tool;
	if (len > OPEN_BODY_MAX)
		return vc_error_set(err, VC_EPROTO, "OPEN of %zu bytes", len);
	vc_autojson struct json_object *obj = vc_json_parse(body, len, err);
	if (!obj || vc_json_str(obj, "kind", VC_NAME_MAX, &kind, err) < 0 || vc_json_str(obj, "tool", VC_NAME_MAX, &tool, err) < 0)
		return -1;
	if (strcmp(kind, "slurm") != 0)
		return vc_error_set(err, VC_EDENIED, "a guest may open sessions of kind 'slurm' only");
	return slurmopt_tool_from_name(tool, ret, err);
}

static int fill_identity(const struct plan_owner *o, struct taskrun_identity *id, struct vc_error *err)
{
	if (o->uid == 0)
		return vc_error_set(err, VC_EDENIED, "Slurm commands of root's jobs are not run for a guest");
	if (strlen(o->user) >= sizeof(id->user) || strlen(o->home) >= sizeof(id->home))
		return vc_error_set(err, VC_EFAILED, "the owner's name or home directory is too long");
	id->groups = calloc(o->n_groups + 1, sizeof(*id->groups));
	if (!id->groups)
		return vc_error_errno(err, "groups");
	for (size_t i = 0; i < o->n_groups; i++)
		id->groups[i] = o->groups[i].gid;
	id->group_count = o->n_groups;
	id->uid = o->uid;
	id->gid = o->gid;
	memcpy(id->user, o->user, strlen(o->user) + 1);
	memcpy(id->home, o->home, strlen(o->home) + 1);
	return 0;
}

static int authorize(void *ctx, void *route, uint64_t session, const char *body, size_t len, struct taskrun_identity *ret,
		     struct vc_error *err)
{
	struct gslurm *g = ctx;
	struct taskrun_identity id = {0};
	enum slurmopt_tool tool;
	(void)route;
	(void)session;
	if (parse_open(body, len, &tool, err) < 0 || fill_identity(&g->plan->owner, &id, err) < 0)
		return -1;
	id.data = (void *)(uintptr_t)(tool + 1);
	*ret = id;
	return 0;
}

static int prepare(void *ctx, uint64_t session, const struct taskrun_identity *id, struct vc_exec_start *start,
		   struct vc_error *err)
{
	struct gslurm *g = ctx;
	const struct vc_log_ctx log = {.job = g->job};
	enum slurmopt_tool tool = (enum slurmopt_tool)((uintptr_t)id->data - 1);
	(void)session;
	start->pmi = start->pmix = false; // no part of a Slurm command
	if (slurmcmd_build(g->plan, &g->cmd, tool, start, err) < 0)
		return -1;
	vc_log_ctx(VC_LOG_DEBUG, &log, "runs %s for a guest", start->argv[0]);
	return 0;
}

static const struct taskrun_ops run_ops = {.send_frame = send_frame, .authorize = authorize, .prepare = prepare};

static void gslurm_free(void *arg)
{
	struct gslurm *g = arg;
	void (*done)(void *) = g->done;
	void *done_arg = g->done_arg;
	free(g->bin_dir);
	free(g->slurm_conf);
	free(g);
	if (done)
		done(done_arg);
}

struct gslurm *gslurm_create(const struct gslurm_config *conf, const struct gslurm_ops *ops, void *ctx, struct vc_error *err)
{
	const char *slurm_conf = conf->slurm_conf ? conf->slurm_conf : getenv("SLURM_CONF");
	struct taskrun_config run = {.loop = conf->loop, .orphan_ms = conf->orphan_ms};
	struct gslurm *g = calloc(1, sizeof(*g));
	if (!g) {
		vc_error_errno(err, "guest's Slurm commands");
		return NULL;
	}
	*g = (struct gslurm){.plan = conf->plan, .ops = ops, .ctx = ctx};
	g->bin_dir = strdup(conf->bin_dir ? conf->bin_dir : GSLURM_BIN_DIR);
	g->slurm_conf = slurm_conf ? strdup(slurm_conf) : NULL;
	g->cmd = (struct slurmcmd_conf){.bin_dir = g->bin_dir, .slurm_conf = g->slurm_conf};
	snprintf(g->job, sizeof(g->job), "%u", conf->plan->key.job);
	run.mux = (struct vc_mux_config){.sessions_max = GSLURM_SESSIONS_MAX,
					 .message_max = GSLURM_MESSAGE_MAX,
					 .id_mask = VC_SESSION_FROM_GUEST,
					 .id_value = VC_SESSION_FROM_GUEST};
	g->tr = g->bin_dir && (!slurm_conf || g->slurm_conf) ? taskrun_create(&run, &run_ops, g, err) : NULL;
	if (!g->tr) {
		gslurm_free(g);
		return NULL;
	}
	return g;
}

void gslurm_destroy(struct gslurm *g, void (*done)(void *arg), void *arg)
{
	if (!g) {
		if (done)
			done(arg);
		return;
	}
	g->done = done;
	g->done_arg = arg;
	taskrun_destroy(g->tr, gslurm_free, g);
}

void gslurm_input(struct gslurm *g, void *route, struct vc_link_frame *frame)
{
	taskrun_input(g->tr, route, frame);
}

void gslurm_route_down(struct gslurm *g, void *route)
{
	taskrun_route_down(g->tr, route);
}

void gslurm_route_writable(struct gslurm *g, void *route)
{
	taskrun_route_writable(g->tr, route);
}

size_t gslurm_count(const struct gslurm *g)
{
	return taskrun_count(g->tr);
}
