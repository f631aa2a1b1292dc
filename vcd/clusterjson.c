// SPDX-License-Identifier: GPL-2.0-or-later
// A cluster as JSON for people (cluster.show, cluster.list) and as a row of the state database.
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/cluster_int.h"
#include "vcd/images.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

static int64_t wall_ms(void)
{
	struct timeval now;
	gettimeofday(&now, NULL);
	return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

// What the host told of itself, what the cluster did before and after it, and what is left of the start: waiting for others.
static struct json_object *host_stages_to_json(const struct cluster *c, size_t i)
{
	struct start_times t = c->hosts[i].told;
	t.ms[START_RESOLVE] = c->stages.ms[START_RESOLVE];
	t.ms[START_BUILD] = c->stages.ms[START_BUILD];
	t.ms[START_FORM] = c->stages.ms[START_FORM];
	uint64_t own = start_times_sum(&t), all = start_times_sum(&c->stages);
	return start_times_to_json(&t, own < all ? (int64_t)(all - own) : 0);
}

static struct json_object *hosts_to_json(const struct cluster *c)
{
	struct json_object *array = json_object_new_array();
	uint64_t now = uv_now(&c->owner->vcd->loop);
	for (size_t i = 0; i < c->n_hosts; i++) {
		struct json_object *obj = json_object_new_object();
		vc_json_add_str(obj, "host", c->hosts[i].name);
		vc_json_add_str(obj, "phase", c->hosts[i].phase);
		vc_json_add_str(obj, "reason", c->hosts[i].reason);
		vc_json_add_u64(obj, "elapsed_ms", c->hosts[i].since_ms ? now - c->hosts[i].since_ms : 0);
		vc_json_add(obj, "stages", host_stages_to_json(c, i));
		json_object_array_add(array, obj);
	}
	return array;
}

// What the database keeps of hosts.
static struct json_object *host_times_to_json(const struct cluster *c)
{
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; i < c->n_hosts; i++) {
		struct json_object *obj = json_object_new_object();
		vc_json_add_str(obj, "host", c->hosts[i].name);
		vc_json_add(obj, "stages", host_stages_to_json(c, i));
		json_object_array_add(array, obj);
	}
	return array;
}

// How the image gets to the hosts, while it does.
static struct json_object *transfer_to_json(const struct cluster *c)
{
	struct json_object *obj = json_object_new_object();
	const struct cluster_host *slowest = NULL;
	uint64_t done = 0, rate = 0, percent = 0;
	for (size_t i = 0; i < c->n_hosts; i++) {
		const struct cluster_host *h = &c->hosts[i];
		bool here = h->done || (h->total && h->held >= h->total);
		uint64_t part = h->total ? h->held * 100 / h->total : 0;
		done += here;
		rate += here ? 0 : h->rate;
		if (here || (slowest && part >= percent))
			continue;
		slowest = h;
		percent = part;
	}
	vc_json_add_u64(obj, "hosts_done", done);
	vc_json_add_u64(obj, "hosts", c->n_hosts);
	vc_json_add_u64(obj, "rate", rate);
	if (slowest) {
		vc_json_add_str(obj, "slowest", slowest->name);
		vc_json_add_u64(obj, "slowest_percent", percent);
	}
	return obj;
}

static void stages_from_json(struct cluster *c, struct json_object *extra)
{
	struct json_object *array = NULL, *hosts = NULL, *stages = NULL;
	if (json_object_object_get_ex(extra, "stages", &array))
		start_times_from_json(&c->stages, array);
	(void)vc_json_u64_opt(extra, "start_ms", INT64_MAX, &c->start_ms, NULL);
	if (!json_object_object_get_ex(extra, "hosts", &hosts) || !json_object_is_type(hosts, json_type_array))
		return;
	for (size_t i = 0; i < c->n_hosts && i < json_object_array_length(hosts); i++) {
		if (json_object_object_get_ex(json_object_array_get_idx(hosts, i), "stages", &stages))
			start_times_from_json(&c->hosts[i].told, stages);
		c->hosts[i].before = c->hosts[i].told;
	}
}

// The plan without the cluster's secret.
static struct json_object *public_plan(struct json_object *whole)
{
	struct json_object *plan = json_object_new_object();
	json_object_object_foreach(whole, key, value)
	{
		if (strcmp(key, "secret") != 0)
			vc_json_add(plan, key, json_object_get(value));
	}
	return plan;
}

static void add_details(const struct cluster *c, struct json_object *obj)
{
	vc_json_add(obj, "hosts", hosts_to_json(c));
	vc_json_add(obj, "stages", start_times_to_json(&c->stages, -1));
	if (c->phase == CLUSTER_PREPARING)
		vc_json_add(obj, "transfer", transfer_to_json(c));
	if (c->start_ms)
		vc_json_add_u64(obj, "start_ms", c->start_ms);
	if (c->plan_json)
		vc_json_add(obj, "plan", public_plan(c->plan_json));
	if (c->view)
		vc_json_add(obj, "view", view_to_json(c->view));
	if (c->move)
		vc_json_add(obj, "moving", cluster_moves_to_json(c));
	if (c->usage)
		vc_json_add(obj, "usage", json_object_get(c->usage));
	if (c->parts)
		vc_json_add(obj, "leases", grow_to_json(c));
}

// Since the first job.ensure, which may have been another vcd's: for people, so the wall clock will do.
uint64_t cluster_elapsed_ms(const struct cluster *c)
{
	int64_t elapsed = wall_ms() - c->created_wall_ms;
	return c->created_wall_ms && elapsed > 0 ? (uint64_t)elapsed : 0;
}

static const char *reason_of(const struct cluster *c)
{
	if (c->phase == CLUSTER_READY && c->suspended == CLUSTER_SUSPENDED)
		return "the job is suspended: its machines are paused";
	return c->reason.text[0] ? c->reason.text : NULL;
}

static void add_sizes(const struct plan *plan, struct json_object *obj)
{
	uint64_t members = 0, hosts = 0;
	for (size_t i = 0; i < plan->n_members; i++)
		members += !plan->members[i].gone;
	for (size_t i = 0; i < plan->n_hosts; i++)
		hosts += !plan->hosts[i].gone;
	vc_json_add_u64(obj, "members", members);
	vc_json_add_u64(obj, "n_hosts", hosts);
}

struct json_object *cluster_to_json(const struct cluster *c, bool full)
{
	struct json_object *obj = json_object_new_object();
	uint64_t now = uv_now(&c->owner->vcd->loop);
	vc_json_add_u64(obj, "job", c->key.job);
	vc_json_add_u64(obj, "restart", c->key.restart);
	vc_json_add_str(obj, "slurm", c->key.slurm);
	vc_json_add_str(obj, "cluster", c->id);
	vc_json_add_str(obj, "phase", cluster_phase_name(c->phase));
	vc_json_add_str(obj, "reason", reason_of(c));
	vc_json_add_u64(obj, "phase_ms", now - c->phase_ms);
	vc_json_add_u64(obj, "elapsed_ms", cluster_elapsed_ms(c));
	vc_json_add_u64(obj, "created_ms", (uint64_t)c->created_wall_ms);
	if (c->plan) {
		vc_json_add_u64(obj, "uid", c->uid);
		vc_json_add_str(obj, "user", c->plan->owner.user);
		vc_json_add_str(obj, "image", c->plan->image_name);
		add_sizes(c->plan, obj);
	}
	if (full)
		add_details(c, obj);
	return obj;
}

static void copy_key(struct json_object *to, const char *to_key, struct json_object *from, const char *key)
{
	struct json_object *value = NULL;
	if (json_object_object_get_ex(from, key, &value))
		vc_json_add(to, to_key, json_object_get(value));
}

static void add_plan_summary(struct json_object *obj, struct json_object *plan)
{
	struct json_object *part = NULL;
	if (json_object_object_get_ex(plan, "owner", &part))
		copy_key(obj, "user", part, "user");
	if (json_object_object_get_ex(plan, "image", &part))
		copy_key(obj, "image", part, "name");
	if (json_object_object_get_ex(plan, "members", &part) && json_object_is_type(part, json_type_array))
		vc_json_add_u64(obj, "members", json_object_array_length(part));
	if (json_object_object_get_ex(plan, "hosts", &part) && json_object_is_type(part, json_type_array))
		vc_json_add_u64(obj, "n_hosts", json_object_array_length(part));
}

// elapsed_ms: from its beginning to its end; phase_ms: since then.
struct json_object *cluster_row_to_json(const void *row_ptr, bool full)
{
	const struct state_cluster *row = row_ptr;
	struct json_object *obj = json_object_new_object();
	struct timeval tv;
	gettimeofday(&tv, NULL);
	int64_t now = (int64_t)tv.tv_sec * 1000 + tv.tv_usec / 1000;
	vc_json_add_u64(obj, "job", row->job);
	vc_json_add_u64(obj, "restart", row->restart);
	vc_json_add_str(obj, "slurm", row->slurm);
	vc_json_add_str(obj, "cluster", row->id);
	vc_json_add_str(obj, "phase", row->phase);
	vc_json_add_str(obj, "reason", row->reason);
	vc_json_add_u64(obj, "uid", row->uid);
	vc_json_add_u64(obj, "created_ms", (uint64_t)row->created_ms);
	vc_json_add_u64(obj, "phase_ms", now > row->changed_ms ? (uint64_t)(now - row->changed_ms) : 0);
	vc_json_add_u64(obj, "elapsed_ms", row->changed_ms > row->created_ms ? (uint64_t)(row->changed_ms - row->created_ms) : 0);
	if (row->plan)
		add_plan_summary(obj, row->plan);
	copy_key(obj, "usage", row->extra, "usage");
	if (!full)
		return obj;
	copy_key(obj, "stages", row->extra, "stages");
	copy_key(obj, "hosts", row->extra, "hosts");
	copy_key(obj, "start_ms", row->extra, "start_ms");
	if (row->plan)
		vc_json_add(obj, "plan", public_plan(row->plan));
	if (row->view)
		vc_json_add(obj, "view", json_object_get(row->view));
	return obj;
}

// --- the state database ----------------------------------------------------------------------------------------------

static struct json_object *extra_to_json(const struct cluster *c)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "spec_text", c->spec_text);
	vc_json_add_str(obj, "trace", c->trace);
	vc_json_add(obj, "stages", start_times_to_json(&c->stages, -1));
	vc_json_add(obj, "hosts", host_times_to_json(c));
	if (c->start_ms)
		vc_json_add_u64(obj, "start_ms", c->start_ms);
	if (c->usage)
		vc_json_add(obj, "usage", json_object_get(c->usage));
	if (c->parts)
		vc_json_add(obj, "leases", grow_to_json(c));
	if (c->move)
		vc_json_add(obj, "moves", cluster_moves_save(c));
	return obj;
}

int cluster_save(struct cluster *c, struct vc_error *err)
{
	vc_autojson struct json_object *extra = extra_to_json(c), *view = c->view ? view_to_json(c->view) : NULL;
	struct state_cluster row = {.job = c->key.job,
				    .restart = c->key.restart,
				    .uid = c->uid,
				    .vni = c->vni,
				    .phase = cluster_phase_name(c->phase),
				    .reason = c->reason.text[0] ? c->reason.text : NULL,
				    .plan = c->plan_json,
				    .view = view,
				    .extra = extra,
				    .created_ms = c->created_wall_ms};
	if (!c->created_wall_ms)
		row.created_ms = c->created_wall_ms = wall_ms();
	snprintf(row.id, sizeof(row.id), "%s", c->id);
	snprintf(row.slurm, sizeof(row.slurm), "%s", c->key.slurm);
	return state_cluster_put(c->owner->vcd->state, &row, err);
}

static struct images *cs_images(const struct cluster *c)
{
	return c->owner->vcd->images;
}

static int load_rest(struct cluster *c, const struct state_cluster *row, struct vc_error *err)
{
	const char *trace = NULL;
	snprintf(c->id, sizeof(c->id), "%s", row->id);
	c->uid = row->uid;
	c->vni = row->vni;
	c->created_wall_ms = row->created_ms;
	if (row->reason)
		vc_error_set(&c->reason, VC_EFAILED, "%s", row->reason);
	if (vc_json_str_opt(row->extra, "trace", 16, &trace, err) < 0)
		return -1;
	if (trace)
		snprintf(c->trace, sizeof(c->trace), "%s", trace);
	if (json_object_object_get_ex(row->extra, "usage", &c->usage))
		json_object_get(c->usage);
	if (json_object_object_get_ex(row->extra, "moves", &c->saved_moves))
		json_object_get(c->saved_moves);
	if (row->plan) {
		c->plan = plan_from_json(row->plan, err);
		if (!c->plan || cluster_set_hosts(c, err) < 0)
			return -1;
		c->plan_json = json_object_get(row->plan);
		(void)images_hold(cs_images(c), c->plan->image_digest, c->id, NULL); // hosts have it, whatever became of it here
	}
	stages_from_json(c, row->extra);
	struct json_object *parts = NULL;
	if (json_object_object_get_ex(row->extra, "leases", &parts) && json_object_is_type(parts, json_type_array) &&
	    grow_from_json(c, parts, err) < 0)
		return -1;
	if (row->view && !(c->view = view_from_json(row->view, err)))
		return -1;
	return 0;
}

// A start goes on: the time that no vcd has counted is that of the phase in which it was.
static void count_gap(struct cluster *c)
{
	uint64_t elapsed = cluster_elapsed_ms(c), counted = start_times_sum(&c->stages), now = c->phase_ms;
	uint64_t gap = elapsed > counted ? elapsed - counted : 0;
	if (c->phase < CLUSTER_READY)
		c->phase_ms = now > gap ? now - gap : 0;
}

struct cluster *cluster_load(struct clusters *cs, const void *row_ptr, struct vc_error *err)
{
	const struct state_cluster *row = row_ptr;
	struct plan_key key = {.job = row->job, .restart = row->restart};
	enum cluster_phase phase;
	const char *spec_text;
	snprintf(key.slurm, sizeof(key.slurm), "%s", row->slurm);
	if (cluster_phase_from_name(row->phase, &phase) < 0) {
		vc_error_set(err, VC_EFAILED, "phase '%s' is unknown", row->phase);
		return NULL;
	}
	if (!row->extra || vc_json_str(row->extra, "spec_text", VC_SPEC_MAX, &spec_text, err) < 0)
		return NULL;
	struct cluster *c = cluster_create(cs, &key, spec_text, err);
	if (!c)
		return NULL;
	if (load_rest(c, row, err) < 0) {
		cluster_destroy(c);
		return NULL;
	}
	c->phase = phase;
	count_gap(c);
	c->suspended = CLUSTER_SUSPENSION_UNKNOWN;
	for (size_t i = 0; phase == CLUSTER_READY && i < c->n_hosts; i++) {
		c->hosts[i].done = true;
		snprintf(c->hosts[i].phase, sizeof(c->hosts[i].phase), "done");
	}
	return c;
}
