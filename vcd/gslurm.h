// SPDX-License-Identifier: GPL-2.0-or-later
// Slurm commands that a guest asked for: one per share (a cluster's part on this host), run here as the job's owner.
//
// Owns the sessions with VC_SESSION_FROM_GUEST in their id, and the processes of the real srun, scancel, squeue and
// scontrol behind them. Job, user and directory come from the plan, never from the guest; options pass slurmopt's
// tables; the guest's environment never becomes that of a process on this host. The guest is hostile:
// sessions and message sizes are bounded, and what is refused is answered with RESET or `error` and a message.
#ifndef VCD_GSLURM_H
#define VCD_GSLURM_H

#include <uv.h>

#include "libvc/error.h"
#include "libvc/mux.h"
#include "vcd/plan.h"

#define GSLURM_SESSIONS_MAX 128u	 // commands of one share under way; a script that starts more waits for some first
#define GSLURM_MESSAGE_MAX (4u << 20)	 // bytes of one control message: base64 of VC_ARG_MAX, and room
#define GSLURM_BIN_DIR "/usr/bin"	 // where Slurm's commands are, when the site does not say

struct gslurm;

struct gslurm_config {
	uv_loop_t *loop;
	const struct plan *plan; // of the share; borrowed, must live as long
	const char *bin_dir;	 // NULL: GSLURM_BIN_DIR
	const char *slurm_conf;	 // value of SLURM_CONF for the commands; NULL: that of vcd's own environment, or none
	uint64_t orphan_ms;	 // a command whose guest is away longer is killed; 0: taskrun's default
};

struct gslurm_ops {
	// Sends a frame to the guest behind route (a glink); as in vc_mux_ops: 0 sent, -1 not taken.
	int (*send_frame)(void *ctx, void *route, struct vc_link_frame *frame);
};

struct gslurm *gslurm_create(const struct gslurm_config *conf, const struct gslurm_ops *ops, void *ctx, struct vc_error *err);
// Kills the commands; done is called from the loop when nothing is left and g is freed. NULL: done is called at once.
void gslurm_destroy(struct gslurm *g, void (*done)(void *arg), void *arg);

// From glink: every frame whose session has VC_SESSION_FROM_GUEST, OPEN included. route names the guest's link; any
// pointer that stays the same for the life of that link.
void gslurm_input(struct gslurm *g, void *route, struct vc_link_frame *frame);
void gslurm_route_down(struct gslurm *g, void *route);
void gslurm_route_writable(struct gslurm *g, void *route);

size_t gslurm_count(const struct gslurm *g); // sessions under way

#endif
