// SPDX-License-Identifier: GPL-2.0-or-later
// What vcd asks libslurm: see slurmctl.h; the jobs of leases are slurmlease.c's. Slurm's own allocator frees what Slurm returned.
#include "vcd/slurmctl_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/limits.h"
#include "libvc/parse.h"

#define NSS_BUF_MAX (1u << 20) // bytes of one passwd or group record; a group of thousands of members
#define CPU_LIST_MAX 4096      // bytes of "0-3,8-11"

struct slurmctl *slurmctl_create(struct vc_error *err)
{
	struct slurmctl *ctl = calloc(1, sizeof(*ctl));
	if (!ctl) {
		vc_error_errno(err, "slurmctl");
		return NULL;
	}
	pthread_mutex_init(&ctl->lock, NULL);
	return ctl;
}

void slurmctl_destroy(struct slurmctl *ctl)
{
	if (!ctl)
		return;
	pthread_mutex_destroy(&ctl->lock);
	free(ctl);
}

const char *slurmctl_state_name(enum slurmctl_state state)
{
	static const char *const names[] = {"pending", "configuring", "running", "ending", "ended"};
	return names[state];
}

void slurmctl_job_destroy(struct slurmctl_job *job)
{
	if (!job)
		return;
	for (size_t i = 0; i < job->n_hosts; i++) {
		free(job->hosts[i].name);
		free(job->hosts[i].addr);
		free(job->hosts[i].cpu_ids);
	}
	free(job->hosts);
	free(job);
}

static enum slurmctl_state job_state(uint32_t raw)
{
	uint32_t base = raw & JOB_STATE_BASE;
	if (raw & JOB_COMPLETING)
		return SLURMCTL_ENDING;
	if (base == JOB_PENDING)
		return SLURMCTL_PENDING;
	if (base > JOB_SUSPENDED)
		return SLURMCTL_ENDED;
	return raw & JOB_CONFIGURING ? SLURMCTL_CONFIGURING : SLURMCTL_RUNNING;
}

static int add_id(struct plan_host *host, uint64_t id)
{
	uint32_t *ids = reallocarray(host->cpu_ids, host->n_cpu_ids + 1, sizeof(*ids));
	if (!ids)
		return -1;
	host->cpu_ids = ids;
	ids[host->n_cpu_ids++] = (uint32_t)id;
	return 0;
}

// "0-3,8" -> ids. What cannot be read leaves the list empty: members are then not pinned.
static void parse_cpu_list(struct plan_host *host, const char *list)
{
	vc_autostrv char **items = NULL;
	if (!list[0] || vc_parse_list("CPUs", list, ',', PLAN_CPUS_MAX, &items, NULL) < 0)
		return;
	for (size_t i = 0; items[i]; i++) {
		char *dash = strchr(items[i], '-');
		uint64_t first, last;
		if (dash)
			*dash = '\0';
		if (vc_parse_u64("CPU", items[i], 0, 65535, &first, NULL) < 0 ||
		    vc_parse_u64("CPU", dash ? dash + 1 : items[i], first, 65535, &last, NULL) < 0)
			return;
		for (uint64_t id = first; id <= last && host->n_cpu_ids < PLAN_CPUS_MAX; id++) {
			if (add_id(host, id) < 0)
				return;
		}
	}
}

struct snapshot {
	job_info_msg_t *jobs;
	node_info_msg_t *nodes;
	slurm_conf_t *conf;
};

static void snapshot_clear(struct snapshot *snap)
{
	if (snap->jobs)
		slurm_free_job_info_msg(snap->jobs);
	if (snap->nodes)
		slurm_free_node_info_msg(snap->nodes);
	if (snap->conf)
		slurm_free_ctl_conf(snap->conf);
}

static int slurm_failed(const char *what, uint32_t job, struct vc_error *err)
{
	int e = slurm_get_errno();
	return vc_error_set(err, e == ESLURM_INVALID_JOB_ID ? VC_ENOTFOUND : VC_EHOST, "slurmctld: %s of job %u: %s", what, job,
			    slurm_strerror(e));
}

static int snapshot_load(struct snapshot *snap, uint32_t job, struct vc_error *err)
{
	if (slurm_load_job(&snap->jobs, job, SHOW_DETAIL) != SLURM_SUCCESS)
		return slurm_failed("state", job, err);
	if (slurm_load_ctl_conf(0, &snap->conf) != SLURM_SUCCESS)
		return slurm_failed("configuration for the start", job, err);
	if (slurm_load_node(0, &snap->nodes, SHOW_ALL) != SLURM_SUCCESS)
		return slurm_failed("nodes for the start", job, err);
	return 0;
}

static const node_info_t *find_node(const node_info_msg_t *nodes, const char *name)
{
	for (uint32_t i = 0; i < nodes->record_count; i++) {
		if (nodes->node_array[i].name && strcmp(nodes->node_array[i].name, name) == 0)
			return &nodes->node_array[i];
	}
	return NULL;
}

// Memory that Slurm allocated on one host; 0 where it does not count memory.
static uint64_t host_memory(const struct snapshot *snap, const slurm_job_info_t *job, const struct plan_host *host)
{
	if (!(snap->conf->select_type_param & CR_MEMORY))
		return 0;
	if (job->pn_min_memory & MEM_PER_CPU)
		return (job->pn_min_memory & ~MEM_PER_CPU) * host->cpus;
	return job->pn_min_memory ? job->pn_min_memory : host->real_mem_mib;
}

// The host's IPv4 address for the cluster's tunnels, as text.
static char *resolve(const char *node, const char *addr, struct vc_error *err)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM}, *found = NULL;
	char text[INET_ADDRSTRLEN];
	int rc = getaddrinfo(addr, NULL, &hints, &found);
	if (rc) {
		vc_error_set(err, VC_EHOST, "node %s: its address '%s' does not resolve to IPv4 on the controller: %s", node, addr,
			     gai_strerror(rc));
		return NULL;
	}
	inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof(text));
	freeaddrinfo(found);
	char *copy = strdup(text);
	if (!copy)
		vc_error_errno(err, "node %s", node);
	return copy;
}

static int fill_host(const struct snapshot *snap, const slurm_job_info_t *job, const char *name, struct plan_host *host,
		     struct vc_error *err)
{
	char list[CPU_LIST_MAX] = "";
	const node_info_t *node = find_node(snap->nodes, name);
	if (!node)
		return vc_error_set(err, VC_EHOST, "slurmctld does not know node %s of job %u", name, job->job_id);
	if (!vc_is_utf8(name))
		return vc_error_set(err, VC_EHOST, "node %s: its NodeName in slurm.conf is not UTF-8: no virtual cluster can use it", name);
	host->name = strdup(name);
	if (!host->name)
		return vc_error_errno(err, "node %s", name);
	host->addr = resolve(name, node->node_addr ? node->node_addr : name, err);
	if (!host->addr)
		return -1;
	int cpus = slurm_job_cpus_allocated_on_node(job->job_resrcs, name);
	if (cpus <= 0)
		return vc_error_set(err, VC_EHOST, "slurmctld allocated no CPUs on node %s to job %u", name, job->job_id);
	host->cpus = (uint32_t)cpus;
	host->total_cpus = node->cpus;
	host->real_mem_mib = node->real_memory;
	host->mem_mib = host_memory(snap, job, host);
	if (slurm_job_cpus_allocated_str_on_node(list, sizeof(list), job->job_resrcs, name) == 0)
		parse_cpu_list(host, list);
	return 0;
}

static int fill_hosts(const struct snapshot *snap, const slurm_job_info_t *info, struct slurmctl_job *job, struct vc_error *err)
{
	hostlist_t list = slurm_hostlist_create(info->nodes);
	int n = list ? slurm_hostlist_count(list) : 0, rc = 0;
	if (n <= 0 || n > VC_HOSTS_MAX) {
		slurm_hostlist_destroy(list);
		return vc_error_set(err, VC_EUSER, "job %u has %d hosts, a virtual cluster takes 1 to %d", job->job, n, VC_HOSTS_MAX);
	}
	job->hosts = calloc((size_t)n, sizeof(*job->hosts));
	if (!job->hosts)
		rc = vc_error_errno(err, "hosts of job %u", job->job);
	while (rc == 0 && job->n_hosts < (size_t)n) {
		char *name = slurm_hostlist_shift(list);
		job->n_hosts++;
		rc = name ? fill_host(snap, info, name, &job->hosts[job->n_hosts - 1], err)
			  : vc_error_set(err, VC_EHOST, "slurmctld gave a short host list for job %u", job->job);
		free(name);
	}
	slurm_hostlist_destroy(list);
	return rc;
}

static int fill_job(const struct snapshot *snap, struct slurmctl_job *job, struct vc_error *err)
{
	const slurm_job_info_t *info = &snap->jobs->job_array[0];
	if (snap->jobs->record_count < 1)
		return vc_error_set(err, VC_ENOTFOUND, "slurmctld does not know job %u", job->job);
	snprintf(job->cluster, sizeof(job->cluster), "%s", snap->conf->cluster_name ? snap->conf->cluster_name : "cluster");
	job->restart = info->restart_cnt;
	job->suspended = (info->job_state & JOB_STATE_BASE) == JOB_SUSPENDED;
	job->state = job_state(info->job_state);
	job->het = info->het_job_id != 0;
	job->uid = info->user_id;
	job->gid = info->group_id;
	if (info->nodes && info->nodes[0] && job->state != SLURMCTL_PENDING && job->state != SLURMCTL_ENDED)
		return fill_hosts(snap, info, job, err);
	return 0;
}

int slurmctl_load_job(struct slurmctl *ctl, uint32_t job_id, struct slurmctl_job **ret, struct vc_error *err)
{
	struct snapshot snap = {0};
	struct slurmctl_job *job = calloc(1, sizeof(*job));
	if (!job)
		return vc_error_errno(err, "job %u", job_id);
	job->job = job_id;
	pthread_mutex_lock(&ctl->lock);
	int rc = snapshot_load(&snap, job_id, err);
	if (rc == 0)
		rc = fill_job(&snap, job, err);
	snapshot_clear(&snap);
	pthread_mutex_unlock(&ctl->lock);
	if (rc < 0) {
		slurmctl_job_destroy(job);
		return -1;
	}
	*ret = job;
	return 0;
}

// The name of a group, or its number where the databases have none.
static char *group_name(gid_t gid, char *buf, size_t len)
{
	struct group grp, *found = NULL;
	char *name = NULL;
	if (getgrgid_r(gid, &grp, buf, len, &found) == 0 && found && strlen(grp.gr_name) <= VC_NAME_MAX)
		return strdup(grp.gr_name);
	return asprintf(&name, "g%u", gid) < 0 ? NULL : name;
}

static int owner_groups(struct plan_owner *owner, char *buf, struct vc_error *err)
{
	gid_t gids[PLAN_GROUPS_MAX];
	int n = PLAN_GROUPS_MAX;
	if (getgrouplist(owner->user, owner->gid, gids, &n) < 0)
		return vc_error_set(err, VC_EUSER, "user %s is in %d groups, more than %d fit into a guest", owner->user, n,
				    PLAN_GROUPS_MAX);
	owner->groups = calloc((size_t)n, sizeof(*owner->groups));
	if (!owner->groups)
		return vc_error_errno(err, "groups of %s", owner->user);
	for (int i = 0; i < n; i++) {
		owner->groups[i].gid = gids[i];
		owner->groups[i].name = group_name(gids[i], buf, NSS_BUF_MAX);
		if (!owner->groups[i].name)
			return vc_error_errno(err, "groups of %s", owner->user);
		owner->n_groups = (size_t)i + 1;
	}
	return 0;
}

int slurmctl_owner(uid_t uid, gid_t gid, struct plan_owner *ret, struct vc_error *err)
{
	struct passwd pwd, *found = NULL;
	vc_autofree char *buf = malloc(NSS_BUF_MAX);
	if (!buf)
		return vc_error_errno(err, "user %u", uid);
	int rc = getpwuid_r(uid, &pwd, buf, NSS_BUF_MAX, &found);
	if (rc || !found || strlen(pwd.pw_name) > VC_NAME_MAX)
		return vc_error_set(err, VC_EHOST, "uid %u has no usable entry in the user database of the controller%s%s", uid,
				    rc ? ": " : "", rc ? strerror(rc) : "");
	*ret = (struct plan_owner){.uid = uid, .gid = gid, .user = strdup(pwd.pw_name), .home = strdup(pwd.pw_dir)};
	if (!ret->user || !ret->home)
		return vc_error_errno(err, "user %u", uid);
	return owner_groups(ret, buf, err);
}

// --- for vcctl check ---

static int fill_nodes(const node_info_msg_t *nodes, uint32_t flag, char **names, struct vc_error *err)
{
	size_t n = 0;
	for (uint32_t i = 0; i < nodes->record_count; i++) {
		const node_info_t *node = &nodes->node_array[i];
		if (node->name && (node->node_state & flag) == flag && !(names[n++] = strdup(node->name)))
			return vc_error_errno(err, "Slurm's nodes");
	}
	return 0;
}

int slurmctl_node_down(struct slurmctl *ctl, const char *node, const char *reason, struct vc_error *err)
{
	update_node_msg_t msg;
	vc_autofree char *name = strdup(node), *why = strdup(reason);
	if (!name || !why)
		return vc_error_errno(err, "node %s", node);
	slurm_init_update_node_msg(&msg);
	msg.node_names = name;
	msg.node_state = NODE_STATE_DOWN;
	msg.reason = why;
	msg.reason_uid = getuid();
	pthread_mutex_lock(&ctl->lock);
	int rc = slurm_update_node(&msg);
	int code = rc ? slurm_get_errno() : 0;
	pthread_mutex_unlock(&ctl->lock);
	return rc ? vc_error_set(err, VC_EHOST, "slurmctld does not set node %s down: %s", node, slurm_strerror(code)) : 0;
}

static int list_nodes(struct slurmctl *ctl, uint32_t flag, char ***ret, struct vc_error *err)
{
	node_info_msg_t *nodes = NULL;
	vc_autostrv char **names = NULL;
	int rc = -1;
	pthread_mutex_lock(&ctl->lock);
	if (slurm_load_node(0, &nodes, SHOW_ALL) != SLURM_SUCCESS)
		vc_error_set(err, VC_EHOST, "slurmctld does not tell its nodes: %s", slurm_strerror(slurm_get_errno()));
	else if (!(names = calloc(nodes->record_count + 1, sizeof(*names))))
		vc_error_errno(err, "Slurm's nodes");
	else
		rc = fill_nodes(nodes, flag, names, err);
	if (nodes)
		slurm_free_node_info_msg(nodes);
	pthread_mutex_unlock(&ctl->lock);
	if (rc == 0)
		*ret = vc_steal(&names);
	return rc;
}

int slurmctl_list_nodes(struct slurmctl *ctl, char ***ret, struct vc_error *err)
{
	return list_nodes(ctl, 0, ret, err);
}

int slurmctl_list_draining(struct slurmctl *ctl, char ***ret, struct vc_error *err)
{
	return list_nodes(ctl, NODE_STATE_DRAIN, ret, err);
}

// --- queued jobs ---

// The names of a host list that are not among `hosts` yet.
static int add_hosts(const char *list, char **hosts, size_t *n, struct vc_error *err)
{
	vc_autostrv char **names = NULL;
	size_t found;
	if (!list || !*list)
		return 0;
	if (vc_hostlist_expand(list, VC_HOSTS_MAX, &names, &found, err) < 0)
		return -1;
	for (size_t i = 0; i < found && *n < VC_HOSTS_MAX; i++) {
		if (!vc_strv_has(hosts, names[i]) && !(hosts[(*n)++] = strdup(names[i])))
			return vc_error_errno(err, "hosts of queued jobs");
	}
	return 0;
}

static int fill_queue(const job_info_msg_t *jobs, struct slurmctl_queue *q, struct vc_error *err)
{
	size_t n = 0;
	for (uint32_t i = 0; i < jobs->record_count; i++) {
		const slurm_job_info_t *job = &jobs->job_array[i];
		if ((job->job_state & JOB_STATE_BASE) != JOB_PENDING || job->submit_time < q->from || job->submit_time > q->to)
			continue;
		q->jobs++;
		if (add_hosts(job->sched_nodes, q->hosts, &n, err) < 0 || add_hosts(job->req_nodes, q->hosts, &n, err) < 0)
			return -1;
	}
	return 0;
}

int slurmctl_load_queue(struct slurmctl *ctl, struct slurmctl_queue *q, struct vc_error *err)
{
	job_info_msg_t *jobs = NULL;
	q->jobs = 0;
	q->hosts = calloc(VC_HOSTS_MAX + 1, sizeof(*q->hosts));
	if (!q->hosts)
		return vc_error_errno(err, "queued jobs");
	pthread_mutex_lock(&ctl->lock);
	int rc = slurm_load_job_user(&jobs, q->uid, SHOW_ALL) == SLURM_SUCCESS
			 ? fill_queue(jobs, q, err)
			 : vc_error_set(err, VC_EHOST, "slurmctld does not list jobs: %s", slurm_strerror(slurm_get_errno()));
	if (jobs)
		slurm_free_job_info_msg(jobs);
	pthread_mutex_unlock(&ctl->lock);
	return rc;
}

void slurmctl_setup_clear(struct slurmctl_setup *setup)
{
	free(setup->prolog);
	free(setup->epilog);
	free(setup->plugin_dir);
	free(setup->plugstack);
	free(setup->job_submit);
	free(setup->version);
	*setup = (struct slurmctl_setup){0};
}

static char *copy_text(const char *text)
{
	return strdup(text ? text : "");
}

static int fill_setup(const slurm_conf_t *conf, struct slurmctl_setup *s, struct vc_error *err)
{
	*s = (struct slurmctl_setup){
		.prolog = copy_text(conf->prolog_slurmctld),
		.epilog = copy_text(conf->epilog_slurmctld),
		.plugin_dir = copy_text(conf->plugindir),
		.plugstack = copy_text(conf->plugstack),
		.job_submit = copy_text(conf->job_submit_plugins),
		.version = copy_text(conf->version),
		.kill_wait_s = conf->kill_wait,
		.batch_start_s = conf->batch_start_timeout,
		.allocation_prolog = conf->prolog_flags & (PROLOG_FLAG_ALLOC | PROLOG_FLAG_CONTAIN),
	};
	if (s->prolog && s->epilog && s->plugin_dir && s->plugstack && s->job_submit && s->version)
		return 0;
	slurmctl_setup_clear(s);
	return vc_error_set(err, ENOMEM, "Slurm's configuration: out of memory");
}

int slurmctl_load_setup(struct slurmctl *ctl, struct slurmctl_setup *ret, struct vc_error *err)
{
	slurm_conf_t *conf = NULL;
	int rc;
	pthread_mutex_lock(&ctl->lock);
	if (slurm_load_ctl_conf(0, &conf) != SLURM_SUCCESS)
		rc = vc_error_set(err, VC_EHOST, "slurmctld does not tell its configuration: %s", slurm_strerror(slurm_get_errno()));
	else
		rc = fill_setup(conf, ret, err);
	if (conf)
		slurm_free_ctl_conf(conf);
	pthread_mutex_unlock(&ctl->lock);
	return rc;
}
