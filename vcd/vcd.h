// SPDX-License-Identifier: GPL-2.0-or-later
// The daemon's context: what main owns, in the order of creation, and nothing else. There are no globals.
//
// A module gets struct vcd * at creation, keeps it, and reaches the others through it. create_modules() in vcd.c
// is the one list of modules in order, with the reason of that order; vcd_destroy() goes backwards. A module with uv handles
// splits its end: X_stop() closes them, X_destroy() frees after the loop has run dry.
#ifndef VCD_VCD_H
#define VCD_VCD_H

#include <stdbool.h>
#include <uv.h>

#include "libvc/error.h"
#include "vcd/conf.h"

struct check;
struct clusters;
struct host;
struct images;
struct leases;
struct membership;
struct peers;
struct relays;
struct rpc;
struct server;
struct slurmcheck;
struct state;
struct fsck;
struct transfers;
struct work;

struct vcd {
	uv_loop_t loop;
	struct conf *conf; // replaced by a reload: see conf.h
	bool controller;   // this host is the active controller
	bool stopping;	   // SIGTERM came: refuse new work
	struct work *work;
	struct state *state;
	struct rpc *rpc;
	struct peers *peers;
	struct relays *relays; // streams to other vcds
	struct check *check;
	struct slurmcheck *slurmcheck;
	struct images *images;
	struct transfers *transfers;
	struct membership *membership; // agreement with other hosts, witness on the controller
	struct fsck *fsck;
	struct host *host;
	struct clusters *clusters; // methods everywhere, clusters on the controller
	struct leases *leases;	   // on the controller
	struct server *server;
	char *munge_socket; // conf's, which never changes: for workers
	uv_signal_t signals[4];
	int n_signals;
	uv_timer_t exit_timer; // bounds a stop
	bool dirty;	       // and this one did not end by itself
	int lock_fd;
};

#define VCD_STOP_GRACE_MS 5000 // for worker jobs under way at a stop; guests are left running in any case

struct vcd *vcd_create(const char *conf_path, struct vc_error *err);
int vcd_run(struct vcd *vcd, int ready_fd); // until SIGTERM or SIGINT; ready_fd -1: none. 0 after a clean stop
void vcd_stop(struct vcd *vcd);		    // what SIGTERM does
void vcd_reload(struct vcd *vcd);	    // what SIGHUP does; a bad file is logged and changes nothing
void vcd_destroy(struct vcd *vcd);

#endif
