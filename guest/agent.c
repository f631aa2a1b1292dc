// SPDX-License-Identifier: GPL-2.0-or-later
// The agent's context and loop: see agent.h. Routes frames of the host's link, reaps children, stops in order.
#include "guest/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "guest/apply.h"
#include "guest/hostrpc.h"
#include "guest/local.h"
#include "guest/members.h"
#include "guest/port.h"
#include "guest/rsh.h"
#include "guest/tasks.h"
#include "libvc/cleanup.h"
#include "libvc/log.h"

#define TICK_MS 500	 // of the mux: repeats RESUME, drops orphans
#define KILL_WAIT_MS 500 // from SIGKILL to power off: the kernel needs a moment to tear processes down

static void make_boot_id(char boot[VC_LINK_BOOT_LEN + 1])
{
	uint8_t raw[VC_LINK_BOOT_LEN / 2];
	static const char hex[] = "0123456789abcdef";
	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw)) // only before the kernel's pool is ready, and it waits
		memset(raw, 0, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++) {
		boot[2 * i] = hex[raw[i] >> 4];
		boot[2 * i + 1] = hex[raw[i] & 15];
	}
	boot[VC_LINK_BOOT_LEN] = '\0';
}

// --- the link to the host --------------------------------------------------------------------------------------

static void port_frame(void *ctx, struct wire *w, struct vc_link_frame *frame)
{
	struct agent *a = ctx;
	if (frame->session == VC_SESSION_RPC)
		hostrpc_input(a->rpc, w, frame);
	else if (frame->session & VC_SESSION_FROM_GUEST)
		local_host_frame(a->local, frame);
	else
		tasks_host_input(a->tasks, w, frame);
}

static void port_up(void *ctx, struct wire *w)
{
	struct agent *a = ctx;
	hostrpc_up(a->rpc, w);
	local_host_up(a->local);
}

static void port_down(void *ctx, struct wire *w)
{
	struct agent *a = ctx;
	hostrpc_down(a->rpc, w);
	tasks_host_down(a->tasks, w);
}

static void port_writable(void *ctx, struct wire *w)
{
	struct agent *a = ctx;
	hostrpc_writable(a->rpc, w);
	tasks_host_writable(a->tasks, w);
}

static void port_end(void *ctx, struct wire *w, const struct vc_error *why)
{
	struct agent *a = ctx;
	port_down(ctx, w);
	wire_destroy(w);
	a->port = NULL;
	if (a->vsock_port)
		return; // vcd is being restarted: the tick connects again
	vc_log_err("the link to the host is broken: %s; powering off", why->text);
	agent_stop(a, 0);
}

static const struct wire_ops port_ops = {port_frame, port_up, port_down, port_writable, port_end};

// --- processes -------------------------------------------------------------------------------------------------

static void sigchld_cb(uv_signal_t *handle, int signo)
{
	struct agent *a = handle->data;
	int wstatus;
	pid_t pid;
	(void)signo;
	while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0) {
		if (!hooks_exited(&a->hooks, pid, a->setup, members_epoch(a->members)))
			tasks_child_exited(a->tasks, pid, wstatus);
	}
}

static void sigterm_cb(uv_signal_t *handle, int signo)
{
	(void)signo;
	agent_stop(handle->data, 0);
}

static void connect_again(struct agent *a)
{
	struct vc_error err = VC_ERROR_INIT;
	int fd = port_connect(a->vsock_port);
	if (fd >= 0)
		a->port = wire_create(a->wires, fd, a->boot, &port_ops, a, &err);
}

static void tick_cb(uv_timer_t *handle)
{
	struct agent *a = handle->data;
	if (!a->port && a->vsock_port && !a->stopping)
		connect_again(a);
	hostrpc_tick(a->rpc);
}

static void killed_cb(uv_timer_t *handle)
{
	struct agent *a = handle->data;
	uv_stop(&a->loop);
}

static void grace_cb(uv_timer_t *handle)
{
	struct agent *a = handle->data;
	tasks_kill(a->tasks, SIGKILL);
	uv_timer_start(&a->stop, killed_cb, KILL_WAIT_MS, 0);
}

void agent_stop(struct agent *a, uint64_t grace_ms)
{
	if (a->stopping)
		return;
	a->stopping = true;
	if (grace_ms)
		tasks_kill(a->tasks, SIGTERM);
	uv_timer_start(&a->stop, grace_cb, grace_ms, 0);
}

// --- life ------------------------------------------------------------------------------------------------------

static int same_cluster(const struct setup *a, const struct setup *b)
{
	return a->job == b->job && a->rank == b->rank && a->owner.uid == b->owner.uid &&
	       !memcmp(a->secret, b->secret, sizeof(a->secret));
}

int agent_configure(struct agent *a, struct setup *s, struct vc_error *err)
{
	if (a->setup && !same_cluster(a->setup, s))
		return vc_error_set(err, VC_ESTALE, "this guest belongs to job %u, rank %u already", a->setup->job, a->setup->rank);
	if (apply_setup(s, err) < 0 || hooks_prepare(s, err) < 0)
		return -1;
	if (!a->setup && rsh_listen(a->rsh, setup_self(s)->addr, err) < 0)
		return -1;
	setup_destroy(a->setup);
	a->setup = s;
	return 0;
}

static int init_loop(struct agent *a, struct vc_error *err)
{
	int rc = uv_loop_init(&a->loop);
	if (rc < 0)
		return vc_error_set(err, -rc, "event loop: %s", uv_strerror(rc));
	uv_signal_init(&a->loop, &a->sigchld);
	uv_signal_init(&a->loop, &a->sigterm);
	uv_timer_init(&a->loop, &a->tick);
	uv_timer_init(&a->loop, &a->stop);
	a->sigchld.data = a->sigterm.data = a->tick.data = a->stop.data = a;
	uv_signal_start(&a->sigchld, sigchld_cb, SIGCHLD);
	uv_signal_start(&a->sigterm, sigterm_cb, SIGTERM);
	uv_timer_start(&a->tick, tick_cb, TICK_MS, TICK_MS);
	return 0;
}

// The link last: its first frames need everything else.
int agent_init(struct agent *a, int link_fd, uint32_t vsock_port, struct vc_error *err)
{
	vc_autoclose int fd = link_fd;
	*a = (struct agent){.vsock_port = vsock_port};
	make_boot_id(a->boot);
	if (init_loop(a, err) < 0)
		return -1;
	a->members = members_create();
	a->wires = wires_create(&a->loop, err);
	if (!a->members || !a->wires)
		return vc_error_set(err, ENOMEM, "no memory");
	if (!(a->tasks = tasks_create(a, err)) || !(a->local = local_create(a, err)) || !(a->rsh = rsh_create(a, err)) ||
	    !(a->rpc = hostrpc_create(a, err)))
		return -1;
	a->port = wire_create(a->wires, vc_steal_fd(&fd), a->boot, &port_ops, a, err);
	return a->port ? 0 : -1;
}

void agent_run(struct agent *a)
{
	uv_run(&a->loop, UV_RUN_DEFAULT);
}
