// SPDX-License-Identifier: GPL-2.0-or-later
// One cluster's share of this host: from its plan to running guests, and back to nothing.
//
// The way is a table of steps {name, run, undo} walked by one runner towards a goal; release walks it back. Steps are
// idempotent, so that a restarted vcd walks them again over what is there. Requests wait for a goal and are answered
// when it is reached or the share failed. A share that failed stays until it is released.
#ifndef VCD_SHARE_H
#define VCD_SHARE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/plan.h"
#include "vcd/sharework.h"

struct glink;
struct host;
struct rpc_request;
struct share;

enum share_phase { SHARE_PREPARING, SHARE_PREPARED, SHARE_BOOTING, SHARE_UP, SHARE_FAILED, SHARE_RELEASING };

// work is taken.
struct share *share_create(struct host *host, struct sharework *work, struct vc_error *err);
// From the database, with the names of the domains that run (NULL-terminated): walks to where it was.
void share_take_back(struct share *s, const char *phase, struct json_object *extra, char *const *running);
// vcd stops: answers waiting requests, closes links; guests go on.
void share_stop(struct share *s);
void share_destroy(struct share *s); // by the host, after host_share_gone() or share_stop()

// A request waits for a goal; it is answered in every case.
void share_prepare(struct share *s, struct rpc_request *req);
void share_boot(struct share *s, struct rpc_request *req);
int share_view(struct share *s, struct json_object *view, struct rpc_request *req, struct vc_error *err);
// The cluster's next plan, which is taken in every case: answered when it is saved and the network follows it. req may be NULL.
int share_next_plan(struct share *s, struct plan *plan, struct rpc_request *req, struct vc_error *err);
int share_ask_in(struct share *s, struct vc_error *err); // this host came later: its hosts' agreement is to take it in
// All members here are announced as leaving; answered when they run no task any more.
int share_leave(struct share *s, uint64_t limit_ms, struct rpc_request *req, struct vc_error *err);
void share_release(struct share *s, struct rpc_request *req); // req may be NULL
// The same once the job's tasks have ended: Slurm gives them KillWait after SIGTERM. At the latest after release-timeout.
void share_end(struct share *s, struct rpc_request *req);
int share_pause(struct share *s, bool pause, struct rpc_request *req, struct vc_error *err);
uint64_t share_valid_ms(const struct share *s); // how long this host may call its view valid; 0: not at all
bool share_is_paused(const struct share *s);
void share_tick(struct share *s);			      // a few times a second: limits and retries

// From the host.
void share_machine_ready(struct share *s, const struct vc_error *err);
void share_domain_stopped(struct share *s, uint32_t rank, const char *reason);
void share_poll_begins(struct share *s);			       // what runs is about to be listed
void share_domains_seen(struct share *s, char *const *running); // and that was the list

enum share_phase share_phase(const struct share *s);
const char *share_phase_name(enum share_phase phase);
const struct vc_error *share_error(const struct share *s); // of SHARE_FAILED
struct sharework *share_work(struct share *s);
static inline const struct plan *share_plan(struct share *s)
{
	return share_work(s)->plan;
}
struct glink *share_link(struct share *s, uint32_t rank, struct vc_error *err); // of a member here that runs
bool share_take_link(struct share *s, uint32_t cid, int fd); // a guest connects by vsock: true takes fd, its CID is of a member here
struct json_object *share_usage(const struct share *s); // {usage: [...]} of a released one; NULL: unknown
struct json_object *share_inventory(struct share *s);

struct share *share_next(const struct share *s); // the host's list
void share_set_next(struct share *s, struct share *next);

#endif
