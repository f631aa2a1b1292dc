// SPDX-License-Identifier: GPL-2.0-or-later
// vcguestd after the boot: its context, in the order of creation, and the loop. There are no globals.
//
// Modules get struct agent * and reach the others through it. Everything runs on the one loop thread.
#ifndef GUEST_AGENT_H
#define GUEST_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "guest/hooks.h"
#include "guest/setup.h"
#include "guest/wire.h"
#include "libvc/error.h"

struct hostrpc;
struct local;
struct members;
struct rsh;
struct tasks;

struct agent {
	uv_loop_t loop;
	char boot[VC_LINK_BOOT_LEN + 1];
	struct setup *setup;	 // NULL until guest.configure
	struct members *members; // the view and what is made of it
	struct hooks hooks;	 // of the job, at each new view
	struct wires *wires;
	struct wire *port; // to the host; NULL while a vsock link is broken
	uint32_t vsock_port; // 0: the link is a virtio-serial port
	struct tasks *tasks;
	struct local *local;
	struct rsh *rsh;
	struct hostrpc *rpc;
	uv_signal_t sigchld, sigterm;
	uv_timer_t tick, stop;
	bool stopping;
};

// Takes the link's descriptor; vsock_port: where to connect again when it breaks, 0 for a device, which stays. A guest that cannot have its agent is of no use: the caller powers off.
int agent_init(struct agent *a, int link_fd, uint32_t vsock_port, struct vc_error *err);
void agent_run(struct agent *a); // until agent_stop() has done its work

// guest.configure. The same cluster and rank again refreshes; anything else is refused.
int agent_configure(struct agent *a, struct setup *s, struct vc_error *err); // takes s on success
// SIGTERM to all tasks, after grace_ms SIGKILL, then agent_run() returns.
void agent_stop(struct agent *a, uint64_t grace_ms);

#endif
