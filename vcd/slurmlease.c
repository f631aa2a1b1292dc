// SPDX-License-Identifier: GPL-2.0-or-later
// Jobs of leases: see slurmlease.h. Slurm's own allocator frees what Slurm returned.
#include "vcd/slurmlease.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "libvc/parse.h"
#include "vcd/slurmctl_int.h"

#define COMMENT_MARK "vcluster lease" // comment of the job: "vcluster lease <cluster> <number>"
#define ENDING_S 60		      // s before its end that a job's hosts are drained: a boot's length for nothing
#define RENEW_S 120		      // s that a lease's end may be before its primary's: limits are in whole minutes
#define ANSWERED 2000		      // errors from here on are slurmctld's own words; below, the call itself failed

// One step, so that what ends the job reaches it first: Slurm signals steps at once, a batch script only at the end.
static const char script[] = "#!/bin/sh\n"
			     "exec srun --ntasks=1 --overlap --mem=0 --mpi=none --input=none --quit-on-interrupt"
			     " " VC_LIBEXECDIR "/vc-lease %" PRIu32 " %" PRIu64 "\n";

// --- submitting -----------------------------------------------------------------------------------------------------

static int fail(const char *what, struct vc_error *err)
{
	int code = slurm_get_errno();
	return vc_error_set(err, code >= ANSWERED ? VC_EUSER : VC_EHOST, "%s: %s", what, slurm_strerror(code));
}

// The rest of the primary's time, in whole minutes that cover it.
static uint32_t rest_minutes(const slurm_job_info_t *primary, time_t now)
{
	if (primary->time_limit == INFINITE || primary->end_time <= 0)
		return INFINITE;
	return primary->end_time > now ? (uint32_t)((primary->end_time - now + 59) / 60) : 1;
}

static void copy_request(job_desc_msg_t *d, const slurm_job_info_t *primary, uint32_t cpus)
{
	d->account = primary->account;
	d->partition = primary->partition;
	d->qos = primary->qos;
	d->reservation = primary->resv_name;
	d->features = primary->features;
	d->wckey = primary->wckey;
	d->tres_per_node = primary->tres_per_node;
	d->user_id = primary->user_id;
	d->group_id = primary->group_id;
	d->shared = primary->shared;
	d->pn_min_memory = primary->pn_min_memory ? primary->pn_min_memory : NO_VAL64;
	d->pn_min_tmp_disk = primary->pn_min_tmp_disk;
	d->time_limit = rest_minutes(primary, time(NULL));
	d->min_nodes = d->max_nodes = 1;
	d->num_tasks = 1;
	d->min_cpus = cpus;
	d->cpus_per_task = (uint16_t)(cpus > UINT16_MAX ? UINT16_MAX : cpus);
	d->requeue = 0; // another host is another lease
	d->kill_on_node_fail = 1;
}

struct texts { // of one submission; what Slurm's message points to while it is sent
	char comment[128], control[160], line[96], script[sizeof(script) + 256];
};

static void fill_texts(struct texts *t, const struct slurmlease_args *a)
{
	snprintf(t->comment, sizeof(t->comment), COMMENT_MARK " %s %" PRIu64, a->cluster, a->lease);
	snprintf(t->control, sizeof(t->control), SLURMLEASE_CONTROL_NAME "=%s %" PRIu64 " %u", a->cluster, a->lease, a->primary);
	snprintf(t->line, sizeof(t->line), "vcd: lease %" PRIu64 " of job %u", a->lease, a->primary);
	snprintf(t->script, sizeof(t->script), script, a->primary, a->lease);
}

static int send_job(const slurm_job_info_t *primary, const struct slurmlease_args *a, const char *excluded, uint32_t *ret_job,
		    struct vc_error *err)
{
	struct texts t;
	char path[] = "PATH=/usr/bin:/bin", *env[] = {path, NULL}, name[] = SLURMLEASE_NAME, *argv[] = {name, NULL};
	char null[] = "/dev/null", root[] = "/", *control[] = {t.control, NULL};
	vc_autofree char *exclude = strdup(excluded);
	submit_response_msg_t *answer = NULL;
	job_desc_msg_t d;
	if (!exclude)
		return vc_error_errno(err, "lease");
	fill_texts(&t, a);
	slurm_init_job_desc_msg(&d);
	copy_request(&d, primary, a->cpus);
	d.name = name;
	d.comment = t.comment;
	d.submit_line = t.line;
	d.script = t.script;
	d.exc_nodes = exclude[0] ? exclude : NULL;
	d.environment = env;
	d.env_size = 1;
	d.spank_job_env = control;
	d.spank_job_env_size = 1;
	d.argc = 1;
	d.argv = argv;
	d.work_dir = root;
	d.std_in = d.std_out = d.std_err = null;
	if (slurm_submit_batch_job(&d, &answer) != SLURM_SUCCESS)
		return fail("slurmctld does not take a lease's job", err);
	*ret_job = answer->job_id;
	slurm_free_submit_response_response_msg(answer);
	return 0;
}

// Where all hosts are excluded, the job waits for one that another cluster is about to leave.
static int send_job_somewhere(const slurm_job_info_t *primary, const struct slurmlease_args *a, uint32_t *ret_job, struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	if (send_job(primary, a, a->exclude, ret_job, &why) == 0)
		return 0;
	bool none_left = slurm_get_errno() == ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE;
	if (none_left && a->exclude_least && strcmp(a->exclude_least, a->exclude) != 0)
		return send_job(primary, a, a->exclude_least, ret_job, err);
	if (err)
		*err = why;
	return -1;
}

int slurmlease_submit(struct slurmctl *ctl, const struct slurmlease_args *args, uint32_t *ret_job, struct vc_error *err)
{
	job_info_msg_t *jobs = NULL;
	int rc;
	pthread_mutex_lock(&ctl->lock);
	if (slurm_load_job(&jobs, args->primary, SHOW_DETAIL) != SLURM_SUCCESS)
		rc = fail("slurmctld does not tell the job that a lease is for", err);
	else if (jobs->record_count < 1 || jobs->job_array[0].user_id != args->uid)
		rc = vc_error_set(err, VC_EUSER, "job %u is not of uid %u any more", args->primary, args->uid);
	else
		rc = send_job_somewhere(&jobs->job_array[0], args, ret_job, err);
	if (jobs)
		slurm_free_job_info_msg(jobs);
	pthread_mutex_unlock(&ctl->lock);
	return rc;
}

// --- listing ------------------------------------------------------------------------------------------------------------

static enum lease_slurm pending_state(const slurm_job_info_t *job)
{
	if (job->restart_cnt)
		return LEASE_JOB_REQUEUED;
	switch (job->state_reason) {
	case WAIT_HELD:
	case WAIT_HELD_USER:
		return LEASE_JOB_ON_HOLD;
	case FAIL_BAD_CONSTRAINTS:
	case FAIL_ACCOUNT:
	case FAIL_QOS:
	case WAIT_QOS:
	case WAIT_ACCOUNT:
	case WAIT_DEP_INVALID:
		return LEASE_JOB_NEVER;
	case WAIT_PART_NODE_LIMIT:
	case WAIT_PART_TIME_LIMIT:
	case WAIT_PART_DOWN:
	case WAIT_PART_INACTIVE:
	case WAIT_ASSOC_JOB_LIMIT:
	case WAIT_ASSOC_RESOURCE_LIMIT:
	case WAIT_ASSOC_TIME_LIMIT:
	case WAIT_RESERVATION:
		return LEASE_JOB_LIMITED;
	default: // from here on the reasons are limits of a QOS or an association, one for each resource
		return job->state_reason >= WAIT_QOS_THRES && job->state_reason != WAIT_PROLOG && job->state_reason != WAIT_CLEANING
			       ? LEASE_JOB_LIMITED
			       : LEASE_JOB_PENDING;
	}
}

static enum lease_slurm ended_state(uint32_t base)
{
	static const enum lease_slurm states[] = {
		[JOB_COMPLETE] = LEASE_JOB_COMPLETED, [JOB_CANCELLED] = LEASE_JOB_CANCELLED, [JOB_FAILED] = LEASE_JOB_FAILED,
		[JOB_TIMEOUT] = LEASE_JOB_TIMEOUT,    [JOB_NODE_FAIL] = LEASE_JOB_NODE_FAIL, [JOB_PREEMPTED] = LEASE_JOB_PREEMPTED,
		[JOB_BOOT_FAIL] = LEASE_JOB_NODE_FAIL, [JOB_DEADLINE] = LEASE_JOB_TIMEOUT,    [JOB_OOM] = LEASE_JOB_FAILED,
	};
	return base < VC_ARRAY_LEN(states) ? states[base] : LEASE_JOB_FAILED;
}

static enum lease_slurm state_of(const slurm_job_info_t *job, time_t now)
{
	uint32_t base = job->job_state & JOB_STATE_BASE;
	if (job->job_state & JOB_REVOKED)
		return LEASE_JOB_REVOKED;
	if (job->job_state & JOB_COMPLETING)
		return LEASE_JOB_COMPLETING;
	if (base == JOB_PENDING)
		return pending_state(job);
	if (base > JOB_SUSPENDED)
		return ended_state(base);
	if (base == JOB_SUSPENDED || (job->job_state & JOB_STOPPED))
		return LEASE_JOB_SUSPENDED;
	if (job->preempt_time || (job->time_limit != INFINITE && job->end_time && job->end_time - now < ENDING_S))
		return LEASE_JOB_ENDING_SOON;
	return job->job_state & JOB_CONFIGURING ? LEASE_JOB_CONFIGURING : LEASE_JOB_RUNNING;
}

// "vcluster lease <cluster> <number>" of that cluster
static bool read_comment(const char *comment, const char *cluster, uint64_t *ret)
{
	size_t mark = strlen(COMMENT_MARK " "), len = strlen(cluster);
	return comment && strncmp(comment, COMMENT_MARK " ", mark) == 0 && strncmp(comment + mark, cluster, len) == 0 &&
	       comment[mark + len] == ' ' && vc_parse_u64("lease", comment + mark + len + 1, 1, UINT64_MAX, ret, NULL) == 0;
}

static int add_job(const slurm_job_info_t *job, uint64_t lease, time_t now, struct lease_job **list, size_t *n, struct vc_error *err)
{
	struct lease_job *grown = reallocarray(*list, *n + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "jobs of leases");
	*list = grown;
	struct lease_job *to = &grown[(*n)++];
	*to = (struct lease_job){.lease = lease, .job = job->job_id, .state = state_of(job, now)};
	to->end_ms = (int64_t)(job->end_time ? job->end_time : now) * 1000;
	if (job->nodes && lease_job_live(to->state))
		snprintf(to->host, sizeof(to->host), "%s", job->nodes);
	return 0;
}

// A lease's job ends with its primary: when that was given more time, so is this.
static void renew(const slurm_job_info_t *job, const slurm_job_info_t *primary)
{
	job_desc_msg_t d;
	bool runs = (job->job_state & JOB_STATE_BASE) == JOB_RUNNING && !(job->job_state & JOB_COMPLETING) && !job->preempt_time;
	bool endless = primary->time_limit == INFINITE;
	if (!runs || job->time_limit == INFINITE || (!endless && primary->end_time < job->end_time + RENEW_S))
		return;
	slurm_init_job_desc_msg(&d);
	d.job_id = job->job_id;
	d.time_limit = endless ? INFINITE : (uint32_t)((primary->end_time - job->start_time + 59) / 60);
	if (slurm_update_job(&d) == SLURM_SUCCESS)
		vc_log_notice("job %u: its lease %u has until its end, too", primary->job_id, job->job_id);
	else
		vc_log_warning("job %u: the time limit of its lease %u cannot be raised: %s", primary->job_id, job->job_id,
			       slurm_strerror(slurm_get_errno()));
}

static const slurm_job_info_t *find_primary(const job_info_msg_t *jobs, uint32_t id)
{
	for (uint32_t i = 0; i < jobs->record_count; i++) {
		if (jobs->job_array[i].job_id == id)
			return &jobs->job_array[i];
	}
	return NULL;
}

static int add_owner(const job_info_msg_t *jobs, const struct slurmlease_owner *o, struct lease_job **list, size_t *n, struct vc_error *err)
{
	time_t now = time(NULL);
	const slurm_job_info_t *primary = find_primary(jobs, o->primary);
	for (uint32_t i = 0; i < jobs->record_count; i++) {
		const slurm_job_info_t *job = &jobs->job_array[i];
		uint64_t lease;
		if (job->user_id != o->uid || job->job_id == o->primary || !read_comment(job->comment, o->cluster, &lease))
			continue;
		if (primary && (primary->job_state & JOB_STATE_BASE) == JOB_RUNNING)
			renew(job, primary);
		if (add_job(job, lease, now, list, n, err) < 0)
			return -1;
	}
	return 0;
}

// One list of jobs for each uid, however many clusters it has.
static int list_uid(const struct slurmlease_owner *owners, size_t n_owners, uid_t uid, struct lease_job **list, size_t *n,
		    struct vc_error *err)
{
	job_info_msg_t *jobs = NULL;
	int rc = 0;
	if (slurm_load_job_user(&jobs, uid, SHOW_ALL) != SLURM_SUCCESS)
		return fail("slurmctld does not list jobs", err);
	for (size_t i = 0; rc == 0 && i < n_owners; i++) {
		if (owners[i].uid == uid)
			rc = add_owner(jobs, &owners[i], list, n, err);
	}
	slurm_free_job_info_msg(jobs);
	return rc;
}

static bool seen_before(const struct slurmlease_owner *owners, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (owners[j].uid == owners[i].uid)
			return true;
	}
	return false;
}

int slurmlease_list(struct slurmctl *ctl, const struct slurmlease_owner *owners, size_t n, struct lease_job **ret, size_t *ret_n,
		    struct vc_error *err)
{
	struct lease_job *list = NULL;
	size_t found = 0;
	int rc = 0;
	pthread_mutex_lock(&ctl->lock);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (!seen_before(owners, i))
			rc = list_uid(owners, n, owners[i].uid, &list, &found, err);
	}
	pthread_mutex_unlock(&ctl->lock);
	if (rc < 0) {
		free(list);
		return -1;
	}
	*ret = list;
	*ret_n = found;
	return 0;
}

// --- the pool -------------------------------------------------------------------------------------------------------------

static uint32_t count_idle(const node_info_msg_t *nodes)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < nodes->record_count; i++) {
		uint32_t state = nodes->node_array[i].node_state;
		n += (state & NODE_STATE_BASE) == NODE_STATE_IDLE &&
		     !(state & (NODE_STATE_DRAIN | NODE_STATE_COMPLETING | NODE_STATE_FAIL | NODE_STATE_MAINT | NODE_STATE_NO_RESPOND));
	}
	return n;
}

static uint32_t count_queued(const job_info_msg_t *jobs)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < jobs->record_count; i++) {
		const slurm_job_info_t *job = &jobs->job_array[i];
		bool waits = (job->job_state & JOB_STATE_BASE) == JOB_PENDING && !(job->job_state & JOB_COMPLETING) &&
			     (job->state_reason == WAIT_RESOURCES || job->state_reason == WAIT_PRIORITY);
		bool lease = job->comment && strncmp(job->comment, COMMENT_MARK " ", strlen(COMMENT_MARK " ")) == 0;
		n += waits && !lease ? (job->num_nodes ? job->num_nodes : 1) : 0;
	}
	return n;
}

static int look_nodes(struct slurmlease_pool *pool, struct vc_error *err)
{
	node_info_msg_t *nodes = NULL;
	if (slurm_load_node((time_t)pool->nodes_at, &nodes, SHOW_ALL) != SLURM_SUCCESS)
		return slurm_get_errno() == SLURM_NO_CHANGE_IN_DATA ? 0 : fail("slurmctld does not tell its nodes", err);
	pool->idle = count_idle(nodes);
	pool->nodes_at = nodes->last_update;
	slurm_free_node_info_msg(nodes);
	return 0;
}

static int look_queue(struct slurmlease_pool *pool, struct vc_error *err)
{
	job_info_msg_t *jobs = NULL;
	if (slurm_load_jobs((time_t)pool->jobs_at, &jobs, SHOW_ALL) != SLURM_SUCCESS)
		return slurm_get_errno() == SLURM_NO_CHANGE_IN_DATA ? 0 : fail("slurmctld does not list jobs", err);
	pool->queued = count_queued(jobs);
	pool->jobs_at = jobs->last_update;
	slurm_free_job_info_msg(jobs);
	return 0;
}

int slurmlease_look_pool(struct slurmctl *ctl, struct slurmlease_pool *pool, struct vc_error *err)
{
	pthread_mutex_lock(&ctl->lock);
	int rc = look_nodes(pool, err) < 0 || look_queue(pool, err) < 0 ? -1 : 0;
	pthread_mutex_unlock(&ctl->lock);
	return rc;
}

int slurmlease_cancel(struct slurmctl *ctl, uint32_t job, struct vc_error *err)
{
	pthread_mutex_lock(&ctl->lock);
	int rc = slurm_kill_job(job, SIGKILL, 0) == SLURM_SUCCESS ? 0 : slurm_get_errno();
	pthread_mutex_unlock(&ctl->lock);
	if (rc == 0 || rc == ESLURM_ALREADY_DONE || rc == ESLURM_INVALID_JOB_ID)
		return 0;
	return vc_error_set(err, VC_EHOST, "slurmctld does not cancel job %u: %s", job, slurm_strerror(rc));
}
