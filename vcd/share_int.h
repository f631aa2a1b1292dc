// SPDX-License-Identifier: GPL-2.0-or-later
// What share.c (steps, guests, views), sharegrow.c (plans after the first, joining, coming back) and sharemove.c (members
// that move) share; nobody else.
#ifndef VCD_SHARE_INT_H
#define VCD_SHARE_INT_H

#include "libvc/log.h"
#include "vcd/hv.h"
#include "vcd/membership.h"
#include "vcd/peer.h"
#include "vcd/plan.h"
#include "vcd/relay.h"
#include "vcd/share.h"
#include "vcd/sharemove.h"
#include "vcd/startstage.h"
#include "vcd/work.h"

struct fence;
struct gslurm;
struct sharegrow;
struct share_move;
struct transfer_wish;
struct vcd;
struct viewhook;

enum goal { GOAL_GONE, GOAL_PREPARED, GOAL_UP, GOAL_VIEW, GOAL_PLAN, GOAL_IDLE };

struct member {
	struct share *share;
	struct share_move *move; // it leaves this host, or comes to it; NULL: neither
	const struct plan_member *plan;
	struct glink *link;
	bool running;	 // its domain was seen
	bool down;	 // it ended by itself
	bool configured; // by this or an earlier vcd
	uint64_t epoch;	 // of the view that it has
	bool telling;	 // guest.view under way
	uint64_t tell_at; // loop time: not before
	uint64_t ready_ms; // loop time
	uint64_t renew_at; // loop time of the next guest.renew
	uint64_t linked_at; // loop time: its agent was last known to be there
	uint64_t resize_at; // loop time of its last guest.resize that was passed on
	uint64_t runnable; // processes that could run, as it says
	uint64_t load_at;  // loop time of its last guest.load
	uint64_t tasks;	   // and what that said
	uint64_t mem_free_kib; // 0: it did not say
	int32_t pressure;      // thousandths of the last 10 s in which a process waited for a processor; -1: its kernel does not tell
	struct member_use {    // of its domain, as libvirt told
		uint64_t at;	      // loop time; 0: never
		uint64_t cpu_ms, delay_ms;
		uint32_t cpu, steal;  // thousandths of CPUs, between the last two
		uint64_t dirty_mib;
		bool rated;	      // these two are known
	} use;
};

struct waiter {
	struct waiter *next;
	struct share *share;
	struct rpc_request *req;
	enum goal goal;
	uint64_t epoch;	   // GOAL_VIEW; GOAL_PLAN: version
	uint64_t deadline; // loop time
};

struct share {
	struct share *next;
	struct host *host;
	struct vcd *vcd;
	struct sharework *work;
	struct share_move *moves; // under way, from here and to here
	enum share_phase phase;
	enum goal goal; // of the runner: GONE, PREPARED, UP
	size_t begun;	// steps begun: what a release has to undo
	bool busy;	// a step is under way
	bool undoing;	// and it is an undo
	bool idle;	// and it waits for the loop, not for a worker: it can be given up
	bool in_walk;
	bool adopted; // guests ran before this vcd: a failing step must not end them
	bool taken_back; // an earlier vcd began steps that this one has not come to again: a release undoes them all
	bool stopped;
	bool paused; // its job is suspended
	bool polled; // its domains had been started when the list of them was asked for
	struct vc_error error; // why it failed
	struct member **members; // of this host, as work has them
	size_t n_members, starting;
	struct vc_error start_error;
	uint64_t boot_began, boot_limit; // loop time
	uint64_t step_began, came_at;	 // loop time: of the step under way; all of the image was here
	struct start_times times;
	uint64_t retry_at;		 // loop time of the next try to undo; 0: none
	uint64_t end_by;		 // loop time: the job is over, its tasks have until then; 0: it is not
	struct transfer_wish *wish;	// while the image comes
	struct json_object *view; // share_view_json()
	bool view_is_old; // there is a later one, which nobody has asked for
	struct json_object *usage; // of the members when they were ended: [{rank, cpu_ms, rss_kib, peak_kib}]
	uint64_t epoch;
	struct membership_cluster *membership; // from view 1 on; NULL: its hosts do not agree on views
	struct fence *fence;
	struct viewhook *hook;
	uint64_t first_valid; // loop time until which view 1 is valid in any case
	bool removed;	      // the other hosts go on without this one
	struct waiter *waiters;
	struct gslurm *gslurm;
	bool gslurm_closing;
	struct sharegrow *grow; // its part in a cluster that grows and shrinks
	char job[24]; // for the log
	struct vc_log_ctx log;
};


// share.c
int share_save(struct share *s, struct vc_error *err);
int share_join(struct share *s, enum membership_begin begin, struct vc_error *err); // its membership; VC_ENOTFOUND: no record
void share_add_waiter(struct share *s, struct rpc_request *req, enum goal goal, uint64_t epoch, uint64_t limit_ms);
void share_answer(struct share *s); // whoever has what he waits for
// sharegrow.c
struct sharegrow *sharegrow_create(struct share *s);
void sharegrow_destroy(struct sharegrow *g);
void sharegrow_stop(struct sharegrow *g); // its calls are canceled
void sharegrow_taken_back(struct sharegrow *g); // of an earlier vcd: what became of the cluster meanwhile?
void sharegrow_tick(struct sharegrow *g); // may release the share
void sharegrow_lacks_plan(struct sharegrow *g);
void sharegrow_removed(struct sharegrow *g);
bool sharegrow_is_idle(const struct sharegrow *g); // each member here has said, since it was announced, that it runs no task
bool sharegrow_is_at_network(const struct sharegrow *g); // a worker changes it now
uint64_t sharegrow_version(const struct sharegrow *g); // of the plan that this host's network follows
void sharegrow_keep(struct sharegrow *g, struct sharework *old); // others may still read it; taken
// A migration, from the first word about it until nobody here has anything to do for it.
enum move_stage {
	MOVE_ASKING,   // source: the target gets ready
	MOVE_COPYING,  // source: libvirt is at it
	MOVE_SETTLING, // source: libvirt has failed, or vcd was restarted: where is it?
	MOVE_DECIDING, // source: it is there, and that could not be written down yet
	MOVE_TELLING,  // source: the target is told so
	MOVE_WAITING,  // target: its copy waits for leave
	MOVE_RUNNING,  // target: it gets it
	MOVE_DROPPING, // target: the copy is destroyed
};

struct share_move {
	struct share_move *next;
	struct share *share;
	struct member *member; // NULL: it is not here any more
	uint32_t rank, other;  // the other host
	enum move_stage stage;
	enum move_policy policy;
	uint64_t bandwidth_mib, downtime_ms, rounds;
	struct rpc_request *req; // NULL: nobody waits
	struct rpc_request *asker; // source: the target, which has a complete copy; NULL: it has not asked
	struct peer_call *call;
	struct work_job *job, *looking, *cutting;
	char *xml; // source: the domain as the target would start it, from its answer on
	struct relay *relay;
	struct vc_error why;  // what went wrong, until it is answered
	uint64_t began, retry_at, look_at, heard_at; // loop time
	bool can_postcopy; // both hosts
	bool missed_postcopy; // source: it would have been the choice
	char obstacle[200]; // source: why not
	bool forced; // it was stopped for the rest
	bool switched; // source: by post-copy, it is to run at the target
	bool again;  // source: it was not, and is copied anew
	bool torn;   // target: QEMU says that the rest of the memory does not come
	bool failed; // source: after the switch libvirt's call came back with an error
	uint64_t stopped_at, told_at; // loop time, with post-copy
	struct move_facts facts; // source: as measured
	bool copied; // source: libvirt's call came back while the member was being cut off here; `why` says how
	bool lost;   // source: nor does it run at the target, and never will; `why` says so
	bool left;   // source: nothing of it is here any more
	struct json_object *result; // source: of host.arrived; NULL: not told yet
	struct hv_progress progress;
	uint64_t sent[RELAY_STREAMS]; // bytes to the target; all 0 when vcd was restarted meanwhile
};

// A worker's job for a migration; a migration that ends before cancels it.
struct move_job {
	struct share_move *move;
	struct sharework *work;
	const struct plan_member *member; // of work's plan
	const struct sharework_machine *machine;
	char name[32], addr[64];
	char *xml;
	struct hv_migration args;
	struct move_facts facts;
	char sockets[RELAY_STREAMS][108];
	bool here, torn;
	enum hv_arrival arrival;
	struct hv_progress progress;
	int (*run_fn)(struct move_job *j, struct vc_error *err);
	void (*done_fn)(struct share_move *mv, struct move_job *j, const struct vc_error *err);
};

struct share_move *share_move_new(struct share *s, uint32_t rank, uint32_t other, enum move_stage stage, struct vc_error *err);
void share_move_end(struct share_move *mv, const struct vc_error *err); // answers, and frees it
void share_move_answer(struct share_move *mv, struct json_object *result, const struct vc_error *err);
void share_move_wait(struct share_move *mv, struct rpc_request *req);
struct share_move *share_move_find(struct share *s, uint32_t rank);
struct move_job *move_job_new(struct share_move *mv, struct vc_error *err);
int move_job_start(struct move_job *j, enum work_pool pool, uint64_t limit_ms, struct vc_error *err); // takes j
int share_move_call(struct share_move *mv, const char *method, uint64_t limit_ms, peer_done_fn done, struct vc_error *err);
int share_move_ask(struct share_move *mv, bool complete, uint64_t limit_ms, peer_done_fn done, struct vc_error *err); // host.moving
int share_net_move(struct move_job *j, uint32_t host, struct vc_error *err); // in a worker; host: where the member is
const char *share_host_name(const struct share *s, uint32_t host);
// moveestimate.c: in a worker; what is not known stays 0
int share_measure(const struct sharework *w, uint32_t rank, struct move_facts *ret, struct vc_error *err);
void share_move_decide(struct share_move *mv);
void share_move_copied(struct share_move *mv); // libvirt's call came back, and nobody looks at what that means
// sharepost.c
const char *share_post_obstacle(const struct share *s); // of this host; NULL: post-copy can be done
void share_post_check(struct share_move *mv); // has it switched?
uint64_t share_post_head(const struct share_move *mv); // bytes of memory that go before
// In a worker: waits until it is time, and switches; or gives up for now.
int share_post_try(struct relay *relay, struct hv *hv, const char *name, bool *ret_switched, struct vc_error *err);
void share_post_give_up(struct share_move *mv);
bool share_post_goes_on(const struct share_move *mv);
// sharecome.c
bool share_member_is_gone(struct share *s, uint32_t rank); // says the view
void share_come_tick(struct share_move *mv);
void share_come_take_back(struct share_move *mv);

// share.c
struct member *share_member(struct share *s, uint32_t rank);
// A member is on `host` now, and on its way to `to`: written down, then s->work and s->members follow.
int share_replan(struct share *s, uint32_t rank, uint32_t host, uint32_t to, struct vc_error *err);
int share_open_link(struct member *m, struct vc_error *err);
void share_member_stopped(struct share *s, struct member *m, const char *reason); // reported
bool share_knows_machine(struct share *s, const struct sharework_machine **ret, struct vc_error *err);
// sharemove.c
void share_moves_stop(struct share *s); // gives up what is under way, without any answer
void share_move_free(struct member *m);
void share_moves_tick(struct share *s);
void share_moves_take_back(struct share *s); // members that were on their way when vcd ended
struct json_object *share_view_json(struct share *s); // of s->epoch, borrowed; NULL: none yet
void share_moves_follow(struct share *s); // where others' members run now

#endif
