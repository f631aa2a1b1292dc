// SPDX-License-Identifier: GPL-2.0-or-later
// A command in a member of a cluster: which member is meant, and the session that runs it over this process's streams.
#ifndef VCCTL_SESSION_H
#define VCCTL_SESSION_H

#include <stdint.h>

#include "cmd/vcctl/vcctl.h"
#include "libvc/execclient.h"

struct target {
	uint32_t job, restart, rank;
	char name[VC_NAME_MAX + 1];
	char host[VC_HOSTNAME_MAX + 1];
	char user[VC_NAME_MAX + 1]; // owner of the job
	char home[VC_PATH_MAX];	    // in the guest
	struct ctl_host vcd;	    // of that host
};

#define TARGET_ALL "all"

// The members that `member` names: a rank, a name, or all of them; free(*ret). VC_ENOTFOUND names those there are.
int target_find(const struct ctl *ctl, const char *job, const char *member, struct target **ret, size_t *ret_n,
		struct vc_error *err);

// Exactly one: "all" is refused.
int target_find_one(const struct ctl *ctl, const char *job, const char *member, struct target *ret, struct vc_error *err);

// task.attach at the vcd of the member's host: *ret_fd then carries the stream, bytes read past the answer are in *pending.
// A stream from another host comes through a child process, which ends with either end of the stream.
// kind: "exec" carries link frames of `session`, "console" the bare bytes of the serial port.
int session_attach(const struct ctl *ctl, const struct target *target, const char *kind, uint64_t session, bool resume,
		   int *ret_fd, struct vc_buf *pending, struct vc_error *err);

// Runs argv as the job's user in its home directory over this process's standard streams.
// -1: it did not start, or was lost; ret->status is what to exit with.
int session_run(const struct ctl *ctl, const struct target *target, char *const *argv, bool pty, struct vc_exec_result *ret,
		struct vc_error *err);

// --json of what has no answer but the member's own streams: one line on standard error when it has ended,
// {job, member, rank, host} and, where result is not NULL, {exit} or {signal}. Without --json nothing.
void session_ended(const struct ctl *ctl, const struct target *target, const struct vc_exec_result *result);

#endif
