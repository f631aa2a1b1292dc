// SPDX-License-Identifier: GPL-2.0-or-later
// What share.c (steps, guests, views) and sharegrow.c (plans after the first, joining, coming back) share; nobody else.
#ifndef VCD_SHARE_INT_H
#define VCD_SHARE_INT_H

#include "libvc/log.h"
#include "vcd/membership.h"
#include "vcd/share.h"
#include "vcd/startstage.h"

struct fence;
struct gslurm;
struct sharegrow;
struct transfer_wish;
struct vcd;
struct viewhook;

enum goal { GOAL_GONE, GOAL_PREPARED, GOAL_UP, GOAL_VIEW, GOAL_PLAN, GOAL_IDLE };

struct member {
	struct share *share;
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
	struct member *members;
	size_t n_members, starting;
	struct vc_error start_error;
	uint64_t boot_began, boot_limit; // loop time
	uint64_t step_began, came_at;	 // loop time: of the step under way; all of the image was here
	struct start_times times;
	uint64_t retry_at;		 // loop time of the next try to undo; 0: none
	uint64_t end_by;		 // loop time: the job is over, its tasks have until then; 0: it is not
	struct transfer_wish *wish;	// while the image comes
	struct json_object *view;
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

#endif
