// SPDX-License-Identifier: GPL-2.0-or-later
// Elastic policies: decide(state, input, now, seed) -> (state', actions, reason). Pure: no clock, no I/O, no globals.
//
// The daemon and vcsim run the same code. A decision with its state, input, time and seed as JSON (elastic_record) replays
// identically (elastic_replay). A policy is one file and one row of `elastic_policies`; docs/elasticity.md says how to add
// one. Sizes are in hosts; loads and CPUs in thousandths (a host's worth of work, a CPU), memory in MiB.
#ifndef VCD_ELASTIC_ELASTIC_H
#define VCD_ELASTIC_ELASTIC_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/limits.h"
#include "vcd/elastic/params.h"
#include "vcd/elastic/smooth.h"

#define ELASTIC_REASON_MAX 256	 // bytes of the reason of one action, or of a decision
#define ELASTIC_CLUSTERS_MAX 1024 // clusters of one decision
#define ELASTIC_ACTIONS_MAX (ELASTIC_CLUSTERS_MAX * 2 + VC_MEMBERS_MAX) // what one decision can hold

// A cluster as a policy sees it.
struct elastic_cluster {
	uint32_t id;	   // of its primary job
	uint32_t min, max; // hosts, as --vcluster-size says; the primary's own are never given back
	uint32_t reserve;  // hosts that it gets within a bounded time when its load asks for them
	int32_t priority;  // a higher one goes first
	uint32_t weight;   // its share among clusters of one priority
	uint32_t wanted;   // by `vcctl resize`; 0: as the load says
	uint32_t size;	   // hosts that it has, those that are leaving included
	uint32_t leaving;  // of them
	uint32_t coming;   // hosts that were asked for and are not there yet
	uint32_t busy;	   // hosts with work on them
	int64_t load;	   // raw: thousandths of hosts that its work could use now, by processes that could run
	int64_t cpu, steal; // thousandths of hosts that its members used since the last round, and that were stolen from them; 0: not known
	int64_t stall;	   // thousandths of hosts in which some process waited for a processor (PSI)
	int64_t mem;	   // thousandths of one host's members' memory that its guests use
	uint32_t head;	   // hosts that its first waiting piece of work needs; 0: nothing waits, or it does not say
	int64_t waited_ms; // how long that has waited
	int64_t head_ms;   // how long it will run, as its user said; 0: nobody knows
};

// A host that members share (policies that move members).
struct elastic_host {
	char name[VC_NAME_MAX + 1];
	int64_t cpu;	 // capacity, thousandths of CPUs
	int64_t mem_mib; // capacity
	bool releasable; // a lease: may be given back when it is empty
	bool leaving;	 // under reclaim: takes no more members
};

struct elastic_member {
	uint32_t cluster, rank;
	uint32_t host;	   // index into hosts
	int64_t need;	   // CPU that it could use now, thousandths
	int64_t cpu, steal; // that it used, and that was stolen from it: what `need` was made of, for people
	int64_t dirty_mib; // of its memory that it dirties in a second; 0: not known
	int64_t mem_mib;
	bool fixed;	   // cannot be migrated
	bool anchor;	   // a live srun task holds it to its host: moved last
};

struct elastic_input {
	uint32_t pool;	 // hosts that clusters may have in all, those that they have included
	uint32_t idle;	 // of them: free now; those that are asked for and have not come are still among them
	uint32_t queued; // hosts that other work in Slurm's queue waits for
	struct elastic_params params;
	struct elastic_cluster *clusters; // by id, each once
	size_t n_clusters;
	struct elastic_host *hosts;
	size_t n_hosts;
	struct elastic_member *members;
	size_t n_members;
};

// What a policy remembers. Entries that the input does not name any more are dropped.
struct elastic_cluster_state {
	uint32_t id;
	struct smooth load, mem;
	struct gate gate;
	int64_t under_ms; // since when its size is more than it needs; -1: it is not
};
struct elastic_host_state {
	char name[VC_NAME_MAX + 1];
	struct smooth load;
	int64_t over_ms, under_ms; // as above
};
struct elastic_state {
	struct elastic_cluster_state *clusters;
	size_t n_clusters;
	struct elastic_host_state *hosts;
	size_t n_hosts;
};

enum elastic_verb {
	ELASTIC_GROW,	 // cluster by n hosts
	ELASTIC_SHRINK,	 // cluster by n hosts without work, or that were asked for and did not come
	ELASTIC_RECLAIM, // n hosts of cluster, with work on them if need be, within deadline_ms
	ELASTIC_CAP,	 // cluster starts no new work on more than n hosts, until the next decision
	ELASTIC_MIGRATE, // member (cluster, rank) from host `from` to host `to`
	ELASTIC_SHARE,	 // member (cluster, rank) gets n thousandths of CPUs of its host
	ELASTIC_RELEASE, // host `from`, which is empty or will be after the migrations before it
	ELASTIC_VERBS
};

struct elastic_action {
	enum elastic_verb verb;
	uint32_t cluster, rank;
	int64_t n;
	int64_t deadline_ms; // from now on
	uint32_t from, to;   // indices into the input's hosts
	char reason[ELASTIC_REASON_MAX];
};

struct elastic_decision {
	struct elastic_state state; // state'
	struct elastic_action *actions;
	size_t n_actions;
	char reason[ELASTIC_REASON_MAX];
};

struct elastic_policy {
	const char *name;
	const char *about;
	// In: ret holds a copy of the state with an entry for each cluster and host of the input, in the input's order. Out:
	// its entries brought up to date, actions and reason. -1: out of memory.
	int (*decide)(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		      struct vc_error *err);
};

extern const struct elastic_policy elastic_policies[];
extern const size_t elastic_n_policies;
const struct elastic_policy *elastic_policy_find(const char *name, struct vc_error *err); // VC_EUSER lists them

int elastic_decide(const struct elastic_policy *policy, const struct elastic_state *state, const struct elastic_input *in,
		   int64_t now_ms, uint64_t seed, struct elastic_decision *ret, struct vc_error *err);

void elastic_input_clear(struct elastic_input *in);
void elastic_state_clear(struct elastic_state *state);
void elastic_decision_clear(struct elastic_decision *d);
const char *elastic_verb_name(enum elastic_verb verb);

// elasticjson.c: a decision with everything that it came from.
struct json_object *elastic_record(const struct elastic_policy *policy, const struct elastic_state *state,
				   const struct elastic_input *in, int64_t now_ms, uint64_t seed,
				   const struct elastic_decision *d);
// Decides again from a record: *ret_same says whether the result is the recorded one to the last digit; *ret, if not NULL, is
// the decision as JSON.
int elastic_replay(struct json_object *record, bool *ret_same, struct json_object **ret, struct vc_error *err);
struct json_object *elastic_state_to_json(const struct elastic_state *state);
int elastic_state_from_json(struct json_object *obj, struct elastic_state *ret, struct vc_error *err);
struct json_object *elastic_input_to_json(const struct elastic_input *in);
int elastic_input_from_json(struct json_object *obj, struct elastic_input *ret, struct vc_error *err);

#endif
