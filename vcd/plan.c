// SPDX-License-Identifier: GPL-2.0-or-later
// The plan of a cluster, pure: see plan.h. Its JSON form is in planjson.c.
#include "vcd/plan.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

struct plan *plan_create(void)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	return plan;
}

static void owner_clear(struct plan_owner *owner)
{
	for (size_t i = 0; i < owner->n_groups; i++)
		free(owner->groups[i].name);
	free(owner->groups);
	free(owner->user);
	free(owner->home);
}

void plan_destroy(struct plan *plan)
{
	if (!plan)
		return;
	owner_clear(&plan->owner);
	for (size_t i = 0; i < plan->n_hosts; i++) {
		free(plan->hosts[i].name);
		free(plan->hosts[i].addr);
		free(plan->hosts[i].cpu_ids);
	}
	free(plan->hosts);
	for (size_t i = 0; i < plan->n_members; i++)
		free(plan->members[i].cpu_ids);
	free(plan->members);
	vc_spec_destroy(plan->spec);
	free(plan);
}

const char *plan_key_text(const struct plan_key *key, char *buf, size_t len)
{
	snprintf(buf, len, "%s/%u.%u", key->slurm, key->job, key->restart);
	return buf;
}

bool plan_key_equal(const struct plan_key *a, const struct plan_key *b)
{
	return a->job == b->job && a->restart == b->restart && strcmp(a->slurm, b->slurm) == 0;
}

int plan_host_index(const struct plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->n_hosts; i++) {
		if (strcmp(plan->hosts[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

const struct plan_member *plan_member_by_rank(const struct plan *plan, uint32_t rank)
{
	if (rank < plan->n_members && plan->members[rank].rank == rank) // nearly always: ranks are dense
		return &plan->members[rank];
	for (size_t i = 0; i < plan->n_members; i++) {
		if (plan->members[i].rank == rank)
			return &plan->members[i];
	}
	return NULL;
}

// Memory of the host that this job may use, and where the number comes from.
uint64_t plan_host_share_mib(const struct plan_host *host)
{
	if (host->mem_mib)
		return host->mem_mib;
	if (!host->total_cpus)
		return host->real_mem_mib;
	return host->real_mem_mib * host->cpus / host->total_cpus;
}

// What a guest of mem_mib costs the host.
uint64_t plan_guest_cost(const struct plan_limits *limits, uint64_t mem_mib)
{
	return mem_mib + limits->overhead_mib + (mem_mib * limits->overhead_percent + 99) / 100;
}

// The largest guest whose cost fits into `room`.
static uint64_t without_overhead(const struct plan_limits *limits, uint64_t room)
{
	if (room <= limits->overhead_mib)
		return 0;
	return (room - limits->overhead_mib) * 100 / (100 + limits->overhead_percent);
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

static int member_memory(const struct plan *plan, const struct plan_host *host, const struct plan_limits *limits,
			 uint64_t *ret_mib, struct vc_error *err)
{
	uint64_t share = plan_host_share_mib(host), vms = plan->spec->vms;
	uint64_t mem = plan->spec->mem_mib ? plan->spec->mem_mib : without_overhead(limits, share / vms);
	if (mem < VC_MEM_MIN_MIB)
		return vc_error_set(err, VC_EUSER,
				    "host %s: of %llu MiB for %llu member%s, the hypervisor's overhead of %llu MiB + %u%% each leaves %llu MiB "
				    "to a member, less than %u MiB: ask Slurm for more with --mem",
				    host->name, (unsigned long long)share, (unsigned long long)vms, plural(vms),
				    (unsigned long long)limits->overhead_mib, limits->overhead_percent, (unsigned long long)mem, VC_MEM_MIN_MIB);
	if (plan_guest_cost(limits, mem) * vms > share)
		return vc_error_set(err, VC_EUSER,
				    "host %s: %llu member%s of %llu MiB (and %llu MiB overhead each): that is %llu MiB, Slurm allocated "
				    "%llu MiB: lower --vcluster-mem or --vcluster-vms, or ask Slurm for more with --mem",
				    host->name, (unsigned long long)vms, plural(vms), (unsigned long long)mem,
				    (unsigned long long)(plan_guest_cost(limits, mem) - mem),
				    (unsigned long long)(plan_guest_cost(limits, mem) * vms), (unsigned long long)share);
	*ret_mib = mem;
	return 0;
}

// vCPUs of the host's i-th member: asked for, or an even split whose first members take the rest. Members share a
// CPU only where Slurm gave fewer CPUs than members and nobody asked for a number.
static int member_vcpus(const struct plan *plan, const struct plan_host *host, uint32_t i, uint32_t *ret, struct vc_error *err)
{
	uint32_t vms = plan->spec->vms, asked = plan->spec->cpus;
	if (asked && (uint64_t)asked * vms > host->cpus)
		return vc_error_set(err, VC_EUSER,
				    "host %s: %u member%s of %u CPU%s: that is %llu CPUs, Slurm allocated %u: lower --vcluster-cpus or "
				    "--vcluster-vms, or ask Slurm for more with --cpus-per-task or --ntasks-per-node",
				    host->name, vms, plural(vms), asked, plural(asked), (unsigned long long)asked * vms, host->cpus);
	if (asked)
		*ret = asked;
	else if (host->cpus <= vms)
		*ret = 1;
	else
		*ret = host->cpus / vms + (i < host->cpus % vms);
	return 0;
}

static int member_cpu_ids(const struct plan_host *host, uint32_t first, struct plan_member *m, struct vc_error *err)
{
	if (!host->n_cpu_ids)
		return 0;
	size_t n = m->vcpus < host->n_cpu_ids ? m->vcpus : host->n_cpu_ids;
	m->cpu_ids = calloc(n, sizeof(*m->cpu_ids));
	if (!m->cpu_ids)
		return vc_error_errno(err, "plan");
	for (size_t i = 0; i < n; i++)
		m->cpu_ids[i] = host->cpu_ids[(first + i) % host->n_cpu_ids];
	m->n_cpu_ids = n;
	return 0;
}

static int member_names(const struct plan *plan, struct plan_member *m, struct vc_error *err)
{
	struct in_addr net, addr;
	uint32_t size = plan->net.prefix >= 31 ? 0 : (1u << (32 - plan->net.prefix)) - 2;
	if (inet_pton(AF_INET, plan->net.network, &net) != 1)
		return vc_error_set(err, VC_EHOST, "network '%s' is not an IPv4 address", plan->net.network);
	if (m->rank >= size)
		return vc_error_set(err, VC_EUSER, "member %u does not fit into network %s/%u", m->rank, plan->net.network,
				    plan->net.prefix);
	addr.s_addr = htonl(ntohl(net.s_addr) + m->rank + 1);
	inet_ntop(AF_INET, &addr, m->addr, sizeof(m->addr));
	snprintf(m->name, sizeof(m->name), "vc%u-%u", plan->key.job, m->rank);
	snprintf(m->mac, sizeof(m->mac), "02:%02x:%02x:%02x:%02x:%02x", plan->net.vni >> 16 & 0xff, plan->net.vni >> 8 & 0xff,
		 plan->net.vni & 0xff, m->rank >> 8 & 0xff, m->rank & 0xff);
	return 0;
}

static int plan_host_members(struct plan *plan, uint32_t h, const struct plan_limits *limits, struct vc_error *err)
{
	const struct plan_host *host = &plan->hosts[h];
	uint32_t next_cpu = 0;
	uint64_t mem = 0;
	if (member_memory(plan, host, limits, &mem, err) < 0)
		return -1;
	for (uint32_t i = 0; i < plan->spec->vms; i++) {
		struct plan_member *m = &plan->members[plan->n_members];
		*m = (struct plan_member){.rank = (uint32_t)plan->n_members, .host = h, .home = h, .to = PLAN_NOWHERE, .mem_mib = mem};
		plan->n_members++;
		if (member_vcpus(plan, host, i, &m->vcpus, err) < 0 || member_names(plan, m, err) < 0 ||
		    member_cpu_ids(host, next_cpu, m, err) < 0)
			return -1;
		m->slots = m->vcpus;
		next_cpu += m->vcpus;
	}
	return 0;
}

int plan_make(struct plan *plan, const struct plan_limits *limits, struct vc_error *err)
{
	if (plan->n_members)
		return vc_error_set(err, VC_EFAILED, "the plan is made already");
	size_t n = plan->n_hosts * plan->spec->vms;
	if (n == 0 || n > VC_MEMBERS_MAX)
		return vc_error_set(err, VC_EUSER, "%zu hosts of %u members each are outside 1 to %d members", plan->n_hosts,
				    plan->spec->vms, VC_MEMBERS_MAX);
	plan->members = calloc(n, sizeof(*plan->members));
	if (!plan->members)
		return vc_error_errno(err, "plan");
	plan->version = 1;
	for (uint32_t h = 0; h < plan->n_hosts; h++) {
		if (plan_host_members(plan, h, limits, err) < 0)
			return -1;
	}
	return 0;
}

// --- hosts that come and go -------------------------------------------------------------------------------------

static struct plan *next_plan(const struct plan *old, struct vc_error *err)
{
	vc_autojson struct json_object *json = plan_to_json(old);
	struct plan *plan = json ? plan_from_json(json, err) : NULL;
	if (!json)
		vc_error_errno(err, "plan");
	if (plan)
		plan->version = old->version + 1;
	return plan;
}

static int fill_host(struct plan_host *to, const struct plan_host *from, uint64_t lease, struct vc_error *err)
{
	size_t n = from->n_cpu_ids;
	char *name = strdup(from->name), *addr = strdup(from->addr);
	uint32_t *ids = calloc(n + 1, sizeof(*ids));
	free(to->name);
	free(to->addr);
	free(to->cpu_ids);
	*to = (struct plan_host){.name = name, .addr = addr, .cpus = from->cpus, .cpu_ids = ids, .total_cpus = from->total_cpus,
				 .mem_mib = from->mem_mib, .real_mem_mib = from->real_mem_mib, .lease = lease};
	if (!name || !addr || !ids)
		return vc_error_errno(err, "plan");
	if (n)
		memcpy(ids, from->cpu_ids, n * sizeof(*ids));
	to->n_cpu_ids = n;
	return 0;
}

static int add_host(struct plan *plan, const struct plan_host *host, uint64_t lease, uint32_t *ret_index, struct vc_error *err)
{
	int known = plan_host_index(plan, host->name);
	if (known >= 0 && !plan->hosts[known].gone)
		return vc_error_set(err, VC_EUSER, "host %s is in the cluster of job %u already: submit the lease's job with --exclude",
				    host->name, plan->key.job);
	if (known < 0 && plan->n_hosts >= VC_HOSTS_MAX)
		return vc_error_set(err, VC_EUSER, "the cluster of job %u has had %zu hosts, the most that one can have", plan->key.job,
				    plan->n_hosts);
	*ret_index = known < 0 ? (uint32_t)plan->n_hosts++ : (uint32_t)known;
	return fill_host(&plan->hosts[*ret_index], host, lease, err);
}

static int make_room(struct plan *plan, size_t n_hosts, struct vc_error *err)
{
	size_t n_members = n_hosts * plan->spec->vms;
	if (n_hosts == 0 || n_hosts > VC_HOSTS_MAX || plan->n_members + n_members > VC_MEMBERS_MAX)
		return vc_error_set(err, VC_EUSER, "the cluster of job %u has had %zu members; %zu more are above the %d that one can have",
				    plan->key.job, plan->n_members, n_members, VC_MEMBERS_MAX);
	struct plan_host *hosts = realloc(plan->hosts, (plan->n_hosts + n_hosts) * sizeof(*hosts));
	if (hosts)
		plan->hosts = hosts;
	struct plan_member *members = realloc(plan->members, (plan->n_members + n_members) * sizeof(*members));
	if (members)
		plan->members = members;
	if (!hosts || !members)
		return vc_error_errno(err, "plan");
	memset(plan->hosts + plan->n_hosts, 0, n_hosts * sizeof(*hosts));
	return 0;
}

struct plan *plan_grow(const struct plan *old, const struct plan_host *hosts, size_t n_hosts, uint64_t lease,
		       const struct plan_limits *limits, struct vc_error *err)
{
	plan_auto struct plan *plan = next_plan(old, err);
	if (!plan || make_room(plan, n_hosts, err) < 0)
		return NULL;
	for (size_t i = 0; i < n_hosts; i++) {
		uint32_t index = 0;
		if (add_host(plan, &hosts[i], lease, &index, err) < 0 || plan_host_members(plan, index, limits, err) < 0)
			return NULL;
	}
	return vc_steal(&plan);
}

struct plan *plan_shrink(const struct plan *old, bool (*gone)(void *ctx, const struct plan_host *host), void *ctx, struct vc_error *err)
{
	struct plan *plan = next_plan(old, err);
	for (size_t i = 0; plan && i < plan->n_hosts; i++)
		plan->hosts[i].gone = plan->hosts[i].gone || gone(ctx, &plan->hosts[i]);
	for (size_t i = 0; plan && i < plan->n_members; i++)
		plan->members[i].gone = plan->members[i].gone || plan->hosts[plan->members[i].host].gone;
	return plan;
}
