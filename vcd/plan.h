// SPDX-License-Identifier: GPL-2.0-or-later
// The plan of a cluster: spec + allocation -> members, names, addresses. Pure: no I/O, no clock, no randomness.
//
// The controller makes it once with plan_make(); every host of the cluster gets it as JSON (docs/architecture.md)
// and persists it before it acknowledges. plan_from_json() trusts nothing: it is what a host runs on a peer's words.
#ifndef VCD_PLAN_H
#define VCD_PLAN_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "libvc/limits.h"
#include "libvc/spec.h"

#define PLAN_ID_LEN 32	  // hex digits of a cluster id
#define PLAN_SHORT_LEN 8  // of them in the names of bridges, taps, domains
#define PLAN_HEX64_LEN 64 // hex digits of a digest or a secret
#define PLAN_NOWHERE UINT32_MAX // no host
#define PLAN_CPUS_MAX 1024 // CPU ids of one member
#define PLAN_GROUPS_MAX 256 // supplementary groups carried into guests; more are an error that names the user

struct plan_key {
	char slurm[VC_NAME_MAX + 1]; // Slurm's ClusterName
	uint32_t job;
	uint32_t restart;
};

struct plan_group {
	gid_t gid;
	char *name;
};

struct plan_owner {
	uid_t uid;
	gid_t gid;
	char *user;
	char *home;
	struct plan_group *groups;
	size_t n_groups;
};

struct plan_host {
	char *name;	   // Slurm's NodeName
	char *addr;	   // underlay address for the VXLAN, numeric
	uint32_t cpus;	   // CPUs that Slurm allocated here
	uint32_t *cpu_ids; // their ids where Slurm counts cores, n_cpu_ids may be 0
	size_t n_cpu_ids;
	uint32_t total_cpus; // CPUs of the host as Slurm knows them
	uint64_t mem_mib;  // memory that Slurm allocated here; 0: Slurm does not count memory
	uint64_t real_mem_mib; // the host's memory as Slurm knows it
	uint64_t lease;	       // that brought it; 0: the cluster's own job
	bool gone;	       // left the cluster for good, or until another lease brings it again
};

struct plan_member {
	uint32_t rank;
	char name[VC_NAME_MAX + 1];
	uint32_t host;	    // index into hosts: where it runs
	uint32_t home;	    // where Slurm gave its processors and starts its tasks: it may have moved from there
	uint32_t to;	    // where it is on its way to; PLAN_NOWHERE
	char addr[16];	    // dotted quad
	char mac[18];
	uint32_t vcpus;
	uint32_t slots;	    // MPI ranks it is meant to take: its vCPUs
	uint64_t mem_mib;
	uint32_t *cpu_ids; // what its vCPUs may run on; empty: anywhere
	size_t n_cpu_ids;
	bool gone; // with its host: the rank is never used again
};

struct plan_net {
	uint32_t vni;
	char network[16]; // dotted quad
	uint32_t prefix;
	uint32_t mtu; // of the guests' interface
};

struct plan {
	char id[PLAN_ID_LEN + 1];
	uint64_t version; // 1; one more each time that hosts come or go
	struct plan_key key;
	struct plan_owner owner;
	char image_digest[PLAN_HEX64_LEN + 1];
	char image_name[VC_NAME_MAX + 1];
	bool image_trusted; // the admin allows mounts for it
	struct plan_net net;
	char secret[PLAN_HEX64_LEN + 1];
	struct plan_host *hosts;
	size_t n_hosts;
	struct plan_member *members;
	size_t n_members;
	struct vc_spec *spec;
};

// What plan_make() needs beside the parts that the caller has filled in already.
struct plan_limits {
	uint64_t overhead_mib;	   // hypervisor's own memory per member, measured default in vcd.conf
	uint32_t overhead_percent; // and in proportion to the guest's memory
};

// In: id, key, owner, image, net, secret, hosts and spec are filled. Out: members. A request that does not fit is
// VC_EUSER with the numbers.
int plan_make(struct plan *plan, const struct plan_limits *limits, struct vc_error *err);

// The next plan. What is there stays where it is, so that numbers of hosts, ranks, names and addresses keep their meaning;
// each host gets members of the spec with new ranks. VC_EUSER: it does not fit, or such a host is in the cluster already.
struct plan *plan_grow(const struct plan *old, const struct plan_host *hosts, size_t n_hosts, uint64_t lease,
		       const struct plan_limits *limits, struct vc_error *err);
// The next plan: hosts which gone(ctx, host) says of, with their members, are gone.
struct plan *plan_shrink(const struct plan *old, bool (*gone)(void *ctx, const struct plan_host *host), void *ctx, struct vc_error *err);
// Memory of a host that the job may use; 0 is never returned where Slurm knows the host.
uint64_t plan_host_share_mib(const struct plan_host *host);
uint64_t plan_guest_cost(const struct plan_limits *limits, uint64_t mem_mib); // with the hypervisor's own

struct json_object *plan_to_json(const struct plan *plan);
struct plan *plan_from_json(struct json_object *obj, struct vc_error *err);
struct plan *plan_create(void);
void plan_destroy(struct plan *plan);

// "lab/123.0"; buf of at least VC_NAME_MAX + 24 bytes.
const char *plan_key_text(const struct plan_key *key, char *buf, size_t len);
bool plan_key_equal(const struct plan_key *a, const struct plan_key *b);
// Index of the host with that name, or -1.
int plan_host_index(const struct plan *plan, const char *name);
const struct plan_member *plan_member_by_rank(const struct plan *plan, uint32_t rank);

static inline void plan_cleanup(struct plan **plan)
{
	plan_destroy(*plan);
}
#define plan_auto __attribute__((cleanup(plan_cleanup)))

#endif
