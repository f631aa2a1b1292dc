// SPDX-License-Identifier: GPL-2.0-or-later
// A guest client's way to its session: the request to agent.sock, then the same connection carries link frames.
#ifndef GUEST_ASKAGENT_H
#define GUEST_ASKAGENT_H

#include "libvc/execclient.h"

struct askagent {
	const char *kind; // "slurm" or "rsh"
	const char *tool; // of slurm
	const char *host; // of rsh
};

// For struct vc_execclient: connect, with a struct askagent as ctx.
int askagent_connect(void *ctx, uint64_t session, bool resume, int *ret_fd, struct vc_buf *pending,
		     struct vc_error *err);
// A random session id: guest-initiated ones towards the host have the top bit set, others have it clear.
uint64_t askagent_session(bool to_host);

#endif
