// SPDX-License-Identifier: GPL-2.0-or-later
// The server half of exec sessions: starts processes and relays their streams, signals and status. libuv.
//
// Used in the guest by vcguestd, and on the host by vcd for Slurm commands that a guest asked for. Owns a mux, the
// sessions that OPEN frames make in it, and their processes. Everything about who, where and with what environment comes
// from the ops. A task ends with its whole tree: when its process has exited, what is left of it is killed (as slurmstepd
// does at the end of a step), the streams are drained, then `exit` is sent.
#ifndef GUEST_TASKRUN_H
#define GUEST_TASKRUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "libvc/error.h"
#include "libvc/execmsg.h"
#include "libvc/mux.h"

#define TASKRUN_ORPHAN_MS 120000u // a session without a client is kept this long, then its task is killed
#define TASKRUN_DRAIN_MS 200u	  // after the task's exit: how long children may still fill the pipes before they are killed
#define TASKRUN_PIPE_SIZE (256 << 10) // asked for with F_SETPIPE_SZ: fewer wakeups per MiB; three per task in small guests

// Who a session runs as. Filled by authorize; taskrun frees groups.
struct taskrun_identity {
	uid_t uid;
	gid_t gid;
	gid_t *groups; // malloc'ed
	size_t group_count;
	char user[256];
	char home[4096]; // used when the start message has no directory
	bool leave_children; // launchers that leave a daemon behind (vcrsh with orted): the tree is not killed at exit
	void *data; // the authorizer's own
};

struct taskrun_ops {
	// See vc_mux_ops.
	int (*send_frame)(void *ctx, void *route, struct vc_link_frame *frame);
	// An OPEN came over route: may this session exist, and as whom? body is untrusted JSON where the route is.
	int (*authorize)(void *ctx, void *route, uint64_t session, const char *body, size_t len, struct taskrun_identity *ret,
			 struct vc_error *err);
	// A start message came: may change argv, env, cwd, limits before the process starts. -1: `error` to the client.
	int (*prepare)(void *ctx, uint64_t session, const struct taskrun_identity *id, struct vc_exec_start *start,
		       struct vc_error *err);
	void (*started)(void *ctx, uint64_t session, const struct taskrun_identity *id, pid_t pid); // may be NULL
	// It has ended by a signal or with a status that is not 0: what its user is told beside it; may be NULL, and write nothing.
	void (*failed)(void *ctx, uint64_t session, const struct taskrun_identity *id, int wstatus, char *ret_text, size_t size);
	void (*closed)(void *ctx, uint64_t session, const struct taskrun_identity *id); // session is gone; may be NULL
};

struct taskrun_config {
	uv_loop_t *loop;
	const char *script_dir; // batch scripts are put below it, one directory per session; NULL: scripts are refused
	const char *path;	// for the lookup of argv[0] when the task's environment has no PATH
	const char *cgroup;	// a cgroup2 directory of our own to make one child per task in; NULL: kill by session id
	bool make_cwd;		// an absent working directory is made, empty, for the user (guests only)
	uint64_t orphan_ms;	// 0: TASKRUN_ORPHAN_MS
	struct vc_mux_config mux;
};

struct taskrun;

struct taskrun *taskrun_create(const struct taskrun_config *conf, const struct taskrun_ops *ops, void *ctx, struct vc_error *err);
// Kills all tasks, closes the handles; done is called from the loop when they are closed and taskrun is freed.
void taskrun_destroy(struct taskrun *tr, void (*done)(void *arg), void *arg);

// From the link: all frames of sessions that are this taskrun's (not session 0, not relayed ones).
void taskrun_input(struct taskrun *tr, void *route, struct vc_link_frame *frame);
void taskrun_route_down(struct taskrun *tr, void *route);
void taskrun_route_writable(struct taskrun *tr, void *route);

// PID 1 reaps everything: it hands over what waitpid(-1) gave. True: it was a task's. Where nobody calls this, taskrun
// waits for its own children only (on SIGCHLD).
bool taskrun_child_exited(struct taskrun *tr, pid_t pid, int wstatus);

size_t taskrun_count(const struct taskrun *tr); // sessions
void taskrun_kill_all(struct taskrun *tr, int signo); // every task's whole tree

#endif
