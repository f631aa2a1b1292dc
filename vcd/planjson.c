// SPDX-License-Identifier: GPL-2.0-or-later
// A plan's JSON form (docs/architecture.md, "The plan"): written by the controller, read by hosts that trust nothing.
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/plan.h"

static struct json_object *ids_to_json(const uint32_t *ids, size_t n)
{
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; array && i < n; i++)
		json_object_array_add(array, json_object_new_int64(ids[i]));
	return array;
}

static struct json_object *owner_to_json(const struct plan_owner *owner)
{
	struct json_object *obj = json_object_new_object(), *groups = json_object_new_array();
	for (size_t i = 0; i < owner->n_groups; i++) {
		struct json_object *group = json_object_new_object();
		vc_json_add_u64(group, "gid", owner->groups[i].gid);
		vc_json_add_str(group, "name", owner->groups[i].name);
		json_object_array_add(groups, group);
	}
	vc_json_add_u64(obj, "uid", owner->uid);
	vc_json_add_u64(obj, "gid", owner->gid);
	vc_json_add_str(obj, "user", owner->user);
	vc_json_add_str(obj, "home", owner->home);
	vc_json_add(obj, "groups", groups);
	return obj;
}

static struct json_object *host_to_json(const struct plan_host *host)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "name", host->name);
	vc_json_add_str(obj, "addr", host->addr);
	vc_json_add_u64(obj, "cpus", host->cpus);
	vc_json_add_u64(obj, "total_cpus", host->total_cpus);
	vc_json_add_u64(obj, "mem_mib", host->mem_mib);
	vc_json_add_u64(obj, "real_mem_mib", host->real_mem_mib);
	vc_json_add(obj, "cpu_ids", ids_to_json(host->cpu_ids, host->n_cpu_ids));
	if (host->lease)
		vc_json_add_u64(obj, "lease", host->lease);
	if (host->gone)
		vc_json_add_bool(obj, "gone", true);
	return obj;
}

static struct json_object *member_to_json(const struct plan *plan, const struct plan_member *m)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "rank", m->rank);
	vc_json_add_str(obj, "name", m->name);
	vc_json_add_str(obj, "host", plan->hosts[m->host].name);
	if (m->home != m->host)
		vc_json_add_str(obj, "home", plan->hosts[m->home].name);
	if (m->to != PLAN_NOWHERE)
		vc_json_add_str(obj, "to", plan->hosts[m->to].name);
	vc_json_add_str(obj, "addr", m->addr);
	vc_json_add_str(obj, "mac", m->mac);
	vc_json_add_u64(obj, "vcpus", m->vcpus);
	vc_json_add_u64(obj, "slots", m->slots);
	vc_json_add_u64(obj, "mem_mib", m->mem_mib);
	vc_json_add(obj, "cpus", ids_to_json(m->cpu_ids, m->n_cpu_ids));
	if (m->gone)
		vc_json_add_bool(obj, "gone", true);
	return obj;
}

static struct json_object *cluster_to_json(const struct plan *plan)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "id", plan->id);
	vc_json_add_str(obj, "slurm", plan->key.slurm);
	vc_json_add_u64(obj, "job", plan->key.job);
	vc_json_add_u64(obj, "restart", plan->key.restart);
	return obj;
}

static struct json_object *image_to_json(const struct plan *plan)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "digest", plan->image_digest);
	vc_json_add_str(obj, "name", plan->image_name);
	vc_json_add_bool(obj, "trusted", plan->image_trusted);
	return obj;
}

static struct json_object *net_to_json(const struct plan_net *net)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "vni", net->vni);
	vc_json_add_str(obj, "network", net->network);
	vc_json_add_u64(obj, "prefix", net->prefix);
	vc_json_add_u64(obj, "mtu", net->mtu);
	return obj;
}

struct json_object *plan_to_json(const struct plan *plan)
{
	struct json_object *obj = json_object_new_object();
	struct json_object *hosts = json_object_new_array(), *members = json_object_new_array();
	for (size_t i = 0; i < plan->n_hosts; i++)
		json_object_array_add(hosts, host_to_json(&plan->hosts[i]));
	for (size_t i = 0; i < plan->n_members; i++)
		json_object_array_add(members, member_to_json(plan, &plan->members[i]));
	vc_json_add(obj, "cluster", cluster_to_json(plan));
	if (plan->version > 1)
		vc_json_add_u64(obj, "version", plan->version);
	vc_json_add(obj, "owner", owner_to_json(&plan->owner));
	vc_json_add(obj, "image", image_to_json(plan));
	vc_json_add(obj, "net", net_to_json(&plan->net));
	vc_json_add_str(obj, "secret", plan->secret);
	vc_json_add(obj, "hosts", hosts);
	vc_json_add(obj, "members", members);
	vc_json_add(obj, "spec", vc_spec_to_json(plan->spec));
	return obj;
}

// Copies a string of exactly `len` lower-case hex digits.
static int read_hex(struct json_object *obj, const char *key, char *ret, size_t len, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, len, &s, err) < 0)
		return -1;
	if (strlen(s) != len || strspn(s, "0123456789abcdef") != len)
		return vc_error_set(err, VC_EPROTO, "'%s' must be %zu hex digits", key, len);
	memcpy(ret, s, len + 1);
	return 0;
}

// Copies a name of letters, digits, '.', '_' and '-' that starts with a letter or digit.
static int read_name(struct json_object *obj, const char *key, char *ret, size_t max, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, max, &s, err) < 0)
		return -1;
	bool ok = isalnum((unsigned char)s[0]);
	for (const char *p = s; ok && *p; p++)
		ok = isalnum((unsigned char)*p) || strchr("._-", *p);
	if (!ok)
		return vc_error_set(err, VC_EPROTO, "'%s' is not a name: letters, digits, '.', '_', '-'", key);
	memcpy(ret, s, strlen(s) + 1);
	return 0;
}

static int read_addr(struct json_object *obj, const char *key, char *ret, struct vc_error *err)
{
	const char *s;
	struct in_addr addr;
	if (vc_json_str(obj, key, INET_ADDRSTRLEN - 1, &s, err) < 0)
		return -1;
	if (inet_pton(AF_INET, s, &addr) != 1)
		return vc_error_set(err, VC_EPROTO, "'%s' is not an IPv4 address", key);
	inet_ntop(AF_INET, &addr, ret, INET_ADDRSTRLEN);
	return 0;
}

static int read_dup(struct json_object *obj, const char *key, size_t max, char **ret, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, max, &s, err) < 0)
		return -1;
	*ret = strdup(s);
	return *ret ? 0 : vc_error_errno(err, "'%s'", key);
}

static int read_ids(struct json_object *obj, const char *key, uint32_t **ret, size_t *ret_n, struct vc_error *err)
{
	struct json_object *array = NULL;
	if (vc_json_array(obj, key, PLAN_CPUS_MAX, &array, err) < 0)
		return -1;
	size_t n = json_object_array_length(array);
	vc_autofree uint32_t *ids = calloc(n ? n : 1, sizeof(*ids));
	if (!ids)
		return vc_error_errno(err, "'%s'", key);
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(array, i);
		int64_t id = json_object_is_type(item, json_type_int) ? json_object_get_int64(item) : -1;
		if (id < 0 || id > 65535)
			return vc_error_set(err, VC_EPROTO, "'%s' item %zu is not a CPU number", key, i);
		ids[i] = (uint32_t)id;
	}
	*ret = vc_steal(&ids);
	*ret_n = n;
	return 0;
}

static int read_owner(struct json_object *obj, struct plan_owner *owner, struct vc_error *err)
{
	struct json_object *array = NULL;
	uint32_t uid = 0, gid = 0;
	if (vc_json_u32(obj, "uid", UINT32_MAX - 1, &uid, err) < 0 || vc_json_u32(obj, "gid", UINT32_MAX - 1, &gid, err) < 0 ||
	    read_dup(obj, "user", VC_NAME_MAX, &owner->user, err) < 0 ||
	    read_dup(obj, "home", VC_PATH_MAX, &owner->home, err) < 0 ||
	    vc_json_array(obj, "groups", PLAN_GROUPS_MAX, &array, err) < 0)
		return -1;
	owner->uid = uid;
	owner->gid = gid;
	size_t n = json_object_array_length(array);
	owner->groups = calloc(n ? n : 1, sizeof(*owner->groups));
	if (!owner->groups)
		return vc_error_errno(err, "groups");
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(array, i);
		if (vc_json_u32(item, "gid", UINT32_MAX - 1, &gid, err) < 0 ||
		    read_dup(item, "name", VC_NAME_MAX, &owner->groups[i].name, err) < 0)
			return -1;
		owner->groups[i].gid = gid;
		owner->n_groups = i + 1;
	}
	return 0;
}

static int read_host(struct json_object *obj, struct plan_host *host, struct vc_error *err)
{
	if (read_dup(obj, "name", VC_HOSTNAME_MAX, &host->name, err) < 0)
		return -1;
	host->addr = malloc(INET_ADDRSTRLEN);
	if (!host->addr)
		return vc_error_errno(err, "host");
	host->addr[0] = '\0';
	if (read_addr(obj, "addr", host->addr, err) < 0 || vc_json_u32(obj, "cpus", 65536, &host->cpus, err) < 0 ||
	    vc_json_u32(obj, "total_cpus", 65536, &host->total_cpus, err) < 0 ||
	    vc_json_u64(obj, "mem_mib", 1ull << 40, &host->mem_mib, err) < 0 ||
	    vc_json_u64(obj, "real_mem_mib", 1ull << 40, &host->real_mem_mib, err) < 0 ||
	    vc_json_u64_opt(obj, "lease", INT64_MAX, &host->lease, err) < 0 || vc_json_bool_opt(obj, "gone", &host->gone, err) < 0)
		return -1;
	return read_ids(obj, "cpu_ids", &host->cpu_ids, &host->n_cpu_ids, err);
}

static int read_mac(struct json_object *obj, char *ret, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, "mac", 17, &s, err) < 0)
		return -1;
	bool ok = strlen(s) == 17;
	for (int i = 0; ok && i < 17; i++)
		ok = i % 3 == 2 ? s[i] == ':' : strchr("0123456789abcdef", s[i]) != NULL;
	if (!ok)
		return vc_error_set(err, VC_EPROTO, "'mac' is not an Ethernet address");
	memcpy(ret, s, 18);
	return 0;
}

// A host of the plan by its name; `absent` where the key is not there.
static int read_place(const struct plan *plan, struct json_object *obj, const char *key, uint32_t absent, uint32_t *ret,
		      struct vc_error *err)
{
	const char *host = NULL;
	if (vc_json_str_opt(obj, key, VC_HOSTNAME_MAX, &host, err) < 0)
		return -1;
	int index = host ? plan_host_index(plan, host) : 0;
	if (index < 0)
		return vc_error_set(err, VC_EPROTO, "'%s' of a member is host '%.64s', which the plan does not have", key, host);
	*ret = host ? (uint32_t)index : absent;
	return 0;
}

static int read_member(const struct plan *plan, struct json_object *obj, struct plan_member *m, struct vc_error *err)
{
	const char *host;
	if (vc_json_u32(obj, "rank", VC_MEMBERS_MAX - 1, &m->rank, err) < 0 ||
	    read_name(obj, "name", m->name, VC_NAME_MAX - 1, err) < 0 ||
	    vc_json_str(obj, "host", VC_HOSTNAME_MAX, &host, err) < 0 || read_addr(obj, "addr", m->addr, err) < 0 ||
	    read_mac(obj, m->mac, err) < 0 || vc_json_u32(obj, "vcpus", PLAN_CPUS_MAX, &m->vcpus, err) < 0 ||
	    vc_json_u32(obj, "slots", 65536, &m->slots, err) < 0 ||
	    vc_json_u64(obj, "mem_mib", 1ull << 40, &m->mem_mib, err) < 0 ||
	    read_ids(obj, "cpus", &m->cpu_ids, &m->n_cpu_ids, err) < 0 || vc_json_bool_opt(obj, "gone", &m->gone, err) < 0)
		return -1;
	int index = plan_host_index(plan, host);
	if (index < 0)
		return vc_error_set(err, VC_EPROTO, "member %u is on host '%.64s', which the plan does not have", m->rank, host);
	if (m->vcpus == 0 || m->mem_mib < VC_MEM_MIN_MIB)
		return vc_error_set(err, VC_EPROTO, "member %u has %u CPUs and %llu MiB", m->rank, m->vcpus,
				    (unsigned long long)m->mem_mib);
	m->host = (uint32_t)index;
	return read_place(plan, obj, "home", m->host, &m->home, err) < 0 ? -1 : read_place(plan, obj, "to", PLAN_NOWHERE, &m->to, err);
}

static int read_hosts(struct json_object *obj, struct plan *plan, struct vc_error *err)
{
	struct json_object *array = NULL;
	if (vc_json_array(obj, "hosts", VC_HOSTS_MAX, &array, err) < 0)
		return -1;
	size_t n = json_object_array_length(array);
	plan->hosts = calloc(n ? n : 1, sizeof(*plan->hosts));
	if (!plan->hosts)
		return vc_error_errno(err, "hosts");
	for (size_t i = 0; i < n; i++) {
		plan->n_hosts = i + 1; // counts the one in work, so that plan_destroy frees it
		if (read_host(json_object_array_get_idx(array, i), &plan->hosts[i], err) < 0)
			return vc_error_wrap(err, "host %zu", i);
	}
	return n ? 0 : vc_error_set(err, VC_EPROTO, "the plan has no hosts");
}

static int read_members(struct json_object *obj, struct plan *plan, struct vc_error *err)
{
	struct json_object *array = NULL;
	if (vc_json_array(obj, "members", VC_MEMBERS_MAX, &array, err) < 0)
		return -1;
	size_t n = json_object_array_length(array);
	plan->members = calloc(n ? n : 1, sizeof(*plan->members));
	if (!plan->members)
		return vc_error_errno(err, "members");
	for (size_t i = 0; i < n; i++) {
		plan->n_members = i + 1;
		if (read_member(plan, json_object_array_get_idx(array, i), &plan->members[i], err) < 0)
			return vc_error_wrap(err, "member %zu", i);
		if (i && plan->members[i].rank <= plan->members[i - 1].rank)
			return vc_error_set(err, VC_EPROTO, "member %zu: ranks must grow", i);
	}
	return n ? 0 : vc_error_set(err, VC_EPROTO, "the plan has no members");
}

static int read_cluster(struct json_object *obj, struct plan *plan, struct vc_error *err)
{
	return read_hex(obj, "id", plan->id, PLAN_ID_LEN, err) < 0 ||
			       read_name(obj, "slurm", plan->key.slurm, VC_NAME_MAX, err) < 0 ||
			       vc_json_u32(obj, "job", UINT32_MAX, &plan->key.job, err) < 0 ||
			       vc_json_u32(obj, "restart", UINT32_MAX, &plan->key.restart, err) < 0
		       ? -1
		       : 0;
}

static int read_image(struct json_object *obj, struct plan *plan, struct vc_error *err)
{
	return read_hex(obj, "digest", plan->image_digest, PLAN_HEX64_LEN, err) < 0 ||
			       read_name(obj, "name", plan->image_name, VC_NAME_MAX, err) < 0 ||
			       vc_json_bool_opt(obj, "trusted", &plan->image_trusted, err) < 0
		       ? -1
		       : 0;
}

static int read_net(struct json_object *obj, struct plan_net *net, struct vc_error *err)
{
	return vc_json_u32(obj, "vni", 0xffffff, &net->vni, err) < 0 || read_addr(obj, "network", net->network, err) < 0 ||
			       vc_json_u32(obj, "prefix", 32, &net->prefix, err) < 0 ||
			       vc_json_u32(obj, "mtu", 65535, &net->mtu, err) < 0
		       ? -1
		       : 0;
}

static int read_plan(struct json_object *obj, struct plan *plan, struct vc_error *err)
{
	struct json_object *cluster = NULL, *owner = NULL, *image = NULL, *net = NULL, *spec = NULL;
	if (vc_json_obj(obj, "cluster", &cluster, err) < 0 || vc_json_obj(obj, "owner", &owner, err) < 0 ||
	    vc_json_obj(obj, "image", &image, err) < 0 || vc_json_obj(obj, "net", &net, err) < 0 ||
	    vc_json_obj(obj, "spec", &spec, err) < 0)
		return -1;
	if (read_cluster(cluster, plan, err) < 0 || read_owner(owner, &plan->owner, err) < 0 ||
	    read_image(image, plan, err) < 0 || read_net(net, &plan->net, err) < 0 ||
	    read_hex(obj, "secret", plan->secret, PLAN_HEX64_LEN, err) < 0 || read_hosts(obj, plan, err) < 0 ||
	    read_members(obj, plan, err) < 0)
		return -1;
	plan->version = 1;
	if (vc_json_u64_opt(obj, "version", INT64_MAX, &plan->version, err) < 0)
		return -1;
	plan->spec = vc_spec_from_json(spec, err);
	return plan->spec ? 0 : -1;
}

struct plan *plan_from_json(struct json_object *obj, struct vc_error *err)
{
	plan_auto struct plan *plan = plan_create();
	if (!plan) {
		vc_error_errno(err, "plan");
		return NULL;
	}
	if (read_plan(obj, plan, err) < 0) {
		vc_error_wrap(err, "plan");
		return NULL;
	}
	return vc_steal(&plan);
}
