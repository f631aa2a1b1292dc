// SPDX-License-Identifier: GPL-2.0-or-later
// The one way out of the sandbox: connections to its proxy port are carried to the package mirror, or to the
// site's proxy before it, and nowhere else.
//
// A process of its own for the time of one run; it ends with vc-build. Each connection is a child with a limit
// on silence.
#ifndef CMD_BUILD_RELAY_H
#define CMD_BUILD_RELAY_H

#include <sys/socket.h>
#include <sys/types.h>

#include "libvc/error.h"

struct relay_target {
	struct sockaddr_storage addr;
	socklen_t len;
};

// url: http://HOST[:PORT][/PATH], resolved outside of the sandbox.
int relay_resolve(const char *url, struct relay_target *ret, struct vc_error *err);
int relay_start(int listener, const struct relay_target *target, pid_t *ret, struct vc_error *err);
void relay_stop(pid_t pid);

#endif
