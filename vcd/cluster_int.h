// SPDX-License-Identifier: GPL-2.0-or-later
// What cluster.c (the state machine), clusters.c (the table and its methods) and clusterjson.c share; nobody else.
#ifndef VCD_CLUSTER_INT_H
#define VCD_CLUSTER_INT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "libvc/log.h"
#include "vcd/cluster.h"
#include "vcd/grow.h"
#include "vcd/member/view.h"
#include "vcd/plan.h"
#include "vcd/rpc.h"
#include "vcd/startstage.h"

enum cluster_phase {
	CLUSTER_WAITING,   // an earlier incarnation of the job is being torn down
	CLUSTER_LOADING,   // job and owner are asked of slurmctld; then the plan is made
	CLUSTER_LOOKING,   // hosts: can the user read --vcluster-stage-in's files there?
	CLUSTER_BUILDING,  // the image is looked up, or built, or waited for
	CLUSTER_PREPARING, // hosts: image, network
	CLUSTER_BOOTING,   // hosts: machines until their agents said hello
	CLUSTER_FORMING,   // hosts: view 1 in every guest
	CLUSTER_STAGING,   // hosts: --vcluster-stage-in's files into every guest
	CLUSTER_READY,
	CLUSTER_FAILING,   // hosts give back what they had
	CLUSTER_TELLING,   // hosts remember the reason for their tasks
	CLUSTER_FAILED,	   // kept until the job's release
	CLUSTER_RELEASING,
	CLUSTER_RELEASED,
	CLUSTER_PHASES
};

enum cluster_suspension {
	CLUSTER_NOT_SUSPENDED,
	CLUSTER_SUSPENDED,	    // its machines are paused, or about to be
	CLUSTER_SUSPENSION_UNKNOWN, // after a restart, or a host that did not answer
};

struct cluster_host {
	char *name;
	char phase[64]; // what the host does now, in its own words
	char reason[256];
	uint64_t since_ms; // loop time
	bool done;
	struct start_times told, before; // of itself: now, and at the beginning of the phase
	uint64_t held, total, rate;	 // of the image: chunks that are here and those that are to be, bytes a second
	bool gone; // the other hosts go on without it
	bool left; // and it has told that nothing of the cluster is left there
	bool taken; // Slurm has taken it from the job: once it is out of the view it does not come back
};

// Requests that wait for this cluster: ensure, release, watch.
struct cluster_waiter {
	struct cluster_waiter *next;
	struct cluster *cluster;
	struct rpc_request *req;
	enum cluster_wait { CLUSTER_WAIT_READY, CLUSTER_WAIT_RELEASED, CLUSTER_WAIT_CHANGES } what;
};

struct cluster {
	struct cluster *next;
	struct clusters *owner;
	char id[PLAN_ID_LEN + 1];
	struct plan_key key;
	char key_text[VC_NAME_MAX + 32];
	char trace[17];
	enum cluster_phase phase;
	struct vc_error reason; // why it failed; text empty otherwise
	uid_t uid;
	uint32_t vni;
	char *spec_text;
	struct plan *plan; // from LOADING on
	struct json_object *plan_json; // from BUILDING on: the plan has its image then
	struct images_wish *wish; // while the image is being built
	struct view *view; // from FORMING on
	struct cluster_host *hosts;
	size_t n_hosts;
	struct fanout *fanout;	   // the step under way
	struct fanout *pausing;	   // host.pause under way
	struct fanout *facts;	   // member.fact under way
	size_t *called;		   // hosts of the step's fan-out, by its numbers
	struct grow_part *parts;   // that leases brought
	struct clustermove *move;  // of members to other hosts, under way
	struct json_object *saved_moves; // of a former controller, until the cluster is ready; NULL: none
	enum cluster_suspension suspended;
	struct work_job *work;
	uv_timer_t *deadline;	   // of the start, or the next try of a release
	uv_timer_t *retry;	   // the next try of a step whose host went away
	unsigned tries;		   // of the step
	bool release_wanted;
	bool checking; // a look at the job's state is under way
	bool check_again; // something changed since it began
	struct json_object *usage; // of the members, as hosts told at the release; NULL: nothing yet
	uint64_t ensured_ms, phase_ms; // loop time when the start, the phase began
	int64_t created_wall_ms;
	struct start_times stages;	   // of the start
	size_t last_host;		   // the one that ended last in this phase
	uint64_t start_ms;		   // by the wall clock, until ready; 0: not yet
	struct cluster_waiter *waiters;
};

static inline bool cluster_host_is_taken(const struct cluster *c, size_t host)
{
	return host < c->n_hosts && c->hosts[host].taken;
}

struct clusters {
	struct vcd *vcd;
	struct slurmctl *slurmctl;
	struct cluster *list;
	uv_timer_t *sweep;
	struct work_job *drain_look;
	char **drained; // hosts that were evacuated as they drain
};

// cluster.c
struct cluster *cluster_create(struct clusters *cs, const struct plan_key *key, const char *spec_text, struct vc_error *err);
void cluster_destroy(struct cluster *c); // out of the list, handles closed
void cluster_begin(struct cluster *c);	 // enters its phase: the first one, or the one a restart found
void cluster_fail(struct cluster *c, const struct vc_error *err);
void cluster_release(struct cluster *c); // from any phase; idempotent
void cluster_check_job(struct cluster *c); // asks slurmctld; releases the cluster when its job has ended
void cluster_job_changed(struct cluster *c); // the same, and once more when a look is under way
int cluster_member_event(struct cluster *c, uint32_t rank, const char *event, const char *reason, struct vc_error *err);
int cluster_take_view(struct cluster *c, struct view **view, struct vc_error *err); // of its hosts; one that is newer is taken
bool cluster_starting(const struct cluster *c);
const char *cluster_phase_name(enum cluster_phase phase);
int cluster_phase_from_name(const char *name, enum cluster_phase *ret);
struct vc_log_ctx cluster_log(const struct cluster *c);
int cluster_set_hosts(struct cluster *c, struct vc_error *err); // from its plan
// clustermove.c
void clusters_evacuate(struct clusters *cs, const char *host); // nobody waits: what comes of it is in the log
// clusterdrain.c
void clusters_follow_drain(struct clusters *cs);
void clusters_drain_stop(struct clusters *cs);
// clusters.c
struct cluster *clusters_find_job(struct clusters *cs, uint32_t job); // the newest incarnation
void clusters_notify(struct cluster *c);   // tells watchers and those who wait for the start
void clusters_answer(struct cluster *c);   // replies to waiters whose wait is over
void clusters_forget(struct cluster *c);   // released: out of the table
struct cluster *clusters_older(const struct cluster *c); // an earlier incarnation of the same job that is still there
// clusterplan.c: fills c->plan from the job that slurmctld told (WORK_GENERAL part is in cluster.c)
struct slurmctl_job;
int clusterplan_make(struct cluster *c, const struct slurmctl_job *job, struct plan_owner *owner, struct vc_error *err);
// clusterdown.c
void cluster_report_gone(struct cluster *c, size_t host); // its hosts say that this one is gone; told to Slurm once, if at all
// grow.c
int cluster_use_plan(struct cluster *c, struct plan *plan, struct vc_error *err); // the next one, taken in every case; saves
void grow_begin(struct cluster *c); // it is ready: parts of an earlier vcd go on
void grow_end(struct cluster *c, const struct vc_error *why); // NULL: vcd stops, nobody is told
void grow_view_changed(struct cluster *c);
bool grow_host_goes(const struct cluster *c, size_t host); // it is on its way out: nothing comes to it any more
bool grow_host_stays(const struct cluster *c, size_t host); // is it still of the cluster, whatever the view says?
struct json_object *grow_to_json(const struct cluster *c);
int grow_from_json(struct cluster *c, struct json_object *list, struct vc_error *err);
int growrpc_register(struct clusters *cs, struct vc_error *err); // growrpc.c
// clustermove.c
int cluster_migrate(struct cluster *c, struct rpc_request *req, struct vc_error *err); // cluster.migrate, of its owner
int cluster_evacuate(struct clusters *cs, struct rpc_request *req, struct vc_error *err);
// Members on the hosts of a lease to hosts that stay, as far as these take them; done() comes later, with how many have moved. -1: none moves
// now (VC_EBUSY: others do); 0: *ret_n are on their way, or none fits.
typedef void (*cluster_moved_fn)(void *ctx, size_t moved);
int cluster_move_off(struct cluster *c, uint64_t lease, const struct grow_slack *slack, cluster_moved_fn done, void *ctx, size_t *ret_n,
		     struct vc_error *err);
void cluster_moves_forget(struct cluster *c, void *ctx); // done() is not called any more
void cluster_moves_stop(struct cluster *c);
void cluster_moves_resume(struct cluster *c); // what a former controller had begun
struct json_object *cluster_moves_to_json(const struct cluster *c); // NULL: none under way
struct json_object *cluster_moves_save(const struct cluster *c);
// clusterpause.c
void cluster_follow_suspension(struct cluster *c, bool suspended); // as slurmctld says of the job
struct images_found;
int clusterplan_set_image(struct cluster *c, const struct images_found *image, struct vc_error *err); // completes the plan
// clusterjson.c
struct json_object *cluster_to_json(const struct cluster *c, bool full);
uint64_t cluster_elapsed_ms(const struct cluster *c); // since the first job.ensure, by the wall clock: for people
struct json_object *cluster_row_to_json(const void *row, bool full); // a struct state_cluster of one that is over
int cluster_save(struct cluster *c, struct vc_error *err);
struct cluster *cluster_load(struct clusters *cs, const void *row, struct vc_error *err); // a struct state_cluster

#endif
