// SPDX-License-Identifier: GPL-2.0-or-later
// What leases.c (the book and its row), leasework.c (what is done for it) and leaserpc.c (its methods) share; nobody else.
#ifndef VCD_LEASES_INT_H
#define VCD_LEASES_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "vcd/cluster.h"
#include "vcd/elastic/elastic.h"
#include "vcd/elastic/leasebook.h"
#include "vcd/leases.h"
#include "vcd/plan.h"
#include "vcd/rpc.h"
#include "vcd/slurmlease.h"

#define LEASES_BUSY_MS 3000   // between two looks at slurmctld while a lease is on its way in or out
#define LEASES_HELD_MS 15000  // while all are held: finds a coming end, which the step's SIGTERM tells sooner
#define LEASES_TICK_MS 1000   // deadlines, ended clusters
#define LEASES_QUIT_MS 10000  // a lease's step that was told to end has this long before its job is cancelled
#define LEASES_HOLD_MS 120000 // after a lease ended by others' will; the policies' cool-down
#define LEASES_SLURM_MS 60000 // slurmctld's own MessageTimeout is at most this on real sites

// A cluster that has, or had, leases.
struct lease_cluster {
	struct lease_cluster *next;
	uint32_t job;
	char id[PLAN_ID_LEN + 1]; // of the run of the job that the leases are for
	uid_t uid;
	uint32_t wanted; // hosts, by `vcctl resize`; 0: nobody said
	struct vc_spec_elastic elastic; // of the spec, or by `vcctl elastic set`
	int32_t priority;		// by an admin; a higher one goes first
	bool paused;			// nothing is done by policy
	uint64_t hold_ms;		// loop time until which nothing is asked for again: a lease ended by others' will
	struct mover *mover;		// policies that move members; NULL: none yet
	struct elastic_cluster loads;	// load, cpu, steal, stall, mem and busy of the last round; not saved
};

// What one member did, as its host told in the last round.
struct member_load {
	bool known;
	uint64_t runnable, tasks;
	uint64_t stall;	      // thousandths of the time in which a process waited for a processor; 0 where its kernel does not tell
	uint64_t mem_free_mib; // 0: not known
	uint64_t cpu, steal;  // thousandths of CPUs, by libvirt
	uint64_t dirty_mib;   // a second
};

// What goes with one lease of the book and is not saved.
struct lease_run {
	struct lease_run *next;
	struct leases *owner;
	uint64_t lease;
	enum lease_state told; // in the history
	bool known;	       // `told` says something
	bool joining, leaving; // grow_start(), grow_shrink() under way
	bool submitting;       // slurmctld is being asked
	bool deferred;	       // to be submitted when no other one of its cluster is without a host
	bool loading;	       // its job's host is being asked for
	bool term;	       // its step got SIGTERM: reclaimed when the next look does not say why
	uint64_t quit_ms;      // loop time when its step was told to end; 0: not yet
	char why[VC_ERROR_TEXT_MAX]; // of the last thing that went wrong
};

enum lease_wait { LEASE_WAIT_HELD, LEASE_WAIT_END, LEASE_WAIT_GONE };

struct lease_waiter {
	struct lease_waiter *next;
	struct leases *owner;
	struct rpc_request *req;
	uint64_t lease;
	uint32_t job; // of LEASE_WAIT_HELD: that waits
	enum lease_wait what;
};

struct lease_op;
struct elastic_params;
struct sizer;

struct leases {
	struct vcd *vcd;
	struct slurmctl *slurmctl;
	struct leasebook book;
	struct lease_cluster *clusters;
	struct lease_run *runs;
	struct lease_waiter *waiters;
	struct lease_op *ops;
	uv_timer_t *tick;
	bool looking, look_again;
	bool unsaved;	  // the book's row is older than the book: nothing is done until it is written
	uint64_t look_ms; // loop time of the last look
	struct sizer *sizer;
};

int64_t leases_now(void); // wall clock, ms
struct lease_cluster *leases_cluster(struct leases *l, uint32_t job); // NULL: has none
struct lease_run *leases_run(struct leases *l, uint64_t lease);	      // made when there is none; NULL without memory
// After each change of the book: saves it, does what it wants, tells the history and those who wait.
void leases_settle(struct leases *l);
void leases_event(struct leases *l, uint64_t lease, enum lease_event event, uint32_t job, const struct vc_error *why);
// n more hosts for a cluster, or fewer (by the deadline, from now). -1: VC_EUSER says why.
struct lease_cluster *leases_need_cluster(struct leases *l, const struct clusters_look *look, struct vc_error *err); // made when there is none
int leases_change(struct leases *l, uint32_t job, int64_t n, int64_t deadline_ms, struct vc_error *err);
uint32_t leases_live(const struct leases *l, uint32_t job); // hosts that are there or asked for, not leaving
// sizer.c
int sizer_create(struct leases *l, struct vc_error *err); // fills l->sizer; registers elastic.*
const struct elastic_params *sizer_params(const struct sizer *s);
void sizer_stop(struct sizer *s);
void sizer_destroy(struct sizer *s);
// mover.c: members that move by policy
bool mover_is_for(const struct lease_cluster *c);
void mover_begin(struct leases *l, struct lease_cluster *c, const struct plan *plan); // a round
void mover_heard(struct lease_cluster *c, uint32_t rank, const struct member_load *load);
void mover_forget_shares(struct leases *l, struct lease_cluster *c); // its members may use what they can get again
struct json_object *mover_members(const struct lease_cluster *c, const struct plan *plan); // what each said; NULL: nothing
void mover_decide(struct leases *l, struct lease_cluster *c, const struct clusters_look *look, const struct elastic_params *params);
struct json_object *mover_last(const struct lease_cluster *c, uint64_t *ret_ms); // record of the last decision, and its loop time; NULL: none
void mover_free(struct mover *m);
// leasework.c
void leases_do(struct leases *l, const struct lease_todo *todo);
void leases_submit_deferred(struct leases *l);
void leases_look(struct leases *l); // at slurmctld, now; once more when one is under way
void leases_cancel_job(struct leases *l, uint32_t job);
void leases_stop_work(struct leases *l);
// leaserpc.c
int leases_register(struct leases *l, struct vc_error *err);
void leases_answer(struct leases *l); // those whose wait is over
void leases_forget_waiters(struct leases *l);

#endif
