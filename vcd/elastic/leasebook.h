// SPDX-License-Identifier: GPL-2.0-or-later
// All leases of a controller: what they are, what Slurm says of their jobs, what has to be done. Pure.
//
// Each call changes states by lease.h's tables and queues what has to be done; the caller saves the book
// (leasebook_to_json), then takes and does it. A book that was loaded queues again whatever a crash may have lost: doing
// something twice is harmless, see lease.h. A job carries its lease's id, so that it is found again before another is submitted.
#ifndef VCD_ELASTIC_LEASEBOOK_H
#define VCD_ELASTIC_LEASEBOOK_H

#include <json-c/json.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/limits.h"
#include "vcd/elastic/lease.h"

#define LEASEBOOK_MAX 8192	    // leases in one book, ended ones included; as VC_MEMBERS_MAX
#define LEASEBOOK_KEEP_MS 3600000L // an ended lease is remembered for an hour: stragglers are then no surprise

enum lease_work { LEASE_WORK_NONE, LEASE_WORK_SOME, LEASE_WORK_ANCHOR };

struct lease {
	uint64_t id;	  // never reused
	uint32_t cluster; // its primary's job id
	uint32_t job;	  // 0: not known yet
	char host[VC_NAME_MAX + 1]; // from JOINING on
	enum lease_state state;
	enum lease_end end;
	int64_t since_ms;    // of the state
	int64_t deadline_ms; // of the reclaim; -1: none
	enum lease_work work; // on its host, as the caller last said; not saved
	bool flying;	     // a submission of this process is not answered yet; not saved
	uint64_t changed;    // the book's count when it last changed; not saved
};

// A job of slurmctld's list that carries a lease id.
struct lease_job {
	uint64_t lease;
	uint32_t job;
	enum lease_slurm state;
	char host[VC_NAME_MAX + 1]; // empty: none yet
	int64_t end_ms;		    // when Slurm ends it, where the state is ENDING_SOON or SUSPENDED
};

struct lease_todo {
	unsigned what; // one of LEASE_SUBMIT...
	uint64_t lease;
	uint32_t cluster, job;
	char host[VC_NAME_MAX + 1];
	int64_t deadline_ms; // of a drain
};

struct leasebook {
	struct lease *leases;
	size_t n;
	uint64_t next_id;
	uint64_t count; // of changes; a list of jobs that was asked for at a lower one says nothing about what is newer
	struct lease_todo *todo;
	size_t n_todo;
};

void leasebook_clear(struct leasebook *book);
struct lease *leasebook_find(const struct leasebook *book, uint64_t id); // NULL: none

// n more leases for a cluster: their jobs are submitted.
int leasebook_want(struct leasebook *book, uint32_t cluster, uint32_t n, int64_t now_ms, struct vc_error *err);
// Gives n hosts of a cluster back: first those that are not there yet, then those without work, then, unless idle_only,
// those with work, last the ones that anchor an srun task. Returns how many it could find, -1 without memory.
int64_t leasebook_give_back(struct leasebook *book, uint32_t cluster, int64_t n, bool idle_only, int64_t deadline_ms,
			    int64_t now_ms, struct vc_error *err);
// slurmctld's list of the jobs that carry lease ids; complete, asked for when the book's count was `asked`.
int leasebook_see(struct leasebook *book, const struct lease_job *jobs, size_t n, uint64_t asked, int64_t now_ms,
		  struct vc_error *err);
// job: of LEASE_EV_ACCEPTED, else 0.
int leasebook_event(struct leasebook *book, uint64_t id, enum lease_event event, uint32_t job, int64_t now_ms, struct vc_error *err);
int leasebook_cluster_gone(struct leasebook *book, uint32_t cluster, int64_t now_ms, struct vc_error *err);
// Deadlines that have passed; forgets leases that ended long ago.
int leasebook_tick(struct leasebook *book, int64_t now_ms, struct vc_error *err);

// How many leases of a cluster are in states first..last.
uint32_t leasebook_count(const struct leasebook *book, uint32_t cluster, enum lease_state first, enum lease_state last);
// What must always hold: ids and hosts are there once, the hosts are no more than the pool, states have what they need.
int leasebook_check(const struct leasebook *book, uint32_t pool, struct vc_error *err);

struct json_object *leasebook_to_json(const struct leasebook *book);
int leasebook_from_json(struct json_object *obj, struct leasebook *ret, struct vc_error *err);

#endif
